import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { type Document, decodeDocument, encodeDocument } from "../../node/memory/document.ts";
import { MemoryIndex } from "../../node/memory/memory-index.ts";
import type { StatsAnswer } from "../../node/memory/overview.ts";
import type { RecallAnswer } from "../../node/memory/recalled.ts";
import type { RememberAnswer } from "../../node/memory/remember.ts";
import { TenantIndex } from "../../node/memory/tenant-index.ts";
import type { IndexRow, RecordChange } from "../../node/ports.ts";
import { partitionOf } from "../../protocol/layout.ts";
import { Memory } from "./memory-fixture.ts";

const fact = (memory: Memory, content: string): readonly RecordChange[] =>
  memory.apply(memory.decide("remember", { entity: "Whale", content }).contributions);
const everything = (memory: Memory): unknown[] => [
  memory.read("stats"),
  memory.read("entities", { limit: 100 }),
  memory.read("messages", { limit: 100 }),
  memory.read("list_memories", { limit: 100 }),
  memory.read<RecallAnswer>("recall", { message: "What about the Whale and Falcon?", max_memories: 50 }).memories,
];

async function filled(): Promise<Memory> {
  const memory = await Memory.open();
  for (let i = 0; i < 12; i++) {
    memory.write("learn", { user_message: `Falcon and Merlin ${i}?`, ai_response: `I will see Number${i}x.`, metadata: { session_id: `s${i % 4}` } });
    memory.write("remember", { entity: "Whale", content: `Fact ${i} about Falcon`, metadata: { session_id: `s${i % 3}` } });
  }
  const { id } = memory.write<RememberAnswer>("remember", { entity: "Gone", content: "Gone soon" });
  memory.write("forget_memory", { id });
  memory.write("delete_concept", { name: "Number3x" });
  return memory;
}

describe("loading", () => {
  it("from stored rows gives what following every commit gave", async () => {
    const memory = await filled();
    const followed = everything(memory);
    memory.index.dropped(partitionOf("alice"));
    await memory.ready();
    expect(everything(memory)).toEqual(followed);
  });

  it("neither loses nor doubles what is committed while the rows are read", async () => {
    const memory = await filled();
    memory.index.dropped(partitionOf("alice"));
    const before = fact(memory, "committed before the load, told during it");
    const gate = Promise.withResolvers<void>();
    const scan = memory.scan();
    let scans = 0;
    const loading = memory.index.ready("alice", async function* (prefix: string) {
      const rows: IndexRow[] = [];
      for await (const row of scan(prefix)) rows.push(row);
      if (scans++ === 0) await gate.promise;
      yield* rows;
    });
    const again = memory.index.ready("alice", memory.scan());
    await new Promise((done) => setImmediate(done));
    memory.index.committed(before);
    const late = fact(memory, "committed after the snapshot");
    memory.index.committed(late);
    const deleted = memory.apply([{ op: "delete", kind: "memory", id: late.find(({ kind }) => kind === "memory")!.id }]);
    memory.index.committed(deleted);
    memory.index.committed(fact(memory, "the last one"));
    expect(memory.index.tenant("alice")).toBeUndefined();
    gate.resolve();
    await Promise.all([loading, again]);
    const during = everything(memory);
    expect(memory.read<StatsAnswer>("stats").memories).toBe(14);
    memory.index.dropped(partitionOf("alice"));
    await memory.ready();
    expect(everything(memory)).toEqual(during);
  });

  it("begins again when the rows are replaced as a whole meanwhile, for whoever waits", async () => {
    const [before, after] = [await filled(), await Memory.open()];
    fact(after, "in the copy that took its place");
    before.index.dropped(partitionOf("alice"));
    const gate = Promise.withResolvers<void>();
    let current = before;
    const scan = async function* (prefix: string): AsyncGenerator<IndexRow> {
      const rows = current.scan()(prefix);
      if (current === before) await gate.promise;
      yield* rows;
    };
    const [first, second] = [before.index.ready("alice", scan), before.index.ready("alice", scan)];
    await new Promise((done) => setImmediate(done));
    current = after;
    before.index.dropped(partitionOf("alice"));
    const third = before.index.ready("alice", scan);
    gate.resolve();
    await Promise.all([first, second, third]);
    expect(before.index.tenant("alice")?.documents).toBe(1);
  });

  it("is of the tenants of the partition alone", async () => {
    const memory = await filled();
    const tenants = ["alice", "bob", "carol"];
    const none = async function* (): AsyncGenerator<IndexRow> {};
    for (const tenant of tenants) await memory.index.ready(tenant, none);
    memory.index.dropped(partitionOf("bob"));
    expect(tenants.map((tenant) => memory.index.tenant(tenant) !== undefined)).toEqual([true, false, true]);
  });

  it("that fails says so, and can be tried again", async () => {
    const memory = await filled();
    memory.index.dropped(partitionOf("alice"));
    // biome-ignore lint/correctness/useYield: it fails before it yields
    const broken = memory.index.ready("alice", async function* () {
      throw new Error("disk");
    });
    await expect(broken).rejects.toThrow("disk");
    await memory.ready();
    expect(memory.read<StatsAnswer>("stats").memories).toBe(12);
  });

  it("refuses rows of a format it does not know", async () => {
    const memory = await filled();
    memory.index.dropped(partitionOf("alice"));
    const key = [...memory.rows.keys()].find((name) => name.startsWith("d/"))!;
    memory.rows.set(key, new TextEncoder().encode("9\u001fwhatever"));
    await expect(memory.ready()).rejects.toThrow("format 9");
  });
});

