/** Deleting a turn or memory is final: the record is gone, this stays, and holds the keys that created it so that a late retry creates nothing (P6). */
import { compareHlc } from "../clock.ts";
import type { Tombstone } from "./records.ts";

export function mergeTombstones(a: Tombstone, b: Tombstone): Tombstone {
  return { kind: "tombstone", of: a.of, id: a.id, at: compareHlc(a.at, b.at) <= 0 ? a.at : b.at, keys: [...new Set([...a.keys, ...b.keys])].sort() };
}

export function tombstoneId(of: "turn" | "memory", id: string): string {
  return `${of}/${id}`;
}
