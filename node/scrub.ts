/**
 * Every copy on this disk is read again from time to time, so that a sector that went bad is found while other replicas still have the data. Slowly: a small
 * piece, then a pause several times as long as the piece took, so it yields to foreground work by itself. It checks what a receiver of a snapshot checks
 * (store/snapshot-rows.ts), the rows of the index and what is kept sealed, and gives a fingerprint: replicas with equal frontiers must have equal ones (P3).
 */
import type { StreamHead } from "../protocol/frontier.ts";
import type { NodeId, Partition } from "../protocol/ids.ts";
import { PARTITIONS } from "../protocol/layout.ts";
import type { Engine } from "./engine.ts";
import type { Meter, System } from "./ports.ts";
import { Fingerprint } from "./store/fingerprint.ts";
import type { PartitionSnapshot } from "./store/partition-snapshot.ts";
import { SnapshotRows } from "./store/snapshot-rows.ts";
import type { Store } from "./store/store.ts";
import { CopyError, StoreError } from "./store/store-error.ts";

export interface Scrubbed {
  readonly partition: Partition;
  readonly frontier: readonly StreamHead[];
  readonly fingerprint: string;
  readonly rows: number;
  readonly bytes: number;
}

export interface ScrubOptions {
  readonly store: Store;
  readonly system: System;
  /** Partitions of which this node keeps a copy. */
  readonly partitions: () => readonly Partition[];
  /** Everything is as it was written. */
  readonly scrubbed: (result: Scrubbed) => void;
  /** The copy is not what it should be. `replica`: a snapshot of another replica heals it. `witness`: a sealed delta is lost here. */
  readonly corrupt: (partition: Partition, holding: "replica" | "witness", detail: string) => void;
  /** The disk failed. */
  readonly onFailure: (error: Error) => void;
}

/** A piece takes some milliseconds. */
const PIECE_BYTES = 128 * 1024;
/** At the least between two pieces, ms; and as a multiple of what the piece took: a fifth of one thread at the most. */
const PAUSE_MS = 20;
const PAUSE_RATIO = 4;
/** From the end of a round over all partitions to the next, ms. */
const ROUND_MS = 24 * 3600 * 1000;

const NOTHING = new Uint8Array();

export class Scrub {
  readonly #o: ScrubOptions;
  #running: Promise<void> = Promise.resolve();
  #wake: () => void = () => undefined;
  /** Does nothing while a round is under way. */
  #wakeRound: () => void = () => undefined;
  #stopped = false;

  constructor(options: ScrubOptions) {
    this.#o = options;
  }

  /** Round after round until it is stopped. @param afterMs before the first one */
  start(afterMs = 0): void {
    this.#running = this.#rounds(afterMs);
  }

  /** The next round begins now, if one is not under way. */
  now(): void {
    this.#wakeRound();
  }

  /** Before the store is closed. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake();
    await this.#running;
  }

  async #rounds(afterMs: number): Promise<void> {
    if (afterMs > 0) await this.#untilNextRound(afterMs);
    while (!this.#stopped) {
      await this.round();
      if (!this.#stopped) await this.#untilNextRound(ROUND_MS);
    }
  }

  async #untilNextRound(ms: number): Promise<void> {
    await this.#pause(ms, (wake) => {
      this.#wakeRound = wake;
    });
    this.#wakeRound = () => undefined;
  }

  /** All partitions, one after the other. */
  async round(): Promise<void> {
    for (const partition of this.#o.partitions()) {
      if (this.#stopped) return;
      await this.one(partition);
    }
  }

  /** One partition, now; what it finds is told as of a round. */
  async one(partition: Partition): Promise<void> {
    let snapshot: PartitionSnapshot | undefined;
    let what: "replica" | "witness" = "replica";
    try {
      snapshot = this.#o.store.partitionSnapshot(partition);
      if (snapshot === undefined) return;
      const result = await this.#copy(partition, snapshot);
      what = "witness";
      await this.#pieces(snapshot, "sealed", () => undefined);
      if (!this.#stopped) this.#o.scrubbed(result);
    } catch (error) {
      if (error instanceof CopyError || (error instanceof StoreError && error.code === "CORRUPT")) this.#o.corrupt(partition, what, error.message);
      else this.#o.onFailure(unreadable(error as Error));
    } finally {
      await snapshot?.close();
    }
  }

  /** @throws StoreError CORRUPT, CopyError WRONG */
  async #copy(partition: Partition, snapshot: PartitionSnapshot): Promise<Scrubbed> {
    const checked = new SnapshotRows(partition, snapshot.frontier);
    const fingerprint = new Fingerprint();
    let [rows, bytes] = [0, 0];
    await this.#pieces(snapshot, "copy", (key, value) => {
      checked.take(key, value);
      rows++;
      bytes += key.length + value.length;
      if (key[0] === RECORD) fingerprint.add(key, value);
    });
    if (!this.#stopped) checked.end();
    await this.#pieces(snapshot, "index", () => undefined);
    return { partition, frontier: snapshot.frontier, fingerprint: fingerprint.digest(), rows, bytes };
  }

