import { readFileSync } from "node:fs";
import { encode } from "cborg";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { createKeyring } from "../../crypto/keyring.ts";
import { decodeWire, encodeWire, type Wire } from "../../protocol/codec.ts";
import { openEnvelope } from "../../protocol/envelope.ts";
import { ProtocolError } from "../../protocol/errors.ts";
import { type Expectation, encodeFrame, openFrame, type VerifiedMessage } from "../../protocol/frame.ts";
import type { FederationId, NodeId } from "../../protocol/ids.ts";
import { FRAME_MAX_BYTES } from "../../protocol/limits.ts";
import { type Message, SINCE_VERSION_2 } from "../../protocol/message.ts";
import { PROTOCOL_VERSION, PROTOCOL_VERSION_MIN } from "../../protocol/version.ts";
import {
  ALICE,
  bytes,
  DELTAS,
  FEDERATION,
  frameOf,
  keyring,
  LAYOUT_TAG,
  MESSAGES,
  type MessageVector,
  OTHER_WRITER,
  WRITER,
} from "../vectors/samples.ts";

const golden: MessageVector[] = JSON.parse(readFileSync(new URL("../vectors/messages.json", import.meta.url), "utf8"));
const expected: Expectation = { from: ALICE, writer: WRITER, federation: FEDERATION, keyring };
const foreign = "ab".repeat(16) as FederationId;
const header = { federation: FEDERATION, writer: WRITER, layoutVersion: 1, layoutTag: undefined };

const messageNamed = (name: string): Message => MESSAGES.find((one) => one.name === name)!.message;
const push = messageNamed("push of two deltas") as Extract<Message, { type: "push" }>;
const hello = messageNamed("hello of a member");
const held = messageNamed("held");

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof ProtocolError) return error.code;
    throw error;
  }
  return "nothing thrown";
}
const opening = (frame: Uint8Array, other: Partial<Expectation> = {}): string => codeOf(() => openFrame(frame, { ...expected, ...other }));
function frameWith(at: number, value: Wire, version: 1 | 2 = 1): Uint8Array {
  const row = decodeWire(frameOf(held, version), FRAME_MAX_BYTES) as readonly Wire[];
  return encodeWire(row.with(at, value));
}

describe("opening a frame", () => {
  it.each(golden.map((vector, index) => [vector.name, vector, index] as const))("opens the golden one: %s", (_name, vector, index) => {
    const opened: VerifiedMessage = openFrame(bytes(vector.frame), expected);
    expect(opened.message).toEqual(MESSAGES[index]!.message);
    expect(opened.from).toBe(ALICE);
    expect(opened.header).toEqual({ ...header, layoutTag: MESSAGES[index]!.version === 2 ? LAYOUT_TAG : undefined });
  });

  it("opens and parses every delta inside, and keeps the envelope it came in", () => {
    const opened = openFrame(frameOf(push), expected);
    expect(opened.deltas.map(({ delta }) => delta.hash)).toEqual([DELTAS[0]!.delta.hash, DELTAS[1]!.delta.hash]);
    expect(opened.deltas[0]!.delta.body).toEqual(DELTAS[0]!.delta.body);
    expect(opened.deltas.map(({ envelope }) => envelope)).toEqual(push.envelopes);
  });

  it("refuses a sender that is not the one its hello named", () => {
    expect(opening(encodeFrame({ ...header, writer: OTHER_WRITER }, held))).toBe("FOREIGN");
    expect(opening(frameOf(held), { writer: OTHER_WRITER })).toBe("FOREIGN");
  });

  it("refuses everything but a hello before there was one", () => {
    for (const { message, version } of MESSAGES)
      expect(opening(frameOf(message, version), { writer: undefined })).toBe(message.type === "hello" ? "nothing thrown" : "FOREIGN");
  });

  it("refuses a hello whose incarnation is not of the node that the connection proved", () => {
    expect(opening(frameOf(hello), { from: "12D3KooWMallory" as NodeId })).toBe("FOREIGN");
    expect(opening(encodeFrame({ ...header, writer: OTHER_WRITER }, hello))).toBe("FOREIGN");
  });

  it("refuses deltas of another federation, and of any while none is known", () => {
    expect(opening(encodeFrame({ ...header, federation: foreign }, push))).toBe("FOREIGN");
    expect(opening(frameOf(push), { federation: foreign })).toBe("FOREIGN");
    expect(opening(encodeFrame({ ...header, federation: null }, push), { federation: null })).toBe("FOREIGN");
  });

  it("says what federation it came from, for messages that carry no delta: the replica compares", () => {
    expect(openFrame(encodeFrame({ ...header, federation: foreign }, held), expected).header.federation).toBe(foreign);
  });

  it("refuses deltas sealed under another secret, and opens them under an older one of ours", () => {
    const newer = createKeyring(["another secret of the vectors"]);
    expect(opening(frameOf(push), { keyring: newer })).toBe("FOREIGN");
    const both = createKeyring(["another secret of the vectors", "golden secret of the vectors"]);
    expect(opening(frameOf(push), { keyring: both })).toBe("nothing thrown");
  });

  it("refuses a version that it does not speak", () => {
    for (const version of [PROTOCOL_VERSION_MIN - 1, PROTOCOL_VERSION + 1, 1000]) expect(opening(frameWith(0, version))).toBe("VERSION");
    expect(opening(frameOf(held, 1))).toBe("nothing thrown");
    expect(opening(frameOf(held, 2))).toBe("nothing thrown");
    // The version is part of the shape.
    expect(opening(frameWith(0, 2, 1))).toBe("MALFORMED");
    expect(opening(frameWith(0, 1, 2))).toBe("MALFORMED");
  });

  it("refuses a message that version 2 brought in a frame of version 1", () => {
    const since = MESSAGES.filter(({ message }) => SINCE_VERSION_2.has(message.type));
    expect(new Set(since.map(({ message }) => message.type)).size).toBe(SINCE_VERSION_2.size);
    for (const { message } of since) {
      expect(opening(frameOf(message, 2))).toBe("nothing thrown");
      expect(opening(frameOf(message, 1))).toBe("VERSION");
    }
  });

  it("keeps the layout's tag, which is empty while there is no layout", () => {
    const tagOf = (layoutTag: string) => openFrame(encodeFrame({ ...header, layoutTag }, held), expected).header.layoutTag;
    expect(tagOf("")).toBe("");
    expect(tagOf(LAYOUT_TAG)).toBe(LAYOUT_TAG);
    expect(opening(frameWith(4, `${LAYOUT_TAG}0`, 2))).toBe("MALFORMED");
    expect(opening(frameWith(4, 5, 2))).toBe("MALFORMED");
  });

  it("looks at the version before the shape of what only a later version would know", () => {
    expect(opening(encode([PROTOCOL_VERSION + 1, null, "", null, { type: "unheard of" }]))).toBe("VERSION");
  });

  it.each([
    ["a version that is no number", 0, "1"],
    ["a federation that is no id", 1, "__proto__"],
    ["a sender without a name", 2, ""],
    ["a layout version below 0", 3, -1],
    ["a message that is no list", 4, 5],
  ])("refuses %s", (_what, at, value) => {
    expect(opening(frameWith(at, value))).toBe("MALFORMED");
  });

  it("reads a frame of FRAME_MAX_BYTES and refuses one byte more unread", () => {
    const forward = (size: number) => encodeFrame(header, { type: "forward", id: 1, sealed: new Uint8Array(size) });
    const room = FRAME_MAX_BYTES - forward(1_000_000).length + 1_000_000;
    expect(forward(room).length).toBe(FRAME_MAX_BYTES);
    expect(opening(forward(room))).toBe("nothing thrown");
    expect(opening(forward(room + 1))).toBe("TOO_LARGE");
  });
});

