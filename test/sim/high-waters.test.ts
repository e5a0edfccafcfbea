import { encode } from "cborg";
import { describe, expect, it } from "vitest";
import { protect } from "../../node/store/keyspace.ts";
import { HighWaters } from "./high-waters.ts";

const row = (value: unknown): Uint8Array => protect(encode(value));
const born = (incarnation = "a".repeat(32)): [string, Uint8Array] => ["!incarnation", protect(Buffer.from(incarnation))];
const layout = (version: number): Uint8Array => row([1, version, "f".repeat(32), 2]);
const ALICE = "ABCDEFGHIJKLMNOPQRSTUV";
const BOB = "BBCDEFGHIJKLMNOPQRSTUV";

function disk(...rows: [string, unknown][]): HighWaters {
  const high = new HighWaters();
  high.wrote("alice", new Map<string, Uint8Array>([born(), ...rows.map(([key, value]): [string, Uint8Array] => [key, row(value)])]), true);
  return high;
}
const complaints = (high: HighWaters): string[] => high.violations.map(({ message }) => message);

describe("what never goes back on a disk", () => {
  it("may rise and stay", () => {
    const high = disk(["!clock", [100, 2]], ["f/007", [[ALICE, 3, "h"]]], ["e/007", [[ALICE, 1, 2]]]);
    for (const clock of [
      [100, 2],
      [100, 3],
      [101, 0],
    ])
      high.wrote("alice", new Map([["!clock", row(clock)]]), true);
    high.wrote("alice", new Map([["f/007", row([[ALICE, 3, "h"], [BOB, 1, "h"]])]]), true); // biome-ignore format: two streams
    high.wrote("alice", new Map([["e/007", row([[ALICE, 2, 2]])]]), true);
    high.wrote("alice", new Map([["!layout", layout(1)]]), true);
    high.wrote("alice", new Map([["!layout", layout(2)]]), true);
    expect(complaints(high)).toEqual([]);
  });

  it.each<[string, unknown, unknown, string]>([
    ["!clock", [100, 2], [100, 1], "high-water was 100.2 and is 100.1"],
    ["!clock", [100, 2], [99, 9], "high-water was 100.2 and is 99.9"],
    ["!layout", [1, 3], [1, 2], "version was 3 and is 2"],
    ["!starts", [4, new Uint8Array()], [3, new Uint8Array()], "count was 4 and is 3"],
    ["f/007", [[ALICE, 3, "h"]], [[ALICE, 2, "h"]], `${ALICE} was 3 and is 2`],
    ["f/007", [[ALICE, 3, "h"]], [], `${ALICE} was 3 and is gone`],
    ["w/007", [[ALICE, 3, "h"]], [[ALICE, 2, "h"]], `${ALICE} was 3 and is 2`],
    ["e/007", [[ALICE, 2, 5]], [[ALICE, 2, 4]], `${ALICE} was 2.5 and is 2.4`],
    ["o/007", [[ALICE, 3, "h"]], [[ALICE, 1, "h"]], `${ALICE} was 3 and is 1`],
  ])("is missed when %s is written lower", (key, before, after, message) => {
    const high = disk([key, before]);
    high.wrote("alice", new Map([[key, row(after)]]), true);
    expect(complaints(high)).toEqual([`alice: ${key} ${message}`]);
  });

  it("is missed when the next process finds less, or nothing", () => {
    const lower = disk(["!clock", [100, 2]]);
    lower.found("alice", new Map([born(), ["!clock", row([99, 0])]]));
    expect(complaints(lower)).toHaveLength(1);
    const gone = disk(["!clock", [100, 2]], ["!layout", [1, 1]]);
    gone.found("alice", new Map([born(), ["!clock", row([100, 2])]]));
    expect(complaints(gone)).toEqual(["alice: !layout version was 1 and is gone"]);
  });

  it("may be gone with a partition that was on its way out, also when nobody heard that the batch is there, and not otherwise", () => {
    const streams: [string, Uint8Array] = ["f/007", row([[ALICE, 3, "h"]])];
    const marks: [string, Uint8Array] = ["w/007", row([[ALICE, 3, "h"]])];
    const high = (...found: [string, Uint8Array][]): string[] => {
      const waters = new HighWaters();
      waters.wrote("alice", new Map([born(), streams, marks]), true);
      waters.found("alice", new Map([born(), ...found]));
      return complaints(waters);
    };
    expect(high(marks, ["q/007", row([])])).toEqual([]);
    expect(high(streams, ["z/007", row([])])).toEqual([]);
    expect(high(marks, ["q/008", row([])])).toHaveLength(1);
    expect(high(streams, ["q/007", row([])])).toHaveLength(1);
    expect(high(marks)).toHaveLength(1);
  });

  it("may be lost by a power cut as long as it was not synced", () => {
    const high = disk(["!clock", [100, 0]]);
    high.wrote("alice", new Map([["!clock", row([200, 0])]]), false);
    high.found("alice", new Map([born(), ["!clock", row([100, 0])]]));
    expect(complaints(high)).toEqual([]);
    high.wrote("alice", new Map([["!clock", row([99, 0])]]), false);
    expect(complaints(high)).toHaveLength(1);
  });

  it("begins anew with a new incarnation, an empty disk, or an old copy in its place", () => {
    const reborn = disk(["!clock", [100, 0]]);
    reborn.wrote("alice", new Map([born("b".repeat(32)), ["!clock", row([1, 0])]]), true);
    const empty = disk(["!clock", [100, 0]]);
    empty.found("alice", new Map());
    empty.wrote("alice", new Map([born("b".repeat(32)), ["!clock", row([1, 0])]]), true);
    const copied = disk(["!clock", [100, 0]]);
    copied.replaced("alice");
    copied.found("alice", new Map([born(), ["!clock", row([50, 0])]]));
    expect([reborn, empty, copied].flatMap(complaints)).toEqual([]);
    copied.wrote("alice", new Map([["!clock", row([49, 0])]]), true);
    expect(complaints(copied)).toHaveLength(1);
  });

  it("is not asked of a row whose checksum is wrong: the node must notice that itself", () => {
    const high = disk(["!clock", [100, 2]]);
    const lower = row([99, 0]);
    lower[0] = (lower[0] as number) ^ 1;
    high.found("alice", new Map([born(), ["!clock", lower]]));
    expect(complaints(high)).toEqual([]);
    high.wrote("alice", new Map([["!clock", row([100, 1])]]), true);
    expect(complaints(high)).toHaveLength(1);
  });

  it("may go with a partition that is dropped as a whole", () => {
    const high = disk(["f/007", [[ALICE, 3, "h"]]]);
    high.wrote("alice", new Map([["f/007", undefined]]), true);
    high.wrote("alice", new Map([["f/007", row([[ALICE, 1, "h"]])]]), true);
    expect(complaints(high)).toEqual([]);
  });
});
