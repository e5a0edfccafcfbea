/** What floors (protocol/floor.ts) take from the store: what a next one could take, and the erasing of bodies that one has given up. */
import { parseBody, parseHeader } from "../../protocol/delta.ts";
import type { FloorCut } from "../../protocol/floor.ts";
import type { StreamHead } from "../../protocol/frontier.ts";
import { KIND_CODES } from "../../protocol/graph/record.ts";
import type { Partition, WriterId } from "../../protocol/ids.ts";
import { FLOOR_STREAMS_MAX, FLOOR_TOMBSTONES_MAX } from "../../protocol/limits.ts";
import { keys, protect, ranges, under, unprotect } from "./keyspace.ts";
import type { Level, LevelOperation, LevelSnapshot } from "./level-port.ts";
import { decodeErased, decodeHeads, decodePair, encodeErased, encodePair } from "./rows.ts";

/** Bytes of log read, and rows written, in one piece of erasing. */
const PIECE_BYTES = 1024 * 1024;
const PIECE_ROWS = 512;

interface Erasures {
  erasedTo(partition: Partition, writer: WriterId): number;
  erased(partition: Partition, writer: WriterId, done: number): void;
}

/** One piece. Follows the row on disk, so nothing is erased for a floor that is not durable yet. @returns whether there was something to do */
export async function eraseSome(db: Level, partition: Partition, erasures: Erasures): Promise<boolean> {
  const key = keys.erased(partition);
  const value = db.getSync(key);
  const erased = value === undefined ? new Map() : decodeErased(unprotect(key, value));
  for (const [writer, { done, to }] of erased) {
    if (done >= to) continue;
    const operations: LevelOperation[] = [];
    let bytes = 0;
    let last = to;
    for await (const [name, row] of db.iterator({ gte: keys.log(partition, writer, done + 1), lt: keys.log(partition, writer, to + 1) })) {
      const [headerBytes, bodyBytes] = decodePair(unprotect(name, row));
      if (bytes > PIECE_BYTES || operations.length >= PIECE_ROWS) {
        last = parseHeader(headerBytes).seq - 1;
        break;
      }
      bytes += row.length;
      if (bodyBytes.length > 0) operations.push({ type: "put", key: name, value: protect(encodePair(headerBytes, new Uint8Array())) });
    }
    erased.set(writer, { done: last, to });
    await db.batch([...operations, { type: "put", key, value: protect(encodeErased(erased)) }], { sync: true });
    erasures.erased(partition, writer, last);
    return true;
  }
  return false;
}

export async function floorCut(db: Level, partition: Partition, erasures: Erasures, beforeMs: number): Promise<FloorCut> {
  const snapshot = db.snapshot();
  try {
    const key = keys.frontier(partition);
    const value = db.getSync(key, { snapshot });
    const heads = (value === undefined ? [] : decodeHeads(partition, unprotect(key, value))).sort((a, b) => (a.writer < b.writer ? -1 : 1));
    // More writers than one floor can cover: nothing is collected rather than something wrong.
    if (heads.length === 0 || heads.length > FLOOR_STREAMS_MAX)
      return { partition, frontier: [], erase: [], tombstones: new Map(), tenant: undefined };
    const { tombstones, tenant } = await tombstonesOf(db, partition, snapshot);
    const erase = heads.flatMap((head): [WriterId, number][] => {
      const done = erasures.erasedTo(partition, head.writer);
      const to = lastBefore(db, head, done, beforeMs, snapshot);
      return to > done ? [[head.writer, to]] : [];
    });
    return {
      partition,
      frontier: heads.map(({ writer, seq }) => [writer, seq] as const),
      erase,
      tombstones,
      tenant: tenant ?? tenantOf(db, heads, snapshot),
    };
  } finally {
    await snapshot.close();
  }
}

/** From tenant to tenant without reading what lies between. */
async function tombstonesOf(
  db: Level,
  partition: Partition,
  snapshot: LevelSnapshot,
): Promise<{ tombstones: ReadonlyMap<string, readonly string[]>; tenant: string | undefined }> {
  const tombstones = new Map<string, string[]>();
  const { gte, lt } = ranges.records(partition);
  let left = FLOOR_TOMBSTONES_MAX;
  let some: string | undefined;
  let from = gte;
  while (left > 0) {
    const tenant = await firstTenant(db, from, lt, snapshot);
    if (tenant === undefined) break;
    some ??= tenant;
    const prefix = `${gte}${tenant}/${KIND_CODES.tombstone}`;
    const found: string[] = [];
    for await (const [key] of db.iterator({ ...under(prefix), snapshot, values: false })) {
      found.push(key.slice(prefix.length + 1));
      if (--left === 0) break;
    }
    if (found.length > 0) tombstones.set(tenant, found.sort());
    from = under(`${gte}${tenant}`).lt;
  }
  return { tombstones, tenant: some };
}

async function firstTenant(db: Level, gte: string, lt: string, snapshot: LevelSnapshot): Promise<string | undefined> {
  for await (const [key] of db.iterator({ gte, lt, snapshot, values: false })) return key.split("/")[2];
  return undefined;
}

/** The highest number of the stream whose clock value is before `ms`; at least `done`. Clock values of a stream rise, so halving finds it. */
function lastBefore(db: Level, { partition, writer, seq }: StreamHead, done: number, ms: number, snapshot: LevelSnapshot): number {
  let [low, high] = [done, seq];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    const row = deltaAt(db, partition, writer, middle, snapshot);
    if (row !== undefined && parseHeader(row[0]).hlc[0] < ms) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** Where no record is left, a log still names a tenant of the partition: under it a floor is numbered. */
function tenantOf(db: Level, heads: readonly StreamHead[], snapshot: LevelSnapshot): string | undefined {
  for (const { partition, writer, seq } of heads) {
    const row = deltaAt(db, partition, writer, seq, snapshot);
    if (row !== undefined && row[1].length > 0) return parseBody(row[1]).tenant;
  }
  return undefined;
}

function deltaAt(db: Level, partition: Partition, writer: WriterId, seq: number, snapshot: LevelSnapshot): [Uint8Array, Uint8Array] | undefined {
  const key = keys.log(partition, writer, seq);
  const value = db.getSync(key, { snapshot });
  return value === undefined ? undefined : decodePair(unprotect(key, value));
}
