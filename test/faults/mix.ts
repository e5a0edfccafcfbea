/**
 * All faults mixed, for as long as one likes: one hand breaks nodes, another the network between them, a third is an operator who changes the layout, each at
 * random, while clients go on. Node 1 is never killed, so that its memory can be followed from the beginning to the end. The last node is no first member:
 * the operator adds it, drains it, and so on.
 */

import { rmSync } from "node:fs";
import type { LayoutAsk } from "../../node/layout-admin.ts";
import { eventually } from "../e2e/federation.ts";
import type { Rng } from "../sim/rng.ts";
import { brokenDisksMissing } from "./broken-disk.ts";
import { readDisk } from "./disks.ts";
import { askForChange, outcomeOf } from "./operator.ts";
import { type FaultyNode, PATIENCE_MS } from "./proxied-federation.ts";
import { Stage } from "./stage.ts";

export interface MixOptions {
  readonly minutes: number;
  readonly seed: number;
  readonly nodes: number;
  readonly story?: (line: string) => void;
  readonly say: (line: string) => void;
}

/** Something that lasts, and what it touches. */
interface Fault {
  readonly name: string;
  readonly weight: number;
  /** Only for nodes that may be killed. */
  readonly kills?: true;
  /** Only while the network is whole. */
  readonly whole?: true;
  readonly play: (stage: Stage, node: FaultyNode, rng: Rng) => Promise<void>;
}

const CALM_MS = 20_000;
const RSS_MS = 10_000;
const JUDGE_MS = 20_000;
const REPORT_MS = 60_000;
/** After a fault a node is counted as touched for so long: links come back, it catches up. */
const AFTERMATH_MS = 10_000;
const PAUSE_BETWEEN_MS = 3_000;
const OPERATOR_PAUSE_MS = 30_000;
/** A change of the layout goes on only while a majority is there, and what moves must reach its new owners. */
const OPERATOR_PATIENCE_MS = 10 * 60_000;
/** Between the copy of a store and the moment it is put back. */
const COPY_AGE_MS = 20_000;

const NODE_FAULTS: readonly Fault[] = [
  { name: "killed", weight: 4, kills: true, play: (stage, node, rng) => down(stage, node, rng, false) },
  { name: "power cut", weight: 3, kills: true, play: (stage, node, rng) => down(stage, node, rng, true) },
  {
    name: "dies at a sync",
    weight: 2,
    kills: true,
    play: (stage, node, rng) => ordered(stage, node, rng, rng.pick(["kill-before", "kill-after", "eio"] as const)),
  },
  { name: "stopped in an orderly way", weight: 1, kills: true, play: stopped },
  { name: "paused", weight: 3, play: paused },
  { name: "syncs slowly", weight: 2, play: slowSync },
  { name: "wrong clock", weight: 2, play: wrongClock },
  { name: "disk lost", weight: 2, kills: true, play: diskLost },
  { name: "old copy put back", weight: 2, kills: true, whole: true, play: oldCopy },
];
const NETWORK_FAULTS: readonly Fault[] = [
  { name: "cut off", weight: 3, play: (stage, node, rng) => weather(stage, rng, () => stage.proxy.isolate(node.name)) },
  { name: "cut off one way", weight: 3, play: (stage, node, rng) => weather(stage, rng, () => oneWay(stage, node, rng)) },
  {
    name: "one link cut",
    weight: 3,
    play: (stage, node, rng) => weather(stage, rng, () => stage.proxy.cut(node.name, otherThan(stage, node, rng).name)),
  },
  {
    name: "slow and uneven",
    weight: 3,
    play: (stage, node, rng) => weather(stage, rng, () => stage.proxy.around(node.name, { delayMs: rng.int(100), jitterMs: rng.int(300) })),
  },
  {
    name: "a few bytes a second",
    weight: 2,
    play: (stage, node, rng) => weather(stage, rng, () => stage.proxy.around(node.name, { bytesPerSecond: 1 + rng.int(2_000) })),
  },
  {
    name: "flipped bits",
    weight: 2,
    play: (stage, node, rng) => weather(stage, rng, () => stage.proxy.around(node.name, { flipEveryBytes: 5_000 + rng.int(50_000) })),
  },
  { name: "resets", weight: 2, play: resets },
  { name: "flapping", weight: 2, play: flapping },
];

