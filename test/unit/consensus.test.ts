import { encode } from "cborg";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Consensus, type ConsensusEffect, type ConsensusOptions, votesNeeded } from "../../protocol/consensus.ts";
import {
  type Ballot,
  type ConsensusMessage,
  compareBallot,
  decodeConsensusMessage,
  encodeConsensusMessage,
} from "../../protocol/consensus-message.ts";
import type { FederationId, Incarnation, NodeId } from "../../protocol/ids.ts";
import { encodeLayout, type Layout, layoutHash, layoutOf, memberOf, votersOf } from "../../protocol/layout.ts";
import { done, joint, ownersAfter, recovered, relisted, staged, stopped } from "../../protocol/layout-change.ts";
import { CONSENSUS_MESSAGE_MAX_BYTES, CONSENSUS_ROUND_MAX, CONSENSUS_STATE_MAX_BYTES } from "../../protocol/limits.ts";
import { chanceOf } from "./formation-schedule.ts";

const THREE = ["alice", "bob", "carol"];

function incarnation(of: string, life = 1): Incarnation {
  return `${of.charCodeAt(0).toString(16)}${life}`.padEnd(32, "0") as Incarnation;
}
function node(of: string): NodeId {
  return `node-of-${of}` as NodeId;
}
function member(name: string, life = 1) {
  return memberOf({ node: node(name), name, incarnation: incarnation(name, life), zone: "", weight: 1 });
}
function ballot(round: number, name: string, without = "", life = 1): Ballot {
  return { round, name, incarnation: incarnation(name, life), without };
}
function firstOf(names: readonly string[]): Layout {
  return layoutOf({
    version: 1,
    federation: "fe".repeat(16) as FederationId,
    replicationFactor: 2,
    resonanceDecay: 0.85,
    hebbianRate: 0.15,
    periodMs: 1000,
    members: names.map((name) => member(name)),
  });
}
const FIRST = firstOf(THREE);
/** A next version that differs by who asked for it. */
function change(by: string, layout = FIRST): Layout {
  return staged(layout, ownersAfter(layout, { op: "weight", name: "alice", weight: 2 })!, by);
}
function relisting(name: string, life = 2, layout = FIRST): Layout {
  return relisted(layout, name, { node: node(name), incarnation: incarnation(name, life) });
}
function create(name: string, options: Partial<ConsensusOptions> = {}): Consensus {
  const consensus = new Consensus({ self: member(name).writer, layout: FIRST, persisted: undefined, ...options });
  consensus.step({ type: "may vote", mayVote: true });
  return consensus;
}
type Body = ConsensusMessage extends infer One ? (One extends ConsensusMessage ? Omit<One, "version" | "previous"> : never) : never;
function about(layout: Layout, body: Body): ConsensusMessage {
  return { ...body, version: layout.version + 1, previous: layoutHash(layout) } as ConsensusMessage;
}
function tell(consensus: Consensus, from: string, body: Body, layout = FIRST): ConsensusEffect[] {
  return consensus.step({ type: "message", from: member(from).writer, message: about(layout, body) });
}
function tick(consensus: Consensus, now: number, random = 0): ConsensusEffect[] {
  return settle(consensus, consensus.step({ type: "tick", now, random }));
}
function want(consensus: Consensus, layout: Layout | undefined, without = ""): ConsensusEffect[] {
  return consensus.step({ type: "want", layout, without });
}
function showLoss(consensus: Consensus, name: string, life = 2): ConsensusEffect[] {
  return consensus.step({ type: "fresh", name, node: node(name), incarnation: incarnation(name, life) });
}
function sent(effects: readonly ConsensusEffect[], type?: ConsensusMessage["type"]) {
  return effects
    .filter((effect) => effect.type === "send")
    .filter(({ message }) => type === undefined || message.type === type)
    .map(({ to, message: { version, previous, ...message } }) => ({ to: to.slice("node-of-".length), ...message }));
}
function inWords(effects: readonly ConsensusEffect[]): string[] {
  return sent(effects).map(({ type, to }) => `${type} ${to}`);
}
function decided(effects: readonly ConsensusEffect[]): Layout[] {
  return effects.filter((effect) => effect.type === "decided").map(({ layout }) => layout);
}
/** The disk writes what is asked; everything that follows. */
function settle(consensus: Consensus, effects: readonly ConsensusEffect[]): ConsensusEffect[] {
  const all = [...effects];
  for (let next = effects.find((effect) => effect.type === "persist"); next !== undefined; ) {
    const more = consensus.step({ type: "persisted", id: next.id });
    all.push(...more);
    next = more.find((effect) => effect.type === "persist");
  }
  return all;
}
function lastState(effects: readonly ConsensusEffect[]): Uint8Array {
  return effects.filter((effect) => effect.type === "persist").at(-1)!.state;
}
/** Alice, with her first ballot under way. */
function proposing(layout: Layout | undefined = change("alice"), without = "", options: Partial<ConsensusOptions> = {}): Consensus {
  const alice = create("alice", options);
  if (without !== "") showLoss(alice, without);
  want(alice, layout, without);
  expect(sent(tick(alice, 0), "prepare").length).toBeGreaterThan(0);
  return alice;
}

