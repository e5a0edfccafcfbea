/**
 * The network between nodes: every connection to a node goes through here, and each direction between two nodes has its own weather. Bytes are held, never
 * lost, as TCP does under a cut: a connection that survives it goes on where it stopped, an end that was closed meanwhile is closed on the other side when
 * the cut heals. Each direction of a connection is a queue of at most `QUEUE_MAX_BYTES`; behind it the sender feels the back-pressure.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import type { Rng } from "../sim/rng.ts";

/** What happens to bytes from one node to another. */
export interface Weather {
  /** Nothing arrives until it is false again. */
  cut: boolean;
  delayMs: number;
  /** Added to the delay, uniformly drawn from [0, jitterMs); the order stays. */
  jitterMs: number;
  /** 0: as fast as it goes. */
  bytesPerSecond: number;
  /** One bit is flipped in about each so many bytes; 0: none. */
  flipEveryBytes: number;
}

export interface ProxiedNode {
  readonly name: string;
  /** Where the node listens, and whence it dials: by this callers are told apart. */
  readonly host: string;
  /** Where it says it listens: here. Connections made for it come from this address, so what others observe of it leads back here. */
  readonly outside: string;
  readonly ports: readonly number[];
}

const QUEUE_MAX_BYTES = 256 * 1024;
/** A slow link gets its share this often. */
const SHARE_MS = 50;
const CLEAR: Readonly<Weather> = { cut: false, delayMs: 0, jitterMs: 0, bytesPerSecond: 0, flipEveryBytes: 0 };

export class FaultProxy {
  /** Connections carried and refused (the caller was no node of ours), bytes carried, bits flipped. */
  readonly counts = { connections: 0, strangers: 0, bytes: 0, flips: 0 };
  readonly #nodes: readonly ProxiedNode[];
  readonly #rng: Rng;
  readonly #links = new Map<string, Link>();
  readonly #made = new Map<string, number>();
  readonly #servers: Server[] = [];
  readonly #connections = new Set<Connection>();

  constructor(nodes: readonly ProxiedNode[], rng: Rng) {
    this.#nodes = nodes;
    this.#rng = rng;
  }

  async start(): Promise<void> {
    for (const node of this.#nodes) {
      for (const port of node.ports) {
        const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => this.#accept(socket, node, port));
        await new Promise<void>((done, failed) => server.once("error", failed).listen({ host: node.outside, port }, done));
        this.#servers.push(server);
      }
    }
  }

