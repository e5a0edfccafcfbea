/**
 * Every key prefix of the one LevelDB, on one page. `ppp` is the partition in 3 digits, `n` a seq in 12 hex digits, so keys sort as numbers do.
 *
 * | key | value |
 * | --- | ----- |
 * | `!format` | store format version (a newer one is refused) |
 * | `!incarnation` | 32 hex digits, born with the directory |
 * | `!layout` | canonical bytes of the layout |
 * | `!formation` | state of formation.ts |
 * | `!clock` | highest clock value stored |
 * | `!peers` | address book |
 * | `f/ppp` | frontier of the partition (full replica): writer, seq, header hash of each stream |
 * | `w/ppp` | marks of the partition (witness), likewise |
 * | `d/ppp/writer/n` | log: header bytes, body bytes |
 * | `s/ppp/writer/n` | sealed delta a witness keeps |
 * | `k/ppp/key` | executions of an idempotency key |
 * | `n/ppp` | how many visible concepts, links, turns and memories the partition has |
 * | `r/ppp/tenant/kind/id` | materialised record |
 * | `i/ppp/tenant/...` | rows of the search index |
 *
 * Every value is `crc32 | payload` (protect): what cannot be rebuilt must not be served when the disk lied.
 */
import { crc32 } from "node:zlib";
import { KIND_CODES } from "../../protocol/graph/record.ts";
import type { Kind } from "../../protocol/graph/records.ts";
import type { KeyHash, Partition, WriterId } from "../../protocol/ids.ts";
import { StoreError } from "./store-error.ts";

export const STORE_FORMAT = 1;

export const META = {
  format: "!format",
  incarnation: "!incarnation",
  layout: "!layout",
  formation: "!formation",
  clock: "!clock",
  peers: "!peers",
} as const;
export type MetaKey = Exclude<keyof typeof META, "format" | "incarnation">;

const digits = Array.from({ length: 257 }, (_, partition) => String(partition).padStart(3, "0"));
const at = (partition: Partition): string => digits[partition] as string;
const n = (seq: number): string => seq.toString(16).padStart(12, "0");

export const keys = {
  frontier: (partition: Partition): string => `f/${at(partition)}`,
  marks: (partition: Partition): string => `w/${at(partition)}`,
  counts: (partition: Partition): string => `n/${at(partition)}`,
  log: (partition: Partition, writer: WriterId, seq: number): string => `d/${at(partition)}/${writer}/${n(seq)}`,
  sealed: (partition: Partition, writer: WriterId, seq: number): string => `s/${at(partition)}/${writer}/${n(seq)}`,
  idempotency: (partition: Partition, key: KeyHash): string => `k/${at(partition)}/${key}`,
  record: (partition: Partition, tenant: string, kind: Kind, id: string): string => `r/${at(partition)}/${tenant}/${KIND_CODES[kind]}/${id}`,
  index: (partition: Partition, tenant: string, row: string): string => `i/${at(partition)}/${tenant}/${row}`,
};

/** Everything that starts with the prefix: the byte after "/" is "0". */
export function under(prefix: string): { gte: string; lt: string } {
  return { gte: `${prefix}/`, lt: `${prefix}0` };
}
export const ranges = {
  frontiers: () => under("f"),
  marks: () => under("w"),
  counts: () => under("n"),
  records: (partition: Partition) => under(`r/${at(partition)}`),
  sealed: () => under("s"),
  index: (partition: Partition, tenant: string) => under(`i/${at(partition)}/${tenant}`),
};

/** Partition, writer and seq out of `s/ppp/writer/n`. */
export function sealedAt(key: string): { partition: Partition; writer: WriterId; seq: number } {
  const [, partition, writer, seq] = key.split("/");
  return { partition: Number(partition) as Partition, writer: writer as WriterId, seq: Number.parseInt(seq as string, 16) };
}

/** Partition out of `f/ppp`, `w/ppp` or `n/ppp`. */
export function partitionAt(key: string): Partition {
  return Number(key.slice(2)) as Partition;
}

/** Bytes that an encoder leaves free for the checksum. */
export const CHECKSUM_BYTES = 4;

/** Puts the checksum of what follows into the first four bytes. */
export function seal(value: Uint8Array): Uint8Array {
  const sum = crc32(value.subarray(CHECKSUM_BYTES));
  value[0] = sum >>> 24;
  value[1] = sum >>> 16;
  value[2] = sum >>> 8;
  value[3] = sum;
  return value;
}

export function protect(payload: Uint8Array): Uint8Array {
  const value = new Uint8Array(CHECKSUM_BYTES + payload.length);
  value.set(payload, CHECKSUM_BYTES);
  return seal(value);
}

/** @throws StoreError CORRUPT */
export function unprotect(key: string, value: Uint8Array): Uint8Array {
  const payload = value.subarray(CHECKSUM_BYTES);
  if (value.length < CHECKSUM_BYTES || new DataView(value.buffer, value.byteOffset).getUint32(0) !== crc32(payload)) {
    throw new StoreError(
      "CORRUPT",
      `a stored value does not match its checksum (${key.slice(0, 40)}); replace this node's disk, its peers hold the data`,
    );
  }
  return payload;
}
