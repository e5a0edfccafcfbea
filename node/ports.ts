/** What the outside world must offer, so that the simulator can offer another one. Each has exactly one real implementation. */
import type { Hlc } from "../protocol/clock.ts";
import type { VerifiedMessage } from "../protocol/frame.ts";
import type { Concept, Contribution, GraphRecord, Kind, Link, Memory, RegisterRecord, Turn } from "../protocol/graph/records.ts";
import type { KeyHash, Level, NodeId, Partition } from "../protocol/ids.ts";

/** Time and chance (node/system.ts). */
export interface System {
  /** Wall clock, ms since the epoch. */
  now(): number;
  /** Monotonic clock, ms. */
  monotonic(): number;
  randomBytes(length: number): Uint8Array;
  /** In [0, 1). */
  random(): number;
  /** @returns cancel */
  after(ms: number, run: () => void): () => void;
  /** Once what has already arrived has been looked at. */
  soon(run: () => void): void;
}

/** The framed streams of port 8421 (node/net). Carries bytes and never looks inside. */
export interface Network {
  readonly self: NodeId;
  /** False: not connected, or the peer's bounded queue is full (the frame is dropped; repair finds it later). */
  send(to: NodeId, frame: Uint8Array): boolean;
  /** Both are set once, before start. */
  onFrame: (from: NodeId, frame: Uint8Array) => void;
  onPeer: (peer: NodeId, connected: boolean) => void;
  /** Round trip of the last ping in ms, undefined when unknown. */
  latencyMs(peer: NodeId): number | undefined;
  /** "I have news": a hint over gossip on 8422; may be lost. */
  announce(news: Uint8Array): void;
  onNews: (from: NodeId, news: Uint8Array) => void;
  connected(): readonly NodeId[];
}

/** Read access to one tenant's records as of one moment. Synchronous, so a decision is made on one state. */
export interface GraphReader {
  readonly tenant: string;
  concept(id: string): Concept | undefined;
  link(a: string, b: string): Link | undefined;
  turn(id: string): Turn | undefined;
  memory(id: string): Memory | undefined;
  register(id: string): RegisterRecord | undefined;
  /** The federation's decay: strengths are computed on reading (protocol/graph/link.ts). */
  readonly decay: DecaySettings;
}

export interface DecaySettings {
  /** d in (0, 1): what is left of a link's mass after one period. */
  readonly resonanceDecay: number;
  readonly periodMs: number;
}

/** A change of one materialised record, as the index sees it. */
export interface RecordChange {
  readonly tenant: string;
  readonly kind: Kind;
  readonly id: string;
  readonly before: GraphRecord | undefined;
  readonly after: GraphRecord | undefined;
}

/** `value` undefined deletes. The store prefixes the key with partition and tenant. */
export interface IndexRow {
  readonly key: string;
  readonly value: Uint8Array | undefined;
}

/** Where search keeps its rows. `rows` go into the same atomic batch as the record; `committed` is told once that batch is durable. */
export interface GraphIndex {
  rows(change: RecordChange): IndexRow[];
  committed(changes: readonly RecordChange[]): void;
  /** Resolves once the tenant can be queried; `scan` streams its stored rows in key order, each of its own moment; what is committed meanwhile comes through `committed`. */
  ready(tenant: string, scan: (prefix: string) => AsyncIterable<IndexRow>): Promise<void>;
  /** The rows of the partition went as a whole, or others took their place: what was built from them is forgotten, what is being built begins again. */
  dropped(partition: Partition): void;
}

export interface DecideContext {
  readonly reader: GraphReader;
  /** Wall clock of this write, ms. */
  readonly now: number;
  /** NODE_NAME of the node that decides. */
  readonly node: string;
  /** Ids of created records derive from the Idempotency-Key, so a retry creates the same ones: `id("turn", 0)` -> "turn_3kf...". */
  id(prefix: string, ordinal: number): string;
}

/** A write: decides on one state what to contribute, and the JSON answer the client gets (kept with the key, so a retry gets the same). */
export interface WriteOperation<Args, Answer> {
  readonly type: "write";
  /** @throws ApiError when the request cannot be done on this state (404 ...): nothing is written. An empty list writes nothing. */
  decide(args: Args, context: DecideContext): { readonly contributions: readonly Contribution[]; readonly answer: Answer };
}

export interface ReadContext {
  readonly reader: GraphReader;
  readonly now: number;
  readonly node: string;
}

/** A read, answered from one snapshot. Must not await anything but the snapshot. */
export interface ReadOperation<Args, Answer> {
  readonly type: "read";
  answer(args: Args, context: ReadContext): Answer;
}

// biome-ignore lint/suspicious/noExplicitAny: a table of operations with different arguments
export type Operations = Readonly<Record<string, WriteOperation<any, any> | ReadOperation<any, any>>>;

/** One request on its way through the node. */
export interface Call {
  readonly tenant: string;
  readonly level: Level | undefined;
  /** Always set for writes: the client's Idempotency-Key, or one made by the HTTP layer. */
  readonly key: string;
  /** X-Continuum-Frontier of an earlier answer, for read-your-writes at `one`. */
  readonly token: string | undefined;
  readonly requestId: string;
  /** Monotonic ms by which an answer must be given. */
  readonly deadline: number;
}

export interface Outcome<T> {
  readonly value: T;
  readonly level: Level;
  readonly acks: { readonly replicas: number; readonly witnesses: number };
  /** Frontier token to give back as X-Continuum-Frontier. */
  readonly token: string;
  /** NODE_NAME of the node that executed it. */
  readonly node: string;
}

/** The one door from HTTP into the memory: runs here, or is forwarded to a replica of the tenant's partition. @throws ApiError */
export interface Router {
  run<T>(operation: string, args: unknown, call: Call): Promise<Outcome<T>>;
}

/** The router as the engine knows it: it hears frames of requests (forward, forwarded) and ends of connections, and runs what the engine itself asks for. */
export interface RequestLayer extends Router {
  receive(verified: VerifiedMessage): void;
  gone(node: NodeId): void;
}

/** What the layers count; node/metrics.ts turns it into Prometheus. */
export interface Meter {
  count(name: MeterName, value?: number, label?: string): void;
  observe(name: MeterName, value: number, label?: string): void;
}
export type MeterName =
  | "learn"
  | "recall"
  | "memory_stored"
  | "concepts_extracted"
  | "consensus_failure" // label `${level}:${reason}`
  | "sync_operation" // label: push, interval, heads, barrier, forward, formation
  | "bytes_sent"
  | "bytes_received"
  | "connection_error" // label: reason
  | "group_commit_deltas"
  | "commit_seconds"
  | "quorum_wait_seconds"
  | "barrier_seconds"
  | "frame_dropped" // label: reason
  | "scrubbed" // label: whole, corrupt
  | "delta_refused"; // label: future, witness_full, fork

export type Log = {
  debug(facts: object, message: string): void;
  info(facts: object, message: string): void;
  warn(facts: object, message: string): void;
  error(facts: object, message: string): void;
};

export type { Hlc, KeyHash };
