/**
 * What the graph says: personalised PageRank (Page and others 1999; Haveliwala 2002) between documents and the entities they name, started from the
 * entities of the question. It finds the fact that shares no word with the question but shares a name with a fact that does.
 * Mass too small to matter is not pushed on (after Andersen, Chung, Lang 2006), so the work is bounded whatever the size of the memory.
 */
import type { Question } from "./question.ts";
import { Scores } from "./scores.ts";
import type { Posting, TenantIndex } from "./tenant-index.ts";

const RESTART = 0.2;
const ROUNDS = 10;
/** Share of the restarts that goes to the entities of the question; the rest goes to the documents whose words fit best. */
const ENTITY_SEEDS = 0.8;
const DOCUMENT_SEEDS = 10;
/** An entity leads this much more strongly to what is stored about it than to what only mentions it. */
const TITLE_BONUS = 4;
/** A node passes its mass on only while each neighbour would get at least about this much; so one round touches at most 1 / PUSH_MIN edges. */
const PUSH_MIN = 1e-4;
/** Of the mass of an entity of the question, what its associations get at full strength. */
const ASSOCIATION_SHARE = 0.3;

/** Strength, 0..1, of a link of the graph from a name in the question to another entity. */
export interface Association {
  readonly from: string;
  readonly entity: Posting;
  readonly strength: number;
}

export interface Walk {
  /** By slot. */
  readonly documents: Scores;
  readonly entities: readonly { readonly entity: Posting; readonly mass: number }[];
}

/** Where the mass of one document goes: entities that other documents share, by idf; shares add up to 1. */
interface Edges {
  readonly entities: readonly Posting[];
  readonly shares: readonly number[];
}

let documents = new Scores();
let nextDocuments = new Scores();
let entities = new Scores();
let nextEntities = new Scores();
const documentSeeds = new Scores();

/** @param tie orders documents of equal score @returns scratch that is valid until the next call */
export function walkFrom(
  index: TenantIndex,
  question: Question,
  facts: Scores,
  associations: readonly Association[],
  tie: (a: number, b: number) => number,
): Walk {
  const seeds = entitySeeds(index, question, associations);
  seedDocuments(index, facts, seeds.size > 0 ? 1 - ENTITY_SEEDS : 1, tie);
  const met = new Map<number, Posting>();
  const edges = new Map<number, Edges>();
  restart(index, documents, entities, seeds, 1, met);
  for (let round = 0; round < ROUNDS; round++) {
    restart(index, nextDocuments, nextEntities, seeds, RESTART, met);
    for (const number of entities.touched) pushToDocuments(met.get(number)!, entities.get(number));
    for (const slot of documents.touched) pushToEntities(index, slot, documents.get(slot), edges, met);
    [documents, nextDocuments] = [nextDocuments, documents];
    [entities, nextEntities] = [nextEntities, entities];
  }
  return { documents, entities: entities.touched.map((number) => ({ entity: met.get(number)!, mass: entities.get(number) })) };
}

function entitySeeds(index: TenantIndex, question: Question, associations: readonly Association[]): Map<Posting, number> {
  const weights = new Map<Posting, number>();
  for (const entity of question.entities) weights.set(entity, index.idf(entity));
  for (const { entity, strength } of associations) {
    if (!weights.has(entity)) weights.set(entity, ASSOCIATION_SHARE * strength ** 2 * index.idf(entity));
  }
  const sum = [...weights.values()].reduce((a, b) => a + b, 0);
  for (const [entity, weight] of weights) weights.set(entity, (ENTITY_SEEDS * weight) / sum);
  return weights;
}

function seedDocuments(index: TenantIndex, facts: Scores, share: number, tie: (a: number, b: number) => number): void {
  documentSeeds.reset(index.slots);
  const best = facts.best(DOCUMENT_SEEDS, tie);
  const max = facts.max();
  const sum = best.reduce((all, slot) => all + (facts.get(slot) / max) ** 2, 0);
  for (const slot of best) documentSeeds.add(slot, (share * (facts.get(slot) / max) ** 2) / sum);
}

function restart(
  index: TenantIndex,
  toDocuments: Scores,
  toEntities: Scores,
  seeds: ReadonlyMap<Posting, number>,
  share: number,
  met: Map<number, Posting>,
): void {
  toDocuments.reset(index.slots);
  for (const slot of documentSeeds.touched) toDocuments.add(slot, share * documentSeeds.get(slot));
  toEntities.reset(index.entityNumbers);
  for (const [entity, mass] of seeds) {
    met.set(entity.number, entity);
    toEntities.add(entity.number, share * mass);
  }
}

function pushToDocuments({ slots, weights }: Posting, mass: number): void {
  if (mass < PUSH_MIN * slots.length) return;
  let sum = slots.length;
  for (const weight of weights) sum += TITLE_BONUS * weight;
  const unit = ((1 - RESTART) * mass) / sum;
  for (let i = 0; i < slots.length; i++) nextDocuments.add(slots[i]!, unit * (1 + TITLE_BONUS * weights[i]!));
}

function pushToEntities(index: TenantIndex, slot: number, mass: number, known: Map<number, Edges>, met: Map<number, Posting>): void {
  if (mass < PUSH_MIN) return;
  let edges = known.get(slot);
  if (edges === undefined) {
    edges = edgesOf(index, slot);
    known.set(slot, edges);
    for (const entity of edges.entities) met.set(entity.number, entity);
  }
  const passed = (1 - RESTART) * mass;
  for (let i = 0; i < edges.entities.length; i++) nextEntities.add(edges.entities[i]!.number, passed * edges.shares[i]!);
}

function edgesOf(index: TenantIndex, slot: number): Edges {
  const shared = index.at(slot).entities.filter((entity) => entity.slots.length > 1);
  const idfs = shared.map((entity) => index.idf(entity));
  const sum = idfs.reduce((a, b) => a + b, 0);
  return { entities: shared, shares: idfs.map((idf) => idf / sum) };
}
