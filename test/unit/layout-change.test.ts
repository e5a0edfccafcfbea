import { describe, expect, it } from "vitest";
import type { FederationId, Incarnation, NodeId, Partition } from "../../protocol/ids.ts";
import {
  audienceOf,
  countingGroups,
  decodeLayout,
  encodeLayout,
  groupOf,
  type Layout,
  layoutHash,
  layoutOf,
  votersOf,
} from "../../protocol/layout.ts";
import {
  type Change,
  done,
  joint,
  movesBetween,
  ownersAfter,
  recovered,
  relisted,
  staged,
  stepBetween,
  stopped,
} from "../../protocol/layout-change.ts";
import { LAYOUT_CHANGE_ID_MAX_CHARS } from "../../protocol/limits.ts";

const memberOf = (name: string, incarnation = "0a") => ({
  node: `node-of-${name}` as NodeId,
  name,
  incarnation: incarnation.repeat(16) as Incarnation,
  zone: "",
  weight: 1,
});
const first = layoutOf({
  version: 1,
  federation: "fe".repeat(16) as FederationId,
  replicationFactor: 2,
  resonanceDecay: 0.85,
  hebbianRate: 0.15,
  periodMs: 1000,
  members: ["alice", "bob", "carol"].map((name) => memberOf(name)),
});
const stage = (layout: Layout, change: Change): Layout => staged(layout, ownersAfter(layout, change)!, "c1");
const adding = stage(first, { op: "add", member: memberOf("dave") });

describe("a change of the layout", () => {
  it("goes through staged, joint and done, and each version names the one before", () => {
    const both = joint(adding);
    const end = done(both);
    expect([adding, both, end].map(({ version, phase }) => [version, phase])).toEqual([
      [2, "staged"],
      [3, "joint"],
      [4, "done"],
    ]);
    expect(adding.members).toHaveLength(3);
    expect(end.members.map(({ name }) => name)).toEqual(["alice", "bob", "carol", "dave"]);
    expect(end.next).toBeUndefined();
    expect(both.previous).toBe(layoutHash(adding));
    expect(stepBetween(first, adding)).toEqual({ step: "staged", without: "" });
    expect(stepBetween(adding, both)).toEqual({ step: "joint", without: "" });
    expect(stepBetween(both, end)).toEqual({ step: "done", without: "" });
  });

  it("may be stopped while staged or joint, and leaves the owners as they were", () => {
    for (const before of [adding, joint(adding)]) {
      const back = stopped(before);
      expect(back.members).toEqual(first.members);
      expect(stepBetween(before, back)).toEqual({ step: "stopped", without: "" });
    }
  });

  it("skips no step, whatever is proposed", () => {
    const both = joint(adding);
    for (const [before, later] of [
      [first, both],
      [first, done(both)],
      [adding, done(both)],
      [adding, done(adding)],
      [adding, adding],
      [first, first],
      [adding, joint(stage(first, { op: "add", member: memberOf("erin") }))],
    ] as const)
      expect(stepBetween(before, later)).toBeUndefined();
    // Nobody changes what layout 1 fixed, nor anything beside the step.
    expect(stepBetween(first, layoutOf({ ...adding, resonanceDecay: 0.5 }))).toBeUndefined();
    expect(stepBetween(adding, layoutOf({ ...both, change: "another" }))).toBeUndefined();
    expect(stepBetween(both, layoutOf({ ...done(both), replicationFactor: 3 }))).toBeUndefined();
    expect(stepBetween(first, layoutOf({ ...adding, members: first.members.slice(0, 2) }))).toBeUndefined();
  });

  it("lists a lost disk's incarnation again in any phase, and changes nothing else", () => {
    for (const before of [first, adding, joint(adding)]) {
      const later = relisted(before, "bob", { node: "node-of-bob" as NodeId, incarnation: "0b".repeat(16) as Incarnation });
      expect(later.phase).toBe(before.phase);
      expect(votersOf(later).find(({ name }) => name === "bob")?.relisted).toBe(later.version);
      expect(stepBetween(before, later)).toEqual({ step: "relisted", without: "bob" });
    }
    const two = relisted(first, "bob", memberOf("bob", "0b"));
    const alsoCarol = layoutOf({ ...two, members: two.members.map((one) => (one.name === "carol" ? { ...one, weight: 2 } : one)) });
    expect(stepBetween(first, alsoCarol)).toBeUndefined();
    expect(() => relisted(first, "bob", memberOf("carol", "0b"))).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
  });

  it("is never voted on when an operator forced it", () => {
    const forced = recovered(first, ["carol"]);
    expect(forced.members.map(({ name }) => name)).toEqual(["alice", "bob"]);
    expect(stepBetween(first, forced)).toBeUndefined();
    expect(() => recovered(first, ["alice", "bob", "carol"])).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
  });

  it("is written and read again byte by byte in every phase", () => {
    const versions = [first, adding, joint(adding), done(joint(adding)), stopped(adding), relisted(adding, "bob", memberOf("bob", "0b"))];
    for (const layout of [...versions, recovered(first, ["carol"])]) expect(decodeLayout(encodeLayout(layout))).toEqual(layout);
    expect(() => layoutOf({ ...adding, change: "c".repeat(LAYOUT_CHANGE_ID_MAX_CHARS + 1) })).toThrowError(
      expect.objectContaining({ code: "MALFORMED" }),
    );
    expect(layoutOf({ ...adding, change: "c".repeat(LAYOUT_CHANGE_ID_MAX_CHARS) }).change).toHaveLength(LAYOUT_CHANGE_ID_MAX_CHARS);
  });

  it("cannot be made of contradictions", () => {
    for (const wrong of [
      { ...adding, next: undefined },
      { ...first, version: 2, previous: layoutHash(first), next: adding.next },
      { ...first, version: 2 },
      { ...first, forced: true },
      { ...adding, next: { ...adding.next!, members: adding.next!.members.map((one) => ({ ...one, incarnation: "0c".repeat(16) as Incarnation })) } },
    ])
      expect(() => layoutOf(wrong)).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
  });
});

