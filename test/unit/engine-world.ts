/**
 * Nodes of one process as they are below HTTP: real engines, stores, links and routers, on databases in memory, on a clock that a test moves, with wires that
 * carry frames in order and at once. They begin as members of one layout, or of none.
 */
import { MemoryLevel } from "memory-level";
import { createKeyring } from "../../crypto/keyring.ts";
import { acceptsArguments } from "../../node/arguments.ts";
import { Engine } from "../../node/engine.ts";
import { Joining } from "../../node/joining.ts";
import { layoutOperations } from "../../node/layout-queue.ts";
import type { Versions } from "../../node/links.ts";
import type { Call, GraphIndex, Log, Network, Outcome, Router, System } from "../../node/ports.ts";
import { revocationOperations } from "../../node/revocations.ts";
import { createRouter } from "../../node/router.ts";
import type { Level } from "../../node/store/level-port.ts";
import { Store } from "../../node/store/store.ts";
import { type NodeId, SYSTEM_TENANT } from "../../protocol/ids.ts";
import { encodeLayout, layoutOf, type MemberFields } from "../../protocol/layout.ts";
import { LAYOUT, WALL } from "./replica-world.ts";

const STEP_MS = 10;
/** What one frame or flush leads to is done before time goes on. */
const settled = async (): Promise<void> => {
  for (let turn = 0; turn < 6; turn++) await new Promise((resolve) => setImmediate(resolve));
};

/** Time that goes by only when it is told to. */
export class StepSystem implements System {
  #ms = 0;
  #drawn = 0;
  readonly #seed: number;
  readonly #clockAheadMs: number;
  #timers: { at: number; run: () => void }[] = [];

