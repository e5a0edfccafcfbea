/**
 * Text -> concepts: names (capitalised runs joined by "of", "the", "de"), acronyms, words with digits (GPT-4, HTTP/2), CamelCase, snake_case, quoted terms,
 * lower-case terms that recur, and words of scripts without capitals. Rules only: no model, no network. Sentence starts are not mistaken for names,
 * code and markup are set aside (prose.ts), and the most salient are kept, so a message never floods the graph.
 */
import type { ConceptType } from "../../protocol/graph/records.ts";
import { CALENDAR, COMMON_STARTERS } from "./common-words.ts";
import { prose } from "./prose.ts";
import type { MemorySettings } from "./settings.ts";
import { fold, isStopWord, termOf, withoutAccents } from "./text.ts";
import { uncasedWords } from "./uncased.ts";

export interface ExtractedConcept {
  /** fold(name). */
  readonly id: string;
  /** As first written. */
  readonly name: string;
  readonly type: ConceptType;
  /** How much the text is about it; only comparable within one text. */
  readonly salience: number;
  readonly occurrences: number;
}

/** What a kind of evidence is worth before repetition and position. */
const WORTH = { run: 2, special: 1.8, quoted: 1.4, name: 1.2, recurring: 1, uncased: 0.6 } as const;

interface Token {
  readonly text: string;
  readonly lower: string;
  readonly at: number;
  readonly shape: "capital" | "special" | "lower" | "number" | "uncased";
  /** First of a sentence, a quotation or a list item. */
  readonly starts: boolean;
  /** Only a space (or the full stop of an abbreviation) between it and the token before. */
  readonly adjoins: boolean;
}

/** @param entity what the text is said to be about: always the first concept @returns most salient first, at most `maxConcepts` */
export function extract(text: string, settings: MemorySettings, entity = ""): ExtractedConcept[] {
  const source = prose(text);
  const found = new Found(settings, source.length);
  if (entity !== "") found.addEntity(entity);
  const tokens = tokenize(source);
  const lowerCase = new Set<string>();
  let uncased = false;
  for (const token of tokens) {
    if (token.shape === "lower") lowerCase.add(token.lower);
    else if (token.shape === "uncased") uncased = true;
  }
  addRuns(tokens, lowerCase, found);
  addQuoted(source, found);
  addRecurring(tokens, found);
  if (uncased)
    for (const word of uncasedWords(source)) found.add(word.text, "concept", WORTH.uncased + word.text.length / 100, word.at, word.occurrences);
  return found.best();
}

// Tokens

