import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

const MAIN = resolve(import.meta.dirname, "../../node/main.ts");
let folder: string;
let refusing: Server;
let answer: { status: number; body: string };
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "continuum-cli-"));
  // What the command line must turn into words and codes; the answers themselves are tested where they are made.
  refusing = createServer((request, response) => {
    request.resume();
    response.writeHead(answer.status, { "content-type": "application/problem+json" }).end(answer.body);
  });
  await new Promise<void>((done) => refusing.listen(0, "127.0.0.1", () => done()));
});
afterAll(() => {
  refusing.close();
  rmSync(folder, { recursive: true, force: true });
});

const COMMANDS = [
  "serve",
  "federation",
  "status",
  "learn",
  "recall",
  "keys",
  "keys create",
  "keys list",
  "keys revoke",
  "version",
  "layout",
  "layout show",
  "layout history",
  "layout add",
  "layout preview drain",
  "layout apply rf",
  "layout recover",
];

test("--help of every command explains it and exits 0", { timeout: 60_000 }, async () => {
  const helps = await Promise.all(["", ...COMMANDS].map((command) => continuum([...command.split(" ").filter(Boolean), "--help"])));
  expect(helps.map(({ code }) => code)).toEqual(helps.map(() => 0));
  expect(helps.map(({ out }) => out.split("\n")[0]?.startsWith("Usage: continuum"))).toEqual(helps.map(() => true));
});

test("every setting that does something is an option of serve, a secret only as a file", async () => {
  const { out } = await continuum(["serve", "--help"]);
  for (const name of ["--api-port", "--data-dir", "--federation-first-members", "--federation-secret-file", "--api-keys-file"])
    expect(out).toContain(name);
  expect(out).not.toMatch(/--federation-secret\b(?!-file)/);
});

describe("a wrong command line exits 2 with a sentence:", () => {
  test.each([
    ["no command", [], "Usage: continuum"],
    ["an unknown command", ["remember"], "unknown command 'remember'"],
    ["an unknown option", ["status", "--colour"], "unknown option '--colour'"],
    ["a missing argument", ["learn", "said"], "missing required argument 'answered'"],
    ["an unknown level", ["recall", "bees", "--level", "two"], "Allowed choices are one, quorum, all"],
    ["a number that is none", ["recall", "bees", "--max-concepts", "many"], "whole number"],
    ["a weight that is none", ["layout", "weight", "bob", "heavy"], "whole number from 1"],
    ["no nodes", ["federation", "--nodes", "0"], "whole number from 1"],
    ["an address that is none", ["status", "--url", "node-1"], "--url must look like"],
    ["a setting that is none", ["serve", "--api-port", "high"], 'api-port (the command line) must be a whole number, not "high"'],
  ])("%s", async (_, words, sentence) => {
    const { code, err } = await continuum(words);
    expect(code).toBe(2);
    expect(err).toContain(sentence);
    expect(err).not.toMatch(/\bat .*:\d+/);
  });
});

describe("what a node answers becomes an exit code:", () => {
  test("nobody listens: 3, and how to start one", async () => {
    const closed = `http://127.0.0.1:${await closedPort()}`;
    const { code, err } = await continuum(["status", "--url", closed]);
    expect(code).toBe(3);
    expect(err).toBe(`continuum: No node listens at ${closed}. Start one with \`npm start\`, or name another with --url or CONTINUUM_URL.\n`);
  });

  test("503: 3, with the node's own sentence", async () => {
    const { code, err } = await against(503, { code: "no_quorum", detail: "Two of three members are down." }, ["learn", "a", "b"]);
    expect(code).toBe(3);
    expect(err).toBe("continuum: Two of three members are down.\n");
  });

  test("401: 1, and where a key goes", async () => {
    const { code, err } = await against(401, { code: "unauthorized", detail: "This API key is not known." }, ["status"]);
    expect(code).toBe(1);
    expect(err).toContain("CONTINUUM_API_KEY");
  });

  test("422: 1, with each field's fault", async () => {
    const body = {
      code: "validation_failed",
      detail: "The body is not valid.",
      errors: [{ loc: ["body", "message"], msg: "too long", type: "maxLength" }],
    };
    const { code, err } = await against(422, body, ["recall", "x"]);
    expect(code).toBe(1);
    expect(err).toContain("(body.message: too long)");
  });

  test("something that is no node: 1", async () => {
    const { code, err } = await against(200, "<html>", ["status"]);
    expect(code).toBe(1);
    expect(err).toContain("is it a CONTINUUM node?");
  });

  test("--json says the same for machines, on standard error", async () => {
    const { code, out, err } = await against(503, { code: "in_doubt", detail: "Written somewhere." }, ["learn", "a", "b", "--json"]);
    expect([code, out]).toEqual([3, ""]);
    expect(JSON.parse(err)).toEqual({ error: { code: "in_doubt", detail: "Written somewhere." } });
  });
});

test("version --json is one line of JSON", async () => {
  const { code, out } = await continuum(["version", "--json"]);
  expect(code).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ version: expect.stringMatching(/^\d+\.\d+\.\d+/), protocol_version: expect.any(Number) });
  expect(out.trim().split("\n").length).toBe(1);
});

async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", () => done()));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

function against(status: number, body: unknown, words: string[]) {
  answer = { status, body: typeof body === "string" ? body : JSON.stringify(body) };
  return continuum([...words, "--url", `http://127.0.0.1:${(refusing.address() as AddressInfo).port}`]);
}

function continuum(words: readonly string[]): Promise<{ code: number | null; out: string; err: string }> {
  return new Promise((done) => {
    const child = spawn(process.execPath, [MAIN, ...words], { cwd: folder, env: { PATH: process.env.PATH }, stdio: ["ignore", "pipe", "pipe"] });
    let out = "";
    let err = "";
    child.stdout.on("data", (chunk) => {
      out += chunk;
    });
    child.stderr.on("data", (chunk) => {
      err += chunk;
    });
    child.on("close", (code) => done({ code, out, err }));
  });
}
