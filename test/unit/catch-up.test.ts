import { beforeEach, describe, expect, it } from "vitest";
import { CatchUp } from "../../protocol/catch-up.ts";
import type { Effect } from "../../protocol/effects.ts";
import type { NodeId, Partition, WriterId } from "../../protocol/ids.ts";
import { INTERVAL_DELTAS_MAX, PULLS_A_PEER_MAX, PULLS_MAX, PULLS_WAITING_MAX } from "../../protocol/limits.ts";

const partition = 7 as Partition;
const writer = "writer-of-the-stream" as WriterId;
const bob = "bob" as NodeId;
const carol = "carol" as NodeId;

let staged: number;
/** What is on disk, when that is less than what is staged. */
let durable: number | undefined;
let sources: NodeId[];
let catchUp: CatchUp;
beforeEach(() => {
  staged = 0;
  sources = [bob, carol];
  durable = undefined;
  catchUp = new CatchUp({ stagedSeq: () => staged, durableSeq: () => durable ?? staged, sources: () => sources });
});

function effectsOf(run: (effects: Effect[]) => void): string[] {
  const effects: Effect[] = [];
  run(effects);
  return effects.map((effect) => {
    if (effect.type !== "send" || effect.message.type !== "want") throw new Error(`unexpected ${effect.type}`);
    return `${effect.to} ${effect.message.from}-${effect.message.to}`;
  });
}
const learn = (seq: number, now = 0, patienceMs = 0) => effectsOf((effects) => catchUp.learn(partition, writer, seq, patienceMs, now, effects));
const answered = (from: NodeId, brought: number, now = 0) => effectsOf((effects) => catchUp.answered(partition, writer, from, brought, now, effects));
const tick = (now: number) => effectsOf((effects) => catchUp.tick(now, effects));
const gone = (node: NodeId) => effectsOf((effects) => catchUp.gone(node, 0, effects));

