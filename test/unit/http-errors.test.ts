import { connect } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { API_CODES, type ApiCode, ApiError } from "../../node/errors.ts";
import { HTTP_BODY_MAX_BYTES, PENDING_REQUESTS_MAX } from "../../protocol/limits.ts";
import { type Api, createApi, MEMORY } from "./http-api.ts";

const TURN = { user_message: "hello", ai_response: "hi" };

interface Problem {
  type: string;
  title: string;
  status: number;
  code: ApiCode;
  detail: string;
  errors?: { loc: (string | number)[]; msg: string; type: string }[];
}

/** Each refusal, wherever it comes from, has this shape. */
async function problem(
  api: Api,
  method: string,
  url: string,
  options: Parameters<Api["call"]>[2] = {},
): Promise<Problem & { headers: Record<string, unknown> }> {
  const answer = await api.call(method, url, options);
  expect(answer.headers["content-type"]).toBe("application/problem+json");
  expect(answer.headers["x-request-id"]).toMatch(/^[\w.:-]+$/);
  const found = answer.json as Problem;
  expect(found.status).toBe(answer.status);
  expect(API_CODES[found.code]).toBe(answer.status);
  expect(found.type).toBe(`urn:continuum:problem:${found.code}`);
  expect(found.detail).toMatch(/^[^\n]+\.$/);
  return { ...found, headers: answer.headers };
}

describe("what the framework refuses", () => {
  it("answers an unknown path with 404 and a known one under a wrong method with 405 and Allow", async () => {
    const api = await createApi();
    expect((await problem(api, "GET", "/v2/learn")).code).toBe("not_found");
    expect((await problem(api, "GET", "/")).code).toBe("not_found");
    const wrong = await problem(api, "PUT", "/v1/learn?consistency=one");
    expect([wrong.code, wrong.headers.allow]).toEqual(["method_not_allowed", "POST"]);
    expect((await problem(api, "POST", "/v1/memories/mem_1")).headers.allow).toBe("DELETE, GET, HEAD, PATCH, PUT");
    expect((await problem(api, "DELETE", "/v1/memories/")).headers.allow).toBe("GET, HEAD, POST");
    expect((await problem(api, "OPTIONS", "/v1/learn")).code).toBe("method_not_allowed");
  });

  it.each(["{", "", '{"user_message": "a",}', "nonsense", '{"__proto__": {"admin": true}, "user_message": "a", "ai_response": "b"}'])(
    "answers the body %j with a 4xx and never runs it",
    async (raw) => {
      const api = await createApi();
      const found = await problem(api, "POST", "/v1/learn", { raw, headers: { "content-type": "application/json" } });
      expect(found.code).toBe(raw === "" ? "validation_failed" : "bad_json");
      expect(api.router.seen).toEqual([]);
      expect(({} as Record<string, unknown>).admin).toBeUndefined();
    },
  );

  it("answers a constructor.prototype key with 400", async () => {
    const found = await problem(await createApi(), "POST", "/v1/learn", {
      raw: '{"metadata": {"constructor": {"prototype": {"x": 1}}}, "user_message": "a", "ai_response": "b"}',
    });
    expect(found.code).toBe("bad_json");
  });

  it("answers a body over the limit with 413, at the limit not", async () => {
    const api = await createApi();
    const room = HTTP_BODY_MAX_BYTES - JSON.stringify({ ...TURN, pad: "" }).length;
    expect((await api.call("POST", "/v1/learn", { body: { ...TURN, pad: "x".repeat(room) } })).status).toBe(200);
    expect((await problem(api, "POST", "/v1/learn", { body: { ...TURN, pad: "x".repeat(room + 1) } })).code).toBe("payload_too_large");
  });

  it.each(["text/plain", "application/x-www-form-urlencoded", "application/xml", "nonsense"])(
    "answers the content type %s with 415",
    async (type) => {
      expect((await problem(await createApi(), "POST", "/v1/learn", { raw: "a=b", headers: { "content-type": type } })).code).toBe(
        "unsupported_media_type",
      );
    },
  );

  it("answers a path that is no URL, or too long, with 400", async () => {
    const api = await createApi();
    expect((await problem(api, "GET", "/v1/concepts/%zz")).code).toBe("bad_request");
    expect([400, 404, 422]).toContain((await problem(api, "GET", `/v1/concepts/${"a".repeat(5000)}`)).status);
  });
});

