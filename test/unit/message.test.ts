import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { decodeWire, encodeWire, type Wire } from "../../protocol/codec.ts";
import { ProtocolError } from "../../protocol/errors.ts";
import { type FederationId, type Incarnation, PARTITION_COUNT, type Partition, type WriterId } from "../../protocol/ids.ts";
import {
  DELTA_BODY_MAX_BYTES,
  FRAME_MAX_BYTES,
  HEADS_STREAMS_MAX,
  INTERVAL_DELTAS_MAX,
  NODE_NAME_MAX_CHARS,
  REPORT_PARTS_MAX,
  SECRET_ID_MAX_CHARS,
  SECRET_IDS_MAX,
  SNAPSHOT_ROWS_MAX,
  STORED_KEY_MAX_BYTES,
  ZONE_MAX_CHARS,
} from "../../protocol/limits.ts";
import { MESSAGE_NUMBERS, type Message, messageFromWire, messageToWire } from "../../protocol/message.ts";
import { bytes, DELTAS, INCARNATION, MESSAGES, type MessageVector, messageVectors, PARTITION, WRITER } from "../vectors/samples.ts";

const golden: MessageVector[] = JSON.parse(readFileSync(new URL("../vectors/messages.json", import.meta.url), "utf8"));

/** The last item of a frame, of either version. */
const wireOf = (frame: string): Wire => (decodeWire(bytes(frame), FRAME_MAX_BYTES) as readonly Wire[]).at(-1) as Wire;
const throughBytes = (message: Message): Message => messageFromWire(decodeWire(encodeWire(messageToWire(message)), FRAME_MAX_BYTES));

/** The code of the refusal; anything but a ProtocolError is a failure of its own. */
function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof ProtocolError) return error.code;
    throw error;
  }
  return "nothing thrown";
}

const token = (length: number) => fc.string({ unit: fc.constantFrom(..."abcXYZ019-_"), minLength: length, maxLength: length });
const someWriter = token(22) as fc.Arbitrary<WriterId>;
const someHash = token(43);
const somePartition = fc.nat({ max: 256 }) as fc.Arbitrary<number> as fc.Arbitrary<Partition>;
const someCount = fc.nat({ max: Number.MAX_SAFE_INTEGER });
const someBytes = fc.uint8Array({ maxLength: 200 });
const someHeads = fc.array(fc.record({ partition: somePartition, writer: someWriter, seq: someCount, hash: someHash }), { maxLength: 6 });
const someMarks = fc.array(fc.record({ partition: somePartition, writer: someWriter, seq: someCount, hash: someHash, keptFrom: someCount }), {
  maxLength: 6,
});
const someStart = fc.record({ count: someCount, id: fc.string({ unit: fc.constantFrom(..."0123456789abcdef"), minLength: 32, maxLength: 32 }) });
const someEnvelopes = fc.array(fc.record({ headerBytes: someBytes, sealedBody: someBytes }), { maxLength: 4 });
const inParts = <T extends object>(some: fc.Arbitrary<T>): fc.Arbitrary<T & { part: number; parts: number }> =>
  fc.tuple(some, fc.nat(), fc.integer({ min: 1, max: REPORT_PARTS_MAX })).map(([message, at, parts]) => ({ ...message, part: at % parts, parts }));
