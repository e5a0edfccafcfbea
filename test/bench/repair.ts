/**
 * `npm run bench -- --repair`: what clients notice while a node that was away catches up. They write and recall at a fixed moderate rate, at quorum, at the two nodes
 * that stayed, of tenants of which the returning node holds one of the two copies; p99 during the repair against p99 before and after it.
 */
import { eventually, type FederationNode, pause } from "../e2e/federation.ts";
import { fill, frontierOf, type Home, highest, startNodes, store, sumOf, tenantsOf } from "./fill.ts";
import { Load, type Order, type Sample } from "./load.ts";
import { loadPayload } from "./payload.ts";
import { nowUs, Profiles } from "./profile.ts";
import { goal, median, type StudyRun, type Verdict } from "./study.ts";
import { memory, STORED_MEMORIES, type WorkloadName } from "./workloads.ts";

const DELTAS = 50_000;
const TENANTS = 8;
const CLIENTS = 16;
const RATES: Readonly<Record<"memories" | "recall-quorum", number>> = { memories: 100, "recall-quorum": 50 };
const WARM_MS = 5000;
/** A thousand recalls, so that p99 is the tenth worst. */
const CALM_MS = 20_000;
const CAUGHT_UP_MS_MAX = 300_000;
const LOOK_MS = 250;
const STORE_BATCH = 500;
/** Goal: p99 during repair over p99 without. */
const RATIO_MAX = 2;

type Foreground = Readonly<Record<keyof typeof RATES, Sample>>;

export async function repair({ deltas = DELTAS, rounds = 1, dataDir, profile, own, say }: StudyRun): Promise<Verdict> {
  const payload = loadPayload(dataDir);
  const profiles = profile ? new Profiles() : undefined;
  own(() => profiles?.remove());
  const federation = await startNodes({ nodes: 3, ...(profiles !== undefined && { env: profiles.env }) }, own);
  const away = federation.nodes[2]!;
  const stayed = federation.nodes.slice(0, 2);
  const [written, recalled, ...homes] = (await tenantsOf(away, federation.nodes, TENANTS + 2, payload)) as [Home, Home, ...Home[]];
  const partitions = new Set(homes.map(({ partition }) => partition));
  for (let from = 0; from < STORED_MEMORIES; from += STORE_BATCH) {
    const memories = Array.from({ length: STORE_BATCH }, (_, index) => JSON.parse(memory(from + index, payload)) as object);
    await store(stayed[0]!, recalled.tenant, memories, "quorum");
  }
  const loads = { memories: new Load(dataDir), "recall-quorum": new Load(dataDir) };
  own(() => {
    for (const load of Object.values(loads)) load.stop();
  });
  const clients = async (measureMs: number, until?: Promise<unknown>): Promise<Foreground> => {
    const order = (workload: WorkloadName & keyof typeof RATES): Order => ({
      workload,
      tenant: workload === "memories" ? written.tenant : recalled.tenant,
      urls: stayed.map(({ url }) => url),
      clients: CLIENTS,
      perSecond: RATES[workload],
      warmupMs: 0,
      measureMs,
    });
    const runs = Promise.all([loads.memories.run(order("memories")), loads["recall-quorum"].run(order("recall-quorum"))]);
    await until;
    if (until !== undefined) for (const load of Object.values(loads)) load.finish();
    const [memories, recalls] = await runs;
    return { memories, "recall-quorum": recalls };
  };
  await clients(WARM_MS);

  const calm: Foreground[] = [];
  const repairs: { repairSeconds: number; deltas: number; during: Foreground }[] = [];
  let detail = "";
  for (let round = 1; round <= rounds; round++) {
    calm.push(await clients(CALM_MS));
    say(`round ${round} of ${rounds}, calm: ${JSON.stringify(p99s(calm.at(-1)!))}`);
    await away.stop();
    await fill(homes, deltas, payload);
    const target = sumOf(await highest(stayed, partitions));
    const fromUs = nowUs();
    const begun = performance.now();
    away.start();
    const caughtUp = untilHeld(away, partitions, target);
    const during = await clients(CAUGHT_UP_MS_MAX, caughtUp);
    repairs.push({ repairSeconds: (performance.now() - begun) / 1000, deltas, during });
    say(`round ${round} of ${rounds}, repairing: ${JSON.stringify(p99s(during))}`);
    if (profiles !== undefined) {
      const toUs = nowUs();
      const pids = federation.nodes.map(({ pid }) => pid!);
      calm.push(await clients(CALM_MS));
      await federation.stop();
      detail = pids.flatMap((pid, place) => [`== ${federation.nodes[place]!.name}`, ...profiles.describe(pid, fromUs, toUs)]).join("\n");
      break;
    }
    await eventually("three nodes are ready", 60_000, async () => federation.ready(60_000).then(() => true as const));
  }
  if (profiles === undefined) calm.push(await clients(CALM_MS));
  say(`calm again: ${JSON.stringify(p99s(calm.at(-1)!))}`);

  const report: string[] = [
    `- ${RATES.memories} writes and ${RATES["recall-quorum"]} recalls a second at quorum; ${deltas} deltas repaired in ${median(repairs.map(({ repairSeconds }) => repairSeconds)).toFixed(1)} s`,
  ];
  for (const [workload, name] of [
    ["memories", "writes"],
    ["recall-quorum", "recalls"],
  ] as const) {
    const normal = median(calm.map((one) => one[workload].p99Ms));
    const during = median(repairs.map((one) => one.during[workload].p99Ms));
    const halves = `p50 ${median(calm.map((one) => one[workload].p50Ms)).toFixed(1)} -> ${median(repairs.map((one) => one.during[workload].p50Ms)).toFixed(1)} ms`;
    report.push(`- ${name}: p99 ${normal.toFixed(1)} -> ${during.toFixed(1)} ms, ${halves}`);
    report.push(goal(`p99 of ${name} during repair <= ${RATIO_MAX} x`, during / normal, during / normal <= RATIO_MAX));
    for (const { failures, example } of [...calm, ...repairs.map((one) => one.during)].map((one) => one[workload]))
      if (Object.keys(failures).length > 0) report.push(`- failed ${name}: ${JSON.stringify(failures)} ${example ?? ""}`);
  }
  return { report: report.join("\n"), detail };
}

async function untilHeld(node: FederationNode, partitions: ReadonlySet<number>, target: number): Promise<void> {
  const deadline = performance.now() + CAUGHT_UP_MS_MAX;
  for (;;) {
    await pause(LOOK_MS);
    const held = await frontierOf(node, partitions).catch(() => undefined);
    if (held !== undefined && sumOf(held) >= target) return;
    if (performance.now() > deadline) throw new Error(`${node.name} has not caught up`);
  }
}

function p99s(sample: Foreground): object {
  return { writesP99Ms: Math.round(sample.memories.p99Ms * 10) / 10, recallsP99Ms: Math.round(sample["recall-quorum"].p99Ms * 10) / 10 };
}
