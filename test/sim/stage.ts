import { ApiError } from "../../node/errors.ts";
import type { Asked as AskedChange, QueuedChange } from "../../node/layout-queue.ts";
import type { Outcome } from "../../node/ports.ts";
import { type Level, type NodeId, SYSTEM_TENANT } from "../../protocol/ids.ts";
import { type Layout, partitionOf } from "../../protocol/layout.ts";
import { Federation, type SimNode } from "./federation.ts";
import type { Violation } from "./history.ts";
import { membersOf } from "./layout-operator.ts";
import type { ReadAnswer } from "./operations.ts";
import { type Profile, RESONANCE_DECAY } from "./profile.ts";
import { frameKind } from "./raw-frame.ts";
import { readRawStore } from "./raw-store.ts";
import { Rng } from "./rng.ts";
import { Scheduler } from "./scheduler.ts";
import { CALM } from "./sim-network.ts";
import { checkAtRest, Registry } from "./store-checker.ts";
import { Story } from "./story.ts";

/** A quiet federation of three with two copies and a witness of everything: what happens on it, a scenario decides step by step. */
const QUIET: Profile = {
  nodeCount: 3,
  replicationFactor: 2,
  syncIntervalMs: 1000,
  periodMs: 30 * 24 * 3_600_000,
  network: { ...CALM, newsLossChance: 0, connectMs: 5 },
  disk: { writeMs: 0.02, fsyncMs: 1, stallChance: 0 },
  clockErrorMs: 0,
  workload: { clients: 0, tenants: [], pauseMs: 0, timeoutMs: 2000, retryChance: 0, attemptsMax: 1, twiceChance: 0 },
  faults: { kinds: [], everyMs: 0, lastsMs: 0 },
  birth: undefined,
  durationMs: 0,
};

/** How long a client that insists asks again, ms. */
const INSIST_MS = 15_000;
const DECAY = { resonanceDecay: RESONANCE_DECAY, periodMs: QUIET.periodMs };

export interface Scenario {
  readonly name: string;
  /** Three, unless said otherwise. */
  readonly nodeCount?: number;
  readonly play: (stage: Stage) => Promise<Violation[]>;
}

/** @returns what did not hold: nothing, when it does */
export const expectThat = (holds: boolean, message: string): Violation[] => (holds ? [] : [{ checker: "scenario", message }]);

export interface How {
  readonly level?: Level;
  readonly key?: string;
  readonly timeoutMs?: number;
  readonly tenant?: string;
}

export interface Asked<T> {
  answer: Outcome<T> | ApiError | undefined;
}

/** Where a directed schedule is played: one federation, driven by hand. */
export class Stage {
  readonly scheduler = new Scheduler();
  readonly federation: Federation;
  readonly registry: Registry;
  readonly alice: SimNode;
  readonly bob: SimNode;
  readonly carol: SimNode;

  constructor(story?: (line: string) => void, nodeCount = QUIET.nodeCount) {
    const rng = new Rng("stage");
    this.registry = new Registry(() => this.federation.nodes.map((node) => node.disk.durable()), QUIET.replicationFactor);
    this.federation = new Federation(this.scheduler, rng, { ...QUIET, nodeCount }, this.registry);
    if (story !== undefined) {
      const told = new Story(this.scheduler, this.federation, story);
      this.federation.onFrame = (moment, from, to, frame) => told.frame(moment, from, to, frame);
      this.federation.onDisk = (moment, node, entries) => told.disk(moment, node, entries);
    }
    [this.alice, this.bob, this.carol] = this.federation.nodes as [SimNode, SimNode, SimNode];
  }

  start(): void {
    for (const node of this.federation.nodes) this.federation.start(node);
  }

  /** @throws Error when layout 1 does not come about */
  async formed(): Promise<void> {
    await this.until("layout 1 is formed and everybody counts", () => this.federation.counting);
  }

  /** Another machine, of another name, that runs and knows nobody's layout yet. */
  addMachine(name: string): SimNode {
    const node = this.federation.addNode(name);
    this.federation.start(node);
    return node;
  }

  /** As `continuum layout` asks for it. @throws the refusal */
  async change(through: SimNode, change: AskedChange): Promise<QueuedChange> {
    const how = { tenant: SYSTEM_TENANT, key: `change ${through.name} ${this.scheduler.now}` };
    return (await this.insist<QueuedChange>(through, "layout.change", change, how)).value;
  }

  /** Asks for a machine to become a member. */
  async add(through: SimNode, node: SimNode): Promise<QueuedChange> {
    await this.until(`${node.name} runs`, () => node.process !== undefined);
    const incarnation = (node.process as NonNullable<SimNode["process"]>).engine.store.incarnation;
    return await this.change(through, { op: "add", member: { node: node.id, name: node.name, incarnation, zone: "", weight: 1 } });
  }

  /** What came of a change, as this node has it. */
  async outcomeOf(through: SimNode, { id }: QueuedChange): Promise<QueuedChange["outcome"] | undefined> {
    const how = { tenant: SYSTEM_TENANT, key: `changes ${this.scheduler.now}` };
    const outcome = await this.insist<{ readonly changes: readonly QueuedChange[] }>(through, "layout.changes", {}, how);
    return outcome.value.changes.find((change) => change.id === id)?.outcome;
  }

