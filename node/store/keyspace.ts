/**
 * Every key prefix of the one LevelDB, on one page. `ppp` is the partition in 3 digits, `n` a seq in 12 hex digits, so keys sort as numbers do.
 *
 * | key | value |
 * | --- | ----- |
 * | `!format` | store format version (a newer one is refused) |
 * | `!incarnation` | 32 hex digits, born with the directory |
 * | `!starts` | how often the store was opened, and the ids of the newest of those starts |
 * | `!layout` | canonical bytes of the layout in force |
 * | `!formation` | state of formation.ts |
 * | `!vote` | state of consensus.ts |
 * | `!counted` | the incarnation that has begun to count |
 * | `!damaged` | copies of which some rows are not what was written: partition, and whether as a witness |
 * | `!clock` | highest clock value stored |
 * | `!peers` | address book |
 * | `!secrets` | public ids of this node's secrets, and since when it has known each |
 * | `!revoked` | nodes that were shut out, as this node last knew |
 * | `l/version` | layouts this node adopted, the newest of them; version in 12 hex digits |
 * | `v/version` | when it did, by its own clock |
 * | `t/writer` | what another member told last: its start, frontiers and marks |
 * | `f/ppp` | frontier of the partition (full replica): writer, seq, header hash of each stream |
 * | `w/ppp` | marks of the partition (witness), likewise |
 * | `d/ppp/writer/n` | log: header bytes, body bytes |
 * | `s/ppp/writer/n` | sealed delta a witness keeps |
 * | `k/ppp/key` | executions of an idempotency key |
 * | `e/ppp` | per stream: bodies of the log are erased up to, and to be erased up to |
 * | `o/ppp` | this node's own streams of a partition that was dropped: their last seq and hash, so that no number is used again |
 * | `a/ppp/writer/n` | a delta of this node's own earlier stream that nobody else held: to be written again, as in `d/` |
 * | `q/ppp` | the rows of a full replica are being cleared, or replaced by a snapshot: until it is gone they count as none |
 * | `z/ppp` | the rows of a witness are being cleared |
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
import { type Place, StoreError } from "./store-error.ts";

export const STORE_FORMAT = 1;

export const META = {
  format: "!format",
  incarnation: "!incarnation",
  starts: "!starts",
  layout: "!layout",
  formation: "!formation",
  vote: "!vote",
  counted: "!counted",
  damaged: "!damaged",
  clock: "!clock",
  peers: "!peers",
  revoked: "!revoked",
  secrets: "!secrets",
} as const;
export type MetaKey = Exclude<keyof typeof META, "format" | "incarnation" | "starts">;

const digits = Array.from({ length: 257 }, (_, partition) => String(partition).padStart(3, "0"));
const at = (partition: Partition): string => digits[partition] as string;
const n = (seq: number): string => seq.toString(16).padStart(12, "0");

export const keys = {
  layout: (version: number): string => `l/${n(version)}`,
  adopted: (version: number): string => `v/${n(version)}`,
  told: (writer: WriterId): string => `t/${writer}`,
  frontier: (partition: Partition): string => `f/${at(partition)}`,
  marks: (partition: Partition): string => `w/${at(partition)}`,
  counts: (partition: Partition): string => `n/${at(partition)}`,
  erased: (partition: Partition): string => `e/${at(partition)}`,
  ownHeads: (partition: Partition): string => `o/${at(partition)}`,
  replacing: (partition: Partition): string => `q/${at(partition)}`,
  clearingWitness: (partition: Partition): string => `z/${at(partition)}`,
  log: (partition: Partition, writer: WriterId, seq: number): string => `d/${at(partition)}/${writer}/${n(seq)}`,
  aside: (partition: Partition, writer: WriterId, seq: number): string => `a/${at(partition)}/${writer}/${n(seq)}`,
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
  erased: () => under("e"),
  ownHeads: () => under("o"),
  replacing: () => under("q"),
  clearingWitness: () => under("z"),
  layouts: () => under("l"),
  adopted: () => under("v"),
  records: (partition: Partition) => under(`r/${at(partition)}`),
  sealed: () => under("s"),
  aside: () => under("a"),
  index: (partition: Partition, tenant: string) => under(`i/${at(partition)}/${tenant}`),
};

/** Partition, writer and seq out of `s/ppp/writer/n`, or of `a/ppp/writer/n`. */
export function streamAt(key: string): { partition: Partition; writer: WriterId; seq: number } {
  const [, partition, writer, seq] = key.split("/");
  return { partition: Number(partition) as Partition, writer: writer as WriterId, seq: Number.parseInt(seq as string, 16) };
}

/** Version out of `l/version` or `v/version`. */
export function versionAt(key: string): number {
  return Number.parseInt(key.slice(2), 16);
}

/** Partition out of a key that begins as `f/ppp` does. */
export function partitionAt(key: string): Partition {
  return Number(key.slice(2, 5)) as Partition;
}

/** A node may be both of one partition while the layout changes. */
export type Holding = "replica" | "witness";

/** What belongs to a holding of a partition: single rows, then ranges. */
export function rowsOf(
  partition: Partition,
  what: Holding,
): { readonly single: readonly string[]; readonly ranges: readonly { gte: string; lt: string }[] } {
  const all = (prefix: string) => under(`${prefix}/${at(partition)}`);
  if (what === "witness") return { single: [keys.marks(partition)], ranges: [all("s")] };
  return { single: [keys.frontier(partition), keys.counts(partition), keys.erased(partition)], ranges: ["r", "i", "k", "d"].map(all) };
}

/** Whether a row belongs to a full replica's copy of the partition. */
export function isOfReplica(key: string, partition: Partition): boolean {
  return key.slice(1, 5) === `/${at(partition)}` && "dkrifne".includes(key.charAt(0));
}
export function isOfWitness(key: string, partition: Partition): boolean {
  return key.slice(1, 5) === `/${at(partition)}` && "sw".includes(key.charAt(0));
}

/** The rows of a partition that no snapshot has: the index, and what is kept sealed. */
export function otherRanges(partition: Partition): { readonly index: { gte: string; lt: string }; readonly sealed: { gte: string; lt: string } } {
  return { index: under(`i/${at(partition)}`), sealed: under(`s/${at(partition)}`) };
}

/** What a snapshot of a partition consists of, in the order of its keys; rows of the index are made anew by who receives it. */
export function snapshotRanges(partition: Partition): readonly { gte: string; lt: string }[] {
  const one = (key: string) => ({ gte: key, lt: `${key}\u0000` });
  const all = (prefix: string) => under(`${prefix}/${at(partition)}`);
  return [all("d"), one(keys.erased(partition)), all("k"), one(keys.counts(partition)), all("r")];
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
      undefined,
      placeOf(key),
    );
  }
  return payload;
}

function placeOf(key: string): Place | undefined {
  const partition = partitionAt(key);
  if (isOfReplica(key, partition)) return { partition, holding: "replica" };
  return isOfWitness(key, partition) ? { partition, holding: "witness" } : undefined;
}
