/**
 * How many answers are enough, and which. A delta is acknowledged, and a read barrier is complete, by the same count over one partition's
 * group: its full replicas and its witnesses (DESIGN section 3).
 */
import { ProtocolError } from "./errors.ts";
import type { Level } from "./ids.ts";

/** Different members of one group that have said yes so far, this node included; never messages. */
export interface Tally {
  readonly replicas: number;
  readonly witnesses: number;
}

/** How many members the group has, connected or not. */
export interface GroupCounts {
  readonly replicaCount: number;
  readonly witnessCount: number;
}

/**
 * Members that must agree: floor(m / 2) + 1, so two quorums always share a member (the majority quorum; Gifford 1979 gives the general
 * rule, reads + writes > m).
 * @param groupSize the partition's replicas and witnesses, whole number >= 1, connected or not; never the federation's member count
 * @returns whole number in [1, groupSize]
 * @throws ProtocolError EMPTY_GROUP
 */
export function quorumOf(groupSize: number): number {
  if (!Number.isSafeInteger(groupSize) || groupSize < 1) {
    throw new ProtocolError("EMPTY_GROUP", "a group needs at least one member", { groupSize });
  }
  return Math.floor(groupSize / 2) + 1;
}

/**
 * Whether the answers so far satisfy the level. Writes (P1): `one` is one full replica durable, `quorum` is q members with a full replica
 * among them, `all` is every full replica. Barriers (P2) count frontiers and marks the same way; a read at `one` asks nobody.
 * @throws ProtocolError EMPTY_GROUP, or INVARIANT when more members answered than there are: somebody was counted twice
 */
export function levelMet(level: Level, group: GroupCounts, tally: Tally): boolean {
  const quorum = quorumOf(group.replicaCount + group.witnessCount);
  if (tally.replicas > group.replicaCount || tally.witnesses > group.witnessCount) {
    throw new ProtocolError("INVARIANT", "more answers than members", { ...group, ...tally });
  }
  switch (level) {
    case "one":
      return tally.replicas >= 1;
    case "quorum":
      return tally.replicas >= 1 && tally.replicas + tally.witnesses >= quorum;
    case "all":
      return group.replicaCount >= 1 && tally.replicas === group.replicaCount;
  }
}
