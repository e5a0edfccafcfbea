/**
 * npm run sim -- --seed N [--nodes K] [--seeds COUNT] [--story]
 * npm run sim -- --scenario TEXT [--story]
 *
 * Runs a federation on simulated time, network and disk, once for each seed from N on, and says which seeds broke a promise. `--story` prints what
 * happened, line by line. `--scenario` plays the directed schedules whose name contains TEXT instead. The last line is `N passed, N failed`; the exit code is 0 when none failed.
 */
import { parseArgs } from "node:util";
import type { Violation } from "./history.ts";
import { runSeed } from "./run.ts";
import { SCENARIOS } from "./scenarios.ts";
import { Stage } from "./stage.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    seeds: { type: "string", default: "1" },
    nodes: { type: "string" },
    story: { type: "boolean", default: false },
    scenario: { type: "string" },
    /** Ends at the first failure: for the mutants, which need one. */
    "fail-fast": { type: "boolean", default: false },
  },
});

// A promise of the product that nobody waits for, and that failed: in a node it would end the process.
const unhandled: Violation[] = [];
process.on("unhandledRejection", (error) =>
  unhandled.push({ checker: "process", message: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
);

const story = values.story ? (line: string) => console.log(line) : undefined;
let passed = 0;
let failed = 0;
if (values.scenario !== undefined) await playScenarios(values.scenario);
else await runSeeds();
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;

async function runSeeds(): Promise<void> {
  const first = wholeNumber("seed", values.seed);
  const count = wholeNumber("seeds", values.seeds);
  const nodeCount = values.nodes === undefined ? undefined : wholeNumber("nodes", values.nodes);
  if (nodeCount !== undefined && (nodeCount < 1 || nodeCount > 5)) usage("--nodes takes 1 to 5");
  let operations = 0;
  const begun = performance.now();
  for (let seed = first; seed < first + count; seed++) {
    const result = await runSeed({ seed, nodeCount, story });
    operations += result.acknowledged;
    judge(`seed ${seed}`, result.violations, `--seed ${seed}${nodeCount === undefined ? "" : ` --nodes ${nodeCount}`}`);
    if (count === 1) {
      const { acknowledged, operations: asked, frames, events, simulatedMs, traceHash } = result;
      const seconds = (simulatedMs / 1000).toFixed(1);
      console.log(
        `seed ${seed}: ${acknowledged} of ${asked} operations acknowledged, ${frames} frames, ${events} events, ${seconds} s simulated, trace ${traceHash.slice(0, 16)}`,
      );
    }
    if (failed > 0 && values["fail-fast"]) break;
  }
  console.log(`${operations} operations acknowledged in ${((performance.now() - begun) / 1000).toFixed(1)} s`);
}

async function playScenarios(text: string): Promise<void> {
  for (const scenario of SCENARIOS.filter(({ name }) => name.includes(text))) {
    const violations = await scenario
      .play(new Stage(story, scenario.nodeCount))
      .catch((error: Error): Violation[] => [{ checker: "scenario", message: error.message }]);
    judge(`scenario "${scenario.name}"`, violations, `--scenario "${scenario.name}"`);
  }
}

function judge(what: string, found: readonly Violation[], replay: string): void {
  const violations = [...found, ...unhandled.splice(0)];
  if (violations.length === 0) {
    passed++;
    return;
  }
  failed++;
  console.log(`${what} failed: ${violations.length} violations`);
  for (const { checker, message } of violations.slice(0, 12)) console.log(`  (${checker}) ${message}`);
  console.log(`  replay: npm run sim -- ${replay} --story`);
}

function wholeNumber(name: string, text: string): number {
  if (!/^\d+$/.test(text)) usage(`--${name} takes a whole number, not ${text}`);
  return Number(text);
}

function usage(problem: string): never {
  console.error(`${problem}\nusage: npm run sim -- --seed N [--nodes 1-5] [--seeds COUNT] [--story]`);
  process.exit(2);
}
