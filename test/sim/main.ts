/**
 * npm run sim -- --seed N [--seeds COUNT] [--nodes K] [--story]
 * npm run sim -- --minutes M [--nodes K]
 * npm run sim -- --scenario TEXT [--story]
 *
 * Runs a federation on simulated time, network and disk, once for each seed from N on, and says which seeds broke a promise. `--minutes` runs on with
 * seeds that nobody has tried, and says how far it is. `--story` prints what happened, line by line. `--scenario` plays the directed schedules whose name
 * contains TEXT instead. The last line is `N passed, N failed`; the exit code is 0 when none failed.
 */
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { NAMES } from "./federation.ts";
import type { Violation } from "./history.ts";
import { runSeed } from "./run.ts";
import { SCENARIOS } from "./scenarios.ts";
import { runSeeds, type Told } from "./seeds.ts";
import { Stage } from "./stage.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string" },
    seeds: { type: "string" },
    minutes: { type: "string" },
    nodes: { type: "string" },
    story: { type: "boolean", default: false },
    scenario: { type: "string" },
    /** Threads; as many as there are cores. */
    workers: { type: "string", default: String(availableParallelism()) },
    /** Ends at the first failure: for the mutants, which need one. */
    "fail-fast": { type: "boolean", default: false },
  },
});

/** How often a long run says how far it is, ms. */
const PROGRESS_MS = 10_000;

// A promise of the product that nobody waits for, and that failed: in a node it would end the process.
const unhandled: Violation[] = [];
process.on("unhandledRejection", (error) =>
  unhandled.push({ checker: "process", message: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
);

const nodeCount = values.nodes === undefined ? undefined : wholeNumber("nodes", values.nodes);
if (nodeCount !== undefined && (nodeCount < 1 || nodeCount > NAMES.length)) usage(`--nodes takes 1 to ${NAMES.length}`);
const story = values.story ? (line: string) => console.log(line) : undefined;
const begun = performance.now();
const totals = { passed: 0, failed: 0, acknowledged: 0, simulatedMs: 0 };

if (values.scenario !== undefined) await playScenarios(values.scenario);
else if (values.minutes !== undefined) await runFor(wholeNumber("minutes", values.minutes));
else if (values.seeds === undefined) await runOne(wholeNumber("seed", values.seed ?? "1"));
else await runRange(wholeNumber("seed", values.seed ?? "1"), wholeNumber("seeds", values.seeds));
console.log(`${totals.passed} passed, ${totals.failed} failed`);
process.exitCode = totals.failed === 0 && totals.passed > 0 ? 0 : 1;

async function runOne(seed: number): Promise<void> {
  const result = await runSeed({ seed, nodeCount, story });
  const { acknowledged, operations, frames, events, simulatedMs, traceHash } = result;
  judgeSeed({ ...result, violations: [...result.violations, ...unhandled.splice(0)] });
  console.log(
    `seed ${seed}: ${acknowledged} of ${operations} operations acknowledged, ${frames} frames, ${events} events, ${(simulatedMs / 1000).toFixed(1)} s simulated, trace ${traceHash.slice(0, 16)}`,
  );
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
  await runSeeds({ next, nodeCount, workers: wholeNumber("workers", values.workers), told: judgeSeed });
  console.log(soFar());
}

function soFar(): string {
  const seconds = (performance.now() - begun) / 1000;
  const { user, system } = process.cpuUsage();
  const simulated = totals.simulatedMs / 1000;
  const rates = `${(simulated / seconds).toFixed(0)} a second, ${((simulated * 1e6) / (user + system)).toFixed(0)} a processor-second`;
  return `${seconds.toFixed(0)} s: ${totals.passed + totals.failed} seeds, ${totals.acknowledged} operations acknowledged, ${simulated.toFixed(0)} federation-seconds (${rates}), ${totals.failed} failed`;
}

function judgeSeed({ seed, violations, acknowledged, simulatedMs }: Told): void {
  totals.acknowledged += acknowledged;
  totals.simulatedMs += simulatedMs;
  judge(`seed ${seed}`, violations, `--seed ${seed}${nodeCount === undefined ? "" : ` --nodes ${nodeCount}`}`);
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
  console.error(`${problem}\nusage: npm run sim -- [--seed N] [--seeds COUNT | --minutes M] [--nodes 1-${NAMES.length}] [--story]`);
  process.exit(2);
}
