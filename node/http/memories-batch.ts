/** POST /v1/memories/batch: many facts in one request, each stored whole or refused with its reason. */
import type { FastifyInstance } from "fastify";
import Type, { type Static } from "typebox";
import { BATCH_MEMORIES_MAX, IDEMPOTENCY_KEY_MAX_CHARS } from "../../protocol/limits.ts";
import { ApiError, type FieldError } from "../errors.ts";
import type { Call, Outcome } from "../ports.ts";
import { type Door, setOutcome } from "./door.ts";
import { MemoryItem, memoryArgs } from "./memories.ts";
import { apiErrorOf } from "./problem.ts";
import { ConsistencyQuery, NullableText, OptionalConsistency } from "./schemas.ts";

/** Writes of one batch that are under way at a time: enough to share fsyncs, not so many that others wait long. */
const IN_FLIGHT_MAX = 64;
/** "/999" is added to it. */
const KEY_MAX_CHARS = IDEMPOTENCY_KEY_MAX_CHARS - 4;

const BatchBody = Type.Object({ memories: Type.Array(MemoryItem, { minItems: 1, maxItems: BATCH_MEMORIES_MAX }), consistency: OptionalConsistency });
const BatchAnswer = Type.Object({
  results: Type.Array(
    Type.Object({ id: NullableText, status: Type.String(), code: Type.Optional(Type.String()), detail: Type.Optional(Type.String()) }),
  ),
});
type Result = Static<typeof BatchAnswer>["results"][number];

export function batchRoutes(app: FastifyInstance, door: Door): void {
  app.post<{ Body: Static<typeof BatchBody> }>(
    "/v1/memories/batch",
    {
      config: { door: "write" },
      // Wrong items do not make the whole batch wrong.
      attachValidation: true,
      schema: {
        operationId: "storeMemories",
        tags: ["memories"],
        summary: "Store many facts",
        querystring: ConsistencyQuery,
        body: BatchBody,
        response: { 200: BatchAnswer },
      },
    },
    async (request, reply) => {
      const wrong = wrongItems(request.validationError);
      const key = door.keyOf(request, KEY_MAX_CHARS);
      const call = door.callOf(request, key);
      let last: Outcome<unknown> | undefined;
      let [replicas, witnesses] = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY];
      const results = await mapInFlight(request.body.memories, async (item, index): Promise<Result> => {
        const outcome = await storeOne(door, item, index, wrong.get(index), { ...call, key: `${key}/${index}`, deadline: door.deadline() });
        if (outcome instanceof ApiError) return { id: null, status: "refused", code: outcome.code, detail: outcome.message };
        last = outcome;
        replicas = Math.min(replicas, outcome.acks.replicas);
        witnesses = Math.min(witnesses, outcome.acks.witnesses);
        return { id: outcome.value.id, status: outcome.value.status };
      });
      // Of the whole: what the least of them got.
      if (last !== undefined) setOutcome(reply, { ...last, acks: { replicas, witnesses } });
      return { results };
    },
  );
}

async function storeOne(
  door: Door,
  item: Static<typeof MemoryItem>,
  index: number,
  wrong: ApiError | undefined,
  call: Call,
): Promise<Outcome<{ id: string; status: string }> | ApiError> {
  if (wrong !== undefined) return wrong;
  try {
    return await door.run("remember", memoryArgs(item, ["body", "memories", index]), call);
  } catch (error) {
    const refusal = apiErrorOf(error);
    if (refusal === undefined) throw error;
    return refusal;
  }
}

/** @throws the error itself when more than single items are wrong */
function wrongItems(error: unknown): Map<number, ApiError> {
  const wrong = new Map<number, ApiError>();
  if (error === undefined || error === null) return wrong;
  if (!(error instanceof ApiError) || error.errors === undefined) throw error;
  for (const each of error.errors) {
    const index = each.loc[2];
    if (each.loc[0] !== "body" || each.loc[1] !== "memories" || typeof index !== "number") throw error;
    if (!wrong.has(index)) wrong.set(index, itemError(each));
  }
  return wrong;
}

function itemError(error: FieldError): ApiError {
  return new ApiError("validation_failed", `${error.loc.slice(3).join(".") || "item"}: ${error.msg}.`, { errors: [error] });
}

async function mapInFlight<T, R>(items: readonly T[], run: (item: T, index: number) => Promise<R>): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < items.length) {
      const index = next++;
      results[index] = await run(items[index]!, index);
    }
  };
  await Promise.all(Array.from({ length: Math.min(IN_FLIGHT_MAX, items.length) }, worker));
  return results;
}
