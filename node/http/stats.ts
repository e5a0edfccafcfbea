/** GET /v1/stats: how much the tenant's memory holds. */
import type { FastifyInstance } from "fastify";
import Type from "typebox";
import type { Door } from "./door.ts";
import { ConsistencyQuery } from "./schemas.ts";

const StatsAnswer = Type.Object({
  tenant_id: Type.String(),
  instance_id: Type.String(),
  entities: Type.Integer(),
  messages: Type.Integer(),
  decisions: Type.Integer(),
  attention_links: Type.Integer(),
  compound_concepts: Type.Integer(),
  memories: Type.Integer(),
});

export function statsRoutes(app: FastifyInstance, door: Door): void {
  app.get(
    "/v1/stats",
    {
      config: { door: "read" },
      schema: {
        operationId: "getStats",
        tags: ["memory"],
        summary: "Count what is remembered",
        querystring: ConsistencyQuery,
        response: { 200: StatsAnswer },
      },
    },
    (request, reply) => door.read(request, reply, "stats", {}),
  );
}
