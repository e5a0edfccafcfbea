/**
 * Port 8422: who is there, where, and "I have news". Sealed under the gossip key, on a topic whose name says nothing. Only hints: a message
 * may be lost, late or doubled, and everything works without it.
 */
import { peerIdFromString } from "@libp2p/peer-id";
import { multiaddr } from "@multiformats/multiaddr";
import { DOMAINS } from "../../crypto/domains.ts";
import { hkdfSha256, toBase64url } from "../../crypto/hash.ts";
import type { Keyring } from "../../crypto/keyring.ts";
import { NONCE_BYTES, openWith, sealWith } from "../../crypto/seal.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { GOSSIP_MESSAGE_MAX_BYTES, KNOWN_NODES_MAX } from "../../protocol/limits.ts";
import type { Log, Meter, System } from "../ports.ts";
import { isDialable } from "./addresses.ts";
import { decodePresence, encodePresence, type GossipContact, type Presence } from "./hello.ts";
import type { GossipHost } from "./hosts.ts";

const PRESENCE_MS = 5_000;
/** Every presence goes through every node, several times: with more peers than this each comes more seldom. */
const PRESENCE_PEERS = 10;
/** News that come faster than this are one message: the latest. */
const NEWS_MS = 50;
const CONNECT_MS = 1_000;
/** The higher id of two dials only if the lower has not managed to in this time. */
const PATIENCE_MS = 5_000;
/** Between two dials of one peer, doubling: port 8422 of a node behind an ingress is never reached, and everything works without it. */
const BACKOFF_MIN_MS = 1_000;
const BACKOFF_MAX_MS = 60_000;
/** A caller whose hello is still on its way over port 8421 is waited for so long. */
const INTRODUCED_MS = 2_000;
const LOOK_MS = 20;

/**
 * Between two presences of one node, so that what a node hears and passes on does not grow with the federation. The largest one has two minutes between them; the
 * supervisor forgets a node it does not hear of after ten. News do not wait for it.
 */
export function presencePauseMs(peers: number): number {
  return PRESENCE_MS * Math.max(1, peers / PRESENCE_PEERS);
}

export interface GossipOptions {
  readonly host: GossipHost;
  readonly keyring: Keyring;
  readonly self: NodeId;
  readonly isRevoked: (node: NodeId) => boolean;
  readonly presence: () => Omit<Presence, "news">;
  readonly onPresence: (presence: Presence) => void;
  readonly log: Log;
  readonly meter: Meter;
  readonly system: System;
}

/** Public, so not to be linked to the secret by who does not have it. One for each secret: the first is spoken on, all are heard. */
export function topicsOf(keyring: Keyring): string[] {
  return keyring.ids.map((_, index) => `/continuum/${toBase64url(hkdfSha256(keyring.key("gossip", index), DOMAINS.topic, "", 16))}`);
}

interface Contact {
  readonly contact: GossipContact;
  since: number;
  dialling: boolean;
  failures: number;
  /** Monotonic ms; not dialled before. */
  dialAt: number;
}

export class Gossip {
  readonly #options: GossipOptions;
  readonly #topics: readonly string[];
  /** Peers of 8421. */
  readonly #contacts = new Map<NodeId, Contact>();
  /** Of those that left too: their gossip connections may still be there. */
  readonly #gossipIds = new Map<NodeId, string>();
  readonly #cancels = new Map<string, () => void>();
  #pendingNews: Uint8Array | undefined;
  #newsWait = false;
  #stopped = false;

  constructor(options: GossipOptions) {
    this.#options = options;
    this.#topics = topicsOf(options.keyring);
  }

  start(): void {
    const { pubsub } = this.#options.host.services;
    for (const topic of this.#topics) {
      // Read in the validator, so that what does not open is not passed on either.
      pubsub.topicValidators.set(topic, (_peer, message) => this.#receive(topic, message.data) as never);
      pubsub.subscribe(topic);
    }
    this.#later("presence", 200, () => this.#announcePresence());
    this.#later("connect", CONNECT_MS, () => this.#connectLoop());
  }

  stop(): void {
    this.#stopped = true;
    for (const cancel of this.#cancels.values()) cancel();
  }

  announce(news: Uint8Array): void {
    if (this.#newsWait) {
      this.#pendingNews = news;
      return;
    }
    this.#newsWait = true;
    this.#publish(news);
    this.#later("news", NEWS_MS, () => {
      this.#newsWait = false;
      const pending = this.#pendingNews;
      this.#pendingNews = undefined;
      if (pending !== undefined) this.announce(pending);
    });
  }

  /** A peer of 8421 told us where it gossips. */
  met(node: NodeId, contact: GossipContact): void {
    const now = this.#options.system.monotonic();
    const known = this.#contacts.get(node);
    if (known !== undefined && known.contact.id === contact.id && String(known.contact.addresses) === String(contact.addresses)) known.since = now;
    else this.#contacts.set(node, { contact, since: now, dialling: false, failures: 0, dialAt: now });
    this.#remember(node, contact.id);
    this.#connect();
  }

