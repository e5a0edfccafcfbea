/** What lies on the nodes' disks once their processes have ended, and the simulator's checks of it (`sim/store-checker.ts`), which know only bytes. */
import { join } from "node:path";
import { Level } from "level";
import type { Operation, Violation } from "../sim/history.ts";
import { readRawStore } from "../sim/raw-store.ts";
import type { Rng } from "../sim/rng.ts";
import { checkAtRest, type Order, Registry } from "../sim/store-checker.ts";

export interface Disk {
  readonly name: string;
  readonly rows: ReadonlyMap<string, Uint8Array>;
}

/** Every row of a node's store. The node must not run. */
export async function readDisk(name: string, dataDir: string): Promise<Disk> {
  const db = new Level<string, Uint8Array>(join(dataDir, "store"), { keyEncoding: "utf8", valueEncoding: "view", createIfMissing: false });
  await db.open();
  try {
    const rows = new Map<string, Uint8Array>();
    for await (const [key, value] of db.iterator()) rows.set(key, value);
    return { name, rows };
  } finally {
    await db.close();
  }
}

/** What layout 1 fixes when a node is not configured otherwise. */
const DECAY = { resonanceDecay: 0.85, periodMs: 30 * 24 * 3_600_000 };

/**
 * At rest: streams whole and chained, equal frontiers with equal records, every acknowledged write on enough copies, every key counted once, and the same
 * bytes from any order of arrival.
 * @param members the disks that count @param others further disks that hold deltas: what they know must not contradict
 * @param disksLost what was acknowledged at `one` may be gone
 */
export function checkDisks(
  members: readonly Disk[],
  others: readonly Disk[],
  disksLost: boolean,
  acknowledged: readonly { readonly operation: Operation; readonly key: string }[],
  factor: number,
  rng: Rng,
): Violation[] {
  const registry = new Registry(() => members.map(({ rows }) => rows), factor);
  registry.disksLost = disksLost;
  for (const { name, rows } of [...members, ...others]) registry.found(name, rows);
  const nodes = members.map(({ name, rows }) => ({ name, store: readRawStore(rows) }));
  return [...registry.violations, ...checkAtRest(nodes, registry, acknowledged, factor, shuffled(rng), DECAY)];
}

/** Streams taken in a random order, each in its own. */
function shuffled(rng: Rng): Order {
  return <T>(streams: readonly (readonly T[])[]) => {
    const left = streams.filter((stream) => stream.length > 0).map((stream) => ({ stream, next: 0 }));
    const out: T[] = [];
    while (left.length > 0) {
      const at = rng.int(left.length);
      const one = left[at]!;
      out.push(one.stream[one.next++]!);
      if (one.next === one.stream.length) left.splice(at, 1);
    }
    return out;
  };
}
