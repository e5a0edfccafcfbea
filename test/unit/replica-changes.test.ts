/** What a replica does while layouts change and members come back: several of them, speaking protocol version 2. */
import { describe, expect, it } from "vitest";
import type { Incarnation, Partition, WriterId } from "../../protocol/ids.ts";
import { SYSTEM_PARTITION } from "../../protocol/ids.ts";
import { groupOf, type Layout, layoutOf, type Member, type Owners, PARTITIONS } from "../../protocol/layout.ts";
import { done, joint, relisted, staged, stopped } from "../../protocol/layout-change.ts";
import { CLOCK_AHEAD_MAX_MS, HEADS_STREAMS_MAX, WITNESS_SEALED_MAX_BYTES } from "../../protocol/limits.ts";
import { ADDING, ADDING_JOINT, dave, erin, frank, isIn, MOVING, MOVING_JOINT, partitionWhere } from "./change-world.ts";
import { Disk, World } from "./member-world.ts";
import { alice, bob, carol, headOf, LAYOUT, PARTITION, stream } from "./replica-world.ts";

// Of PARTITION alice and bob are replicas, carol is the witness.
const three = [alice, bob, carol];
const four = [...three, dave];
const six = [...four, erin, frank];
/** The tally of an answer, whatever it is: the first that are enough. */
const ANSWERED = /^\d\+\d$/;
const counting = (members: readonly Member[]) => Object.fromEntries(members.map(({ name }) => [name, "counting"]));

describe("three members that start", () => {
  it("introduce themselves, compare, report, and only then count for each other", () => {
    const world = new World(three, LAYOUT);
    world.connectAll();
    world.propose("alice", PARTITION, { request: 1 });
    expect(world.outcome("alice", 1)).toBe("not_replica");
    expect(world.messages("report")).toEqual([]);
    world.settle();
    world.pass(100);
    expect(world.standings()).toEqual(counting(three));
    const types = world.sent.filter(({ from, to }) => from === "alice" && to === "bob").map(({ message }) => message.type);
    expect([types.indexOf("introduce"), types.indexOf("compare"), types.indexOf("report")]).toEqual([0, 1, 2]);
    world.propose("alice", PARTITION, { request: 2 });
    world.settle();
    expect(world.outcome("alice", 2)).toMatch(ANSWERED);
  });

  it("read at one from their own state meanwhile, and number nothing", () => {
    const world = new World(three, LAYOUT);
    const { replica } = world.at("alice");
    expect([replica.standing, replica.role(PARTITION), replica.mayReadAtOne(PARTITION)]).toEqual(["unlisted", undefined, false]);
    world.pass(50);
    expect([replica.standing, replica.role(PARTITION), replica.mayReadAtOne(PARTITION)]).toEqual(["comparing", undefined, true]);
    expect(world.at("carol").replica.mayReadAtOne(PARTITION)).toBe(false);
    world.propose("alice", PARTITION, { request: 1, level: "one" });
    expect(world.outcome("alice", 1)).toBe("not_replica");
    expect(world.at("alice").disk.staged).toEqual([]);
  });

  it("introduce themselves again to one that had no layout when the first came", () => {
    const world = new World(three, LAYOUT);
    world.loses = ({ message }) => message.type === "introduce";
    world.connectAll();
    world.pass(1000);
    expect(Object.values(world.standings())).toEqual(["comparing", "comparing", "comparing"]);
    world.loses = () => false;
    world.pass(1000);
    expect(world.standings()).toEqual(counting(three));
  });

  it("count a connected member only from its report on: before, a write is refused and spends no number", () => {
    const world = new World(three, LAYOUT);
    world.connectAll();
    world.loses = ({ message, from }) => message.type === "report" && from !== "alice";
    world.pass(2000);
    expect(world.at("alice").replica.counting()).toEqual([alice.writer]);
    world.propose("alice", PARTITION, { request: 1 });
    expect(world.outcome("alice", 1)).toBe("no_quorum");
    world.read("alice", PARTITION, 2);
    expect(world.outcome("alice", 2)).toBe("no_quorum");
    expect(world.at("alice").disk.staged).toEqual([]);
    world.loses = () => false;
    // The lost report is found by the periodic comparison.
    world.do(world.at("alice"), world.at("alice").replica.compareWith(bob.node, world.now));
    world.do(world.at("bob"), world.at("bob").replica.compareWith(alice.node, world.now));
    world.settle();
    world.propose("alice", PARTITION, { request: 3 });
    world.settle();
    expect(world.outcome("alice", 3)).toBe("2+0");
  });

  it("report and compare what takes more than one message in parts, and only the last of them counts", () => {
    const two = layoutOf({ ...LAYOUT, members: [alice, bob] });
    const world = new World([alice, bob], two);
    for (const site of world.sites.values()) {
      for (let index = 0; index <= HEADS_STREAMS_MAX; index++) {
        const writer = `w${String(index).padStart(21, "0")}` as WriterId;
        site.disk.durable.heads.set(`${PARTITION}/${writer}`, { partition: PARTITION, writer, seq: 1, hash: "h".repeat(43) });
      }
      site.restart(0);
    }
    const losing = (type: "report" | "compare", at: number): void => {
      world.loses = ({ message, from }) => from === "alice" && message.type === type && message.part === at;
    };
    const parts = (type: "report" | "compare") => world.messages(type, "alice", "bob").map((message) => `${message.part} of ${message.parts}`);
    losing("report", 1);
    world.connect("alice", "bob");
    world.pass(50);
    expect(parts("report").slice(0, 2)).toEqual(["0 of 2", "1 of 2"]);
    expect(world.at("bob").replica.counting()).toEqual([bob.writer]);
    world.loses = () => false;
    world.restart("alice");
    world.pass(50);
    expect(world.at("bob").replica.counting()).toContain(alice.writer);
    losing("compare", 0);
    world.forgetWhatWasSeen();
    world.restart("bob");
    world.pass(50);
    expect(parts("compare").slice(0, 2)).toEqual(["0 of 2", "1 of 2"]);
    expect(world.at("bob").replica.standing).toBe("comparing");
    world.loses = () => false;
    world.pass(300);
    expect(world.at("bob").replica.standing).toBe("counting");
    // 40,000 heads go through frames some ten times.
  }, 60_000);
});

