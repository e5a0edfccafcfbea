import { type Counts, Coverage } from "./coverage.ts";
import { Faults } from "./faults.ts";
import { Federation } from "./federation.ts";
import type { Violation } from "./history.ts";
import { checkHistory } from "./history-checker.ts";
import { LayoutOperator, membersOf } from "./layout-operator.ts";
import { drawProfile, type Profile, RESONANCE_DECAY, withFaults } from "./profile.ts";
import { type RawDecay, readRawStore } from "./raw-store.ts";
import { Rng } from "./rng.ts";
import { drawFaults, type FaultKind, type Schedule } from "./schedule.ts";
import { Scheduler, Storm } from "./scheduler.ts";
import { SecretOperator, spokenWithRevoked } from "./secret-operator.ts";
import { Steps, stepsAt } from "./steps.ts";
import { checkAcknowledged, checkAtRest, checkStrengths, Registry } from "./store-checker.ts";
import { Story } from "./story.ts";
import { DrawnPlan, keyOf, ListedPlan, type Plan, Workload } from "./workload.ts";

export interface RunOptions {
  readonly seed: number;
  readonly nodeCount?: number | undefined;
  /** Each line of what happened, as it happens. */
  readonly story?: ((line: string) => void) | undefined;
  /** Kinds that happen besides those the seed drew. */
  readonly faults?: readonly FaultKind[];
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
  readonly coverage: Counts;
  /** All that happened: `runSchedule` does it again. */
  readonly schedule: Schedule;
}

/** How long forming a federation may take when nothing is broken, ms. */
const FORMATION_MS = 30_000;
const FLOORS_MS = 5000;
/** How long after the last fault everybody may need to hold everything, ms. */
const CONVERGENCE_MS = 60_000;

/** One seed: a federation is born, works while things break, heals, and is examined. */
export async function runSeed({ seed, nodeCount, story, faults: kinds = [], adjust }: RunOptions): Promise<RunResult> {
  const rng = new Rng(seed);
  const drawn = drawProfile(rng.fork("profile"), nodeCount);
  const weather = kinds.length > 0 ? withFaults(drawn, kinds) : drawn;
  const profile = adjust?.(weather) ?? weather;
  const { birth, faults } = profile;
  const plan = new DrawnPlan(rng.fork("workload"), profile.workload, profile.nodeCount);
  const run = new Run(
    {
      seed,
      profile,
      birth: birth === undefined ? [] : drawFaults(rng.fork("birth"), birth.faults, birth.durationMs, profile.nodeCount),
      faults: drawFaults(rng.fork("faults"), faults, profile.durationMs, profile.nodeCount),
      operations: plan.operations,
    },
    plan,
    story,
  );
  await run.live();
  return run.result();
}

/** A run as its list says, whole or with parts left out. */
export async function runSchedule(schedule: Schedule, story?: (line: string) => void): Promise<RunResult> {
  const run = new Run(schedule, new ListedPlan(schedule.operations), story);
  await run.live();
  return run.result();
}

class Run {
  readonly #schedule: Schedule;
  readonly #rng: Rng;
  readonly #scheduler = new Scheduler();
  readonly #profile: Profile;
  readonly #registry: Registry;
  readonly #federation: Federation;
  readonly #workload: Workload;
  readonly #operator: LayoutOperator;
  readonly #secretOperator: SecretOperator;
  readonly #violations: Violation[] = [];
  readonly #coverage = new Coverage();
  readonly #story: Story | undefined;

