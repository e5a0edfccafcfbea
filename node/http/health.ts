/** GET /v1/health: can the process serve? GET /v1/ready: should it be asked? Neither needs a key, neither asks the cluster. */
import type { FastifyInstance } from "fastify";
import Type from "typebox";
import type { System } from "../ports.ts";
import type { Readiness } from "../status.ts";

/** What is known about this node's own store and disk. */
export interface NodeChecks {
  readonly database: CheckState;
  readonly disk_space: CheckState;
}
export type CheckState = "ok" | "degraded" | "failed";

const PI_PHI = "5.083203692315260";
const State = Type.Unsafe<CheckState>({ type: "string", enum: ["ok", "degraded", "failed"] });
const HealthAnswer = Type.Object({
  status: Type.Unsafe<"healthy" | "degraded" | "unhealthy">({ type: "string", enum: ["healthy", "degraded", "unhealthy"] }),
  service: Type.String(),
  version: Type.String(),
  timestamp: Type.String(),
  uptime_seconds: Type.Number(),
  checks: Type.Object({ database: State, federation: State, cache: State, disk_space: State }),
  pi_phi: Type.String(),
});
const ReadyAnswer = Type.Object({
  ready: Type.Boolean(),
  reasons: Type.Array(Type.String()),
  quorum: Type.Boolean(),
  redundancy: Type.Unsafe<Readiness["redundancy"]>({ type: "string", enum: ["full", "short", "single"] }),
});

export interface HealthSources {
  readonly system: System;
  readonly version: string;
  readonly readiness: () => Readiness | Promise<Readiness>;
  readonly checks: () => NodeChecks | Promise<NodeChecks>;
}

export function healthRoutes(app: FastifyInstance, sources: HealthSources): void {
  const { system, version, readiness, checks } = sources;
  const startedAt = system.monotonic();
  app.get(
    "/v1/health",
    {
      schema: { operationId: "getHealth", tags: ["node"], summary: "Liveness: answers while the process can serve", response: { 200: HealthAnswer } },
    },
    async () => {
      const [own, ready] = await Promise.all([checks(), readiness()]);
      const federation: CheckState = ready.quorum && ready.redundancy !== "short" ? "ok" : "degraded";
      // Recall answers are computed each time; there is no cache that could fail.
      const states = { database: own.database, federation, cache: "ok", disk_space: own.disk_space } as const;
      const status = own.database === "failed" ? "unhealthy" : Object.values(states).every((state) => state === "ok") ? "healthy" : "degraded";
      return {
        status,
        service: "continuum",
        version,
        timestamp: new Date(system.now()).toISOString(),
        uptime_seconds: Math.round(system.monotonic() - startedAt) / 1000,
        checks: states,
        pi_phi: PI_PHI,
      };
    },
  );
  app.get(
    "/v1/ready",
    {
      schema: {
        operationId: "getReadiness",
        tags: ["node"],
        summary: "Readiness: the store is open and this node has caught up",
        response: { 200: ReadyAnswer, 503: { ...ReadyAnswer, description: "Not ready; the reasons say why." } },
      },
    },
    async (_request, reply) => {
      const found = await readiness();
      if (!found.ready) reply.header("retry-after", "1");
      return reply.code(found.ready ? 200 : 503).send(found);
    },
  );
}
