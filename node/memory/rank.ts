/**
 * From a question to documents in order. Evidence of the words, of the walk over the graph, and of hops from good documents to what they name
 * that the question does not: each standardised over the candidates, then added.
 */
import { type Evidence, evidenceOf, factIdf, factWeight } from "./evidence.ts";
import type { Question } from "./question.ts";
import { highest, Scores, standardised } from "./scores.ts";
import { byArrival, type Entry, type Posting, type TenantIndex, weightIn } from "./tenant-index.ts";
import { type Association, walkFrom } from "./walk.ts";

export interface Ranked {
  readonly entry: Entry;
  /** 1 for the best, 0 for the least of all that were considered. */
  readonly score: number;
  /** The document it was reached from, and the entity they share, when a hop speaks for it. */
  readonly hop: { readonly from: Entry; readonly by: Posting } | undefined;
}

export interface Ranking {
  /** Best first, as many as were wanted. */
  readonly documents: readonly Ranked[];
  /** Entities by what the walk brought them, highest first. */
  readonly entities: readonly { readonly entity: Posting; readonly mass: number }[];
}

/** An entity is a clue when it occurs in few documents: this share of them, or this many. */
const CLUE = { share: 0.02, documents: 3 };
/** Shares of the sum while the question names a clue; without one, words decide alone. */
/** Enough to come after, too little to fall behind a third. */
const AFTER = 1e-6;
/** Most concepts a recall may ask for. */
const ENTITIES_MAX = 300;
const WEIGHTS = { talkWithClue: 0.1, hop: 0.3, secondHop: 0.2 };

/**
 * @param count how many documents are wanted
 * @param allowed which documents may be answers; the others still count in statistics and lead to others
 */
export function rank(
  index: TenantIndex,
  question: Question,
  associations: readonly Association[],
  count: number,
  allowed: (entry: Entry) => boolean,
): Ranking {
  const tie = (a: number, b: number): number => byArrival(index.at(b), index.at(a));
  const words = evidenceOf(index, question);
  const walk = walkFrom(index, question, words.facts, associations, tie);
  const clue = namesClue(index, question);
  const slots = clue ? [...new Set([...words.candidates, ...walk.documents.touched])] : words.candidates;
  const hops: Hops = new Map();
  let total = talkOver(slots, words, clue ? WEIGHTS.talkWithClue : 1);
  if (clue) {
    const walked = standardised(slots, (slot) => Math.sqrt(walk.documents.get(slot)));
    const hopped = overSlots(slots, hopFrom(index, question, words.facts, tie, hops));
    total = total.map((sum, i) => sum + walked[i]! + WEIGHTS.hop * hopped[i]!);
    const sofar = merged.reset(index.slots);
    slots.forEach((slot, i) => {
      if (total[i]! > 0) sofar.add(slot, total[i]!);
    });
    const again = overSlots(slots, hopFrom(index, question, sofar, tie, hops));
    total = total.map((sum, i) => sum + WEIGHTS.secondHop * again[i]!);
  }
  putAfterWhatLed(slots, total, hops, words.facts);
  const places = slots.map((_, i) => i).filter((i) => allowed(index.at(slots[i]!)));
  const best = highest(
    places,
    (i) => total[i]!,
    count,
    (a, b) => tie(slots[a]!, slots[b]!),
  );
  const least = places.reduce((low, i) => Math.min(low, total[i]!), Number.POSITIVE_INFINITY);
  const range = best.length === 0 ? 0 : total[best[0]!]! - least;
  return {
    documents: best.map((i) => ({ entry: index.at(slots[i]!), score: range > 0 ? (total[i]! - least) / range : 1, hop: hops.get(slots[i]!) })),
    entities: highest(
      walk.entities,
      ({ mass }) => mass,
      ENTITIES_MAX,
      (a, b) => (a.entity.name < b.entity.name ? -1 : 1),
    ),
  };
}

/** Of the words, over more slots than have any: those count as the least of the others. */
function talkOver(slots: readonly number[], { talk, candidates }: Evidence, weight: number): Float64Array {
  const known = new Map(candidates.map((slot, i) => [slot, talk[i]!]));
  const least = talk.reduce((low, value) => Math.min(low, value), 0);
  return standardised(slots, (slot) => known.get(slot) ?? least).map((value) => value * weight);
}

/** A document without a word of the question comes after the one that led to it: the direct answer is read first. */
function putAfterWhatLed(slots: readonly number[], total: Float64Array, hops: Hops, facts: Scores): void {
  const placeOf = new Map(slots.map((slot, i) => [slot, i]));
  for (const [slot, { from }] of hops) {
    const place = placeOf.get(slot);
    const leader = placeOf.get(from.slot);
    if (place !== undefined && leader !== undefined && facts.get(slot) === 0) total[place] = Math.min(total[place]!, total[leader]! - AFTER);
  }
}

function overSlots(slots: readonly number[], scores: Scores): Float64Array {
  return standardised(slots, (slot) => scores.get(slot));
}

function namesClue(index: TenantIndex, question: Question): boolean {
  const few = Math.max(CLUE.documents, CLUE.share * index.documents);
  return question.entities.some((entity) => entity.slots.length <= few);
}

// Hops

type Hops = Map<number, { from: Entry; by: Posting }>;

const HOP_STARTS = 5;
/** Neighbours of one start that are looked at; hubs lead everywhere and so nowhere. */
const HOP_NEIGHBOURS_MAX = 500;
const HOP_TITLE_BONUS = 2;
const hop = new Scores();
const merged = new Scores();

const shared = new Scores();

/** @returns scratch that is valid until the next call */
function hopFrom(index: TenantIndex, question: Question, scores: Scores, tie: (a: number, b: number) => number, how: Hops): Scores {
  hop.reset(index.slots);
  const max = scores.max();
  const named = new Set(question.entities);
  for (const slot of scores.best(HOP_STARTS, tie)) {
    const start = index.at(slot);
    const open = question.terms.filter(({ posting }) => weightIn(posting, slot) === 0);
    const all = open.reduce((sum, { idf }) => sum + factIdf(idf), 0);
    shared.reset(index.slots);
    const by = new Map<number, Posting>();
    for (const entity of start.entities) {
      if (named.has(entity) || entity.slots.length < 2 || entity.slots.length > HOP_NEIGHBOURS_MAX) continue;
      for (let i = 0; i < entity.slots.length; i++) {
        const to = entity.slots[i]!;
        if (to === slot) continue;
        if (!by.has(to)) by.set(to, entity);
        shared.add(to, index.idf(entity) * (1 + HOP_TITLE_BONUS * entity.weights[i]!));
      }
    }
    for (const to of shared.touched) {
      const entry = index.at(to);
      let answered = 0;
      for (const { posting, idf } of open) {
        const weight = weightIn(posting, to);
        if (weight > 0) answered += factIdf(idf) * factWeight(index, entry, weight);
      }
      const value = (scores.get(slot) / max) ** 2 * Math.sqrt(shared.get(to)) * (0.1 + (all > 0 ? answered / all : 0));
      if (value > hop.get(to)) {
        hop.raise(to, value);
        how.set(to, { from: start, by: by.get(to)! });
      }
    }
  }
  return hop;
}
