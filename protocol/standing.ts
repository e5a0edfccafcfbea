/**
 * Whether this node counts: numbers deltas, acknowledges, votes. It does not
 * - while it is in no layout (unlisted),
 * - after a start, until those it can reach, one at the least, have compared what they were told before with what it holds now (comparing): a copy of an older
 *   disk, put back behind its back, would use numbers twice (P4),
 * - when the layout listed it in the place of an incarnation that lost its disk, until it holds all that m - q + 1 others of each of its groups held when they
 *   adopted that (refilling): with fewer, an empty disk could complete a quorum that had counted the lost one (P1).
 * Once a re-listed incarnation has begun to count that is persisted, so a restart does not ask for it again.
 */
import type { OwnTail } from "./effects.ts";
import type { Head, StreamHead } from "./frontier.ts";
import type { Partition, WriterId } from "./ids.ts";
import type { Base } from "./knowledge.ts";
import { countingGroups, type Group, type Layout, type Member, PARTITIONS, votersOf } from "./layout.ts";
import type { MessageOf } from "./message.ts";

export type Standing = "unlisted" | "comparing" | "refilling" | "counting";

/** How long after a start a node listens for more members than the first that has compared, ms. */
const HEARING_MS = 1000;

export interface StandingWorld {
  readonly self: WriterId;
  layout(): Layout;
  /** Connected members, by writer, that speak of comparing (protocol version 2). */
  connected(): readonly WriterId[];
  /** The report of a member under this version; undefined: it does not count. */
  base(member: WriterId): Base | undefined;
  /** What this node holds as a replica, or has marked as a witness. */
  held(kind: "heads" | "marks", partition: Partition, writer: WriterId): number;
}

export class Standings {
  readonly #world: StandingWorld;
  readonly #strict: boolean;
  readonly #compared = new Set<WriterId>();
  #comparing = true;
  #startedAt: number | undefined;
  /** The re-listed incarnation has begun to count before, or now. */
  #hasCounted: boolean;

  /** @param strict wait for m - q + 1 others of each group after a start @param hasCounted as persisted for this incarnation */
  constructor(world: StandingWorld, strict: boolean, hasCounted: boolean) {
    this.#world = world;
    this.#strict = strict;
    this.#hasCounted = hasCounted;
  }

