/**
 * What the words alone say (BM25, Robertson and others 1994). Two readings of the same postings:
 * `facts`: each document by itself, rare words far above common ones, the entity as a field;
 * `talk`: a document with what was said just before it in its session, and how well session and surroundings fit.
 */
import { dateFit } from "./dates.ts";
import type { Question } from "./question.ts";
import { Scores, standardised } from "./scores.ts";
import {
  bodyOf,
  CONTEXT_WEIGHTS,
  contextWeight,
  type Entry,
  lengthWithContext,
  type Posting,
  type TenantIndex,
  titleOf,
  weightIn,
} from "./tenant-index.ts";

const K1 = 0.9;
const B = 0.4;
/** A word of the entity counts as this many of the text. */
const TITLE_WEIGHT = 3;
const FACT_IDF_POWER = 2.5;
const TALK_IDF_POWER = 1.5;

/** How well whole sessions, and the neighbourhood of a document, fit the question. */
const SESSION = { k1: 1.2, b: 0.75, weight: 0.3 };
/** A word in more documents than this says nothing of a session or of what lies around, and would cost most of the time. */
const SURROUNDINGS_DOCUMENTS_MAX = 5_000;
const AROUND = { reach: 4, k1: 0.9, b: 0.4, weight: 0.3 };
/** The only participant whom the question names speaks here. */
const SPEAKER_BOOST = 1.6;
/** Said in a month or on a day that the question names. */
const DATE_WEIGHT = 3;
/** A document of few words says little: at most this share is taken off. */
const SHORT = { share: 0.2, terms: 8 };

export interface Evidence {
  readonly facts: Scores;
  /** Standard scores over `candidates`. */
  readonly talk: Float64Array;
  readonly candidates: readonly number[];
}

const facts = new Scores();
const talk = new Scores();
const frequency = new Scores();
const around = new Scores();
const aroundFrequency = new Scores();
const sessions = new Scores();
const sessionFrequency = new Scores();

/** @returns scratch that is valid until the next call */
export function evidenceOf(index: TenantIndex, question: Question): Evidence {
  const size = index.slots;
  facts.reset(size);
  talk.reset(size);
  around.reset(size);
  sessions.reset(index.sessionNumbers);
  const inSessions = index.sessions.size > 0;
  const sessionLength = averageSessionLength(index);
  for (const { posting, idf } of question.terms) {
    frequency.reset(size);
    for (let i = 0; i < posting.slots.length; i++) {
      const slot = posting.slots[i]!;
      const weight = posting.weights[i]!;
      const entry = index.at(slot);
      facts.add(slot, idf ** FACT_IDF_POWER * factWeight(index, entry, weight));
      frequency.add(slot, bodyOf(weight) / norm(lengthWithContext(entry), index.averageLengthWithContext, B) + TITLE_WEIGHT * titleOf(weight));
      if (entry.next !== undefined) lend(index, entry, bodyOf(weight));
    }
    for (const slot of frequency.touched) talk.add(slot, idf ** TALK_IDF_POWER * saturated(frequency.get(slot), K1));
    if (inSessions && posting.slots.length <= SURROUNDINGS_DOCUMENTS_MAX) addSurroundings(index, posting, idf ** TALK_IDF_POWER, sessionLength);
  }
  const candidates = [...talk.touched];
  for (const slot of candidates) {
    const spoken = question.speaker !== undefined && weightIn(question.speaker, slot) === 1;
    talk.scale(slot, (spoken ? SPEAKER_BOOST : 1) * (1 - SHORT.share * Math.exp(-index.at(slot).document.length / SHORT.terms)));
  }
  return {
    facts,
    talk:
      inSessions || question.dates.length > 0 ? withSurroundings(index, question, candidates) : standardised(candidates, (slot) => talk.get(slot)),
    candidates,
  };
}

/** What one term adds to one document, before its idf. @param weight of the posting */
export function factWeight(index: TenantIndex, entry: Entry, weight: number): number {
  return saturated(bodyOf(weight) / norm(entry.document.length, index.averageLength, B) + TITLE_WEIGHT * titleOf(weight), K1);
}

export function factIdf(idf: number): number {
  return idf ** FACT_IDF_POWER;
}

/** A document lends its words to the two that follow in its session. */
function lend(index: TenantIndex, entry: Entry, count: number): void {
  if (count === 0) return;
  const next = entry.next!;
  frequency.add(next.slot, (contextWeight(entry) * count) / norm(lengthWithContext(next), index.averageLengthWithContext, B));
  const second = next.next;
  if (second !== undefined)
    frequency.add(second.slot, (CONTEXT_WEIGHTS.second * count) / norm(lengthWithContext(second), index.averageLengthWithContext, B));
}

function addSurroundings(index: TenantIndex, { slots, weights }: Posting, idf: number, averageSession: number): void {
  sessionFrequency.reset(index.sessionNumbers);
  aroundFrequency.reset(index.slots);
  for (let i = 0; i < slots.length; i++) {
    const entry = index.at(slots[i]!);
    const session = index.sessions.get(entry.document.session);
    const count = bodyOf(weights[i]!) + titleOf(weights[i]!);
    if (session === undefined || count === 0) continue;
    sessionFrequency.add(session.number, count / norm(session.length, averageSession, SESSION.b));
    eachAround(entry, (near) => aroundFrequency.add(near.slot, count));
  }
  for (const session of sessionFrequency.touched) sessions.add(session, idf * saturated(sessionFrequency.get(session), SESSION.k1));
  const average = index.averageLength * (2 * AROUND.reach + 1);
  for (const slot of aroundFrequency.touched) {
    let length = 0;
    eachAround(index.at(slot), (near) => {
      length += near.document.length;
    });
    around.add(slot, idf * saturated(aroundFrequency.get(slot) / norm(length, average, AROUND.b), AROUND.k1));
  }
}

function withSurroundings(index: TenantIndex, question: Question, candidates: readonly number[]): Float64Array {
  const own = standardised(candidates, (slot) => talk.get(slot));
  const session = standardised(candidates, (slot) => {
    const of = index.sessions.get(index.at(slot).document.session);
    return of === undefined ? 0 : sessions.get(of.number);
  });
  const near = standardised(candidates, (slot) => around.get(slot));
  const sum = new Map(
    candidates.map((slot, i) => {
      const date = dateFit(question.dates, index.at(slot).document.time);
      return [slot, own[i]! + SESSION.weight * session[i]! + AROUND.weight * near[i]! + DATE_WEIGHT * date];
    }),
  );
  return standardised(candidates, (slot) => sum.get(slot)!);
}

function eachAround(entry: Entry, visit: (near: Entry) => void): void {
  visit(entry);
  let before = entry.previous;
  let after = entry.next;
  for (let i = 0; i < AROUND.reach; i++) {
    if (before !== undefined) visit(before);
    if (after !== undefined) visit(after);
    before = before?.previous;
    after = after?.next;
  }
}

function averageSessionLength(index: TenantIndex): number {
  let sum = 0;
  for (const session of index.sessions.values()) sum += session.length;
  return sum / Math.max(1, index.sessions.size);
}

function norm(length: number, average: number, b: number): number {
  return 1 - b + (b * length) / Math.max(1, average);
}

function saturated(frequency: number, k1: number): number {
  return (frequency * (k1 + 1)) / (frequency + k1);
}
