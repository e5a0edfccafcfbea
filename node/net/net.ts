/** The network of one node: frames to peers on 8421, news on 8422. Carries bytes and never looks inside. */
import { lookup } from "node:dns/promises";
import { isIPv4, isIPv6, type Socket } from "node:net";
import type { Connection, Libp2p } from "@libp2p/interface";
import type { Keyring } from "../../crypto/keyring.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { PEER_QUEUE_MAX_BYTES } from "../../protocol/limits.ts";
import type { Log, Meter, Network, System } from "../ports.ts";
import { AddressBook, type Addresses } from "./address-book.ts";
import { announceable, isDialable, isWebSocket, parsePeerAddress, type Resolver, tcpMultiaddr, withoutPeerId } from "./addresses.ts";
import { type Card, Cards } from "./cards.ts";
import { NetError } from "./errors.ts";
import type { HealthAnswer } from "./federation-port.ts";
import { Gossip, topicsOf } from "./gossip.ts";
import type { Hello, Presence } from "./hello.ts";
import { createFederationHost, createGossipHost, type GossipHost, identitiesOf, startHost } from "./hosts.ts";
import { Links } from "./links.ts";
import { Refusals } from "./refusals.ts";
import { systemResolver } from "./resolver.ts";
import { Supervisor } from "./supervisor.ts";

/** libp2p.stop() can hang; after this the sockets are cut. */
const STOP_MS = 3_000;
/** Addresses one hello or presence may carry. */
const ANNOUNCED_MAX = 16;

export interface NetOptions {
  /** 32 bytes; both identities come from it. */
  readonly nodeKey: Uint8Array;
  readonly keyring: Keyring;
  /** IP address or name to listen on. */
  readonly host: string;
  /** 0 takes a free one. */
  readonly federationPort: number;
  readonly gossipPort: number;
  /** Addresses of port 8421 to tell others instead of those we listen on; a name or host:port or multiaddr, `/tls/ws` through an ingress. */
  readonly advertise: readonly string[];
  /** Addresses to dial for ever. */
  readonly peers: readonly string[];
  readonly log: Log;
  readonly meter: Meter;
  readonly system: System;
  /** What `GET /health` and `GET /ready` on port 8421 answer. */
  readonly health: HealthAnswer;
  /** The address book as it was saved last. */
  readonly loadAddresses: () => Addresses;
  readonly saveAddresses: (book: Record<NodeId, string[]>) => void;
  /** In the layout: such a node is admitted with an old secret too. */
  readonly isMember: (node: NodeId) => boolean;
  /** Shut out: not admitted on either port, not dialled, not passed on. Asked at every door; who is connected already is ended by `disconnect`. */
  readonly isRevoked: (node: NodeId) => boolean;
  /** Peers a gossip message is passed on to. */
  readonly fanout: number;
  /** Bytes that may wait for one peer. */
  readonly maxQueueBytes?: number;
  /** Default: the machine's DNS. */
  readonly resolver?: Resolver;
}

export interface Net extends Network {
  /** libp2p id on port 8421, the NodeId. */
  readonly peerId: NodeId;
  readonly gossipPeerId: string;
  /** @throws NetError PORT_IN_USE, LISTEN_FAILED, BAD_ADDRESS */
  start(): Promise<void>;
  /** Resolves after at most 3 s. No event comes after it; onPeer(peer, false) comes during it. */
  stop(): Promise<void>;
  /** The nodes to stay connected to, wherever the address book says they are. Replaces the set given before. */
  want(peers: readonly NodeId[]): void;
  /** Connects once; the address is remembered. @throws NetError BAD_ADDRESS, UNREACHABLE */
  dial(address: string): Promise<NodeId>;
  /** What others are told: multiaddrs of port 8421 with real ports, without peer id. */
  listenAddresses(): string[];
  /** Ends every connection of an identity, on both ports, at once. Unless it is revoked it may come back. */
  disconnect(node: NodeId): void;
  /** Public ids of the federation secrets a peer was started with, first the one it seals with; undefined when it is not connected. */
  secretIds(peer: NodeId): readonly string[] | undefined;
}

/** Derives the identities; listens only with `start`. @throws CryptoError BAD_LENGTH for a node key that is not 32 bytes */
export async function createNet(options: NetOptions): Promise<Net> {
  const identities = await identitiesOf(options.nodeKey);
  const listenHost = await listenHostOf(options.host);
  const sockets = new Set<Socket>();
  const { keyring, log, meter, system, isMember, isRevoked } = options;
  const refusals = new Refusals(log, meter, system);
  const shared = { keyring, refusals, meter, system };
  const ofOwner = (id: string, is: (node: NodeId) => boolean) => {
    const node = net.ownerOfGossipId(id);
    return node !== undefined && is(node);
  };
  const federation = await createFederationHost(
    {
      ...shared,
      identity: identities.federation,
      listen: tcpMultiaddr(listenHost, options.federationPort),
      isKnown: (peer) => isMember(peer as NodeId),
      isRevoked: (peer) => isRevoked(peer as NodeId),
    },
    { health: options.health, sockets },
  );
  const gossip = await createGossipHost(
    {
      ...shared,
      identity: identities.gossip,
      listen: tcpMultiaddr(listenHost, options.gossipPort),
      isKnown: (peer) => ofOwner(peer, isMember),
      isRevoked: (peer) => ofOwner(peer, isRevoked),
      isExpected: (peer) => net.isExpectedOnGossip(peer),
    },
    options.fanout,
    topicsOf(keyring),
  );
  const net = new LibP2pNet(options, federation, gossip, sockets, refusals);
  return net;
}

