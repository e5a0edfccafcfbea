/**
 * LevelDB's write-ahead log, read before LevelDB reads it. What a power cut leaves at the end of a log was acknowledged to nobody, and LevelDB drops it. But it
 * drops what went bad in the middle of a log just the same, says nothing, and goes on with what comes after: deltas would be missing below a frontier that
 * says they are there. So: bytes that are no record are the end of a log, or a disk that cannot be believed.
 */
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";

/** Fixed by LevelDB's log format, as are the header and the kinds of records. */
const BLOCK_BYTES = 32 * 1024;
const HEADER_BYTES = 7;
const FULL = 1;
const FIRST = 2;
const LAST = 4;

/** @returns where a log is damaged, as a sentence; undefined: no log is, but for what a power cut does to its end */
export async function logDamage(directory: string): Promise<string | undefined> {
  for (const name of (await readdir(directory)).filter((file) => file.endsWith(".log")).sort()) {
    const at = damageIn(await readFile(join(directory, name)));
    if (at !== undefined) return `its log ${name} is not what was written at byte ${at}, and goes on after that`;
  }
  return undefined;
}

/**
 * After a bad record every byte is tried as the beginning of the next one: its length may be what went bad.
 * @returns where the first bad record begins, if one that begins after it is whole
 */
export function damageIn(log: Uint8Array): number | undefined {
  const view = new DataView(log.buffer, log.byteOffset, log.byteLength);
  let bad: number | undefined;
  for (let block = 0; block < log.byteLength; block += BLOCK_BYTES) {
    const end = Math.min(block + BLOCK_BYTES, log.byteLength);
    let at = block;
    // What is left of a block when no header fits is filled with zeros.
    while (at + HEADER_BYTES <= end) {
      const length = view.getUint16(at + 4, true);
      const kind = view.getUint8(at + 6);
      const to = at + HEADER_BYTES + length;
      if (kind < FULL || kind > LAST || to > end || masked(crc32c(log, at + 6, to)) !== view.getUint32(at, true)) {
        bad ??= at;
        at++;
        continue;
      }
      // A middle or an end belongs to the record whose beginning went bad.
      if (bad !== undefined && (kind === FULL || kind === FIRST)) return bad;
      at = to;
    }
  }
  return undefined;
}

/** LevelDB stores a checksum in this form, because checksums of what contains checksums are weak. */
function masked(crc: number): number {
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}

/** Castagnoli's polynomial, reflected. `zlib.crc32` is another. */
const POLYNOMIAL = 0x82f63b78;
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ POLYNOMIAL : crc >>> 1;
  return crc >>> 0;
});

function crc32c(bytes: Uint8Array, from: number, to: number): number {
  let crc = 0xffffffff;
  for (let at = from; at < to; at++) crc = (crc >>> 8) ^ TABLE[(crc ^ bytes[at]!) & 0xff]!;
  return ~crc >>> 0;
}
