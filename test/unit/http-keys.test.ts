import { describe, expect, it } from "vitest";
import { acceptsArguments } from "../../node/arguments.ts";
import { ApiError } from "../../node/errors.ts";
import { ensureAdminKey } from "../../node/first-key.ts";
import type { KeyFacts } from "../../node/keys.ts";
import type { Call } from "../../node/ports.ts";
import { type Api, createApi } from "./http-api.ts";
import { TableRouter, TestSystem } from "./http-router.ts";

const ADMIN = "an admin key of the configuration";
const CLOSED = { requireApiKey: true, apiKeys: [ADMIN] };

async function createKey(api: Api, body: object, headers: Record<string, string> = {}): Promise<{ api_key: string; id: string }> {
  const answer = await api.call("POST", "/v1/keys", { body, headers: { "x-api-key": ADMIN, ...headers } });
  expect(answer.status).toBe(200);
  return answer.json;
}
async function status(api: Api, key: string | undefined, url = "/v1/stats", headers: Record<string, string> = {}): Promise<number> {
  return (await api.call("GET", url, { headers: { ...(key === undefined ? {} : { "x-api-key": key }), ...headers } })).status;
}

const KNOWN = {
  id: "key_1",
  tenant_id: "bob",
  name: "",
  scope: "tenant",
  created_at: "2026-11-21T12:00:00Z",
  expires_at: null,
  revoked_at: null,
};