const someMessage: fc.Arbitrary<Message> = fc.oneof(
  fc.record({
    type: fc.constant("hello" as const),
    versionMin: someCount,
    versionMax: someCount,
    federation: fc.option(token(32) as fc.Arbitrary<FederationId>),
    name: fc.string({ maxLength: NODE_NAME_MAX_CHARS }),
    incarnation: token(32) as fc.Arbitrary<Incarnation>,
    zone: fc.string({ maxLength: ZONE_MAX_CHARS }),
    layoutVersion: someCount,
  }),
  fc.record({ type: fc.constantFrom("formation" as const, "layout" as const), bytes: someBytes }),
  fc.record({ type: fc.constant("push" as const), envelopes: someEnvelopes }),
  fc.record({ type: fc.constant("held" as const), heads: someHeads }),
  fc.record({ type: fc.constant("held" as const), heads: someHeads, marks: someHeads }),
  fc.record({ type: fc.constant("want" as const), partition: somePartition, writer: someWriter, from: someCount, to: someCount }),
  fc.record({ type: fc.constant("repair" as const), partition: somePartition, writer: someWriter, to: someCount, envelopes: someEnvelopes }),
  fc.record({
    type: fc.constant("ask" as const),
    id: someCount,
    partition: somePartition,
    frontier: fc.array(fc.tuple(someWriter, someCount), { maxLength: 5 }),
  }),
  fc.record({ type: fc.constant("told" as const), id: someCount, partition: somePartition, heads: someHeads }),
  fc.record({ type: fc.constant("told" as const), id: someCount, partition: somePartition, heads: someHeads, marks: someHeads }),
  fc.record({ type: fc.constantFrom("forward" as const, "forwarded" as const), id: someCount, sealed: someBytes }),
  fc.record({ type: fc.constant("digest" as const), digest: someHash, reply: fc.boolean() }),
  fc.record({ type: fc.constant("digest" as const), digest: someHash, reply: fc.boolean(), wall: someCount }),
  fc.record({ type: fc.constant("refused" as const), code: fc.string({ maxLength: 64 }), detail: fc.string({ maxLength: 1024 }) }),
  fc.record({
    type: fc.constant("introduce" as const),
    start: someStart,
    wall: someCount,
    secrets: fc.array(fc.string({ maxLength: SECRET_ID_MAX_CHARS }), { maxLength: SECRET_IDS_MAX }),
  }),
  inParts(
    fc.record({
      type: fc.constant("compare" as const),
      start: fc.option(someStart),
      layoutVersion: someCount,
      heads: someHeads,
      marks: someHeads,
      own: someHeads,
    }),
  ),
  inParts(
    fc.record({
      type: fc.constant("report" as const),
      id: someCount,
      heads: someHeads,
      marks: someMarks,
      damaged: fc.array(somePartition, { maxLength: 257 }),
    }),
  ),
  fc.record({ type: fc.constant("vote" as const), bytes: someBytes }),
  fc.record({ type: fc.constant("ready" as const), partitions: fc.array(somePartition, { maxLength: 257 }) }),
  fc.record({ type: fc.constant("snapshot-want" as const), partition: somePartition, id: someCount, after: someBytes }),
  fc.record({
    type: fc.constant("snapshot-part" as const),
    partition: somePartition,
    id: someCount,
    frontier: someHeads,
    rows: fc.array(fc.tuple(someBytes, someBytes), { maxLength: 5 }),
    last: fc.boolean(),
    refused: fc.constantFrom("" as const, "busy" as const, "gone" as const, "not_held" as const),
  }),
  fc.record({
    type: fc.constant("sealed-under" as const),
    others: fc.array(fc.tuple(fc.string({ maxLength: SECRET_ID_MAX_CHARS }), someCount), { maxLength: SECRET_IDS_MAX }),
  }),
);

describe("the golden bytes of the messages", () => {
  it("are what the code writes, of every number", () => {
    expect(messageVectors()).toEqual(golden);
    expect([...new Set(golden.map(({ number }) => number))].sort((a, b) => a - b)).toEqual(Object.values(MESSAGE_NUMBERS));
  });

  it.each(golden.map((vector, index) => [vector.name, vector, index] as const))("are read as what was written: %s", (_name, vector, index) => {
    expect(messageFromWire(wireOf(vector.frame))).toEqual(MESSAGES[index]!.message);
  });
});

