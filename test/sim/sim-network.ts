import type { Network } from "../../node/ports.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { PEER_QUEUE_MAX_BYTES } from "../../protocol/limits.ts";
import type { Rng } from "./rng.ts";
import type { Scheduler } from "./scheduler.ts";

export interface LinkSettings {
  /** Least one-way delay, ms. */
  readonly delayMs: number;
  /** Mean of what comes on top. */
  readonly jitterMs: number;
}

/**
 * What a hostile network does to single frames. Real links are one ordered, authenticated stream per peer, where nothing of this happens; the
 * protocol must survive it all the same, because repair, retries and reconnections add up to the same thing.
 */
export interface Hostility {
  readonly dropChance: number;
  /** A copy arrives as well, up to `lateMs` later, also after a reconnection. */
  readonly duplicateChance: number;
  /** The frame alone is held up, so that later ones overtake it. */
  readonly reorderChance: number;
  readonly lateMs: number;
}

export interface NetworkSettings {
  readonly link: LinkSettings;
  readonly hostility: Hostility | undefined;
  /** Share of gossip that never arrives. */
  readonly newsLossChance: number;
  /** How long a connection takes to be made again once it can be, ms (mean). */
  readonly connectMs: number;
  /** How long until a silent link is noticed, ms (mean). */
  readonly detectMs: number;
}

export const CALM: NetworkSettings = {
  link: { delayMs: 0.2, jitterMs: 0.3 },
  hostility: undefined,
  newsLossChance: 0.1,
  connectMs: 150,
  detectMs: 3000,
};

/** The wire in one direction. */
interface Wire {
  settings: LinkSettings;
  cut: boolean;
  /** Order of one stream: nothing arrives before what was sent before it. */
  lastArrival: number;
  /** The connection whose first frame has gone this way. */
  opened: number;
  /** Waiting in the cut: delivered in order if it heals before anybody notices, as TCP would. */
  stalled: Uint8Array[];
  bytesInFlight: number;
}

interface Endpoint {
  port: SimPort | undefined;
}

/** A connection between two nodes, from its start until both sides have seen its end. */
interface Connection {
  /** failing: it cannot work, and nobody has noticed. closing: one side has seen the end, the other not yet. */
  phase: "down" | "connecting" | "up" | "failing" | "closing";
  /** Counts connections of this pair; frames of an older one are gone. */
  epoch: number;
  readonly seenBy: Set<NodeId>;
}

/**
 * The framed streams of a federation: one connection a pair, ordered, lost only as a whole. A cut stalls frames; when it lasts, both sides see the
 * connection end, each in its own time, and what was stalled is lost. A killed process closes its connections at once, a machine without power
 * is noticed like a cut.
 */
export class SimNetwork {
  readonly #scheduler: Scheduler;
  readonly #rng: Rng;
  settings: NetworkSettings;
  readonly #endpoints = new Map<NodeId, Endpoint>();
  readonly #wires = new Map<string, Wire>();
  readonly #connections = new Map<string, Connection>();
  /** A test looks at, or takes away, single frames: false drops it. */
  filter: ((from: NodeId, to: NodeId, frame: Uint8Array) => boolean) | undefined;
  frameCount = 0;

  constructor(scheduler: Scheduler, rng: Rng, settings: NetworkSettings) {
    this.#scheduler = scheduler;
    this.#rng = rng;
    this.settings = settings;
  }

  addNode(id: NodeId): void {
    for (const other of this.#endpoints.keys()) {
      this.#wires.set(`${id}>${other}`, this.#newWire());
      this.#wires.set(`${other}>${id}`, this.#newWire());
      this.#connections.set(pairName(id, other), { phase: "down", epoch: 0, seenBy: new Set() });
    }
    this.#endpoints.set(id, { port: undefined });
  }

