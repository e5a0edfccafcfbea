import { createKeyring, type Keyring } from "../../crypto/keyring.ts";
import { Engine, type EngineSettings } from "../../node/engine.ts";
import type { GraphIndex, Log, Meter, Router } from "../../node/ports.ts";
import { createRouter } from "../../node/router.ts";
import type { Level } from "../../node/store/level-port.ts";
import { Store } from "../../node/store/store.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { SIM_OPERATIONS } from "./operations.ts";
import type { Profile } from "./profile.ts";
import type { Rng } from "./rng.ts";
import type { Scheduler } from "./scheduler.ts";
import { SimDisk } from "./sim-disk.ts";
import { SimNetwork } from "./sim-network.ts";
import { simSystem, WallClock } from "./sim-system.ts";
import type { Registry } from "./store-checker.ts";
import type { Door } from "./workload.ts";

const NAMES = ["alice", "bob", "carol", "dave", "erin"] as const;
const SECRET = "a secret that only the simulator knows";

/** One run of a node's program, from its start to its crash. */
interface Process {
  readonly engine: Engine;
  readonly router: Router;
  readonly monotonic: () => number;
}

export interface SimNode {
  readonly name: string;
  readonly id: NodeId;
  readonly disk: SimDisk;
  readonly clock: WallClock;
  /** Between start and crash, also while it is still opening its store. */
  running: boolean;
  /** Counts its processes; whatever an older one still had to do never happens. */
  generation: number;
  process: Process | undefined;
}

/** The nodes of one run: real engines on real stores, on a simulated machine each. */
export class Federation {
  readonly nodes: readonly SimNode[];
  readonly network: SimNetwork;
  readonly #scheduler: Scheduler;
  readonly #rng: Rng;
  readonly #profile: Profile;
  readonly #registry: Registry;
  readonly #keyring: Keyring = createKeyring([SECRET]);
  /** A node's batch has just become durable: the moment for a fault that wants to strike between two steps. */
  onWrite: (node: SimNode) => void = () => {};
  /** Errors that no node may have: a broken invariant, a store it cannot read. */
  readonly failures: string[] = [];

  constructor(scheduler: Scheduler, rng: Rng, profile: Profile, registry: Registry) {
    this.#scheduler = scheduler;
    this.#rng = rng;
    this.#profile = profile;
    this.#registry = registry;
    this.network = new SimNetwork(scheduler, rng.fork("network"), profile.network);
    this.nodes = NAMES.slice(0, profile.nodeCount).map((name) => this.#newNode(name));
    for (const node of this.nodes) this.network.addNode(node.id);
  }

  start(node: SimNode): void {
    if (node.running) return;
    node.running = true;
    const generation = ++node.generation;
    this.#scheduler.note(`${node.name} starts (${generation})`);
    void this.#boot(node, generation).catch((error: unknown) => this.#died(node, generation, error));
  }

  crash(node: SimNode, how: "kill" | "power"): void {
    if (!node.running) return;
    this.#scheduler.note(`${node.name} ${how === "kill" ? "is killed" : "loses power"}`);
    node.running = false;
    node.generation++;
    node.process = undefined;
    this.network.leave(node.id, how === "power");
    if (how === "kill") node.disk.kill();
    else node.disk.powerCut();
  }

  /** As a client meets this node. */
  door(node: SimNode): Door {
    return {
      name: node.name,
      open: () => (node.process === undefined ? undefined : { router: node.process.router, monotonic: node.process.monotonic() }),
    };
  }

  /** Every node runs, and knows its layout. */
  get formed(): boolean {
    return this.nodes.every((node) => node.process?.engine.layout !== undefined);
  }

  async #boot(node: SimNode, generation: number): Promise<void> {
    const alive = (): boolean => node.generation === generation;
    const system = simSystem(this.#scheduler, node.clock, this.#rng.fork(`${node.name}/${generation}`), alive);
    const db = node.disk.open();
    this.#registry.saw(node.name, node.disk.durable());
    node.disk.watcher = {
      onWrite: (entries) => {
        this.#registry.saw(node.name, entries);
        this.onWrite(node);
      },
    };
    await db.open();
    if (!alive()) return;
    const store = await Store.open(db as unknown as Level, NO_INDEX, (length) => system.randomBytes(length));
    if (!alive()) return;
    const network = this.network.join(node.id);
    const engine = new Engine({
      store,
      federation: { network, keyring: this.#keyring },
      node: node.id,
      index: NO_INDEX,
      system,
      meter: NO_METER,
      log: this.#log(node, alive),
      settings: this.#settings(node.name),
      onFatal: (error) => this.#died(node, generation, error),
    });
    const router = createRouter({
      engine,
      operations: SIM_OPERATIONS,
      index: NO_INDEX,
      meter: NO_METER,
      self: node.id,
      keyring: this.#keyring,
      accepts: (operation) => operation in SIM_OPERATIONS,
      latencyMs: (peer) => network.latencyMs(peer),
    });
    node.process = { engine, router, monotonic: () => system.monotonic() };
    await engine.start();
  }

  /** A failed fsync ends a process, as it must; anything else that ends one is a fault of ours. */
  #died(node: SimNode, generation: number, error: unknown): void {
    if (node.generation !== generation) return;
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error);
    this.#scheduler.note(`${node.name} dies: ${message.split("\n")[0]}`);
    if (!message.includes("EIO")) this.failures.push(`${node.name} died: ${message}`);
    this.crash(node, "kill");
    this.#scheduler.after(500, () => this.start(node));
  }

  #settings(name: string): EngineSettings {
    return {
      name,
      zone: "",
      weight: 1,
      firstMembers: this.nodes.map((node) => node.name),
      layout: { replicationFactor: this.#profile.replicationFactor, resonanceDecay: 0.85, hebbianRate: 0.15, periodMs: 30 * 24 * 3_600_000 },
      consistency: "quorum",
      syncIntervalMs: this.#profile.syncIntervalMs,
    };
  }

  #log(node: SimNode, alive: () => boolean): Log {
    const line = (level: string) => (facts: object, message: string) => {
      if (alive()) this.#scheduler.note(`${node.name} ${level}: ${message} ${JSON.stringify(facts)}`);
    };
    return { debug: () => {}, info: line("info"), warn: line("warn"), error: line("error") };
  }

  #newNode(name: string): SimNode {
    const rng = this.#rng.fork(name);
    const error = this.#profile.clockErrorMs;
    return {
      name,
      id: `node-${name}` as NodeId,
      disk: new SimDisk(this.#scheduler, rng.fork("disk"), this.#profile.disk),
      clock: new WallClock(this.#scheduler, Math.round(rng.between(-error, error)), rng.between(0.999, 1.001)),
      running: false,
      generation: 0,
      process: undefined,
    };
  }
}

const NO_INDEX: GraphIndex = { rows: () => [], committed: () => {}, ready: () => Promise.resolve() };
const NO_METER: Meter = { count: () => {}, observe: () => {} };
