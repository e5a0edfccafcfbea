/** The text of a recall, ready to be put in a prompt: knowledge first, dated, most relevant first, cut to the tokens that may be spent. */
import type { Question } from "./question.ts";
import type { RecalledConcept, RecalledLink, RecalledMemory } from "./recalled.ts";
import { sentences, terms } from "./text.ts";

/** English prose, roughly, for the tokenizers in use. */
const CHARS_PER_TOKEN = 4;
/** Of one memory: a long one is quoted where it speaks of the question. */
const QUOTE_MAX_CHARS = 800;
/** Shorter pieces of a memory say nothing. */
const QUOTE_MIN_CHARS = 60;
const RELATED_MAX = 12;

const HEADING = "What is remembered, most relevant first:";

/** @returns empty when nothing is remembered; never longer than `maxTokens` at four characters a token */
export function contextText(
  question: Question,
  memories: readonly RecalledMemory[],
  concepts: readonly RecalledConcept[],
  links: readonly RecalledLink[],
  maxTokens: number,
): string {
  const budget = maxTokens * CHARS_PER_TOKEN;
  const lines = new Lines(budget);
  const weights = new Map(question.terms.map(({ posting, idf }) => [posting.name, idf]));
  if (memories.length > 0 && lines.add(HEADING)) {
    for (const memory of memories) {
      const label = `- [${memory.at.slice(0, 10)}${memory.session_id === null ? "" : `, session ${oneLine(memory.session_id).slice(0, 60)}`}] `;
      const text = label + (memory.entity === null ? "" : `${oneLine(memory.entity)}: `);
      const room = Math.min(QUOTE_MAX_CHARS, lines.room - text.length);
      if (room < QUOTE_MIN_CHARS && room < memory.text.length) break;
      lines.add(text + quote(memory.text, weights, room));
    }
  }
  for (const line of relatedLines(concepts, links)) lines.add(line);
  return lines.text;
}

class Lines {
  readonly #budget: number;
  text = "";

  constructor(budget: number) {
    this.#budget = budget;
  }

  /** Characters of one more line. */
  get room(): number {
    return this.#budget - this.text.length - (this.text === "" ? 0 : 1);
  }

  add(line: string): boolean {
    if (line.length > this.room) return false;
    this.text += (this.text === "" ? "" : "\n") + line;
    return true;
  }
}

function relatedLines(concepts: readonly RecalledConcept[], links: readonly RecalledLink[]): string[] {
  const names = concepts.slice(0, RELATED_MAX).map(({ name, kind }) => (kind === "concept" ? oneLine(name) : `${oneLine(name)} (${kind})`));
  const pairs = links
    .slice(0, RELATED_MAX)
    .map(({ source, target, strength }) => `${oneLine(source)} and ${oneLine(target)} (${strength.toFixed(2)})`);
  return [...(names.length > 0 ? [`Concepts: ${names.join("; ")}`] : []), ...(pairs.length > 0 ? [`Linked by use: ${pairs.join("; ")}`] : [])];
}

/** A memory cannot begin a line of its own: what it says stays marked as what it is. */
function oneLine(text: string): string {
  return text.replace(/\s+/g, " ").trim();
}

/** The sentence that says most of what was asked, and its neighbours as far as there is room. */
function quote(text: string, weights: ReadonlyMap<string, number>, maxChars: number): string {
  const whole = oneLine(text);
  if (whole.length <= maxChars) return whole;
  const parts = sentences(text).map(oneLine);
  const worth = parts.map((part) => [...new Set(terms(part))].reduce((sum, term) => sum + (weights.get(term) ?? 0), 0));
  let from = worth.reduce((best, value, i) => (value > worth[best]! ? i : best), 0);
  let to = from + 1;
  let length = parts[from]?.length ?? 0;
  for (;;) {
    const after = parts[to];
    const before = parts[from - 1];
    // Two ellipses and the spaces around them have to fit too.
    if (after !== undefined && length + after.length + 1 <= maxChars - 4) {
      length += after.length + 1;
      to++;
    } else if (before !== undefined && length + before.length + 1 <= maxChars - 4) {
      length += before.length + 1;
      from--;
    } else break;
  }
  const chosen = parts.slice(from, to).join(" ");
  const marked = `${from > 0 ? "… " : ""}${chosen}${to < parts.length ? " …" : ""}`;
  return marked.length <= maxChars ? marked : `${marked.slice(0, maxChars - 1)}…`;
}
