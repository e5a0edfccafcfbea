/** Why something was recalled, in the words of the question and the names of the graph. */
import type { Question } from "./question.ts";
import type { Ranked } from "./rank.ts";
import type { ConceptWhy, MemoryWhy, RecalledLink } from "./recalled.ts";
import { type TenantIndex, weightIn } from "./tenant-index.ts";
import type { Association } from "./walk.ts";

export function whyMemory({ entry, hop }: Ranked, question: Question, associations: readonly Association[]): MemoryWhy {
  const holds = (slot: number | undefined) => (term: Question["terms"][number]) => slot !== undefined && weightIn(term.posting, slot) > 0;
  const own = question.terms.filter(holds(entry.slot));
  const before = question.terms.filter(
    (term) => !own.includes(term) && (holds(entry.previous?.slot)(term) || holds(entry.previous?.previous?.slot)(term)),
  );
  const held = new Set(entry.entities);
  return {
    words: own.map((term) => term.word),
    words_before: before.map((term) => term.word),
    concepts: question.entities.filter((entity) => held.has(entity)).map((entity) => entity.name),
    links: associations
      .filter(({ entity }) => held.has(entity))
      .map(({ from, entity, strength }) => ({ from, to: entity.name, strength: Math.round(strength * 10_000) / 10_000 })),
    through: hop === undefined ? null : { memory: hop.from.document.id, concept: hop.by.name },
  };
}

export function whyConcept(tenant: TenantIndex, id: string, name: string, named: boolean, links: readonly RecalledLink[]): ConceptWhy {
  return {
    named,
    memories: tenant.entities.get(id)?.slots.length ?? 0,
    linked_with: links.flatMap(({ source, target }) => (source === name ? [target] : target === name ? [source] : [])),
  };
}
