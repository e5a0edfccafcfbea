/**
 * `npm run bench -- --idle`: what a federation at rest sends, and how it grows. Frames of 3 to 50 members come from the simulator, which runs the real engine and
 * counts every byte of them; what libp2p, its pings and gossip come to is seen on real processes, by what they handed to the system.
 */
import { readFileSync } from "node:fs";
import { FederationView } from "../../node/federation-status.ts";
import type { Network } from "../../node/ports.ts";
import { pause } from "../e2e/federation.ts";
import { Federation, type SimNode } from "../sim/federation.ts";
import { drawProfile } from "../sim/profile.ts";
import { Rng } from "../sim/rng.ts";
import { Scheduler } from "../sim/scheduler.ts";
import { CALM } from "../sim/sim-network.ts";
import { Registry } from "../sim/store-checker.ts";
import { factsFrom, startNodes, store } from "./fill.ts";
import { processorMs } from "./machine.ts";
import { loadPayload } from "./payload.ts";
import type { StudyRun, Verdict } from "./study.ts";

const SIZES = [3, 10, 25, 50];
const PROCESSES = [3, 10];
/** Most partitions are in use then. */
const TENANTS = 600;
/** Default of FEDERATION_SYNC_INTERVAL. */
const SYNC_MS = 5000;
const FORM_MS = 60_000;
const REST_MS = 20_000;
const WATCH_MS = 40_000;
const WATCH_PROCESSES_MS = 20_000;

interface Rest {
  readonly members: number;
  readonly partitions: number;
  /** Sent by one node, a second. */
  readonly frames: number;
  readonly bytes: number;
  /** Of `GET /v1/federation`. */
  readonly statusBytes: number;
}

export async function idle({ deltas: tenants = TENANTS, dataDir, own, say }: StudyRun): Promise<Verdict> {
  const simulated: Rest[] = [];
  for (const members of SIZES) {
    simulated.push(await simulate(members, tenants));
    say(JSON.stringify(simulated.at(-1)));
  }
  const real: Processes[] = [];
  for (const count of PROCESSES) {
    real.push(await watchProcesses(count, tenants, dataDir, own));
    say(JSON.stringify(real.at(-1)));
  }
  const lines = [
    `Simulated, ${tenants} tenants, stream heads compared every ${SYNC_MS / 1000} s:`,
    "",
    "| members | partitions in use | frames/s a node | bytes/s a node | a peer | `GET /v1/federation`, bytes |",
    "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ...simulated.map(
      ({ members, partitions, frames, bytes, statusBytes }) =>
        `| ${members} | ${partitions} | ${frames.toFixed(1)} | ${Math.round(bytes)} | ${(bytes / (members - 1)).toFixed(1)} | ${statusBytes} |`,
    ),
    "",
    "Real processes:",
    "",
    "| members | frames with their pings, bytes/s a node | everything handed to the system, bytes/s a node | a peer | CPU ms/s a node |",
    "| ---: | ---: | ---: | ---: | ---: |",
    ...real.map(
      ({ members, frameBytes, allBytes, processorMs }) =>
        `| ${members} | ${Math.round(frameBytes)} | ${Math.round(allBytes)} | ${(allBytes / (members - 1)).toFixed(1)} | ${processorMs.toFixed(1)} |`,
    ),
  ];
  return { report: lines.join("\n") };
}

