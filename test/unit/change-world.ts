/** Layouts on their way from one set of owners to another, for tests of who counts meanwhile: alice, bob and carol of replica-world.ts, and three more. */
import type { Incarnation, NodeId, Partition } from "../../protocol/ids.ts";
import { type Group, groupOf, type Layout, type Member, memberOf, type Owners, PARTITIONS } from "../../protocol/layout.ts";
import { joint, staged } from "../../protocol/layout-change.ts";
import { alice, bob, carol, LAYOUT } from "./replica-world.ts";

export const [dave, erin, frank] = ["dave", "erin", "frank"].map((name) =>
  memberOf({ node: `node-of-${name}` as NodeId, name, incarnation: "0a".repeat(16) as Incarnation, zone: "", weight: 1 }),
) as [Member, Member, Member];

/** Everything goes to three others. */
export const MOVING = staged(LAYOUT, { members: [dave, erin, frank], replicationFactor: 2 }, "move");
export const MOVING_JOINT = joint(MOVING);
/** One more member. */
export const ADDING = staged(LAYOUT, { members: [alice, bob, carol, dave], replicationFactor: 2 }, "add");
export const ADDING_JOINT = joint(ADDING);
/** bob leaves: of PARTITION carol, its witness, becomes a replica. */
export const LEAVING = staged(LAYOUT, { members: [alice, carol], replicationFactor: 2 }, "leave");
export const LEAVING_JOINT = joint(LEAVING);

/** Members are made anew with each layout: the writer says who is who. */
export function isIn(members: readonly Member[], { writer }: Member): boolean {
  return members.some((member) => member.writer === writer);
}

/** The first partition of which this is so. */
export function partitionWhere(layout: Layout, is: (now: Group, next: Group) => boolean): Partition {
  const found = PARTITIONS.find((partition) => is(groupOf(layout, partition), groupOf(layout.next as Owners, partition)));
  if (found === undefined) throw new Error("no partition is placed so");
  return found;
}
