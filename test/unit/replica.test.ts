import { describe, expect, it } from "vitest";
import type { Delta } from "../../protocol/delta.ts";
import type { Effect } from "../../protocol/effects.ts";
import type { FederationId, NodeId, WriterId } from "../../protocol/ids.ts";
import { partitionOf } from "../../protocol/layout.ts";
import { ANSWERS_KEPT_MS, DELTA_ENTRIES_MAX, INTERVAL_DELTAS_MAX } from "../../protocol/limits.ts";
import {
  alice,
  bob,
  carol,
  Home,
  headOf,
  held,
  LAYOUT,
  Mesh,
  nameOf,
  ofType,
  PARTITION,
  push,
  repair,
  sent,
  stream,
  TENANT,
  verified,
  WALL,
} from "./replica-world.ts";

const home = () => new Home(alice).connect(bob, carol);
/** alice's own deltas so far. */
const own = (of: Home) => of.state.staged.flatMap((batch) => (batch.type === "delta" ? [batch.delta] : []));

describe("the roles in a group", () => {
  it("are what the layout says: two full replicas and a witness", () => {
    expect([alice, bob, carol].map((member) => new Home(member).replica.role(PARTITION))).toEqual(["replica", "replica", "witness"]);
  });

  it("let nobody but a full replica number a write or answer a read", () => {
    const witness = new Home(carol).connect(alice, bob);
    expect(witness.propose({ request: 1 })).toMatchObject([{ type: "refuse", request: 1, code: "not_replica" }]);
    for (const level of ["quorum", "all"] as const) {
      const read = { request: 2, partition: PARTITION, level, deadline: 1000 };
      expect(witness.replica.read(read, 0)).toMatchObject([{ type: "refuse", request: 2, code: "not_replica" }]);
    }
    expect(witness.stagedDeltas).toEqual([]);
  });
});

