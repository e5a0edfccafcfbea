/**
 * What other members have told this node under the layout version that holds: what they hold as full replicas (`heads`) and what they have seen as witnesses
 * (`marks`). Only ever raised: a member that forgot is a new incarnation and so another writer (P4). A new version starts again with nothing, because an
 * acknowledgement counts only for what its sender held under the version it is counted in. Who counts as what is decided where it is counted.
 *
 * A member whose copy of a partition is damaged says so, and still says what it had acknowledged of it. That is true as a report of what must be held somewhere
 * (`base`, `told`), and worth asking for (`of`); but nobody may rely on it as held (`held`, `head`), until it says that the copy is whole again.
 */
import type { Head, StreamHead } from "./frontier.ts";
import type { Partition, WriterId } from "./ids.ts";
import { KNOWN_STREAMS_MAX } from "./limits.ts";
import type { KeptMark } from "./message.ts";

export type Kind = "heads" | "marks";

/** partition -> writer of the stream -> head */
type Held = Map<Partition, Map<WriterId, Head>>;

/** What a member held when it adopted the version: its first whole report under it, which is that or more. */
export interface Base {
  readonly heads: ReadonlyMap<Partition, ReadonlyMap<WriterId, Head>>;
  readonly marks: ReadonlyMap<Partition, ReadonlyMap<WriterId, Head>>;
  /** partition -> writer -> first number whose sealed bytes the witness still had. */
  readonly keptFrom: ReadonlyMap<Partition, ReadonlyMap<WriterId, number>>;
}

interface Told {
  readonly heads: Held;
  readonly marks: Held;
  streams: number;
  revision: number;
  base: Base | undefined;
}

export class Knowledge {
  readonly #told = new Map<WriterId, Told>();
  readonly #damaged = new Map<WriterId, ReadonlySet<Partition>>();
  #revisions = 0;
  /** Reports of which parts are missing. Emptied, and never whole, once they name more than one member may. */
  readonly #incoming = new Map<
    WriterId,
    { readonly id: number; readonly parts: Set<number>; readonly heads: StreamHead[]; readonly marks: KeptMark[]; streams: number }
  >();

  /** A new layout version holds. */
  forget(): void {
    this.#told.clear();
    this.#incoming.clear();
    this.#damaged.clear();
  }

  /** All partitions of which the member says now that its copy counts for nothing. */
  damaged(member: WriterId, partitions: readonly Partition[]): void {
    this.#damaged.set(member, new Set(partitions));
  }

  damagedOf(member: WriterId): ReadonlySet<Partition> {
    return this.#damaged.get(member) ?? NOWHERE;
  }

  /** @param hash empty when only the number is known @returns true when it is news */
  learn(member: WriterId, kind: Kind, { partition, writer, seq, hash }: StreamHead): boolean {
    const told = this.#of(member);
    const streams = streamsOf(told[kind], partition);
    const known = streams.get(writer);
    if (known === undefined && told.streams >= KNOWN_STREAMS_MAX) return false;
    if (known !== undefined && (known.seq > seq || (known.seq === seq && (known.hash !== "" || hash === "")))) return false;
    if (known === undefined) told.streams++;
    streams.set(writer, { seq, hash });
    told.revision = ++this.#revisions;
    return known === undefined || known.seq < seq;
  }

  /** One part of a member's report. @returns true with the last of them, the first time: from now on the member counts */
  report(member: WriterId, part: { id: number; part: number; parts: number; heads: readonly StreamHead[]; marks: readonly KeptMark[] }): boolean {
    let incoming = this.#incoming.get(member);
    if (incoming?.id !== part.id) {
      incoming = { id: part.id, parts: new Set(), heads: [], marks: [], streams: 0 };
      this.#incoming.set(member, incoming);
    }
    if (incoming.parts.has(part.part)) return false;
    incoming.parts.add(part.part);
    incoming.streams += part.heads.length + part.marks.length;
    if (incoming.streams > KNOWN_STREAMS_MAX) {
      incoming.heads.length = 0;
      incoming.marks.length = 0;
      return false;
    }
    if (this.base(member) === undefined) {
      for (const head of part.heads) incoming.heads.push(head);
      for (const mark of part.marks) incoming.marks.push(mark);
    }
    if (incoming.parts.size < part.parts) return false;
    this.#incoming.delete(member);
    const told = this.#of(member);
    if (told.base !== undefined) return false;
    told.base = baseOf(incoming.heads, incoming.marks);
    told.revision = ++this.#revisions;
    return true;
  }

  /** A member of protocol version 1 reports nothing of its own accord: it counts from its hello. */
  countsWithoutReport(member: WriterId): void {
    this.#of(member).base ??= baseOf([], []);
  }

  /** Undefined until its report has come: it does not count yet. */
  base(member: WriterId): Base | undefined {
    return this.#told.get(member)?.base;
  }

  held(member: WriterId, kind: Kind, partition: Partition, writer: WriterId): number {
    return this.head(member, kind, partition, writer)?.seq ?? 0;
  }

  head(member: WriterId, kind: Kind, partition: Partition, writer: WriterId): Head | undefined {
    return this.damagedOf(member).has(partition) ? undefined : this.of(member, kind, partition).get(writer);
  }

  /** All that the member told with its hash, of one kind. */
  all(member: WriterId, kind: Kind): StreamHead[] {
    const out: StreamHead[] = [];
    for (const [partition, streams] of this.#told.get(member)?.[kind] ?? []) {
      for (const [writer, head] of streams) if (head.hash !== "") out.push({ partition, writer, ...head });
    }
    return out;
  }

  /** What the member told of the partition, whether it can be relied on or not. */
  of(member: WriterId, kind: Kind, partition: Partition): ReadonlyMap<WriterId, Head> {
    return this.#told.get(member)?.[kind].get(partition) ?? NONE;
  }

  /** Another number whenever something was learnt of the member. */
  revision(member: WriterId): number {
    return this.#told.get(member)?.revision ?? 0;
  }

  #of(member: WriterId): Told {
    let told = this.#told.get(member);
    if (told === undefined) {
      told = { heads: new Map(), marks: new Map(), streams: 0, revision: ++this.#revisions, base: undefined };
      this.#told.set(member, told);
    }
    return told;
  }
}

const NONE: ReadonlyMap<WriterId, Head> = new Map();
const NOWHERE: ReadonlySet<Partition> = new Set();

export function baseOf(heads: readonly StreamHead[], marks: readonly KeptMark[]): Base {
  const base = { heads: new Map() as Held, marks: new Map() as Held, keptFrom: new Map<Partition, Map<WriterId, number>>() };
  for (const { partition, writer, seq, hash } of heads) streamsOf(base.heads, partition).set(writer, { seq, hash });
  for (const { partition, writer, seq, hash, keptFrom } of marks) {
    streamsOf(base.marks, partition).set(writer, { seq, hash });
    streamsOf(base.keptFrom, partition).set(writer, keptFrom);
  }
  return base;
}

function streamsOf<T>(all: Map<Partition, Map<WriterId, T>>, partition: Partition): Map<WriterId, T> {
  let streams = all.get(partition);
  if (streams === undefined) {
    streams = new Map();
    all.set(partition, streams);
  }
  return streams;
}
