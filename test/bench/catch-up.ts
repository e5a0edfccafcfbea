/**
 * `npm run bench -- --catch-up`: a node of three is stopped, many deltas are written through the other two, it is started again. How fast it catches up,
 * against how fast LevelDB alone takes the same rows in the same run.
 */
import { join } from "node:path";
import { eventually, type Federation, type FederationNode, pause } from "../e2e/federation.ts";
import { fill, frontierOf, type Home, highest, startNodes, sumOf, tenantsOf } from "./fill.ts";
import { type LevelRate, levelRate } from "./level-rate.ts";
import { processorMs } from "./machine.ts";
import { loadPayload, type Payload } from "./payload.ts";
import { nowUs, Profiles } from "./profile.ts";
import { goal, median, type StudyRun, type Verdict } from "./study.ts";

const DELTAS = 100_000;
const TENANTS = 8;
/** Between two looks at the returning node: often enough to be exact, seldom enough to cost it nothing. */
const LOOK_MS = 100;
const CAUGHT_UP_MS_MAX = 600_000;
/** Goal: share of LevelDB's own rate. */
const RATIO_MIN = 0.5;

interface Round {
  readonly deltas: number;
  /** From the start of the process until its frontier is what the others hold, s. */
  readonly seconds: number;
  /** Of those until the first delta was there: starting, connecting, hearing what there is. */
  readonly startSeconds: number;
  readonly perSecond: number;
  /** Of the returning node's process, its start included, a delta; microseconds. */
  readonly processorUs: number | undefined;
  readonly level: LevelRate;
}

export async function catchUp({ deltas = DELTAS, rounds = 1, dataDir, profile, own, say }: StudyRun): Promise<Verdict> {
  const payload = loadPayload(dataDir);
  const profiles = profile ? new Profiles() : undefined;
  own(() => profiles?.remove());
  const federation = await startNodes({ nodes: 3, ...(profiles !== undefined && { env: profiles.env }) }, own);
  const away = federation.nodes[2]!;
  const homes = await tenantsOf(away, federation.nodes, TENANTS, payload);
  const measured: Round[] = [];
  let detail = "";
  for (let round = 1; round <= rounds; round++) {
    const fromUs = nowUs();
    const { pid, ...result } = await measure(federation, away, homes, deltas, payload, say);
    const toUs = nowUs();
    measured.push(result);
    say(`round ${round} of ${rounds}: ${described(result)}`);
    if (profiles !== undefined) detail = [`== ${away.name}, catching up`, ...profiles.describe(pid, fromUs, toUs)].join("\n");
    away.start();
  }
  const ratio = median(measured.map(({ perSecond, level }) => perSecond / level.perSecond));
  const report = [...measured.map((one) => `- ${described(one)}`), goal(`catch-up / LevelDB >= ${RATIO_MIN} x`, ratio, ratio >= RATIO_MIN)];
  return { report: report.join("\n"), detail };
}

/** Leaves the returned node stopped. */
async function measure(
  federation: Federation,
  away: FederationNode,
  homes: readonly Home[],
  deltas: number,
  payload: Payload,
  say: StudyRun["say"],
): Promise<Round & { pid: number }> {
  const others = federation.nodes.filter((node) => node !== away);
  const partitions = new Set(homes.map(({ partition }) => partition));
  // What was written before is there before it leaves.
  await eventually(`${away.name} holds everything`, 60_000, async () =>
    sumOf(await frontierOf(away, partitions)) === sumOf(await highest(others, partitions)) ? true : undefined,
  );
  const before = await frontierOf(away, partitions);
  await away.stop();
  const began = performance.now();
  await fill(homes, deltas, payload);
  const target = await highest(others, partitions);
  const lacking = sumOf(target) - sumOf(before);
  say(`${lacking} deltas written in ${((performance.now() - began) / 1000).toFixed(0)} s while ${away.name} was away`);

  const startedAt = performance.now();
  let firstAt = startedAt;
  away.start();
  const pid = away.pid!;
  for (let held = sumOf(before); held < sumOf(target); ) {
    if (performance.now() - startedAt > CAUGHT_UP_MS_MAX) throw new Error(`${away.name} has not caught up: it holds ${held} of ${sumOf(target)}`);
    await pause(LOOK_MS);
    const now = await frontierOf(away, partitions).catch(() => undefined);
    if (now === undefined) continue;
    held = sumOf(now);
    if (held === sumOf(before)) firstAt = performance.now();
    if (process.stderr.isTTY) process.stderr.write(`\r${held} of ${sumOf(target)}  `);
  }
  const seconds = (performance.now() - startedAt) / 1000;
  const busyMs = processorMs([pid]);
  await away.stop();
  const level = await levelRate(join(away.dataDir, "store"), partitions, before);
  return {
    pid,
    deltas: lacking,
    seconds,
    startSeconds: (firstAt - startedAt) / 1000,
    perSecond: lacking / seconds,
    processorUs: busyMs === undefined ? undefined : (busyMs * 1000) / lacking,
    level,
  };
}

function described({ deltas, seconds, startSeconds, perSecond, processorUs, level }: Round): string {
  const per = (level.bytes / level.deltas).toFixed(0);
  return (
    `${deltas} deltas in ${seconds.toFixed(1)} s, ${startSeconds.toFixed(1)} s of them until the first: ${Math.round(perSecond)}/s; ` +
    `LevelDB takes the same ${level.rows} rows (${per} bytes a delta) at ${Math.round(level.perSecond)}/s: ${(perSecond / level.perSecond).toFixed(2)} x; ` +
    `processor time a delta ${processorUs === undefined ? "?" : Math.round(processorUs)} us, LevelDB's part alone ${Math.round(level.processorUs)} us`
  );
}
