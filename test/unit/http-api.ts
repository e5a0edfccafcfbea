/** The API with answers of the documented shapes behind it, and a way to call it. */
import type { FastifyInstance } from "fastify";
import { ApiError } from "../../node/errors.ts";
import { createHttp, type HttpOptions } from "../../node/http/server.ts";
import { createMetrics } from "../../node/metrics.ts";
import type { Log } from "../../node/ports.ts";
import type { FederationStatus, Readiness } from "../../node/status.ts";
import { type Answers, TableRouter, TestSystem } from "./http-router.ts";

export const MEMORY = {
  id: "mem_1",
  entity: "Alice",
  content: "Alice likes tea.",
  metadata: { session_id: "s1", nested: { deep: [1, null] } },
  created_at: "2026-11-21T12:00:00.000Z",
  updated_at: "2026-11-21T12:00:00.000Z",
  tenant_id: "default",
};
export const LEARNT = {
  concepts_extracted: 2,
  decisions_detected: 0,
  links_created: 1,
  compounds_found: 0,
  tenant_id: "default",
  turn_id: "turn_1",
  concepts: ["Alice", "tea"],
};
export const RECALLED = {
  recall_id: "recall_1",
  context: "Alice likes tea.",
  concepts_found: 1,
  relationships_found: 0,
  query_time_ms: 0,
  tenant_id: "default",
  concepts: [{ name: "Alice", kind: "person", score: 1.5, why: ["named"] }],
  memories: [{ id: "mem_1", text: "Alice likes tea.", score: 2, at: "2026-11-21T12:00:00.000Z", session_id: null, node: "alice", why: ["tea"] }],
  links: [],
};

const answers: Answers = {
  learn: () => LEARNT,
  recall: () => RECALLED,
  remember: () => ({ id: "mem_1", status: "stored", tenant_id: "default" }),
  get_memory: () => MEMORY,
  edit_memory: () => MEMORY,
  forget_memory: ({ id }) => ({ id, status: "deleted", tenant_id: "default" }),
  list_memories: () => ({ memories: [MEMORY], total: 1, next_cursor: null }),
  search_memories: () => ({ memories: [MEMORY], total: 1, next_cursor: "c1" }),
  entities: () => ({
    entities: [{ name: "Alice", type: "person", description: null, created_at: MEMORY.created_at }],
    total: 1,
    tenant_id: "default",
  }),
  concept: ({ name }) => ({ name, type: "person", description: null, created_at: MEMORY.created_at, occurrences: 3 }),
  concept_graph: () => ({
    nodes: [{ name: "Alice", type: "person" }],
    edges: [{ source: "Alice", target: "tea", strength: 0.15, activations: 1, last_active: MEMORY.created_at }],
  }),
  messages: () => MESSAGES,
  search_messages: () => MESSAGES,
  stats: () => ({
    tenant_id: "default",
    instance_id: "alice",
    entities: 1,
    messages: 2,
    decisions: 0,
    attention_links: 1,
    compound_concepts: 0,
    memories: 1,
  }),
  sessions: () => ({
    sessions: [{ id: "s1", first_at: MEMORY.created_at, last_at: MEMORY.created_at, turns: 1, memories: 0 }],
    total: 1,
    next_cursor: null,
  }),
  decisions: () => ({
    decisions: [{ id: "d1", text: "We chose tea", session_id: null, turn_id: "turn_1", at: MEMORY.created_at, node: "alice" }],
    total: 1,
    next_cursor: null,
  }),
};
const MESSAGES = {
  messages: [
    {
      id: "turn_1:user",
      instance_id: "i1",
      timestamp: MEMORY.created_at,
      message_number: 1,
      role: "user",
      content: "hello",
      metadata: {},
      tenant_id: "default",
    },
  ],
  total: 1,
  tenant_id: "default",
};