async function listenHostOf(host: string): Promise<string> {
  if (isIPv4(host) || isIPv6(host)) return host;
  try {
    return (await lookup(host)).address;
  } catch (error) {
    throw new NetError("LISTEN_FAILED", `HOST "${host}" has no address on this machine.`, error);
  }
}

class LibP2pNet implements Net {
  readonly self: NodeId;
  readonly peerId: NodeId;
  readonly gossipPeerId: string;
  onFrame: (from: NodeId, frame: Uint8Array) => void = () => {};
  onPeer: (peer: NodeId, connected: boolean) => void = () => {};
  onNews: (from: NodeId, news: Uint8Array) => void = () => {};

  readonly #options: NetOptions;
  readonly #federation: Libp2p;
  readonly #gossipHost: GossipHost;
  readonly #sockets: Set<Socket>;
  readonly #session: string;
  readonly #book: AddressBook;
  readonly #cards: Cards;
  readonly #links: Links;
  readonly #gossip: Gossip;
  readonly #supervisor: Supervisor;

  constructor(options: NetOptions, federation: Libp2p, gossipHost: GossipHost, sockets: Set<Socket>, refusals: Refusals) {
    const { log, meter, system, keyring, isRevoked } = options;
    this.#options = options;
    this.#federation = federation;
    this.#gossipHost = gossipHost;
    this.#sockets = sockets;
    this.self = federation.peerId.toString() as NodeId;
    this.peerId = this.self;
    this.gossipPeerId = gossipHost.peerId.toString();
    this.#session = Buffer.from(system.randomBytes(16)).toString("hex");
    this.#book = new AddressBook(options.loadAddresses(), options.saveAddresses, system);
    this.#cards = new Cards({ self: this.self, addresses: () => this.listenAddresses(), system });
    this.#links = new Links({
      host: federation,
      self: this.self,
      hello: () => this.#hello(),
      isRevoked,
      refusals,
      untold: (told) => this.#cards.untold(this.#shared(), told),
      onCards: (cards) => this.#toldOf(cards),
      maxQueueBytes: options.maxQueueBytes ?? PEER_QUEUE_MAX_BYTES,
      log,
      meter,
      system,
      onFrame: (from, frame) => this.onFrame(from, frame),
      onPeer: (peer, connected) => this.#peerChanged(peer, connected),
      onHello: (peer, hello, connection) => this.#greeted(peer, hello, connection),
    });
    this.#gossip = new Gossip({
      host: gossipHost,
      keyring,
      self: this.self,
      isRevoked,
      presence: () => ({ node: this.self, addresses: this.listenAddresses(), gossip: this.#gossipContact() }),
      onPresence: (presence) => this.#heard(presence),
      log,
      meter,
      system,
    });
    this.#supervisor = new Supervisor({
      self: this.self,
      host: federation,
      book: this.#book,
      resolver: options.resolver ?? systemResolver,
      ownAddresses: () => this.listenAddresses(),
      isRevoked,
      defaultPort: options.federationPort,
      log,
      meter,
      system,
    });
  }

  async start(): Promise<void> {
    const { federationPort, gossipPort, peers, advertise } = this.#options;
    for (const text of [...peers, ...advertise]) parsePeerAddress(text, federationPort);
    await this.#links.start();
    await startHost(this.#federation, federationPort, "FEDERATION_PORT");
    try {
      await startHost(this.#gossipHost, gossipPort, "GOSSIP_PORT");
    } catch (error) {
      await this.stop();
      throw error;
    }
    this.#gossip.start();
    this.#supervisor.start(peers);
  }

  async stop(): Promise<void> {
    this.#supervisor.stop();
    this.#gossip.stop();
    this.#links.stop();
    this.#book.flush();
    const hosts = [this.#federation, this.#gossipHost];
    const stopped = Promise.allSettled(hosts.map((host) => host.stop()));
    let cancel = () => {};
    const deadline = new Promise<void>((resolve) => {
      cancel = this.#options.system.after(STOP_MS, resolve);
    });
    await Promise.race([stopped, deadline]);
    cancel();
    for (const host of hosts) for (const connection of host.getConnections()) connection.abort(new Error("stopped"));
    for (const socket of this.#sockets) socket.destroy();
  }

  send(to: NodeId, frame: Uint8Array): boolean {
    return this.#links.send(to, frame);
  }

  announce(news: Uint8Array): void {
    this.#gossip.announce(news);
  }

  latencyMs(peer: NodeId): number | undefined {
    return this.#links.latencyMs(peer);
  }

  connected(): readonly NodeId[] {
    return this.#links.up();
  }

  want(peers: readonly NodeId[]): void {
    this.#supervisor.want(peers);
  }

  dial(address: string): Promise<NodeId> {
    return this.#supervisor.dial(address);
  }

  listenAddresses(): string[] {
    return this.#addressesOf(this.#federation, this.#options.federationPort, true);
  }

  disconnect(node: NodeId): void {
    this.#links.disconnect(node);
    this.#gossip.disconnect(node);
  }

  secretIds(peer: NodeId): readonly string[] | undefined {
    return this.#links.secretIds(peer);
  }

  isExpectedOnGossip(id: string): Promise<boolean> {
    return this.#gossip.isExpected(id);
  }

  ownerOfGossipId(id: string): NodeId | undefined {
    return this.#gossip.ownerOf(id);
  }

  #gossipContact(): Hello["gossip"] {
    return { id: this.gossipPeerId, addresses: this.#addressesOf(this.#gossipHost, this.#options.gossipPort, false) };
  }

  /**
   * What is advertised replaces what is listened on; the gossip port is then expected on the same hosts. An ingress passes on HTTP only, so behind one
   * gossip stays among those that reach each other directly.
   */
  #addressesOf(host: { getMultiaddrs(): { toString(): string }[] }, port: number, federation: boolean): string[] {
    const { advertise, federationPort } = this.#options;
    const advertised = advertise.flatMap((text) => {
      const parsed = parsePeerAddress(text, federationPort);
      if (parsed.kind === "host") return [tcpMultiaddr(parsed.host, federation ? parsed.port : port)];
      const address = withoutPeerId(parsed.address);
      if (federation) return [address];
      return isWebSocket(address) ? [] : [address.replace(/\/tcp\/\d+/, `/tcp/${port}`)];
    });
    if (advertised.length > 0) return advertised.slice(0, ANNOUNCED_MAX);
    return announceable(host.getMultiaddrs().map((address) => withoutPeerId(String(address)))).slice(0, ANNOUNCED_MAX);
  }

  #hello(): Hello {
    const { keyring } = this.#options;
    const { stamp } = this.#cards.own();
    return { session: this.#session, addresses: this.listenAddresses(), stamp, gossip: this.#gossipContact(), secretIds: keyring.ids };
  }

  /** Whose addresses are passed on: the layout's members, whoever is connected, and our own. */
  #shared(): Set<NodeId> {
    const nodes = new Set([this.self, ...this.#supervisor.wanted(), ...this.#links.up()]);
    for (const node of nodes) if (this.#options.isRevoked(node)) nodes.delete(node);
    return nodes;
  }

  #greeted(peer: NodeId, hello: Hello, connection: Connection): void {
    this.#book.heard(peer, [...hello.addresses, ...observed(hello, connection)]);
    this.#cards.said({ node: peer, stamp: hello.stamp, addresses: hello.addresses.filter(isDialable) });
    this.#gossip.met(peer, hello.gossip);
    this.#supervisor.heardOf(peer);
  }

  #toldOf(cards: readonly Card[]): void {
    for (const { node, stamp, addresses } of cards) {
      if (this.#options.isRevoked(node)) continue;
      const card = { node, stamp, addresses: addresses.filter(isDialable) };
      if (!this.#cards.passedOn(card)) continue;
      this.#book.heard(node, card.addresses);
      this.#supervisor.heardOf(node);
    }
  }

  #heard(presence: Presence): void {
    this.#book.heard(presence.node, presence.addresses);
    this.#cards.passedOn({ node: presence.node, stamp: 0, addresses: presence.addresses.filter(isDialable) });
    this.#supervisor.heardOf(presence.node);
    if (presence.news !== undefined) this.onNews(presence.node, presence.news);
  }

  #peerChanged(peer: NodeId, connected: boolean): void {
    this.#options.log.info({ peer }, connected ? "peer connected" : "peer gone");
    if (!connected) this.#gossip.left(peer);
    this.onPeer(peer, connected);
  }
}

/**
 * Where a caller came from, with the port it says it listens on: right where its own addresses mean nothing to us (NAT, containers). What comes over
 * WebSocket comes from the ingress, which is not where the caller lives.
 */
function observed(hello: Hello, connection: Connection): string[] {
  if (isWebSocket(connection.remoteAddr)) return [];
  const host = connection.remoteAddr.getComponents()[0]?.value;
  const port = /\/tcp\/(\d+)$/.exec(hello.addresses[0] ?? "")?.[1];
  return connection.direction === "inbound" && host !== undefined && port !== undefined ? [tcpMultiaddr(host, Number(port))] : [];
}