describe("a write", () => {
  it("is neither pushed nor answered before it is persisted, then pushed to the whole group (P1)", () => {
    const at = home();
    expect(at.propose({ level: "one" })).toEqual([]);
    const effects = at.flush();
    expect(ofType(effects, "push")).toMatchObject([{ to: expect.arrayContaining([bob.node, carol.node]), deltas: own(at) }]);
    expect(ofType(effects, "done")).toMatchObject([{ request: 1, done: { level: "one", tally: { replicas: 1, witnesses: 0 }, answer: "answer 1" } }]);
  });

  it("does not count this node before its own fsync", () => {
    const at = home();
    at.propose({ level: "quorum" });
    expect(ofType(at.hear(bob, held(own(at)[0]!)), "done")).toEqual([]);
    expect(ofType(at.flush(), "done")).toMatchObject([{ done: { tally: { replicas: 2, witnesses: 0 } } }]);
  });

  it("at quorum is answered by one full replica and the witness, or by two full replicas", () => {
    for (const [other, tally] of [
      [bob, { replicas: 2, witnesses: 0 }],
      [carol, { replicas: 1, witnesses: 1 }],
    ] as const) {
      const at = home();
      at.propose({ level: "quorum" });
      expect(ofType(at.flush(), "done")).toEqual([]);
      expect(ofType(at.hear(other, held(own(at)[0]!)), "done")).toMatchObject([{ request: 1, done: { level: "quorum", tally } }]);
    }
  });

  it("at all waits for every full replica; a witness does not stand in for one", () => {
    const at = home();
    at.propose({ level: "all" });
    at.flush();
    expect(ofType(at.hear(carol, held(own(at)[0]!)), "done")).toEqual([]);
    expect(ofType(at.hear(bob, held(own(at)[0]!)), "done")).toMatchObject([{ done: { tally: { replicas: 2, witnesses: 1 } } }]);
  });

  it("is acknowledged for everything below a head: acknowledgements are cumulative", () => {
    const at = home();
    for (let index = 0; index < 3; index++) at.propose();
    at.flush();
    const done = ofType(at.hear(bob, held(own(at)[1]!)), "done");
    expect(done.map(({ request }) => request)).toEqual([1, 2]);
    expect(ofType(at.hear(bob, held(own(at)[2]!)), "done").map(({ request }) => request)).toEqual([3]);
  });

  it("says which stream its answer rests on, for the frontier token", () => {
    const at = home();
    at.propose({ level: "one" });
    expect(ofType(at.flush(), "done")[0]!.done.frontier).toEqual([[alice.writer, 1]]);
  });

  it("is refused with no_quorum before a number or clock value is spent (P4)", () => {
    const at = new Home(alice);
    expect(at.propose({ level: "quorum" })).toMatchObject([{ type: "refuse", code: "no_quorum" }]);
    expect(at.connect(carol).propose({ level: "all" })).toMatchObject([{ type: "refuse", code: "no_quorum" }]);
    expect([at.stagedDeltas, at.replica.highWater]).toEqual([[], [0, 0]]);
    at.propose({ level: "quorum" });
    expect(at.stagedDeltas).toEqual(["alice/1"]);
  });

  it("at one needs nobody else", () => {
    const at = new Home(alice);
    at.propose({ level: "one" });
    expect(ofType(at.flush(), "done")).toHaveLength(1);
  });

  it("is in doubt at its deadline, by name, and never called failed", () => {
    const at = home();
    at.propose({ deadline: 500 });
    at.flush();
    expect(at.replica.tick(499, WALL)).toEqual([]);
    const refused = ofType(at.replica.tick(500, WALL), "refuse");
    expect(refused).toMatchObject([{ request: 1, code: "in_doubt", detail: expect.stringContaining(`${alice.writer}/${PARTITION}/1`) }]);
    expect(refused[0]!.detail).not.toMatch(/fail/i);
    expect(ofType(at.hear(bob, held(own(at)[0]!)), "done")).toEqual([]);
  });

  it("too large for one delta is refused before a number is spent", () => {
    const at = home();
    const contributions = Array.from({ length: DELTA_ENTRIES_MAX + 1 }, (_, index) => ({ op: "concept" as const, id: `${index}`, mass: 1 }));
    expect(at.propose({ contributions })).toMatchObject([{ type: "refuse", code: "too_large" }]);
    expect(at.stagedDeltas).toEqual([]);
  });

  it("stands on what is staged but not flushed: totals and chain go on", () => {
    const at = home();
    at.propose();
    at.propose();
    const [first, second] = own(at);
    expect(second!.header).toMatchObject({ seq: 2, previous: first!.hash });
    expect(second!.body.entries).toMatchObject([{ mass: 1, total: 2 }]);
    expect(ofType(at.flush(), "push")).toMatchObject([{ deltas: [first, second] }]);
  });

  it("never pushes more deltas in one message than a message may carry", () => {
    const at = home();
    for (let index = 0; index <= INTERVAL_DELTAS_MAX; index++) at.propose();
    expect(ofType(at.flush(), "push").map(({ deltas }) => deltas.length)).toEqual([INTERVAL_DELTAS_MAX, 1]);
  });

  it("has a later clock value than everything this node has numbered or accepted (P4)", () => {
    const at = new Home(alice, { highWater: [WALL + 1000, 7] }).connect(bob, carol);
    at.propose();
    expect(own(at)[0]!.header.hlc).toEqual([WALL + 1000, 8]);
    const [ofBob] = stream(bob, 1);
    const other = home();
    other.hear(bob, push(ofBob!));
    other.propose();
    expect(own(other)[1]!.header.hlc).toEqual([WALL, 2]);
  });
});

