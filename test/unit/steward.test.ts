import { describe, expect, it } from "vitest";
import type { FederationId, Incarnation, NodeId } from "../../protocol/ids.ts";
import { type Layout, layoutOf, memberOf, votersOf } from "../../protocol/layout.ts";
import { type Change, done, joint, ownersAfter, recovered, relisted, staged, stepBetween, stopped } from "../../protocol/layout-change.ts";
import { LAYOUT_CHANGE_ID_MAX_CHARS } from "../../protocol/limits.ts";
import { type Facts, type Queued, type StewardStep, stewardStep } from "../../protocol/steward.ts";

const member = (name: string, incarnation = "0a") =>
  memberOf({ node: `node-of-${name}` as NodeId, name, incarnation: incarnation.repeat(16) as Incarnation, zone: "", weight: 1 });
const first = layoutOf({
  version: 1,
  federation: "fe".repeat(16) as FederationId,
  replicationFactor: 2,
  resonanceDecay: 0.85,
  hebbianRate: 0.15,
  periodMs: 1000,
  members: ["alice", "bob", "carol"].map((name) => member(name)),
});
const addDave: Change = { op: "add", member: member("dave") };
const change = (id: string, of: Change = addDave): Queued => ({ id, change: of });
const stop = (id: string): Queued => ({ id, change: { op: "stop" } });
const stage = (layout: Layout, of: Change, id = "c1"): Layout => staged(layout, ownersAfter(layout, of)!, id);
const adding = stage(first, addDave);
const both = joint(adding);
const fresh = { name: "bob", node: "node-of-bob" as NodeId, incarnation: "0b".repeat(16) as Incarnation };

function step(facts: Partial<Facts>): StewardStep | undefined {
  const { writer } = member("alice");
  return stewardStep({
    layout: first,
    self: writer,
    leads: true,
    queue: [],
    copied: false,
    transferred: false,
    revoked: new Set(),
    fresh: undefined,
    ...facts,
  });
}
/** The proposed version in words, and that voters would accept it as a step. */
function proposed(facts: Partial<Facts>): string | undefined {
  const next = step(facts);
  if (next === undefined || !("propose" in next)) return undefined;
  const between = stepBetween(facts.layout ?? first, next.propose);
  expect(between?.without).toBe(next.without);
  return `${between?.step}${next.without === "" ? "" : ` without ${next.without}`}`;
}

