import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { openWith, sealWith } from "../../crypto/seal.ts";
import { FORWARD_TIMEOUT_MAX_MS, IDEMPOTENCY_KEY_MAX_CHARS } from "../../protocol/limits.ts";
import { alice, bob, carol, helloOf, keyring, TENANT, TENANT_ELSEWHERE, WiredNode } from "./wired-node.ts";

const text = new TextEncoder();
const good = { operation: "stats", args: {}, tenant: TENANT, level: "one", key: "k", token: null, requestId: "r", timeoutMs: 1000 };

let node: WiredNode;
const unhandled: unknown[] = [];
const note = (error: unknown): void => void unhandled.push(error);
beforeEach(async () => {
  unhandled.length = 0;
  process.on("unhandledRejection", note);
  node = await WiredNode.start();
});
afterEach(async () => {
  await new Promise((done) => setTimeout(done, 20));
  process.off("unhandledRejection", note);
  // Any of these would have ended the process.
  expect([unhandled, node.fatal]).toEqual([[], undefined]);
  await node.stop();
});

let ids = 0;
/** @returns what bob is answered; undefined: nothing */
async function forwarded(value: unknown, raw?: Uint8Array): Promise<{ ok?: unknown; error?: { code: string; detail: string } } | undefined> {
  const id = ++ids;
  node.hear(bob, { type: "forward", id, sealed: raw ?? node.sealedFor(bob, id, text.encode(JSON.stringify(value))) });
  for (let waited = 0; waited < 40; waited++) {
    await new Promise((done) => setTimeout(done, 5));
    const answer = node.sentOf(bob, "forwarded").find((one) => one.id === id);
    if (answer !== undefined)
      return JSON.parse(new TextDecoder().decode(openWith(keyring, "forward", answer.sealed, text.encode(`${id} ${alice.node} ${bob.node}`))));
  }
  return undefined;
}
const refusals = (reason: string): number => node.counts.get(`connection_error:${reason}`) ?? 0;

describe("a request that another node forwards", () => {
  it("is executed when it is one", async () => {
    expect(await forwarded(good)).toMatchObject({ ok: { level: "one", node: "alice", value: { memories: 0 } } });
    expect(refusals("malformed")).toBe(0);
  });

  it.each([
    ["null", null],
    ["a number", 5],
    ["a list", [1, 2]],
    ["nothing in it", {}],
    ["no operation", { ...good, operation: undefined }],
    ["an operation that is a number", { ...good, operation: 5 }],
    ["a level that does not exist", { ...good, level: "most" }],
    ["a time that is over", { ...good, timeoutMs: 0 }],
    ["no time", { ...good, timeoutMs: "1000" }],
    ["more time than FORWARD_TIMEOUT_MAX_MS", { ...good, timeoutMs: FORWARD_TIMEOUT_MAX_MS + 1 }],
    ["time without end", { ...good, timeoutMs: 1e308 }],
    ["a key over its bound", { ...good, key: "k".repeat(IDEMPOTENCY_KEY_MAX_CHARS + 1) }],
    ["a token that is a list", { ...good, token: [] }],
  ])("is not answered, but counted, when it is %s", async (_what, value) => {
    expect(await forwarded(value)).toBeUndefined();
    expect(refusals("malformed")).toBe(1);
    expect(node.lines.filter(({ message }) => message === "a peer's message was refused")).toHaveLength(1);
  });

  it("may wait as long as FORWARD_TIMEOUT_MAX_MS", async () => {
    expect(await forwarded({ ...good, timeoutMs: FORWARD_TIMEOUT_MAX_MS })).toHaveProperty("ok");
  });

  it("is counted when it is not JSON, or not sealed for this node", async () => {
    expect(await forwarded(undefined, node.sealedFor(bob, ids + 1, text.encode("{")))).toBeUndefined();
    expect(refusals("malformed")).toBe(1);
    const forCarol = sealWith(
      keyring,
      "forward",
      node.nonce(),
      text.encode(JSON.stringify(good)),
      text.encode(`${ids + 1} ${bob.node} node-of-carol`),
    );
    expect(await forwarded(undefined, forCarol)).toBeUndefined();
    expect(refusals("foreign")).toBe(1);
  });

  it.each([
    ["an operation that nobody knows", { operation: "explode" }],
    ["an operation that is a name of Object", { operation: "constructor" }],
    ["no arguments", { args: null }],
    ["a text that is an object", { operation: "remember", args: { entity: "a", content: { toString: 1 } } }],
    ["a text that is a number", { operation: "learn", args: { user_message: 1, ai_response: "b" } }],
    ["half a surrogate", { operation: "remember", args: { entity: "a", content: "\ud800" } }],
    ["a name with control characters", { operation: "remember", args: { entity: "a\u001fb", content: "c" } }],
    ["metadata that is a list", { operation: "remember", args: { entity: "a", content: "b", metadata: [] } }],
    ["a limit below nothing", { operation: "messages", args: { limit: -1 } }],
    ["a depth beyond what HTTP lets through", { operation: "concept_graph", args: { name: "a", depth: 1e9, limit: 10 } }],
    ["a hash that is a name of Object", { operation: "find_key", args: { hash: "__proto__" } }],
  ])("is refused before anything is decided on it, with %s", async (_what, fields) => {
    expect(await forwarded({ ...good, ...fields })).toMatchObject({ error: { code: "bad_request" } });
    expect(refusals("malformed")).toBe(1);
  });

  it("is refused with metadata nested without end, and no stack overflows", async () => {
    const nested = `${'{"a":'.repeat(200_000)}1${"}".repeat(200_000)}`;
    const request = JSON.stringify({ ...good, operation: "remember", args: { entity: "a", content: "b", metadata: 0 } });
    const answer = await forwarded(undefined, node.sealedFor(bob, ids + 1, text.encode(request.replace('"metadata":0', `"metadata":${nested}`))));
    expect(answer).toMatchObject({ error: { code: "bad_request" } });
  });

  it("is refused for a tenant that is none", async () => {
    expect(await forwarded({ ...good, tenant: "a/b" })).toMatchObject({ error: { code: "bad_request" } });
  });
});