describe("following commits", () => {
  it("ignores tenants that are not loaded", () => {
    const memory = new Memory();
    memory.index.committed(fact(memory, "nobody asked yet"));
    expect(memory.index.tenant("alice")).toBeUndefined();
  });

  it("changes nothing when told twice", async () => {
    const memory = await filled();
    const changes = fact(memory, "told twice");
    memory.index.committed(changes);
    const once = everything(memory);
    memory.index.committed(changes);
    expect(everything(memory)).toEqual(once);
  });

  it("stores one row a memory, and none for what counts up only", async () => {
    const memory = await Memory.open();
    const keys = (changes: readonly RecordChange[]): string[] => changes.flatMap((change) => memory.index.rows(change)).map(({ key }) => key[0]!);
    expect(keys(fact(memory, "seen with Falcon")).sort()).toEqual(["c", "c", "d", "l"]);
    expect(keys(fact(memory, "seen with Falcon again")).sort()).toEqual(["d", "l"]);
    expect(keys(fact(memory, "seen with Falcon once more"))).toEqual(["d"]);
  });
});

describe("memory of the process", () => {
  it("drops the tenants used longest ago above its budget, never the latest 16", async () => {
    const index = new MemoryIndex(20);
    const tenants: Memory[] = [];
    for (let i = 0; i < 20; i++) {
      const memory = new Memory({ tenant: `t${i}`, index });
      for (let n = 0; n < 2; n++) fact(memory, `fact ${n}`);
      tenants.push(memory);
      await memory.ready();
      if (i === 10) await tenants[0]!.ready();
    }
    const loaded = tenants.map((memory) => index.tenant(memory.tenant) !== undefined);
    expect(loaded.slice(0, 5)).toEqual([true, false, false, false, false]);
    expect(loaded.filter(Boolean)).toHaveLength(16);
  });

  it("gives slots and numbers again after many edits", async () => {
    const memory = await Memory.open();
    const { id } = memory.write<RememberAnswer>("remember", { entity: "Whale", content: "first" });
    for (let i = 0; i < 1_500; i++) memory.write("edit_memory", { id, content: `version${i}`, replace: false });
    const index = memory.index.tenant("alice") as TenantIndex;
    expect(index.documents).toBe(1);
    expect(index.slots).toBeLessThan(1_100);
    expect([...index.terms.keys()].sort()).toEqual(["version1499", "whale"].sort());
    expect(memory.read<RecallAnswer>("recall", { message: "version1499" }).memories[0]?.id).toBe(id);
  });
});

describe("a stored row", () => {
  const name = fc.stringMatching(/^[a-z0-9 é東-]{1,20}$/);
  const document: fc.Arbitrary<Document> = fc
    .record({
      kind: fc.constantFrom("turn" as const, "memory" as const),
      id: fc.constant("mem_1"),
      at: fc.tuple(fc.nat(), fc.nat()),
      time: fc.integer(),
      session: fc.string({ unit: "binary" }),
      instance: fc.string({ unit: "grapheme" }),
      entity: fc.oneof(fc.constant(""), name),
      concepts: fc.array(name),
      decisions: fc.nat(20),
      asks: fc.boolean(),
      length: fc.nat(),
      weighed: fc.array(fc.tuple(fc.stringMatching(/^[a-z0-9東]{1,10}$/), fc.integer({ min: 1, max: 2 ** 26 }))),
    })
    .map(({ weighed, ...rest }) => ({ ...rest, terms: weighed.map(([term]) => term), frequencies: weighed.map(([, frequency]) => frequency) }));

  it("holds the whole document, whatever the client put into it", () => {
    fc.assert(
      fc.property(document, (one) => {
        expect(decodeDocument(one.id, encodeDocument(one))).toEqual(one);
      }),
    );
  });
});

describe("the order of arrival", () => {
  it("does not show: sessions, neighbours and averages depend on the set alone", () => {
    const document = fc.record({ n: fc.nat(30), session: fc.constantFrom("", "a", "b"), length: fc.integer({ min: 1, max: 9 }), asks: fc.boolean() });
    fc.assert(
      fc.property(fc.uniqueArray(document, { selector: ({ n }) => n, maxLength: 12 }), fc.infiniteStream(fc.nat(11)), (all, order) => {
        const build = (list: typeof all): TenantIndex => {
          const index = new TenantIndex();
          for (const { n, session, length, asks } of list) {
            index.putDocument({
              kind: "memory",
              id: `m${n}`,
              at: [n, 0],
              time: n,
              session,
              instance: "",
              entity: "",
              concepts: [],
              decisions: 0,
              asks,
              length,
              terms: ["x"],
              frequencies: [1],
            });
          }
          return index;
        };
        const shuffled = all.map((one) => ({ one, key: order.next().value as number })).sort((a, b) => a.key - b.key);
        const straight = build(all);
        const other = build(shuffled.map(({ one }) => one));
        for (const { n } of all.slice(0, 3)) {
          straight.removeDocument(`m${n}`);
          other.removeDocument(`m${n}`);
        }
        const chain = (index: TenantIndex): unknown[] =>
          index.memories.items.map((entry) => [entry.document.id, entry.previous?.document.id, entry.next?.document.id]);
        expect(chain(other)).toEqual(chain(straight));
        expect(other.averageLengthWithContext).toBeCloseTo(straight.averageLengthWithContext, 9);
        expect(other.averageLength).toBeCloseTo(straight.averageLength, 9);
      }),
    );
  });
});
