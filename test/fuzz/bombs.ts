/**
 * Inputs that are small for what they would become, and the largest that are allowed. Runs in a process of its own with a small heap
 * (`node --expose-gc --max-old-space-size=96 test/fuzz/bombs.ts`), so that what allocates without a bound ends it. Prints one JSON line an input.
 */
import { FRAME_KIND, FrameReader } from "../../node/net/frames.ts";
import { decodeHello, HELLO_MAX_BYTES } from "../../node/net/hello.ts";
import { decodeWire, encodeWire, type Wire } from "../../protocol/codec.ts";
import { hashOf, parseDelta } from "../../protocol/delta.ts";
import { decodeFormationMessage } from "../../protocol/formation-message.ts";
import { encodeFrame, openFrame } from "../../protocol/frame.ts";
import { decodeLayout } from "../../protocol/layout.ts";
import {
  DELTA_BODY_MAX_BYTES,
  FORMATION_MESSAGE_MAX_BYTES,
  FRAME_MAX_BYTES,
  HEADS_STREAMS_MAX,
  INTERVAL_DELTAS_MAX,
  LAYOUT_MAX_BYTES,
  WIRE_ITEMS_MAX,
} from "../../protocol/limits.ts";
import { ALICE, DELTAS, FEDERATION, keyring, WRITER } from "../vectors/samples.ts";

export interface BombReport {
  readonly name: string;
  readonly bytes: number;
  /** Code of the refusal, or "read". */
  readonly outcome: string;
  /** The fastest of three. */
  readonly ms: number;
  /** Peak over what stood before, MB. */
  readonly heapMb: number;
}

type Bomb = readonly [name: string, bytes: Uint8Array, read: (bytes: Uint8Array) => unknown];

const header = { federation: FEDERATION, writer: WRITER, layoutVersion: 1 };
const open = (bytes: Uint8Array): unknown => openFrame(bytes, { from: ALICE, writer: WRITER, federation: FEDERATION, keyring });

/** A unit over and over in one array, up to a size. */
function filled(unit: readonly number[], size: number, most = Number.MAX_SAFE_INTEGER): Uint8Array {
  const count = Math.min(most, Math.floor((size - 5) / unit.length));
  const head = encodeWire(count);
  head[0]! |= 0x80;
  return Uint8Array.from(Buffer.concat([head, Buffer.alloc(count * unit.length, Uint8Array.from(unit))]));
}

/** The frame of a message, as far as its first item; then whatever. */
function inFrame(message: Uint8Array): Uint8Array {
  const start = encodeWire([1, FEDERATION, WRITER, 1]);
  return Uint8Array.from(Buffer.concat([Uint8Array.of(0x85), start.subarray(1), message]));
}

const UNITS: readonly (readonly [what: string, unit: readonly number[], items: number])[] = [
  ["numbers of one byte", [0], 1],
  ["empty arrays", [0x80], 1],
  ["arrays of one", [0x81, 0], 2],
  ["arrays of arrays of arrays of one", [0x81, 0x81, 0x81, 0], 4],
  ["empty byte strings", [0x40], 1],
  ["byte strings of one", [0x41, 1], 1],
  ["empty texts", [0x60], 1],
  ["texts of one character of two bytes", [0x62, 0xc3, 0xa9], 1],
  ["fractions of two bytes", [0xf9, 0x3a, 1], 1],
];

