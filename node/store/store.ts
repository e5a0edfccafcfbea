/** One node's LevelDB: opened once, checked, read through snapshots, written through group commits. Knows no network and no memory. */
import { createHash } from "node:crypto";
import { HLC_ZERO } from "../../protocol/clock.ts";
import type { StreamHead } from "../../protocol/frontier.ts";
import type { RecordState } from "../../protocol/graph/apply.ts";
import { decodeRecord, isVisible } from "../../protocol/graph/record.ts";
import { type GraphRecord, type Kind, linkId, type RecordOf } from "../../protocol/graph/records.ts";
import type { Incarnation, Partition, WriterId } from "../../protocol/ids.ts";
import { partitionOf } from "../../protocol/layout.ts";
import type { Envelope } from "../../protocol/message.ts";
import type { DecaySettings, GraphIndex, GraphReader, IndexRow } from "../ports.ts";
import { keys, META, type MetaKey, partitionAt, protect, ranges, STORE_FORMAT, sealedAt, under, unprotect } from "./keyspace.ts";
import type { Level } from "./level-port.ts";
import { decodeCounts, decodeHeads, decodeHlc, decodePair, type RecordCounts } from "./rows.ts";
import { type Flush, Staged } from "./staged.ts";
import { StoreError } from "./store-error.ts";

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

export class Store {
  readonly incarnation: Incarnation;
  readonly staged: Staged;
  readonly streams: StoredStreams;
  readonly #db: Level;
  #flush: Promise<void> = Promise.resolve();

  private constructor(db: Level, incarnation: Incarnation, staged: Staged, streams: StoredStreams) {
    this.#db = db;
    this.incarnation = incarnation;
    this.staged = staged;
    this.streams = streams;
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
    const streams: { frontiers: StreamHead[]; marks: StreamHead[] } = { frontiers: [], marks: [] };
    for await (const [key, value] of db.iterator(ranges.frontiers())) streams.frontiers.push(...decodeHeads(partitionAt(key), unprotect(key, value)));
    for await (const [key, value] of db.iterator(ranges.marks())) streams.marks.push(...decodeHeads(partitionAt(key), unprotect(key, value)));
    const sealed: { partition: Partition; writer: WriterId; seq: number; bytes: number }[] = [];
    for await (const [key, value] of db.iterator(ranges.sealed())) sealed.push({ ...sealedAt(key), bytes: value.length });
    const counts = new Map<Partition, RecordCounts>();
    for await (const [key, value] of db.iterator(ranges.counts())) counts.set(partitionAt(key), decodeCounts(unprotect(key, value)));
    const clock = await db.get(META.clock);
    const highWater = clock === undefined ? HLC_ZERO : decodeHlc(unprotect(META.clock, clock));
    const staged = new Staged(db, index, { ...streams, sealed, highWater, counts });
    const store = new Store(db, words.decode(unprotect(META.incarnation, incarnation)) as Incarnation, staged, streams);
    store.highWater = highWater;
    return store;
  }

  /** Highest clock value as loaded. */
  highWater = HLC_ZERO;

  /** Writes what is staged; resolves after fsync. @throws StoreError FAILED: nothing may be acknowledged any more */
  async flush(): Promise<Flush> {
    try {
      return await this.staged.flush();
    } catch (error) {
      throw new StoreError("FAILED", `writing to the data folder failed: ${(error as Error).message}`, error);
    }
  }

  async meta(key: MetaKey): Promise<Uint8Array | undefined> {
    const value = await this.#db.get(META[key]);
    return value === undefined ? undefined : unprotect(META[key], value);
  }

  /** Resolves after fsync; one after the other, in the order asked. */
  async putMeta(key: MetaKey, payload: Uint8Array): Promise<void> {
    const put = this.#flush.then(() => this.#db.put(META[key], protect(payload), { sync: true }));
    this.#flush = put.catch(() => undefined);
    try {
      await put;
    } catch (error) {
      throw new StoreError("FAILED", `writing to the data folder failed: ${(error as Error).message}`, error);
    }
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

  /** Header and body bytes of a stretch of a stream's log, until `maxBytes` is passed. */
  async readLog(
    partition: Partition,
    writer: WriterId,
    from: number,
    to: number,
    maxBytes: number,
  ): Promise<{ headerBytes: Uint8Array; bodyBytes: Uint8Array }[]> {
    const out: { headerBytes: Uint8Array; bodyBytes: Uint8Array }[] = [];
    for await (const [headerBytes, bodyBytes] of this.#stretch(keys.log(partition, writer, from), keys.log(partition, writer, to + 1), maxBytes))
      out.push({ headerBytes, bodyBytes });
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
      const hash = createHash("sha256");
      for await (const [key, value] of this.#db.iterator({ ...ranges.records(partition), snapshot })) {
        const name = text.encode(key);
        hash.update(`${name.length}:${value.length}:`).update(name).update(value);
      }
      return {
        fingerprint: hash.digest("hex"),
        frontier: frontier === undefined ? [] : decodeHeads(partition, unprotect(frontierKey, frontier)),
      };
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
