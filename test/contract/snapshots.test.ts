import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { keyHashOf } from "../../crypto/hash.ts";
import { Copying } from "../../node/copying.ts";
import { type SnapshotPart, Snapshots } from "../../node/snapshots.ts";
import { keys, protect } from "../../node/store/keyspace.ts";
import type { Level } from "../../node/store/level-port.ts";
import { Store } from "../../node/store/store.ts";
import { type CopyError, StoreError } from "../../node/store/store-error.ts";
import type { StreamHead } from "../../protocol/frontier.ts";
import type { KeyHash, NodeId, Partition } from "../../protocol/ids.ts";
import { COPIES_MAX, SNAPSHOT_PART_MAX_BYTES, SNAPSHOTS_SERVED_MAX } from "../../protocol/limits.ts";
import { PARTITION, TENANT, writerNamed } from "../unit/graph-executions.ts";
import { ANN, BEN, Clock, dropped, fill, index, memory, NEIGHBOUR, rowsOf, take, turn, Writer } from "./partition-fixture.ts";
import { classicLevel, memoryLevel, type Subject, simulatedDisk, watched } from "./store-subjects.ts";

const CAT = writerNamed("cat");
const NODE = { ann: "node-ann" as NodeId, ben: "node-ben" as NodeId };
/** Several parts. */
const MANY = [300, 8_000] as const;

interface Sent {
  readonly node: NodeId;
  readonly partition: Partition;
  readonly id: number;
  readonly after: Uint8Array;
}

/** Copying into `store`, with the questions it asks and what it says in the end. */
function copier(store: Store, clock: Clock, sources: () => NodeId[] = () => [NODE.ann]) {
  const asked: Sent[] = [];
  const said: unknown[] = [];
  const failures: Error[] = [];
  const copying = new Copying({
    store,
    system: clock,
    own: () => CAT,
    sources,
    ask: (node, partition, id, after) => {
      asked.push({ node, partition, id, after });
      return true;
    },
    copied: (partition, heads) => said.push(["copied", partition, heads]),
    failed: (partition, reason, source, detail) => said.push(["failed", partition, reason, source, detail]),
    onFailure: (error) => failures.push(error),
  });
  return { copying, asked, said, failures };
}

/** Carries questions and answers until nothing is asked any more. */
async function carry(
  to: ReturnType<typeof copier>,
  from: Readonly<Record<string, Snapshots>>,
  change: (part: SnapshotPart, asked: Sent) => SnapshotPart | undefined = (part) => part,
): Promise<SnapshotPart[]> {
  const parts: SnapshotPart[] = [];
  for (let sent = to.asked.shift(); sent !== undefined; sent = to.asked.shift()) {
    const part = change(await from[sent.node]!.part("node-cat" as NodeId, sent), sent);
    if (part === undefined) continue;
    parts.push(part);
    await to.copying.received(sent.node, part);
  }
  return parts;
}