  async stop(): Promise<void> {
    for (const connection of this.#connections) connection.destroy();
    await Promise.all(this.#servers.map((server) => new Promise((done) => server.close(done))));
  }

  /** Changes the weather from one node to another; what is not named stays as it is. */
  set(from: string, to: string, weather: Partial<Weather>): void {
    const link = this.#link(from, to);
    Object.assign(link.weather, weather);
    for (const changed of [...link.listeners]) changed();
  }

  /** Both ways. */
  cut(a: string, b: string): void {
    this.set(a, b, { cut: true });
    this.set(b, a, { cut: true });
  }

  mend(a: string, b: string): void {
    this.set(a, b, { cut: false });
    this.set(b, a, { cut: false });
  }

  /** Cuts a node off from all others. */
  isolate(name: string): void {
    for (const other of this.#nodes) if (other.name !== name) this.cut(name, other.name);
  }

  /** To and from a node. */
  around(name: string, weather: Partial<Weather>): void {
    for (const other of this.#nodes) {
      if (other.name === name) continue;
      this.set(name, other.name, weather);
      this.set(other.name, name, weather);
    }
  }

  /** Fair weather everywhere. */
  clear(): void {
    for (const key of this.#links.keys()) this.set(...(key.split(" ") as [string, string]), CLEAR);
  }

  /** Ends every connection between two nodes at once, as a rebooting router does. */
  reset(a: string, b: string): void {
    for (const connection of [...this.#connections]) if (connection.isBetween(a, b)) connection.destroy();
  }

  /** Connections that were ever made between two nodes, on both ports. */
  made(a: string, b: string): number {
    return (this.#made.get(`${a} ${b}`) ?? 0) + (this.#made.get(`${b} ${a}`) ?? 0);
  }

  #link(from: string, to: string): Link {
    const key = `${from} ${to}`;
    const known = this.#links.get(key);
    if (known !== undefined) return known;
    const link: Link = { weather: { ...CLEAR }, listeners: new Set() };
    this.#links.set(key, link);
    return link;
  }

  #accept(socket: Socket, to: ProxiedNode, port: number): void {
    socket.on("error", () => undefined); // its close tells
    const caller = this.#nodes.find(({ host }) => host === socket.remoteAddress);
    if (caller === undefined || caller === to) {
      this.counts.strangers++;
      socket.destroy();
      return;
    }
    this.counts.connections++;
    const way = `${caller.name} ${to.name}`;
    this.#made.set(way, (this.#made.get(way) ?? 0) + 1);
    const forth = this.#link(caller.name, to.name);
    const back = this.#link(to.name, caller.name);
    const connection = new Connection(socket, caller, to, port, forth, back, this.#rng, this.counts);
    this.#connections.add(connection);
    connection.onEnd = () => this.#connections.delete(connection);
  }
}

interface Link {
  readonly weather: Weather;
  readonly listeners: Set<() => void>;
}

/** One connection of a node to another. While a way is cut, a new one is accepted (the kernel did that) and leads nowhere. */
class Connection {
  onEnd: () => void = () => undefined;
  readonly #names: readonly [string, string];
  readonly #pipes: Pipe[] = [];
  readonly #sockets: Socket[];
  readonly #links: readonly [Link, Link];
  readonly #connectWhenOpen: () => void;

  constructor(
    inbound: Socket,
    from: ProxiedNode,
    to: ProxiedNode,
    port: number,
    forth: Link,
    back: Link,
    rng: Rng,
    counts: { bytes: number; flips: number },
  ) {
    this.#names = [from.name, to.name];
    this.#sockets = [inbound];
    this.#links = [forth, back];
    inbound.once("close", () => this.#closed());
    this.#connectWhenOpen = () => {
      if (forth.weather.cut || back.weather.cut || this.#sockets.length > 1 || inbound.destroyed) return;
      const outbound = connect({ host: to.host, port, localAddress: from.outside, allowHalfOpen: true });
      outbound.on("error", () => undefined);
      outbound.once("close", () => this.#closed());
      this.#sockets.push(outbound);
      this.#pipes.push(new Pipe(inbound, outbound, forth, rng, counts), new Pipe(outbound, inbound, back, rng, counts));
    };
    for (const link of this.#links) link.listeners.add(this.#connectWhenOpen);
    this.#connectWhenOpen();
  }

  isBetween(a: string, b: string): boolean {
    return this.#names.includes(a) && this.#names.includes(b);
  }

  destroy(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
    this.#closed();
  }

  #closed(): void {
    if (this.#sockets.some((socket) => !socket.destroyed)) return;
    for (const link of this.#links) link.listeners.delete(this.#connectWhenOpen);
    for (const pipe of this.#pipes) pipe.stop();
    this.onEnd();
  }
}

/** One direction. Reads as fast as its queue allows, gives on what is due. */
class Pipe {
  readonly #source: Socket;
  readonly #sink: Socket;
  readonly #link: Link;
  readonly #rng: Rng;
  readonly #counts: { bytes: number; flips: number };
  #queue: { readonly at: number; bytes: Buffer }[] = [];
  #queuedBytes = 0;
  #lastAt = 0;
  /** How the source ended: after what is queued so does the sink. */
  #end: "sent all" | "closed" | "broken" | undefined;
  #timer: NodeJS.Timeout | undefined;
  #draining = false;
  #credit = 0;
  #creditAt = 0;
  #untilFlip = 0;
  readonly #pump = (): void => this.#forward();

  constructor(source: Socket, sink: Socket, link: Link, rng: Rng, counts: { bytes: number; flips: number }) {
    this.#source = source;
    this.#sink = sink;
    this.#link = link;
    this.#rng = rng;
    this.#counts = counts;
    link.listeners.add(this.#pump);
    source.on("data", (bytes: Buffer) => this.#received(bytes));
    source.once("end", () => this.#ended("sent all"));
    source.once("close", () => this.#ended(this.#end === undefined ? "broken" : "closed"));
    sink.on("drain", () => {
      this.#draining = false;
      this.#forward();
    });
    source.resume();
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#link.listeners.delete(this.#pump);
  }

  #received(bytes: Buffer): void {
    const { delayMs, jitterMs } = this.#link.weather;
    this.#lastAt = Math.max(this.#lastAt, performance.now() + delayMs + this.#rng.float() * jitterMs);
    this.#queue.push({ at: this.#lastAt, bytes });
    this.#queuedBytes += bytes.length;
    if (this.#queuedBytes > QUEUE_MAX_BYTES) this.#source.pause();
    this.#forward();
  }

  #ended(how: "sent all" | "closed" | "broken"): void {
    this.#end = how;
    this.#forward();
  }

  #forward(): void {
    clearTimeout(this.#timer);
    const { weather } = this.#link;
    while (!weather.cut && !this.#draining) {
      const first = this.#queue[0];
      if (first === undefined) break;
      const now = performance.now();
      if (first.at > now) {
        this.#again(first.at - now);
        return;
      }
      const length = weather.bytesPerSecond === 0 ? first.bytes.length : Math.min(first.bytes.length, this.#share(now, weather.bytesPerSecond));
      if (length === 0) {
        this.#again(Math.max(SHARE_MS, 1000 / weather.bytesPerSecond));
        return;
      }
      this.#give(first.bytes.subarray(0, length));
      if (length === first.bytes.length) this.#queue.shift();
      else first.bytes = first.bytes.subarray(length);
      this.#queuedBytes -= length;
      if (this.#queuedBytes <= QUEUE_MAX_BYTES / 2 && this.#end === undefined) this.#source.resume();
    }
    if (weather.cut || this.#queue.length > 0 || this.#end === undefined) return;
    if (this.#end === "sent all") this.#sink.end();
    else if (this.#end === "closed") this.#sink.destroySoon();
    else this.#sink.resetAndDestroy();
  }

  /** Whole bytes that may go now. What was not used for a second is forgotten. */
  #share(now: number, perSecond: number): number {
    this.#credit = Math.min(Math.max(1, perSecond), this.#credit + ((now - Math.max(this.#creditAt, now - 1000)) * perSecond) / 1000);
    this.#creditAt = now;
    const whole = Math.floor(this.#credit);
    this.#credit -= whole;
    return whole;
  }

  #give(bytes: Buffer): void {
    if (this.#sink.destroyed) return;
    this.#counts.bytes += bytes.length;
    const { flipEveryBytes } = this.#link.weather;
    if (flipEveryBytes > 0) this.#flip(bytes, flipEveryBytes);
    this.#draining = !this.#sink.write(bytes);
  }

  #flip(bytes: Buffer, every: number): void {
    if (this.#untilFlip === 0) this.#untilFlip = 1 + this.#rng.int(2 * every);
    for (; this.#untilFlip <= bytes.length; this.#untilFlip += 1 + this.#rng.int(2 * every)) {
      bytes[this.#untilFlip - 1]! ^= 1 << this.#rng.int(8);
      this.#counts.flips++;
    }
    this.#untilFlip -= bytes.length;
  }

  #again(ms: number): void {
    this.#timer = setTimeout(this.#pump, Math.ceil(ms));
  }
}
