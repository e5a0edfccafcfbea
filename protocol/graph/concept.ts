/** A concept: names by last writer, occurrences by per-writer totals, first met at the least time anybody gave. */
import { compareHlc, HLC_NEVER, type Hlc } from "../clock.ts";
import type { WriterId } from "../ids.ts";
import { countOf, EMPTY_COUNTER, mergeCounters, withRemoval, withTotal } from "./counter.ts";
import type { Concept, ConceptType, Share } from "./records.ts";
import { mergeRegisters } from "./register.ts";

export function mergeConcepts(a: Concept, b: Concept): Concept {
  return {
    kind: "concept",
    name: mergeRegisters(a.name, b.name),
    type: mergeRegisters(a.type, b.type),
    description: mergeRegisters(a.description, b.description),
    firstAt: compareHlc(a.firstAt, b.firstAt) <= 0 ? a.firstAt : b.firstAt,
    occurrences: mergeCounters(a.occurrences, b.occurrences),
  };
}

/** What one delta says of a concept, as a record of its own to be merged. Absent fields lose against anything written. */
export function conceptFrom(
  said: { name?: string | undefined; type?: ConceptType | undefined; description?: string | undefined; total: number },
  by: { writer: WriterId; seq: number; hlc: Hlc },
): Concept {
  const never = { hlc: [0, 0] as Hlc, writer: "" as WriterId };
  const now = { hlc: by.hlc, writer: by.writer };
  return {
    kind: "concept",
    name: said.name === undefined ? { value: "", ...never } : { value: said.name, ...now },
    type: said.type === undefined ? { value: "concept", ...never } : { value: said.type, ...now },
    description: said.description === undefined ? { value: "", ...never } : { value: said.description, ...now },
    firstAt: by.hlc,
    occurrences: withTotal(EMPTY_COUNTER, by.writer, { mass: said.total, hlc: by.hlc, seq: by.seq }),
  };
}

/** Takes away what each writer had counted, and what was said about it. */
export function forgottenConcept(removed: Readonly<Record<WriterId, Share>>, by: { writer: WriterId; seq: number; hlc: Hlc }): Concept {
  return { ...conceptFrom({ description: "", total: 0 }, by), firstAt: HLC_NEVER, occurrences: withRemoval(EMPTY_COUNTER, removed) };
}

/** A concept whose every occurrence was removed is there only to remember the removal. */
export function conceptIsVisible(concept: Concept): boolean {
  return countOf(concept.occurrences) > 0;
}
