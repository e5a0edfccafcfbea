/** A copy whose rows are not what was written: it counts for nothing until it holds again all it had acknowledged. Three replicas of protocol version 2 at the least. */
import { describe, expect, it } from "vitest";
import type { Incarnation, Partition } from "../../protocol/ids.ts";
import { groupOf, layoutOf, type Owners } from "../../protocol/layout.ts";
import { done, joint, recovered, relisted, staged } from "../../protocol/layout-change.ts";
import { ADDING, dave, isIn, partitionWhere } from "./change-world.ts";
import { Disk, World } from "./member-world.ts";
import { alice, bob, carol, LAYOUT, PARTITION } from "./replica-world.ts";

// Of PARTITION alice and bob are replicas, carol is the witness.
const three = [alice, bob, carol];
const [wa, wb] = [alice.writer, bob.writer];
const damagedAt = (world: World, name: string): Partition[] =>
  world
    .at(name)
    .replica.damagedCopies()
    .map(({ partition }) => partition);

/** alice has written, and everybody has it. A copy that is asked for takes until finishSnapshots. */
function written(): World {
  const world = World.atRest(three, LAYOUT);
  world.snapshotsAreSlow = true;
  world.propose("alice", PARTITION, { request: 1, key: "first" });
  world.pass(2000);
  expect(world.outcome("alice", 1)).toMatch(/^\d\+\d$/);
  world.forgetWhatWasSeen();
  return world;
}