describe.each([
  ["classic-level", classicLevel],
  ["memory-level", memoryLevel],
  ["the simulated disk", () => simulatedDisk()],
] as const)("a snapshot on %s", (_name, make) => {
  let subjects: Subject[];
  let clock: Clock;
  let sourceDb: Level;
  let source: Store;
  let db: Level;
  let store: Store;
  let served: Snapshots;

  beforeEach(async () => {
    subjects = [make(), make()];
    clock = new Clock();
    sourceDb = await subjects[0]!.open();
    db = await subjects[1]!.open();
    source = await Store.open(sourceDb, index, clock.randomBytes);
    store = await Store.open(db, index, clock.randomBytes);
    served = new Snapshots(source, clock);
    dropped.length = 0;
  });
  afterEach(async () => {
    await served.stop();
    await sourceDb.close();
    await db.close();
    for (const subject of subjects) subject.destroy();
  });
  const reopened = async (): Promise<Store> => {
    db = await subjects[1]!.reopen(db);
    store = await Store.open(db, index, clock.randomBytes);
    return store;
  };
  async function expectEqual(): Promise<void> {
    expect(await store.fingerprint(PARTITION)).toEqual(await source.fingerprint(PARTITION));
    expect(await rowsOf(db)).toEqual(await rowsOf(sourceDb));
    expect(store.staged.counts(PARTITION)).toEqual(source.staged.counts(PARTITION));
  }

  it("gives an empty node the same bytes and frontier; then the tail applies and they stay equal (P3)", async () => {
    const [ann, ben] = await fill(source);
    const to = copier(store, clock);
    to.copying.begin(PARTITION);
    // What is written meanwhile is not in it: that is the tail.
    const tail = [ann.write(source, "late", [turn("turn_late")]), ben.write(source, "one more", [memory("memory_late")])];
    const parts = await carry(to, { [NODE.ann]: served });
    expect(parts.length).toBeGreaterThanOrEqual(1);
    const { frontier } = await store.fingerprint(PARTITION);
    expect(to.said).toEqual([["copied", PARTITION, frontier]]);
    expect(store.incomplete.size).toBe(0);
    await source.flush();
    expect(store.highWater[0] <= source.staged.highWater[0]).toBe(true);
    for (const delta of tail) take(store, delta);
    await store.flush();
    await expectEqual();
    await reopened();
    await expectEqual();
    expect(store.highWater).toEqual(source.staged.highWater);
    expect(store.streams.frontiers).toEqual((await source.fingerprint(PARTITION)).frontier);
    // A retry of what the snapshot brought is known.
    expect(store.staged.executions(PARTITION, keyHashOf(TENANT, "one") as KeyHash)).toHaveLength(2);
  });

  it("is of the moment of its first part, however much is written before the last", async () => {
    const [ann] = await fill(source, ...MANY);
    const before = await source.fingerprint(PARTITION);
    const to = copier(store, clock);
    to.copying.begin(PARTITION);
    let between = 0;
    const parts = await carry(to, { [NODE.ann]: served }, (part) => {
      ann.write(source, `between-${between++}`, [turn(`turn_between_${between}`), { op: "concept", id: "tide", mass: 1 }]);
      return part;
    });
    await source.flush();
    expect(parts.length).toBeGreaterThan(2);
    expect(await store.fingerprint(PARTITION)).toEqual(before);
  });

  it("replaces what was there and is never merged with it: what was deleted and collected does not come back", async () => {
    const [ann] = await fill(source);
    for (const delta of ann.deltas.slice(0, 2)) take(store, delta);
    await store.flush();
    expect(store.staged.record(TENANT, "memory", "memory_gone")).toBeDefined();
    // As after a floor that this node has missed: at the source not even the tombstone is left.
    await sourceDb.batch([{ type: "del", key: keys.record(PARTITION, TENANT, "tombstone", "memory/memory_gone") }], { sync: true });
    source = await Store.open(sourceDb, index, clock.randomBytes);
    served = new Snapshots(source, clock);
    const to = copier(store, clock);
    to.copying.begin(PARTITION);
    await carry(to, { [NODE.ann]: served });
    expect(to.said.map((one) => (one as unknown[])[0])).toEqual(["copied"]);
    expect(store.staged.record(TENANT, "memory", "memory_gone")).toBeUndefined();
    expect(dropped.filter((partition) => partition === PARTITION).length).toBeGreaterThanOrEqual(2);
    await expectEqual();
  });

  it("brings erased bodies as headers, and what is still to be erased; both go on from there", async () => {
    const [ann, ben] = await fill(source, 600);
    const frontier = [[ANN, ann.deltas.length] as const, [BEN, 3] as const].sort(([a], [b]) => (a < b ? -1 : 1));
    const floor = ann.write(source, "floor", [
      { op: "floor", frontier, erase: frontier.map(([writer, seq]) => [writer, seq - 1] as const), tombstones: ["memory/memory_gone"] },
    ]);
    await source.flush();
    expect(await source.eraseSome()).toBe(true);
    const to = copier(store, clock);
    to.copying.begin(PARTITION);
    await carry(to, { [NODE.ann]: served });
    expect(to.said.map((one) => (one as unknown[])[0])).toEqual(["copied"]);
    await expectEqual();
    expect([store.staged.erasedTo(PARTITION, ANN), store.staged.erasedTo(PARTITION, BEN)]).toEqual([ann.deltas.length - 2, 2]);
    while (await store.eraseSome());
    while (await source.eraseSome());
    await expectEqual();
    const tail = ben.write(source, "tail", [turn("turn_tail")]);
    await source.flush();
    take(store, tail);
    await store.flush();
    await expectEqual();
    expect(store.staged.delta(PARTITION, ANN, floor.header.seq)?.body.entries[0]?.op).toBe("floor");
  });

  describe("in the place of a copy whose rows have turned", () => {
    async function turn(key: string): Promise<void> {
      const value = Uint8Array.from((await db.get(key))!);
      value[value.length - 1]! ^= 1;
      await db.put(key, value, { sync: true });
    }
    /** The same, also what CAT wrote there itself. */
    async function both(): Promise<void> {
      await fill(source);
      const to = copier(store, clock);
      to.copying.begin(PARTITION);
      await carry(to, { [NODE.ann]: served });
      const cat = new Writer(CAT);
      const delta = cat.write(store, "of its own", [memory("memory_cat")]);
      take(source, delta);
      await store.flush();
      await source.flush();
    }

    it.each([
      ["a delta", keys.log(PARTITION, ANN, 2)],
      ["a record", keys.record(PARTITION, TENANT, "turn", "turn_1")],
      ["a key", ""],
      ["the counts", keys.counts(PARTITION)],
      ["the frontier", keys.frontier(PARTITION)],
    ])("whatever it is, brings what was written: %s", async (_what, row) => {
      await both();
      const key = row !== "" ? row : Object.keys(await rowsOf(db)).find((name) => name.startsWith("k/"))!;
      await turn(key);
      const to = copier(store, clock);
      to.copying.begin(PARTITION);
      await carry(to, { [NODE.ann]: served });
      expect([to.said.map((one) => (one as unknown[])[0]), to.failures]).toEqual([["copied"], []]);
      await expectEqual();
      // P4: the frontier that could not be read is known from when it was last written.
      expect(store.ownHeads(PARTITION)).toMatchObject([{ writer: CAT, seq: 1 }]);
      await reopened();
      await expectEqual();
    });

    it("asks for all that was held where the frontier cannot be read, and not for what was on its way to the disk (P1)", async () => {
      await both();
      const [onlyHere] = [new Writer(CAT)];
      onlyHere.deltas.push(source.staged.delta(PARTITION, CAT, 1)!);
      const unflushed = onlyHere.write(store, "on its way", [memory("memory_on_its_way")]);
      expect(unflushed.header.seq).toBe(2);
      await turn(keys.frontier(PARTITION));
      expect([...store.staged.flushedHeads(PARTITION, "replica")].find(([writer]) => writer === CAT)).toEqual([
        CAT,
        { seq: 1, hash: unflushed.header.previous },
      ]);
      const whole = copier(store, clock);
      whole.copying.begin(PARTITION);
      await carry(whole, { [NODE.ann]: served });
      expect(whole.said.map((one) => (one as unknown[])[0])).toEqual(["copied"]);
      await expectEqual();
    });

    it("leaves everything where the snapshot lacks what was held, though the frontier cannot be read", async () => {
      await both();
      const more = new Writer(CAT);
      more.deltas.push(source.staged.delta(PARTITION, CAT, 1)!);
      more.write(store, "here alone", [memory("memory_here_alone")]);
      await store.flush();
      await turn(keys.frontier(PARTITION));
      const before = await rowsOf(db);
      const to = copier(store, clock);
      to.copying.begin(PARTITION);
      await carry(to, { [NODE.ann]: served });
      expect(to.said.map((one) => (one as unknown[]).slice(0, 3))).toEqual([["failed", PARTITION, "behind"]]);
      expect([await rowsOf(db), store.incomplete.size]).toEqual([before, 0]);
    });

    it("can be given back as long as nothing was cleared for it", async () => {
      await both();
      const to = copier(store, clock);
      to.copying.begin(PARTITION);
      expect([to.copying.giveBack(PARTITION), to.copying.has(PARTITION)]).toEqual([true, false]);
      to.copying.begin(PARTITION);
      await carry(to, { [NODE.ann]: served }, (part, { node, id, after, partition }) =>
        after.length > 0 ? undefined : { ...part, id, partition, last: false, rows: node === NODE.ann ? part.rows.slice(0, 1) : [] },
      );
      expect([to.copying.giveBack(PARTITION), to.copying.has(PARTITION)]).toEqual([false, true]);
    });

    it("is not needed for a partition that goes: its own numbers are kept, whatever has turned (P4)", async () => {
      await both();
      await turn(keys.frontier(PARTITION));
      await store.dropPartition(PARTITION, "replica", CAT);
      expect([store.ownHeads(PARTITION), await rowsOf(db)]).toMatchObject([[{ writer: CAT, seq: 1 }], {}]);
    });
  });

  it("is given up where nobody has a whole copy, so that the log is tried, unless the copy here was cleared for another", async () => {
    const to = copier(store, clock, () => [NODE.ann, NODE.ben]);
    const nobody = {
      part: async (_peer: NodeId, { partition, id }: Sent) => ({ partition, id, frontier: [], rows: [], last: false, refused: "not_held" }),
    };
    const from = { [NODE.ann]: nobody, [NODE.ben]: nobody } as unknown as Record<string, Snapshots>;
    to.copying.begin(PARTITION);
    await carry(to, from);
    expect([to.said, to.copying.has(PARTITION)]).toEqual([[], true]);
    clock.pass(1_000);
    to.copying.tick();
    await carry(to, from);
    expect([to.said, to.copying.has(PARTITION)]).toEqual([[["failed", PARTITION, "none", NODE.ben, expect.anything()]], false]);

    await fill(source, ...MANY);
    to.copying.begin(PARTITION);
    let carried = 0;
    await carry(to, { [NODE.ann]: served, [NODE.ben]: served }, (part) => (carried++ === 0 ? part : undefined));
    expect(store.incomplete.has(PARTITION)).toBe(true);
    to.said.length = 0;
    for (let time = 0; time < 20; time++) {
      clock.pass(5_000);
      to.copying.tick();
      await carry(to, from);
    }
    expect([to.said, to.copying.has(PARTITION)]).toEqual([[], true]);
  });

  it("leaves a copy that holds more as it is, and says that the snapshot is behind (P1)", async () => {
    await fill(source, 3);
    const [ann] = await fill(store, 3);
    ann.write(store, "more", [turn("turn_more")]);
    await store.flush();
    const before = await rowsOf(db);
    const to = copier(store, clock);
    to.copying.begin(PARTITION);
    await carry(to, { [NODE.ann]: served });
    expect(to.said).toEqual([["failed", PARTITION, "behind", NODE.ann, expect.stringContaining("lacks")]]);
    expect([await rowsOf(db), store.incomplete.size]).toEqual([before, 0]);
    // And it goes on.
    ann.write(store, "again", [turn("turn_again")]);
    await store.flush();
    expect((await store.fingerprint(PARTITION)).frontier.find(({ writer }) => writer === ANN)?.seq).toBe(ann.deltas.length);
  });

  it("is resumed after the last key when an answer is lost, and a late answer changes nothing", async () => {
    await fill(source, ...MANY);
    const to = copier(store, clock);
    to.copying.begin(PARTITION);
    const late: SnapshotPart[] = [];
    let count = 0;
    const parts: SnapshotPart[] = [];
    for (;;) {
      parts.push(
        ...(await carry(to, { [NODE.ann]: served }, (part) => {
          if (++count % 2 === 1) {
            late.push(part);
            return undefined;
          }
          return part;
        })),
      );
      if (to.said.length > 0) break;
      const before = to.asked.length;
      clock.pass(4_000);
      to.copying.tick();
      expect(to.asked.length).toBe(before);
      clock.pass(2_000);
      to.copying.tick();
      expect(to.asked.length).toBe(1);
      for (const part of late.slice(0, -1)) await to.copying.received(NODE.ann, part);
    }
    expect(new Set(parts.map(({ id }) => id)).size).toBe(1);
    await expectEqual();
  });

  it("begins again with another source when the first one has closed it, is busy, or has none", async () => {
    await fill(source, ...MANY);
    const to = copier(store, clock, () => [NODE.ben, NODE.ann]);
    const none = {
      part: async (_: NodeId, { partition, id }: Sent) => ({ partition, id, frontier: [], rows: [], last: false, refused: "not_held" }),
    };
    const from = { [NODE.ann]: served, [NODE.ben]: none as unknown as Snapshots };
    to.copying.begin(PARTITION);
    let parts = 0;
    for (let round = 0; to.said.length === 0 && round < 20; round++) {
      await carry(to, from, (part, asked) => {
        if (asked.node === NODE.ann && ++parts === 2) return { ...part, frontier: [], rows: [], last: false, refused: "gone" };
        if (asked.node === NODE.ann && parts === 4) return { ...part, frontier: [], rows: [], last: false, refused: "busy" };
        return part;
      });
      clock.pass(1_000);
      to.copying.tick();
    }
    expect(to.said.map((one) => (one as unknown[])[0])).toEqual(["copied"]);
    expect(parts).toBeGreaterThan(5);
    await expectEqual();
  });

  it("closes what nobody asks for any more, and says it is gone", async () => {
    await fill(source, ...MANY);
    const want = { partition: PARTITION, id: 7, after: new Uint8Array() };
    const first = await served.part(NODE.ben, want);
    expect([first.refused, first.last, served.held]).toEqual(["", false, 1]);
    clock.pass(59_000);
    const after = first.rows.at(-1)![0];
    expect((await served.part(NODE.ben, { ...want, after })).refused).toBe("");
    clock.pass(59_000);
    expect(served.held).toBe(1);
    clock.pass(2_000);
    expect((await served.part(NODE.ben, { ...want, after })).refused).toBe("gone");
    expect(served.held).toBe(0);
  });

  it("SNAPSHOTS_SERVED_MAX are held open; one more peer is told busy, one that begins again gives up its first", async () => {
    await fill(source, ...MANY);
    const want = (id: number) => ({ partition: PARTITION, id, after: new Uint8Array() });
    for (let peer = 0; peer < SNAPSHOTS_SERVED_MAX; peer++) expect((await served.part(`peer-${peer}` as NodeId, want(1))).refused).toBe("");
    expect((await served.part(NODE.ben, want(1))).refused).toBe("busy");
    expect((await served.part("peer-0" as NodeId, want(2))).refused).toBe("");
    expect(served.held).toBe(SNAPSHOTS_SERVED_MAX);
    // Once one is read to its end, its place is free.
    for (let after = new Uint8Array(); ; ) {
      const part = await served.part("peer-1" as NodeId, { ...want(1), after });
      if (part.last) break;
      after = Uint8Array.from(part.rows.at(-1)![0]);
    }
    expect((await served.part(NODE.ben, want(1))).refused).toBe("");
    expect(served.held).toBe(SNAPSHOTS_SERVED_MAX);
    // As many questions wait; one more at the same time is refused.
    const many = await Promise.all(Array.from({ length: SNAPSHOTS_SERVED_MAX + 1 }, () => served.part(NODE.ben, want(1))));
    expect(many.map(({ refused }) => refused)).toEqual([...Array.from({ length: SNAPSHOTS_SERVED_MAX }, () => ""), "busy"]);
  });

  it("holds no more than one part: SNAPSHOT_PART_MAX_BYTES and one row, and the next is asked for when it is on disk", async () => {
    await fill(source, ...MANY);
    const to = copier(store, clock);
    to.copying.begin(PARTITION);
    let before: SnapshotPart | undefined;
    const parts = await carry(to, { [NODE.ann]: served }, (part) => {
      for (const [key, value] of before?.rows ?? []) expect(Buffer.compare(db.getSync(Buffer.from(key).toString())!, value)).toBe(0);
      before = part;
      expect(to.asked).toEqual([]);
      const sizes = part.rows.map(([key, value]) => key.length + value.length);
      expect(sizes.slice(0, -1).reduce((a, b) => a + b, 0)).toBeLessThanOrEqual(SNAPSHOT_PART_MAX_BYTES);
      return part;
    });
    expect(parts.length).toBeGreaterThan(3);
  });

  it("sends a row larger than a part alone", async () => {
    const ann = new Writer(ANN);
    ann.write(source, "large", [memory("memory_large", "x".repeat(2 * SNAPSHOT_PART_MAX_BYTES))]);
    ann.write(source, "small", [memory("memory_small")]);
    await source.flush();
    const to = copier(store, clock);
    to.copying.begin(PARTITION);
    const parts = await carry(to, { [NODE.ann]: served });
    expect(parts.length).toBeGreaterThan(1);
    await expectEqual();
  });

  it("COPIES_MAX partitions are copied at a time; one more waits for its turn", async () => {
    const to = copier(store, clock);
    const others = Array.from({ length: COPIES_MAX + 1 }, (_, at) => at as Partition);
    for (const partition of others) to.copying.begin(partition);
    expect(to.asked.map(({ partition }) => partition)).toEqual(others.slice(0, COPIES_MAX));
    await carry(to, { [NODE.ann]: served });
    expect(to.said).toEqual(others.map((partition) => ["copied", partition, []]));
  });

  it("has no part for a partition that is being copied or cleared here", async () => {
    await fill(source, 3);
    const to = copier(store, clock);
    to.copying.begin(PARTITION);
    const part = await served.part(NODE.ben, to.asked[0]!);
    const writing = to.copying.received(NODE.ann, { ...part, last: false });
    await writing;
    expect((await new Snapshots(store, clock).part(NODE.ben, { partition: PARTITION, id: 1, after: new Uint8Array() })).refused).toBe("not_held");
  });

  it("is given up when the partition is dropped meanwhile", async () => {
    await fill(source, ...MANY);
    const to = copier(store, clock);
    to.copying.begin(PARTITION);
    const part = await served.part(NODE.ben, to.asked.shift()!);
    const writing = to.copying.received(NODE.ann, part);
    to.copying.cancel(PARTITION);
    await store.dropPartition(PARTITION, "replica", CAT);
    await writing;
    expect([await rowsOf(db), store.incomplete.size, to.said, to.failures, to.asked]).toEqual([{}, 0, [], [], []]);
    await reopened();
    expect(store.incomplete.size).toBe(0);
  });

  it("says when the disk fails, and does not go on", async () => {
    await fill(source, 3);
    const failing = watched(
      db,
      () => undefined,
      (names) => names.some((key) => key.startsWith("d/")),
    );
    const to = copier(await Store.open(failing, index, clock.randomBytes), clock);
    to.copying.begin(PARTITION);
    await carry(to, { [NODE.ann]: served });
    expect([to.said, (to.failures[0] as StoreError).code]).toEqual([[], "FAILED"]);
  });

  const wrongs: readonly (readonly [string, (part: SnapshotPart) => SnapshotPart])[] = [
    ["a flipped bit", (part) => replaced(part, 3, (value) => value.with(value.length - 1, value.at(-1)! ^ 1))],
    ["a delta left out", (part) => ({ ...part, rows: part.rows.filter(([key]) => !text(key).startsWith(`d/${ppp}/${ANN}/000000000003`)) })],
    ["the last delta of a stream left out", (part) => ({ ...part, rows: part.rows.filter(([key]) => !text(key).includes(`${BEN}/000000000003`)) })],
    ["a stream that the frontier does not name", (part) => ({ ...part, frontier: part.frontier.filter(({ writer }) => writer !== BEN) })],
    ["another hash in the frontier", (part) => ({ ...part, frontier: part.frontier.map((head): StreamHead => ({ ...head, hash: "A".repeat(43) })) })],
    ["a key left out", (part) => ({ ...part, rows: part.rows.filter(([key]) => !text(key).startsWith("k/") || text(key) !== firstKey(part)) })],
    [
      "a body left out",
      (part) =>
        replaced(part, 1, (value) => {
          const length = new DataView(value.buffer, value.byteOffset + 4).getUint32(0);
          return Uint8Array.from(protect(value.subarray(4, 8 + length)));
        }),
    ],
    ["a record left out", (part) => ({ ...part, rows: part.rows.filter(([key]) => !text(key).includes("/t/turn_1")) })],
    ["a record under another id of another kind", (part) => renamed(part, "/t/turn_1", "/m/turn_1")],
    ["a record of another partition's tenant", (part) => renamed(part, `r/${ppp}/${NEIGHBOUR}/`, `r/${ppp}/zoe/`)],
    ["a row of another partition", (part) => renamed(part, `r/${ppp}/${NEIGHBOUR}/`, `r/255/${NEIGHBOUR}/`)],
    ["a row of the node's own", (part) => renamed(part, `r/${ppp}/${NEIGHBOUR}/c/lantern`, "z/incarnation")],
    ["a row twice", (part) => ({ ...part, rows: [part.rows[0]!, ...part.rows] })],
  ];
  it.each(wrongs)("with %s is discarded and reported, and another source is asked when it is begun again", async (_what, spoil) => {
    await fill(source, 3);
    await fill(store, 2);
    const to = copier(store, clock, () => [NODE.ben, NODE.ann]);
    to.copying.begin(PARTITION);
    await carry(to, { [NODE.ann]: served, [NODE.ben]: served }, (part, { node }) => (node === NODE.ben ? spoil(part) : part));
    const [[what, , reason]] = to.said as [[string, Partition, string]];
    expect(what).toBe("failed");
    if (reason === "wrong") {
      expect([await rowsOf(db), [...store.incomplete.keys()]]).toEqual([{}, [PARTITION]]);
      expect(store.staged.record(TENANT, "turn", "turn_1")).toBeUndefined();
    } else expect(reason).toBe("behind");
    to.copying.begin(PARTITION);
    await carry(to, { [NODE.ann]: served });
    expect(to.said[1]).toEqual(["copied", PARTITION, (await source.fingerprint(PARTITION)).frontier]);
    await expectEqual();
  });

  it("of a copy with a row that is not what was written is not served: CORRUPT", async () => {
    await fill(source, 3);
    const key = keys.record(PARTITION, TENANT, "turn", "turn_1");
    const value = Uint8Array.from((await sourceDb.get(key))!);
    value[value.length - 1]! ^= 1;
    await sourceDb.put(key, value, { sync: true });
    const error = await served.part(NODE.ben, { partition: PARTITION, id: 1, after: new Uint8Array() }).catch((one: unknown) => one);
    expect([error instanceof StoreError && error.code, served.held]).toEqual(["CORRUPT", 0]);
  });
});

