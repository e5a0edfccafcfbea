/** One node's LevelDB: opened once, checked, read through snapshots, written through group commits. Knows no network and no memory. */
import { sealedUnder } from "../../crypto/seal.ts";
import { HLC_ZERO } from "../../protocol/clock.ts";
import type { OwnTail } from "../../protocol/effects.ts";
import type { FloorCut } from "../../protocol/floor.ts";
import type { Head, StreamHead } from "../../protocol/frontier.ts";
import type { RecordState } from "../../protocol/graph/apply.ts";
import { decodeRecord, isVisible } from "../../protocol/graph/record.ts";
import { type GraphRecord, type Kind, linkId, type RecordOf } from "../../protocol/graph/records.ts";
import type { Incarnation, Partition, WriterId } from "../../protocol/ids.ts";
import { partitionOf } from "../../protocol/layout.ts";
import type { Envelope } from "../../protocol/message.ts";
import type { DecaySettings, GraphIndex, GraphReader, IndexRow } from "../ports.ts";
import { type Aside, allAside, setAside } from "./aside.ts";
import { beginClearing, clearRows, endClearing, finishClearing, headsAt, type InOrder } from "./clearing.ts";
import { Fingerprint } from "./fingerprint.ts";
import { eraseSome, floorCut } from "./floors.ts";
import {
  CHECKSUM_BYTES,
  type Holding,
  keys,
  META,
  type MetaKey,
  partitionAt,
  protect,
  ranges,
  STORE_FORMAT,
  streamAt,
  under,
  unprotect,
  versionAt,
} from "./keyspace.ts";
import type { Level, LevelOperation } from "./level-port.ts";
import { PartitionCopy } from "./partition-copy.ts";
import { PartitionSnapshot } from "./partition-snapshot.ts";
import {
  decodeCounts,
  decodeErased,
  decodeHeads,
  decodeHlc,
  decodePair,
  decodeStarts,
  decodeTold,
  type Erased,
  encodeHlc,
  encodePair,
  encodeStarts,
  encodeTold,
  type RecordCounts,
  type Replacing,
  START_ID_BYTES,
  type Start,
  type Starts,
  type Told,
} from "./rows.ts";
import { type Flush, Staged } from "./staged.ts";
import { CopyError, StoreError } from "./store-error.ts";

const text = new TextEncoder();
const words = new TextDecoder();

export interface StoredStreams {
  readonly frontiers: readonly StreamHead[];
  readonly marks: readonly StreamHead[];
}

/** One moment of the store. Close it. */
export interface StoreSnapshot {
  /** What it holds of the partition, exactly. */
  frontier(partition: Partition): readonly StreamHead[];
  reader(tenant: string, decay: DecaySettings): GraphReader;
  /** The records as they are stored, invisible ones included. */
  readonly state: RecordState;
  close(): Promise<void>;
}

/** Starts whose ids are kept: ten years of one a day. */
const STARTS_KEPT = 4096;
/** Layouts kept besides the one in force. */
const LAYOUTS_KEPT = 256;

interface Opened {
  readonly incarnation: Incarnation;
  readonly staged: Staged;
  readonly streams: StoredStreams;
  readonly starts: Starts;
  readonly ownHeads: readonly StreamHead[];
  readonly incomplete: ReadonlyMap<Partition, readonly StreamHead[]>;
}

export class Store {
  readonly staged: Staged;
  readonly #index: GraphIndex;
  /** As loaded. */
  readonly streams: StoredStreams;
  readonly #db: Level;
  #incarnation: Incarnation;
  #starts: Starts;
  readonly #ownHeads = new Map<Partition, readonly StreamHead[]>();
  readonly #incomplete: Map<Partition, readonly StreamHead[]>;
  #writes: Promise<unknown> = Promise.resolve();
  /** Per partition and holding, what clears or replaces its rows: one after the other. */
  readonly #replacing = new Map<string, Promise<unknown>>();
  readonly #copies = new Map<Partition, PartitionCopy>();
  readonly #copied = new Map<Partition, number>();