  #remember(node: NodeId, gossipId: string): void {
    this.#gossipIds.delete(node);
    this.#gossipIds.set(node, gossipId);
    const [oldest] = this.#gossipIds.keys();
    if (this.#gossipIds.size > KNOWN_NODES_MAX) this.#gossipIds.delete(oldest!);
  }

  /** The peer of 8421 is gone: its gossip connection may live on, but is not dialled again, nor let in again. */
  left(node: NodeId): void {
    this.#contacts.delete(node);
  }

  /** Ends its gossip connections. */
  disconnect(node: NodeId): void {
    const id = this.#gossipIds.get(node);
    this.left(node);
    if (id === undefined) return;
    for (const connection of this.#options.host.getConnections(peerIdFromString(id))) connection.abort(new Error("given up"));
  }

  /** Only who is a peer on 8421 has a place here, so whoever is shut out there is out here too, whatever id it takes. */
  async isExpected(gossipId: string): Promise<boolean> {
    const { system } = this.#options;
    const until = system.monotonic() + INTRODUCED_MS;
    while (this.ownerOf(gossipId) === undefined) {
      if (this.#stopped || system.monotonic() > until) {
        this.#options.meter.count("connection_error", 1, "gossip_stranger");
        return false;
      }
      await new Promise<void>((resolve) => system.after(LOOK_MS, resolve));
    }
    return true;
  }

  /** Whose gossip id this is, as that node told us on 8421. */
  ownerOf(gossipId: string): NodeId | undefined {
    for (const [node, { contact }] of this.#contacts) if (contact.id === gossipId) return node;
    return undefined;
  }

  #announcePresence(): void {
    this.#publish(undefined);
    const pauseMs = presencePauseMs(this.#contacts.size) * (0.8 + 0.4 * this.#options.system.random());
    this.#later("presence", pauseMs, () => this.#announcePresence());
  }

  #publish(news: Uint8Array | undefined): void {
    const { host, keyring, presence, meter, system, log } = this.#options;
    const topic = this.#topics[0]!;
    const plaintext = encodePresence({ ...presence(), news });
    const sealed = sealWith(keyring, "gossip", system.randomBytes(NONCE_BYTES), plaintext, aadOf(topic));
    if (sealed.length > GOSSIP_MESSAGE_MAX_BYTES) {
      meter.count("frame_dropped", 1, "gossip_too_large");
      return;
    }
    host.services.pubsub.publish(topic, sealed).catch((error: unknown) => log.debug({ error: String(error) }, "gossip was not published"));
  }

  /** Rejects what no member can have sent. */
  #receive(topic: string, data: Uint8Array): "accept" | "ignore" | "reject" {
    if (data.length > GOSSIP_MESSAGE_MAX_BYTES) return "reject";
    let presence: Presence;
    try {
      presence = decodePresence(openWith(this.#options.keyring, "gossip", data, aadOf(topic)));
    } catch {
      this.#options.meter.count("connection_error", 1, "gossip_malformed");
      return "reject";
    }
    if (this.#options.isRevoked(presence.node)) return "ignore";
    if (presence.node !== this.#options.self && !this.#stopped) this.#options.onPresence(presence);
    return "accept";
  }

  #connectLoop(): void {
    this.#connect();
    this.#later("connect", CONNECT_MS, () => this.#connectLoop());
  }

  #connect(): void {
    const { host, self, system } = this.#options;
    const connected = new Set(host.getPeers().map((peer) => peer.toString()));
    for (const [node, contact] of this.#contacts) {
      const now = system.monotonic();
      const ours = self < node || now - contact.since > PATIENCE_MS;
      if (ours && !contact.dialling && now >= contact.dialAt && !connected.has(contact.contact.id)) void this.#dial(contact);
    }
  }

  async #dial(contact: Contact): Promise<void> {
    const { id, addresses } = contact.contact;
    const dialable = addresses.filter(isDialable).map((address) => multiaddr(`${address}/p2p/${id}`));
    if (dialable.length === 0 || this.#stopped) return;
    contact.dialling = true;
    try {
      await this.#options.host.dial(dialable);
      contact.failures = 0;
    } catch (error) {
      this.#options.log.debug({ error: String(error) }, "gossip dial failed");
      contact.failures += 1;
    }
    contact.dialling = false;
    const { system } = this.#options;
    const pause = Math.min(BACKOFF_MIN_MS * 2 ** (contact.failures - 1), BACKOFF_MAX_MS) * (0.75 + system.random() / 2);
    contact.dialAt = system.monotonic() + (contact.failures === 0 ? 0 : pause);
  }

  #later(name: string, ms: number, run: () => void): void {
    if (!this.#stopped) this.#cancels.set(name, this.#options.system.after(ms, run));
  }
}

function aadOf(topic: string): Uint8Array {
  return new TextEncoder().encode(topic);
}