describe("a repeated key (P5)", () => {
  it("answers with the result of its first execution, at the level asked, and writes nothing", () => {
    const at = home();
    at.propose({ key: "k", level: "one" });
    at.flush();
    at.propose({ request: 2, key: "k", level: "quorum", answer: "another" });
    expect(own(at)).toHaveLength(1);
    expect(ofType(at.hear(carol, held(own(at)[0]!)), "done")).toMatchObject([{ request: 2, done: { level: "quorum", answer: "answer 1" } }]);
  });

  it("is not answered from what is staged and could still be lost", () => {
    const at = home();
    at.propose({ key: "k", level: "one" });
    expect(ofType(at.propose({ request: 2, key: "k", level: "one" }), "done")).toEqual([]);
    expect(ofType(at.flush(), "done").map(({ request }) => request)).toEqual([1, 2]);
  });

  it("answers at once when the level is met already, and after a write in doubt it asks the others what they hold", () => {
    const at = home();
    at.propose({ key: "k", deadline: 10 });
    at.flush();
    at.replica.tick(10, WALL);
    const again = at.propose({ request: 2, key: "k" });
    expect(
      sent(again, "ask")
        .map(({ to }) => to)
        .sort(),
    ).toEqual(["bob", "carol"]);
    const { id } = sent(again, "ask")[0]!.message;
    const told = at.hear(bob, { type: "told", id, partition: PARTITION, heads: [headOf(own(at)[0]!)] });
    expect(ofType(told, "done")).toMatchObject([{ request: 2, done: { answer: "answer 1" } }]);
    expect(ofType(at.propose({ request: 3, key: "k" }), "done")).toMatchObject([{ request: 3, done: { answer: "answer 1" } }]);
  });

  it("that another member executed is answered with that member's result", () => {
    const at = home();
    at.hear(bob, push(...stream(bob, 1, "", "k")));
    at.flush();
    at.propose({ request: 9, key: "k", answer: "another" });
    expect(at.stagedDeltas).toEqual(["bob/1"]);
    expect(ofType(at.propose({ request: 10, key: "k" }), "done")).toMatchObject([{ request: 10, done: { answer: "of bob" } }]);
  });

  it("gets that answer for ANSWERS_KEPT_MS; afterwards it is refused, and still counts once, for ever", () => {
    const at = home();
    at.propose({ key: "k", level: "one" });
    at.flush();
    const [{ header }] = own(at) as [Delta];
    const retry = (request: number, ms: number): Effect[] => at.propose({ request, key: "k", level: "one", wall: header.hlc[0] + ms });
    expect(ofType(retry(2, ANSWERS_KEPT_MS), "done")).toMatchObject([{ request: 2, done: { answer: "answer 1" } }]);
    for (const ms of [ANSWERS_KEPT_MS + 1, 1000 * ANSWERS_KEPT_MS])
      expect(retry(3, ms)).toMatchObject([{ type: "refuse", request: 3, code: "idempotency_key_expired" }]);
    // What is worse stays worse: the key of another request.
    const other = at.propose({ request: 4, key: "k", fingerprint: "g", wall: header.hlc[0] + 1000 * ANSWERS_KEPT_MS });
    expect(other).toMatchObject([{ type: "refuse", request: 4, code: "idempotency_key_reused" }]);
    expect(own(at)).toHaveLength(1);
    expect(at.state.executions(PARTITION, header.key)).toHaveLength(1);
    // A clock that is behind, or the other's that was ahead, is no reason.
    expect(ofType(retry(5, -ANSWERS_KEPT_MS), "done")).toHaveLength(1);
  });

  it("used for another request is refused", () => {
    const at = home();
    at.propose({ key: "k" });
    expect(at.propose({ request: 2, key: "k", fingerprint: "g" })).toMatchObject([{ type: "refuse", request: 2, code: "idempotency_key_reused" }]);
    expect(own(at)).toHaveLength(1);
  });
});

