/** Hosts that know the secret, so they are admitted, and then say whatever a test wants. */
import type { Connection, Libp2p, Stream } from "@libp2p/interface";
import { multiaddr } from "@multiformats/multiaddr";
import { createKeyring } from "../../crypto/keyring.ts";
import { FRAME_KIND } from "../../node/net/frames.ts";
import { encodeHello } from "../../node/net/hello.ts";
import { createFederationHost, createGossipHost, type HostOptions, type Identity, identitiesOf } from "../../node/net/hosts.ts";
import { FEDERATION_PROTOCOLS } from "../../node/net/links.ts";
import { Refusals } from "../../node/net/refusals.ts";
import { system } from "../../node/system.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { nodeKey, SECRET, type TestNet } from "./net-nodes.ts";

const liars: Libp2p[] = [];

export async function stopLiars(): Promise<void> {
  await Promise.all(liars.splice(0).map((host) => host.stop()));
}

export interface Liar {
  readonly id: NodeId;
  readonly host: Libp2p;
  readonly connection: Connection;
  readonly stream: Stream;
  readonly gossipId: string;
}

function optionsOf(identity: Identity): HostOptions {
  const quiet = { debug() {}, info() {}, warn() {}, error() {} };
  const meter = { count() {}, observe() {} };
  return {
    identity,
    listen: "/ip4/127.0.0.1/tcp/0",
    keyring: createKeyring([SECRET]),
    isKnown: () => true,
    isRevoked: () => false,
    refusals: new Refusals(quiet, meter, system),
    meter,
    system,
  };
}

/** Connected, with a stream of its own on which nothing has been said. */
export async function liarAt(
  alice: TestNet,
  seed = 9_000,
  protocol = FEDERATION_PROTOCOLS[0]!,
  hears: (bytes: Uint8Array) => void = () => {},
): Promise<Liar> {
  const identities = await identitiesOf(nodeKey(seed));
  const host = await createFederationHost(optionsOf(identities.federation), { health: () => ({ status: 200, body: {} }), sockets: new Set() });
  liars.push(host);
  await host.handle(protocol, (stream) => stream.addEventListener("message", ({ data }) => hears(data.subarray())));
  await host.start();
  const connection = await host.dial(multiaddr(`/ip4/127.0.0.1/tcp/${alice.port()}`));
  const stream = await connection.newStream(protocol);
  return { id: host.peerId.toString() as NodeId, host, connection, stream, gossipId: identities.gossip.id };
}

/** Somebody on port 8422 who was never seen on port 8421. */
export async function lurkerAt(port: number, seed = 9_100): Promise<"admitted" | "refused"> {
  const { gossip } = await identitiesOf(nodeKey(seed));
  const host = await createGossipHost(optionsOf(gossip), 6, ["/lurker"]);
  liars.push(host as unknown as Libp2p);
  await host.start();
  return host.dial(multiaddr(`/ip4/127.0.0.1/tcp/${port}`)).then(
    () => "admitted",
    () => "refused",
  );
}

export function frame(kind: number, body: Uint8Array, claimed = body.length): Uint8Array {
  return Uint8Array.of(kind, claimed >>> 16, (claimed >>> 8) & 255, claimed & 255, ...body);
}

export const helloOf = (liar: Liar, session = "0".repeat(32), version: 1 | 2 = 2) =>
  frame(FRAME_KIND.hello, encodeHello({ session, addresses: [], stamp: 1, gossip: { id: liar.gossipId, addresses: [] }, secretIds: [] }, version));