describe("a message", () => {
  it("comes back as it went", () => {
    fc.assert(
      fc.property(someMessage, (message) => {
        expect(throughBytes(message)).toEqual(message);
      }),
    );
  });

  it("has a number of its own", () => {
    const numbers = Object.values(MESSAGE_NUMBERS);
    expect(new Set(numbers).size).toBe(numbers.length);
  });

  it.each([
    ["a number nobody gave", [99, 1]],
    ["the number 0", [0]],
    ["a text for a number", ["push", []]],
    ["nothing in it", []],
  ])("is refused as another version with %s", (_what, wire) => {
    expect(codeOf(() => messageFromWire(wire))).toBe("VERSION");
  });

  it("is refused with one item more or less than its number says, whichever it is", () => {
    for (const { name, frame } of golden) {
      const row = wireOf(frame) as readonly Wire[];
      expect(codeOf(() => messageFromWire([...row, null]))).toBe("MALFORMED");
      // What version 2 added at the end of a message of version 1 may be missing.
      const isLonger = ["held, marks apart", "told, marks apart", "digest with the sender's clock"].includes(name);
      expect(codeOf(() => messageFromWire(row.slice(0, -1)))).toBe(isLonger ? "nothing thrown" : "MALFORMED");
    }
  });

  it("of version 1 is written as the first release did, and says by a missing field that it is one", () => {
    for (const type of ["held", "told", "digest"] as const) {
      const first = golden.find(({ name }) => name === type)!;
      const read = messageFromWire(wireOf(first.frame));
      expect(read).not.toHaveProperty(type === "digest" ? "wall" : "marks");
      expect(Buffer.from(encodeWire(messageToWire(read)))).toEqual(Buffer.from(encodeWire(wireOf(first.frame))));
    }
  });

  it.each([
    ["a hello without a name", [1, 1, 1, null, null, INCARNATION, "", 0]],
    ["a hello of a nameless incarnation", [1, 1, 1, null, "a", "", "", 0]],
    ["a push that is no list", [4, "all"]],
    ["an envelope of one part", [4, [[new Uint8Array(1)]]]],
    ["an envelope of texts", [4, [["a", "b"]]]],
    ["a head of an unknown partition", [5, [[257, WRITER, 1, DELTAS[0]!.delta.hash]]]],
    ["a head without a hash", [5, [[0, WRITER, 1, ""]]]],
    ["a head of half a number", [5, [[0, WRITER, 0.5, DELTAS[0]!.delta.hash]]]],
    ["an interval of negative numbers", [6, PARTITION, WRITER, -1, 2]],
    ["an interval of no stream", [6, PARTITION, "__proto__", 1, 2]],
    ["a frontier of single numbers", [8, 1, PARTITION, [1, 2]]],
    ["a digest that is no hash", [12, "no", false]],
    ["a refusal of numbers", [13, 1, 2]],
    ["marks that are no list", [5, [], 1]],
    ["a digest of no time", [12, DELTAS[0]!.delta.hash, false, -1]],
    ["an introduction of no start", [14, null, 0, []]],
    ["a start whose id is not 128 bits in hex", [14, [1, "5a".repeat(15)], 0, []]],
    ["a start in capitals", [14, [1, "5A".repeat(16)], 0, []]],
    ["a secret's id that is no text", [14, [1, "5a".repeat(16)], 0, [1]]],
    ["a comparison with half a start", [15, 0, 1, [1], 0, [], [], []]],
    ["a report without a mark's first kept number", [16, 1, 0, 1, [], [[0, WRITER, 1, DELTAS[0]!.delta.hash]]]],
    ["a report whose mark says less than nothing is kept", [16, 1, 0, 1, [], [[0, WRITER, 1, DELTAS[0]!.delta.hash, -1]]]],
    ["a vote of text", [17, "yes"]],
    ["a partition that there is not", [18, [257]]],
    ["a snapshot from a key that is text", [19, 0, 1, ""]],
    ["a row of one part", [20, 0, 1, [], [[new Uint8Array(1)]], true, 0]],
    ["a refusal of a snapshot that there is not", [20, 0, 1, [], [], true, 4]],
  ] as readonly (readonly [string, Wire])[])("is refused as malformed: %s", (_what, wire) => {
    expect(codeOf(() => messageFromWire(wire))).toBe("MALFORMED");
  });
});

