import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { GraphIndex } from "../../node/ports.ts";
import type { Aside } from "../../node/store/aside.ts";
import { isOfReplica, isOfWitness, keys, META, protect } from "../../node/store/keyspace.ts";
import type { Level } from "../../node/store/level-port.ts";
import { decodeDamaged, encodeStarts, type Told } from "../../node/store/rows.ts";
import { Store } from "../../node/store/store.ts";
import { StoreError } from "../../node/store/store-error.ts";
import { type Delta, parseDelta } from "../../protocol/delta.ts";
import { ProtocolError } from "../../protocol/errors.ts";
import { applyDelta } from "../../protocol/graph/apply.ts";
import type { Contribution } from "../../protocol/graph/records.ts";
import type { Partition } from "../../protocol/ids.ts";
import { Author, keyNamed, PARTITION, START_MS, TENANT, writerNamed } from "../unit/graph-executions.ts";
import { seal } from "../unit/replica-world.ts";
import { classicLevel, memoryLevel, type Subject, simulatedDisk, watched } from "./store-subjects.ts";

const dropped: Partition[] = [];
/** One row for each concept that readers see. */
const index: GraphIndex = {
  rows: ({ kind, id, after }) => (kind === "concept" ? [{ key: `concept/${id}`, value: after === undefined ? undefined : Uint8Array.of(1) }] : []),
  committed: () => undefined,
  ready: async () => undefined,
  dropped: (partition) => dropped.push(partition),
};
const random = (first: number) => (length: number) => new Uint8Array(length).fill(first);
const tide = (mass = 1): Contribution => ({ op: "concept", id: "tide", mass });

function written(name: string, count: number): Delta[] {
  const author = new Author(name);
  for (let at = 0; at < count; at++) author.write([tide()], `${name}-${at}`, START_MS + at);
  return author.own;
}
function take(store: Store, delta: Delta): void {
  store.staged.stage({ type: "delta", delta, changes: applyDelta(delta, store.staged, []) });
}
function keep(store: Store, delta: Delta): void {
  store.staged.stage({ type: "sealed", delta, envelope: seal(delta) });
}
const ANN = writerNamed("ann");
const headOf = (delta: Delta) => ({ partition: PARTITION, writer: delta.header.writer, seq: delta.header.seq, hash: delta.hash });

async function rowsIn(db: Level): Promise<string[]> {
  const found: string[] = [];
  for await (const [key] of db.iterator({ gte: "!", lt: "~" })) found.push(key);
  return found;
}

