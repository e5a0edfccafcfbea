import { describe, expect, it } from "vitest";
import type { Incarnation, NodeId, WriterId } from "../../protocol/ids.ts";
import type { Layout } from "../../protocol/layout.ts";
import { relisted } from "../../protocol/layout-change.ts";
import { CLAIMANTS_MAX } from "../../protocol/limits.ts";
import { type Claim, Successions } from "../../protocol/succession.ts";
import { alice, bob, LAYOUT } from "./replica-world.ts";

const SECOND = 1000;
/** How often a newcomer says it. */
const EVERY_MS = 3 * SECOND;
const claim = (more: Partial<Claim> = {}): Claim => ({
  name: "bob",
  node: "another-node-of-bob" as NodeId,
  incarnation: "0c".repeat(16) as Incarnation,
  automatic: true,
  ...more,
});

/** What alice sees. */
class Seen {
  layout: Layout = LAYOUT;
  readonly connected = new Set<WriterId>();
  readonly successions: Successions;
  now: number;

  constructor(now = 0) {
    this.now = now;
    this.successions = new Successions({ self: alice.writer, layout: () => this.layout, isConnected: (writer) => this.connected.has(writer) }, now);
  }
  /** Time goes by; what is claimed is claimed again and again, and looked at as a node does. */
  pass(ms: number, ...claims: readonly Claim[]): this {
    for (const end = this.now + ms; this.now < end; this.now += 200) {
      if (this.now % EVERY_MS === 0) for (const one of claims) this.successions.claimed(one, this.now);
      this.successions.shown(this.now);
    }
    return this;
  }
  shown(): string[] {
    return this.successions.shown(this.now).map(({ node }) => node);
  }
}

