/** Counts, sessions and decisions: what is in the memory as a whole. */

import { compareHlc } from "../../protocol/clock.ts";
import type { ReadOperation } from "../ports.ts";
import type { MemoryIndex } from "./memory-index.ts";
import { type PageArgs, pageOf } from "./paging.ts";
import { type SpanArgs, within } from "./span.ts";
import type { Entry, Session } from "./tenant-index.ts";
import { indexOf, iso } from "./tenant-view.ts";

export interface StatsAnswer {
  readonly tenant_id: string;
  readonly instance_id: string;
  readonly entities: number;
  readonly messages: number;
  readonly decisions: number;
  readonly attention_links: number;
  /** Pairs of concepts that recur together. */
  readonly compound_concepts: number;
  readonly memories: number;
}

export function stats(index: MemoryIndex): ReadOperation<object, StatsAnswer> {
  return {
    type: "read",
    answer(_args, { reader, node }) {
      const tenant = indexOf(index, reader);
      return {
        tenant_id: reader.tenant,
        instance_id: node,
        entities: tenant.concepts.length,
        messages: 2 * tenant.turns.length,
        decisions: tenant.decisions,
        attention_links: tenant.links,
        compound_concepts: tenant.compounds,
        memories: tenant.memories.length,
      };
    },
  };
}

export interface SessionsAnswer {
  readonly sessions: readonly {
    readonly id: string;
    readonly first_at: string;
    readonly last_at: string;
    readonly turns: number;
    readonly memories: number;
  }[];
  readonly total: number;
  readonly next_cursor: string | null;
}

/** By their latest entry, newest first. */
export function sessions(index: MemoryIndex): ReadOperation<PageArgs & SpanArgs, SessionsAnswer> {
  return {
    type: "read",
    answer(args, { reader }) {
      const inSpan = within(args);
      const last = (session: Session): Entry => session.entries.items.at(-1)!;
      const found = [...indexOf(index, reader).sessions.values()]
        .filter((session) => session.entries.items.some(inSpan))
        .sort((a, b) => compareHlc(last(b).document.at, last(a).document.at) || (a.id < b.id ? 1 : -1));
      const page = pageOf(found, (session) => ({ at: last(session).document.at, id: session.id }), args);
      return { sessions: page.items.map(described), total: found.length, next_cursor: page.next_cursor };
    },
  };
}

function described({ id, entries }: Session): SessionsAnswer["sessions"][number] {
  let first = Number.POSITIVE_INFINITY;
  let last = Number.NEGATIVE_INFINITY;
  let turns = 0;
  for (const { document } of entries.items) {
    first = Math.min(first, document.time);
    last = Math.max(last, document.time);
    if (document.kind === "turn") turns++;
  }
  return { id, first_at: iso(first), last_at: iso(last), turns, memories: entries.length - turns };
}

export interface DecisionsAnswer {
  readonly decisions: readonly {
    readonly id: string;
    readonly text: string;
    readonly session_id: string | null;
    readonly turn_id: string;
    readonly at: string;
    readonly node: string;
  }[];
  readonly total: number;
  readonly next_cursor: string | null;
}

/** Newest first. */
export function decisions(index: MemoryIndex): ReadOperation<PageArgs & SpanArgs, DecisionsAnswer> {
  return {
    type: "read",
    answer(args, { reader }) {
      const inSpan = within(args);
      const found = indexOf(index, reader)
        .turns.items.filter((entry) => entry.document.decisions > 0 && inSpan(entry))
        .reverse()
        .flatMap((entry) => Array.from({ length: entry.document.decisions }, (_, number) => ({ entry, number })));
      const page = pageOf(found, ({ entry, number }) => ({ at: entry.document.at, id: decisionId(entry, number) }), args);
      return {
        decisions: page.items.flatMap(({ entry, number }) => {
          const turn = reader.turn(entry.document.id);
          const text = turn?.decisions[number];
          if (turn === undefined || text === undefined) return [];
          const { id, session, time } = entry.document;
          return [{ id: decisionId(entry, number), text, session_id: session === "" ? null : session, turn_id: id, at: iso(time), node: turn.node }];
        }),
        total: found.length,
        next_cursor: page.next_cursor,
      };
    },
  };
}

/** Ids of one turn fall as numbers rise, as the order of a page wants: newest first means greatest first. */
function decisionId({ document }: Entry, number: number): string {
  return `${document.id}:decision:${String(99 - number).padStart(2, "0")}`;
}
