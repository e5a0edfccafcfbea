import { deepStrictEqual } from "node:assert";
import { describe, expect, it } from "vitest";
import type { LearnAnswer } from "../../node/memory/learn.ts";
import type { MemoriesAnswer } from "../../node/memory/memories.ts";
import type { StatsAnswer } from "../../node/memory/overview.ts";
import type { RecallAnswer } from "../../node/memory/recalled.ts";
import type { ForgetAnswer, RememberAnswer } from "../../node/memory/remember.ts";
import type { MemoryAnswer } from "../../node/memory/tenant-view.ts";
import { Memory } from "./memory-fixture.ts";

async function withFact(metadata?: object): Promise<{ memory: Memory; id: string }> {
  const memory = await Memory.open();
  const { id } = memory.write<RememberAnswer>("remember", { entity: "Oslo", content: "Oslo lies at a fjord.", ...(metadata && { metadata }) });
  return { memory, id };
}
const get = (memory: Memory, id: string): MemoryAnswer => memory.read<MemoryAnswer>("get_memory", { id });
const found = (memory: Memory, message: string): string[] => memory.read<RecallAnswer>("recall", { message }).memories.map((one) => one.id);

describe("correcting a fact", () => {
  it("answers the memory as it is afterwards, and search follows", async () => {
    const { memory, id } = await withFact({ source: "map" });
    const edited = memory.write<MemoryAnswer>("edit_memory", { id, content: "Oslo hosts Kubernetes meetups.", replace: false });
    expect(edited).toMatchObject({ id, entity: "Oslo", content: "Oslo hosts Kubernetes meetups.", metadata: { source: "map" }, tenant_id: "alice" });
    expect(edited).toEqual(get(memory, id));
    expect(edited.updated_at > edited.created_at).toBe(true);
    expect(found(memory, "fjord")).toEqual([]);
    expect(found(memory, "kubernetes")).toEqual([id]);
    expect(memory.read<{ memories: number }>("concept", { name: "Kubernetes" }).memories).toBe(1);
  });

  it("replaces everything on PUT, and merges metadata by key on PATCH", async () => {
    const { memory, id } = await withFact({ a: 1, b: 2 });
    expect(memory.write<MemoryAnswer>("edit_memory", { id, metadata: { b: null, c: 3 }, replace: false }).metadata).toEqual({ a: 1, c: 3 });
    const put = memory.write<MemoryAnswer>("edit_memory", { id, entity: "Bergen", content: "Rainy.", replace: true });
    expect(put).toMatchObject({ entity: "Bergen", content: "Rainy.", metadata: {} });
    expect(get(memory, id)).toEqual(put);
  });

  it("writes nothing when nothing is said", async () => {
    const { memory, id } = await withFact();
    const { contributions, answer } = memory.decide<MemoryAnswer>("edit_memory", { id, replace: false });
    expect(contributions).toEqual([]);
    expect(answer).toEqual(get(memory, id));
  });

  it("keeps what two people wrote without having seen each other, until an edit that saw both", async () => {
    const { memory, id } = await withFact();
    const before = memory.frontier;
    const edit = (content: string) => memory.decide<MemoryAnswer>("edit_memory", { id, content, replace: false }).contributions;
    memory.commit(edit("Oslo is old."), "bob", before);
    memory.commit(edit("Oslo is new."), "carol", before);
    expect(get(memory, id)).toMatchObject({ content: "Oslo is new.", conflicts: { content: ["Oslo is old."] } });
    expect(found(memory, "new")).toEqual([id]);
    memory.write("edit_memory", { id, metadata: { checked: true }, replace: false });
    expect(get(memory, id).conflicts).toEqual({ content: ["Oslo is old."] });
    expect(memory.write<MemoryAnswer>("edit_memory", { id, content: "Oslo is both.", replace: false })).not.toHaveProperty("conflicts");
    expect(get(memory, id)).not.toHaveProperty("conflicts");
  });
});

