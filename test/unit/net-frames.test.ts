import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { SECRETS_MAX } from "../../crypto/keyring.ts";
import type { Card } from "../../node/net/cards.ts";
import { FRAME_KIND, type FrameKind, FrameReader } from "../../node/net/frames.ts";
import {
  decodeCards,
  decodeHello,
  decodePresence,
  encodeCards,
  encodeHello,
  encodePresence,
  type Hello,
  type Presence,
} from "../../node/net/hello.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { ADDRESS_MAX_CHARS, CARD_ADDRESSES_MAX, CARDS_A_FRAME_MAX, CARDS_FRAME_MAX_BYTES, FRAME_MAX_BYTES } from "../../protocol/limits.ts";

const bytesOf = (kind: number, body: Uint8Array, length = body.length) => [kind, length >>> 16, (length >>> 8) & 255, length & 255, ...body];
const alice = "12D3KooWScJw6cSZx6ysNZB5Jt9QpdqJ2av6XLVndLxZdtesjT2u" as NodeId;

describe("reading frames", () => {
  it("finds the same frames however the bytes are cut", () => {
    const frames = fc.array(fc.record({ kind: fc.integer({ min: 0, max: 3 }), body: fc.uint8Array({ maxLength: 40 }) }), { maxLength: 12 });
    fc.assert(
      fc.property(frames, fc.array(fc.integer({ min: 1, max: 30 }), { minLength: 1 }), (sent, cuts) => {
        const stream = Uint8Array.from(sent.flatMap(({ kind, body }) => bytesOf(kind, body)));
        const read: { kind: FrameKind; body: Uint8Array }[] = [];
        const reader = new FrameReader((kind, body) => void read.push({ kind, body }));
        for (let at = 0, turn = 0; at < stream.length; turn++) {
          const size = cuts[turn % cuts.length]!;
          reader.feed(stream.subarray(at, at + size));
          at += size;
        }
        expect(read).toEqual(sent);
      }),
    );
  });

  it("gives frames that keep their bytes when the piece they came in is used again", () => {
    const read: Uint8Array[] = [];
    const piece = Buffer.from(bytesOf(FRAME_KIND.data, Uint8Array.of(1, 2, 3))); // as sockets give them
    new FrameReader((_, body) => void read.push(body)).feed(piece);
    piece.fill(9);
    expect(read).toEqual([Uint8Array.of(1, 2, 3)]);
  });

  it("takes a frame of the largest size and refuses to wait for one byte more", () => {
    const read: number[] = [];
    const reader = new FrameReader((_, body) => void read.push(body.length));
    reader.feed(Uint8Array.from(bytesOf(0, new Uint8Array(0), FRAME_MAX_BYTES)));
    reader.feed(new Uint8Array(FRAME_MAX_BYTES));
    expect(read).toEqual([FRAME_MAX_BYTES]);
    const refuses = () => new FrameReader(() => {}).feed(Uint8Array.from(bytesOf(0, new Uint8Array(0), FRAME_MAX_BYTES + 1)));
    expect(refuses).toThrow(expect.objectContaining({ code: "FRAME_TOO_LARGE" }));
  });
});

describe("what two nets tell each other", () => {
  const presence: Presence = { node: alice, addresses: ["/ip4/10.0.0.1/tcp/8421"], gossip: { id: alice, addresses: [] }, news: Uint8Array.of(1) };

  const hello: Hello = {
    session: "ab".repeat(16),
    addresses: ["/ip4/10.0.0.1/tcp/8421"],
    stamp: 1_790_000_000_000,
    gossip: { id: alice, addresses: ["/dns/a/tcp/8422"] },
    secretIds: ["00ff00ff", "12345678"],
  };
  const card: Card = { node: alice, stamp: 7, addresses: ["/dns4/alice.example.org/tcp/443/tls/ws"] };

  it("is read as it was written, also by a node of the first release", () => {
    expect(decodeHello(encodeHello(hello, 2))).toEqual(hello);
    expect(decodeHello(encodeHello(hello, 1))).toEqual({ ...hello, stamp: 0, secretIds: [] });
    expect(decodeCards(encodeCards([card]))).toEqual([card]);
    expect(decodePresence(encodePresence(presence))).toEqual(presence);
    expect(decodePresence(encodePresence({ ...presence, news: undefined })).news).toBeUndefined();
  });

  it("is refused when it has another shape, another version, too many or too long addresses, or an id that is none", () => {
    const bad = [
      encodePresence({ ...presence, node: "../../etc/passwd" as NodeId }),
      encodePresence({ ...presence, addresses: Array(17).fill("/ip4/10.0.0.1/tcp/1") }),
      encodePresence({ ...presence, addresses: ["x".repeat(257)] }),
      encodePresence({ ...presence, gossip: { id: "bob", addresses: [] } }),
      encodeHello(hello, 1),
      new Uint8Array(0),
      Uint8Array.of(255, 1, 2),
    ];
    for (const bytes of bad) expect(() => decodePresence(bytes)).toThrow(expect.objectContaining({ code: "FRAME_MALFORMED" }));
    const badHellos = [
      { ...hello, session: "short" },
      { ...hello, stamp: -1 },
      { ...hello, stamp: 0.5 },
      { ...hello, secretIds: ["the secret itself"] },
      { ...hello, secretIds: Array(SECRETS_MAX + 1).fill("00ff00ff") },
    ];
    for (const bad of badHellos) expect(() => decodeHello(encodeHello(bad, 2))).toThrow(expect.objectContaining({ code: "FRAME_MALFORMED" }));
    const fuzz = fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      for (const decode of [decodeHello, decodeCards]) expect(() => decode(bytes)).toThrow(expect.objectContaining({ code: "FRAME_MALFORMED" }));
    });
    fc.assert(fuzz);
  });

  it("names as many nodes and addresses as a frame of cards may, which fits, and not one more", () => {
    const longest = Array(CARD_ADDRESSES_MAX).fill("x".repeat(ADDRESS_MAX_CHARS));
    const most = Array<Card>(CARDS_A_FRAME_MAX).fill({ node: alice, stamp: Number.MAX_SAFE_INTEGER, addresses: longest });
    const bytes = encodeCards(most);
    expect(bytes.length).toBeLessThanOrEqual(CARDS_FRAME_MAX_BYTES);
    expect(decodeCards(bytes)).toHaveLength(CARDS_A_FRAME_MAX);
    for (const bad of [
      [...most, card],
      [{ ...card, addresses: [...longest, "one more"] }],
      [{ ...card, addresses: [`x${longest[0]}`] }],
      [{ ...card, stamp: -1 }],
    ])
      expect(() => decodeCards(encodeCards(bad))).toThrow(expect.objectContaining({ code: "FRAME_MALFORMED" }));
  });
});