const WORD =
  /[\p{L}\p{N}][\p{L}\p{N}\p{M}]*(?:[-_'’+&][\p{L}\p{N}][\p{L}\p{N}\p{M}]*|\.[\p{Ll}\p{N}][\p{L}\p{N}\p{M}]*|\.\p{Lu}(?![\p{L}\p{N}])|\/\p{N}+)*(?:\+\+|#(?![\p{L}\p{N}]))?/gu;
const ABBREVIATION = /^(?:\p{Lu}|\p{Lu}\.\p{Lu}|Mr|Mrs|Ms|Dr|Prof|St|Mt|Ft|Jr|Sr|Rev|Gen|Col|Capt|Lt|Sgt|Gov|Sen|Rep|Hon|No|vs)$/u;
const STARTS_SENTENCE = /[.!?:;…\n。！？•"“„«\]]|\s-\s/;

function tokenize(text: string): Token[] {
  const tokens: Token[] = [];
  let end = 0;
  let previous = "";
  for (const match of text.matchAll(WORD)) {
    const word = withoutPossessive(match[0]);
    const gap = text.slice(end, match.index);
    const abbreviated = gap === ". " && ABBREVIATION.test(previous);
    tokens.push({
      text: word,
      lower: word.toLowerCase(),
      at: match.index,
      shape: shapeOf(word),
      starts: tokens.length === 0 || (!abbreviated && gap !== " " && STARTS_SENTENCE.test(gap)),
      adjoins: tokens.length > 0 && (gap === " " || gap === " & " || abbreviated) && previous !== "",
    });
    end = match.index + match[0].length;
    // "Alice's Kubernetes" are two names: nothing adjoins a possessive.
    previous = word.length === match[0].length ? word : "";
  }
  return tokens;
}

function withoutPossessive(word: string): string {
  const cut = word.length - 2;
  const apostrophe = word.charCodeAt(cut);
  return (apostrophe === 0x27 || apostrophe === 0x2019) && (word.charCodeAt(cut + 1) | 32) === 0x73 ? word.slice(0, cut) : word;
}

const LOWER_WORD = /^[a-z]+(?:['’-][a-z]+)*$/;
const CAPITAL_WORD = /^[A-Z][a-z]+$/;
const NUMBER = /^\p{N}[\p{N}.,:/-]*(?:st|nd|rd|th|s|am|pm|%|[kmg]?b|[ckm]?m|m?s|k?g|h|k|x)?$/iu;
const MIXED = /\p{Ll}\p{Lu}|_|\p{L}[-/.]?\p{N}|\p{L}\.\p{Ll}{2}|[+#]$/u;
const UPPER_FIRST = /^[\p{Lu}\p{Lt}]/u;
const UNCASED_FIRST = /^\p{Lo}/u;
const FIRST_PERSON = /^I(?:['’]\p{L}+)?$/u;

function shapeOf(word: string): Token["shape"] {
  if (LOWER_WORD.test(word)) return "lower";
  if (CAPITAL_WORD.test(word)) return "capital";
  if (NUMBER.test(word)) return "number";
  if (UNCASED_FIRST.test(word)) return "uncased";
  if (FIRST_PERSON.test(word)) return "lower";
  if (MIXED.test(word) && /^\p{L}/u.test(word)) return "special";
  return UPPER_FIRST.test(word) ? "capital" : "lower";
}

// Capitalised runs and special words

const JOINERS: ReadonlySet<string> = new Set(
  "of the de del della der den di da do dos das du des van von la le les el al bin ibn ben y zu zur af av".split(" "),
);
const HONORIFICS: ReadonlySet<string> = new Set("mr mrs ms dr prof professor sir madam miss".split(" "));
const PERSON_CUES: ReadonlySet<string> = new Set(
  "said says told asked wrote thinks believes married born replied wants likes prefers lives works".split(" "),
);
const TOOL_CUES: ReadonlySet<string> = new Set(
  "library framework database server api cli package plugin sdk language compiler module tool extension editor browser".split(" "),
);

function addRuns(tokens: readonly Token[], lowerCase: ReadonlySet<string>, found: Found): void {
  for (let i = 0; i < tokens.length; ) {
    const end = runEnd(tokens, i);
    if (end === i) {
      i++;
      continue;
    }
    addRun(tokens, i, end, lowerCase, found);
    i = end;
  }
}

/** Index after the last token of the run that begins at `start`; `start` itself when none does. */
function runEnd(tokens: readonly Token[], start: number): number {
  if (!isNameLike(tokens[start]!)) return start;
  let end = start + 1;
  for (;;) {
    const token = tokens[end];
    if (token === undefined || !token.adjoins || token.starts) return end;
    if (isNameLike(token) || (token.shape === "number" && /^\p{N}{1,2}(?:\.\p{N}+)*$/u.test(token.text))) end++;
    else if (JOINERS.has(token.lower)) {
      let next = end + 1;
      while (next < end + 3 && tokens[next]?.adjoins && JOINERS.has(tokens[next]!.text)) next++;
      const after = tokens[next];
      if (after === undefined || !after.adjoins || after.starts || !isNameLike(after)) return end;
      end = next + 1;
    } else return end;
  }
}

function isNameLike(token: Token): boolean {
  return token.shape === "capital" || token.shape === "special";
}

function addRun(tokens: readonly Token[], from: number, to: number, lowerCase: ReadonlySet<string>, found: Found): void {
  const whole = written(tokens.slice(from, to));
  // What the text is said to be about is a name, also where it begins like a greeting.
  if (tokens[from]!.starts && found.has(whole)) {
    found.add(whole, "concept", WORTH.name, tokens[from]!.at, 1);
    return;
  }
  let start = from;
  let honoured = false;
  while (start < to && !isRealStart(tokens[start]!, start === from, to - start, lowerCase)) {
    start++;
    // What stood after a stripped word may begin with a joiner: "The" + "of".
    while (start < to && tokens[start]!.shape === "lower") start++;
  }
  if (start < to - 1 && HONORIFICS.has(tokens[start]!.lower)) {
    start++;
    honoured = true;
  }
  if (start >= to) return;
  const run = tokens.slice(start, to);
  const first = run[0]!;
  if (run.length === 1 && (CALENDAR.has(first.lower) || isStopWord(first.lower) || HONORIFICS.has(first.lower))) return;
  if (run.length === 1 && first.starts && isOrder(first, tokens[to])) return;
  if (run.length > 4 && run.every((token) => token.text === token.text.toUpperCase())) return; // shouting
  const worth =
    first.shape === "special" || isAcronym(first.text)
      ? Math.max(WORTH.special, run.length > 1 ? WORTH.run : 0)
      : run.length > 1
        ? WORTH.run
        : WORTH.name;
  found.add(written(run), typeOf(run, tokens[from - 1], tokens[to], honoured), worth, first.at, 1);
}

function written(run: readonly Token[]): string {
  return run.map((token) => token.text).join(" ");
}

const DETERMINERS: ReadonlySet<string> = new Set(
  "the a an all any each every everything your my our their his this that these those it them me us".split(" "),
);

/** "Rotate the keys" begins with a verb; names are followed by one. */
function isOrder(first: Token, next: Token | undefined): boolean {
  return first.shape === "capital" && !isAcronym(first.text) && next?.adjoins === true && DETERMINERS.has(next.text);
}

/** A sentence's first word is part of a name unless it is a common word; a lone one also must not occur in lower case nearby. */
function isRealStart(token: Token, isFirst: boolean, length: number, lowerCase: ReadonlySet<string>): boolean {
  if (token.shape === "special" || isAcronym(token.text)) return true;
  const lower = withoutAccents(token.lower);
  if (isStopWord(lower)) return false;
  if (!isFirst || !token.starts) return true;
  if (COMMON_STARTERS.has(lower) || lowerCase.has(token.lower)) return false;
  return length > 1 ? !/(?:ing|ly)$/.test(lower) : !/(?:ing|ed|ly|tion|ment|ness)$/.test(lower);
}

function isAcronym(word: string): boolean {
  return /^[\p{Lu}\p{N}&]{2,10}$/u.test(word);
}

function typeOf(run: readonly Token[], before: Token | undefined, after: Token | undefined, honoured: boolean): ConceptType {
  if (honoured) return "person";
  const next = after?.adjoins ? after.lower : "";
  const previous = run[0]!.adjoins ? (before?.lower ?? "") : "";
  if (next === "project" || previous === "project" || run[0]!.lower === "project" || run.at(-1)!.lower === "project") return "project";
  if (TOOL_CUES.has(next) || run.some((token) => token.shape === "special")) return "tool";
  if (PERSON_CUES.has(next) && run.length <= 3 && run.every((token) => /^\p{Lu}\p{Ll}+$/u.test(token.text))) return "person";
  return "concept";
}

// Quoted terms

const QUOTED = /"([^"\n]{2,60})"|“([^”\n]{2,60})”|«\s?([^»\n]{2,60}?)\s?»|„([^“”\n]{2,60})[“”]|[「『《〈]([^」』》〉\n]{1,40})[」』》〉]/gu;

function addQuoted(text: string, found: Found): void {
  if (!/["“«„「『《〈]/.test(text)) return;
  for (const match of text.matchAll(QUOTED)) {
    const term = match
      .slice(1)
      .find((group) => group !== undefined)!
      .trim();
    const parts = term.split(/\s+/);
    if (parts.length > 5 || /[.!?,;:。！？，]/.test(term) || parts.every((word) => isStopWord(word.toLowerCase())) || !/\p{L}/u.test(term)) continue;
    found.add(term, UPPER_FIRST.test(term) ? "concept" : "topic", WORTH.quoted, match.index, 1);
  }
}

// Lower-case terms of several words that recur

function addRecurring(tokens: readonly Token[], found: Found): void {
  const pairs = new Map<string, number[]>();
  for (let i = 1; i < tokens.length; i++) {
    const a = tokens[i - 1]!;
    const b = tokens[i]!;
    if (!b.adjoins || b.starts || !isContent(a) || !isContent(b)) continue;
    const key = `${termOf(a.lower)} ${termOf(b.lower)}`;
    const seen = pairs.get(key);
    if (seen === undefined) pairs.set(key, [i - 1]);
    else seen.push(i - 1);
  }
  for (const places of pairs.values()) {
    if (places.length < 2) continue;
    // The shortest form is the likeliest singular.
    const forms = places.map((at) => `${tokens[at]!.lower} ${tokens[at + 1]!.lower}`).sort((x, y) => x.length - y.length || (x < y ? -1 : 1));
    found.add(forms[0]!, "topic", WORTH.recurring, tokens[places[0]!]!.at, places.length);
  }
}

function isContent(token: Token): boolean {
  return (
    (token.shape === "lower" || (token.shape === "capital" && token.starts)) &&
    token.text.length >= 3 &&
    termOf(token.lower) !== "" &&
    !COMMON_STARTERS.has(token.lower)
  );
}

// What was found

class Found {
  readonly #settings: MemorySettings;
  readonly #length: number;
  readonly #concepts = new Map<string, { id: string; name: string; type: ConceptType; worth: number; at: number; occurrences: number }>();

  constructor(settings: MemorySettings, length: number) {
    this.#settings = settings;
    this.#length = Math.max(1, length);
  }

  addEntity(entity: string): void {
    const id = fold(entity);
    if (id !== "" && id.length <= this.#settings.maxLength)
      this.#concepts.set(id, { id, name: entity.trim(), type: "concept", worth: 10, at: 0, occurrences: 0 });
  }

  add(name: string, type: ConceptType, worth: number, at: number, occurrences: number): void {
    const id = fold(name);
    const held = this.#concepts.get(id);
    if (held !== undefined) {
      held.occurrences += occurrences;
      held.worth = Math.max(held.worth, worth);
      if (held.type === "concept") held.type = type;
      return;
    }
    if (id.length > this.#settings.maxLength || widthOf(id) < this.#settings.minLength) return;
    this.#concepts.set(id, { id, name, type, worth, at, occurrences });
  }

  has(name: string): boolean {
    return this.#concepts.has(fold(name));
  }

  best(): ExtractedConcept[] {
    const all = [...this.#concepts.values()].map((one) => ({
      id: one.id,
      name: one.name,
      type: one.type,
      occurrences: Math.max(1, one.occurrences),
      salience: one.worth * (1 + 0.5 * Math.log(Math.max(1, one.occurrences))) - (0.3 * one.at) / this.#length,
    }));
    all.sort((a, b) => b.salience - a.salience || (a.id < b.id ? -1 : 1));
    return all.length > this.#settings.maxConcepts ? all.slice(0, this.#settings.maxConcepts) : all;
  }
}

/** Two Han characters say as much as a short word: each counts as two. */
function widthOf(name: string): number {
  if (/^[\x00-\u02ff]*$/.test(name)) return name.length;
  let width = 0;
  for (const character of name) width += /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Hangul}]/u.test(character) ? 2 : 1;
  return width;
}
