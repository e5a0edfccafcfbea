import { describe, expect, it } from "vitest";
import type { EntitiesAnswer, GraphAnswer } from "../../node/memory/concepts.ts";
import type { MemoriesAnswer } from "../../node/memory/memories.ts";
import type { MessagesAnswer } from "../../node/memory/messages.ts";
import type { DecisionsAnswer, SessionsAnswer } from "../../node/memory/overview.ts";
import { Memory, MONTH_MS } from "./memory-fixture.ts";

async function withTalk(): Promise<Memory> {
  const memory = await Memory.open();
  for (let i = 1; i <= 5; i++) {
    memory.write("learn", {
      user_message: `Question ${i}: is Kubernetes running?`,
      ai_response: `Answer ${i}. I will restart it. We chose plan ${i}.`,
      metadata: { session_id: i <= 3 ? "early" : "late", instance_id: i % 2 === 0 ? "even" : "odd", timestamp: `2026-02-0${i}T12:00:00Z` },
    });
  }
  return memory;
}

describe("messages", () => {
  it("come newest first, numbered within their instance, with a true total", async () => {
    const memory = await withTalk();
    const page = memory.read<MessagesAnswer>("messages", { limit: 3, offset: 1 });
    expect(page.total).toBe(10);
    expect(page.messages.map(({ role, content, message_number, instance_id }) => [role, content.slice(0, 10), message_number, instance_id])).toEqual([
      ["user", "Question 5", 5, "odd"],
      ["assistant", "Answer 4. ", 4, "even"],
      ["user", "Question 4", 3, "even"],
    ]);
    expect(page.messages[0]).toMatchObject({ timestamp: "2026-02-05T12:00:00.000Z", metadata: { session_id: "late" }, tenant_id: "alice" });
    expect(page.messages[0]?.id).toMatch(/^turn_\d+:user$/);
    expect(memory.read<MessagesAnswer>("messages", { limit: 5, offset: 10 }).messages).toEqual([]);
  });

  it.each([
    [{ keyword: "answer 4" }, 1],
    [{ keyword: "restarted" }, 5],
    [{ keyword: "KUBERN" }, 5],
    [{ keyword: "running", role: "assistant" }, 0],
    [{ role: "user" }, 5],
    [{ session_id: "late" }, 4],
    [{ start_date: "2026-02-02", end_date: "2026-02-03" }, 4],
    [{ keyword: "is" }, 5],
    [{ keyword: "absent" }, 0],
    [{}, 10],
  ])("are listed and found by %j: %i", async (args, total) => {
    const memory = await withTalk();
    for (const operation of ["messages", "search_messages"]) {
      const answer = memory.read<MessagesAnswer>(operation, { limit: 2, ...args });
      expect(answer.total).toBe(total);
      expect(answer.messages).toHaveLength(Math.min(2, total));
    }
  });
});

describe("sessions and decisions", () => {
  it("list sessions by their latest entry", async () => {
    const memory = await withTalk();
    memory.write("remember", { entity: "Note", content: "late fact", metadata: { session_id: "early", timestamp: "2026-02-01T13:00:00Z" } });
    const { sessions, total } = memory.read<SessionsAnswer>("sessions", { limit: 10 });
    expect(total).toBe(2);
    expect(sessions[0]).toEqual({ id: "early", first_at: "2026-02-01T12:00:00.000Z", last_at: "2026-02-03T12:00:00.000Z", turns: 3, memories: 1 });
  });

  it("list each decision once over pages, newest first", async () => {
    const memory = await withTalk();
    const seen: string[] = [];
    let cursor: string | null = null;
    do {
      const page: DecisionsAnswer = memory.read("decisions", { limit: 3, ...(cursor !== null && { cursor }) });
      expect(page.total).toBe(10);
      seen.push(...page.decisions.map(({ id }) => id));
      cursor = page.next_cursor;
    } while (cursor !== null);
    expect(new Set(seen).size).toBe(10);
    expect(memory.read<DecisionsAnswer>("decisions", { limit: 2, session_id: "early" })).toMatchObject({
      total: 6,
      decisions: [{ session_id: "early", turn_id: "turn_00002" }, {}],
    });
  });
});

