/** Each weakening of the decision about layout versions, made by replacing text of the source: the schedules must find it, and find nothing in the original. */
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Consensus, type ConsensusInput } from "../../protocol/consensus.ts";
import type { ConsensusMessage } from "../../protocol/consensus-message.ts";
import type { FederationId, Incarnation, NodeId } from "../../protocol/ids.ts";
import { type Layout, layoutHash, layoutOf, type Member } from "../../protocol/layout.ts";
import { joint, ownersAfter, relisted, staged, stopped } from "../../protocol/layout-change.ts";
import { type ConsensusClass, ConsensusSchedule, type Verdict } from "./consensus-schedule.ts";

const SCHEDULES = 500;
/** The rarest takes some 300. */
const MUTANT_SCHEDULES_MAX = 4_000;
const PROTOCOL = new URL("../../protocol/", import.meta.url);

interface Mutant {
  readonly rule: string;
  readonly found: Verdict;
  readonly replace: readonly (readonly [from: string, to: string])[];
  /** A schedule in words, for what random ones meet once in many thousands. */
  readonly story?: (story: Story) => void;
}

const FIRST = layoutOf({
  version: 1,
  federation: "fe".repeat(16) as FederationId,
  replicationFactor: 2,
  resonanceDecay: 0.85,
  hebbianRate: 0.15,
  periodMs: 1000,
  members: ["alice", "bob", "carol"].map((name, index) => ({
    node: name as NodeId,
    name,
    incarnation: `0${index}`.repeat(16) as Incarnation,
    zone: "",
    weight: 1,
  })),
});

/** Alice, bob and carol, told word for word what happens; disks are instant, and letters arrive when the story says so. */
class Story {
  readonly #machineClass: ConsensusClass;
  readonly #nodes = new Map<string, Consensus>();
  readonly #disks = new Map<string, Uint8Array>();
  readonly #letters: { readonly from: Member; readonly to: string; readonly message: ConsensusMessage }[] = [];
  readonly #decided = new Map<number, Set<string>>();
  #relisting: { readonly layout: Layout; readonly without: string } | undefined;
  layout = FIRST;
  now = 0;

  constructor(machineClass: ConsensusClass) {
    this.#machineClass = machineClass;
    for (const name of ["alice", "bob", "carol"]) this.restarts(name);
  }

