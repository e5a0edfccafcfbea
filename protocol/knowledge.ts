/**
 * What other members have told this node they hold. Only ever raised: a member that forgot is a new incarnation and so another writer (P4). A mark of a
 * witness is kept like a frontier; who counts it as what is decided where it is counted.
 */
import type { Head, StreamHead } from "./frontier.ts";
import type { Partition, WriterId } from "./ids.ts";

export class Knowledge {
  /** member -> partition -> writer of the stream -> head */
  readonly #held = new Map<WriterId, Map<Partition, Map<WriterId, Head>>>();

  /** @param hash empty when only the number is known @returns true when it is news */
  learn(member: WriterId, partition: Partition, writer: WriterId, seq: number, hash: string): boolean {
    let partitions = this.#held.get(member);
    if (partitions === undefined) {
      partitions = new Map();
      this.#held.set(member, partitions);
    }
    let streams = partitions.get(partition);
    if (streams === undefined) {
      streams = new Map();
      partitions.set(partition, streams);
    }
    const known = streams.get(writer);
    if (known !== undefined && (known.seq > seq || (known.seq === seq && (known.hash !== "" || hash === "")))) return false;
    streams.set(writer, { seq, hash });
    return known === undefined || known.seq < seq;
  }

  held(member: WriterId, partition: Partition, writer: WriterId): number {
    return this.#held.get(member)?.get(partition)?.get(writer)?.seq ?? 0;
  }

  head(member: WriterId, partition: Partition, writer: WriterId): Head | undefined {
    return this.#held.get(member)?.get(partition)?.get(writer);
  }

  heads(member: WriterId, partition: Partition): StreamHead[] {
    return [...(this.#held.get(member)?.get(partition) ?? [])].map(([writer, head]) => ({ partition, writer, ...head }));
  }

  partitions(member: WriterId): Iterable<Partition> {
    return this.#held.get(member)?.keys() ?? [];
  }
}
