/**
 * The rows of another replica's snapshot, checked one after the other as they arrive: each belongs to the partition and matches its checksum, each stream of
 * the log is a whole chain from its beginning to the frontier's hash, every delta is known by its key, and the counts are those of the records. What a
 * snapshot cannot prove is that the records are what the log makes of them: that is what comparing fingerprints is for.
 */
import { createHash } from "node:crypto";
import { HLC_ZERO, type Hlc, laterHlc } from "../../protocol/clock.ts";
import { type DeltaHeader, genesisHash, hashOf, parseDelta, parseHeader } from "../../protocol/delta.ts";
import type { Head, StreamHead } from "../../protocol/frontier.ts";
import { decodeRecord, isVisible, KIND_CODES } from "../../protocol/graph/record.ts";
import { type GraphRecord, type Kind, linkId } from "../../protocol/graph/records.ts";
import { tombstoneId } from "../../protocol/graph/tombstone.ts";
import { isTenant, type KeyHash, type Partition, type WriterId } from "../../protocol/ids.ts";
import { partitionOf } from "../../protocol/layout.ts";
import type { GraphIndex } from "../ports.ts";
import { keys, protect, unprotect } from "./keyspace.ts";
import type { LevelOperation } from "./level-port.ts";
import { decodeCounts, decodeErased, decodeExecutions, decodePair, type Erased, NO_RECORDS, type RecordCounts } from "./rows.ts";
import { CopyError } from "./store-error.ts";

const words = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const KINDS = new Map(Object.entries(KIND_CODES).map(([kind, code]) => [code, kind as Kind]));

/** What a whole snapshot says besides its rows. */
export interface Copied {
  readonly heads: readonly StreamHead[];
  readonly counts: RecordCounts;
  readonly erased: ReadonlyMap<WriterId, Erased>;
  readonly highest: Hlc;
}

export class SnapshotRows {
  readonly #partition: Partition;
  readonly #frontier: readonly StreamHead[];
  readonly #index: Pick<GraphIndex, "rows"> | undefined;
  readonly #streams = new Map<WriterId, Head>();
  /** Highest number of each stream whose body is gone. */
  readonly #bodiless = new Map<WriterId, number>();
  /** One for the deltas of the log, one for the executions that keys know: equal at the end. */
  readonly #logged = new SetHash();
  readonly #executed = new SetHash();
  #counts: RecordCounts = { ...NO_RECORDS };
  #countsSaid: RecordCounts = { ...NO_RECORDS };
  #erased: ReadonlyMap<WriterId, Erased> = new Map();
  #highest: Hlc = HLC_ZERO;
  #last: Uint8Array = new Uint8Array();

  /** @param index undefined: no rows of the index are made */
  constructor(partition: Partition, frontier: readonly StreamHead[], index?: Pick<GraphIndex, "rows">) {
    this.#partition = partition;
    this.#frontier = frontier;
    this.#index = index;
  }

