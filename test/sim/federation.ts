import { createKeyring } from "../../crypto/keyring.ts";
import { Engine, type EngineSettings } from "../../node/engine.ts";
import { ApiError } from "../../node/errors.ts";
import type { Call, GraphIndex, Log, Meter, Outcome, Router } from "../../node/ports.ts";
import { Revocations } from "../../node/revocations.ts";
import { createRouter } from "../../node/router.ts";
import { type Scrub, scrubOf } from "../../node/scrub.ts";
import { SecretAdmin } from "../../node/secret-admin.ts";
import type { Level } from "../../node/store/level-port.ts";
import { Store } from "../../node/store/store.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { SIM_OPERATIONS } from "./operations.ts";
import { type Profile, RESONANCE_DECAY } from "./profile.ts";
import type { Rng } from "./rng.ts";
import type { Scheduler } from "./scheduler.ts";
import { DAMAGED, type DiskCopy, type Entries, SimDisk } from "./sim-disk.ts";
import { SimNetwork } from "./sim-network.ts";
import { Pause, simSystem, WallClock } from "./sim-system.ts";
import type { Registry } from "./store-checker.ts";
import type { Door } from "./workload.ts";

export const NAMES = ["alice", "bob", "carol", "dave", "erin", "frank", "grace"] as const;
export const SECRET = "a secret that only the simulator knows";

/** One run of a node's program, from its start to its crash. */
interface Process {
  readonly engine: Engine;
  readonly scrub: Scrub;
  readonly router: Router;
  readonly secrets: SecretAdmin;
  readonly revocations: Revocations;
  readonly monotonic: () => number;
}

export interface SimNode {
  readonly name: string;
  /** Its machine on the network; its node id too, unless it is a clone. */
  readonly id: NodeId;
  /** NODE_NAME: a clone has its original's. */
  readonly configuredName: string;
  readonly disk: SimDisk;
  readonly clock: WallClock;
  readonly pause: Pause;
  /** FEDERATION_SECRET, as its next process will have it. */
  secrets: readonly string[];
  /** An operator has shut it out. */
  revoked: boolean;
  /** Protocol versions that its program speaks from its next start on; undefined: all. */
  versions: { readonly min: number; readonly max: number } | undefined;
  /** Between start and crash, also while it is still opening its store. */
  running: boolean;
  /** Counts its processes; whatever an older one still had to do never happens. */
  generation: number;
  process: Process | undefined;
}

/** How a process ends. torn: power goes, and leaves garbage at the end of the log. */
export type Death = "kill" | "power" | "torn";

/** What a node does to the world outside it; it may die just before, or just after. */
export type EffectKind = "send" | "persist" | "durable" | "answer";
export interface EffectAt {
  readonly kind: EffectKind;
  readonly when: "before" | "after";
}

/** The frame that is sent, or the rows that are written. */
export type EffectOn = { readonly frame?: Uint8Array; readonly entries?: Entries };

/** The nodes of one run: real engines on real stores, on a simulated machine each. */
export class Federation {
  readonly nodes: SimNode[] = [];
  readonly network: SimNetwork;
  readonly #hosts = new Map<NodeId, SimNode>();
  readonly #writers = new Map<string, string>();
  readonly #scheduler: Scheduler;
  readonly #rng: Rng;
  readonly #profile: Profile;
  readonly #registry: Registry;
  /** While the secret is replaced: the one that is to stay. A machine that is bought meanwhile knows both. */
  freshSecret: string | undefined;
  readonly #firstMembers: readonly string[];
  /** Called between two effects of a node: the moment for a fault that wants to strike there. */
  onEffect: (node: SimNode, at: EffectAt, what: EffectOn) => void = () => {};
  /** A frame leaves, arrives, or will not. */
  onFrame: (moment: "sent" | "arrived" | "lost", from: SimNode, to: SimNode, frame: Uint8Array) => void = () => {};
  /** A batch is taken by the disk, or complete. */
  onDisk: (moment: "begun" | "complete", node: SimNode, entries: Entries, writer: string | undefined) => void = () => {};
  onSnapshot: (node: SimNode) => void = () => {};
  onDeath: (node: SimNode) => void = () => {};
  /** Between two partitions that a node looks at for what may be collected, ms. Infinite: a run wants to end. */
  collectPaceMs = 500;
  /** Errors that no node may have: a broken invariant, a store it cannot read. */
  readonly failures: string[] = [];

