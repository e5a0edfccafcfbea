/** Extracted concepts as contributions: an occurrence each, and links among those that working memory holds. */
import { countOf } from "../../protocol/graph/counter.ts";
import { type Contribution, linkId } from "../../protocol/graph/records.ts";
import type { GraphReader } from "../ports.ts";
import type { ExtractedConcept } from "./extract.ts";
import type { MemoryIndex } from "./memory-index.ts";
import { visibleConcept, visibleLink } from "./tenant-view.ts";

/** Name and type are said once, when the concept is new: later mentions only count, so that spellings do not alternate. */
export function conceptContributions(concepts: readonly ExtractedConcept[], reader: GraphReader, index: MemoryIndex): Contribution[] {
  const tenant = index.tenant(reader.tenant);
  return concepts.map(({ id, name, type }) => {
    // A name once given stays with the record, so the index may answer for it without a look at the disk.
    const isNamed = tenant?.concept(id) !== undefined || (visibleConcept(reader, id)?.name.value ?? "") !== "";
    return isNamed ? { op: "concept", id, mass: 1 } : { op: "concept", id, mass: 1, name, type };
  });
}

export type Pair = readonly [a: string, b: string];

/** Everything in working memory with everything: what is thought of together. */
export function pairsAmong(concepts: readonly ExtractedConcept[], capacity: number): Pair[] {
  const held = concepts.slice(0, capacity);
  return held.flatMap((a, i) => held.slice(i + 1).map((b): Pair => [a.id, b.id]));
}

/** A fact ties what it is about to what it names. */
export function pairsFrom(entity: string, concepts: readonly ExtractedConcept[], capacity: number): Pair[] {
  return concepts
    .slice(0, capacity)
    .filter((concept) => concept.id !== entity)
    .map((concept): Pair => [entity, concept.id]);
}

export function linkContributions(pairs: readonly Pair[]): Contribution[] {
  return pairs.map(([a, b]) => ({ op: "link", a, b, mass: 1 }));
}

export interface LinkCount {
  /** Pairs never met together before. */
  readonly created: number;
  /** Pairs that have been: they recur, and are compounds from now on. */
  readonly compounds: number;
}

export function countPairs(pairs: readonly Pair[], reader: GraphReader): LinkCount {
  let created = 0;
  const seen = new Set<string>();
  for (const [a, b] of pairs) {
    const link = visibleLink(reader, a, b);
    if (link === undefined || countOf(link.activations) === 0) created++;
    else seen.add(linkId(a, b));
  }
  return { created, compounds: seen.size };
}