describe("the steward of the layout", () => {
  it("wishes nothing while nothing is asked for", () => {
    for (const layout of [first, done(both), stopped(adding)]) expect(step({ layout, copied: true, transferred: true })).toBeUndefined();
  });

  it("stages the first of the queue, and its id is in the version", () => {
    const next = step({ queue: [change("c7"), change("c8", { op: "remove", name: "carol", drain: true })] });
    expect(next).toEqual({ propose: stage(first, addDave, "c7"), without: "" });
  });

  it("goes on to joint once all is copied, and to done once all is handed over, whatever else is queued", () => {
    const queue = [change("c1"), change("c2", { op: "remove", name: "carol", drain: true })];
    expect(step({ layout: adding, queue, copied: false, transferred: true })).toBeUndefined();
    expect(proposed({ layout: adding, queue, copied: true })).toBe("joint");
    expect(step({ layout: both, queue, copied: true, transferred: false })).toBeUndefined();
    expect(proposed({ layout: both, queue, transferred: true })).toBe("done");
    // Also when the queue has forgotten what is under way.
    expect(proposed({ layout: adding, queue: [], copied: true })).toBe("joint");
  });

  it("lets nobody join who is revoked: not from the queue, and not while it joins", () => {
    const revoked = new Set(["node-of-dave" as NodeId]);
    const second = change("c2", { op: "remove", name: "carol", drain: true });
    expect(step({ queue: [change("c1"), second], revoked })).toEqual({ finish: "c1", outcome: "refused", reason: "the node is revoked" });
    for (const layout of [adding, both]) {
      expect(proposed({ layout, queue: [change("c1"), second], copied: true, transferred: true, revoked })).toBe("stopped");
      expect(proposed({ layout, queue: [change("c1"), second], copied: true, transferred: true })).not.toBe("stopped");
    }
    expect(step({ layout: stopped(adding), queue: [change("c1"), second], revoked })).toMatchObject({ finish: "c1", outcome: "stopped" });
  });

  it("takes a revoked member out before anything else, and gives up what would wait for it", () => {
    const revoked = new Set(["node-of-carol" as NodeId]);
    const weight = change("c2", { op: "weight", name: "bob", weight: 2 });
    const out = change("c3", { op: "remove", name: "carol", drain: true });
    expect(step({ queue: [weight, out], revoked })).toMatchObject({ propose: { change: "c3", phase: "staged" } });
    expect(step({ queue: [weight, out] })).toMatchObject({ propose: { change: "c2" } });
    for (const layout of [adding, both]) {
      expect(proposed({ layout, queue: [change("c1"), weight, out], copied: true, transferred: true, revoked })).toBe("stopped");
      // Nobody has asked for it to be taken out: it counts like one that is down.
      expect(proposed({ layout, queue: [change("c1"), weight], copied: true, transferred: true, revoked })).not.toBe("stopped");
    }
    // The change that was given up is told so before the removal begins; that one goes on to its end.
    expect(step({ layout: stopped(adding), queue: [change("c1"), out], revoked })).toMatchObject({ finish: "c1", outcome: "stopped" });
    const leaving = stage(first, { op: "remove", name: "carol", drain: true }, "c3");
    expect(proposed({ layout: leaving, queue: [out], copied: true, revoked })).toBe("joint");
  });

  it("finishes the change that is done, and only then stages the next", () => {
    const second = change("c2", { op: "remove", name: "carol", drain: true });
    const layout = done(both);
    expect(step({ layout, queue: [change("c1"), second] })).toMatchObject({ finish: "c1", outcome: "done" });
    expect(proposed({ layout, queue: [second] })).toBe("staged");
    expect(step({ layout, queue: [second] })).toMatchObject({ propose: { change: "c2", version: 5 } });
  });

  it("knows that a change is done also when who came by it was listed again since", () => {
    const layout = relisted(done(both), "dave", { node: "node-of-dave" as NodeId, incarnation: "0d".repeat(16) as Incarnation });
    expect(step({ layout, queue: [change("c1")] })).toMatchObject({ finish: "c1", outcome: "done" });
  });

  it("finishes what is so already, and what cannot be, with the reason, and goes on", () => {
    expect(step({ queue: [change("c1", { op: "weight", name: "bob", weight: 1 })] })).toMatchObject({ finish: "c1", outcome: "nothing to do" });
    expect(step({ queue: [change("c1", { op: "weight", name: "nobody", weight: 2 })] })).toEqual({
      finish: "c1",
      outcome: "refused",
      reason: "no member is called nobody",
    });
    expect(step({ queue: [change("c1", { op: "replication-factor", replicationFactor: 0 })] })).toMatchObject({ finish: "c1", outcome: "refused" });
    expect(step({ queue: [change("c".repeat(LAYOUT_CHANGE_ID_MAX_CHARS + 1))] })).toMatchObject({ outcome: "refused" });
  });

  it("does not take another fault for a refusal", () => {
    const broken = { op: "add", get member(): never { throw new RangeError("not a member"); } } as unknown as Change; // biome-ignore format: one line is one broken change
    expect(() => step({ queue: [change("c1", broken)] })).toThrowError(RangeError);
  });

  it("gives up a staged or joint version when a stop is queued, copied or not, and then finishes the stop and what it stopped", () => {
    const queue = [change("c1"), change("c2", { op: "remove", name: "carol", drain: true }), stop("s1")];
    expect(proposed({ layout: adding, queue, copied: true })).toBe("stopped");
    expect(proposed({ layout: both, queue, transferred: true })).toBe("stopped");
    for (const layout of [stopped(adding), stopped(both)]) {
      expect(step({ layout, queue })).toEqual({ finish: "s1", outcome: "done", reason: "stopped c1" });
      expect(step({ layout, queue: queue.slice(0, 2) })).toMatchObject({ finish: "c1", outcome: "stopped" });
      expect(proposed({ layout, queue: queue.slice(1, 2) })).toBe("staged");
    }
  });

  it("finishes a stop that has nothing to stop, or came when the change was done", () => {
    expect(step({ queue: [stop("s1")] })).toMatchObject({ finish: "s1", outcome: "nothing to do" });
    expect(step({ queue: [change("c1"), stop("s1")] })).toMatchObject({ finish: "s1", outcome: "nothing to do" });
    const layout = done(both);
    expect(step({ layout, queue: [change("c1"), stop("s1")] })).toMatchObject({ finish: "s1", outcome: "nothing to do" });
    expect(step({ layout, queue: [change("c1")] })).toMatchObject({ finish: "c1", outcome: "done" });
  });

  it("does not call a change done that an operator's recovery ended", () => {
    const reweighed = stage(first, { op: "weight", name: "carol", weight: 2 });
    const changes: readonly [Layout, Change][] = [
      [adding, addDave],
      [reweighed, { op: "weight", name: "carol", weight: 2 }],
      [stage(first, { op: "replace", name: "carol", member: member("dave") }), { op: "replace", name: "carol", member: member("dave") }],
    ];
    for (const [layout, of] of changes) {
      expect(step({ layout: recovered(layout, ["carol"]), queue: [change("c1", of)] })).toMatchObject({ finish: "c1", outcome: "stopped" });
    }
  });

  it("proposes and finishes nothing unless it leads", () => {
    const queue = [change("c1"), stop("s1")];
    for (const layout of [first, adding, both, stopped(both), done(both)])
      expect(step({ layout, queue, leads: false, copied: true, transferred: true })).toBeUndefined();
  });
});

