import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { buildDelta, type Delta, type Entry, genesisHash } from "../../protocol/delta.ts";
import { applyDelta } from "../../protocol/graph/apply.ts";
import { countOf, type Decay, massOf, NO_DECAY } from "../../protocol/graph/counter.ts";
import { decayBy, strengthOf } from "../../protocol/graph/link.ts";
import { isVisible } from "../../protocol/graph/record.ts";
import { type Contribution, linkId, type Share } from "../../protocol/graph/records.ts";
import { Author, DAY_MS, DECAY, keyNamed, PARTITION, reordered, START_MS, someExecution, stateOf, TENANT, writerNamed } from "./graph-executions.ts";
import type { StateInMemory } from "./state-in-memory.ts";

const one = (id: string, mass = 1): Contribution => ({ op: "concept", id, mass });
const together = (a: string, b: string, mass = 1): Contribution => ({ op: "link", a, b, mass });
const forget = (kind: "concept" | "link", id: string): Contribution => ({ op: "delete", kind, id });
const XY = linkId("x", "y");
const XZ = linkId("x", "z");

function count(state: StateInMemory, id: string): number {
  const concept = state.record(TENANT, "concept", id);
  return concept === undefined ? 0 : countOf(concept.occurrences);
}
function mass(state: StateInMemory, id: string, atMs = START_MS): number {
  const link = state.record(TENANT, "link", id);
  return link === undefined ? 0 : massOf(link.activations, atMs, decayBy(DECAY));
}

/**
 * The rule in its plainest form, over the whole set at once: an execution that a removal covers is gone; a key with one that is gone counts nothing,
 * else the largest of its executions; the rest is a sum.
 */
function expectedMass(
  deltas: readonly Delta[],
  of: (entry: Entry) => number | undefined,
  removedBy: (entry: Entry) => Readonly<Record<string, Share>> | undefined,
  atMs: number,
  decay: Decay,
): number {
  const removed = new Map<string, number>();
  const keys = new Map<string, { mass: number; gone: () => boolean }[]>();
  for (const { header, body } of deltas) {
    for (const entry of body.entries) {
      for (const [writer, share] of Object.entries(removedBy(entry) ?? {})) removed.set(writer, Math.max(removed.get(writer) ?? 0, share.seq));
      const added = of(entry);
      if (added === undefined) continue;
      const aged = added * decay(header.hlc[0], atMs);
      const execution = { mass: aged, gone: () => (removed.get(header.writer) ?? 0) >= header.seq };
      keys.set(header.key, [...(keys.get(header.key) ?? []), execution]);
    }
  }
  let sum = 0;
  for (const executions of keys.values()) if (!executions.some(({ gone }) => gone())) sum += Math.max(...executions.map(({ mass }) => mass));
  return sum;
}

