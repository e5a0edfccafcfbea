/**
 * What LevelDB makes of a log whose end is torn or full of garbage: the rule that the simulated disk follows (`powerCut(torn)` of test/sim/sim-disk.ts). A
 * record that touches a bad block is dropped whole, the rest of that block with it, and reading goes on at the next block of 32 KiB.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, readdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Level } from "level";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { openLevel } from "../../node/store/level.ts";
import { damageIn } from "../../node/store/level-log.ts";
import type { StoreError } from "../../node/store/store-error.ts";

const BLOCK_BYTES = 32 * 1024;
const BATCHES = 14;
/** Three to a block and a bit. */
const BATCH_BYTES = 10_000;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "continuum-log-"));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

async function open(): Promise<Level<string, string>> {
  const db = new Level<string, string>(directory);
  await db.open();
  return db;
}

/**
 * Batches of two rows each, all of them fsynced, in the log and nowhere else. A power cut harms only what was not; a disk that lies later harms any, and
 * LevelDB says nothing of it. @returns the log's path
 */
async function written(): Promise<string> {
  const db = await open();
  for (let batch = 0; batch < BATCHES; batch++)
    await db.batch(
      [
        { type: "put", key: `${batch}/a`, value: "v".repeat(BATCH_BYTES) },
        { type: "put", key: `${batch}/b`, value: "small" },
      ],
      { sync: true },
    );
  await db.close();
  const logs = readdirSync(directory).filter((name) => name.endsWith(".log"));
  expect(logs).toHaveLength(1);
  return join(directory, logs[0] as string);
}

/** Which batches the next process finds. @throws Error when one is there in half */
async function survivors(): Promise<number[]> {
  const db = await open();
  const keys = new Set(await db.keys().all());
  await db.close();
  return Array.from({ length: BATCHES }, (_, batch) => batch).filter((batch) => {
    if (keys.has(`${batch}/a`) !== keys.has(`${batch}/b`)) throw new Error(`batch ${batch} is there in half`);
    return keys.has(`${batch}/a`);
  });
}

const first = (batch: number): number[] => Array.from({ length: batch }, (_, at) => at);

describe("LevelDB's log", () => {
  it("keeps a prefix when its end is cut off at any byte", async () => {
    for (const share of [0, 0.1, 0.33, 0.5, 0.77, 0.999]) {
      const log = await written();
      truncateSync(log, Math.floor(readFileSync(log).byteLength * share));
      const kept = await survivors();
      expect(kept).toEqual(first(kept.length));
      expect(Math.abs(kept.length - share * BATCHES)).toBeLessThan(2);
      rmSync(directory, { recursive: true, force: true });
    }
  });

  it("loses to garbage the rest of its block, and no more: what begins in a later block is there again", async () => {
    const log = await written();
    const bytes = readFileSync(log);
    const at = BLOCK_BYTES + 1000;
    writeFileSync(log, Buffer.concat([bytes.subarray(0, at), Buffer.alloc(64, 0xa5), bytes.subarray(at + 64)]));
    const kept = await survivors();
    const firstLost = Math.floor(at / (BATCH_BYTES + 60));
    const lost = first(BATCHES).filter((batch) => !kept.includes(batch));
    expect(kept.slice(0, firstLost)).toEqual(first(firstLost));
    expect(kept).toContain(BATCHES - 1);
    expect(lost.length).toBeGreaterThanOrEqual(3);
    expect(lost.length).toBeLessThanOrEqual(5);
    expect(lost).toEqual(Array.from({ length: lost.length }, (_, i) => (lost[0] as number) + i));
  });

  it("stops at a tail of zeros, as a file system leaves it that had only grown the file", async () => {
    const log = await written();
    const bytes = readFileSync(log);
    writeFileSync(log, Buffer.concat([bytes.subarray(0, 3 * BLOCK_BYTES), Buffer.alloc(bytes.byteLength - 3 * BLOCK_BYTES)]));
    const kept = await survivors();
    expect(kept).toEqual(first(kept.length));
    expect(kept.length).toBeGreaterThan(7);
    expect(kept.length).toBeLessThan(BATCHES);
  });
});

describe("a store", () => {
  const opened = (): Promise<string> =>
    openLevel(directory).then(
      async (db) => {
        await db.close();
        return "opened";
      },
      (error: StoreError) => `${error.code}: ${error.message}`,
    );

  it("with a byte of its log changed does not open, wherever it is, as long as a record comes after it", async () => {
    const whole = await written();
    const bytes = readFileSync(whole);
    const last = bytes.byteLength - BATCH_BYTES - 60;
    for (let at = 0; at < last; at += 1 + Math.floor(last / 97)) {
      const changed = Uint8Array.from(bytes);
      changed[at]! ^= 0x10;
      // The few bytes between the last record of a block and its end are read by nobody.
      if (damageIn(changed) === undefined)
        expect(bytes.subarray(at, BLOCK_BYTES * Math.ceil(at / BLOCK_BYTES)).every((byte) => byte === 0)).toBe(true);
    }
    const changed = Uint8Array.from(bytes);
    changed[BLOCK_BYTES + 1000]! ^= 0x10;
    writeFileSync(whole, changed);
    expect(await opened()).toMatch(/^CORRUPT: .*\.log is not what was written at byte \d+, and goes on after that.*treat it as a lost disk/);
  });

  it("opens after a power cut, whatever that did to what was not synced", async () => {
    for (const share of [0, 0.1, 0.33, 0.5, 0.77, 0.999]) {
      for (const torn of ["cut", "zeroed", "garbage"]) {
        const log = await written();
        const bytes = readFileSync(log);
        const kept = Math.floor(bytes.byteLength * share);
        const rest = bytes.byteLength - kept;
        const tail = torn === "cut" ? Buffer.alloc(0) : torn === "zeroed" ? Buffer.alloc(rest) : randomBytes(Math.min(rest, BATCH_BYTES));
        writeFileSync(log, Buffer.concat([bytes.subarray(0, kept), tail]));
        expect([share, torn, await opened()]).toEqual([share, torn, "opened"]);
        rmSync(directory, { recursive: true, force: true });
      }
    }
  });
});
