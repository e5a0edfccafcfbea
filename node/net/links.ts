/**
 * One link a peer: two framed streams, each written by one side only. Each side opens the stream it sends on, so nobody has to agree on who
 * opens; when both dial at once there are two connections and still one stream each way, and the order of frames is that of one stream.
 * A link is up when our stream is open and the peer's hello has arrived on its own. It goes down when either ends.
 */
import type { Connection, Libp2p, PeerId, Stream } from "@libp2p/interface";
import type { NodeId } from "../../protocol/ids.ts";
import { FRAME_MAX_BYTES } from "../../protocol/limits.ts";
import type { Log, Meter, System } from "../ports.ts";
import { NetError } from "./errors.ts";
import { FRAME_KIND, type FrameKind, FrameReader, FrameWriter } from "./frames.ts";
import { decodeHello, encodeHello, HELLO_MAX_BYTES, type Hello } from "./hello.ts";

export const FEDERATION_PROTOCOL = "/continuum/federation/1";

/** Between pings. */
const PING_MS = 2_000;
/** A peer that was silent for this many pings in a row is gone; one miss is weather. */
const MISSES_MAX = 3;
/** Without a pong for so many pings a peer is gone although it still sends: ours do not arrive. */
const PONGS_MISSED_MAX = 15;
const STREAM_OPEN_MS = 5_000;
/** Connected so long without becoming a link: start again. */
const HALF_OPEN_MS = 10_000;
/** A connection that carries no stream of ours after this long is a spare of a dial from both sides. */
const SPARE_MS = 10_000;
const SMOOTHING = 0.25;

export interface LinksOptions {
  readonly host: Libp2p;
  readonly self: NodeId;
  readonly hello: () => Hello;
  readonly maxQueueBytes: number;
  readonly log: Log;
  readonly meter: Meter;
  readonly system: System;
  readonly onFrame: (from: NodeId, frame: Uint8Array) => void;
  readonly onPeer: (peer: NodeId, connected: boolean) => void;
  readonly onHello: (peer: NodeId, hello: Hello, connection: Connection) => void;
}

interface Outbound {
  readonly stream: Stream;
  readonly connection: Connection;
  readonly writer: FrameWriter;
}

interface Inbound {
  readonly stream: Stream;
  readonly connection: Connection;
  hello: Hello | undefined;
}

interface Link {
  readonly peer: NodeId;
  readonly peerId: PeerId;
  outbound: Outbound | undefined;
  inbound: Inbound | undefined;
  opening: boolean;
  up: boolean;
  /** Frames that arrived before our own stream was open. */
  held: Uint8Array[];
  heldBytes: number;
  heard: boolean;
  misses: number;
  pongsMissed: number;
  pingNumber: number;
  pingSentAt: number;
  latencyMs: number | undefined;
  /** Monotonic ms since when there is a connection but no link. */
  halfOpenSince: number;
}

export class Links {
  readonly #options: LinksOptions;
  readonly #links = new Map<NodeId, Link>();
  #cancelTick: (() => void) | undefined;
  #stopped = false;

  constructor(options: LinksOptions) {
    this.#options = options;
  }