  constructor(schedule: Schedule, plan: Plan, story: ((line: string) => void) | undefined) {
    this.#schedule = schedule;
    this.#profile = schedule.profile;
    this.#rng = new Rng(schedule.seed);
    this.#registry = new Registry(() => this.#federation.nodes.map((node) => node.disk.durable()), this.#profile.replicationFactor);
    this.#federation = new Federation(this.#scheduler, this.#rng.fork("federation"), this.#profile, this.#registry);
    this.#story = story === undefined ? undefined : new Story(this.#scheduler, this.#federation, story);
    this.#scheduler.note(`seed ${schedule.seed}: ${JSON.stringify(this.#profile)}`);
    this.#watch();
    this.#operator = new LayoutOperator(this.#scheduler, this.#rng.fork("operator"), this.#federation);
    this.#secretOperator = new SecretOperator(this.#scheduler, this.#federation);
    const { nodes } = this.#federation;
    const doors = nodes.map((node) => this.#federation.door(node));
    this.#workload = new Workload(this.#scheduler, doors, this.#profile.workload, plan, (operation) => {
      const disks = nodes.map((node) => node.disk.durable());
      this.#violations.push(...checkAcknowledged(operation, keyOf(operation), this.#registry, disks));
    });
  }

  /** What is under way where, for the coverage and the story. */
  #watch(): void {
    const steps = new Steps({
      begins: (step, where) => this.#coverage.begins(step, where),
      happens: (step, where) => this.#coverage.happens(step, where),
    });
    this.#federation.onFrame = (moment, from, to, frame) => {
      steps.frame(moment, from, to, frame);
      this.#story?.frame(moment, from, to, frame);
    };
    this.#federation.onDisk = (moment, node, entries, writer) => {
      steps.disk(moment, node, entries, writer);
      this.#story?.disk(moment, node, entries);
    };
    this.#federation.onSnapshot = (node) => steps.snapshot(node);
    this.#federation.onDeath = (node) => steps.died(node);
  }

  async live(): Promise<void> {
    try {
      if (!(await this.#beBorn()) || this.#profile.birth?.disksLost) return;
      await this.#work();
      if (!(await this.#formed("after everything had healed"))) return;
      // No new floors, and those whose rounds are under way get their numbers.
      this.#federation.collectPaceMs = Number.POSITIVE_INFINITY;
      await this.#scheduler.run(this.#scheduler.now + FLOORS_MS);
      await this.#comeToRest();
      this.#violations.push(...spokenWithRevoked(this.#federation).map((message) => ({ checker: "revocation", message })));
      this.#federation.retireRevoked();
      await this.#audit();
      await this.#comeToRest(); // a delta that was on no disk yet, only in flight, was not seen to be missing the first time
      await this.#weigh();
      this.#examine();
    } catch (error) {
      if (!(error instanceof Storm)) throw error;
      this.#violations.push({ checker: "storm", message: error.message });
    } finally {
      this.#story?.end();
    }
  }

  result(): RunResult {
    const failures = this.#federation.failures.map((message) => ({ checker: "process", message }));
    return {
      seed: this.#schedule.seed,
      violations: [...this.#violations, ...this.#registry.violations, ...failures],
      traceHash: this.#scheduler.traceHash(),
      operations: this.#workload.history.length,
      acknowledged: this.#workload.history.filter((operation) => operation.end !== undefined).length,
      events: this.#scheduler.eventCount,
      frames: this.#federation.network.frameCount,
      simulatedMs: this.#scheduler.now,
      coverage: this.#coverage.counts,
      schedule: this.#schedule,
    };
  }

  /** All nodes start, and form layout 1; perhaps in a storm. */
  async #beBorn(): Promise<boolean> {
    for (const node of this.#federation.nodes) this.#scheduler.after(this.#rng.exponential(50), () => this.#federation.start(node));
    const { birth } = this.#profile;
    if (birth !== undefined) await this.#breakThingsFor(birth.durationMs, "birth", birth.disksLost);
    return await this.#formed("with nothing broken");
  }

  async #work(): Promise<void> {
    this.#workload.start();
    await this.#breakThingsFor(this.#profile.durationMs, "faults", false);
    this.#workload.stop();
    const longest = this.#profile.workload.timeoutMs * 2 * this.#profile.workload.attemptsMax;
    await this.#scheduler.run(this.#scheduler.now + longest + 1000, () => this.#workload.idle);
  }

  async #breakThingsFor(ms: number, phase: "birth" | "faults", disksLost: boolean): Promise<void> {
    const operators = { operate: this.#operator, rotate: this.#secretOperator, revoke: this.#secretOperator };
    const faults = new Faults(this.#scheduler, this.#rng.fork(phase), this.#federation, disksLost, operators);
    faults.onBegin = (fault) => this.#coverage.faultBegins(fault);
    faults.onStrike = (node, what) => this.#coverage.strike(stepsAt(what, node.process?.engine.writer), node);
    faults.onEnd = (fault) => this.#coverage.faultEnds(fault);
    faults.start(this.#schedule[phase]);
    await this.#scheduler.run(this.#scheduler.now + ms);
    faults.stop();
  }

  async #formed(when: string): Promise<boolean> {
    if (await this.#scheduler.run(this.#scheduler.now + FORMATION_MS, () => this.#federation.formed)) return true;
    this.#violations.push({ checker: "liveness", message: `no layout formed in ${FORMATION_MS} ms ${when}` });
    return false;
  }

  async #comeToRest(): Promise<void> {
    const until = this.#scheduler.now + CONVERGENCE_MS;
    for (;;) {
      const why = this.#operator.unfinished ?? this.#secretOperator.unfinished ?? unrest(this.#federation);
      if (why === undefined) return;
      if (this.#scheduler.now >= until) {
        this.#violations.push({ checker: "liveness", message: `not at rest ${CONVERGENCE_MS} ms after everything had healed: ${why}` });
        return;
      }
      await this.#scheduler.run(this.#scheduler.now + 50);
    }
  }

  /** Quorum reads of everything, through every node. */
  async #audit(): Promise<void> {
    let waiting = 0;
    for (const tenant of this.#profile.workload.tenants) {
      for (const node of this.#federation.nodes) {
        waiting++;
        void this.#workload.readAll(tenant, this.#federation.door(node)).then(() => waiting--);
      }
    }
    if (await this.#scheduler.run(this.#scheduler.now + CONVERGENCE_MS, () => waiting === 0)) return;
    this.#violations.push({ checker: "liveness", message: `${waiting} quorum reads of a healed federation were not answered` });
  }

  /** Strengths as every node tells them once nothing changes any more, as of a time when a good part has faded. */
  async #weigh(): Promise<void> {
    const atMs = this.#registry.latestMs + 0.5 * this.#profile.periodMs;
    let waiting = 0;
    for (const tenant of this.#profile.workload.tenants) {
      for (const node of this.#federation.nodes) {
        waiting++;
        void this.#workload.readStrengths(tenant, this.#federation.door(node), atMs).then((told) => {
          waiting--;
          if (told === undefined) this.#violations.push({ checker: "liveness", message: `${node.name} did not tell the strengths of ${tenant}` });
          else this.#violations.push(...checkStrengths(tenant, node.name, told, this.#registry, atMs, this.#decay));
        });
      }
    }
    await this.#scheduler.run(this.#scheduler.now + CONVERGENCE_MS, () => waiting === 0);
  }

  get #decay(): RawDecay {
    return { resonanceDecay: RESONANCE_DECAY, periodMs: this.#profile.periodMs };
  }

  #examine(): void {
    const { history } = this.#workload;
    const nodes = membersOf(this.#federation).map((node) => ({ name: node.name, store: readRawStore(node.disk.contents()) }));
    const acknowledged = history.filter((operation) => operation.kind !== "read" && operation.end !== undefined);
    const order = this.#rng.fork("order");
    this.#violations.push(
      ...checkHistory(history),
      ...checkAtRest(
        nodes,
        this.#registry,
        acknowledged.map((operation) => ({ operation, key: keyOf(operation) })),
        this.#profile.replicationFactor,
        (streams) => interleave(order, streams),
        this.#decay,
      ),
    );
  }
}

