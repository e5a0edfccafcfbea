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
/** A node passes its mass on only while each neighbour would get at least this much; so one round touches at most 1 / PUSH_MIN edges. */
const PUSH_MIN = 5e-6;

/** Strength, 0..1, of the links from an entity of the question to others (Hebbian links of the graph). */
export interface Association {
  /** Name in the question from which the link leads. */
  readonly from: string;
  readonly entity: Posting;
  readonly strength: number;
}
/** Of the mass of an entity of the question, what its associations get at full strength. */
const ASSOCIATION_SHARE = 0.3;

const documents = new Scores();
const nextDocuments = new Scores();
const documentSeeds = new Scores();

export interface Walk {
  readonly documents: Scores;
  readonly entities: ReadonlyMap<Posting, number>;
}

/** @returns scratch that is valid until the next call */
export function walkFrom(
  index: TenantIndex,
  question: Question,
  facts: Scores,
  associations: readonly Association[],
  tie: (a: number, b: number) => number,
): Walk {
  const seeds = entitySeeds(index, question, associations);
  seedDocuments(index, facts, seeds.size > 0 ? 1 - ENTITY_SEEDS : 1, tie);
  let entities: Map<Posting, number> = new Map(seeds);
  documents.reset(index.slots);
  for (const slot of documentSeeds.touched) documents.add(slot, documentSeeds.get(slot));
  for (let round = 0; round < ROUNDS; round++) {
    const nextEntities = new Map<Posting, number>();
    for (const [entity, mass] of seeds) nextEntities.set(entity, RESTART * mass);
    nextDocuments.reset(index.slots);
    for (const slot of documentSeeds.touched) nextDocuments.add(slot, RESTART * documentSeeds.get(slot));
    pushToDocuments(entities, nextDocuments);
    pushToEntities(index, documents, nextEntities);
    entities = nextEntities;
    documents.reset(index.slots);
    for (const slot of nextDocuments.touched) documents.add(slot, nextDocuments.get(slot));
  }
  return { documents, entities };
}

function entitySeeds(index: TenantIndex, question: Question, associations: readonly Association[]): Map<Posting, number> {
  const weights = new Map<Posting, number>();
  for (const entity of question.entities) weights.set(entity, index.idf(entity));
  for (const { entity, strength } of associations) {
    if (!weights.has(entity)) weights.set(entity, ASSOCIATION_SHARE * strength * index.idf(entity));
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

function pushToDocuments(entities: ReadonlyMap<Posting, number>, to: Scores): void {
  for (const [entity, mass] of entities) {
    const { slots, weights } = entity;
    if (mass / slots.length < PUSH_MIN) continue;
    let sum = 0;
    for (let i = 0; i < slots.length; i++) sum += 1 + TITLE_BONUS * weights[i]!;
    const unit = ((1 - RESTART) * mass) / sum;
    for (let i = 0; i < slots.length; i++) to.add(slots[i]!, unit * (1 + TITLE_BONUS * weights[i]!));
  }
}

function pushToEntities(index: TenantIndex, from: Scores, to: Map<Posting, number>): void {
  for (const slot of from.touched) {
    const mass = from.get(slot);
    if (mass < PUSH_MIN) continue;
    let sum = 0;
    const { entities } = index.at(slot);
    for (const entity of entities) if (entity.slots.length > 1) sum += index.idf(entity);
    if (sum === 0) continue;
    const unit = ((1 - RESTART) * mass) / sum;
    for (const entity of entities) if (entity.slots.length > 1) to.set(entity, (to.get(entity) ?? 0) + unit * index.idf(entity));
  }
}
