/**
 * Partitions on their way here as snapshots of other replicas. One part is asked for after the other, and only when the one before is on disk, so a copy has
 * one part in memory however large the partition is. An answer that does not come is asked for again after the last key that is here; a source that is gone,
 * or whose snapshot is, is left for another, from the beginning. What is there is cleared only when the first part has come and its frontier holds all of it.
 */
import type { StreamHead } from "../protocol/frontier.ts";
import type { NodeId, Partition, WriterId } from "../protocol/ids.ts";
import { COPIES_MAX } from "../protocol/limits.ts";
import type { System } from "./ports.ts";
import type { SnapshotPart } from "./snapshots.ts";
import type { PartitionCopy } from "./store/partition-copy.ts";
import type { Store } from "./store/store.ts";
import { CopyError } from "./store/store-error.ts";

export interface CopyingOptions {
  readonly store: Store;
  readonly system: System;
  /** This node's writer. */
  readonly own: () => WriterId;
  /** Who may have a whole copy and is connected, the best first. */
  readonly sources: (partition: Partition) => readonly NodeId[];
  /** Sends snapshot-want. False: not sent. */
  readonly ask: (node: NodeId, partition: Partition, id: number, after: Uint8Array) => boolean;
  /** It is on disk, fsynced, and these are its heads. */
  readonly copied: (partition: Partition, heads: readonly StreamHead[]) => void;
  /**
   * It is over. What was held before stays with `behind`, and with `none`: no source has a whole copy. After `wrong` the partition is incomplete until another
   * copy is finished.
   */
  readonly failed: (partition: Partition, reason: "behind" | "wrong" | "none", source: NodeId, detail: string) => void;
  /** The disk failed. */
  readonly onFailure: (error: Error) => void;
}

/** An answer takes a part's reading and a megabyte's way: after this long it is asked for again, ms. */
const ANSWER_MS = 5_000;
/** A source that is busy, or nobody to ask: again after this long, ms. */
const AGAIN_MS = 1_000;
/** Questions without an answer until another source is tried. */
const TRIES = 4;

interface Copy {
  readonly partition: Partition;
  source: NodeId | undefined;
  id: number;
  /** Undefined until the first part of this source has come. */
  into: PartitionCopy | undefined;
  after: Uint8Array;
  frontier: string;
  /** A part is being written: nothing is asked for. */
  writing: boolean;
  askAt: number;
  tries: number;
  /** Sources that have said that they have no whole copy. */
  readonly without: Set<NodeId>;
}

const BEGINNING = new Uint8Array();

export class Copying {
  readonly #o: CopyingOptions;
  /** In the order they were begun; the first COPIES_MAX are under way. */
  readonly #copies = new Map<Partition, Copy>();
  /** Sources that sent what was wrong, or were behind: others are asked first. */
  readonly #lastResort = new Map<Partition, Set<NodeId>>();

  constructor(options: CopyingOptions) {
    this.#o = options;
  }

