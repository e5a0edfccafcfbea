/** Reading facts back: one, a list, a search by words. */

import { current } from "../../protocol/graph/editable.ts";
import type { GraphReader, ReadOperation } from "../ports.ts";
import { evidenceOf } from "./evidence.ts";
import type { MemoryIndex } from "./memory-index.ts";
import { type Metadata, matchesMetadata, parseMetadata } from "./metadata.ts";
import { type PageArgs, type Position, pageOf } from "./paging.ts";
import { askedOf } from "./question.ts";
import { type SpanArgs, within } from "./span.ts";
import { byArrival, type Entry } from "./tenant-index.ts";
import { indexOf, iso, type MemoryAnswer, memoryAnswer, memoryOrRefuse, turnText, visibleMemory } from "./tenant-view.ts";
import { fold } from "./text.ts";

/** Of a fact; a turn answers in the same shape, about its instance, so that every id of a recall can be looked up. */
export const getMemory: ReadOperation<{ readonly id: string }, MemoryAnswer> = {
  type: "read",
  answer({ id }, { reader }) {
    const turn = reader.turn(id);
    if (turn === undefined) return memoryAnswer(reader.tenant, id, memoryOrRefuse(reader, id));
    const at = iso(turn.at[0]);
    return {
      id,
      entity: turn.instance,
      content: turnText(turn),
      metadata: parseMetadata(turn.metadata),
      created_at: at,
      updated_at: at,
      tenant_id: reader.tenant,
    };
  },
};

export interface ListArgs extends PageArgs, SpanArgs {
  readonly entity?: string;
  readonly metadata?: Metadata;
}
export interface MemoriesAnswer {
  readonly memories: readonly MemoryAnswer[];
  readonly total: number;
  readonly next_cursor: string | null;
}

/** Newest first. */
export function listMemories(index: MemoryIndex): ReadOperation<ListArgs, MemoriesAnswer> {
  return {
    type: "read",
    answer(args, { reader }) {
      const wanted = wantedBy(args, reader);
      const found = indexOf(index, reader).memories.items.filter(wanted).reverse();
      return answered(found, args, reader);
    },
  };
}

export interface SearchArgs extends ListArgs {
  readonly query: string;
  /** Forgives typing slips. */
  readonly fuzzy?: boolean;
}

/** Facts with at least one word of the query, best first. A cursor goes on after a place in this order. */
export function searchMemories(index: MemoryIndex): ReadOperation<SearchArgs, MemoriesAnswer> {
  return {
    type: "read",
    answer(args, { reader }) {
      const tenant = indexOf(index, reader);
      const wanted = wantedBy(args, reader);
      const { facts } = evidenceOf(tenant, askedOf(tenant, args.query, args.fuzzy ?? false));
      const found = facts.touched
        .map((slot) => tenant.at(slot))
        .filter((entry) => entry.document.kind === "memory" && wanted(entry))
        .sort((a, b) => facts.get(b.slot) - facts.get(a.slot) || byArrival(b, a));
      const place = new Map(found.map((entry, i) => [entry, i]));
      return answered(found, args, reader, (entry) => ({ at: [-place.get(entry)!, 0], id: "" }));
    },
  };
}

function wantedBy(args: ListArgs, reader: GraphReader): (entry: Entry) => boolean {
  const inSpan = within(args);
  const entity = args.entity === undefined ? undefined : fold(args.entity);
  const { metadata } = args;
  return (entry) => {
    if (!inSpan(entry) || (entity !== undefined && entry.document.entity !== entity)) return false;
    if (metadata === undefined || Object.keys(metadata).length === 0) return true;
    const memory = visibleMemory(reader, entry.document.id);
    return memory !== undefined && matchesMetadata(current(memory.metadata), metadata);
  };
}

function answered(found: readonly Entry[], args: PageArgs, reader: GraphReader, positionOf: (entry: Entry) => Position = arrival): MemoriesAnswer {
  const page = pageOf(found, positionOf, args);
  const memories = page.items.flatMap(({ document }) => {
    const memory = visibleMemory(reader, document.id);
    return memory === undefined ? [] : [memoryAnswer(reader.tenant, document.id, memory)];
  });
  return { memories, total: found.length, next_cursor: page.next_cursor };
}

function arrival({ document }: Entry): Position {
  return { at: document.at, id: document.id };
}