describe("keys on", () => {
  it("refuses callers without a key, and says how to send one", async () => {
    const api = await createApi({ config: CLOSED });
    const answer = await api.call("GET", "/v1/stats");
    expect(answer.status).toBe(401);
    expect(answer.headers["www-authenticate"]).toMatch(/^Bearer/);
    expect((answer.json as { code: string }).code).toBe("unauthorized");
    expect(api.router.seen).toEqual([]);
  });

  it("leaves probes, metrics and pages open, and nothing else", async () => {
    const api = await createApi({ config: CLOSED });
    for (const url of ["/v1/health", "/v1/ready", "/metrics", "/openapi.json", "/docs/"]) expect(await status(api, undefined, url)).toBe(200);
    const document = (await api.call("GET", "/openapi.json")).json as { paths: Record<string, Record<string, { security?: unknown[] }>> };
    for (const [path, methods] of Object.entries(document.paths)) {
      for (const [method, operation] of Object.entries(methods)) {
        const answer = await api.call(
          method.toUpperCase(),
          path.replace(/\{\w+\}/g, "x"),
          method === "get" || method === "delete" ? {} : { body: {} },
        );
        expect([path, method, answer.status === 401]).toEqual([path, method, operation.security?.length !== 0]);
      }
    }
  });

  it("takes the configured admin keys, in both headers", async () => {
    const api = await createApi({ config: { ...CLOSED, apiKeys: ["another key of the configuration", ADMIN] } });
    expect(await status(api, ADMIN, "/v1/federation")).toBe(200);
    expect(await status(api, undefined, "/v1/federation", { authorization: `Bearer ${ADMIN}` })).toBe(200);
    expect(await status(api, undefined, "/v1/federation", { authorization: `bearer ${ADMIN}` })).toBe(200);
    expect(await status(api, undefined, "/v1/federation", { authorization: `Basic ${ADMIN}` })).toBe(401);
    expect(await status(api, `${ADMIN}x`, "/v1/federation")).toBe(401);
    expect(await status(api, "k".repeat(300), "/v1/federation")).toBe(401);
  });

  it("creates a key that is shown once, stored as a hash, and names its tenant", async () => {
    const api = await createApi({ config: CLOSED });
    const created = (await api.call("POST", "/v1/keys", { body: { tenant_id: "bob", name: "laptop" }, headers: { "x-api-key": ADMIN } }))
      .json as Record<string, unknown>;
    expect(created).toMatchObject({
      tenant_id: "bob",
      name: "laptop",
      scope: "tenant",
      expires_at: null,
      message: expect.stringContaining("not shown again"),
    });
    const key = created.api_key as string;
    expect(key).toMatch(/^cm_[A-Za-z0-9_-]{43}$/);
    expect(JSON.stringify(api.router.seen)).not.toContain(key);
    expect(JSON.stringify((await api.call("GET", "/v1/keys", { headers: { "x-api-key": ADMIN } })).json)).not.toContain(key);
    expect(await status(api, key)).toBe(200);
    expect(api.router.of("stats").at(-1)?.call.tenant).toBe("bob");
    expect(await status(api, undefined, "/v1/stats", { authorization: `Bearer ${key}` })).toBe(200);
  });

  it("does not answer a retried creation with a key that was never stored", async () => {
    const api = await createApi({ config: CLOSED });
    await createKey(api, { tenant_id: "bob" }, { "idempotency-key": "k1" });
    const again = await api.call("POST", "/v1/keys", { body: { tenant_id: "bob" }, headers: { "x-api-key": ADMIN, "idempotency-key": "k1" } });
    expect(again.status).toBe(409);
    expect(again.text).not.toContain("cm_");
  });

  it("keeps a tenant's key inside its tenant and away from what is for admins", async () => {
    const api = await createApi({ config: CLOSED });
    const { api_key: key } = await createKey(api, { tenant_id: "bob" });
    expect(await status(api, key, "/v1/stats", { "x-tenant-id": "bob" })).toBe(200);
    expect(await status(api, key, "/v1/stats", { "x-tenant-id": "alice" })).toBe(403);
    for (const url of ["/v1/keys", "/v1/tenants", "/v1/federation", "/v1/federation/layout"]) expect(await status(api, key, url)).toBe(403);
    expect((await api.call("POST", "/v1/keys", { body: { tenant_id: "bob" }, headers: { "x-api-key": key } })).status).toBe(403);
    expect(await status(api, ADMIN, "/v1/stats", { "x-tenant-id": "alice" })).toBe(200);
    expect(api.router.of("stats").at(-1)?.call.tenant).toBe("alice");
  });

  it("makes admin keys too", async () => {
    const api = await createApi({ config: CLOSED });
    const { api_key: key } = await createKey(api, { tenant_id: "ops", scope: "admin" });
    expect(await status(api, key, "/v1/keys")).toBe(200);
    expect(await status(api, key, "/v1/stats", { "x-tenant-id": "carol" })).toBe(200);
  });

  it("stops a revoked key when the short cache has run out, and not later", async () => {
    const api = await createApi({ config: CLOSED });
    const { api_key: key, id } = await createKey(api, { tenant_id: "bob" });
    expect(await status(api, key)).toBe(200);
    const revoked = await api.call("DELETE", `/v1/keys/${id}`, { headers: { "x-api-key": ADMIN } });
    expect(revoked.json).toEqual({ id, status: "revoked" });
    api.system.ms += 401;
    expect(await status(api, key)).toBe(401);
    expect((await api.call("DELETE", `/v1/keys/${id}`, { headers: { "x-api-key": ADMIN } })).status).toBe(200);
    expect((await api.call("DELETE", "/v1/keys/key_none", { headers: { "x-api-key": ADMIN } })).status).toBe(404);
  });

  it("looks a key up once for many requests, and again after the cache's time", async () => {
    const api = await createApi({ config: CLOSED });
    const { api_key: key } = await createKey(api, { tenant_id: "bob" });
    await Promise.all(Array.from({ length: 20 }, () => status(api, key)));
    await status(api, key);
    expect(api.router.of("find_key")).toHaveLength(1);
    api.system.ms += 401;
    await status(api, key);
    expect(api.router.of("find_key")).toHaveLength(2);
  });

  it("looks every key up behind a barrier, so that what a majority knows is heard", async () => {
    const api = await createApi({ config: CLOSED });
    const { api_key: key } = await createKey(api, { tenant_id: "bob" });
    api.router.behind = true;
    expect(await status(api, key)).toBe(200);
    expect(api.router.of("find_key").map(({ call }) => call.level)).toEqual(["quorum"]);
  });

  it("serves a known key at one only while no majority can be asked, says so, and stops 30 s after the last one answered", async () => {
    let isCut = false;
    const api = await createApi({
      config: CLOSED,
      answers: {
        find_key: (_args, call) => {
          if (isCut && call.level === "quorum") throw new ApiError("no_quorum", "Two of three are away.");
          return { key: KNOWN };
        },
      },
    });
    const get = (path: string) => api.call("GET", path, { headers: { "x-api-key": `cm_${"a".repeat(43)}` } });
    const confirmed = await get("/v1/stats?consistency=quorum");
    expect([confirmed.status, confirmed.headers["x-continuum-key-unconfirmed"]]).toEqual([200, undefined]);
    isCut = true;
    api.system.ms += 30_000;
    const one = await get("/v1/stats?consistency=one");
    expect([one.status, one.headers["x-continuum-key-unconfirmed"]]).toEqual([200, "true"]);
    for (const level of ["quorum", "all"]) expect((await get(`/v1/stats?consistency=${level}`)).json).toMatchObject({ code: "no_quorum" });
    api.system.ms += 401;
    expect((await get("/v1/stats?consistency=one")).json).toMatchObject({
      code: "no_quorum",
      detail: expect.stringMatching(/your API key still holds/),
    });
    isCut = false;
    const healed = await get("/v1/stats?consistency=quorum");
    expect([healed.status, healed.headers["x-continuum-key-unconfirmed"]]).toEqual([200, undefined]);
  });

  it("serves a known key so also on a node that nobody had asked with one before it was cut off", async () => {
    let isCut = false;
    const answers = {
      find_key: ({ hash }: Record<string, unknown>, call: Call) => {
        if (isCut && call.level === "quorum") throw new ApiError("no_quorum", "Two of three are away.");
        return { key: hash === "0".repeat(64) ? null : KNOWN };
      },
    };
    const api = await createApi({ config: CLOSED, answers });
    await api.app.listen({ host: "127.0.0.1", port: 0 });
    const status = async () => (await api.call("GET", "/v1/stats?consistency=one", { headers: { "x-api-key": `cm_${"a".repeat(43)}` } })).status;
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    try {
      for (let second = 0; second < 60; second++) {
        api.system.pass(1000);
        await turn();
      }
      const looks = api.router.of("find_key");
      expect(looks).toHaveLength(7);
      // As they are forwarded by a node that holds no key.
      for (const { args } of looks) expect(acceptsArguments("find_key", args)).toBe(true);
      isCut = true;
      api.system.pass(15_000);
      await turn();
      expect(await status()).toBe(200);
      api.system.pass(16_000);
      await turn();
      expect(await status()).toBe(503);
    } finally {
      await api.app.close();
    }
    const looked = api.router.of("find_key").length;
    api.system.pass(60_000);
    expect(api.router.of("find_key")).toHaveLength(looked);
  });

  it("says 503 and not 401 when the barrier cannot be formed", async () => {
    const api = await createApi({
      config: CLOSED,
      answers: {
        find_key: (_args, call) => {
          if (call.level === "quorum") throw new ApiError("no_quorum", "Two of three are away.");
          return { key: null };
        },
      },
    });
    expect(await status(api, `cm_${"a".repeat(43)}`)).toBe(503);
  });

  it("refuses an expired key", async () => {
    const api = await createApi({ config: CLOSED });
    const { api_key: key } = await createKey(api, { tenant_id: "bob", expires_at: "2026-11-21T12:01:00Z" });
    expect(await status(api, key)).toBe(200);
    api.system.ms += 60_001;
    const late = await api.call("GET", "/v1/stats", { headers: { "x-api-key": key } });
    expect([late.status, (late.json as { detail: string }).detail]).toEqual([401, "This API key has expired."]);
  });

  it("lists keys newest first, and tenants with the number of their usable keys", async () => {
    const api = await createApi({ config: CLOSED });
    const first = await createKey(api, { tenant_id: "bob" });
    api.system.ms += 1000;
    await createKey(api, { tenant_id: "bob", name: "second" });
    await createKey(api, { tenant_id: "carol" });
    await api.call("DELETE", `/v1/keys/${first.id}`, { headers: { "x-api-key": ADMIN } });
    const listed = (await api.call("GET", "/v1/keys", { headers: { "x-api-key": ADMIN } })).json as { keys: KeyFacts[]; total: number };
    expect(listed.total).toBe(3);
    expect(listed.keys.at(-1)).toMatchObject({ id: first.id, tenant_id: "bob", revoked_at: "2026-11-21T12:00:01.000Z" });
    const tenants = (await api.call("GET", "/v1/tenants", { headers: { "x-api-key": ADMIN } })).json;
    expect(tenants).toEqual({
      tenants: [
        { id: "bob", created_at: "2026-11-21T12:00:00.000Z", keys: 1 },
        { id: "carol", created_at: "2026-11-21T12:00:01.000Z", keys: 1 },
      ],
      total: 2,
    });
  });

  it("keeps the system partition's frontier to itself", async () => {
    const api = await createApi({ config: CLOSED });
    const answer = await api.call("GET", "/v1/keys", { headers: { "x-api-key": ADMIN, "x-continuum-frontier": "of a tenant" } });
    expect(answer.headers["x-continuum-frontier"]).toBeUndefined();
    expect(answer.headers["x-continuum-consistency"]).toBe("quorum");
    expect(api.router.of("list_keys")[0]?.call.token).toBeUndefined();
  });
});