/** @returns whether nothing was lost, stale or otherwise wrong */
export async function mix(options: MixOptions, opened: (stage: Stage) => void): Promise<boolean> {
  const { minutes, seed, nodes, story, say } = options;
  const missing = brokenDisksMissing();
  if (missing !== undefined) say(`without broken disks: ${missing}`);
  const stage = await Stage.open({
    seed,
    nodes,
    firstMembers: nodes - 1,
    clocks: true,
    brokenDisks: missing === undefined,
    rssEveryMs: RSS_MS,
    clients: { clients: 10, tenants: 6, registerTenants: 2, pauseMs: 100, twiceChance: 0.1 },
    ...(story === undefined ? {} : { story }),
  });
  opened(stage);
  const run = new Mix(stage, missing === undefined);
  const begun = performance.now();
  stage.clients.start();
  // What is usual, before anything breaks.
  await stage.during(CALM_MS);
  run.until = begun + minutes * 60_000;
  const judging = setInterval(() => stage.judgeRetired(), JUDGE_MS);
  const reporting = setInterval(() => say(`after ${Math.round((performance.now() - begun) / 60_000)} min: ${run.line()}`), REPORT_MS);
  await Promise.all([run.hand(() => run.nodes()), run.hand(() => run.network()), run.hand(() => run.operator())]);
  clearInterval(judging);
  clearInterval(reporting);
  await stage
    .finish({ members: await run.members() })
    .catch((error: Error) => stage.violations.push({ checker: "harness", message: error.stack ?? error.message }));
  for (const line of run.report()) say(line);
  for (const { checker, message } of stage.violations.slice(0, 40)) say(`  (${checker}) ${message}`);
  if (stage.violations.length > 0) say(`  logs and disks: ${stage.federation.dataDir}`);
  await stage.close();
  return stage.violations.length === 0;
}

class Mix {
  readonly #stage: Stage;
  readonly #faults = new Map<string, number>();
  /** When which node was touched by a fault. */
  readonly #touched: { readonly node: string; readonly from: number; to: number }[] = [];
  readonly #disks: boolean;
  /** When the hands lay down their work. */
  until = 0;
  /** What the network's hand does now; null while it must keep still. */
  #weather: Promise<void> | null = Promise.resolve();

  constructor(stage: Stage, disks: boolean) {
    this.#stage = stage;
    this.#disks = disks;
  }

  /** Once one of them cannot go on, the others end as well. */
  async hand(play: () => Promise<void>): Promise<void> {
    await play().catch((error: Error) => {
      this.#stage.tell(`VIOLATION: ${error.message}`);
      this.#stage.violations.push({ checker: "liveness", message: error.message });
      this.until = 0;
    });
  }

  async nodes(): Promise<void> {
    const rng = this.#stage.rng.fork("hand nodes");
    const faults = this.#disks ? NODE_FAULTS : NODE_FAULTS.filter((one) => !NEEDS_DISKS.has(one.name));
    while (performance.now() < this.until) {
      await this.#stage.during(rng.exponential(PAUSE_BETWEEN_MS));
      const fault = weighted(rng, faults);
      const may = this.#stage.nodes.filter((node, index) => (fault.kills !== true || index > 0) && !this.#isTouched(node.name));
      if (may.length === 0) continue;
      if (fault.whole === true) await this.#inFairWeather(() => this.#play(fault, rng.pick(may), rng));
      else await this.#play(fault, rng.pick(may), rng);
    }
  }