describe("catching up", () => {
  it("asks the best member that holds more for the interval after what is staged", () => {
    staged = 2;
    expect(learn(5)).toEqual(["bob 3-5"]);
    expect(catchUp.lacking()).toMatchObject([{ partition, writer, known: 5 }]);
  });

  it("asks nobody for what is here", () => {
    staged = 5;
    expect(learn(5)).toEqual([]);
    expect(catchUp.lacking()).toEqual([]);
  });

  it("asks one at a time, and asks on until nothing is left", () => {
    expect(learn(1000)).toEqual([`bob 1-${INTERVAL_DELTAS_MAX}`]);
    expect(learn(1000)).toEqual([]);
    staged = INTERVAL_DELTAS_MAX;
    expect(answered(bob, INTERVAL_DELTAS_MAX)).toEqual([`bob ${INTERVAL_DELTAS_MAX + 1}-1000`]);
    staged = 1000;
    expect(answered(bob, 1000 - INTERVAL_DELTAS_MAX)).toEqual([]);
    expect(catchUp.lacking()).toEqual([]);
  });

  it("never asks for more deltas than one message may carry", () => {
    expect(learn(INTERVAL_DELTAS_MAX)).toEqual([`bob 1-${INTERVAL_DELTAS_MAX}`]);
    staged = INTERVAL_DELTAS_MAX;
    answered(bob, INTERVAL_DELTAS_MAX);
    expect(learn(2 * INTERVAL_DELTAS_MAX + 1)).toEqual([`bob ${INTERVAL_DELTAS_MAX + 1}-${2 * INTERVAL_DELTAS_MAX}`]);
  });

  it("goes on to the next member when one has nothing for it", () => {
    learn(5);
    expect(answered(bob, 0)).toEqual(["carol 1-5"]);
    expect(answered(carol, 0)).toEqual([]);
  });

  it("does not ask two that promise and bring nothing in turns without a pause", () => {
    learn(5);
    let asked = 0;
    for (let round = 0; round < 20; round++) for (const from of [bob, carol]) asked += learn(5).length + answered(from, 0).length;
    expect(asked).toBe(1);
    expect(tick(500)).toEqual(["bob 1-5"]);
  });

  it("asks again at once when the stream is known to go further", () => {
    learn(5);
    answered(bob, 0);
    answered(carol, 0);
    expect(learn(6)).toEqual(["bob 1-6"]);
  });

  it("asks somebody else when an answer does not come, and the first again when that one does not answer either", () => {
    learn(5, 0);
    expect(tick(1999)).toEqual([]);
    expect(tick(2000)).toEqual(["carol 1-5"]);
    expect(tick(3999)).toEqual([]);
    expect(tick(4000)).toEqual(["bob 1-5"]);
  });

  it("asks one that has nothing again after a pause that doubles", () => {
    sources = [bob];
    const askedAt: number[] = [];
    learn(5, 0);
    for (let now = 0; now <= 200_000; now += 50) {
      const asked = [...tick(now), ...answered(bob, 0, now)];
      if (asked.length > 0) askedAt.push(now);
    }
    expect(askedAt).toEqual([500, 1500, 3500, 7500, 15_500, 31_500, 63_500, 123_500, 183_500]);
  });

  it("asks at once again who brought something, however often it had nothing before", () => {
    sources = [bob];
    learn(5, 0);
    for (const now of [0, 500, 1500]) {
      answered(bob, 0, now);
      tick(now + 60_000);
    }
    staged = 1;
    expect(answered(bob, 1, 70_000)).toEqual(["bob 2-5"]);
  });

  it("asks somebody else when the one asked is gone", () => {
    learn(5);
    sources = [carol];
    expect(gone(bob)).toEqual(["carol 1-5"]);
    expect(gone(bob)).toEqual([]);
  });

  it("waits with nobody to ask, and asks when somebody is there", () => {
    sources = [];
    expect(learn(5)).toEqual([]);
    expect(tick(500)).toEqual([]);
    sources = [carol];
    expect(tick(1000)).toEqual(["carol 1-5"]);
  });

  it("gives a live push its moment, and asks once that is over", () => {
    expect(learn(5, 0, 100)).toEqual([]);
    expect(tick(99)).toEqual([]);
    expect(learn(5, 100, 100)).toEqual(["bob 1-5"]);
  });

  it("asks nothing after all when the push came in its moment", () => {
    learn(5, 1000, 100);
    staged = 5;
    expect(tick(2000)).toEqual([]);
    expect(catchUp.lacking()).toEqual([]);
  });

  it("asks for no more while more than one message of what came is not on disk", () => {
    learn(5000);
    staged = 2 * INTERVAL_DELTAS_MAX;
    durable = INTERVAL_DELTAS_MAX - 1;
    expect(answered(bob, INTERVAL_DELTAS_MAX)).toEqual([]);
    durable++;
    expect(effectsOf((effects) => catchUp.flushed(0, effects))).toEqual([`bob ${staged + 1}-${staged + INTERVAL_DELTAS_MAX}`]);
  });

  it("asks for PULLS_MAX streams at a time, and for one more when one is answered", () => {
    const many = (index: number) => `writer-${index}` as WriterId;
    const learnOf = (index: number) => effectsOf((effects) => catchUp.learn(partition, many(index), 1, 0, 0, effects));
    for (let index = 0; index < PULLS_MAX; index++) expect(learnOf(index)).toHaveLength(1);
    expect(learnOf(PULLS_MAX)).toEqual([]);
    expect(catchUp.lacking()).toHaveLength(PULLS_MAX + 1);
    sources = [bob];
    expect(effectsOf((effects) => catchUp.answered(partition, many(0), bob, 0, 0, effects))).toEqual(["bob 1-1"]);
  });
});

