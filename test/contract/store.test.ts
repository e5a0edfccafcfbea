import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import type { GraphIndex } from "../../node/ports.ts";
import { keys, META, protect, STORE_FORMAT } from "../../node/store/keyspace.ts";
import { openLevel } from "../../node/store/level.ts";
import type { Level, LevelOperation } from "../../node/store/level-port.ts";
import { Store } from "../../node/store/store.ts";
import { StoreError } from "../../node/store/store-error.ts";
import type { Delta } from "../../protocol/delta.ts";
import type { Batch } from "../../protocol/effects.ts";
import { applyDelta } from "../../protocol/graph/apply.ts";
import type { Contribution } from "../../protocol/graph/records.ts";
import type { Partition } from "../../protocol/ids.ts";
import { Author, DECAY, keyNamed, PARTITION, START_MS, TENANT } from "../unit/graph-executions.ts";
import { seal } from "../unit/replica-world.ts";
import { classicLevel, memoryLevel, type Subject, simulatedDisk } from "./store-subjects.ts";

/** One row for each concept that readers see, as the search index would keep. */
const index: GraphIndex = {
  rows: ({ kind, id, after }) => (kind === "concept" ? [{ key: `concept/${id}`, value: after === undefined ? undefined : Uint8Array.of(1) }] : []),
  committed: () => undefined,
  ready: async () => undefined,
  dropped: () => undefined,
};
const random = (first: number) => (length: number) => new Uint8Array(length).fill(first);
const settings = { resonanceDecay: DECAY.resonanceDecay, hebbianRate: 0.15, periodMs: DECAY.periodMs };

const tide = (mass = 1): Contribution => ({ op: "concept", id: "tide", mass });
function written(...requests: readonly (readonly Contribution[])[]): Delta[] {
  const author = new Author("ann");
  for (const [at, contributions] of requests.entries()) author.write(contributions, `key-${at}`, START_MS + at);
  return author.own;
}
function take(store: Store, delta: Delta): void {
  store.staged.stage({ type: "delta", delta, changes: applyDelta(delta, store.staged, []) });
}
function codeOf(error: unknown): string {
  return error instanceof StoreError ? error.code : `not a StoreError: ${error}`;
}
const seen = (snapshot: { frontier(partition: Partition): readonly { seq: number }[] }) => snapshot.frontier(PARTITION).map(({ seq }) => seq);