/** Why not every member holds, or has seen, all there is, or a witness still keeps a delta: read from the disks, as the checkers do. */
function unrest(federation: Federation): string | undefined {
  const members = membersOf(federation);
  const versions = new Set(members.map((node) => node.process?.engine.layout?.version));
  if (versions.size > 1) return `layouts ${[...versions].join(", ")} at once`;
  const rows = new Map<string, { readonly text: string; readonly name: string }>();
  for (const node of members) {
    const standing = node.process?.engine.replica?.standing;
    if (standing !== "counting") return `${node.name} is ${standing ?? "down"}`;
    if (node.disk.lies) return `${node.name}'s disk lies`;
    if (node.disk.busy) return `${node.name}'s disk is busy`;
    for (const [key, value] of node.disk.contents()) {
      if (key.startsWith("s/")) return `${node.name} keeps ${key}`;
      if (key.startsWith("q/") || key.startsWith("z/")) return `${node.name} clears a partition: ${key}`;
      if (!key.startsWith("f/") && !key.startsWith("w/")) continue;
      const row = key.slice(2);
      const text = Buffer.from(value).toString("latin1");
      const other = rows.get(row);
      if (other !== undefined && other.text !== text) return `${node.name} and ${other.name} differ in ${key}`;
      rows.set(row, { text, name: node.name });
    }
  }
  return undefined;
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
