/**
 * From bytes on a connection to verified messages, and back. Keeps who is at the other end: the hello names the incarnation, every later frame must
 * come from it. A peer that speaks another version or belongs to another federation is refused by name, once, and not listened to.
 */
import { writerIdOf } from "../crypto/hash.ts";
import type { Keyring } from "../crypto/keyring.ts";
import { ProtocolError } from "../protocol/errors.ts";
import { encodeFrame, openFrame, type VerifiedMessage } from "../protocol/frame.ts";
import type { FederationId, Incarnation, NodeId, WriterId } from "../protocol/ids.ts";
import type { Message, MessageOf } from "../protocol/message.ts";
import { HELLO_VERSION } from "../protocol/version.ts";
import type { Log, Meter, Network } from "./ports.ts";

export interface PeerInfo {
  readonly node: NodeId;
  readonly name: string;
  readonly incarnation: Incarnation;
  readonly writer: WriterId;
  readonly zone: string;
  readonly layoutVersion: number;
  /** Protocol version spoken with it: the highest that both know. */
  readonly version: number;
}

/** Protocol versions this node speaks. */
export interface Versions {
  readonly min: number;
  readonly max: number;
}

/** What an operator can do about it with this version. */
const OTHER_FEDERATION =
  "it belongs to another federation under the same secret, and two that have formed do not merge by themselves. One joins the other: write down what it remembers, tenant by tenant (GET /v1/memories and /v1/messages; `continuum export` and `import` do not exist yet in this version), stop its nodes, start them with empty data folders, without FEDERATION_FIRST_MEMBERS, with FEDERATION_PEERS naming a node of the other and FEDERATION_AUTO_JOIN=true, and store it again (POST /v1/memories/batch and /v1/learn). Two that are to stay apart need different secrets";

export interface LinksOptions {
  readonly network: Network;
  readonly keyring: Keyring;
  readonly self: { readonly name: string; readonly incarnation: Incarnation; readonly writer: WriterId; readonly zone: string };
  readonly federation: () => { readonly federation: FederationId | null; readonly layoutVersion: number; readonly layoutTag: string };
  readonly versions: Versions;
  readonly meter: Meter;
  readonly log: Log;
  readonly onPeer: (peer: PeerInfo, connected: boolean) => void;
  readonly onMessage: (verified: VerifiedMessage, peer: PeerInfo) => void;
}

export class Links {
  readonly #options: LinksOptions;
  readonly #peers = new Map<NodeId, PeerInfo>();
  /** Connected nodes whose hello was refused: of them only their own refusal is heard. */
  readonly #strangers = new Map<NodeId, WriterId>();
  readonly #refused = new Set<string>();
  /** Of connected nodes that are no peers. */
  readonly #why = new Map<NodeId, string>();

  constructor(options: LinksOptions) {
    this.#options = options;
    options.network.onPeer = (node, connected) => this.#connection(node, connected);
    options.network.onFrame = (from, bytes) => this.#frame(from, bytes);
  }

  peers(): readonly PeerInfo[] {
    return [...this.#peers.values()];
  }

  peer(node: NodeId): PeerInfo | undefined {
    return this.#peers.get(node);
  }

  /** Why a connected node and this one do not speak with each other. */
  whyNoPeer(node: NodeId): string | undefined {
    return this.#peers.has(node) ? undefined : this.#why.get(node);
  }

  /** False: not connected or its queue is full; repair finds what was in it. */
  send(to: NodeId, message: Message): boolean {
    return this.#sendFrame(to, this.#encode(message, this.#peers.get(to)?.version ?? HELLO_VERSION));
  }

  /** The same bytes to all that speak one version. */
  sendAll(to: readonly NodeId[], message: Message): void {
    const frames = new Map<number, Uint8Array>();
    for (const node of to) {
      const version = this.#peers.get(node)?.version ?? HELLO_VERSION;
      let frame = frames.get(version);
      if (frame === undefined) {
        frame = this.#encode(message, version);
        frames.set(version, frame);
      }
      this.#sendFrame(node, frame);
    }
  }

  #encode(message: Message, version: number): Uint8Array {
    const { federation, layoutVersion, layoutTag } = this.#options.federation();
    return encodeFrame({ federation, writer: this.#options.self.writer, layoutVersion, layoutTag: version < 2 ? undefined : layoutTag }, message);
  }

  #sendFrame(to: NodeId, frame: Uint8Array): boolean {
    const sent = this.#options.network.send(to, frame);
    if (!sent) this.#options.meter.count("frame_dropped", 1, "queue");
    return sent;
  }

  #connection(node: NodeId, connected: boolean): void {
    const known = this.#peers.get(node);
    this.#strangers.delete(node);
    this.#why.delete(node);
    if (known !== undefined) {
      this.#peers.delete(node);
      this.#options.onPeer(known, false);
    }
    if (connected) this.send(node, this.#hello());
  }

  #hello(): MessageOf<"hello"> {
    const { name, incarnation, zone } = this.#options.self;
    const { federation, layoutVersion } = this.#options.federation();
    const { min, max } = this.#options.versions;
    return { type: "hello", versionMin: min, versionMax: max, federation, name, incarnation, zone, layoutVersion };
  }

