import { describe, expect, it } from "vitest";
import { type NodeId, SYSTEM_PARTITION, type WriterId } from "../../protocol/ids.ts";
import { groupOf, type Layout, type Member, type Owners } from "../../protocol/layout.ts";
import { done, joint, relisted, staged, stopped } from "../../protocol/layout-change.ts";
import { type Has, Membership } from "../../protocol/membership.ts";
import { ADDING, ADDING_JOINT, dave, erin, frank, isIn, LEAVING, LEAVING_JOINT, MOVING, MOVING_JOINT, partitionWhere } from "./change-world.ts";
import { alice, bob, carol, LAYOUT, PARTITION } from "./replica-world.ts";

function membership(layout: Layout, connected: readonly Member[] = [], self = alice): Membership {
  const members = new Membership(layout, self.writer);
  for (const { node, writer } of connected) members.connect({ node, writer, version: 2 });
  return members;
}
const among =
  (...members: readonly Member[]): Has =>
  ({ writer }) =>
    members.some((member) => member.writer === writer);
const everybody = () => true;
const names = (members: readonly Member[]) => members.map(({ name }) => name).sort();

describe("who may connect", () => {
  it("is a listed incarnation at its own node", () => {
    const members = membership(LAYOUT);
    expect(members.connect({ node: bob.node, writer: bob.writer, version: 2 })).toBe(true);
    expect(members.connect({ node: bob.node, writer: "bob-after-his-disk-loss" as WriterId, version: 2 })).toBe(false);
    expect(members.connect({ node: "node-of-mallory" as NodeId, writer: bob.writer, version: 2 })).toBe(false);
    expect(members.connect({ node: dave.node, writer: dave.writer, version: 2 })).toBe(false);
    expect(members.peers()).toHaveLength(1);
  });

  it("is a next owner too, from staged on", () => {
    for (const layout of [ADDING, ADDING_JOINT]) expect(membership(layout).connect({ node: dave.node, writer: dave.writer, version: 2 })).toBe(true);
  });

  it("is forgotten with the version that unlists it, and nobody else is", () => {
    const members = membership(ADDING_JOINT, [bob, carol, dave]);
    members.adopt(stopped(ADDING_JOINT));
    expect(names(members.peers().map(({ writer }) => [alice, bob, carol, dave].find((one) => one.writer === writer)!))).toEqual(["bob", "carol"]);
    const reborn = membership(LAYOUT, [bob, carol]);
    reborn.adopt(relisted(LAYOUT, "bob", { node: bob.node, incarnation: "0b".repeat(16) as never }));
    expect(reborn.isConnected(bob.writer)).toBe(false);
    expect(reborn.isConnected(carol.writer)).toBe(true);
  });
});

describe("the role of a next owner", () => {
  const partition = partitionWhere(ADDING, (now, next) => isIn(next.replicas, dave) && !isIn(now.members, dave));

  it.each([
    ["staged", ADDING],
    ["joint", ADDING_JOINT],
  ])("is none while %s, though it keeps what it will own and hears of it", (_phase, layout) => {
    const members = membership(layout, [], dave);
    expect(members.role(partition)).toBeUndefined();
    expect(members.keepsAs(partition, "replica")).toBe(true);
    expect(members.keepsAs(partition, "witness")).toBe(false);
    expect(members.isInAudience(partition, dave.writer)).toBe(true);
  });

  it("is its own once done", () => {
    expect(membership(done(ADDING_JOINT), [], dave).role(partition)).toBe("replica");
  });

  it("may be a second one beside the old: a witness that becomes a replica keeps as both", () => {
    const members = membership(LEAVING, [], carol);
    expect(members.role(PARTITION)).toBe("witness");
    expect([members.keepsAs(PARTITION, "witness"), members.keepsAs(PARTITION, "replica")]).toEqual([true, true]);
  });
});

describe("the others of a partition", () => {
  it("are the connected members of its groups, now and to come", () => {
    expect(names(membership(MOVING, [bob, erin]).others(PARTITION))).toEqual(["bob", "erin"]);
    expect(names(membership(LAYOUT, [bob]).others(PARTITION))).toEqual(["bob"]);
    expect(names(membership(LAYOUT).others(PARTITION))).toEqual([]);
  });
});