describe("a delta from its writer", () => {
  it("is acknowledged only after it is persisted, and to the whole group (P1)", () => {
    const at = home();
    const [delta] = stream(bob, 1);
    expect(sent(at.hear(bob, push(delta!)), "held")).toEqual([]);
    expect(at.stagedDeltas).toEqual(["bob/1"]);
    const reports = sent(at.flush(), "held");
    expect(reports.map(({ to }) => to).sort()).toEqual(["bob", "carol"]);
    expect(reports[0]!.message.heads).toEqual([headOf(delta!)]);
  });

  it("that leaves a gap is neither stored nor acknowledged, but the interval is asked for", () => {
    const at = home();
    const [first, second, third] = stream(bob, 3) as [never, never, never];
    const effects = at.hear(bob, push(third));
    expect(at.stagedDeltas).toEqual([]);
    expect(ofType(effects, "note")).toEqual([]);
    expect(sent(effects, "want")).toMatchObject([{ to: "bob", message: { partition: PARTITION, writer: bob.writer, from: 1, to: 3 } }]);
    expect(sent(at.flush(), "held")).toEqual([]);
    at.hear(bob, repair(bob, 3, first, second, third));
    expect(at.stagedDeltas).toEqual(["bob/1", "bob/2", "bob/3"]);
    expect(sent(at.flush(), "held")[0]!.message.heads).toEqual([headOf(third)]);
    expect(at.replica.lacking()).toEqual([]);
  });

  it("that is here already is acknowledged again: the first acknowledgement may have been lost", () => {
    const at = home();
    const deltas = stream(bob, 2);
    at.hear(bob, push(...deltas));
    expect(sent(at.hear(bob, push(deltas[0]!)), "held")).toEqual([]);
    at.flush();
    expect(sent(at.hear(bob, push(deltas[0]!)), "held")).toMatchObject([{ to: "bob", message: { heads: [headOf(deltas[1]!)] } }]);
    expect(at.stagedDeltas).toEqual(["bob/1", "bob/2"]);
  });

  it("is ignored when somebody else pushes it, and taken from the same one as repair", () => {
    const at = home();
    const [delta] = stream(bob, 1);
    at.hear(carol, push(delta!));
    expect(at.stagedDeltas).toEqual([]);
    at.hear(carol, repair(bob, 1, delta!));
    expect(at.stagedDeltas).toEqual(["bob/1"]);
  });

  it("of a partition whose group this node is not in is ignored", () => {
    const at = home();
    const elsewhere = LAYOUT.members.find((member) => new Home(member).replica.role(PARTITION) === undefined);
    expect(elsewhere).toBeUndefined();
    const stranger = new Home({ ...alice, writer: "x".repeat(22) as WriterId }).connect(bob, carol);
    stranger.hear(bob, push(...stream(bob, 1)));
    expect([stranger.stagedDeltas, at.stagedDeltas]).toEqual([[], []]);
  });

  it("is kept sealed by a witness, with the envelope it came in, and acknowledged as a mark", () => {
    const at = new Home(carol).connect(alice, bob);
    const [delta] = stream(bob, 1);
    const message = verified(bob, push(delta!));
    at.replica.receive(message, 0, WALL);
    expect(at.state.staged).toMatchObject([{ type: "sealed", envelope: message.deltas[0]!.envelope }]);
    expect(at.state.records.size).toBe(0);
    expect(
      sent(at.flush(), "held")
        .map(({ to }) => to)
        .sort(),
    ).toEqual(["alice", "bob"]);
  });
});