describe("a member that starts again", () => {
  it("comes back as it was: it compares, counts, and goes on in its own stream", () => {
    const world = World.atRest(three, LAYOUT);
    world.propose("bob", PARTITION, { request: 1 });
    world.pass(100);
    world.restart("bob");
    expect(world.at("bob").replica.standing).not.toBe("counting");
    world.pass(100);
    expect(world.standings()).toEqual(counting(three));
    expect(world.ofType("copy")).toEqual([]);
    world.propose("bob", PARTITION, { request: 2 });
    world.settle();
    expect(world.outcome("bob", 2)).toMatch(ANSWERED);
    expect(world.at("alice").holds("heads", PARTITION)).toEqual({ [bob.writer]: 2 });
  });

  it("counts with one other after it has listened for more, and a strict one only with both", () => {
    for (const [strictStart, standing] of [
      [false, "counting"],
      [true, "comparing"],
    ] as const) {
      const world = World.atRest(three, LAYOUT, { bob: { strictStart } });
      world.isolate("carol");
      world.restart("bob");
      world.pass(500);
      expect(world.at("bob").replica.standing).toBe("comparing");
      world.pass(10_000);
      expect(world.at("bob").replica.standing).toBe(standing);
    }
  });

  it("on an older copy of its disk is told so by the first that compares: it numbers nothing and never counts (P4)", () => {
    const world = World.atRest(three, LAYOUT);
    const older = copyOf(world, "bob");
    world.propose("bob", PARTITION, { request: 1 });
    world.pass(100);
    world.restart("bob", older);
    world.pass(5000);
    expect(world.ofType("copy", "bob").length).toBeGreaterThan(0);
    expect(world.at("bob").replica.standing).toBe("comparing");
    world.propose("bob", PARTITION, { request: 2, level: "one" });
    expect(world.outcome("bob", 2)).toBe("not_replica");
    // What it holds of its own stream it was given back.
    expect(older.log(PARTITION).map(({ header }) => header.seq)).toEqual([1]);
  });

  it("on an older copy is found by what others hold of its own stream, though they were restarted too and remember no word of it", () => {
    const world = World.atRest(three, LAYOUT);
    const older = copyOf(world, "bob");
    world.propose("bob", PARTITION, { request: 1 });
    world.pass(100);
    for (const name of ["alice", "carol"]) {
      world.at(name).disk.told.clear();
      world.restart(name);
    }
    world.restart("bob", older);
    world.pass(100);
    expect(world.ofType("copy", "bob").map(({ reason }) => reason)).toContainEqual(expect.stringMatching(/holds number 1 of this node's stream/));
  });

  it("on an older copy is found by its own numbers, though it was given them back before anybody compared", () => {
    const world = World.atRest(three, LAYOUT);
    const older = copyOf(world, "bob");
    world.propose("bob", PARTITION, { request: 1 });
    world.pass(100);
    world.loses = ({ message }) => message.type === "introduce";
    for (const name of ["alice", "carol"]) world.at(name).disk.told.clear();
    world.restart("bob", older);
    world.pass(100);
    for (const name of ["alice", "carol"]) world.do(world.at(name), world.at(name).replica.compareWith(bob.node, world.now));
    world.settle();
    expect(older.log(PARTITION)).toHaveLength(1);
    world.loses = () => false;
    world.pass(3000);
    expect(world.ofType("copy", "bob").length).toBeGreaterThan(0);
    expect(world.at("bob").replica.standing).toBe("comparing");
  });

  it("that counts and is then shown to be a copy, by one who was away, counts no more", () => {
    const world = World.atRest(three, LAYOUT);
    world.cut("alice", "bob");
    world.cut("alice", "carol");
    const older = copyOf(world, "bob");
    world.connect("alice", "bob");
    // Only alice hears of it, and she is away when the older disk starts.
    world.loses = ({ to }) => to === "carol";
    world.propose("bob", PARTITION, { request: 1 });
    world.pass(100);
    world.cut("alice", "bob");
    world.loses = () => false;
    world.restart("bob", older);
    world.pass(3000);
    expect(world.at("bob").replica.standing).toBe("counting");
    world.connect("alice", "bob");
    world.settle();
    expect(world.ofType("copy", "bob").length).toBeGreaterThan(0);
    world.pass(1000);
    world.propose("bob", PARTITION, { request: 2, level: "one" });
    expect(world.outcome("bob", 2)).toBe("not_replica");
  });

  it("on an older copy is found by what it had told that it holds of others' streams", () => {
    const world = World.atRest(three, LAYOUT);
    const older = copyOf(world, "bob");
    world.propose("alice", PARTITION, { request: 1 });
    world.pass(100);
    // The copy starts often enough to know the number of the start that others were told of.
    older.starts.push(...world.at("bob").disk.starts.slice(older.starts.length));
    world.restart("bob", older);
    world.pass(100);
    expect(world.ofType("copy", "bob").map(({ reason }) => reason)).toContainEqual(expect.stringMatching(/was told that this node holds/));
  });
});

describe("under another layout version", () => {
  it("an acknowledgement given by an older one does not count; its sender is told ours and acknowledges again", () => {
    const world = World.atRest(three, LAYOUT);
    world.tellsLayouts = false;
    world.adopt(stagedAgain(), "alice");
    world.pass(100);
    world.propose("alice", SYSTEM_PARTITION, { request: 1 });
    expect(world.outcome("alice", 1)).toBe("no_quorum");
    world.adopt(stagedAgain(), "carol");
    world.pass(100);
    world.propose("alice", PARTITION, { request: 2, level: "all" });
    expect(world.outcome("alice", 2)).toBe("no_quorum");
    world.propose("alice", PARTITION, { request: 3 });
    world.settle();
    expect(world.outcome("alice", 3)).toBe("1+1");
    // bob, who is behind, does not even take it: a newer version is to be adopted first.
    expect(world.at("bob").holds("heads", PARTITION)).toEqual({});
    world.tellsLayouts = true;
    world.propose("bob", PARTITION, { request: 4 });
    world.pass(3000);
    expect(world.at("bob").layout.version).toBe(2);
    expect(world.at("bob").holds("heads", PARTITION)).toMatchObject({ [alice.writer]: 1 });
  });

  it("what a member had acknowledged counts again with its report under the version, and the write is answered then", () => {
    const world = World.atRest(three, LAYOUT);
    world.loses = ({ message }) => message.type === "held";
    world.propose("alice", PARTITION, { request: 1 });
    world.settle();
    expect(world.at("bob").holds("heads", PARTITION)).toEqual({ [alice.writer]: 1 });
    expect(world.outcome("alice", 1)).toBeUndefined();
    world.adopt(stagedAgain(), "alice");
    world.settle();
    expect(world.outcome("alice", 1)).toBeUndefined();
    world.adopt(stagedAgain(), "bob");
    world.settle();
    expect(world.outcome("alice", 1)).toBe("2+0");
  });

  it("each tells the other what it holds once both go by the version, whoever adopts it first, and no more than once", () => {
    for (const [first, last] of [
      ["alice", "bob"],
      ["bob", "alice"],
    ] as const) {
      const world = World.atRest(three, LAYOUT);
      world.tellsLayouts = false;
      world.forgetWhatWasSeen();
      world.adopt(stagedAgain(), first);
      world.settle();
      world.adopt(stagedAgain(), last);
      world.settle();
      for (const [from, to] of [
        ["alice", "bob"],
        ["bob", "alice"],
      ] as const) {
        expect(world.at(to).replica.counting()).toContain(world.at(from).member.writer);
        expect(world.messages("report", from, to)).toHaveLength(1);
      }
    }
  });

  it("later than the first a peer of protocol version 1 counts for nothing: it cannot have adopted it", () => {
    const world = new World(three, LAYOUT);
    world.adopt(stagedAgain());
    const { replica } = world.at("alice");
    world.do(world.at("alice"), replica.peer(bob.node, bob.writer, 0, 1));
    world.pass(5000);
    expect([replica.standing, replica.counting()]).toEqual(["comparing", []]);
    // Such a one as was connected before does not go on counting either.
    const before = World.atRest(three, LAYOUT);
    before.do(before.at("alice"), before.at("alice").replica.peer(bob.node, bob.writer, before.now, 1));
    expect(before.at("alice").replica.counting()).toContain(bob.writer);
    before.tellsLayouts = false;
    before.adopt(stagedAgain(), "alice", "carol");
    before.settle();
    expect(before.at("alice").replica.counting().toSorted()).toEqual([alice.writer, carol.writer].sort());
  });

  it("nothing told before is kept: an acknowledgement of the version before does not complete a write that still waits", () => {
    const world = World.atRest(three, LAYOUT);
    world.loses = ({ to }) => to === "carol";
    world.propose("alice", PARTITION, { request: 1, level: "all" });
    world.isolate("bob");
    world.settle();
    expect(world.at("alice").replica.heldBy(bob.writer, PARTITION, alice.writer)).toBe(0);
    world.connect("alice", "bob");
    world.pass(200);
    expect(world.outcome("alice", 1)).toBe("2+0");
    expect(world.at("alice").replica.heldBy(bob.writer, PARTITION, alice.writer)).toBe(1);
    world.adopt(stagedAgain(), "alice");
    expect(world.at("alice").replica.heldBy(bob.writer, PARTITION, alice.writer)).toBe(0);
  });

  it("of a newer one nothing is used before it is adopted", () => {
    const world = World.atRest(three, LAYOUT);
    world.tellsLayouts = false;
    world.adopt(stagedAgain(), "bob");
    world.settle();
    world.forgetWhatWasSeen();
    const [delta] = stream(bob, 1);
    const push = { type: "push" as const, envelopes: [] };
    for (const message of [push, { type: "held" as const, heads: [headOf(delta!)], marks: [] }])
      world.deliver(world.at("bob"), world.at("alice"), world.frameOf(world.at("bob"), message));
    expect(world.sent).toEqual([]);
    expect(world.seen).toEqual([]);
    expect(world.at("alice").replica.heldBy(bob.writer, PARTITION, bob.writer)).toBe(0);
  });

  it("of the same number and other content quorum stops, and nothing it says counts, until one is chosen", () => {
    const world = World.atRest(three, LAYOUT);
    const [one, other] = [stagedAgain("one"), stagedAgain("other")];
    world.adopt(one, "alice", "carol");
    world.adopt(other, "bob");
    world.settle();
    expect(world.ofType("conflict", "alice")).toMatchObject([{ peer: bob.node, version: 2 }]);
    expect(world.ofType("conflict", "bob")).not.toEqual([]);
    expect(world.at("alice").replica.conflict).toEqual({ peer: bob.node, version: 2 });
    for (const name of ["alice", "bob"]) {
      world.propose(name, PARTITION, { request: 1 });
      world.read(name, PARTITION, 2);
      expect([world.outcome(name, 1), world.outcome(name, 2)]).toEqual(["no_quorum", "no_quorum"]);
    }
    expect(world.at("alice").disk.log(PARTITION)).toEqual([]);
    expect(world.at("alice").replica.counting()).not.toContain(bob.writer);
    const chosen = stopped(one);
    world.adopt(chosen);
    world.pass(100);
    expect(world.at("alice").replica.conflict).toBeUndefined();
    world.propose("alice", PARTITION, { request: 3 });
    world.settle();
    expect(world.outcome("alice", 3)).toMatch(ANSWERED);
  });
});

describe("while a change is staged", () => {
  const partition = partitionWhere(ADDING, (now, next) => isIn(next.replicas, dave) && !isIn(now.members, dave) && isIn(now.replicas, alice));

  it("a next owner copies what the old hold, takes what they write, and counts for none of it", () => {
    const world = World.atRest(four, LAYOUT);
    for (let request = 1; request <= 3; request++) world.propose("alice", partition, { request });
    world.settle();
    world.adopt(ADDING);
    world.pass(500);
    expect(world.standings()).toEqual(counting(four));
    expect(world.at("dave").holds("heads", partition)).toEqual({ [alice.writer]: 3 });
    world.propose("alice", partition, { request: 4 });
    world.settle();
    expect(world.at("dave").holds("heads", partition)).toEqual({ [alice.writer]: 4 });
    expect(world.at("dave").disk.bytes()).toEqual(world.at("alice").disk.bytes());
  });

  it("a next owner alone answers no write, gives no answer to a barrier, and serves no client", () => {
    const world = World.atRest(four, ADDING);
    for (const name of ["bob", "carol"]) world.isolate(name);
    world.propose("alice", partition, { request: 1 });
    world.read("alice", partition, 2);
    expect([world.outcome("alice", 1), world.outcome("alice", 2)]).toEqual(["no_quorum", "no_quorum"]);
    world.propose("dave", partition, { request: 3 });
    world.read("dave", partition, 4);
    expect([world.outcome("dave", 3), world.outcome("dave", 4)]).toEqual(["not_replica", "not_replica"]);
    expect(world.at("dave").replica.mayReadAtOne(partition)).toBe(false);
  });

  it("of the system partition a next owner counts for nothing either", () => {
    const world = World.atRest(four, ADDING);
    for (const name of ["bob", "carol"]) world.isolate(name);
    world.propose("alice", SYSTEM_PARTITION, { request: 1 });
    expect(world.outcome("alice", 1)).toBe("no_quorum");
    world.propose("dave", SYSTEM_PARTITION, { request: 2, level: "one" });
    expect(world.outcome("dave", 2)).toBe("not_replica");
  });

  it("an empty next owner that lacks much takes the partition as it is; a copy that counts is never replaced", () => {
    const world = World.atRest(four, LAYOUT);
    world.isolate("bob");
    for (let request = 1; request <= 200; request++) world.propose("alice", PARTITION, { request });
    for (let request = 1; request <= 200; request++) world.propose("alice", partition, { request: 1000 + request });
    world.settle();
    // Intervals are slow to come; a snapshot is asked for instead where it may be.
    world.loses = ({ message }) => message.type === "repair";
    for (const name of ["alice", "carol", "dave"]) world.connect("bob", name);
    world.adopt(ADDING);
    world.pass(1000);
    world.loses = () => false;
    world.pass(5000);
    expect(world.ofType("fetch", "dave").map((effect) => effect.partition)).toContain(partition);
    expect(world.ofType("fetch", "bob")).toEqual([]);
    expect(world.at("bob").holds("heads", PARTITION)).toEqual({ [alice.writer]: 200 });
    expect(world.at("dave").holds("heads", partition)).toEqual({ [alice.writer]: 200 });
  });

  it("a partition that is still on its way here as a snapshot when the change is done takes no write yet: its numbers would be lost with the old copy (P4)", () => {
    const world = World.atRest(four, LAYOUT);
    for (let request = 1; request <= 100; request++) world.propose("alice", partition, { request });
    world.settle();
    world.loses = ({ message, to }) => to === "dave" && message.type === "repair";
    world.snapshotsAreSlow = true;
    world.adopt(ADDING);
    world.pass(1000);
    expect(world.at("dave").replica.fetching()).toContain(partition);
    world.adopt(ADDING_JOINT);
    world.pass(1000);
    world.adopt(done(ADDING_JOINT));
    world.pass(1000);
    expect(world.at("dave").replica.role(partition)).toBe("replica");
    world.propose("dave", partition, { request: 1000, level: "one" });
    expect(world.outcome("dave", 1000)).toBe("catching_up");
    world.snapshotsAreSlow = false;
    world.finishSnapshots();
    world.pass(1000);
    world.propose("dave", partition, { request: 1001 });
    world.settle();
    expect(world.outcome("dave", 1001)).toMatch(ANSWERED);
    expect(world.at("dave").holds("heads", partition)).toEqual({ [alice.writer]: 100, [dave.writer]: 1 });
  });

  it("is handed over once enough next owners hold what the old held; each that sees it says so to all", () => {
    const world = World.atRest(six, LAYOUT);
    for (let request = 1; request <= 3; request++) world.propose("alice", PARTITION, { request });
    world.settle();
    const [first, second] = groupOf(MOVING.next as Owners, PARTITION).replicas as readonly [Member, Member];
    world.loses = ({ message, to }) => message.type === "repair" && to !== first.name;
    world.adopt(MOVING);
    world.pass(2000);
    expect(world.at(first.name).holds("heads", PARTITION)).toEqual({ [alice.writer]: 3 });
    for (const { replica } of world.sites.values()) expect(replica.notHandedOver()).toContain(PARTITION);
    world.loses = () => false;
    world.pass(5000);
    expect(world.at(second.name).holds("heads", PARTITION)).toEqual({ [alice.writer]: 3 });
    for (const { replica } of world.sites.values()) expect(replica.notHandedOver()).toEqual([]);
  });

  it("is handed over for one that starts again meanwhile, too: it is told what others have seen before", () => {
    const world = World.atRest(six, MOVING);
    for (const { replica } of world.sites.values()) expect(replica.notHandedOver()).toEqual([]);
    world.restart("alice");
    world.pass(2000);
    expect(world.at("alice").replica.standing).toBe("counting");
    expect(world.at("alice").replica.notHandedOver()).toEqual([]);
  });

  it("is forgotten when the change is stopped: what the next owner copied it drops again", () => {
    const world = World.atRest(four, LAYOUT);
    world.propose("alice", partition, { request: 1 });
    world.settle();
    world.adopt(ADDING);
    world.pass(1000);
    world.adopt(stopped(ADDING), "alice", "bob", "carol");
    world.pass(2000);
    world.propose("alice", partition, { request: 2 });
    world.settle();
    expect(world.outcome("alice", 2)).toMatch(ANSWERED);
    expect(world.at("alice").replica.connectedMembers()).not.toContain(dave.node);
  });
});

describe("while a change is joint", () => {
  const partition = PARTITION;
  const joined = () => {
    const world = World.atRest(six, MOVING);
    world.adopt(MOVING_JOINT);
    world.pass(300);
    world.forgetWhatWasSeen();
    return world;
  };
  const next = groupOf(MOVING_JOINT.next as Owners, partition);
  const silence = (world: World, ...members: readonly Member[]) => {
    world.loses = ({ from }) => members.some(({ name }) => name === from);
  };

  it("a write waits for a quorum of both groups", () => {
    const world = joined();
    silence(world, dave, erin, frank);
    world.propose("alice", partition, { request: 1 });
    world.pass(300);
    expect(world.at("bob").holds("heads", partition)).toEqual({ [alice.writer]: 1 });
    expect(world.outcome("alice", 1)).toBeUndefined();
    silence(world, bob, carol);
    for (const { name } of [dave, erin, frank]) {
      world.cut("alice", name);
      world.connect("alice", name);
    }
    world.pass(300);
    expect(world.outcome("alice", 1)).toBe("2+1");
  });

  it("a write at one waits for a replica of each", () => {
    const world = joined();
    silence(world, ...next.replicas);
    world.propose("alice", partition, { request: 1, level: "one" });
    world.pass(300);
    expect(world.outcome("alice", 1)).toBeUndefined();
    silence(world);
    world.do(world.at("alice"), world.at("alice").replica.compareWith(next.replicas[0]!.node, world.now));
    for (const { name, node } of next.replicas) world.do(world.at(name), world.at(name).replica.compareWith(alice.node, world.now) ?? node);
    world.pass(300);
    expect(world.outcome("alice", 1)).toMatch(/^[12]\+[01]$/);
  });

  it("the next owners do not serve yet, the old ones do", () => {
    const world = joined();
    for (const { name } of [dave, erin, frank]) {
      world.propose(name, partition, { request: 1 });
      world.read(name, partition, 2);
      expect([world.outcome(name, 1), world.outcome(name, 2)]).toEqual(["not_replica", "not_replica"]);
    }
    world.read("bob", partition, 3);
    world.settle();
    expect(world.outcome("bob", 3)).toMatch(ANSWERED);
  });

  it("a quorum of one group that is cut off refuses, and names who is missing of the other", () => {
    const world = joined();
    for (const { name } of [erin, frank]) world.isolate(name);
    world.propose("alice", partition, { request: 1 });
    expect(world.ofType("refuse", "alice")).toMatchObject([{ code: "no_quorum", detail: expect.stringMatching(/erin|frank/) }]);
    expect(world.at("alice").disk.staged).toEqual([]);
  });

  it("a write that was numbered before waits for both groups from then on", () => {
    const world = World.atRest(six, MOVING);
    world.loses = ({ message, to }) => to === "alice" && message.type === "held";
    world.propose("alice", partition, { request: 1 });
    world.settle();
    silence(world, dave, erin, frank);
    world.adopt(MOVING_JOINT, "alice", "bob", "carol");
    world.settle();
    expect(world.outcome("alice", 1)).toBeUndefined();
    world.loses = () => false;
    world.adopt(MOVING_JOINT);
    world.pass(500);
    expect(world.outcome("alice", 1)).toMatch(ANSWERED);
  });

  it("a read that was asked before begins again, and asks both groups", () => {
    const world = World.atRest(six, MOVING);
    world.loses = ({ message }) => message.type === "told";
    world.read("alice", partition, 1);
    world.settle();
    expect(world.messages("ask", "alice").length).toBeGreaterThan(0);
    world.loses = () => false;
    world.tellsLayouts = false;
    world.adopt(MOVING_JOINT, "alice", "bob", "carol");
    world.pass(1000);
    // The old group has answered; that is not enough any more.
    expect(world.outcome("alice", 1)).not.toMatch(ANSWERED);
    world.tellsLayouts = true;
    world.adopt(MOVING_JOINT);
    world.pass(1000);
    world.read("alice", partition, 2);
    world.settle();
    expect(world.messages("ask", "alice", next.replicas[0]!.name).length).toBeGreaterThan(0);
    expect(world.outcome("alice", 2)).toMatch(ANSWERED);
  });

  it("a read that was under way goes on under the new version when both groups are there", () => {
    const world = World.atRest(six, MOVING);
    world.loses = ({ message }) => message.type === "told";
    world.read("alice", partition, 1);
    world.settle();
    world.adopt(MOVING_JOINT, "bob", "carol", "dave", "erin", "frank");
    world.settle();
    world.loses = () => false;
    world.adopt(MOVING_JOINT, "alice");
    world.pass(500);
    expect(["no_quorum", "snapshot", "2+1", "2+0", "1+1"]).toContain(world.outcome("alice", 1));
  });

  it("what one of the old group alone holds is handed over too, before the change can be done", () => {
    const world = World.atRest(six, MOVING);
    // Written at one while nobody takes it: only alice has it.
    world.loses = ({ from, message }) => from === "alice" && (message.type === "push" || message.type === "repair");
    world.propose("alice", partition, { request: 1, level: "one" });
    world.settle();
    expect(world.outcome("alice", 1)).toBe("1+0");
    world.adopt(MOVING_JOINT);
    world.pass(1000);
    expect(world.at("bob").replica.notHandedOver()).toContain(partition);
    world.loses = () => false;
    world.pass(5000);
    for (const { replica } of world.sites.values()) expect(replica.notHandedOver()).toEqual([]);
    for (const { name } of next.replicas) expect(world.at(name).holds("heads", partition)).toEqual({ [alice.writer]: 1 });
  });

  it("done lets the next groups alone count", () => {
    const world = joined();
    world.propose("alice", partition, { request: 1 });
    world.pass(5000);
    world.adopt(done(MOVING_JOINT));
    world.pass(500);
    for (const { name } of three) world.isolate(name);
    const server = next.replicas[0]!.name;
    world.propose(server, partition, { request: 2 });
    world.read(server, partition, 3);
    world.settle();
    for (const request of [2, 3]) expect(world.outcome(server, request)).toMatch(ANSWERED);
    world.propose("alice", partition, { request: 4 });
    expect(world.outcome("alice", 4)).toBe("not_replica");
  });
});

describe("a copy that is in no group any more", () => {
  /** dave and erin join. */
  const GROWING = staged(LAYOUT, { members: [...four, erin], replicationFactor: 2 }, "grow");
  const DONE = done(joint(GROWING));
  /** alice is a replica now and nothing afterwards. */
  const partition = partitionWhere(GROWING, (now, next) => isIn(now.replicas, alice) && !isIn(next.members, alice));

  function moved(): World {
    const world = World.atRest([...four, erin], LAYOUT);
    world.propose("alice", partition, { request: 1 });
    world.settle();
    world.adopt(GROWING);
    world.pass(1000);
    world.adopt(joint(GROWING));
    world.pass(1000);
    return world;
  }

  it("is dropped once q of its group hold all of it", () => {
    const world = moved();
    expect(world.at("alice").holds("heads", partition)).toEqual({ [alice.writer]: 1 });
    world.adopt(DONE);
    world.pass(3000);
    expect(world.ofType("drop", "alice")).toContainEqual({ type: "drop", partition, kind: "heads" });
    expect(world.at("alice").holds("heads", partition)).toEqual({});
    expect(world.at("dave").holds("heads", partition)).toEqual({ [alice.writer]: 1 });
    expect(world.at("alice").replica.partitions()).not.toContain(partition);
  });

  it("is kept while they lack some of it, offered to them, and dropped when they have it", () => {
    const world = moved();
    // A last write at one that nobody else hears of.
    world.loses = ({ from }) => from === "alice";
    world.propose("alice", partition, { request: 2, level: "one" });
    world.settle();
    world.adopt(DONE);
    world.pass(3000);
    expect(world.ofType("drop", "alice")).toEqual([]);
    expect(world.at("alice").holds("heads", partition)).toEqual({ [alice.writer]: 2 });
    world.loses = () => false;
    for (const { name } of [bob, carol, dave, erin]) {
      world.cut("alice", name);
      world.connect("alice", name);
    }
    world.pass(5000);
    expect(world.at("dave").holds("heads", partition)).toEqual({ [alice.writer]: 2 });
    expect(world.ofType("drop", "alice")).toContainEqual({ type: "drop", partition, kind: "heads" });
  });

  it("is gone once that is decided: a version that lists its node again, before the disk is done, counts nothing of it", () => {
    const world = moved();
    world.dropsAreSlow = true;
    world.adopt(DONE);
    world.pass(3000);
    expect(world.ofType("drop", "alice")).toContainEqual({ type: "drop", partition, kind: "heads" });
    world.adopt(staged(DONE, { members: LAYOUT.members, replicationFactor: 2 }, "shrink"));
    const [serving] = groupOf(DONE, partition).replicas as [Member, ...Member[]];
    world.pass(1000);
    world.propose(serving.name, partition, { request: 2 });
    world.pass(2000);
    for (const { name, replica } of [bob, carol, dave, erin].map(({ name }) => ({ name, replica: world.at(name).replica }))) {
      expect(replica.heldBy(alice.writer, partition, alice.writer), `what alice holds, for ${name}`).toBe(0);
      expect(replica.notHandedOver(), name).toContain(partition);
    }
    world.finishDrops();
    world.pass(5000);
    expect(world.at("alice").holds("heads", partition)).toEqual({ [alice.writer]: 1, [serving.writer]: 1 });
    for (const { replica } of world.sites.values()) expect(replica.notHandedOver()).toEqual([]);
  });

  it("of a witness is gone as well: a version that lists its node again, before the disk is done, marks nothing in it, and all of it afterwards", () => {
    const partition = partitionWhere(
      GROWING,
      (now, next) => isIn(now.witnesses, alice) && !isIn(next.members, alice) && now.replicas.every((replica) => isIn(next.replicas, replica)),
    );
    const writer = groupOf(LAYOUT, partition).replicas[0] as Member;
    const world = World.atRest([...four, erin], LAYOUT);
    world.propose(writer.name, partition, { request: 1 });
    world.settle();
    for (const version of [GROWING, joint(GROWING)]) {
      world.adopt(version);
      world.pass(1000);
    }
    world.dropsAreSlow = true;
    world.adopt(DONE);
    world.pass(3000);
    expect(world.ofType("drop", "alice")).toContainEqual({ type: "drop", partition, kind: "marks" });
    world.adopt(staged(DONE, { members: LAYOUT.members, replicationFactor: 2 }, "shrink"));
    // Every replica reports all of it: nothing is to be kept for them.
    world.pass(3000);
    world.finishDrops();
    expect(world.at("alice").holds("marks", partition)).toEqual({});
    world.pass(1000);
    expect(world.at("alice").holds("marks", partition)).toEqual({ [writer.writer]: 1 });
  });

  it("is missed by nobody when its node starts again: that it is gone makes no copy of the disk", () => {
    const world = moved();
    world.adopt(DONE);
    world.pass(3000);
    expect(world.at("alice").holds("heads", partition)).toEqual({});
    world.restart("alice");
    world.pass(3000);
    expect(world.ofType("copy")).toEqual([]);
    expect(world.at("alice").replica.standing).toBe("counting");
  });

  it("is no difference for ever after: the comparison of all heads is silent again", () => {
    const world = moved();
    world.adopt(DONE);
    world.pass(3000);
    world.forgetWhatWasSeen();
    for (const site of world.sites.values())
      for (const other of world.sites.values()) world.do(site, site.replica.compareWith(other.member.node, world.now));
    world.settle();
    expect(world.messages("digest").filter(({ reply }) => reply)).toEqual([]);
    expect(world.messages("digest").length).toBeGreaterThan(0);
    expect(world.messages("report")).toEqual([]);
  });

  it("is offered in turns where there are many: some that nobody can take for long keep no other", () => {
    const world = World.atRest([...four, erin], LAYOUT);
    const leaving = PARTITIONS.filter((one) => isIn(groupOf(LAYOUT, one).replicas, alice) && !isIn(groupOf(DONE, one).members, alice));
    expect(leaving.length).toBeGreaterThan(16);
    for (const [at, one] of leaving.entries()) world.propose("alice", one, { request: at, level: "one" });
    world.settle();
    world.adopt(GROWING);
    world.pass(1000);
    world.adopt(joint(GROWING));
    world.pass(1000);
    // alice does not hear how far the new owners are.
    for (const { name } of [dave, erin]) world.cut("alice", name);
    world.forgetWhatWasSeen();
    world.adopt(DONE);
    world.pass(5000);
    const asked = world.messages("ask", "alice").map(({ partition: one }) => one);
    expect(leaving.filter((one) => !asked.includes(one))).toEqual([]);
    for (const { name } of [dave, erin]) world.connect("alice", name);
    world.pass(5000);
    expect(leaving.filter((one) => Object.keys(world.at("alice").holds("heads", one)).length > 0)).toEqual([]);
  });

  it("of a witness that is a replica now says nothing of what it holds as one: a mark is no copy (P1)", () => {
    const change = staged(LAYOUT, { members: [alice, carol, dave], replicationFactor: 2 }, "replace");
    const turned = partitionWhere(change, (now, next) => isIn(now.witnesses, carol) && isIn(next.replicas, carol) && isIn(next.witnesses, dave));
    const world = World.atRest(four, LAYOUT);
    for (let request = 1; request <= 3; request++) world.propose("alice", turned, { request });
    world.settle();
    // It is slow to copy what it has only marked; the two others of the next group are enough.
    world.loses = ({ message, to }) => to === "carol" && message.type === "repair";
    world.adopt(change);
    world.pass(1000);
    world.adopt(joint(change));
    world.pass(1000);
    // Nor does it hear how far the other one is, so it keeps its marks and asks.
    world.cut("carol", "dave");
    world.adopt(done(joint(change)));
    world.pass(3000);
    expect(world.messages("ask", "carol", "alice").map(({ partition }) => partition)).toContain(turned);
    expect(world.at("carol").holds("heads", turned)).toEqual({});
    expect(world.at("alice").replica.heldBy(carol.writer, turned, alice.writer)).toBe(0);
    world.connect("carol", "dave");
    expect(world.at("dave").disk.keptFrom(turned, alice.writer)).toBe(1);
    world.loses = () => false;
    world.pass(8000);
    expect(world.at("carol").holds("heads", turned)).toEqual({ [alice.writer]: 3 });
    expect(world.at("carol").holds("marks", turned)).toEqual({});
    expect(world.at("dave").disk.keptFrom(turned, alice.writer)).toBeUndefined();
  });

  it("is not dropped before the change is done, whatever they hold: the old group still counts", () => {
    const world = moved();
    world.pass(5000);
    expect(world.ofType("drop")).toEqual([]);
  });

  it("numbers nothing until its own stream is back, when the partition returns to the node (P4)", () => {
    const world = moved();
    world.adopt(DONE);
    world.pass(3000);
    const back = staged(DONE, { members: three, replicationFactor: 2 }, "back");
    world.adopt(back);
    world.loses = ({ message, to }) => to === "alice" && message.type === "repair";
    world.adopt(joint(back));
    world.pass(100);
    world.adopt(done(joint(back)), "alice", "bob", "carol");
    world.pass(100);
    world.propose("alice", partition, { request: 10 });
    expect(world.outcome("alice", 10)).toBe("catching_up");
    world.loses = () => false;
    world.pass(5000);
    world.propose("alice", partition, { request: 11 });
    world.settle();
    expect(world.outcome("alice", 11)).toMatch(ANSWERED);
    expect(world.at("alice").holds("heads", partition)).toEqual({ [alice.writer]: 2 });
  });
});

describe("a member that was listed again after it lost its disk", () => {
  const reborn = "0b".repeat(16) as Incarnation;
  const AGAIN = relisted(LAYOUT, "bob", { node: bob.node, incarnation: reborn });
  const newBob = AGAIN.members.find(({ name }) => name === "bob")!;

  function reborn3(): World {
    const world = World.atRest(three, LAYOUT);
    for (let request = 1; request <= 3; request++) world.propose("alice", PARTITION, { request });
    world.propose("carol", SYSTEM_PARTITION, { request: 9 });
    world.settle();
    world.isolate("bob");
    world.forgetWhatWasSeen();
    const fresh = new World([newBob], AGAIN).at("bob");
    world.sites.set("bob", fresh);
    world.adopt(AGAIN, "alice", "carol");
    return world;
  }

  it("counts for nobody and acknowledges nothing until it holds what both others held, then persists that and counts", () => {
    const world = reborn3();
    world.loses = ({ message, to }) => to === "bob" && message.type === "repair";
    for (const { name } of [alice, carol]) world.connect("bob", name);
    world.pass(3000);
    expect(world.at("bob").replica.standing).toBe("refilling");
    expect(world.at("alice").replica.counting()).not.toContain(newBob.writer);
    expect([...world.messages("held", "bob"), ...world.messages("report", "bob"), ...world.messages("told", "bob")]).toEqual([]);
    expect(world.at("bob").replica.mayReadAtOne(PARTITION)).toBe(false);
    world.propose("alice", PARTITION, { request: 20, level: "all" });
    expect(world.outcome("alice", 20)).toBe("no_quorum");
    world.loses = () => false;
    world.pass(5000);
    expect(world.at("bob").replica.standing).toBe("counting");
    expect(world.ofType("count", "bob")).toHaveLength(1);
    expect(world.at("bob").disk.hasCounted).toBe(true);
    world.propose("alice", PARTITION, { request: 21, level: "all" });
    world.settle();
    expect(world.outcome("alice", 21)).toBe("2+0");
  });

  it("waits for both others of three: one may not have what a quorum with the lost disk held", () => {
    const world = reborn3();
    world.connect("bob", "alice");
    world.pass(20_000);
    expect(world.at("bob").replica.standing).toBe("refilling");
    world.connect("bob", "carol");
    world.pass(5000);
    expect(world.at("bob").replica.standing).toBe("counting");
  });

  it("does not begin again when it is restarted after that", () => {
    const world = reborn3();
    for (const { name } of [alice, carol]) world.connect("bob", name);
    world.pass(5000);
    world.restart("bob");
    world.pass(100);
    expect(world.at("bob").replica.standing).toBe("counting");
    expect(world.ofType("count", "bob")).toHaveLength(1);
  });

  it("takes nothing from the lost incarnation's own hand any more", () => {
    const world = World.atRest(three, LAYOUT);
    world.adopt(AGAIN, "alice", "carol");
    world.propose("bob", PARTITION, { request: 1, level: "one" });
    world.settle();
    expect(world.at("alice").holds("heads", PARTITION)).toEqual({});
    expect(world.at("alice").replica.connectedMembers()).not.toContain(bob.node);
  });
});

describe("a clock that is ahead", () => {
  it("of all peers' is found before a number or a clock value is spent, and not while it is only a little ahead", () => {
    const world = World.atRest(three, LAYOUT);
    const { replica, disk } = world.at("alice");
    const wall = world.at("alice").wall(world.now);
    const before = replica.highWater;
    world.propose("alice", PARTITION, { request: 1, wall: wall + CLOCK_AHEAD_MAX_MS + 10 });
    expect(world.outcome("alice", 1)).toBe("clock_skew");
    expect([disk.staged, replica.highWater]).toEqual([[], before]);
    world.propose("alice", PARTITION, { request: 2, wall: wall + CLOCK_AHEAD_MAX_MS - 10 });
    world.settle();
    expect(world.outcome("alice", 2)).toMatch(ANSWERED);
    expect(replica.clockAheadMs(wall + 5, world.now)).toBe(5);
  });

  it("is not believed of one peer alone: the one that is wrong is refused, the others write", () => {
    const world = World.atRest(three, LAYOUT, { bob: { clockErrorMs: 10 * CLOCK_AHEAD_MAX_MS } });
    world.propose("alice", PARTITION, { request: 1 });
    world.propose("bob", PARTITION, { request: 1 });
    world.settle();
    expect(world.outcome("alice", 1)).toMatch(ANSWERED);
    expect(world.outcome("bob", 1)).toBe("clock_skew");
  });

  it("shows in a live push: it is not taken, nor acknowledged; from a member that stored it it is", () => {
    const world = World.atRest(three, LAYOUT);
    world.cut("alice", "bob");
    // bob's clock jumps, and only carol, whose clock jumped too, is there to say.
    for (const name of ["bob", "carol"]) world.at(name).clockErrorMs = 10 * CLOCK_AHEAD_MAX_MS;
    for (const name of ["bob", "carol"]) world.restart(name);
    world.pass(3000);
    world.cut("alice", "carol");
    world.propose("bob", PARTITION, { request: 1 });
    world.settle();
    expect(world.outcome("bob", 1)).toBe("1+1");
    world.cut("bob", "carol");
    world.loses = ({ message }) => message.type === "repair";
    world.connect("alice", "bob");
    const [delta] = world.at("bob").disk.log(PARTITION);
    world.do(world.at("bob"), [{ type: "push", to: [alice.node], deltas: [delta!] }]);
    world.settle();
    expect(world.at("alice").holds("heads", PARTITION)).toEqual({});
    expect(world.ofType("note", "alice").map(({ message }) => message)).toContainEqual(expect.stringMatching(/from the future was not taken/));
    world.loses = () => false;
    world.connect("alice", "carol");
    world.pass(5000);
    expect(world.at("alice").holds("heads", PARTITION)).toEqual({ [bob.writer]: 1 });
  });
});

describe("a witness", () => {
  it("that keeps WITNESS_SEALED_MAX_BYTES takes one more; full, it refuses before the acknowledgement (P8), until it may forget", () => {
    const world = World.atRest(three, LAYOUT);
    world.isolate("bob");
    const { disk } = world.at("carol");
    disk.sealedElsewhere = WITNESS_SEALED_MAX_BYTES;
    world.propose("alice", PARTITION, { request: 1 });
    world.settle();
    expect(world.outcome("alice", 1)).toBe("1+1");
    expect(disk.sealedBytes).toBeGreaterThan(WITNESS_SEALED_MAX_BYTES);
    world.propose("alice", PARTITION, { request: 2 });
    world.pass(500);
    expect(world.outcome("alice", 2)).toBeUndefined();
    expect(world.at("carol").holds("marks", PARTITION)).toEqual({ [alice.writer]: 1 });
    expect(world.ofType("note", "carol").map(({ message }) => message)).toContainEqual(expect.stringMatching(/witness is full/));
    // The other replica comes back: what it holds, the witness may mark without bytes.
    for (const { name } of [alice, carol]) world.connect("bob", name);
    world.pass(3000);
    expect(world.outcome("alice", 2)).toMatch(ANSWERED);
    expect(world.at("carol").holds("marks", PARTITION)).toEqual({ [alice.writer]: 2 });
  });

  it("forgets sealed bytes only when every replica of both groups has reported them", () => {
    // carol is the witness of PARTITION before and after bob gives his place to dave.
    const change = joint(staged(LAYOUT, { members: [alice, carol, dave], replicationFactor: 2 }, "replace"));
    const both = PARTITIONS.find((partition) => {
      const [now, next] = [groupOf(change, partition), groupOf(change.next as Owners, partition)];
      return isIn(now.witnesses, carol) && isIn(next.witnesses, carol) && isIn(now.replicas, alice) && isIn(next.replicas, dave);
    }) as Partition;
    const world = World.atRest(four, staged(LAYOUT, { members: [alice, carol, dave], replicationFactor: 2 }, "replace"));
    world.loses = ({ to, from }) => to === "dave" || from === "dave";
    world.adopt(change);
    world.pass(300);
    world.propose("alice", both, { request: 1, level: "quorum" });
    world.pass(300);
    world.loses = () => false;
    for (const { name } of three) {
      world.cut("dave", name);
      world.connect("dave", name);
    }
    world.loses = ({ message, to }) => to === "dave" && (message.type === "push" || message.type === "repair");
    world.pass(300);
    world.propose("alice", both, { request: 2 });
    world.settle();
    expect(world.at("bob").holds("heads", both)).toEqual({ [alice.writer]: 2 });
    expect(world.at("carol").disk.keptFrom(both, alice.writer)).toBe(1);
    world.loses = () => false;
    world.pass(3000);
    expect(world.at("dave").holds("heads", both)).toEqual({ [alice.writer]: 2 });
    expect(world.at("carol").disk.keptFrom(both, alice.writer)).toBeUndefined();
  });
});

function stagedAgain(change = "weight"): Layout {
  const members = LAYOUT.members.map((member) => (member.name === "carol" ? { ...member, zone: "z" } : member));
  return staged(LAYOUT, { members, replicationFactor: 2 }, change);
}

/** The disk as it is now, put aside. */
function copyOf(world: World, name: string): Disk {
  const { disk } = world.at(name);
  const copy = new Disk();
  for (const batch of disk.staged) if (batch.type === "delta") copy.take(batch.delta);
  copy.flush();
  copy.starts.push(...disk.starts);
  for (const [member, told] of disk.told) copy.told.set(member, told);
  return copy;
}
