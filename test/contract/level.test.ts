import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { AbstractBatchOperation, AbstractBatchOptions, AbstractLevel } from "abstract-level";
import { Level } from "level";
import { MemoryLevel } from "memory-level";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { Rng } from "../sim/rng.ts";
import { Scheduler } from "../sim/scheduler.ts";
import { SimDisk } from "../sim/sim-disk.ts";

/**
 * What node/store relies on, on each database it meets: LevelDB in production, memory-level in unit tests, the simulated disk in the simulator.
 * If the model were kinder than LevelDB, the simulator would prove nothing.
 */
type Db = AbstractLevel<never, string, Uint8Array>;
type Operation = AbstractBatchOperation<Db, string, Uint8Array>;
const SYNC: AbstractBatchOptions<string, Uint8Array> & { sync: boolean } = { sync: true };

interface Subject {
  /** Opens the same directory (or disk) each time until `destroy`. */
  open(): Promise<Db>;
  /** Lets what was started complete: the simulated disk needs its time to pass. */
  finish<T>(work: Promise<T>): Promise<T>;
  destroy(): Promise<void>;
}

function classicLevel(): Subject {
  const directory = mkdtempSync(join(tmpdir(), "continuum-level-"));
  return {
    open: async () => {
      const db = new Level<string, Uint8Array>(directory, { keyEncoding: "utf8", valueEncoding: "view" });
      await db.open();
      return db as unknown as Db;
    },
    finish: (work) => work,
    destroy: async () => rmSync(directory, { recursive: true, force: true }),
  };
}

function memoryLevel(): Subject {
  return {
    open: async () => {
      const db = new MemoryLevel<string, Uint8Array>({ storeEncoding: "view", keyEncoding: "utf8", valueEncoding: "view" });
      await db.open();
      return db as unknown as Db;
    },
    finish: (work) => work,
    destroy: async () => {},
  };
}

function simulatedDisk(): Subject {
  const scheduler = new Scheduler();
  const disk = new SimDisk(scheduler, new Rng(2));
  let held = false;
  return {
    open: async () => {
      if (held) disk.closed();
      held = true;
      const db = disk.open();
      await db.open();
      return db as unknown as Db;
    },
    finish: async (work) => {
      await scheduler.run(scheduler.now + 1000);
      return await work;
    },
    destroy: async () => {},
  };
}

const value = (text: string) => new TextEncoder().encode(text);
const text = (bytes: Uint8Array | undefined) => (bytes === undefined ? undefined : new TextDecoder().decode(bytes));
const put = (key: string, content = key): Operation => ({ type: "put", key, value: value(content) });

