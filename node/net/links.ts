/**
 * One link a peer: two framed streams, each written by one side only. Each side opens the stream it sends on, so nobody has to agree on who
 * opens; when both dial at once there are two connections and still one stream each way, and the order of frames is that of one stream.
 * A link is up when our stream is open and the peer's hello has arrived on its own. It goes down when either ends.
 */
import type { Connection, Libp2p, PeerId, Stream } from "@libp2p/interface";
import type { NodeId } from "../../protocol/ids.ts";
import { CARDS_FRAME_MAX_BYTES, CONNECTIONS_A_PEER_MAX, FRAME_MAX_BYTES } from "../../protocol/limits.ts";
import type { Log, Meter, System } from "../ports.ts";
import type { Card } from "./cards.ts";
import { NetError } from "./errors.ts";
import { FRAME_KIND, type FrameKind, FrameReader, FrameWriter } from "./frames.ts";
import { decodeCards, decodeHello, encodeCards, encodeHello, HELLO_MAX_BYTES, type Hello } from "./hello.ts";
import type { Refusals } from "./refusals.ts";

/** The best first; who opens a stream takes the best that the other side has. The second added cards and what a hello says of itself. */
export const FEDERATION_PROTOCOLS = ["/continuum/federation/2", "/continuum/federation/1"];
const HELLO_VERSIONS: Readonly<Record<string, 1 | 2>> = { "/continuum/federation/2": 2, "/continuum/federation/1": 1 };

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
/** Streams of one protocol a peer may open to us on one connection: one that counts, and those that replace it. */
const STREAMS_A_PROTOCOL_MAX = 4;
const PING_BYTES = 4;
/** Of two living processes with one identity the newer gets the link, but not more often than this: they would take it from each other for ever. */
const SWITCH_MS = 10_000;
/** By kind of frame. */
const LENGTH_MAX: Readonly<Record<FrameKind, number>> = {
  [FRAME_KIND.data]: FRAME_MAX_BYTES,
  [FRAME_KIND.hello]: HELLO_MAX_BYTES,
  [FRAME_KIND.ping]: PING_BYTES,
  [FRAME_KIND.pong]: PING_BYTES,
  [FRAME_KIND.cards]: CARDS_FRAME_MAX_BYTES,
};
const SMOOTHING = 0.25;

export interface LinksOptions {
  readonly host: Libp2p;
  readonly self: NodeId;
  readonly hello: () => Hello;
  readonly isRevoked: (peer: NodeId) => boolean;
  readonly refusals: Refusals;
  readonly maxQueueBytes: number;
  /** What a peer has not been told yet of where others are. @param told what it was told last */
  readonly untold: (told: ReadonlyMap<NodeId, Card>) => readonly Card[];
  readonly onCards: (cards: readonly Card[]) => void;
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
  readonly version: 1 | 2;
  readonly told: Map<NodeId, Card>;
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
  /** Monotonic ms when another living process last took the link over. */
  switchedAt: number;
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
    await host.handle(FEDERATION_PROTOCOLS, (stream, connection) => this.#accept(stream, connection));
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

  up(): NodeId[] {
    return [...this.#links.values()].filter((link) => link.up).map((link) => link.peer);
  }

  latencyMs(peer: NodeId): number | undefined {
    return this.#links.get(peer)?.latencyMs;
  }

  /** As it said in its hello; undefined when there is no link. */
  secretIds(peer: NodeId): readonly string[] | undefined {
    return this.#links.get(peer)?.inbound?.hello?.secretIds;
  }

  /** Ends all connections of a peer at once. */
  disconnect(peer: NodeId): void {
    const link = this.#links.get(peer);
    if (link !== undefined) this.#abortAllBut(link, undefined);
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
      switchedAt: Number.NEGATIVE_INFINITY,
    };
    this.#links.set(peer, link);
    return link;
  }

  #connectionOpened(connection: Connection): void {
    if (this.#stopped) return;
    const link = this.#linkOf(connection);
    if (this.#options.isRevoked(link.peer)) {
      connection.abort(this.#refusal(link, connection, "revoked"));
      return;
    }
    this.#boundConnections(link);
    void this.#open(link);
  }

  /** The oldest that carries no stream of ours makes room: a process that comes back must not be kept out by its dead connections. */
  #boundConnections(link: Link): void {
    const connections = this.#connections(link);
    if (connections.length <= CONNECTIONS_A_PEER_MAX) return;
    this.#options.meter.count("connection_error", 1, "too_many_connections");
    const inUse = [link.outbound?.connection.id, link.inbound?.connection.id];
    const spare = connections.toSorted((a, b) => a.timeline.open - b.timeline.open).find((connection) => !inUse.includes(connection.id));
    spare?.abort(new NetError("REFUSED", `more than ${CONNECTIONS_A_PEER_MAX} connections of one peer`));
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
    const stream = await connection.newStream(FEDERATION_PROTOCOLS, { signal: AbortSignal.timeout(STREAM_OPEN_MS) });
    const { maxQueueBytes, meter, hello } = this.#options;
    const writer = new FrameWriter(stream, maxQueueBytes, (count) => meter.count("bytes_sent", count));
    stream.addEventListener("close", () => this.#outboundEnded(link, stream));
    if (stream.status !== "open") throw new NetError("UNREACHABLE", "the stream closed while it was opened");
    const version = HELLO_VERSIONS[stream.protocol]!;
    writer.greet(encodeHello(hello(), version));
    link.outbound = { stream, connection, writer, version, told: new Map() };
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
    const theirs = connection.streams.filter(({ direction, protocol }) => direction === "inbound" && protocol === stream.protocol);
    if (theirs.length > STREAMS_A_PROTOCOL_MAX) {
      this.#options.meter.count("connection_error", 1, "too_many_streams");
      stream.abort(new NetError("REFUSED", `more than ${STREAMS_A_PROTOCOL_MAX} streams of one protocol`));
      return;
    }
    const link = this.#linkOf(connection);
    const inbound: Inbound = { stream, connection, hello: undefined };
    const reader = new FrameReader(
      (kind, frame) => this.#received(link, inbound, kind, frame),
      (kind, length) => announced(inbound, kind, length),
    );
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
    if (inbound.hello === undefined) this.#greeted(link, inbound, frame);
    else if (kind === FRAME_KIND.data) this.#deliver(link, frame);
    else if (kind === FRAME_KIND.ping) link.outbound?.writer.pushFirst(FRAME_KIND.pong, frame);
    else if (kind === FRAME_KIND.pong) this.#ponged(link, frame);
    else this.#options.onCards(decodeCards(frame));
  }

  #greeted(link: Link, inbound: Inbound, frame: Uint8Array): void {
    const hello = decodeHello(frame);
    if (this.#options.isRevoked(link.peer)) throw this.#refusal(link, inbound.connection, "revoked");
    const before = link.inbound;
    const another = before !== undefined && before.hello?.session !== hello.session;
    if (another && this.#isTwice(link)) throw this.#refusal(link, inbound.connection, "identity_twice");
    inbound.hello = hello;
    link.inbound = inbound;
    this.#dropHeld(link);
    before?.stream.abort(new Error("replaced by a newer stream"));
    if (another) this.#switch(link, inbound.connection);
    this.#options.onHello(link.peer, hello, inbound.connection);
    this.#settle(link);
    void this.#open(link);
  }

  /** Counted and explained; to be thrown while a frame is read, so that nothing more is. */
  #refusal({ peer }: Link, connection: Connection, reason: "revoked" | "identity_twice"): NetError {
    this.#options.refusals.report({ reason, peer, remote: connection.remoteAddr.getComponents()[0]?.value ?? "unknown", by: "us" });
    return new NetError("REFUSED", `${peer}: ${reason}`);
  }

  /**
   * The peer's process is another one now: what belonged to the old one is dead, whether or not TCP has noticed; or both live, as when a data folder
   * was copied. The layer above is told "gone" and then "connected", so it greets the new one as it would any other.
   */
  #switch(link: Link, kept: Connection): void {
    link.switchedAt = this.#options.system.monotonic();
    this.#abortAllBut(link, kept);
    link.outbound?.stream.abort(new Error("meant for an earlier process"));
  }

  /** The link was taken over a moment ago, and yet its process lives: there are two. */
  #isTwice(link: Link): boolean {
    const sinceSwitch = this.#options.system.monotonic() - link.switchedAt;
    return link.up && sinceSwitch < SWITCH_MS && link.misses === 0;
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
    connection.abort(error);
    if (error.code === "REFUSED") return; // counted and explained
    const reason = error.code.toLowerCase();
    this.#options.meter.count("connection_error", 1, reason);
    this.#options.log.warn({ peer: link.peer, reason, error: error.message }, "closed the connection to a peer whose bytes cannot be used");
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
    if (up) this.#tell(link);
    for (const frame of held) this.#options.onFrame(link.peer, frame);
  }

