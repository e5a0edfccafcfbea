/** The real time and chance, and the room left on a disk. */
import { randomFillSync } from "node:crypto";
import { statfs } from "node:fs/promises";
import type { System } from "./ports.ts";

export const system: System = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  randomBytes,
  random: () => Math.random(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
  soon: (run) => void setImmediate(run),
};

/** Asking the kernel for each nonce costs more than sealing a short message. */
const pool = new Uint8Array(16 * 1024);
let unused = 0;

/** Fresh bytes, never handed out twice. */
function randomBytes(length: number): Uint8Array {
  if (length > pool.length) return randomFillSync(new Uint8Array(length));
  if (length > unused) {
    randomFillSync(pool);
    unused = pool.length;
  }
  unused -= length;
  const bytes = pool.slice(unused, unused + length);
  pool.fill(0, unused, unused + length);
  return bytes;
}

/** Bytes an unprivileged process can still write where `path` lies. @throws Error when the path does not exist */
export async function freeDiskBytes(path: string): Promise<number> {
  const found = await statfs(path);
  return found.bavail * found.bsize;
}
