/**
 * A snapshot of another replica on its way into this store. Nothing of it is read before it is whole: the frontier goes first and a marker says why, the old
 * rows are cleared, the new ones written as they come, and the last batch brings the frontier and takes the marker away. It replaces what was there and is
 * never merged with it: a record that was deleted and collected elsewhere would come back.
 */
import type { StreamHead } from "../../protocol/frontier.ts";
import type { Partition } from "../../protocol/ids.ts";
import type { GraphIndex } from "../ports.ts";
import type { InOrder } from "./clearing.ts";
import { keys, META, protect } from "./keyspace.ts";
import type { Level, LevelOperation } from "./level-port.ts";
import { encodeHeads, encodeHlc } from "./rows.ts";
import { type Copied, SnapshotRows } from "./snapshot-rows.ts";
import type { Staged } from "./staged.ts";
import { CopyError } from "./store-error.ts";

/** Bytes of one batch: rows are checked and written in slices, and between two of them others have their turn. */
const SLICE_BYTES = 256 * 1024;

export type SnapshotRow = readonly [key: Uint8Array, value: Uint8Array];

export interface CopyPorts {
  readonly db: Level;
  readonly staged: Staged;
  readonly index: GraphIndex;
  readonly inOrder: InOrder;
  /** Marks and clears what is there. @throws CopyError BEHIND */
  readonly clear: () => Promise<void>;
  readonly completed: () => void;
}

export class PartitionCopy {
  readonly #partition: Partition;
  readonly #ports: CopyPorts;
  readonly #rows: SnapshotRows;
  #abandoned = false;

  /** @param frontier what the snapshot holds, as its source says; the rows must prove it */
  constructor(partition: Partition, frontier: readonly StreamHead[], ports: CopyPorts) {
    this.#partition = partition;
    this.#ports = ports;
    this.#rows = new SnapshotRows(partition, frontier, ports.index);
  }

  /** What was held goes. @throws CopyError BEHIND: the snapshot lacks something that is held here, and everything stays as it was */
  begin(): Promise<void> {
    return this.#ports.clear();
  }

  /** Rows in the order of their keys; resolves once they are written. @throws CopyError WRONG, ABANDONED */
  async write(rows: readonly SnapshotRow[]): Promise<void> {
    let operations: LevelOperation[] = [];
    let bytes = 0;
    for (const [key, value] of rows) {
      operations.push(...this.#rows.take(key, value));
      bytes += key.length + value.length;
      if (bytes < SLICE_BYTES) continue;
      await this.#batch(operations);
      operations = [];
      bytes = 0;
    }
    if (operations.length > 0) await this.#batch(operations);
  }

  /** Now it is this node's copy. @throws CopyError WRONG, ABANDONED */
  async finish(): Promise<readonly StreamHead[]> {
    const copied: Copied = this.#rows.end();
    const { staged, completed } = this.#ports;
    staged.raiseHighWater(copied.highest);
    const heads = new Map(copied.heads.map(({ writer, seq, hash }) => [writer, { seq, hash }]));
    await this.#batch([
      { type: "put", key: keys.frontier(this.#partition), value: protect(encodeHeads(heads)) },
      { type: "put", key: META.clock, value: protect(encodeHlc(staged.highWater)) },
      { type: "del", key: keys.replacing(this.#partition) },
    ]);
    staged.open(this.#partition, "replica", copied);
    completed();
    return copied.heads;
  }

  /** Nothing more of it is written. */
  abandon(): void {
    this.#abandoned = true;
  }

  #batch(operations: readonly LevelOperation[]): Promise<void> {
    return this.#ports.inOrder(() => {
      if (this.#abandoned) throw new CopyError("ABANDONED", "this copy of the partition is not wanted any more");
      // Fsynced each, for the reason given in clearing.ts.
      return this.#ports.db.batch(operations, { sync: true });
    });
  }
}
