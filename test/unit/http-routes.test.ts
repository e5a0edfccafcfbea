import { describe, expect, it } from "vitest";
import { type Api, createApi, LEARNT, MEMORY, RECALLED } from "./http-api.ts";

const TURN = { user_message: "What does Alice drink?", ai_response: "Tea." };

async function args(api: Api, method: string, url: string, body?: unknown, headers: Record<string, string> = {}): Promise<Record<string, unknown>> {
  const answer = await api.call(method, url, { body, headers });
  expect(answer.status).toBe(200);
  return api.router.seen.at(-1)!.args;
}

describe("learn, recall and turn", () => {
  it("learns a turn and answers with CONTINUUM's fields", async () => {
    const api = await createApi();
    const answer = await api.call("POST", "/v1/learn", { body: { ...TURN, thinking: null, metadata: { session_id: "s1" }, an_extra: 1 } });
    expect(answer.status).toBe(200);
    expect(answer.json).toEqual(LEARNT);
    const [seen] = api.router.seen;
    expect(seen?.operation).toBe("learn");
    expect(seen?.args).toEqual({ ...TURN, metadata: { session_id: "s1" } });
    expect(seen?.call.tenant).toBe("default");
    expect(seen?.call.level).toBeUndefined();
    expect(seen?.call.deadline).toBe(api.system.ms + 5000);
    expect(seen?.call.key).toMatch(/^auto-.{22}$/);
  });

  it("recalls by message or by its alias query, with a default of ten concepts", async () => {
    const api = await createApi();
    const answer = await api.call("POST", "/v1/recall", { body: { message: "tea", max_tokens: null } });
    expect(answer.json).toEqual(RECALLED);
    expect(api.router.seen[0]?.args).toEqual({ message: "tea", max_concepts: 10 });
    expect(api.router.seen[0]?.call.key).toBe("");
    expect(
      await args(api, "POST", "/v1/recall", {
        query: "tea",
        max_concepts: 3,
        since: "2026-11-01",
        until: "2026-11-02T03:04:05+01:00",
        session_id: "s1",
        max_memories: 4,
        max_tokens: 500,
      }),
    ).toEqual({
      message: "tea",
      max_concepts: 3,
      since: "2026-11-01T00:00:00.000Z",
      until: "2026-11-02T02:04:05.000Z",
      session_id: "s1",
      max_memories: 4,
      max_tokens: 500,
    });
  });

  it("measures a recall, and names it where the memory did not", async () => {
    const api = await createApi({ answers: { recall: () => ({ ...RECALLED, recall_id: undefined, query_time_ms: undefined }) } });
    const answer = await api.call("POST", "/v1/recall", { body: { message: "tea" } });
    expect((answer.json as { recall_id: string }).recall_id).toMatch(/^recall_.{22}$/);
    expect((answer.json as { query_time_ms: number }).query_time_ms).toBe(0);
  });

  it("recalls for a turn before it learns it, and uses the key only to learn", async () => {
    const api = await createApi();
    const answer = await api.call("POST", "/v1/turn", {
      body: { ...TURN, max_concepts: 5, metadata: { session_id: "s1" } },
      headers: { "idempotency-key": "k1" },
    });
    expect(answer.json).toEqual({ recall: RECALLED, learn: LEARNT });
    expect(api.router.seen.map(({ operation, call }) => [operation, call.key])).toEqual([
      ["recall", ""],
      ["learn", "k1"],
    ]);
    expect(api.router.seen[0]?.args).toEqual({ message: TURN.user_message, max_concepts: 5, session_id: "s1" });
    expect(answer.headers["x-continuum-frontier"]).toBe("token-2");
  });

  it("mends text cut in the middle of an emoji instead of losing the turn", async () => {
    const api = await createApi();
    expect((await args(api, "POST", "/v1/learn", { user_message: "a \ud83d", ai_response: "b" })).user_message).toBe("a \ufffd");
  });
});