describe.each([
  ["classic-level", classicLevel, true],
  ["memory-level", memoryLevel, false],
  ["the simulated disk", () => simulatedDisk(), false],
] as const)("the store on %s", (_name, make, real) => {
  let subject: Subject;
  let db: Level;
  let store: Store;

  beforeEach(async () => {
    subject = make();
    db = await subject.open();
    store = await Store.open(db, index, random(1));
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
  async function corrupt(key: string): Promise<void> {
    const value = Uint8Array.from((await db.get(key)) as Uint8Array);
    value[value.length - 1]! ^= 1;
    await db.put(key, value, { sync: true });
  }

  it("keeps the incarnation it was born with over every start", async () => {
    const born = store.incarnation;
    expect(born).toBe("01".repeat(16));
    expect((await reopened()).incarnation).toBe(born);
  });

  it("finds after a start what was flushed: frontier, records, keys, log and clock", async () => {
    const deltas = written([tide()], [tide(2)]);
    for (const delta of deltas) take(store, delta);
    await store.flush();
    const again = await reopened();
    const last = deltas[1]!;
    expect(again.streams.frontiers).toEqual([{ partition: PARTITION, writer: last.header.writer, seq: 2, hash: last.hash }]);
    expect(again.highWater).toEqual(last.header.hlc);
    expect(again.staged.record(TENANT, "concept", "tide")?.occurrences.totals[last.header.writer]?.mass).toBe(3);
    expect(again.staged.executions(PARTITION, keyNamed("key-1"))).toEqual([{ writer: last.header.writer, seq: 2 }]);
    expect(again.staged.delta(PARTITION, last.header.writer, 2)?.hash).toBe(last.hash);
  });

  it("reads what is staged before it is flushed, and nobody else sees it", async () => {
    const [first, second] = written([tide()], [tide(2)]) as [Delta, Delta];
    take(store, first);
    take(store, second);
    expect(store.staged.hasStaged).toBe(true);
    expect(store.staged.record(TENANT, "concept", "tide")?.occurrences.totals[first.header.writer]?.mass).toBe(3);
    expect(store.staged.executions(PARTITION, keyNamed("key-0"))).toHaveLength(1);
    expect(store.staged.delta(PARTITION, first.header.writer, 2)?.hash).toBe(second.hash);
    const snapshot = store.snapshot();
    expect([seen(snapshot), snapshot.reader(TENANT, settings).concept("tide")]).toEqual([[], undefined]);
    await snapshot.close();
    const flushing = store.flush();
    expect(store.staged.record(TENANT, "concept", "tide")?.occurrences.totals[first.header.writer]?.mass).toBe(3);
    expect(store.staged.delta(PARTITION, first.header.writer, 2)?.hash).toBe(second.hash);
    await flushing;
    expect(store.staged.hasStaged).toBe(false);
  });

  it("writes deltas that arrive together in one batch with one fsync, everything of each in it", async () => {
    const batches: { count: number; sync: boolean; keys: string[] }[] = [];
    const watched = new Proxy(db, {
      get: (target, name) => {
        if (name === "batch") {
          return (operations: readonly LevelOperation[], options: { sync: boolean }) => {
            batches.push({ count: operations.length, sync: options.sync, keys: operations.map(({ key }) => key) });
            return target.batch(operations, options);
          };
        }
        const value = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const watchedStore = await Store.open(watched, index, random(1));
    const deltas = written([tide()], [tide()], [tide()]);
    for (const delta of deltas) take(watchedStore, delta);
    const { batches: flushed } = await watchedStore.flush();
    expect(flushed).toHaveLength(3);
    expect(batches).toHaveLength(1);
    expect(batches[0]!.sync).toBe(true);
    const { writer } = deltas[0]!.header;
    for (const key of [
      ...[1, 2, 3].map((seq) => keys.log(PARTITION, writer, seq)),
      ...[0, 1, 2].map((at) => keys.idempotency(PARTITION, keyNamed(`key-${at}`))),
      keys.record(PARTITION, TENANT, "concept", "tide"),
      keys.index(PARTITION, TENANT, "concept/tide"),
      keys.frontier(PARTITION),
      META.clock,
    ])
      expect(batches[0]!.keys.filter((one) => one === key)).toHaveLength(1);
  });

  it("says FAILED when the disk does, and has stored nothing of it", async () => {
    const failing = new Proxy(db, {
      get: (target, name) => {
        if (name === "batch") return () => Promise.reject(new Error("no space left on device"));
        const value = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const failingStore = await Store.open(failing, index, random(1));
    for (const delta of written([tide()], [tide()])) take(failingStore, delta);
    expect(codeOf(await failingStore.flush().catch((error: unknown) => error))).toBe("FAILED");
    expect((await reopened()).streams.frontiers).toEqual([]);
    expect(store.staged.record(TENANT, "concept", "tide")).toBeUndefined();
  });

  it("reads a snapshot as of its moment, whatever is written afterwards", async () => {
    const [first, second] = written([tide()], [tide(2)]) as [Delta, Delta];
    take(store, first);
    await store.flush();
    const snapshot = store.snapshot();
    const reader = snapshot.reader(TENANT, settings);
    take(store, second);
    await store.flush();
    expect([seen(snapshot), reader.concept("tide")?.occurrences.totals[first.header.writer]?.mass]).toEqual([[1], 1]);
    await snapshot.close();
    const later = store.snapshot();
    expect([seen(later), later.reader(TENANT, settings).concept("tide")?.occurrences.totals[first.header.writer]?.mass]).toEqual([[2], 3]);
    await later.close();
  });

  it("shows readers no record that only remembers a removal, and keeps no index row of it", async () => {
    for (const delta of written([tide()], [{ op: "delete", kind: "concept", id: "tide" }])) take(store, delta);
    await store.flush();
    const snapshot = store.snapshot();
    expect(snapshot.reader(TENANT, settings).concept("tide")).toBeUndefined();
    await snapshot.close();
    expect(store.staged.record(TENANT, "concept", "tide")).toBeDefined();
    const rows: string[] = [];
    for await (const { key } of store.indexRows(TENANT, "")) rows.push(key);
    expect(rows).toEqual([]);
  });

  it.each([
    ["a record", () => keys.record(PARTITION, TENANT, "concept", "tide"), () => store.staged.record(TENANT, "concept", "tide")],
    ["a key", () => keys.idempotency(PARTITION, keyNamed("key-0")), () => store.staged.executions(PARTITION, keyNamed("key-0"))],
  ] as const)("calls %s whose checksum does not match CORRUPT", async (_what, key, read) => {
    for (const delta of written([tide()])) take(store, delta);
    await store.flush();
    await corrupt(key());
    await reopened();
    let code = "nothing thrown";
    try {
      read();
    } catch (error) {
      code = codeOf(error);
    }
    expect(code).toBe("CORRUPT");
  });

  it("calls a delta of the log whose checksum does not match CORRUPT, and serves it to nobody", async () => {
    const [delta] = written([tide()]) as [Delta];
    take(store, delta);
    await store.flush();
    await corrupt(keys.log(PARTITION, delta.header.writer, 1));
    await reopened();
    expect(codeOf(await store.readLog(PARTITION, delta.header.writer, 1, 1, 1000).catch((error: unknown) => error))).toBe("CORRUPT");
  });

  it.each([["frontier"], ["incarnation"], ["clock"], ["format"]] as const)("does not open with a corrupt %s", async (what) => {
    for (const delta of written([tide()])) take(store, delta);
    await store.flush();
    await corrupt(what === "frontier" ? keys.frontier(PARTITION) : META[what]);
    expect(codeOf(await reopened().catch((error: unknown) => error))).toBe("CORRUPT");
  });

  it("does not open without its incarnation: that would be another writer's data", async () => {
    await db.batch([{ type: "del", key: META.incarnation }], { sync: true });
    expect(codeOf(await reopened().catch((error: unknown) => error))).toBe("CORRUPT");
  });

  it("refuses data of a newer format, and opens its own", async () => {
    const format = (number: number) => db.put(META.format, protect(new TextEncoder().encode(String(number))), { sync: true });
    await format(STORE_FORMAT + 1);
    expect(codeOf(await reopened().catch((error: unknown) => error))).toBe("NEWER_FORMAT");
    await format(STORE_FORMAT);
    expect((await reopened()).incarnation).toBe("01".repeat(16));
  });

  it("gives equal content equal fingerprints, however it was grouped, and other content another (P3)", async () => {
    const other = make();
    const otherDb = await other.open();
    try {
      const deltas = written([tide(), { op: "link", a: "tide", b: "moon", mass: 1 }], [tide()]);
      const otherStore = await Store.open(otherDb, index, random(3));
      for (const delta of deltas) take(store, delta);
      await store.flush();
      for (const delta of deltas) {
        take(otherStore, delta);
        await otherStore.flush();
      }
      const [one, two] = [await store.fingerprint(PARTITION), await otherStore.fingerprint(PARTITION)];
      expect(two).toEqual(one);
      expect(one.frontier.map(({ seq }) => seq)).toEqual([2]);
      const more = new Author("ben").write([tide()], "of ben", START_MS) as Delta;
      take(otherStore, more);
      await otherStore.flush();
      expect((await otherStore.fingerprint(PARTITION)).fingerprint).not.toBe(one.fingerprint);
      expect((await store.fingerprint(PARTITION)).fingerprint).toBe(one.fingerprint);
    } finally {
      await otherDb.close();
      other.destroy();
    }
  });

  it("reads a stretch of the log, in order, until enough bytes are read", async () => {
    const deltas = written(...Array.from({ length: 20 }, () => [tide()]));
    for (const delta of deltas) take(store, delta);
    await store.flush();
    const { writer } = deltas[0]!.header;
    const stretch = await store.readLog(PARTITION, writer, 15, 18, 1_000_000);
    expect(stretch.map(({ headerBytes }) => Buffer.from(headerBytes))).toEqual(
      deltas.slice(14, 18).map(({ headerBytes }) => Buffer.from(headerBytes)),
    );
    expect(stretch.map(({ bodyBytes }) => Buffer.from(bodyBytes))).toEqual(deltas.slice(14, 18).map(({ bodyBytes }) => Buffer.from(bodyBytes)));
    expect(await store.readLog(PARTITION, writer, 1, 20, 1)).toHaveLength(1);
    expect(await store.readLog(PARTITION, writer, 21, 30, 1_000_000)).toEqual([]);
  });

  it("keeps what a witness keeps sealed, with its mark, and forgets it when told", async () => {
    const deltas = written([tide()], [tide()], [tide()]);
    const { writer } = deltas[0]!.header;
    const sealed = deltas.map((delta): Extract<Batch, { type: "sealed" }> => ({ type: "sealed", delta, envelope: seal(delta) }));
    for (const batch of sealed) store.staged.stage(batch);
    await store.flush();
    await reopened();
    expect(store.streams.marks).toEqual([{ partition: PARTITION, writer, seq: 3, hash: deltas[2]!.hash }]);
    expect(store.streams.frontiers).toEqual([]);
    expect(store.staged.sealedTotals().deltas).toBe(3);
    const kept = await store.readSealed(PARTITION, writer, 2, 3, 1_000_000);
    expect(kept.map(({ sealedBody }) => Buffer.from(sealedBody))).toEqual(sealed.slice(1).map(({ envelope }) => Buffer.from(envelope.sealedBody)));
    store.staged.stage({ type: "forget", partition: PARTITION, writer, seq: 2 });
    store.staged.stage({ type: "mark", head: { partition: PARTITION, writer, seq: 9, hash: deltas[2]!.hash } });
    await store.flush();
    await reopened();
    expect(store.streams.marks.map(({ seq }) => seq)).toEqual([9]);
    expect(store.staged.sealedTotals().deltas).toBe(1);
    expect(await store.readSealed(PARTITION, writer, 1, 2, 1_000_000)).toEqual([]);
  });

  it("keeps what it is given beside the graph, one put after the other", async () => {
    expect(await store.meta("layout")).toBeUndefined();
    await Promise.all([1, 2, 3].map((value) => store.putMeta("layout", Uint8Array.of(value))));
    expect([...((await (await reopened()).meta("layout")) as Uint8Array)]).toEqual([3]);
  });

  it.runIf(real)("is one process's: a second one is told LOCKED", async () => {
    const directory = mkdtempSync(join(tmpdir(), "continuum-locked-"));
    const first = await openLevel(directory);
    try {
      expect(codeOf(await openLevel(directory).catch((error: unknown) => error))).toBe("LOCKED");
    } finally {
      await first.close();
      rmSync(directory, { recursive: true, force: true });
    }
  });
});