  get now(): Standing {
    const self = this.#self();
    if (self === undefined) return "unlisted";
    if (this.#comparing) return "comparing";
    return self.relisted > 0 && !this.#hasCounted ? "refilling" : "counting";
  }

  /** Listed again after a lost disk, and not caught up yet: what is here is no copy, not even to read at `one`. */
  get isRefilling(): boolean {
    return (this.#self()?.relisted ?? 0) > 0 && !this.#hasCounted;
  }

  get compared(): ReadonlySet<WriterId> {
    return this.#compared;
  }

  /** This member's comparison found nothing wrong. */
  agreed(member: WriterId): void {
    this.#compared.add(member);
  }

  /** @returns true when a re-listed incarnation holds enough to begin to count: persist it, then say `counted` */
  advance(now: number): boolean {
    this.#startedAt ??= now;
    if (this.#comparing && this.#self() !== undefined && this.#comparedEnough(now)) this.#comparing = false;
    return this.now === "refilling" && this.#refilled();
  }

  counted(): void {
    this.#hasCounted = true;
  }

  #self(): Member | undefined {
    return votersOf(this.#world.layout()).find((member) => member.writer === this.#world.self);
  }

  #comparedEnough(now: number): boolean {
    const others = votersOf(this.#world.layout()).filter((member) => member.writer !== this.#world.self);
    if (others.every((member) => this.#compared.has(member.writer))) return true;
    if (this.#strict) return this.#ownGroups().every((group) => this.#othersOf(group, (member) => this.#compared.has(member.writer)));
    // Who was listed again after a lost disk, and does not count yet, has nothing to compare with.
    const empty = new Set(others.flatMap((member) => (member.relisted > 0 && this.#world.base(member.writer) === undefined ? [member.writer] : [])));
    const all = this.#world.connected().every((member) => this.#compared.has(member) || empty.has(member));
    return this.#compared.size > 0 && all && now - (this.#startedAt as number) >= HEARING_MS;
  }

  #refilled(): boolean {
    for (const partition of PARTITIONS) {
      for (const group of countingGroups(this.#world.layout(), partition)) {
        const role = group.replicas.some((member) => member.writer === this.#world.self) ? "heads" : "marks";
        if (role === "marks" && !group.witnesses.some((member) => member.writer === this.#world.self)) continue;
        if (!this.#othersOf(group, (member) => this.#holdsAllOf(member, group, role, partition))) return false;
      }
    }
    return true;
  }

  #holdsAllOf(member: Member, group: Group, role: "heads" | "marks", partition: Partition): boolean {
    const base = this.#world.base(member.writer);
    if (base === undefined) return false;
    const theirs = group.replicas.includes(member) ? base.heads : base.marks;
    const streams: Iterable<[WriterId, Head]> = theirs.get(partition) ?? [];
    for (const [writer, { seq }] of streams) if (this.#world.held(role, partition, writer) < seq) return false;
    return true;
  }

  /** Whether m - q + 1 members of the group other than this one are so: every quorum of the group has one of them. */
  #othersOf(group: Group, isSo: (member: Member) => boolean): boolean {
    const needed = group.size - group.quorum + 1;
    const others = group.members.filter((member) => member.writer !== this.#world.self);
    return others.filter(isSo).length >= Math.min(needed, others.length);
  }

  #ownGroups(): Group[] {
    const groups: Group[] = [];
    for (const partition of PARTITIONS)
      for (const group of countingGroups(this.#world.layout(), partition))
        if (group.members.some((member) => member.writer === this.#world.self)) groups.push(group);
    return groups;
  }
}

/** What a node checks in a member's comparison: the reasons why its own disk would be a copy of an older one, or one that runs twice. */
export interface ComparingWorld {
  readonly layoutVersion: number;
  /** The id of the start of this number, undefined when it is too old to be kept; null: there was none. */
  startAt(count: number): string | undefined | null;
  held(kind: "heads" | "marks", partition: Partition, writer: WriterId): number;
  /** The last number of this node's own stream, as far as it is known here. */
  ownSeq(partition: Partition): number;
  /** Hash of this node's own delta, undefined when it cannot be told any more. */
  ownHash(partition: Partition, seq: number): string | undefined;
}

/** @returns why this disk is not the one that the member was told of; undefined: nothing speaks against it */
export function copyShownBy(compare: MessageOf<"compare">, world: ComparingWorld): string | undefined {
  if (compare.start !== null) {
    const own = world.startAt(compare.start.count);
    if (own === null) return `it was told of start ${compare.start.count}, which this disk does not know`;
    if (own !== undefined && own !== compare.start.id) return `start ${compare.start.count} that it was told of was on another disk`;
  }
  for (const { partition, seq, hash } of compare.own) {
    if (seq > world.ownSeq(partition)) return `it holds number ${seq} of this node's stream in partition ${partition}, which this disk does not`;
    const own = world.ownHash(partition, seq);
    if (own !== undefined && hash !== "" && own !== hash)
      return `number ${seq} of this node's stream in partition ${partition} is another delta there`;
  }
  // What was told under another layout says nothing of this one's roles; the start and the own streams do.
  if (compare.layoutVersion !== world.layoutVersion) return undefined;
  for (const kind of ["heads", "marks"] as const) {
    for (const { partition, writer, seq } of compare[kind])
      if (seq > world.held(kind, partition, writer))
        return `it was told that this node holds ${writer}/${seq} of partition ${partition}, which it does not`;
  }
  return undefined;
}

/**
 * The end of each of this node's own streams that nobody is known to hold as it is here: another process may have given those numbers to other deltas.
 * @param told what others said they hold of them, now or before this start
 */
export function unheardTails(
  told: readonly StreamHead[],
  partitions: readonly Partition[],
  world: Pick<ComparingWorld, "ownSeq" | "ownHash">,
): OwnTail[] {
  const shared = new Map<Partition, number>();
  for (const { partition, seq, hash } of told)
    if (seq > (shared.get(partition) ?? 0) && hash !== "" && world.ownHash(partition, seq) === hash) shared.set(partition, seq);
  return partitions.flatMap((partition) => {
    const after = shared.get(partition) ?? 0;
    return world.ownSeq(partition) > after ? [{ partition, after }] : [];
  });
}
