import { beforeEach, describe, expect, it } from "vitest";
import { CatchUp } from "../../protocol/catch-up.ts";
import type { Effect } from "../../protocol/effects.ts";
import type { NodeId, Partition, WriterId } from "../../protocol/ids.ts";
import { INTERVAL_DELTAS_MAX, PULLS_MAX } from "../../protocol/limits.ts";

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

  it("asks somebody else when an answer does not come, and all again after a while", () => {
    learn(5, 0);
    expect(tick(1999)).toEqual([]);
    expect(tick(2000)).toEqual(["carol 1-5"]);
    expect(tick(4000)).toEqual([]);
    expect(tick(4500)).toEqual(["bob 1-5"]);
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