  get verdict(): Verdict {
    if ([...this.#decided.values()].some((layouts) => layouts.size > 1)) return "two layouts";
    return this.#decided.has(this.layout.version + 1) ? "at rest" : "stuck";
  }

  restarts(name: string): void {
    const { writer } = this.#member(name);
    this.#nodes.set(name, new this.#machineClass({ self: writer, layout: this.layout, persisted: this.#disks.get(name) }));
    this.#step(name, { type: "may vote", mayVote: true });
  }

  /** Wishes a version of its own, and begins a ballot for it. */
  proposes(name: string): void {
    this.#step(name, { type: "want", ...(this.#relisting ?? { layout: this.#own(name), without: "" }) });
    // The first draws a pause, the second is after it.
    for (const now of [this.now, this.now + 100_000]) this.#step(name, { type: "tick", now, random: 0 });
    this.now += 200_000;
  }

  /** The latest such letter arrives; it may do so again. */
  arrives(type: ConsensusMessage["type"], from: string, to: string): void {
    const letter = this.#letters.findLast((each) => each.message.type === type && each.from.name === from && each.to === to);
    if (letter !== undefined) this.#step(to, { type: "message", from: letter.from.writer, message: letter.message });
  }

  /** Its disk, and everybody else knows; so all that anybody wishes from now on is to list it again. */
  loses(name: string, incarnation: string): void {
    const fresh = { name, node: name as NodeId, incarnation: incarnation.repeat(16) as Incarnation };
    this.#nodes.delete(name);
    for (const other of this.#nodes.keys()) this.#step(other, { type: "fresh", ...fresh });
    this.#relisting = { layout: relisted(this.layout, name, fresh), without: name };
  }

  adopt(layout: Layout): void {
    this.layout = layout;
    for (const name of this.#nodes.keys()) this.#step(name, { type: "layout", layout });
  }

  #own(name: string): Layout {
    const { layout } = this;
    if (layout.phase === "done") return staged(layout, ownersAfter(layout, { op: "weight", name, weight: 2 })!, name);
    return name === "alice" ? joint(layout) : stopped(layout);
  }

  #member(name: string): Member {
    return this.layout.members.find((member) => member.name === name)!;
  }

  #step(name: string, input: ConsensusInput): void {
    for (const effect of this.#nodes.get(name)?.step(input) ?? []) {
      if (effect.type === "send") this.#letters.push({ from: this.#member(name), to: effect.to, message: effect.message });
      if (effect.type === "decided") {
        const known = this.#decided.get(effect.layout.version) ?? new Set();
        this.#decided.set(effect.layout.version, known.add(layoutHash(effect.layout)));
      }
      if (effect.type !== "persist") continue;
      this.#disks.set(name, effect.state);
      this.#step(name, { type: "persisted", id: effect.id });
    }
  }
}

/** One's ballot up to where the other has promised it and been sent the proposal. */
function promised(story: Story, proposer: string, voter: string): void {
  story.proposes(proposer);
  story.arrives("prepare", proposer, voter);
  story.arrives("promise", voter, proposer);
}
function accepted(story: Story, proposer: string, voter: string): void {
  story.arrives("propose", proposer, voter);
  story.arrives("yes", voter, proposer);
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
    story: (story) => {
      promised(story, "alice", "bob");
      promised(story, "carol", "bob");
      story.restarts("bob");
      accepted(story, "alice", "bob");
      accepted(story, "carol", "bob");
    },
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
    story: (story) => {
      promised(story, "alice", "carol");
      promised(story, "carol", "bob");
      accepted(story, "carol", "bob");
      story.restarts("alice");
      promised(story, "alice", "bob");
      story.arrives("nack", "bob", "alice");
      promised(story, "alice", "bob");
      accepted(story, "alice", "bob");
    },
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
    story: (story) => {
      story.loses("carol", "12");
      promised(story, "alice", "bob");
      story.loses("carol", "22");
      promised(story, "alice", "bob");
      accepted(story, "alice", "bob");
    },
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
    story: (story) => {
      promised(story, "alice", "bob");
      accepted(story, "alice", "bob");
      story.adopt(staged(FIRST, ownersAfter(FIRST, { op: "weight", name: "alice", weight: 2 })!, "alice"));
      promised(story, "alice", "carol");
      story.arrives("yes", "bob", "alice");
      promised(story, "carol", "bob");
      accepted(story, "carol", "bob");
    },
  },
  {
    rule: "state about the version before is kept",
    found: "unreadable",
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
    timeout: 300_000,
  }, () => {
    for (let seed = 1; seed <= SCHEDULES; seed++) {
      expect(new ConsensusSchedule(seed, Consensus).run(), `seed ${seed}`).toBe("at rest");
    }
  });

  for (const [number, mutant] of MUTANTS.entries()) {
    it(`finds the weakening: ${mutant.rule}`, { timeout: 300_000 }, async () => {
      const Mutated = await mutate(mutant, number);
      if (mutant.story !== undefined) {
        const [original, mutated] = [new Story(Consensus), new Story(Mutated)];
        for (const story of [original, mutated]) mutant.story(story);
        expect([original.verdict, mutated.verdict]).toEqual(["at rest", mutant.found]);
        return;
      }
      let seed = 1;
      while (seed < MUTANT_SCHEDULES_MAX && new ConsensusSchedule(seed, Mutated).run() !== mutant.found) seed++;
      expect(seed).toBeLessThan(MUTANT_SCHEDULES_MAX);
    });
  }
});
