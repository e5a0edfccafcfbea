/** The real time and chance, and the room left on a disk. */
import { randomBytes } from "node:crypto";
import { statfs } from "node:fs/promises";
import type { System } from "./ports.ts";

export const system: System = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  randomBytes: (length) => randomBytes(length),
  random: () => Math.random(),
  after(ms, run) {
    const timer = setTimeout(run, ms);
    return () => clearTimeout(timer);
  },
};

/** Bytes an unprivileged process can still write where `path` lies. @throws Error when the path does not exist */
export async function freeDiskBytes(path: string): Promise<number> {
  const found = await statfs(path);
  return found.bavail * found.bsize;
}