  #frame(from: NodeId, bytes: Uint8Array): void {
    const { federation } = this.#options.federation();
    let verified: VerifiedMessage;
    try {
      const writer = this.#peers.get(from)?.writer ?? this.#strangers.get(from);
      verified = openFrame(bytes, { from, writer, federation, keyring: this.#options.keyring });
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.refuse(from, error.code, error.message);
      return;
    }
    const theirs = verified.header.federation;
    if (theirs !== null && federation !== null && theirs !== federation) {
      const hello = verified.message.type === "hello" ? verified.message : undefined;
      if (hello !== undefined) this.#strangers.set(from, writerIdOf(from, hello.incarnation) as WriterId);
      this.refuse(from, "FOREIGN", OTHER_FEDERATION, { ...(hello && { name: hello.name }), federation: theirs }, theirs);
      return;
    }
    // A live push comes from its own writer; what a member stored of others comes as repair.
    if (verified.message.type === "push" && verified.deltas.some(({ delta }) => delta.header.writer !== verified.header.writer)) {
      this.refuse(from, "FOREIGN", "it pushes deltas in the name of another writer");
      return;
    }
    if (verified.message.type === "hello") {
      this.#greet(from, verified.message);
      return;
    }
    if (verified.message.type === "refused") {
      this.#because(from, `it refuses this node: ${verified.message.detail}`);
      this.#note(
        `${from}/refused/${verified.message.code}`,
        { peer: from, code: verified.message.code, detail: verified.message.detail },
        "a peer refuses us",
      );
      return;
    }
    const peer = this.#peers.get(from);
    if (peer !== undefined) this.#options.onMessage(verified, peer);
  }

  #greet(from: NodeId, hello: MessageOf<"hello">): void {
    const { min, max } = this.#options.versions;
    const writer = writerIdOf(from, hello.incarnation) as WriterId;
    if (hello.versionMin > max || hello.versionMax < min) {
      this.#strangers.set(from, writer);
      this.refuse(from, "VERSION", `it speaks protocol versions ${hello.versionMin} to ${hello.versionMax}, this node ${min} to ${max}`);
      return;
    }
    const peer: PeerInfo = {
      node: from,
      name: hello.name,
      incarnation: hello.incarnation,
      writer,
      zone: hello.zone,
      layoutVersion: hello.layoutVersion,
      version: Math.min(max, hello.versionMax),
    };
    const known = this.#peers.get(from);
    this.#peers.set(from, peer);
    if (known === undefined || known.writer !== writer) this.#options.onPeer(peer, true);
  }

  /** Counts what a peer sent and should not have, says so in one line a peer (or what else it is about) and reason, and tells the peer. */
  refuse(from: NodeId, code: string, detail: string, facts: object = {}, about: string = from): void {
    this.#options.meter.count("connection_error", 1, code.toLowerCase());
    this.#because(from, detail);
    if (!this.#note(`${about}/${code}`, { peer: from, code, detail, ...facts }, "a peer's message was refused")) return;
    this.send(from, { type: "refused", code, detail });
  }

  /** The first reason is the true one: what a stranger says afterwards is refused because it is one. */
  #because(node: NodeId, why: string): void {
    if (!this.#why.has(node)) this.#why.set(node, why);
  }

  /** Once a peer and reason. */
  #note(name: string, facts: object, message: string): boolean {
    if (this.#refused.has(name)) return false;
    if (this.#refused.size > 1000) this.#refused.clear();
    this.#refused.add(name);
    this.#options.log.warn(facts, message);
    return true;
  }
}
