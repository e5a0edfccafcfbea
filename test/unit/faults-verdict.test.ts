import { describe, expect, it } from "vitest";
import type { Level } from "../../protocol/ids.ts";
import type { Outcome, Recorded } from "../faults/clients.ts";
import { checkRefused, checkRegisters, checkTenant, tallyOf } from "../faults/verdict.ts";

/** A history of one tenant, written down by hand; ids in order. */
class Told {
  readonly recorded: Recorded[] = [];

  put(memory: string, value: string, begin: number, end?: number, outcome: Outcome = end === undefined ? "in doubt" : "ok"): this {
    return this.#add({ kind: "put", memory, value, begin, end }, outcome);
  }
  edit(
    memory: string,
    value: string,
    begin: number,
    end?: number,
    outcome: Outcome = end === undefined ? "in doubt" : "ok",
    level: Level = "quorum",
  ): this {
    return this.#add({ kind: "edit", memory, value, begin, end, level }, outcome);
  }
  delete(memory: string, begin: number, end: number): this {
    return this.#add({ kind: "delete", memory, begin, end }, "ok");
  }
  read(memory: string, values: readonly string[], begin: number, end: number, level: Level = "quorum"): this {
    return this.#add({ kind: "read", begin, end, level, after: [], seen: { memories: new Map([[memory, values]]), counts: new Map() } }, "ok");
  }
  #add(what: object, outcome: Outcome): this {
    const id = this.recorded.length + 1;
    const operation = { id, client: "alice", tenant: "t", level: "quorum", attempts: 1, ...what } as Recorded["operation"];
    this.recorded.push({ operation, outcome, key: `k${id}` });
    return this;
  }
}

describe("a history that a register could have had", () => {
  const history = new Told()
    .put("m", "a", 0, 1)
    .read("m", ["a"], 2, 3)
    .edit("m", "b", 4)
    .read("m", ["a"], 5, 6)
    .read("m", ["b"], 7, 8)
    .edit("m", "c", 9, 10, "refused")
    .read("m", ["b"], 11, 12).recorded;

  it("passes every check", () => {
    expect(checkTenant(history)).toEqual([]);
  });

  it("is counted by outcome, reads apart", () => {
    expect(tallyOf(history)).toEqual({ operations: 7, acknowledged: 1, inDoubt: 1, refused: 1 });
  });
});

describe("is found:", () => {
  it("a value of which every answer said that nothing was written", () => {
    const { recorded } = new Told().put("m", "a", 0, 1).edit("m", "b", 2, 3, "refused").read("m", ["b"], 4, 5);
    expect(checkRefused(recorded)).toMatchObject([{ checker: "refused" }]);
    expect(checkRegisters(recorded)).toMatchObject([{ checker: "linearizability" }]);
  });

  it("a register that goes back", () => {
    const { recorded } = new Told().put("m", "a", 0, 1).edit("m", "b", 2, 3).read("m", ["a"], 4, 5);
    expect(checkRegisters(recorded)).toMatchObject([{ checker: "linearizability" }]);
  });

  it("an edit that began after another had ended and loses against it, although both values are still there", () => {
    const { recorded } = new Told().put("m", "a", 0, 1).edit("m", "b", 2, 3).edit("m", "c", 4, 5).read("m", ["b", "c"], 6, 7);
    expect(checkRegisters(recorded)).toMatchObject([{ checker: "linearizability" }]);
  });

  it("a register that is missing after it was acknowledged", () => {
    const { recorded } = new Told().put("m", "a", 0, 1).read("m", [], 2, 3);
    expect(checkRegisters(recorded)).toMatchObject([{ checker: "linearizability" }]);
  });
});

describe("is left to the other checkers:", () => {
  it("a memory that was deleted, or written at level one", () => {
    expect(checkRegisters(new Told().put("m", "a", 0, 1).delete("m", 2, 3).read("m", ["a"], 4, 5).recorded)).toEqual([]);
    expect(checkRegisters(new Told().put("m", "a", 0, 1).edit("m", "b", 2, 3, "ok", "one").read("m", ["a"], 4, 5).recorded)).toEqual([]);
  });

  it("a read at level one", () => {
    expect(checkRegisters(new Told().put("m", "a", 0, 1).edit("m", "b", 2, 3).read("m", ["a"], 4, 5, "one").recorded)).toEqual([]);
  });
});
