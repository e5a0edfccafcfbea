/** /v1/federation/layout: who keeps what, what is moving, and how an operator changes it. For admins. */
import type { FastifyInstance } from "fastify";
import Type, { type Static } from "typebox";
import { FEDERATION_MEMBERS_MAX, MEMBER_WEIGHT_MAX, NODE_NAME_MAX_CHARS, REPLICATION_FACTOR_MAX, ZONE_MAX_CHARS } from "../../protocol/limits.ts";
import type { LayoutAdmin, LayoutAsk } from "../layout-admin.ts";
import type { FederationStatus } from "../status.ts";
import type { Door } from "./door.ts";
import { fieldError } from "./problem.ts";
import { NullableText, nullable } from "./schemas.ts";

const Text = Type.String();
const Member = Type.Object({ id: Text, name: Text, incarnation: Text, zone: Text, weight: Type.Number() });
const LayoutFields = Type.Object({
  version: Type.Integer(),
  phase: Type.Unsafe<"done" | "staged" | "joint">({ type: "string", enum: ["done", "staged", "joint"] }),
  change: NullableText,
  forced: Type.Boolean(),
  federation_id: Text,
  replication_factor: Type.Integer(),
  resonance_decay: Type.Number(),
  hebbian_rate: Type.Number(),
  period_ms: Type.Number(),
  members: Type.Array(Member),
  next: nullable(Type.Object({ replication_factor: Type.Integer(), members: Type.Array(Member) })),
});
export const LayoutView = nullable(LayoutFields);
export const Progress = nullable(
  Type.Object({
    phase: Type.Unsafe<"staged" | "joint">({ type: "string", enum: ["staged", "joint"] }),
    change: Text,
    partitions_total: Type.Integer(),
    partitions_left: Type.Integer(),
    members: Type.Array(Type.Object({ name: Text, partitions_left: Type.Integer() })),
  }),
);
const Change = Type.Object({
  id: Text,
  change: Type.Unsafe<object>({ type: "object", additionalProperties: true }),
  outcome: Text,
  reason: Text,
  asked_at: Text,
  ended_at: NullableText,
  node: Text,
});
const HistoryEntry = Type.Object({
  ...LayoutFields.properties,
  adopted_at: NullableText,
  asked_at: NullableText,
  ended_at: NullableText,
  what: Text,
});
const Plan = Type.Object({
  what: Text,
  changes_nothing: Type.Boolean(),
  partitions_moved: Type.Integer({ description: "Of 256: those that get a full replica they do not have." }),
  moves: Type.Array(
    Type.Object({
      name: Text,
      replica_gains: Type.Integer(),
      replica_losses: Type.Integer(),
      witness_gains: Type.Integer(),
      witness_losses: Type.Integer(),
    }),
  ),
  members: Type.Array(Text),
  replication_factor: Type.Integer(),
  group_size: Type.Integer(),
  quorum: Type.Integer(),
  warnings: Type.Array(Text),
  loss: nullable(Type.Object({ lost: Type.Array(Text), deltas_at_least: Type.Integer(), partitions_without_copy: Type.Integer() })),
});
const ChangeAnswer = Type.Object({ plan: Plan, change: nullable(Change) });

const OPS = ["add", "remove", "drain", "replace", "zone", "weight", "rf", "stop", "recover"] as const;
const optional = (maxLength: number, description: string) =>
  Type.Optional(Type.Unsafe<string | null>({ type: ["string", "null"], minLength: 1, maxLength, description }));
