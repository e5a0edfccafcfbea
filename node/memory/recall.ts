/** recall: a question -> concepts, memories, links between them, and a text ready for a prompt; each with the reason why. */
import { sha256, toBase64url } from "../../crypto/hash.ts";
import { current } from "../../protocol/graph/editable.ts";
import { strengthOf } from "../../protocol/graph/link.ts";
import type { GraphReader, ReadContext, ReadOperation } from "../ports.ts";
import { contextText } from "./context.ts";
import type { MemoryIndex } from "./memory-index.ts";
import { askedOf, type Question } from "./question.ts";
import { type Ranked, rank } from "./rank.ts";
import type { RecallAnswer, RecalledConcept, RecalledLink, RecalledMemory } from "./recalled.ts";
import { highest } from "./scores.ts";
import type { MemorySettings } from "./settings.ts";
import { type SpanArgs, within } from "./span.ts";
import type { Posting, TenantIndex } from "./tenant-index.ts";
import { indexOf, iso, nameOf, turnText, visibleConcept, visibleLink, visibleMemory } from "./tenant-view.ts";
import type { Association } from "./walk.ts";
import { whyConcept, whyMemory } from "./why.ts";

export interface RecallArgs extends SpanArgs {
  readonly message: string;
  readonly max_concepts?: number;
  readonly max_memories?: number;
  /** Of `context`, at four characters a token. */
  readonly max_tokens?: number;
}

const CONCEPTS_DEFAULT = 10;
const MEMORIES_DEFAULT = 10;
const TOKENS_DEFAULT = 2_000;
/** Links of one concept that are read: those to the rarest others. A hub has thousands, and they say nothing. */
const LINKS_READ_MAX = 32;

/** @param monotonic ms, for query_time_ms */
export function recall(index: MemoryIndex, settings: MemorySettings, monotonic: () => number): ReadOperation<RecallArgs, RecallAnswer> {
  return {
    type: "read",
    answer(args, context) {
      const startedAt = monotonic();
      const { reader } = context;
      const tenant = indexOf(index, reader);
      const question = askedOf(tenant, args.message);
      const associations = associationsOf(tenant, question, context, settings);
      const ranking = rank(tenant, question, associations, args.max_memories ?? MEMORIES_DEFAULT, within(args));
      const memories = recalledMemories(ranking.documents, question, associations, context);
      const graph = recalledConcepts(tenant, question, ranking.entities, args.max_concepts ?? CONCEPTS_DEFAULT, context, settings);
      return {
        recall_id: recallId(reader.tenant, args.message, context.now),
        context: contextText(question, memories, graph.concepts, graph.links, args.max_tokens ?? TOKENS_DEFAULT),
        concepts_found: graph.concepts.length,
        relationships_found: graph.links.length,
        query_time_ms: Math.round((monotonic() - startedAt) * 1000) / 1000,
        tenant_id: reader.tenant,
        concepts: graph.concepts,
        memories,
        links: graph.links,
      };
    },
  };
}

/** The same question at the same moment is the same recall, on whichever replica. */
function recallId(tenant: string, message: string, now: number): string {
  return `rec_${toBase64url(sha256(new TextEncoder().encode(JSON.stringify([tenant, message, now]))).subarray(0, 16))}`;
}

function associationsOf(tenant: TenantIndex, question: Question, context: ReadContext, settings: MemorySettings): Association[] {
  const strongest = new Map<Posting, Association>();
  for (const name of question.names) {
    for (const other of rarestNeighbours(tenant, name)) {
      const strength = strengthBetween(context, name, other.name);
      if (strength < settings.minStrength) continue;
      if (strength > (strongest.get(other)?.strength ?? 0)) strongest.set(other, { entity: other, strength, from: name });
    }
  }
  return [...strongest.values()];
}

function rarestNeighbours(tenant: TenantIndex, id: string): Posting[] {
  const known = [...(tenant.neighbours.get(id) ?? [])].flatMap((other) => tenant.entities.get(other) ?? []);
  return highest(
    known,
    ({ slots }) => -slots.length,
    LINKS_READ_MAX,
    (a, b) => (a.name < b.name ? -1 : 1),
  );
}

function strengthBetween({ reader, now }: ReadContext, a: string, b: string): number {
  const link = visibleLink(reader, a, b);
  return link === undefined ? 0 : strengthOf(link, now, reader.decay);
}

function recalledMemories(
  ranked: readonly Ranked[],
  question: Question,
  associations: readonly Association[],
  { reader }: ReadContext,
): RecalledMemory[] {
  return ranked.flatMap((one) => {
    const said = textOf(one, reader);
    if (said === undefined) return []; // the index is a moment ahead of this snapshot
    const { id, time, session, kind } = one.entry.document;
    const memory = {
      id,
      ...said,
      score: round(one.score),
      at: iso(time),
      session_id: session === "" ? null : session,
      kind,
      why: whyMemory(one, question, associations),
    };
    return [memory];
  });
}

function textOf({ entry }: Ranked, reader: GraphReader): { text: string; entity: string | null; node: string } | undefined {
  const { id, kind } = entry.document;
  if (kind === "turn") {
    const turn = reader.turn(id);
    return turn === undefined ? undefined : { text: turnText(turn), entity: null, node: turn.node };
  }
  const memory = visibleMemory(reader, id);
  return memory === undefined ? undefined : { text: current(memory.content), entity: current(memory.entity), node: memory.node };
}

function recalledConcepts(
  tenant: TenantIndex,
  question: Question,
  reached: readonly { readonly entity: Posting; readonly mass: number }[],
  count: number,
  context: ReadContext,
  settings: MemorySettings,
): { concepts: RecalledConcept[]; links: RecalledLink[] } {
  const named = question.names.filter((name) => tenant.concept(name) !== undefined);
  const strongest = reached.find(({ entity }) => !named.includes(entity.name))?.mass ?? 1;
  const scores = new Map(named.map((name) => [name, 1]));
  for (const { entity, mass } of reached) {
    if (scores.size >= count) break;
    if (tenant.concept(entity.name) !== undefined && !scores.has(entity.name)) scores.set(entity.name, Math.min(1, mass / strongest));
  }
  const found = [...scores].slice(0, count).flatMap(([id, score]) => {
    const concept = visibleConcept(context.reader, id);
    return concept === undefined ? [] : [{ id, score, name: nameOf(id, concept), kind: concept.type.value }];
  });
  const links = found.flatMap((a, i) =>
    found.slice(i + 1).flatMap((b) => {
      const strength = tenant.hasLink(a.id, b.id) ? strengthBetween(context, a.id, b.id) : 0;
      return strength >= settings.minStrength ? [{ source: a.name, target: b.name, strength: round(strength) }] : [];
    }),
  );
  links.sort((a, b) => b.strength - a.strength);
  const concepts = found.map(({ id, name, kind, score }) => ({
    name,
    kind,
    score: round(score),
    why: whyConcept(tenant, id, name, named.includes(id), links),
  }));
  return { concepts, links };
}

function round(value: number): number {
  return Math.round(value * 10_000) / 10_000;
}
