import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { applyDelta } from "../../protocol/graph/apply.ts";
import { decodeRecord, encodeRecord, mergeRecords } from "../../protocol/graph/record.ts";
import type { GraphRecord } from "../../protocol/graph/records.ts";
import { type Execution, reordered, someExecution, stateOf } from "./graph-executions.ts";

const RUNS = 250;
/** Of RUNS each: one execution in forty deletes a memory, so one round in some hundreds sees no tombstone. */
const ROUNDS_MAX = 5;
const KINDS = ["concept", "link", "memory", "register", "tombstone", "turn"];
const hex = (record: GraphRecord) => Buffer.from(encodeRecord(record)).toString("hex");
const somePicks = fc.array(fc.nat({ max: 100 }), { minLength: 1, maxLength: 40 });

/** Every state that any copy of a record went through, by kind and id. */
function reachable(execution: Execution, orders: readonly (readonly number[])[]): Map<string, GraphRecord[]> {
  const found = new Map<string, Map<string, GraphRecord>>();
  for (const picks of orders) {
    const states = stateOf([]);
    for (const delta of reordered(execution.deltas, picks)) {
      states.take(delta);
      for (const [name, record] of states.records) {
        if (!found.has(name)) found.set(name, new Map());
        found.get(name)!.set(hex(record), record);
      }
    }
  }
  return new Map([...found].map(([name, records]) => [name, [...records.values()]]));
}

/** Runs `law` on triples of states of one record, until some of every kind were seen. */
function lawHolds(law: (a: GraphRecord, b: GraphRecord, c: GraphRecord) => void): void {
  const kinds = new Set<string>();
  const property = fc.property(someExecution, fc.array(somePicks, { minLength: 2, maxLength: 3 }), fc.nat(), (execution, orders, start) => {
    for (const [name, records] of reachable(execution, orders)) {
      kinds.add(name.split("|")[1]!);
      const at = (index: number) => records[(start + index * 7) % records.length]!;
      for (let round = 0; round < 6; round++) law(at(round), at(round + 1), at(round * 3 + 2));
    }
  });
  for (let round = 0; round < ROUNDS_MAX && kinds.size < KINDS.length; round++) fc.assert(property, { numRuns: RUNS });
  expect([...kinds].sort()).toEqual(KINDS);
}

describe("merging records, over every state a copy can reach", () => {
  it("is commutative", () => {
    lawHolds((a, b) => expect(hex(mergeRecords(a, b))).toBe(hex(mergeRecords(b, a))));
  });

  it("is associative", () => {
    lawHolds((a, b, c) => expect(hex(mergeRecords(mergeRecords(a, b), c))).toBe(hex(mergeRecords(a, mergeRecords(b, c)))));
  });

  it("is idempotent", () => {
    lawHolds((a, b) => {
      expect(hex(mergeRecords(a, a))).toBe(hex(a));
      const joined = mergeRecords(a, b);
      expect(hex(mergeRecords(joined, b))).toBe(hex(joined));
    });
  });

  it("is monotone: the join is above both, and what is above one state joins to no less", () => {
    const below = (a: GraphRecord, b: GraphRecord) => hex(mergeRecords(a, b)) === hex(b);
    lawHolds((a, b, c) => {
      const joined = mergeRecords(a, b);
      expect(below(a, joined) && below(b, joined)).toBe(true);
      expect(below(mergeRecords(a, c), mergeRecords(joined, c))).toBe(true);
    });
  });

  it("refuses two kinds under one id", () => {
    const register: GraphRecord = { kind: "register", fields: {} };
    const tombstone: GraphRecord = { kind: "tombstone", of: "turn", id: "x", at: [1, 0], keys: [] };
    expect(() => mergeRecords<GraphRecord>(register, tombstone)).toThrowError(expect.objectContaining({ code: "INVARIANT" }));
  });
});

describe("a set of deltas", () => {
  it("gives the same bytes in every order that keeps each writer's own (P3)", () => {
    fc.assert(
      fc.property(someExecution, fc.array(somePicks, { minLength: 3, maxLength: 6 }), (execution, orders) => {
        const expected = stateOf(execution.deltas).bytes();
        for (const picks of orders) expect(stateOf(reordered(execution.deltas, picks)).bytes()).toEqual(expected);
      }),
      { numRuns: 4 * RUNS },
    );
  });

  it("gives its authors, once each has everything, what it gives everybody else", () => {
    fc.assert(
      fc.property(someExecution, ({ authors, deltas }) => {
        const expected = stateOf(deltas).bytes();
        for (const author of authors) {
          for (const other of authors) if (other !== author) author.pull(other);
          expect(author.state.bytes()).toEqual(expected);
        }
      }),
      { numRuns: RUNS },
    );
  });

  it("only ever moves a record up, except that a deleted turn or memory goes", () => {
    fc.assert(
      fc.property(someExecution, somePicks, ({ deltas }, picks) => {
        const state = stateOf([]);
        for (const delta of reordered(deltas, picks)) {
          const sameKey = state
            .executions(delta.header.partition, delta.header.key)
            .map(({ writer, seq }) => state.delta(delta.header.partition, writer, seq)!);
          for (const { kind, before, after } of applyDelta(delta, state, sameKey)) {
            if (after === undefined) expect(["turn", "memory"]).toContain(kind);
            else if (before !== undefined) expect(hex(mergeRecords(before, after))).toBe(hex(after));
          }
          state.take(delta);
        }
        expect(state.deltas.size).toBe(deltas.length);
      }),
      { numRuns: RUNS },
    );
  });

  it("leaves no deleted turn or memory behind, whatever arrives after its tombstone (P6)", () => {
    fc.assert(
      fc.property(someExecution, somePicks, ({ deltas }, picks) => {
        const state = stateOf([]);
        const deleted = new Set<string>();
        for (const delta of reordered(deltas, picks)) {
          state.take(delta);
          for (const entry of delta.body.entries) if (entry.op === "tombstone") deleted.add(`${delta.body.tenant}|${entry.of}|${entry.id}`);
          for (const name of deleted) expect(state.records.has(name)).toBe(false);
        }
        for (const name of deleted) expect(state.records.has(name.replace(/\|(turn|memory)\|/, "|tombstone|$1/"))).toBe(true);
      }),
      { numRuns: RUNS },
    );
  });
});

describe("canonical bytes of a record", () => {
  it("come back as they went, for every state that can be reached", () => {
    fc.assert(
      fc.property(someExecution, ({ deltas }) => {
        for (const record of stateOf(deltas).records.values()) {
          const bytes = encodeRecord(record);
          expect(encodeRecord(decodeRecord(bytes))).toEqual(bytes);
        }
      }),
      { numRuns: RUNS },
    );
  });
});
