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

export interface LayoutStatus {
  readonly version: number;
  readonly federation_id: string;
  readonly replication_factor: number;
  readonly resonance_decay: number;
  readonly hebbian_rate: number;
  readonly period_ms: number;
  readonly members: readonly {
    readonly id: string;
    readonly name: string;
    readonly incarnation: string;
    readonly zone: string;
    readonly weight: number;
  }[];
}

export interface FederationStatus {
  readonly node: {
    readonly id: string;
    readonly name: string;
    readonly incarnation: string;
    readonly writer: string;
    /** forming: waiting for layout 1. gateway: in no layout, forwards. single: a federation of one without a secret. */
    readonly role: "single" | "member" | "gateway" | "forming";
    readonly zone: string;
    readonly version: string;
    readonly protocol_version: number;
  };
  readonly layout: LayoutStatus | null;
  /** Names that layout 1 waits for, while forming. */
  readonly waiting_for: readonly string[];
  readonly consistency: string;
  readonly peers: readonly PeerStatus[];
  readonly quorum: {
    /** Every partition this node knows of can reach its quorum from here. */
    readonly available: boolean;
    /** Partitions whose group is shorter than 2 RF - 1, and why this may be fine (fewer members than that). */
    readonly short_groups: number;
    readonly group_size: number;
    readonly quorum: number;
  };
  /** How long the oldest delta that a group member lacks has waited, seconds. */
  readonly sync_lag_seconds: number;
  /** Share of known deltas that this node holds, 0..1, from frontiers. */
  readonly completeness: number;
  readonly witness: { readonly held_deltas: number; readonly held_bytes: number };
  readonly partitions: readonly PartitionStatus[];
}

export interface Readiness {
  readonly ready: boolean;
  readonly reasons: readonly string[];
  readonly quorum: boolean;
  readonly redundancy: "full" | "short" | "single";
}