describe("who counts", () => {
  it("is the old group while staged, both while joint, the new one when done; deltas go to both from staged on", () => {
    const partition = Array.from({ length: 256 }, (_, at) => at as Partition).find((at) =>
      groupOf(adding.next!, at).replicas.some(({ name }) => name === "dave"),
    )!;
    const [old, next] = [groupOf(first, partition), groupOf(adding.next!, partition)];
    expect(countingGroups(adding, partition)).toEqual([old]);
    expect(countingGroups(joint(adding), partition)).toEqual([old, next]);
    expect(countingGroups(done(joint(adding)), partition)).toEqual([next]);
    for (const layout of [adding, joint(adding)]) expect(audienceOf(layout, partition).map(({ name }) => name)).toContain("dave");
    expect(audienceOf(first, partition)).toEqual(old.members);
    expect(votersOf(adding).map(({ name }) => name)).toEqual(["alice", "bob", "carol", "dave"]);
    expect(votersOf(stage(first, { op: "remove", name: "carol", drain: false })).map(({ name }) => name)).toEqual(["alice", "bob", "carol"]);
  });
});

describe("an operator's change", () => {
  it("becomes owners, or nothing when they are so already, or a reason", () => {
    const named = (change: Change) => ownersAfter(first, change)?.members.map(({ name }) => name);
    expect(named({ op: "add", member: memberOf("dave") })).toEqual(["alice", "bob", "carol", "dave"]);
    expect(named({ op: "add", member: memberOf("carol") })).toBeUndefined();
    expect(named({ op: "remove", name: "carol", drain: true })).toEqual(["alice", "bob"]);
    expect(named({ op: "remove", name: "nobody", drain: true })).toBeUndefined();
    expect(named({ op: "replace", name: "carol", member: memberOf("dave") })).toEqual(["alice", "bob", "dave"]);
    expect(ownersAfter(first, { op: "weight", name: "bob", weight: 3 })?.members[1]?.weight).toBe(3);
    expect(ownersAfter(first, { op: "weight", name: "bob", weight: 1 })).toBeUndefined();
    expect(ownersAfter(first, { op: "zone", name: "bob", zone: "west" })?.members[1]?.zone).toBe("west");
    expect(ownersAfter(first, { op: "replication-factor", replicationFactor: 3 })?.replicationFactor).toBe(3);
    for (const wrong of [
      { op: "add", member: memberOf("carol", "0b") },
      { op: "add", member: { ...memberOf("dave"), node: "node-of-bob" as NodeId } },
      { op: "replace", name: "nobody", member: memberOf("dave") },
      { op: "replace", name: "alice", member: memberOf("bob") },
      { op: "weight", name: "nobody", weight: 2 },
    ] as const)
      expect(() => ownersAfter(first, wrong)).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
    const alone = recovered(first, ["bob", "carol"]);
    expect(() => ownersAfter(alone, { op: "remove", name: "alice", drain: false })).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
  });

  it("moves as much as the preview says, and a new member takes places without moving others about", () => {
    const moves = movesBetween(first, adding.next!);
    const dave = moves.find(({ name }) => name === "dave")!;
    expect(dave.replicaLosses).toBe(0);
    expect(dave.replicaGains).toBeGreaterThan(256 * 2 * 0.2);
    expect(moves.reduce((sum, move) => sum + move.replicaGains - move.replicaLosses, 0)).toBe(0);
  });
});
