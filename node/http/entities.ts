/** GET /v1/entities: what the tenant's memory is about. */
import type { FastifyInstance } from "fastify";
import Type, { type Static } from "typebox";
import { CONCEPT_TYPES } from "../../protocol/graph/records.ts";
import { ApiError } from "../errors.ts";
import type { Door } from "./door.ts";
import { Consistency, CursorQuery, EntityView, limitQuery, OffsetQuery } from "./schemas.ts";
import { given } from "./text-rules.ts";

const EntitiesQuery = Type.Object({
  limit: limitQuery(100, 1000),
  offset: OffsetQuery,
  cursor: CursorQuery,
  entity_type: Type.Optional(Type.Unsafe<string>({ type: "string", enum: [...CONCEPT_TYPES] })),
  consistency: Consistency,
});

export function entityRoutes(app: FastifyInstance, door: Door): void {
  app.get<{ Querystring: Static<typeof EntitiesQuery> }>(
    "/v1/entities",
    {
      config: { door: "read" },
      attachValidation: true,
      schema: {
        operationId: "listEntities",
        tags: ["graph"],
        summary: "List entities, newest first",
        querystring: EntitiesQuery,
        response: {
          200: Type.Object({
            entities: Type.Array(EntityView),
            total: Type.Integer(),
            tenant_id: Type.String(),
            next_cursor: Type.Optional(Type.Unsafe<string | null>({ type: ["string", "null"] })),
          }),
        },
      },
    },
    (request, reply) => {
      const invalid = request.validationError as unknown;
      // An unknown type is 400 here, as CONTINUUM's clients expect.
      if (invalid instanceof ApiError && invalid.errors?.some((error) => error.loc[1] === "entity_type") === true) {
        throw new ApiError("bad_request", `entity_type must be one of ${CONCEPT_TYPES.join(", ")}.`);
      }
      if (invalid !== undefined && invalid !== null) throw invalid;
      const { consistency: _level, ...args } = request.query;
      return door.read(request, reply, "entities", given(args));
    },
  );
}
