/** /v1/messages: what was said, turn by turn. */
import type { FastifyInstance } from "fastify";
import Type, { type Static } from "typebox";
import { TEXT_MAX_CHARS } from "../../protocol/limits.ts";
import type { Door } from "./door.ts";
import {
  Consistency,
  ConsistencyQuery,
  CursorQuery,
  JsonObject,
  limitQuery,
  OffsetQuery,
  OptionalConsistency,
  OptionalName,
  OptionalTime,
} from "./schemas.ts";
import { checkTime, given } from "./text-rules.ts";

const Filters = {
  keyword: Type.Optional(Type.Unsafe<string | null>({ type: ["string", "null"], maxLength: TEXT_MAX_CHARS })),
  start_date: OptionalTime,
  end_date: OptionalTime,
  session_id: OptionalName,
};
const Role = ["user", "assistant"];
const ListQuery = Type.Object({
  limit: limitQuery(50, 1000),
  offset: OffsetQuery,
  cursor: CursorQuery,
  ...Filters,
  role: Type.Optional(Type.Unsafe<string>({ type: "string", enum: Role })),
  consistency: Consistency,
});
const SearchBody = Type.Object({
  limit: Type.Optional(Type.Unsafe<number | null>({ type: ["integer", "null"], minimum: 1, maximum: 1000, default: 50 })),
  offset: Type.Optional(Type.Unsafe<number | null>({ type: ["integer", "null"], minimum: 0, maximum: 1_000_000_000, default: 0 })),
  cursor: Type.Optional(Type.Unsafe<string | null>({ type: ["string", "null"], maxLength: 1024 })),
  ...Filters,
  role: Type.Optional(Type.Unsafe<string | null>({ type: ["string", "null"], enum: [...Role, null] })),
  consistency: OptionalConsistency,
});
const MessagesAnswer = Type.Object({
  messages: Type.Array(
    Type.Object({
      id: Type.Unsafe<string | number>({ type: ["string", "integer"] }),
      instance_id: Type.String(),
      timestamp: Type.Unsafe<string | number>({ type: ["string", "number"] }),
      message_number: Type.Integer(),
      role: Type.String(),
      content: Type.String(),
      metadata: JsonObject,
      tenant_id: Type.String(),
    }),
  ),
  total: Type.Integer(),
  tenant_id: Type.String(),
  next_cursor: Type.Optional(Type.Unsafe<string | null>({ type: ["string", "null"] })),
});

type MessagesArgs = Omit<Static<typeof SearchBody>, "consistency">;

export function messageRoutes(app: FastifyInstance, door: Door): void {
  app.get<{ Querystring: Static<typeof ListQuery> }>(
    "/v1/messages",
    {
      config: { door: "read" },
      schema: {
        operationId: "listMessages",
        tags: ["messages"],
        summary: "List what was said",
        querystring: ListQuery,
        response: { 200: MessagesAnswer },
      },
    },
    (request, reply) => door.read(request, reply, "messages", messageArgs(request.query, "query")),
  );
  app.post<{ Body: Static<typeof SearchBody> }>(
    "/v1/messages/search",
    {
      config: { door: "read" },
      schema: {
        operationId: "searchMessages",
        tags: ["messages"],
        summary: "Search what was said",
        querystring: ConsistencyQuery,
        body: SearchBody,
        response: { 200: MessagesAnswer },
      },
    },
    (request, reply) => door.read(request, reply, "search_messages", messageArgs(request.body, "body")),
  );
}

function messageArgs(asked: MessagesArgs, place: "query" | "body"): Record<string, unknown> {
  return given({
    limit: asked.limit ?? 50,
    offset: asked.offset ?? 0,
    cursor: asked.cursor,
    keyword: asked.keyword,
    start_date: checkTime(asked.start_date, [place, "start_date"]),
    end_date: checkTime(asked.end_date, [place, "end_date"]),
    session_id: asked.session_id,
    role: asked.role,
  });
}