/** Several nodes on a perfect network of those that are up; a decision is adopted by its proposer and told to everybody. */
class Group {
  readonly nodes = new Map<string, Consensus>();
  readonly layouts = new Map<string, Layout>();
  readonly down = new Set<string>();
  readonly decisions: Layout[] = [];
  readonly chance = chanceOf(4);
  now = 0;
  constructor(names: readonly string[], layout: Layout) {
    for (const name of names) {
      this.nodes.set(name, create(name, { layout }));
      this.layouts.set(name, layout);
    }
  }
  perform(name: string, effects: readonly ConsensusEffect[]): void {
    const consensus = this.nodes.get(name)!;
    for (const effect of settle(consensus, effects)) {
      if (effect.type === "send") this.deliver(name, effect.to.slice("node-of-".length), effect.message);
      if (effect.type === "decided") {
        this.decisions.push(effect.layout);
        for (const other of this.nodes.keys()) if (!this.down.has(other)) this.adopt(other, effect.layout);
      }
    }
  }
  deliver(from: string, to: string, message: ConsensusMessage): void {
    if (this.down.has(from) || this.down.has(to) || !this.nodes.has(to)) return;
    const bytes = encodeConsensusMessage(message);
    this.perform(to, this.nodes.get(to)!.step({ type: "message", from: member(from).writer, message: decodeConsensusMessage(bytes) }));
  }
  adopt(name: string, layout: Layout): void {
    this.layouts.set(name, layout);
    this.perform(name, this.nodes.get(name)!.step({ type: "layout", layout }));
  }
  run(ms: number): void {
    for (const end = this.now + ms; this.now < end; this.now += 50) {
      for (const [name, consensus] of this.nodes)
        if (!this.down.has(name)) this.perform(name, consensus.step({ type: "tick", now: this.now, random: this.chance() }));
    }
  }
}

