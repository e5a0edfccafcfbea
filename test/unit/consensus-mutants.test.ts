/** Each weakening of the decision about layout versions, made by replacing text of the source: the schedules must find it, and find nothing in the original. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Consensus } from "../../protocol/consensus.ts";
import { type ConsensusClass, ConsensusSchedule, type Verdict } from "./consensus-schedule.ts";

const SCHEDULES = 1_000;
/** The rarest takes some 1,000. */
const MUTANT_SCHEDULES_MAX = 8_000;
const PROTOCOL = new URL("../../protocol/", import.meta.url);

interface Mutant {
  readonly rule: string;
  readonly found: Verdict;
  readonly replace: readonly (readonly [from: string, to: string])[];
}

const MUTANTS: readonly Mutant[] = [
  {
    rule: "no ballots: the first that asks is the only one (three proposals 1-1-1, four 2-2)",
    found: "stuck",
    replace: [["compareBallot(ballot, this.#promised) < 0", "compareBallot(ballot, this.#promised) !== 0"]],
  },
  {
    rule: "a promise is not persisted",
    found: "two layouts",
    replace: [["this.#promised === undefined ? null : ballotRow(this.#promised)", "null"]],
  },
  { rule: "a yes is not persisted", found: "two layouts", replace: [["acceptedRow(this.#accepted)", "acceptedRow(undefined)"]] },
  {
    rule: "a promise and a yes are given before they are on the disk",
    found: "two layouts",
    replace: [
      ["if (this.#unsaved) this.#waiting.push(run);\n    else if", "if"],
      ["(this.#saving !== undefined) this.#saving.waiting.push(run);\n    else ", "(true) "],
    ],
  },
  {
    rule: "a new value although one was reported",
    found: "two layouts",
    replace: [
      ["attempt.reported?.layout ?? this.#newLayout(attempt.ballot.without)", "this.#newLayout(attempt.ballot.without) ?? attempt.reported?.layout"],
    ],
  },
  {
    rule: "of several reported the one that came first",
    found: "two layouts",
    replace: [["attempt.reported = higher(attempt.reported, accepted)", "attempt.reported ??= accepted"]],
  },
  { rule: "one voter less than a majority", found: "two layouts", replace: [[": quorum;\n", ": Math.max(1, quorum - 1);\n"]] },
  {
    rule: "a ballot without a member counts it as if it had said yes",
    found: "two layouts",
    replace: [["without ? voterCount - quorum + 1", "without ? voterCount - quorum"]],
  },
  {
    rule: "a ballot without a member is answered by whoever has no evidence",
    found: "a living member was unlisted",
    replace: [
      ["&& this.#evidence.has(without));", ");"],
      ["step.without === ballot.without && this.#isShown(layout, ballot.without)", "step.without === ballot.without"],
    ],
  },
  {
    rule: "a step is skipped",
    found: "not a step",
    replace: [
      ["stepBetween(this.#layout, layout)?.without === without", "true"],
      ["if (step === undefined) return; // C4", ""],
      ["reported || (step.without", "reported || (!step || step.without"],
    ],
  },
  {
    rule: "a re-listing that was reported needs the evidence of that very incarnation again",
    found: "stuck",
    replace: [["reported || (step", '(step.step !== "relisted" && reported) || (step']],
  },
  {
    rule: "a ballot under way is not left for the one without the lost member",
    found: "stuck",
    replace: [['goal === undefined || goal.without === "" || goal.without === this.#attempt.ballot.without', "true"]],
  },
  {
    rule: "what was accepted waits for somebody who wishes it",
    found: "stuck",
    replace: [["if (this.#accepted === undefined) return undefined;\n", "if (true as boolean) return undefined;\n"]],
  },
  {
    rule: "a yes to a ballot about another version counts",
    found: "two layouts",
    replace: [
      [
        "if (message.version !== this.#decision.version || message",
        'if (message.type !== "yes" && message.version !== this.#decision.version || message.type !== "yes" && message',
      ],
    ],
  },
  {
    rule: "state about the version before is kept",
    found: "two layouts",
    replace: [["if (decision.version !== this.#decision.version || decision.previous !== this.#decision.previous) return;", ""]],
  },
  {
    rule: "who is not listed answers, its lost disk or not",
    found: "two layouts",
    replace: [
      [
        "this.#voters.find(({ writer }) => writer === this.#self) : undefined",
        "this.#voters.find(({ writer }) => writer === this.#self) ?? this.#voters[0] : undefined",
      ],
    ],
  },
];

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "consensus-mutants-"));
});
afterAll(() => rm(folder, { recursive: true }));

/** A copy of the consensus with the text replaced, everything else being the real thing. */
async function mutate(mutant: Mutant, number: number): Promise<ConsensusClass> {
  let source = await readFile(new URL("consensus.ts", PROTOCOL), "utf8");
  for (const [from, to] of mutant.replace) {
    expect(source.split(from).length - 1, `places of: ${from}`).toBe(1);
    source = source.replace(from, () => to);
  }
  source = source.replaceAll(/from "(\.[^"]+)"/g, (_, path: string) => `from "${new URL(path, PROTOCOL).href}"`);
  const file = join(folder, `${number}-consensus.ts`);
  await writeFile(file, source);
  const module = (await import(/* @vite-ignore */ pathToFileURL(file).href)) as { Consensus: ConsensusClass };
  return module.Consensus;
}

describe("the decision about layout versions under random schedules", () => {
  it(`decides each version once, and comes to rest, in each of ${SCHEDULES} schedules with loss, doubling, power cuts and lost disks`, {
    timeout: 120_000,
  }, () => {
    for (let seed = 1; seed <= SCHEDULES; seed++) {
      expect(new ConsensusSchedule(seed, Consensus).run(), `seed ${seed}`).toBe("at rest");
    }
  });

  for (const [number, mutant] of MUTANTS.entries()) {
    it(`finds the weakening: ${mutant.rule}`, { timeout: 300_000 }, async () => {
      const Mutated = await mutate(mutant, number);
      let seed = 1;
      while (seed < MUTANT_SCHEDULES_MAX && new ConsensusSchedule(seed, Mutated).run() !== mutant.found) seed++;
      if (process.env.SHOW) console.log(seed, mutant.rule);
      expect(seed).toBeLessThan(MUTANT_SCHEDULES_MAX);
    });
  }
});