  /** A process of this node starts: its port, good until `leave`. */
  join(id: NodeId): Network {
    const endpoint = this.#endpoint(id);
    if (endpoint.port !== undefined) throw new Error(`${id} is running already`);
    endpoint.port = new SimPort(this, id);
    for (const other of this.#endpoints.keys()) if (other !== id) this.#reconsider(id, other);
    return endpoint.port;
  }

  /** The process is gone. @param silently the machine lost power: nobody hears of it */
  leave(id: NodeId, silently: boolean): void {
    const endpoint = this.#endpoint(id);
    endpoint.port = undefined;
    for (const other of this.#endpoints.keys()) {
      if (other === id) continue;
      this.#connection(id, other).seenBy.delete(id);
      this.#reconsider(id, other, silently ? undefined : 0.5);
    }
  }

  cut(from: NodeId, to: NodeId): void {
    this.#wire(from, to).cut = true;
    this.#reconsider(from, to);
  }

  cutBoth(a: NodeId, b: NodeId): void {
    this.cut(a, b);
    this.cut(b, a);
  }

  heal(from: NodeId, to: NodeId): void {
    const wire = this.#wire(from, to);
    if (!wire.cut) return;
    wire.cut = false;
    const stalled = wire.stalled.splice(0);
    const epoch = this.#connection(from, to).epoch;
    for (const frame of stalled) this.#arrive(from, to, frame, epoch);
    this.#reconsider(from, to);
  }

  healAll(): void {
    for (const [a, b] of this.pairs()) {
      this.heal(a, b);
      this.heal(b, a);
    }
  }

  /** Every link as fast as it was in the beginning, no frame lost but with its connection. */
  calm(): void {
    this.settings = { ...this.settings, hostility: undefined };
    for (const wire of this.#wires.values()) wire.settings = this.settings.link;
  }

  setLink(from: NodeId, to: NodeId, settings: LinkSettings): void {
    this.#wire(from, to).settings = settings;
  }

  pairs(): [NodeId, NodeId][] {
    const ids = [...this.#endpoints.keys()];
    return ids.flatMap((a, i) => ids.slice(i + 1).map((b): [NodeId, NodeId] => [a, b]));
  }

  /** Whether this port belongs to the process that runs now. */
  isCurrent(port: Network): boolean {
    return this.#endpoints.get(port.self)?.port === port;
  }

  connectedTo(id: NodeId): NodeId[] {
    return [...this.#endpoints.keys()].filter((other) => other !== id && this.#connection(id, other).seenBy.has(id));
  }

  roundTripMs(from: NodeId, to: NodeId): number | undefined {
    if (!this.#endpoints.has(to) || !this.#connection(from, to).seenBy.has(from)) return undefined;
    const [there, back] = [this.#wire(from, to).settings, this.#wire(to, from).settings];
    return there.delayMs + there.jitterMs + back.delayMs + back.jitterMs;
  }

  send(from: NodeId, to: NodeId, frame: Uint8Array): boolean {
    if (from === to || !this.#endpoints.has(to)) return false;
    const connection = this.#connection(from, to);
    const wire = this.#wire(from, to);
    if (!connection.seenBy.has(from) || wire.bytesInFlight + frame.byteLength > PEER_QUEUE_MAX_BYTES) return false;
    this.frameCount++;
    const copy = new Uint8Array(frame);
    this.#scheduler.noteBytes(`${from}>${to}`, copy);
    if (this.filter !== undefined && !this.filter(from, to, copy)) return true;
    const arrival = this.#scheduler.now + wire.settings.delayMs + this.#rng.exponential(wire.settings.jitterMs);
    // What opens a connection belongs to its making: a stream without it is no connection at all.
    const hostility = wire.opened === connection.epoch ? this.settings.hostility : undefined;
    wire.opened = connection.epoch;
    if (hostility !== undefined) {
      if (this.#rng.chance(hostility.duplicateChance)) this.#transmit(from, to, copy, arrival + this.#rng.float() * hostility.lateMs, undefined);
      if (this.#rng.chance(hostility.dropChance)) return true;
      if (this.#rng.chance(hostility.reorderChance)) {
        this.#transmit(from, to, copy, arrival + this.#rng.float() * hostility.lateMs, connection.epoch);
        return true;
      }
    }
    // The least step keeps frames of one stream apart, so that order of arrival is order of sending.
    wire.lastArrival = Math.max(arrival, wire.lastArrival + 1e-6);
    this.#transmit(from, to, copy, wire.lastArrival, connection.epoch);
    return true;
  }

  /** A frame of an attacker, or a late copy: it arrives now, on whatever connection there is. */
  inject(from: NodeId, to: NodeId, frame: Uint8Array): void {
    this.#transmit(from, to, new Uint8Array(frame), this.#scheduler.now, undefined);
  }

  announce(from: NodeId, news: Uint8Array): void {
    this.#scheduler.noteBytes(`${from} news`, news);
    for (const [to, endpoint] of this.#endpoints) {
      if (to === from || this.#rng.chance(this.settings.newsLossChance)) continue;
      const wire = this.#wire(from, to);
      this.#scheduler.after(wire.settings.delayMs + 5 + this.#rng.exponential(30), () => {
        if (!wire.cut) endpoint.port?.onNews(from, new Uint8Array(news));
      });
    }
  }

  /** @param epoch the connection it belongs to; undefined: a late copy, which arrives on whatever connection there is */
  #transmit(from: NodeId, to: NodeId, frame: Uint8Array, at: number, epoch: number | undefined): void {
    const wire = this.#wire(from, to);
    wire.bytesInFlight += frame.byteLength;
    this.#scheduler.after(at - this.#scheduler.now, () => {
      wire.bytesInFlight -= frame.byteLength;
      this.#arrive(from, to, frame, epoch);
    });
  }

  #arrive(from: NodeId, to: NodeId, frame: Uint8Array, epoch: number | undefined): void {
    const connection = this.#connection(from, to);
    if (epoch !== undefined && connection.epoch !== epoch) return;
    const wire = this.#wire(from, to);
    if (wire.cut) {
      if (epoch !== undefined) wire.stalled.push(frame);
      return;
    }
    if (connection.seenBy.has(to)) this.#endpoint(to).port?.onFrame(from, frame);
  }

  /** Starts what the state of both ends and of the wires calls for: a connection, or its end. */
  #reconsider(a: NodeId, b: NodeId, noticeMs = this.settings.detectMs * this.#rng.between(0.5, 1.5)): void {
    const connection = this.#connection(a, b);
    const works = this.#possible(a, b);
    if (connection.phase === "down" && works) {
      connection.phase = "connecting";
      this.#scheduler.after(1 + this.#rng.exponential(this.settings.connectMs), () => this.#connect(a, b, connection));
    } else if ((connection.phase === "up" && !works) || connection.phase === "failing") {
      connection.phase = "failing";
      const epoch = connection.epoch;
      this.#scheduler.after(noticeMs, () => {
        if (connection.phase === "failing" && connection.epoch === epoch) this.#notice(a, b, connection);
      });
    }
  }

  #connect(a: NodeId, b: NodeId, connection: Connection): void {
    if (!this.#possible(a, b)) {
      connection.phase = "down";
      return;
    }
    connection.phase = "up";
    connection.epoch++;
    connection.seenBy.add(a).add(b);
    this.#scheduler.note(`network: ${a} - ${b} connected`);
    this.#endpoint(a).port?.onPeer(b, true);
    this.#endpoint(b).port?.onPeer(a, true);
  }

