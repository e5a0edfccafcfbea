import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { extract } from "../../node/memory/extract.ts";
import { DEFAULT_SETTINGS } from "../../node/memory/settings.ts";

const names = (text: string): string[] => extract(text, DEFAULT_SETTINGS).map((concept) => concept.name);
const types = (text: string): Record<string, string> => Object.fromEntries(extract(text, DEFAULT_SETTINGS).map(({ name, type }) => [name, type]));

describe("what becomes a concept", () => {
  it.each([
    ["We met Alain Aspect at the University of the West of England.", ["Alain Aspect", "University of the West of England"]],
    ["It was George T. Solomon who wrote it.", ["George T Solomon"]],
    ["They moved from GPT-4 over HTTP/2 to utf-8 and AT&T.", ["GPT-4", "HTTP/2", "utf-8", "AT&T"]],
    ["see MyClass, snake_case_name and iPhone", ["MyClass", "snake_case_name", "iPhone"]],
    ["The mission was run by NASA with Apollo 11.", ["NASA", "Apollo 11"]],
    ["Kubernetes restarts pods.", ["Kubernetes"]],
    ['We call it "event sourcing" here.', ["event sourcing"]],
    ["The message queue is slow, so we drop the message queue.", ["message queue"]],
    ["Vincent van Gogh and Leonardo da Vinci painted.", ["Vincent van Gogh", "Leonardo da Vinci"]],
  ])("%s", (text, expected) => {
    expect(names(text).sort()).toEqual([...expected].sort());
  });

  it.each([
    ["東京で量子コンピュータの研究が始まった。", "コンピュータ"],
    ["我们在北京研究人工智能。", "北京"],
    ["Столица России — Москва.", "Москва"],
    ["توجد مكتبة الإسكندرية في مصر", "الإسكندرية"],
    ["서울에서 인공지능을 배웁니다", "인공지능"],
    ["Η Αθήνα είναι πόλη όπου έζησε ο Σωκράτης", "Σωκράτης"],
  ])("in any script: %s", (text, expected) => {
    expect(names(text)).toContain(expected);
  });

  it("says what kind of thing it is where the text says so", () => {
    expect(types("Dr. Jane Smith said hello. Project Falcon uses GPT-4 and the Fastify framework.")).toEqual({
      "Jane Smith": "person",
      "Project Falcon": "project",
      "GPT-4": "tool",
      Fastify: "tool",
    });
  });
});

describe("what does not", () => {
  it.each([
    [
      "the first word of a sentence",
      "Creating a module. However, it works. Does it? Yes. Running tests helps. Implementation follows. Rotate the keys.",
    ],
    ["pronouns and contractions", "I think I'm right. It's what I'd do."],
    ["days and months", "We meet on Monday or in January, maybe in May 2024."],
    ["fenced code", "look:\n```ts\nclass FooBar extends BazQux {}\n```\nand go on"],
    ["inline code", "call `FooBar.create()` now"],
    ["URLs", "see https://Example.com/FooBar_Baz?Qux=1 and www.FooBar.com"],
    ["HTML", "some <DivElement class='FooBar'>text</DivElement> here"],
    ["headings", "# The Big Heading\n\nplain words only\n\nAnother Heading\n======\nsome simple text"],
    ["table rules and list signs", "| --- | --- |\n- item one\n* item two"],
    ["numbers and units", "It took 1990s, 10km, 3rd, 4GB and 2.5 s."],
    ["shouting", "PLEASE READ THIS VERY CAREFULLY NOW"],
    ["too short names", "Al met Bo"],
  ])("%s", (_what, text) => {
    expect(names(text)).toEqual([]);
  });

  it("strips a question's verb from a name", () => {
    expect(names("Does Alain Aspect know it?")).toEqual(["Alain Aspect"]);
  });

  it("does not take a word for a name that the text also writes in lower case", () => {
    expect(names("Pods die. When old pods fail, others start.")).toEqual([]);
  });

  it("keeps names apart at punctuation and possessives", () => {
    expect(names("I like Paris, London and Alice's Kubernetes").sort()).toEqual(["Alice", "Kubernetes", "London", "Paris"]);
  });
});

describe("bounds", () => {
  it("keeps the 20 most salient of many, the entity first", () => {
    const text = `${Array.from({ length: 40 }, (_, i) => `Name${String.fromCharCode(65 + (i % 26))}x${i}`).join(", ")}. Often Repeated, Often Repeated, Often Repeated.`;
    const found = extract(text, DEFAULT_SETTINGS, "The Entity");
    expect(found).toHaveLength(20);
    expect(found.slice(0, 2).map((concept) => concept.name)).toEqual(["The Entity", "Often Repeated"]);
  });

  it("refuses names longer than the maximum", () => {
    expect(names(`see ${"Abc".repeat(40)} now`)).toEqual([]);
  });

  it("gives well-formed concepts for any text, each once", () => {
    fc.assert(
      fc.property(fc.string({ unit: "grapheme", maxLength: 300 }), (text) => {
        const found = extract(text, DEFAULT_SETTINGS);
        expect(new Set(found.map((concept) => concept.id)).size).toBe(found.length);
        for (const { id, salience } of found) {
          expect(id).not.toMatch(/[\x00-\x1f]/);
          expect(Number.isFinite(salience)).toBe(true);
        }
      }),
      { numRuns: 200 },
    );
  });

  it("takes time in proportion to the text, whatever it is made of", () => {
    for (const piece of ["((((", "[[[[", "`", "<a", "**_", "Aa ", "A.", "\n#", "a'b'", "「", "|-"]) {
      const startedAt = performance.now();
      names(piece.repeat(20_000 / piece.length));
      expect(performance.now() - startedAt, piece).toBeLessThan(2_000);
    }
  });
});
