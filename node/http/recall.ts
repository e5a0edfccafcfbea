/** POST /v1/recall: what is known about a message, ready to put before a model. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import Type, { type Static } from "typebox";
import { TEXT_MAX_CHARS } from "../../protocol/limits.ts";
import type { Door } from "./door.ts";
import { fieldError } from "./problem.ts";
import { ConsistencyQuery, JsonList, NullableText, OptionalConsistency, OptionalName, OptionalText, OptionalTime, optionalCount } from "./schemas.ts";
import { checkTime, cleanText, given } from "./text-rules.ts";

const RecallBody = Type.Object({
  message: Type.Optional(
    Type.Unsafe<string | null>({
      type: ["string", "null"],
      minLength: 1,
      maxLength: TEXT_MAX_CHARS,
      description: "Required; `query` is another name for it.",
    }),
  ),
  query: OptionalText,
  max_concepts: Type.Optional(Type.Unsafe<number | null>({ type: ["integer", "null"], minimum: 1, maximum: 100, default: 10 })),
  max_memories: optionalCount(0, 100),
  max_tokens: optionalCount(1, 1_000_000),
  since: OptionalTime,
  until: OptionalTime,
  session_id: OptionalName,
  consistency: OptionalConsistency,
});
export type RecallBody = Static<typeof RecallBody>;

export const RecallAnswer = Type.Object({
  recall_id: Type.String(),
  context: Type.String(),
  concepts_found: Type.Integer(),
  relationships_found: Type.Integer(),
  query_time_ms: Type.Number(),
  tenant_id: Type.String(),
  concepts: Type.Array(
    Type.Object({ name: Type.String(), kind: Type.String(), score: Type.Number(), why: Type.Unsafe<unknown>({}) }, { additionalProperties: true }),
  ),
  memories: Type.Array(
    Type.Object(
      { id: Type.String(), text: Type.String(), score: Type.Number(), at: Type.String(), session_id: NullableText, node: Type.String() },
      { additionalProperties: true },
    ),
  ),
  links: JsonList("Links among the concepts found, with their strength now."),
});
export type RecallAnswer = Static<typeof RecallAnswer>;

export function recallRoutes(app: FastifyInstance, door: Door): void {
  app.post<{ Body: RecallBody }>(
    "/v1/recall",
    {
      config: { door: "read" },
      schema: {
        operationId: "recall",
        tags: ["memory"],
        summary: "Recall what is known about a message",
        querystring: ConsistencyQuery,
        body: RecallBody,
        response: { 200: RecallAnswer },
      },
    },
    (request, reply) => recall(door, request, reply, recallArgs(request.body)),
  );
}

/** The answer with its id and the time it took here, forwarding and barrier included. */
export async function recall(door: Door, request: FastifyRequest, reply: FastifyReply, args: Record<string, unknown>): Promise<RecallAnswer> {
  const started = door.monotonic();
  const answer = await door.read<RecallAnswer>(request, reply, "recall", args);
  const elapsed = Math.round((door.monotonic() - started) * 1000) / 1000;
  return { ...answer, recall_id: answer.recall_id ?? door.randomId("recall_"), query_time_ms: elapsed };
}

function recallArgs(body: RecallBody): Record<string, unknown> {
  const message = body.message ?? body.query;
  if (message === undefined || message === null) throw fieldError(["body", "message"], "is required", "missing");
  if (message === "") throw fieldError(["body", "message"], "must NOT have fewer than 1 characters", "string_too_short");
  return given({
    message: cleanText(message),
    max_concepts: body.max_concepts ?? 10,
    max_memories: body.max_memories,
    max_tokens: body.max_tokens,
    since: checkTime(body.since, ["body", "since"]),
    until: checkTime(body.until, ["body", "until"]),
    session_id: body.session_id,
  });
}
