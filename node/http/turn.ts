/** POST /v1/turn: recall what was known before the turn, then learn the turn. */
import type { FastifyInstance } from "fastify";
import Type, { type Static } from "typebox";
import type { Door } from "./door.ts";
import { LearnAnswer, LearnFields, learnArgs } from "./learn.ts";
import { RecallAnswer, recall } from "./recall.ts";
import { ConsistencyQuery } from "./schemas.ts";
import { given } from "./text-rules.ts";

const TurnBody = Type.Object({
  ...LearnFields,
  max_concepts: Type.Optional(Type.Unsafe<number | null>({ type: ["integer", "null"], minimum: 1, maximum: 100, default: 10 })),
});
type TurnBody = Static<typeof TurnBody>;

export function turnRoutes(app: FastifyInstance, door: Door): void {
  app.post<{ Body: TurnBody }>(
    "/v1/turn",
    {
      config: { door: "write" },
      schema: {
        operationId: "turn",
        tags: ["memory"],
        summary: "Recall for a turn, then learn it",
        querystring: ConsistencyQuery,
        body: TurnBody,
        response: { 200: Type.Object({ recall: RecallAnswer, learn: LearnAnswer }) },
      },
    },
    async (request, reply) => {
      // Everything that can be refused is refused before the recall: a turn is answered whole or not at all.
      door.keyOf(request);
      const toLearn = learnArgs(request.body);
      const session = request.body.metadata?.session_id;
      const toRecall = given({
        message: toLearn.user_message,
        max_concepts: request.body.max_concepts ?? 10,
        session_id: typeof session === "string" ? session : undefined,
      });
      const recalled = await recall(door, request, reply, toRecall);
      return { recall: recalled, learn: await door.write<Static<typeof LearnAnswer>>(request, reply, "learn", toLearn) };
    },
  );
}
