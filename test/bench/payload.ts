/** Real sentences, joined two by two to texts of exactly 200 characters, no two alike: 360,000 from 600 sentences. */
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";

export const TEXT_CHARS = 200;
/** Of the first sentence in a text, and what is kept of every sentence at most. */
const HEAD_CHARS = 96;
const SENTENCE_CHARS_MIN = 40;
const VENDORED = resolve(import.meta.dirname, "data/sentences.txt");

/** A sentence and what it is about: the title of the passage it was taken from. */
export interface Sentence {
  readonly title: string;
  readonly text: string;
}

export class Payload {
  readonly #sentences: readonly Sentence[];
  readonly #stride: number;

  /** @param sentences at least two, all different in their first 96 characters */
  constructor(sentences: readonly Sentence[]) {
    this.#sentences = sentences;
    this.#stride = strideOf(sentences.length);
  }

  /** How many different texts there are. */
  get size(): number {
    return this.#sentences.length * (this.#sentences.length - 1);
  }

  /** @param n 0 or more; from `size` on texts come again */
  text(n: number): string {
    const count = this.#sentences.length;
    const first = this.#first(n);
    // Every round over the first sentences meets another second one, never the first itself.
    const apart = 1 + (Math.floor(n / count) % (count - 1));
    let text = head(this.#sentences[first]!.text);
    for (let next = (first + apart) % count; text.length < TEXT_CHARS; next = (next + 1) % count) text += ` ${this.#sentences[next]!.text}`;
    return text.slice(0, TEXT_CHARS);
  }

  /** What `text(n)` is about. */
  entity(n: number): string {
    return this.#sentences[this.#first(n)]!.title;
  }

  /** What somebody might ask who wants `text(n)` back: its first sentence. */
  question(n: number): string {
    return head(this.#sentences[this.#first(n)]!.text);
  }

  #first(n: number): number {
    return (n * this.#stride) % this.#sentences.length;
  }
}

/** @param dataDir a folder with passages.jsonl (`{title, text}` a line); undefined: the vendored sentences */
export function loadPayload(dataDir: string | undefined): Payload {
  const sentences = dataDir === undefined ? vendored() : passages(join(dataDir, "passages.jsonl"));
  const different = new Map(sentences.filter(({ text }) => text.length >= SENTENCE_CHARS_MIN).map((sentence) => [head(sentence.text), sentence]));
  return new Payload([...different.values()]);
}

function vendored(): Sentence[] {
  const lines = readFileSync(VENDORED, "utf8").trimEnd().split("\n");
  return lines.map((line) => {
    const [title, text] = line.split("\t") as [string, string];
    return { title, text };
  });
}

function passages(file: string): Sentence[] {
  const lines = readFileSync(file, "utf8").trimEnd().split("\n");
  return lines.flatMap((line) => {
    const { title, text } = JSON.parse(line) as Sentence;
    const sentences = text.replace(/\s+/g, " ").split(/(?<=[.!?]) (?=[A-Z])/);
    return sentences.map((sentence) => ({ title, text: sentence }));
  });
}

/** Up to the last whole word that fits. */
function head(sentence: string): string {
  return sentence.length <= HEAD_CHARS ? sentence : sentence.slice(0, sentence.lastIndexOf(" ", HEAD_CHARS));
}

/** A step that visits all of `count` in an order that looks like none: near the golden section, without a common divisor. */
function strideOf(count: number): number {
  let stride = Math.max(1, Math.round(count * 0.618));
  while (divisor(stride, count) !== 1) stride++;
  return stride;
}

function divisor(a: number, b: number): number {
  return b === 0 ? a : divisor(b, a % b);
}
