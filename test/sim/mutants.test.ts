import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { mutate } from "./mutant-hunt.ts";
import { MUTANTS } from "./mutants.ts";

describe("a mutant", () => {
  it("changes exactly one place of today's source", () => {
    for (const mutant of MUTANTS) {
      const source = readFileSync(join(import.meta.dirname, "../..", mutant.file), "utf8");
      expect(mutate(source, mutant)).not.toBe(source);
    }
  });

  it("is refused when its line is not there, or there twice", () => {
    const mutant = { name: "m", file: "f", find: "a", replace: "b" };
    expect(mutate("xay", mutant)).toBe("xby");
    expect(() => mutate("xy", mutant)).toThrow("occurs 0 times");
    expect(() => mutate("aa", mutant)).toThrow("occurs 2 times");
  });
});
