/** A machine whose whole folder is gone, the identity with the disk: another node comes under a member's name. Real processes, and the commands a person types. */
import { execFile } from "node:child_process";
import { readFileSync, rmSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, beforeAll, expect, onTestFailed, test } from "vitest";
import type { FederationStatus, LayoutPlan } from "../../node/status.ts";
import { ask, type Problem } from "./ask.ts";
import { atRest } from "./at-rest.ts";
import { eventually, type Federation, type FederationNode, type NodeProcess, startFederation } from "./federation.ts";
import { markersAt, startWriters, type Writers } from "./writers.ts";

const MAIN = resolve(import.meta.dirname, "../../node/main.ts");
const MINUTE = 60_000;
let federation: Federation;
beforeAll(async () => {
  federation = await startFederation({ unready: true });
  await federation.ready(2 * MINUTE);
}, 3 * MINUTE);
afterAll(() => federation?.stop());

function layout(node: FederationNode, ...words: string[]): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  return new Promise((done) => {
    execFile(process.execPath, [MAIN, "layout", ...words, "--url", node.url], { encoding: "utf8", timeout: 2 * MINUTE }, (error, out, err) =>
      done({ code: error === null ? 0 : Number(error.code ?? -1), out, err }),
    );
  });
}
const statusOf = async ({ url }: FederationNode): Promise<FederationStatus> => (await ask<FederationStatus>(url, "GET", "/v1/federation")).body;
const listedAs = async (node: FederationNode, name: string): Promise<string | undefined> =>
  (await statusOf(node)).layout?.members.find((member) => member.name === name)?.id;
const logOf = ({ logFile }: FederationNode): string => readFileSync(logFile, "utf8");

/** Folder and identity are gone; the same machine starts again, as a new node. */
async function replaceMachine(node: FederationNode): Promise<void> {
  await node.kill("SIGKILL");
  rmSync(node.dataDir, { recursive: true });
  node.start();
}

async function nothingIsLost(writers: Writers): Promise<void> {
  await atRest(federation, MINUTE);
  for (const tenant of new Set(writers.acknowledged.map((one) => one.tenant))) {
    const expected = writers.acknowledged.filter((one) => one.tenant === tenant).map(({ marker }) => marker);
    for (const { url } of federation.nodes) {
      const found = await markersAt(url, tenant);
      expect(expected.filter((marker) => !found.has(marker))).toEqual([]);
    }
  }
}

const counts = (node: FederationNode, ms: number): Promise<true> =>
  eventually("it is a member and counts", ms, async () => {
    const { node: self } = await statusOf(node);
    return (self.role === "member" && self.standing === "counting") || undefined;
  });

test("it forwards until an operator says at one member that the other is lost; then it takes its place, and counts when it has taken back what the others hold", {
  timeout: 5 * MINUTE,
}, async () => {
  onTestFailed(() => console.error(federation.logs()));
  const [first, second, third] = federation.nodes as [FederationNode, FederationNode, FederationNode];
  const writers = startWriters([first.url, second.url], 3, "identity");
  await eventually("learning goes on", MINUTE, async () => writers.acknowledged.length > 30 || undefined);
  const lost = await listedAs(first, "node-3");
  await replaceMachine(third);
  await eventually("it says what to do", MINUTE, async () => logOf(third).includes("continuum layout add node-3") || undefined);
  expect((await statusOf(third)).node).toMatchObject({ role: "gateway", standing: "unlisted" });
  expect(await listedAs(first, "node-3")).toBe(lost);

  const preview = await layout(second, "preview", "add", "node-3", "--json");
  const { plan } = JSON.parse(preview.out) as { plan: LayoutPlan };
  expect([preview.code, plan.changes_nothing, plan.partitions_moved, plan.members], preview.err).toEqual([
    0,
    false,
    0,
    ["node-1", "node-2", "node-3"],
  ]);
  expect(plan.warnings.join(" ")).toContain("What only node-3 held is lost");
  expect(await listedAs(first, "node-3")).toBe(lost);
  const added = await layout(second, "add", "node-3", "--yes");
  expect([added.code, added.out], added.err).toEqual([0, expect.stringMatching(/whose disk and identity are lost[\s\S]*Done: it counts as soon as/)]);
  await counts(third, 2 * MINUTE);
  expect(await listedAs(first, "node-3")).toBe((await statusOf(third)).node.id);
  const history = (await layout(first, "history")).out.split("\n");
  expect(history.join("\n")).toContain("node-3 listed again after its disk and its identity were lost");
  for (const row of history.slice(1)) if (row !== "") expect(row).toMatch(/^\d+ +done +\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z /);
  await writers.stop();
  await nothingIsLost(writers);
});

test("two living nodes under one name: the member stays, the other is refused, and no operator can make one of them the other", {
  timeout: 4 * MINUTE,
}, async () => {
  onTestFailed(() => console.error(federation.logs()));
  const [first, second] = federation.nodes as [FederationNode, FederationNode];
  const member = await listedAs(first, "node-2");
  const twin = await federation.add("twin", {
    NODE_NAME: "node-2",
    FEDERATION_SECRET: federation.secret,
    FEDERATION_PEERS: `127.0.0.1:${first.federationPort}`,
    KUBERNETES_SERVICE_HOST: "10.0.0.1",
    HOSTNAME: "node-2",
  });
  await eventually("it is refused", MINUTE, async () => /NAME_TAKEN/.test(logOf(twin)) || undefined);
  const { node } = await statusOf(twin);
  for (const words of [
    ["add", node.id],
    ["replace", "node-2", node.id],
  ]) {
    const { code, err } = await layout(first, ...words, "--yes");
    expect([code, err]).toEqual([1, expect.stringContaining("both live")]);
  }
  // Also of the one that lives itself.
  const body = { op: "add", node: node.id };
  expect((await ask<Problem>(second.url, "POST", "/v1/federation/layout", { body })).status).toBe(409);
  expect(await listedAs(first, "node-2")).toBe(member);
  expect((await statusOf(twin)).node.role).toBe("gateway");
  await twin.stop();
});

test("in a StatefulSet it takes the place by itself once the other has stayed away", { timeout: 5 * MINUTE }, async () => {
  onTestFailed(() => console.error(federation.logs()));
  const [first, second, third] = federation.nodes as [FederationNode, FederationNode, FederationNode];
  Object.assign((third as NodeProcess).env, { KUBERNETES_SERVICE_HOST: "10.0.0.1", HOSTNAME: "node-3" });
  const writers = startWriters([first.url, second.url], 2, "set");
  const lost = await listedAs(first, "node-3");
  await eventually("learning goes on", MINUTE, async () => writers.acknowledged.length > 20 || undefined);
  await replaceMachine(third);
  await counts(third, 3 * MINUTE);
  expect(await listedAs(second, "node-3")).not.toBe(lost);
  await writers.stop();
  await nothingIsLost(writers);
});
