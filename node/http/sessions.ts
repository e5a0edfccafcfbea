/** GET /v1/sessions: the conversations the tenant had. */
import type { FastifyInstance } from "fastify";
import Type, { type Static } from "typebox";
import type { Door } from "./door.ts";
import { Consistency, CursorQuery, limitQuery, NullableText, OptionalTime } from "./schemas.ts";
import { checkTime, given } from "./text-rules.ts";

const SessionsQuery = Type.Object({
  limit: limitQuery(50, 1000),
  cursor: CursorQuery,
  since: OptionalTime,
  until: OptionalTime,
  consistency: Consistency,
});
const SessionsAnswer = Type.Object({
  sessions: Type.Array(
    Type.Object({ id: Type.String(), first_at: Type.String(), last_at: Type.String(), turns: Type.Integer(), memories: Type.Integer() }),
  ),
  total: Type.Integer(),
  next_cursor: NullableText,
});

export function sessionRoutes(app: FastifyInstance, door: Door): void {
  app.get<{ Querystring: Static<typeof SessionsQuery> }>(
    "/v1/sessions",
    {
      config: { door: "read" },
      schema: {
        operationId: "listSessions",
        tags: ["messages"],
        summary: "List sessions, latest first",
        querystring: SessionsQuery,
        response: { 200: SessionsAnswer },
      },
    },
    (request, reply) => {
      const { limit, cursor, since, until } = request.query;
      return door.read(
        request,
        reply,
        "sessions",
        given({ limit, cursor, since: checkTime(since, ["query", "since"]), until: checkTime(until, ["query", "until"]) }),
      );
    },
  );
}
