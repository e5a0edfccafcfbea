/** `npm run bench`: three nodes as real processes against etcd and the bare floor, in rounds that take the systems in turn; or one of the studies. */
import { readFileSync, writeFileSync } from "node:fs";
import { resolve } from "node:path";
import { type Case, casesOf, keyOf } from "./cases.ts";
import { catchUp } from "./catch-up.ts";
import { converge } from "./converge.ts";
import { idle } from "./idle.ts";
import { Load } from "./load.ts";
import { describeCommit, describeMachine, processorMs } from "./machine.ts";
import { type Contender, type Options, readOptions, type Study, USAGE } from "./options.ts";
import { loadPayload } from "./payload.ts";
import { profile } from "./profile.ts";
import { repair } from "./repair.ts";
import { failures, goalLine, goals, type Measured, table } from "./report.ts";
import type { StudyRun, Verdict } from "./study.ts";
import { type Continuum, type System, startContinuum, startEtcd, startFloor } from "./systems.ts";

const README = resolve(import.meta.dirname, "README.md");
const STUDIES: Readonly<Record<Study, (run: StudyRun) => Promise<Verdict>>> = { "catch-up": catchUp, converge, repair, idle };
const ROUNDS = 3;
const WARMUP_MS = 500;
/** Between two cases: what one left to do (compaction, repair) is not the next one's. */
const PAUSE_MS = 200;

let options: Options;
try {
  options = readOptions(process.argv.slice(2));
} catch (error) {
  process.stderr.write(`${(error as Error).message}\n${USAGE}\n`);
  process.exit(2);
}
for (const signal of ["SIGINT", "SIGTERM"] as const) process.once(signal, () => void stopAll().then(() => process.exit(1)));

const systems = new Map<Contender, System>();
/** Of a start under way: a signal waits for it, so that nothing stays behind. */
let starting: Promise<unknown> = Promise.resolve();
let stopped = false;
/** What a study has started. */
const owned: (() => void | Promise<void>)[] = [];
const skipped: string[] = [];
let load: Load | undefined;
try {
  if (options.study !== undefined) await study(options.study);
  else if (options.profile) say(await profile("memories", Math.max(...options.clients), options.seconds * 3, options.dataDir));
  else await bench();
} catch (error) {
  // What is stopped under way fails, and nobody asks why.
  if (!stopped) throw error;
} finally {
  await stopAll();
}

async function bench(): Promise<void> {
  const begun = performance.now();
  const machine = describeMachine();
  load = new Load(options.dataDir);
  const start: Readonly<Record<Contender, () => Promise<System>>> = {
    continuum: () => startContinuum(loadPayload(options.dataDir)),
    etcd: startEtcd,
    floor: startFloor,
  };
  for (const name of options.only) {
    try {
      if (stopped) return;
      starting = start[name]().then((system) => systems.set(name, system));
      await starting;
    } catch (error) {
      if (name === "continuum") throw error;
      skipped.push(`${name} skipped: ${(error as Error).message.split("\n")[0]}`);
      say(skipped.at(-1)!);
    }
  }
  if (stopped) return;
  const cases = casesOf(options.clients).filter(({ system }) => systems.has(system));
  const results = new Map(cases.map((one) => [keyOf(one), { case: one, samples: [] as Measured[] }]));
  const count = options.rounds ?? ROUNDS;
  for (let round = 1; round <= count; round++) {
    for (const one of cases) {
      const measured = await measure(one, load);
      results.get(keyOf(one))!.samples.push(measured);
      process.stderr.write(`round ${round} of ${count}  ${keyOf(one).padEnd(28)} ${Math.round(measured.perSecond).toString().padStart(6)}/s\n`);
    }
  }
  const rounds = `medians of ${count} alternating rounds of ${options.seconds} s a case`;
  const report = [
    `${new Date().toISOString().slice(0, 10)}, commit ${describeCommit()}, ${machine}; ${rounds}, ${Math.round((performance.now() - begun) / 1000)} s in all.`,
    "",
    table(results),
    "",
    ...skipped.map((line) => `- ${line}`),
    ...goals(results, options.clients).map(goalLine),
    ...failures(results).map((line) => `- wrong answers: ${line}`),
  ].join("\n");
  say(report);
  if (options.write) writeReport("bench", report);
  if (failures(results).length > 0) process.exitCode = 1;
}

async function study(name: Study): Promise<void> {
  const begun = performance.now();
  const machine = describeMachine();
  const { report, detail } = await STUDIES[name]({
    deltas: options.deltas,
    rounds: options.rounds,
    dataDir: options.dataDir,
    profile: options.profile,
    own: (stop) => void owned.push(stop),
    say: (text) => void process.stderr.write(`${text}\n`),
  });
  const took = Math.round((performance.now() - begun) / 1000);
  const text = `${new Date().toISOString().slice(0, 10)}, commit ${describeCommit()}, ${machine}; ${took} s in all.\n\n${report}`;
  say(text);
  if (detail !== undefined && detail !== "") say(detail);
  if (options.write) writeReport(`bench ${name}`, text);
}

async function measure(one: Case, clients: Load): Promise<Measured> {
  const system = systems.get(one.system)!;
  const urls = one.atOneReplica ? [system.urls[(system as Continuum).replicas[0]!]!] : system.urls;
  await new Promise((done) => setTimeout(done, PAUSE_MS));
  const order = { workload: one.workload, urls, clients: one.clients, warmupMs: WARMUP_MS, measureMs: options.seconds * 1000 };
  const before = processorMs(system.pids);
  const sample = await clients.run(order);
  const after = processorMs(system.pids);
  const used = before === undefined || after === undefined ? undefined : ((after - before) * 1000) / sample.answered;
  return { ...sample, processorUs: used };
}

function writeReport(section: string, report: string): void {
  const [begin, end] = [`<!-- ${section}: begin -->`, `<!-- ${section}: end -->`];
  const text = readFileSync(README, "utf8");
  const [before, after] = [text.indexOf(begin), text.indexOf(end)];
  if (before < 0 || after < before) throw new Error(`${README} has lost its markers of ${section}`);
  writeFileSync(README, `${text.slice(0, before + begin.length)}\n${report}\n${text.slice(after)}`);
}

async function stopAll(): Promise<void> {
  stopped = true;
  load?.stop();
  await starting.catch(() => undefined);
  await Promise.all([...systems.values()].map((system) => system.stop()));
  systems.clear();
  for (let stop = owned.pop(); stop !== undefined; stop = owned.pop()) await stop();
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}
