import type { Network } from "../../node/ports.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { PEER_QUEUE_MAX_BYTES } from "../../protocol/limits.ts";
import type { Rng } from "./rng.ts";
import type { Scheduler } from "./scheduler.ts";
import { Pause } from "./sim-system.ts";

export interface LinkSettings {
  /** Least one-way delay, ms. */
  readonly delayMs: number;
  /** Mean of what comes on top. */
  readonly jitterMs: number;
  /** A link this slow delivers one frame after the other, each taking its size through this; absent: as wide as it needs. */
  readonly bytesPerMs?: number;
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
  readonly from: Host;
  readonly to: Host;
  readonly connection: Connection;
  /** As the trace names its frames. */
  readonly label: string;
  readonly rng: Rng;
  settings: LinkSettings;
  cut: boolean;
  /** Nothing comes through, and nobody will notice: it is over before any keep-alive fails. */
  held: boolean;
  /** Order of one stream: nothing arrives before what was sent before it. */
  lastArrival: number;
  /** The connection whose first frame has gone this way. */
  opened: number;
  /** What waits in the cut, or for its turn on a slow link: delivered in order when it heals before anybody notices, as TCP would. */
  stalled: Uint8Array[];
  /** The head of `stalled` is on its way through a slow link. */
  trickling: boolean;
  bytesInFlight: number;
}

/** A machine on the network. Two of them may run under one node id: a clone beside its original. */
interface Host {
  readonly name: NodeId;
  readonly id: NodeId;
  readonly pause: Pause;
  port: SimPort | undefined;
  /** It dials and is dialled. */
  isOpen: boolean;
  readonly out: Map<NodeId, Wire>;
}

/** A connection between two nodes, from its start until both sides have seen its end. */
interface Connection {
  readonly rng: Rng;
  /** failing: it cannot work, and nobody has noticed. closing: one side has seen the end, the other not yet. */
  phase: "down" | "connecting" | "up" | "failing" | "closing";
  /** Counts connections of this pair; frames of an older one are gone. */
  epoch: number;
  readonly seenBy: Set<NodeId>;
  /** A twin of one side took its place. */
  takenOver: boolean;
}

/** Who looks on, and may kill: each is called between two effects of a node. */
export interface NetworkWatcher {
  /** Before a frame leaves. False: its sender died first. */
  onSend?(from: NodeId, to: NodeId, frame: Uint8Array): boolean;
  /** It has left. The same bytes come back in `onEnd`. */
  onSent?(from: NodeId, to: NodeId, frame: Uint8Array): void;
  /** A frame has arrived, or will not. */
  onEnd?(from: NodeId, to: NodeId, frame: Uint8Array, arrived: boolean): void;
}

/** A twin whose connection the other one took over tries again after about this long, ms: dialling backs off. */
const TAKEN_OVER_MS = 2000;

/**
 * The framed streams of a federation: one connection a pair, ordered, lost only as a whole. A cut stalls frames; when it lasts, both sides see the
 * connection end, each in its own time, and what was stalled is lost. A killed process closes its connections at once, a machine without power
 * is noticed like a cut, and so is a process that is stopped. Of two machines under one id each peer talks to the one that came last, as with libp2p.
 *
 * Nodes are named by their host, which is their id but for clones.
 */
export class SimNetwork {
  readonly #scheduler: Scheduler;
  readonly #rng: Rng;
  settings: NetworkSettings;
  readonly #hosts = new Map<NodeId, Host>();
  /** A test looks at, or takes away, single frames: false drops it. */
  filter: ((from: NodeId, to: NodeId, frame: Uint8Array) => boolean) | undefined;
  watcher: NetworkWatcher | undefined;
  frameCount = 0;
  /** Whether two machines that reach each other let each other in. */
  mayMeet: (a: NodeId, b: NodeId) => boolean = () => true;

  constructor(scheduler: Scheduler, rng: Rng, settings: NetworkSettings) {
    this.#scheduler = scheduler;
    this.#rng = rng;
    this.settings = settings;
  }

