/**
 * Taking a partition's rows away, crash-safe: in one fsynced batch the frontier goes and a marker takes its place, then the rows go in bounded batches, then
 * the marker. Every batch is fsynced: LevelDB begins a new log file every few megabytes and does not fsync the one before, so a later fsync does not make
 * earlier batches durable that lie in another file, and a row could come back under a frontier that knows nothing of it.
 */
import type { Head, StreamHead } from "../../protocol/frontier.ts";
import type { Partition, WriterId } from "../../protocol/ids.ts";
import { type Holding, keys, partitionAt, protect, ranges, rowsOf, unprotect } from "./keyspace.ts";
import type { Level, LevelOperation } from "./level-port.ts";
import { decodeHeads, decodeReplacing, encodeHeads, encodeReplacing, type Replacing } from "./rows.ts";

/** Rows of one batch: a few hundred KB of keys. */
const BATCH_ROWS = 2_000;

/** What runs one write at a time, in the order asked. */
export type InOrder = <T>(write: () => Promise<T>) => Promise<T>;

/**
 * @param own this node's writer: how far its own stream went is kept, so that no number is used again when the partition comes back (P4)
 * @param held what is on disk of the partition
 * @returns the own streams now kept of the partition
 */
export async function beginClearing(
  db: Level,
  partition: Partition,
  what: Holding,
  own: WriterId,
  held: readonly StreamHead[],
  replacing: Replacing,
): Promise<StreamHead[]> {
  const { single } = rowsOf(partition, what);
  const kept = headsAt(db, keys.ownHeads(partition), partition);
  const head = held.find(({ writer }) => writer === own);
  if (head !== undefined && head.seq > (kept.get(own)?.seq ?? 0)) kept.set(own, { seq: head.seq, hash: head.hash });
  const operations: LevelOperation[] = single.map((key) => ({ type: "del", key }));
  if (kept.size > 0) operations.push({ type: "put", key: keys.ownHeads(partition), value: protect(encodeHeads(kept)) });
  operations.push({ type: "put", key: markerOf(partition, what), value: protect(encodeReplacing(replacing)) });
  await db.batch(operations, { sync: true });
  return [...kept].map(([writer, { seq, hash }]) => ({ partition, writer, seq, hash }));
}

/** Until none is left; others may write in between. */
export async function clearRows(db: Level, partition: Partition, what: Holding, inOrder: InOrder): Promise<void> {
  const { single, ranges: many } = rowsOf(partition, what);
  // What a copy that was given up had brought of them.
  await inOrder(() => remove(db, single));
  for (const range of many) {
    let batch: string[] = [];
    for await (const [key] of db.iterator({ ...range, values: false })) {
      batch.push(key);
      if (batch.length < BATCH_ROWS) continue;
      const full = batch;
      batch = [];
      await inOrder(() => remove(db, full));
    }
    if (batch.length > 0) await inOrder(() => remove(db, batch));
  }
}

function remove(db: Level, names: readonly string[]): Promise<void> {
  return db.batch(
    names.map((key) => ({ type: "del", key })),
    { sync: true },
  );
}

export function endClearing(db: Level, partition: Partition, what: Holding): Promise<void> {
  return db.batch([{ type: "del", key: markerOf(partition, what) }], { sync: true });
}

/** What a crash interrupted is finished before anything is read. A copy stays marked: the partition counts as none until a snapshot has taken its place. */
export async function finishClearing(db: Level): Promise<Map<Partition, Extract<Replacing, { what: "copy" }>>> {
  const copies = new Map<Partition, Extract<Replacing, { what: "copy" }>>();
  const alone: InOrder = (write) => write();
  for (const what of ["replica", "witness"] as const) {
    const markers: [Partition, Replacing][] = [];
    for await (const [key, value] of db.iterator(what === "replica" ? ranges.replacing() : ranges.clearingWitness()))
      markers.push([partitionAt(key), decodeReplacing(unprotect(key, value))]);
    for (const [partition, replacing] of markers) {
      await clearRows(db, partition, what, alone);
      if (replacing.what === "copy") copies.set(partition, replacing);
      else await endClearing(db, partition, what);
    }
  }
  return copies;
}

export function headsAt(db: Level, key: string, partition: Partition): Map<WriterId, Head> {
  const value = db.getSync(key);
  if (value === undefined) return new Map();
  return new Map(decodeHeads(partition, unprotect(key, value)).map(({ writer, seq, hash }) => [writer, { seq, hash }]));
}

function markerOf(partition: Partition, what: Holding): string {
  return what === "replica" ? keys.replacing(partition) : keys.clearingWitness(partition);
}
