/**
 * Real nodes that reach each other only through the fault proxy. Each listens on a loopback address of its own, 127.A.1.K, dials from it, and advertises
 * 127.A.2.K, where the proxy stands; peers are configured, advertised and observed (the proxy dials from the caller's outside address) under outside
 * addresses only. That nothing goes around the proxy is looked up in the kernel's socket table, not believed: `bypasses`.
 */
import { randomBytes } from "node:crypto";
import { cpSync, mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FederationStatus } from "../../node/status.ts";
import { ask } from "../e2e/ask.ts";
import { eventually, NodeProcess, type NodeProcessOptions, waitReady } from "../e2e/federation.ts";
import type { Rng } from "../sim/rng.ts";
import { BrokenDisk } from "./broken-disk.ts";
import { CLOCK_FILE, CLOCK_PRELOAD, type Clock, writeClock } from "./clock.ts";
import { compileCache } from "./compile-cache.ts";
import { FaultProxy, type ProxiedNode } from "./fault-proxy.ts";
import { VERSIONS_PRELOAD } from "./old-version.ts";
import { callersOf, type Endpoint } from "./sockets.ts";
import { SOURCE_ADDRESS, SOURCE_PRELOAD } from "./source-address.ts";

export interface ProxiedOptions {
  readonly nodes: number;
  readonly rng: Rng;
  readonly env?: Readonly<Record<string, string>>;
  /** Of one node more than of the others; by its number from 0. */
  readonly envOf?: (index: number) => Readonly<Record<string, string>>;
  /** How many of the nodes, from the first, form layout 1. Default: all; the others are gateways until somebody adds them. */
  readonly firstMembers?: number;
  /** Nothing is started yet and nothing waited for. */
  readonly unready?: boolean;
  /** Before a node's process is started for the first time. */
  readonly prepare?: (name: string, dataDir: string) => void;
  /** Once all processes have ended. */
  readonly cleanUp?: () => void;
  /** Whether `setClock` is wanted. */
  readonly clocks?: boolean;
  /** Whether a node's environment may say which protocol versions its program knows (old-version.ts). */
  readonly versions?: boolean;
  /** Whether the nodes' disks take orders (`disk`). */
  readonly brokenDisks?: boolean;
  /** Outside addresses kept for processes that come later (`add`). */
  readonly spare?: number;
  /** Kept afterwards. Default: a temporary folder, removed by `stop` unless `keep` was set. */
  readonly dataDir?: string;
}

/** For anything that must come about by itself: on a machine with ten times the work of its processors a node takes a minute to start. */
export const PATIENCE_MS = 120_000;

/** A process with its place on the network, its own clock and its own disk. */
export class FaultyNode extends NodeProcess {
  readonly place: ProxiedNode;
  #paused = false;
  #mayEnd = true;
  readonly #clockFile: string | undefined;
  readonly #disk: BrokenDisk | undefined;
  readonly #onDeath: (how: string) => void;

  /** @param onDeath told when the process ends and nobody had `expectDeath` of it, killed it or stopped it */
  constructor(
    options: NodeProcessOptions,
    place: ProxiedNode,
    clockFile: string | undefined,
    disk: BrokenDisk | undefined,
    onDeath: (how: string) => void,
  ) {
    super({ ...options, host: place.host });
    this.place = place;
    this.#clockFile = clockFile;
    this.#disk = disk;
    this.#onDeath = onDeath;
  }

