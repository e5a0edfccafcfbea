/** /v1/memories: facts, stored, read, corrected, forgotten, listed and searched. */
import type { FastifyInstance } from "fastify";
import Type, { type Static } from "typebox";
import type { Door } from "./door.ts";
import { fieldError } from "./problem.ts";
import {
  Consistency,
  ConsistencyQuery,
  CursorQuery,
  IdParams,
  JsonObject,
  limitQuery,
  MemoryView,
  Name,
  NullableText,
  OffsetQuery,
  OptionalConsistency,
  OptionalMetadata,
  OptionalName,
  OptionalTime,
  Text,
} from "./schemas.ts";
import { checkMetadata, checkTime, cleanText, given } from "./text-rules.ts";

export const MemoryItem = Type.Object({ entity: Name, content: Text, metadata: OptionalMetadata });
const MemoryBody = Type.Object({ ...MemoryItem.properties, consistency: OptionalConsistency });
const PatchBody = Type.Object({
  entity: Type.Optional(Name),
  content: Type.Optional(Text),
  metadata: Type.Optional(JsonObject),
  consistency: OptionalConsistency,
});
export const StoredAnswer = Type.Object({ id: Type.String(), status: Type.String(), tenant_id: Type.String() });
const MemoryList = Type.Object({ memories: Type.Array(MemoryView), total: Type.Integer(), next_cursor: NullableText });
const ListQuery = Type.Object({
  limit: limitQuery(50, 1000),
  offset: OffsetQuery,
  cursor: CursorQuery,
  entity: OptionalName,
  session_id: OptionalName,
  since: OptionalTime,
  until: OptionalTime,
  consistency: Consistency,
});
const SearchBody = Type.Object({
  query: Text,
  fuzzy: Type.Optional(Type.Unsafe<boolean | null>({ type: ["boolean", "null"], default: false, description: "Forgives typing slips." })),
  entity: OptionalName,
  session_id: OptionalName,
  since: OptionalTime,
  until: OptionalTime,
  metadata: OptionalMetadata,
  limit: Type.Optional(Type.Integer({ minimum: 1, maximum: 1000, default: 50 })),
  cursor: Type.Optional(Type.Unsafe<string | null>({ type: ["string", "null"], maxLength: 1024 })),
  consistency: OptionalConsistency,
});

type Params = Static<typeof IdParams>;
type MemoryBody = Static<typeof MemoryBody>;

export function memoryRoutes(app: FastifyInstance, door: Door): void {
  app.post<{ Body: MemoryBody }>(
    "/v1/memories",
    {
      config: { door: "write" },
      schema: {
        operationId: "storeMemory",
        tags: ["memories"],
        summary: "Store a fact",
        querystring: ConsistencyQuery,
        body: MemoryBody,
        response: { 200: StoredAnswer },
      },
    },
    (request, reply) => door.write(request, reply, "remember", memoryArgs(request.body, ["body"])),
  );
  app.get<{ Params: Params }>(
    "/v1/memories/:id",
    {
      config: { door: "read" },
      schema: {
        operationId: "getMemory",
        tags: ["memories"],
        summary: "Read a fact",
        params: IdParams,
        querystring: ConsistencyQuery,
        response: { 200: MemoryView },
      },
    },
    (request, reply) => door.read(request, reply, "get_memory", { id: request.params.id }),
  );
  app.put<{ Params: Params; Body: MemoryBody }>(
    "/v1/memories/:id",
    {
      config: { door: "write" },
      schema: {
        operationId: "replaceMemory",
        tags: ["memories"],
        summary: "Replace a fact",
        params: IdParams,
        querystring: ConsistencyQuery,
        body: MemoryBody,
        response: { 200: MemoryView },
      },
    },
    (request, reply) => door.write(request, reply, "edit_memory", { id: request.params.id, ...memoryArgs(request.body, ["body"]), replace: true }),
  );
  app.patch<{ Params: Params; Body: Static<typeof PatchBody> }>(
    "/v1/memories/:id",
    {
      config: { door: "write" },
      schema: {
        operationId: "correctMemory",
        tags: ["memories"],
        summary: "Correct parts of a fact",
        params: IdParams,
        querystring: ConsistencyQuery,
        body: PatchBody,
        response: { 200: MemoryView },
      },
    },
    (request, reply) => {
      const { entity, content, metadata } = request.body;
      if (entity === undefined && content === undefined && metadata === undefined) {
        throw fieldError(["body"], "names nothing to change: entity, content or metadata", "missing");
      }
      const changes = given({
        entity,
        content: content === undefined ? undefined : cleanText(content),
        metadata: checkMetadata(metadata, ["body", "metadata"]),
      });
      return door.write(request, reply, "edit_memory", { id: request.params.id, ...changes, replace: false });
    },
  );
  app.delete<{ Params: Params }>(
    "/v1/memories/:id",
    {
      config: { door: "write" },
      schema: {
        operationId: "forgetMemory",
        tags: ["memories"],
        summary: "Forget a fact, for good",
        params: IdParams,
        querystring: ConsistencyQuery,
        response: { 200: StoredAnswer },
      },
    },
    (request, reply) => door.write(request, reply, "forget_memory", { id: request.params.id }),
  );
  app.get<{ Querystring: Static<typeof ListQuery> }>(
    "/v1/memories",
    {
      config: { door: "read" },
      schema: {
        operationId: "listMemories",
        tags: ["memories"],
        summary: "List facts, newest first",
        querystring: ListQuery,
        response: { 200: MemoryList },
      },
    },
    (request, reply) => {
      const { consistency: _level, since, until, ...filters } = request.query;
      const times = { since: checkTime(since, ["query", "since"]), until: checkTime(until, ["query", "until"]) };
      return door.read(request, reply, "list_memories", given({ ...filters, ...times }));
    },
  );
  app.post<{ Body: Static<typeof SearchBody> }>(
    "/v1/memories/search",
    {
      config: { door: "read" },
      schema: {
        operationId: "searchMemories",
        tags: ["memories"],
        summary: "Search facts",
        querystring: ConsistencyQuery,
        body: SearchBody,
        response: { 200: MemoryList },
      },
    },
    (request, reply) => {
      const { query, fuzzy, entity, session_id, since, until, metadata, limit, cursor } = request.body;
      const args = {
        query: cleanText(query),
        fuzzy: fuzzy ?? false,
        entity,
        session_id,
        since: checkTime(since, ["body", "since"]),
        until: checkTime(until, ["body", "until"]),
        metadata: checkMetadata(metadata, ["body", "metadata"]),
        limit: limit ?? 50,
        cursor,
      };
      return door.read(request, reply, "search_memories", given(args));
    },
  );
}

/** @param loc where the item stands in the request, for what is refused */
export function memoryArgs(
  item: Static<typeof MemoryItem>,
  loc: readonly (string | number)[],
): { entity: string; content: string; metadata?: Record<string, unknown> } {
  const metadata = checkMetadata(item.metadata, [...loc, "metadata"]);
  return { entity: item.entity, content: cleanText(item.content), ...(metadata === undefined ? {} : { metadata }) };
}