describe("a sealed delta", () => {
  const [first, second] = push.envelopes;

  it("does not open at another position of a stream: the header is associated data", () => {
    expect(codeOf(() => openEnvelope({ headerBytes: second!.headerBytes, sealedBody: first!.sealedBody }, keyring, FEDERATION))).toBe("FOREIGN");
    for (const at of [0, 1, 2, 3, 4, 5]) {
      const row = decodeWire(first!.headerBytes, FRAME_MAX_BYTES) as readonly Wire[];
      const moved = encodeWire(row.with(at, (decodeWire(second!.headerBytes, FRAME_MAX_BYTES) as readonly Wire[])[at] as Wire));
      const same = Buffer.compare(moved, first!.headerBytes) === 0;
      expect(codeOf(() => openEnvelope({ ...first!, headerBytes: moved }, keyring, FEDERATION))).toBe(same ? "nothing thrown" : "FOREIGN");
    }
  });

  it("does not open in another federation", () => {
    expect(codeOf(() => openEnvelope(first!, keyring, foreign))).toBe("FOREIGN");
  });

  it("does not open with any bit flipped", () => {
    const { sealedBody, headerBytes } = first!;
    for (let at = 0; at < sealedBody.length; at++) {
      const flipped = Uint8Array.from(sealedBody);
      flipped[at]! ^= 1 << (at % 8);
      expect(codeOf(() => openEnvelope({ headerBytes, sealedBody: flipped }, keyring, FEDERATION))).toBe("FOREIGN");
    }
  });

  it("does not open when it is shorter than its own tag", () => {
    for (const length of [0, 1, 27, 43]) {
      expect(codeOf(() => openEnvelope({ ...first!, sealedBody: first!.sealedBody.subarray(0, length) }, keyring, FEDERATION))).toBe("FOREIGN");
    }
  });
});

describe("bytes from a stranger", () => {
  const KNOWN = ["MALFORMED", "TOO_LARGE", "VERSION", "FOREIGN", "nothing thrown"];

  it("never do anything but be refused by a ProtocolError", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (input) => {
        expect(KNOWN).toContain(opening(input));
      }),
      { numRuns: 2000 },
    );
  });

  it("nor golden frames with bytes changed, cut, doubled or put in", () => {
    const frames = golden.map(({ frame }) => bytes(frame));
    const someChange = fc.record({ at: fc.nat(), byte: fc.nat({ max: 255 }), how: fc.constantFrom("set", "cut", "double", "insert") });
    let refused = 0;
    fc.assert(
      fc.property(fc.nat({ max: frames.length - 1 }), fc.array(someChange, { minLength: 1, maxLength: 4 }), (which, changes) => {
        let frame = Uint8Array.from(frames[which]!);
        for (const { at, byte, how } of changes) {
          const place = at % (frame.length + 1);
          if (how === "set") frame.set([byte], Math.min(place, frame.length - 1));
          else if (how === "cut") frame = frame.slice(0, Math.max(1, place));
          else if (how === "double") frame = Uint8Array.from([...frame, ...frame.subarray(place)]);
          else frame = Uint8Array.from([...frame.subarray(0, place), byte, ...frame.subarray(place)]);
        }
        const code = opening(frame);
        expect(KNOWN).toContain(code);
        if (code !== "nothing thrown") refused++;
      }),
      { numRuns: 3000 },
    );
    expect(refused).toBeGreaterThan(1000);
  });
});
