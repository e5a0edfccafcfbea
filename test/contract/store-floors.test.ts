import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { GraphIndex } from "../../node/ports.ts";
import { keys } from "../../node/store/keyspace.ts";
import type { Level } from "../../node/store/level-port.ts";
import { Store } from "../../node/store/store.ts";
import type { Delta } from "../../protocol/delta.ts";
import { applyDelta } from "../../protocol/graph/apply.ts";
import type { Contribution, Positions } from "../../protocol/graph/records.ts";
import { FLOOR_TOMBSTONES_MAX } from "../../protocol/limits.ts";
import { Author, DAY_MS, keyNamed, PARTITION, START_MS, TENANT, writerNamed } from "../unit/graph-executions.ts";
import { seal } from "../unit/replica-world.ts";
import { classicLevel, memoryLevel, type Subject, simulatedDisk, watched } from "./store-subjects.ts";

const index: GraphIndex = { rows: () => [], committed: () => undefined, ready: async () => undefined, dropped: () => undefined };
const random = (length: number) => new Uint8Array(length).fill(1);
const ANN = writerNamed("ann");
const memory = (id: string, chars = 1): Contribution => ({
  op: "memory",
  id,
  memory: { node: "n", session: "s", entity: "e", content: "c".repeat(chars), metadata: "{}", concepts: [] },
});
const gone = (id: string): Contribution => ({ op: "delete", kind: "memory", id });
const floor = (seq: number, erase: number, tombstones: string[] = []): Contribution => ({
  op: "floor",
  frontier: [[ANN, seq]],
  erase: erase === 0 ? [] : ([[ANN, erase]] as Positions),
  tombstones,
});
function take(store: Store, delta: Delta): void {
  store.staged.stage({ type: "delta", delta, changes: applyDelta(delta, store.staged, []) });
}

