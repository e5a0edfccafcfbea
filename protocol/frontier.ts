/**
 * Version vectors of one partition (Parker et al. 1983): `{writer: n}` holds that stream up to n, without a gap, after fsync.
 * A head adds the header hash at n, by which two copies of one stream that went apart are found.
 */
import { asArray, asCount, asToken, type Wire } from "./codec.ts";
import type { HeaderHash } from "./delta.ts";
import { ProtocolError } from "./errors.ts";
import type { Partition, WriterId } from "./ids.ts";
import { HEADS_STREAMS_MAX } from "./limits.ts";

export type Frontier = ReadonlyMap<WriterId, number>;

export interface Head {
  readonly seq: number;
  readonly hash: HeaderHash;
}

/** One stream position somebody holds. */
export interface StreamHead extends Head {
  readonly partition: Partition;
  readonly writer: WriterId;
}

/** True when `a` holds everything `b` holds. */
export function covers(a: Frontier, b: Iterable<readonly [WriterId, number]>): boolean {
  for (const [writer, seq] of b) if ((a.get(writer) ?? 0) < seq) return false;
  return true;
}

/** Raises `into` to the join with `other`. @returns true when something rose */
export function raise(into: Map<WriterId, number>, other: Iterable<readonly [WriterId, number]>): boolean {
  let rose = false;
  for (const [writer, seq] of other) {
    if ((into.get(writer) ?? 0) >= seq) continue;
    into.set(writer, seq);
    rose = true;
  }
  return rose;
}

export function frontierToWire(frontier: Iterable<readonly [WriterId, number]>): Wire {
  return [...frontier].map(([writer, seq]) => [writer, seq]);
}

/** @throws ProtocolError MALFORMED, TOO_LARGE */
export function asFrontier(wire: Wire | undefined): [WriterId, number][] {
  const rows = asArray(wire, "frontier");
  if (rows.length > HEADS_STREAMS_MAX) throw new ProtocolError("TOO_LARGE", "more streams than one message may list", { streams: rows.length });
  return rows.map((row) => {
    const [writer, seq] = asArray(row, "frontier entry", 2);
    return [asToken<WriterId>(writer, "writer"), asCount(seq, "seq")];
  });
}

export function headsToWire(heads: readonly StreamHead[]): Wire {
  return heads.map((head) => [head.partition, head.writer, head.seq, head.hash]);
}

export function asHeads(wire: Wire | undefined, max: number): StreamHead[] {
  const rows = asArray(wire, "heads");
  if (rows.length > max) throw new ProtocolError("TOO_LARGE", "more heads than one message may list", { heads: rows.length });
  return rows.map((row) => {
    const [partition, writer, seq, hash] = asArray(row, "head", 4);
    return { partition: asPartition(partition), writer: asToken<WriterId>(writer, "writer"), seq: asCount(seq, "seq"), hash: asToken(hash, "hash") };
  });
}

export function asPartition(wire: Wire | undefined): Partition {
  const partition = asCount(wire, "partition");
  if (partition > 256) asArray(undefined, "partition 0..256");
  return partition as Partition;
}
