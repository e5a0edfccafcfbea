/**
 * What is on its way to disk, and everything below it: the state a step reads. Batches staged together become one LevelDB batch with one fsync
 * (group commit); a record that several of them change is encoded once. Reads look at what is staged, then at what is being flushed, then at a bounded
 * cache, then at LevelDB (synchronously: a decision is made on one state, and a cached block answers in microseconds).
 */
import { sealedUnder } from "../../crypto/seal.ts";
import { type Hlc, laterHlc } from "../../protocol/clock.ts";
import { type Delta, type DeltaHeader, parseDelta, parseHeader } from "../../protocol/delta.ts";
import type { Batch } from "../../protocol/effects.ts";
import { ProtocolError } from "../../protocol/errors.ts";
import type { Head, StreamHead } from "../../protocol/frontier.ts";
import { decodeRecord, encodeRecord, isVisible } from "../../protocol/graph/record.ts";
import type { GraphRecord, Kind, Positions, RecordOf } from "../../protocol/graph/records.ts";
import type { KeyHash, Partition, WriterId } from "../../protocol/ids.ts";
import { partitionOf } from "../../protocol/layout.ts";
import { positionOf, type StagedState } from "../../protocol/replica.ts";
import type { News } from "../../protocol/spread.ts";
import type { GraphIndex, RecordChange } from "../ports.ts";
import { CHECKSUM_BYTES, type Holding, isOfReplica, isOfWitness, keys, META, partitionAt, protect, seal, unprotect } from "./keyspace.ts";
import type { Level, LevelOperation } from "./level-port.ts";
import {
  decodeExecutions,
  decodePair,
  type Erased,
  type ExecutionAt,
  encodeCounts,
  encodeErased,
  encodeExecutions,
  encodeHeads,
  encodeHlc,
  encodePair,
  NO_RECORDS,
  type RecordCounts,
} from "./rows.ts";

import type { Copied } from "./snapshot-rows.ts";

/** A value that is not on disk yet, kept decoded, encoded when flushed. */
type Row =
  | { readonly record: GraphRecord }
  | { readonly executions: readonly ExecutionAt[] }
  | { readonly delta: Delta }
  | { readonly bytes: Uint8Array }
  | typeof GONE;
/** Deletes what is on disk. */
const GONE = Symbol("gone");

/** Records kept decoded after they were read or written. */
const CACHE_RECORDS_MAX = 50_000;
/** Keys known not to be on disk: one step asks for the same new record several times. */
const ABSENT_MAX = 10_000;

/** A sealed delta that is kept, and the public id of the secret it is sealed under. */
interface Kept {
  readonly seq: number;
  readonly bytes: number;
  secret: string;
}

/** A stretch of a stream that is sealed again at once. */
const RESEAL_DELTAS_MAX = 64;
const RESEAL_BYTES_MAX = 512 * 1024;

/** What one flush wrote. */
export interface Flush {
  readonly batches: readonly Batch[];
  readonly changes: readonly RecordChange[];
}

export class Staged implements StagedState {
  readonly #db: Level;
  readonly #index: GraphIndex;
  #rows = new Map<string, Row>();
  #flushing = new Map<string, Row>();
  readonly #cache = new Map<string, GraphRecord>();
  readonly #absent = new Set<string>();
  #batches: Batch[] = [];
  #changes: RecordChange[] = [];
  #touched = new Map<string, { readonly key: string; readonly heads: ReadonlyMap<WriterId, Head> }>();
  #highWater: Hlc;
  readonly #frontiers = new Map<Partition, Map<WriterId, Head>>();
  readonly #marks = new Map<Partition, Map<WriterId, Head>>();
  /** Sealed deltas on disk or on their way: per stream, ascending. */
  readonly #sealed = new Map<string, Kept[]>();
  #sealedBytes = 0;
  readonly #sealedUnder = new Map<string, number>();
  readonly #partitions = new Map<string, Partition>();
  readonly #counts: Map<Partition, RecordCounts>;
  readonly #counted = new Set<Partition>();
  readonly #erased: Map<Partition, Map<WriterId, Erased>>;
  readonly #erasing = new Set<Partition>();
  /** Rows on disk that are on their way out: they are read by nobody, and none is added. */
  readonly #closed: Readonly<Record<Holding, Set<Partition>>> = { replica: new Set(), witness: new Set() };

