/**
 * Port 8422: who is there, where, and "I have news". Sealed under the gossip key, on a topic whose name says nothing. Only hints: a message
 * may be lost, late or doubled, and everything works without it.
 */
import { multiaddr } from "@multiformats/multiaddr";
import { DOMAINS } from "../../crypto/domains.ts";
import { hkdfSha256, toBase64url } from "../../crypto/hash.ts";
import type { Keyring } from "../../crypto/keyring.ts";
import { NONCE_BYTES, openWith, sealWith } from "../../crypto/seal.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { GOSSIP_MESSAGE_MAX_BYTES } from "../../protocol/limits.ts";
import type { Log, Meter, System } from "../ports.ts";
import { isDialable } from "./addresses.ts";
import { decodePresence, encodePresence, type GossipContact, type Presence } from "./hello.ts";
import type { GossipHost } from "./hosts.ts";

const PRESENCE_MS = 5_000;
/** News that come faster than this are one message: the latest. */
const NEWS_MS = 50;
const CONNECT_MS = 1_000;
/** The higher id of two dials only if the lower has not managed to in this time. */
const PATIENCE_MS = 5_000;

export interface GossipOptions {
  readonly host: GossipHost;
  readonly keyring: Keyring;
  readonly self: NodeId;
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
  readonly since: number;
  dialling: boolean;
}

export class Gossip {
  readonly #options: GossipOptions;
  readonly #topics: readonly string[];
  readonly #contacts = new Map<NodeId, Contact>();
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
      pubsub.topicValidators.set(topic, (_peer, message) => (this.#receive(topic, message.data) ? "accept" : "reject") as never);
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
    this.#contacts.set(node, { contact, since: this.#options.system.monotonic(), dialling: false });
    this.#connect();
  }

  /** The peer of 8421 is gone: its gossip connection may live on, but is not dialled again. */
  left(node: NodeId): void {
    this.#contacts.delete(node);
  }

  /** Whose gossip id this is, as that node told us on 8421. */
  ownerOf(gossipId: string): NodeId | undefined {
    for (const [node, { contact }] of this.#contacts) if (contact.id === gossipId) return node;
    return undefined;
  }

  #announcePresence(): void {
    this.#publish(undefined);
    this.#later("presence", PRESENCE_MS * (0.8 + 0.4 * this.#options.system.random()), () => this.#announcePresence());
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

  /** @returns false for what no member can have sent */
  #receive(topic: string, data: Uint8Array): boolean {
    if (data.length > GOSSIP_MESSAGE_MAX_BYTES) return false;
    let presence: Presence;
    try {
      presence = decodePresence(openWith(this.#options.keyring, "gossip", data, aadOf(topic)));
    } catch {
      this.#options.meter.count("connection_error", 1, "gossip_malformed");
      return false;
    }
    if (presence.node !== this.#options.self && !this.#stopped) this.#options.onPresence(presence);
    return true;
  }

  #connectLoop(): void {
    this.#connect();
    this.#later("connect", CONNECT_MS, () => this.#connectLoop());
  }

  #connect(): void {
    const { host, self, system } = this.#options;
    const connected = new Set(host.getPeers().map((peer) => peer.toString()));
    for (const [node, contact] of this.#contacts) {
      const ours = self < node || system.monotonic() - contact.since > PATIENCE_MS;
      if (ours && !contact.dialling && !connected.has(contact.contact.id)) void this.#dial(contact);
    }
  }

  async #dial(contact: Contact): Promise<void> {
    const { id, addresses } = contact.contact;
    const dialable = addresses.filter(isDialable).map((address) => multiaddr(`${address}/p2p/${id}`));
    if (dialable.length === 0 || this.#stopped) return;
    contact.dialling = true;
    await this.#options.host.dial(dialable).catch((error: unknown) => this.#options.log.debug({ error: String(error) }, "gossip dial failed"));
    contact.dialling = false;
  }

  #later(name: string, ms: number, run: () => void): void {
    if (!this.#stopped) this.#cancels.set(name, this.#options.system.after(ms, run));
  }
}

function aadOf(topic: string): Uint8Array {
  return new TextEncoder().encode(topic);
}