  /** @returns what is to be written for it @throws CopyError WRONG */
  take(keyBytes: Uint8Array, value: Uint8Array): LevelOperation[] {
    if (Buffer.compare(this.#last, keyBytes) >= 0) throw wrong("rows that are not in the order of their keys");
    this.#last = keyBytes;
    try {
      const key = words.decode(keyBytes);
      return [{ type: "put", key, value }, ...this.#check(key, unprotect(key, value))];
    } catch (error) {
      if (error instanceof CopyError) throw error;
      throw wrong(`a row that is not what it should be: ${(error as Error).message}`);
    }
  }

  /** All rows have been taken. @throws CopyError WRONG */
  end(): Copied {
    for (const { writer, seq, hash } of this.#frontier) {
      const held = this.#streams.get(writer);
      if (held?.seq !== seq || held.hash !== hash) throw wrong(`a log that ends at ${held?.seq ?? 0} where the frontier says ${seq}`);
    }
    if (this.#streams.size !== this.#frontier.length) throw wrong("streams that the frontier does not name");
    if (!this.#logged.equals(this.#executed)) throw wrong("keys that are not those of the log");
    for (const [writer, seq] of this.#bodiless)
      if (seq > (this.#erased.get(writer)?.to ?? 0)) throw wrong("a body that is missing and was not erased");
    const kinds = Object.keys(NO_RECORDS) as (keyof RecordCounts)[];
    if (kinds.some((kind) => this.#counts[kind] !== this.#countsSaid[kind])) throw wrong("counts that are not those of the records");
    return { heads: this.#frontier, counts: this.#counts, erased: this.#erased, highest: this.#highest };
  }

  /** @returns rows that are made of it */
  #check(key: string, payload: Uint8Array): LevelOperation[] {
    if (key.startsWith("d/")) this.#delta(key, payload);
    else if (key.startsWith("k/")) this.#key(key, payload);
    else if (key === keys.erased(this.#partition)) this.#erased = decodeErased(payload);
    else if (key === keys.counts(this.#partition)) this.#countsSaid = decodeCounts(payload);
    else if (key.startsWith("r/")) return this.#record(key, decodeRecord(payload));
    else throw wrong("a row of another kind");
    return [];
  }

  #delta(key: string, payload: Uint8Array): void {
    const [headerBytes, bodyBytes] = decodePair(payload);
    const header = parseHeader(headerBytes);
    const { partition, writer, seq, previous } = header;
    if (partition !== this.#partition || key !== keys.log(partition, writer, seq)) throw wrong("a delta under another's key");
    const before = this.#streams.get(writer) ?? { seq: 0, hash: genesisHash(writer, partition) };
    if (seq !== before.seq + 1 || previous !== before.hash) throw wrong("a delta that does not follow the one before it");
    if (bodyBytes.length > 0) parseDelta(headerBytes, bodyBytes);
    else this.#bodiless.set(writer, seq);
    this.#streams.set(writer, { seq, hash: hashOf(headerBytes) });
    this.#highest = laterHlc(this.#highest, header.hlc);
    this.#logged.add(execution(header.key, header));
  }

  #key(key: string, payload: Uint8Array): void {
    const hash = key.slice("k/ppp/".length) as KeyHash;
    if (key !== keys.idempotency(this.#partition, hash)) throw wrong("a key of another partition");
    for (const one of decodeExecutions(payload)) this.#executed.add(execution(hash, one));
  }

  #record(key: string, record: GraphRecord): LevelOperation[] {
    const [, , tenant = "", code = "", ...rest] = key.split("/");
    const id = rest.join("/");
    if (!isTenant(tenant) || partitionOf(tenant) !== this.#partition || KINDS.get(code) !== record.kind || !isUnder(record, id))
      throw wrong("a record under another's key");
    if (key !== keys.record(this.#partition, tenant, record.kind, id)) throw wrong("a record of another partition");
    if (!isVisible(record)) return [];
    if (record.kind !== "tombstone" && record.kind !== "register") this.#counts[record.kind]++;
    if (this.#index === undefined) return [];
    return this.#index
      .rows({ tenant, kind: record.kind, id, before: undefined, after: record })
      .flatMap((row): LevelOperation[] =>
        row.value === undefined ? [] : [{ type: "put", key: keys.index(this.#partition, tenant, row.key), value: protect(row.value) }],
      );
  }
}

/** Whether a record that knows its id is stored under it. */
function isUnder(record: GraphRecord, id: string): boolean {
  if (record.kind === "link") return linkId(record.a, record.b) === id;
  return record.kind !== "tombstone" || tombstoneId(record.of, record.id) === id;
}

function execution(key: KeyHash, { writer, seq }: Pick<DeltaHeader, "writer" | "seq">): string {
  return `${key} ${writer} ${seq}`;
}

function wrong(what: string): CopyError {
  return new CopyError("WRONG", `a snapshot with ${what}`);
}

/** Of a set whatever the order in which its members come: how many, and the exclusive or of their hashes. */
class SetHash {
  readonly #sum = new Uint8Array(32);
  #count = 0;

  add(member: string): void {
    const hash = createHash("sha256").update(member).digest();
    for (let at = 0; at < hash.length; at++) this.#sum[at] = (this.#sum[at] as number) ^ (hash[at] as number);
    this.#count++;
  }

  equals(other: SetHash): boolean {
    return this.#count === other.#count && Buffer.compare(this.#sum, other.#sum) === 0;
  }
}