  constructor(seed: number, clockAheadMs = 0) {
    this.#seed = seed;
    this.#clockAheadMs = clockAheadMs;
  }
  now(): number {
    return WALL + this.#ms + this.#clockAheadMs;
  }
  monotonic(): number {
    return this.#ms;
  }
  random(): number {
    return ((this.#seed * 37 + ++this.#drawn * 11) % 101) / 101;
  }
  randomBytes(length: number): Uint8Array {
    const drawn = ++this.#drawn;
    return Uint8Array.from({ length }, (_, at) => (this.#seed * 89 + (drawn >> (8 * (at % 4))) * 31 + at * 7) % 256);
  }
  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#ms + ms, run };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }
  soon(run: () => void): void {
    setImmediate(run);
  }
  step(ms: number): void {
    this.#ms += ms;
    const due = this.#timers.filter(({ at }) => at <= this.#ms).sort((a, b) => a.at - b.at);
    this.#timers = this.#timers.filter(({ at }) => at > this.#ms);
    for (const { run } of due) run();
  }
}

export class Wire implements Network {
  readonly self: NodeId;
  readonly peers = new Map<NodeId, Wire>();
  onFrame: Network["onFrame"] = () => undefined;
  onPeer: Network["onPeer"] = () => undefined;
  onNews: Network["onNews"] = () => undefined;

  constructor(self: NodeId) {
    this.self = self;
  }
  send(to: NodeId, frame: Uint8Array): boolean {
    const other = this.peers.get(to);
    if (other === undefined) return false;
    setImmediate(() => {
      if (this.peers.get(to) === other) other.onFrame(this.self, frame);
    });
    return true;
  }
  latencyMs(): undefined {
    return undefined;
  }
  announce(): void {
    // News are hints; nothing here depends on them.
  }
  connected(): readonly NodeId[] {
    return [...this.peers.keys()];
  }
  join(other: Wire): void {
    this.peers.set(other.self, other);
    other.peers.set(this.self, this);
    this.onPeer(other.self, true);
    other.onPeer(this.self, true);
  }
  cut(other: Wire): void {
    this.peers.delete(other.self);
    other.peers.delete(this.self);
    this.onPeer(other.self, false);
    other.onPeer(this.self, false);
  }
}

export interface NodeOptions {
  readonly autoJoin?: boolean;
  readonly inStatefulSet?: boolean;
  readonly versions?: Versions;
  /** NODE_NAME, when it is not the node's own. */
  readonly name?: string;
  /** Without a secret: a federation of one. */
  readonly single?: boolean;
  readonly clockAheadMs?: number;
}

export class TestNode {
  readonly id: NodeId;
  readonly store: Store;
  readonly system: StepSystem;
  readonly wire: Wire;
  readonly engine: Engine;
  readonly router: Router;
  readonly joining: Joining;
  readonly member: MemberFields;
  readonly logged: string[] = [];
  #calls = 0;

  constructor(name: string, store: Store, system: StepSystem, options: NodeOptions) {
    this.id = `node-of-${name}` as NodeId;
    this.store = store;
    this.system = system;
    this.wire = new Wire(this.id);
    this.member = { node: this.id, name: options.name ?? name, incarnation: store.incarnation, zone: "", weight: 1 };
    const meter = { count: () => undefined, observe: () => undefined };
    const line = (_facts: object, message: string): void => void this.logged.push(message);
    const log: Log = { debug: line, info: line, warn: line, error: line };
    const keyring = options.single === true ? undefined : createKeyring(["a secret of engines in memory"]);
    this.engine = new Engine({
      store,
      federation: keyring === undefined ? undefined : { network: this.wire, keyring },
      node: this.id,
      index: INDEX,
      system,
      meter,
      log,
      ...(options.versions !== undefined && { versions: options.versions }),
      settings: {
        name: this.member.name,
        zone: "",
        weight: 1,
        firstMembers: [],
        layout: LAYOUT,
        consistency: "quorum",
        syncIntervalMs: 5000,
        strictStart: false,
        logRetentionMs: 1e12,
        collectPaceMs: 1e9,
      },
      onFatal: (error) => {
        throw error;
      },
      onCopy: (reason) => {
        throw new Error(reason);
      },
    });
    this.router = createRouter({
      engine: this.engine,
      operations: { ...layoutOperations, ...revocationOperations },
      index: INDEX,
      meter,
      self: this.id,
      keyring,
      accepts: acceptsArguments,
      latencyMs: () => undefined,
    });
    this.joining = new Joining({
      engine: this.engine,
      router: this.router,
      member: () => this.member,
      autoJoin: options.autoJoin ?? false,
      inStatefulSet: options.inStatefulSet ?? false,
      log,
    });
  }

  /** As an operator's or a joining node's request comes in. */
  run<T>(operation: string, args: unknown, call: Partial<Call> = {}): Promise<Outcome<T>> {
    return this.router.run<T>(operation, args, {
      tenant: SYSTEM_TENANT,
      level: "quorum",
      key: `${this.id}/${++this.#calls}`,
      token: undefined,
      requestId: "test",
      deadline: this.system.monotonic() + 5000,
      ...call,
    });
  }
}

const INDEX: GraphIndex = { rows: () => [], committed: () => undefined, ready: async () => undefined, dropped: () => undefined };

type Database = MemoryLevel<string, Uint8Array>;

/** All nodes of one test. */
export class Engines {
  readonly nodes = new Map<string, TestNode>();
  readonly #disks = new Map<string, Database>();
  #made = 0;

  /** The members of one layout, connected, and others that are in none. */
  static async of(
    members: readonly string[],
    others: Readonly<Record<string, NodeOptions>> = {},
    options: Readonly<Record<string, NodeOptions>> = {},
  ) {
    const engines = new Engines();
    for (const name of members) await engines.#make(name, options[name] ?? {});
    const listed = members.map((name) => engines.at(name).member);
    for (const [name, more] of Object.entries(others)) await engines.#make(name, more);
    for (const name of members) await engines.at(name).store.putLayout(1, encodeLayout(layoutOf({ ...LAYOUT, members: listed })), WALL);
    for (const { engine, joining } of engines.nodes.values()) {
      await engine.start();
      joining.start();
    }
    return engines;
  }

  async #make(name: string, options: NodeOptions, disk?: Database): Promise<void> {
    const db = disk ?? new MemoryLevel<string, Uint8Array>({ storeEncoding: "view", keyEncoding: "utf8", valueEncoding: "view" });
    await db.open();
    this.#disks.set(name, db);
    const system = new StepSystem(++this.#made, options.clockAheadMs);
    const store = await Store.open(db as unknown as Level, INDEX, (length) => system.randomBytes(length));
    this.nodes.set(name, new TestNode(name, store, system, options));
  }

  at(name: string): TestNode {
    return this.nodes.get(name) as TestNode;
  }

  connect(one: string, other: string): void {
    this.at(one).wire.join(this.at(other).wire);
  }
  connectAll(): void {
    const names = [...this.nodes.keys()];
    for (const [at, one] of names.entries()) for (const other of names.slice(at + 1)) this.connect(one, other);
  }

  /** The node's disk is another one, empty: the same identity, a new incarnation. */
  loseDisk(name: string, options: NodeOptions = {}): Promise<void> {
    return this.#again(name, () => this.#make(name, options));
  }

  /** The program starts again on the same disk, and speaks all that it knows. */
  upgrade(name: string): Promise<void> {
    const db = this.#disks.get(name);
    return this.#again(name, () => this.#make(name, {}, db));
  }

  async #again(name: string, make: () => Promise<void>): Promise<void> {
    const peers = [...this.at(name).wire.peers.values()];
    for (const other of peers) this.at(name).wire.cut(other);
    await this.#stop(this.at(name));
    await make();
    await this.at(name).engine.start();
    this.at(name).joining.start();
    for (const other of peers) this.at(name).wire.join(other);
  }

  /** @returns whether it came to be so within the time */
  async pass(ms: number, until: () => boolean = () => false): Promise<boolean> {
    await settled();
    for (let passed = 0; passed < ms; passed += STEP_MS) {
      if (until()) return true;
      for (const { system } of this.nodes.values()) system.step(STEP_MS);
      await settled();
    }
    return until();
  }

  /** Lets time pass until a request is answered. */
  async answer<T>(request: Promise<T>): Promise<T> {
    let open = true;
    const end = (): void => {
      open = false;
    };
    request.then(end, end);
    await this.pass(20_000, () => !open);
    return await request;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.nodes.values()].map((node) => this.#stop(node)));
  }

  async #stop({ engine, joining }: TestNode): Promise<void> {
    joining.stop();
    await this.answer(engine.stop());
  }
}
