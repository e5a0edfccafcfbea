/** /v1/federation: what this node knows of the others. For admins. */
import type { FastifyInstance } from "fastify";
import Type, { type Static } from "typebox";
import type { PeerInfo } from "../links.ts";
import type { FederationStatus } from "../status.ts";
import { LayoutView, Progress } from "./layout.ts";

/** `fingerprints`: hash every partition held here; costs a walk over the store. */
export type StatusSource = (ask: { readonly fingerprints: boolean }) => FederationStatus | Promise<FederationStatus>;

const Query = Type.Object({
  fingerprints: Type.Boolean({ default: false, description: "Also hash every partition held here; costs a walk over the store." }),
});
const Text = Type.String();
const NullableText = Type.Unsafe<string | null>({ type: ["string", "null"] });
const Peer = Type.Object({
  id: Text,
  name: Text,
  incarnation: Text,
  zone: Text,
  role: Text,
  connected: Type.Boolean(),
  healthy: Type.Boolean(),
  latency_ms: Type.Unsafe<number | null>({ type: ["number", "null"] }),
  last_seen: NullableText,
  behind: Type.Integer(),
  lag_seconds: Type.Number(),
  counts: Type.Boolean(),
  damaged: Type.Integer(),
  clock_ahead_ms: Type.Unsafe<number | null>({ type: ["number", "null"] }),
  protocol_version: Type.Unsafe<number | null>({ type: ["integer", "null"] }),
  secret_ids: Type.Array(Text),
});
const Quorum = Type.Object({
  available: Type.Boolean(),
  unavailable: Type.Integer(),
  system: Type.Boolean(),
  short_groups: Type.Integer(),
  short_copies: Type.Integer(),
  group_size: Type.Integer(),
  quorum: Type.Integer(),
});
const Witness = Type.Object({
  held_deltas: Type.Integer(),
  held_bytes: Type.Number(),
  waits_for: Type.Array(Type.Object({ name: Text, deltas: Type.Integer() })),
});
const ConflictFields = Type.Object({ peer: Text, version: Type.Integer() });
const Conflict = Type.Unsafe<Static<typeof ConflictFields> | null>({ ...ConflictFields, type: ["object", "null"] });
const Status = Type.Object({
  node: Type.Object({
    id: Text,
    name: Text,
    incarnation: Text,
    writer: Text,
    role: Text,
    standing: Text,
    asks_to_join: Type.Boolean(),
    secret_ids: Type.Array(Text),
    zone: Text,
    version: Text,
    protocol_version: Type.Integer(),
  }),
  layout: LayoutView,
  moving: Progress,
  conflict: Conflict,
  waiting_for: Type.Array(Text),
  consistency: Text,
  peers: Type.Array(Peer),
  quorum: Quorum,
  sync_lag_seconds: Type.Number(),
  completeness: Type.Number(),
  witness: Witness,
  clock_ahead_ms: Type.Unsafe<number | null>({ type: ["number", "null"] }),
  in_doubt_total: Type.Integer(),
  copying: Type.Integer(),
  damaged: Type.Array(Type.Object({ partition: Type.Integer(), role: Text, state: Text })),
  partitions: Type.Array(
    Type.Object({
      partition: Type.Integer(),
      role: Text,
      replicas: Type.Array(Text),
      witnesses: Type.Array(Text),
      frontier: Type.Unsafe<Record<string, number>>({ type: "object", additionalProperties: { type: "integer" } }),
      held_deltas: Type.Integer(),
      fingerprint: NullableText,
    }),
  ),
});
const StatsAnswer = Type.Object({
  peers_total: Type.Integer(),
  peers_healthy: Type.Integer(),
  quorum: Quorum,
  sync_lag_seconds: Type.Number(),
  completeness: Type.Number(),
  witness: Witness,
  partitions: Type.Object({ replica: Type.Integer(), witness: Type.Integer() }),
});

const DialBody = Type.Object({
  address: Type.String({ minLength: 1, maxLength: 512, description: "host:port, a DNS name, or a multiaddr." }),
});

export interface FederationActions {
  readonly status: StatusSource;
  /** @throws ApiError conflict: nobody we know answers there */
  readonly dial: (address: string) => Promise<PeerInfo>;
  /** @returns how many partitions are read again, and with how many peers this node compares */
  readonly repair: () => { readonly partitions: number; readonly peers: number };
}

export function federationRoutes(app: FastifyInstance, options: FederationActions): void {
  const { status } = options;
  app.get<{ Querystring: Static<typeof Query> }>(
    "/v1/federation",
    {
      schema: {
        operationId: "getFederation",
        tags: ["federation"],
        summary: "This node, its peers, the layout, lag and quorum",
        querystring: Query,
        response: { 200: Status },
      },
    },
    async (request) => status({ fingerprints: request.query.fingerprints }),
  );
  app.get(
    "/v1/federation/peers",
    {
      schema: {
        operationId: "listPeers",
        tags: ["federation"],
        summary: "The other nodes as seen from here",
        response: { 200: Type.Object({ peers: Type.Array(Peer), total: Type.Integer() }) },
      },
    },
    async () => {
      const { peers } = await status({ fingerprints: false });
      return { peers, total: peers.length };
    },
  );
  app.post<{ Body: Static<typeof DialBody> }>(
    "/v1/federation/peers",
    {
      schema: {
        operationId: "dialPeer",
        tags: ["federation"],
        summary: "Connect to the node at an address; it is remembered",
        body: DialBody,
        response: { 200: Type.Object({ id: Text, name: Text, incarnation: Text, zone: Text, protocol_version: Type.Integer() }) },
      },
    },
    async (request) => {
      const { node, name, incarnation, zone, version } = await options.dial(request.body.address);
      return { id: node, name, incarnation, zone, protocol_version: version };
    },
  );
  app.post(
    "/v1/federation/repair",
    {
      schema: {
        operationId: "repairFederation",
        tags: ["federation"],
        summary: "Compare with every peer now, and read every copy on this disk again",
        response: { 200: Type.Object({ partitions: Type.Integer(), peers: Type.Integer() }) },
      },
    },
    async () => options.repair(),
  );
  app.get(
    "/v1/federation/stats",
    {
      schema: {
        operationId: "getFederationStats",
        tags: ["federation"],
        summary: "Lag, completeness and quorum in figures",
        response: { 200: StatsAnswer },
      },
    },
    async () => {
      const { peers, quorum, sync_lag_seconds, completeness, witness, partitions } = await status({ fingerprints: false });
      const replica = partitions.filter((partition) => partition.role === "replica").length;
      return {
        peers_total: peers.length,
        peers_healthy: peers.filter((peer) => peer.healthy).length,
        quorum,
        sync_lag_seconds,
        completeness,
        witness,
        partitions: { replica, witness: partitions.length - replica },
      };
    },
  );
}