describe("whose word counts", () => {
  const waiting = () => {
    const at = home();
    at.propose();
    at.flush();
    return { at, ack: held(own(at)[0]!) };
  };

  it("is that of a connected listed member under this layout, once", () => {
    const { at, ack } = waiting();
    expect(ofType(at.hear(bob, ack), "done")).toHaveLength(1);
    expect(ofType(at.hear(bob, ack), "done")).toEqual([]);
  });

  it.each([
    ["a newer layout version", { layoutVersion: 2 }],
    ["another federation", { federation: "ab".repeat(16) as FederationId }],
    ["another incarnation of the node", { writer: "another-incarnation-of-bob" as WriterId }],
  ])("is not that of %s", (_what, forged) => {
    const { at, ack } = waiting();
    expect(at.hear(bob, ack, forged)).toEqual([]);
    expect(at.replica.heldBy(bob.writer, PARTITION, alice.writer)).toBe(0);
    expect(ofType(at.hear(bob, ack), "done")).toHaveLength(1);
  });

  it("is not that of an older layout version, which is told ours instead", () => {
    const { at, ack } = waiting();
    expect(at.hear(bob, ack, { layoutVersion: 0 })).toEqual([{ type: "behind", peer: bob.node }]);
    expect(at.replica.heldBy(bob.writer, PARTITION, alice.writer)).toBe(0);
    expect(ofType(at.hear(bob, ack), "done")).toHaveLength(1);
  });

  it("is not that of a node that no layout lists, nor is it told anything", () => {
    const { at, ack } = waiting();
    const mallory = { ...bob, node: "node-of-mallory" as NodeId, writer: "writer-of-mallory-00000" as WriterId };
    expect(at.replica.peer(mallory.node, mallory.writer, 0)).toEqual([]);
    expect(at.hear(mallory, ack)).toEqual([]);
    expect(at.hear(mallory, push(...stream(bob, 1)))).toEqual([]);
    expect(at.stagedDeltas).toEqual(["alice/1"]);
    expect(at.replica.connectedMembers()).not.toContain(mallory.node);
  });

  it("is not that of a listed node with an incarnation that is not listed: a lost disk counts for nothing", () => {
    const at = new Home(alice).connect(carol);
    const reborn = { ...bob, writer: "bob-after-his-disk-loss" as WriterId };
    expect(at.replica.peer(reborn.node, reborn.writer, 0)).toEqual([]);
    at.propose({ level: "all" });
    expect(at.hear(reborn, held(...stream(alice, 1)))).toEqual([]);
    expect(at.stagedDeltas).toEqual([]);
  });

  it("is not that of a member that is no longer connected", () => {
    const { at, ack } = waiting();
    at.replica.peer(bob.node, undefined, 0);
    expect(at.hear(bob, ack)).toEqual([]);
  });
});

describe("two histories of one stream", () => {
  it("are noted when a delta does not follow what is held, and it is not stored", () => {
    const at = home();
    at.hear(bob, push(...stream(bob, 1)));
    const effects = at.hear(bob, push(stream(bob, 2, "-other-branch")[1]!));
    expect(ofType(effects, "note")).toMatchObject([{ level: "error", facts: { writer: bob.writer, seq: 2 } }]);
    expect(at.stagedDeltas).toEqual(["bob/1"]);
  });

  it("are noted when a delta of the same number is another one", () => {
    const at = home();
    at.hear(bob, push(...stream(bob, 1)));
    expect(ofType(at.hear(bob, push(...stream(bob, 1, "-other-branch"))), "note").length).toBeGreaterThan(0);
    expect(ofType(at.hear(bob, push(...stream(bob, 1))), "note")).toEqual([]);
  });

  it("are noted when another member's head at the same number has another hash", () => {
    const at = home();
    at.hear(bob, push(...stream(bob, 1)));
    expect(ofType(at.hear(carol, held(...stream(bob, 1))), "note")).toEqual([]);
    expect(ofType(at.hear(carol, held(...stream(bob, 1, "-other-branch"))), "note")).toMatchObject([
      { level: "error", facts: { member: carol.writer } },
    ]);
  });
});

describe("a witness", () => {
  const forgets = (at: Home) => at.state.staged.filter((batch) => batch.type === "forget" || batch.type === "mark");
  const deltas = stream(alice, 3);

  it("forgets sealed deltas only when every full replica has reported them", () => {
    const at = new Home(carol).connect(alice, bob);
    at.hear(alice, push(...deltas));
    at.flush();
    at.hear(alice, held(deltas[2]!));
    expect(forgets(at)).toEqual([]);
    at.hear(bob, held(deltas[1]!));
    expect(forgets(at)).toEqual([{ type: "forget", partition: PARTITION, writer: alice.writer, seq: 2 }]);
    at.hear(bob, held(deltas[1]!));
    expect(forgets(at)).toHaveLength(1);
    at.hear(bob, held(deltas[2]!));
    expect(forgets(at)).toHaveLength(2);
  });

  it("raises a mark without the bytes only on the same condition, and reports it after fsync", () => {
    const at = new Home(carol).connect(alice, bob);
    at.hear(alice, held(deltas[2]!));
    expect(forgets(at)).toEqual([]);
    at.hear(bob, held(deltas[1]!));
    expect(forgets(at)).toContainEqual({ type: "mark", head: headOf(deltas[1]!) });
    expect(at.replica.ownHeads(PARTITION)).toEqual([]);
    expect(sent(at.flush(), "held")[0]!.message.heads).toEqual([headOf(deltas[1]!)]);
    at.hear(alice, push(deltas[2]!));
    expect(at.stagedDeltas).toEqual(["alice/3"]);
  });
});

