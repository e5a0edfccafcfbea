import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { FRAME_KIND, type FrameKind, FrameReader } from "../../node/net/frames.ts";
import { decodeHello, decodePresence, encodeHello, encodePresence, type Presence } from "../../node/net/hello.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { FRAME_MAX_BYTES } from "../../protocol/limits.ts";

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

  it("is read as it was written", () => {
    const hello = { session: "ab".repeat(16), addresses: ["/ip4/10.0.0.1/tcp/8421"], gossip: { id: alice, addresses: ["/dns/a/tcp/8422"] } };
    expect(decodeHello(encodeHello(hello))).toEqual(hello);
    expect(decodePresence(encodePresence(presence))).toEqual(presence);
    expect(decodePresence(encodePresence({ ...presence, news: undefined })).news).toBeUndefined();
  });

  it("is refused when it has another shape, another version, too many or too long addresses, or an id that is none", () => {
    const bad = [
      encodePresence({ ...presence, node: "../../etc/passwd" as NodeId }),
      encodePresence({ ...presence, addresses: Array(17).fill("/ip4/10.0.0.1/tcp/1") }),
      encodePresence({ ...presence, addresses: ["x".repeat(257)] }),
      encodePresence({ ...presence, gossip: { id: "bob", addresses: [] } }),
      encodeHello({ session: "00".repeat(16), addresses: [], gossip: { id: alice, addresses: [] } }),
      new Uint8Array(0),
      Uint8Array.of(255, 1, 2),
    ];
    for (const bytes of bad) expect(() => decodePresence(bytes)).toThrow(expect.objectContaining({ code: "FRAME_MALFORMED" }));
    const session = encodeHello({ session: "short", addresses: [], gossip: { id: alice, addresses: [] } });
    expect(() => decodeHello(session)).toThrow(expect.objectContaining({ code: "FRAME_MALFORMED" }));
    const fuzz = fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      expect(() => decodeHello(bytes)).toThrow(expect.objectContaining({ code: "FRAME_MALFORMED" }));
    });
    fc.assert(fuzz);
  });
});
