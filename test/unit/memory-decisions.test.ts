import { describe, expect, it } from "vitest";
import { decisionsIn } from "../../node/memory/decisions.ts";

describe("decisions", () => {
  it.each([
    "I will write the migration first.",
    "I'll use Postgres for storage.",
    "We’ll then deploy it on Friday.",
    "I decided to keep the old name.",
    "I've decided that caching is off.",
    "We chose LevelDB over SQLite.",
    "My plan is to split the module.",
    "Our final decision was to wait.",
    "I am going to create a new Python module for X.",
    "We're going with two replicas.",
    "So we go with the simpler one.",
    "Decision: ship it on Monday.",
    "I plan to test it tomorrow.",
  ])("%s", (sentence) => {
    expect(decisionsIn(`Some words before. ${sentence} Some words after.`)).toEqual([sentence]);
  });

  it.each([
    "I will be happy to help.",
    "I'll admit that it is hard.",
    "Will I need a key?",
    "Should I say that I will do it?",
    "If I will have time, it gets done.",
    "You will see a prompt.",
    "The people we plan for are nice.",
    "It decided nothing.",
    "I would use Postgres.",
    "Here is code: `I will run`",
  ])("not: %s", (sentence) => {
    expect(decisionsIn(sentence)).toEqual([]);
  });

  it("reads list items, ignores code, says each once and cuts long ones", () => {
    const long = `I will ${"really ".repeat(100)}go.`;
    const found = decisionsIn(`- I will do A.\n- I will do A.\n\`\`\`\nI will not count\n\`\`\`\n${long}`);
    expect(found).toHaveLength(2);
    expect(found[0]).toBe("I will do A.");
    expect(found[1]).toHaveLength(300);
  });
});
