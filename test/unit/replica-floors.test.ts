/** Floors at a real replica: who is asked, what counts as a report, and what a new version of the layout does to rounds that are under way. */
import { describe, expect, it } from "vitest";
import { buildDelta, type Entry } from "../../protocol/delta.ts";
import type { FloorCut } from "../../protocol/floor.ts";
import type { StreamHead } from "../../protocol/frontier.ts";
import { tombstoneId } from "../../protocol/graph/tombstone.ts";
import type { Member } from "../../protocol/layout.ts";
import { done, joint, staged } from "../../protocol/layout-change.ts";
import type { Message } from "../../protocol/message.ts";
import { dave } from "./change-world.ts";
import { alice, bob, carol, Home, headOf, keyOf, LAYOUT, PARTITION, push, repair, sent, stream, TENANT, WALL } from "./replica-world.ts";

const FLOOR_ASK_MS = 1000;
const TOMBSTONE = tombstoneId("memory", "one");
const [ofAlice, ofBob] = [stream(alice, 2), stream(bob, 2)];
const head = (of: Member, seq: number): StreamHead => headOf((of === alice ? ofAlice : ofBob)[seq - 1]!);
const told = (...heads: readonly StreamHead[]): Message => ({ type: "told", id: 0, partition: PARTITION, heads, marks: [] });
const marked = (...marks: readonly StreamHead[]): Message => ({ type: "told", id: 0, partition: PARTITION, heads: [], marks });

/** alice, who holds the first delta of her own stream and of bob's, and one tombstone in them. */
function proposer(): Home {
  const home = new Home(alice, { streams: [head(alice, 1), head(bob, 1)] }).connect(bob, carol);
  expect(home.replica.beginFloor(CUT, 0)).toBe(true);
  return home;
}

const CUT: FloorCut = {
  partition: PARTITION,
  frontier: [
    [alice.writer, 1],
    [bob.writer, 1],
  ].sort(([a], [b]) => (a! < b! ? -1 : 1)) as unknown as FloorCut["frontier"],
  erase: [],
  tombstones: new Map([[TENANT, [TOMBSTONE]]]),
  tenant: TENANT,
};

describe("a replica that proposes a floor", () => {
  it("asks every replica and the witness for all they hold, and numbers it when each has told", () => {
    const home = proposer();
    expect(sent(home.replica.tick(FLOOR_ASK_MS, WALL), "ask").map(({ to }) => to)).toEqual(["bob", "carol"]);
    home.hear(bob, told(head(alice, 1), head(bob, 1)));
    expect(home.replica.floorsToNumber()).toEqual([]);
    expect(sent(home.replica.tick(2 * FLOOR_ASK_MS, WALL), "ask").map(({ to }) => to)).toEqual(["carol"]);
    home.hear(carol, marked(head(alice, 1), head(bob, 1)));
    const [floor] = home.replica.floorsToNumber();
    expect(floor?.contributions).toMatchObject([{ tenant: TENANT, contribution: { op: "floor", tombstones: [TOMBSTONE] } }]);
    expect(home.replica.floorsToNumber()).toEqual([]);
  });

  it("waits for its witness as for a replica, whoever of them tells first", () => {
    const home = proposer();
    home.hear(carol, marked(head(alice, 1), head(bob, 1)));
    expect(home.replica.floorsToNumber()).toEqual([]);
    home.hear(bob, told(head(alice, 1), head(bob, 1)));
    expect(home.replica.floorsToNumber()).toHaveLength(1);
  });

  it("takes for a report only what was told in one message: of one moment", () => {
    const home = proposer();
    home.hear(carol, marked(head(alice, 1), head(bob, 1)));
    home.hear(bob, { type: "held", heads: [head(alice, 1)] });
    home.hear(bob, told(head(bob, 1)));
    expect(home.replica.floorsToNumber()).toEqual([]);
    home.hear(bob, told(head(alice, 1), head(bob, 1)));
    expect(home.replica.floorsToNumber()).toHaveLength(1);
  });

  it("waits until each has told what any of them had told: a second round", () => {
    const home = proposer();
    home.hear(bob, told(head(alice, 1), head(bob, 2)));
    home.hear(carol, marked(head(alice, 1), head(bob, 1)));
    expect(home.replica.floorsToNumber()).toEqual([]);
    home.hear(carol, marked(head(alice, 1), head(bob, 2)));
    // Not even alice holds it yet.
    expect(home.replica.floorsToNumber()).toEqual([]);
    home.hear(bob, repair(bob, 2, ofBob[1]!));
    home.flush();
    expect(home.replica.floorsToNumber()).toHaveLength(1);
  });

  it("forgets it with the version it was begun under, and begins none while a change is under way", () => {
    const home = proposer();
    home.hear(bob, told(head(alice, 1), head(bob, 1)));
    home.hear(carol, marked(head(alice, 1), head(bob, 1)));
    const moving = staged(LAYOUT, { members: [alice, { ...bob, zone: "east" }, carol], replicationFactor: 2 }, "zone");
    home.replica.adopt(moving, 10);
    expect(home.replica.floorsToNumber()).toEqual([]);
    expect(home.replica.beginFloor(CUT, 11)).toBe(false);
    home.replica.adopt(joint(moving), 12);
    expect(home.replica.beginFloor(CUT, 13)).toBe(false);
    home.replica.adopt(done(joint(moving)), 14);
    expect(home.replica.beginFloor(CUT, 15)).toBe(true);
    // What was told before was told under another version.
    expect(home.replica.floorsToNumber()).toEqual([]);
  });
});

describe("a delta with a floor", () => {
  // Of a member that has left.
  const ofDave = stream(dave, 2);
  const floor: Entry = { op: "floor", frontier: [[dave.writer, 2]], erase: [], tombstones: [TOMBSTONE] };
  const delta = buildDelta(
    {
      writer: alice.writer,
      partition: PARTITION,
      seq: 3,
      previous: ofAlice[1]!.hash,
      hlc: [WALL, 9],
      key: keyOf("floor"),
      saw: {},
    },
    { tenant: TENANT, fingerprint: "floor", answer: "null", entries: [floor] },
  );

  it("is a gap for a replica that lacks part of its frontier: taken only once it has what comes first", () => {
    const home = new Home(bob, { streams: [head(alice, 2), headOf(ofDave[0]!)] }).connect(alice, carol);
    home.hear(alice, push(delta));
    expect(home.stagedDeltas).toEqual([]);
    home.hear(alice, repair(dave, 2, ofDave[1]!));
    home.hear(alice, push(delta));
    expect(home.stagedDeltas.map((name) => name.split("/")[1])).toEqual(["2", "3"]);
  });
});
