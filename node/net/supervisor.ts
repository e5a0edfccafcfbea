/**
 * Keeps this node connected: dials configured addresses, wanted nodes and nodes it heard of, for ever, with jittered backoff. libp2p itself
 * gives up after five tries and forgets peers after hours, so neither its reconnect queue nor its peer store is used.
 */
import type { Connection, Libp2p } from "@libp2p/interface";
import { peerIdFromString } from "@libp2p/peer-id";
import { multiaddr } from "@multiformats/multiaddr";
import type { NodeId } from "../../protocol/ids.ts";
import { KNOWN_NODES_MAX } from "../../protocol/limits.ts";
import type { Log, Meter, System } from "../ports.ts";
import type { AddressBook } from "./address-book.ts";
import { isWebSocket, type PeerAddress, parsePeerAddress, type Resolver, resolvePeerAddress, withoutPeerId } from "./addresses.ts";
import { answeredByAnother } from "./admission.ts";
import { NetError } from "./errors.ts";

const BACKOFF_MIN_MS = 100;
const BACKOFF_MAX_MS = 5_000;
/** Failed tries before one line tells a person. */
const WORTH_TELLING = 6;
/** How often names are looked up again: pods move. */
const RESOLVE_MS = 10_000;
const RESOLVE_EMPTY_MS = 1_000;
/** An address that turned out to be ourselves, or a revoked node, is asked again after this time; DNS may give it to somebody else. */
const SELF_MS = 60_000;
/** A node that nobody mentions for so long is no longer dialled unless it is wanted. */
const FORGET_MS = 10 * 60_000;
/** A connection that ended before this was no success: who takes ours and hangs up at once is not dialled at once again, for ever. */
const STEADY_MS = 5_000;
/** Addresses of one node tried in one dial. */
const ADDRESSES_A_DIAL = 4;

export interface SupervisorOptions {
  readonly self: NodeId;
  readonly host: Libp2p;
  readonly book: AddressBook;
  readonly resolver: Resolver;
  readonly ownAddresses: () => readonly string[];
  readonly isRevoked: (node: NodeId) => boolean;
  readonly defaultPort: number;
  readonly log: Log;
  readonly meter: Meter;
  readonly system: System;
}

/** One thing to stay connected to: an address (whoever answers there), or a node (wherever it is). */
interface Target {
  readonly name: string;
  readonly addresses: (attempt: number) => readonly string[];
  /** Known from the start for a node; for an address, who answered last. */
  node: NodeId | undefined;
  attempt: number;
  dialling: boolean;
  dropped: boolean;
  cancel: (() => void) | undefined;
}

export class Supervisor {
  readonly #options: SupervisorOptions;
  readonly #byAddress = new Map<string, Target>();
  readonly #byNode = new Map<NodeId, Target>();
  readonly #heardAt = new Map<NodeId, number>();
  readonly #connectedAt = new Map<NodeId, number>();
  #wanted = new Set<NodeId>();
  readonly #cancels = new Set<() => void>();
  #stopped = false;

  constructor(options: SupervisorOptions) {
    this.#options = options;
  }