describe("what a member is asked", () => {
  it("an interval: serves what is durable, from its log, at most one message of it", () => {
    const at = home();
    for (let index = 0; index < INTERVAL_DELTAS_MAX + 10; index++) at.propose();
    const want = (from: number, to: number) =>
      ofType(at.hear(bob, { type: "want", partition: PARTITION, writer: alice.writer, from, to }), "serve")[0];
    expect(want(1, 5)).toMatchObject({ to_seq: 0, sealed: false });
    at.flush();
    expect(want(1, 5)).toMatchObject({ from: 1, to_seq: 5 });
    expect(want(2, 1_000_000)).toMatchObject({ from: 2, to_seq: INTERVAL_DELTAS_MAX + 1 });
    expect(want(INTERVAL_DELTAS_MAX, 1_000_000)).toMatchObject({ to_seq: INTERVAL_DELTAS_MAX + 10 });
  });

  it("an interval of a witness: serves what it keeps sealed", () => {
    const at = new Home(carol).connect(alice, bob);
    at.hear(alice, push(...stream(alice, 2)));
    at.flush();
    expect(ofType(at.hear(bob, { type: "want", partition: PARTITION, writer: alice.writer, from: 1, to: 2 }), "serve")).toMatchObject([
      { sealed: true, to_seq: 2 },
    ]);
  });

  it("what it holds: tells durable heads only, and takes the asker's frontier for a report", () => {
    const at = home();
    at.propose();
    const ask = { type: "ask", id: 5, partition: PARTITION, frontier: [[bob.writer, 3]] } as const;
    expect(sent(at.hear(bob, ask), "told")).toMatchObject([{ to: "bob", message: { id: 5, heads: [] } }]);
    expect(at.replica.heldBy(bob.writer, PARTITION, bob.writer)).toBe(3);
    at.flush();
    expect(sent(at.hear(bob, ask), "told")[0]!.message.heads).toEqual([headOf(own(at)[0]!)]);
  });

  it("what it holds: the frontier of an asker that is its witness is no mark", () => {
    const at = home();
    const ask = { type: "ask", id: 5, partition: PARTITION, frontier: [[bob.writer, 3]] } as const;
    expect(sent(at.hear(carol, ask), "told")).toMatchObject([{ to: "carol", message: { id: 5 } }]);
    expect(at.replica.heldBy(carol.writer, PARTITION, bob.writer)).toBe(0);
    expect(at.replica.lacking()).toMatchObject([{ writer: bob.writer, known: 3 }]);
  });

  it("nothing of a partition that it is not in", () => {
    const stranger = new Home({ ...alice, writer: "x".repeat(22) as WriterId }).connect(bob, carol);
    expect(stranger.hear(bob, { type: "ask", id: 5, partition: PARTITION, frontier: [] })).toEqual([]);
    expect(stranger.hear(bob, { type: "want", partition: PARTITION, writer: bob.writer, from: 1, to: 2 })).toEqual([]);
  });
});

