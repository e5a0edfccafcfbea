/**
 * npm run sim -- --seed N [--nodes K] [--faults KIND,KIND] [--story]
 * npm run sim -- --seeds COUNT [--seed FIRST] [--nodes K] [--faults KIND,KIND] [--cover]
 * npm run sim -- --minutes M [--nodes K] [--faults KIND,KIND]
 * npm run sim -- --scenario TEXT [--story]
 * npm run sim -- --schedule FILE [--story]
 *
 * Runs a federation on simulated time, network and disk, once for each seed from N on, and says which seeds broke a promise. `--minutes` runs on with
 * seeds that nobody has tried, and says how far it is. `--story` prints what happened, line by line. A failing seed is made as
 * small as it gets in a minute; its story is printed, and its list kept in a file that `--schedule` replays. `--faults` lets these kinds happen in every
 * seed, besides those it draws ("operate,lose-disk"; schedule.ts lists them). `--scenario` plays the directed schedules
 * whose name contains TEXT instead. The last line is `N passed, N failed`; the exit code is 0 when none failed.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { addCounts, COVERED_SEEDS_MIN, type Counts, missing, table } from "./coverage.ts";
import { NAMES } from "./federation.ts";
import type { Violation } from "./history.ts";
import { type RunResult, runSchedule, runSeed } from "./run.ts";
import { SCENARIOS } from "./scenarios.ts";
import { FAULT_KINDS, type FaultKind, type Schedule } from "./schedule.ts";
import { runSeeds, type Told } from "./seeds.ts";
import { shrink, sizeInWords } from "./shrink.ts";
import { Stage } from "./stage.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    seeds: { type: "string" },
    minutes: { type: "string" },
    nodes: { type: "string" },
    faults: { type: "string", default: "" },
    story: { type: "boolean", default: false },
    scenario: { type: "string" },
    /** A file that a failing run left. */
    schedule: { type: "string" },
    /** Threads; as many as there are cores. */
    workers: { type: "string", default: String(availableParallelism()) },
    /** Fails when a fault that must have met a step of the protocol never did. */
    cover: { type: "boolean", default: false },
    /** Ends at the first failure: for the mutants, which need one. */
    "fail-fast": { type: "boolean", default: false },
  },
});

/** How often a long run says how far it is, ms. */
const PROGRESS_MS = 10_000;
/** How long a failing run is made smaller, ms. */
const SHRINK_MS = 60_000;