describe.each([
  ["classic-level", classicLevel, true],
  ["memory-level", memoryLevel, false],
  ["the simulated disk", simulatedDisk, true],
] as const)("%s", (_name, make, persistent) => {
  let subject: Subject;
  let db: Db;

  beforeEach(async () => {
    subject = make();
    db = await subject.open();
  });
  afterEach(async () => {
    await db.close();
    await subject.destroy();
  });

  const write = (...operations: Operation[]) => subject.finish(db.batch(operations, SYNC));

  it("reads back what a synced batch wrote, at once and many at a time", async () => {
    await write(put("a", "1"), put("b", "2"));
    expect(text(db.getSync("a"))).toBe("1");
    expect(text(await db.get("b"))).toBe("2");
    expect((await db.getMany(["b", "missing", "a"])).map(text)).toEqual(["2", undefined, "1"]);
    expect(db.getSync("missing")).toBeUndefined();
    expect(await db.get("missing")).toBeUndefined();
  });

  it("gives values as Uint8Array, empty ones too, equal to what was written", async () => {
    await write({ type: "put", key: "empty", value: new Uint8Array() }, { type: "put", key: "bytes", value: Uint8Array.of(0, 255, 10) });
    expect(db.getSync("empty")?.byteLength).toBe(0);
    const bytes = db.getSync("bytes");
    expect(bytes).toBeInstanceOf(Uint8Array);
    expect([...bytes!]).toEqual([0, 255, 10]);
  });

  // memory-level keeps the caller's array, so the store may not count on a copy there; LevelDB and the model must make one.
  it.skipIf(!persistent)("keeps its own copy: changing the array afterwards changes nothing stored", async () => {
    const mine = value("before");
    const written = db.batch([{ type: "put", key: "a", value: mine }], SYNC);
    mine.fill(0);
    await subject.finish(written);
    expect(text(db.getSync("a"))).toBe("before");
  });

  it("applies a batch in its order: a later operation on a key wins", async () => {
    await write(put("a", "1"), { type: "del", key: "a" }, put("b", "1"), put("b", "2"), { type: "del", key: "missing" });
    expect(db.getSync("a")).toBeUndefined();
    expect(text(db.getSync("b"))).toBe("2");
  });

  it("does not show a synced batch before it has completed, nor part of it", async () => {
    const written = db.batch([put("a"), put("b")], SYNC);
    const early = [db.getSync("a"), db.getSync("b")].filter((found) => found !== undefined).length;
    expect(persistent ? [0, 2] : [0, 1, 2]).toContain(early);
    await subject.finish(written);
    expect([text(db.getSync("a")), text(db.getSync("b"))]).toEqual(["a", "b"]);
  });

  it("completes batches in the order they were given when each waits for the one before", async () => {
    for (let i = 0; i < 20; i++) await write(put("counter", String(i)));
    expect(text(db.getSync("counter"))).toBe("19");
  });

  it("iterates in the order of the keys' UTF-8 bytes, bounds as asked, forwards and backwards", async () => {
    const keys = ["a", "a/1", "a/2", "a0", "b", "z", "é", "日本", "\u{1f600}", "\u{ffff}"];
    await write(...new Rng(5).shuffle(keys).map((key) => put(key)));
    const byBytes = [...keys].sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
    expect(await db.keys().all()).toEqual(byBytes);
    expect(await db.keys({ reverse: true }).all()).toEqual([...byBytes].reverse());
    expect(await db.keys({ gte: "a/", lt: "a0" }).all()).toEqual(["a/1", "a/2"]);
    expect(await db.keys({ gt: "a/1", lte: "b" }).all()).toEqual(["a/2", "a0", "b"]);
    expect(await db.keys({ gte: "a/", lt: "a0", reverse: true, limit: 1 }).all()).toEqual(["a/2"]);
    expect(await db.keys({ gte: "x", lt: "y" }).all()).toEqual([]);
  });

  it("iterates entries with `for await`, and with `values`", async () => {
    await write(put("k1", "1"), put("k2", "2"), put("other", "3"));
    const iterate = async (): Promise<string[]> => {
      const seen: string[] = [];
      for await (const [key, found] of db.iterator({ gte: "k", lt: "l" })) seen.push(`${key}=${text(found)}`);
      return seen;
    };
    expect(await subject.finish(iterate())).toEqual(["k1=1", "k2=2"]);
    expect((await db.values({ gte: "k", lt: "l" }).all()).map(text)).toEqual(["1", "2"]);
  });

  it("keeps an iterator on the state of its creation while others write", async () => {
    await write(put("a"), put("c"));
    const iterator = db.keys();
    const first = await iterator.next();
    await write(put("b"), { type: "del", key: "c" });
    expect([first, ...(await iterator.all())]).toEqual(["a", "c"]);
    expect(await db.keys().all()).toEqual(["a", "b"]);
  });

  it("reads from an explicit snapshot as if nothing had happened since", async () => {
    await write(put("a", "old"), put("gone"));
    const snapshot = db.snapshot();
    await write(put("a", "new"), put("b"), { type: "del", key: "gone" });
    expect(text(db.getSync("a", { snapshot }))).toBe("old");
    expect(text(await db.get("a", { snapshot }))).toBe("old");
    expect((await db.getMany(["a", "b", "gone"], { snapshot })).map(text)).toEqual(["old", undefined, "gone"]);
    expect(await db.keys({ snapshot }).all()).toEqual(["a", "gone"]);
    expect(await subject.finish(db.iterator({ gte: "a", lt: "b", snapshot }).all())).toHaveLength(1);
    await snapshot.close();
    expect(text(db.getSync("a"))).toBe("new");
  });

  it.skipIf(!persistent)("finds after closing and opening again what was synced", async () => {
    await write(put("a", "kept"));
    await db.close();
    db = await subject.open();
    expect(text(db.getSync("a"))).toBe("kept");
    expect(await db.keys().all()).toEqual(["a"]);
  });
});
