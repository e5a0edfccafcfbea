/**
 * What a change of the owners would mean, before anybody votes on it: what moves, and what an operator may not expect. A change of words is only a wish
 * (layout-change.ts); this is what it costs.
 */
import type { Partition, WriterId } from "./ids.ts";
import { SYSTEM_PARTITION } from "./ids.ts";
import { groupOf, type Layout, layoutOf, type Owners, type OwnersFields } from "./layout.ts";
import { type Move, movesBetween, staged } from "./layout-change.ts";
import { quorumOf } from "./quorum.ts";

export interface Plan {
  readonly from: Owners;
  readonly to: Owners;
  /** Members whose share changes. */
  readonly moves: readonly Move[];
  /** Partitions, of 256, that get a full replica they do not have now. */
  readonly partitionsMoved: number;
  /** Of the smallest group to come. */
  readonly groupSize: number;
  readonly quorum: number;
  /** Sentences. */
  readonly warnings: readonly string[];
}

/** @param isHere whether this member is connected now (this node included) @throws ProtocolError MALFORMED, when no such layout can be */
export function planOf(layout: Layout, next: OwnersFields, isHere: (writer: WriterId) => boolean): Plan {
  const to = ownersOf(layout, next);
  const moves = movesBetween(layout, to).filter((move) => move.replicaGains + move.replicaLosses + move.witnessGains + move.witnessLosses > 0);
  const sizes = partitions().map((partition) => groupOf(to, partition).size);
  const groupSize = Math.min(...sizes);
  return {
    from: layout,
    to,
    moves,
    partitionsMoved: partitions().filter((partition) => gainsReplica(layout, to, partition)).length,
    groupSize,
    quorum: quorumOf(groupSize),
    warnings: [...shortGroups(layout, to), ...absentMembers(to, isHere), ...copiesInOneZone(layout, to), ...twoMembers(to)],
  };
}

/** Checked as the staged version would be. */
function ownersOf(layout: Layout, next: OwnersFields): Owners {
  if (layout.phase === "done") return staged(layout, next, "").next as Owners;
  // Something is under way: this change would follow it.
  return layoutOf({ ...layout, ...next, phase: "done", next: undefined });
}

function partitions(): Partition[] {
  return Array.from({ length: SYSTEM_PARTITION }, (_, partition) => partition as Partition);
}

function gainsReplica(from: Owners, to: Owners, partition: Partition): boolean {
  const had = new Set(groupOf(from, partition).replicas.map(({ name }) => name));
  return groupOf(to, partition).replicas.some(({ name }) => !had.has(name));
}

function shortGroups(from: Owners, to: Owners): string[] {
  const wanted = 2 * to.replicationFactor - 1;
  const short = (owners: Owners): number =>
    partitions().filter((partition) => groupOf(owners, partition).size < 2 * owners.replicationFactor - 1).length;
  if (short(to) === 0) return [];
  const copies = Math.min(to.members.length, to.replicationFactor);
  const already = short(from) > 0 ? "still " : "";
  return [
    `Groups are ${already}short: replication factor ${to.replicationFactor} asks for ${wanted} members a group, and there are ${to.members.length} (${copies} full ${copies === 1 ? "copy" : "copies"} of each partition).`,
  ];
}

/** A quorum that needs somebody who is not there now. */
function absentMembers(to: Owners, isHere: (writer: WriterId) => boolean): string[] {
  const absent = to.members.filter(({ writer }) => !isHere(writer)).map(({ name }) => name);
  if (absent.length === 0) return [];
  let [without, last] = [0, 0];
  for (const partition of partitions()) {
    const group = groupOf(to, partition);
    const here = group.members.filter(({ writer }) => isHere(writer)).length;
    if (here < group.quorum) without++;
    else if (here === group.quorum && here < group.size) last++;
  }
  const names = absent.join(", ");
  return [
    ...(without > 0 ? [`${without} of 256 partitions would have no quorum until ${names} ${absent.length === 1 ? "is" : "are"} connected.`] : []),
    ...(last > 0 ? [`${last} of 256 partitions would need every connected member for a quorum, because ${names} is not connected.`] : []),
  ];
}

/** Who never had more than one zone knows. */
function copiesInOneZone(from: Owners, to: Owners): string[] {
  const zones = new Set([...from.members, ...to.members].map(({ zone }) => zone));
  if (zones.size < 2 || to.replicationFactor < 2) return [];
  const alone = new Map<string, number>();
  for (const partition of partitions()) {
    const inZones = new Set(groupOf(to, partition).replicas.map(({ zone }) => zone));
    const [zone] = inZones;
    if (inZones.size === 1 && zone !== undefined) alone.set(zone, (alone.get(zone) ?? 0) + 1);
  }
  return [...alone].map(([zone, count]) => `Zone "${zone}" would hold all full copies of ${count} of 256 partitions: its loss would be theirs.`);
}

function twoMembers(to: Owners): string[] {
  return to.members.length === 2 ? ["With two members both are needed at quorum: the loss of one stops writes until layout recover."] : [];
}
