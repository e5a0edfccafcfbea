/** What two nets tell each other beside the frames they carry: the first frame of a stream, and a message over gossip. Bounded, checked, CBOR. */
import { decode, encode } from "cborg";
import { SECRETS_MAX } from "../../crypto/keyring.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { ADDRESS_MAX_CHARS, CARD_ADDRESSES_MAX, CARDS_A_FRAME_MAX } from "../../protocol/limits.ts";
import type { Card } from "./cards.ts";
import { NetError } from "./errors.ts";

/** The first frame of a stream. Who sends it is known from the connection. */
export interface Hello {
  /** New with every start of a process: a change means that its older connections are dead. 32 hex digits. */
  readonly session: string;
  /** Multiaddrs of port 8421, without the peer id. */
  readonly addresses: readonly string[];
  /** Which of its own addresses are the newer (cards.ts); 0 of a node that does not count them. */
  readonly stamp: number;
  readonly gossip: GossipContact;
  /** Public ids of the federation secrets it was started with, in its order; none of a node that does not say. */
  readonly secretIds: readonly string[];
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
const SECRET_ID = /^[0-9a-f]{8}$/;
const PEER_ID_MAX_CHARS = 128;
/** Ed25519 peer ids, the only ones a node has. */
const PEER_ID = /^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/;

/** @param version 1 for a peer that speaks only the first protocol of links.ts */
export function encodeHello(hello: Hello, version: 1 | 2): Uint8Array {
  const { session, addresses, stamp, gossip, secretIds } = hello;
  const first = [version, session, [...addresses], gossip.id, [...gossip.addresses]];
  return encode(version === 1 ? first : [...first, stamp, [...secretIds]]);
}

/** @throws NetError FRAME_MALFORMED */
export function decodeHello(bytes: Uint8Array): Hello {
  const [version, session, addresses, gossipId, gossipAddresses, ...second] = list(bytes, 5, 7);
  if (version !== (second.length === 0 ? 1 : 2)) throw malformed(`hello version ${version}`);
  if (typeof session !== "string" || !/^[0-9a-f]{32}$/.test(session)) throw malformed("session");
  const [stamp = 0, secretIds = []] = second;
  return {
    session,
    addresses: addressList(addresses),
    stamp: whole(stamp),
    gossip: { id: peerId(gossipId), addresses: addressList(gossipAddresses) },
    secretIds: idList(secretIds),
  };
}

/** Where other nodes said they are. @param cards at most CARDS_A_FRAME_MAX */
export function encodeCards(cards: readonly Card[]): Uint8Array {
  return encode([1, cards.map(({ node, stamp, addresses }) => [node, stamp, [...addresses]])]);
}

/** @throws NetError FRAME_MALFORMED */
export function decodeCards(bytes: Uint8Array): Card[] {
  const [version, cards] = list(bytes, 2);
  if (version !== 1 || !Array.isArray(cards) || cards.length > CARDS_A_FRAME_MAX) throw malformed("cards");
  return cards.map((card: unknown) => {
    if (!Array.isArray(card) || card.length !== 3) throw malformed("a card");
    return { node: peerId(card[0]) as NodeId, stamp: whole(card[1]), addresses: addressList(card[2], CARD_ADDRESSES_MAX) };
  });
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

function list(bytes: Uint8Array, ...lengths: number[]): unknown[] {
  let value: unknown;
  try {
    value = decode(bytes);
  } catch (error) {
    throw malformed("no CBOR", error);
  }
  if (!Array.isArray(value) || !lengths.includes(value.length)) throw malformed("another shape");
  return value;
}

function addressList(value: unknown, max = ADDRESSES_MAX): string[] {
  const good = (address: unknown) => typeof address === "string" && address.length <= ADDRESS_MAX_CHARS;
  if (!Array.isArray(value) || value.length > max || !value.every(good)) throw malformed("addresses");
  return value;
}

function whole(value: unknown): number {
  if (!Number.isSafeInteger(value) || (value as number) < 0) throw malformed("a number");
  return value as number;
}

function idList(value: unknown): string[] {
  const good = (id: unknown) => typeof id === "string" && SECRET_ID.test(id);
  if (!Array.isArray(value) || value.length > SECRETS_MAX || !value.every(good)) throw malformed("secret ids");
  return value;
}

function peerId(value: unknown): string {
  if (typeof value !== "string" || value.length > PEER_ID_MAX_CHARS || !PEER_ID.test(value)) throw malformed("peer id");
  return value;
}

function malformed(what: string, cause?: unknown): NetError {
  return new NetError("FRAME_MALFORMED", `not a message between nets: ${what}`, cause);
}