describe("a newcomer with a member's name", () => {
  it("succeeds by itself once that one has been away for longer than a restart takes", () => {
    const seen = new Seen();
    seen.connected.add(bob.writer);
    seen.pass(60 * SECOND);
    seen.connected.delete(bob.writer);
    seen.pass(29 * SECOND, claim());
    expect(seen.shown()).toEqual([]);
    seen.pass(2 * SECOND, claim());
    expect(seen.shown()).toEqual([claim().node]);
  });

  it("waits as long at a voter that has just started, and saw nobody yet", () => {
    const seen = new Seen(600 * SECOND).pass(29 * SECOND, claim());
    expect(seen.shown()).toEqual([]);
    expect(seen.pass(2 * SECOND, claim()).shown()).toEqual([claim().node]);
  });

  it("does not succeed with one word, nor once it says nothing any more", () => {
    const seen = new Seen().pass(100 * SECOND);
    seen.successions.claimed(claim(), seen.now);
    expect(seen.shown()).toEqual([]);
    seen.pass(16 * SECOND);
    seen.successions.claimed(claim(), seen.now);
    expect(seen.shown()).toEqual([]);
    expect(seen.pass(5 * SECOND, claim()).shown()).toEqual([claim().node]);
    expect(seen.pass(16 * SECOND).shown()).toEqual([]);
  });

  it("takes no place of a member that is connected here, which is what is to be said to all", () => {
    const seen = new Seen().pass(100 * SECOND, claim());
    seen.connected.add(bob.writer);
    expect(seen.shown()).toEqual([]);
    expect(seen.successions.claimed(claim(), seen.now)?.writer).toBe(bob.writer);
    expect(seen.successions.claimed(claim({ automatic: false }), seen.now)?.writer).toBe(bob.writer);
  });

  it("takes no place of this very node", () => {
    const seen = new Seen();
    for (const automatic of [true, false]) {
      expect(seen.successions.claimed(claim({ name: "alice", automatic }), 0)?.writer).toBe(alice.writer);
      expect(seen.pass(100 * SECOND, claim({ name: "alice", automatic })).shown()).toEqual([]);
    }
  });

  it("takes no place of a member that another voter sees, for a while after it last did", () => {
    for (const automatic of [true, false]) {
      const seen = new Seen().pass(100 * SECOND);
      seen.pass(10 * SECOND, claim({ automatic }));
      expect(seen.shown()).toEqual([claim().node]);
      seen.successions.lives("bob", bob.incarnation, seen.now);
      expect(seen.shown()).toEqual([]);
      expect(seen.pass(19 * SECOND, claim({ automatic })).shown()).toEqual([]);
      expect(seen.pass(3 * SECOND, claim({ automatic })).shown()).toEqual([claim().node]);
    }
  });

  it("is not kept out by who sees another incarnation, or somebody else", () => {
    const seen = new Seen().pass(100 * SECOND, claim());
    seen.successions.lives("bob", "0d".repeat(16) as Incarnation, seen.now);
    seen.successions.lives("carol", bob.incarnation, seen.now);
    seen.successions.lives("alice", alice.incarnation, seen.now);
    expect(seen.shown()).toEqual([claim().node]);
  });

  it("that lived beside the member never succeeds it by itself: those are two nodes under one name", () => {
    for (const here of [true, false]) {
      const seen = new Seen();
      for (let time = 0; time < 7; time++) {
        if (here) seen.connected.add(bob.writer);
        else seen.successions.lives("bob", bob.incarnation, seen.now);
        seen.pass(10 * SECOND, claim());
      }
      seen.connected.clear();
      expect(seen.pass(600 * SECOND, claim()).shown()).toEqual([]);
      expect(seen.pass(10 * SECOND, claim({ automatic: false })).shown()).toEqual([claim().node]);
    }
  });

  it("that came while the dead one's connection was not found dead yet does succeed", () => {
    const seen = new Seen();
    seen.connected.add(bob.writer);
    seen.pass(15 * SECOND, claim());
    seen.connected.clear();
    expect(seen.pass(32 * SECOND, claim()).shown()).toEqual([claim().node]);
  });

  it("does not succeed while another claims the same place, unless an operator names one", () => {
    const rival = claim({ node: "a-third-node-of-bob" as NodeId });
    const seen = new Seen().pass(100 * SECOND, claim(), rival);
    expect(seen.shown()).toEqual([]);
    seen.pass(6 * SECOND, claim(), rival, { ...rival, automatic: false });
    expect(seen.shown()).toEqual([rival.node]);
    // The newcomer's own word does not take the operator's back; a second operator's against the first is none.
    expect(seen.pass(6 * SECOND, claim(), rival).shown()).toEqual([rival.node]);
    seen.pass(6 * SECOND, { ...rival, automatic: false }, claim({ automatic: false }));
    expect(seen.shown()).toEqual([]);
  });

  it("succeeds at once by an operator's word, which needs no more than to be said for a moment", () => {
    const seen = new Seen(9_999 * SECOND);
    seen.connected.add(bob.writer);
    seen.pass(9 * SECOND);
    seen.connected.clear();
    expect(seen.pass(3 * SECOND, claim({ automatic: false })).shown()).toEqual([]);
    expect(seen.pass(2 * SECOND, claim({ automatic: false })).shown()).toEqual([claim().node]);
  });

  it("is nothing to a layout that lists it, or nobody of its name", () => {
    const seen = new Seen().pass(100 * SECOND, claim(), claim({ name: "mallory" }));
    expect(seen.shown()).toEqual([claim().node]);
    seen.layout = relisted(LAYOUT, "bob", claim());
    expect(seen.shown()).toEqual([]);
    expect(seen.pass(100 * SECOND, claim(), claim({ incarnation: "0d".repeat(16) as Incarnation })).shown()).toEqual([]);
  });

  it(`is one of ${CLAIMANTS_MAX} that are remembered: one more is not, until another has gone`, () => {
    const seen = new Seen().pass(100 * SECOND);
    const many = Array.from({ length: CLAIMANTS_MAX }, (_, at) => claim({ name: "carol", node: `node-${at}` as NodeId }));
    seen.pass(10 * SECOND, ...many, claim());
    expect(seen.shown()).toEqual([]);
    expect(seen.pass(30 * SECOND, claim()).shown()).toEqual([claim().node]);
  });
});
