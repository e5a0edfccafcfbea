/**
 * The records of the graph as they are stored and read. Each kind's merge law is a file of its own beside this one.
 * Every record is a join-semilattice: merging is commutative, associative and idempotent, so any order of arrival gives the same bytes (P3).
 */
import type { Hlc } from "../clock.ts";
import type { KeyHash, WriterId } from "../ids.ts";

export type Kind = "concept" | "link" | "turn" | "memory" | "tombstone" | "register";
export const CONCEPT_TYPES = ["concept", "decision", "session", "person", "project", "tool", "topic"] as const;
export type ConceptType = (typeof CONCEPT_TYPES)[number];

/** One writer's running total: `mass` is valued at `hlc` and includes the writer's deltas up to `seq`. */
export interface Share {
  readonly mass: number;
  readonly hlc: Hlc;
  readonly seq: number;
}

/** One execution of a retried key on this record: what that delta contributed. */
export interface Execution {
  readonly writer: WriterId;
  readonly seq: number;
  readonly mass: number;
  readonly hlc: Hlc;
}

/** A count that converges: per-writer totals, what a removal took away, and keys that were executed more than once. */
export interface Counter {
  readonly totals: Readonly<Record<WriterId, Share>>;
  readonly removed: Readonly<Record<WriterId, Share>>;
  readonly repeats: Readonly<Record<KeyHash, readonly Execution[]>>;
}

/** Last writer wins by (hlc, writer). */
export interface Register<T> {
  readonly value: T;
  readonly hlc: Hlc;
  readonly writer: WriterId;
}

/** The place of a delta: its writer and number. */
export type Dot = readonly [writer: WriterId, seq: number];

/** One version of an editable field. `saw` is what its author held: a version is replaced by an edit that saw it, else both are kept. */
export interface Version<T> {
  readonly value: T;
  readonly hlc: Hlc;
  readonly writer: WriterId;
  readonly seq: number;
  readonly saw: Readonly<Record<WriterId, number>>;
  /** Other executions of the same request (a retry that ran on two nodes), sorted: who saw one of them saw this. Almost always empty. */
  readonly siblings: readonly Dot[];
}
/** Versions that did not see each other; the first is what readers get (editable.ts says what of the others is a conflict). */
export type Editable<T> = readonly Version<T>[];

/** Id: the folded name (see node/memory/text.ts). */
export interface Concept {
  readonly kind: "concept";
  readonly name: Register<string>;
  readonly type: Register<ConceptType>;
  readonly description: Register<string>;
  /** When it was first met: the least HLC of all contributions. */
  readonly firstAt: Hlc;
  readonly occurrences: Counter;
}

/** Id: linkId(a, b) with a < b. Undirected. */
export interface Link {
  readonly kind: "link";
  readonly a: string;
  readonly b: string;
  readonly activations: Counter;
}

/** What a write says of a turn. Metadata is JSON text. */
export interface TurnBody {
  readonly node: string;
  readonly session: string;
  readonly instance: string;
  readonly user: string;
  readonly assistant: string;
  readonly thinking: string;
  readonly metadata: string;
  readonly concepts: readonly string[];
  readonly decisions: readonly string[];
}

/** What user and assistant said; never changes. Concepts and decisions are sorted, each once, so that joining two copies is idempotent. */
export interface Turn extends TurnBody {
  readonly kind: "turn";
  readonly at: Hlc;
  readonly writer: WriterId;
  /** The keys that created it (several when a retry ran on two nodes); its tombstone inherits them. */
  readonly keys: readonly KeyHash[];
}

/** What a write says of a fact. Metadata is JSON text. */
export interface MemoryBody {
  readonly node: string;
  readonly session: string;
  readonly entity: string;
  readonly content: string;
  readonly metadata: string;
  readonly concepts: readonly string[];
}
export type EditFields = Partial<Pick<MemoryBody, "entity" | "content" | "metadata" | "concepts">>;

/** A fact. The fields a person may correct are Editable. */
export interface Memory {
  readonly kind: "memory";
  readonly at: Hlc;
  readonly writer: WriterId;
  readonly node: string;
  readonly session: string;
  readonly entity: Editable<string>;
  readonly content: Editable<string>;
  readonly metadata: Editable<string>;
  /** Ids of the concepts met in it when its visible content was written. */
  readonly concepts: Editable<readonly string[]>;
  readonly keys: readonly KeyHash[];
}

/** A deleted turn or memory: the id never returns, nor do the keys that created it. Stored under `${kind}/${id}`. */
export interface Tombstone {
  readonly kind: "tombstone";
  readonly of: "turn" | "memory";
  readonly id: string;
  readonly at: Hlc;
  readonly keys: readonly KeyHash[];
}

/** A system record (API key, tenant, setting): independent fields, each JSON text, last writer wins. */
export interface RegisterRecord {
  readonly kind: "register";
  readonly fields: Readonly<Record<string, Register<string>>>;
}

export type GraphRecord = Concept | Link | Turn | Memory | Tombstone | RegisterRecord;
export type RecordOf<K extends Kind> = Extract<GraphRecord, { kind: K }>;

/** Between the ends of a link in its id. */
export const LINK_JOIN = "\u0001";
export function linkId(a: string, b: string): string {
  return a < b ? a + LINK_JOIN + b : b + LINK_JOIN + a;
}

/** Stream positions, sorted by writer, each once. */
export type Positions = readonly (readonly [writer: WriterId, seq: number])[];

/**
 * What may go for good (protocol/floor.ts): the named tombstones of the delta's tenant, and bodies of the partition's log up to `erase`. Only who holds
 * `frontier` applies it: everything that was ever said of those tombstones' ids is in it, and everything that shares a key with an erased delta.
 */
export interface Floor {
  readonly frontier: Positions;
  /** Nowhere above `frontier`. */
  readonly erase: Positions;
  /** "turn/..." and "memory/...", sorted, each once. */
  readonly tombstones: readonly string[];
}

/**
 * What a write asks for, before it is numbered: contributions ("+1"), never totals. The replica turns them into this writer's totals
 * one delta at a time. Removals and edits are looked up again at that moment; what is gone by then is dropped.
 */
export type Contribution =
  | {
      readonly op: "concept";
      readonly id: string;
      /** Occurrences to add, >= 0; 0 only describes. */
      readonly mass: number;
      readonly name?: string;
      readonly type?: ConceptType;
      readonly description?: string;
    }
  | { readonly op: "link"; readonly a: string; readonly b: string; readonly mass: number }
  | { readonly op: "turn"; readonly id: string; readonly turn: TurnBody }
  | { readonly op: "memory"; readonly id: string; readonly memory: MemoryBody }
  | { readonly op: "edit"; readonly id: string; readonly fields: EditFields }
  /** Of a turn or memory: final. Of a concept or link: takes away what this node has counted so far. */
  | { readonly op: "delete"; readonly kind: "turn" | "memory" | "concept" | "link"; readonly id: string }
  | { readonly op: "register"; readonly id: string; readonly fields: Readonly<Record<string, string>> }
  /** Of protocol/floor.ts alone. */
  | ({ readonly op: "floor" } & Floor);
