import { describe, expect, it } from "vitest";
import type { StreamHead } from "../../protocol/frontier.ts";
import { type Incarnation, type Partition, SYSTEM_PARTITION, type WriterId } from "../../protocol/ids.ts";
import { type Base, baseOf } from "../../protocol/knowledge.ts";
import { groupOf, type Layout, layoutOf, type Member, type Owners } from "../../protocol/layout.ts";
import { joint, relisted, staged } from "../../protocol/layout-change.ts";
import type { MessageOf } from "../../protocol/message.ts";
import { type ComparingWorld, copyShownBy, Standings } from "../../protocol/standing.ts";
import { dave, erin, MOVING } from "./change-world.ts";
import { alice, bob, carol, LAYOUT, PARTITION } from "./replica-world.ts";

const HEARING_MS = 1000;
const reborn = "0b".repeat(16) as Incarnation;
/** alice lost her disk and was listed again. */
const RELISTED = relisted(LAYOUT, "alice", { node: alice.node, incarnation: reborn });
const memberOf = (layout: Layout, name: string): Member =>
  [...layout.members, ...(layout.next?.members ?? [])].find((member) => member.name === name)!;

/** What one node sees; a test changes it as things happen. */
class Seen {
  layout: Layout;
  readonly self: string;
  readonly connected = new Set<WriterId>();
  readonly bases = new Map<WriterId, Base>();
  readonly held = new Map<string, number>();
  readonly standings: Standings;

  constructor(layout: Layout, options: { self?: string; strict?: boolean; hasCounted?: boolean } = {}) {
    this.layout = layout;
    this.self = options.self ?? "alice";
    this.standings = new Standings(
      {
        self: memberOf(layout, this.self)?.writer ?? ("nobody" as WriterId),
        layout: () => this.layout,
        connected: () => [...this.connected],
        base: (member) => this.bases.get(member),
        held: (kind, partition, writer) => this.held.get(`${kind}/${partition}/${writer}`) ?? 0,
      },
      options.strict ?? false,
      options.hasCounted ?? false,
    );
  }

  connect(...names: string[]): this {
    for (const name of names) this.connected.add(memberOf(this.layout, name).writer);
    return this;
  }
  compared(...names: string[]): this {
    for (const name of names) this.standings.agreed(memberOf(this.layout, name).writer);
    return this;
  }
  /** This member has reported what it holds of a stream: as a replica and as a witness. */
  reports(name: string, ...heads: StreamHead[]): this {
    const marks = heads.map((head) => ({ ...head, keptFrom: 1 }));
    this.bases.set(memberOf(this.layout, name).writer, baseOf(heads, marks));
    return this;
  }
  holds(kind: "heads" | "marks", { partition, writer, seq }: StreamHead): this {
    this.held.set(`${kind}/${partition}/${writer}`, seq);
    return this;
  }
  at(now: number): string {
    this.standings.advance(now);
    return this.standings.now;
  }
}

const stream = (partition: Partition, seq: number, writer = bob.writer): StreamHead => ({ partition, writer, seq, hash: "h".repeat(43) });

describe("a node", () => {
  it("that no layout lists is unlisted, however many have compared", () => {
    const seen = new Seen(LAYOUT, { self: "dave" }).connect("bob").compared("alice", "bob", "carol");
    expect(seen.at(0)).toBe("unlisted");
    expect(seen.at(100 * HEARING_MS)).toBe("unlisted");
  });

  it("that is a next owner is listed", () => {
    expect(new Seen(MOVING, { self: "dave" }).at(0)).toBe("comparing");
  });

  it("alone in its federation counts at once", () => {
    const alone = layoutOf({ ...LAYOUT, members: [alice] });
    expect(new Seen(alone).at(0)).toBe("counting");
  });
});

