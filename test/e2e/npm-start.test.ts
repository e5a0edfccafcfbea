/** What a newcomer types, from the outside: `npm start` in a clone, the commands it prints, Ctrl-C. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, onTestFailed, test } from "vitest";
import { ask } from "./ask.ts";
import { eventually } from "./federation.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const BASE = 30_100 + (process.pid % 100) * 10;
let folder: string;
const started: ChildProcess[] = [];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "continuum-start-"));
});
afterAll(() => {
  for (const child of started) if (child.exitCode === null) child.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

interface Run {
  readonly child: ChildProcess;
  out(): string;
  ended: Promise<number | null>;
}

test("three nodes, the printed commands, a killed node that returns, Ctrl-C, and the same memory afterwards", { timeout: 120_000 }, async () => {
  const data = join(folder, "three");
  const first = npmStart("--data", data, "--port-base", String(BASE));
  onTestFailed(() => console.error(first.out()));
  await eventually("the commands are printed", 40_000, async () => first.out().includes("API pages:") || undefined, first.out);
  expect(first.out()).toContain("layout 1 formed");
  expect(statSync(join(data, "federation-secret")).mode & 0o777).toBe(0o600);
  expect(readFileSync(join(data, "federation-secret"), "utf8").trim().length).toBeGreaterThanOrEqual(43);
  expect(JSON.parse(readFileSync(join(data, "federation.json"), "utf8"))).toEqual({ nodes: 3 });

  const [learn, recall, kill] = printedCommands(first.out());
  expect(JSON.parse(await shell(learn!))).toMatchObject({ turn_id: expect.stringMatching(/^turn_/) });
  expect(await shell(recall!)).toContain("Project Orion uses PostgreSQL 17.");
  expect(await shell(kill!)).toMatch(/Learnt [\s\S]*Alice runs the replica/);
  await eventually(
    "node-2 is missed",
    10_000,
    async () => /node-2 .*DOWN \(SIGKILL\), comes back after 20 s/.test(first.out()) || undefined,
    first.out,
  );
  await eventually("node-2 comes back", 40_000, async () => /DOWN[\s\S]*node-2 .*healthy/.test(first.out()) || undefined, first.out);
  expect(await continuum("status", "--url", `http://127.0.0.1:${BASE}`)).toMatch(/quorum 2 of 3[\s\S]*node-2 .*healthy/);

  const began = performance.now();
  first.child.kill("SIGINT");
  expect(await first.ended).toBe(0);
  expect(performance.now() - began).toBeLessThan(10_000);
  expect(readdirSync(data).sort()).toEqual(["federation-secret", "federation.json", "node-1", "node-2", "node-3"]);

  const second = npmStart("--data", data, "--port-base", String(BASE));
  await eventually("it is up again", 40_000, async () => second.out().includes("API pages:") || undefined, second.out);
  expect(await shell(recall!)).toContain("Project Orion uses PostgreSQL 17.");
  const other = await finished(npmStart("--data", data, "--port-base", String(BASE + 100)));
  expect(other.code).toBe(1);
  expect(other.out).toMatch(/^continuum: A federation already runs on .* \(process \d+\): stop it first/m);
  expect((await ask(`http://127.0.0.1:${BASE}`, "GET", "/v1/ready")).status).toBe(200);

  // Nobody can tell the nodes anything after this; they notice.
  const supervisor = Number(/process (\d+)/.exec(other.out)?.[1]);
  process.kill(supervisor, "SIGKILL");
  await second.ended;
  await eventually("its nodes end with it", 12_000, async () => ((await answers(`http://127.0.0.1:${BASE}`)) ? undefined : true));
});

test("fewer nodes than the folder has are refused, with the command that takes one out", async () => {
  const data = join(folder, "counted");
  mkdirSync(data);
  writeFileSync(join(data, "federation.json"), '{"nodes":5,"first":3}\n');
  const { code, out } = await finished(npmStart("--data", data, "--nodes", "3", "--port-base", String(BASE)));
  expect(code).toBe(1);
  expect(out).toMatch(/has 5 nodes, and fewer would leave out what node-4 to node-5 keep.*continuum layout drain node-5/);
  expect(readdirSync(data)).toEqual(["federation.json"]);
});

test("a port in use is refused before anything is started or written", async () => {
  const server = createServer();
  await new Promise<void>((done) => server.listen(BASE + 11, "127.0.0.1", () => done()));
  const data = join(folder, "busy");
  const { code, out } = await finished(npmStart("--data", data, "--port-base", String(BASE)));
  server.close();
  expect(code).toBe(1);
  expect(out).toContain(`Port ${BASE + 11} (federation of node-2) is already in use`);
  expect(readdirSync(data)).toEqual([]);
});

test("a folder that cannot be written is refused", async () => {
  const file = join(folder, "a-file");
  writeFileSync(file, "");
  const { code, out } = await finished(npmStart("--data", join(file, "data"), "--port-base", String(BASE)));
  expect(code).toBe(1);
  expect(out).toMatch(/cannot be written \(ENOTDIR\)/);
});

test("one node alone serves without a federation; --nodes 3 makes it the first of three with all it remembers", { timeout: 180_000 }, async () => {
  const data = join(folder, "one");
  const run = npmStart("--data", data, "--nodes", "1", "--port-base", String(BASE));
  onTestFailed(() => console.error(run.out()));
  await eventually("it is up", 40_000, async () => run.out().includes("API pages:") || undefined, run.out);
  const url = `http://127.0.0.1:${BASE}`;
  expect(await continuum("learn", "--url", url, "Who rows?", "Bob rows on the lake.")).toContain("Learnt");
  expect(await continuum("recall", "--url", url, "lake")).toContain("Bob rows on the lake.");
  expect(await continuum("status", "--url", url)).toContain("is a single node");
  expect(existsSync(join(data, "federation-secret"))).toBe(false);
  run.child.kill("SIGTERM");
  expect(await run.ended).toBe(0);

  const three = npmStart("--data", data, "--nodes", "3", "--port-base", String(BASE));
  onTestFailed(() => console.error(three.out()));
  await eventually("two have joined", 120_000, async () => three.out().includes("API pages:") || undefined, three.out);
  expect(three.out()).toMatch(/node-3 .*joining: layout \d+, (?:copying|taking over) \d+ of 257/);
  expect(JSON.parse(readFileSync(join(data, "federation.json"), "utf8"))).toEqual({ nodes: 3, first: 1 });
  const third = `http://127.0.0.1:${BASE + 20}`;
  expect(await continuum("recall", "--url", third, "--level", "all", "lake")).toContain("Bob rows on the lake.");
  expect(await continuum("learn", "--url", third, "--level", "all", "Who swims?", "Carol swims in the lake.")).toContain("Learnt");
  expect(await continuum("layout", "show", "--url", url)).toMatch(/node-1 .*serves[\s\S]*node-2 .*serves[\s\S]*node-3 .*serves/);
  three.child.kill("SIGTERM");
  expect(await three.ended).toBe(0);
});

function npmStart(...words: string[]): Run {
  const child = spawn("npm", ["start", "--silent", "--", ...words], { cwd: ROOT, env: plainEnv(), stdio: ["ignore", "pipe", "pipe"] });
  started.push(child);
  let out = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk) => {
      out += chunk;
    });
  }
  return { child, out: () => out, ended: new Promise((done) => child.on("close", done)) };
}

async function finished(run: Run): Promise<{ code: number | null; out: string }> {
  const code = await run.ended;
  return { code, out: run.out() };
}

/** The three lines that are indented most, as a person would paste them. */
function printedCommands(out: string): string[] {
  return [...out.matchAll(/^ {5}(\S.*)$/gm)].map((match) => match[1]!);
}

function continuum(...words: string[]): Promise<string> {
  return shell(["npm run --silent continuum --", ...words.map((word) => `'${word}'`)].join(" "));
}

function shell(line: string): Promise<string> {
  return new Promise((done) => {
    const child = spawn("sh", ["-c", line], { cwd: ROOT, env: plainEnv(), stdio: ["ignore", "pipe", "inherit"] });
    let out = "";
    child.stdout.on("data", (chunk) => {
      out += chunk;
    });
    child.on("close", () => done(out));
  });
}

/** As in a new terminal: nothing that npm or vitest set for this test. */
function plainEnv(): Record<string, string | undefined> {
  return Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(npm_|VITEST|NODE_ENV$|CONTINUUM_|FEDERATION_)/.test(name)));
}

async function answers(url: string): Promise<boolean> {
  return fetch(`${url}/v1/health`).then(
    () => true,
    () => false,
  );
}
