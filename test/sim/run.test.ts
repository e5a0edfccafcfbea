import { execFile } from "node:child_process";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it } from "vitest";
import type { Profile } from "./profile.ts";
import { runSchedule, runSeed } from "./run.ts";
import type { Schedule } from "./schedule.ts";

const MAIN = join(import.meta.dirname, "main.ts");
/** Whatever a seed draws: three nodes with enough to do, and enough that breaks. */
const busy = (profile: Profile): Profile => ({
  ...profile,
  nodeCount: 3,
  birth: undefined,
  durationMs: 8000,
  workload: { ...profile.workload, clients: 4, pauseMs: 100 },
  faults: { kinds: ["kill", "cut", "pause", "strike", "torn"], everyMs: 700, lastsMs: 400 },
});

describe("a seed", () => {
  it("gives the same run each time, to the last byte on the wire", async () => {
    const [first, second] = [await runSeed({ seed: 5, adjust: busy }), await runSeed({ seed: 5, adjust: busy })];
    expect(second).toEqual(first);
    expect(first.acknowledged).toBeGreaterThan(0);
  });

  it("gives the same run in another process", async () => {
    const here = await runSeed({ seed: 6 });
    const { stdout } = await promisify(execFile)(process.execPath, [MAIN, "--seed", "6"]);
    expect(stdout).toContain(`trace ${here.traceHash.slice(0, 16)}`);
    expect(stdout.trimEnd().split("\n").at(-1)).toBe("1 passed, 0 failed");
  }, 60_000);

  it("draws a list that gives the same run by itself, also after a journey through JSON", async () => {
    for (const seed of [15, 19, 35]) {
      const drawn = await runSeed({ seed });
      const again = await runSchedule(JSON.parse(JSON.stringify(drawn.schedule)) as Schedule);
      expect(again.traceHash).toBe(drawn.traceHash);
      expect(again.acknowledged).toBe(drawn.acknowledged);
    }
  }, 60_000);

  it("leaves everything else in its list as it is when a fault or an operation is left out", async () => {
    const { schedule } = await runSeed({ seed: 19, adjust: busy });
    const every = <T>(list: readonly T[], n: number): T[] => list.filter((_, at) => at % n !== 0);
    const part = { ...schedule, faults: every(schedule.faults, 3), operations: every(schedule.operations, 2) };
    const [first, second] = [await runSchedule(part), await runSchedule(part)];
    expect(second.traceHash).toBe(first.traceHash);
    expect(first.violations).toEqual([]);
    expect(first.acknowledged).toBeGreaterThan(0);
    expect(first.schedule).toEqual(part);
  });

  it("gives another run than the next", async () => {
    expect((await runSeed({ seed: 5 })).traceHash).not.toBe((await runSeed({ seed: 6 })).traceHash);
  });

  it("tells its story when asked", async () => {
    const { stdout } = await promisify(execFile)(process.execPath, [MAIN, "--seed", "3", "--nodes", "3", "--story"], { maxBuffer: 64 * 1024 * 1024 });
    expect(stdout).toMatch(/alice starts/);
    expect(stdout).toMatch(/layout holds/);
    expect(stdout).toMatch(/\w+ to \w+, \w+: formation: prepare/);
    expect(stdout).toMatch(/\w+'s disk has layout/);
  }, 60_000);

  it.each([1, 2, 3, 4, 5, 7])(
    "passes with %i nodes",
    async (nodeCount) => {
      for (let seed = 1; seed <= 4; seed++) expect((await runSeed({ seed, nodeCount })).violations).toEqual([]);
    },
    60_000,
  );

  it("refuses a number of nodes it has no names for", async () => {
    await expect(promisify(execFile)(process.execPath, [MAIN, "--nodes", "9"])).rejects.toMatchObject({ code: 2 });
  });
});
