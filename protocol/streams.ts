/**
 * Which streams this node holds, and how far. `staged`: numbered or accepted, on its way to disk. `durable`: after fsync; only that is ever told to
 * anybody (P1). Kept for replicas (frontier) and witnesses (marks) alike.
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