describe("after a start a node", () => {
  it("counts at once when all others have compared", () => {
    const seen = new Seen(LAYOUT).connect("bob", "carol").compared("bob");
    expect(seen.at(0)).toBe("comparing");
    expect(seen.compared("carol").at(1)).toBe("counting");
  });

  it("counts with one that has compared only after the time for hearing more", () => {
    const seen = new Seen(LAYOUT).connect("bob").compared("bob");
    expect(seen.at(5)).toBe("comparing");
    expect(seen.at(5 + HEARING_MS - 1)).toBe("comparing");
    expect(seen.at(5 + HEARING_MS)).toBe("counting");
  });

  it("counts with nobody never", () => {
    const seen = new Seen(LAYOUT);
    expect(seen.at(0)).toBe("comparing");
    expect(seen.at(1000 * HEARING_MS)).toBe("comparing");
    expect(seen.connect("bob").at(1001 * HEARING_MS)).toBe("comparing");
  });

  it("waits for everybody who is connected", () => {
    const seen = new Seen(LAYOUT).connect("bob", "carol").compared("bob");
    seen.at(0);
    expect(seen.at(100 * HEARING_MS)).toBe("comparing");
    expect(seen.compared("carol").at(100 * HEARING_MS)).toBe("counting");
  });

  it("does not wait for one that was listed again after a lost disk and does not count, and waits for it once it counts", () => {
    const layout = relisted(LAYOUT, "carol", { node: carol.node, incarnation: reborn });
    const empty = new Seen(layout).connect("bob", "carol").compared("bob");
    empty.at(0);
    expect(empty.at(HEARING_MS)).toBe("counting");
    const full = new Seen(layout).connect("bob", "carol").compared("bob").reports("carol");
    full.at(0);
    expect(full.at(HEARING_MS)).toBe("comparing");
  });

  it("goes on counting when others come that have not compared", () => {
    const seen = new Seen(LAYOUT).compared("bob", "carol");
    seen.at(0);
    seen.layout = MOVING;
    expect(seen.connect("dave").at(1)).toBe("counting");
  });
});

describe("a strict start", () => {
  // Groups of five, of which three are a quorum: three others find every quorum.
  const five = layoutOf({ ...LAYOUT, members: [alice, bob, carol, dave, erin], replicationFactor: 3 });

  it("waits for m - q + 1 others of its groups, however long that takes, and for no more", () => {
    const seen = new Seen(five, { strict: true }).connect("bob", "carol").compared("bob", "carol");
    seen.at(0);
    expect(seen.at(1000 * HEARING_MS)).toBe("comparing");
    expect(
      seen
        .connect("erin")
        .compared("dave")
        .at(1000 * HEARING_MS),
    ).toBe("counting");
  });

  it("waits for both others of three", () => {
    const seen = new Seen(LAYOUT, { strict: true }).connect("bob").compared("bob");
    seen.at(0);
    expect(seen.at(1000 * HEARING_MS)).toBe("comparing");
    expect(seen.compared("carol").at(1000 * HEARING_MS)).toBe("counting");
  });

  it("waits for those of every group it is in: of the old and the next while joint", () => {
    const layout = joint(staged(LAYOUT, { members: [alice, dave, erin], replicationFactor: 2 }, "c"));
    const seen = new Seen(layout, { strict: true }).compared("bob", "carol", "dave");
    seen.at(0);
    expect(seen.at(1000 * HEARING_MS)).toBe("comparing");
    expect(seen.compared("erin").at(1000 * HEARING_MS)).toBe("counting");
  });
});