describe("what the schemas refuse", () => {
  it("names every wrong field with its place, a sentence and a type", async () => {
    const found = await problem(await createApi(), "POST", "/v1/learn", { body: { user_message: "", thinking: 5, metadata: [] } });
    expect(found.code).toBe("validation_failed");
    expect(found.errors).toEqual(
      expect.arrayContaining([
        { loc: ["body", "ai_response"], msg: "is required", type: "missing" },
        { loc: ["body", "user_message"], msg: expect.any(String), type: "string_too_short" },
        { loc: ["body", "thinking"], msg: expect.any(String), type: "string_or_null_type" },
        { loc: ["body", "metadata"], msg: expect.any(String), type: "object_or_null_type" },
      ]),
    );
    expect(found.errors).toHaveLength(4);
  });

  it.each([
    ["POST", "/v1/learn", { user_message: 5, ai_response: "b" }],
    ["POST", "/v1/learn", []],
    ["POST", "/v1/learn", "text"],
    ["POST", "/v1/learn", null],
    ["POST", "/v1/learn", { ...TURN, consistency: "most" }],
    ["POST", "/v1/learn", { ...TURN, user_message: "x".repeat(200_001) }],
    ["POST", "/v1/recall", {}],
    ["POST", "/v1/recall", { message: "" }],
    ["POST", "/v1/recall", { query: "" }],
    ["POST", "/v1/recall", { message: "a", max_concepts: 0 }],
    ["POST", "/v1/recall", { message: "a", max_concepts: 101 }],
    ["POST", "/v1/recall", { message: "a", max_concepts: "10" }],
    ["POST", "/v1/recall", { message: "a", since: "yesterday" }],
    ["POST", "/v1/recall", { message: "a", since: "2026-13-41" }],
    ["POST", "/v1/memories", { entity: "a" }],
    ["POST", "/v1/memories", { entity: "", content: "b" }],
    ["POST", "/v1/memories", { entity: "a\u0000b", content: "b" }],
    ["POST", "/v1/memories", { entity: "a\u0001b", content: "b" }],
    ["POST", "/v1/memories", { entity: "half \ud83d", content: "b" }],
    ["POST", "/v1/memories", { entity: "x".repeat(501), content: "b" }],
    ["POST", "/v1/memories", { entity: "a", content: "b", metadata: { session_id: "a\nb" } }],
    ["POST", "/v1/memories", { entity: "a", content: "b", metadata: { pad: "x".repeat(64 * 1024) } }],
    ["PATCH", "/v1/memories/mem_1", {}],
    ["GET", "/v1/memories?limit=0", undefined],
    ["GET", "/v1/memories?limit=1001", undefined],
    ["GET", "/v1/memories?limit=1e3", undefined],
    ["GET", "/v1/memories?offset=-1", undefined],
    ["GET", "/v1/memories?consistency=most", undefined],
    ["GET", "/v1/messages?role=system", undefined],
    ["GET", "/v1/concepts/a/graph?depth=6", undefined],
    ["GET", "/v1/concepts/%00", undefined],
    ["POST", "/v1/keys", { tenant_id: "!system" }],
    ["POST", "/v1/keys", { tenant_id: "x".repeat(129) }],
    ["POST", "/v1/keys", { tenant_id: "bob", scope: "root" }],
    ["POST", "/v1/keys", { tenant_id: "bob", rate_limit: 5 }],
  ] as const)("%s %s %j is 422", async (method, url, body) => {
    const api = await createApi();
    const found = await problem(api, method, url, body === undefined ? {} : { body });
    expect(found.code).toBe("validation_failed");
    expect(found.errors?.length).toBeGreaterThan(0);
    expect(api.router.seen).toEqual([]);
  });

  it("accepts metadata of sixteen levels and refuses seventeen, or a hundred thousand", async () => {
    const api = await createApi();
    const nested = (levels: number): string => `{"entity":"a","content":"b","metadata":${'{"a":'.repeat(levels)}1${"}".repeat(levels)}}`;
    expect((await api.call("POST", "/v1/memories", { raw: nested(16) })).status).toBe(200);
    expect((await problem(api, "POST", "/v1/memories", { raw: nested(17) })).errors?.[0]?.type).toBe("too_deep");
    expect((await problem(api, "POST", "/v1/memories", { raw: nested(100_000) })).status).toBe(422);
  });

  it("answers an unknown entity type with 400, as CONTINUUM's clients expect, other faults of the query with 422", async () => {
    const api = await createApi();
    expect((await problem(api, "GET", "/v1/entities?entity_type=animal")).code).toBe("bad_request");
    expect((await problem(api, "GET", "/v1/entities?limit=x")).code).toBe("validation_failed");
  });

  it.each([
    ["x-consistency", "most"],
    ["idempotency-key", ""],
    ["idempotency-key", "k".repeat(256)],
    ["idempotency-key", "tab\there"],
    ["x-continuum-frontier", "t".repeat(12_001)],
    ["x-tenant-id", "!system"],
  ])("refuses the header %s: %j with 422", async (name, value) => {
    const api = await createApi();
    const found = await problem(api, "POST", "/v1/learn", { body: TURN, headers: { [name]: value } });
    expect(found.errors?.[0]?.loc).toEqual(["header", name]);
    expect(api.router.seen).toEqual([]);
  });
});

