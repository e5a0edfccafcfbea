/**
 * Who belongs to a partition's groups, who of them is connected, and who counts. Only listed incarnations do, once their report under this version has come;
 * everybody else is told nothing. While a change is joint each level is met in the old and in the next group.
 */
import type { Level, NodeId, Partition, WriterId } from "./ids.ts";
import { audienceOf, countingGroups, type Group, groupOf, type Layout, type Member, votersOf } from "./layout.ts";
import { type GroupCounts, levelMet, type Tally } from "./quorum.ts";

export type Role = "replica" | "witness";

export interface Peer {
  readonly node: NodeId;
  readonly writer: WriterId;
  /** Protocol version spoken with it. */
  readonly version: number;
}

/** What a member of a group is asked for: a replica by its frontier, a witness by its marks. */
export type Has = (member: Member, role: Role) => boolean;

export class Membership {
  readonly self: WriterId;
  #layout: Layout;
  readonly #connected = new Map<NodeId, Peer>();

  constructor(layout: Layout, self: WriterId) {
    this.#layout = layout;
    this.self = self;
  }

  get layout(): Layout {
    return this.#layout;
  }

  adopt(layout: Layout): void {
    this.#layout = layout;
    for (const peer of [...this.#connected.values()]) if (!this.isListed(peer)) this.#connected.delete(peer.node);
  }

  /** In the group that serves the partition. Undefined: in none, or no member at all. */
  role(partition: Partition, writer = this.self): Role | undefined {
    return roleIn(groupOf(this.#layout, partition), writer);
  }

  /** As an owner now or to come: whose deltas it takes. */
  keepsAs(partition: Partition, role: Role, writer = this.self): boolean {
    if (this.role(partition, writer) === role) return true;
    return this.#layout.next !== undefined && roleIn(groupOf(this.#layout.next, partition), writer) === role;
  }

  /** In any group of the partition, now or to come. */
  isInAudience(partition: Partition, writer: WriterId): boolean {
    return audienceOf(this.#layout, partition).some((member) => member.writer === writer);
  }

  isListed(peer: { readonly node: NodeId; readonly writer: WriterId }): boolean {
    return votersOf(this.#layout).some((member) => member.writer === peer.writer && member.node === peer.node);
  }

  get selfListed(): Member | undefined {
    return votersOf(this.#layout).find((member) => member.writer === this.self);
  }

  /** @returns false when this incarnation is not listed: it does not count */
  connect(peer: Peer): boolean {
    if (!this.isListed(peer)) return false;
    this.#connected.set(peer.node, peer);
    return true;
  }

  disconnect(node: NodeId): void {
    this.#connected.delete(node);
  }

  peer(node: NodeId): Peer | undefined {
    return this.#connected.get(node);
  }

  peers(): readonly Peer[] {
    return [...this.#connected.values()];
  }

  peerOf(writer: WriterId): Peer | undefined {
    for (const peer of this.#connected.values()) if (peer.writer === writer) return peer;
    return undefined;
  }

  isConnected(writer: WriterId): boolean {
    return this.peerOf(writer) !== undefined;
  }

  /** The other members of the partition's groups, now or to come, that are connected. */
  others(partition: Partition): Member[] {
    return audienceOf(this.#layout, partition).filter((member) => this.#connected.get(member.node)?.writer === member.writer);
  }

  /** Members of the group that have something. */
  tally(group: Group, has: Has): Tally {
    let replicas = 0;
    let witnesses = 0;
    for (const member of group.replicas) if (has(member, "replica")) replicas++;
    for (const member of group.witnesses) if (has(member, "witness")) witnesses++;
    return { replicas, witnesses };
  }

  /** Whether each group that counts satisfies the level. @returns the tally of the group that serves, for the answer; undefined: not yet */
  met(partition: Partition, level: Level, has: Has): Tally | undefined {
    let serving: Tally | undefined;
    for (const group of countingGroups(this.#layout, partition)) {
      const tally = this.tally(group, has);
      if (!levelMet(level, countsOf(group), tally)) return undefined;
      serving ??= tally;
    }
    return serving;
  }

  /** Why a level cannot be met now, in a sentence; undefined when those who count could meet it. @param counts asked of the others */
  unreachable(partition: Partition, level: Level, counts: (writer: WriterId) => boolean): string | undefined {
    const isHere = (member: Member): boolean => member.writer === this.self || (this.isConnected(member.writer) && counts(member.writer));
    if (this.met(partition, level, isHere) !== undefined) return undefined;
    for (const group of countingGroups(this.#layout, partition)) {
      if (levelMet(level, countsOf(group), this.tally(group, isHere))) continue;
      const needed = level === "all" ? `all ${group.replicas.length} full replicas` : `${group.quorum} of ${group.size} members`;
      const missing = group.members.filter((member) => !isHere(member));
      const names = (members: readonly Member[]): string => members.map(({ name }) => name).join(", ");
      const early = missing.filter(({ writer }) => this.isConnected(writer));
      const why = [
        ...(early.length < missing.length ? [`not connected: ${names(missing.filter((member) => !early.includes(member)))}`] : []),
        ...(early.length > 0 ? [`connected and not counting yet: ${names(early)}`] : []),
      ];
      return `Level ${level} needs ${needed}; ${why.join("; ")}. Nothing was written.`;
    }
    return undefined;
  }
}

export function countsOf(group: Group): GroupCounts {
  return { replicaCount: group.replicas.length, witnessCount: group.witnesses.length };
}

export function roleIn(group: Group, writer: WriterId): Role | undefined {
  if (group.replicas.some((member) => member.writer === writer)) return "replica";
  return group.witnesses.some((member) => member.writer === writer) ? "witness" : undefined;
}