  private constructor(db: Level, index: GraphIndex, opened: Opened) {
    this.#db = db;
    this.#index = index;
    this.#incarnation = opened.incarnation;
    this.staged = opened.staged;
    this.streams = opened.streams;
    this.#starts = opened.starts;
    for (const [partition, heads] of Map.groupBy(opened.ownHeads, (head) => head.partition)) this.#ownHeads.set(partition, heads);
    this.#incomplete = new Map(opened.incomplete);
    for (const partition of this.#incomplete.keys()) this.staged.close(partition, "replica");
  }

  /**
   * @param randomBytes for the incarnation of an empty directory
   * @throws StoreError NEWER_FORMAT, CORRUPT
   */
  static async open(db: Level, index: GraphIndex, randomBytes: (length: number) => Uint8Array): Promise<Store> {
    const format = await db.get(META.format);
    if (format === undefined) {
      const incarnation = Buffer.from(randomBytes(16)).toString("hex");
      await db.batch(
        [
          { type: "put", key: META.format, value: protect(text.encode(String(STORE_FORMAT))) },
          { type: "put", key: META.incarnation, value: protect(text.encode(incarnation)) },
        ],
        { sync: true },
      );
    } else if (Number(words.decode(unprotect(META.format, format))) > STORE_FORMAT) {
      throw new StoreError(
        "NEWER_FORMAT",
        `the data folder was written by a newer version (store format ${words.decode(unprotect(META.format, format))}, this one reads up to ${STORE_FORMAT}); start that version`,
      );
    }
    const incarnation = await db.get(META.incarnation);
    if (incarnation === undefined)
      throw new StoreError("CORRUPT", "the store has a format but no incarnation; replace this node's disk, its peers hold the data");
    const copies = await finishClearing(db);
    const streams: { frontiers: StreamHead[]; marks: StreamHead[] } = { frontiers: [], marks: [] };
    for await (const [key, value] of db.iterator(ranges.frontiers())) streams.frontiers.push(...decodeHeads(partitionAt(key), unprotect(key, value)));
    for await (const [key, value] of db.iterator(ranges.marks())) streams.marks.push(...decodeHeads(partitionAt(key), unprotect(key, value)));
    const sealed: { partition: Partition; writer: WriterId; seq: number; bytes: number; secret: string }[] = [];
    for await (const [key, value] of db.iterator(ranges.sealed()))
      sealed.push({ ...streamAt(key), bytes: value.length - CHECKSUM_BYTES, secret: secretOfRow(value) });
    const counts = new Map<Partition, RecordCounts>();
    for await (const [key, value] of db.iterator(ranges.counts())) counts.set(partitionAt(key), decodeCounts(unprotect(key, value)));
    const erased = new Map<Partition, Map<WriterId, Erased>>();
    for await (const [key, value] of db.iterator(ranges.erased())) erased.set(partitionAt(key), decodeErased(unprotect(key, value)));
    const clock = await db.get(META.clock);
    const highWater = clock === undefined ? HLC_ZERO : decodeHlc(unprotect(META.clock, clock));
    const ownHeads: StreamHead[] = [];
    for await (const [key, value] of db.iterator(ranges.ownHeads())) ownHeads.push(...decodeHeads(partitionAt(key), unprotect(key, value)));
    const starts = await db.get(META.starts);
    const store = new Store(db, index, {
      incarnation: words.decode(unprotect(META.incarnation, incarnation)) as Incarnation,
      staged: new Staged(db, index, { ...streams, sealed, highWater, counts, erased }),
      streams,
      starts: starts === undefined ? { count: 0, newest: [] } : decodeStarts(unprotect(META.starts, starts)),
      ownHeads,
      incomplete: new Map([...copies].map(([partition, { held }]) => [partition, held])),
    });
    store.highWater = highWater;
    return store;
  }

  /** Highest clock value as loaded. */
  highWater = HLC_ZERO;

  /** Writes what is staged; resolves after fsync. @throws StoreError FAILED: nothing may be acknowledged any more */
  flush(): Promise<Flush> {
    return this.#inOrder(() => this.staged.flush());
  }

  /** One write at a time, in the order asked: a partition that goes must not meet a batch of its rows that is still on its way. */
  readonly #inOrder: InOrder = async (write) => {
    const done = this.#writes.then(write);
    this.#writes = done.catch(() => undefined);
    try {
      return await done;
    } catch (error) {
      if (error instanceof StoreError || error instanceof CopyError) throw error;
      throw new StoreError("FAILED", `writing to the data folder failed: ${(error as Error).message}`, error);
    }
  };