export const STATUS: FederationStatus = {
  node: {
    id: "12D3KooA",
    name: "alice",
    incarnation: "0".repeat(32),
    writer: "w",
    role: "member",
    standing: "counting",
    asks_to_join: false,
    secret_ids: [],
    zone: "",
    version: "0.1.0",
    protocol_version: 1,
  },
  layout: {
    version: 1,
    phase: "done",
    change: null,
    forced: false,
    federation_id: "f".repeat(32),
    replication_factor: 2,
    resonance_decay: 0.85,
    hebbian_rate: 0.15,
    period_ms: 2_592_000_000,
    members: [{ id: "12D3KooA", name: "alice", incarnation: "0".repeat(32), zone: "", weight: 1 }],
    next: null,
  },
  moving: null,
  conflict: null,
  waiting_for: [],
  consistency: "quorum",
  peers: [
    {
      id: "12D3KooB",
      name: "bob",
      incarnation: "1".repeat(32),
      zone: "",
      role: "member",
      connected: true,
      healthy: true,
      latency_ms: 0.4,
      last_seen: MEMORY.created_at,
      behind: 0,
      lag_seconds: 0,
      counts: true,
      damaged: 0,
      clock_ahead_ms: null,
      protocol_version: 2,
      secret_ids: ["5ec2e701"],
    },
    {
      id: "12D3KooC",
      name: "carol",
      incarnation: "2".repeat(32),
      zone: "",
      role: "member",
      connected: false,
      healthy: false,
      latency_ms: null,
      last_seen: null,
      behind: 3,
      lag_seconds: 0,
      counts: true,
      damaged: 0,
      clock_ahead_ms: null,
      protocol_version: 2,
      secret_ids: ["5ec2e701"],
    },
  ],
  quorum: { available: true, unavailable: 0, system: true, short_groups: 0, short_copies: 0, group_size: 3, quorum: 2 },
  sync_lag_seconds: 0.5,
  completeness: 1,
  witness: { held_deltas: 0, held_bytes: 0, waits_for: [] },
  clock_ahead_ms: 0,
  in_doubt_total: 0,
  copying: 0,
  damaged: [],
  partitions: [
    { partition: 7, role: "replica", replicas: ["alice", "bob"], witnesses: ["carol"], frontier: { w: 4 }, held_deltas: 0, fingerprint: null },
  ],
};

const refuse = (): never => {
  throw new ApiError("conflict", "There is no layout yet.");
};
const NO_SECRETS: HttpOptions["secrets"] = { view: () => ({ secrets: [], nodes: [], revoked: [] }), revoke: refuse, readmit: refuse };
const NO_LAYOUT: HttpOptions["layout"] = { queue: async () => [], history: async () => [], preview: refuse, apply: refuse, dial: refuse };

export interface Api {
  readonly app: FastifyInstance;
  readonly router: TableRouter;
  readonly system: TestSystem;
  readonly lines: { level: string; facts: object; message: string }[];
  call(
    method: string,
    url: string,
    options?: { body?: unknown; raw?: string; headers?: Record<string, string> },
  ): Promise<{ status: number; headers: Record<string, unknown>; json: never; text: string }>;
}

export async function createApi(
  overrides: {
    answers?: Answers;
    config?: Partial<HttpOptions["config"]>;
    readiness?: Readiness;
    database?: "ok" | "failed";
    layout?: HttpOptions["layout"];
    secrets?: HttpOptions["secrets"];
  } = {},
): Promise<Api> {
  const system = new TestSystem();
  const router = new TableRouter({ ...answers, ...overrides.answers }, () => system.now());
  const lines: Api["lines"] = [];
  const write = (level: string) => (facts: object, message: string) => void lines.push({ level, facts, message });
  const log: Log = { debug: write("debug"), info: write("info"), warn: write("warn"), error: write("error") };
  const app = await createHttp({
    config: { requireApiKey: false, apiKeys: [], tenant: "default", corsOrigins: [], timeoutMs: 5000, ...overrides.config },
    log,
    router,
    metrics: createMetrics(() => ({ federation: STATUS }), { process: false }),
    system,
    version: "0.1.0",
    status: ({ fingerprints }) =>
      fingerprints ? { ...STATUS, partitions: STATUS.partitions.map((each) => ({ ...each, fingerprint: "ab".repeat(32) })) } : STATUS,
    layout: overrides.layout ?? NO_LAYOUT,
    secrets: overrides.secrets ?? NO_SECRETS,
    repair: () => ({ partitions: 1, peers: 1 }),
    readiness: () => overrides.readiness ?? { ready: true, reasons: [], quorum: true, redundancy: "full" },
    checks: () => ({ database: overrides.database ?? "ok", disk_space: "ok" }),
  });
  return {
    app,
    router,
    system,
    lines,
    async call(method, url, options = {}) {
      const payload = options.raw ?? (options.body === undefined ? undefined : JSON.stringify(options.body));
      const headers = { ...(payload === undefined ? {} : { "content-type": "application/json" }), ...options.headers };
      const response = await app.inject({ method: method as "GET", url, headers, ...(payload === undefined ? {} : { payload }) });
      const isJson = String(response.headers["content-type"]).includes("json");
      return { status: response.statusCode, headers: response.headers, json: (isJson ? response.json() : undefined) as never, text: response.body };
    },
  };
}