describe("deciding the next version", () => {
  it("three nodes on a perfect network decide in a few messages, and everybody adopts", () => {
    const group = new Group(THREE, FIRST);
    want(group.nodes.get("alice")!, change("alice"));
    group.run(100);
    expect(group.decisions).toEqual([change("alice")]);
    expect([...group.layouts.values()].map(layoutHash)).toEqual(THREE.map(() => layoutHash(change("alice"))));
    // And the versions after it.
    want(group.nodes.get("carol")!, joint(change("alice")));
    group.run(5_000);
    want(group.nodes.get("alice")!, done(joint(change("alice"))));
    group.run(5_000);
    expect(group.decisions.map(({ version, phase }) => `${version} ${phase}`)).toEqual(["2 staged", "3 joint", "4 done"]);
    group.run(60_000);
    expect(group.decisions).toHaveLength(3);
  });

  it("one of one decides alone, only after the disk has its promise and its yes", () => {
    const layout = firstOf(["alice"]);
    const alone = create("alice", { layout });
    want(alone, change("alice", layout));
    const first = alone.step({ type: "tick", now: 0, random: 0 });
    expect(first.map(({ type }) => type)).toEqual(["persist"]);
    const second = alone.step({ type: "persisted", id: 1 });
    expect(second.map(({ type }) => type)).toEqual(["persist"]);
    expect(alone.step({ type: "persisted", id: 2 })).toEqual([{ type: "decided", layout: change("alice", layout) }]);
    expect(tick(alone, 100_000)).toEqual([]);
  });

  it("does not propose before a majority has promised, nor decides before a majority said yes", () => {
    const layout = firstOf(["alice", "bob", "carol", "dave"]);
    const alice = proposing(change("alice", layout), "", { layout });
    const promise = (from: string) => settle(alice, tell(alice, from, { type: "promise", ballot: ballot(1, "alice"), accepted: undefined }, layout));
    expect(promise("bob")).toEqual([]);
    expect(promise("bob")).toEqual([]);
    expect(inWords(promise("dave"))).toEqual(["propose bob", "propose carol", "propose dave"]);
    const yes = (from: string) => settle(alice, tell(alice, from, { type: "yes", ballot: ballot(1, "alice") }, layout));
    expect(yes("carol")).toEqual([]);
    expect(yes("carol")).toEqual([]);
    expect(decided(yes("bob"))).toEqual([change("alice", layout)]);
    expect(yes("dave")).toEqual([]);
  });

  it("proposes what was reported unchanged, of several the one of the highest ballot, and says that it was reported", () => {
    const layout = firstOf(["alice", "bob", "carol", "dave", "erin"]);
    const alice = proposing(change("alice", layout), "", { layout });
    const promise = (from: string, by: string, round: number) =>
      settle(
        alice,
        tell(
          alice,
          from,
          { type: "promise", ballot: ballot(1, "alice"), accepted: { ballot: ballot(round, by), layout: change(by, layout) } },
          layout,
        ),
      );
    expect(promise("bob", "Carol", 1)).toEqual([]);
    expect(sent(promise("dave", "Bob", 1), "propose")[0]).toMatchObject({ layout: change("Carol", layout), reported: true });
    const plain = proposing();
    const effects = tell(plain, "bob", { type: "promise", ballot: ballot(1, "alice"), accepted: undefined });
    expect(sent(settle(plain, effects), "propose")[0]).toMatchObject({ layout: change("alice"), reported: false });
  });

  it("proposes the wish as it is when the promises are there, and nothing when it has gone", () => {
    const promised: Body = { type: "promise", ballot: ballot(1, "alice"), accepted: undefined };
    const changed = proposing();
    want(changed, change("another"));
    expect(sent(settle(changed, tell(changed, "bob", promised)), "propose")[0]).toMatchObject({ layout: change("another") });
    const gone = proposing();
    want(gone, undefined);
    expect(settle(gone, tell(gone, "bob", promised))).toEqual([]);
    expect(tick(gone, 60_000)).toEqual([]);
  });

  it("counts no answer to another ballot, about another version or layout, from a stranger, or of a lost incarnation", () => {
    const alice = proposing();
    const promised: Body = { type: "promise", ballot: ballot(1, "alice"), accepted: undefined };
    expect(tell(alice, "bob", { ...promised, ballot: ballot(2, "alice") })).toEqual([]);
    expect(tell(alice, "bob", { ...promised, ballot: ballot(1, "alice", "", 2) })).toEqual([]);
    expect(tell(alice, "bob", promised, firstOf(["alice", "bob"]))).toEqual([]);
    expect(tell(alice, "bob", promised, change("x"))).toEqual([]);
    expect(tell(alice, "dave", promised)).toEqual([]);
    expect(alice.step({ type: "message", from: member("bob", 2).writer, message: about(FIRST, promised) })).toEqual([]);
    expect(alice.step({ type: "message", from: member("alice").writer, message: about(FIRST, promised) })).toEqual([]);
    expect(inWords(settle(alice, tell(alice, "bob", promised)))).toEqual(["propose bob", "propose carol"]);
  });

  it("asks again while answers are missing, only those who have not answered, and no more often than twice a second", () => {
    const layout = firstOf(["alice", "bob", "carol", "dave"]);
    const alice = proposing(change("alice", layout), "", { layout });
    tell(alice, "bob", { type: "promise", ballot: ballot(1, "alice"), accepted: undefined }, layout);
    const asked: string[] = [];
    for (let now = 10; now <= 10_000; now += 10) asked.push(...inWords(tick(alice, now)));
    expect(asked.filter((words) => words === "prepare carol")).toHaveLength(20);
    expect(new Set(asked)).toEqual(new Set(["prepare carol", "prepare dave"]));
  });

  it("gives way to a higher ballot, waits a time that chance decides, and comes back above it", () => {
    const began = (random: number): number => {
      const alice = proposing();
      tell(alice, "bob", { type: "nack", ballot: ballot(7, "bob") });
      for (let now = 1; now < 100_000; now += 50) {
        const [prepare] = sent(tick(alice, now, random), "prepare");
        if (prepare === undefined) continue;
        expect(prepare).toMatchObject({ ballot: ballot(8, "alice") });
        return now;
      }
      return Number.POSITIVE_INFINITY;
    };
    expect(began(0)).toBeGreaterThan(500);
    expect(began(0.99)).toBeGreaterThan(began(0));
    expect(began(0.99)).toBeLessThan(5_000);
  });

  it("waits by rank, so that of several with the same wish the first by name proposes", () => {
    const starts = THREE.map((name) => {
      const consensus = create(name);
      want(consensus, change("c"));
      for (let now = 0; now < 10_000; now += 50) if (sent(tick(consensus, now), "prepare").length > 0) return now;
      return undefined;
    });
    expect(starts).toEqual([0, 250, 500]);
  });

  it("wishes for what is no step are not proposed", () => {
    const other = firstOf(["alice", "bob"]);
    for (const layout of [joint(change("a")), change("a", other), recovered(FIRST, ["carol"]), stopped(change("a")), FIRST]) {
      const alice = create("alice");
      want(alice, layout);
      expect(tick(alice, 0)).toEqual([]);
      expect(tick(alice, 60_000)).toEqual([]);
    }
    // Nor a re-listing by an ordinary ballot, nor something else by one without a member.
    for (const [layout, without] of [
      [relisting("carol"), ""],
      [change("a"), "carol"],
      [relisting("carol"), "bob"],
    ] as const) {
      const alice = create("alice");
      showLoss(alice, "carol");
      showLoss(alice, "bob");
      want(alice, layout, without);
      expect(tick(alice, 60_000)).toEqual([]);
    }
  });
});