describe.each([
  ["classic-level", classicLevel],
  ["memory-level", memoryLevel],
  ["the simulated disk", () => simulatedDisk()],
] as const)("on %s the store", (_name, make) => {
  let subject: Subject;
  let db: Level;
  let store: Store;

  beforeEach(async () => {
    subject = make();
    db = await subject.open();
    store = await Store.open(db, index, random(1));
    dropped.length = 0;
  });
  afterEach(async () => {
    await db.close();
    subject.destroy();
  });
  const reopened = async (): Promise<Store> => {
    db = await subject.reopen(db);
    store = await Store.open(db, index, random(2));
    return store;
  };

  it("counts its starts and knows the newest 4096 of them by id", async () => {
    let made = 0;
    const hex = (number: number) => number.toString(16).padStart(8, "0").padEnd(32, "0");
    const id = (length: number) => Uint8Array.from(Buffer.from(hex(++made), "hex").subarray(0, length));
    expect([store.startAt(0), store.startAt(1)]).toEqual([undefined, undefined]);
    expect(await store.beginStart(id)).toEqual({ count: 1, id: hex(1) });
    await reopened();
    expect((await store.beginStart(id)).count).toBe(2);
    expect([1, 2, 3].map((count) => store.startAt(count))).toEqual([hex(1), hex(2), undefined]);
    // Years later.
    const newest = Array.from({ length: 4096 }, (_, at) => hex(at + 2));
    await db.put(META.starts, protect(encodeStarts({ count: 4097, newest })), { sync: true });
    await reopened();
    made = 4097;
    expect((await store.beginStart(id)).count).toBe(4098);
    await reopened();
    expect([2, 3, 4098, 4099].map((count) => store.startAt(count))).toEqual([undefined, hex(3), hex(4098), undefined]);
  });

  it("keeps what each member told last, until it is gone for good", async () => {
    const [first, second] = written("ann", 2) as [Delta, Delta];
    const told: Told = { start: { count: 3, id: "ab".repeat(16) }, layoutVersion: 2, heads: [headOf(first)], marks: [headOf(second)] };
    expect(await store.told(ANN)).toBeUndefined();
    await store.putTold(ANN, { ...told, marks: [] });
    await store.putTold(ANN, told);
    await store.putTold(writerNamed("ben"), { ...told, heads: [] });
    await reopened();
    expect(await store.told(ANN)).toEqual(told);
    expect((await store.told(writerNamed("ben")))?.heads).toEqual([]);
    await store.putTold(ANN, undefined);
    expect(await (await reopened()).told(ANN)).toBeUndefined();
  });

  it("keeps the layout in force and the newest 256 it adopted", async () => {
    for (let version = 1; version <= 258; version++) await store.putLayout(version, Uint8Array.of(version % 256, 7), 1000 + version);
    await store.putLayout(258, Uint8Array.of(2, 8), 5000);
    await reopened();
    const history = await store.layoutHistory();
    expect([history.length, history[0]?.version, history.at(-1)?.version]).toEqual([256, 3, 258]);
    expect([history[0]?.adoptedMs, history.at(-1)?.adoptedMs]).toEqual([1003, 5000]);
    expect(await db.get(keys.adopted(2))).toBeUndefined();
    // Written by a program that did not say when.
    await db.batch([{ type: "del", key: keys.adopted(3) }], { sync: true });
    expect((await store.layoutHistory())[0]?.adoptedMs).toBeUndefined();
    expect([[...(history.at(-1)?.bytes ?? [])], [...((await store.meta("layout")) ?? [])]]).toEqual([
      [2, 8],
      [2, 8],
    ]);
  });

  it("sets aside the end of its own stream that nobody else holds as it becomes another incarnation, and calls that copy damaged", async () => {
    const deltas = written("ann", 4) as [Delta, Delta, Delta, Delta];
    const [other] = written("ben", 1) as [Delta];
    for (const delta of [...deltas, other]) take(store, delta);
    await store.flush();
    await store.renewIncarnation(random(9), ANN, [{ partition: PARTITION, after: 2 }]);
    await reopened();
    expect(store.streams.frontiers.map(({ writer, seq, hash }) => [writer, seq, hash]).sort()).toEqual(
      [
        [ANN, 2, deltas[1].hash],
        [other.header.writer, 1, other.hash],
      ].sort(),
    );
    expect(decodeDamaged((await store.meta("damaged")) as Uint8Array)).toEqual([{ partition: PARTITION, kind: "heads" }]);
    const aside = async () => {
      const found: Aside[] = [];
      for await (const one of store.aside()) found.push(one);
      return found;
    };
    const found = await aside();
    expect(found.map(({ partition, writer, seq }) => [partition, writer, seq])).toEqual([
      [PARTITION, ANN, 3],
      [PARTITION, ANN, 4],
    ]);
    expect(found.map((one) => parseDelta(one.headerBytes, one.bodyBytes).hash)).toEqual([deltas[2].hash, deltas[3].hash]);
    // The copy goes; what was set aside stays until it is written again.
    await store.dropPartition(PARTITION, "replica", ANN);
    await store.dropAside(found[0] as Aside);
    await reopened();
    expect((await aside()).map(({ seq }) => seq)).toEqual([4]);
  });

  it("sets aside all of a stream of which nobody holds anything, and nothing where others hold all", async () => {
    for (const delta of written("ann", 2)) take(store, delta);
    await store.flush();
    await store.renewIncarnation(random(8), ANN, [{ partition: PARTITION, after: 2 }]);
    expect([(await rowsIn(db)).filter((key) => key.startsWith("a/")), await store.meta("damaged")]).toEqual([[], undefined]);
    await store.renewIncarnation(random(9), ANN, [{ partition: PARTITION, after: 0 }]);
    await reopened();
    expect(store.streams.frontiers).toEqual([]);
    const rows = await rowsIn(db);
    expect(rows.filter((key) => key.startsWith("a/"))).toHaveLength(2);
    // Records that counted them would count them again.
    expect(rows.filter((key) => isOfReplica(key, PARTITION))).toEqual([]);
    expect(await store.meta("damaged")).toBeUndefined();
  });

  it("becomes another incarnation with the same data, which has counted and voted for nothing", async () => {
    for (const delta of written("ann", 1)) take(store, delta);
    await store.flush();
    await store.putMeta("counted", Uint8Array.of(1));
    await store.putMeta("vote", Uint8Array.of(2));
    await store.putMeta("formation", Uint8Array.of(3));
    const renewed = await store.renewIncarnation(random(9), ANN, []);
    expect([renewed, store.incarnation]).toEqual(["09".repeat(16), "09".repeat(16)]);
    await reopened();
    expect(store.incarnation).toBe("09".repeat(16));
    expect([await store.meta("counted"), await store.meta("vote")]).toEqual([undefined, undefined]);
    expect([...((await store.meta("formation")) ?? [])]).toEqual([3]);
    expect(store.streams.frontiers.map(({ seq }) => seq)).toEqual([1]);
  });

  it("is replica and witness of one partition at once, one delta as both in one flush", async () => {
    const [first, second] = written("ann", 2) as [Delta, Delta];
    take(store, first);
    keep(store, first);
    await store.flush();
    keep(store, second);
    take(store, second);
    await store.flush();
    await reopened();
    expect([store.streams.frontiers, store.streams.marks]).toEqual([[headOf(second)], [headOf(second)]]);
    expect([store.staged.sealedTotals(PARTITION).deltas, (await store.readLog(PARTITION, ANN, 1, 2, 1e6)).length]).toEqual([2, 2]);
    store.staged.stage({ type: "forget", partition: PARTITION, writer: ANN, seq: 2 });
    await store.flush();
    await reopened();
    expect([store.staged.sealedTotals(PARTITION).deltas, (await store.readLog(PARTITION, ANN, 1, 2, 1e6)).length]).toEqual([0, 2]);
  });

  it("drops a replica's rows and nothing else, and keeps how far its own stream went (P4)", async () => {
    const [own, others] = [written("ann", 3), written("ben", 2)];
    for (const delta of [...own, ...others]) take(store, delta);
    for (const delta of own) keep(store, delta);
    await store.flush();
    const before = await rowsIn(db);
    await store.dropPartition(PARTITION, "replica", ANN);
    const after = await rowsIn(db);
    expect(after).toEqual([...before.filter((key) => !isOfReplica(key, PARTITION)), keys.ownHeads(PARTITION)].sort());
    expect(before.filter((key) => isOfReplica(key, PARTITION)).length).toBeGreaterThan(10);
    expect(store.ownHeads(PARTITION)).toEqual([headOf(own[2]!)]);
    expect(store.staged.record(TENANT, "concept", "tide")).toBeUndefined();
    expect(store.staged.executions(PARTITION, keyNamed("ann-0"))).toEqual([]);
    expect(store.staged.delta(PARTITION, ANN, 1)).toBeUndefined();
    expect(store.staged.counts(PARTITION).concept).toBe(0);
    expect(dropped).toContain(PARTITION);
    await reopened();
    expect([store.streams.frontiers, store.streams.marks, store.ownHeads(PARTITION)]).toEqual([[], [headOf(own[2]!)], [headOf(own[2]!)]]);
    // What comes back begins with nothing of before.
    for (const delta of others) take(store, delta);
    await store.flush();
    expect(store.staged.record(TENANT, "concept", "tide")?.occurrences.totals[ANN]).toBeUndefined();
    await store.dropPartition(PARTITION, "replica", ANN);
    expect(store.ownHeads(PARTITION)).toEqual([headOf(own[2]!)]);
  });

  it("drops a witness's rows and nothing else, and counts no sealed delta afterwards", async () => {
    const deltas = written("ann", 3);
    for (const delta of deltas) take(store, delta);
    for (const delta of deltas) keep(store, delta);
    await store.flush();
    const before = await rowsIn(db);
    await store.dropPartition(PARTITION, "witness", ANN);
    expect(await rowsIn(db)).toEqual([...before.filter((key) => !isOfWitness(key, PARTITION)), keys.ownHeads(PARTITION)].sort());
    expect(store.staged.sealedTotals()).toEqual({ deltas: 0, bytes: 0 });
    await reopened();
    expect([store.streams.frontiers, store.streams.marks]).toEqual([[headOf(deltas[2]!)], []]);
    keep(store, deltas[0]!);
    await store.flush();
    expect(store.staged.sealedTotals().deltas).toBe(1);
  });

  it("takes nothing for a partition while its rows go, and reports nothing of it that was not flushed", async () => {
    const [first, second, third] = written("ann", 3) as [Delta, Delta, Delta];
    take(store, first);
    await store.flush();
    take(store, second);
    keep(store, first);
    const gone = store.dropPartition(PARTITION, "replica", ANN);
    let thrown: unknown;
    try {
      take(store, third);
    } catch (error) {
      thrown = error;
    }
    expect(thrown).toBeInstanceOf(ProtocolError);
    keep(store, second);
    await gone;
    const { batches, changes } = await store.flush();
    expect([batches.map(({ type }) => type), changes]).toEqual([["sealed", "sealed"], []]);
    await reopened();
    expect([store.streams.frontiers, store.streams.marks]).toEqual([[], [headOf(second)]]);
    expect(store.ownHeads(PARTITION)).toEqual([headOf(first)]);
  });

  it("a flush on its way is reported, and its rows go with the others", async () => {
    const [first, second] = written("ann", 2) as [Delta, Delta];
    take(store, first);
    const flushing = store.flush();
    take(store, second);
    const gone = store.dropPartition(PARTITION, "replica", ANN);
    expect((await flushing).batches).toHaveLength(2);
    await gone;
    expect((await rowsIn(db)).filter((key) => isOfReplica(key, PARTITION))).toEqual([]);
    expect(store.staged.record(TENANT, "concept", "tide")).toBeUndefined();
  });

  it("clears in bounded, fsynced batches", async () => {
    for (const delta of written("ann", 2100)) take(store, delta);
    await store.flush();
    const sizes: number[] = [];
    const seen = watched(db, (batch, sync) => {
      expect(sync).toBe(true);
      sizes.push(batch.length);
    });
    await (await Store.open(seen, index, random(3))).dropPartition(PARTITION, "replica", ANN);
    expect([Math.max(...sizes), sizes.filter((size) => size === 100).length]).toEqual([2_000, 2]);
    expect((await rowsIn(db)).filter((key) => isOfReplica(key, PARTITION))).toEqual([]);
  });

  it("finishes at the next open what was interrupted at any batch", async () => {
    const deltas = written("ann", 20);
    for (const delta of deltas) {
      take(store, delta);
      keep(store, delta);
    }
    await store.flush();
    for (const what of ["replica", "witness"] as const) {
      for (let survive = 1; ; survive++) {
        let batches = 0;
        let over = false;
        const failing = watched(
          db,
          () => void batches++,
          () => batches >= survive,
        );
        const other = await Store.open(failing, index, random(3)).catch(() => undefined);
        const error = await other?.dropPartition(PARTITION, what, ANN).then(
          () => {
            over = true;
          },
          (failed: unknown) => failed,
        );
        if (!over && other !== undefined) expect(error).toBeInstanceOf(StoreError);
        await reopened();
        const isOf = what === "replica" ? isOfReplica : isOfWitness;
        expect((await rowsIn(db)).filter((key) => isOf(key, PARTITION))).toEqual([]);
        expect(db.getSync(keys.replacing(PARTITION)) ?? db.getSync(keys.clearingWitness(PARTITION))).toBeUndefined();
        expect(store.ownHeads(PARTITION)).toEqual([headOf(deltas.at(-1)!)]);
        if (over) {
          expect(survive).toBeGreaterThan(2);
          break;
        }
        // Again what was there.
        for (const delta of deltas) what === "replica" ? take(store, delta) : keep(store, delta);
        await store.flush();
      }
    }
  });

  it("does not open with a corrupt row of the new kinds", async () => {
    for (const delta of written("ann", 1)) take(store, delta);
    await store.flush();
    await store.beginStart(random(4));
    await store.dropPartition(PARTITION, "replica", ANN);
    for (const key of [META.starts, keys.ownHeads(PARTITION)]) {
      const value = Uint8Array.from((await db.get(key)) as Uint8Array);
      value[value.length - 1]! ^= 1;
      await db.put(key, value, { sync: true });
      const error = await Store.open(db, index, random(2)).catch((one: unknown) => one);
      expect((error as StoreError).code).toBe("CORRUPT");
      value[value.length - 1]! ^= 1;
      await db.put(key, value, { sync: true });
    }
  });
});