  /** By which layout a node goes. */
  layout(node: SimNode): Layout | undefined {
    return node.process?.engine.layout;
  }

  /** Every one of these nodes goes by a layout of which this is so. */
  async layoutAt(nodes: readonly SimNode[], what: string, is: (layout: Layout) => boolean, withinMs = 30_000): Promise<void> {
    await this.until(what, () => nodes.every((node) => this.layout(node) !== undefined && is(this.layout(node) as Layout)), withinMs);
  }

  async pass(ms: number): Promise<void> {
    await this.scheduler.run(this.scheduler.now + ms);
  }

  async until(what: string, done: () => boolean, withinMs = 30_000): Promise<void> {
    if (!(await this.scheduler.run(this.scheduler.now + withinMs, done))) throw new Error(`waited ${withinMs} ms in vain until ${what}`);
  }

  /** Frames of some kinds, from one node, go nowhere (or not to one other); until `lift`. @param kinds a message's name, or "formation/propose" */
  drop(kinds: readonly string[], from: SimNode, seen: (to: NodeId, frame: Uint8Array) => void = () => {}, only?: SimNode): void {
    this.federation.network.filter = (sender, to, frame) => {
      if (sender !== from.id || !kinds.includes(frameKind(frame)) || (only !== undefined && only.id !== to)) return true;
      seen(to, frame);
      return false;
    };
  }

  lift(): void {
    this.federation.network.filter = undefined;
  }

  loseDisk(node: SimNode): void {
    this.federation.crash(node, "power");
    this.federation.loseDisk(node);
  }

  /** One request, under its own key, through this node. @returns its outcome, or the refusal */
  async ask<T = unknown>(node: SimNode, operation: string, args: object, how: How = {}): Promise<Outcome<T> | ApiError> {
    return await this.answerTo(this.begin<T>(node, operation, args, how));
  }

  /**
   * As a client that asks again, under the same key, while it is told to come again (503): who has just adopted a version counts nobody until they have
   * reported under it. @throws the refusal, when it is another or does not end
   */
  async insist<T = unknown>(node: SimNode, operation: string, args: object, how: How = {}): Promise<Outcome<T>> {
    const { key = `${operation} ${JSON.stringify(args)}` } = how;
    const until = this.scheduler.now + INSIST_MS;
    for (;;) {
      const outcome = await this.ask<T>(node, operation, args, { ...how, key });
      if (!(outcome instanceof ApiError)) return outcome;
      if (outcome.status !== 503 || this.scheduler.now > until) throw outcome;
      await this.pass(100);
    }
  }

  /** As `ask`, without waiting for the answer. */
  begin<T = unknown>(node: SimNode, operation: string, args: object, how: How = {}): Asked<T> {
    const { level = "quorum", key = `${operation} ${JSON.stringify(args)}`, timeoutMs = 2000, tenant = "alpha" } = how;
    const asked: Asked<T> = { answer: undefined };
    const call = { tenant, level, key, token: undefined, requestId: key, timeoutMs };
    void this.federation
      .door(node)
      .call<T>(operation, args, call)
      ?.then((answer) => {
        asked.answer = answer;
      });
    return asked;
  }

  async answerTo<T>(asked: Asked<T>): Promise<Outcome<T> | ApiError> {
    await this.scheduler.run(this.scheduler.now + 5000, () => asked.answer !== undefined);
    return asked.answer ?? new ApiError("in_doubt", "no answer");
  }

  /** What a reader sees of a memory: its values, the visible one first. @throws Error when the read is refused */
  async values(node: SimNode, memory: string, level: Level = "quorum", tenant = "alpha"): Promise<readonly string[]> {
    const outcome = await this.insist<ReadAnswer>(
      node,
      "read",
      { memories: [memory], concepts: [] },
      { level, tenant, key: `read ${this.scheduler.now}` },
    );
    return outcome.value.memories[memory] as readonly string[];
  }

  /** How often a concept was counted, as a quorum read says. @throws Error when it is refused */
  async count(node: SimNode, concept: string): Promise<number | undefined> {
    const outcome = await this.insist<ReadAnswer>(node, "read", { memories: [], concepts: [concept] }, { key: `count ${this.scheduler.now}` });
    return outcome.value.counts[concept];
  }

  /** The full replicas of a tenant's partition, and its witness. */
  groupOf(tenant: string): { readonly replicas: readonly [SimNode, SimNode]; readonly witness: SimNode } {
    const roles = this.federation.nodes.map((node) => ({ node, role: node.process?.engine.replica?.role(partitionOf(tenant)) }));
    const replicas = roles.filter(({ role }) => role === "replica").map(({ node }) => node) as [SimNode, SimNode];
    return { replicas, witness: roles.find(({ role }) => role === "witness")?.node as SimNode };
  }

  /** Everything that must hold of the disks once nothing is under way. */
  async examine(): Promise<Violation[]> {
    await this.pass(10_000);
    const nodes = membersOf(this.federation).map((node) => ({ name: node.name, store: readRawStore(node.disk.contents()) }));
    const failures = this.federation.failures.map((message) => ({ checker: "process", message }));
    return [
      ...this.registry.violations,
      ...failures,
      ...checkAtRest(nodes, this.registry, [], QUIET.replicationFactor, (streams) => streams.flat(), DECAY),
    ];
  }
}