  constructor(
    db: Level,
    index: GraphIndex,
    loaded: {
      frontiers: readonly StreamHead[];
      marks: readonly StreamHead[];
      sealed: readonly ({ partition: Partition; writer: WriterId } & Kept)[];
      highWater: Hlc;
      counts: ReadonlyMap<Partition, RecordCounts>;
      erased: ReadonlyMap<Partition, ReadonlyMap<WriterId, Erased>>;
    },
  ) {
    this.#db = db;
    this.#index = index;
    this.#highWater = loaded.highWater;
    this.#counts = new Map(loaded.counts);
    this.#erased = new Map([...loaded.erased].map(([partition, erased]) => [partition, new Map(erased)]));
    for (const head of loaded.frontiers) headsOf(this.#frontiers, head.partition).set(head.writer, head);
    for (const head of loaded.marks) headsOf(this.#marks, head.partition).set(head.writer, head);
    for (const { partition, writer, ...kept } of loaded.sealed) this.#keepSealed(partition, writer, kept);
  }

  get hasStaged(): boolean {
    return this.#batches.length > 0;
  }

  /** Sealed deltas kept as a witness. */
  sealedTotals(partition?: Partition): { deltas: number; bytes: number } {
    let deltas = 0;
    let bytes = 0;
    for (const [stream, list] of this.#sealed) {
      if (partition !== undefined && !stream.startsWith(`${partition}/`)) continue;
      deltas += list.length;
      for (const one of list) bytes += one.bytes;
    }
    return { deltas, bytes };
  }

  /** Visible records of a partition, what is staged included. */
  counts(partition: Partition): Readonly<RecordCounts> {
    return this.#counts.get(partition) ?? NO_RECORDS;
  }

  // ---- StagedState ---------------------------------------------------------------------------------------------

  record<K extends Kind>(tenant: string, kind: K, id: string): RecordOf<K> | undefined {
    return this.#record(keys.record(this.#partitionOf(tenant), tenant, kind, id)) as RecordOf<K> | undefined;
  }

  executions(partition: Partition, key: KeyHash): readonly ExecutionAt[] {
    const name = keys.idempotency(partition, key);
    const row = this.#row(name);
    if (row !== undefined && row !== GONE && "executions" in row) return row.executions;
    const value = this.#get(name);
    return value === undefined ? [] : decodeExecutions(unprotect(name, value));
  }

  delta(partition: Partition, writer: WriterId, seq: number): Delta | undefined {
    const name = keys.log(partition, writer, seq);
    const row = this.#row(name);
    if (row !== undefined && row !== GONE && "delta" in row) return row.delta;
    const stored = this.#stored(name);
    // A floor has erased its body.
    return stored === undefined || stored[1].length === 0 ? undefined : parseDelta(...stored);
  }

  /** Of a delta of the log, also where its body was erased. */
  deltaHeader(partition: Partition, writer: WriterId, seq: number): DeltaHeader | undefined {
    const name = keys.log(partition, writer, seq);
    const row = this.#row(name);
    if (row !== undefined && row !== GONE && "delta" in row) return row.delta.header;
    const stored = this.#stored(name);
    return stored === undefined ? undefined : parseHeader(stored[0]);
  }

  /** Bodies of the stream up to here are erased, or about to be: what lies below is served as a snapshot. */
  erasedTo(partition: Partition, writer: WriterId): number {
    return this.#erased.get(partition)?.get(writer)?.to ?? 0;
  }

  /** The bodies are gone up to here. */
  erased(partition: Partition, writer: WriterId, done: number): void {
    const erased = this.#erased.get(partition)?.get(writer);
    if (erased !== undefined) this.#erased.get(partition)?.set(writer, { done: Math.max(done, erased.done), to: erased.to });
  }

  partitionsToErase(): Partition[] {
    return [...this.#erased].flatMap(([partition, streams]) => ([...streams.values()].some(({ done, to }) => done < to) ? [partition] : []));
  }

  keptFrom(partition: Partition, writer: WriterId): number | undefined {
    return this.#sealed.get(`${partition}/${writer}`)?.[0]?.seq;
  }

  get sealedBytes(): number {
    return this.#sealedBytes;
  }

  /** How many sealed deltas are kept under which secret, by its public id. */
  get sealedUnder(): ReadonlyMap<string, number> {
    return this.#sealedUnder;
  }

  /** What is kept under another secret than this one, a bounded stretch of a stream at a time; it may be forgotten before it is looked at. */
  *sealedNotUnder(secret: string): Generator<{ readonly partition: Partition; readonly writer: WriterId; readonly seqs: readonly number[] }> {
    for (const [stream, kept] of this.#sealed) {
      const [partition, writer] = stream.split("/") as [string, WriterId];
      for (let after = 0; ; ) {
        const seqs: number[] = [];
        let bytes = 0;
        for (let at = indexAfter(kept, after); at < kept.length && seqs.length < RESEAL_DELTAS_MAX && bytes < RESEAL_BYTES_MAX; at++) {
          const one = kept[at] as Kept;
          after = one.seq;
          if (one.secret === secret) continue;
          seqs.push(one.seq);
          bytes += one.bytes;
        }
        if (seqs.length === 0) break;
        yield { partition: Number(partition) as Partition, writer, seqs };
      }
    }
  }

  /** It is on disk under this secret now. */
  resealed(partition: Partition, writer: WriterId, seqs: readonly number[], secret: string): void {
    const kept = this.#sealed.get(`${partition}/${writer}`) ?? [];
    for (const seq of seqs) {
      const one = kept[indexAfter(kept, seq - 1)];
      if (one?.seq !== seq) continue;
      this.#countSecret(one.secret, -1);
      this.#countSecret(secret, 1);
      one.secret = secret;
    }
  }

  #keepSealed(partition: Partition, writer: WriterId, kept: Kept): void {
    this.#sealedOf(partition, writer).push(kept);
    this.#sealedBytes += kept.bytes;
    this.#countSecret(kept.secret, 1);
  }

  #letGo({ bytes, secret }: Kept): void {
    this.#sealedBytes -= bytes;
    this.#countSecret(secret, -1);
  }

  #countSecret(secret: string, change: number): void {
    const deltas = (this.#sealedUnder.get(secret) ?? 0) + change;
    if (deltas === 0) this.#sealedUnder.delete(secret);
    else this.#sealedUnder.set(secret, deltas);
  }

  stage(batch: Batch): void {
    const partition = batch.type === "mark" ? batch.head.partition : batch.type === "forget" ? batch.partition : batch.delta.header.partition;
    if (this.#closed[batch.type === "delta" ? "replica" : "witness"].has(partition))
      throw new ProtocolError("INVARIANT", "a batch for a partition whose rows are being cleared", { partition, type: batch.type });
    this.#batches.push(batch);
    switch (batch.type) {
      case "delta":
        this.#stageDelta(batch);
        break;
      case "sealed": {
        const { partition, writer, seq } = batch.delta.header;
        const bytes = encodePair(batch.envelope.headerBytes, batch.envelope.sealedBody);
        this.#rows.set(keys.sealed(partition, writer, seq), { bytes });
        this.#keepSealed(partition, writer, { seq, bytes: bytes.length, secret: sealedUnder(batch.envelope.sealedBody) });
        this.#highWater = laterHlc(this.#highWater, batch.delta.header.hlc);
        break;
      }
      case "forget": {
        const kept = this.#sealedOf(batch.partition, batch.writer);
        while (kept.length > 0 && (kept[0] as Kept).seq <= batch.seq) {
          const one = kept.shift() as Kept;
          this.#letGo(one);
          this.#rows.set(keys.sealed(batch.partition, batch.writer, one.seq), GONE);
        }
        return;
      }
      case "mark":
        break;
    }
    const { kind, head } = positionOf(batch) as News;
    const isReplica = kind === "heads";
    const heads = headsOf(isReplica ? this.#frontiers : this.#marks, head.partition);
    heads.set(head.writer, head);
    const key = isReplica ? keys.frontier(head.partition) : keys.marks(head.partition);
    this.#touched.set(key, { key, heads });
  }

  // ---- a partition goes, or is replaced as a whole ---------------------------------------------------------------

  /** From here on nothing of it is read, and staging for it is a mistake. */
  close(partition: Partition, what: Holding): void {
    this.#closed[what].add(partition);
  }

  /** Staged is only what is in memory: rows that wait are forgotten with their batches, so nobody hears that they are durable. Not while a flush runs. */
  forget(partition: Partition, what: Holding): void {
    const isOf = what === "replica" ? isOfReplica : isOfWitness;
    for (const map of [this.#rows, this.#touched, this.#cache]) for (const key of map.keys()) if (isOf(key, partition)) map.delete(key);
    this.#absent.clear();
    const stays = (batch: Batch): boolean => {
      if ((batch.type === "delta") !== (what === "replica")) return true;
      return (batch.type === "mark" ? batch.head.partition : batch.type === "forget" ? batch.partition : batch.delta.header.partition) !== partition;
    };
    this.#batches = this.#batches.filter(stays);
    if (what === "replica") {
      this.#changes = this.#changes.filter(({ tenant }) => this.#partitionOf(tenant) !== partition);
      this.#frontiers.delete(partition);
      this.#counts.delete(partition);
      this.#counted.delete(partition);
      this.#erased.delete(partition);
      this.#erasing.delete(partition);
      this.#index.dropped(partition);
    } else {
      this.#marks.delete(partition);
      for (const [stream, kept] of this.#sealed) {
        if (!stream.startsWith(`${partition}/`)) continue;
        for (const one of kept) this.#letGo(one);
        this.#sealed.delete(stream);
      }
    }
  }

  /** The rows are gone, or all of the new ones are there. */
  open(partition: Partition, what: Holding, copied?: Copied): void {
    this.#closed[what].delete(partition);
    this.#absent.clear();
    if (copied === undefined) return;
    this.#counts.set(partition, copied.counts);
    this.#erased.set(partition, new Map(copied.erased));
    for (const head of copied.heads) headsOf(this.#frontiers, partition).set(head.writer, { seq: head.seq, hash: head.hash });
    this.#index.dropped(partition);
  }

  /** As the last flush left them. Not while one runs. */
  flushedHeads(partition: Partition, what: Holding): ReadonlyMap<WriterId, Head> {
    const heads = new Map((what === "replica" ? this.#frontiers : this.#marks).get(partition));
    const waiting = this.#batches.flatMap((batch) => (batch.type === "delta" || batch.type === "sealed" ? [batch] : [])).reverse();
    for (const { type, delta } of waiting) {
      const { writer, seq, previous } = delta.header;
      if (delta.header.partition !== partition || (type === "delta") !== (what === "replica")) continue;
      if (seq === 1) heads.delete(writer);
      else heads.set(writer, { seq: seq - 1, hash: previous });
    }
    return heads;
  }

  isClosed(partition: Partition, what: Holding): boolean {
    return this.#closed[what].has(partition);
  }

  get highWater(): Hlc {
    return this.#highWater;
  }
  /** What a snapshot brought was given out by somebody: no lower value is given out here. */
  raiseHighWater(hlc: Hlc): void {
    this.#highWater = laterHlc(this.#highWater, hlc);
  }

  // ---- flushing ------------------------------------------------------------------------------------------------

  /** Writes everything staged so far in one atomic batch; returns after fsync. One at a time. */
  async flush(): Promise<Flush> {
    const batches = this.#batches;
    const changes = this.#changes;
    this.#flushing = this.#rows;
    const operations = this.#encode();
    this.#rows = new Map();
    this.#batches = [];
    this.#changes = [];
    this.#touched = new Map();
    // Forgetting sealed bytes may be lost in a power cut: they are forgotten again. Everything else must be durable before anybody hears of it (P1).
    const sync = batches.some((batch) => batch.type !== "forget");
    await this.#db.batch(operations, { sync });
    for (const [key, row] of this.#flushing) {
      this.#absent.delete(key);
      if (row === GONE) this.#cache.delete(key);
      else if ("record" in row) this.#remember(key, row.record);
    }
    this.#flushing = new Map();
    return { batches, changes };
  }

  #encode(): LevelOperation[] {
    const operations: LevelOperation[] = [];
    for (const [key, row] of this.#rows) {
      if (row === GONE) operations.push({ type: "del", key });
      else operations.push({ type: "put", key, value: encodeRow(row) });
    }
    for (const { key, heads } of this.#touched.values()) operations.push({ type: "put", key, value: protect(encodeHeads(heads)) });
    for (const partition of this.#counted)
      operations.push({ type: "put", key: keys.counts(partition), value: protect(encodeCounts(this.counts(partition))) });
    this.#counted.clear();
    for (const partition of this.#erasing)
      operations.push({ type: "put", key: keys.erased(partition), value: protect(encodeErased(this.#erased.get(partition) ?? new Map())) });
    this.#erasing.clear();
    operations.push({ type: "put", key: META.clock, value: protect(encodeHlc(this.#highWater)) });
    return operations;
  }

  // ---- inside --------------------------------------------------------------------------------------------------

  #stageDelta(batch: Extract<Batch, { type: "delta" }>): void {
    const { delta } = batch;
    const { partition, writer, seq, key } = delta.header;
    const { tenant } = delta.body;
    this.#rows.set(keys.log(partition, writer, seq), { delta });
    const executions = this.executions(partition, key);
    this.#rows.set(keys.idempotency(partition, key), {
      executions: [...executions, { writer, seq }].sort((a, b) => (a.writer < b.writer ? -1 : a.writer > b.writer ? 1 : a.seq - b.seq)),
    });
    for (const change of batch.changes) {
      const name = keys.record(partition, tenant, change.kind, change.id);
      this.#rows.set(name, change.after === undefined ? GONE : { record: change.after });
      if (change.after === undefined) this.#cache.delete(name);
      const seen: RecordChange = { tenant, kind: change.kind, id: change.id, before: visible(change.before), after: visible(change.after) };
      if (seen.before === undefined && seen.after === undefined) continue;
      this.#changes.push(seen);
      this.#count(partition, seen);
      for (const row of this.#index.rows(seen))
        this.#rows.set(keys.index(partition, tenant, row.key), row.value === undefined ? GONE : { bytes: row.value });
    }
    for (const entry of delta.body.entries) if (entry.op === "floor") this.#erase(partition, entry.erase);
    this.#highWater = laterHlc(this.#highWater, delta.header.hlc);
  }

  /** What is still to do is part of the batch; it is done afterwards, a piece at a time. */
  #erase(partition: Partition, positions: Positions): void {
    if (positions.length === 0) return;
    const streams = this.#erased.get(partition) ?? new Map<WriterId, Erased>();
    this.#erased.set(partition, streams);
    for (const [writer, seq] of positions) {
      const erased = streams.get(writer) ?? { done: 0, to: 0 };
      streams.set(writer, { done: erased.done, to: Math.max(erased.to, seq) });
    }
    this.#erasing.add(partition);
  }

  #count(partition: Partition, { kind, before, after }: RecordChange): void {
    if (kind === "tombstone" || kind === "register" || (before === undefined) === (after === undefined)) return;
    const counts = { ...this.counts(partition) };
    counts[kind] += after === undefined ? -1 : 1;
    this.#counts.set(partition, counts);
    this.#counted.add(partition);
  }

  #record(key: string): GraphRecord | undefined {
    const row = this.#row(key);
    if (row !== undefined) return row !== GONE && "record" in row ? row.record : undefined;
    const cached = this.#cache.get(key);
    if (cached !== undefined) return cached;
    const value = this.#get(key);
    if (value === undefined) return undefined;
    const record = decodeRecord(unprotect(key, value));
    this.#remember(key, record);
    return record;
  }

  #stored(name: string): [Uint8Array, Uint8Array] | undefined {
    const value = this.#isClosed(name) ? undefined : this.#db.getSync(name);
    return value === undefined ? undefined : decodePair(unprotect(name, value));
  }

  #isClosed(key: string): boolean {
    return this.#closed.replica.size > 0 && this.#closed.replica.has(partitionAt(key));
  }

  #get(key: string): Uint8Array | undefined {
    if (this.#absent.has(key) || this.#isClosed(key)) return undefined;
    const value = this.#db.getSync(key);
    if (value === undefined) {
      if (this.#absent.size >= ABSENT_MAX) this.#absent.clear();
      this.#absent.add(key);
    }
    return value;
  }

  #row(key: string): Row | undefined {
    return this.#rows.get(key) ?? this.#flushing.get(key);
  }

  #remember(key: string, record: GraphRecord): void {
    // Turns and memories are written once and large; what is counted again and again is worth keeping.
    if (record.kind === "turn" || record.kind === "memory" || record.kind === "tombstone") return;
    this.#cache.delete(key);
    this.#cache.set(key, record);
    if (this.#cache.size > CACHE_RECORDS_MAX) this.#cache.delete(this.#cache.keys().next().value as string);
  }

  #sealedOf(partition: Partition, writer: WriterId): Kept[] {
    const stream = `${partition}/${writer}`;
    let list = this.#sealed.get(stream);
    if (list === undefined) {
      list = [];
      this.#sealed.set(stream, list);
    }
    return list;
  }

  #partitionOf(tenant: string): Partition {
    let partition = this.#partitions.get(tenant);
    if (partition === undefined) {
      if (this.#partitions.size > 10_000) this.#partitions.clear();
      partition = partitionOf(tenant);
      this.#partitions.set(tenant, partition);
    }
    return partition;
  }
}

function encodeRow(row: Exclude<Row, typeof GONE>): Uint8Array {
  if ("record" in row) return seal(encodeRecord(row.record, CHECKSUM_BYTES));
  if ("executions" in row) return seal(encodeExecutions(row.executions, CHECKSUM_BYTES));
  if ("delta" in row) return seal(encodePair(row.delta.headerBytes, row.delta.bodyBytes, CHECKSUM_BYTES));
  return protect(row.bytes);
}

/** Of the first with a higher seq; the length when there is none. */
function indexAfter(kept: readonly Kept[], seq: number): number {
  let [low, high] = [0, kept.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((kept[middle] as Kept).seq <= seq) low = middle + 1;
    else high = middle;
  }
  return low;
}

function visible(record: GraphRecord | undefined): GraphRecord | undefined {
  return record !== undefined && isVisible(record) ? record : undefined;
}

function headsOf(all: Map<Partition, Map<WriterId, Head>>, partition: Partition): Map<WriterId, Head> {
  let heads = all.get(partition);
  if (heads === undefined) {
    heads = new Map();
    all.set(partition, heads);
  }
  return heads;
}
