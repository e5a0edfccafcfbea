import { describe, expect, test } from "vitest";
import type { FederationId, Incarnation, NodeId, WriterId } from "../../protocol/ids.ts";
import { groupOf, type Layout, layoutOf, type MemberFields, PARTITIONS } from "../../protocol/layout.ts";
import { type Change, ownersAfter, staged } from "../../protocol/layout-change.ts";
import { planOf } from "../../protocol/layout-plan.ts";

const member = (name: string, more: Partial<MemberFields> = {}): MemberFields => ({
  node: `node-of-${name}` as NodeId,
  name,
  incarnation: "07".repeat(16) as Incarnation,
  zone: "",
  weight: 1,
  ...more,
});
const layoutWith = (members: readonly MemberFields[], replicationFactor = 2): Layout =>
  layoutOf({
    version: 1,
    federation: "fe".repeat(16) as FederationId,
    replicationFactor,
    resonanceDecay: 0.85,
    hebbianRate: 0.15,
    periodMs: 1000,
    members,
  });
const three = layoutWith(["alice", "bob", "carol"].map((name) => member(name)));
const plan = (layout: Layout, change: Change, absent: readonly string[] = []) => {
  const next = ownersAfter(layout, change);
  if (next === undefined) throw new Error("changes nothing");
  const away = new Set<WriterId>();
  for (const fields of next.members) {
    const known = layout.members.find(({ name }) => name === fields.name);
    if (known !== undefined && absent.includes(fields.name)) away.add(known.writer);
  }
  return planOf(layout, next, (writer) => !away.has(writer));
};

describe("a plan", () => {
  test("counts what moves to whom, and as many copies come as go", () => {
    const { moves, partitionsMoved, groupSize, quorum, warnings } = plan(three, { op: "add", member: member("dave") });
    const sum = (of: (move: (typeof moves)[number]) => number): number => moves.reduce((total, move) => total + of(move), 0);
    expect(sum((move) => move.replicaGains)).toBe(sum((move) => move.replicaLosses));
    expect(sum((move) => move.replicaGains)).toBe(partitionsMoved);
    expect(moves.find(({ name }) => name === "dave")).toMatchObject({ replicaLosses: 0, witnessLosses: 0 });
    expect([groupSize, quorum, warnings]).toEqual([3, 2, []]);
  });

  test("names no member whose share stays", () => {
    expect(plan(three, { op: "zone", name: "alice", zone: "east" }).to.members.map(({ zone }) => zone)).toEqual(["east", "", ""]);
    expect(plan(layoutWith([member("alice")]), { op: "weight", name: "alice", weight: 9 }).moves).toEqual([]);
  });

  test("warns of groups that are shorter than the factor asks for", () => {
    const { warnings, groupSize } = plan(three, { op: "replication-factor", replicationFactor: 3 });
    expect(groupSize).toBe(3);
    expect(warnings).toEqual([
      "Groups are short: replication factor 3 asks for 5 members a group, and there are 3 (3 full copies of each partition).",
    ]);
    const still = plan(layoutWith([member("alice"), member("bob")]), { op: "weight", name: "bob", weight: 2 });
    expect(still.warnings[0]).toMatch(/^Groups are still short/);
  });

  test("warns of two members, of whom none may be lost", () => {
    expect(plan(three, { op: "remove", name: "carol", drain: true }).warnings).toContain(
      "With two members both are needed at quorum: the loss of one stops writes until layout recover.",
    );
  });

  test("warns when a quorum needs a member that is not connected, and says of how many partitions", () => {
    const { warnings } = plan(three, { op: "remove", name: "carol", drain: false }, ["bob"]);
    expect(warnings).toContain("256 of 256 partitions would have no quorum until bob is connected.");
    const last = plan(three, { op: "weight", name: "alice", weight: 3 }, ["bob"]).warnings;
    expect(last).toEqual(["256 of 256 partitions would need every connected member for a quorum, because bob is not connected."]);
  });

  test("warns of a zone that would hold all copies, where there was more than one", () => {
    const zones = layoutWith([member("alice", { zone: "east" }), member("bob", { zone: "west" }), member("carol", { zone: "west" })]);
    const inZone = (change: Change) => plan(zones, change).warnings.filter((line) => line.startsWith("Zone"));
    expect(inZone({ op: "zone", name: "alice", zone: "west" })).toEqual([
      'Zone "west" would hold all full copies of 256 of 256 partitions: its loss would be theirs.',
    ]);
    expect(inZone({ op: "zone", name: "carol", zone: "east" })).toEqual([]);
    expect(plan(three, { op: "weight", name: "alice", weight: 2 }).warnings).toEqual([]);
  });

  test("refuses what cannot be a layout", () => {
    expect(() => planOf(three, { members: [], replicationFactor: 2 }, () => true)).toThrow("member count");
  });

  test("of a change that would follow the one under way starts from the owners to come", () => {
    const next = ownersAfter(three, { op: "add", member: member("dave") })!;
    const changing = staged(three, next, "c");
    const after = planOf(changing, ownersAfter(changing.next!, { op: "weight", name: "dave", weight: 7 })!, () => true);
    expect(after.to.members.map(({ name }) => name)).toEqual(["alice", "bob", "carol", "dave"]);
    expect(PARTITIONS.slice(0, -1).every((partition) => groupOf(after.to, partition).size === 3)).toBe(true);
  });
});
