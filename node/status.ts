/** What this node knows of its federation, for `GET /v1/federation`, `continuum status` and the metrics. JSON as it is served. */
export interface PeerStatus {
  readonly id: string;
  readonly name: string;
  readonly incarnation: string;
  readonly zone: string;
  readonly role: "member" | "gateway";
  readonly connected: boolean;
  readonly healthy: boolean;
  readonly latency_ms: number | null;
  readonly last_seen: string | null;
  /** Deltas of ours that this peer should hold and has not reported yet. */
  readonly behind: number;
  /** How long the oldest of them has waited, seconds. */
  readonly lag_seconds: number;
  /** Counts here in quorums: it is listed, connected, and has reported under this version of the layout. */
  readonly counts: boolean;
  /** Partitions of which it says that its copy is damaged, and counts for nothing. */
  readonly damaged: number;
  /** How far its clock is ahead of this node's, ms; negative: behind. Null: it has not told. */
  readonly clock_ahead_ms: number | null;
  /** Spoken with it; null when it is not connected. */
  readonly protocol_version: number | null;
  /** Public ids of the secrets it knows, the one it seals with first. */
  readonly secret_ids: readonly string[];
}

export interface PartitionStatus {
  readonly partition: number;
  readonly role: "replica" | "witness";
  readonly replicas: readonly string[];
  readonly witnesses: readonly string[];
  /** Streams held (replica) or marked (witness): `{writer: n}`. */
  readonly frontier: Readonly<Record<string, number>>;
  /** Sealed deltas a witness still keeps because a full replica lacks them. */
  readonly held_deltas: number;
  /** SHA-256 over the sorted materialised records, hex; null on a witness or when not asked for and not cheap. */
  readonly fingerprint: string | null;
}

export interface DamagedStatus {
  readonly partition: number;
  readonly role: "replica" | "witness";
  /**
   * copying: a whole one is on its way from another replica. waiting: no replica is connected that holds all that was acknowledged here (replica), or some
   * lack what was kept for them (witness). Either way the copy counts for nothing. only_copy: there is no other, it stays in service.
   */
  readonly state: "copying" | "waiting" | "only_copy";
}

export interface MemberStatus {
  readonly id: string;
  readonly name: string;
  readonly incarnation: string;
  readonly zone: string;
  readonly weight: number;
}

export interface LayoutStatus {
  readonly version: number;
  readonly phase: "done" | "staged" | "joint";
  /** Id of the change that is carried out, or that this version ended. */
  readonly change: string | null;
  /** Made by an operator without a vote. */
  readonly forced: boolean;
  readonly federation_id: string;
  readonly replication_factor: number;
  readonly resonance_decay: number;
  readonly hebbian_rate: number;
  readonly period_ms: number;
  /** The owners that serve. */
  readonly members: readonly MemberStatus[];
  /** The owners to come; null when nothing is under way. */
  readonly next: { readonly replication_factor: number; readonly members: readonly MemberStatus[] } | null;
}

/** How far the change of the layout that is under way has come. */
export interface LayoutProgress {
  readonly phase: "staged" | "joint";
  readonly change: string;
  /** 257: the system partition is one of them. */
  readonly partitions_total: number;
  /** Not handed over to the owners to come yet, as far as this node has heard. */
  readonly partitions_left: number;
  /** Of those, by who is still to have them. */
  readonly members: readonly { readonly name: string; readonly partitions_left: number }[];
}

export interface LayoutHistoryEntry extends LayoutStatus {
  /** ISO 8601: when this node adopted it, by its clock. Null: by a program that did not write it down. */
  readonly adopted_at: string | null;
  /** ISO 8601, of the change that it belongs to; null where nobody asked for it or it is not known any more. */
  readonly asked_at: string | null;
  readonly ended_at: string | null;
  readonly what: string;
}

export interface Loss {
  readonly lost: readonly string[];
  /** Never too high: members told that they held these, and nobody who is left does. */
  readonly deltas_at_least: number;
  /** Of 256: all full replicas are among the lost. */
  readonly partitions_without_copy: number;
}