  async network(): Promise<void> {
    const rng = this.#stage.rng.fork("hand network");
    while (performance.now() < this.until) {
      await this.#stage.during(rng.exponential(PAUSE_BETWEEN_MS));
      const may = this.#stage.nodes.filter((node) => !this.#isTouched(node.name));
      if (this.#weather === null || may.length === 0) continue;
      this.#weather = this.#play(weighted(rng, NETWORK_FAULTS), rng.pick(may), rng);
      await this.#weather;
    }
  }

  /** One change after the other, each until it has ended, whatever happens to nodes and network meanwhile. */
  async operator(): Promise<void> {
    const { nodes } = this.#stage;
    const rng = this.#stage.rng.fork("operator");
    const late = nodes.at(-1)!;
    for (let number = 1; performance.now() < this.until; number++) {
      await this.#stage.during(rng.exponential(OPERATOR_PAUSE_MS));
      if (performance.now() >= this.until) return;
      const asks: LayoutAsk[] = [
        { op: "weight", name: rng.pick(nodes.slice(0, -1)).name, weight: 1 + rng.int(4) },
        { op: "zone", name: rng.pick(nodes.slice(0, -1)).name, zone: rng.pick(["", "east", "west"]) },
        { op: (await this.members()).includes(late.name) ? "drain" : "add", name: late.name },
      ];
      const ask = rng.pick([...asks, asks[2]!]);
      const begun = performance.now();
      const what = `${ask.op} ${ask.name}`;
      this.#stage.tell(`operator: ${what}`);
      this.#count(`layout: ${ask.op}`);
      const queued = await askForChange(rng.shuffle(nodes), ask, `mix-${number}`, OPERATOR_PATIENCE_MS);
      const { outcome, reason } = await outcomeOf(nodes, queued, OPERATOR_PATIENCE_MS);
      this.#stage.tell(`operator: ${what} has ended as ${outcome} ${reason}, after ${((performance.now() - begun) / 1000).toFixed(0)} s`);
      this.#stage.expect(outcome === "done" || outcome === "nothing to do", `${what} ended as ${outcome}: ${reason}`);
    }
  }

  /** Who serves, by the newest layout that anybody goes by. */
  async members(): Promise<string[]> {
    const seen = await Promise.all(this.#stage.nodes.map((node) => node.status().catch(() => undefined)));
    const layouts = seen.flatMap((status) => status?.layout ?? []).sort((a, b) => b.version - a.version);
    return layouts[0]?.members.map(({ name }) => name) ?? [];
  }

  async #inFairWeather(run: () => Promise<void>): Promise<void> {
    const weather = this.#weather;
    this.#weather = null;
    await weather;
    await run();
    this.#weather = Promise.resolve();
  }

  line(): string {
    const { acknowledged } = this.#stage.clients;
    return `${acknowledged} acknowledged in tenants of today, ${[...this.#faults.values()].reduce((sum, count) => sum + count, 0)} faults, ${this.#stage.violations.length} violations`;
  }

  report(): string[] {
    const { tally, violations, resources, stalledMs, proxy } = this.#stage;
    const of = (...checkers: string[]): number => violations.filter(({ checker }) => checkers.includes(checker)).length;
    const { calm, beside, all } = this.#percentiles();
    return [
      `operations ${tally.operations}, writes acknowledged ${tally.acknowledged}, in doubt ${tally.inDoubt}, refused ${tally.refused}`,
      `lost ${of("d copies", "one store")}, stale ${of("a history", "linearizability")}, violations in all ${violations.length}`,
      `faults: ${[...this.#faults].map(([name, count]) => `${name} ${count}`).join(", ")}`,
      `network: ${proxy.counts.connections} connections, ${(proxy.counts.bytes / 1e6).toFixed(0)} MB, ${proxy.counts.flips} bits flipped`,
      `p99 of nodes that no fault touched: ${beside} while another was, ${calm} while none was; of all nodes at all times ${all}`,
      `the harness stood still for ${(stalledMs / 1000).toFixed(1)} s at most`,
      "resident memory, MB:",
      ...resources.report().map((line) => `  ${line}`),
    ];
  }

  async #play(fault: Fault, node: FaultyNode, rng: Rng): Promise<void> {
    this.#count(fault.name);
    this.#stage.tell(`${node.name}: ${fault.name}`);
    const touch = { node: node.name, from: performance.now(), to: Number.POSITIVE_INFINITY };
    this.#touched.push(touch);
    await fault.play(this.#stage, node, rng);
    touch.to = performance.now() + AFTERMATH_MS;
    this.#stage.tell(`${node.name}: ${fault.name}, over`);
  }

  #count(what: string): void {
    this.#faults.set(what, (this.#faults.get(what) ?? 0) + 1);
  }

  #isTouched(node: string): boolean {
    return this.#touched.some((one) => one.node === node && one.to === Number.POSITIVE_INFINITY);
  }

  #percentiles(): { calm: string; beside: string; all: string } {
    const [calm, beside, all]: [number[], number[], number[]] = [[], [], []];
    for (const { node, at, ms, level } of this.#stage.clients.timings) {
      all.push(ms);
      if (level === "all") continue; // waits for every replica by its own wish
      const during = this.#touched.filter(({ from, to }) => at + ms >= from && at < to);
      if (during.length === 0) calm.push(ms);
      else if (during.every((one) => one.node !== node)) beside.push(ms);
    }
    return { calm: p99(calm), beside: p99(beside), all: p99(all) };
  }
}

const NEEDS_DISKS: ReadonlySet<string> = new Set(["power cut", "dies at a sync", "syncs slowly"]);

function p99(times: number[]): string {
  times.sort((a, b) => a - b);
  const found = times[Math.floor(times.length * 0.99)];
  return found === undefined ? "- (no calls)" : `${found.toFixed(0)} ms (${times.length} calls)`;
}

function weighted(rng: Rng, faults: readonly Fault[]): Fault {
  return rng.pick(faults.flatMap((fault) => Array.from({ length: fault.weight }, () => fault)));
}

function otherThan(stage: Stage, node: FaultyNode, rng: Rng): FaultyNode {
  return rng.pick(stage.nodes.filter((other) => other !== node));
}

// What a node may suffer.

async function down(stage: Stage, node: FaultyNode, rng: Rng, power: boolean): Promise<void> {
  await node.kill("SIGKILL");
  if (power) stage.tell(node.disk.cutPower(rng));
  await stage.during(rng.exponential(4_000));
  await up(stage, node);
}

