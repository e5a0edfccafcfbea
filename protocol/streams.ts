/**
 * Which streams this node holds, and how far. `staged`: numbered or accepted, on its way to disk. `durable`: after fsync; only that is ever told to
 * anybody (P1). One of these for what it holds as a full replica (frontier), one for what it has seen as a witness (marks): during a change of the layout a
 * node may be both for one partition.
 */
import { genesisHash } from "./delta.ts";
import type { Head, StreamHead } from "./frontier.ts";
import type { Partition, WriterId } from "./ids.ts";

export class Streams {
  readonly #durable = new Map<Partition, Map<WriterId, Head>>();
  readonly #staged = new Map<Partition, Map<WriterId, Head>>();

  constructor(loaded: readonly StreamHead[]) {
    for (const head of loaded) {
      set(this.#durable, head);
      set(this.#staged, head);
    }
  }

  staged(partition: Partition, writer: WriterId): Head {
    return this.#staged.get(partition)?.get(writer) ?? { seq: 0, hash: genesisHash(writer, partition) };
  }

  durable(partition: Partition, writer: WriterId): number {
    return this.#durable.get(partition)?.get(writer)?.seq ?? 0;
  }

  stage(head: StreamHead): void {
    set(this.#staged, head);
  }

  /** After fsync. */
  flush(head: StreamHead): void {
    if (head.seq > this.durable(head.partition, head.writer)) set(this.#durable, head);
  }

  /** The copy of this partition is gone, or replaced by another. */
  replace(partition: Partition, heads: readonly StreamHead[]): void {
    this.#durable.delete(partition);
    this.#staged.delete(partition);
    for (const head of heads) {
      set(this.#durable, head);
      set(this.#staged, head);
    }
  }

  /** Nothing of it, not even on its way to disk. */
  isEmpty(partition: Partition): boolean {
    return (this.#staged.get(partition)?.size ?? 0) === 0;
  }

  /** All of it is on disk. */
  isFlushed(partition: Partition): boolean {
    return [...(this.#staged.get(partition) ?? [])].every(([writer, { seq }]) => seq === this.durable(partition, writer));
  }

  partitions(): Iterable<Partition> {
    return this.#durable.keys();
  }

  durableHeads(partition: Partition): StreamHead[] {
    return [...(this.#durable.get(partition) ?? [])].map(([writer, head]) => ({ partition, writer, ...head }));
  }

  durableFrontier(partition: Partition): [WriterId, number][] {
    return [...(this.#durable.get(partition) ?? [])].map(([writer, head]) => [writer, head.seq]);
  }

  stagedFrontier(partition: Partition): Record<WriterId, number> {
    return Object.fromEntries([...(this.#staged.get(partition) ?? [])].map(([writer, head]) => [writer, head.seq]));
  }
}

function set(into: Map<Partition, Map<WriterId, Head>>, head: StreamHead): void {
  let streams = into.get(head.partition);
  if (streams === undefined) {
    streams = new Map();
    into.set(head.partition, streams);
  }
  streams.set(head.writer, { seq: head.seq, hash: head.hash });
}
