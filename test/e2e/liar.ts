/**
 * A member that says what a test wants, to real nodes over real connections: it has a listed identity and the secret, so it is admitted and counts, and
 * keeps to nothing else. It takes the place of a node that was stopped.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Connection, Libp2p, Stream } from "@libp2p/interface";
import { multiaddr } from "@multiformats/multiaddr";
import { writerIdOf } from "../../crypto/hash.ts";
import { createKeyring, type Keyring } from "../../crypto/keyring.ts";
import { sealWith } from "../../crypto/seal.ts";
import { FRAME_KIND, FrameReader } from "../../node/net/frames.ts";
import { encodeHello } from "../../node/net/hello.ts";
import { createFederationHost, identitiesOf } from "../../node/net/hosts.ts";
import { FEDERATION_PROTOCOLS } from "../../node/net/links.ts";
import { Refusals } from "../../node/net/refusals.ts";
import { system } from "../../node/system.ts";
import { decodeWire, type Wire } from "../../protocol/codec.ts";
import type { Delta } from "../../protocol/delta.ts";
import { sealDelta } from "../../protocol/envelope.ts";
import { encodeFrame, type FrameHeader } from "../../protocol/frame.ts";
import type { FederationId, Incarnation, NodeId, WriterId } from "../../protocol/ids.ts";
import { FRAME_MAX_BYTES } from "../../protocol/limits.ts";
import { type Envelope, type Message, messageFromWire } from "../../protocol/message.ts";
import { type FederationNode, pause } from "./federation.ts";

export interface LiarIdentity {
  readonly name: string;
  readonly incarnation: Incarnation;
  readonly zone: string;
  readonly federation: FederationId;
  readonly secret: string;
  /** Of the node whose place it takes. */
  readonly dataDir: string;
}

export class Liar {
  readonly id: NodeId;
  readonly writer: WriterId;
  readonly keyring: Keyring;
  /** What the node said, newest last. */
  readonly heard: Message[] = [];
  /** As the node's own frames say. */
  layoutTag = "";
  layoutVersion = 1;
  readonly #who: LiarIdentity;
  readonly #host: Libp2p;
  readonly #connection: Connection;
  readonly #stream: Stream;
  #mayGoOn = true;

  private constructor(who: LiarIdentity, host: Libp2p, connection: Connection, stream: Stream, keyring: Keyring) {
    this.#who = who;
    this.#host = host;
    this.#connection = connection;
    this.#stream = stream;
    this.keyring = keyring;
    this.id = host.peerId.toString() as NodeId;
    this.writer = writerIdOf(this.id, who.incarnation) as WriterId;
  }

  /** Connected to one node, and silent. */
  static async at(node: Pick<FederationNode, "federationPort">, who: LiarIdentity): Promise<Liar> {
    const key = new Uint8Array(Buffer.from(readFileSync(join(who.dataDir, "identity"), "utf8").trim(), "hex"));
    const { federation, gossip } = await identitiesOf(key);
    const keyring = createKeyring([who.secret]);
    const quiet = { debug() {}, info() {}, warn() {}, error() {} };
    const meter = { count() {}, observe() {} };
    const host = await createFederationHost(
      {
        identity: federation,
        listen: "/ip4/127.0.0.1/tcp/0",
        keyring,
        isKnown: () => true,
        isRevoked: () => false,
        refusals: new Refusals(quiet, meter, system),
        meter,
        system,
      },
      { health: () => ({ status: 200, body: {} }), sockets: new Set() },
    );
    let liar: Liar | undefined;
    await host.handle(FEDERATION_PROTOCOLS[0]!, (stream) => {
      const reader = new FrameReader((kind, bytes) => liar?.[kind === FRAME_KIND.ping ? "pong" : "hear"](kind, bytes));
      stream.addEventListener("message", ({ data }) => reader.feed(data.subarray()));
    });
    await host.start();
    const connection = await host.dial(multiaddr(`/ip4/127.0.0.1/tcp/${node.federationPort}`));
    liar = new Liar(who, host, connection, await connection.newStream(FEDERATION_PROTOCOLS[0]!), keyring);
    const session = Buffer.from(system.randomBytes(16)).toString("hex");
    liar.#stream.send(
      frame(
        FRAME_KIND.hello,
        encodeHello({ session, addresses: [], stamp: 1, gossip: { id: gossip.id, addresses: [] }, secretIds: [...keyring.ids] }, 2),
      ),
    );
    return liar;
  }

  get isConnected(): boolean {
    return this.#connection.status === "open" && this.#stream.status === "open";
  }

  async stop(): Promise<void> {
    await this.#host.stop();
  }

  pong(_kind: number, bytes: Uint8Array): void {
    if (this.isConnected) this.#stream.send(frame(FRAME_KIND.pong, bytes));
  }

  hear(kind: number, bytes: Uint8Array): void {
    if (kind !== FRAME_KIND.data) return;
    const row = decodeWire(bytes, FRAME_MAX_BYTES) as readonly Wire[];
    if (row[0] === 2) {
      this.layoutVersion = row[3] as number;
      this.layoutTag = row[4] as string;
    }
    this.heard.push(messageFromWire(row.at(-1)!));
    if (this.heard.length > 10_000) this.heard.splice(0, 5000);
  }

  /** @param header what it says of itself, where that is not the truth */
  say(message: Message, header: Partial<FrameHeader> = {}): void {
    const { writer, layoutVersion, layoutTag } = this;
    this.sayBytes(encodeFrame({ federation: this.#who.federation, writer, layoutVersion, layoutTag, ...header }, message));
  }

  sayBytes(bytes: Uint8Array): void {
    if (this.isConnected) this.#mayGoOn = this.#stream.send(frame(FRAME_KIND.data, bytes));
  }

  /** As fast as the node reads. */
  async flood(count: number, next: (index: number) => Message): Promise<void> {
    for (let index = 0; index < count && this.isConnected; index++) {
      this.say(next(index));
      if (!this.#mayGoOn) await Promise.race([new Promise((done) => this.#stream.addEventListener("drain", done, { once: true })), pause(5000)]);
      // Its own pongs must get out in between, or it is given up as dead.
      if (index % 200 === 0) await pause(0);
    }
  }

  /** As any member does: from now on it counts. */
  greet(): void {
    const { name, incarnation, zone, federation } = this.#who;
    this.say({ type: "hello", versionMin: 1, versionMax: 2, federation, name, incarnation, zone, layoutVersion: 1 });
  }

  seal(delta: Pick<Delta, "headerBytes" | "bodyBytes">): Envelope {
    return sealDelta(delta, this.keyring, this.#who.federation, system.randomBytes(24));
  }

  sealRequest(id: number, to: NodeId, request: Uint8Array): Uint8Array {
    return sealWith(this.keyring, "forward", system.randomBytes(24), request, new TextEncoder().encode(`${id} ${this.id} ${to}`));
  }
}

function frame(kind: number, body: Uint8Array): Uint8Array {
  return new Uint8Array(Buffer.concat([Uint8Array.of(kind, body.length >>> 16, (body.length >>> 8) & 255, body.length & 255), body]));
}