  /** One side sees the end first; the other sends into nothing for a while. Reconnection waits for both. */
  #notice(a: NodeId, b: NodeId, connection: Connection): void {
    if (this.#possible(a, b) && connection.seenBy.size === 2) {
      connection.phase = "up";
      return;
    }
    connection.phase = "closing";
    connection.epoch++;
    this.#wire(a, b).stalled = [];
    this.#wire(b, a).stalled = [];
    this.#scheduler.note(`network: ${a} - ${b} lost`);
    const [first, ...later] = this.#rng.shuffle([...connection.seenBy]);
    const closed = () => {
      for (const side of later) this.#tellLoss(side, side === a ? b : a, connection);
      connection.phase = "down";
      this.#reconsider(a, b);
    };
    if (first !== undefined) this.#tellLoss(first, first === a ? b : a, connection);
    this.#scheduler.after(later.length === 0 ? 0 : this.#rng.exponential(this.settings.detectMs / 4), closed);
  }

  #tellLoss(at: NodeId, of: NodeId, connection: Connection): void {
    if (!connection.seenBy.delete(at)) return;
    this.#endpoint(at).port?.onPeer(of, false);
  }

  #possible(a: NodeId, b: NodeId): boolean {
    const running = this.#endpoint(a).port !== undefined && this.#endpoint(b).port !== undefined;
    return running && !this.#wire(a, b).cut && !this.#wire(b, a).cut;
  }

  #newWire(): Wire {
    return { settings: this.settings.link, cut: false, lastArrival: 0, opened: 0, stalled: [], bytesInFlight: 0 };
  }

  #endpoint(id: NodeId): Endpoint {
    const endpoint = this.#endpoints.get(id);
    if (endpoint === undefined) throw new Error(`no node ${id}`);
    return endpoint;
  }

  #wire(from: NodeId, to: NodeId): Wire {
    return this.#wires.get(`${from}>${to}`) as Wire;
  }

  #connection(a: NodeId, b: NodeId): Connection {
    return this.#connections.get(pairName(a, b)) as Connection;
  }
}

/** What one process holds of the network. After its death nothing it does has an effect. */
class SimPort implements Network {
  readonly self: NodeId;
  readonly #network: SimNetwork;
  onFrame: (from: NodeId, frame: Uint8Array) => void = () => {};
  onPeer: (peer: NodeId, connected: boolean) => void = () => {};
  onNews: (from: NodeId, news: Uint8Array) => void = () => {};

  constructor(network: SimNetwork, self: NodeId) {
    this.#network = network;
    this.self = self;
  }

  send(to: NodeId, frame: Uint8Array): boolean {
    return this.#network.isCurrent(this) && this.#network.send(this.self, to, frame);
  }

  latencyMs(peer: NodeId): number | undefined {
    return this.#network.roundTripMs(this.self, peer);
  }

  announce(news: Uint8Array): void {
    if (this.#network.isCurrent(this)) this.#network.announce(this.self, news);
  }

  connected(): readonly NodeId[] {
    return this.#network.isCurrent(this) ? this.#network.connectedTo(this.self) : [];
  }
}

function pairName(a: NodeId, b: NodeId): string {
  return a < b ? `${a}|${b}` : `${b}|${a}`;
}