describe("what counts", () => {
  it("is what the plain rule says of the whole set of deltas, for concepts exactly", () => {
    let repeated = 0;
    let removed = 0;
    fc.assert(
      fc.property(someExecution, fc.array(fc.nat({ max: 50 }), { minLength: 1, maxLength: 30 }), ({ deltas }, picks) => {
        const state = stateOf(reordered(deltas, picks));
        for (const id of ["harbour", "lantern", "tide"]) {
          const expected = expectedMass(
            deltas,
            (entry) => (entry.op === "concept" && entry.id === id ? entry.mass : undefined),
            (entry) => (entry.op === "forget-concept" && entry.id === id ? entry.removed : undefined),
            START_MS,
            NO_DECAY,
          );
          expect(count(state, id)).toBe(expected);
          const counter = state.record(TENANT, "concept", id)?.occurrences;
          if (Object.keys(counter?.repeats ?? {}).length > 0) repeated++;
          if (Object.keys(counter?.removed ?? {}).length > 0) removed++;
        }
      }),
      { numRuns: 1500 },
    );
    expect(Math.min(repeated, removed)).toBeGreaterThan(20);
  });

  it("is what the plain rule says for links too, decayed to any time", () => {
    fc.assert(
      fc.property(someExecution, fc.integer({ min: -40, max: 400 }), ({ deltas }, days) => {
        const state = stateOf(deltas);
        const last = deltas.reduce((ms, delta) => Math.max(ms, delta.header.hlc[0]), START_MS);
        // Before the last contribution ages are clamped one by one, and the closed form of a writer's total no longer splits into them.
        const at = last + Math.max(0, days) * DAY_MS;
        for (const [a, b] of [
          ["harbour", "lantern"],
          ["harbour", "tide"],
          ["anchor", "tide"],
        ] as const) {
          const expected = expectedMass(
            deltas,
            (entry) => (entry.op === "link" && entry.a === a && entry.b === b ? entry.mass : undefined),
            (entry) => (entry.op === "forget-link" && entry.a === a && entry.b === b ? entry.removed : undefined),
            at,
            decayBy(DECAY),
          );
          expect(mass(state, linkId(a, b), at)).toBeCloseTo(expected, 6);
        }
      }),
      { numRuns: 1000 },
    );
  });

  it("counts a key that two writers executed once: the larger of the two (P5)", () => {
    const [ann, ben] = [new Author("ann"), new Author("ben")];
    ann.write([one("tide", 2), one("lantern", 1)], "k", START_MS);
    ben.write([one("tide", 1), one("lantern", 3)], "k", START_MS + 5);
    ann.pull(ben);
    ben.pull(ann);
    expect([count(ann.state, "tide"), count(ann.state, "lantern")]).toEqual([2, 3]);
    expect(ben.state.bytes()).toEqual(ann.state.bytes());
  });

  it("counts a key executed on three writers once", () => {
    const authors = ["ann", "ben", "cat"].map((name) => new Author(name));
    for (const [index, author] of authors.entries()) author.write([one("tide", index + 1)], "k", START_MS);
    const all = authors.flatMap((author) => author.own);
    for (const order of [all, [...all].reverse(), [all[1]!, all[2]!, all[0]!]]) expect(count(stateOf(order), "tide")).toBe(3);
  });

  it("counts two different keys of two writers twice", () => {
    const [ann, ben] = [new Author("ann"), new Author("ben")];
    ann.write([one("tide")], "k", START_MS);
    ben.write([one("tide")], "l", START_MS);
    expect(count(stateOf([...ann.own, ...ben.own]), "tide")).toBe(2);
  });

  it("counts nothing that was removed, and only what exceeds it afterwards (P6)", () => {
    const ann = new Author("ann");
    ann.write([one("tide", 3), together("x", "y", 3)], "k", START_MS);
    ann.write([forget("concept", "tide"), forget("link", XY)], "gone", START_MS + 1);
    expect([count(ann.state, "tide"), mass(ann.state, XY, START_MS + 2)]).toEqual([0, 0]);
    expect(isVisible(ann.state.record(TENANT, "concept", "tide")!)).toBe(false);
    expect(isVisible(ann.state.record(TENANT, "link", XY)!)).toBe(false);
    ann.write([one("tide", 2), together("x", "y", 2)], "again", START_MS + 3);
    expect(count(ann.state, "tide")).toBe(2);
    expect(mass(ann.state, XY, START_MS + 3)).toBeCloseTo(2, 9);
    expect(isVisible(ann.state.record(TENANT, "concept", "tide")!)).toBe(true);
    expect(isVisible(ann.state.record(TENANT, "link", XY)!)).toBe(true);
  });

  it("keeps what a removal had not seen", () => {
    const [ann, ben] = [new Author("ann"), new Author("ben")];
    ann.write([one("tide", 3)], "k", START_MS);
    ben.write([one("tide", 4)], "l", START_MS);
    ann.write([forget("concept", "tide")], "gone", START_MS + 1);
    ann.pull(ben);
    expect(count(ann.state, "tide")).toBe(4);
  });

  it("counts nothing of a key with a removed execution, whichever of the two was removed", () => {
    const [ann, ben] = [new Author("ann"), new Author("ben")];
    ann.write([one("tide"), together("x", "y")], "k", START_MS);
    ben.write([one("tide"), together("x", "y")], "k", START_MS);
    ann.write([forget("concept", "tide"), forget("link", XY)], "gone", START_MS + 1);
    const deltas = [...ann.own, ...ben.own];
    for (const order of [deltas, [...ben.own, ...ann.own], [ann.own[0]!, ben.own[0]!, ann.own[1]!]]) {
      expect([count(stateOf(order), "tide"), mass(stateOf(order), XY, START_MS + 2)]).toEqual([0, 0]);
    }
  });

  it("does not let a link show 0 for ever: what comes after such a removal counts in full", () => {
    const [ann, ben] = [new Author("ann"), new Author("ben")];
    ann.write([together("x", "y")], "k", START_MS);
    ben.write([together("x", "y")], "k", START_MS);
    ann.write([forget("link", XY)], "gone", START_MS);
    ben.pull(ann);
    ben.write([together("x", "y")], "later", START_MS);
    expect(mass(ben.state, XY)).toBeCloseTo(1, 9);
  });
});

