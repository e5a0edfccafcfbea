/**
 * A tenant's graph in a Map, driven by the real contribution and merge code, with the real index beside it: what the engine does, without disk and peers.
 * Every write goes through `decide`, becomes entries, changes records, gives index rows, and is then told to the index as committed.
 */

import { MemoryIndex } from "../../node/memory/memory-index.ts";
import { createOperations, DEFAULT_SETTINGS } from "../../node/memory/operations.ts";
import type { MemorySettings } from "../../node/memory/settings.ts";
import type { DecaySettings, GraphReader, IndexRow, Operations, ReadOperation, RecordChange, WriteOperation } from "../../node/ports.ts";
import type { Delta, Entry } from "../../protocol/delta.ts";
import { applyDelta, type RecordState } from "../../protocol/graph/apply.ts";
import { contribute } from "../../protocol/graph/contribute.ts";
import { type Contribution, type GraphRecord, type Kind, linkId, type RecordOf } from "../../protocol/graph/records.ts";
import type { KeyHash, Partition, WriterId } from "../../protocol/ids.ts";

export const MONTH_MS = 30 * 86_400_000;
export const DECAY: DecaySettings = { resonanceDecay: 0.85, periodMs: MONTH_MS };
export const START_MS = Date.UTC(2026, 0, 1);

export class Memory {
  readonly tenant: string;
  readonly index: MemoryIndex;
  readonly operations: Operations;
  readonly rows = new Map<string, Uint8Array>();
  /** Wall clock; every write moves it by a second. */
  now = START_MS;
  readonly #records = new Map<string, GraphRecord>();
  readonly #seqs = new Map<WriterId, number>();
  #ordinal = 0;

  constructor(options: { tenant?: string; index?: MemoryIndex; settings?: MemorySettings } = {}) {
    this.tenant = options.tenant ?? "alice";
    this.index = options.index ?? new MemoryIndex();
    this.operations = createOperations(this.index, options.settings ?? DEFAULT_SETTINGS);
  }

  static async open(options: ConstructorParameters<typeof Memory>[0] = {}): Promise<Memory> {
    const memory = new Memory(options);
    await memory.ready();
    return memory;
  }

  ready(): Promise<void> {
    return this.index.ready(this.tenant, this.scan());
  }

  /** One snapshot of the rows, taken at the first call. */
  scan(): (prefix: string) => AsyncIterable<IndexRow> {
    let snapshot: [string, Uint8Array][] | undefined;
    const take = (): [string, Uint8Array][] => [...this.rows].sort(([a], [b]) => (a < b ? -1 : 1));
    return async function* (prefix: string) {
      snapshot ??= take();
      for (const [key, value] of snapshot) if (key.startsWith(prefix)) yield { key, value };
    };
  }

  read<T>(name: string, args: object = {}): T {
    const operation = this.operations[name] as ReadOperation<object, T>;
    return operation.answer(args, { reader: this.reader(), now: this.now, node: "node-1" });
  }

  /** @param by the writer on which it runs */
  write<T>(name: string, args: object, by = "w1"): T {
    const { contributions, answer } = this.decide<T>(name, args);
    this.commit(contributions, by);
    return answer;
  }

  decide<T>(name: string, args: object): { contributions: readonly Contribution[]; answer: T } {
    const operation = this.operations[name] as WriteOperation<object, T>;
    this.now += 1000;
    const ordinal = this.#ordinal++;
    const id = (prefix: string, n: number): string => `${prefix}_${String(ordinal).padStart(5, "0")}${n === 0 ? "" : `_${n}`}`;
    return operation.decide(args, { reader: this.reader(), now: this.now, node: "node-1", id });
  }

  commit(contributions: readonly Contribution[], by = "w1", frontier: Record<WriterId, number> = Object.fromEntries(this.#seqs)): RecordChange[] {
    const changes = this.apply(contributions, by, frontier);
    this.index.committed(changes);
    return changes;
  }

  /** Into records and rows; the index in RAM is not told. */
  apply(contributions: readonly Contribution[], by = "w1", frontier: Record<WriterId, number> = Object.fromEntries(this.#seqs)): RecordChange[] {
    const writer = by as WriterId;
    const seq = (this.#seqs.get(writer) ?? 0) + 1;
    this.#seqs.set(writer, seq);
    const { entries, saw } = contribute(contributions, { tenant: this.tenant, writer, hlc: [this.now, 0], decay: DECAY, frontier }, this.#state());
    const changes = applyDelta(this.#delta(writer, seq, entries, saw), this.#state(), []).map((change) => ({ tenant: this.tenant, ...change }));
    for (const change of changes) {
      for (const { key, value } of this.index.rows(change)) value === undefined ? this.rows.delete(key) : this.rows.set(key, value);
      if (change.after === undefined) this.#records.delete(`${change.kind}/${change.id}`);
      else this.#records.set(`${change.kind}/${change.id}`, change.after);
    }
    return changes;
  }

  get frontier(): Record<WriterId, number> {
    return Object.fromEntries(this.#seqs);
  }

  reader(): GraphReader {
    const get = <K extends Kind>(kind: K, id: string): RecordOf<K> | undefined => this.#records.get(`${kind}/${id}`) as RecordOf<K> | undefined;
    return {
      tenant: this.tenant,
      decay: DECAY,
      concept: (id) => get("concept", id),
      link: (a, b) => get("link", linkId(a, b)),
      turn: (id) => get("turn", id),
      memory: (id) => get("memory", id),
      register: (id) => get("register", id),
    };
  }

  #state(): RecordState {
    return { record: (_tenant, kind, id) => this.#records.get(`${kind}/${id}`) as never };
  }

  #delta(writer: WriterId, seq: number, entries: readonly Entry[], saw: Readonly<Record<WriterId, number>>): Delta {
    const key = `key-${writer}-${seq}` as KeyHash;
    const header = { writer, partition: 0 as Partition, seq, previous: "", hlc: [this.now, 0] as const, key, bodyHash: "", saw };
    return { header, body: { tenant: this.tenant, entries } } as unknown as Delta;
  }
}
