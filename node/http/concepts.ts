/** /v1/concepts/{name}: one concept, and the graph around it. */
import type { FastifyInstance } from "fastify";
import Type, { type Static } from "typebox";
import type { Door } from "./door.ts";
import { Consistency, ConsistencyQuery, limitQuery, Name, NullableText } from "./schemas.ts";

const Params = Type.Object({ name: Name });
const GraphQuery = Type.Object({
  depth: Type.Integer({ minimum: 1, maximum: 5, default: 2 }),
  limit: limitQuery(100, 1000),
  consistency: Consistency,
});
const ConceptAnswer = Type.Object(
  { name: Type.String(), type: Type.String(), description: NullableText, created_at: Type.String() },
  { additionalProperties: true },
);
const GraphAnswer = Type.Object({
  nodes: Type.Array(Type.Object({ name: Type.String() }, { additionalProperties: true })),
  edges: Type.Array(
    Type.Object({ source: Type.String(), target: Type.String(), strength: Type.Number(), activations: Type.Number(), last_active: Type.String() }),
  ),
});

export function conceptRoutes(app: FastifyInstance, door: Door): void {
  app.get<{ Params: Static<typeof Params> }>(
    "/v1/concepts/:name",
    {
      config: { door: "read" },
      schema: {
        operationId: "getConcept",
        tags: ["graph"],
        summary: "Read a concept",
        params: Params,
        querystring: ConsistencyQuery,
        response: { 200: ConceptAnswer },
      },
    },
    (request, reply) => door.read(request, reply, "concept", { name: request.params.name }),
  );
  app.get<{ Params: Static<typeof Params>; Querystring: Static<typeof GraphQuery> }>(
    "/v1/concepts/:name/graph",
    {
      config: { door: "read" },
      schema: {
        operationId: "getConceptGraph",
        tags: ["graph"],
        summary: "Read the graph around a concept",
        params: Params,
        querystring: GraphQuery,
        response: { 200: GraphAnswer },
      },
    },
    (request, reply) =>
      door.read(request, reply, "concept_graph", { name: request.params.name, depth: request.query.depth, limit: request.query.limit }),
  );
}