  async start(): Promise<void> {
    const { host, system } = this.#options;
    await host.handle(FEDERATION_PROTOCOL, (stream, connection) => this.#accept(stream, connection), { maxInboundStreams: 4, maxOutboundStreams: 4 });
    host.addEventListener("connection:open", (event) => this.#connectionOpened(event.detail));
    const tick = () => {
      for (const link of this.#links.values()) this.#tick(link);
      this.#cancelTick = system.after(PING_MS * (0.9 + 0.2 * system.random()), tick);
    };
    this.#cancelTick = system.after(PING_MS, tick);
  }

  stop(): void {
    this.#stopped = true;
    this.#cancelTick?.();
    for (const link of this.#links.values()) {
      link.outbound?.writer.close();
      this.#settle(link);
    }
  }

  isUp(peer: NodeId): boolean {
    return this.#links.get(peer)?.up ?? false;
  }

  up(): NodeId[] {
    return [...this.#links.values()].filter((link) => link.up).map((link) => link.peer);
  }

  latencyMs(peer: NodeId): number | undefined {
    return this.#links.get(peer)?.latencyMs;
  }

  send(peer: NodeId, frame: Uint8Array): boolean {
    const link = this.#links.get(peer);
    if (frame.length > FRAME_MAX_BYTES) return this.#drop("too_large");
    if (link === undefined || !link.up || link.outbound === undefined) return this.#drop("not_connected");
    return link.outbound.writer.push(FRAME_KIND.data, frame) || this.#drop("queue_full");
  }

  #drop(reason: string): false {
    this.#options.meter.count("frame_dropped", 1, reason);
    return false;
  }

  #linkOf(connection: Connection): Link {
    const peer = connection.remotePeer.toString() as NodeId;
    const known = this.#links.get(peer);
    if (known !== undefined) return known;
    const link: Link = {
      peer,
      peerId: connection.remotePeer,
      outbound: undefined,
      inbound: undefined,
      opening: false,
      up: false,
      held: [],
      heldBytes: 0,
      heard: false,
      misses: 0,
      pongsMissed: 0,
      pingNumber: 0,
      pingSentAt: 0,
      latencyMs: undefined,
      halfOpenSince: this.#options.system.monotonic(),
    };
    this.#links.set(peer, link);
    return link;
  }

  #connectionOpened(connection: Connection): void {
    if (!this.#stopped) void this.#open(this.#linkOf(connection));
  }

  // Our stream: the one we send on.

  /** Opens our stream over the best connection there is, and again until it is open or no connection is left. Never throws. */
  async #open(link: Link): Promise<void> {
    if (link.opening || link.outbound !== undefined) return;
    link.opening = true;
    try {
      for (let attempt = 0; link.outbound === undefined && !this.#stopped; attempt++) {
        const connection = this.#bestConnection(link);
        if (connection === undefined) return;
        await this.#openOver(link, connection).catch(async (error: unknown) => {
          this.#options.log.debug({ peer: link.peer, error: String(error) }, "the framed stream did not open");
          await this.#pause(Math.min(50 * 2 ** attempt, 2_000));
        });
      }
    } finally {
      link.opening = false;
    }
  }

  async #openOver(link: Link, connection: Connection): Promise<void> {
    const stream = await connection.newStream(FEDERATION_PROTOCOL, { signal: AbortSignal.timeout(STREAM_OPEN_MS) });
    const { maxQueueBytes, meter, hello } = this.#options;
    const writer = new FrameWriter(stream, maxQueueBytes, (count) => meter.count("bytes_sent", count));
    stream.addEventListener("close", () => this.#outboundEnded(link, stream));
    if (stream.status !== "open") throw new NetError("UNREACHABLE", "the stream closed while it was opened");
    writer.greet(encodeHello(hello()));
    link.outbound = { stream, connection, writer };
    this.#settle(link);
  }

  #outboundEnded(link: Link, stream: Stream): void {
    if (link.outbound?.stream !== stream) return;
    link.outbound.writer.close();
    link.outbound = undefined;
    this.#settle(link);
    void this.#open(link);
  }

  /** The newest of those the lower id dialled, else the newest: so that both sides tend to the same one. */
  #bestConnection(link: Link): Connection | undefined {
    const dialledByLower = (connection: Connection) => (connection.direction === "outbound") === this.#options.self < link.peer;
    const open = this.#connections(link).sort((a, b) => b.timeline.open - a.timeline.open);
    return open.find(dialledByLower) ?? open[0];
  }

  #connections(link: Link): Connection[] {
    return this.#options.host.getConnections(link.peerId).filter((connection) => connection.status === "open");
  }

  // The peer's stream: the one we read.

  /** Must stay synchronous up to the listener: what arrives without one is lost. */
  #accept(stream: Stream, connection: Connection): void {
    const link = this.#linkOf(connection);
    const inbound: Inbound = { stream, connection, hello: undefined };
    const reader = new FrameReader((kind, frame) => this.#received(link, inbound, kind, frame));
    stream.addEventListener("message", (event) => {
      link.heard = true;
      this.#options.meter.count("bytes_received", event.data.byteLength);
      try {
        if (event.data instanceof Uint8Array) reader.feed(event.data);
        else for (const piece of event.data) reader.feed(piece);
      } catch (error) {
        this.#violation(link, connection, error);
      }
    });
    stream.addEventListener("remoteCloseWrite", () => stream.abort(new Error("the peer closed its stream")));
    stream.addEventListener("close", () => this.#inboundEnded(link, inbound));
  }

  #received(link: Link, inbound: Inbound, kind: FrameKind, frame: Uint8Array): void {
    if (inbound.hello !== undefined && link.inbound !== inbound) return; // replaced by a newer stream
    if (inbound.hello === undefined) this.#greeted(link, inbound, kind, frame);
    else if (kind === FRAME_KIND.data) this.#deliver(link, frame);
    else if (kind === FRAME_KIND.ping) link.outbound?.writer.pushFirst(FRAME_KIND.pong, frame);
    else if (kind === FRAME_KIND.pong) this.#ponged(link, frame);
    else throw new NetError("FRAME_MALFORMED", "a second hello");
  }

  #greeted(link: Link, inbound: Inbound, kind: FrameKind, frame: Uint8Array): void {
    if (kind !== FRAME_KIND.hello || frame.length > HELLO_MAX_BYTES) throw new NetError("FRAME_MALFORMED", "the first frame is not a hello");
    inbound.hello = decodeHello(frame);
    const before = link.inbound;
    link.inbound = inbound;
    this.#dropHeld(link);
    if (before !== undefined) {
      before.stream.abort(new Error("replaced by a newer stream"));
      // The peer's process is another one now: what belonged to the old one is dead, whether or not TCP has noticed.
      if (before.hello?.session !== inbound.hello.session) this.#abortAllBut(link, inbound.connection);
    }
    this.#options.onHello(link.peer, inbound.hello, inbound.connection);
    this.#settle(link);
    void this.#open(link);
  }

  #inboundEnded(link: Link, inbound: Inbound): void {
    if (link.inbound !== inbound) return;
    link.inbound = undefined;
    this.#settle(link);
  }

  #deliver(link: Link, frame: Uint8Array): void {
    if (link.up) {
      this.#options.onFrame(link.peer, frame);
      return;
    }
    link.heldBytes += frame.length;
    if (link.heldBytes > this.#options.maxQueueBytes) throw new NetError("FRAME_MALFORMED", "too many frames before the link was up");
    link.held.push(frame);
  }

  #dropHeld(link: Link): void {
    link.held = [];
    link.heldBytes = 0;
  }

  /** A peer that breaks the framing cannot be read any further. Anything else that is thrown here is a fault of ours and not swallowed. */
  #violation(link: Link, connection: Connection, error: unknown): void {
    if (!(error instanceof NetError)) throw error;
    const reason = error.code.toLowerCase();
    this.#options.meter.count("connection_error", 1, reason);
    this.#options.log.warn({ peer: link.peer, reason, error: error.message }, "closed the connection to a peer whose bytes cannot be used");
    connection.abort(error);
  }

  // Up and down.

  #settle(link: Link): void {
    const up = !this.#stopped && link.outbound !== undefined && link.inbound?.hello !== undefined;
    if (up === link.up) return;
    link.up = up;
    link.misses = 0;
    link.pongsMissed = 0;
    link.halfOpenSince = this.#options.system.monotonic();
    if (!up) link.latencyMs = undefined;
    this.#options.onPeer(link.peer, up);
    const held = up ? link.held : [];
    this.#dropHeld(link);
    if (up) this.#ping(link);
    for (const frame of held) this.#options.onFrame(link.peer, frame);
  }

  #tick(link: Link): void {
    const connections = this.#connections(link);
    if (connections.length === 0 && link.outbound === undefined && link.inbound === undefined) {
      this.#links.delete(link.peer);
      return;
    }
    if (link.up) this.#checkPulse(link);
    else if (this.#options.system.monotonic() - link.halfOpenSince > HALF_OPEN_MS) this.#giveUp(link, "half_open");
    this.#closeSpares(link, connections);
  }

  #checkPulse(link: Link): void {
    link.misses = link.heard ? 0 : link.misses + 1;
    link.pongsMissed += 1;
    link.heard = false;
    if (link.misses >= MISSES_MAX || link.pongsMissed > PONGS_MISSED_MAX) this.#giveUp(link, "ping");
    else this.#ping(link);
  }

  #ping(link: Link): void {
    link.pingNumber = (link.pingNumber + 1) >>> 0;
    link.pingSentAt = this.#options.system.monotonic();
    const frame = new Uint8Array(4);
    new DataView(frame.buffer).setUint32(0, link.pingNumber);
    link.outbound?.writer.pushFirst(FRAME_KIND.ping, frame);
  }

  #ponged(link: Link, frame: Uint8Array): void {
    if (frame.length !== 4) throw new NetError("FRAME_MALFORMED", "a pong of another length");
    const number = new DataView(frame.buffer, frame.byteOffset).getUint32(0);
    link.pongsMissed = 0;
    if (number !== link.pingNumber) return;
    const roundTrip = this.#options.system.monotonic() - link.pingSentAt;
    link.latencyMs = link.latencyMs === undefined ? roundTrip : link.latencyMs + SMOOTHING * (roundTrip - link.latencyMs);
  }

  #giveUp(link: Link, reason: string): void {
    this.#options.meter.count("connection_error", 1, reason);
    this.#options.log.debug({ peer: link.peer, reason }, "gave up the connections to a peer");
    link.halfOpenSince = this.#options.system.monotonic();
    this.#abortAllBut(link, undefined);
  }

  #abortAllBut(link: Link, kept: Connection | undefined): void {
    for (const connection of this.#options.host.getConnections(link.peerId)) {
      if (connection.id !== kept?.id) connection.abort(new Error("given up"));
    }
  }

  #closeSpares(link: Link, connections: readonly Connection[]): void {
    if (!link.up || connections.length < 2) return;
    const inUse = [link.outbound?.connection.id, link.inbound?.connection.id];
    for (const connection of connections) {
      const old = this.#options.system.now() - connection.timeline.open > SPARE_MS;
      if (old && !inUse.includes(connection.id)) void connection.close().catch(() => undefined);
    }
  }

  #pause(ms: number): Promise<void> {
    return new Promise((resolve) => this.#options.system.after(ms, resolve));
  }
}
