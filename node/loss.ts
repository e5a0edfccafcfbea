/**
 * What goes with members whose disks are gone, from what they told before: a lower bound, never more. Whoever is left and is not here may hold some of it, so
 * a witness that is left is taken to keep everything it has marked, except this node's own, which is known.
 */
import type { Partition, WriterId } from "../protocol/ids.ts";
import { audienceOf, groupOf, type Layout, type Member, PARTITIONS, votersOf } from "../protocol/layout.ts";
import type { Engine } from "./engine.ts";
import type { Loss } from "./status.ts";

type Held = Map<string, number>;

export async function lossOf(engine: Engine, layout: Layout, lost: readonly string[]): Promise<Loss> {
  const gone = votersOf(layout).filter((member) => lost.includes(member.name));
  const left = votersOf(layout).filter((member) => !lost.includes(member.name));
  const told = await toldBy(engine, gone);
  const kept = heldBy(engine, layout, left);
  let deltas = 0;
  for (const [stream, seq] of told)
    if (!kept.has(everything(Number.parseInt(stream, 10) as Partition))) deltas += Math.max(0, seq - (kept.get(stream) ?? 0));
  const names = new Set(left.map(({ name }) => name));
  const bare = PARTITIONS.slice(0, -1).filter((partition) => !groupOf(layout, partition).replicas.some(({ name }) => names.has(name)));
  return { lost: [...lost], deltas_at_least: deltas, partitions_without_copy: lost.length === 0 ? 0 : bare.length };
}

/** The furthest that any of them was known to be, now or when it was last here: `partition/writer` -> seq. */
async function toldBy({ store, replica }: Engine, members: readonly Member[]): Promise<Held> {
  const held: Held = new Map();
  for (const member of members) {
    const before = await store.told(member.writer);
    for (const { partition, writer, seq } of [...(before?.heads ?? []), ...(before?.marks ?? [])]) raise(held, partition, writer, seq);
  }
  for (const partition of PARTITIONS)
    for (const writer of replica?.toldOf(partition).keys() ?? [])
      for (const member of members) raise(held, partition, writer, replica?.heldBy(member.writer, partition, writer) ?? 0);
  return held;
}

/** Own sealed bytes come last: only what follows a copy without a gap can be had from them. */
function heldBy({ store, replica, writer: self }: Engine, layout: Layout, members: readonly Member[]): Held {
  const held: Held = new Map();
  if (replica === undefined) return held;
  const counting = new Set(replica.counting());
  const others = members.filter(({ writer }) => writer !== self);
  for (const partition of PARTITIONS) {
    // Who is left and is not here may hold all of it.
    if (others.some((member) => !counting.has(member.writer) && audienceOf(layout, partition).includes(member))) {
      held.set(everything(partition), 1);
      continue;
    }
    for (const { writer, seq } of replica.ownHeads(partition, "heads")) raise(held, partition, writer, seq);
    for (const writer of replica.toldOf(partition).keys())
      for (const member of others) raise(held, partition, writer, replica.heldBy(member.writer, partition, writer));
    for (const { writer, seq } of replica.ownHeads(partition, "marks")) {
      const from = store.staged.keptFrom(partition, writer);
      if (from !== undefined && from <= (held.get(`${partition}/${writer}`) ?? 0) + 1) raise(held, partition, writer, seq);
    }
  }
  return held;
}

function everything(partition: Partition): string {
  return `${partition}/*`;
}

function raise(held: Held, partition: Partition, writer: WriterId, seq: number): void {
  const stream = `${partition}/${writer}`;
  if (seq > (held.get(stream) ?? 0)) held.set(stream, seq);
}
