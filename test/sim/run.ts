import { Faults } from "./faults.ts";
import { Federation } from "./federation.ts";
import type { Operation, Violation } from "./history.ts";
import { checkHistory } from "./history-checker.ts";
import { drawProfile, type Profile } from "./profile.ts";
import { readRawStore } from "./raw-store.ts";
import { Rng } from "./rng.ts";
import { Scheduler } from "./scheduler.ts";
import { checkAcknowledged, checkAtRest, Registry } from "./store-checker.ts";
import { keyOf, Workload } from "./workload.ts";

export interface RunOptions {
  readonly seed: number;
  readonly nodeCount?: number | undefined;
  /** Each line of what happened, as it happens. */
  readonly story?: ((line: string) => void) | undefined;
  /** Changes what the seed drew. */
  readonly adjust?: ((profile: Profile) => Profile) | undefined;
}

export interface RunResult {
  readonly seed: number;
  readonly violations: readonly Violation[];
  /** Same seed, same code: same hash. */
  readonly traceHash: string;
  readonly operations: number;
  readonly acknowledged: number;
  readonly events: number;
  readonly frames: number;
  readonly simulatedMs: number;
}

/** How long forming a federation may take when nothing is broken, ms. */
const FORMATION_MS = 30_000;
/** How long after the last fault everybody may need to hold everything, ms. */
const CONVERGENCE_MS = 30_000;

/** One seed: a federation is born, works while things break, heals, and is examined. */
export async function runSeed(options: RunOptions): Promise<RunResult> {
  const rng = new Rng(options.seed);
  const scheduler = new Scheduler(rng);
  scheduler.story = options.story;
  const drawn = drawProfile(rng.fork("profile"), options.nodeCount);
  const profile = options.adjust?.(drawn) ?? drawn;
  scheduler.note(`seed ${options.seed}: ${JSON.stringify(profile)}`);
  const registry = new Registry();
  const federation = new Federation(scheduler, rng.fork("federation"), profile, registry);
  const faults = new Faults(scheduler, rng.fork("faults"), federation, profile.faults);
  const doors = federation.nodes.map((node) => federation.door(node));
  const violations: Violation[] = [];
  const disks = federation.nodes.map((node) => node.disk.durable());
  const workload = new Workload(scheduler, rng.fork("workload"), doors, profile.workload, (operation, key) => {
    violations.push(...checkAcknowledged(operation, key, registry, disks, profile.replicationFactor));
  });
  const result = (): RunResult => ({
    seed: options.seed,
    violations: [...violations, ...registry.violations, ...federation.failures.map((message) => ({ checker: "process", message }))],
    traceHash: scheduler.traceHash(),
    operations: workload.history.length,
    acknowledged: workload.history.filter((operation) => operation.end !== undefined).length,
    events: scheduler.eventCount,
    frames: federation.network.frameCount,
    simulatedMs: scheduler.now,
  });
  const late = (what: string): RunResult => {
    violations.push({ checker: "liveness", message: `${what}, ${Math.round(scheduler.now)} ms after the start` });
    return result();
  };

  for (const node of federation.nodes) scheduler.after(rng.exponential(50), () => federation.start(node));
  if (profile.roughBirth) {
    faults.start();
    workload.start();
  } else if (await scheduler.run(FORMATION_MS, () => federation.formed)) {
    faults.start();
    workload.start();
  } else return late("no layout formed though nothing was broken");

  await scheduler.run(scheduler.now + profile.durationMs);
  faults.stop();
  workload.stop();
  await scheduler.run(scheduler.now + profile.workload.timeoutMs * 20, () => workload.idle);
  if (!(await scheduler.run(scheduler.now + FORMATION_MS, () => federation.formed))) return late("no layout formed though everything had healed");
  const atRest = () => federation.nodes.every((node) => node.process !== undefined && settled(federation));
  if (!(await scheduler.run(scheduler.now + CONVERGENCE_MS, atRest)))
    violations.push({ checker: "liveness", message: `not at rest ${CONVERGENCE_MS} ms after everything healed` });

  let audits = 0;
  let answered = 0;
  for (const tenant of profile.workload.tenants) {
    for (const door of doors) {
      audits++;
      void workload.readAll(tenant, door).then(() => answered++);
    }
  }
  await scheduler.run(scheduler.now + CONVERGENCE_MS, () => answered === audits);
  if (answered < audits)
    violations.push({ checker: "liveness", message: `${audits - answered} of ${audits} quorum reads of a healed federation were not answered` });

  violations.push(...checkHistory(workload.history));
  const nodes = federation.nodes.map((node) => ({ name: node.name, store: readRawStore(node.disk.contents()) }));
  const order = rng.fork("order");
  const acknowledged = workload.history.filter(
    (operation): operation is Exclude<Operation, { kind: "read" }> => operation.kind !== "read" && operation.end !== undefined,
  );
  violations.push(
    ...checkAtRest(
      nodes,
      registry,
      acknowledged.map((operation) => ({ operation, key: keyOf(operation) })),
      profile.replicationFactor,
      (streams) => interleave(order, streams),
    ),
  );
  return result();
}

/** Whether every node holds, or has seen, all there is, and no witness keeps a delta: read from the disks, as the checkers do. */
function settled(federation: Federation): boolean {
  const stores = federation.nodes.map((node) => node.disk);
  if (stores.some((disk) => disk.busy)) return false;
  const raw = stores.map((disk) => disk.contents());
  const rows = new Map<string, string>();
  for (const disk of raw) {
    for (const [key, value] of disk) {
      if (key.startsWith("s/")) return false;
      if (!key.startsWith("f/") && !key.startsWith("w/")) continue;
      const name = key.slice(2);
      const text = Buffer.from(value).toString("latin1");
      if ((rows.get(name) ?? text) !== text) return false;
      rows.set(name, text);
    }
  }
  return true;
}

/** One random order of all that keeps each stream's own. */
function interleave<T>(rng: Rng, streams: readonly (readonly T[])[]): T[] {
  const out: T[] = [];
  const left = streams.map((stream) => [...stream]).filter((stream) => stream.length > 0);
  while (left.length > 0) {
    const at = rng.int(left.length);
    out.push((left[at] as T[]).shift() as T);
    if (left[at]?.length === 0) left.splice(at, 1);
  }
  return out;
}
