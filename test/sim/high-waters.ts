/**
 * Checker (f): what never goes back on a disk. Clock high-waters, layout versions, starts, how far streams are held, seen, and erased: whatever a disk once
 * had durably, every later write and every later start of that disk has too. It begins anew with a new incarnation, and where a fault put an old copy into
 * the node's place behind its back (then the node must find out; that is another checker's business).
 */
import { decode } from "cborg";
import type { Violation } from "./history.ts";
import { isIntact } from "./raw-store.ts";
import type { Entries } from "./sim-disk.ts";

/** One row's values by name; each may only rise, and none may go. */
type Values = ReadonlyMap<string, readonly number[]>;

/** What one disk had durably, by key. */
interface Disk {
  readonly incarnation: string;
  readonly rows: Map<string, Values>;
}

export class HighWaters {
  readonly violations: Violation[] = [];
  readonly #disks = new Map<string, Disk>();

  /** A batch has completed. @param synced a power cut cannot take it any more */
  wrote(where: string, entries: Entries, synced: boolean): void {
    const incarnation = entries.get("!incarnation");
    if (incarnation !== undefined) this.#disks.set(where, { incarnation: text(incarnation), rows: new Map() });
    const disk = this.#disks.get(where);
    if (disk === undefined) return;
    for (const [key, value] of entries) {
      // A partition that was handed over is dropped as a whole, and may come back from nothing.
      if (value === undefined && isStreams(key)) disk.rows.delete(key);
      else this.#row(where, disk, key, value, synced);
    }
  }

  /** A process opens the disk, and finds this. */
  found(where: string, contents: ReadonlyMap<string, Uint8Array>): void {
    const incarnation = contents.get("!incarnation");
    const known = this.#disks.get(where);
    if (incarnation === undefined) this.#disks.delete(where);
    else if (known?.incarnation !== text(incarnation)) this.#disks.set(where, { incarnation: text(incarnation), rows: new Map() });
    const disk = this.#disks.get(where);
    if (disk === undefined) return;
    for (const key of disk.rows.keys()) {
      if (contents.has(key)) continue;
      // Its partition was on its way out, in a batch of which nobody heard that it is there: an fsync that failed.
      if (isStreams(key) && contents.has(`${key.startsWith("w") ? "z" : "q"}${key.slice(1)}`)) disk.rows.delete(key);
      else this.#row(where, disk, key, undefined, true);
    }
    for (const [key, value] of contents) this.#row(where, disk, key, value, true);
  }

  /** The disk is another from here on. */
  replaced(where: string): void {
    this.#disks.delete(where);
  }

  #row(where: string, disk: Disk, key: string, value: Uint8Array | undefined, durable: boolean): void {
    const before = disk.rows.get(key);
    // A disk that lies is found out by its checksum, or not read at all.
    if (value !== undefined && !isIntact(value)) return;
    const after = value === undefined ? undefined : valuesIn(key, value);
    if (before === undefined && after === undefined) return;
    for (const [name, had] of before ?? []) {
      const has = after?.get(name);
      if (has === undefined || compare(has, had) < 0)
        this.violations.push({
          checker: "f never back",
          message: `${where}: ${key} ${name} was ${had.join(".")} and is ${has?.join(".") ?? "gone"}`,
        });
    }
    if (durable && after !== undefined) disk.rows.set(key, after);
  }
}

const isStreams = (key: string): boolean => /^[fweo]\/\d{3}$/.test(key);

function valuesIn(key: string, value: Uint8Array): Values | undefined {
  const payload = (): unknown[] => decode(value.subarray(4)) as unknown[];
  if (key === "!clock") return new Map([["high-water", payload() as number[]]]);
  if (key === "!layout") return new Map([["version", [payload()[1] as number]]]);
  if (key === "!starts") return new Map([["count", [payload()[0] as number]]]);
  // [writer, seq, hash] of streams held, seen or dropped; [writer, erased, to be erased] of bodies.
  if (isStreams(key))
    return new Map((payload() as [string, ...unknown[]][]).map(([writer, ...numbers]) => [writer, numbers.filter((one) => typeof one === "number")]));
  return undefined;
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (let i = 0; i < b.length; i++) if (a[i] !== b[i]) return (a[i] ?? Number.NEGATIVE_INFINITY) - (b[i] as number);
  return 0;
}

const text = (value: Uint8Array): string => Buffer.from(value.subarray(4)).toString("latin1");
