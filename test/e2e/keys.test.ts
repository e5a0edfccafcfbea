import { spawnSync } from "node:child_process";
import { resolve } from "node:path";
import { afterAll, beforeAll, expect, onTestFailed, test } from "vitest";
import { ask, type Problem } from "./ask.ts";
import { eventually, type Federation, startFederation } from "./federation.ts";

const ADMIN = `cm_${"a".repeat(43)}`;
let federation: Federation;
beforeAll(async () => {
  federation = await startFederation({ env: { CONTINUUM_REQUIRE_API_KEY: "true", API_KEYS: ADMIN } });
});
afterAll(() => federation?.stop());

test("a key made on one node opens its tenant on every node, and no other; revoked, it is refused everywhere within a second", async () => {
  onTestFailed(() => console.error(federation.logs()));
  const [first, second, third] = federation.urls as [string, string, string];
  const created = continuum(["keys", "create", "--for", "acme", "--name", "e2e", "--json", "--url", first]);
  const { api_key: key, id } = JSON.parse(created.out) as { api_key: string; id: string };
  const headers = { "x-api-key": key };

  for (const url of [second, third, first]) {
    const body = { user_message: `Who guards ${url}?`, ai_response: "Acme guards the archive." };
    expect((await ask(url, "POST", "/v1/learn", { headers, body })).body).toMatchObject({ tenant_id: "acme" });
  }
  expect((await ask<{ total: number }>(third, "GET", "/v1/messages", { headers })).body.total).toBe(6);
  expect((await ask<{ total: number }>(third, "GET", "/v1/messages", { headers: { "x-api-key": ADMIN } })).body.total).toBe(0);
  expect((await ask<Problem>(second, "GET", "/v1/federation", { headers })).body.code).toBe("forbidden");
  expect((await ask<Problem>(second, "GET", "/v1/stats")).body.code).toBe("unauthorized");
  expect(continuum(["keys", "list", "--url", second]).out).toMatch(new RegExp(`${id} +acme +tenant +e2e .* valid`));

  expect(continuum(["keys", "revoke", id, "--url", third]).out).toBe(`${id} is revoked.\n`);
  await eventually("it is refused everywhere", 1000, async () => {
    const answers = await Promise.all(federation.urls.map((url) => ask<Problem>(url, "GET", "/v1/stats", { headers })));
    return answers.every(({ status }) => status === 401) || undefined;
  });
});

test("without a key the command line says where one goes", () => {
  const refused = continuum(["status", "--url", federation.urls[0]!], "");
  expect(refused.code).toBe(1);
  expect(refused.err).toContain("Give a key with CONTINUUM_API_KEY or --api-key.");
});

function continuum(words: readonly string[], key = ADMIN): { code: number | null; out: string; err: string } {
  const main = resolve(import.meta.dirname, "../../node/main.ts");
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, ...words], {
    env: { PATH: process.env.PATH, CONTINUUM_API_KEY: key },
    encoding: "utf8",
  });
  return { code: status, out: stdout, err: stderr };
}
