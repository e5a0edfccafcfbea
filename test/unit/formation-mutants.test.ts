/** Each weakening of MODEL-NOTES "Formation", made by replacing text of the source: the schedules must find it, and find nothing in the original. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Formation } from "../../protocol/formation.ts";
import { type FormationClass, FormationSchedule, type Verdict } from "./formation-schedule.ts";

const SCHEDULES = 5_000;
/** The rarest takes some 2,000. */
const MUTANT_SCHEDULES_MAX = 20_000;
const PROTOCOL = new URL("../../protocol/", import.meta.url);
const FILES = ["formation.ts", "formation-message.ts"] as const;

interface Mutant {
  readonly rule: string;
  readonly found: Verdict;
  readonly replace: readonly (readonly [from: string, to: string])[];
}

const MUTANTS: readonly Mutant[] = [
  {
    rule: "a new value although one was reported",
    found: "two federations",
    replace: [["attempt.reported?.layout ?? this.#newLayout(attempt)", "this.#newLayout(attempt)"]],
  },
  {
    rule: "a promise from one is enough",
    found: "two federations",
    replace: [
      ["attempt.promises.size === this.#list.length", "attempt.promises.size >= 1"],
      [
        "members: [...attempt.promises.values()]",
        'members: this.#list.map((name) => attempt.promises.get(name) ?? { node: name, incarnation: "0".repeat(32), ...this.#peerNamed(name), name, zone: "", weight: 1 })',
      ],
    ],
  },
  {
    rule: "the own yes is taken as formed",
    found: "two federations",
    replace: [["attempt.yeses.size === this.#list.length", "attempt.yeses.size >= 1"]],
  },
  { rule: "a yes is not persisted", found: "two federations", replace: [["acceptedRow(this.#accepted)", "acceptedRow(undefined)"]] },
  {
    rule: "a name that lost its disk may not say yes to a proposal that names its lost incarnation",
    found: "stuck",
    replace: [
      [
        "if (!this.#isOurList(peer, layout, effects)) return;",
        "if (!layout.members.some(({ incarnation }) => incarnation === this.#self.incarnation)) return;",
      ],
    ],
  },
  {
    rule: "others drop a proposal that names a lost incarnation",
    found: "two federations",
    replace: [
      [
        "attempt.reported?.layout ?? this.#newLayout(attempt)",
        "attempt.reported?.layout.members.every(({ name, incarnation }) => attempt.promises.get(name)?.incarnation === incarnation) ? attempt.reported.layout : this.#newLayout(attempt)",
      ],
    ],
  },
  {
    rule: "no ballots: the first that asks is the only one",
    found: "stuck",
    replace: [["compareBallot(ballot, this.#promised) < 0", "compareBallot(ballot, this.#promised) !== 0"]],
  },
  {
    rule: "who said yes already answers as if it were formed",
    found: "two federations",
    replace: [
      [
        'case "ask":\n        break;',
        'case "ask":\n        if (this.#accepted) effects.push({ type: "send", to: peer.node, message: { type: "formed", layout: this.#accepted.layout } });\n        break;',
      ],
    ],
  },
];

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "formation-mutants-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** A copy of formation and its messages with the text replaced, everything else being the real thing. */
async function mutate(mutant: Mutant, number: number): Promise<FormationClass> {
  const sources = await Promise.all(FILES.map((file) => readFile(new URL(file, PROTOCOL), "utf8")));
  for (const [from, to] of mutant.replace) {
    expect(sources.map((source) => source.split(from).length - 1).sort(), `places of: ${from}`).toEqual([0, 1]);
    for (const [index, source] of sources.entries()) sources[index] = source.replace(from, () => to);
  }
  for (const [index, file] of FILES.entries()) {
    const source = sources[index]!.replaceAll(/from "(\.[^"]+)"/g, (_, path: string) =>
      path === "./formation-message.ts" ? `from "./${number}-formation-message.ts"` : `from "${new URL(path, PROTOCOL).href}"`,
    );
    await writeFile(join(folder, `${number}-${file}`), source);
  }
  const module = (await import(/* @vite-ignore */ pathToFileURL(join(folder, `${number}-formation.ts`)).href)) as { Formation: FormationClass };
  return module.Formation;
}

describe("formation under random schedules", () => {
  it(`forms layout 1 exactly once in each of ${SCHEDULES} schedules with loss, doubling, power cuts and lost disks`, { timeout: 120_000 }, () => {
    for (let seed = 1; seed <= SCHEDULES; seed++) {
      expect(new FormationSchedule(seed, Formation).run(), `seed ${seed}`).toBe("formed once");
    }
  });

  for (const [number, mutant] of MUTANTS.entries()) {
    it(`finds the weakening: ${mutant.rule}`, { timeout: 120_000 }, async () => {
      const Mutated = await mutate(mutant, number);
      let seed = 1;
      while (seed < MUTANT_SCHEDULES_MAX && new FormationSchedule(seed, Mutated).run() !== mutant.found) seed++;
      expect(seed).toBeLessThan(MUTANT_SCHEDULES_MAX);
    });
  }
});
