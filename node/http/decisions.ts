/** GET /v1/decisions: what was decided, and in which turn. */
import type { FastifyInstance } from "fastify";
import Type, { type Static } from "typebox";
import type { Door } from "./door.ts";
import { Consistency, CursorQuery, limitQuery, NullableText, OptionalName, OptionalTime } from "./schemas.ts";
import { checkTime, given } from "./text-rules.ts";

const DecisionsQuery = Type.Object({
  limit: limitQuery(50, 1000),
  cursor: CursorQuery,
  session_id: OptionalName,
  since: OptionalTime,
  until: OptionalTime,
  consistency: Consistency,
});
const DecisionsAnswer = Type.Object({
  decisions: Type.Array(
    Type.Object({ id: Type.String(), text: Type.String(), session_id: NullableText, turn_id: Type.String(), at: Type.String(), node: Type.String() }),
  ),
  total: Type.Integer(),
  next_cursor: NullableText,
});

export function decisionRoutes(app: FastifyInstance, door: Door): void {
  app.get<{ Querystring: Static<typeof DecisionsQuery> }>(
    "/v1/decisions",
    {
      config: { door: "read" },
      schema: {
        operationId: "listDecisions",
        tags: ["messages"],
        summary: "List decisions, latest first",
        querystring: DecisionsQuery,
        response: { 200: DecisionsAnswer },
      },
    },
    (request, reply) => {
      const { limit, cursor, session_id, since, until } = request.query;
      const times = { since: checkTime(since, ["query", "since"]), until: checkTime(until, ["query", "until"]) };
      return door.read(request, reply, "decisions", given({ limit, cursor, session_id, ...times }));
    },
  );
}