describe("memories", () => {
  async function withFacts(): Promise<Memory> {
    const memory = await Memory.open();
    for (let i = 0; i < 7; i++)
      memory.write("remember", { entity: i % 2 === 0 ? "Even" : "Odd", content: `Fact ${i} about whales`, metadata: { session_id: `s${i % 3}` } });
    return memory;
  }

  it("page by cursor without moving when others come and go", async () => {
    const memory = await withFacts();
    const first = memory.read<MemoriesAnswer>("list_memories", { limit: 3 });
    expect(first.memories.map(({ content }) => content.slice(0, 6))).toEqual(["Fact 6", "Fact 5", "Fact 4"]);
    memory.write("remember", { entity: "New", content: "Fact 7" });
    memory.write("forget_memory", { id: first.memories[2]!.id });
    const next = memory.read<MemoriesAnswer>("list_memories", { limit: 3, cursor: first.next_cursor });
    expect(next.memories.map(({ content }) => content.slice(0, 6))).toEqual(["Fact 3", "Fact 2", "Fact 1"]);
    const last = memory.read<MemoriesAnswer>("list_memories", { limit: 3, cursor: next.next_cursor });
    expect(last).toMatchObject({ total: 7, next_cursor: null, memories: [{ content: "Fact 0 about whales" }] });
    expect(() => memory.read("list_memories", { limit: 3, cursor: "nonsense" })).toThrow(expect.objectContaining({ code: "bad_request" }));
  });

  it("filter by entity and session", async () => {
    const memory = await withFacts();
    expect(memory.read<MemoriesAnswer>("list_memories", { limit: 10, entity: "EVEN" }).total).toBe(4);
    expect(memory.read<MemoriesAnswer>("list_memories", { limit: 10, entity: "even", session_id: "s0" }).total).toBe(2);
  });

  it("are searched by words, best first, forgiving slips when asked to", async () => {
    const memory = await withFacts();
    const best = memory.write<{ id: string }>("remember", { entity: "Whale", content: "Whales, whales and a whale" });
    const search = (args: object): MemoriesAnswer => memory.read<MemoriesAnswer>("search_memories", { limit: 5, ...args });
    const first = search({ query: "whale" });
    expect(first).toMatchObject({ total: 8, memories: [{ id: best.id }, {}, {}, {}, {}] });
    const rest = search({ query: "whale", cursor: first.next_cursor });
    expect(rest.memories).toHaveLength(3);
    expect(new Set([...first.memories, ...rest.memories].map(({ id }) => id)).size).toBe(8);
    expect(search({ query: "whael" }).total).toBe(0);
    expect(search({ query: "whael", fuzzy: true }).total).toBe(8);
    expect(search({ query: "shark", fuzzy: true }).total).toBe(0);
  });
});

describe("the graph", () => {
  it("lists entities newest first, by type, each once", async () => {
    const memory = await Memory.open();
    memory.write("learn", { user_message: "Dr. Jane Smith said so.", ai_response: "Kubernetes it is." });
    memory.write("learn", { user_message: "Project Falcon uses Kubernetes.", ai_response: "Right." });
    const all = memory.read<EntitiesAnswer>("entities", { limit: 2 });
    expect(all.total).toBe(3);
    expect(all.entities[0]).toEqual({ name: "Project Falcon", type: "project", description: "", created_at: "2026-01-01T00:00:02.000Z" });
    expect(memory.read<EntitiesAnswer>("entities", { limit: 9, entity_type: "person" })).toMatchObject({
      total: 1,
      entities: [{ name: "Jane Smith" }],
    });
    expect(memory.read<EntitiesAnswer>("entities", { limit: 9, offset: 2 }).entities).toHaveLength(1);
  });

  it("describes and spells a concept anew, but does not make it another", async () => {
    const memory = await Memory.open();
    memory.write("remember", { entity: "leveldb", content: "A store." });
    memory.write("patch_concept", { name: "LEVELDB", new_name: "LevelDB", type: "tool", description: "keeps keys in order" });
    expect(memory.read("concept", { name: "leveldb" })).toMatchObject({
      name: "LevelDB",
      type: "tool",
      description: "keeps keys in order",
      occurrences: 1,
      memories: 1,
    });
    memory.write("remember", { entity: "LEVELDB", content: "Another fact." });
    expect(memory.read("concept", { name: "leveldb" })).toMatchObject({ name: "LevelDB", occurrences: 2, memories: 2 });
    expect(() => memory.write("patch_concept", { name: "leveldb", new_name: "RocksDB" })).toThrow(expect.objectContaining({ code: "conflict" }));
    expect(() => memory.write("patch_concept", { name: "nobody", description: "x" })).toThrow(expect.objectContaining({ code: "not_found" }));
  });

  it("walks from a concept as deep as asked, over links that are still strong enough", async () => {
    const memory = await Memory.open();
    const tie = (a: string, b: string) => memory.write("learn", { user_message: `see ${a} with ${b}`, ai_response: "ok" });
    tie("Alpha", "Beta");
    memory.now += 4 * MONTH_MS;
    tie("Beta", "Gamma");
    tie("Gamma", "Delta");
    tie("Gamma", "Delta");
    const graph = (args: object): GraphAnswer => memory.read<GraphAnswer>("concept_graph", { name: "beta", limit: 50, ...args });
    expect(graph({ depth: 1 })).toMatchObject({
      nodes: [
        { name: "Beta", depth: 0 },
        { name: "Gamma", depth: 1 },
      ],
      edges: [{ source: "Beta", target: "Gamma", strength: 0.15, activations: 1 }],
    });
    const two = graph({ depth: 2 });
    expect(two.nodes.map(({ name }) => name)).toEqual(["Beta", "Gamma", "Delta"]);
    expect(two.edges[1]).toMatchObject({ source: "Delta", target: "Gamma", activations: 2, last_active: new Date(memory.now).toISOString() });
    expect(graph({ depth: 2, limit: 2 }).nodes).toHaveLength(2);
    expect(() => graph({ name: "nobody", depth: 1 })).toThrow(expect.objectContaining({ code: "not_found" }));
  });
});
