import { crc32 } from "node:zlib";
import { decode } from "cborg";

/** What one node's disk holds, read byte by byte without the product's code: only the table of node/store/keyspace.ts is shared knowledge. */
export interface RawStore {
  /** Full replica: partition -> writer -> last seq held. */
  readonly frontiers: ReadonlyMap<number, ReadonlyMap<string, RawHead>>;
  /** Witness: partition -> writer -> last seq seen. */
  readonly marks: ReadonlyMap<number, ReadonlyMap<string, RawHead>>;
  /** By `partition/writer/seq`. */
  readonly log: ReadonlyMap<string, RawDelta>;
  /** As `log`: what a witness still keeps; bodies are sealed, headers are not. */
  readonly sealed: ReadonlyMap<string, RawHeader>;
  /** Partition -> record key -> its bytes as latin1. */
  readonly records: ReadonlyMap<number, ReadonlyMap<string, string>>;
  /** Partition/key hash -> executions `writer/seq`. */
  readonly keys: ReadonlyMap<string, readonly string[]>;
  /** Full replica: partitions whose rows are on their way out. */
  readonly leaving: ReadonlySet<number>;
  readonly layout: string | undefined;
  readonly clock: readonly [number, number];
}

export interface RawHead {
  readonly seq: number;
  readonly hash: string;
}

export interface RawHeader {
  readonly name: string;
  readonly partition: number;
  readonly writer: string;
  readonly seq: number;
  readonly previous: string;
  readonly hlc: readonly [number, number];
  readonly key: string;
  readonly bodyHash: string;
  readonly bytes: Uint8Array;
}

export interface RawDelta extends RawHeader {
  readonly tenant: string;
  readonly bodyBytes: Uint8Array;
  /** As on the wire: `["c", id, mass, total, ...]`. */
  readonly entries: readonly (readonly unknown[])[];
}

export function readRawStore(disk: ReadonlyMap<string, Uint8Array>): RawStore {
  const frontiers = new Map<number, Map<string, RawHead>>();
  const marks = new Map<number, Map<string, RawHead>>();
  const log = new Map<string, RawDelta>();
  const sealed = new Map<string, RawHeader>();
  const records = new Map<number, Map<string, string>>();
  const keys = new Map<string, readonly string[]>();
  const leaving = new Set<number>();
  let layout: string | undefined;
  let clock: readonly [number, number] = [0, 0];
  for (const [key, value] of disk) {
    const [kind, partition] = key.split("/") as [string, string];
    if (kind === "f") frontiers.set(Number(partition), headsIn(value));
    else if (kind === "w") marks.set(Number(partition), headsIn(value));
    else if (kind === "d") {
      const delta = rawDelta(value);
      log.set(delta.name, delta);
    } else if (kind === "s") {
      const header = rawHeader(pairIn(value)[0]);
      sealed.set(header.name, header);
    } else if (kind === "r") {
      const of = records.get(Number(partition)) ?? new Map<string, string>();
      records.set(Number(partition), of.set(key, Buffer.from(payload(value)).toString("latin1")));
    } else if (kind === "k") {
      const executions = decode(payload(value)) as [string, number][];
      keys.set(
        `${Number(partition)}/${key.slice("k/ppp/".length)}`,
        executions.map(([writer, seq]) => `${writer}/${seq}`),
      );
    } else if (kind === "q") leaving.add(Number(partition));
    else if (key === "!layout") layout = Buffer.from(payload(value)).toString("hex");
    else if (key === "!clock") clock = decode(payload(value)) as [number, number];
  }
  return { frontiers, marks, log, sealed, records, keys, leaving, layout, clock };
}

/** How many own the partitions of a layout that serves now, and how many full copies they keep. */
export function ownersIn(layout: Uint8Array): { readonly members: number; readonly factor: number } {
  const row = decode(payload(layout)) as [format: number, version: number, ...rest: unknown[]];
  if (row[0] === 1) return { factor: row[3] as number, members: (row[7] as unknown[]).length };
  const [factor, members] = row[5] as [number, unknown[]];
  return { factor, members: members.length };
}

