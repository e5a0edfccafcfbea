/** GET /metrics, in the text format of Prometheus. No key: it names no tenant. */
import type { FastifyInstance } from "fastify";
import type { Metrics } from "../metrics.ts";

export function metricsRoutes(app: FastifyInstance, metrics: Metrics): void {
  app.get(
    "/metrics",
    {
      schema: {
        operationId: "getMetrics",
        tags: ["node"],
        summary: "Metrics for Prometheus",
        response: { 200: { description: "Prometheus text format", content: { "text/plain": { schema: { type: "string" } } } } },
      },
    },
    async (_request, reply) => reply.header("content-type", metrics.contentType).send(await metrics.scrape()),
  );
}
