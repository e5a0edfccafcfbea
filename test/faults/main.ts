/**
 * npm run faults [-- --scenario N] [--seed N] [--quick] [--story] [--keep]
 * npm run faults -- --mix --minutes N [--nodes K] [--seed N] [--story]
 *
 * Real nodes behind the fault proxy, one scenario after the other. A line each; the last line is `N passed, N failed`, the exit code 0 when none failed.
 * `--scenario 4` plays one of them, `--story` tells what happens as it happens, `--quick` plays the shorter cut that CI runs, `--keep` leaves folders and
 * logs where they are (those of a failed scenario stay anyhow). `--mix` plays all faults at random, and says at its end what clients and nodes went through.
 */
import { parseArgs } from "node:util";
import { mix } from "./mix.ts";
import type { Scenario } from "./scenario.ts";
import { SCENARIOS } from "./scenarios.ts";
import { Stage } from "./stage.ts";

const { values } = parseArgs({
  options: {
    scenario: { type: "string" },
    seed: { type: "string" },
    quick: { type: "boolean", default: false },
    story: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
    mix: { type: "boolean", default: false },
    minutes: { type: "string", default: "5" },
    nodes: { type: "string", default: "3" },
  },
});
const seed = values.seed === undefined ? 1 + Math.floor(Math.random() * 1_000_000) : Number(values.seed);
const chosen = values.scenario === undefined ? SCENARIOS : SCENARIOS.filter(({ fault }) => String(fault) === values.scenario);
const [minutes, nodes] = [Number(values.minutes), Number(values.nodes)];
if (!Number.isInteger(seed) || chosen.length === 0 || !(minutes > 0) || !Number.isInteger(nodes) || nodes < 3 || nodes > 7) {
  process.stderr.write(
    `usage: npm run faults -- [--scenario ${SCENARIOS.map(({ fault }) => fault).join("|")}] [--seed N] [--quick] [--story] [--keep]\n` +
      "       npm run faults -- --mix --minutes N [--nodes 3..7] [--seed N] [--story]\n",
  );
  process.exit(2);
}
if (process.platform !== "linux") {
  console.log("skipped: loopback addresses 127.A.B.C and /proc tell the nodes apart, which is Linux");
  process.exit(75);
}

let open: Stage | undefined;
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.once(signal, () => void (open?.close() ?? Promise.resolve()).finally(() => process.exit(1)));

let [passed, failed] = [0, 0];
if (values.mix) {
  const story = values.story ? { story: (line: string) => console.log(`  ${line}`) } : {};
  console.log(`${minutes} minutes of all faults on ${nodes} nodes, seed ${seed}`);
  const good = await mix({ minutes, seed, nodes, say: (line) => console.log(line), ...story }, (stage) => {
    open = stage;
  });
  console.log(good ? "1 passed, 0 failed" : "0 passed, 1 failed");
  process.exit(good ? 0 : 1);
}
for (const scenario of chosen) {
  if (await play(scenario)) passed++;
  else failed++;
}
console.log(`${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);

async function play(scenario: Scenario): Promise<boolean> {
  const title = `fault ${String(scenario.fault).padStart(2)}  ${scenario.name}`;
  const missing = scenario.missing?.();
  if (missing !== undefined) {
    console.log(`${title}: left out, ${missing}`);
    return true;
  }
  const begun = performance.now();
  if (values.story) console.log(`${title}\n  ${scenario.says}`);
  const story = values.story ? (line: string) => console.log(`  ${line}`) : undefined;
  let stage: Stage | undefined;
  try {
    stage = await Stage.open({ ...scenario.stage(values.quick), seed, ...(story === undefined ? {} : { story }) });
    open = stage;
    stage.federation.keep = values.keep;
    const end = await scenario.play(stage, values.quick);
    await stage.finish(end ?? {});
  } catch (error) {
    if (stage === undefined) throw error;
    stage.violations.push({ checker: "scenario", message: (error as Error).message });
  }
  await stage.close();
  open = undefined;
  const { operations, acknowledged, inDoubt, refused } = stage.tally;
  const seconds = ((performance.now() - begun) / 1000).toFixed(0);
  const { violations } = stage;
  const verdict = violations.length === 0 ? "passed" : `FAILED with ${violations.length} violations`;
  console.log(
    `${title}: ${verdict} in ${seconds} s, ${operations} operations, ${acknowledged} writes acknowledged, ${inDoubt} in doubt, ${refused} refused, seed ${seed}`,
  );
  if (values.story || violations.length > 0) console.log(`  answers: ${JSON.stringify(stage.clients.refusals)}`);
  for (const { checker, message } of violations.slice(0, 20)) console.log(`  (${checker}) ${message}`);
  if (violations.length > 0)
    console.log(
      `  logs and disks: ${stage.federation.dataDir}\n  again: npm run faults -- --scenario ${scenario.fault} --seed ${seed}${values.quick ? " --quick" : ""} --story`,
    );
  return violations.length === 0;
}