  #put(operations: readonly LevelOperation[], sync: boolean): Promise<void> {
    return this.#inOrder(() => this.#db.batch(operations, { sync }));
  }

  async meta(key: MetaKey): Promise<Uint8Array | undefined> {
    const value = await this.#db.get(META[key]);
    return value === undefined ? undefined : unprotect(META[key], value);
  }

  /** Resolves after fsync. */
  putMeta(key: MetaKey, payload: Uint8Array): Promise<void> {
    return this.#put([{ type: "put", key: META[key], value: protect(payload) }], true);
  }

  get incarnation(): Incarnation {
    return this.#incarnation;
  }

  /**
   * Another incarnation for the same data: what it holds stays, but as a new writer, which has counted and voted for nothing yet. For data that may be a
   * copy of what another process goes on with (P4).
   * @param own the writer it was @param tails what of its streams is set aside, in the same batch
   */
  async renewIncarnation(randomBytes: (length: number) => Uint8Array, own: WriterId, tails: readonly OwnTail[]): Promise<Incarnation> {
    const incarnation = Buffer.from(randomBytes(16)).toString("hex") as Incarnation;
    const operations: LevelOperation[] = [
      { type: "put", key: META.incarnation, value: protect(text.encode(incarnation)) },
      { type: "del", key: META.counted },
      { type: "del", key: META.vote },
    ];
    // After what is being flushed, whose deltas are on the disk by then.
    await this.#inOrder(() => this.#db.batch([...operations, ...setAside(this.#db, own, tails)], { sync: true }));
    this.#incarnation = incarnation;
    return incarnation;
  }

  // ---- writes of an earlier incarnation --------------------------------------------------------------------------

  /** What is to be written again. */
  aside(): AsyncGenerator<Aside> {
    return allAside(this.#db);
  }

  /** It is written again. Without an fsync of its own: should it come back, its key is known. */
  dropAside({ partition, writer, seq }: Aside): Promise<void> {
    return this.#put([{ type: "del", key: keys.aside(partition, writer, seq) }], false);
  }

  // ---- starts, and what others told ------------------------------------------------------------------------------

  /** Once at every start of the process, before anybody is told of it. Resolves after fsync. */
  async beginStart(randomBytes: (length: number) => Uint8Array): Promise<Start> {
    const id = Buffer.from(randomBytes(START_ID_BYTES)).toString("hex");
    const starts: Starts = { count: this.#starts.count + 1, newest: [...this.#starts.newest, id].slice(-STARTS_KEPT) };
    await this.#put([{ type: "put", key: META.starts, value: protect(encodeStarts(starts)) }], true);
    this.#starts = starts;
    return { count: starts.count, id };
  }

  /** @returns the id of the count-th start (from 1), undefined when it has not been or is too long ago */
  startAt(count: number): string | undefined {
    const { newest } = this.#starts;
    return newest[count - 1 - (this.#starts.count - newest.length)];
  }

  async told(writer: WriterId): Promise<Told | undefined> {
    const key = keys.told(writer);
    const value = await this.#db.get(key);
    return value === undefined ? undefined : decodeTold(unprotect(key, value));
  }

  /** Without an fsync of its own: the next group commit makes it durable. @param told undefined: the member is gone for good */
  putTold(writer: WriterId, told: Told | undefined): Promise<void> {
    const key = keys.told(writer);
    return this.#put([told === undefined ? { type: "del", key } : { type: "put", key, value: protect(encodeTold(told)) }], false);
  }

  // ---- layouts -----------------------------------------------------------------------------------------------------

  /** The layout in force from now on, and one more of the history. Resolves after fsync. */
  async putLayout(version: number, bytes: Uint8Array, wallMs: number): Promise<void> {
    const value = protect(bytes);
    const key = keys.layout(version);
    const known: number[] = [];
    for await (const [name] of this.#db.iterator({ ...ranges.layouts(), values: false })) if (name !== key) known.push(versionAt(name));
    const tooMany = known.slice(0, Math.max(0, known.length + 1 - LAYOUTS_KEPT));
    await this.#put(
      [
        { type: "put", key, value },
        { type: "put", key: keys.adopted(version), value: protect(encodeHlc([Math.max(0, Math.round(wallMs)), 0])) },
        { type: "put", key: META.layout, value },
        ...tooMany.flatMap((old): LevelOperation[] => [
          { type: "del", key: keys.layout(old) },
          { type: "del", key: keys.adopted(old) },
        ]),
      ],
      true,
    );
  }

  /** Layouts this node adopted, the oldest first. */
  async layoutHistory(): Promise<{ readonly version: number; readonly bytes: Uint8Array; readonly adoptedMs: number | undefined }[]> {
    const adopted = new Map<number, number>();
    for await (const [key, value] of this.#db.iterator(ranges.adopted())) adopted.set(versionAt(key), decodeHlc(unprotect(key, value))[0]);
    const out: { version: number; bytes: Uint8Array; adoptedMs: number | undefined }[] = [];
    for await (const [key, value] of this.#db.iterator(ranges.layouts())) {
      const version = versionAt(key);
      out.push({ version, bytes: unprotect(key, value), adoptedMs: adopted.get(version) });
    }
    return out;
  }

  // ---- partitions that go ------------------------------------------------------------------------------------------

  /** How far this node's own streams went in partitions it has dropped since: the next number is above it (P4). */
  ownHeads(partition: Partition): readonly StreamHead[] {
    return this.#ownHeads.get(partition) ?? [];
  }

  /** Partitions whose copy a crash interrupted, with what was held before: they hold nothing, and count only once a snapshot has taken their place. */
  get incomplete(): ReadonlyMap<Partition, readonly StreamHead[]> {
    return this.#incomplete;
  }

  /**
   * This node is no replica (no witness) of the partition any more: its rows go. From the call on nothing may be staged for it until the promise resolves;
   * what is staged and not flushed is forgotten, and never reported as durable.
   * @param own this node's writer
   */
  dropPartition(partition: Partition, what: Holding, own: WriterId): Promise<void> {
    if (what === "replica") this.#copies.get(partition)?.abandon();
    return this.#replace(partition, what, async () => {
      await this.#beginClearing(partition, what, own, { what: "drop" });
      await clearRows(this.#db, partition, what, this.#inOrder);
      await this.#inOrder(() => endClearing(this.#db, partition, what));
      if (what === "replica") this.#incomplete.delete(partition);
      this.staged.open(partition, what);
    });
  }

  /**
   * Another replica's snapshot takes the place of what this node holds of the partition. Nothing may be staged for it from `begin` on, until the copy is
   * finished; a copy that was begun and is not finished leaves the partition incomplete. An earlier copy of the partition is abandoned.
   * @param source who has it, for the log
   * @param own this node's writer
   */
  copyPartition(partition: Partition, source: string, own: WriterId, frontier: readonly StreamHead[]): PartitionCopy {
    this.#copies.get(partition)?.abandon();
    const copy = new PartitionCopy(partition, frontier, {
      db: this.#db,
      staged: this.staged,
      index: this.#index,
      inOrder: this.#inOrder,
      clear: () => this.#clearForCopy(partition, source, own, frontier),
      completed: () => {
        this.#incomplete.delete(partition);
        this.#copies.delete(partition);
        this.#copied.set(partition, this.timesCopied(partition) + 1);
      },
    });
    this.#copies.set(partition, copy);
    return copy;
  }

  /** How often since it was opened a snapshot took the place of the partition's rows: of another one other things may be true, at the same frontier. */
  timesCopied(partition: Partition): number {
    return this.#copied.get(partition) ?? 0;
  }

  /** A copy that was wrong: its rows go, the partition stays incomplete. */
  discardCopy(partition: Partition): Promise<void> {
    this.#copies.get(partition)?.abandon();
    this.#copies.delete(partition);
    if (!this.#incomplete.has(partition)) return Promise.resolve();
    return this.#replace(partition, "replica", () => clearRows(this.#db, partition, "replica", this.#inOrder));
  }

  #clearForCopy(partition: Partition, source: string, own: WriterId, frontier: readonly StreamHead[]): Promise<void> {
    return this.#replace(partition, "replica", async () => {
      const begun = await this.#inOrder(async () => {
        // What is on its way to disk was told to nobody; what is on disk, or was before a copy that a crash interrupted, may have been counted (P1).
        const held = this.#incomplete.get(partition) ?? this.#headsOnDisk(partition, "replica");
        if (!contains(frontier, held)) return false;
        this.staged.forget(partition, "replica");
        this.#incomplete.set(partition, held);
        this.#ownHeads.set(partition, await beginClearing(this.#db, partition, "replica", own, held, { what: "copy", source, held }));
        return true;
      });
      if (begun) return clearRows(this.#db, partition, "replica", this.#inOrder);
      if (!this.#incomplete.has(partition)) this.staged.open(partition, "replica");
      throw new CopyError("BEHIND", "a snapshot lacks something that is held here; what is held stays");
    });
  }

  /** Not while a flush runs. The row itself may be what is damaged: then as it was last written. */
  #headsOnDisk(partition: Partition, what: Holding): StreamHead[] {
    let heads: ReadonlyMap<WriterId, Head>;
    try {
      heads = headsAt(this.#db, what === "replica" ? keys.frontier(partition) : keys.marks(partition), partition);
    } catch (error) {
      if (!(error instanceof StoreError && error.code === "CORRUPT")) throw error;
      heads = this.staged.flushedHeads(partition, what);
    }
    return [...heads].map(([writer, head]) => ({ partition, writer, ...head }));
  }

  /** One moment of a partition, for another replica to copy; undefined when this node has no whole copy itself. Close it. */
  partitionSnapshot(partition: Partition): PartitionSnapshot | undefined {
    return this.staged.isClosed(partition, "replica") ? undefined : new PartitionSnapshot(this.#db, partition);
  }

  async #beginClearing(partition: Partition, what: Holding, own: WriterId, replacing: Replacing): Promise<void> {
    await this.#inOrder(async () => {
      const held = this.#headsOnDisk(partition, what);
      this.staged.forget(partition, what);
      this.#ownHeads.set(partition, await beginClearing(this.#db, partition, what, own, held, replacing));
    });
  }

  #replace<T>(partition: Partition, what: Holding, work: () => Promise<T>): Promise<T> {
    this.staged.close(partition, what);
    const name = `${what}/${partition}`;
    const done = (this.#replacing.get(name) ?? Promise.resolve()).then(() => {
      this.staged.close(partition, what);
      return work();
    });
    const settled = done.catch(() => undefined).then(() => void (this.#replacing.get(name) === settled && this.#replacing.delete(name)));
    this.#replacing.set(name, settled);
    return done;
  }

  /** For decisions: everything staged included. */
  stagedReader(tenant: string, decay: DecaySettings): GraphReader {
    return readerOf(tenant, decay, (kind, id) => this.staged.record(tenant, kind, id));
  }

  snapshot(): StoreSnapshot {
    const snapshot = this.#db.snapshot();
    const record = <K extends Kind>(tenant: string, kind: K, id: string): RecordOf<K> | undefined => {
      const key = keys.record(partitionOf(tenant), tenant, kind, id);
      const value = this.#db.getSync(key, { snapshot });
      return value === undefined ? undefined : (decodeRecord(unprotect(key, value)) as RecordOf<K>);
    };
    return {
      frontier: (partition) => {
        const key = keys.frontier(partition);
        const value = this.#db.getSync(key, { snapshot });
        return value === undefined ? [] : decodeHeads(partition, unprotect(key, value));
      },
      reader: (tenant, decay) => readerOf(tenant, decay, (kind, id) => record(tenant, kind, id)),
      state: { record },
      close: () => snapshot.close(),
    };
  }

  // ---- floors ------------------------------------------------------------------------------------------------------

  /**
   * Erases some bodies that floors have given up: their headers stay. What is left to do is on disk, so it goes on after a crash.
   * @param isDamaged partitions whose rows are not what was written: they wait for better ones
   * @returns false when nothing is left
   */
  eraseSome(isDamaged: (partition: Partition) => boolean = () => false): Promise<boolean> {
    return this.#inOrder(async () => {
      for (const partition of this.staged.partitionsToErase())
        if (!this.staged.isClosed(partition, "replica") && !isDamaged(partition) && (await eraseSome(this.#db, partition, this.staged))) return true;
      return false;
    });
  }

  /**
   * What a floor of the partition could take now, as of one moment.
   * @param beforeMs bodies of deltas older than this may go, wall clock in ms
   */
  floorCut(partition: Partition, beforeMs: number): Promise<FloorCut> {
    return floorCut(this.#db, partition, this.staged, beforeMs);
  }

  /** Header and body bytes of a stretch of a stream's log, until `maxBytes` is passed or a body was erased. */
  async readLog(
    partition: Partition,
    writer: WriterId,
    from: number,
    to: number,
    maxBytes: number,
  ): Promise<{ headerBytes: Uint8Array; bodyBytes: Uint8Array }[]> {
    const out: { headerBytes: Uint8Array; bodyBytes: Uint8Array }[] = [];
    for await (const [headerBytes, bodyBytes] of this.#stretch(keys.log(partition, writer, from), keys.log(partition, writer, to + 1), maxBytes)) {
      if (bodyBytes.length === 0) break;
      out.push({ headerBytes, bodyBytes });
    }
    return out;
  }

  /** What a witness still keeps of a stretch, as it came. */
  async readSealed(partition: Partition, writer: WriterId, from: number, to: number, maxBytes: number): Promise<Envelope[]> {
    const out: Envelope[] = [];
    for await (const [headerBytes, sealedBody] of this.#stretch(
      keys.sealed(partition, writer, from),
      keys.sealed(partition, writer, to + 1),
      maxBytes,
    ))
      out.push({ headerBytes, sealedBody });
    return out;
  }

  /**
   * Seals again what is kept as a witness: what does not change its place, its header or whether it is forgotten. One fsynced batch, so after a crash each
   * row is what it was or what it is to be.
   * @param seal undefined: it stays as it is
   * @returns how many were sealed again
   */
  reseal(partition: Partition, writer: WriterId, seqs: readonly number[], seal: (envelope: Envelope) => Envelope | undefined): Promise<number> {
    return this.#inOrder(async () => {
      if (this.staged.isClosed(partition, "witness")) return 0;
      const operations: LevelOperation[] = [];
      const done = new Map<string, number[]>();
      for (const seq of seqs) {
        const key = keys.sealed(partition, writer, seq);
        // Not there: forgotten meanwhile, or on its way to the disk, which comes after this.
        const value = this.#db.getSync(key);
        const [headerBytes, sealedBody] = value === undefined ? [] : pairOf(key, value);
        if (headerBytes === undefined || sealedBody === undefined) continue;
        const again = seal({ headerBytes, sealedBody });
        if (again === undefined) continue;
        operations.push({ type: "put", key, value: protect(encodePair(again.headerBytes, again.sealedBody)) });
        const secret = sealedUnder(again.sealedBody);
        done.set(secret, [...(done.get(secret) ?? []), seq]);
      }
      // Synced: an operator drops the old secret when this is said to be done.
      if (operations.length > 0) await this.#db.batch(operations, { sync: true });
      for (const [secret, all] of done) this.staged.resealed(partition, writer, all, secret);
      return operations.length;
    });
  }

  async *#stretch(gte: string, lt: string, maxBytes: number): AsyncGenerator<[Uint8Array, Uint8Array]> {
    let bytes = 0;
    for await (const [key, value] of this.#db.iterator({ gte, lt })) {
      yield decodePair(unprotect(key, value));
      bytes += value.length;
      if (bytes > maxBytes) return;
    }
  }

  /** Rows of the search index of one tenant whose key begins with `prefix` ("" or ending in "/"), in key order, as of the first read. */
  async *indexRows(tenant: string, prefix: string): AsyncGenerator<IndexRow> {
    const { gte } = ranges.index(partitionOf(tenant), tenant);
    for await (const [key, value] of this.#db.iterator(under((gte + prefix).slice(0, -1))))
      yield { key: key.slice(gte.length), value: unprotect(key, value) };
  }

  /** SHA-256 over the sorted materialised records of a partition, with the frontier they stand for: equal frontiers, equal fingerprints (P3). */
  async fingerprint(partition: Partition): Promise<{ fingerprint: string; frontier: readonly StreamHead[] }> {
    const snapshot = this.#db.snapshot();
    try {
      const frontierKey = keys.frontier(partition);
      const frontier = this.#db.getSync(frontierKey, { snapshot });
      const fingerprint = new Fingerprint();
      for await (const [key, value] of this.#db.iterator({ ...ranges.records(partition), snapshot })) fingerprint.add(text.encode(key), value);
      return { fingerprint: fingerprint.digest(), frontier: frontier === undefined ? [] : decodeHeads(partition, unprotect(frontierKey, frontier)) };
    } finally {
      await snapshot.close();
    }
  }

  /** Whether it can still be read. */
  async answers(): Promise<boolean> {
    return this.#db.get(META.format).then(
      (value) => value !== undefined,
      () => false,
    );
  }

  close(): Promise<void> {
    return this.#db.close();
  }
}

