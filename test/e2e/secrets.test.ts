import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { afterEach, expect, onTestFailed, test } from "vitest";
import { NODE_FLAGS } from "../../node/cli/node-flags.ts";
import type { Revoked } from "../../node/secret-admin.ts";
import type { RotationStep, SecretsView } from "../../node/secret-rotation.ts";
import type { FederationStatus } from "../../node/status.ts";
import { ask } from "./ask.ts";
import { atRest } from "./at-rest.ts";
import { eventually, type Federation, type NodeProcess, pause, startFederation } from "./federation.ts";
import { markersAt, startWriters } from "./writers.ts";

const MAIN = resolve(import.meta.dirname, "../../node/main.ts");
/** Nodes are started many times here, also where the machine is busy with other things. */
const PATIENCE_MS = 120_000;
let federation: Federation;
const folders: string[] = [];
afterEach(async () => {
  await federation?.stop();
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

async function started(): Promise<Federation> {
  const begun = await startFederation({ unready: true });
  await begun.ready(PATIENCE_MS).catch(async (error) => {
    await begun.stop();
    throw error;
  });
  return begun;
}

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}
function continuum(...words: string[]): Promise<Ran> {
  return new Promise((done) => {
    execFile(process.execPath, [...NODE_FLAGS, MAIN, ...words], { env: { PATH: process.env.PATH }, timeout: 60_000 }, (error, out, err) =>
      done({ code: error === null ? 0 : Number(error.code), out, err }),
    );
  });
}
const rotate = async (...words: string[]): Promise<RotationStep & { readonly exit: number }> => {
  const { code, out, err } = await continuum("secret", "rotate", "--json", "--url", federation.urls[0]!, ...words);
  if (out === "") throw new Error(err);
  return { ...(JSON.parse(out) as RotationStep), exit: code };
};
const nodesOf = (): NodeProcess[] => federation.nodes as NodeProcess[];
/** Wall clock of the last line of a node's log with this message about this peer. */
function lastLine(node: NodeProcess, message: string, peer: string): number | undefined {
  const line = readFileSync(node.logFile, "utf8")
    .split("\n")
    .findLast((one) => one.includes(`"message":"${message}"`) && one.includes(peer));
  return line === undefined ? undefined : Date.parse((JSON.parse(line) as { timestamp: string }).timestamp);
}
const named = (name: string): NodeProcess => nodesOf().find((node) => node.name === name) as NodeProcess;
async function restart(node: NodeProcess, secrets: readonly string[]): Promise<void> {
  node.env.FEDERATION_SECRET = secrets.join(",");
  await node.stop();
  node.start();
  await federation.ready(PATIENCE_MS);
}
const statusOf = async (url: string): Promise<FederationStatus> => (await ask<FederationStatus>(url, "GET", "/v1/federation")).body;
const secretsAt = async (url: string): Promise<SecretsView> => (await ask<SecretsView>(url, "GET", "/v1/federation/secrets")).body;

test("three nodes under load replace their secret by the steps that `secret rotate` says; what a witness keeps for one that is down is sealed again", {
  timeout: 600_000,
}, async () => {
  federation = await started();
  onTestFailed(() => console.error(federation.logs()));
  const old = federation.secret;
  const folder = mkdtempSync(join(tmpdir(), "continuum-secret-"));
  folders.push(folder);
  const file = join(folder, "new");
  expect((await continuum("secret", "new", "--out", file)).code).toBe(0);
  expect(statSync(file).mode & 0o777).toBe(0o600);
  const fresh = readFileSync(file, "utf8").trim();
  expect((await continuum("secret", "new", "--out", file)).err).toContain("exists already");
  expect(readFileSync(file, "utf8").trim()).toBe(fresh);

  const writers = startWriters(federation.urls, 8, "rotate");
  expect(await rotate()).toMatchObject({ step: "none", exit: 0 });
  await restart(nodesOf()[0]!, [old, fresh]);
  expect(await rotate()).toMatchObject({ step: "add", exit: 0, lagging: [{ name: "node-2" }, { name: "node-3" }] });
  for (const node of nodesOf().slice(1)) await restart(node, [old, fresh]);
  expect((await rotate()).lagging.map(({ name }) => name)).toEqual(["node-1", "node-2", "node-3"]);

  // While one is down the others keep for it, as witnesses, what they write: under the old secret, which then stops being the first.
  const away = nodesOf()[2]!;
  await away.stop();
  const kept = async () => {
    const views = await Promise.all(
      nodesOf()
        .slice(0, 2)
        .map(({ url }) => statusOf(url)),
    );
    return views.reduce((sum, { witness }) => sum + witness.held_deltas, 0);
  };
  await eventually("witnesses keep deltas for the one that is down", PATIENCE_MS, async () => (await kept()) > 40 || undefined);
  for (const node of nodesOf().slice(0, 2)) {
    node.env.FEDERATION_SECRET = `${fresh},${old}`;
    await node.stop();
    node.start();
    await eventually("it is back", PATIENCE_MS, async () => (await ask(node.url, "GET", "/v1/ready")).status === 200 || undefined);
  }
  const [freshId, oldId] = (await secretsAt(federation.urls[0]!)).nodes[0]!.secret_ids as [string, string];
  const isDone = async () => {
    const { nodes } = await secretsAt(federation.urls[0]!);
    return nodes.filter(({ connected }) => connected).every(({ sealed_under_others: others }) => Object.keys(others).length === 0) || undefined;
  };
  await eventually("what is kept is under the new secret", PATIENCE_MS, isDone);
  expect(await kept()).toBeGreaterThan(40);
  const metrics = await (await fetch(`${federation.urls[0]}/metrics`)).text();
  expect(metrics).not.toContain(`witness_sealed_under_deltas{secret="${oldId}"}`);
  // A member that is away may keep something too: not yet.
  const not = await rotate();
  expect(not).toMatchObject({ step: "wait", exit: 3, old: oldId, new: freshId, lagging: [{ name: "node-3" }] });

  away.env.FEDERATION_SECRET = `${fresh},${old}`;
  away.start();
  await federation.ready(PATIENCE_MS);
  const drop = await rotate("--wait");
  expect(drop).toMatchObject({ step: "drop", exit: 0, old: oldId, lagging: [{ name: "node-1" }, { name: "node-2" }, { name: "node-3" }] });
  for (const node of nodesOf()) await restart(node, [fresh]);
  expect(await rotate()).toMatchObject({ step: "none", lagging: [] });

  await writers.stop();
  await atRest(federation, PATIENCE_MS);
  for (const tenant of new Set(writers.acknowledged.map((one) => one.tenant))) {
    const found = await markersAt(federation.urls[1]!, tenant);
    expect(writers.acknowledged.filter((one) => one.tenant === tenant && !found.has(one.marker))).toEqual([]);
  }
  // No member ever refused another, and no secret was written anywhere.
  for (const node of nodesOf()) {
    const log = readFileSync(node.logFile, "utf8");
    expect(log).not.toMatch(/refused a node|a node refused us|does not open/);
    expect([log.includes(old), log.includes(fresh)]).toEqual([false, false]);
  }
  expect(JSON.stringify(await secretsAt(federation.urls[0]!))).not.toMatch(new RegExp(`${old}|${fresh}`));
});

test("a revoked node is cut off within a second, stays out after a restart of everybody, and cannot come back as another with the old secret", {
  timeout: 600_000,
}, async () => {
  federation = await started();
  onTestFailed(() => console.error(federation.logs()));
  const old = federation.secret;
  const [one, two, mallory] = nodesOf() as [NodeProcess, NodeProcess, NodeProcess];
  const rest = [one, two];
  const malloryId = (await statusOf(mallory.url)).node.id;
  const connected = async (node: NodeProcess): Promise<string[]> =>
    (await statusOf(node.url)).peers.filter((peer) => peer.connected).map(({ name }) => name);

  const refused = await continuum("node", "revoke", "node-3", "--url", one.url);
  expect([refused.code, refused.err]).toEqual([2, expect.stringContaining("--yes")]);
  expect(await connected(one)).toContain("node-3");

  const revoked = await ask<Revoked>(one.url, "DELETE", "/v1/federation/peers/node-3");
  const told = Date.now();
  expect(revoked.status).toBe(200);
  expect(revoked.body).toMatchObject({ revoked: { node: malloryId, complete: false }, not_removed: null });
  for (const node of rest) {
    const gone = await eventually("it has been cut off", PATIENCE_MS, async () => lastLine(node, "peer gone", malloryId));
    expect(gone - told).toBeLessThan(1000);
  }
  await eventually("it is out of the layout", PATIENCE_MS, async () => {
    const { layout } = await statusOf(two.url);
    return (layout?.phase === "done" && layout.members.length === 2) || undefined;
  });
  const body = { user_message: "Who is out?", ai_response: "Mallory is out of the lighthouse." };
  await eventually(
    "two go on",
    20_000,
    async () => (await ask(two.url, "POST", "/v1/learn?consistency=quorum", { body })).status === 200 || undefined,
  );

  // Everybody starts again; it knocks, and is not heard.
  for (const node of nodesOf()) await node.stop();
  for (const node of nodesOf()) node.start();
  const ready = async (nodes: readonly NodeProcess[]) => {
    for (const node of nodes)
      await eventually(`${node.name} is ready`, PATIENCE_MS, async () => (await ask(node.url, "GET", "/v1/ready")).status === 200 || undefined);
  };
  await ready(rest);
  await eventually(
    "it has been refused",
    20_000,
    async () => readFileSync(mallory.logFile, "utf8").includes("our identity has been revoked") || undefined,
  );
  await pause(1500);
  expect(await connected(mallory)).toEqual([]);
  for (const node of rest) expect(await connected(node)).not.toContain("node-3");
  // It is not dialled and refused for ever, line after line.
  expect(readFileSync(one.logFile, "utf8").match(/identity has been revoked/g)?.length ?? 0).toBeLessThan(4);

  // With the old secret and another identity it would be let in: so the secret must go.
  expect((await secretsAt(one.url)).revoked).toMatchObject([{ node: malloryId, complete: false }]);
  expect((await continuum("secret", "status", "--url", one.url)).out).toContain("continuum secret rotate");
  const fresh = `fresh-${old}`;
  const restartBoth = async (...secrets: string[]) => {
    for (const node of rest) {
      node.env.FEDERATION_SECRET = secrets.join(",");
      await node.stop();
      node.start();
      await ready(rest);
    }
  };
  await restartBoth(old, fresh);
  expect(await rotate()).toMatchObject({ step: "first", lagging: [{ name: "node-1" }, { name: "node-2" }] });
  await restartBoth(fresh, old);
  const stranger = await federation.add("stranger", { FEDERATION_SECRET: old, FEDERATION_PEERS: `127.0.0.1:${one.federationPort}` });
  await eventually("it is told why", PATIENCE_MS, async () => readFileSync(stranger.logFile, "utf8").includes("old_secret") || undefined);
  expect(await connected(one)).not.toContain("stranger");
  expect(await rotate("--wait")).toMatchObject({ step: "drop" });
  await restartBoth(fresh);
  expect((await secretsAt(one.url)).revoked).toMatchObject([{ node: malloryId, complete: true }]);
  expect(await connected(one)).toEqual(["node-2"]);
  expect((await statusOf(stranger.url)).layout).toBeNull();
  expect(named("node-3").pid).toBeDefined();
});

test("the folder of npm start takes each step in its file, and never without need", { timeout: 600_000 }, async () => {
  federation = await started();
  onTestFailed(() => console.error(federation.logs()));
  const folder = mkdtempSync(join(tmpdir(), "continuum-secret-"));
  folders.push(folder);
  const file = join(folder, "federation-secret");
  writeFileSync(file, `${federation.secret}\n`, { mode: 0o600 });
  const secrets = (): string[] => readFileSync(file, "utf8").trim().split(",");
  const step = async () => (await continuum("secret", "rotate", "--data", folder, "--url", federation.urls[0]!)).out;
  const restartAll = async (): Promise<void> => {
    for (const node of nodesOf()) await node.stop();
    for (const node of nodesOf()) {
      node.env.FEDERATION_SECRET = secrets().join(",");
      node.start();
    }
    await federation.ready(PATIENCE_MS);
  };
  await step();
  const [old, fresh] = secrets() as [string, string];
  expect([old, statSync(file).mode & 0o777]).toEqual([federation.secret, 0o600]);
  expect(await step()).toContain("says it already");
  expect(secrets()).toEqual([old, fresh]);
  await restartAll();
  await step();
  expect(secrets()).toEqual([fresh, old]);
  await restartAll();
  await eventually("nothing is under the old one", PATIENCE_MS, async () => {
    await step();
    return secrets().length === 1 || undefined;
  });
  expect(secrets()).toEqual([fresh]);
  await restartAll();
  expect(await rotate()).toMatchObject({ step: "none" });
});