describe("retries, as the model checker met them", () => {
  it("never drops what was seen: a first execution that comes back late does not take the second away", () => {
    const [ann, ben, reader] = [new Author("ann"), new Author("ben"), new Author("cat")];
    ann.write([together("x", "y")], "k", START_MS);
    ben.write([together("x", "z")], "k", START_MS + 10);
    reader.pull(ben);
    expect([mass(reader.state, XY, START_MS + 10), mass(reader.state, XZ, START_MS + 10)]).toEqual([0, 1]);
    reader.pull(ann);
    expect(mass(reader.state, XY, START_MS)).toBe(1);
    expect(mass(reader.state, XZ, START_MS)).toBe(1);
  });

  it("nor the other way round", () => {
    const [ann, ben, reader] = [new Author("ann"), new Author("ben"), new Author("cat")];
    ann.write([together("x", "y")], "k", START_MS);
    ben.write([together("x", "z")], "k", START_MS + 10);
    reader.pull(ann);
    expect(mass(reader.state, XY)).toBe(1);
    reader.pull(ben);
    expect(mass(reader.state, XY)).toBe(1);
  });

  it("leaves totals raw: a writer that learns of the other execution writes on from its own number, and the end is 2, not 1 or 3", () => {
    const [ann, ben] = [new Author("ann"), new Author("ben")];
    ann.write([one("tide")], "k", START_MS);
    ben.write([one("tide")], "k", START_MS + 1);
    ben.pull(ann);
    expect(count(ben.state, "tide")).toBe(1);
    const next = ben.write([one("tide")], "l", START_MS + 2)!;
    expect(next.body.entries).toEqual([{ op: "concept", id: "tide", mass: 1, total: 2 }]);
    for (const order of [
      [...ann.own, ...ben.own],
      [...ben.own, ...ann.own],
      [ben.own[0]!, ann.own[0]!, ben.own[1]!],
    ]) {
      expect(count(stateOf(order), "tide")).toBe(2);
    }
  });

  it("keep the earlier of two turns, with what each found: whoever wrote it", () => {
    const turn = (found: string): Contribution => ({
      op: "turn",
      id: "turn_k",
      turn: { node: found, session: "s", instance: "", user: "u", assistant: "a", thinking: "", metadata: "{}", concepts: [found], decisions: [] },
    });
    for (const [early, late] of [
      ["ann", "ben"],
      ["ben", "ann"],
    ] as const) {
      const [one, two] = [new Author(early), new Author(late)];
      one.write([turn("early")], "k", START_MS);
      two.write([turn("late")], "k", START_MS + 1);
      for (const order of [
        [...one.own, ...two.own],
        [...two.own, ...one.own],
      ]) {
        expect(stateOf(order).record(TENANT, "turn", "turn_k")).toMatchObject({ writer: one.writer, node: "early", concepts: ["early", "late"] });
      }
    }
  });

  it("creates nothing from a late retry at a node that has only the tombstone", () => {
    const [ann, ben] = [new Author("ann"), new Author("ben")];
    const create: Contribution = {
      op: "memory",
      id: "memory_k",
      memory: { node: "n", session: "s", entity: "e", content: "c", metadata: "{}", concepts: [] },
    };
    ann.write([create], "k", START_MS);
    ann.write([{ op: "delete", kind: "memory", id: "memory_k" }], "gone", START_MS + 1);
    expect(ann.state.record(TENANT, "tombstone", "memory/memory_k")?.keys).toEqual([keyNamed("k")]);
    ben.write([create], "k", START_MS + 2);
    const tombstoneFirst = stateOf([ann.own[0]!, ann.own[1]!, ben.own[0]!]);
    expect(tombstoneFirst.record(TENANT, "memory", "memory_k")).toBeUndefined();
    expect(stateOf([...ben.own, ...ann.own]).bytes()).toEqual(tombstoneFirst.bytes());
  });
});