describe("answering others", () => {
  const propose = (round: number, by: string): Body => ({ type: "propose", ballot: ballot(round, by), layout: change(by), reported: false });

  it("a promise leaves only after its state is on the disk, a doubled request too (C1)", () => {
    const bob = create("bob");
    const effects = tell(bob, "alice", { type: "prepare", ballot: ballot(1, "alice") });
    expect(effects.map(({ type }) => type)).toEqual(["persist"]);
    expect(tell(bob, "alice", { type: "prepare", ballot: ballot(1, "alice") })).toEqual([]);
    expect(inWords(bob.step({ type: "persisted", id: 1 }))).toEqual(["promise alice", "promise alice"]);
    expect(inWords(tell(bob, "alice", { type: "prepare", ballot: ballot(1, "alice") }))).toEqual(["promise alice"]);
  });

  it("a yes leaves only after its state is on the disk, one state at a time (C1)", () => {
    const bob = create("bob");
    expect(tell(bob, "alice", propose(1, "alice")).map(({ type }) => type)).toEqual(["persist"]);
    expect(tell(bob, "carol", propose(2, "carol"))).toEqual([]);
    const second = bob.step({ type: "persisted", id: 1 });
    expect(second.map(({ type }) => type)).toEqual(["send", "persist"]);
    expect(bob.step({ type: "persisted", id: 99 })).toEqual([]);
    expect(inWords(bob.step({ type: "persisted", id: 2 }))).toEqual(["yes carol"]);
  });

  it("a lower ballot gets the higher promise as its answer, also after a restart, also when it proposes", () => {
    const bob = create("bob");
    const persisted = lastState(tell(bob, "carol", { type: "prepare", ballot: ballot(2, "carol") }));
    const restarted = create("bob", { persisted });
    const nack = [{ to: "alice", type: "nack", ballot: ballot(2, "carol") }];
    expect(sent(tell(restarted, "alice", { type: "prepare", ballot: ballot(1, "alice") }))).toEqual(nack);
    expect(sent(tell(restarted, "alice", propose(1, "alice")))).toEqual(nack);
    expect(inWords(settle(restarted, tell(restarted, "carol", propose(2, "carol"))))).toEqual(["yes carol"]);
  });

  it("what it accepted is reported in later promises, after a restart too", () => {
    const persisted = lastState(tell(create("bob"), "alice", propose(1, "alice")));
    const restarted = create("bob", { persisted });
    expect(sent(settle(restarted, tell(restarted, "carol", { type: "prepare", ballot: ballot(2, "carol") })))).toMatchObject([
      { type: "promise", accepted: { ballot: ballot(1, "alice"), layout: change("alice") } },
    ]);
  });

  it("finishes by itself what it accepted when it hears no more of it, wishing nothing; what it hears puts that off", () => {
    const began = (random: number, last = 0): number => {
      const bob = create("bob");
      settle(bob, tell(bob, "alice", propose(1, "alice")));
      for (let now = 0; now < 100_000; now += 50) {
        if (now < last) settle(bob, tell(bob, "alice", propose(1, "alice")));
        if (sent(tick(bob, now, random), "prepare").length === 0) continue;
        const effects = settle(bob, tell(bob, "carol", { type: "promise", ballot: ballot(2, "bob"), accepted: undefined }));
        expect(sent(effects, "propose")[0]).toMatchObject({ layout: change("alice"), reported: true });
        return now;
      }
      return Number.POSITIVE_INFINITY;
    };
    expect(began(0)).toBeGreaterThan(1_000);
    expect(began(0.99)).toBeLessThan(10_000);
    expect(began(0, 5_000)).toBeGreaterThan(5_000);
  });

  it("says yes to one step from its own version only, and not to what an operator forced", () => {
    const adding = change("a");
    for (const layout of [joint(adding), recovered(FIRST, ["carol"]), relisting("carol"), layoutOf({ ...adding, resonanceDecay: 0.5 })]) {
      for (const reported of [false, true]) {
        if (reported && layoutHash(layout) === layoutHash(relisting("carol"))) continue;
        expect(tell(create("bob"), "alice", { type: "propose", ballot: ballot(1, "alice"), layout, reported })).toEqual([]);
      }
    }
    for (const [before, later] of [
      [FIRST, adding],
      [adding, joint(adding)],
      [adding, stopped(adding)],
      [joint(adding), done(joint(adding))],
    ] as const) {
      const bob = create("bob", { layout: before });
      const effects = tell(bob, "alice", { type: "propose", ballot: ballot(1, "alice"), layout: later, reported: false }, before);
      expect(inWords(settle(bob, effects))).toEqual(["yes alice"]);
    }
  });

  it("answers a ballot only to the listed incarnation whose ballot it is", () => {
    const bob = create("bob");
    expect(tell(bob, "carol", { type: "prepare", ballot: ballot(1, "alice") })).toEqual([]);
    expect(tell(bob, "alice", { type: "prepare", ballot: ballot(1, "alice", "", 2) })).toEqual([]);
    expect(tell(bob, "dave", { type: "prepare", ballot: ballot(1, "dave") })).toEqual([]);
  });

  it("while it does not count, or is not listed, it promises, accepts and proposes nothing", () => {
    const strangers = [
      new Consensus({ self: member("bob").writer, layout: FIRST, persisted: undefined }),
      create("bob", { self: member("bob", 2).writer }),
      create("dave"),
    ];
    const stopped = create("bob");
    want(stopped, change("bob"));
    expect(tick(stopped, 0)).toEqual([]);
    stopped.step({ type: "may vote", mayVote: false });
    for (const consensus of [...strangers, stopped]) {
      want(consensus, change("bob"));
      expect(tick(consensus, 60_000)).toEqual([]);
      expect(tell(consensus, "alice", { type: "prepare", ballot: ballot(1, "alice") })).toEqual([]);
      expect(tell(consensus, "alice", propose(1, "alice"))).toEqual([]);
    }
    stopped.step({ type: "may vote", mayVote: true });
    expect(inWords(tick(stopped, 120_000))).toEqual(["prepare alice", "prepare carol"]);
  });

  it("a version that it adopts makes void what it said before, on the disk too", () => {
    const bob = create("bob");
    const persisted = lastState(settle(bob, tell(bob, "alice", propose(5, "alice"))));
    const next = change("alice");
    for (const later of [create("bob", { layout: next, persisted }), bob]) {
      later.step({ type: "layout", layout: next });
      // Round 1 is free again.
      const effects = settle(later, tell(later, "alice", { type: "prepare", ballot: ballot(1, "alice") }, next));
      expect(sent(effects)).toMatchObject([{ type: "promise", accepted: undefined }]);
      expect(tell(later, "alice", { type: "prepare", ballot: ballot(9, "alice") })).toEqual([]);
      later.step({ type: "layout", layout: FIRST });
      expect(tell(later, "alice", { type: "prepare", ballot: ballot(9, "alice") })).toEqual([]);
    }
    // What waited for the disk is not said any more.
    const waiting = create("bob");
    tell(waiting, "alice", propose(1, "alice"));
    tell(waiting, "carol", propose(2, "carol"));
    waiting.step({ type: "layout", layout: next });
    expect(waiting.step({ type: "persisted", id: 1 })).toEqual([]);
    // Of two versions with one number, what was said about the one is nothing about the other.
    const other = create("bob", {
      layout: change("x"),
      persisted: lastState(tell(create("bob", { layout: next }), "alice", { type: "prepare", ballot: ballot(5, "alice") }, next)),
    });
    expect(inWords(settle(other, tell(other, "carol", { type: "prepare", ballot: ballot(1, "carol") }, change("x"))))).toEqual(["promise carol"]);
  });

  it("a restarted proposer begins above every ballot it used", () => {
    const alice = create("alice");
    want(alice, change("alice"));
    const persisted = lastState(alice.step({ type: "tick", now: 0, random: 0 }));
    const restarted = create("alice", { persisted });
    want(restarted, change("alice"));
    expect(sent(tick(restarted, 0), "prepare")[0]).toMatchObject({ ballot: ballot(2, "alice") });
  });

  it("does not start from a state that is not its own, or of a version that it cannot have voted on", () => {
    const row: unknown[] = [1, 2, layoutHash(FIRST), null, null];
    expect(() => create("bob", { persisted: encode(row) })).not.toThrow();
    for (const [wrong, code] of [
      [row.with(0, 2), "VERSION"],
      [row.with(1, 1), "MALFORMED"],
      [row.with(2, "hash"), "MALFORMED"],
      [row.with(3, []), "MALFORMED"],
      [[], "MALFORMED"],
      [row.with(1, 3), "INVARIANT"],
    ] as const)
      expect(() => create("bob", { persisted: encode(wrong) }), code).toThrowError(expect.objectContaining({ code }));
    expect(() => create("bob", { persisted: new Uint8Array(CONSENSUS_STATE_MAX_BYTES + 1) })).toThrowError(
      expect.objectContaining({ code: "TOO_LARGE" }),
    );
  });
});