async function simulate(members: number, tenants: number): Promise<Rest> {
  const scheduler = new Scheduler();
  const rng = new Rng(`idle ${members}`);
  const profile = { ...drawProfile(rng, members), replicationFactor: 2, syncIntervalMs: SYNC_MS, network: CALM, birth: undefined };
  const registry = new Registry(() => federation.nodes.map((node) => node.disk.durable()), profile.replicationFactor);
  const federation: Federation = new Federation(scheduler, rng.fork("federation"), profile, registry);
  for (const node of federation.nodes) federation.start(node);
  if (!(await scheduler.run(FORM_MS, () => federation.formed))) throw new Error(`${members} members have not formed a layout`);
  await scheduler.run(scheduler.now + REST_MS);
  const written = Array.from({ length: tenants }, (_, index) => write(federation.nodes[index % members]!, `tenant-${index}`));
  await scheduler.run(scheduler.now + REST_MS);
  await Promise.all(written);

  let [frames, bytes] = [0, 0];
  federation.network.filter = (_from, _to, frame) => {
    frames++;
    bytes += frame.length;
    return true;
  };
  await scheduler.run(scheduler.now + WATCH_MS);
  if (federation.failures.length > 0) throw new Error(federation.failures.join("\n"));
  const seconds = (members * WATCH_MS) / 1000;
  const asked = Promise.all(federation.nodes.map((node) => statusOf(node)));
  // The simulated disk reads in simulated time.
  await scheduler.run(scheduler.now + REST_MS);
  const statuses = await asked;
  return {
    members,
    partitions: new Set(statuses.flatMap((status) => status.partitions.map(({ partition }) => partition))).size,
    frames: frames / seconds,
    bytes: bytes / seconds,
    statusBytes: Math.round(statuses.reduce((sum, status) => sum + JSON.stringify(status).length, 0) / members),
  };
}

async function write(node: SimNode, tenant: string): Promise<void> {
  const { router, monotonic } = node.process!;
  const call = { tenant, level: "quorum" as const, key: `first of ${tenant}`, token: undefined, requestId: tenant, deadline: monotonic() + 10_000 };
  await router.run("put", { memory: "m", value: "a fact" }, call);
}

async function statusOf(node: SimNode): ReturnType<FederationView["status"]> {
  const { engine } = node.process!;
  const seen: Pick<Network, "connected" | "latencyMs"> = {
    connected: () => (engine.links?.peers() ?? []).map((peer) => peer.node),
    latencyMs: () => 0.42,
  };
  const view = new FederationView(engine, seen as Network, { id: node.id, version: "0.1.0", asksToJoin: () => false });
  view.observe();
  return await view.status({ fingerprints: false });
}

interface Processes {
  readonly members: number;
  /** A second and node. */
  readonly frameBytes: number;
  readonly allBytes: number;
  readonly processorMs: number;
}

async function watchProcesses(members: number, tenants: number, dataDir: string | undefined, own: StudyRun["own"]): Promise<Processes> {
  const payload = loadPayload(dataDir);
  const federation = await startNodes({ nodes: members }, own);
  for (let index = 0; index < tenants; index++)
    await store(federation.nodes[index % members]!, `tenant-${index}`, factsFrom(index, 1, payload), "quorum");
  await pause(REST_MS);
  const pids = federation.nodes.map(({ pid }) => pid!);
  const frames = await sentFrames(federation.urls);
  const before = handedOver(pids);
  const begun = performance.now();
  const busy = processorMs(pids) ?? 0;
  await pause(WATCH_PROCESSES_MS);
  const seconds = ((performance.now() - begun) / 1000) * members;
  const [after, busyAfter] = [handedOver(pids), processorMs(pids) ?? 0];
  const framesAfter = await sentFrames(federation.urls);
  await federation.stop();
  return {
    members,
    frameBytes: (framesAfter - frames) / seconds,
    allBytes: (after - before) / seconds,
    processorMs: (busyAfter - busy) / seconds,
  };
}

/** Of all nodes together. */
async function sentFrames(urls: readonly string[]): Promise<number> {
  const all = await Promise.all(urls.map(async (url) => (await fetch(`${url}/metrics`)).text()));
  return all.reduce((sum, text) => sum + Number(/^continuum_federation_bytes_sent_total (\d+)/m.exec(text)?.[1] ?? 0), 0);
}

/** Bytes of write calls, which at rest are those to sockets: nothing is stored, nothing is logged. */
function handedOver(pids: readonly number[]): number {
  return pids.reduce((sum, pid) => sum + Number(/^wchar: (\d+)$/m.exec(readFileSync(`/proc/${pid}/io`, "utf8"))![1]), 0);
}