export interface LayoutPlan {
  /** "drain dave" */
  readonly what: string;
  readonly changes_nothing: boolean;
  /** Of 256: those that get a full replica they do not have. */
  readonly partitions_moved: number;
  readonly moves: readonly {
    readonly name: string;
    readonly replica_gains: number;
    readonly replica_losses: number;
    readonly witness_gains: number;
    readonly witness_losses: number;
  }[];
  readonly members: readonly string[];
  readonly replication_factor: number;
  readonly group_size: number;
  readonly quorum: number;
  /** Sentences. */
  readonly warnings: readonly string[];
  /** Of a recovery. */
  readonly loss: Loss | null;
}

export interface FederationStatus {
  readonly node: {
    readonly id: string;
    readonly name: string;
    readonly incarnation: string;
    readonly writer: string;
    /**
     * forming: waiting for layout 1. gateway: in no layout, forwards. joining: an owner to come, copies. single: a federation of one without a secret.
     */
    readonly role: "single" | "member" | "gateway" | "joining" | "forming";
    /**
     * counting: numbers, acknowledges, votes. comparing: started, and not compared with the others yet. refilling: its disk was lost, it takes back what it
     * must hold before it counts. unlisted: in no layout.
     */
    readonly standing: "unlisted" | "comparing" | "refilling" | "counting";
    /** It is no member and asks to be one (FEDERATION_AUTO_JOIN). */
    readonly asks_to_join: boolean;
    /** Public ids of the secrets it knows, the one it seals with first. */
    readonly secret_ids: readonly string[];
    /** As the layout has it; of a node in no layout what it was started with. */
    readonly zone: string;
    readonly version: string;
    readonly protocol_version: number;
  };
  readonly layout: LayoutStatus | null;
  /** Null when nothing is under way, or this node is in no layout. */
  readonly moving: LayoutProgress | null;
  /** A peer goes by another layout of the same number: quorum stops until an operator chooses. */
  readonly conflict: { readonly peer: string; readonly version: number } | null;
  /** Names that layout 1 waits for, while forming. */
  readonly waiting_for: readonly string[];
  readonly consistency: string;
  readonly peers: readonly PeerStatus[];
  readonly quorum: {
    /** Every partition this node knows of can reach its quorum from here. */
    readonly available: boolean;
    /** Of the 256: those that cannot, and are written and read at `one` only. */
    readonly unavailable: number;
    /** The system partition can: keys and the layout can be changed. */
    readonly system: boolean;
    /** Partitions whose group is shorter than 2 RF - 1, and why this may be fine (fewer members than that). */
    readonly short_groups: number;
    /** Partitions with data here, as a replica or as a witness, of which fewer full replicas than the factor are connected, whole and hold all that is known. */
    readonly short_copies: number;
    readonly group_size: number;
    readonly quorum: number;
  };
  /** How long the oldest delta that a group member lacks has waited, seconds. */
  readonly sync_lag_seconds: number;
  /** Share of known deltas that this node holds, 0..1, from frontiers. */
  readonly completeness: number;
  readonly witness: {
    readonly held_deltas: number;
    readonly held_bytes: number;
    /** Full replicas that lack some of them, and how many. */
    readonly waits_for: readonly { readonly name: string; readonly deltas: number }[];
  };
  /** How far this node's clock is ahead of its peers', ms; null: none has told. */
  readonly clock_ahead_ms: number | null;
  /** Requests that were executed here and answered in_doubt, since the start. */
  readonly in_doubt_total: number;
  /** Partitions that are on their way here as snapshots. */
  readonly copying: number;
  /** Copies on this disk that are not what was written. */
  readonly damaged: readonly DamagedStatus[];
  readonly partitions: readonly PartitionStatus[];
}

export interface Readiness {
  readonly ready: boolean;
  readonly reasons: readonly string[];
  readonly quorum: boolean;
  readonly redundancy: "full" | "short" | "single";
}
