/**
 * npm run faults [-- --scenario N] [--seed N] [--quick] [--jobs N] [--story] [--keep]
 * npm run faults -- --mix --minutes N [--nodes K] [--seed N] [--story]
 *
 * Real nodes behind the fault proxy, one scenario after the other. A line each; the last line is `N passed, N failed`, the exit code 0 when none failed.
 * `--scenario 4` plays one of them, `--story` tells what happens as it happens, `--quick` plays the shorter cut that CI runs, three at a time, `--keep` leaves
 * folders and logs where they are (those of a failed scenario stay anyhow). `--mix` plays all faults at random, and says at its end what clients and nodes
 * went through.
 */
import { parseArgs } from "node:util";
import { USUAL } from "./clients.ts";
import { mix } from "./mix.ts";
import type { Scenario } from "./scenario.ts";
import { SCENARIOS } from "./scenarios.ts";
import { Stage } from "./stage.ts";

const { values } = parseArgs({
  options: {
    scenario: { type: "string" },
    seed: { type: "string" },
    quick: { type: "boolean", default: false },
    jobs: { type: "string" },
    story: { type: "boolean", default: false },
    keep: { type: "boolean", default: false },
    mix: { type: "boolean", default: false },
    minutes: { type: "string", default: "5" },
    nodes: { type: "string", default: "4" },
  },
});
const seed = values.seed === undefined ? 1 + Math.floor(Math.random() * 1_000_000) : Number(values.seed);
const [minutes, nodes] = [Number(values.minutes), Number(values.nodes)];
const chosen = values.scenario === undefined ? SCENARIOS : SCENARIOS.filter(({ fault }) => String(fault) === values.scenario);
const jobs = Math.min(chosen.length, Number(values.jobs ?? (values.quick ? 3 : 1)));
if (![seed, jobs, nodes].every(Number.isInteger) || chosen.length === 0 || !(minutes > 0) || jobs < 1 || nodes < 4 || nodes > 7) {
  const faults = SCENARIOS.map(({ fault }) => fault).join("|");
  process.stderr.write(`usage: npm run faults -- [--scenario ${faults}] [--seed N] [--quick] [--jobs N] [--story] [--keep]\n`);
  process.stderr.write("       npm run faults -- --mix --minutes N [--nodes 4..7] [--seed N] [--story]\n");
  process.exit(2);
}
if (process.platform !== "linux") {
  console.log("skipped: loopback addresses 127.A.B.C and /proc tell the nodes apart, which is Linux");
  process.exit(75);
}

const open = new Set<Stage>();
for (const signal of ["SIGINT", "SIGTERM"] as const)
  process.once(signal, () => {
    console.log(`${signal}: everything that runs is stopped, and nothing is judged`);
    void Promise.all([...open].map((stage) => stage.close())).finally(() => process.exit(1));
  });

let [passed, failed, leftOut] = [0, 0, 0];
if (values.mix) await playMix();
else await playScenarios();
console.log(`${leftOut === 0 ? "" : `${leftOut} left out, `}${passed} passed, ${failed} failed`);
process.exit(failed === 0 && passed > 0 ? 0 : 1);

async function playMix(): Promise<void> {
  console.log(`${minutes} minutes of all faults on ${nodes} nodes, seed ${seed}`);
  const story = values.story ? { story: (line: string) => console.log(`  ${line}`) } : {};
  if (await mix({ minutes, seed, nodes, say: (line) => console.log(line), ...story }, (stage) => open.add(stage))) passed++;
  else failed++;
}

/** Those that measure have the machine to themselves. */
async function playScenarios(): Promise<void> {
  const waiting = chosen.filter(({ alone }) => alone !== true);
  const lane = async (): Promise<void> => {
    for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) await play(next);
  };
  await Promise.all(Array.from({ length: jobs }, lane));
  for (const scenario of chosen.filter(({ alone }) => alone === true)) await play(scenario);
}

async function play(scenario: Scenario): Promise<void> {
  const title = `fault ${String(scenario.fault).padStart(2)}  ${scenario.name}`;
  const missing = scenario.missing?.();
  if (missing !== undefined) {
    leftOut++;
    console.log(`${title}: left out, ${missing}`);
    return;
  }
  const begun = performance.now();
  if (values.story) console.log(`${title}\n  ${scenario.says}`);
  const story = values.story ? { story: (line: string) => console.log(`  ${jobs > 1 ? `[${scenario.fault}] ` : ""}${line}`) } : {};
  const options = scenario.stage(values.quick);
  // The same faults beside fewer requests: each of those costs processor time that CI does not have.
  const clients = { ...USUAL, ...options.clients };
  const stage = await Stage.open({ ...options, clients: values.quick ? { ...clients, pauseMs: 2 * clients.pauseMs } : clients, seed, ...story });
  open.add(stage);
  stage.federation.keep = values.keep;
  try {
    await stage.finish((await scenario.play(stage, values.quick)) ?? {});
  } catch (error) {
    stage.violations.push({ checker: "scenario", message: (error as Error).message });
  }
  await stage.close();
  open.delete(stage);
  judge(scenario, title, stage, (performance.now() - begun) / 1000);
}

function judge(scenario: Scenario, title: string, { tally, violations, clients, federation, restMs }: Stage, seconds: number): void {
  const { operations, acknowledged, inDoubt, refused } = tally;
  const figures = `${operations} operations, ${acknowledged} writes acknowledged, ${inDoubt} in doubt, ${refused} refused, at rest ${(restMs / 1000).toFixed(1)} s after healing, seed ${seed}`;
  if (violations.length === 0) {
    passed++;
    console.log(`${title}: passed in ${seconds.toFixed(0)} s, ${figures}`);
    return;
  }
  failed++;
  console.log(`${title}: FAILED with ${violations.length} violations in ${seconds.toFixed(0)} s, ${figures}`);
  for (const { checker, message } of violations.slice(0, 20)) console.log(`  (${checker}) ${message}`);
  console.log(`  answers: ${JSON.stringify(clients.refusals)}`);
  console.log(`  logs and disks: ${federation.dataDir}`);
  console.log(`  again: npm run faults -- --scenario ${scenario.fault} --seed ${seed}${values.quick ? " --quick" : ""} --story`);
}