describe("a replica's copy that is damaged", () => {
  it("numbers nothing and answers nothing until another is there, then it does", () => {
    const world = written();
    world.damage("bob", PARTITION, "heads");
    const { replica } = world.at("bob");
    expect([replica.role(PARTITION), replica.mayReadAtOne(PARTITION), damagedAt(world, "bob")]).toEqual([undefined, false, [PARTITION]]);
    for (const level of ["one", "quorum"] as const) {
      world.propose("bob", PARTITION, { request: level === "one" ? 2 : 3, level });
      world.read("bob", PARTITION, level === "one" ? 4 : 5, level);
    }
    expect([2, 3, 4, 5].map((request) => world.outcome("bob", request))).toEqual(Array(4).fill("not_replica"));
    world.pass(100);
    expect(world.ofType("fetch", "bob").map(({ partition }) => partition)).toEqual([PARTITION]);
    world.finishSnapshots();
    world.settle();
    expect([replica.role(PARTITION), damagedAt(world, "bob"), world.at("bob").disk.damaged]).toEqual(["replica", [], []]);
    world.propose("bob", PARTITION, { request: 6 });
    world.settle();
    expect(world.outcome("bob", 6)).toMatch(/^\d\+\d$/);
  });

  it("acknowledges nothing, and what it acknowledged before counts for nobody", () => {
    const world = World.atRest(three, LAYOUT);
    world.snapshotsAreSlow = true;
    world.isolate("carol");
    world.propose("alice", PARTITION, { request: 1, key: "first" });
    world.settle();
    expect(world.outcome("alice", 1)).toBe("2+0");
    world.forgetWhatWasSeen();
    world.damage("bob", PARTITION, "heads");
    // Known before a number is spent.
    world.propose("alice", PARTITION, { request: 2 });
    expect(world.outcome("alice", 2)).toBe("no_quorum");
    world.read("alice", PARTITION, 3);
    expect(world.outcome("alice", 3)).toBe("no_quorum");
    // Of the first write bob had acknowledged, a retry hears nothing of that.
    world.propose("alice", PARTITION, { request: 4, key: "first" });
    world.pass(500);
    expect(world.outcome("alice", 4)).toBeUndefined();
    world.propose("alice", PARTITION, { request: 5, level: "one" });
    world.pass(500);
    expect([world.outcome("alice", 5), world.at("bob").holds("heads", PARTITION)]).toEqual(["1+0", { [wa]: 1 }]);
    expect(world.messages("held", "bob", "alice")).toEqual([]);
    world.finishSnapshots();
    world.pass(500);
    expect([world.outcome("alice", 4), world.at("bob").holds("heads", PARTITION)]).toEqual(["2+0", { [wa]: 2 }]);
    world.propose("alice", PARTITION, { request: 6 });
    world.settle();
    expect(world.outcome("alice", 6)).toBe("2+0");
  });

  it("lets the others go on without it: they are still a quorum", () => {
    const world = written();
    world.damage("bob", PARTITION, "heads");
    world.propose("alice", PARTITION, { request: 2 });
    world.read("alice", PARTITION, 3);
    world.settle();
    expect([world.outcome("alice", 2), world.outcome("alice", 3)]).toEqual(["1+1", "1+1"]);
    world.propose("alice", PARTITION, { request: 4, level: "all" });
    expect(world.outcome("alice", 4)).toBe("no_quorum");
  });

  it("counts in its other partitions as before", () => {
    const world = written();
    const other = partitionWhere(
      { ...LAYOUT, next: LAYOUT },
      (group) => isIn(group.witnesses, carol) && group.replicas[0]?.writer !== groupOf(LAYOUT, PARTITION).replicas[0]?.writer,
    );
    expect(other).not.toBe(PARTITION);
    world.damage("bob", PARTITION, "heads");
    world.cut("alice", "carol");
    world.propose("alice", other, { request: 2 });
    world.settle();
    expect(world.outcome("alice", 2)).toBe("2+0");
  });

  it("ends reads that wait for it, so that another is asked", () => {
    const world = written();
    world.loses = ({ message }) => message.type === "told";
    world.read("bob", PARTITION, 2);
    world.settle();
    expect(world.outcome("bob", 2)).toBeUndefined();
    world.damage("bob", PARTITION, "heads");
    expect(world.outcome("bob", 2)).toBe("not_replica");
  });

  it("that nobody heard of is found by the periodic comparison, and so is that it is whole again", () => {
    const world = written();
    const compare = (): void => {
      world.do(world.at("alice"), world.at("alice").replica.compareWith(bob.node, world.now));
      world.do(world.at("bob"), world.at("bob").replica.compareWith(alice.node, world.now));
      world.settle();
    };
    const counts = (): boolean => world.at("alice").replica.countingIn(PARTITION).includes(wb);
    world.loses = ({ message }) => message.type === "report";
    world.damage("bob", PARTITION, "heads");
    expect(counts()).toBe(true);
    world.loses = () => false;
    compare();
    expect(counts()).toBe(false);
    world.pass(100);
    world.loses = ({ message }) => message.type === "report";
    world.finishSnapshots();
    world.settle();
    expect(counts()).toBe(false);
    world.loses = () => false;
    compare();
    expect(counts()).toBe(true);
  });

  it("is replaced only by one that holds all it had acknowledged, which the others fetch from it first", () => {
    const world = written();
    world.isolate("bob");
    world.propose("bob", PARTITION, { request: 2, level: "one" });
    world.settle();
    expect(world.outcome("bob", 2)).toBe("1+0");
    world.damage("bob", PARTITION, "heads");
    world.loses = ({ message }) => message.type === "want" || message.type === "push";
    world.connect("bob", "alice");
    world.pass(6000);
    expect([world.ofType("fetch", "bob"), world.at("alice").holds("heads", PARTITION)]).toEqual([[], { [wa]: 1 }]);
    world.loses = () => false;
    world.pass(6000);
    expect(world.at("alice").holds("heads", PARTITION)).toEqual({ [wa]: 1, [wb]: 1 });
    world.finishSnapshots();
    world.settle();
    // Its own stream goes on after what it had numbered (P4).
    world.connect("bob", "carol");
    world.pass(500);
    world.propose("bob", PARTITION, { request: 3 });
    world.settle();
    expect(world.at("bob").holds("heads", PARTITION)).toEqual({ [wa]: 1, [wb]: 2 });
  });

  it("stays as it is while what it alone acknowledged cannot be read: nothing is thrown away, and it says so", () => {
    const world = written();
    world.isolate("bob");
    world.propose("bob", PARTITION, { request: 2, level: "one" });
    world.settle();
    world.at("bob").disk.rotten.add(`${wb}/1`);
    world.damage("bob", PARTITION, "heads");
    world.connect("bob", "alice");
    world.connect("bob", "carol");
    world.pass(60_000);
    const { replica, disk } = world.at("bob");
    expect([world.ofType("fetch", "bob"), replica.role(PARTITION), damagedAt(world, "bob")]).toEqual([[], undefined, [PARTITION]]);
    expect(disk.heads("heads", PARTITION)).toHaveLength(2);
    expect(replica.damagedCopies()).toEqual([{ partition: PARTITION, kind: "heads", only: false }]);
  });

  it("is known after a restart: not taken for an old copy, and counted by nobody", () => {
    const world = written();
    world.damage("bob", PARTITION, "heads");
    world.pass(100);
    world.restart("bob");
    world.cut("alice", "carol");
    world.pass(3000);
    expect([world.standings().bob, world.ofType("copy")]).toEqual(["counting", []]);
    expect([world.at("bob").replica.role(PARTITION), world.at("alice").replica.countingIn(PARTITION)]).toEqual([undefined, [wa]]);
    world.propose("alice", PARTITION, { request: 2 });
    expect(world.outcome("alice", 2)).toBe("no_quorum");
    world.finishSnapshots();
    world.settle();
    world.propose("alice", PARTITION, { request: 3 });
    world.settle();
    expect(world.outcome("alice", 3)).toBe("2+0");
  });

  it("takes no delta while it waits, and what was on its way to the disk then is told to nobody but as its own push", () => {
    const world = written();
    const bobs = world.at("bob");
    world.do(bobs, bobs.replica.propose(bobs.proposal(PARTITION, world.now, { request: 2 }), world.now));
    world.do(bobs, bobs.replica.damaged(PARTITION, "heads", world.now));
    world.settle();
    // alice and carol are a quorum, though it was bob who was asked.
    expect(world.messages("push", "bob").length).toBe(2);
    expect(world.outcome("bob", 2)).toBe("1+1");
    world.propose("alice", PARTITION, { request: 3 });
    world.settle();
    expect(bobs.holds("heads", PARTITION)).toEqual({ [wa]: 1, [wb]: 1 });
  });

  it("is no reason for a witness to forget, nor for another to drop its own", () => {
    const world = World.atRest(three, LAYOUT);
    world.snapshotsAreSlow = true;
    world.isolate("bob");
    world.propose("alice", PARTITION, { request: 1 });
    world.pass(200);
    expect(world.outcome("alice", 1)).toBe("1+1");
    const kept = (): number | undefined => world.at("carol").disk.keptFrom(PARTITION, wa);
    expect(kept()).toBe(1);
    // bob hears it from alice, and is damaged before carol is told.
    world.loses = ({ from, to }) => from === "bob" && to === "carol";
    world.connect("bob", "alice");
    world.pass(1000);
    expect(world.at("bob").holds("heads", PARTITION)).toEqual({ [wa]: 1 });
    world.damage("bob", PARTITION, "heads");
    world.loses = () => false;
    world.connect("bob", "carol");
    world.pass(3000);
    expect([kept(), world.at("carol").replica.countingIn(PARTITION).includes(wb)]).toEqual([1, false]);
    world.finishSnapshots();
    world.pass(1000);
    expect(kept()).toBeUndefined();
  });
});