  get disk(): BrokenDisk {
    if (this.#disk === undefined) throw new Error("ask the federation for brokenDisks");
    return this.#disk;
  }

  get running(): boolean {
    return this.pid !== undefined;
  }
  get paused(): boolean {
    return this.#paused && this.running;
  }

  pause(): void {
    this.#signal("SIGSTOP");
    this.#paused = true;
  }

  resume(): void {
    this.#signal("SIGCONT");
    this.#paused = false;
  }

  /** Where its LevelDB lies; its identity lies beside it. */
  get storeDir(): string {
    return join(this.dataDir, "store");
  }

  /** The process must not run: its store is gone, its identity is not. */
  loseStore(): void {
    rmSync(this.storeDir, { recursive: true });
  }

  /** The process must not run. @returns where the copy lies */
  copyStore(name: string): string {
    const copy = `${this.dataDir}.${name}`;
    cpSync(this.storeDir, copy, { recursive: true });
    return copy;
  }

  /** The process must not run: its store is the copy from now on. */
  restoreStore(copy: string): void {
    this.loseStore();
    cpSync(copy, this.storeDir, { recursive: true });
  }

  /** What the process takes for the time of day from now on (within 50 ms). */
  setClock(clock: Clock): void {
    if (this.#clockFile === undefined) throw new Error("ask the federation for clocks");
    writeClock(this.#clockFile, clock);
  }

  override start(): void {
    this.#paused = false;
    this.#mayEnd = false;
    super.start();
  }

  override kill(signal: NodeJS.Signals): Promise<void> {
    this.#mayEnd = true;
    return super.kill(signal);
  }

  override stop(): Promise<number | null> {
    this.#mayEnd = true;
    return super.stop();
  }

  /** From now until its next start it may end by itself. */
  mayEnd(): void {
    this.#mayEnd = true;
  }

  /** Resolves once the process has ended by itself. @throws Error when it has not within `ms` */
  async expectDeath(ms = PATIENCE_MS): Promise<void> {
    this.mayEnd();
    await eventually(`${this.name} ends`, ms, async () => !this.running || undefined);
  }

  protected override ended(how: string): void {
    super.ended(how);
    if (!this.#mayEnd) this.#onDeath(how);
  }

  async status(fingerprints = false): Promise<FederationStatus> {
    return (await ask<FederationStatus>(this.url, "GET", `/v1/federation${fingerprints ? "?fingerprints=true" : ""}`, { timeoutMs: 5_000 })).body;
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.pid !== undefined) process.kill(this.pid, signal);
  }
}

export class ProxiedFederation {
  readonly nodes: FaultyNode[] = [];
  readonly proxy: FaultProxy;
  readonly dataDir: string;
  readonly secret: string;
  readonly #options: ProxiedOptions;
  readonly #places: readonly ProxiedNode[];
  readonly #port: number;
  readonly #temporary: boolean;
  readonly #added: FaultyNode[] = [];
  /** Processes that ended and should not have. */
  readonly deaths: string[] = [];
  /** Set when the folder is to be looked at afterwards. */
  keep = false;

  private constructor(options: ProxiedOptions, places: readonly ProxiedNode[], port: number) {
    this.#options = options;
    this.#places = places;
    this.#port = port;
    this.#temporary = options.dataDir === undefined;
    this.dataDir = options.dataDir ?? mkdtempSync(join(tmpdir(), "continuum-faults-"));
    mkdirSync(this.dataDir, { recursive: true });
    this.secret = randomBytes(32).toString("base64url");
    this.proxy = new FaultProxy(places, options.rng.fork("proxy"));
  }

  /** Started and formed, every node ready. */
  static async start(options: ProxiedOptions): Promise<ProxiedFederation> {
    const { places, port } = await freePlaces(options.nodes + (options.spare ?? 0));
    const federation = new ProxiedFederation(options, places, port);
    await federation.proxy.start();
    try {
      for (let index = 0; index < options.nodes; index++) federation.nodes.push(federation.#node(index));
      if (options.unready === true) return federation;
      for (const node of federation.nodes) node.start();
      await federation.ready();
    } catch (error) {
      await federation.stop();
      throw error;
    }
    return federation;
  }

  get urls(): string[] {
    return this.nodes.map(({ url }) => url);
  }

  /** Those that were added later too. */
  get all(): FaultyNode[] {
    return [...this.nodes, ...this.#added];
  }

  /** Every running node is formed and ready. @throws Error with the end of its log */
  ready(ms = PATIENCE_MS, nodes: readonly FaultyNode[] = this.nodes): Promise<void> {
    return waitReady(nodes, ms);
  }

  node(name: string): FaultyNode {
    const found = this.all.find((node) => node.name === name);
    if (found === undefined) throw new Error(`no node ${name}`);
    return found;
  }

  /** A further process at a spare place, not started; it knows the secret and all outside addresses. It is no part of `nodes`. @param name as the others know it */
  add(name: string, dataDir: string): FaultyNode {
    const place = this.#places[this.nodes.length + this.#added.length];
    if (place === undefined) throw new Error("no spare place: ask for more");
    const node = this.#process(name, dataDir, { ...this.#envAt(place), ...this.#options.env }, place);
    this.#added.push(node);
    return node;
  }

  /** Connections between nodes that did not come through the proxy, as "from -> to". */
  bypasses(): string[] {
    const listening: Endpoint[] = this.#places.flatMap(({ host, ports }) => ports.map((port) => ({ host, port })));
    const outside = new Set(this.#places.map((place) => place.outside));
    return callersOf(listening)
      .filter(({ from }) => !outside.has(from.host))
      .map(({ from, to }) => `${from.host}:${from.port} -> ${to.host}:${to.port}`);
  }

  logs(): string {
    return this.all.map((node) => node.logTail()).join("\n");
  }

  async stop(): Promise<(number | null)[]> {
    const codes = await Promise.all(this.all.map((node) => node.stop()));
    await this.proxy.stop();
    return codes;
  }

  /** After `stop`, and after whoever wanted to see the disks has seen them. */
  remove(): void {
    this.#options.cleanUp?.();
    if (this.#temporary && !this.keep) rmSync(this.dataDir, { recursive: true, force: true });
  }

  #node(index: number): FaultyNode {
    const place = this.#places[index]!;
    const dataDir = join(this.dataDir, place.name);
    this.#options.prepare?.(place.name, dataDir);
    const env = { ...this.#envAt(place), ...this.#options.env, ...this.#options.envOf?.(index) };
    return this.#process(place.name, dataDir, env, place);
  }

  #process(name: string, dataDir: string, env: Readonly<Record<string, string>>, place: ProxiedNode): FaultyNode {
    const disk = this.#options.brokenDisks === true ? new BrokenDisk(dataDir) : undefined;
    const clock = this.#options.clocks === true ? `${dataDir}.clock` : undefined;
    if (clock !== undefined) writeClock(clock, {});
    const all = { ...compileCache(), ...env, [SOURCE_ADDRESS]: place.host, ...disk?.env, ...(clock === undefined ? {} : { [CLOCK_FILE]: clock }) };
    const flags = [...SOURCE_PRELOAD, ...(clock === undefined ? [] : CLOCK_PRELOAD), ...(this.#options.versions === true ? VERSIONS_PRELOAD : [])];
    const options = { name, port: this.#port, dataDir, env: all, flags };
    return new FaultyNode(options, place, clock, disk, (how) => this.deaths.push(`${name} ended by itself: ${how}`));
  }

  #envAt(place: ProxiedNode): Record<string, string> {
    const known = this.#places.slice(0, this.#options.nodes);
    const members = known.slice(0, this.#options.firstMembers);
    return {
      FEDERATION_SECRET: this.secret,
      FEDERATION_FIRST_MEMBERS: members.includes(place) || !known.includes(place) ? members.map(({ name }) => name).join(",") : "",
      FEDERATION_ADVERTISE: place.outside,
      FEDERATION_PEERS: known.flatMap((other) => (other === place ? [] : [`${other.outside}:${this.#port + 1}`])).join(","),
    };
  }
}

/** Addresses and three ports in a row that are free on all of them, below the range from which the system gives ports to clients. */
async function freePlaces(count: number): Promise<{ places: ProxiedNode[]; port: number }> {
  for (let attempt = 0; attempt < 50; attempt++) {
    const net = 1 + Math.floor(Math.random() * 250);
    const port = 20_000 + Math.floor(Math.random() * 1000) * 10;
    const places = Array.from({ length: count }, (_, index) => ({
      name: `node-${index + 1}`,
      host: `127.${net}.1.${index + 1}`,
      outside: `127.${net}.2.${index + 1}`,
      ports: [port + 1, port + 2],
    }));
    const wanted = places.flatMap(({ host, outside, ports }) => [
      [host, port] as const,
      ...ports.flatMap((one) => [[host, one] as const, [outside, one] as const]),
    ]);
    if ((await Promise.all(wanted.map(([host, one]) => isFree(host, one)))).every(Boolean)) return { places, port };
  }
  throw new Error("no loopback addresses like 127.9.1.1 can be listened on: this needs Linux");
}

function isFree(host: string, port: number): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer();
    server.once("error", () => done(false));
    server.listen({ port, host, exclusive: true }, () => server.close(() => done(true)));
  });
}
