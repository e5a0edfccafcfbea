/** Who belongs to a partition's group, who of them is connected, and who counts. Only listed incarnations do; everybody else is told nothing. */
import type { Level, NodeId, Partition, WriterId } from "./ids.ts";
import { type Group, groupOf, type Layout, type Member } from "./layout.ts";
import { type GroupCounts, levelMet, type Tally } from "./quorum.ts";

export type Role = "replica" | "witness";

export interface Peer {
  readonly node: NodeId;
  readonly writer: WriterId;
}

export class Membership {
  readonly layout: Layout;
  readonly self: WriterId;
  readonly #connected = new Map<NodeId, Peer>();

  constructor(layout: Layout, self: WriterId) {
    this.layout = layout;
    this.self = self;
  }

  /** Of this node. Undefined: in no group of the partition, or not a member at all. */
  role(partition: Partition): Role | undefined {
    if (this.isReplica(partition, this.self)) return "replica";
    return this.isWitness(partition, this.self) ? "witness" : undefined;
  }

  isReplica(partition: Partition, writer: WriterId): boolean {
    return groupOf(this.layout, partition).replicas.some((member) => member.writer === writer);
  }

  isWitness(partition: Partition, writer: WriterId): boolean {
    return groupOf(this.layout, partition).witnesses.some((member) => member.writer === writer);
  }

  /** @returns false when this incarnation is not listed: it does not count */
  connect(peer: Peer): boolean {
    if (!this.layout.members.some((member) => member.writer === peer.writer && member.node === peer.node)) return false;
    this.#connected.set(peer.node, peer);
    return true;
  }

  disconnect(node: NodeId): void {
    this.#connected.delete(node);
  }

  peer(node: NodeId): Peer | undefined {
    return this.#connected.get(node);
  }

  nodes(): readonly NodeId[] {
    return [...this.#connected.keys()];
  }

  isConnected(writer: WriterId): boolean {
    for (const peer of this.#connected.values()) if (peer.writer === writer) return true;
    return false;
  }

  /** The other members of the group that are connected. */
  others(partition: Partition): Member[] {
    return groupOf(this.layout, partition).members.filter((member) => this.#connected.get(member.node)?.writer === member.writer);
  }

  counts(partition: Partition): GroupCounts {
    return countsOf(groupOf(this.layout, partition));
  }

  /** How many of the group hold something. @param holds asked once a member, this node included */
  tally(partition: Partition, holds: (member: Member) => boolean): Tally {
    const group = groupOf(this.layout, partition);
    let replicas = 0;
    let witnesses = 0;
    for (const member of group.replicas) if (holds(member)) replicas++;
    for (const member of group.witnesses) if (holds(member)) witnesses++;
    return { replicas, witnesses };
  }

  /** Why a level cannot be met now, in a sentence; undefined when those who are connected could meet it. */
  unreachable(partition: Partition, level: Level): string | undefined {
    const group = groupOf(this.layout, partition);
    const isHere = (member: Member): boolean => member.writer === this.self || this.#connected.get(member.node)?.writer === member.writer;
    if (levelMet(level, countsOf(group), this.tally(partition, isHere))) return undefined;
    const needed = level === "all" ? `all ${group.replicas.length} full replicas` : `${group.quorum} of ${group.size} members`;
    const missing = group.members.filter((member) => !isHere(member)).map((member) => member.name);
    return `Level ${level} needs ${needed}; not connected: ${missing.join(", ")}. Nothing was written.`;
  }
}

function countsOf(group: Group): GroupCounts {
  return { replicaCount: group.replicas.length, witnessCount: group.witnesses.length };
}
