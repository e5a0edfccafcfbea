/** One run: a federation behind the proxy, clients at work, faults by a scenario's hand; then healing, rest, and the verdict of every checker. */
import { atRest } from "../e2e/at-rest.ts";
import { eventually, pause } from "../e2e/federation.ts";
import type { Violation } from "../sim/history.ts";
import { Rng } from "../sim/rng.ts";
import { type ClientSettings, Clients, type Recorded, type Timing } from "./clients.ts";
import { checkDisks, type Disk, readDisk } from "./disks.ts";
import { type FaultyNode, PATIENCE_MS, ProxiedFederation, type ProxiedOptions } from "./proxied-federation.ts";
import { Resources } from "./resources.ts";
import { checkTenant, type Tally, tallyOf } from "./verdict.ts";

export interface StageOptions extends Partial<Omit<ProxiedOptions, "rng">> {
  readonly seed: number;
  readonly clients?: Partial<ClientSettings>;
  readonly replicationFactor?: number;
  /** Every line of the story as it happens. */
  readonly story?: (line: string) => void;
  readonly rssEveryMs?: number;
}

const WATCH_MS = 5_000;
/** When this process itself stood still for so long, no percentile and no timeout of the run means much: it is told. */
const STALL_MS = 1_000;
const PULSE_MS = 100;
const STOPS_MAX = 3;
/** Nodes answer sooner than clients lose patience, so that a run meets answers and not only silence. */
const NODE_TIMEOUT = "2500ms";

/** What a run comes to in the end. */
export interface End {
  /** Nodes whose disks count, by name. Default: all. */
  readonly members?: readonly string[];
}

export class Stage {
  readonly rng: Rng;
  readonly federation: ProxiedFederation;
  readonly clients: Clients;
  readonly resources: Resources;
  readonly violations: Violation[] = [];
  /** Disks that went away (lost, replaced) and hold deltas all the same: what they know must not contradict. */
  readonly formerDisks: Disk[] = [];
  /** Some disk was lost, or an older copy took its place: what was acknowledged at `one` may be gone with it. */
  disksLost = false;
  readonly #options: StageOptions;
  readonly #began = performance.now();
  readonly #timers: NodeJS.Timeout[];
  /** From healing to rest, all reads of the audit included. */
  restMs = 0;
  /** How long this process, which is all clients and the proxy, once stood still at most. */
  stalledMs = 0;
  #judged: Tally = { operations: 0, acknowledged: 0, inDoubt: 0, refused: 0 };
  readonly #acknowledged: { readonly operation: Recorded["operation"]; readonly key: string }[] = [];

  private constructor(options: StageOptions, rng: Rng, federation: ProxiedFederation) {
    this.#options = options;
    this.rng = rng;
    this.federation = federation;
    this.clients = new Clients(rng.fork("clients"), federation.nodes, options.clients);
    this.resources = new Resources(() => [...federation.nodes, { name: "harness", pid: process.pid }]);
    this.resources.start(options.rssEveryMs ?? 1_000);
    this.#timers = [setInterval(() => this.#lookForBypasses(), WATCH_MS), this.#pulse()];
  }

  static async open(options: StageOptions): Promise<Stage> {
    const rng = new Rng(`faults ${options.seed}`);
    const env = { FEDERATION_TIMEOUT: NODE_TIMEOUT, ...options.env };
    const federation = await ProxiedFederation.start({ nodes: 3, ...options, env, rng });
    const stage = new Stage(options, rng, federation);
    if (options.unready !== true) stage.tell(`${federation.nodes.length} nodes are ready`);
    return stage;
  }

  get nodes(): readonly FaultyNode[] {
    return this.federation.nodes;
  }
  get proxy(): ProxiedFederation["proxy"] {
    return this.federation.proxy;
  }
  get tally(): Tally {
    return this.#judged;
  }

  tell(what: string): void {
    this.#options.story?.(`t=${((performance.now() - this.#began) / 1000).toFixed(1)}s ${what}`);
  }

  /** A promise of the scenario itself. */
  expect(holds: boolean, message: string): void {
    if (holds) return;
    this.tell(`VIOLATION: ${message}`);
    this.violations.push({ checker: "scenario", message });
  }

  /** Waits, while clients work. */
  async during(ms: number, what?: string): Promise<void> {
    if (what !== undefined) this.tell(what);
    await pause(ms);
  }

  /** Until clients have been told "done" of so many writes more. @throws Error when they are not in time */
  async progress(writes: number, what: string): Promise<void> {
    const before = this.clients.acknowledged;
    await eventually(
      `${writes} more writes are acknowledged ${what}`,
      PATIENCE_MS,
      async () => this.clients.acknowledged >= before + writes || undefined,
      () => JSON.stringify(this.clients.refusals),
    );
  }

  /** Successful calls at these nodes in a span of time, by how long they took. */
  timings(nodes: readonly string[], from: number, to: number): Timing[] {
    return this.clients.timings.filter(({ node, at }) => nodes.includes(node) && at >= from && at < to);
  }