  #tick(link: Link): void {
    const connections = this.#connections(link);
    if (connections.length === 0 && link.outbound === undefined && link.inbound === undefined) {
      this.#links.delete(link.peer);
      return;
    }
    if (link.up) {
      this.#checkPulse(link);
      this.#tell(link);
    } else if (this.#options.system.monotonic() - link.halfOpenSince > HALF_OPEN_MS) {
      this.#giveUp(link, "half_open");
    }
    this.#closeSpares(link, connections);
  }

  #checkPulse(link: Link): void {
    link.misses = link.heard ? 0 : link.misses + 1;
    link.pongsMissed += 1;
    link.heard = false;
    if (link.misses >= MISSES_MAX || link.pongsMissed > PONGS_MISSED_MAX) this.#giveUp(link, "ping");
    else this.#ping(link);
  }

  /** What has changed since the peer was told last. What its queue does not hold is told with the next tick. */
  #tell({ outbound }: Link): void {
    if (outbound?.version !== 2) return;
    const cards = this.#options.untold(outbound.told);
    if (cards.length === 0 || !outbound.writer.push(FRAME_KIND.cards, encodeCards(cards))) return;
    for (const card of cards) outbound.told.set(card.node, card);
  }

  #ping(link: Link): void {
    link.pingNumber = (link.pingNumber + 1) >>> 0;
    link.pingSentAt = this.#options.system.monotonic();
    const frame = new Uint8Array(PING_BYTES);
    new DataView(frame.buffer).setUint32(0, link.pingNumber);
    link.outbound?.writer.pushFirst(FRAME_KIND.ping, frame);
  }

  #ponged(link: Link, frame: Uint8Array): void {
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

/** Before room is made for a frame: who has not greeted gets none, and what is between the two nets is small. @throws NetError FRAME_MALFORMED */
function announced(inbound: Inbound, kind: FrameKind, length: number): void {
  if ((inbound.hello === undefined) !== (kind === FRAME_KIND.hello)) throw new NetError("FRAME_MALFORMED", "not one hello at the beginning");
  const isPing = kind === FRAME_KIND.ping || kind === FRAME_KIND.pong;
  if (length > LENGTH_MAX[kind] || (isPing && length < PING_BYTES))
    throw new NetError("FRAME_MALFORMED", `${length} bytes in a frame of kind ${kind}`);
}
