/** Real nets on loopback with free ports, and everything they said, kept for the tests to look at. */
import { type AddressInfo, createServer } from "node:net";
import { createKeyring } from "../../crypto/keyring.ts";
import { createNet, type Net, type NetOptions } from "../../node/net/net.ts";
import type { Log } from "../../node/ports.ts";
import { system } from "../../node/system.ts";
import type { NodeId } from "../../protocol/ids.ts";

export const SECRET = "alice bob and carol share this";

export interface TestNet {
  readonly net: Net;
  readonly frames: { from: NodeId; frame: Uint8Array }[];
  readonly news: { from: NodeId; news: Uint8Array }[];
  readonly peers: { peer: NodeId; connected: boolean }[];
  readonly lines: { level: string; facts: Record<string, unknown>; message: string }[];
  /** `${name}:${label}` -> sum. */
  readonly counts: Map<string, number>;
  book: Record<string, readonly string[]>;
  port(): number;
  address(): string;
}

export interface TestNetOptions extends Partial<NetOptions> {
  readonly secrets?: readonly string[];
  /** Where the node key is derived from: the same seed is the same identity. */
  readonly seed?: number;
  /** How much faster the node's clock and timers run, so that ten of its seconds are a few of ours. Nodes that meet need the same. */
  readonly speed?: number;
}

let seeds = 0;
const running = new Set<Net>();

export async function testNet(options: TestNetOptions = {}): Promise<TestNet> {
  const { secrets = [SECRET], seed = ++seeds + 100, speed = 1, ...more } = options;
  const made: Omit<TestNet, "net"> = {
    frames: [],
    news: [],
    peers: [],
    lines: [],
    counts: new Map(),
    book: {},
    port: () => Number(/\/tcp\/(\d+)/.exec(net.listenAddresses()[0]!)![1]),
    address: () => `127.0.0.1:${made.port()}`,
  };
  const line = (level: string) => (facts: object, message: string) =>
    void made.lines.push({ level, facts: facts as Record<string, unknown>, message });
  const log: Log = { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") };
  const count = (name: string, value = 1, label = "") => void made.counts.set(`${name}:${label}`, (made.counts.get(`${name}:${label}`) ?? 0) + value);
  const net = await createNet({
    nodeKey: nodeKey(seed),
    keyring: createKeyring(secrets),
    host: "127.0.0.1",
    federationPort: 0,
    gossipPort: 0,
    advertise: [],
    peers: [],
    log,
    meter: { count, observe: () => {} },
    system: { ...system, monotonic: () => speed * system.monotonic(), after: (ms, run) => system.after(ms / speed, run) },
    health: (path) => ({ status: path === "/health" ? 200 : 503, body: { path } }),
    loadAddresses: () => ({}),
    saveAddresses: (book) => {
      made.book = book;
    },
    isMember: () => false,
    isRevoked: () => false,
    fanout: 6,
    ...more,
  });
  net.onFrame = (from, frame) => void made.frames.push({ from, frame });
  net.onNews = (from, news) => void made.news.push({ from, news });
  net.onPeer = (peer, connected) => void made.peers.push({ peer, connected });
  await net.start();
  running.add(net);
  return Object.assign(made, { net });
}

/** One that nobody listens on just now. */
export async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export function nodeKey(seed: number): Uint8Array {
  const key = new Uint8Array(32);
  new DataView(key.buffer).setUint32(28, seed);
  return key;
}

export async function stopNet(node: TestNet): Promise<void> {
  running.delete(node.net);
  await node.net.stop();
}

export async function stopAll(): Promise<void> {
  await Promise.all([...running].map((net) => net.stop()));
  running.clear();
}

/** Resolves once `condition` holds. @throws Error after `ms` */
export async function until(condition: () => boolean, what: string, ms = 30_000): Promise<void> {
  const end = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`waited ${ms} ms for: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export const joined = (a: TestNet, b: TestNet): boolean => a.net.connected().includes(b.net.self) && b.net.connected().includes(a.net.self);