/** Header and sealed body; nothing where the disk lied, which the scrub reports. */
function pairOf(key: string, value: Uint8Array): [Uint8Array, Uint8Array] | [] {
  try {
    return decodePair(unprotect(key, value));
  } catch {
    return [];
  }
}

/** Of a sealed delta on disk. Its checksum is looked at when it is used. */
function secretOfRow(value: Uint8Array): string {
  try {
    return sealedUnder(decodePair(value.subarray(CHECKSUM_BYTES))[1]);
  } catch {
    return "";
  }
}

/** Whether a frontier holds every head, of the same history where both end at one number. */
function contains(frontier: readonly StreamHead[], held: readonly StreamHead[]): boolean {
  const heads = new Map(frontier.map((head) => [head.writer, head]));
  return held.every(({ writer, seq, hash }) => {
    const head = heads.get(writer);
    return head !== undefined && (head.seq > seq || (head.seq === seq && head.hash === hash));
  });
}

function readerOf(tenant: string, decay: DecaySettings, read: <K extends Kind>(kind: K, id: string) => GraphRecord | undefined): GraphReader {
  const seen = <K extends Kind>(kind: K, id: string): RecordOf<K> | undefined => {
    const record = read(kind, id);
    return record !== undefined && isVisible(record) ? (record as RecordOf<K>) : undefined;
  };
  return {
    tenant,
    decay,
    concept: (id) => seen("concept", id),
    link: (a, b) => seen("link", linkId(a, b)),
    turn: (id) => seen("turn", id),
    memory: (id) => seen("memory", id),
    register: (id) => seen("register", id),
  };
}