describe("a lost disk", () => {
  it("goes before everything, in every phase, and any voter proposes it", () => {
    const queue = [change("c1"), stop("s1")];
    for (const layout of [first, adding, both, stopped(both), done(both)]) {
      for (const leads of [true, false]) {
        expect(proposed({ layout, queue, leads, copied: true, transferred: true, fresh })).toBe("relisted without bob");
      }
    }
    // Who is only to come votes, and is listed again like others.
    expect(proposed({ layout: adding, self: member("dave").writer, leads: false, fresh })).toBe("relisted without bob");
    expect(proposed({ layout: adding, fresh: { ...fresh, name: "dave", node: "node-of-dave" as NodeId } })).toBe("relisted without dave");
  });

  it("keeps phase, owners and change, so that what was under way goes on", () => {
    const next = step({ layout: adding, fresh })!;
    const { propose } = next as { propose: Layout };
    expect(propose).toMatchObject({ phase: "staged", change: "c1", version: adding.version + 1 });
    expect(proposed({ layout: propose, fresh, copied: true, queue: [change("c1")] })).toBe("joint");
    expect(votersOf(propose).map(({ name }) => name)).toEqual(["alice", "bob", "carol", "dave"]);
  });

  it("is also a lost identity: another node takes the place", () => {
    const next = step({ fresh: { ...fresh, node: "node-of-another-bob" as NodeId } });
    expect(next).toMatchObject({ without: "bob" });
    expect((next as { propose: Layout }).propose.members[1]).toMatchObject({ name: "bob", node: "node-of-another-bob", relisted: 2 });
  });

  it("is proposed by nobody who is no voter, for nobody who is none or lives as listed, and gives no node two places", () => {
    const queue = [change("c1")];
    const goesOn = proposed({ queue });
    expect(goesOn).toBe("staged");
    expect(step({ self: member("dave").writer, leads: false, fresh })).toBeUndefined();
    expect(step({ self: member("bob").writer, leads: false, fresh })).toBeUndefined();
    expect(proposed({ queue, fresh: { ...fresh, name: "erin" } })).toBe(goesOn);
    expect(proposed({ queue, fresh: member("bob") })).toBe(goesOn);
    expect(proposed({ queue, fresh: { ...fresh, node: "node-of-carol" as NodeId } })).toBe(goesOn);
  });
});