describe("keys off", () => {
  it("lets everybody in as an admin of the default tenant", async () => {
    const api = await createApi();
    expect(await status(api, undefined, "/v1/federation")).toBe(200);
    expect(await status(api, undefined, "/v1/stats", { "x-tenant-id": "carol" })).toBe(200);
    expect(api.router.of("stats")[0]?.call.tenant).toBe("carol");
  });

  it("ignores a key nobody knows, and still keeps a known one to its tenant", async () => {
    const api = await createApi();
    expect(await status(api, "whatever a client had in its settings")).toBe(200);
    expect(api.router.of("stats").at(-1)?.call.tenant).toBe("default");
    const { api_key: key } = (await api.call("POST", "/v1/keys", { body: { tenant_id: "bob" } })).json as { api_key: string };
    expect(await status(api, key)).toBe(200);
    expect(api.router.of("stats").at(-1)?.call.tenant).toBe("bob");
    expect(await status(api, key, "/v1/keys")).toBe(403);
  });
});

describe("the first admin key", () => {
  const config = {
    requireApiKey: true,
    apiKeys: [],
    tenant: "default",
    nodeName: "alice",
    federationFirstMembers: ["alice", "bob"],
    timeoutMs: 5000,
  };
  const settle = (): Promise<void> => new Promise((resolve) => setTimeout(resolve, 5));

  function start(router: TableRouter, overrides: Partial<typeof config> & { apiKeys?: string[] } = {}, system = new TestSystem()) {
    const printed: string[] = [];
    const errors: string[] = [];
    const log = { debug() {}, info() {}, warn() {}, error: (_facts: object, message: string) => void errors.push(message) };
    const cancel = ensureAdminKey({ config: { ...config, ...overrides }, router, system, log, print: (text) => void printed.push(text) });
    return { printed, errors, cancel };
  }

  it("is made and shown once", async () => {
    const router = new TableRouter({});
    const { printed } = start(router);
    await settle();
    expect(printed).toHaveLength(1);
    const key = /cm_[A-Za-z0-9_-]{43}$/.exec(printed[0]!)![0];
    expect(JSON.stringify(router.seen)).not.toContain(key);
    const again = start(router);
    await settle();
    expect(again.printed).toEqual([]);
  });

  it("is not made where keys are off or configured, nor by any but the first of the first members", async () => {
    for (const overrides of [{ requireApiKey: false }, { apiKeys: ["a configured key of ours"] as never[] }, { nodeName: "bob" }]) {
      const router = new TableRouter({});
      const { printed } = start(router, overrides);
      await settle();
      expect([printed, router.seen]).toEqual([[], []]);
    }
  });

  it("waits for a quorum, and gives up with a sentence on anything else", async () => {
    const retries: (() => void)[] = [];
    const system = new (class extends TestSystem {
      override after(_ms?: number, run?: () => void): () => void {
        if (run !== undefined) retries.push(run);
        return () => {};
      }
    })();
    let away = true;
    const router = new TableRouter({
      list_keys: () => {
        if (away) throw new ApiError("no_quorum", "Not yet.");
        return { keys: [] };
      },
    });
    const { printed } = start(router, {}, system);
    await settle();
    expect([printed.length, retries.length]).toEqual([0, 1]);
    away = false;
    retries[0]!();
    await settle();
    expect(printed).toHaveLength(1);
    const broken = start(
      new TableRouter({
        list_keys: () => {
          throw new Error("disk");
        },
      }),
    );
    await settle();
    expect(broken.errors).toHaveLength(1);
  });
});