describe("where the only full copy is damaged", () => {
  const ONE = layoutOf({ ...LAYOUT, replicationFactor: 1 });
  const partition = partitionWhere({ ...ONE, next: ONE }, ({ replicas }) => replicas[0]?.writer === alice.writer);

  it("it stays in service, says so once, and is given up as soon as there is another replica", () => {
    const world = World.atRest(three, ONE);
    world.snapshotsAreSlow = true;
    world.propose("alice", partition, { request: 1 });
    world.settle();
    world.forgetWhatWasSeen();
    world.damage("alice", partition, "heads");
    world.damage("alice", partition, "heads");
    const { replica, disk } = world.at("alice");
    expect([replica.role(partition), replica.damagedCopies(), disk.damaged]).toEqual(["replica", [{ partition, kind: "heads", only: true }], []]);
    expect(world.ofType("note").filter(({ level }) => level === "error")).toHaveLength(1);
    world.propose("alice", partition, { request: 2 });
    world.settle();
    expect(world.outcome("alice", 2)).toBe("1+0");
    const two = staged(ONE, { members: three, replicationFactor: 2 }, "two");
    world.adopt(two);
    world.pass(3000);
    world.adopt(joint(two));
    world.pass(3000);
    expect(replica.role(partition)).toBe("replica");
    world.adopt(done(joint(two)));
    world.pass(3000);
    expect([replica.role(partition), replica.damagedCopies()]).toEqual([undefined, [{ partition, kind: "heads", only: false }]]);
    world.finishSnapshots();
    world.settle();
    expect([replica.role(partition), replica.damagedCopies(), disk.damaged]).toEqual(["replica", [], []]);
  });

  it("it is well again once all its rows were read and are as written", () => {
    const world = World.atRest(three, ONE);
    world.damage("alice", partition, "heads");
    const { replica } = world.at("alice");
    expect([replica.isDamaged(partition), replica.isGivenUp(partition)]).toEqual([true, false]);
    replica.foundWhole(partition);
    expect([replica.isDamaged(partition), replica.damagedCopies()]).toEqual([false, []]);
  });

  it("after the operator has given up all other replicas, it is in service again, unless it was cleared", () => {
    const world = written();
    world.damage("alice", PARTITION, "heads");
    world.isolate("bob");
    world.pass(2000);
    expect(world.at("alice").replica.role(PARTITION)).toBeUndefined();
    world.adopt(recovered(LAYOUT, ["bob", "carol"]), "alice");
    world.pass(1000);
    const { replica } = world.at("alice");
    expect([replica.role(PARTITION), replica.damagedCopies()]).toEqual(["replica", [{ partition: PARTITION, kind: "heads", only: true }]]);
    expect(world.at("alice").disk.damaged).toEqual([]);
    world.propose("alice", PARTITION, { request: 2 });
    world.settle();
    expect(world.outcome("alice", 2)).toBe("1+0");
  });
});