describe("a ballot without a member that lost its disk", () => {
  it("is answered only with evidence, until the listed incarnation is seen again, and never by the member itself", () => {
    const prepare: Body = { type: "prepare", ballot: ballot(1, "alice", "carol") };
    const bob = create("bob");
    expect(tell(bob, "alice", prepare)).toEqual([]);
    showLoss(bob, "dave");
    bob.step({ type: "fresh", name: "carol", node: node("carol"), incarnation: incarnation("carol") });
    expect(tell(bob, "alice", prepare)).toEqual([]);
    showLoss(bob, "carol");
    expect(inWords(settle(bob, tell(bob, "alice", prepare)))).toEqual(["promise alice"]);
    bob.step({ type: "seen", name: "carol" });
    expect(tell(bob, "alice", prepare)).toEqual([]);
    expect(tell(bob, "alice", { type: "propose", ballot: ballot(1, "alice", "carol"), layout: relisting("carol"), reported: false })).toEqual([]);
    const carol = create("carol");
    showLoss(carol, "carol");
    expect(tell(carol, "alice", prepare)).toEqual([]);
    const other = create("bob");
    showLoss(other, "alice");
    expect(tell(other, "alice", { type: "prepare", ballot: ballot(1, "alice", "alice") })).toEqual([]);
  });

  it("may list exactly whom the evidence names, in exactly this member's place, and nothing else", () => {
    const bob = create("bob");
    showLoss(bob, "carol");
    const propose = (layout: Layout, reported = false): ConsensusEffect[] =>
      tell(bob, "alice", { type: "propose", ballot: ballot(1, "alice", "carol"), layout, reported });
    expect(propose(relisting("carol", 3))).toEqual([]);
    expect(propose(relisted(FIRST, "carol", { node: node("another"), incarnation: incarnation("carol", 2) }))).toEqual([]);
    showLoss(bob, "alice");
    expect(propose(relisting("alice"))).toEqual([]);
    expect(propose(change("alice"))).toEqual([]);
    expect(inWords(settle(bob, propose(relisting("carol"))))).toEqual(["yes alice"]);
  });

  it("finishes what it finds accepted first: a change, or a re-listing whose incarnation is lost as well by now", () => {
    for (const accepted of [change("bob"), relisting("carol", 2)]) {
      const bob = create("bob");
      showLoss(bob, "carol", 3);
      const effects = tell(bob, "alice", { type: "propose", ballot: ballot(1, "alice", "carol"), layout: accepted, reported: true });
      expect(inWords(settle(bob, effects))).toEqual(["yes alice"]);
      const alice = create("alice");
      showLoss(alice, "carol", 3);
      want(alice, relisting("carol", 3), "carol");
      tick(alice, 0);
      const promise: Body = { type: "promise", ballot: ballot(1, "alice", "carol"), accepted: { ballot: ballot(1, "Bob"), layout: accepted } };
      expect(sent(settle(alice, tell(alice, "bob", promise)), "propose")[0]).toMatchObject({ to: "bob", layout: accepted, reported: true });
    }
  });

  it("asks the others only, takes the place of an ordinary ballot at once, and ends when the listed incarnation is seen", () => {
    const alice = proposing();
    showLoss(alice, "carol");
    want(alice, relisting("carol"), "carol");
    expect(sent(tick(alice, 1))).toEqual([{ to: "bob", type: "prepare", ballot: ballot(2, "alice", "carol") }]);
    // The lost one's answers are late whatever they say.
    const promise: Body = { type: "promise", ballot: ballot(2, "alice", "carol"), accepted: undefined };
    expect(tell(alice, "carol", promise)).toEqual([]);
    alice.step({ type: "seen", name: "carol" });
    expect(settle(alice, tell(alice, "bob", promise))).toEqual([]);
    expect(tick(alice, 60_000)).toEqual([]);
  });

  it("is begun again when the disk is lost once more, and then proposes the newest incarnation", () => {
    const alice = proposing(relisting("carol"), "carol");
    showLoss(alice, "carol", 3);
    want(alice, relisting("carol", 3), "carol");
    expect(sent(tick(alice, 1))).toEqual([{ to: "bob", type: "prepare", ballot: ballot(2, "alice", "carol") }]);
    const effects = tell(alice, "bob", { type: "promise", ballot: ballot(2, "alice", "carol"), accepted: undefined });
    expect(sent(settle(alice, effects), "propose")[0]).toMatchObject({ layout: relisting("carol", 3), reported: false });
  });

  it("evidence ends with the version that lists another incarnation, and only that of this member", () => {
    const layout = firstOf(["alice", "bob", "carol", "dave"]);
    const bob = create("bob", { layout });
    showLoss(bob, "carol");
    showLoss(bob, "dave");
    const next = relisting("carol", 2, layout);
    bob.step({ type: "layout", layout: next });
    expect(tell(bob, "alice", { type: "prepare", ballot: ballot(1, "alice", "carol") }, next)).toEqual([]);
    expect(inWords(settle(bob, tell(bob, "alice", { type: "prepare", ballot: ballot(1, "alice", "dave") }, next)))).toEqual(["promise alice"]);
  });

  it("two of two: the other one decides alone", () => {
    const layout = firstOf(["alice", "bob"]);
    const alice = create("alice", { layout });
    showLoss(alice, "bob");
    want(alice, relisting("bob", 2, layout), "bob");
    expect(decided(tick(alice, 0))).toEqual([relisting("bob", 2, layout)]);
  });
});