describe("a node that was listed again after it lost its disk", () => {
  const refilling = (layout: Layout = RELISTED, self = "alice") => {
    const seen = new Seen(layout, { self });
    seen.compared(...seen.layout.members.map(({ name }) => name), ...(layout.next?.members ?? []).map(({ name }) => name));
    expect(seen.at(0)).toBe("refilling");
    return seen;
  };

  it("refills until m - q + 1 others have said what they held, and it holds all of that", () => {
    const seen = refilling().reports("bob", stream(PARTITION, 4));
    seen.holds("heads", stream(PARTITION, 4));
    expect(seen.standings.advance(1)).toBe(false);
    seen.reports("carol", stream(PARTITION, 5));
    expect(seen.standings.advance(2)).toBe(false);
    seen.holds("heads", stream(PARTITION, 5));
    expect(seen.standings.advance(3)).toBe(true);
  });

  it("lacks what the witness has marked until it holds that too: an acknowledged write may be nowhere else", () => {
    const seen = refilling()
      .reports("bob")
      .reports("carol", stream(PARTITION, 7, carol.writer));
    expect(groupOf(RELISTED, PARTITION).witnesses[0]?.name).toBe("carol");
    expect(seen.standings.advance(1)).toBe(false);
    seen.holds("heads", stream(PARTITION, 7, carol.writer));
    expect(seen.standings.advance(1)).toBe(true);
  });

  it("takes of a witness its marks, not what it holds of other partitions", () => {
    const seen = refilling().reports("bob");
    seen.bases.set(carol.writer, baseOf([stream(PARTITION, 7)], []));
    expect(seen.standings.advance(1)).toBe(true);
  });

  it("needs the system partition too", () => {
    const seen = refilling().reports("bob").reports("carol", stream(SYSTEM_PARTITION, 1));
    expect(seen.standings.advance(1)).toBe(false);
    seen.holds("heads", stream(SYSTEM_PARTITION, 1));
    expect(seen.standings.advance(1)).toBe(true);
  });

  it("needs marks of what it is witness of", () => {
    const again = relisted(LAYOUT, "carol", { node: carol.node, incarnation: reborn });
    const seen = refilling(again, "carol").reports("alice", stream(PARTITION, 3)).reports("bob", stream(PARTITION, 3));
    seen.holds("heads", stream(PARTITION, 3));
    expect(seen.standings.advance(1)).toBe(false);
    seen.holds("marks", stream(PARTITION, 3));
    expect(seen.standings.advance(1)).toBe(true);
  });

  it("needs so many others of each group that counts, while joint", () => {
    // alice, bob and carol now; alice, dave and erin next.
    const layout = relisted(joint(staged(LAYOUT, { members: [alice, dave, erin], replicationFactor: 2 }, "c")), "alice", {
      node: alice.node,
      incarnation: reborn,
    });
    const seen = refilling(layout).reports("bob").reports("carol").reports("dave");
    expect(seen.standings.advance(1)).toBe(false);
    seen.reports("erin", stream(PARTITION, 2, erin.writer));
    const isInNext = groupOf(layout.next as Owners, PARTITION).members.some(({ name }) => name === "alice");
    expect(isInNext).toBe(true);
    expect(seen.standings.advance(1)).toBe(false);
    seen.holds("heads", stream(PARTITION, 2, erin.writer)).holds("marks", stream(PARTITION, 2, erin.writer));
    expect(seen.standings.advance(1)).toBe(true);
  });

  it("needs those of the old group as much as those of the next, while joint", () => {
    const layout = relisted(joint(staged(LAYOUT, { members: [alice, dave, erin], replicationFactor: 2 }, "c")), "alice", {
      node: alice.node,
      incarnation: reborn,
    });
    const seen = refilling(layout).reports("dave").reports("erin").reports("bob");
    expect(seen.standings.advance(1)).toBe(false);
    expect(seen.reports("carol").standings.advance(1)).toBe(true);
  });

  it("while staged needs those of the old group only: the next counts for no data", () => {
    const layout = relisted(staged(LAYOUT, { members: [alice, dave, erin], replicationFactor: 2 }, "c"), "alice", {
      node: alice.node,
      incarnation: reborn,
    });
    expect(refilling(layout).reports("bob").reports("carol").standings.advance(1)).toBe(true);
  });

  it("has those of a group of five of which any three others are enough", () => {
    const five = relisted(layoutOf({ ...LAYOUT, members: [alice, bob, carol, dave, erin], replicationFactor: 3 }), "alice", {
      node: alice.node,
      incarnation: reborn,
    });
    const seen = refilling(five).reports("bob").reports("erin");
    expect(seen.standings.advance(1)).toBe(false);
    expect(seen.reports("dave").standings.advance(1)).toBe(true);
  });

  it("counts once that is on disk, and after a restart only has to compare", () => {
    const seen = refilling().reports("bob").reports("carol");
    expect(seen.standings.advance(1)).toBe(true);
    expect(seen.standings.now).toBe("refilling");
    seen.standings.counted();
    expect(seen.at(2)).toBe("counting");
    const restarted = new Seen(RELISTED, { hasCounted: true });
    expect(restarted.at(0)).toBe("comparing");
    expect(restarted.compared("bob", "carol").at(0)).toBe("counting");
  });

  it("is not asked again by a version that lists others", () => {
    const seen = refilling().reports("bob").reports("carol");
    seen.standings.counted();
    seen.layout = staged(RELISTED, { members: [...RELISTED.members, dave], replicationFactor: 2 }, "c");
    seen.bases.clear();
    expect(seen.at(5)).toBe("counting");
  });
});

