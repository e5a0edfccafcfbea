import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { LEVELS, type Level } from "../../protocol/ids.ts";
import { levelMet, quorumOf } from "../../protocol/quorum.ts";

/** A second, simple-minded version: members are named and their answers are a set. */
function naiveLevelMet(level: Level, replicas: readonly string[], witnesses: readonly string[], answered: ReadonlySet<string>): boolean {
  const full = replicas.filter((name) => answered.has(name));
  const all = [...replicas, ...witnesses];
  const yes = all.filter((name) => answered.has(name));
  if (level === "all") return full.length > 0 && full.length === replicas.length;
  if (level === "one") return full.length > 0;
  const no = all.filter((name) => !answered.has(name));
  return full.length > 0 && yes.length > no.length;
}

/** Every set of answers over every group of up to 4 replicas and 3 witnesses. */
function* everyTally() {
  for (let replicaCount = 0; replicaCount <= 4; replicaCount++) {
    for (let witnessCount = replicaCount === 0 ? 1 : 0; witnessCount <= 3; witnessCount++) {
      const replicas = Array.from({ length: replicaCount }, (_, index) => `r${index}`);
      const witnesses = Array.from({ length: witnessCount }, (_, index) => `w${index}`);
      const members = [...replicas, ...witnesses];
      for (let bits = 0; bits < 2 ** members.length; bits++) {
        yield { replicas, witnesses, answered: new Set(members.filter((_, index) => (bits & (1 << index)) !== 0)) };
      }
    }
  }
}

function tallyOf(replicas: readonly string[], witnesses: readonly string[], answered: ReadonlySet<string>) {
  return { replicas: replicas.filter((name) => answered.has(name)).length, witnesses: witnesses.filter((name) => answered.has(name)).length };
}

describe("quorum", () => {
  it("is floor(m / 2) + 1 of the group", () => {
    expect([1, 2, 3, 4, 5, 6, 7].map(quorumOf)).toEqual([1, 2, 2, 3, 3, 4, 4]);
  });

  it("any two quorums share a member, and one less would not", () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 10_000 }), (size) => {
        expect(2 * quorumOf(size)).toBeGreaterThan(size);
        expect(2 * (quorumOf(size) - 1)).toBeLessThanOrEqual(size);
      }),
    );
  });

  it("refuses an empty group and a size that is no whole number", () => {
    for (const size of [0, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(() => quorumOf(size)).toThrowError(expect.objectContaining({ code: "EMPTY_GROUP" }));
    }
  });

  it("agrees with a simple-minded count over named members, for every level, group and set of answers", () => {
    let compared = 0;
    for (const { replicas, witnesses, answered } of everyTally()) {
      for (const level of LEVELS) {
        const met = levelMet(level, { replicaCount: replicas.length, witnessCount: witnesses.length }, tallyOf(replicas, witnesses, answered));
        expect(met, `${level} ${[...answered]} of ${replicas} ${witnesses}`).toBe(naiveLevelMet(level, replicas, witnesses, answered));
        compared++;
      }
    }
    expect(compared).toBe(3 * (31 * 15 - 1));
  });

  it("needs a full replica even where the witnesses alone are a quorum", () => {
    expect(levelMet("quorum", { replicaCount: 1, witnessCount: 2 }, { replicas: 0, witnesses: 2 })).toBe(false);
    expect(levelMet("quorum", { replicaCount: 1, witnessCount: 2 }, { replicas: 1, witnesses: 1 })).toBe(true);
  });

  it("two replicas and a witness: any two of three answer at quorum, both replicas at all", () => {
    const group = { replicaCount: 2, witnessCount: 1 };
    expect(levelMet("quorum", group, { replicas: 1, witnesses: 0 })).toBe(false);
    expect(levelMet("quorum", group, { replicas: 1, witnesses: 1 })).toBe(true);
    expect(levelMet("all", group, { replicas: 1, witnesses: 1 })).toBe(false);
    expect(levelMet("all", group, { replicas: 2, witnesses: 0 })).toBe(true);
  });

  it("more answers only help", () => {
    for (const { replicas, witnesses, answered } of everyTally()) {
      const group = { replicaCount: replicas.length, witnessCount: witnesses.length };
      const tally = tallyOf(replicas, witnesses, answered);
      for (const level of LEVELS) {
        if (!levelMet(level, group, tally)) continue;
        if (tally.replicas < replicas.length) expect(levelMet(level, group, { ...tally, replicas: tally.replicas + 1 })).toBe(true);
        if (tally.witnesses < witnesses.length) expect(levelMet(level, group, { ...tally, witnesses: tally.witnesses + 1 })).toBe(true);
      }
    }
  });

  it("stops when more members answered than the group has: somebody was counted twice", () => {
    expect(() => levelMet("one", { replicaCount: 2, witnessCount: 1 }, { replicas: 3, witnesses: 0 })).toThrowError(
      expect.objectContaining({ code: "INVARIANT" }),
    );
    expect(() => levelMet("quorum", { replicaCount: 2, witnessCount: 1 }, { replicas: 0, witnesses: 2 })).toThrowError(
      expect.objectContaining({ code: "INVARIANT" }),
    );
  });
});