describe("what stuck the weaker rules", () => {
  const each = (group: Group, names: readonly string[], layout: Layout): void => {
    for (const name of names) want(group.nodes.get(name)!, change(name, layout));
  };

  it("three members and three proposals", () => {
    const group = new Group(THREE, FIRST);
    // All ask before any answer arrives: each has promised itself.
    const asked = THREE.map((name) => {
      const consensus = group.nodes.get(name)!;
      want(consensus, change(name));
      consensus.step({ type: "tick", now: 0, random: 0 });
      return [name, settle(consensus, consensus.step({ type: "tick", now: 1_000, random: 0 }))] as const;
    });
    for (const [name, effects] of asked) group.perform(name, effects);
    group.run(60_000);
    expect(group.decisions).toHaveLength(1);
  });

  it("four members two against two, and each half connected to the other only afterwards", () => {
    const names = ["alice", "bob", "carol", "dave"];
    const layout = firstOf(names);
    const group = new Group(names, layout);
    each(group, names, layout);
    group.down.add("carol").add("dave");
    group.run(20_000);
    group.down.delete("carol");
    group.down.delete("dave");
    group.down.add("alice").add("bob");
    group.run(20_000);
    expect(group.decisions).toEqual([]);
    group.down.clear();
    group.run(120_000);
    expect(group.decisions).toHaveLength(1);
  });

  it("three members, two proposals, one down", () => {
    const group = new Group(THREE, FIRST);
    group.down.add("alice");
    each(group, ["bob", "carol"], FIRST);
    group.run(60_000);
    expect(group.decisions).toHaveLength(1);
  });

  it("two members, a third joining, one disk lost: the re-listing does not queue behind the change", () => {
    const two = firstOf(["alice", "bob"]);
    const layout = staged(two, ownersAfter(two, { op: "add", member: member("carol") })!, "c1");
    expect(votersOf(layout)).toHaveLength(3);
    const group = new Group(["alice", "carol"], layout);
    // Joint was on its way with bob, whose disk is lost after alice accepted.
    want(group.nodes.get("alice")!, joint(layout));
    group.down.add("carol");
    group.run(1_000);
    group.down.clear();
    const again = (version: Layout): void => {
      for (const name of ["alice", "carol"]) {
        showLoss(group.nodes.get(name)!, "bob");
        want(group.nodes.get(name)!, relisted(version, "bob", { node: node("bob"), incarnation: incarnation("bob", 2) }), "bob");
      }
    };
    again(layout);
    group.run(60_000);
    const last = group.decisions.at(-1)!;
    expect(votersOf(last).find(({ name }) => name === "bob")).toMatchObject({ incarnation: incarnation("bob", 2) });
    expect(["staged", "joint"]).toContain(last.phase);
  });
});

