import { describe, expect, it } from "vitest";
import { fold, sentences, terms } from "../../node/memory/text.ts";

describe("folding names", () => {
  it.each([
    ["Café  Crème", "cafe creme"],
    ["GPT-4", "gpt-4"],
    ["Alice’s", "alice"],
    ["ＡＢＣ", "abc"],
    ["Łódź", "łodz"],
    ["a\u0001b\n c", "a b c"],
    ["が", "が"],
    ["हिन्दी", "हिन्दी"],
    ["한국어", "한국어"],
    ["Москва́", "москва"],
  ])("%j is known as %j", (name, id) => {
    expect(fold(name)).toBe(id);
    expect(fold(id)).toBe(id);
  });
});

describe("terms of a text", () => {
  it("brings the forms of a word together, irregular ones too, and leaves stop words out", () => {
    expect(terms("She was running; he ran, the children went.")).toEqual(["run", "run", "child", "go"]);
    expect(terms("Which cities did it build?")).toEqual(terms("the city built"));
  });

  it("reads contractions, possessives and accents as people mean them", () => {
    expect(terms("Don't visit O'Brien's café")).toEqual(["visit", "obrien", "cafe"]);
  });

  it("cuts scripts without spaces into pairs, so that a part of a sentence finds it", () => {
    const held = new Set(terms("東京で量子コンピュータの研究が始まった"));
    expect(terms("量子コンピュータ").every((term) => held.has(term))).toBe(true);
    expect(terms("Привет, мир 2026")).toEqual(["привет", "мир", "2026"]);
  });

  it("ignores what is too long to be a word", () => {
    expect(terms("a".repeat(65))).toEqual([]);
  });
});

it("cuts sentences after their end marks and at line breaks", () => {
  expect(sentences('It works. "Really?" Yes!\nNext line。次の文')).toEqual(["It works.", '"Really?"', "Yes!", "Next line。", "次の文"]);
});
