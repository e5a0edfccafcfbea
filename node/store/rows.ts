/** The values behind the keys, to and from bytes. `reserve`: bytes an encoder leaves free in front, for the checksum. */

import type { Hlc } from "../../protocol/clock.ts";
import { asArray, asCount, asToken, decodeWire, encodeWire } from "../../protocol/codec.ts";
import { ProtocolError } from "../../protocol/errors.ts";
import type { Head, StreamHead } from "../../protocol/frontier.ts";
import { asHlc } from "../../protocol/graph/parts.ts";
import type { Partition, WriterId } from "../../protocol/ids.ts";
import { FRAME_MAX_BYTES } from "../../protocol/limits.ts";

export function encodeHeads(heads: ReadonlyMap<WriterId, Head>): Uint8Array {
  const sorted = [...heads].sort(([a], [b]) => (a < b ? -1 : 1));
  return encodeWire(sorted.map(([writer, head]) => [writer, head.seq, head.hash]));
}

export function decodeHeads(partition: Partition, bytes: Uint8Array): StreamHead[] {
  return asArray(decodeWire(bytes, FRAME_MAX_BYTES), "heads").map((row) => {
    const [writer, seq, hash] = asArray(row, "head", 3);
    return { partition, writer: asToken<WriterId>(writer, "writer"), seq: asCount(seq, "seq"), hash: asToken(hash, "hash") };
  });
}

/** Two byte strings, the first behind its length (4 bytes, big endian): no encoder in the way of large values. */
export function encodePair(first: Uint8Array, second: Uint8Array, reserve = 0): Uint8Array {
  const out = new Uint8Array(reserve + 4 + first.length + second.length);
  new DataView(out.buffer).setUint32(reserve, first.length);
  out.set(first, reserve + 4);
  out.set(second, reserve + 4 + first.length);
  return out;
}

/** @throws ProtocolError MALFORMED */
export function decodePair(bytes: Uint8Array): [Uint8Array, Uint8Array] {
  const length = bytes.length < 4 ? -1 : new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  if (length < 0 || 4 + length > bytes.length) throw new ProtocolError("MALFORMED", "a pair shorter than it says");
  return [bytes.subarray(4, 4 + length), bytes.subarray(4 + length)];
}

export interface ExecutionAt {
  readonly writer: WriterId;
  readonly seq: number;
}
export function encodeExecutions(executions: readonly ExecutionAt[], reserve = 0): Uint8Array {
  return encodeWire(
    executions.map(({ writer, seq }) => [writer, seq]),
    reserve,
  );
}
export function decodeExecutions(bytes: Uint8Array): ExecutionAt[] {
  return asArray(decodeWire(bytes, FRAME_MAX_BYTES), "executions").map((row) => {
    const [writer, seq] = asArray(row, "execution", 2);
    return { writer: asToken<WriterId>(writer, "writer"), seq: asCount(seq, "seq") };
  });
}

export function encodeHlc(hlc: Hlc): Uint8Array {
  return encodeWire(hlc);
}
export function decodeHlc(bytes: Uint8Array): Hlc {
  return asHlc(decodeWire(bytes, 64));
}

/** Visible records of a partition. */
export interface RecordCounts {
  concept: number;
  link: number;
  turn: number;
  memory: number;
}
export const NO_RECORDS: Readonly<RecordCounts> = { concept: 0, link: 0, turn: 0, memory: 0 };

export function encodeCounts(counts: RecordCounts): Uint8Array {
  return encodeWire([counts.concept, counts.link, counts.turn, counts.memory]);
}
export function decodeCounts(bytes: Uint8Array): RecordCounts {
  const [concept, link, turn, memory] = asArray(decodeWire(bytes, 64), "counts", 4);
  return { concept: asCount(concept, "concepts"), link: asCount(link, "links"), turn: asCount(turn, "turns"), memory: asCount(memory, "memories") };
}
