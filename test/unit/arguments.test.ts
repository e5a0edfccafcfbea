import { describe, expect, it } from "vitest";
import { acceptsArguments, OPERATIONS_WITH_SHAPES } from "../../node/arguments.ts";
import { keyOperations } from "../../node/keys.ts";
import { layoutOperations } from "../../node/layout-queue.ts";
import { MemoryIndex } from "../../node/memory/memory-index.ts";
import { createOperations, DEFAULT_SETTINGS } from "../../node/memory/operations.ts";
import { revocationOperations } from "../../node/revocations.ts";
import { ENTITY_MAX_CHARS, METADATA_DEPTH_MAX, TEXT_MAX_CHARS } from "../../protocol/limits.ts";
import { createApi } from "./http-api.ts";

const text = "x".repeat(TEXT_MAX_CHARS);
const name = "n".repeat(ENTITY_MAX_CHARS);
const nested = (depth: number): object => (depth === 1 ? {} : { in: nested(depth - 1) });
const metadata = { session_id: "s", half: "\ud800", ...nested(METADATA_DEPTH_MAX) };
const span = { since: "2026-11-21T12:00:00.123456789+01:00", until: "2026-11-22", session_id: name };
const query = (fields: Record<string, string | number>): string =>
  new URLSearchParams(Object.entries(fields).map(([key, value]) => [key, String(value)])).toString();

/** The most that HTTP lets through, of every route that reaches an operation. */
const REQUESTS: readonly (readonly [method: string, url: string, body?: object])[] = [
  ["POST", "/v1/learn", { user_message: text, ai_response: `${text.slice(1)}\ud800`, thinking: text, metadata }],
  ["POST", "/v1/turn", { user_message: "a", ai_response: "b" }],
  ["POST", "/v1/recall", { message: text, max_concepts: 100, max_memories: 100, max_tokens: 1_000_000, ...span }],
  ["POST", "/v1/memories", { entity: name, content: text, metadata }],
  ["POST", "/v1/memories/batch", { memories: [{ entity: name, content: text, metadata }] }],
  ["PUT", "/v1/memories/mem_1", { entity: name, content: text, metadata }],
  ["PATCH", "/v1/memories/mem_1", { content: text }],
  ["GET", `/v1/memories/${"m".repeat(200)}`],
  ["DELETE", "/v1/memories/mem_1"],
  ["GET", `/v1/memories?${query({ limit: 1000, offset: 1_000_000_000, cursor: "c".repeat(1024), entity: name, ...span })}`],
  ["POST", "/v1/memories/search", { query: text, fuzzy: true, entity: name, metadata, limit: 1000, cursor: "c".repeat(1024), ...span }],
  ["GET", `/v1/entities?${query({ limit: 1000, offset: 5, entity_type: "person" })}`],
  ["GET", `/v1/concepts/${name}`],
  ["GET", `/v1/concepts/${name}/graph?depth=5&limit=1000`],
  ["GET", `/v1/messages?${query({ limit: 1000, keyword: "tea", start_date: "2026-11-21", end_date: "2026-11-22", session_id: name, role: "user" })}`],
  ["POST", "/v1/messages/search", { limit: 1000, offset: 1_000_000_000, keyword: text, role: "assistant" }],
  ["GET", "/v1/stats"],
  ["GET", `/v1/sessions?${query({ limit: 1000, since: span.since })}`],
  ["GET", `/v1/decisions?${query({ limit: 1000, ...span })}`],
  ["POST", "/v1/keys", { tenant_id: "alice", name, scope: "admin", expires_at: "2027-01-01T00:00:00+01:00" }],
  ["GET", "/v1/keys"],
  ["GET", "/v1/tenants"],
  ["DELETE", "/v1/keys/key_0123456789abcdef"],
];

describe("the arguments of an operation", () => {
  it("have a shape for every operation there is, and no other", () => {
    const operations = { ...createOperations(new MemoryIndex(), DEFAULT_SETTINGS), ...keyOperations, ...layoutOperations, ...revocationOperations };
    expect([...OPERATIONS_WITH_SHAPES].sort()).toEqual(Object.keys(operations).sort());
  });

  it.each(REQUESTS.map(([method, url, body]) => [method, url, body] as const))(
    "are taken from another node as HTTP takes them from a client: %s %s",
    async (method, url, body) => {
      const api = await createApi();
      await api.call(method, url, body === undefined ? {} : { body });
      const seen = api.router.seen.filter(({ operation }) => operation !== "find_key");
      expect(seen.length).toBeGreaterThan(0);
      for (const { operation, args } of seen)
        expect([operation, acceptsArguments(operation, JSON.parse(JSON.stringify(args)))]).toEqual([operation, true]);
    },
  );

  it("may have fields that a newer node knows", () => {
    expect(acceptsArguments("stats", { as_of: "2026-11-21" })).toBe(true);
  });
});