describe("what the memory refuses", () => {
  it.each(["not_found", "conflict", "idempotency_key_reused", "no_quorum", "in_doubt", "catching_up", "clock_skew", "overloaded"] as const)(
    "passes %s on",
    async (code) => {
      const api = await createApi({
        answers: {
          get_memory: () => {
            throw new ApiError(code, "It is so.");
          },
        },
      });
      const found = await problem(api, "GET", "/v1/memories/mem_1");
      expect([found.code, found.detail]).toEqual([code, "It is so."]);
      expect(found.headers["retry-after"]).toBe(API_CODES[code] === 503 ? "1" : undefined);
    },
  );

  it("rounds Retry-After up to whole seconds", async () => {
    const api = await createApi({
      answers: {
        stats: () => {
          throw new ApiError("rate_limited", "Slowly.", { retryAfter: 2.2 });
        },
      },
    });
    expect((await problem(api, "GET", "/v1/stats")).headers["retry-after"]).toBe("3");
  });

  it("hides what it did not expect, and logs it under the request's id without the words of a parser", async () => {
    const api = await createApi({ answers: { stats: () => JSON.parse("my secret diary") } });
    const found = await problem(api, "GET", "/v1/stats", { headers: { "x-request-id": "r1" } });
    expect(found.code).toBe("internal");
    expect(JSON.stringify(found)).not.toMatch(/diary|node_modules|\.ts|SyntaxError/);
    expect(api.lines).toHaveLength(1);
    expect(api.lines[0]).toMatchObject({ level: "error", facts: { requestId: "r1", route: "/v1/stats", fault: { name: "SyntaxError" } } });
    expect(JSON.stringify(api.lines)).not.toContain("diary");
  });

  it("hides an answer that does not have the documented shape", async () => {
    const api = await createApi({ answers: { stats: () => ({ tenant_id: "default" }) } });
    expect((await problem(api, "GET", "/v1/stats")).code).toBe("internal");
  });

  it("refuses one request more than it may have under way", async () => {
    let release = (): void => {};
    const held = new Promise<void>((resolve) => {
      release = resolve;
    });
    const api = await createApi({ answers: { stats: () => held } });
    const waiting = Array.from({ length: PENDING_REQUESTS_MAX }, () => api.call("GET", "/v1/stats"));
    while (api.router.seen.length < PENDING_REQUESTS_MAX) await new Promise((resolve) => setImmediate(resolve));
    expect((await problem(api, "GET", "/v1/stats")).code).toBe("overloaded");
    release();
    await Promise.all(waiting);
    expect((await api.call("GET", "/v1/memories")).status).toBe(200);
  });
});

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((done) => setTimeout(done, 5));
}

