import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Scrub, type Scrubbed, suspects } from "../../node/scrub.ts";
import { keys, META, protect, unprotect } from "../../node/store/keyspace.ts";
import type { Level } from "../../node/store/level-port.ts";
import { Store } from "../../node/store/store.ts";
import type { StreamHead } from "../../protocol/frontier.ts";
import type { NodeId, Partition } from "../../protocol/ids.ts";
import { PARTITION, TENANT, writerNamed } from "../unit/graph-executions.ts";
import { seal } from "../unit/replica-world.ts";
import { ANN, BEN, Clock, fill, index, take, turn } from "./partition-fixture.ts";
import { classicLevel, memoryLevel, type Subject, simulatedDisk } from "./store-subjects.ts";

describe.each([
  ["classic-level", classicLevel],
  ["memory-level", memoryLevel],
  ["the simulated disk", () => simulatedDisk()],
] as const)("scrubbing on %s", (_name, make) => {
  let subject: Subject;
  let clock: Clock;
  let db: Level;
  let store: Store;
  let found: Scrubbed[];
  let wrong: [Partition, string, string][];
  let failures: Error[];
  let scrub: Scrub;

  beforeEach(async () => {
    subject = make();
    clock = new Clock();
    db = await subject.open();
    store = await Store.open(db, index, clock.randomBytes);
    [found, wrong, failures] = [[], [], []];
    scrub = new Scrub({
      store,
      system: clock,
      partitions: () => [PARTITION],
      scrubbed: (result) => found.push(result),
      corrupt: (...what) => wrong.push(what),
      onFailure: (error) => failures.push(error),
    });
  });
  afterEach(async () => {
    await scrub.stop();
    await db.close();
    subject.destroy();
  });
  /** Lets time pass until it is done. */
  async function over(work: Promise<void>): Promise<void> {
    let done = false;
    void work.finally(() => {
      done = true;
    });
    while (!done) {
      await new Promise((soon) => setImmediate(soon));
      clock.pass(1_000);
    }
    return work;
  }

  it("finds a whole copy whole, with the fingerprint that the store gives, also of what was erased", async () => {
    const [ann] = await fill(store, 300, 3_000);
    ann.write(store, "floor", [{ op: "floor", frontier: [[ANN, ann.deltas.length]], erase: [[ANN, 20]], tombstones: [] }]);
    await store.flush();
    await store.eraseSome();
    store.staged.stage({ type: "sealed", delta: ann.deltas[0]!, envelope: seal(ann.deltas[0]!) });
    await store.flush();
    await over(scrub.one(PARTITION));
    const { fingerprint, frontier } = await store.fingerprint(PARTITION);
    expect([found.map((one) => [one.fingerprint, one.frontier]), wrong, failures]).toEqual([[[fingerprint, frontier]], [], []]);
    expect([found[0]!.rows > 900, found[0]!.bytes > 1_000_000]).toEqual([true, true]);
  });

  const rows: readonly (readonly [string, string, string])[] = [
    ["a delta of the log", keys.log(PARTITION, ANN, 3), "replica"],
    ["a record", keys.record(PARTITION, TENANT, "turn", "turn_1"), "replica"],
    ["the counts", keys.counts(PARTITION), "replica"],
    ["a row of the index", keys.index(PARTITION, TENANT, "turn/turn_1"), "replica"],
    ["the frontier", keys.frontier(PARTITION), "replica"],
    ["a sealed delta", keys.sealed(PARTITION, ANN, 1), "witness"],
  ];
  it.each(rows)("finds a flipped bit in %s", async (_what, key, what) => {
    const [ann] = await fill(store, 3);
    store.staged.stage({ type: "sealed", delta: ann.deltas[0]!, envelope: seal(ann.deltas[0]!) });
    await store.flush();
    const value = Uint8Array.from((await db.get(key))!);
    value[value.length - 1]! ^= 1;
    await db.put(key, value, { sync: true });
    await over(scrub.one(PARTITION));
    expect([found, failures, wrong.map(([partition, which]) => [partition, which])]).toEqual([[], [], [[PARTITION, what]]]);
  });

  it.each(rows)("whoever reads it is told which copy it belongs to: %s", async (_what, key, holding) => {
    const bytes = protect(new Uint8Array(8));
    bytes[7]! ^= 1;
    expect(() => unprotect(key, bytes)).toThrow(expect.objectContaining({ code: "CORRUPT", place: { partition: PARTITION, holding } }));
  });

  it.each([META.layout, META.vote, keys.layout(3), keys.told(ANN), keys.ownHeads(PARTITION), keys.replacing(PARTITION)])(
    "a row that is no copy's can be taken from nobody: %s",
    (key) => {
      expect(() => unprotect(key, new Uint8Array(9))).toThrow(expect.objectContaining({ code: "CORRUPT", place: undefined }));
    },
  );

  it.each([
    ["a delta", keys.log(PARTITION, BEN, 2)],
    ["the last delta of a stream", keys.log(PARTITION, BEN, 3)],
    ["a record", keys.record(PARTITION, TENANT, "turn", "turn_1")],
  ])("finds %s that is gone without a trace", async (_what, key) => {
    await fill(store, 3);
    await db.batch([{ type: "del", key }], { sync: true });
    await over(scrub.one(PARTITION));
    expect([found, wrong.map(([partition, which]) => [partition, which])]).toEqual([[], [[PARTITION, "replica"]]]);
  });

  it("is of one moment while others write, and gives them their turn between small pieces", async () => {
    const [ann] = await fill(store, 300, 3_000);
    const before = await store.fingerprint(PARTITION);
    const work = scrub.one(PARTITION);
    let wrote = 0;
    let done = false;
    void work.finally(() => {
      done = true;
    });
    while (!done) {
      take(store, ann.write(store, `meanwhile-${wrote}`, [turn(`turn_meanwhile_${wrote++}`)]));
      await store.flush();
      await new Promise((soon) => setImmediate(soon));
      clock.pass(100);
    }
    expect([found[0]?.fingerprint, wrong]).toEqual([before.fingerprint, []]);
    expect(wrote).toBeGreaterThan(10);
  });

  it("goes round after round, and stops in the middle of one", async () => {
    await fill(store, 3);
    scrub.start();
    await expect.poll(() => found.length).toBe(1);
    clock.pass(23 * 3600 * 1000);
    await new Promise((soon) => setImmediate(soon));
    expect(found.length).toBe(1);
    clock.pass(2 * 3600 * 1000);
    await expect.poll(() => found.length).toBe(2);
    await scrub.stop();
    clock.pass(100 * 3600 * 1000);
    expect([found.length, wrong, failures]).toEqual([2, [], []]);
  });

  it("begins a round at once when it is asked to, also before the first one, and not a second one beside it", async () => {
    await fill(store, 3);
    scrub.now();
    scrub.start(3600 * 1000);
    await new Promise((soon) => setImmediate(soon));
    expect(found.length).toBe(0);
    scrub.now();
    scrub.now();
    await expect.poll(() => found.length).toBe(1);
    await new Promise((soon) => setImmediate(soon));
    expect(found.length).toBe(1);
    scrub.now();
    await expect.poll(() => found.length).toBe(2);
    await scrub.stop();
    expect([wrong, failures]).toEqual([[], []]);
  });

  it("leaves a partition alone that is being replaced", async () => {
    await fill(store, 3);
    const gone = store.dropPartition(PARTITION, "replica", ANN);
    await over(scrub.one(PARTITION));
    await gone;
    expect([found, wrong, failures]).toEqual([[], [], []]);
  });
});

describe("comparing fingerprints", () => {
  const frontier = (seq: number): StreamHead[] => [{ partition: PARTITION, writer: writerNamed("ann"), seq, hash: `hash ${seq}` }];
  const told = (node: string, seq: number, fingerprint: string) => ({ node: node as NodeId, frontier: frontier(seq), fingerprint });

  it("suspects those that differ from most with their frontier, all where nobody has a majority, none with another frontier", () => {
    expect(suspects([told("a", 3, "x"), told("b", 3, "x"), told("c", 3, "y")])).toEqual(["c"]);
    expect(suspects([told("a", 3, "x"), told("b", 3, "y")])).toEqual(["a", "b"]);
    expect(suspects([told("a", 3, "x"), told("b", 4, "y"), told("c", 3, "x")])).toEqual([]);
    expect(suspects([told("a", 3, "x"), told("b", 3, "x"), told("c", 3, "y"), told("d", 3, "z")])).toEqual(["a", "b", "c", "d"]);
  });
});
