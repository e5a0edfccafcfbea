/**
 * How fast LevelDB alone takes the rows of a node's log: every delta of it goes once through the product's own materialising (graph, search rows, store),
 * which gives the very batches a node would write; then those batches are written into an empty LevelDB, fsynced one by one, and only that is timed.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { join } from "node:path";
import { MemoryIndex } from "../../node/memory/memory-index.ts";
import { openLevel } from "../../node/store/level.ts";
import type { Level, LevelOperation } from "../../node/store/level-port.ts";
import { Store } from "../../node/store/store.ts";
import { parseDelta } from "../../protocol/delta.ts";
import { applyDelta } from "../../protocol/graph/apply.ts";
import type { Partition, WriterId } from "../../protocol/ids.ts";
import { INTERVAL_DELTAS_MAX } from "../../protocol/limits.ts";

export interface LevelRate {
  readonly deltas: number;
  readonly rows: number;
  readonly bytes: number;
  readonly perSecond: number;
  /** Processor time of a delta's rows, LevelDB's own threads included, microseconds. */
  readonly processorUs: number;
}

/** Deltas of one batch: an interval of a repair. */
const BATCH_DELTAS = INTERVAL_DELTAS_MAX;
/** Of one stream read at a time; more than a batch holds. */
const READ_BYTES = 64 * 1024 * 1024;

/**
 * @param dataDir the LevelDB folder of a node that is stopped
 * @param from per stream ("partition/writer") what is left out: the deltas up to this one
 */
export async function levelRate(dataDir: string, partitions: ReadonlySet<number>, from: ReadonlyMap<string, number>): Promise<LevelRate> {
  const folder = mkdtempSync(join(dataDir, "..", "level-rate-"));
  try {
    const { batches, deltas } = await recordBatches(dataDir, join(folder, "scratch"), partitions, from);
    const db = await openLevel(join(folder, "timed"));
    const [begun, busy] = [performance.now(), process.cpuUsage()];
    for (const batch of batches) await db.batch(batch, { sync: true });
    const [ms, { user, system }] = [performance.now() - begun, process.cpuUsage(busy)];
    await db.close();
    const rows = batches.flat();
    const bytes = rows.reduce((sum, row) => sum + row.key.length + (row.type === "put" ? row.value.length : 0), 0);
    return { deltas, rows: rows.length, bytes, perSecond: (deltas / ms) * 1000, processorUs: (user + system) / deltas };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function recordBatches(
  dataDir: string,
  scratch: string,
  partitions: ReadonlySet<number>,
  from: ReadonlyMap<string, number>,
): Promise<{ batches: LevelOperation[][]; deltas: number }> {
  const index = new MemoryIndex();
  const none = (length: number): Uint8Array => new Uint8Array(length);
  const source = await Store.open(await openLevel(dataDir), index, none);
  const recorder = new Recorder(await openLevel(scratch));
  const target = await Store.open(recorder, index, none);
  recorder.batches.length = 0;
  let deltas = 0;
  try {
    const streams = source.streams.frontiers.filter(({ partition }) => partitions.has(partition));
    // What was there before lies in the scratch store, unrecorded, so that the first new delta finds its records.
    for (const { partition, writer } of streams) await replay(source, target, partition, writer, 0, from.get(`${partition}/${writer}`) ?? 0);
    recorder.batches.length = 0;
    for (const { partition, writer, seq } of streams)
      deltas += await replay(source, target, partition, writer, from.get(`${partition}/${writer}`) ?? 0, seq);
  } finally {
    await source.close();
    await target.close();
  }
  return { batches: recorder.batches, deltas };
}

/** Deltas after `held` up to `seq`, a batch of them a flush. */
async function replay(source: Store, target: Store, partition: Partition, writer: WriterId, held: number, seq: number): Promise<number> {
  for (let at = held; at < seq; at += BATCH_DELTAS) {
    const stretch = await source.readLog(partition, writer, at + 1, Math.min(seq, at + BATCH_DELTAS), READ_BYTES);
    for (const { headerBytes, bodyBytes } of stretch) {
      const delta = parseDelta(headerBytes, bodyBytes);
      target.staged.stage({ type: "delta", delta, changes: applyDelta(delta, target.staged, []) });
    }
    await target.flush();
  }
  return Math.max(0, seq - held);
}

/** Keeps what is written through it. */
class Recorder implements Level {
  readonly batches: LevelOperation[][] = [];
  readonly #db: Level;

  constructor(db: Level) {
    this.#db = db;
  }

  batch(operations: readonly LevelOperation[]): Promise<void> {
    this.batches.push([...operations]);
    return this.#db.batch(operations, { sync: false });
  }
  get: Level["get"] = (key) => this.#db.get(key);
  getSync: Level["getSync"] = (key, options) => this.#db.getSync(key, options);
  put: Level["put"] = (key, value, options) => this.#db.put(key, value, options);
  iterator: Level["iterator"] = (range) => this.#db.iterator(range);
  snapshot: Level["snapshot"] = () => this.#db.snapshot();
  close: Level["close"] = () => this.#db.close();
}