describe("a member that claims what it does not send", () => {
  const mallory = "mallory" as NodeId;
  /** name of the stream -> who claims it */
  let claims: Map<string, NodeId[]>;
  let asked: { to: NodeId; stream: string }[];
  let notes: { message: string; peer: unknown }[];
  let catching: CatchUp;
  /** Streams whose deltas are here. */
  let here: Set<string>;
  beforeEach(() => {
    claims = new Map();
    asked = [];
    notes = [];
    here = new Set();
    catching = new CatchUp({
      stagedSeq: (_, stream) => (here.has(stream) ? 1 : 0),
      durableSeq: (_, stream) => (here.has(stream) ? 1 : 0),
      sources: (_, stream) => claims.get(stream) ?? [],
    });
  });
  const run = (step: (effects: Effect[]) => void): void => {
    const effects: Effect[] = [];
    step(effects);
    for (const effect of effects) {
      if (effect.type === "note") notes.push({ message: effect.message, peer: effect.facts.peer });
      else if (effect.type === "send" && effect.message.type === "want") asked.push({ to: effect.to, stream: effect.message.writer });
    }
  };
  const claim = (member: NodeId, stream: string, now = 0, seq = 1): void => {
    const known = claims.get(stream) ?? [];
    if (!known.includes(member)) claims.set(stream, [...known, member]);
    run((effects) => catching.learn(partition, stream as WriterId, seq, 0, now, effects));
  };
  const many = (member: NodeId, prefix: string, count: number, now = 0): void => {
    for (let index = 0; index < count; index++) claim(member, `${prefix}-${index}`, now);
  };
  /** Everybody but mallory answers at once what is asked of it, until nothing is asked any more. */
  const honest = (now: number): void => {
    for (let at = 0; at < asked.length; at++) {
      const { to, stream } = asked[at]!;
      if (to === mallory || here.has(stream)) continue;
      here.add(stream);
      run((effects) => catching.answered(partition, stream as WriterId, to, 1, now, effects));
    }
  };

  it("is waited for in PULLS_WAITING_MAX streams; of one more nothing is kept, and one line says so", () => {
    many(mallory, "invented", PULLS_WAITING_MAX);
    expect(catching.lacking()).toHaveLength(PULLS_WAITING_MAX);
    expect(notes).toEqual([]);
    many(mallory, "more", 10);
    expect(catching.lacking()).toHaveLength(PULLS_WAITING_MAX);
    expect(notes).toEqual([{ message: expect.stringContaining("more streams"), peer: mallory }]);
    claim(bob, "of-bob");
    expect(catching.lacking()).toHaveLength(PULLS_WAITING_MAX + 1);
  });

  it("may be told of the rest again once there is room", () => {
    many(bob, "real", PULLS_WAITING_MAX + 1);
    honest(0);
    expect(here.size).toBe(PULLS_WAITING_MAX);
    claim(bob, `real-${PULLS_WAITING_MAX}`);
    honest(0);
    expect([here.size, catching.lacking()]).toEqual([PULLS_WAITING_MAX + 1, []]);
  });

  it("is asked for PULLS_A_PEER_MAX streams at a time, so that others are asked meanwhile", () => {
    many(mallory, "invented", PULLS_MAX + 1);
    expect(asked).toHaveLength(PULLS_A_PEER_MAX);
    many(bob, "real", 100);
    honest(0);
    expect(here.size).toBe(100);
  });

  it("is asked for one at a time after its answers did not come, and others are asked first for what both hold", () => {
    many(mallory, "invented", 1000);
    run((effects) => catching.tick(2000, effects));
    asked = [];
    for (let now = 2050; now < 20_000; now += 50) run((effects) => catching.tick(now, effects));
    expect(asked.length).toBeLessThanOrEqual(18_000 / 2000 + 1);
    asked = [];
    claims.set("shared", [mallory, bob]);
    claim(bob, "shared", 20_000);
    expect(asked).toEqual([{ to: bob, stream: "shared" }]);
    expect(notes).toEqual([{ message: expect.stringContaining("does not send"), peer: mallory }]);
  });

  it("delays no stream that somebody else holds by more than it takes to give up once, however much it claims", () => {
    many(mallory, "invented", PULLS_WAITING_MAX);
    // What is real is claimed by both, mallory first.
    for (let index = 0; index < 500; index++) claims.set(`real-${index}`, [mallory, bob]);
    for (let index = 0; index < 500; index++) claim(bob, `real-${index}`);
    for (let now = 0; now <= 2500; now += 50) {
      run((effects) => catching.tick(now, effects));
      honest(now);
    }
    expect(here.size).toBe(500);
  });

  it("holds up nothing real by claiming more of a stream than there is", () => {
    claim(mallory, "of-bob", 0, Number.MAX_SAFE_INTEGER);
    for (let now = 0; now < 300_000; now += 500) run((effects) => catching.tick(now, effects));
    asked = [];
    claim(bob, "of-bob", 300_000);
    expect(asked).toEqual([{ to: bob, stream: "of-bob" }]);
  });

  it("is not believed any more after it was asked twice in vain: nothing is said to be lacking for it", () => {
    many(mallory, "invented", 3);
    expect(catching.lacking()).toHaveLength(3);
    for (let now = 0; now < 30_000; now += 50) run((effects) => catching.tick(now, effects));
    expect(catching.lacking()).toEqual([]);
    // Unless somebody else says so too.
    claim(bob, "invented-1", 30_000);
    honest(30_000);
    expect(here.has("invented-1")).toBe(true);
    // Or it brings something after all: then what follows is believed.
    claim(mallory, "invented-2", 30_000, 9);
    run((effects) => catching.answered(partition, "invented-2" as WriterId, mallory, 1, 30_000, effects));
    expect(catching.lacking()).toMatchObject([{ writer: "invented-2", known: 9 }]);
  });

  it("is asked after somebody reliable, also when it has nothing else to do", () => {
    claim(mallory, "invented");
    run((effects) => catching.tick(2000, effects));
    asked = [];
    claims.set("shared", [mallory, bob]);
    claim(bob, "shared", 2000);
    expect(asked).toEqual([{ to: bob, stream: "shared" }]);
  });

  it("does not hold up a tick by all of its claims at once", () => {
    const looked: number[] = [];
    let looks = 0;
    const sources = (): NodeId[] => {
      looks++;
      return [];
    };
    catching = new CatchUp({ stagedSeq: () => 0, durableSeq: () => 0, sources });
    for (let index = 0; index < 2000; index++) run((effects) => catching.learn(partition, `w-${index}` as WriterId, 1, 0, 0, effects));
    for (let now = 500; now < 1000; now += 50) {
      looks = 0;
      run((effects) => catching.tick(now, effects));
      looked.push(looks);
    }
    expect(Math.max(...looked)).toBeLessThan(300);
    expect(looked.reduce((sum, count) => sum + count, 0)).toBe(2000);
  });

  it("is forgotten a minute after it is gone, with all that only it claimed", () => {
    many(mallory, "invented", 1000);
    claims.clear();
    run((effects) => catching.gone(mallory, 1000, effects));
    for (let now = 1000; now < 70_000; now += 50) run((effects) => catching.tick(now, effects));
    expect(catching.lacking()).toEqual([]);
    many(mallory, "again", PULLS_WAITING_MAX, 70_000);
    expect(catching.lacking()).toHaveLength(PULLS_WAITING_MAX);
  });

  it("costs no more time with thousands of claims than with few", () => {
    many(mallory, "invented", PULLS_WAITING_MAX);
    run((effects) => catching.tick(2000, effects));
    const begun = performance.now();
    for (let index = 0; index < 20_000; index++) {
      claim(bob, `real-${index}`, 2000);
      honest(2000);
      asked = [];
    }
    // A walk over every claim for each answer would take minutes.
    expect(performance.now() - begun).toBeLessThan(5000);
    expect(here.size).toBe(20_000);
  });
});