describe("memories", () => {
  it("stores, reads, replaces, corrects and forgets", async () => {
    const api = await createApi();
    const stored = await api.call("POST", "/v1/memories", { body: { entity: "Alice", content: "Alice likes tea.", metadata: { a: 1 } } });
    expect(stored.json).toEqual({ id: "mem_1", status: "stored", tenant_id: "default" });
    expect(api.router.of("remember")[0]?.args).toEqual({ entity: "Alice", content: "Alice likes tea.", metadata: { a: 1 } });
    expect((await api.call("GET", "/v1/memories/mem_1")).json).toEqual(MEMORY);
    expect(await args(api, "PUT", "/v1/memories/mem_1", { entity: "Alice", content: "new" })).toEqual({
      id: "mem_1",
      entity: "Alice",
      content: "new",
      replace: true,
    });
    expect(await args(api, "PATCH", "/v1/memories/mem_1", { content: "newer" })).toEqual({ id: "mem_1", content: "newer", replace: false });
    const gone = await api.call("DELETE", "/v1/memories/mem_1", { raw: "", headers: { "content-type": "application/json" } });
    expect(gone.json).toEqual({ id: "mem_1", status: "deleted", tenant_id: "default" });
    expect(api.router.seen.map(({ operation }) => operation)).toEqual(["remember", "get_memory", "edit_memory", "edit_memory", "forget_memory"]);
  });

  it("shows what concurrent edits left, alone and in lists", async () => {
    const conflicts = { content: ["Alice likes coffee."], entity: ["Alicia"], metadata: [{ cup: { colour: "red" } }] };
    const torn = { ...MEMORY, conflicts };
    const list = { memories: [MEMORY, torn], total: 2, next_cursor: null };
    const api = await createApi({
      answers: { get_memory: () => torn, edit_memory: () => torn, list_memories: () => list, search_memories: () => list },
    });
    expect((await api.call("GET", "/v1/memories/mem_1")).json).toEqual(torn);
    expect((await api.call("PATCH", "/v1/memories/mem_1", { body: { content: "Alice likes tea." } })).json).toEqual(torn);
    expect((await api.call("GET", "/v1/memories")).json).toEqual(list);
    expect((await api.call("POST", "/v1/memories/search", { body: { query: "tea" } })).json).toEqual(list);
  });

  it("lists with filters turned into their types", async () => {
    const api = await createApi();
    expect(await args(api, "GET", "/v1/memories")).toEqual({ limit: 50, offset: 0 });
    expect(await args(api, "GET", "/v1/memories?limit=5&offset=10&entity=Alice&session_id=s1&since=2026-11-21&cursor=c&consistency=all")).toEqual({
      limit: 5,
      offset: 10,
      entity: "Alice",
      session_id: "s1",
      since: "2026-11-21T00:00:00.000Z",
      cursor: "c",
    });
    expect(api.router.seen[1]?.call.level).toBe("all");
  });

  it("searches", async () => {
    const api = await createApi();
    expect(await args(api, "POST", "/v1/memories/search", { query: "tee", fuzzy: true, metadata: { a: 1 } })).toEqual({
      query: "tee",
      fuzzy: true,
      metadata: { a: 1 },
      limit: 50,
    });
    expect(await args(api, "POST", "/v1/memories/search", { query: "tea" })).toEqual({ query: "tea", fuzzy: false, limit: 50 });
  });

  it("stores a batch item by item, in order, at most 64 at a time, and refuses only what is wrong", async () => {
    let under_way = 0;
    let most = 0;
    const api = await createApi({
      answers: {
        remember: async (_args, call) => {
          most = Math.max(most, ++under_way);
          await new Promise((resolve) => setImmediate(resolve));
          under_way--;
          return { id: `mem${call.key.split("/")[1]}`, status: "stored", tenant_id: "default" };
        },
      },
    });
    const memories: unknown[] = Array.from({ length: 200 }, (_, index) => ({ entity: "Alice", content: `fact ${index}` }));
    memories[3] = { entity: "", content: "x" };
    memories[5] = { content: 5 };
    memories[7] = { entity: "a", content: "b", metadata: { session_id: "bad\u0000id" } };
    const answer = await api.call("POST", "/v1/memories/batch", { body: { memories }, headers: { "idempotency-key": "k" } });
    expect(answer.status).toBe(200);
    const results = (answer.json as { results: { id: string | null; status: string; code?: string; detail?: string }[] }).results;
    expect(results).toHaveLength(200);
    expect(results[3]).toEqual({ id: null, status: "refused", code: "validation_failed", detail: "entity: must NOT have fewer than 1 characters." });
    expect(results[5]?.status).toBe("refused");
    expect(results[7]?.detail).toMatch(/session_id/);
    expect(results.filter(({ status }) => status === "stored")).toHaveLength(197);
    expect(results[199]).toEqual({ id: "mem199", status: "stored" });
    expect(api.router.of("remember").map(({ call }) => call.key)).toContain("k/199");
    expect(most).toBe(64);
    expect(answer.headers["x-continuum-acks"]).toBe("replicas=2,witnesses=1");
  });

  it("refuses a batch that is wrong as a whole", async () => {
    const api = await createApi();
    expect((await api.call("POST", "/v1/memories/batch", { body: { memories: [] } })).status).toBe(422);
    expect((await api.call("POST", "/v1/memories/batch", { body: {} })).status).toBe(422);
    const many = Array.from({ length: 1001 }, () => ({ entity: "a", content: "b" }));
    expect((await api.call("POST", "/v1/memories/batch", { body: { memories: many } })).status).toBe(422);
    expect(
      (await api.call("POST", "/v1/memories/batch", { body: { memories: many.slice(1) }, headers: { "idempotency-key": "k".repeat(252) } })).status,
    ).toBe(422);
    expect(api.router.seen).toEqual([]);
  });
});

