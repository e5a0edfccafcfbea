/** /v1/federation: what this node knows of the others. For admins. */
import type { FastifyInstance } from "fastify";
import Type, { type Static } from "typebox";
import type { FederationStatus } from "../status.ts";

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
});
const LayoutFields = Type.Object({
  version: Type.Integer(),
  federation_id: Text,
  replication_factor: Type.Integer(),
  resonance_decay: Type.Number(),
  hebbian_rate: Type.Number(),
  period_ms: Type.Number(),
  members: Type.Array(Type.Object({ id: Text, name: Text, incarnation: Text, zone: Text, weight: Type.Number() })),
});
const Layout = Type.Unsafe<Static<typeof LayoutFields> | null>({ ...LayoutFields, type: ["object", "null"] });
const Quorum = Type.Object({ available: Type.Boolean(), short_groups: Type.Integer(), group_size: Type.Integer(), quorum: Type.Integer() });
const Witness = Type.Object({ held_deltas: Type.Integer(), held_bytes: Type.Number() });
const Status = Type.Object({
  node: Type.Object({
    id: Text,
    name: Text,
    incarnation: Text,
    writer: Text,
    role: Text,
    zone: Text,
    version: Text,
    protocol_version: Type.Integer(),
  }),
  layout: Layout,
  waiting_for: Type.Array(Text),
  consistency: Text,
  peers: Type.Array(Peer),
  quorum: Quorum,
  sync_lag_seconds: Type.Number(),
  completeness: Type.Number(),
  witness: Witness,
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

export function federationRoutes(app: FastifyInstance, status: StatusSource): void {
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
  app.get(
    "/v1/federation/layout",
    {
      schema: {
        operationId: "getLayout",
        tags: ["federation"],
        summary: "The agreed layout, null before it is formed",
        response: { 200: Type.Object({ layout: Layout, waiting_for: Type.Array(Text) }) },
      },
    },
    async () => {
      const { layout, waiting_for } = await status({ fingerprints: false });
      return { layout, waiting_for };
    },
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
