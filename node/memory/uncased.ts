/** Words worth a concept in scripts without capitals, where shape says nothing: by length and repetition, few of them. */
import { isStopWord } from "./text.ts";

export interface UncasedWord {
  readonly text: string;
  readonly at: number;
  readonly occurrences: number;
}

/** A message in such a script has no stronger hint to rank by, so fewer are taken than of names. */
const UNCASED_MAX = 7;

const KANA = /[\p{Script=Hiragana}\p{Script=Katakana}]/u;
const JAPANESE_COMPOUND = /[\p{Script=Han}々]{2,8}|[\p{Script=Katakana}ー]{3,20}/gu;
const NEEDS_DICTIONARY = /[\p{Script=Han}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}]/u;
const SPACED_WORD = /\p{Lo}[\p{Lo}\p{M}]{2,40}/gu;
const HANGUL = /^\p{Script=Hangul}+$/u;
/** Particles written onto Korean nouns. */
const KOREAN_PARTICLE = /(?:에서는|에서|으로|에게|까지|부터|입니다|은|는|이|가|을|를|의|에|로|와|과|도|만)$/u;
/** What remains after stop words of the two scripts most often met without a list of their own. */
const FUNCTION_WORDS: ReadonlySet<string> = new Set(
  "我们 你们 他们 她们 这个 那个 这些 那些 什么 怎么 可以 没有 因为 所以 但是 如果 就是 已经 自己 一个 不是 还是 或者 以及 进行 使用 需要 我們 你們 他們 這個 這些 沒有 因為 如果 可以 这里 那里 现在 然后 今天 对于 关于 通过 في من على إلى هذا هذه التي الذي كان كانت لقد ذلك عند بعد قبل של את זה היא הוא גם כי אם לא".split(
    " ",
  ),
);

let segmenter: Intl.Segmenter | undefined;

/** @returns at most UNCASED_MAX words: most often first, then longest, then first */
export function uncasedWords(text: string): UncasedWord[] {
  const counts = new Map<string, { at: number; occurrences: number }>();
  const count = (word: string, at: number): void => {
    if (FUNCTION_WORDS.has(word) || isStopWord(word)) return;
    const held = counts.get(word);
    if (held === undefined) counts.set(word, { at, occurrences: 1 });
    else held.occurrences++;
  };
  if (KANA.test(text)) {
    for (const match of text.matchAll(JAPANESE_COMPOUND)) count(match[0], match.index);
  } else if (NEEDS_DICTIONARY.test(text)) {
    segmenter ??= new Intl.Segmenter("und", { granularity: "word" });
    for (const part of segmenter.segment(text)) if (part.isWordLike && isLongEnough(part.segment)) count(part.segment, part.index);
  } else {
    for (const match of text.matchAll(SPACED_WORD)) {
      const word = HANGUL.test(match[0]) ? match[0].replace(KOREAN_PARTICLE, "") : match[0];
      if (word.length >= (HANGUL.test(word) ? 2 : 4)) count(word, match.index);
    }
  }
  return [...counts]
    .map(([word, seen]) => ({ text: word, ...seen }))
    .sort((a, b) => b.occurrences - a.occurrences || b.text.length - a.text.length || a.at - b.at)
    .slice(0, UNCASED_MAX);
}

function isLongEnough(word: string): boolean {
  return /^\p{Script=Han}+$/u.test(word) ? word.length >= 2 : /\p{Lo}/u.test(word) && word.length >= 4;
}