async function ordered(stage: Stage, node: FaultyNode, rng: Rng, order: "kill-before" | "kill-after" | "eio"): Promise<void> {
  const dead = node.expectDeath();
  node.disk.order(order);
  await dead;
  node.disk.order("work");
  stage.tell(`${order}; ${node.disk.cutPower(rng)}`);
  await stage.during(rng.exponential(2_000));
  await up(stage, node);
}

async function stopped(stage: Stage, node: FaultyNode, rng: Rng): Promise<void> {
  const code = await node.stop();
  stage.expect(code === 0, `${node.name} ended with ${code} when asked to stop`);
  await stage.during(rng.exponential(4_000));
  await up(stage, node);
}

async function up(stage: Stage, node: FaultyNode): Promise<void> {
  node.start();
  // Ready wants peers to be heard; the network's hand may hold them back for a while.
  await stage.federation.ready(PATIENCE_MS, [node]);
}

/** Known to the others and empty: it comes back by itself, counts for nothing before it holds what they held, and until then nobody else is broken. */
async function diskLost(stage: Stage, node: FaultyNode): Promise<void> {
  await node.kill("SIGKILL");
  await former(stage, node);
  node.loseStore();
  await up(stage, node);
  await counts(node);
}

/** Behind the node's back: it is found when it compares with those who were told more, who must be there (design: old copies). */
async function oldCopy(stage: Stage, node: FaultyNode, rng: Rng): Promise<void> {
  await node.stop();
  const copy = node.copyStore("copy");
  await up(stage, node);
  await stage.during(rng.exponential(COPY_AGE_MS));
  await counts(node);
  await node.kill("SIGKILL");
  await former(stage, node);
  node.restoreStore(copy);
  rmSync(copy, { recursive: true });
  await up(stage, node);
  await counts(node);
}

/** What the disk that goes away knows must not contradict what the others know in the end. Most rows are on many such disks: each is kept once. */
async function former(stage: Stage, node: FaultyNode): Promise<void> {
  const { rows } = await readDisk(node.name, node.dataDir);
  const kept = new Map<string, Uint8Array>();
  for (const [key, value] of rows) {
    if (!/^[dsl]\//.test(key)) continue;
    const known = formerRows.get(key);
    const same = known !== undefined && Buffer.compare(known, value) === 0 ? known : Uint8Array.from(value);
    formerRows.set(key, same);
    kept.set(key, same);
  }
  stage.formerDisks.push({ name: `${node.name}, former disk ${stage.formerDisks.length + 1}`, rows: kept });
  stage.disksLost = true;
}
const formerRows = new Map<string, Uint8Array>();

async function counts(node: FaultyNode): Promise<void> {
  await eventually(`${node.name} is what it was before`, PATIENCE_MS, async () => {
    const { standing, role } = (await node.status()).node;
    return standing === "counting" || (role === "gateway" && standing === "unlisted") || undefined;
  });
}

async function paused(stage: Stage, node: FaultyNode, rng: Rng): Promise<void> {
  node.pause();
  await stage.during(rng.exponential(rng.chance(0.1) ? 30_000 : 4_000));
  node.resume();
}

async function slowSync(stage: Stage, node: FaultyNode, rng: Rng): Promise<void> {
  node.disk.order(`slow ${50 + rng.int(800)}`);
  await stage.during(rng.exponential(8_000));
  node.disk.order("work");
}

async function wrongClock(stage: Stage, node: FaultyNode, rng: Rng): Promise<void> {
  node.setClock(rng.pick([{ offsetMs: -rng.int(600_000) }, { offsetMs: rng.int(30_000) }, { frozenAt: Date.now() }]));
  await stage.during(rng.exponential(8_000));
  node.setClock({});
}

// What the network may do.

async function weather(stage: Stage, rng: Rng, begin: () => void): Promise<void> {
  begin();
  await stage.during(rng.exponential(8_000));
  stage.proxy.clear();
}

function oneWay(stage: Stage, node: FaultyNode, rng: Rng): void {
  const out = rng.chance(0.5);
  for (const other of stage.nodes) {
    if (other === node) continue;
    if (out) stage.proxy.set(node.name, other.name, { cut: true });
    else stage.proxy.set(other.name, node.name, { cut: true });
  }
}

async function resets(stage: Stage, node: FaultyNode, rng: Rng): Promise<void> {
  for (let left = 1 + rng.int(20); left > 0; left--) {
    stage.proxy.reset(node.name, otherThan(stage, node, rng).name);
    await stage.during(rng.exponential(400));
  }
}

async function flapping(stage: Stage, node: FaultyNode, rng: Rng): Promise<void> {
  for (let left = 10 + rng.int(100); left > 0; left--) {
    stage.proxy.set(node.name, otherThan(stage, node, rng).name, { cut: rng.chance(0.5) });
    await stage.during(rng.exponential(100));
  }
  stage.proxy.clear();
}