describe("after a power cut", () => {
  it("a partition whose clearing had begun is empty, whenever it was cut; what was cut before is whole", async () => {
    const deltas = written("ann", 300);
    let [whole, gone] = [0, 0];
    for (let seed = 1; seed <= 30; seed++) {
      const subject = simulatedDisk(seed);
      let store = await Store.open(await subject.open(), index, random(1));
      for (const delta of deltas) take(store, delta);
      await store.flush();
      const fsyncs = subject.disk.fsyncCount;
      void store.dropPartition(PARTITION, "replica", ANN).catch(() => undefined);
      while (subject.disk.fsyncCount < fsyncs + (seed % 3) && subject.disk.fsyncCount < fsyncs + 3) await new Promise((done) => setImmediate(done));
      const db = await subject.powerCut();
      store = await Store.open(db, index, random(1));
      const rows = (await rowsIn(db)).filter((key) => isOfReplica(key, PARTITION));
      const frontier = store.streams.frontiers[0]?.seq ?? 0;
      expect([
        [300, true],
        [0, false],
      ]).toContainEqual([frontier, rows.length > 0]);
      if (frontier === 300) whole++;
      else {
        gone++;
        expect(store.ownHeads(PARTITION)[0]?.seq).toBe(300);
      }
    }
    expect([whole > 0, gone > 0]).toEqual([true, true]);
  });
});