  /** @param configured addresses to dial for ever. @throws NetError BAD_ADDRESS, before anything is dialled */
  start(configured: readonly string[]): void {
    const { host, defaultPort } = this.#options;
    host.addEventListener("peer:connect", (event) => this.#connectedAt.set(event.detail.toString() as NodeId, this.#options.system.monotonic()));
    host.addEventListener("peer:disconnect", (event) => this.#disconnected(event.detail.toString() as NodeId));
    const peers = configured.map((text) => parsePeerAddress(text, defaultPort));
    for (const peer of peers) this.#follow(peer, new Set());
    this.#every(FORGET_MS / 4, () => this.#forget());
  }

  stop(): void {
    this.#stopped = true;
    for (const cancel of this.#cancels) cancel();
    for (const target of [...this.#byAddress.values(), ...this.#byNode.values()]) target.cancel?.();
  }

  /** The layout's members: dialled for ever, wherever the address book says they are. */
  want(peers: readonly NodeId[]): void {
    this.#wanted = new Set(peers.filter((peer) => peer !== this.#options.self));
    for (const peer of this.#wanted) this.#nodeTarget(peer);
  }

  wanted(): ReadonlySet<NodeId> {
    return this.#wanted;
  }

  /** Somebody mentioned this node, or it greeted us: worth a connection for a while. */
  heardOf(node: NodeId): void {
    if (node === this.#options.self || this.#stopped || this.#options.isRevoked(node)) return;
    if (!this.#byNode.has(node) && this.#byNode.size >= KNOWN_NODES_MAX) return;
    this.#heardAt.set(node, this.#options.system.monotonic());
    this.#nodeTarget(node);
  }

  /** @throws NetError BAD_ADDRESS, UNREACHABLE */
  async dial(text: string): Promise<NodeId> {
    const addresses = await resolvePeerAddress(parsePeerAddress(text, this.#options.defaultPort), this.#options.resolver);
    if (addresses.length === 0) throw new NetError("UNREACHABLE", `No address is known for "${text}".`);
    try {
      const connection = await Promise.any(addresses.map((address) => this.#connect([address])));
      return connection.remotePeer.toString() as NodeId;
    } catch (error) {
      throw new NetError("UNREACHABLE", `Nobody we know answers at "${text}", or we are not admitted there.`, error);
    }
  }

  /** Keeps one address target for each address that a configured peer means at the time. */
  #follow(peer: PeerAddress, before: ReadonlySet<string>): void {
    void resolvePeerAddress(peer, this.#options.resolver).then((found) => {
      if (this.#stopped) return;
      // A name that does not resolve for a moment is no reason to stop dialling where it was.
      const now = found.length > 0 ? new Set(found) : before;
      for (const address of before) if (!now.has(address)) this.#drop(this.#byAddress, address);
      for (const address of now) this.#addressTarget(address);
      this.#after(now.size === 0 ? RESOLVE_EMPTY_MS : RESOLVE_MS, () => this.#follow(peer, now));
    });
  }

  #addressTarget(address: string): void {
    if (this.#byAddress.has(address)) return;
    const target = newTarget(address, () => [address], undefined);
    this.#byAddress.set(address, target);
    this.#soon(target);
  }

  #nodeTarget(node: NodeId): void {
    const known = this.#byNode.get(node);
    if (known !== undefined) return;
    const target = newTarget(node, (attempt) => pinned(node, aFew(this.#options.book.of(node), attempt)), node);
    this.#byNode.set(node, target);
    this.#soon(target);
  }

  #drop<Key>(targets: Map<Key, Target>, key: Key): void {
    const target = targets.get(key);
    if (target === undefined) return;
    target.dropped = true;
    target.cancel?.();
    targets.delete(key);
  }

  #forget(): void {
    const old = this.#options.system.monotonic() - FORGET_MS;
    for (const [node] of this.#byNode) {
      if (this.#wanted.has(node) || this.#isConnected(node) || (this.#heardAt.get(node) ?? 0) > old) continue;
      this.#heardAt.delete(node);
      this.#drop(this.#byNode, node);
    }
  }

  #disconnected(node: NodeId): void {
    const lived = this.#options.system.monotonic() - (this.#connectedAt.get(node) ?? Number.NEGATIVE_INFINITY);
    this.#connectedAt.delete(node);
    for (const target of [...this.#byAddress.values(), ...this.#byNode.values()]) {
      if (target.node !== node) continue;
      target.attempt = lived < STEADY_MS ? target.attempt + 1 : 0;
      this.#soon(target);
    }
  }

  /** The first try at once, later ones after a jittered, doubling pause. */
  #soon(target: Target): void {
    if (this.#stopped || target.dropped || target.dialling) return;
    target.cancel?.();
    const { system } = this.#options;
    const pause = target.attempt === 0 ? 0 : Math.min(BACKOFF_MIN_MS * 2 ** (target.attempt - 1), BACKOFF_MAX_MS) * (0.5 + system.random() / 2);
    target.cancel = system.after(pause, () => void this.#try(target));
  }

  async #try(target: Target): Promise<void> {
    if (this.#stopped || target.dropped || target.dialling) return;
    target.node ??= this.#livesAt(target.name);
    if (target.node !== undefined && this.#isConnected(target.node)) return; // #disconnected calls again
    const addresses = this.#addressesOf(target).filter((address) => !this.#options.ownAddresses().includes(withoutPeerId(address)));
    if (addresses.length === 0) return this.#failed(target, undefined);
    target.dialling = true;
    let problem: Error | undefined;
    try {
      const connection = await this.#connect(addresses);
      target.node = connection.remotePeer.toString() as NodeId;
    } catch (error) {
      problem = error as Error;
    } finally {
      target.dialling = false;
    }
    if (problem !== undefined) this.#failed(target, problem, addresses);
    else if (!this.#isConnected(target.node!)) this.#failed(target, undefined); // it ended while we looked away
  }

  /** A revoked node is not asked for; an address may by now be somebody else's. */
  #addressesOf(target: Target): readonly string[] {
    if (this.#byNode.get(target.node!) === target && this.#options.isRevoked(target.node!)) return [];
    return target.addresses(target.attempt);
  }

  #failed(target: Target, error: Error | undefined, addresses: readonly string[] = []): void {
    if (this.#stopped) return;
    target.attempt += 1;
    const { log, meter, system } = this.#options;
    const why = reasonsOf(error);
    // A revoked node, or one that has revoked us, may be replaced at its address one day: no reason to knock every few seconds.
    if (why.some((reason) => reason.includes("dial self") || reason.endsWith(": revoked"))) {
      target.cancel = system.after(SELF_MS, () => void this.#try(target));
      return;
    }
    if (error !== undefined) meter.count("connection_error", 1, "dial");
    log.debug({ target: target.name, attempt: target.attempt, error: why.join("; ") }, "dial failed");
    if (target.attempt === WORTH_TELLING && error !== undefined) this.#tell(target, why, addresses);
    this.#soon(target);
  }

  /** Addresses inside two clusters may be the same by chance; of one that leads through an ingress that is a mistake. */
  #tell(target: Target, why: readonly string[], addresses: readonly string[]): void {
    const { log } = this.#options;
    const shared = addresses.find((address) => isWebSocket(address) && why.includes(answeredByAnother(address)));
    if (shared === undefined) log.info({ target: target.name, why }, "a peer cannot be reached; it is dialled until it can");
    else
      log.warn(
        { target: target.name, address: withoutPeerId(shared) },
        "another node answers at an address that this peer advertises: behind an ingress each node needs a host name, a port or a path of its own (FEDERATION_ADVERTISE); it is dialled until it answers itself",
      );
  }

  async #connect(addresses: readonly string[]): Promise<Connection> {
    const connection = await this.#options.host.dial(addresses.map((address) => multiaddr(address)));
    const node = connection.remotePeer.toString() as NodeId;
    this.#options.book.worked(node, withoutPeerId(connection.remoteAddr));
    this.heardOf(node);
    return connection;
  }

  /** The connected node that is known to live at an address, so that it need not be dialled to find out. */
  #livesAt(address: string): NodeId | undefined {
    const { host, book } = this.#options;
    const nodes = host.getPeers().map((peer) => peer.toString() as NodeId);
    return nodes.find((node) => book.of(node).includes(withoutPeerId(address)));
  }

  #isConnected(node: NodeId): boolean {
    return this.#options.host.getConnections(peerIdFromString(node)).some((connection) => connection.status === "open");
  }

  #after(ms: number, run: () => void): void {
    const cancel = this.#options.system.after(ms, () => {
      this.#cancels.delete(cancel);
      run();
    });
    this.#cancels.add(cancel);
  }

  #every(ms: number, run: () => void): void {
    this.#after(ms, () => {
      run();
      this.#every(ms, run);
    });
  }
}

function newTarget(name: string, addresses: Target["addresses"], node: NodeId | undefined): Target {
  return { name, addresses, node, attempt: 0, dialling: false, dropped: false, cancel: undefined };
}

/** The best address always, and with each attempt other ones beside it. */
function aFew(addresses: readonly string[], attempt: number): string[] {
  const [best, ...others] = addresses;
  if (best === undefined) return [];
  const from = others.length === 0 ? 0 : (attempt * (ADDRESSES_A_DIAL - 1)) % others.length;
  return [best, ...others.slice(from, from + ADDRESSES_A_DIAL - 1)];
}

/** With the id in the address nobody else is accepted there. */
function pinned(node: NodeId, addresses: readonly string[]): string[] {
  return addresses.map((address) => `${address}/p2p/${node}`);
}

/** One for each address that was tried. */
function reasonsOf(error: Error | undefined): string[] {
  return error === undefined ? [] : (error instanceof AggregateError ? (error.errors as Error[]) : [error]).map(({ message }) => message);
}