/** How far a disk's witness has seen a stream; 0 when it is no witness of it. */
export function markIn(disk: ReadonlyMap<string, Uint8Array>, partition: string, writer: string): number {
  const row = disk.get(`w/${partition.padStart(3, "0")}`);
  if (row === undefined || !isIntact(row)) return 0;
  return headsIn(row).get(writer)?.seq ?? 0;
}

/** Totals of a concept's record, less what keys that ran more than once added too much. */
export function conceptCount(record: Uint8Array): number {
  const [, , , , , [totals, , repeats]] = decode(record) as [0, 0, 0, 0, 0, [[string, number][], unknown, [string, [string, number, number][]][]]];
  const sum = (masses: number[]): number => masses.reduce((all, mass) => all + mass, 0);
  const excess = repeats.map(([, executions]) => executions.map(([, , mass]) => mass)).map((masses) => sum(masses) - Math.max(...masses));
  return sum(totals.map(([, mass]) => mass)) - sum(excess);
}

/** What is left of a mass after a time: the federation's decay, d and its period. */
export interface RawDecay {
  readonly resonanceDecay: number;
  readonly periodMs: number;
}

export function rawDecayed(mass: number, fromMs: number, toMs: number, { resonanceDecay, periodMs }: RawDecay): number {
  return mass * resonanceDecay ** (Math.max(0, toMs - fromMs) / periodMs);
}

/** Of a link that nobody ever unlearnt: its totals as of a time, less what keys that ran more than once added too much. */
export function linkMass(record: Uint8Array, atMs: number, decay: RawDecay): number {
  const [, , , [totals, , repeats]] = decode(record) as [
    0,
    0,
    0,
    [[string, number, [number, number]][], unknown, [string, [string, number, number, [number, number]][]][]],
  ];
  const sum = (masses: number[]): number => masses.reduce((all, mass) => all + mass, 0);
  const excess = repeats
    .map(([, executions]) => executions.map(([, , mass, [ms]]) => rawDecayed(mass, ms, atMs, decay)))
    .map((masses) => sum(masses) - Math.max(...masses));
  return sum(totals.map(([, mass, [ms]]) => rawDecayed(mass, ms, atMs, decay))) - sum(excess);
}

/** A row of the log, `[header, body]`. */
export function rawDelta(value: Uint8Array): RawDelta {
  const [headerBytes, bodyBytes] = pairIn(value);
  const [tenant, , , entries] = decode(bodyBytes) as [string, string, string, unknown[][]];
  return { ...rawHeader(headerBytes), tenant, bodyBytes, entries };
}

/** The header of a row of the log or of a witness's sealed store. */
export function rawHeaderOf(value: Uint8Array): RawHeader {
  return rawHeader(pairIn(value)[0]);
}

function rawHeader(bytes: Uint8Array): RawHeader {
  const [writer, partition, seq, previous, hlc, key, bodyHash] = decode(bytes) as [string, number, number, string, [number, number], string, string];
  return { name: `${partition}/${writer}/${seq}`, partition, writer, seq, previous, hlc, key, bodyHash, bytes };
}

function headsIn(value: Uint8Array): Map<string, RawHead> {
  return new Map((decode(payload(value)) as [string, number, string][]).map(([writer, seq, hash]) => [writer, { seq, hash }]));
}

/** Two byte strings, the first behind its length (4 bytes, big endian). */
function pairIn(value: Uint8Array): [Uint8Array, Uint8Array] {
  const bytes = payload(value);
  const length = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  return [bytes.subarray(4, 4 + length), bytes.subarray(4 + length)];
}

/** Whether the stored checksum is right: what lies holds nothing. */
export function isIntact(value: Uint8Array): boolean {
  return value.byteLength >= 4 && new DataView(value.buffer, value.byteOffset).getUint32(0) === crc32(payload(value));
}

/** Behind the checksum. */
const payload = (value: Uint8Array): Uint8Array => value.subarray(4);