const LayoutBody = Type.Object({
  op: Type.Unsafe<(typeof OPS)[number]>({ type: "string", enum: [...OPS] }),
  name: optional(NODE_NAME_MAX_CHARS, "The member; with add, the connected node that is to be one."),
  node: optional(512, "With add and replace: who joins, as a name, an id, or an address to dial first."),
  zone: Type.Optional(Type.Unsafe<string | null>({ type: ["string", "null"], maxLength: ZONE_MAX_CHARS })),
  weight: Type.Optional(Type.Unsafe<number | null>({ type: ["integer", "null"], minimum: 1, maximum: MEMBER_WEIGHT_MAX })),
  replication_factor: Type.Optional(Type.Unsafe<number | null>({ type: ["integer", "null"], minimum: 1, maximum: REPLICATION_FACTOR_MAX })),
  lost: Type.Optional(
    Type.Unsafe<string[] | null>({
      type: ["array", "null"],
      items: { type: "string", maxLength: NODE_NAME_MAX_CHARS },
      maxItems: FEDERATION_MEMBERS_MAX,
      description: "With recover: the members whose disks are lost for good.",
    }),
  ),
  preview: Type.Boolean({ default: false, description: "Only say what it would mean." }),
  confirm: Type.Boolean({ default: false, description: "With recover: what the plan says may be lost is accepted." }),
});
const DrainBody = Type.Object({
  name: Type.String({ minLength: 1, maxLength: NODE_NAME_MAX_CHARS }),
  preview: Type.Boolean({ default: false, description: "Only say what it would mean." }),
});
const Query = Type.Object({ history: Type.Boolean({ default: false, description: "Also every layout this node adopted." }) });

export function layoutRoutes(
  app: FastifyInstance,
  status: () => FederationStatus | Promise<FederationStatus>,
  admin: Pick<LayoutAdmin, "queue" | "history" | "preview" | "apply">,
  door: Door,
): void {
  app.get<{ Querystring: Static<typeof Query> }>(
    "/v1/federation/layout",
    {
      config: { door: "read" },
      schema: {
        operationId: "getLayout",
        tags: ["federation"],
        summary: "The agreed layout (null before it is formed), what moves, and the changes asked for",
        querystring: Query,
        response: {
          200: Type.Object({
            layout: LayoutView,
            waiting_for: Type.Array(Text),
            moving: Progress,
            queue: Type.Unsafe<Static<typeof Change>[] | null>({
              type: ["array", "null"],
              items: Change,
              description: "In order of asking; null while nobody who has it can be asked.",
            }),
            history: Type.Optional(Type.Array(HistoryEntry)),
          }),
        },
      },
    },
    async (request) => {
      const { layout, waiting_for, moving } = await status();
      const queue = await admin.queue({ key: "", requestId: request.id, deadline: door.deadline() });
      const answer = { layout, waiting_for, moving, queue: queue === null ? null : [...queue] };
      return request.query.history ? { ...answer, history: await admin.history(queue ?? []) } : answer;
    },
  );
  app.post<{ Body: Static<typeof LayoutBody> }>(
    "/v1/federation/layout",
    {
      config: { door: "write" },
      schema: {
        operationId: "changeLayout",
        tags: ["federation"],
        summary: "Preview a change of the layout, or ask for it: it is queued and carried out in three versions",
        body: LayoutBody,
        response: { 200: ChangeAnswer },
      },
    },
    async (request) => {
      const { preview, confirm, ...ask } = request.body;
      if (preview) return admin.preview(ask);
      if (ask.op === "recover" && !confirm) {
        const { plan } = await admin.preview(ask);
        throw fieldError(["body", "confirm"], `must be true to do this: ${plan.warnings.join(" ")}`, "not_confirmed");
      }
      return admin.apply(ask, { key: door.keyOf(request), requestId: request.id, deadline: door.deadline() });
    },
  );
  app.post<{ Body: Static<typeof DrainBody> }>(
    "/v1/federation/drain",
    {
      config: { door: "write" },
      schema: {
        operationId: "drainMember",
        tags: ["federation"],
        summary: "Take a member out once it has handed over everything it holds",
        body: DrainBody,
        response: { 200: ChangeAnswer },
      },
    },
    async (request) => {
      const ask: LayoutAsk = { op: "drain", name: request.body.name };
      if (request.body.preview) return admin.preview(ask);
      return admin.apply(ask, { key: door.keyOf(request), requestId: request.id, deadline: door.deadline() });
    },
  );
}
