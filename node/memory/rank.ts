/**
 * From a question to documents in order. Evidence of the words, of the walk over the graph, and of hops from good documents to what they name
 * that the question does not: each standardised over the candidates, then added.
 */
import { evidenceOf, factIdf, factWeight } from "./evidence.ts";
import type { Question } from "./question.ts";
import { Scores, standardised } from "./scores.ts";
import { byArrival, type Entry, type Posting, type TenantIndex, weightIn } from "./tenant-index.ts";
import { type Association, walkFrom } from "./walk.ts";

export interface Ranked {
  readonly entry: Entry;
  readonly score: number;
  /** The document it was reached from, and the entity they share, when a hop speaks for it. */
  readonly hop: { readonly from: Entry; readonly by: Posting } | undefined;
}

export interface Ranking {
  /** Highest first. */
  readonly documents: readonly Ranked[];
  /** Entities by what the walk brought them, highest first. */
  readonly entities: readonly { readonly entity: Posting; readonly mass: number }[];
}

/** An entity is a clue when it occurs in few documents: this share of them, or this many. */
const CLUE = { share: 0.02, documents: 3 };
/** Shares of the sum while the question names a clue; without one, words decide alone. */
const WEIGHTS = { talkWithClue: 0.1, hop: 0.3, secondHop: 0.2 };
/** The only participant named in the question speaks here. */
const SPEAKER_BOOST = 1.6;

/** @param allowed which documents may be answers; the others still count in statistics and lead to others */
export function rank(index: TenantIndex, question: Question, associations: readonly Association[], allowed: (entry: Entry) => boolean): Ranking {
  const tie = (a: number, b: number): number => byArrival(index.at(b), index.at(a));
  const { facts, talk, candidates: worded } = evidenceOf(index, question);
  const talkOf = new Map(worded.map((slot, i) => [slot, talk[i]!]));
  const clue = namesClue(index, question);
  const walk = walkFrom(index, question, facts, associations, tie);
  const reached = clue ? walk.documents.touched : [];
  const candidates = [...new Set([...worded, ...reached])];
  const floor = Math.min(0, ...talk);
  const weightOfTalk = clue ? WEIGHTS.talkWithClue : 1;
  let total = standardised(candidates, (slot) => talkOf.get(slot) ?? floor).map((z) => z * weightOfTalk);
  const hops = new Map<number, { from: Entry; by: Posting }>();
  if (clue) {
    const walked = standardised(candidates, (slot) => Math.sqrt(walk.documents.get(slot)));
    const hopped = hopFrom(index, question, facts, tie, hops);
    const first = standardised(candidates, (slot) => hopped.get(slot));
    total = total.map((z, i) => z + walked[i]! + WEIGHTS.hop * first[i]!);
    const merged = second.reset(index.slots);
    const lowest = Math.min(...total);
    candidates.forEach((slot, i) => {
      if (total[i]! > lowest) merged.add(slot, Math.max(1e-9, total[i]!));
    });
    const again = hopFrom(index, question, merged, tie, hops);
    const twice = standardised(candidates, (slot) => again.get(slot));
    total = total.map((z, i) => z + WEIGHTS.secondHop * twice[i]!);
  }
  const documents = candidates
    .map((slot, i) => ({ entry: index.at(slot), score: total[i]!, hop: hops.get(slot) }))
    .filter(({ entry }) => allowed(entry))
    .sort((a, b) => b.score - a.score || byArrival(b.entry, a.entry));
  const entities = [...walk.entities]
    .map(([entity, mass]) => ({ entity, mass }))
    .sort((a, b) => b.mass - a.mass || (a.entity.name < b.entity.name ? -1 : 1));
  void SPEAKER_BOOST;
  return { documents, entities };
}

function namesClue(index: TenantIndex, question: Question): boolean {
  const few = Math.max(CLUE.documents, CLUE.share * index.documents);
  return question.entities.some((entity) => entity.slots.length <= few);
}

// Hops

const HOP_STARTS = 5;
/** Neighbours of one start that are looked at; hubs lead everywhere and so nowhere. */
const HOP_NEIGHBOURS_MAX = 500;
const HOP_TITLE_BONUS = 2;
const hop = new Scores();
const second = new Scores();
const shared = new Scores();

/** @returns scratch that is valid until the next call */
function hopFrom(
  index: TenantIndex,
  question: Question,
  scores: Scores,
  tie: (a: number, b: number) => number,
  how: Map<number, { from: Entry; by: Posting }>,
): Scores {
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
