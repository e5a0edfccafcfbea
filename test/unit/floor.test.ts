import { describe, expect, it } from "vitest";
import { encodeWire, type Wire } from "../../protocol/codec.ts";
import { buildDelta, parseBody, parseDelta } from "../../protocol/delta.ts";
import { type FloorCut, FloorRounds, type FloorView, missingForFloor } from "../../protocol/floor.ts";
import type { Frontier } from "../../protocol/frontier.ts";
import type { Contribution, Floor, Positions } from "../../protocol/graph/records.ts";
import type { WriterId } from "../../protocol/ids.ts";
import { FLOOR_STREAMS_MAX, FLOOR_TOMBSTONES_MAX } from "../../protocol/limits.ts";
import { Rng } from "../sim/rng.ts";
import { DELTAS } from "../vectors/samples.ts";
import { FloorWorld, NaiveRounds, sorted, type Weakness } from "./floor-world.ts";
import { Author, PARTITION, START_MS, TENANT, writerNamed } from "./graph-executions.ts";
import { StateInMemory } from "./state-in-memory.ts";

const [ANN, BEN, CAT] = ["ann", "ben", "cat"].map(writerNamed) as [WriterId, WriterId, WriterId];

/** Everybody holds what ann holds of these streams, and has told so; twice, as two rounds want it. */
const told = (proposer: string, who = "all") => `${who} tells ${proposer}; ${proposer} collects`;

describe("in a federation of four replicas and two witnesses, one of them lost and one new", () => {
  it("nothing that was deleted comes back, equal frontiers are equal bytes, no erased body is missed", () => {
    const met = { floors: 0, retries: 0, erased: 0, applied: 0 };
    for (let seed = 1; seed <= 200; seed++) {
      const world = new FloorWorld(seed, undefined).run(400);
      expect(world.violations, `seed ${seed}\n${world.story.join("\n")}`).toEqual([]);
      for (const name of Object.keys(met) as (keyof typeof met)[]) met[name] += world.met[name];
    }
    expect(Object.values(met).every((count) => count > 20)).toBe(true);
  });

  const schedules: readonly (readonly [Weakness, string])[] = [
    ["by age", "ann creates 0; ben takes ann; ben deletes 0; ben collects; cat takes ben; cat takes ann"],
    ["local, without a record", `ann creates 0; all takes ann; ann deletes 0; all takes ann; ${told("ann")}; ${told("ann")}; ann collects`],
    [
      // Ann has the deletion and not the creation, which only cat and ben hold.
      "F is the proposer's own frontier",
      `cat creates 0; ben takes cat; ben deletes 0; all takes ben; ann collects; ${told("ann")}; ${told("ann")}; all takes cat; ${told("ann")}`,
    ],
    [
      "one round",
      `cat creates 0; ben takes cat; ben deletes 0; all takes ben; ann collects; ${told("ann")}; ${told("ann")}; all takes cat; ${told("ann")}`,
    ],
    [
      // Cat tells before it has the deletion, and edits afterwards.
      "a round without the tombstone",
      `cat creates 0; all takes cat; ben deletes 0; ann takes ben; ${told("ann")}; cat edits 0; all takes ben; ${told("ann")}; ${told("ann")}; all takes cat;
       ${told("ann")}; ann collects`,
    ],
    [
      // Gus reads the log from its beginning, the floor's stream first.
      "applied before what it covers",
      `cat creates 0; ben takes cat; ben deletes 0; all takes cat; all takes ben; ${told("ann")}; ${told("ann")}; ann collects; all takes ann; fay lost;
       all adopts; gus takes ann; gus takes cat; gus takes ben`,
    ],
    [
      // A second deletion is on its way while the first is collected.
      "drops every tombstone it finds",
      `ann creates 0; cat creates 1; all takes ann; all takes cat; ann deletes 0; all takes ann; ${told("ann")}; ${told("ann")}; ann collects;
       ben takes ann; cat deletes 1; dan takes cat; ben takes cat; fay takes cat; fay takes ann; ann takes cat`,
    ],
    [
      "witnesses are not asked",
      `ann creates 0; all takes ann; fay edits 0; dan takes fay; fay lost; all adopts; all takes ann; ann deletes 0; all takes ann; ${told("ann")}; ${told("ann")};
       ann collects; ann takes fay; ${told("ann")}`,
    ],
    [
      // Fay has the deletion and not the creation; its client repeats the request that created.
      "a tombstone does not hold its key",
      `cat creates 0; ben takes cat; ben deletes 0; all takes ben; ann collects; ${told("ann")}; fay creates 0; all takes cat; ${told("ann")}; ann collects;
       ann takes fay`,
    ],
    [
      "what is edited is not looked up again",
      `ann creates 0; all takes ann; ann deletes 0; all takes ann; ${told("ann")}; ben edits 0; ${told("ann", "ben")}; ann collects; ann takes ben`,
    ],
    [
      "live pushes of an unlisted incarnation are taken",
      `ann creates 0; all takes ann; fay edits 0; fay lost; all adopts; all takes ann; ann deletes 0; all takes ann; ${told("ann")}; ${told("ann")};
       ann collects; ann takes fay`,
    ],
    [
      // Ben tells, then takes what fay pushes, then adopts.
      "reports of an older layout version count",
      `ann creates 0; all takes ann; gus takes ann; fay edits 0; ann deletes 0; ben takes ann; cat takes ann; dan takes ann; eve takes ann; gus takes ann;
       ben tells ann; cat tells ann; dan tells ann; eve tells ann; gus tells ann; ben takes fay; fay lost; all adopts; ann collects; ann collects;
       ann takes fay`,
    ],
    [
      "reports are put together from single heads",
      `ann creates 0; all takes ann; ben edits 0; ann deletes 0; all takes ann; cat tells ann of ann; dan tells ann of ann; eve tells ann of ann;
       fay tells ann of ann; ben tells ann of ann; ann collects; ann collects; ann takes ben`,
    ],
  ];
  it.each(schedules)("a weaker rule breaks it, the rule does not: %s", (weak, schedule) => {
    expect(new FloorWorld(1, weak).follow(schedule).violations).not.toEqual([]);
    const world = new FloorWorld(1, undefined).follow(schedule);
    expect(world.violations, world.story.join("\n")).toEqual([]);
  });

  it("asking again lets it be collected", () => {
    for (const [weak, schedule] of schedules) {
      const round = "all takes ann; all takes ben; all takes cat; all takes fay; all tells ann; ann collects";
      const world = new FloorWorld(1, undefined).follow(`${schedule}; ${round}; ${round}; ${round}; ${round}`);
      expect([world.met.floors > 0, world.violations], weak).toEqual([true, []]);
    }
  });
});