describe("the bounds of a message", () => {
  const head: Wire = [0, WRITER, 1, DELTAS[0]!.delta.hash];
  const envelope = (size: number): Wire => [new Uint8Array(1), new Uint8Array(size)];
  const many = (count: number, one: Wire): Wire => Array.from({ length: count }, () => one);

  it("lets a name and a zone have their bound and refuses one character more", () => {
    const hello = (name: number, zone: number): Wire => [1, 1, 1, null, "n".repeat(name), INCARNATION, "z".repeat(zone), 0];
    expect(codeOf(() => messageFromWire(hello(NODE_NAME_MAX_CHARS, ZONE_MAX_CHARS)))).toBe("nothing thrown");
    expect(codeOf(() => messageFromWire(hello(NODE_NAME_MAX_CHARS + 1, 0)))).toBe("MALFORMED");
    expect(codeOf(() => messageFromWire(hello(1, ZONE_MAX_CHARS + 1)))).toBe("MALFORMED");
  });

  it("carries HEADS_STREAMS_MAX heads and refuses one more", () => {
    for (const wire of [(heads: Wire) => [5, heads], (heads: Wire) => [9, 1, 0, heads]]) {
      expect(codeOf(() => messageFromWire(wire(many(HEADS_STREAMS_MAX, head))))).toBe("nothing thrown");
      expect(codeOf(() => messageFromWire(wire(many(HEADS_STREAMS_MAX + 1, head))))).toBe("TOO_LARGE");
    }
  });

  it("carries HEADS_STREAMS_MAX in every list of heads of version 2, and refuses one more", () => {
    const kept: Wire = [...(head as readonly Wire[]), 1];
    const lists: readonly (readonly [one: Wire, wire: (list: Wire) => Wire])[] = [
      [head, (list) => [5, [], list]],
      [head, (list) => [9, 1, 0, [], list]],
      [head, (list) => [15, 0, 1, null, 0, list, [], []]],
      [head, (list) => [15, 0, 1, null, 0, [], list, []]],
      [head, (list) => [15, 0, 1, null, 0, [], [], list]],
      [head, (list) => [16, 1, 0, 1, list, [], []]],
      [kept, (list) => [16, 1, 0, 1, [], list, []]],
      [head, (list) => [20, 0, 1, list, [], true, 0]],
    ];
    for (const [one, wire] of lists) {
      expect(codeOf(() => messageFromWire(wire(many(HEADS_STREAMS_MAX, one))))).toBe("nothing thrown");
      expect(codeOf(() => messageFromWire(wire(many(HEADS_STREAMS_MAX + 1, one))))).toBe("TOO_LARGE");
    }
  });

  it("lets a report and a comparison have REPORT_PARTS_MAX parts and refuses one more, and a part beyond their own count", () => {
    for (const wire of [
      (part: number, parts: number): Wire => [15, part, parts, null, 0, [], [], []],
      (part: number, parts: number): Wire => [16, 1, part, parts, [], [], []],
    ]) {
      expect(codeOf(() => messageFromWire(wire(REPORT_PARTS_MAX - 1, REPORT_PARTS_MAX)))).toBe("nothing thrown");
      expect(codeOf(() => messageFromWire(wire(0, REPORT_PARTS_MAX + 1)))).toBe("TOO_LARGE");
      expect(codeOf(() => messageFromWire(wire(1, 1)))).toBe("TOO_LARGE");
      expect(codeOf(() => messageFromWire(wire(0, 0)))).toBe("TOO_LARGE");
    }
  });

  it("names SECRET_IDS_MAX secrets of SECRET_ID_MAX_CHARS each, and refuses one more of either", () => {
    const introduce = (secrets: Wire): Wire => [14, [1, "5a".repeat(16)], 0, secrets];
    const longest = "f".repeat(SECRET_ID_MAX_CHARS);
    expect(codeOf(() => messageFromWire(introduce(many(SECRET_IDS_MAX, longest))))).toBe("nothing thrown");
    expect(codeOf(() => messageFromWire(introduce(many(SECRET_IDS_MAX + 1, longest))))).toBe("TOO_LARGE");
    expect(codeOf(() => messageFromWire(introduce([`${longest}f`])))).toBe("MALFORMED");
    const sealedUnder = (others: Wire): Wire => [21, others];
    expect(codeOf(() => messageFromWire(sealedUnder(many(SECRET_IDS_MAX, [longest, 1]))))).toBe("nothing thrown");
    expect(codeOf(() => messageFromWire(sealedUnder(many(SECRET_IDS_MAX + 1, [longest, 1]))))).toBe("TOO_LARGE");
    expect(codeOf(() => messageFromWire(sealedUnder([[`${longest}f`, 1]])))).toBe("MALFORMED");
  });

  it("lets everything be ready and refuses one partition more than there are", () => {
    expect(codeOf(() => messageFromWire([18, many(PARTITION_COUNT + 1, 0)]))).toBe("nothing thrown");
    expect(codeOf(() => messageFromWire([18, many(PARTITION_COUNT + 2, 0)]))).toBe("TOO_LARGE");
  });

  it("carries SNAPSHOT_ROWS_MAX rows with keys of STORED_KEY_MAX_BYTES, and refuses one more of either", () => {
    const part = (rows: Wire): Wire => [20, 0, 1, [], rows, true, 0];
    const key = (length: number) => new Uint8Array(length);
    const none = new Uint8Array();
    expect(codeOf(() => messageFromWire(part(many(SNAPSHOT_ROWS_MAX, [none, none]))))).toBe("nothing thrown");
    expect(codeOf(() => messageFromWire(part(many(SNAPSHOT_ROWS_MAX + 1, [none, none]))))).toBe("TOO_LARGE");
    expect(codeOf(() => messageFromWire(part([[key(STORED_KEY_MAX_BYTES), none]])))).toBe("nothing thrown");
    expect(codeOf(() => messageFromWire(part([[key(STORED_KEY_MAX_BYTES + 1), none]])))).toBe("TOO_LARGE");
    expect(codeOf(() => messageFromWire([19, 0, 1, key(STORED_KEY_MAX_BYTES)]))).toBe("nothing thrown");
    expect(codeOf(() => messageFromWire([19, 0, 1, key(STORED_KEY_MAX_BYTES + 1)]))).toBe("TOO_LARGE");
  });

  it("carries INTERVAL_DELTAS_MAX deltas and refuses one more", () => {
    for (const wire of [(all: Wire) => [4, all], (all: Wire) => [7, 0, WRITER, 1, all]]) {
      expect(codeOf(() => messageFromWire(wire(many(INTERVAL_DELTAS_MAX, envelope(1)))))).toBe("nothing thrown");
      expect(codeOf(() => messageFromWire(wire(many(INTERVAL_DELTAS_MAX + 1, envelope(1)))))).toBe("TOO_LARGE");
    }
  });

  it("carries a sealed body of the largest delta and refuses one over its bound", () => {
    expect(codeOf(() => messageFromWire([4, [envelope(DELTA_BODY_MAX_BYTES + 1024)]]))).toBe("nothing thrown");
    expect(codeOf(() => messageFromWire([4, [envelope(DELTA_BODY_MAX_BYTES + 1025)]]))).toBe("TOO_LARGE");
  });

  it("refuses a refusal that writes a book", () => {
    expect(codeOf(() => messageFromWire([13, "c".repeat(64), "d".repeat(1024)]))).toBe("nothing thrown");
    expect(codeOf(() => messageFromWire([13, "c".repeat(65), ""]))).toBe("MALFORMED");
    expect(codeOf(() => messageFromWire([13, "c", "d".repeat(1025)]))).toBe("MALFORMED");
  });
});