describe("over a real socket", () => {
  let api: Api | undefined;
  afterEach(async () => {
    await api?.app.close();
    api = undefined;
  });

  async function say(text: string): Promise<string> {
    api ??= await createApi();
    if (api.app.server.listening === false) await api.app.listen({ host: "127.0.0.1", port: 0 });
    const { port } = api.app.server.address() as { port: number };
    return new Promise((resolve, reject) => {
      const socket = connect(port, "127.0.0.1", () => socket.write(text));
      let answer = "";
      socket.on("data", (part) => {
        answer += part;
        if (answer.includes("\r\n\r\n")) socket.end();
      });
      socket.on("close", () => resolve(answer));
      socket.on("error", reject);
    });
  }

  it("answers what is not HTTP with a problem", async () => {
    const answer = await say("GIBBERISH\r\n\r\n");
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain("application/problem+json");
    expect(answer).toContain('"code":"bad_request"');
  });

  it("answers too large headers with 431", async () => {
    const answer = await say(`GET /v1/health HTTP/1.1\r\nhost: x\r\nx-long: ${"y".repeat(20_000)}\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 431 /);
    expect(answer).toContain('"code":"headers_too_large"');
  });

  it("answers a length that does not match its body, and keeps serving", async () => {
    expect(
      await say("POST /v1/learn HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"),
    ).toMatch(/^HTTP\/1\.1 422 /);
    expect(await say("GET /v1/health HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).toMatch(/^HTTP\/1\.1 200 /);
  });

  it("refuses a body announced over the limit before it is sent", async () => {
    expect(
      await say(`POST /v1/learn HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: ${HTTP_BODY_MAX_BYTES + 1}\r\n\r\n{`),
    ).toMatch(/^HTTP\/1\.1 413 /);
  });

  it("answers a request whose end arrives while it closes as it would have before", async () => {
    const late = await createApi();
    await late.app.listen({ host: "127.0.0.1", port: 0 });
    const socket = connect((late.app.server.address() as { port: number }).port, "127.0.0.1");
    let answer = "";
    socket.on("data", (part) => {
      answer += part;
    });
    const ended = new Promise((done) => socket.once("close", done));
    socket.write("GET /v1/memories/mem_1 HTTP/1.1\r\nhost: x\r\n");
    await new Promise((done) => setTimeout(done, 50));
    const closed = late.app.close();
    await new Promise((done) => setTimeout(done, 50));
    socket.write("\r\n");
    await Promise.all([ended, closed]);
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer).toMatch(/connection: close/i);
  });

  it("closes although a client keeps the connection on which it was just answered", async () => {
    let answer = (): void => undefined;
    const held = new Promise<void>((done) => {
      answer = done;
    });
    const busy = await createApi({ answers: { get_memory: () => held.then(() => MEMORY) } });
    await busy.app.listen({ host: "127.0.0.1", port: 0 });
    const socket = connect((busy.app.server.address() as { port: number }).port, "127.0.0.1");
    const answered = new Promise((done) => socket.once("data", done));
    socket.write("GET /v1/memories/mem_1 HTTP/1.1\r\nhost: x\r\n\r\n");
    await until(() => busy.router.seen.length > 0);
    const begun = performance.now();
    const closed = busy.app.close();
    await new Promise((done) => setTimeout(done, 50));
    answer();
    await Promise.all([answered, closed]);
    expect(performance.now() - begun).toBeLessThan(5_000);
    socket.destroy();
  });

  it("gives slow clients a bounded time", async () => {
    api = await createApi();
    expect([api.app.server.headersTimeout, api.app.server.requestTimeout, api.app.server.keepAliveTimeout]).toEqual([10_000, 60_000, 72_000]);
  });
});

describe("origins of other web pages", () => {
  it("are closed unless named", async () => {
    const closed = await createApi();
    expect(
      (await closed.call("GET", "/v1/health", { headers: { origin: "https://a.example" } })).headers["access-control-allow-origin"],
    ).toBeUndefined();
    const open = await createApi({ config: { corsOrigins: ["https://a.example"] } });
    const allowed = await open.call("OPTIONS", "/v1/learn", { headers: { origin: "https://a.example", "access-control-request-method": "POST" } });
    expect([allowed.status, allowed.headers["access-control-allow-origin"]]).toEqual([204, "https://a.example"]);
    expect((await open.call("GET", "/v1/health", { headers: { origin: "https://evil.example" } })).headers["access-control-allow-origin"]).not.toBe(
      "https://evil.example",
    );
    expect((await problem(open, "GET", "/nowhere", { headers: { origin: "https://a.example" } })).headers["access-control-allow-origin"]).toBe(
      "https://a.example",
    );
  });
});
