import { describe, expect, it } from "vitest";
import type { Bump, Delete, Edit, Operation, Put, Read } from "./history.ts";
import { checkHistory } from "./history-checker.ts";

let nextId = 0;
const common = { client: "alice", tenant: "t", level: "quorum" as const, attempts: 1 };
const put = (begin: number, end: number | undefined, more: Partial<Put> = {}): Put => ({
  ...common,
  id: nextId++,
  kind: "put",
  begin,
  end,
  memory: "m",
  value: "v",
  ...more,
});
const edit = (begin: number, end: number | undefined, value: string, more: Partial<Edit> = {}): Edit => ({
  ...common,
  id: nextId++,
  kind: "edit",
  begin,
  end,
  memory: "m",
  value,
  ...more,
});
const forget = (begin: number, end: number | undefined): Delete => ({ ...common, id: nextId++, kind: "delete", begin, end, memory: "m" });
const bump = (begin: number, end: number | undefined, more: Partial<Bump> = {}): Bump => ({
  ...common,
  id: nextId++,
  kind: "bump",
  begin,
  end,
  concepts: ["a", "b"],
  ...more,
});
const read = (begin: number, end: number, values: readonly string[], more: Partial<Read> = {}): Read => ({
  ...common,
  id: nextId++,
  kind: "read",
  begin,
  end,
  after: [],
  seen: { memories: new Map([["m", values]]), counts: new Map() },
  ...more,
});
const count = (begin: number, end: number, seen: number, more: Partial<Read> = {}): Read =>
  read(begin, end, [], { seen: { memories: new Map(), counts: new Map([["a", seen]]) }, ...more });

const complaints = (...history: Operation[]) => checkHistory(history).map((violation) => violation.message);

describe("the history checker finds", () => {
  it("an acknowledged memory that a later quorum read lacks", () => {
    expect(complaints(put(0, 10), read(11, 12, []))).toEqual([expect.stringContaining("m is missing")]);
    expect(complaints(put(0, 10), read(11, 12, ["v"]))).toEqual([]);
    expect(complaints(put(0, 10), read(9, 12, []))).toEqual([]);
    expect(complaints(put(0, undefined), read(11, 12, []))).toEqual([]);
  });

  it("levels apart: `one` promises nothing, but for what its token names", () => {
    const mine = put(0, 10, { level: "one" });
    expect(complaints(mine, read(11, 12, []))).toEqual([]);
    expect(complaints(put(0, 10), read(11, 12, [], { level: "one" }))).toEqual([]);
    expect(complaints(mine, read(11, 12, [], { level: "one", after: [mine.id] }))).toEqual([expect.stringContaining("m is missing")]);
  });

  it("a value out of nowhere, or before it was asked for", () => {
    expect(complaints(put(0, 10), read(11, 12, ["v", "w"]))).toEqual([expect.stringContaining("which nobody wrote")]);
    expect(complaints(put(0, 10), edit(20, 30, "w"), read(11, 12, ["w"]))).toContainEqual(expect.stringContaining("which nobody wrote"));
  });

  it("a deleted memory that is there, or comes back", () => {
    expect(complaints(put(0, 1), forget(2, 3), read(4, 5, ["v"]))).toEqual([expect.stringContaining("although its deletion")]);
    expect(complaints(put(0, 1), forget(2, undefined), read(4, 5, ["v"]), read(6, 7, []))).toEqual([]);
    expect(complaints(put(0, 1), forget(2, undefined), read(4, 5, ["v"]), read(6, 7, []), read(8, 9, ["v"]))).toEqual([
      expect.stringContaining("again"),
    ]);
  });

  it("an acknowledged edit that is neither there nor replaced", () => {
    expect(complaints(put(0, 1), edit(2, 3, "w"), read(4, 5, ["v"]))).toEqual([expect.stringContaining("lacks the value w")]);
    expect(complaints(put(0, 1), edit(2, 3, "w"), edit(2.5, undefined, "x"), read(4, 5, ["x"]))).toEqual([]);
    expect(complaints(put(0, 1), edit(2, 3, "w"), edit(1, 1.5, "x"), read(4, 5, ["x"]))).toContainEqual(expect.stringContaining("lacks the value w"));
  });

  it("a memory that one reader saw and the next does not, though it was never acknowledged", () => {
    expect(complaints(put(0, undefined), read(1, 2, ["v"]), read(3, 4, []))).toEqual([expect.stringContaining("has lost the value")]);
    expect(complaints(put(0, undefined), read(1, 3.5, ["v"]), read(3, 4, []))).toEqual([]);
  });

  it("counts too low, too high, or falling", () => {
    expect(complaints(bump(0, 1), bump(0, 1), count(2, 3, 1))).toEqual([expect.stringContaining("but 2 were acknowledged")]);
    expect(complaints(bump(0, 1), count(2, 3, 2))).toEqual([expect.stringContaining("only 1 were asked for")]);
    expect(complaints(bump(0, undefined), count(2, 3, 1), count(4, 5, 0))).toEqual([expect.stringContaining("had seen 1")]);
    expect(complaints(bump(0, undefined), bump(0, 1), count(2, 3, 1), count(4, 5, 2))).toEqual([]);
  });

  it("nothing across tenants", () => {
    expect(complaints(put(0, 1), read(2, 3, [], { tenant: "other" }))).toEqual([]);
  });
});
