/**
 * npm run sim -- --seed N [--nodes K] [--seeds COUNT] [--story]
 *
 * Runs a federation on simulated time, network and disk, once for each seed from N on, and says which seeds broke a promise. `--story` prints what
 * happened, line by line. The last line is `N passed, N failed`; the exit code is 0 when none failed.
 */
import { parseArgs } from "node:util";
import type { Violation } from "./history.ts";
import { runSeed } from "./run.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    seeds: { type: "string", default: "1" },
    nodes: { type: "string" },
    story: { type: "boolean", default: false },
    /** Ends at the first failure: for the mutants, which need one. */
    "fail-fast": { type: "boolean", default: false },
  },
});

const first = wholeNumber("seed", values.seed);
const count = wholeNumber("seeds", values.seeds);
const nodeCount = values.nodes === undefined ? undefined : wholeNumber("nodes", values.nodes);
if (nodeCount !== undefined && (nodeCount < 1 || nodeCount > 5)) usage("--nodes takes 1 to 5");

// A promise of the product that nobody waits for, and that failed: in a node it would end the process.
const unhandled: Violation[] = [];
process.on("unhandledRejection", (error) =>
  unhandled.push({ checker: "process", message: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
);

let failed = 0;
let passed = 0;
let operations = 0;
const begun = process.hrtime.bigint();
for (let seed = first; seed < first + count; seed++) {
  const result = await runSeed({ seed, nodeCount, story: values.story ? (line) => console.log(line) : undefined });
  operations += result.acknowledged;
  const violations = [...result.violations, ...unhandled.splice(0)];
  if (violations.length === 0) passed++;
  else {
    failed++;
    console.log(`seed ${seed} failed: ${violations.length} violations`);
    for (const { checker, message } of violations.slice(0, 12)) console.log(`  (${checker}) ${message}`);
    console.log(`  replay: npm run sim -- --seed ${seed}${nodeCount === undefined ? "" : ` --nodes ${nodeCount}`} --story`);
  }
  if (count === 1) {
    console.log(
      `seed ${seed}: ${result.acknowledged} of ${result.operations} operations acknowledged, ${result.frames} frames, ${result.events} events, ${(result.simulatedMs / 1000).toFixed(1)} s simulated, trace ${result.traceHash.slice(0, 16)}`,
    );
  }
  if (failed > 0 && values["fail-fast"]) break;
}
const seconds = Number(process.hrtime.bigint() - begun) / 1e9;
console.log(`${operations} operations acknowledged in ${seconds.toFixed(1)} s`);
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;

function wholeNumber(name: string, text: string): number {
  if (!/^\d+$/.test(text)) usage(`--${name} takes a whole number, not ${text}`);
  return Number(text);
}

function usage(problem: string): never {
  console.error(`${problem}\nusage: npm run sim -- --seed N [--nodes 1-5] [--seeds COUNT] [--story]`);
  process.exit(2);
}
