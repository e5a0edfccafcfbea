/**
 * Snapshots of partitions for peers that are too far behind for the log, or empty. A peer asks for one part after the other; all are of the moment of the
 * first. Few are held at a time, because LevelDB keeps for a snapshot whatever is overwritten meanwhile; one that nobody asks for any more is closed.
 */
import type { StreamHead } from "../protocol/frontier.ts";
import type { NodeId, Partition } from "../protocol/ids.ts";
import { SNAPSHOT_PART_MAX_BYTES, SNAPSHOTS_SERVED_MAX } from "../protocol/limits.ts";
import type { System } from "./ports.ts";
import type { SnapshotRow } from "./store/partition-copy.ts";
import type { PartitionSnapshot } from "./store/partition-snapshot.ts";
import type { Store } from "./store/store.ts";

/** After this long without a question a snapshot is closed, ms: the peer is gone, or has what it wanted. */
const IDLE_MS = 60_000;

export interface SnapshotWant {
  readonly partition: Partition;
  /** Chosen by who asks; the parts of one snapshot have one id. */
  readonly id: number;
  /** The last key received; empty: the snapshot is to be taken now. */
  readonly after: Uint8Array;
}

export interface SnapshotPart {
  readonly partition: Partition;
  readonly id: number;
  /** What the snapshot holds, whole; the same in every part. */
  readonly frontier: readonly StreamHead[];
  readonly rows: readonly SnapshotRow[];
  readonly last: boolean;
  /** `busy`: ask again later. `gone`: the snapshot is closed, begin with another. `not_held`: this node has no whole copy. */
  readonly refused: "" | "busy" | "gone" | "not_held";
}

interface Served {
  readonly snapshot: PartitionSnapshot;
  readonly peer: NodeId;
  readonly partition: Partition;
  readonly id: number;
  /** Its last part was read. It may be lost on its way and asked for again, so the snapshot stays until it is idle or its place is needed. */
  done: boolean;
  cancelIdle: () => void;
}

export class Snapshots {
  readonly #store: Store;
  readonly #system: System;
  readonly #served = new Set<Served>();
  /** Parts are read one at a time. */
  #reading: Promise<unknown> = Promise.resolve();
  #waiting = 0;

  constructor(store: Store, system: System) {
    this.#store = store;
    this.#system = system;
  }

  /** @throws StoreError CORRUPT: a row of this node's own copy is not what was written; the snapshot is closed */
  part(peer: NodeId, want: SnapshotWant): Promise<SnapshotPart> {
    if (this.#waiting >= SNAPSHOTS_SERVED_MAX) return Promise.resolve(refused(want, "busy"));
    this.#waiting++;
    const part = this.#reading.then(() => this.#part(peer, want)).finally(() => this.#waiting--);
    this.#reading = part.catch(() => undefined);
    return part;
  }

  get held(): number {
    return this.#served.size;
  }

  /** Before the store is closed. */
  async stop(): Promise<void> {
    await this.#reading;
    for (const one of this.#served) await this.#close(one);
  }

  async #part(peer: NodeId, want: SnapshotWant): Promise<SnapshotPart> {
    const { partition, id, after } = want;
    let served = [...this.#served].find((one) => one.peer === peer && one.partition === partition);
    // Whoever begins another one has given up the one before.
    if (served !== undefined && served.id !== id && after.length === 0) {
      await this.#close(served);
      served = undefined;
    }
    if (served?.id !== id) {
      if (after.length > 0) return refused(want, "gone");
      if (this.#served.size >= SNAPSHOTS_SERVED_MAX) await this.#makeRoom();
      if (this.#served.size >= SNAPSHOTS_SERVED_MAX) return refused(want, "busy");
      const snapshot = this.#store.partitionSnapshot(partition);
      if (snapshot === undefined) return refused(want, "not_held");
      served = { snapshot, peer, partition, id, done: false, cancelIdle: () => undefined };
      this.#served.add(served);
    }
    served.cancelIdle();
    try {
      const { rows, last } = await served.snapshot.part("copy", after, SNAPSHOT_PART_MAX_BYTES);
      served.done = last;
      this.#closeLater(served);
      return { partition, id, frontier: served.snapshot.frontier, rows, last, refused: "" };
    } catch (error) {
      await this.#close(served);
      throw error;
    }
  }

  async #makeRoom(): Promise<void> {
    for (const one of this.#served) if (one.done) return this.#close(one);
  }

  #closeLater(served: Served): void {
    served.cancelIdle = this.#system.after(IDLE_MS, () => {
      this.#reading = this.#reading.then(() => this.#close(served));
    });
  }

  async #close(served: Served): Promise<void> {
    served.cancelIdle();
    if (this.#served.delete(served)) await served.snapshot.close();
  }
}

function refused({ partition, id }: SnapshotWant, why: SnapshotPart["refused"]): SnapshotPart {
  return { partition, id, frontier: [], rows: [], last: false, refused: why };
}