describe("the rounds", () => {
  const frontier = (...all: [WriterId, number][]): Positions => sorted(new Map(all));
  const cut = (more: Partial<FloorCut> = {}): FloorCut => ({
    partition: PARTITION,
    frontier: frontier([ANN, 3]),
    erase: [],
    tombstones: new Map([[TENANT, ["memory/m", "turn/t"]]]),
    tenant: TENANT,
    ...more,
  });
  function view(layoutVersion = 1) {
    const reports = new Map<WriterId, { layoutVersion: number; frontier: Frontier }>();
    const state = { layoutVersion, audience: [ANN, BEN] };
    const it: FloorView = { layoutVersion: () => state.layoutVersion, audience: () => state.audience, report: (member) => reports.get(member) };
    const tell = (member: WriterId, ...held: [WriterId, number][]) =>
      void reports.set(member, { layoutVersion: state.layoutVersion, frontier: new Map(held) });
    return { it, state, tell };
  }

  it("name who has not told enough, then what may be numbered: of each tenant its tombstones, under the join of what was told", () => {
    const { it: of, tell } = view();
    const rounds = new FloorRounds(of);
    expect(
      rounds.begin(
        cut({
          erase: frontier([ANN, 2]),
          tombstones: new Map([
            [TENANT, ["memory/m"]],
            ["zoe", ["turn/t"]],
          ]),
        }),
      ),
    ).toBe(true);
    expect([rounds.step(), rounds.contributions()]).toEqual([[ANN, BEN], []]);
    tell(ANN, [ANN, 3]);
    tell(BEN, [ANN, 2], [BEN, 7]);
    expect(rounds.step()).toEqual([BEN]);
    tell(BEN, [ANN, 3], [BEN, 8]);
    expect(rounds.step()).toEqual([ANN]);
    // What is told later does not raise F.
    tell(BEN, [ANN, 4], [BEN, 9]);
    tell(ANN, [ANN, 5], [BEN, 8]);
    expect(rounds.step()).toEqual([]);
    const said = { op: "floor", frontier: frontier([ANN, 3], [BEN, 8]) } as const;
    expect(rounds.contributions()).toEqual([
      { tenant: TENANT, contribution: { ...said, erase: [[ANN, 2]], tombstones: ["memory/m"] } },
      { tenant: "zoe", contribution: { ...said, erase: [], tombstones: ["turn/t"] } },
    ]);
    rounds.cancel();
    expect([rounds.isUnderWay, rounds.step(), rounds.contributions()]).toEqual([false, [], []]);
  });

  it("begin again under a new layout version, and with whoever is in it", () => {
    const { it: of, state, tell } = view();
    const rounds = new FloorRounds(of);
    rounds.begin(cut());
    for (const member of [ANN, BEN]) tell(member, [ANN, 3]);
    expect(rounds.contributions()).toHaveLength(1);
    state.layoutVersion = 2;
    state.audience = [ANN, CAT];
    expect([rounds.contributions(), rounds.step()]).toEqual([[], [ANN, CAT]]);
    tell(ANN, [ANN, 3]);
    tell(CAT, [ANN, 3], [BEN, 1]);
    expect(rounds.step()).toEqual([ANN]);
    tell(ANN, [ANN, 3], [BEN, 1]);
    expect(rounds.contributions()[0]?.contribution.frontier).toEqual(frontier([ANN, 3], [BEN, 1]));
  });

  it("have nothing to do without tombstones and bodies; bodies alone go under any tenant", () => {
    const { it: of, tell } = view();
    const rounds = new FloorRounds(of);
    expect([rounds.begin(cut({ tombstones: new Map() })), rounds.isUnderWay]).toEqual([false, false]);
    expect(rounds.begin(cut({ tombstones: new Map(), erase: frontier([ANN, 1]), tenant: undefined }))).toBe(false);
    expect(rounds.begin(cut({ tombstones: new Map(), erase: frontier([ANN, 1]) }))).toBe(true);
    for (const member of [ANN, BEN]) tell(member, [ANN, 3]);
    expect(rounds.contributions()).toEqual([
      { tenant: TENANT, contribution: { op: "floor", frontier: [[ANN, 3]], erase: [[ANN, 1]], tombstones: [] } },
    ]);
  });

  it("FLOOR_TOMBSTONES_MAX in one record, the rest in the next; more than FLOOR_STREAMS_MAX writers and nothing is collected", () => {
    const { it: of, tell } = view();
    const rounds = new FloorRounds(of);
    const names = Array.from({ length: FLOOR_TOMBSTONES_MAX + 1 }, (_, at) => `turn/${String(at).padStart(6, "0")}`);
    rounds.begin(cut({ tombstones: new Map([[TENANT, names]]) }));
    for (const member of [ANN, BEN]) tell(member, [ANN, 3]);
    expect(rounds.contributions().map(({ contribution }) => contribution.tombstones.length)).toEqual([FLOOR_TOMBSTONES_MAX, 1]);
    rounds.begin(cut());
    const many = Array.from({ length: FLOOR_STREAMS_MAX }, (_, at): [WriterId, number] => [writerNamed(`writer-${at}`), 1]);
    for (const member of [ANN, BEN]) tell(member, [ANN, 3], ...many);
    expect([rounds.step(), rounds.contributions()]).toEqual([[], []]);
  });

  it("decide as a simple-minded second version does", () => {
    for (let seed = 1; seed <= 300; seed++) {
      const { it: of, state, tell } = view();
      const [real, naive, rng] = [new FloorRounds(of), new NaiveRounds(of, undefined), new Rng(seed)];
      real.begin(cut());
      naive.begin(cut());
      for (let step = 0; step < 20; step++) {
        if (rng.chance(0.1)) state.layoutVersion++;
        else tell(rng.pick([ANN, BEN]), [ANN, 2 + rng.int(3)], [BEN, 1 + rng.int(2)]);
        expect(real.contributions()).toEqual(naive.contributions());
      }
    }
  });
});