describe("forgetting", () => {
  it("takes a fact out of recall, lists, search and counts", async () => {
    const { memory, id } = await withFact();
    expect(memory.write<ForgetAnswer>("forget_memory", { id })).toEqual({ id, status: "deleted", tenant_id: "alice" });
    expect(found(memory, "fjord")).toEqual([]);
    expect(memory.read<MemoriesAnswer>("list_memories", { limit: 10 })).toEqual({ memories: [], total: 0, next_cursor: null });
    expect(memory.read<MemoriesAnswer>("search_memories", { query: "fjord", limit: 10 }).total).toBe(0);
    expect(memory.read<StatsAnswer>("stats").memories).toBe(0);
    expect([...memory.rows.keys()].filter((key) => key.startsWith("d/"))).toEqual([]);
    expect(() => get(memory, id)).toThrow(expect.objectContaining({ code: "not_found" }));
    expect(() => memory.write("forget_memory", { id })).toThrow(expect.objectContaining({ code: "not_found" }));
    expect(() => memory.write("edit_memory", { id, content: "x", replace: false })).toThrow(expect.objectContaining({ code: "not_found" }));
  });

  it("takes a turn out too, which can be looked up but not edited before", async () => {
    const memory = await Memory.open();
    const { turn_id } = memory.write<LearnAnswer>("learn", { user_message: "What about fjords?", ai_response: "I will visit one." });
    expect(get(memory, turn_id)).toMatchObject({ id: turn_id, content: "User: What about fjords?\nAssistant: I will visit one." });
    expect(() => memory.write("edit_memory", { id: turn_id, content: "x", replace: false })).toThrow(expect.objectContaining({ code: "conflict" }));
    memory.write("forget_memory", { id: turn_id });
    expect(found(memory, "fjords")).toEqual([]);
    expect(memory.read<StatsAnswer>("stats")).toMatchObject({ messages: 0, decisions: 0 });
  });

  it("of a concept lasts until it is mentioned again, and takes its links along", async () => {
    const memory = await Memory.open();
    memory.write("learn", { user_message: "How do Falcon and Merlin fit?", ai_response: "Well." });
    memory.write("delete_concept", { name: "FALCON" });
    expect(memory.read<StatsAnswer>("stats")).toMatchObject({ entities: 1, attention_links: 0 });
    expect(() => memory.read("concept", { name: "Falcon" })).toThrow(expect.objectContaining({ code: "not_found" }));
    memory.write("learn", { user_message: "And now Falcon with Merlin?", ai_response: "Better." });
    expect(memory.read<{ occurrences: number }>("concept", { name: "falcon" }).occurrences).toBe(1);
    expect(memory.read<StatsAnswer>("stats")).toMatchObject({ entities: 2, attention_links: 1, compound_concepts: 0 });
  });
});

describe("metadata is anybody's JSON", () => {
  const hostile = JSON.parse(
    '{"__proto__": {"admin": true}, "constructor": 1, "session_id": {"not": "text"}, "timestamp": "yesterday", "instance_id": 7, "\\u0000": "\\ud800", "deep": [[[{}]]]}',
  ) as object;

  it("comes back as it went in, and harms nothing", async () => {
    const { memory, id } = await withFact(hostile);
    deepStrictEqual(JSON.stringify(get(memory, id).metadata), JSON.stringify(hostile));
    expect(({} as { admin?: boolean }).admin).toBeUndefined();
    expect(memory.read<RecallAnswer>("recall", { message: "fjord" }).memories[0]).toMatchObject({ session_id: null, at: "2026-01-01T00:00:01.000Z" });
    const patched = memory.write<MemoryAnswer>("edit_memory", {
      id,
      metadata: JSON.parse('{"__proto__": null, "x": 1}') as object,
      replace: false,
    }).metadata;
    expect(Object.hasOwn(patched, "__proto__")).toBe(false);
    expect(patched).toMatchObject({ x: 1, constructor: 1 });
  });

  it("filters by own keys only, equal in depth whatever the order of keys", async () => {
    const { memory, id } = await withFact({ tags: [{ a: 1, b: 2 }] });
    const total = (metadata: object): number => memory.read<MemoriesAnswer>("list_memories", { limit: 5, metadata }).total;
    expect(total({ tags: [{ b: 2, a: 1 }] })).toBe(1);
    expect(total({ toString: null })).toBe(0);
    expect(total({})).toBe(1);
    expect(get(memory, id).metadata).toEqual({ tags: [{ a: 1, b: 2 }] });
  });

  it.each([
    ["2024-05-06T07:08:09Z", "2024-05-06T07:08:09.000Z"],
    ["2024-05-06T07:08:09", "2024-05-06T07:08:09.000Z"],
    ["2024-05-06", "2024-05-06T00:00:00.000Z"],
    [1_714_979_289, "2024-05-06T07:08:09.000Z"],
    [1_714_979_289_000, "2024-05-06T07:08:09.000Z"],
    [1e300, "2026-01-01T00:00:01.000Z"],
    ["+275760-09-14T00:00:00Z", "2026-01-01T00:00:01.000Z"],
  ])("a timestamp %j is %s", async (timestamp, at) => {
    const { memory } = await withFact({ timestamp });
    expect(memory.read<RecallAnswer>("recall", { message: "fjord" }).memories[0]?.at).toBe(at);
  });
});