  /** To the end, or until it is stopped. */
  async #pieces(snapshot: PartitionSnapshot, of: "copy" | "index" | "sealed", take: (key: Uint8Array, value: Uint8Array) => void): Promise<void> {
    for (let after: Uint8Array = NOTHING; !this.#stopped; ) {
      const begun = this.#o.system.monotonic();
      const { rows, last } = await snapshot.part(of, after, PIECE_BYTES);
      for (const [key, value] of rows) take(key, value);
      if (last) return;
      after = rows.at(-1)?.[0] ?? after;
      await this.#pause(Math.max(PAUSE_MS, PAUSE_RATIO * (this.#o.system.monotonic() - begun)));
    }
  }

  /** @param begun is given what ends the pause early */
  #pause(ms: number, begun: (wake: () => void) => void = () => undefined): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#o.system.after(ms, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
      begun(this.#wake);
    });
  }
}

const RECORD = "r".charCodeAt(0);

/** Of a running node: what it finds is given up and taken again. @param onFailure the disk failed */
export function scrubOf(engine: Engine, meter: Meter, onFailure: (error: Error) => void): Scrub {
  const { store, system } = engine;
  return new Scrub({
    store,
    system,
    partitions: () => scrubbedPartitions(engine),
    scrubbed: ({ partition }) => {
      meter.count("scrubbed", 1, "whole");
      engine.replica?.foundWhole(partition);
    },
    corrupt: (partition, holding, detail) => {
      meter.count("scrubbed", 1, "corrupt");
      engine.damaged({ partition, holding }, detail);
    },
    onFailure,
  });
}

/** Those that this node is a replica or a witness of, now or to come, with anything there; whether it counts at the moment or not. */
export function scrubbedPartitions({ replica }: Engine): Partition[] {
  if (replica === undefined) return [];
  const isKept = (partition: Partition): boolean => replica.keeps(partition).length > 0 && !replica.isGivenUp(partition);
  return PARTITIONS.filter(
    (partition) => isKept(partition) && (["heads", "marks"] as const).some((kind) => replica.ownHeads(partition, kind).length > 0),
  );
}

/** A table that LevelDB cannot read holds rows of many copies, and stops its compaction, and with it every write: one copy taken again would not help. */
function unreadable(error: Error): Error {
  if ((error as { code?: string }).code !== "LEVEL_CORRUPTION") return error;
  return new StoreError(
    "CORRUPT",
    `a table of the store cannot be read any more (${error.message}); treat it as a lost disk: move the folder away and start again, the peers hold the data`,
    error,
  );
}

/**
 * Replicas whose copy differs from the others' although their frontiers are equal. Where most of those that can be compared agree, the rest are suspects;
 * where none has a majority, all are: only a person, or the log, can say which is right.
 */
export function suspects(
  told: readonly { readonly node: NodeId; readonly frontier: readonly StreamHead[]; readonly fingerprint: string }[],
): NodeId[] {
  const byFrontier = Map.groupBy(told, ({ frontier }) => frontierText(frontier));
  return [...byFrontier.values()].flatMap((comparable) => {
    const byFingerprint = [...Map.groupBy(comparable, ({ fingerprint }) => fingerprint).values()];
    if (byFingerprint.length < 2) return [];
    const majority = byFingerprint.find((agreed) => agreed.length > comparable.length / 2);
    return byFingerprint.flatMap((agreed) => (agreed === majority ? [] : agreed.map(({ node }) => node)));
  });
}

function frontierText(frontier: readonly StreamHead[]): string {
  return frontier
    .map(({ writer, seq, hash }) => `${writer} ${seq} ${hash}`)
    .sort()
    .join("\n");
}