describe("a floor on its way", () => {
  const floor: Floor = {
    frontier: sorted(
      new Map([
        [ANN, 3],
        [BEN, 2],
      ]),
    ),
    erase: [],
    tombstones: ["memory/m"],
  };
  const deltaWith = (...floors: Floor[]) => {
    const { header, body } = DELTAS[0]!.delta;
    return buildDelta(header, { ...body, entries: floors.map((one) => ({ op: "floor", ...one })) });
  };

  it("is a gap for whoever lacks part of its frontier", () => {
    const delta = deltaWith(floor);
    expect(missingForFloor(delta, { [ANN]: 3, [BEN]: 2 })).toEqual([]);
    expect(missingForFloor(delta, { [ANN]: 9, [BEN]: 1 })).toEqual([[BEN, 2]]);
    expect(missingForFloor(delta, {})).toEqual(floor.frontier);
    expect(missingForFloor(DELTAS[0]!.delta, {})).toEqual([]);
  });

  const codeOf = (change: (row: Wire[]) => void): string => {
    const row: Wire[] = ["fr", floor.frontier, floor.erase, floor.tombstones];
    change(row);
    const { header, body } = DELTAS[0]!.delta;
    const bodyBytes = encodeWire([body.tenant, body.fingerprint, body.answer, [row]]);
    try {
      parseBody(bodyBytes);
    } catch (error) {
      return (error as { code: string }).code;
    }
    return `taken of ${header.writer}`.slice(0, 5);
  };
  const writers = (count: number): Wire => sorted(new Map(Array.from({ length: count }, (_, at) => [writerNamed(`w${at}`), 1])));
  const names = (count: number): Wire => Array.from({ length: count }, (_, at) => `turn/${String(at).padStart(6, "0")}`);

  it.each<[string, string, (row: Wire[]) => void]>([
    ["as it should be", "taken", () => undefined],
    ["FLOOR_STREAMS_MAX streams", "taken", (row) => row.splice(1, 1, writers(FLOOR_STREAMS_MAX))],
    ["one stream more", "TOO_LARGE", (row) => row.splice(1, 1, writers(FLOOR_STREAMS_MAX + 1))],
    ["FLOOR_TOMBSTONES_MAX tombstones", "taken", (row) => row.splice(3, 1, names(FLOOR_TOMBSTONES_MAX))],
    ["one tombstone more", "TOO_LARGE", (row) => row.splice(3, 1, names(FLOOR_TOMBSTONES_MAX + 1))],
    ["tombstones out of order", "MALFORMED", (row) => row.splice(3, 1, ["turn/b", "turn/a"])],
    ["a tombstone twice", "MALFORMED", (row) => row.splice(3, 1, ["turn/a", "turn/a"])],
    ["a tombstone of a concept", "MALFORMED", (row) => row.splice(3, 1, ["concept/a"])],
    ["a tombstone without an id", "MALFORMED", (row) => row.splice(3, 1, ["turn/"])],
    ["streams out of order", "MALFORMED", (row) => row.splice(1, 1, [...floor.frontier].reverse())],
    [
      "a stream twice",
      "MALFORMED",
      (row) =>
        row.splice(1, 1, [
          [ANN, 1],
          [ANN, 2],
        ]),
    ],
    ["a number below 1", "MALFORMED", (row) => row.splice(1, 1, [[ANN, 0]])],
    ["erasing what it does not cover", "MALFORMED", (row) => row.splice(2, 1, [[ANN, 4]])],
    ["erasing a stream it does not cover", "MALFORMED", (row) => row.splice(2, 1, [[CAT, 1]])],
    ["no list of streams", "MALFORMED", (row) => row.splice(1, 1, 7)],
  ])("with %s is %s", (_what, code, change) => {
    expect(codeOf(change)).toBe(code);
  });

  it("takes the tombstones it names and no other, once or twice", () => {
    const state = new StateInMemory();
    const author = new Author("ann");
    author.write([memoryNamed("m"), memoryNamed("n")], "create", START_MS);
    author.write(
      [
        { op: "delete", kind: "memory", id: "m" },
        { op: "delete", kind: "memory", id: "n" },
      ],
      "delete",
      START_MS,
    );
    author.write([{ op: "floor", frontier: [[ANN, 2]], erase: [], tombstones: ["memory/m"] }], "floor", START_MS);
    author.write([{ op: "floor", frontier: [[ANN, 2]], erase: [], tombstones: ["memory/m", "turn/never"] }], "floor again", START_MS);
    const left = author.own.map((delta) => {
      state.take(parseDelta(delta.headerBytes, delta.bodyBytes));
      return ["m", "n"].map((id) => state.record(TENANT, "tombstone", `memory/${id}`) !== undefined);
    });
    expect(left).toEqual([
      [false, false],
      [true, true],
      [false, true],
      [false, true],
    ]);
    expect([...state.records.keys()]).toEqual([`${TENANT}|tombstone|memory/n`]);
    expect(author.own).toHaveLength(4);
  });
});

const memoryNamed = (id: string): Contribution => ({
  op: "memory",
  id,
  memory: { node: "n", session: "s", entity: "e", content: "c", metadata: "{}", concepts: [] },
});