const ppp = String(PARTITION).padStart(3, "0");
const text = (key: Uint8Array): string => Buffer.from(key).toString();
const firstKey = (part: SnapshotPart): string => part.rows.map(([key]) => text(key)).find((key) => key.startsWith("k/"))!;
function replaced(part: SnapshotPart, at: number, change: (value: Uint8Array) => Uint8Array): SnapshotPart {
  return { ...part, rows: part.rows.map(([key, value], index) => [key, index === at ? change(Uint8Array.from(value)) : value]) };
}
function renamed(part: SnapshotPart, from: string, to: string): SnapshotPart {
  const rows = part.rows.map(([key, value]) => [Buffer.from(text(key).replace(from, to)), value] as const);
  return { ...part, rows: rows.sort(([a], [b]) => Buffer.compare(a, b)) };
}

describe("after a power cut in the middle of a copy", () => {
  it("the partition is what it was, or empty and known to be incomplete, or the whole copy; never a part of either", async () => {
    const sourceSubject = memoryLevel();
    const sourceDb = await sourceSubject.open();
    const clock = new Clock();
    const source = await Store.open(sourceDb, index, clock.randomBytes);
    await fill(source, 150, 12_000);
    const whole = await source.fingerprint(PARTITION);
    const met = { before: 0, empty: 0, whole: 0 };
    for (let seed = 1; seed <= 24; seed++) {
      const subject = simulatedDisk(seed);
      let store = await Store.open(await subject.open(), index, clock.randomBytes);
      await fill(store, 10);
      const before = await store.fingerprint(PARTITION);
      const served = new Snapshots(source, clock);
      const to = copier(store, clock);
      to.copying.begin(PARTITION);
      const fsyncs = subject.disk.fsyncCount;
      void carry(to, { [NODE.ann]: served }).catch(() => undefined);
      const more = seed % 5 === 0 ? Number.POSITIVE_INFINITY : seed % 12;
      while (subject.disk.fsyncCount < fsyncs + more && to.said.length === 0) await new Promise((done) => setImmediate(done));
      const db = await subject.powerCut();
      store = await Store.open(db, index, clock.randomBytes);
      const now = await store.fingerprint(PARTITION);
      if (store.incomplete.has(PARTITION)) {
        met.empty++;
        expect([await rowsOf(db), now.frontier, store.incomplete.get(PARTITION)]).toEqual([{}, [], before.frontier]);
        // A source that lacks what was held before cannot take its place, also now.
        const behind = store.copyPartition(PARTITION, NODE.ann, CAT, before.frontier.slice(1));
        expect(await behind.begin().catch((error: unknown) => (error as CopyError).code)).toBe("BEHIND");
        const again = copier(store, clock);
        again.copying.begin(PARTITION);
        await carry(again, { [NODE.ann]: served });
        expect(await store.fingerprint(PARTITION)).toEqual(whole);
      } else if (now.frontier[0]?.seq === before.frontier[0]?.seq) {
        met.before++;
        expect(now).toEqual(before);
      } else {
        met.whole++;
        expect(now).toEqual(whole);
      }
      await served.stop();
    }
    expect(Object.values(met).every((count) => count > 0)).toBe(true);
    await sourceDb.close();
  });
});
