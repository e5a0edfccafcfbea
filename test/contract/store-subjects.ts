/** The databases the store runs on, as its contract tests open them: LevelDB, memory-level as other tests use it, and the simulator's disk. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MemoryLevel } from "memory-level";
import { openLevel } from "../../node/store/level.ts";
import type { Level } from "../../node/store/level-port.ts";
import { Rng } from "../sim/rng.ts";
import { Scheduler } from "../sim/scheduler.ts";
import { SimDisk } from "../sim/sim-disk.ts";

export interface Subject {
  open(): Promise<Level>;
  /** Ends the process, so to say: what comes after is a new one on the same data. */
  reopen(db: Level): Promise<Level>;
  destroy(): void;
}

export function classicLevel(): Subject {
  const directory = mkdtempSync(join(tmpdir(), "continuum-store-"));
  const open = () => openLevel(directory);
  return {
    open,
    reopen: async (db) => {
      await db.close();
      return open();
    },
    destroy: () => rmSync(directory, { recursive: true, force: true }),
  };
}

export function memoryLevel(): Subject {
  return {
    open: async () => {
      const db = new MemoryLevel<string, Uint8Array>({ storeEncoding: "view", keyEncoding: "utf8", valueEncoding: "view" });
      await db.open();
      return db as unknown as Level;
    },
    reopen: async (db) => db,
    destroy: () => undefined,
  };
}

/** Its time passes while somebody waits for it. */
export function simulatedDisk(seed = 2): Subject & { readonly disk: SimDisk; powerCut(): Promise<Level> } {
  const scheduler = new Scheduler();
  const disk = new SimDisk(scheduler, new Rng(seed));
  const open = async (): Promise<Level> => {
    const db = disk.open();
    await db.open();
    return inItsTime(db as unknown as Level, scheduler);
  };
  return {
    disk,
    open,
    reopen: async () => {
      disk.closed();
      return open();
    },
    powerCut: async () => {
      disk.powerCut();
      return open();
    },
    destroy: () => undefined,
  };
}

function inItsTime(db: Level, scheduler: Scheduler): Level {
  const wait = async <T>(work: Promise<T>): Promise<T> => {
    let over = false;
    const end = (): void => {
      over = true;
    };
    work.then(end, end);
    await scheduler.run(scheduler.now + 60_000, () => over);
    return work;
  };
  return {
    get: (key) => wait(db.get(key)),
    getSync: (key, options) => db.getSync(key, options as object),
    put: (key, value, options) => wait(db.put(key, value, options)),
    batch: (operations, options) => wait(db.batch(operations, options)),
    async *iterator(range) {
      const rows = db.iterator(range)[Symbol.asyncIterator]();
      try {
        for (let row = await wait(rows.next()); row.done !== true; row = await wait(rows.next())) yield row.value;
      } finally {
        await rows.return?.();
      }
    },
    snapshot: () => db.snapshot(),
    close: () => wait(db.close()),
  };
}

/** Batches as they are written; with `fail`, those it says so of fail as a full disk does. */
export function watched(
  db: Level,
  onBatch: (keys: readonly string[], sync: boolean) => void,
  fail: (keys: readonly string[]) => boolean = () => false,
): Level {
  return {
    ...boundTo(db),
    batch: (operations, options) => {
      const keys = operations.map(({ key }) => key);
      if (fail(keys)) return Promise.reject(new Error("no space left on device"));
      onBatch(keys, options.sync);
      return db.batch(operations, options);
    },
  };
}

function boundTo(db: Level): Level {
  return {
    get: (key) => db.get(key),
    getSync: (key, options) => db.getSync(key, options as object),
    put: (key, value, options) => db.put(key, value, options),
    batch: (operations, options) => db.batch(operations, options),
    iterator: (range) => db.iterator(range),
    snapshot: () => db.snapshot(),
    close: () => db.close(),
  };
}