describe("what a lost message leaves different", () => {
  it("is found by the digest: silence when all is known, all heads when it differs", () => {
    const at = home();
    at.propose();
    at.flush();
    const other = new Home(bob).connect(alice, carol);
    const digest = sent(at.replica.compareWith(bob.node, 0), "digest")[0]!.message;
    const answer = sent(other.hear(alice, digest), "digest")[0]!.message;
    expect(answer.reply).toBe(true);
    const heads = sent(at.hear(bob, answer), "held")[0]!.message;
    expect(sent(other.hear(alice, heads), "want")).toMatchObject([{ to: "alice", message: { from: 1, to: 1 } }]);
    expect(other.hear(alice, digest)).toEqual([]);
  });

  it("is told on connecting: all heads of what both hold", () => {
    const at = home();
    at.propose();
    at.flush();
    expect(sent(at.replica.peer(bob.node, bob.writer, 0), "held")).toMatchObject([{ to: "bob", message: { heads: [headOf(own(at)[0]!)] } }]);
  });

  it("is asked for from whoever connects and has it", () => {
    const at = new Home(alice).connect(carol);
    const deltas = stream(bob, 2);
    at.hear(carol, held(deltas[1]!));
    expect(at.replica.lacking()).toMatchObject([{ writer: bob.writer, known: 2 }]);
    at.replica.peer(carol.node, undefined, 0);
    expect(sent(at.replica.peer(carol.node, carol.writer, 1), "want")).toMatchObject([{ to: "carol", message: { from: 1, to: 2 } }]);
  });
});

describe("a frontier token", () => {
  it("is held once its streams are durable here; what is missing is asked for", () => {
    const at = home();
    const deltas = stream(bob, 2);
    const token = new Map([[bob.writer, 2]]);
    at.hear(bob, push(deltas[0]!));
    at.hear(bob, held(deltas[1]!));
    expect(at.replica.holds(PARTITION, token, 0).held).toBe(false);
    at.hear(bob, repair(bob, 2, deltas[1]!));
    expect(at.replica.holds(PARTITION, token, 0).held).toBe(false);
    at.flush();
    expect(at.replica.holds(PARTITION, token, 0)).toEqual({ held: true, effects: [] });
  });
});

describe("three members together", () => {
  it("come to one graph and one frontier, the witness to the same marks and no sealed delta", () => {
    const homes = [alice, bob, carol].map((member) => new Home(member));
    const mesh = new Mesh(homes);
    for (let round = 0; round < 5; round++) for (const at of homes.slice(0, 2)) mesh.do(at, at.propose({ key: `${at.member.name}-${round}` }));
    mesh.settle();
    const [one, two, witness] = homes as [Home, Home, Home];
    expect(one.state.bytes()).toEqual(two.state.bytes());
    expect(one.state.record(TENANT, "concept", "tide")?.occurrences.totals).toMatchObject({ [alice.writer]: { mass: 5 }, [bob.writer]: { mass: 5 } });
    const heads = homes.map(({ replica }) =>
      replica
        .ownHeads(partitionOf(TENANT))
        .map(({ writer, seq, hash }) => `${writer}/${seq}/${hash}`)
        .sort(),
    );
    expect(heads[1]).toEqual(heads[0]);
    expect(heads[2]).toEqual(heads[0]);
    const forgotten = witness.state.staged.flatMap((batch) => (batch.type === "forget" ? [batch.seq] : []));
    expect(Math.max(...forgotten)).toBe(5);
    expect(mesh.seen.filter(({ effect }) => effect.type === "done")).toHaveLength(10);
    expect(mesh.seen.filter(({ effect }) => effect.type !== "done")).toEqual([]);
  });

  it("count once a request that two of them executed", () => {
    const homes = [alice, bob, carol].map((member) => new Home(member));
    const [one, two] = homes as [Home, Home, Home];
    const mesh = new Mesh(homes);
    mesh.do(one, one.propose({ key: "k" }));
    mesh.do(two, two.propose({ key: "k" }));
    mesh.settle();
    expect(one.stagedDeltas.sort()).toEqual(["alice/1", "bob/1"]);
    expect(one.state.bytes()).toEqual(two.state.bytes());
    expect(one.state.record(TENANT, "concept", "tide")?.occurrences.repeats).not.toEqual({});
  });

  it("bring back one that was away", () => {
    const away = new Home(bob);
    const one = new Home(alice).connect(carol);
    const witness = new Home(carol).connect(alice);
    for (let index = 0; index < 3; index++) one.propose();
    witness.hear(alice, push(...own(one)));
    one.flush();
    witness.flush();
    const mesh = new Mesh([one, away, witness]);
    mesh.settle();
    expect(away.stagedDeltas).toEqual(own(one).map(nameOf));
    expect(away.state.bytes()).toEqual(one.state.bytes());
  });
});