  /** Judges what long-dead tenants have been through, so that a long run does not keep it all. */
  judgeRetired(): void {
    for (const { recorded } of this.clients.takeRetired()) this.#judge(recorded);
  }

  /**
   * Heals what is broken, starts what is down, lets clients end, waits for rest, reads everything once more through every node, stops, and looks at the disks.
   */
  async finish({ members = this.nodes.map(({ name }) => name) }: End = {}): Promise<void> {
    this.proxy.clear();
    const counted = members.map((name) => this.federation.node(name));
    const doors = [...new Set([...this.nodes, ...counted])];
    for (const node of doors) {
      if (node.paused) node.resume();
      if (!node.running) node.start();
    }
    this.tell("everything is healed");
    const healed = performance.now();
    await this.clients.stop();
    await this.#mustNotFail("liveness", () => this.federation.ready(PATIENCE_MS, doors));
    await this.#mustNotFail("liveness", () => this.clients.readAll(doors, PATIENCE_MS));
    const federation = { nodes: counted, urls: counted.map(({ url }) => url) };
    await this.#mustNotFail("convergence", () => atRest(federation, PATIENCE_MS));
    this.restMs = performance.now() - healed;
    this.tell("at rest");
    this.#lookForBypasses();
    for (const { recorded } of this.clients.histories()) this.#judge(recorded);
    for (const wrong of this.clients.wrong) this.violations.push({ checker: "answers", message: wrong });
    this.violations.push(...(await this.#stopAndLook(doors, counted)));
    this.tell("judged");
  }

  /** After `finish`, or when a scenario threw. */
  async close(): Promise<void> {
    this.#stopTimers();
    this.resources.stop();
    await this.clients.stop();
    await this.federation.stop();
    this.federation.keep ||= this.violations.length > 0;
    this.federation.remove();
  }

  #judge(recorded: readonly Recorded[]): void {
    this.violations.push(...checkTenant(recorded));
    const { operations, acknowledged, inDoubt, refused } = tallyOf(recorded);
    this.#judged = {
      operations: this.#judged.operations + operations,
      acknowledged: this.#judged.acknowledged + acknowledged,
      inDoubt: this.#judged.inDoubt + inDoubt,
      refused: this.#judged.refused + refused,
    };
    for (const { operation, outcome, key } of recorded)
      if (outcome === "ok" && operation.kind !== "read") this.#acknowledged.push({ operation, key });
  }

  /**
   * What lies on the disks. Housekeeping writes too (floors): what it numbers between rest and stop has no time to spread; then everything comes to rest once
   * more.
   */
  async #stopAndLook(doors: readonly FaultyNode[], counted: readonly FaultyNode[]): Promise<Violation[]> {
    const factor = this.#options.replicationFactor ?? 2;
    for (let stops = 1; ; stops++) {
      await this.#stop();
      const disks = await Promise.all(counted.map(({ name, dataDir }) => readDisk(name, dataDir)));
      const found = checkDisks(disks, this.formerDisks, this.disksLost, this.#acknowledged, factor, this.rng.fork("order"));
      if (stops === STOPS_MAX || !found.some(({ checker }) => checker === "convergence" || checker === "witness")) return found;
      this.tell("something was written between rest and stop: once more");
      for (const node of doors) node.start();
      await this.#mustNotFail("liveness", () => this.federation.ready(PATIENCE_MS, doors));
      await this.#mustNotFail("convergence", () => atRest({ nodes: counted, urls: counted.map(({ url }) => url) }, PATIENCE_MS));
    }
  }

  async #stop(): Promise<void> {
    for (const death of this.federation.deaths.splice(0)) this.violations.push({ checker: "processes", message: death });
    const codes = await Promise.all(this.federation.all.map((node) => node.stop()));
    if (codes.some((code) => code !== 0 && code !== null))
      this.violations.push({ checker: "processes", message: `nodes ended with ${codes.join(", ")} when asked to stop` });
  }

  #pulse(): NodeJS.Timeout {
    let last = performance.now();
    return setInterval(() => {
      const late = performance.now() - last - PULSE_MS;
      last += late + PULSE_MS;
      this.stalledMs = Math.max(this.stalledMs, late);
      if (late > STALL_MS) this.tell(`the harness stood still for ${(late / 1000).toFixed(1)} s`);
    }, PULSE_MS);
  }

  #stopTimers(): void {
    for (const timer of this.#timers) clearInterval(timer);
  }

  async #mustNotFail(checker: string, run: () => Promise<unknown>): Promise<void> {
    await run().catch((error: Error) => {
      this.tell(`VIOLATION: ${error.message}`);
      this.violations.push({ checker, message: error.message });
    });
  }

  #lookForBypasses(): void {
    const found = this.federation.bypasses();
    if (found.length > 0 && !this.violations.some(({ checker }) => checker === "proxy"))
      this.violations.push({ checker: "proxy", message: `the harness is wrong, nodes met without the proxy: ${found.join(", ")}` });
  }
}