  constructor(scheduler: Scheduler, rng: Rng, profile: Profile, registry: Registry) {
    this.#scheduler = scheduler;
    this.#rng = rng;
    this.#profile = profile;
    this.#registry = registry;
    this.network = new SimNetwork(scheduler, rng.fork("network"), profile.network);
    this.network.watcher = {
      onSend: (from, _to, frame) => this.#survives(from, "before", frame),
      onSent: (from, to, frame) => {
        this.onFrame("sent", this.#on(from), this.#on(to), frame);
        this.#survives(from, "after", frame);
      },
      onEnd: (from, to, frame, arrived) => this.onFrame(arrived ? "arrived" : "lost", this.#on(from), this.#on(to), frame),
    };
    this.network.mayMeet = (a, b) => this.#meet(this.#hosts.get(a), this.#hosts.get(b));
    this.#firstMembers = Array.from({ length: profile.nodeCount }, (_, place) => NAMES[place] ?? `member-${place + 1}`);
    for (const name of this.#firstMembers) this.addNode(name);
  }

  /** Another machine. @param twinOf it runs under that node's id: somebody copied a volume, identity and all, and started both */
  addNode(name: string, twinOf?: SimNode): SimNode {
    const rng = this.#rng.fork(name);
    const error = this.#profile.clockErrorMs;
    const pause = new Pause(this.#scheduler);
    const node: SimNode = {
      name,
      id: `node-${name}` as NodeId,
      configuredName: twinOf?.configuredName ?? name,
      disk: new SimDisk(this.#scheduler, rng.fork("disk"), this.#profile.disk, pause),
      clock: new WallClock(this.#scheduler, Math.round(rng.between(-error, error)), rng.between(0.999, 1.001)),
      pause,
      secrets: twinOf?.secrets ?? this.nodes.find(({ revoked }) => !revoked)?.secrets ?? [SECRET],
      revoked: false,
      versions: undefined,
      running: false,
      generation: 0,
      process: undefined,
    };
    this.nodes.push(node);
    this.#hosts.set(node.id, node);
    this.network.addNode(node.id, pause, twinOf?.id);
    return node;
  }

  /** What was only on this disk is gone. */
  loseDisk(node: SimNode): void {
    this.#registry.disksLost = true;
    node.disk.lose();
  }

  /** The volume of a node that is down becomes what it once was, behind the node's back. */
  restore(node: SimNode, copy: DiskCopy): void {
    this.#registry.disksLost = true;
    node.disk.restore(copy);
    this.#registry.highWaters.replaced(node.name);
  }

  /** A durable record of the log turns bad while the node is down; the last one is as if it had never been. @returns whether there was one */
  rotLog(node: SimNode, rng: Rng): boolean {
    this.#registry.disksLost = true;
    this.#registry.highWaters.replaced(node.name);
    return node.disk.rotLog(rng);
  }

  /** Its operator has every copy on its disk read again. */
  scrub(node: SimNode): void {
    this.#scheduler.note(`${node.name} reads all its copies again`);
    void node.process?.scrub.round();
  }

  /** A second machine with a copy of this one's disk and identity, as it was at this moment. */
  clone(node: SimNode): SimNode {
    const twin = this.addNode(`${node.name}-twin`, node);
    twin.disk.restore(node.disk.copy());
    return twin;
  }

  /** What only this node holds may be gone: an operator decided so. */
  losesFor(_node: SimNode): void {
    this.#registry.disksLost = true;
  }

  /** Public id of a secret. */
  idOf(secret: string): string {
    return createKeyring([secret]).ids[0] as string;
  }

  /** Who was shut out is switched off. */
  retireRevoked(): void {
    for (const node of this.nodes.filter(({ revoked }) => revoked)) {
      this.crash(node, "kill");
      this.remove(node);
    }
  }

  /** The machine is gone for good; it must have crashed. */
  remove(node: SimNode): void {
    this.nodes.splice(this.nodes.indexOf(node), 1);
  }

  start(node: SimNode): void {
    if (node.running || !this.nodes.includes(node)) return;
    node.running = true;
    const generation = ++node.generation;
    this.#scheduler.note(`${node.name} starts (${generation})`);
    void this.#boot(node, generation).catch((error: unknown) => this.#died(node, generation, error));
  }

  crash(node: SimNode, how: Death): void {
    if (!node.running) return;
    this.#scheduler.note(`${node.name} ${how === "kill" ? "is killed" : how === "power" ? "loses power" : "loses power, its log torn"}`);
    this.onDeath(node);
    node.running = false;
    node.generation++;
    node.process = undefined;
    node.pause.forget();
    this.network.leave(node.id, how !== "kill");
    if (how === "kill") node.disk.kill();
    else node.disk.powerCut(how === "torn");
  }

  pause(node: SimNode, clockStands: boolean): void {
    if (!node.running || node.pause.holds) return;
    this.#scheduler.note(`${node.name} ${clockStands ? "sleeps, its monotonic clock too" : "is stopped"}`);
    node.pause.begin(clockStands);
    this.network.paused(node.id);
  }

  resume(node: SimNode): void {
    if (!node.pause.holds) return;
    this.#scheduler.note(`${node.name} goes on`);
    node.pause.end();
    this.network.paused(node.id);
  }

  /** As a client meets this node. */
  door(node: SimNode): Door {
    return {
      name: node.name,
      call: (operation, args, call) => {
        const { process, generation } = node;
        return process === undefined ? undefined : this.#ask(node, process, generation, operation, args, call);
      },
    };
  }

  /** The connection is the kernel's, so a stopped node takes requests; a dead one never answers them. */
  #ask<T>(
    node: SimNode,
    process: Process,
    generation: number,
    operation: string,
    args: unknown,
    { timeoutMs, ...call }: Omit<Call, "deadline"> & { readonly timeoutMs: number },
  ): Promise<Outcome<T> | ApiError> {
    return new Promise((resolve, reject) => {
      const answer = (outcome: Outcome<T> | ApiError): void => {
        this.onEffect(node, { kind: "answer", when: "before" }, {});
        if (node.generation !== generation) return;
        resolve(outcome);
        this.onEffect(node, { kind: "answer", when: "after" }, {});
      };
      node.pause.gate(() => {
        if (node.generation !== generation) return;
        process.router.run<T>(operation, args, { ...call, deadline: process.monotonic() + timeoutMs }).then(answer, (error: unknown) => {
          if (error instanceof ApiError) answer(error);
          // What HTTP answers with 500: a disk that does not read, or that lies.
          else if (diskSays(error, node)) answer(new ApiError("internal", (error as Error).message));
          else if (node.generation === generation) reject(error as Error);
        });
      });
    });
  }

  /** Whose stream it is: the node's name, with a stroke for each incarnation after its first. */
  nameOf(writer: string): string {
    return this.#writers.get(writer) ?? writer.slice(0, 6);
  }

  /** Every node runs, and knows its layout. */
  get formed(): boolean {
    return this.nodes.every((node) => node.revoked || node.process?.engine.layout !== undefined);
  }

  /** Every node has compared with others what it was told, and counts. */
  get counting(): boolean {
    return this.nodes.every((node) => node.revoked || node.process?.engine.replica?.standing === "counting");
  }

  #on(host: NodeId): SimNode {
    return this.#hosts.get(host) as SimNode;
  }

  /** @returns whether the sender still lives */
  #survives(host: NodeId, when: "before" | "after", frame: Uint8Array): boolean {
    const node = this.#on(host);
    const { generation } = node;
    this.onEffect(node, { kind: "send", when }, { frame });
    return node.generation === generation;
  }

  async #boot(node: SimNode, generation: number): Promise<void> {
    const alive = (): boolean => node.generation === generation;
    const system = simSystem(this.#scheduler, node.clock, this.#rng.fork(`${node.name}/${generation}`), alive, node.pause);
    const db = node.disk.open();
    this.#registry.found(node.name, node.disk.durable());
    node.disk.watcher = {
      onAsked: (entries) => {
        this.onEffect(node, { kind: "persist", when: "before" }, { entries });
        return alive();
      },
      onBegun: (entries) => this.onDisk("begun", node, entries, node.process?.engine.writer),
      onWrite: (entries, synced) => {
        this.#registry.wrote(node.name, entries, synced);
        this.onDisk("complete", node, entries, node.process?.engine.writer);
        this.onEffect(node, { kind: "durable", when: "after" }, { entries });
      },
    };
    await db.open();
    if (!alive()) return;
    const store = await Store.open(db as unknown as Level, NO_INDEX, (length) => system.randomBytes(length));
    if (!alive()) return;
    const snapshot = store.snapshot.bind(store);
    store.snapshot = () => {
      this.onSnapshot(node);
      return snapshot();
    };
    const network = this.network.join(node.id);
    const keyring = createKeyring(node.secrets);
    const engine = new Engine({
      store,
      federation: { network, keyring },
      node: network.self,
      index: NO_INDEX,
      system,
      meter: NO_METER,
      log: this.#log(node, alive),
      settings: this.#settings(node.configuredName),
      ...(node.versions === undefined ? {} : { versions: node.versions }),
      onFatal: (error) => this.#died(node, generation, error),
      onCopy: (reason) => this.#openAgain(node, generation, reason),
    });
    const router = createRouter({
      engine,
      operations: SIM_OPERATIONS,
      index: NO_INDEX,
      meter: NO_METER,
      self: network.self,
      keyring,
      accepts: (operation) => operation in SIM_OPERATIONS,
      latencyMs: (peer) => network.latencyMs(peer),
    });
    const revocations = new Revocations({
      engine,
      router: () => router,
      connected: () => network.connected(),
      disconnect: (peer) => this.network.disconnect(node.id, peer),
    });
    const secrets = new SecretAdmin({
      engine,
      self: network.self,
      router,
      layout: { apply: () => Promise.reject(new Error("the simulator's operator asks the queue")) },
      revocations,
      secretIds: (peer) => (network.connected().includes(peer) ? this.#processAt(peer)?.engine.secretIds : undefined),
    });
    this.#know(engine.writer, node.name);
    const scrub = scrubOf(engine, NO_METER, (error) => this.#died(node, generation, error));
    node.process = { engine, scrub, router, secrets, revocations, monotonic: () => system.monotonic() };
    // The order of node/node.ts.
    await engine.start();
    await revocations.load();
    if (!alive()) return;
    revocations.start();
    await secrets.load();
    if (!alive()) return;
    this.network.open(node.id);
  }

  #processAt(id: NodeId): Process | undefined {
    return this.nodes.find((node) => node.process?.engine.node === id)?.process;
  }

  /** As admission has it: a secret in common, and neither has shut the other out. */
  #meet(one: SimNode | undefined, other: SimNode | undefined): boolean {
    if (one === undefined || other === undefined) return true;
    const [a, b] = [one.process, other.process];
    if (a === undefined || b === undefined) return true;
    if (a.revocations.isRevoked(b.engine.node) || b.revocations.isRevoked(a.engine.node)) return false;
    return a.engine.secretIds.some((id) => b.engine.secretIds.includes(id));
  }

  #know(writer: string, name: string): void {
    if (this.#writers.has(writer)) return;
    const taken = new Set(this.#writers.values());
    let free = name;
    while (taken.has(free)) free += "'";
    this.#writers.set(writer, free);
  }

  /** A disk that refuses ends a process, as it must; anything else that ends one is a fault of ours. */
  #died(node: SimNode, generation: number, error: unknown): void {
    if (node.generation !== generation) return;
    const message = reasons(error).join(": ");
    this.#scheduler.note(`${node.name} dies: ${message.split("\n")[0]}`);
    if (!diskSays(error, node)) this.failures.push(`${node.name} died: ${message}`);
    this.crash(node, "kill");
    if (node.disk.lies && saysSo(message)) this.onCorrupt(node);
    else this.#scheduler.after(500, () => this.start(node));
  }

  /** The process ends and begins again on the same disk, which has another incarnation now. */
  #openAgain(node: SimNode, generation: number, reason: string): void {
    if (node.generation !== generation) return;
    this.#scheduler.note(`${node.name} is another incarnation: ${reason}`);
    this.crash(node, "kill");
    this.#scheduler.after(10, () => this.start(node));
  }

  /** A node said that its disk lies, and ended: what its operator does then. */
  onCorrupt: (node: SimNode) => void = () => {};

  #settings(name: string): EngineSettings {
    const federation = this;
    return {
      get collectPaceMs() {
        return federation.collectPaceMs;
      },
      name,
      zone: "",
      weight: 1,
      firstMembers: this.#firstMembers.includes(name) ? this.#firstMembers : [],
      layout: {
        replicationFactor: this.#profile.replicationFactor,
        resonanceDecay: RESONANCE_DECAY,
        hebbianRate: 1 - RESONANCE_DECAY,
        periodMs: this.#profile.periodMs,
      },
      consistency: "quorum",
      syncIntervalMs: this.#profile.syncIntervalMs,
      strictStart: false,
      logRetentionMs: 30 * 24 * 3_600_000,
    };
  }

  #log(node: SimNode, alive: () => boolean): Log {
    const line = (level: string) => (facts: object, message: string) => {
      if (alive()) this.#scheduler.note(`${node.name} ${level}: ${message} ${JSON.stringify(facts, withoutStack)}`);
    };
    return { debug: () => {}, info: line("info"), warn: line("warn"), error: line("error") };
  }
}

/** Where in the code it was names files, and those have other addresses in other processes: the same run must have the same story. */
const withoutStack = (key: string, value: unknown): unknown => (key === "at" && Array.isArray(value) ? undefined : value);

/** How the product says that a stored value is not what was stored. */
const CORRUPT = "does not match its checksum";

/** The disk refused, or lied and was caught: no fault of the product. */
function diskSays(error: unknown, node: SimNode): boolean {
  const message = reasons(error).join(": ");
  return /EIO|ENOSPC/.test(message) || (node.disk.lies && saysSo(message));
}

function saysSo(message: string): boolean {
  return message.includes(CORRUPT) || message.includes(DAMAGED);
}

/** The messages of an error and of all that caused it. */
function reasons(error: unknown): string[] {
  if (!(error instanceof Error)) return [String(error)];
  const { cause } = error as { cause?: unknown };
  return [error.stack ?? error.message, ...(cause === undefined ? [] : reasons(cause))];
}

const NO_INDEX: GraphIndex = { rows: () => [], committed: () => {}, ready: () => Promise.resolve(), dropped: () => {} };
const NO_METER: Meter = { count: () => {}, observe: () => {} };