describe("a comparison shows a copy", () => {
  const start = { count: 3, id: "5a".repeat(16) };
  const own = (seq: number, hash = "h".repeat(43)): StreamHead => ({ ...stream(PARTITION, seq, alice.writer), hash });
  /** A disk at its third start, with 9 of its own in PARTITION, which holds bob's stream up to 4 and has marked it up to 6. */
  const disk: ComparingWorld = {
    layoutVersion: 2,
    startAt: (count) => (count > 3 ? null : count === 3 ? start.id : count === 2 ? "2b".repeat(16) : undefined),
    held: (kind, partition, writer) => (partition === PARTITION && writer === bob.writer ? (kind === "heads" ? 4 : 6) : 0),
    ownSeq: (partition) => (partition === PARTITION ? 9 : 0),
    ownHash: (partition, seq) => (partition === PARTITION && seq > 5 && seq <= 9 ? "h".repeat(43) : undefined),
  };
  const shown = (compare: Partial<MessageOf<"compare">>): string | undefined =>
    copyShownBy({ type: "compare", part: 0, parts: 1, start, layoutVersion: 2, heads: [], marks: [], own: [], ...compare }, disk);

  it("not by what is as it was told", () => {
    expect(shown({})).toBeUndefined();
    expect(shown({ heads: [stream(PARTITION, 4)], marks: [stream(PARTITION, 6)], own: [own(9)] })).toBeUndefined();
    expect(shown({ start: null, layoutVersion: 0 })).toBeUndefined();
  });

  it("by a start that this disk does not know", () => {
    expect(shown({ start: { count: 4, id: start.id } })).toMatch(/told of start 4, which this disk does not know/);
  });

  it("by a start that was another's: the disk runs twice", () => {
    expect(shown({ start: { count: 3, id: "6b".repeat(16) } })).toMatch(/start 3 that it was told of was on another disk/);
    expect(shown({ start: { count: 2, id: start.id } })).toBeDefined();
  });

  it("not by a start so old that its id is not kept", () => {
    expect(shown({ start: { count: 1, id: "6b".repeat(16) } })).toBeUndefined();
  });

  it("by a number of its own stream that it has not given, or gave to another delta", () => {
    expect(shown({ own: [own(10)] })).toMatch(/holds number 10 of this node's stream in partition/);
    expect(shown({ own: [own(8, "x".repeat(43))] })).toMatch(/number 8 .* is another delta there/);
    expect(shown({ own: [{ ...own(1), partition: SYSTEM_PARTITION }] })).toBeDefined();
  });

  it("not by a hash that is not told, or of a number whose hash is not kept", () => {
    expect(shown({ own: [own(8, "")] })).toBeUndefined();
    expect(shown({ own: [own(2, "x".repeat(43))] })).toBeUndefined();
  });

  it("by heads, and by marks, that it had told and does not hold", () => {
    expect(shown({ heads: [stream(PARTITION, 5)] })).toMatch(/told that this node holds .*\/5 of partition/);
    expect(shown({ marks: [stream(PARTITION, 7)] })).toMatch(/told that this node holds .*\/7 of partition/);
    expect(shown({ marks: [stream(PARTITION, 5)] })).toBeUndefined();
    expect(shown({ heads: [stream(SYSTEM_PARTITION, 1)] })).toBeDefined();
  });

  it("not by heads told under another layout version, which may have dropped that copy; by the start and its own stream even then", () => {
    for (const layoutVersion of [1, 3]) {
      expect(shown({ layoutVersion, heads: [stream(PARTITION, 5)], marks: [stream(PARTITION, 7)] })).toBeUndefined();
      expect(shown({ layoutVersion, own: [own(10)] })).toBeDefined();
      expect(shown({ layoutVersion, start: { count: 4, id: start.id } })).toBeDefined();
    }
  });
});
