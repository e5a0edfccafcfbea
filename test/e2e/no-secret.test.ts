/** A folder that belongs to a federation, and a start that forgot the secret: it must not come up as a node of its own. Real processes. */
import { randomBytes } from "node:crypto";
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { FederationStatus } from "../../node/status.ts";
import { openLevel } from "../../node/store/level.ts";
import { Store } from "../../node/store/store.ts";
import { ask } from "./ask.ts";
import { eventually, NodeProcess } from "./federation.ts";

const MINUTE = 60_000;
const SECRET = { FEDERATION_SECRET: "a secret that is forgotten once" };
let folder: string;
let port = 31_000 + (process.pid % 300) * 3;
const nodes: NodeProcess[] = [];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "continuum-no-secret-"));
});
afterAll(async () => {
  await Promise.all(nodes.map((node) => node.stop()));
  rmSync(folder, { recursive: true, force: true });
});

function nodeWith(name: string, env: Record<string, string>): NodeProcess {
  const node = new NodeProcess({ name: "node-1", port, dataDir: join(folder, name), env });
  port += 3;
  nodes.push(node);
  return node;
}
const forget = (node: NodeProcess): void => {
  for (const name of Object.keys(node.env)) if (name.startsWith("FEDERATION_")) delete node.env[name];
};
const roleOf = async (node: NodeProcess): Promise<string> => (await ask<FederationStatus>(node.url, "GET", "/v1/federation")).body.node.role;
const runs = (node: NodeProcess, role: string): Promise<true> => {
  node.start();
  return eventually(
    `it is ${role}`,
    MINUTE,
    async () => (await roleOf(node)) === role || undefined,
    () => node.logTail(),
  );
};
async function isRefused(node: NodeProcess): Promise<void> {
  node.start();
  await eventually("it has ended", MINUTE, async () => node.pid === undefined || undefined);
  const said = readFileSync(node.logFile, "utf8").split("\n").slice(-4).join("\n");
  expect(said).toMatch(/belongs to a federation.*FEDERATION_SECRET.* \[NO_SECRET\]/);
  expect(said).toContain("ended: 1");
}

test("a member's folder is not opened without a secret, and is what it was once it has one again", { timeout: 3 * MINUTE }, async () => {
  const node = nodeWith("member", { ...SECRET, FEDERATION_FIRST_MEMBERS: "node-1" });
  await runs(node, "member");
  const { body } = await ask<{ id: string }>(node.url, "POST", "/v1/memories", { body: { entity: "tide", content: "It rises." } });
  await node.stop();
  const env = { ...node.env };
  forget(node);
  await isRefused(node);
  Object.assign(node.env, env);
  await runs(node, "member");
  expect((await ask<{ content: string }>(node.url, "GET", `/v1/memories/${body.id}`)).body.content).toBe("It rises.");
  await node.stop();
});

test("nor is the folder of one that has promised others to form a federation with them", { timeout: 2 * MINUTE }, async () => {
  const node = nodeWith("forming", {});
  mkdirSync(node.dataDir, { recursive: true });
  const db = await openLevel(join(node.dataDir, "store"));
  const index = { rows: () => [], committed: () => undefined, ready: async () => undefined, dropped: () => undefined };
  const store = await Store.open(db, index, (length) => randomBytes(length));
  await store.putMeta("formation", Uint8Array.of(1));
  await store.close();
  await isRefused(node);
});

test("a single node's folder is its own, until it was given a secret", { timeout: 2 * MINUTE }, async () => {
  const node = nodeWith("single", {});
  await runs(node, "single");
  await node.stop();
  await runs(node, "single");
  await node.stop();
  Object.assign(node.env, SECRET);
  await runs(node, "member");
  await node.stop();
  forget(node);
  await isRefused(node);
});