describe("an answer to a request that was forwarded", () => {
  const outcome = { value: {}, level: "one", acks: { replicas: 1, witnesses: 0 }, token: "abc", node: "bob" };
  const sealedFrom = (id: number, value: unknown): Uint8Array =>
    sealWith(keyring, "forward", node.nonce(), text.encode(JSON.stringify(value)), text.encode(`${id} ${bob.node} ${alice.node}`));
  const askBob = async (answer: unknown): Promise<unknown> => {
    node.connection(carol, false);
    const asked = node.ask("stats", {}, { tenant: TENANT_ELSEWHERE, timeoutMs: 300 }).catch((error: Error & { code?: string }) => error.code);
    const request = node.sentOf(bob, "forward").at(-1)!;
    node.hear(bob, { type: "forwarded", id: request.id, sealed: sealedFrom(request.id, answer) });
    return asked;
  };

  it("is relayed when it is one, and a refusal is one", async () => {
    expect(await askBob({ ok: { ...outcome, value: { memories: 7 } } })).toEqual({ memories: 7 });
    expect(await askBob({ error: { code: "not_found", detail: "no" } })).toBe("not_found");
    expect(refusals("malformed")).toBe(0);
  });

  it.each([
    ["null", null],
    ["a number", 5],
    ["neither", {}],
    ["a refusal of an unknown code", { error: { code: "toString", detail: "" } }],
    ["a refusal without a sentence", { error: { code: "not_found" } }],
    ["an outcome without acknowledgements", { ok: { ...outcome, acks: null } }],
    ["an outcome of a level that does not exist", { ok: { ...outcome, level: "most" } }],
    ["a token that breaks a header", { ok: { ...outcome, token: "a\r\nset-cookie: b" } }],
  ])("is counted and not taken, so that the request waits for another, when it is %s", async (_what, answer) => {
    expect(await askBob(answer)).toBe("no_quorum");
    expect(refusals("malformed")).toBe(1);
  });
});

describe("a request of which two replicas are, and one is silent", () => {
  const outcome = { value: { memories: 7 }, level: "one", acks: { replicas: 1, witnesses: 0 }, token: "abc", node: "somebody" };
  const asked = (member: typeof bob): number => node.sentOf(member, "forward").length;
  /** Answers what this member was asked last. */
  const answers = (member: typeof bob): void => {
    const { id } = node.sentOf(member, "forward").at(-1)!;
    const sealed = sealWith(
      keyring,
      "forward",
      node.nonce(),
      text.encode(JSON.stringify({ ok: outcome })),
      text.encode(`${id} ${member.node} ${alice.node}`),
    );
    node.hear(member, { type: "forwarded", id, sealed });
  };

  it("goes to the other first from then on, and to the silent one when there is no other, or once it has answered again", async () => {
    const first = node.ask("stats", {}, { tenant: TENANT_ELSEWHERE, timeoutMs: 1_200 });
    const [silent, other] = asked(bob) === 1 ? [bob, carol] : [carol, bob];
    expect([asked(silent), asked(other)]).toEqual([1, 0]);
    await vi.waitFor(() => expect(asked(other)).toBe(1), 2_000);
    answers(other);
    expect(await first).toEqual({ memories: 7 });

    const second = node.ask("stats", {}, { tenant: TENANT_ELSEWHERE });
    expect([asked(silent), asked(other)]).toEqual([1, 2]);
    answers(other);
    await second;

    node.connection(other, false);
    const third = node.ask("stats", {}, { tenant: TENANT_ELSEWHERE });
    expect(asked(silent)).toBe(2);
    answers(silent);
    await third;

    node.connection(other, true);
    node.hear(other, helloOf(other));
    const fourth = node.ask("stats", {}, { tenant: TENANT_ELSEWHERE });
    expect([asked(silent), asked(other)]).toEqual([3, 2]);
    answers(silent);
    await fourth;
  });
});
