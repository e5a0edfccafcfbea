import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Head } from "../../protocol/frontier.ts";
import type { Partition, WriterId } from "../../protocol/ids.ts";
import { witnessMay } from "../../protocol/witness.ts";

const partition = 7 as Partition;
const writer = "writer-of-the-stream" as WriterId;
const head = (seq: number, hash = `hash-${seq}`): Head => ({ seq, hash });
const may = (mark: Head, forgotten: number, ...reports: (Head | undefined)[]) => witnessMay(partition, writer, mark, forgotten, reports);
const forget = (seq: number) => ({ type: "forget", partition, writer, seq });
const mark = (seq: number) => ({ type: "mark", head: { partition, writer, ...head(seq) } });

describe("a witness", () => {
  it("forgets nothing and marks nothing while one full replica has reported nothing", () => {
    expect(may(head(5), 0, head(5), undefined)).toEqual([]);
    expect(may(head(5), 0, undefined, head(9))).toEqual([]);
    expect(may(head(5), 0, head(0), head(9))).toEqual([]);
  });

  it("forgets up to the least that every full replica has reported", () => {
    expect(may(head(5), 0, head(5), head(3))).toEqual([forget(3)]);
    expect(may(head(5), 0, head(5), head(5))).toEqual([forget(5)]);
  });

  it("says so once", () => {
    expect(may(head(5), 3, head(5), head(3))).toEqual([]);
    expect(may(head(5), 3, head(5), head(4))).toEqual([forget(4)]);
  });

  it("raises its mark without the bytes to what every full replica has, and no further", () => {
    expect(may(head(2), 2, head(9), head(4))).toEqual([mark(4), forget(4)]);
  });

  it("does not raise its mark to a number whose hash it was not told: the next delta could not be checked", () => {
    expect(may(head(2), 0, head(4, ""), head(4, ""))).toEqual([forget(2)]);
    expect(may(head(2), 0, head(4, ""), head(4))).toEqual([mark(4), forget(4)]);
    expect(may(head(2), 0, head(4), head(4, ""))).toEqual([mark(4), forget(4)]);
  });

  it("does not raise its mark where two replicas tell two histories", () => {
    expect(may(head(2), 0, head(4, "one"), head(4, "other"))).toEqual([forget(2)]);
  });

  it("never passes any full replica, whatever is reported", () => {
    const someHead = fc.option(fc.record({ seq: fc.nat({ max: 20 }), hash: fc.constantFrom("", "one", "other") }), { nil: undefined });
    fc.assert(
      fc.property(fc.nat({ max: 20 }), fc.nat({ max: 20 }), fc.array(someHead, { minLength: 1, maxLength: 4 }), (at, forgotten, reports) => {
        const least = Math.min(...reports.map((report) => report?.seq ?? 0));
        for (const batch of may(head(at), forgotten, ...reports)) {
          if (batch.type === "forget") expect(batch.seq).toBeLessThanOrEqual(least);
          else if (batch.type === "mark") expect(batch.head.seq).toBeLessThanOrEqual(least);
          else throw new Error(batch.type);
        }
        if (least === 0) expect(may(head(at), forgotten, ...reports)).toEqual([]);
      }),
    );
  });
});
