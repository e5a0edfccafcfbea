/** POST /v1/learn: one turn, taken apart into concepts, decisions and links, stored whole or not at all. */
import type { FastifyInstance } from "fastify";
import Type, { type Static } from "typebox";
import type { Door } from "./door.ts";
import { ConsistencyQuery, JsonList, OptionalConsistency, OptionalMetadata, OptionalText, Text } from "./schemas.ts";
import { checkMetadata, cleanText, given } from "./text-rules.ts";

export const LearnFields = {
  user_message: Text,
  ai_response: Text,
  thinking: OptionalText,
  metadata: OptionalMetadata,
  consistency: OptionalConsistency,
};
export const LearnBody = Type.Object(LearnFields);
export const LearnAnswer = Type.Object({
  concepts_extracted: Type.Integer(),
  decisions_detected: Type.Integer(),
  links_created: Type.Integer(),
  compounds_found: Type.Integer(),
  tenant_id: Type.String(),
  turn_id: Type.String(),
  concepts: JsonList("The concepts met in the turn."),
});

export function learnRoutes(app: FastifyInstance, door: Door): void {
  app.post<{ Body: Static<typeof LearnBody> }>(
    "/v1/learn",
    {
      config: { door: "write" },
      schema: {
        operationId: "learn",
        tags: ["memory"],
        summary: "Learn from one turn of a conversation",
        querystring: ConsistencyQuery,
        body: LearnBody,
        response: { 200: LearnAnswer },
      },
    },
    (request, reply) => door.write(request, reply, "learn", learnArgs(request.body)),
  );
}

export function learnArgs(body: Static<typeof LearnBody>): Record<string, unknown> {
  return given({
    user_message: cleanText(body.user_message),
    ai_response: cleanText(body.ai_response),
    thinking: typeof body.thinking === "string" ? cleanText(body.thinking) : undefined,
    metadata: checkMetadata(body.metadata, ["body", "metadata"]),
  });
}
