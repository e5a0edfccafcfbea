import { describe, expect, test } from "vitest";
import { loadPayload, Payload, TEXT_CHARS } from "../bench/payload.ts";

describe("the text of the bench", () => {
  const payload = loadPayload(undefined);

  test("is 200 characters each time and never the same twice, for more requests than a bench sends", () => {
    const seen = new Set<string>();
    for (let n = 0; n < 300_000; n++) {
      const text = payload.text(n);
      if (text.length !== TEXT_CHARS) expect.fail(`text ${n} has ${text.length} characters`);
      seen.add(text);
    }
    expect(seen.size).toBe(300_000);
    expect(payload.size).toBeGreaterThan(300_000);
  });

  test("is the same in every process, so that a question finds the memory it was cut from", () => {
    expect(loadPayload(undefined).text(1234)).toBe(payload.text(1234));
    expect(payload.text(1234).startsWith(payload.question(1234))).toBe(true);
  });

  test("goes on with the sentences that follow where two are too short", () => {
    const short = new Payload(["One small step.", "Another small step.", "The last of three."].map((text) => ({ title: "Steps", text })));
    expect(short.text(0)).toHaveLength(TEXT_CHARS);
    expect(short.text(0)).not.toBe(short.text(3));
  });
});