  /** @param id under which it runs, when another machine has that name already */
  addNode(name: NodeId, pause: Pause = new Pause(this.#scheduler), id: NodeId = name): void {
    const host: Host = { name, id, pause, port: undefined, isOpen: false, out: new Map() };
    for (const other of this.#hosts.values()) {
      const connection: Connection = {
        rng: this.#rng.fork(pairName(name, other.name)),
        phase: "down",
        epoch: 0,
        seenBy: new Set(),
        takenOver: false,
      };
      host.out.set(other.name, this.#newWire(host, other, connection));
      other.out.set(name, this.#newWire(other, host, connection));
    }
    this.#hosts.set(name, host);
  }

  /** A process of this node starts: its port, good until `leave`. Nobody is met before `open`. */
  join(name: NodeId): Network {
    const host = this.#host(name);
    if (host.port !== undefined) throw new Error(`${name} is running already`);
    host.port = new SimPort(this, host);
    return host.port;
  }

  open(name: NodeId): void {
    const host = this.#host(name);
    host.isOpen = true;
    for (const other of this.#hosts.values()) if (other !== host) this.#reconsider(host, other);
  }

  /** The process is gone. @param silently the machine lost power: nobody hears of it */
  leave(name: NodeId, silently: boolean): void {
    const host = this.#host(name);
    host.port = undefined;
    host.isOpen = false;
    for (const other of this.#hosts.values()) {
      if (other === host) continue;
      this.#wireOf(host, other).connection.seenBy.delete(name);
      this.#reconsider(host, other, silently ? undefined : 0.5);
    }
  }

  /** The process was stopped, or goes on: what it neither answers nor closes is noticed like a cut. */
  paused(name: NodeId): void {
    const host = this.#host(name);
    for (const other of this.#hosts.values()) if (other !== host) this.#reconsider(host, other);
  }

  /** Its process wants to hear no more of a node that it does not let in any longer. */
  disconnect(name: NodeId, id: NodeId): void {
    const host = this.#host(name);
    for (const other of this.#hosts.values()) if (other !== host && other.id === id) this.#reconsider(host, other, 0.5);
  }

  cut(from: NodeId, to: NodeId): void {
    this.#wire(from, to).cut = true;
    this.#reconsider(this.#host(from), this.#host(to));
  }

  cutBoth(a: NodeId, b: NodeId): void {
    this.cut(a, b);
    this.cut(b, a);
  }

  /** A stall that no keep-alive notices. */
  hold(from: NodeId, to: NodeId): void {
    this.#wire(from, to).held = true;
  }

  heal(from: NodeId, to: NodeId): void {
    const wire = this.#wire(from, to);
    if (!wire.cut && !wire.held) return;
    wire.cut = false;
    wire.held = false;
    this.#release(wire);
    this.#reconsider(wire.from, wire.to);
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
    for (const host of this.#hosts.values()) for (const wire of host.out.values()) this.#setLink(wire, this.settings.link);
  }

  setLink(from: NodeId, to: NodeId, settings: LinkSettings): void {
    this.#setLink(this.#wire(from, to), settings);
  }

  pairs(): [NodeId, NodeId][] {
    const names = [...this.#hosts.keys()];
    return names.flatMap((a, i) => names.slice(i + 1).map((b): [NodeId, NodeId] => [a, b]));
  }

  /** Whether this port belongs to the process that runs now. */
  isCurrent(port: SimPort): boolean {
    return port.host.port === port;
  }

  connectedTo(name: NodeId): NodeId[] {
    const host = this.#host(name);
    return [...host.out.values()].filter(({ connection }) => connection.seenBy.has(host.name)).map((wire) => wire.to.id);
  }

  roundTripMs(name: NodeId, to: NodeId): number | undefined {
    const host = this.#host(name);
    const wire = this.#connected(host, to);
    if (wire === undefined) return undefined;
    const [there, back] = [wire.settings, this.#wireOf(wire.to, host).settings];
    return there.delayMs + there.jitterMs + back.delayMs + back.jitterMs;
  }

  send(host: Host, to: NodeId, frame: Uint8Array): boolean {
    const wire = this.#connected(host, to);
    if (wire === undefined || wire.bytesInFlight + frame.byteLength > PEER_QUEUE_MAX_BYTES) return false;
    this.frameCount++;
    const copy = new Uint8Array(frame);
    if (this.watcher?.onSend?.(host.name, wire.to.name, copy) === false) return false;
    this.#scheduler.noteBytes(wire.label, copy);
    const carried = this.#carry(wire, copy);
    this.watcher?.onSent?.(host.name, wire.to.name, copy);
    if (!carried) this.watcher?.onEnd?.(host.name, wire.to.name, copy, false);
    return true;
  }

  /** False: it goes nowhere. */
  #carry(wire: Wire, frame: Uint8Array): boolean {
    const { connection, rng } = wire;
    if (this.filter !== undefined && !this.filter(wire.from.name, wire.to.name, frame)) return false;
    const arrival = this.#scheduler.now + wire.settings.delayMs + rng.exponential(wire.settings.jitterMs);
    // What opens a connection belongs to its making: a stream without it is no connection at all.
    const hostility = wire.opened === connection.epoch ? this.settings.hostility : undefined;
    wire.opened = connection.epoch;
    if (hostility !== undefined) {
      if (rng.chance(hostility.duplicateChance)) this.#transmit(wire, frame, arrival + rng.float() * hostility.lateMs, undefined);
      if (rng.chance(hostility.dropChance)) return false;
      if (rng.chance(hostility.reorderChance)) {
        this.#transmit(wire, frame, arrival + rng.float() * hostility.lateMs, connection.epoch);
        return true;
      }
    }
    // The least step keeps frames of one stream apart, so that order of arrival is order of sending.
    wire.lastArrival = Math.max(arrival, wire.lastArrival + 1e-6);
    this.#transmit(wire, frame, wire.lastArrival, connection.epoch);
    return true;
  }

  /** A frame of an attacker, or a late copy: it arrives now, on whatever connection there is. */
  inject(from: NodeId, to: NodeId, frame: Uint8Array): void {
    this.#transmit(this.#wire(from, to), new Uint8Array(frame), this.#scheduler.now, undefined);
  }

  announce(host: Host, news: Uint8Array): void {
    this.#scheduler.noteBytes(`${host.name} news`, news);
    for (const wire of host.out.values()) {
      if (wire.rng.chance(this.settings.newsLossChance)) continue;
      this.#scheduler.after(wire.settings.delayMs + 5 + wire.rng.exponential(30), () => {
        if (!wire.cut && !wire.held) this.#deliver(wire.to, (port) => port.onNews(host.id, new Uint8Array(news)));
      });
    }
  }

  /** @param epoch the connection it belongs to; undefined: a late copy, which arrives on whatever connection there is */
  #transmit(wire: Wire, frame: Uint8Array, at: number, epoch: number | undefined): void {
    wire.bytesInFlight += frame.byteLength;
    this.#scheduler.at(at, () => {
      wire.bytesInFlight -= frame.byteLength;
      this.#arrive(wire, frame, epoch);
    });
  }

  #arrive(wire: Wire, frame: Uint8Array, epoch: number | undefined): void {
    const stalls = wire.cut || wire.held || wire.settings.bytesPerMs !== undefined || wire.stalled.length > 0;
    const gone = epoch !== undefined && wire.connection.epoch !== epoch;
    if (gone || (stalls && epoch === undefined)) {
      this.watcher?.onEnd?.(wire.from.name, wire.to.name, frame, false);
      return;
    }
    if (stalls) {
      wire.stalled.push(frame);
      wire.bytesInFlight += frame.byteLength;
      this.#trickle(wire);
      return;
    }
    this.#handOver(wire, frame);
  }

  #handOver(wire: Wire, frame: Uint8Array): void {
    const arrives = wire.connection.seenBy.has(wire.to.name);
    this.watcher?.onEnd?.(wire.from.name, wire.to.name, frame, arrives);
    if (arrives) this.#deliver(wire.to, (port) => port.onFrame(wire.from.id, frame));
  }

  /** The next of what stalled crosses a slow link, unless it is cut. */
  #trickle(wire: Wire): void {
    const { bytesPerMs } = wire.settings;
    const [head] = wire.stalled;
    if (wire.trickling || wire.cut || wire.held || head === undefined || bytesPerMs === undefined) return;
    wire.trickling = true;
    this.#scheduler.after(head.byteLength / bytesPerMs, () => {
      wire.trickling = false;
      // Otherwise it was released, or lost with its connection.
      if (wire.stalled[0] === head && !wire.cut && !wire.held) {
        this.#forgetStalled(wire, 1);
        this.#handOver(wire, head);
      }
      this.#trickle(wire);
    });
  }

  #setLink(wire: Wire, settings: LinkSettings): void {
    wire.settings = settings;
    this.#release(wire);
  }

  /** All that stalled arrives in order, if nothing holds it any more. */
  #release(wire: Wire): void {
    if (wire.cut || wire.held) return;
    if (wire.settings.bytesPerMs !== undefined) this.#trickle(wire);
    else for (const frame of this.#forgetStalled(wire, wire.stalled.length)) this.#handOver(wire, frame);
  }

  #forgetStalled(wire: Wire, count: number): Uint8Array[] {
    const frames = wire.stalled.splice(0, count);
    for (const frame of frames) wire.bytesInFlight -= frame.byteLength;
    return frames;
  }

  /** To the process that runs there now: at once, or when it goes on. */
  #deliver(host: Host, give: (port: SimPort) => void): void {
    const { port } = host;
    if (port === undefined) return;
    host.pause.gate(() => {
      if (host.port === port) give(port);
    });
  }

  /** Starts what the state of both ends and of the wires calls for: a connection, or its end. */
  #reconsider(a: Host, b: Host, noticeMs?: number): void {
    const { connection } = this.#wireOf(a, b);
    const works = this.#possible(a, b);
    if (connection.phase === "down" && works) {
      connection.phase = "connecting";
      const againMs = connection.takenOver ? TAKEN_OVER_MS * connection.rng.between(0.5, 1.5) : 1;
      this.#scheduler.after(againMs + connection.rng.exponential(this.settings.connectMs), () => this.#connect(a, b, connection));
    } else if ((connection.phase === "up" && !works) || connection.phase === "failing") {
      connection.phase = "failing";
      const epoch = connection.epoch;
      this.#scheduler.after(noticeMs ?? this.settings.detectMs * connection.rng.between(0.5, 1.5), () => {
        if (connection.phase === "failing" && connection.epoch === epoch) this.#notice(a, b, connection);
      });
    }
  }

  #connect(a: Host, b: Host, connection: Connection): void {
    if (!this.#possible(a, b)) {
      connection.phase = "down";
      return;
    }
    for (const [host, other] of this.#twinConnections(a, b)) this.#replace(host, other);
    connection.phase = "up";
    connection.takenOver = false;
    connection.epoch++;
    connection.seenBy.add(a.name).add(b.name);
    this.#scheduler.note(`network: ${a.name} - ${b.name} connected`);
    this.#deliver(a, (port) => port.onPeer(b.id, true));
    this.#deliver(b, (port) => port.onPeer(a.id, true));
  }

  /** One side sees the end first; the other sends into nothing for a while. Reconnection waits for both. */
  #notice(a: Host, b: Host, connection: Connection): void {
    if (this.#possible(a, b) && connection.seenBy.size === 2) {
      connection.phase = "up";
      return;
    }
    this.#close(a, b, connection);
    const [first, ...later] = connection.rng.shuffle([a, b].filter((side) => connection.seenBy.has(side.name)));
    const { epoch } = connection;
    const closed = () => {
      if (connection.epoch !== epoch) return; // a twin has taken it over meanwhile
      for (const side of later) this.#tellLoss(side, side === a ? b : a, connection);
      connection.phase = "down";
      this.#reconsider(a, b);
    };
    if (first !== undefined) this.#tellLoss(first, first === a ? b : a, connection);
    this.#scheduler.after(later.length === 0 ? 0 : connection.rng.exponential(this.settings.detectMs / 4), closed);
  }

  #close(a: Host, b: Host, connection: Connection): void {
    connection.phase = "closing";
    connection.epoch++;
    for (const wire of [this.#wireOf(a, b), this.#wireOf(b, a)])
      for (const frame of this.#forgetStalled(wire, wire.stalled.length)) this.watcher?.onEnd?.(wire.from.name, wire.to.name, frame, false);
    this.#scheduler.note(`network: ${a.name} - ${b.name} lost`);
  }

  #tellLoss(at: Host, of: Host, connection: Connection): void {
    if (connection.seenBy.delete(at.name)) this.#deliver(at, (port) => port.onPeer(of.id, false));
  }

  // ---- twins: two machines under one id ------------------------------------------------------------------------

  /** Connections that one between these two replaces. */
  #twinConnections(a: Host, b: Host): [Host, Host][] {
    const twins = (of: Host): Host[] => [...this.#hosts.values()].filter((host) => host !== of && host.id === of.id);
    const pairs = [...twins(a).map((twin): [Host, Host] => [twin, b]), ...twins(b).map((twin): [Host, Host] => [a, twin])];
    return pairs.filter(([one, other]) => one !== other && this.#wireOf(one, other).connection.seenBy.size > 0);
  }

  #replace(a: Host, b: Host): void {
    const { connection } = this.#wireOf(a, b);
    this.#close(a, b, connection);
    this.#tellLoss(a, b, connection);
    this.#tellLoss(b, a, connection);
    connection.phase = "down";
    connection.takenOver = true;
    this.#scheduler.after(0, () => this.#reconsider(a, b));
  }

  #possible(a: Host, b: Host): boolean {
    const running = a.isOpen && b.isOpen && !a.pause.holds && !b.pause.holds;
    return running && a.id !== b.id && !this.#wireOf(a, b).cut && !this.#wireOf(b, a).cut && this.mayMeet(a.name, b.name);
  }

  #newWire(from: Host, to: Host, connection: Connection): Wire {
    return {
      from,
      to,
      connection,
      label: `${from.name}>${to.name}`,
      rng: this.#rng.fork(`${from.name}>${to.name}`),
      settings: this.settings.link,
      cut: false,
      held: false,
      lastArrival: 0,
      opened: 0,
      stalled: [],
      trickling: false,
      bytesInFlight: 0,
    };
  }

  /** The wire of the live connection to a node, as this machine sees it. */
  #connected(host: Host, to: NodeId): Wire | undefined {
    const direct = host.out.get(to);
    if (direct?.connection.seenBy.has(host.name)) return direct;
    for (const wire of host.out.values()) if (wire.to.id === to && wire.connection.seenBy.has(host.name)) return wire;
    return undefined;
  }

  #host(name: NodeId): Host {
    const host = this.#hosts.get(name);
    if (host === undefined) throw new Error(`no node ${name}`);
    return host;
  }

  #wire(from: NodeId, to: NodeId): Wire {
    return this.#wireOf(this.#host(from), this.#host(to));
  }

  #wireOf(from: Host, to: Host): Wire {
    return from.out.get(to.name) as Wire;
  }
}

/** What one process holds of the network. After its death nothing it does has an effect. */
class SimPort implements Network {
  readonly self: NodeId;
  readonly host: Host;
  readonly #network: SimNetwork;
  onFrame: (from: NodeId, frame: Uint8Array) => void = () => {};
  onPeer: (peer: NodeId, connected: boolean) => void = () => {};
  onNews: (from: NodeId, news: Uint8Array) => void = () => {};

  constructor(network: SimNetwork, host: Host) {
    this.#network = network;
    this.host = host;
    this.self = host.id;
  }

  send(to: NodeId, frame: Uint8Array): boolean {
    return this.#network.isCurrent(this) && this.#network.send(this.host, to, frame);
  }

  latencyMs(peer: NodeId): number | undefined {
    return this.#network.roundTripMs(this.host.name, peer);
  }

  announce(news: Uint8Array): void {
    if (this.#network.isCurrent(this)) this.#network.announce(this.host, news);
  }

  connected(): readonly NodeId[] {
    return this.#network.isCurrent(this) ? this.#network.connectedTo(this.host.name) : [];
  }
}

function pairName(a: NodeId, b: NodeId): string {
  return a < b ? `${a}|${b}` : `${b}|${a}`;
}