describe("a witness's copy that is damaged", () => {
  it("counts for nothing until every full replica holds what it is kept for, over a restart too", () => {
    const world = World.atRest(three, LAYOUT);
    world.isolate("bob");
    world.propose("alice", PARTITION, { request: 1 });
    world.pass(200);
    expect(world.outcome("alice", 1)).toBe("1+1");
    world.damage("carol", PARTITION, "marks");
    for (const restarted of [false, true]) {
      if (restarted) {
        world.restart("carol");
        world.pass(2000);
      }
      world.propose("alice", PARTITION, { request: 2 });
      world.read("alice", PARTITION, 3);
      expect([world.outcome("alice", 2), world.outcome("alice", 3)]).toEqual(["no_quorum", "no_quorum"]);
      world.pass(2000);
      expect(damagedAt(world, "carol")).toEqual([PARTITION]);
    }
    world.connect("bob", "alice");
    world.connect("bob", "carol");
    world.pass(2000);
    expect([damagedAt(world, "carol"), world.at("carol").disk.keptFrom(PARTITION, wa)]).toEqual([[], undefined]);
    world.isolate("bob");
    world.propose("alice", PARTITION, { request: 4 });
    world.settle();
    expect(world.outcome("alice", 4)).toBe("1+1");
  });
});

