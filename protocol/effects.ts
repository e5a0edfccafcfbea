/** What the replica asks its driver to do, and what it is told. The driver performs effects in the order given and reports back; it decides nothing. */
import type { Delta } from "./delta.ts";
import type { StreamHead } from "./frontier.ts";
import type { Change } from "./graph/apply.ts";
import type { Contribution } from "./graph/records.ts";
import type { KeyHash, Level, NodeId, Partition, WriterId } from "./ids.ts";
import type { Envelope, Message } from "./message.ts";
import type { Tally } from "./quorum.ts";

export type RequestId = number;

/** One atomic batch. All batches staged together are flushed together, with one fsync, in this order. */
export type Batch =
  /** A full replica's: log, records, key, frontier. */
  | { readonly type: "delta"; readonly delta: Delta; readonly changes: readonly Change[] }
  /** A witness's: the sealed bytes and the mark. */
  | { readonly type: "sealed"; readonly delta: Delta; readonly envelope: Envelope }
  /** A witness's mark rises without bytes, because every full replica has reported them. */
  | { readonly type: "mark"; readonly head: StreamHead }
  /** A witness forgets sealed deltas up to `seq`, because every full replica has reported them. Needs no fsync of its own. */
  | { readonly type: "forget"; readonly partition: Partition; readonly writer: WriterId; readonly seq: number };

export type Refusal =
  | "no_quorum"
  | "in_doubt"
  | "catching_up"
  | "clock_skew"
  | "idempotency_key_reused"
  | "idempotency_key_expired"
  | "not_replica"
  | "too_large";

/** A copy here whose rows are not what was written. */
export interface DamagedCopy {
  readonly partition: Partition;
  /** heads: of a full replica. marks: of a witness. */
  readonly kind: "heads" | "marks";
}

/** The end of this node's own stream in a partition that no member is known to hold as it is here. */
export interface OwnTail {
  readonly partition: Partition;
  /** Up to this number, 0 for none, another holds the same. */
  readonly after: number;
}

export interface Done {
  readonly level: Level;
  readonly tally: Tally;
  /** Streams that the answer rests on, for the frontier token. */
  readonly frontier: readonly (readonly [WriterId, number])[];
  /** JSON kept with the key (writes); empty for reads. */
  readonly answer: string;
}

export type Effect =
  | { readonly type: "send"; readonly to: NodeId; readonly message: Message }
  /** Seal (once a delta) and send, in stream order. */
  | { readonly type: "push"; readonly to: readonly NodeId[]; readonly deltas: readonly Delta[] }
  /** Read an interval from the log or the sealed store and send it as `repair`; empty when there is none. */
  | {
      readonly type: "serve";
      readonly to: NodeId;
      readonly partition: Partition;
      readonly writer: WriterId;
      readonly from: number;
      readonly to_seq: number;
      readonly sealed: boolean;
    }
  | { readonly type: "done"; readonly request: RequestId; readonly done: Done }
  /** A proposal at quorum or all that would change nothing here: an answer about the state, which stands only behind a barrier. */
  | { readonly type: "nothing"; readonly request: RequestId }
  | { readonly type: "refuse"; readonly request: RequestId; readonly code: Refusal; readonly detail: string }
  /** Take one store snapshot for these reads, then say which frontier it has. */
  | { readonly type: "snapshot"; readonly barrier: number; readonly partition: Partition; readonly requests: readonly RequestId[] }
  /** This disk is an older copy of one that went on, or runs twice: go on under a new incarnation. */
  | { readonly type: "copy"; readonly reason: string; readonly tails: readonly OwnTail[] }
  /** A re-listed incarnation holds enough to begin to count: persist that, then say `counted`. */
  | { readonly type: "count" }
  /** The peer goes by an older layout: send it ours. */
  | { readonly type: "behind"; readonly peer: NodeId }
  /** The peer goes by another layout of the same number. */
  | { readonly type: "conflict"; readonly peer: NodeId; readonly version: number }
  /** Take the partition from another replica as a snapshot, in the place of whatever is here, then say `fetched`. */
  | { readonly type: "fetch"; readonly partition: Partition }
  /** Nobody else has a full copy any more: stop replacing this one, unless that has begun, then say `kept`. */
  | { readonly type: "keep"; readonly partition: Partition }
  /** Persist that these copies count for nothing, and no others. */
  | { readonly type: "damaged"; readonly copies: readonly DamagedCopy[] }
  /** This copy is in no group any more, and others hold all of it. Delete it. */
  | { readonly type: "drop"; readonly partition: Partition; readonly kind: "heads" | "marks" }
  | {
      readonly type: "note";
      readonly level: "info" | "warn" | "error";
      readonly message: string;
      readonly facts: Readonly<Record<string, string | number>>;
      /** A delta was refused, and why. */
      readonly counted?: "future" | "witness_full" | "fork";
    };

export interface Proposal {
  readonly request: RequestId;
  readonly tenant: string;
  readonly partition: Partition;
  readonly level: Level;
  readonly key: KeyHash;
  /** Hash of operation and arguments. */
  readonly fingerprint: string;
  readonly contributions: readonly Contribution[];
  readonly answer: string;
  /** Monotonic ms. */
  readonly deadline: number;
  /** Wall clock, ms. */
  readonly wall: number;
}

export interface ReadRequest {
  readonly request: RequestId;
  readonly partition: Partition;
  readonly level: Level;
  readonly deadline: number;
}
