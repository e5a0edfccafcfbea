/** One moment of a partition, read in parts by whoever copies it: the parts are far apart in time and still of one state. */
import type { StreamHead } from "../../protocol/frontier.ts";
import type { Partition } from "../../protocol/ids.ts";
import { keys, otherRanges, snapshotRanges, unprotect } from "./keyspace.ts";
import type { Level, LevelSnapshot } from "./level-port.ts";
import type { SnapshotRow } from "./partition-copy.ts";
import { decodeHeads } from "./rows.ts";

const text = new TextEncoder();
const words = new TextDecoder();

export class PartitionSnapshot {
  readonly frontier: readonly StreamHead[];
  readonly #partition: Partition;
  readonly #db: Level;
  readonly #snapshot: LevelSnapshot;

  /** @throws StoreError CORRUPT */
  constructor(db: Level, partition: Partition) {
    this.#db = db;
    this.#partition = partition;
    this.#snapshot = db.snapshot();
    try {
      const key = keys.frontier(partition);
      const value = db.getSync(key, { snapshot: this.#snapshot });
      this.frontier = value === undefined ? [] : decodeHeads(partition, unprotect(key, value));
    } catch (error) {
      void this.#snapshot.close();
      throw error;
    }
  }

  /**
   * Rows in the order of their keys, one at the least, until they are more than `maxBytes`.
   * @param of `copy`: what another replica needs; `index`: what is made of it; `sealed`: what is kept as a witness
   * @param after the last key that was read before; empty: from the beginning
   * @throws StoreError CORRUPT
   */
  async part(of: "copy" | "index" | "sealed", after: Uint8Array, maxBytes: number): Promise<{ rows: readonly SnapshotRow[]; last: boolean }> {
    const rows: SnapshotRow[] = [];
    let bytes = 0;
    const { copy, ...others } = { copy: snapshotRanges(this.#partition), ...otherRanges(this.#partition) };
    for (const { gte, lt } of of === "copy" ? copy : [others[of]]) {
      if (Buffer.compare(text.encode(lt), after) <= 0) continue;
      const begun = Buffer.compare(text.encode(gte), after) <= 0;
      for await (const [key, value] of this.#db.iterator({ gte: begun ? `${words.decode(after)}\u0000` : gte, lt, snapshot: this.#snapshot })) {
        if (bytes > maxBytes) return { rows, last: false };
        unprotect(key, value);
        const keyBytes = text.encode(key);
        rows.push([keyBytes, value]);
        bytes += keyBytes.length + value.length;
      }
    }
    return { rows, last: true };
  }

  close(): Promise<void> {
    return this.#snapshot.close();
  }
}
