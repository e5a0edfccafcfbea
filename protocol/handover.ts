/**
 * Whether a partition is handed over from its old to its next group (DESIGN section 8): q of the next group hold all that q of the old group held when they
 * adopted the version that holds. While a change is staged it says that the next owners have copied; while it is joint it is the condition of *done*.
 *
 * A new owner counts as a replica for what it holds. As a witness it counts only once it has adopted this version itself, and only for deltas whose bytes it
 * keeps or that every next full replica holds: a mark without bytes is no second copy.
 */
import type { Head } from "./frontier.ts";
import type { Partition, WriterId } from "./ids.ts";
import type { Base } from "./knowledge.ts";
import { type Group, groupOf, type Layout, type Member, PARTITIONS } from "./layout.ts";
import { countsOf } from "./membership.ts";
import { levelMet } from "./quorum.ts";

export interface HandoverWorld {
  /** What a member held when it adopted this version; undefined: it has not, or has not said so. This node included. */
  base(member: WriterId): Base | undefined;
  /** What a member holds now, as it told; of this node what is on disk. */
  held(member: WriterId, kind: "heads" | "marks", partition: Partition, writer: WriterId): number;
}

export function isHandedOver(layout: Layout, partition: Partition, world: HandoverWorld): boolean {
  if (layout.next === undefined) return false;
  const old = groupOf(layout, partition);
  const target = new Map<WriterId, number>();
  let adopted = 0;
  for (const member of old.members) {
    const base = world.base(member.writer);
    if (base === undefined) continue;
    adopted++;
    const streams: Iterable<[WriterId, Head]> = (old.replicas.includes(member) ? base.heads : base.marks).get(partition) ?? [];
    for (const [writer, { seq }] of streams) target.set(writer, Math.max(target.get(writer) ?? 0, seq));
  }
  return adopted >= old.quorum && holdsAll(groupOf(layout.next, partition), partition, target, world);
}

/** Whether q of the next group, one of them a full replica, hold all of a frontier. */
export function holdsAll(next: Group, partition: Partition, target: ReadonlyMap<WriterId, number>, world: HandoverWorld): boolean {
  const every = (check: (writer: WriterId, seq: number) => boolean): boolean => [...target].every(([writer, seq]) => check(writer, seq));
  const isFull = (member: Member): boolean => every((writer, seq) => world.held(member.writer, "heads", partition, writer) >= seq);
  const isSeen = (member: Member): boolean => {
    const base = world.base(member.writer);
    if (base === undefined) return false;
    return every((writer, seq) => {
      if (world.held(member.writer, "marks", partition, writer) < seq) return false;
      // What it marked since it adopted this version it keeps, or every next full replica has it: witness.ts forgets on that condition only.
      const keptFrom = base.keptFrom.get(partition)?.get(writer) ?? 1;
      const withoutBytes = Math.min(seq, keptFrom - 1);
      return next.replicas.every((replica) => world.held(replica.writer, "heads", partition, writer) >= withoutBytes);
    });
  };
  const replicas = next.replicas.filter(isFull).length;
  const witnesses = next.witnesses.filter(isSeen).length;
  return levelMet("quorum", countsOf(next), { replicas, witnesses });
}

/**
 * Who has said of which partitions that they are handed over, under the version that holds. A partition is judged by those who are in its groups, because only
 * they hear how far the others are; everybody hears the verdicts.
 */
export class Handovers {
  readonly #claims = new Map<WriterId, ReadonlySet<Partition>>();

  /** A new layout version holds. */
  forget(): void {
    this.#claims.clear();
  }

  claim(member: WriterId, partitions: Iterable<Partition>): void {
    this.#claims.set(member, new Set(partitions));
  }

  claimedBy(member: WriterId): ReadonlySet<Partition> {
    return this.#claims.get(member) ?? NOTHING;
  }

  /** Partitions that wait: nobody has claimed them, or one of the old group that is here has not, as it may hold what it alone was told. */
  waiting(layout: Layout, isHere: (member: WriterId) => boolean): Partition[] {
    return PARTITIONS.filter((partition) => {
      const claimed = [...this.#claims.values()].some((partitions) => partitions.has(partition));
      const agreed = groupOf(layout, partition).members.every(({ writer }) => !isHere(writer) || this.claimedBy(writer).has(partition));
      return !claimed || !agreed;
    });
  }
}

const NOTHING: ReadonlySet<Partition> = new Set();