describe.each([
  ["classic-level", classicLevel],
  ["memory-level", memoryLevel],
  ["the simulated disk", () => simulatedDisk()],
] as const)("a floor in the store on %s", (_name, make) => {
  let subject: Subject;
  let db: Level;
  let store: Store;
  let ann: Author;

  beforeEach(async () => {
    subject = make();
    db = await subject.open();
    store = await Store.open(db, index, random);
    ann = new Author("ann");
  });
  afterEach(async () => {
    await db.close();
    subject.destroy();
  });
  const reopened = async (): Promise<void> => {
    db = await subject.reopen(db);
    store = await Store.open(db, index, random);
  };
  async function write(contributions: readonly Contribution[], days = 0): Promise<Delta> {
    const delta = ann.write(contributions, `key-${ann.own.length + 1}`, START_MS + days * DAY_MS) as Delta;
    take(store, delta);
    await store.flush();
    return delta;
  }
  const bodies = (): number[] =>
    ann.own.flatMap(({ header }) => {
      const value = db.getSync(keys.log(PARTITION, ANN, header.seq));
      return value !== undefined && value.length > 8 + new DataView(value.buffer, value.byteOffset + 4).getUint32(0) ? [header.seq] : [];
    });

  it("takes the tombstones it names and leaves keys and headers; bodies go up to where it says", async () => {
    const first = await write([memory("m"), memory("n")]);
    await write([gone("m"), gone("n")]);
    await write([memory("o")]);
    await write([floor(3, 2, ["memory/m"])]);
    expect(store.staged.record(TENANT, "tombstone", "memory/m")).toBeUndefined();
    expect(store.staged.record(TENANT, "tombstone", "memory/n")).toBeDefined();
    expect([store.staged.erasedTo(PARTITION, ANN), bodies()]).toEqual([2, [1, 2, 3, 4]]);
    expect([await store.eraseSome(), await store.eraseSome()]).toEqual([true, false]);
    expect(bodies()).toEqual([3, 4]);
    await reopened();
    expect([store.staged.erasedTo(PARTITION, ANN), await store.eraseSome()]).toEqual([2, false]);
    expect(store.staged.delta(PARTITION, ANN, 1)).toBeUndefined();
    expect(store.staged.deltaHeader(PARTITION, ANN, 1)).toEqual(first.header);
    expect(store.staged.deltaHeader(PARTITION, ANN, 9)).toBeUndefined();
    expect(store.staged.executions(PARTITION, keyNamed("key-1"))).toEqual([{ writer: ANN, seq: 1 }]);
    expect(await store.readLog(PARTITION, ANN, 1, 4, 1e6)).toEqual([]);
    expect(await store.readLog(PARTITION, ANN, 3, 4, 1e6)).toHaveLength(2);
  });

  it("gives the header of what is staged, too", async () => {
    const delta = ann.write([memory("m")], "key", START_MS) as Delta;
    take(store, delta);
    expect(store.staged.deltaHeader(PARTITION, ANN, 1)).toEqual(delta.header);
  });

  it("erases a bounded piece at a time, and goes on after a crash at any of them", async () => {
    for (let at = 0; at < 1200; at++) take(store, ann.write([memory(`m${at}`)], `key-${at}`, START_MS + at) as Delta);
    await store.flush();
    await write([floor(1200, 1100)]);
    const sizes: number[] = [];
    store = await Store.open(
      watched(db, (names) => void sizes.push(names.length)),
      index,
      random,
    );
    expect(await store.eraseSome()).toBe(true);
    expect(bodies()[0]).toBe(513);
    await reopened();
    while (await store.eraseSome());
    expect(sizes).toEqual([513]);
    expect(bodies()[0]).toBe(1101);
    // Larger ones are fewer.
    for (let at = 0; at < 6; at++) await write([memory(`large${at}`, 700_000)]);
    await write([floor(1207, 1207)]);
    await store.eraseSome();
    const left = bodies()[0] as number;
    expect([left > 1201, left < 1207]).toEqual([true, true]);
    while (await store.eraseSome());
    expect(bodies()).toEqual([1208]);
  });

  it("erases nothing for a floor that is not on disk yet", async () => {
    await write([memory("m")]);
    take(store, ann.write([floor(1, 1)], "floor", START_MS) as Delta);
    expect([await store.eraseSome(), bodies().includes(1)]).toEqual([false, true]);
    await store.flush();
    expect([await store.eraseSome(), bodies().includes(1)]).toEqual([true, false]);
  });

  it("raises what is to be erased, never lowers it, and forgets it with the partition", async () => {
    for (let at = 0; at < 3; at++) await write([memory(`m${at}`)]);
    await write([floor(3, 2)]);
    await write([floor(3, 1)]);
    expect(store.staged.erasedTo(PARTITION, ANN)).toBe(2);
    await write([floor(5, 3)]);
    expect(store.staged.erasedTo(PARTITION, ANN)).toBe(3);
    await store.dropPartition(PARTITION, "replica", writerNamed("cat"));
    expect([store.staged.erasedTo(PARTITION, ANN), await store.eraseSome()]).toEqual([0, false]);
  });

  it("leaves what a witness keeps sealed alone: that goes when every replica has it", async () => {
    const first = await write([memory("m")]);
    store.staged.stage({ type: "sealed", delta: first, envelope: seal(first) });
    await write([floor(1, 1)]);
    while (await store.eraseSome());
    expect(await store.readSealed(PARTITION, ANN, 1, 1, 1e6)).toHaveLength(1);
  });

  it("is cut as of one moment: everything held, the tombstones by tenant, the bodies that are old enough and not erased yet", async () => {
    expect(await store.floorCut(PARTITION, START_MS)).toEqual({
      partition: PARTITION,
      frontier: [],
      erase: [],
      tombstones: new Map(),
      tenant: undefined,
    });
    await write([memory("m"), memory("n")], 0);
    await write([gone("n")], 1);
    await write([memory("o"), { op: "concept", id: "tide", mass: 1 }], 2);
    await write([gone("m")], 3);
    const cut = (days: number) => store.floorCut(PARTITION, START_MS + days * DAY_MS);
    expect(await cut(0)).toEqual({
      partition: PARTITION,
      frontier: [[ANN, 4]],
      erase: [],
      tombstones: new Map([[TENANT, ["memory/m", "memory/n"]]]),
      tenant: TENANT,
    });
    expect([(await cut(0.5)).erase, (await cut(2.5)).erase, (await cut(9)).erase]).toEqual([[[ANN, 1]], [[ANN, 3]], [[ANN, 4]]]);
    await write([floor(4, 3, ["memory/m", "memory/n"])], 4);
    const after = await cut(3.5);
    expect([after.erase, after.tombstones, after.tenant]).toEqual([[[ANN, 4]], new Map(), TENANT]);
    expect((await cut(2.5)).erase).toEqual([]);
  });

  it("names no more tombstones than one floor may, of tenants whose records lie around them", async () => {
    const many = Array.from({ length: FLOOR_TOMBSTONES_MAX + 5 }, (_, at) => `m${String(at).padStart(5, "0")}`);
    await write(many.map((id) => memory(id)));
    await write(many.map(gone));
    const { tombstones } = await store.floorCut(PARTITION, 0);
    expect([...tombstones.values()].map((names) => names.length)).toEqual([FLOOR_TOMBSTONES_MAX]);
  });

  it("has a tenant to be numbered under also where no record is left", async () => {
    await write([memory("m")]);
    await write([gone("m")]);
    await write([floor(2, 0, ["memory/m"])]);
    const cut = await store.floorCut(PARTITION, START_MS + DAY_MS);
    expect([cut.tombstones.size, cut.tenant, cut.erase]).toEqual([0, TENANT, [[ANN, 3]]]);
  });
});