describe("lists and the graph", () => {
  it("lists entities, newest first as the memory gives them", async () => {
    const api = await createApi();
    const answer = await api.call("GET", "/v1/entities?entity_type=person&limit=3");
    expect(answer.json).toEqual({
      entities: [{ name: "Alice", type: "person", description: null, created_at: MEMORY.created_at }],
      total: 1,
      tenant_id: "default",
    });
    expect(api.router.seen[0]?.args).toEqual({ limit: 3, offset: 0, entity_type: "person" });
  });

  it("reads a concept by its name and the graph around it", async () => {
    const api = await createApi();
    const name = "naïve Bayes / C++ %";
    expect(((await api.call("GET", `/v1/concepts/${encodeURIComponent(name)}`)).json as { name: string }).name).toBe(name);
    expect(await args(api, "GET", "/v1/concepts/Alice/graph?depth=5")).toEqual({ name: "Alice", depth: 5, limit: 100 });
  });

  it("lists and searches messages", async () => {
    const api = await createApi();
    expect(await args(api, "GET", "/v1/messages?role=user&start_date=2026-11-21T10:00:00")).toEqual({
      limit: 50,
      offset: 0,
      role: "user",
      start_date: "2026-11-21T10:00:00.000Z",
    });
    expect(await args(api, "POST", "/v1/messages/search", { keyword: "tea", role: null, limit: 1000 })).toEqual({
      limit: 1000,
      offset: 0,
      keyword: "tea",
    });
    expect(api.router.seen.map(({ operation }) => operation)).toEqual(["messages", "search_messages"]);
  });

  it("lists sessions and decisions, and counts", async () => {
    const api = await createApi();
    expect(await args(api, "GET", "/v1/sessions?limit=2&cursor=x")).toEqual({ limit: 2, cursor: "x" });
    expect(await args(api, "GET", "/v1/decisions?session_id=s1")).toEqual({ limit: 50, session_id: "s1" });
    expect((await api.call("GET", "/v1/stats")).json).toMatchObject({ entities: 1, compound_concepts: 0 });
  });
});

