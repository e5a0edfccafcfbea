import { spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { takeLock } from "../../node/cli/process-lock.mjs";

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "continuum-lock-"));
  path = join(folder, "the.lock");
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const MODULE = join(import.meta.dirname, "../../node/cli/process-lock.mjs");
const takeIn = (script: string) => ["--input-type=module", "-e", `import { takeLock } from ${JSON.stringify(MODULE)};${script}`];

test("one holder at a time, and the next one after a release", () => {
  const first = takeLock(path);
  expect(first.held).toBe(true);
  expect(takeLock(path)).toEqual({ held: false, pid: process.pid });
  if (first.held) first.release();
  expect(existsSync(path)).toBe(false);
  expect(takeLock(path).held).toBe(true);
});

test("leaves nothing behind but the lock itself", () => {
  takeLock(path);
  takeLock(path);
  expect(readdirSync(folder)).toEqual(["the.lock"]);
});

test("the lock of a dead process is taken over; once released, nothing is left of either", () => {
  spawnSync(process.execPath, takeIn(`if (!takeLock(${JSON.stringify(path)}).held) process.exit(1);`));
  expect(existsSync(path)).toBe(true);
  const lock = takeLock(path);
  expect(lock.held).toBe(true);
  if (lock.held) lock.release();
  expect(readdirSync(folder)).toEqual([]);
});

test("one that looked at the dead owner before another took over cannot bury the living one", () => {
  mkdirSync(path);
  writeFileSync(join(path, "owner.json"), JSON.stringify({ token: "dead", holders: [{ pid: 2 ** 22 + 1, started: "another boot/1" }] }));
  expect(takeLock(path).held).toBe(true);
  expect(() => renameSync(path, `${path}.dead.dead`)).toThrow(/ENOTEMPTY|EEXIST/);
});

test("a process that got the dead one's number is not taken for it", () => {
  mkdirSync(path);
  writeFileSync(join(path, "owner.json"), JSON.stringify({ token: "old", holders: [{ pid: process.pid, started: "another boot/1" }] }));
  expect(takeLock(path).held).toBe(true);
});

test("a living child keeps the lock of its dead parent", () => {
  const child = spawn(process.execPath, ["-e", "setTimeout(() => {}, 30000)"], { stdio: "ignore" });
  spawnSync(process.execPath, takeIn(`takeLock(${JSON.stringify(path)}).alsoHeldBy(${child.pid});`));
  expect(takeLock(path)).toEqual({ held: false, pid: child.pid });
  child.kill("SIGKILL");
  return new Promise<void>((done) => {
    child.on("exit", () => {
      expect(takeLock(path).held).toBe(true);
      done();
    });
  });
});

test("of twelve processes that find a dead holder exactly one wins", async () => {
  spawnSync(process.execPath, takeIn(`takeLock(${JSON.stringify(path)});`));
  const script = `process.stdout.write(takeLock(${JSON.stringify(path)}).held ? "held" : "waits"); setTimeout(() => {}, 1500);`;
  const said = await Promise.all(
    Array.from(
      { length: 12 },
      () =>
        new Promise<string>((done) => {
          const child = spawn(process.execPath, takeIn(script), { stdio: ["ignore", "pipe", "inherit"] });
          child.stdout.once("data", (chunk) => done(String(chunk)));
        }),
    ),
  );
  expect(said.filter((word) => word === "held").length).toBe(1);
  expect(said.length).toBe(12);
});

test("says why it cannot be written", () => {
  const file = join(folder, "a-file");
  writeFileSync(file, "");
  expect(() => takeLock(join(file, "the.lock"))).toThrow(/ENOTDIR/);
});
