/** What two nets tell each other beside the frames they carry: the first frame of a stream, and a message over gossip. Bounded, checked, CBOR. */
import { decode, encode } from "cborg";
import type { NodeId } from "../../protocol/ids.ts";
import { NetError } from "./errors.ts";

/** The first frame of a stream. Who sends it is known from the connection. */
export interface Hello {
  /** New with every start of a process: a change means that its older connections are dead. 32 hex digits. */
  readonly session: string;
  /** Multiaddrs of port 8421, without the peer id. */
  readonly addresses: readonly string[];
  readonly gossip: GossipContact;
}

export interface GossipContact {
  readonly id: string;
  /** Multiaddrs of port 8422, without the peer id. */
  readonly addresses: readonly string[];
}

/** One message over gossip. The sender is what a member claims: a hint. */
export interface Presence {
  readonly node: NodeId;
  readonly addresses: readonly string[];
  readonly gossip: GossipContact;
  readonly news: Uint8Array | undefined;
}

export const HELLO_MAX_BYTES = 8 * 1024;
const ADDRESSES_MAX = 16;
const ADDRESS_MAX_CHARS = 256;
const PEER_ID_MAX_CHARS = 128;
/** Ed25519 peer ids, the only ones a node has. */
const PEER_ID = /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/;

export function encodeHello(hello: Hello): Uint8Array {
  return encode([1, hello.session, [...hello.addresses], hello.gossip.id, [...hello.gossip.addresses]]);
}

/** @throws NetError FRAME_MALFORMED */
export function decodeHello(bytes: Uint8Array): Hello {
  const [version, session, addresses, gossipId, gossipAddresses] = list(bytes, 5);
  if (version !== 1) throw malformed(`hello version ${version}`);
  if (typeof session !== "string" || !/^[0-9a-f]{32}$/.test(session)) throw malformed("session");
  return { session, addresses: addressList(addresses), gossip: { id: peerId(gossipId), addresses: addressList(gossipAddresses) } };
}

export function encodePresence(presence: Presence): Uint8Array {
  const { node, addresses, gossip, news } = presence;
  return encode([1, node, [...addresses], gossip.id, [...gossip.addresses], news ?? null]);
}

/** @throws NetError FRAME_MALFORMED */
export function decodePresence(bytes: Uint8Array): Presence {
  const [version, node, addresses, gossipId, gossipAddresses, news] = list(bytes, 6);
  if (version !== 1) throw malformed(`presence version ${version}`);
  if (news !== null && !(news instanceof Uint8Array)) throw malformed("news");
  return {
    node: peerId(node) as NodeId,
    addresses: addressList(addresses),
    gossip: { id: peerId(gossipId), addresses: addressList(gossipAddresses) },
    news: news ?? undefined,
  };
}

function list(bytes: Uint8Array, length: number): unknown[] {
  let value: unknown;
  try {
    value = decode(bytes);
  } catch (error) {
    throw malformed("no CBOR", error);
  }
  if (!Array.isArray(value) || value.length !== length) throw malformed("another shape");
  return value;
}

function addressList(value: unknown): string[] {
  const good = (address: unknown) => typeof address === "string" && address.length <= ADDRESS_MAX_CHARS;
  if (!Array.isArray(value) || value.length > ADDRESSES_MAX || !value.every(good)) throw malformed("addresses");
  return value;
}

function peerId(value: unknown): string {
  if (typeof value !== "string" || value.length > PEER_ID_MAX_CHARS || !PEER_ID.test(value)) throw malformed("peer id");
  return value;
}

function malformed(what: string, cause?: unknown): NetError {
  return new NetError("FRAME_MALFORMED", `not a message between nets: ${what}`, cause);
}