describe("a level", () => {
  // alice and bob are replicas, carol is the witness.
  it.each([
    ["one", [bob], { replicas: 1, witnesses: 0 }],
    ["one", [carol], undefined],
    ["quorum", [alice], undefined],
    ["quorum", [alice, bob], { replicas: 2, witnesses: 0 }],
    ["quorum", [bob, carol], { replicas: 1, witnesses: 1 }],
    ["all", [alice, carol], undefined],
    ["all", [alice, bob], { replicas: 2, witnesses: 0 }],
  ] as const)("%s is counted in the one group while nothing changes: %#", (level, having, tally) => {
    expect(membership(LAYOUT).met(PARTITION, level, among(...having))).toEqual(tally);
  });

  it("asks a replica for what replicas hold and a witness for what witnesses have seen", () => {
    const asked: string[] = [];
    membership(LAYOUT).met(PARTITION, "quorum", ({ name }, role) => {
      asked.push(`${name}: ${role}`);
      return true;
    });
    expect(asked.sort()).toEqual(["alice: replica", "bob: replica", "carol: witness"]);
  });

  it("is met by the old group alone while staged: the next owners count for nothing", () => {
    expect(membership(MOVING).met(PARTITION, "quorum", among(alice, carol))).toEqual({ replicas: 1, witnesses: 1 });
    expect(membership(MOVING).met(PARTITION, "quorum", among(alice, dave, erin, frank))).toBeUndefined();
  });

  describe("while joint", () => {
    const members = membership(MOVING_JOINT);
    const { replicas, witnesses } = groupOf(MOVING_JOINT.next as Owners, PARTITION);
    const [first, second] = replicas as readonly [Member, Member];
    const witness = witnesses[0]!;

    it("quorum is met in both groups", () => {
      expect(members.met(PARTITION, "quorum", among(alice, bob, carol))).toBeUndefined();
      expect(members.met(PARTITION, "quorum", among(alice, carol, first))).toBeUndefined();
      expect(members.met(PARTITION, "quorum", among(first, second, witness))).toBeUndefined();
      expect(members.met(PARTITION, "quorum", among(alice, first, witness))).toBeUndefined();
      expect(members.met(PARTITION, "quorum", among(alice, carol, first, witness))).toBeDefined();
    });

    it("one needs a replica of each", () => {
      expect(members.met(PARTITION, "one", among(alice))).toBeUndefined();
      expect(members.met(PARTITION, "one", among(first))).toBeUndefined();
      expect(members.met(PARTITION, "one", among(alice, witness))).toBeUndefined();
      expect(members.met(PARTITION, "one", among(alice, first))).toEqual({ replicas: 1, witnesses: 0 });
    });

    it("all needs every replica of both", () => {
      expect(members.met(PARTITION, "all", among(alice, bob, first))).toBeUndefined();
      expect(members.met(PARTITION, "all", among(alice, first, second))).toBeUndefined();
      expect(members.met(PARTITION, "all", among(alice, bob, first, second))).toEqual({ replicas: 2, witnesses: 0 });
    });

    it("the tally is that of the group that serves", () => {
      expect(members.met(PARTITION, "quorum", among(alice, bob, carol, first, second))).toEqual({ replicas: 2, witnesses: 1 });
    });

    it("who is in both groups counts in both, each time as what it is there", () => {
      const joined = membership(LEAVING_JOINT);
      const holding =
        (asWitness: boolean, asReplica: boolean): Has =>
        ({ name }, role) =>
          name === "alice" || (name === "carol" && (role === "witness" ? asWitness : asReplica));
      expect(joined.met(PARTITION, "quorum", holding(true, false))).toBeUndefined();
      expect(joined.met(PARTITION, "quorum", holding(false, true))).toBeUndefined();
      expect(joined.met(PARTITION, "quorum", holding(true, true))).toEqual({ replicas: 1, witnesses: 1 });
    });
  });

  it("of the system partition is counted over every member", () => {
    const members = membership(LAYOUT);
    expect(members.met(SYSTEM_PARTITION, "quorum", among(alice))).toBeUndefined();
    expect(members.met(SYSTEM_PARTITION, "quorum", among(alice, carol))).toEqual({ replicas: 2, witnesses: 0 });
    expect(members.met(SYSTEM_PARTITION, "all", among(alice, carol))).toBeUndefined();
  });
});

describe("what is unreachable", () => {
  it("is nothing while those who are here and count could meet the level", () => {
    expect(membership(LAYOUT, [carol]).unreachable(PARTITION, "quorum", everybody)).toBeUndefined();
    expect(membership(LAYOUT, [bob]).unreachable(PARTITION, "all", everybody)).toBeUndefined();
  });

  it("names the level, what it needs and who is missing", () => {
    const members = membership(LAYOUT);
    expect(members.unreachable(PARTITION, "quorum", everybody)).toBe(
      "Level quorum needs 2 of 3 members; not connected: bob, carol. Nothing was written.",
    );
    expect(membership(LAYOUT, [carol]).unreachable(PARTITION, "all", everybody)).toMatch(/needs all 2 full replicas; not connected: bob/);
  });

  it("counts nobody who is connected and does not count yet", () => {
    const members = membership(LAYOUT, [bob, carol]);
    expect(members.unreachable(PARTITION, "quorum", () => false)).toMatch(/; connected and not counting yet: bob, carol\. Nothing/);
    expect(membership(LAYOUT, [carol]).unreachable(PARTITION, "quorum", () => false)).toMatch(
      /; not connected: bob; connected and not counting yet: carol\. Nothing/,
    );
    expect(members.unreachable(PARTITION, "quorum", (writer) => writer === carol.writer)).toBeUndefined();
  });

  it("is asked of this node never: it is always here", () => {
    expect(membership(LAYOUT, [bob]).unreachable(PARTITION, "quorum", (writer) => writer !== alice.writer)).toBeUndefined();
  });

  it("while joint names the group that cannot", () => {
    const members = membership(MOVING_JOINT, [bob, carol, dave]);
    expect(members.unreachable(PARTITION, "quorum", everybody)).toMatch(
      /needs 2 of 3 members; not connected: erin, frank|not connected: frank, erin/,
    );
    const without = membership(MOVING_JOINT, [dave, erin, frank]);
    expect(without.unreachable(PARTITION, "quorum", everybody)).toMatch(/not connected: bob, carol/);
  });
});

it("a change of the replication factor makes other groups of the same members", () => {
  const three = joint(staged(LAYOUT, { members: LAYOUT.members, replicationFactor: 3 }, "rf"));
  const members = membership(three);
  expect(members.met(PARTITION, "all", among(alice, bob))).toBeUndefined();
  expect(members.keepsAs(PARTITION, "replica", carol.writer)).toBe(true);
  expect(members.role(PARTITION, carol.writer)).toBe("witness");
});
