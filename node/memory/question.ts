/** A question against one tenant's memory: which of its words and which known entities it names. */
import { datesIn } from "./dates.ts";
import { conceptForms } from "./entity-keys.ts";
import { extract } from "./extract.ts";
import { DEFAULT_SETTINGS } from "./settings.ts";
import type { Posting, TenantIndex } from "./tenant-index.ts";
import { fold, isStopWord, termOf, words } from "./text.ts";

export interface QuestionTerm {
  /** As asked. */
  readonly word: string;
  readonly posting: Posting;
  readonly idf: number;
}

export interface Question {
  readonly terms: readonly QuestionTerm[];
  /** Entities it names that occur in the memory. */
  readonly entities: readonly Posting[];
  /** Names of things it asks about, known or not (fold of the name). */
  readonly names: readonly string[];
  /** Months and days it names. */
  readonly dates: ReturnType<typeof datesIn>;
  /** The one participant of conversations whom it names: an entity that has much to say in sessions. */
  readonly speaker: Posting | undefined;
}

/** Longer questions are pasted texts; their beginning decides. */
const QUESTION_MAX_CHARS = 4_000;
const QUESTION_WORDS_MAX = 200;
const SINGLE_NAME_MIN_CHARS = 3;
/** Words of one name looked up as they stand, in any case. */
const NAME_WORDS_MAX = 6;

/** @param fuzzy a word that is not known stands for the known ones it may be a slip of */
export function askedOf(index: TenantIndex, message: string, fuzzy = false): Question {
  const text = message.slice(0, QUESTION_MAX_CHARS);
  const terms = new Map<string, QuestionTerm>();
  for (const word of words(text).slice(0, QUESTION_WORDS_MAX)) {
    const term = termOf(word);
    if (term === "") continue;
    const exact = index.terms.get(term);
    const meant = exact !== undefined ? [exact] : fuzzy ? slipsOf(index, term) : [];
    for (const posting of meant) if (!terms.has(posting.name)) terms.set(posting.name, { word, posting, idf: index.idf(posting) });
  }
  const names = namesIn(index, text);
  const entities = [...names].flatMap((name) => index.entities.get(name) ?? []);
  return { terms: [...terms.values()], entities, names: [...names], dates: datesIn(text), speaker: speakerIn(index, entities) };
}

/** A clue is rarer than this share of the documents (rank.ts); a participant is the entity of more. */
const PARTICIPANT = { share: 0.02, documents: 4 };

function speakerIn(index: TenantIndex, entities: readonly Posting[]): Posting | undefined {
  if (index.sessions.size === 0) return undefined;
  const least = Math.max(PARTICIPANT.documents, PARTICIPANT.share * index.documents);
  const participants = entities.filter((entity) => {
    if (entity.slots.length < least) return false;
    let spoken = 0;
    for (let i = 0; i < entity.slots.length && spoken < least; i++) {
      if (entity.weights[i] === 1 && index.at(entity.slots[i]!).document.session !== "") spoken++;
    }
    return spoken >= least;
  });
  return participants.length === 1 ? participants[0] : undefined;
}

function namesIn(index: TenantIndex, text: string): Set<string> {
  const names = new Set<string>();
  for (const concept of extract(text, DEFAULT_SETTINGS)) for (const form of conceptForms(concept.id)) names.add(form);
  // What is known under a name of several words is recognised without its capitals too; longest first, so parts of it are not names of their own.
  const plain = fold(text.replace(/[?!,;:"()]/g, " "))
    .split(" ")
    .slice(0, QUESTION_WORDS_MAX);
  const taken = new Uint8Array(plain.length);
  for (let length = Math.min(NAME_WORDS_MAX, plain.length); length >= 2; length--) {
    for (let at = 0; at + length <= plain.length; at++) {
      if (taken[at] === 1 || taken[at + length - 1] === 1 || isStopWord(plain[at]!) || isStopWord(plain[at + length - 1]!)) continue;
      const name = fold(plain.slice(at, at + length).join(" "));
      if (!index.entities.has(name)) continue;
      names.add(name);
      taken.fill(1, at, at + length);
    }
  }
  // A question without any name may be written without capitals: then a single word counts when the graph has a concept of that name.
  if (![...names].some((name) => index.entities.has(name))) {
    for (const word of plain) {
      const name = fold(word.replace(/[.]+$/, ""));
      if (name.length >= SINGLE_NAME_MIN_CHARS && !isStopWord(name) && index.concept(name) !== undefined) names.add(name);
    }
  }
  return names;
}

/** Known terms one slip away, two for long words: a letter more, less, other, or two swapped (Damerau 1964). The first letter is taken as right. */
function slipsOf(index: TenantIndex, term: string): Posting[] {
  if (term.length < 4) return [];
  const most = term.length >= 8 ? 2 : 1;
  const found: Posting[] = [];
  for (const [known, posting] of index.terms) {
    if (known[0] === term[0] && Math.abs(known.length - term.length) <= most && slips(known, term) <= most) found.push(posting);
  }
  return found;
}

function slips(a: string, b: string): number {
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let least = Math.min(above[j]! + 1, row[j - 1]! + 1, above[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) least = Math.min(least, before[j - 2]! + 1);
      row.push(least);
    }
    before = above;
    above = row;
  }
  return above[b.length]!;
}
