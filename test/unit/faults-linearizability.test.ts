import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type RegisterOperation, whyNotLinearizable } from "../faults/linearizability.ts";

const write = (value: string, begin: number, end?: number): RegisterOperation => ({ name: `w${value}`, kind: "write", value, begin, end });
const read = (value: string | undefined, begin: number, end: number): RegisterOperation => ({ name: `r${begin}`, kind: "read", value, begin, end });

describe("linearizable:", () => {
  const histories: readonly (readonly [what: string, operations: readonly RegisterOperation[]])[] = [
    ["nothing at all", []],
    ["a read before the first write", [read(undefined, 0, 1), write("a", 2, 3)]],
    ["one after the other", [write("a", 0, 1), read("a", 2, 3), write("b", 4, 5), read("b", 6, 7)]],
    ["a read during a write sees the old value or the new", [write("a", 0, 1), write("b", 2, 9), read("a", 3, 4), read("b", 5, 6)]],
    ["two writes at once end in either order", [write("a", 0, 9), write("b", 0, 9), read("a", 10, 11), read("a", 12, 13)]],
    ["a write in doubt that never happened", [write("a", 0, 1), write("b", 2), read("a", 3, 4), read("a", 5, 6)]],
    ["a write in doubt that happened late", [write("a", 0, 1), write("b", 2), read("a", 3, 4), write("c", 5, 6), read("c", 7, 8), read("b", 9, 10)]],
    ["a value overwritten before anybody read it", [write("a", 0, 1), write("b", 2, 3), write("c", 2, 3), read("b", 4, 5)]],
  ];
  test.each(histories)("%s", (_, operations) => {
    expect(whyNotLinearizable(operations)).toBeUndefined();
  });
});

describe("a planted violation is found:", () => {
  const histories: readonly (readonly [what: string, operations: readonly RegisterOperation[]])[] = [
    ["a stale read", [write("a", 0, 1), write("b", 2, 3), read("a", 4, 5)]],
    ["an acknowledged write is lost", [write("a", 0, 1), read(undefined, 2, 3)]],
    ["a read goes back", [write("a", 0, 1), write("b", 2, 9), read("b", 3, 4), read("a", 5, 6)]],
    ["two readers see two writes in two orders", [write("a", 0, 20), write("b", 0, 20), read("a", 1, 2), read("b", 3, 4), read("a", 5, 6)]],
    ["a value that nobody wrote", [write("a", 0, 1), read("z", 2, 3)]],
    ["a value before it was written", [write("a", 0, 1), read("b", 2, 3), write("b", 4, 5)]],
    ["a later write loses against an earlier one", [write("a", 0, 1), write("b", 2, 3), read("a", 4, 5), read("a", 6, 7)]],
    ["a write in doubt comes, goes and comes back", [write("a", 0, 1), write("b", 2), read("b", 3, 4), read("a", 5, 6), read("b", 7, 8)]],
    ["a write in doubt takes effect before it was asked for", [write("a", 0, 1), read("b", 2, 3), write("b", 4)]],
  ];
  test.each(histories)("%s", (_, operations) => {
    expect(whyNotLinearizable(operations)).toMatch(/none of these can be next: ./);
  });
});

test("the search agrees with trying every order", () => {
  const operation = fc.record({
    kind: fc.constantFrom("write" as const, "read" as const),
    begin: fc.integer({ min: 0, max: 12 }),
    length: fc.integer({ min: 0, max: 6 }),
    reads: fc.integer({ min: -1, max: 5 }),
    inDoubt: fc.boolean(),
  });
  let linearizable = 0;
  let not = 0;
  fc.assert(
    fc.property(fc.array(operation, { minLength: 1, maxLength: 6 }), (drawn) => {
      // Two moments are never the same: ends lie between begins.
      const operations = drawn.map(({ kind, begin, length, reads, inDoubt }, index): RegisterOperation => {
        const at = begin + index / 100;
        if (kind === "write") return { name: `${index}`, kind, value: `v${index}`, begin: at, end: inDoubt ? undefined : at + length + 0.5 };
        return { name: `${index}`, kind, value: reads < 0 ? undefined : `v${reads}`, begin: at, end: at + length + 0.5 };
      });
      const found = whyNotLinearizable(operations) === undefined;
      if (found) linearizable++;
      else not++;
      expect(found).toBe(someOrderWorks(operations, undefined));
    }),
    { numRuns: 3000 },
  );
  // Histories of both kinds were drawn: the comparison says something.
  expect(Math.min(linearizable, not)).toBeGreaterThan(300);
});

test("a thousand operations of eight clients are judged in well under a second", () => {
  const operations: RegisterOperation[] = [];
  for (let turn = 0; turn < 125; turn++) {
    for (let client = 0; client < 8; client++) {
      const begin = turn * 10 + client / 10;
      // The client with the highest number is the last to take effect.
      operations.push(
        client % 2 === 0 ? write(`${turn}.${client}`, begin, turn * 10 + 8 + client / 10) : read(`${turn}.${client - 1}`, begin, begin + 8),
      );
    }
  }
  const begun = performance.now();
  expect(whyNotLinearizable(operations)).toBeUndefined();
  expect(whyNotLinearizable([...operations, read("3.2", 5000, 5001)])).toBeDefined();
  expect(performance.now() - begun).toBeLessThan(5_000);
});

/** By the definition, with no cleverness at all. */
function someOrderWorks(left: readonly RegisterOperation[], value: string | undefined): boolean {
  if (left.every(({ end }) => end === undefined)) return true;
  return left.some((next) => {
    if (left.some((other) => other !== next && other.end !== undefined && other.end < next.begin)) return false;
    if (next.kind === "read" && next.value !== value) return false;
    return someOrderWorks(
      left.filter((one) => one !== next),
      next.kind === "write" ? next.value : value,
    );
  });
}