describe("bytes that are no message", () => {
  const read = (input: Uint8Array): string => codeOf(() => messageFromWire(decodeWire(input, FRAME_MAX_BYTES)));
  const repeated = (byte: number, count: number) => new Uint8Array(count).fill(byte);

  it("are refused whatever they are, by a ProtocolError and nothing else", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), (input) => {
        expect(["MALFORMED", "TOO_LARGE", "VERSION", "nothing thrown"]).toContain(read(input));
      }),
      { numRuns: 3000 },
    );
  });

  it.each([
    ["nesting without end, in arrays", repeated(0x81, 1_000_000)],
    ["nesting without end, in maps", repeated(0xa1, 1_000_000)],
    ["nesting without end, in tags", repeated(0xc1, 1_000_000)],
    ["an array of 2^64 - 1 items", Uint8Array.of(0x9b, 255, 255, 255, 255, 255, 255, 255, 255, 1)],
    ["an array of 2^32 - 1 items", Uint8Array.of(0x9a, 255, 255, 255, 255, 1)],
    ["a text of 2^53 bytes", Uint8Array.of(0x7b, 0, 32, 0, 0, 0, 0, 0, 0, 0x61)],
    ["bytes of 2^32 - 1", Uint8Array.of(0x5a, 255, 255, 255, 255, 1)],
    ["an array without an announced length", Uint8Array.of(0x9f, 1, 0xff)],
    ["a text in pieces", Uint8Array.of(0x7f, 0x61, 0x61, 0xff)],
    ["a map with one key twice", Uint8Array.of(0xa2, 0x61, 0x61, 1, 0x61, 0x61, 2)],
    ["a number written longer than it need be", Uint8Array.of(0x82, 0x18, 5, 0x80)],
    ["a number beyond 2^53", Uint8Array.of(0x1b, 255, 255, 255, 255, 255, 255, 255, 255)],
    ["undefined", Uint8Array.of(0xf7)],
    ["not a number", Uint8Array.of(0xf9, 0x7e, 0)],
    ["infinity", Uint8Array.of(0xf9, 0x7c, 0)],
    ["something after the end", Uint8Array.of(0x80, 0x80)],
    ["nothing at all", new Uint8Array()],
  ])("are refused at once: %s", (_what, input) => {
    const begun = performance.now();
    expect(read(input)).toBe("MALFORMED");
    expect(performance.now() - begun).toBeLessThan(2000);
  });

  it("are refused before they are read when they are more than FRAME_MAX_BYTES", () => {
    expect(codeOf(() => decodeWire(new Uint8Array(FRAME_MAX_BYTES + 1), FRAME_MAX_BYTES))).toBe("TOO_LARGE");
  });
});
