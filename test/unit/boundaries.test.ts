import { resolve } from "node:path";
import { describe, expect, test } from "vitest";
import { blankComments, blankStrings, EXCEPTIONS, findViolations, importsOf, RULES, readSources } from "./boundaries.ts";

const sources = readSources(resolve(import.meta.dirname, "../.."));

test("no file crosses a boundary of its layer", () => {
  expect(sources.length).toBeGreaterThan(20);
  expect(findViolations(sources)).toEqual([]);
});

test("every exception is still needed and gives its reason", () => {
  const withoutExceptions = findViolations(sources, []);
  const idle = EXCEPTIONS.filter(({ path, rule }) => !withoutExceptions.some((violation) => violation.path === path && violation.rule === rule));
  expect(idle).toEqual([]);
  expect(EXCEPTIONS.filter(({ reason }) => reason.length < 20)).toEqual([]);
});

describe("a planted violation is caught:", () => {
  const planted: readonly (readonly [path: string, text: string])[] = [
    ["crypto/seal.ts", 'import { readFileSync } from "node:fs";'],
    ["crypto/seal.ts", 'import { createHash, randomBytes } from "node:crypto";'],
    ["crypto/seal.ts", 'import { Frame } from "../protocol/frame.ts";'],
    ["protocol/replica.ts", 'import { randomBytes } from "node:crypto";'],
    ["protocol/replica.ts", 'import type { System } from "../node/ports.ts";'],
    ["protocol/replica.ts", "export async function step() {}"],
    ["protocol/graph/link.ts", "const now = Date.now();"],
    ["protocol/graph/link.ts", `const age = \`\${new Date().getTime()} ms\`;`],
    ["protocol/layout.ts", "const pick = Math.random();"],
    ["protocol/barrier.ts", "setTimeout(retry, 10);"],
    ["protocol/barrier.ts", "console.log(1);"],
    ["protocol/barrier.ts", "if (process.env.X) run();"],
    ["protocol/barrier.ts", "return Promise.resolve();"],
    ["protocol/barrier.ts", 'const lazy = import("./replica.ts");'],
    ["node/http/learn.ts", 'import { open } from "../store/open.ts";'],
    ["node/http/learn.ts", 'import type { Host } from "../net/host.ts";'],
    ["node/store/open.ts", 'export { routes } from "../http/routes.ts";'],
    ["node/store/open.ts", 'import "../net/host.ts";'],
    ["node/net/host.ts", 'import { step } from "../../protocol/replica.ts";'],
    ["node/net/host.ts", 'import { decode } from "../../protocol/message.ts";'],
    ["node/net/host.ts", 'import { open } from "../store/open.ts";'],
    ["node/memory/recall.ts", 'import { open } from "../store/open.ts";'],
    ["node/memory/recall.ts", "const now = Date.now();"],
    ["node/node.ts", 'import { seed } from "../test/sim/seed.ts";'],
    ["node/node.ts", "const host = process.env.HOST;"],
    ["node/node.ts", 'import { Level } from "level";'],
    ["node/node.ts", 'import { createLibp2p } from "libp2p";'],
    ["node/node.ts", 'import fastify from "fastify";'],
    ["node/store/open.ts", "setInterval(flush, 5);"],
    ["node/store/open.ts", 'import { randomUUID } from "node:crypto";'],
    ["node/store/open.ts", 'import { setTimeout } from "node:timers/promises";'],
    ["node/net/gossip.ts", 'import { Counter } from "prom-client";'],
  ];
  test.each(planted)("%s: %s", (path, text) => {
    expect(findViolations([{ path, text }], [])).not.toEqual([]);
  });

  test("and between them they show every rule at work", () => {
    const shown = new Set(
      findViolations(
        planted.map(([path, text]) => ({ path, text })),
        [],
      ).map(({ rule }) => rule),
    );
    expect(RULES.map(({ name }) => name).filter((name) => !shown.has(name))).toEqual([]);
  });
});

describe("what is allowed stays allowed:", () => {
  test.each([
    [
      "protocol/replica.ts",
      'import { hash } from "../crypto/hash.ts";\nimport { encode } from "cborg";\nimport { sha256 } from "@noble/hashes/sha2.js";',
    ],
    ["protocol/replica.ts", "// Date.now() and await would be wrong here\n/* process.env */ export const clock = 1;"],
    ["protocol/errors.ts", 'const text = "the process must await a Promise";'],
    ["protocol/message.ts", "const of = { process: 1, async: 2 }; of.process;"],
    ["node/http/time.ts", "export const iso = (ms: number) => new Date(ms).toISOString();"],
    ["node/ports.ts", "export interface System { randomBytes(length: number): Uint8Array; }"],
    ["node/system.ts", "export const now = () => Date.now();"],
    ["node/cli/status.ts", "const url = process.env.CONTINUUM_URL; setTimeout(draw, 500);"],
    ["test/unit/any.test.ts", 'import { open } from "../../node/store/open.ts";'],
  ])("%s: %s", (path, text) => {
    expect(findViolations([{ path, text }], [])).toEqual([]);
  });
});

describe("reading the source text", () => {
  test("finds every form of import and gives relative ones as paths from the top", () => {
    const code =
      'import a, { b } from "x";\nimport "../y.ts";\nexport * from "./z.ts";\nimport type {\n  C,\n} from "../../w.ts";\nconst d = await import("node:fs");';
    expect(importsOf("node/http/learn.ts", code)).toEqual(["x", "node/y.ts", "node/http/z.ts", "w.ts", "node:fs"]);
  });

  test("takes comments out, but not what looks like one inside a string or a regular expression", () => {
    const code = `const a = "http://b"; // gone\nconst r = /["/*]/; /* gone\ntoo */ const t = \`//\${"kept"}\`;`;
    expect(blankComments(code)).toBe(code.replace("// gone", "       ").replace("/* gone", "       ").replace("too */", "      "));
  });

  test("takes strings out, but keeps the code inside a template", () => {
    expect(blankStrings(`f('a', \`b \${c(\`d \${e} \\\` }\`)} f\`, "g");`).replaceAll(/\s+/g, "")).toBe("f(,c(e),);");
  });
});