describe("quorums of one to five voters", () => {
  const subsets = (of: readonly number[], size: number): number[][] =>
    size === 0 ? [[]] : of.flatMap((one, index) => subsets(of.slice(index + 1), size - 1).map((rest) => [one, ...rest]));
  const meet = (a: readonly number[], b: readonly number[]): boolean => a.some((one) => b.includes(one));
  const voters = (count: number): number[] => Array.from({ length: count }, (_, index) => index);
  /** Every quorum of a ballot: of a normal one, or of one without x. */
  const quorums = (count: number, x?: number): number[][] =>
    subsets(
      voters(count).filter((one) => one !== x),
      votesNeeded(count, x !== undefined),
    );

  it.each([1, 2, 3, 4, 5])("of %d: any two share a voter, also without x, also without x and without y", (count) => {
    const normal = quorums(count);
    for (const a of normal) for (const b of normal) expect(meet(a, b)).toBe(true);
    for (const x of voters(count)) {
      for (const a of quorums(count, x)) {
        expect(a).not.toContain(x);
        for (const b of normal) expect(meet(a, b), `${a} without ${x}, ${b}`).toBe(true);
        for (const b of quorums(count, x)) expect(meet(a, b), `${a}, ${b} without ${x}`).toBe(true);
        for (const y of voters(count)) {
          if (y === x) continue;
          // y voted without x, and x without y: impossible in time, see below.
          for (const b of quorums(count, y))
            if (!(a.includes(y) && b.includes(x))) expect(meet(a, b), `${a} without ${x}, ${b} without ${y}`).toBe(true);
        }
      }
    }
    expect(quorums(count, 0)).toHaveLength(count === 1 ? 0 : subsets(voters(count - 1), votesNeeded(count, true)).length);
  });

  it("of two and of four, ballots without x and without y would not meet if anybody voted without evidence", () => {
    for (const [count, apart] of [
      [2, true],
      [3, false],
      [4, true],
      [5, false],
    ] as const)
      expect(quorums(count, 0).some((a) => quorums(count, 1).some((b) => !meet(a, b)))).toBe(apart);
  });

  it("x cannot have voted without y, and y without x, each after the other's loss and before its own", () => {
    const orders = (of: readonly string[]): string[][] =>
      of.length === 0 ? [[]] : of.flatMap((one) => orders(of.filter((other) => other !== one)).map((rest) => [one, ...rest]));
    const possible = orders(["x votes", "x lost", "y votes", "y lost"]).filter((order) => {
      const precedes = (a: string, b: string): boolean => order.indexOf(a) < order.indexOf(b);
      return precedes("x votes", "x lost") && precedes("y votes", "y lost") && precedes("x lost", "y votes") && precedes("y lost", "x votes");
    });
    expect(orders(["x votes", "x lost", "y votes", "y lost"])).toHaveLength(24);
    expect(possible).toEqual([]);
  });
});