describe("while the layout changes, a damaged copy", () => {
  /** dave becomes a replica in bob's place, carol stays witness. */
  const partition = partitionWhere(ADDING, (now, next) => isIn(next.replicas, dave) && next.replicas.some((member) => isIn(now.replicas, member)));
  const stays = groupOf(ADDING.next as Owners, partition).replicas.find((member) => isIn(groupOf(ADDING, partition).replicas, member))!;
  const other = groupOf(ADDING, partition).replicas.find((member) => member.writer !== stays.writer)!;
  const witness = groupOf(ADDING.next as Owners, partition).witnesses[0]!;
  const waits = (world: World, name: string): boolean => world.at(name).replica.notHandedOver().includes(partition);

  it("of a next owner is not handed over to: others must hold what it is to have", () => {
    const world = World.atRest([alice, bob, carol, dave], LAYOUT);
    world.snapshotsAreSlow = true;
    world.propose(stays.name, partition, { request: 1 });
    world.pass(500);
    world.adopt(ADDING);
    world.pass(5000);
    world.finishSnapshots();
    world.pass(5000);
    expect(waits(world, stays.name)).toBe(false);
    // Two of the next group are damaged: what is left is no quorum of it.
    world.adopt(joint(ADDING));
    world.damage("dave", partition, "heads");
    world.damage(witness.name, partition, isIn(groupOf(ADDING, partition).replicas, witness) ? "heads" : "marks");
    expect(waits(world, stays.name)).toBe(true);
  });

  it("of an old owner still says what it had acknowledged: that is handed over too", () => {
    const world = World.atRest([alice, bob, carol, dave], LAYOUT);
    world.snapshotsAreSlow = true;
    // The other old replica alone has a write.
    world.loses = ({ from, message }) => from === other.name && (message.type === "push" || message.type === "repair");
    world.propose(other.name, partition, { request: 1, level: "one" });
    world.settle();
    world.damage(other.name, partition, "heads");
    world.isolate(groupOf(LAYOUT, partition).witnesses[0]!.name);
    world.adopt(ADDING, stays.name, other.name, "dave");
    world.pass(10_000);
    world.finishSnapshots();
    world.pass(10_000);
    // Half of the old group is heard, and one of the two had acknowledged what nobody else holds.
    expect(waits(world, stays.name)).toBe(true);
  });

  it("of one that was listed again is not held: it does not count before it has a whole one", () => {
    const before = written();
    const layout = relisted(LAYOUT, "bob", { node: bob.node, incarnation: "0c".repeat(16) as Incarnation });
    const world = new World([alice, layout.members.find(({ name }) => name === "bob")!, carol], layout);
    world.snapshotsAreSlow = true;
    before.at("bob").disk.damaged = [{ partition: PARTITION, kind: "heads" }];
    for (const { name } of three) world.restart(name, before.at(name).disk);
    world.connectAll();
    world.pass(10_000);
    expect(world.standings()).toEqual({ alice: "counting", bob: "refilling", carol: "counting" });
    world.finishSnapshots();
    world.pass(1000);
    expect(world.standings().bob).toBe("counting");
  });
});

describe("a copy that is dropped", () => {
  it("is not called damaged any more", () => {
    const world = written();
    world.damage("bob", PARTITION, "heads");
    const site = world.at("bob");
    world.do(site, site.replica.dropped(PARTITION, "heads", world.now));
    expect([site.replica.damagedCopies(), site.disk.damaged]).toEqual([[], []]);
  });

  it("and was damaged when its node stopped is forgotten at the next start", () => {
    const world = written();
    const disk = new Disk();
    disk.damaged = [{ partition: PARTITION, kind: "heads" }];
    world.restart("bob", disk);
    expect(world.at("bob").replica.damagedCopies()).toEqual([]);
  });
});