function* bombs(): Generator<Bomb> {
  const room = FRAME_MAX_BYTES - 200;
  for (const [what, unit, items] of UNITS) {
    yield [`a frame full of ${what}`, inFrame(filled(unit, room)), open];
    yield [`as many ${what} as may be`, filled(unit, room, Math.floor((WIRE_ITEMS_MAX - 1) / items)), (bytes) => decodeWire(bytes, FRAME_MAX_BYTES)];
  }
  for (const byte of [0x81, 0x9a, 0x9b, 0xa1, 0xc1, 0x5f, 0x7f, 0x9f]) {
    yield [`a frame of nothing but ${byte.toString(16)}`, inFrame(new Uint8Array(room).fill(byte)), open];
  }
  yield ["claims of 2^32 - 1 items in one another", inFrame(filled([0x9a, 255, 255, 255, 255], room)), open];
  yield ["arrays in one another that claim all that is left", nestedClaims(room), (bytes) => decodeWire(bytes, FRAME_MAX_BYTES)];
  yield ["one text as long as may be", encodeWire("é".repeat(room / 2 - 100)), (bytes) => decodeWire(bytes, FRAME_MAX_BYTES)];
  yield ["a forwarded request as long as may be", encodeFrame(header, { type: "forward", id: 1, sealed: new Uint8Array(room) }), open];
  const head: Wire = [0, WRITER, 1, DELTAS[0]!.delta.hash];
  const heads = (count: number): Uint8Array => encodeWire([5, Array.from({ length: count }, () => head)]);
  yield ["as many heads as may be", inFrame(heads(HEADS_STREAMS_MAX)), open];
  yield ["one head more", inFrame(heads(HEADS_STREAMS_MAX + 1)), open];
  yield ["a frame full of heads", inFrame(heads(100_000)), open];
  const entry: Wire = [WRITER, 1];
  yield ["a frame full of a frontier", inFrame(encodeWire([8, 1, 0, Array.from({ length: 80_000 }, () => entry)])), open];
  yield [
    "a push of envelopes of nothing",
    inFrame(encodeWire([4, Array.from({ length: INTERVAL_DELTAS_MAX }, (): Wire => [new Uint8Array(), new Uint8Array()])])),
    open,
  ];
  const body = (entries: Wire): Uint8Array => encodeWire(["alice", "", "", entries]);
  const read = (bytes: Uint8Array): unknown => {
    const [writer, partition, seq, previous, hlc, key] = decodeWire(DELTAS[0]!.delta.headerBytes, FRAME_MAX_BYTES) as readonly Wire[];
    return parseDelta(encodeWire([writer!, partition!, seq!, previous!, hlc!, key!, hashOf(bytes), []]), bytes);
  };
  yield [
    "a body of one entry with 80,000 fields",
    body([["g", "id", Array.from({ length: 80_000 }, (_, index): Wire => [String(index).padStart(6, "0"), ""])]]),
    read,
  ];
  yield ["a body of one entry with 250,000 keys", body([["x", "turn", "id", Array.from({ length: 250_000 }, () => "k")]]), read];
  yield ["a body full of empty texts", body(filledWire("", DELTA_BODY_MAX_BYTES - 100)), read];
  yield ["a body of one long text", body([["g", "id", [["field", "x".repeat(DELTA_BODY_MAX_BYTES - 100)]]]]), read];
  yield ["a layout full of empty arrays", filled([0x80], LAYOUT_MAX_BYTES), decodeLayout];
  yield ["a formation message full of arrays of one", filled([0x81, 0], FORMATION_MESSAGE_MAX_BYTES), decodeFormationMessage];
  yield ["a greeting full of empty byte strings", filled([0x40], HELLO_MAX_BYTES), decodeHello];
  yield ["a greeting of arrays in arrays", new Uint8Array(HELLO_MAX_BYTES).fill(0x81), decodeHello];
  yield ["a greeting of maps in maps", new Uint8Array(HELLO_MAX_BYTES).fill(0xa1), decodeHello];
  yield ["a greeting that claims 2^53 items", Uint8Array.of(0x9b, 0, 0x20, 0, 0, 0, 0, 0, 0), decodeHello];
  yield [
    "frames of nothing, a megabyte of them",
    Uint8Array.from(Buffer.alloc(1024 * 1024, Uint8Array.of(FRAME_KIND.data, 0, 0, 0))),
    (bytes) => new FrameReader(() => undefined).feed(bytes),
  ];
  yield [
    "a frame that is announced and never comes, 20 times",
    Uint8Array.of(0, 0x7f, 255, 255),
    (bytes) => Array.from({ length: 20 }, () => new FrameReader(() => undefined).feed(bytes)),
  ];
}

function filledWire(value: Wire, count: number): Wire {
  return Array.from({ length: count }, () => value);
}
function nestedClaims(size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  for (let depth = 0; depth < 31; depth++) {
    bytes[depth * 5] = 0x9a;
    new DataView(bytes.buffer).setUint32(depth * 5 + 1, size - (depth + 1) * 5);
  }
  return bytes;
}

function codeOf(error: unknown): string {
  return error instanceof Error && typeof (error as { code?: unknown }).code === "string"
    ? (error as unknown as { code: string }).code
    : String(error);
}

if (import.meta.main) {
  for (const [name, bytes, read] of bombs()) {
    let report: BombReport | undefined;
    // A pause of the machine is no fault of the decoder: the fastest of three counts.
    for (let round = 0; round < 3 && (report === undefined || report.ms > 500); round++) {
      const once = measure(name, bytes, read);
      report = report === undefined ? once : { ...once, ms: Math.min(once.ms, report.ms), heapMb: Math.max(once.heapMb, report.heapMb) };
    }
    process.stdout.write(`${JSON.stringify(report)}\n`);
  }
  process.stdout.write(`${JSON.stringify({ peakRssMb: Math.round(process.resourceUsage().maxRSS / 1024) })}\n`);
}

function measure(name: string, bytes: Uint8Array, read: (bytes: Uint8Array) => unknown): BombReport {
  globalThis.gc?.({ type: "minor" });
  const before = process.memoryUsage().heapUsed;
  const begun = performance.now();
  let outcome = "read";
  try {
    read(bytes);
  } catch (error) {
    outcome = codeOf(error);
  }
  const ms = performance.now() - begun;
  return { name, bytes: bytes.length, outcome, ms, heapMb: Math.round((process.memoryUsage().heapUsed - before) / 1e6) };
}