describe("the messages", () => {
  const head = { version: 2, previous: layoutHash(FIRST) };
  const everyMessage: ConsensusMessage[] = [
    { type: "prepare", ...head, ballot: ballot(1, "alice") },
    { type: "prepare", ...head, ballot: ballot(1, "alice", "carol") },
    { type: "promise", ...head, ballot: ballot(2, "bob"), accepted: undefined },
    { type: "promise", ...head, ballot: ballot(2, "bob"), accepted: { ballot: ballot(1, "alice", "carol"), layout: change("alice") } },
    { type: "propose", ...head, ballot: ballot(1, "alice"), layout: change("alice"), reported: true },
    { type: "yes", ...head, ballot: ballot(CONSENSUS_ROUND_MAX, "alice") },
    { type: "nack", ...head, ballot: ballot(1, "alice") },
  ];

  it("come back as they were", () => {
    for (const message of everyMessage) expect(decodeConsensusMessage(encodeConsensusMessage(message))).toEqual(message);
  });

  it("are refused when cut short or changed into no message", () => {
    for (const message of everyMessage) {
      const bytes = encodeConsensusMessage(message);
      for (let length = 0; length < bytes.length; length++) {
        expect(() => decodeConsensusMessage(bytes.subarray(0, length))).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
      }
    }
    const row: unknown[] = [1, "alice", incarnation("alice"), ""];
    const yes: unknown[] = [4, 2, layoutHash(FIRST), row];
    const layout = encodeLayout(change("alice"));
    const other = encodeLayout(change("alice", firstOf(["alice", "bob"])));
    const wrong: unknown[] = [
      [],
      { 0: 4 },
      [0, ...yes.slice(1)],
      [6, ...yes.slice(1)],
      [...yes, 0],
      yes.slice(0, 3),
      yes.with(1, 1),
      yes.with(1, 2.5),
      yes.with(2, "A".repeat(64)),
      yes.with(2, 7),
      yes.with(3, null),
      yes.with(3, row.slice(0, 3)),
      yes.with(3, row.with(0, 0)),
      yes.with(3, row.with(0, CONSENSUS_ROUND_MAX + 1)),
      yes.with(3, row.with(1, "")),
      yes.with(3, row.with(2, "A".repeat(32))),
      yes.with(3, row.with(3, "a b")),
      yes.with(3, row.with(3, null)),
      yes.with(0, 1).concat([null]),
      yes.with(0, 2),
      yes.with(0, 2).concat([[row]]),
      yes.with(0, 2).concat([[row, other]]),
      yes.with(0, 3).concat([layout]),
      yes.with(0, 3).concat([layout, 1]),
      yes.with(0, 3).concat(["layout", true]),
      yes.with(0, 3).concat([other, true]),
      yes.with(0, 3).concat([encodeLayout(FIRST), true]),
    ];
    for (const value of wrong) {
      expect(() => decodeConsensusMessage(encode(value)), JSON.stringify(value)).toThrowError(
        expect.objectContaining({ name: "ProtocolError", code: "MALFORMED" }),
      );
    }
    expect(() => decodeConsensusMessage(new Uint8Array(CONSENSUS_MESSAGE_MAX_BYTES + 1))).toThrowError(
      expect.objectContaining({ code: "TOO_LARGE" }),
    );
  });

  it("never surprise with another kind of error, whatever the bytes", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.anything({ maxDepth: 3 }).map((value) => tryEncode(value)),
        ),
        (bytes) => {
          try {
            decodeConsensusMessage(bytes);
          } catch (error) {
            expect((error as Error).name).toBe("ProtocolError");
          }
          expect(bytes.length).toBeGreaterThanOrEqual(0);
        },
      ),
      { numRuns: 500 },
    );
  });

  it("order ballots by round, then name, then incarnation", () => {
    const ordered = [ballot(1, "alice"), ballot(1, "alice", "", 2), ballot(1, "bob", "alice"), ballot(2, "alice"), ballot(10, "alice")];
    for (const [i, a] of ordered.entries()) for (const [j, b] of ordered.entries()) expect(Math.sign(compareBallot(a, b))).toBe(Math.sign(i - j));
  });

  it("the largest layout fits into a message and a state", () => {
    const names = Array.from({ length: 256 }, (_, index) => `${String(index).padStart(3, "0")}${"n".repeat(60)}`);
    const long = { node: "n".repeat(125), zone: "z".repeat(63), weight: 10_000 };
    const fields = names.map((name, index) => ({
      ...long,
      name,
      node: `${long.node}${String(index).padStart(3, "0")}` as NodeId,
      incarnation: incarnation("a"),
    }));
    const layout = layoutOf({ ...FIRST, members: fields });
    const next = staged(layout, { members: fields.map((one) => ({ ...one, weight: 9_999 })), replicationFactor: 2 }, "c".repeat(64));
    const proposer = { round: CONSENSUS_ROUND_MAX, name: names[0]!, incarnation: incarnation("a"), without: names[1]! };
    const message: ConsensusMessage = {
      type: "promise",
      version: 2,
      previous: layoutHash(layout),
      ballot: proposer,
      accepted: { ballot: proposer, layout: next },
    };
    const bytes = encodeConsensusMessage(message);
    expect(decodeConsensusMessage(bytes)).toEqual(message);
    expect(bytes.length).toBeGreaterThan(150 * 1024);
    const self = layout.members[2]!;
    const voter = new Consensus({ self: self.writer, layout, persisted: undefined });
    voter.step({ type: "may vote", mayVote: true });
    const ordinary = { ...proposer, without: "" };
    const effects = voter.step({
      type: "message",
      from: layout.members[0]!.writer,
      message: { type: "propose", version: 2, previous: layoutHash(layout), ballot: ordinary, layout: next, reported: false },
    });
    expect(() => new Consensus({ self: self.writer, layout, persisted: lastState(effects) })).not.toThrow();
  });

  function tryEncode(value: unknown): Uint8Array {
    try {
      return encode(value);
    } catch {
      return new Uint8Array();
    }
  }
});