  /** Nothing may be staged for the partition until it is copied or has failed. */
  begin(partition: Partition): void {
    if (this.#copies.has(partition)) return;
    this.#copies.set(partition, {
      partition,
      source: undefined,
      id: 0,
      into: undefined,
      after: BEGINNING,
      frontier: "",
      writing: false,
      askAt: 0,
      tries: 0,
      without: new Set(),
    });
    this.tick();
  }

  /** It is not wanted any more, and what is there stays. @returns false when that has been cleared: only a copy helps now */
  giveBack(partition: Partition): boolean {
    if (this.#copies.get(partition)?.into !== undefined || this.#o.store.incomplete.has(partition)) return false;
    this.#copies.delete(partition);
    return true;
  }

  /** It is not wanted any more; what was begun stays incomplete until it is copied again or dropped. */
  cancel(partition: Partition): void {
    this.#copies.get(partition)?.into?.abandon();
    this.#copies.delete(partition);
  }

  has(partition: Partition): boolean {
    return this.#copies.has(partition);
  }

  tick(): void {
    const now = this.#o.system.monotonic();
    for (const copy of [...this.#copies.values()].slice(0, COPIES_MAX)) if (!copy.writing && now >= copy.askAt) this.#ask(copy, now);
  }

  /** Anything that is not the answer to the question last asked is ignored. Resolves when what it brought is on disk. */
  async received(node: NodeId, part: SnapshotPart): Promise<void> {
    const copy = this.#copies.get(part.partition);
    if (copy === undefined || copy.source !== node || copy.id !== part.id || copy.writing) return;
    if (part.refused !== "") {
      this.#refused(copy, part.refused);
      return;
    }
    const first = part.rows[0];
    // The answer to an earlier question that was asked twice.
    if (first !== undefined && Buffer.compare(first[0], copy.after) <= 0) return;
    copy.writing = true;
    try {
      await this.#take(copy, node, part);
    } catch (error) {
      await this.#over(copy, node, error as Error);
    }
  }

  async #take(copy: Copy, node: NodeId, part: SnapshotPart): Promise<void> {
    const { store, system } = this.#o;
    const frontier = JSON.stringify(part.frontier);
    if (copy.into === undefined) {
      copy.frontier = frontier;
      copy.into = store.copyPartition(part.partition, node, this.#o.own(), part.frontier);
      await copy.into.begin();
    } else if (frontier !== copy.frontier) throw new CopyError("WRONG", "a snapshot whose parts have several frontiers");
    const { into } = copy;
    await into.write(part.rows);
    if (this.#copies.get(part.partition) !== copy) return;
    if (part.last) {
      const heads = await into.finish();
      this.#copies.delete(part.partition);
      this.#lastResort.delete(part.partition);
      this.#o.copied(part.partition, heads);
    } else {
      copy.after = part.rows.at(-1)?.[0] ?? copy.after;
      copy.writing = false;
      copy.tries = 0;
      this.#ask(copy, system.monotonic());
    }
    this.tick();
  }

  async #over(copy: Copy, source: NodeId, error: Error): Promise<void> {
    const { partition } = copy;
    if (!(error instanceof CopyError)) {
      this.#o.onFailure(error);
      return;
    }
    if (error.code === "ABANDONED" || this.#copies.get(partition) !== copy) return;
    this.#copies.delete(partition);
    const others = this.#lastResort.get(partition) ?? new Set();
    this.#lastResort.set(partition, others.add(source));
    try {
      await this.#o.store.discardCopy(partition);
    } catch (failure) {
      this.#o.onFailure(failure as Error);
      return;
    }
    this.#o.failed(partition, error.code === "BEHIND" ? "behind" : "wrong", source, error.message);
    this.tick();
  }

  #refused(copy: Copy, why: SnapshotPart["refused"]): void {
    const { partition, source, without } = copy;
    if (why === "not_held" && source !== undefined) without.add(source);
    const nobody = why === "not_held" && this.#o.sources(partition).every((node) => without.has(node));
    if (nobody && source !== undefined && !this.#o.store.incomplete.has(partition)) {
      this.#copies.delete(partition);
      this.#o.failed(partition, "none", source, "no replica that is connected has a whole copy");
      this.tick();
    } else if (why === "busy" && copy.after.length > 0) copy.askAt = this.#o.system.monotonic() + AGAIN_MS;
    else this.#leave(copy, why === "gone" ? 0 : AGAIN_MS);
  }

  /** The next question goes to somebody else, if there is one, and begins a new snapshot. */
  #leave(copy: Copy, ms: number): void {
    copy.into?.abandon();
    copy.into = undefined;
    copy.after = BEGINNING;
    copy.tries = 0;
    copy.id = 0;
    copy.askAt = this.#o.system.monotonic() + ms;
    if (ms === 0) this.#ask(copy, copy.askAt);
  }

  #ask(copy: Copy, now: number): void {
    if (copy.tries >= TRIES) this.#leave(copy, AGAIN_MS);
    if (copy.id === 0) {
      copy.source = this.#nextSource(copy);
      copy.id = 1 + Buffer.from(this.#o.system.randomBytes(6)).readUIntBE(0, 6);
    }
    copy.tries++;
    const sent = copy.source !== undefined && this.#o.ask(copy.source, copy.partition, copy.id, copy.after);
    copy.askAt = now + (sent ? ANSWER_MS : AGAIN_MS);
  }

  /** Round robin, those that were wrong or behind last. */
  #nextSource(copy: Copy): NodeId | undefined {
    const all = this.#o.sources(copy.partition);
    const lastResort = this.#lastResort.get(copy.partition);
    const good = all.filter((node) => lastResort?.has(node) !== true);
    const sources = good.length > 0 ? good : all;
    return sources[(sources.indexOf(copy.source as NodeId) + 1) % Math.max(1, sources.length)];
  }
}
