import { readFileSync } from "node:fs";
import { afterAll, beforeAll, expect, onTestFailed, test } from "vitest";
import type { FederationStatus } from "../../node/status.ts";
import { ask } from "./ask.ts";
import { eventually, type Federation, type FederationNode, pause, startFederation } from "./federation.ts";

let federation: Federation;
beforeAll(async () => {
  federation = await startFederation();
});
afterAll(() => federation?.stop());

const WRONG = "not-the-secret-of-this-federation";
const everyPeer = () => federation.nodes.map(({ federationPort }) => `127.0.0.1:${federationPort}`).join(",");

test("a node with a wrong secret is refused within a second on both sides, with one line that says what to check, and sees nothing", async () => {
  onTestFailed(() => console.error(federation.logs()));
  await ask(federation.urls[0]!, "POST", "/v1/learn?consistency=all", {
    body: { user_message: "Where is the key?", ai_response: "The key lies under the amphora." },
  });
  const mallory = await federation.add("mallory", {
    FEDERATION_SECRET: WRONG,
    FEDERATION_PEERS: everyPeer(),
    FEDERATION_FIRST_MEMBERS: "mallory,node-1,node-2",
  });
  await eventually("mallory listens", 15_000, async () => ((await ask(mallory.url, "GET", "/v1/health")).status === 200 ? true : undefined));
  const listening = performance.now();
  const sides = [mallory, federation.nodes[0]!];
  await eventually(
    "both sides say why",
    5000,
    async () => sides.every((node) => refusalsIn(node).length > 0) || undefined,
    () => federation.logs(),
  );
  expect(performance.now() - listening).toBeLessThan(1500);

  await pause(4000); // it dials again and again
  for (const node of sides) {
    expect(
      refusalsIn(node)
        .map(({ message }) => message)
        .filter((line) => !line.includes("FEDERATION_SECRET is the same on both")),
    ).toEqual([]);
    expect(refusalsIn(node).length).toBeLessThanOrEqual(1);
    const metrics = await (await fetch(`${node.url}/metrics`)).text();
    expect(Number(/continuum_federation_connection_errors_total\{reason="wrong_secret"\} (\d+)/.exec(metrics)?.[1])).toBeGreaterThan(0);
  }

  const seen = (await ask<FederationStatus>(mallory.url, "GET", "/v1/federation")).body;
  expect([seen.layout, seen.peers.filter(({ connected }) => connected)]).toEqual([null, []]);
  expect((await ask(mallory.url, "POST", "/v1/recall?consistency=one", { body: { message: "amphora" } })).status).toBe(503);
  expect(readFileSync(mallory.logFile, "utf8")).not.toContain("amphora");
  for (const url of federation.urls) {
    const { peers, layout } = (await ask<FederationStatus>(url, "GET", "/v1/federation")).body;
    expect(peers.map(({ name }) => name)).not.toContain("mallory");
    expect(layout?.members.map(({ name }) => name).sort()).toEqual(["node-1", "node-2", "node-3"]);
  }
  await mallory.stop();
});

test("no secret, key or memory content reaches a log", async () => {
  const logs = federation.nodes.map(({ logFile }) => readFileSync(logFile, "utf8")).join("\n");
  expect(logs).not.toContain(federation.secret);
  expect(logs).not.toContain("amphora");
});

test("a node with the right secret that is in no layout answers by forwarding and takes no part in a quorum", { timeout: 60_000 }, async () => {
  onTestFailed(() => console.error(federation.logs()));
  const gateway = await federation.add("gateway", { FEDERATION_SECRET: federation.secret, FEDERATION_PEERS: everyPeer() });
  await eventually("it knows the layout", 15_000, async () => {
    const { body } = await ask<FederationStatus>(gateway.url, "GET", "/v1/federation");
    return body.layout !== null && body.node.role === "gateway" ? true : undefined;
  });
  const body = { user_message: "Where is the gate?", ai_response: "The gate is north of the orangery." };
  expect((await ask(gateway.url, "POST", "/v1/learn", { body })).status).toBe(200);
  const recalled = await ask<{ context: string }>(gateway.url, "POST", "/v1/recall", { body: { message: "orangery" } });
  expect(recalled.body.context).toContain("north of the orangery");
  expect((await ask<FederationStatus>(gateway.url, "GET", "/v1/federation")).body.partitions).toEqual([]);
});

test.each([
  ["a secret that is too short", { FEDERATION_SECRET: "short", FEDERATION_FIRST_MEMBERS: "dave" }, /FEDERATION_SECRET .*16/],
  [
    "a list without the node itself",
    { FEDERATION_SECRET: WRONG, FEDERATION_FIRST_MEMBERS: "alice,bob" },
    /must contain this node's own name, and "dave" is not in it/,
  ],
])("a start with %s ends with a sentence and exit code 2", async (_, env, sentence) => {
  const node = await federation.add("dave", env);
  await eventually("it has ended", 10_000, async () => (node.pid === undefined ? true : undefined));
  const log = readFileSync(node.logFile, "utf8");
  expect(log).toMatch(sentence);
  expect(log).toContain("ended: 2");
});

test("a second node on the same folder is refused and harms nothing", async () => {
  const [first] = federation.nodes;
  const second = await federation.add("copycat", { CONTINUUM_DATA_DIR: first!.dataDir });
  await eventually("it has ended", 10_000, async () => (second.pid === undefined ? true : undefined));
  const log = readFileSync(second.logFile, "utf8");
  expect(log).toContain("ended: 1");
  expect(
    log
      .trimEnd()
      .split("\n")
      .filter((line) => line.startsWith("continuum: ")).length,
  ).toBe(1);
  expect((await ask(first!.url, "POST", "/v1/learn", { body: { user_message: "Still here?", ai_response: "Still here." } })).status).toBe(200);
});

function refusalsIn(node: FederationNode): { message: string }[] {
  return readFileSync(node.logFile, "utf8")
    .split("\n")
    .filter((line) => line.includes('"wrong_secret"'))
    .map((line) => JSON.parse(line));
}