describe("one delta", () => {
  it("may create and delete the same memory: it does not stay, whatever was there before", () => {
    const entries: Entry[] = [
      { op: "memory", id: "m", memory: { node: "n", session: "s", entity: "e", content: "c", metadata: "{}", concepts: [] } },
      { op: "tombstone", of: "memory", id: "m", keys: [keyNamed("k")] },
    ];
    const writer = writerNamed("ann");
    const header = {
      writer,
      partition: PARTITION,
      seq: 1,
      previous: genesisHash(writer, PARTITION),
      hlc: [START_MS, 0] as const,
      key: keyNamed("k"),
      saw: {},
    };
    const state = stateOf([buildDelta(header, { tenant: TENANT, fingerprint: "", answer: "", entries })]);
    expect([...state.records.keys()]).toEqual([`${TENANT}|tombstone|memory/m`]);
  });

  it("adds up what is said twice about one concept or link", () => {
    const ann = new Author("ann");
    const delta = ann.write([one("tide", 1), together("x", "y"), one("tide", 2), together("y", "x")], "k", START_MS)!;
    expect(delta.body.entries).toEqual([
      { op: "concept", id: "tide", mass: 3, total: 3 },
      { op: "link", a: "x", b: "y", mass: 2, total: 2 },
    ]);
  });

  it("drops a deletion and an edit of what is gone by the time it is numbered", () => {
    const ann = new Author("ann");
    const gone: Contribution[] = [
      { op: "delete", kind: "memory", id: "m" },
      { op: "delete", kind: "turn", id: "t" },
      forget("concept", "tide"),
      forget("link", XY),
      { op: "edit", id: "m", fields: { content: "new" } },
    ];
    expect(ann.write(gone, "k", START_MS)).toBeUndefined();
    expect(ann.own).toEqual([]);
  });

  it("names the records it changes once each, from what to what", () => {
    const ann = new Author("ann");
    const first = ann.write([one("tide"), together("x", "y")], "k", START_MS)!;
    const changes = applyDelta(first, stateOf([]), []);
    expect(changes.map(({ kind, id, before }) => ({ kind, id, before }))).toEqual([
      { kind: "concept", id: "tide", before: undefined },
      { kind: "link", id: XY, before: undefined },
    ]);
  });
});

describe("the strength of a link", () => {
  it("is what the saturating Hebbian rule s <- s + h(1 - s) gives step by step, h = 1 - d", () => {
    fc.assert(
      fc.property(fc.double({ min: 0.05, max: 0.99, noNaN: true }), fc.integer({ min: 0, max: 60 }), (decay, times) => {
        const rule = { resonanceDecay: decay, periodMs: DECAY.periodMs };
        const ann = new Author("ann");
        let step = 0;
        for (let time = 0; time < times; time++) {
          step += (1 - decay) * (1 - step);
          ann.write([together("x", "y")], `k${time}`, START_MS);
        }
        const link = ann.state.record(TENANT, "link", XY);
        expect(link === undefined ? 0 : strengthOf(link, START_MS, rule)).toBeCloseTo(step, 10);
      }),
      { numRuns: 100 },
    );
  });

  it("does not depend on who activated it", () => {
    const [ann, ben] = [new Author("ann"), new Author("ben")];
    for (let time = 0; time < 6; time++) (time % 2 === 0 ? ann : ben).write([together("x", "y")], `k${time}`, START_MS);
    const link = stateOf([...ann.own, ...ben.own]).record(TENANT, "link", XY)!;
    expect(strengthOf(link, START_MS, DECAY)).toBeCloseTo(1 - 0.85 ** 6, 12);
  });

  it("fades: the number of activations shrinks as d^(age / period)", () => {
    const ann = new Author("ann");
    ann.write([together("x", "y", 4)], "k", START_MS);
    const link = ann.state.record(TENANT, "link", XY)!;
    for (const periods of [0, 0.5, 1, 2, 12]) {
      const at = START_MS + periods * DECAY.periodMs;
      expect(massOf(link.activations, at, decayBy(DECAY))).toBeCloseTo(4 * 0.85 ** periods, 9);
      expect(strengthOf(link, at, DECAY)).toBeCloseTo(1 - 0.85 ** (4 * 0.85 ** periods), 9);
    }
  });

  it("is never raised by a clock that is behind: age is clamped at 0", () => {
    const ann = new Author("ann");
    ann.write([together("x", "y")], "k", START_MS);
    const link = ann.state.record(TENANT, "link", XY)!;
    expect(strengthOf(link, START_MS - 1000 * DAY_MS, DECAY)).toBe(strengthOf(link, START_MS, DECAY));
  });

  it("adds new activations to what is left of the old: a writer's total decays until the new one", () => {
    const ann = new Author("ann");
    ann.write([together("x", "y")], "k", START_MS);
    const later = ann.write([together("x", "y")], "l", START_MS + DECAY.periodMs)!;
    expect(later.body.entries).toEqual([{ op: "link", a: "x", b: "y", mass: 1, total: 0.85 + 1 }]);
  });
});
