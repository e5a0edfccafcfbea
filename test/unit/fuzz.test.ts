import { execFile } from "node:child_process";
import { resolve } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import { CONCEPT_TYPES, type Kind } from "../../protocol/graph/records.ts";
import { MESSAGE_NUMBERS } from "../../protocol/message.ts";
import type { BombReport } from "../fuzz/bombs.ts";
import { DECODERS, recordSamples } from "../fuzz/decoders.ts";
import { fuzz, look } from "../fuzz/fuzz.ts";
import { MESSAGES } from "../vectors/samples.ts";

/** A few seconds in all; `npm run fuzz` takes a million and more. */
const INPUTS = 400;
const SEED = 20_261_127;
/** What the largest message is allowed to become, with room for what the collector has not seen yet. */
const HEAP_MAX_MB = 80;
/** The slowest takes a tenth of it on an idle machine; what is not linear takes minutes. */
const TIME_MAX_MS = 3000;

describe("what is fuzzed", () => {
  it("is every message: one without a sample would not be", () => {
    const sampled = new Set(MESSAGES.map(({ message }) => message.type));
    expect(Object.keys(MESSAGE_NUMBERS).filter((type) => !sampled.has(type as never))).toEqual([]);
  });

  it("is every kind of record", () => {
    const kinds: Record<Kind, true> = { concept: true, link: true, turn: true, memory: true, tombstone: true, register: true };
    expect(new Set(recordSamples().map(({ kind }) => kind))).toEqual(new Set(Object.keys(kinds)));
    expect(CONCEPT_TYPES.length).toBeGreaterThan(0);
  });

  it.each(DECODERS.map((decoder) => [decoder.name, decoder] as const))("begins with what is right: %s", (_name, decoder) => {
    const tally = { read: 0, refused: new Map<string, number>() };
    for (const sample of decoder.samples) look(decoder, sample, tally);
    expect([tally.read, [...tally.refused.keys()]]).toEqual([decoder.samples.length, []]);
    for (const sample of decoder.refused ?? []) look(decoder, sample, tally);
    expect(tally.read).toBe(decoder.samples.length);
  });
});

describe("whatever bytes come from outside", () => {
  it.each(DECODERS.map((decoder) => [decoder.name, decoder] as const))(
    "%s: read, and written as they came, or refused with a code of the list, in bounded time",
    (_name, decoder) => {
      const { read, refused } = fuzz(decoder, INPUTS, SEED);
      const all = read + [...refused.values()].reduce((sum, count) => sum + count, 0);
      expect(all).toBe(INPUTS);
      if (decoder.mayThrow.length > 0) expect(refused.size).toBeGreaterThan(0);
    },
  );
});

describe("a bomb", () => {
  it("is refused before it takes memory, and the largest of what is allowed takes a bounded share of it", { timeout: 120_000 }, async () => {
    const script = resolve(import.meta.dirname, "../fuzz/bombs.ts");
    const { stdout } = await promisify(execFile)(process.execPath, ["--expose-gc", "--max-old-space-size=128", script], { maxBuffer: 1024 * 1024 });
    const lines = stdout.trimEnd().split("\n");
    const reports = lines.slice(0, -1).map((line): BombReport => JSON.parse(line));
    expect(reports.length).toBeGreaterThan(40);
    for (const { name, outcome, ms, heapMb } of reports) {
      expect(["read", "MALFORMED", "TOO_LARGE", "VERSION", "FOREIGN", "FRAME_MALFORMED"], name).toContain(outcome);
      if (/^a frame full|claim|nothing but|one head more/.test(name)) expect(outcome, name).not.toBe("read");
      if (name.startsWith("as many")) expect(outcome, name).toBe("read");
      expect(heapMb, name).toBeLessThan(HEAP_MAX_MB);
      expect(ms, name).toBeLessThan(TIME_MAX_MS);
    }
    expect((JSON.parse(lines.at(-1)!) as { peakRssMb: number }).peakRssMb).toBeLessThan(600);
  });
});