// A promise of the product that nobody waits for, and that failed: in a node it would end the process.
const unhandled: Violation[] = [];
process.on("unhandledRejection", (error) =>
  unhandled.push({ checker: "process", message: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
);

const nodeCount = values.nodes === undefined ? undefined : wholeNumber("nodes", values.nodes);
if (nodeCount !== undefined && (nodeCount < 1 || nodeCount > NAMES.length)) usage(`--nodes takes 1 to ${NAMES.length}`);
const faults = values.faults.split(",").filter((kind) => kind !== "") as FaultKind[];
for (const kind of faults) if (!FAULT_KINDS.includes(kind)) usage(`--faults takes ${FAULT_KINDS.join(",")}; not ${kind}`);
const story = values.story ? (line: string) => console.log(line) : undefined;
const begun = performance.now();
const totals = { passed: 0, failed: 0, acknowledged: 0, simulatedMs: 0 };
const coverage: Counts = {};
const failed: number[] = [];

if (values.scenario !== undefined) await playScenarios(values.scenario);
else if (values.schedule !== undefined) await runAndJudge(await runSchedule(JSON.parse(readFileSync(values.schedule, "utf8")) as Schedule, story));
else if (values.minutes !== undefined) await runFor(wholeNumber("minutes", values.minutes));
else if (values.seeds === undefined) await runOne(wholeNumber("seed", values.seed ?? "1"));
else await runRange(wholeNumber("seed", values.seed ?? "1"), wholeNumber("seeds", values.seeds));
console.log(`${totals.passed} passed, ${totals.failed} failed`);
process.exitCode = totals.failed === 0 && totals.passed > 0 ? 0 : 1;

async function runOne(seed: number): Promise<void> {
  await runAndJudge(await runSeed({ seed, nodeCount, faults, story }));
}

/** @param result of a run that was told already, if it was to be told */
async function runAndJudge(result: RunResult): Promise<void> {
  const { seed } = result;
  const { acknowledged, operations, frames, events, simulatedMs, traceHash } = result;
  judgeSeed({ ...result, violations: [...result.violations, ...unhandled.splice(0)] });
  console.log(
    `seed ${seed}: ${acknowledged} of ${operations} operations acknowledged, ${frames} frames, ${events} events, ${(simulatedMs / 1000).toFixed(1)} s simulated, trace ${traceHash.slice(0, 16)}`,
  );
  if (totals.failed > 0 && !values.story) await explain(result);
}

/** Makes a failing run as small as it gets in a minute, tells its story and keeps its list. */
async function explain({ seed, schedule, violations }: RunResult): Promise<void> {
  const broken = violations[0]?.checker;
  const until = performance.now() + SHRINK_MS;
  const small = await shrink(schedule, {
    goOn: () => performance.now() < until,
    fails: async (candidate) => {
      const found = [...(await runSchedule(candidate)).violations, ...unhandled.splice(0)];
      return found.some(({ checker }) => checker === broken);
    },
  });
  console.log(`\nseed ${seed} in short: ${sizeInWords(small)} of ${sizeInWords(schedule)}`);
  const { violations: left } = await runSchedule(small, (line) => console.log(line));
  for (const { checker, message } of left.slice(0, 12)) console.log(`  (${checker}) ${message}`);
  const file = join(tmpdir(), `continuum-sim-${seed}.json`);
  writeFileSync(file, JSON.stringify(small));
  console.log(`  replay this: npm run sim -- --schedule ${file} --story\n`);
}

async function runRange(first: number, count: number): Promise<void> {
  let seed = first;
  const next = (): number | undefined => (seed >= first + count || (values["fail-fast"] && totals.failed > 0) ? undefined : seed++);
  await runMany(next);
}

async function runFor(minutes: number): Promise<void> {
  let seed = Date.now();
  console.log(`seeds from ${seed} on, for ${minutes} minutes`);
  const until = begun + minutes * 60_000;
  const progress = setInterval(() => console.log(soFar()), PROGRESS_MS);
  await runMany(() => (performance.now() < until ? seed++ : undefined));
  clearInterval(progress);
}

async function runMany(next: () => number | undefined): Promise<void> {
  await runSeeds({ next, nodeCount, faults, workers: wholeNumber("workers", values.workers), told: judgeSeed });
  console.log(soFar());
  console.log(`\nhow often a fault met a step of the protocol\n${table(coverage)}\n`);
  const [failing] = failed;
  if (failing !== undefined && !values["fail-fast"]) await explain(await runSeed({ seed: failing, nodeCount, faults }));
  const never = missing(coverage);
  if (never.length === 0 || totals.passed + totals.failed < COVERED_SEEDS_MIN) return;
  console.log(`never met, though declared in coverage.ts:\n  ${never.join("\n  ")}`);
  if (values.cover) totals.failed++;
}

function soFar(): string {
  const seconds = (performance.now() - begun) / 1000;
  const { user, system } = process.cpuUsage();
  const simulated = totals.simulatedMs / 1000;
  const rates = `${(simulated / seconds).toFixed(0)} a second, ${((simulated * 1e6) / (user + system)).toFixed(0)} a processor-second`;
  return `${seconds.toFixed(0)} s: ${totals.passed + totals.failed} seeds, ${totals.acknowledged} operations acknowledged, ${simulated.toFixed(0)} federation-seconds (${rates}), ${totals.failed} failed`;
}

function judgeSeed({ seed, violations, acknowledged, simulatedMs, coverage: met }: Told): void {
  addCounts(coverage, met);
  if (violations.length > 0) failed.push(seed);
  totals.acknowledged += acknowledged;
  totals.simulatedMs += simulatedMs;
  judge(
    `seed ${seed}`,
    violations,
    `--seed ${seed}${nodeCount === undefined ? "" : ` --nodes ${nodeCount}`}${faults.length === 0 ? "" : ` --faults ${faults}`}`,
  );
}

async function playScenarios(text: string): Promise<void> {
  for (const scenario of SCENARIOS.filter(({ name }) => name.includes(text))) {
    const violations = await scenario
      .play(new Stage(story, scenario.nodeCount))
      .catch((error: Error): Violation[] => [{ checker: "scenario", message: error.message }]);
    judge(`scenario "${scenario.name}"`, [...violations, ...unhandled.splice(0)], `--scenario "${scenario.name}"`);
  }
}

function judge(what: string, violations: readonly Violation[], replay: string): void {
  if (violations.length === 0) {
    totals.passed++;
    return;
  }
  totals.failed++;
  console.log(`${what} failed: ${violations.length} violations`);
  for (const { checker, message } of violations.slice(0, 12)) console.log(`  (${checker}) ${message}`);
  console.log(`  replay: npm run sim -- ${replay} --story`);
}

function wholeNumber(name: string, text: string): number {
  if (!/^\d+$/.test(text)) usage(`--${name} takes a whole number, not ${text}`);
  return Number(text);
}

function usage(problem: string): never {
  console.error(
    `${problem}\nusage: npm run sim -- [--seed N] [--seeds COUNT | --minutes M] [--nodes 1-${NAMES.length}] [--faults KIND,KIND] [--story]`,
  );
  process.exit(2);
}