describe("the federation, health and metrics", () => {
  it("shows the status, with fingerprints only when asked", async () => {
    const api = await createApi();
    const plain = (await api.call("GET", "/v1/federation")).json as { partitions: { fingerprint: string | null; frontier: object }[] };
    expect(plain.partitions[0]).toMatchObject({ fingerprint: null, frontier: { w: 4 } });
    const full = (await api.call("GET", "/v1/federation?fingerprints=true")).json as { partitions: { fingerprint: string | null }[] };
    expect(full.partitions[0]?.fingerprint).toBe("ab".repeat(32));
    expect((await api.call("GET", "/v1/federation/peers")).json).toMatchObject({ total: 2 });
    expect((await api.call("GET", "/v1/federation/layout")).json).toMatchObject({ layout: { version: 1 }, waiting_for: [] });
    expect((await api.call("GET", "/v1/federation/stats")).json).toMatchObject({
      peers_total: 2,
      peers_healthy: 1,
      partitions: { replica: 1, witness: 0 },
    });
  });

  it("answers health as CONTINUUM did, while the process can serve", async () => {
    const api = await createApi();
    api.system.ms += 1500;
    expect((await api.call("GET", "/v1/health")).json).toEqual({
      status: "healthy",
      service: "continuum",
      version: "0.1.0",
      timestamp: "2026-11-21T12:00:01.500Z",
      uptime_seconds: 1.5,
      checks: { database: "ok", federation: "ok", cache: "ok", disk_space: "ok" },
      pi_phi: "5.083203692315260",
    });
    const cut = await createApi({ readiness: { ready: false, reasons: ["catching up"], quorum: false, redundancy: "full" } });
    const answer = await cut.call("GET", "/v1/health");
    expect([answer.status, (answer.json as { status: string }).status]).toEqual([200, "degraded"]);
    const broken = await (await createApi({ database: "failed" })).call("GET", "/v1/health");
    expect([broken.status, (broken.json as { status: string }).status]).toEqual([200, "unhealthy"]);
  });

  it("is ready by its own state only: a missing quorum is a field", async () => {
    const cut = await createApi({ readiness: { ready: true, reasons: [], quorum: false, redundancy: "short" } });
    expect((await cut.call("GET", "/v1/ready")).status).toBe(200);
    const behind = await createApi({ readiness: { ready: false, reasons: ["catching up with bob"], quorum: true, redundancy: "full" } });
    const answer = await behind.call("GET", "/v1/ready");
    expect(answer.status).toBe(503);
    expect(answer.json).toEqual({ ready: false, reasons: ["catching up with bob"], quorum: true, redundancy: "full" });
  });

  it("counts what was learnt, recalled and stored through this node", async () => {
    const api = await createApi();
    await api.call("POST", "/v1/turn", { body: TURN });
    await api.call("POST", "/v1/memories", { body: { entity: "a", content: "b" } });
    await api.call("POST", "/v1/learn", { body: {} });
    const lines = (await api.call("GET", "/metrics")).text.split("\n");
    for (const line of [
      "continuum_learn_operations_total 1",
      "continuum_recall_operations_total 1",
      "continuum_concepts_extracted_total 2",
      "continuum_memories_stored_total 1",
    ]) {
      expect(lines).toContain(line);
    }
  });

  it("counts requests by route pattern, never by path", async () => {
    const api = await createApi();
    await api.call("GET", "/v1/memories/mem_1");
    await api.call("GET", "/v1/memories/mem_2");
    await api.call("GET", "/v1/somewhere/else");
    await api.call("POST", "/v1/learn", { body: {} });
    const text = (await api.call("GET", "/metrics")).text;
    expect(text).toContain('continuum_http_requests_total{method="GET",route="/v1/memories/:id",status="200"} 2');
    expect(text).toContain('continuum_http_requests_total{method="POST",route="/v1/learn",status="422"} 1');
    expect(text).toContain('continuum_http_requests_total{method="*",route="unmatched",status="404"} 1');
    expect(text).toContain('continuum_http_request_duration_seconds_bucket{method="GET",route="/v1/memories/:id",le="+Inf"} 2');
    expect(text).toContain("continuum_pi_phi_constant 5.08320369231526");
    expect(text).toContain("continuum_federation_peers_healthy 1");
    expect(text).not.toContain("mem_1");
  });
});

describe("what every answer carries", () => {
  it("says which level was met, who acknowledged, and the token to read it back", async () => {
    const api = await createApi();
    const answer = await api.call("POST", "/v1/learn", { body: { ...TURN, consistency: "all" } });
    expect(answer.headers).toMatchObject({
      "x-continuum-consistency": "all",
      "x-continuum-acks": "replicas=2,witnesses=1",
      "x-continuum-frontier": "token-1",
    });
    expect(api.router.seen[0]?.call.level).toBe("all");
  });

  it("takes the level from the body, then the query, then the header", async () => {
    const api = await createApi();
    const level = async (url: string, body: object, headers: Record<string, string>) => {
      await api.call("POST", url, { body: { ...TURN, ...body }, headers });
      return api.router.seen.at(-1)?.call.level;
    };
    expect(await level("/v1/learn?consistency=all", { consistency: "one" }, { "x-consistency": "quorum" })).toBe("one");
    expect(await level("/v1/learn?consistency=all", { consistency: null }, { "x-consistency": "quorum" })).toBe("all");
    expect(await level("/v1/learn", {}, { "x-consistency": "quorum" })).toBe("quorum");
  });

  it("passes the frontier token and the idempotency key on", async () => {
    const api = await createApi();
    await api.call("POST", "/v1/memories", {
      body: { entity: "a", content: "b" },
      headers: { "x-continuum-frontier": "abc", "idempotency-key": "my key" },
    });
    expect(api.router.seen[0]?.call).toMatchObject({ token: "abc", key: "my key" });
  });

  it("keeps a sane request id, and makes one otherwise", async () => {
    const api = await createApi();
    expect((await api.call("GET", "/v1/stats", { headers: { "x-request-id": "req-1.a:b" } })).headers["x-request-id"]).toBe("req-1.a:b");
    expect(api.router.seen[0]?.call.requestId).toBe("req-1.a:b");
    const made = new Set<unknown>();
    for (const sent of [undefined, "has spaces and <html>", "x".repeat(129)]) {
      const id = (await api.call("GET", "/v1/health", { headers: sent === undefined ? {} : { "x-request-id": sent } })).headers["x-request-id"];
      expect(id).not.toBe(sent);
      made.add(id);
    }
    expect(made.size).toBe(3);
  });
});
