/** The values behind the keys, to and from bytes. `reserve`: bytes an encoder leaves free in front, for the checksum. */

import type { Hlc } from "../../protocol/clock.ts";
import { asArray, asBytes, asCount, asText, asToken, decodeWire, encodeWire } from "../../protocol/codec.ts";
import type { DamagedCopy } from "../../protocol/effects.ts";
import { ProtocolError } from "../../protocol/errors.ts";
import { asHeads, asPartition, type Head, headsToWire, type StreamHead } from "../../protocol/frontier.ts";
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

/** Bytes of the id of one start. */
export const START_ID_BYTES = 16;

/** How often the store was opened by a driver, and the newest of those starts: 32 hex digits each, the newest last. */
export interface Starts {
  readonly count: number;
  readonly newest: readonly string[];
}
export function encodeStarts({ count, newest }: Starts): Uint8Array {
  return encodeWire([count, Buffer.from(newest.join(""), "hex")]);
}
export function decodeStarts(bytes: Uint8Array): Starts {
  const [count, ids] = asArray(decodeWire(bytes, bytes.length), "starts", 2);
  const hex = Buffer.from(asBytes(ids, "ids of starts")).toString("hex");
  return { count: asCount(count, "starts"), newest: hex.match(new RegExp(`.{${2 * START_ID_BYTES}}`, "g")) ?? [] };
}

/** One start of a node's process: the how manieth of its store, and a random id. */
export interface Start {
  readonly count: number;
  readonly id: string;
}

/** What another member told this node last. */
export interface Told {
  readonly start: Start;
  /** The layout under which the rest was told. */
  readonly layoutVersion: number;
  readonly heads: readonly StreamHead[];
  readonly marks: readonly StreamHead[];
}
export function encodeTold({ start, layoutVersion, heads, marks }: Told): Uint8Array {
  return encodeWire([start.count, start.id, layoutVersion, headsToWire(heads), headsToWire(marks)]);
}
export function decodeTold(bytes: Uint8Array): Told {
  const [count, id, layoutVersion, heads, marks] = asArray(decodeWire(bytes, bytes.length), "told", 5);
  return {
    start: { count: asCount(count, "start"), id: asText(id, "id of a start") },
    layoutVersion: asCount(layoutVersion, "layout version"),
    heads: asHeads(heads, Number.POSITIVE_INFINITY),
    marks: asHeads(marks, Number.POSITIVE_INFINITY),
  };
}

/** Of one stream of the log: bodies are gone up to `done`, and are to go up to `to`. */
export interface Erased {
  readonly done: number;
  readonly to: number;
}
export function encodeErased(erased: ReadonlyMap<WriterId, Erased>): Uint8Array {
  return encodeWire([...erased].sort(([a], [b]) => (a < b ? -1 : 1)).map(([writer, { done, to }]) => [writer, done, to]));
}
export function decodeErased(bytes: Uint8Array): Map<WriterId, Erased> {
  return new Map(
    asArray(decodeWire(bytes, bytes.length), "erased").map((row) => {
      const [writer, done, to] = asArray(row, "erased stream", 3);
      return [asToken<WriterId>(writer, "writer"), { done: asCount(done, "done"), to: asCount(to, "to") }];
    }),
  );
}

export function encodeDamaged(copies: readonly DamagedCopy[]): Uint8Array {
  return encodeWire(copies.map(({ partition, kind }) => [partition, kind === "marks"]));
}
export function decodeDamaged(bytes: Uint8Array): DamagedCopy[] {
  return asArray(decodeWire(bytes, bytes.length), "damaged copies").map((row) => {
    const [partition, isWitness] = asArray(row, "damaged copy", 2);
    return { partition: asPartition(partition), kind: isWitness === true ? "marks" : "heads" };
  });
}

/** Why a full replica's rows are on their way out: it was dropped, or a snapshot takes their place, which must contain what was held. */
export type Replacing = { readonly what: "drop" } | { readonly what: "copy"; readonly source: string; readonly held: readonly StreamHead[] };

export function encodeReplacing(replacing: Replacing): Uint8Array {
  return encodeWire(replacing.what === "drop" ? [] : [replacing.source, headsToWire(replacing.held)]);
}
export function decodeReplacing(bytes: Uint8Array): Replacing {
  const row = asArray(decodeWire(bytes, bytes.length), "replacing");
  if (row.length === 0) return { what: "drop" };
  return { what: "copy", source: asText(row[0], "source"), held: asHeads(row[1], Number.POSITIVE_INFINITY) };
}
