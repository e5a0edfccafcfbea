/** An operator at work on real processes, by the commands a person types, while clients learn: add, weigh, drain, stop; and a disk that is gone. */
import { execFile } from "node:child_process";
import { rmSync } from "node:fs";
import { join, resolve } from "node:path";
import { afterAll, beforeAll, expect, onTestFailed, test } from "vitest";
import type { FederationStatus, LayoutPlan } from "../../node/status.ts";
import { ask, type Problem } from "./ask.ts";
import { atRest } from "./at-rest.ts";
import { eventually, type Federation, type FederationNode, startFederation } from "./federation.ts";
import { markersAt, startWriters, type Writers } from "./writers.ts";

const MAIN = resolve(import.meta.dirname, "../../node/main.ts");
const MINUTE = 60_000;
let federation: Federation;
let fourth: FederationNode;
beforeAll(async () => {
  federation = await startFederation({ unready: true });
  await federation.ready(2 * MINUTE);
}, 3 * MINUTE);
afterAll(() => federation?.stop());

interface Ran {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}
/** `continuum layout ...` at a node. */
function layout(node: FederationNode, ...words: string[]): Promise<Ran> {
  return new Promise((done) => {
    execFile(process.execPath, [MAIN, "layout", ...words, "--url", node.url], { encoding: "utf8", timeout: 2 * MINUTE }, (error, out, err) =>
      done({ code: error === null ? 0 : Number(error.code ?? -1), out, err }),
    );
  });
}
const statusOf = async ({ url }: FederationNode): Promise<FederationStatus> => (await ask<FederationStatus>(url, "GET", "/v1/federation")).body;
const membersAt = async (node: FederationNode): Promise<string[] | undefined> => (await statusOf(node)).layout?.members.map(({ name }) => name);

async function nothingIsLost(writers: Writers, nodes: readonly FederationNode[]): Promise<void> {
  await atRest({ urls: nodes.map(({ url }) => url), nodes }, MINUTE);
  for (const tenant of new Set(writers.acknowledged.map((one) => one.tenant))) {
    const expected = writers.acknowledged.filter((one) => one.tenant === tenant).map(({ marker }) => marker);
    for (const { url } of nodes) {
      const found = await markersAt(url, tenant);
      expect(expected.filter((marker) => !found.has(marker))).toEqual([]);
      expect([...found].filter(([, times]) => times > 1)).toEqual([]);
    }
  }
}

test("a fourth node is added by its address, a weight changed and a member drained while clients learn: nothing is lost, all are equal", {
  timeout: 5 * MINUTE,
}, async () => {
  onTestFailed(() => console.error(federation.logs()));
  const [first, second, third] = federation.nodes as [FederationNode, FederationNode, FederationNode];
  fourth = await federation.add("node-4", { FEDERATION_SECRET: federation.secret });
  await eventually("it listens", MINUTE, async () => (await ask(fourth.url, "GET", "/v1/health")).status === 200 || undefined);
  const writers = startWriters(federation.urls, 4, "layout");

  const preview = await layout(first, "preview", "add", `127.0.0.1:${fourth.federationPort}`, "--json");
  const { plan } = JSON.parse(preview.out) as { plan: LayoutPlan };
  expect([preview.code, plan.members, plan.quorum, plan.group_size]).toEqual([0, ["node-1", "node-2", "node-3", "node-4"], 2, 3]);
  expect(plan.moves.find(({ name }) => name === "node-4")?.replica_gains).toBe(plan.partitions_moved);
  expect(await membersAt(first)).toEqual(["node-1", "node-2", "node-3"]);
  const unconfirmed = await layout(first, "add", "node-4");
  expect([unconfirmed.code, unconfirmed.err]).toEqual([2, expect.stringContaining("Say --yes")]);

  const added = await layout(first, "add", "node-4", "--yes");
  expect([added.code, added.out], added.err).toEqual([0, expect.stringMatching(/Plan: add node-4\.[\s\S]*Done\.\n$/)]);
  expect(added.err).toMatch(/layout 2, copying: \d+ % of 257 partitions/);
  expect(await membersAt(fourth)).toEqual(["node-1", "node-2", "node-3", "node-4"]);
  expect((await layout(first, "add", "node-4", "--yes")).out).toContain("It is so already: nothing would change.");

  expect((await layout(second, "weight", "node-4", "3", "--yes")).code).toBe(0);
  const drained = await layout(third, "drain", "node-2", "--yes", "--json");
  expect(JSON.parse(drained.out)).toMatchObject({ plan: { what: "drain node-2" }, change: { outcome: "done" } });
  expect((await layout(third, "show")).out).toMatch(/node-4 +- +3 +serves/);
  const history = (await layout(third, "history")).out;
  for (const what of ["formed", "add node-4: done", "give node-4 weight 3: done", "drain node-2: joint", "drain node-2: done"])
    expect(history).toContain(what);

  await writers.stop();
  expect(writers.acknowledged.length).toBeGreaterThan(50);
  await nothingIsLost(writers, [first, third, fourth]);
  // It forwards, and holds nothing in the end.
  const gateway = await statusOf(second);
  expect([gateway.node.role, gateway.node.standing, gateway.node.asks_to_join]).toEqual(["gateway", "unlisted", false]);
  expect(await markersAt(second.url, writers.acknowledged[0]!.tenant)).toEqual(await markersAt(first.url, writers.acknowledged[0]!.tenant));
});

test("a drain of a node that hangs waits, says so, and can be stopped: everything stays with the owners that serve", {
  timeout: 3 * MINUTE,
}, async () => {
  onTestFailed(() => console.error(federation.logs()));
  const [first, , third] = federation.nodes as [FederationNode, FederationNode, FederationNode];
  process.kill(fourth.pid!, "SIGSTOP");
  try {
    const queued = await layout(first, "drain", "node-4", "--yes", "--no-wait");
    expect([queued.code, queued.out]).toEqual([0, expect.stringContaining("Queued as ")]);
    await eventually("it is staged", MINUTE, async () => (await statusOf(third)).layout?.phase === "staged" || undefined);
    const { moving, layout: staged } = await statusOf(third);
    expect(moving?.partitions_left).toBeGreaterThan(0);
    expect(staged?.next?.members.map(({ name }) => name)).toEqual(["node-1", "node-3"]);
    expect((await layout(third, "show")).out).toMatch(/node-4 .*leaves[\s\S]*drain node-4 .*under way/);

    const stopped = await layout(third, "stop", "--yes");
    expect([stopped.code, stopped.out], stopped.err).toEqual([0, expect.stringContaining("Stopped")]);
    expect(await membersAt(first)).toEqual(["node-1", "node-3", "node-4"]);
    expect((await layout(first, "history")).out).toContain("drain node-4: stopped");
  } finally {
    process.kill(fourth.pid!, "SIGCONT");
  }
  const { body } = await ask<{ queue: { change: object; outcome: string }[] }>(first.url, "GET", "/v1/federation/layout");
  expect(body.queue.at(-2)).toMatchObject({ change: { op: "remove", name: "node-4" }, outcome: "stopped" });
});

test("a member whose disk is lost comes back by itself, and does not count before it has taken back what it held", {
  timeout: 3 * MINUTE,
}, async () => {
  onTestFailed(() => console.error(federation.logs()));
  const [first, , third] = federation.nodes as [FederationNode, FederationNode, FederationNode];
  const members = [first, third, fourth];
  const writers = startWriters([first.url, fourth.url], 2, "disk");
  await eventually("learning goes on", MINUTE, async () => writers.acknowledged.length > 20 || undefined);
  await third.kill("SIGKILL");
  rmSync(join(third.dataDir, "store"), { recursive: true });
  third.start();
  await eventually("it is listed again and counts", 2 * MINUTE, async () => {
    const { node } = await statusOf(third);
    return (node.role === "member" && node.standing === "counting") || undefined;
  });
  await writers.stop();
  expect((await layout(first, "history")).out).toContain("node-3 listed again after its disk was lost");
  await nothingIsLost(writers, members);
});

test("what cannot be done is refused with what to do instead", async () => {
  const [first] = federation.nodes as [FederationNode];
  const refusal = async (body: object): Promise<[number, string, string]> => {
    const answer = await ask<Problem>(first.url, "POST", "/v1/federation/layout", { body });
    return [answer.status, answer.body.code, answer.body.detail];
  };
  expect(await refusal({ op: "add", name: "nobody" })).toEqual([409, "conflict", expect.stringMatching(/No node called nobody is connected here/)]);
  expect(await refusal({ op: "add", node: "127.0.0.1:9" })).toEqual([409, "conflict", expect.stringMatching(/127\.0\.0\.1:9/)]);
  expect(await refusal({ op: "weight", name: "nobody", weight: 2 })).toEqual([409, "conflict", "No member is called nobody."]);
  expect(await refusal({ op: "weight", name: "node-1" })).toEqual([422, "validation_failed", expect.stringContaining("body.weight")]);
  expect(await refusal({ op: "weight", name: "node-1", weight: 10_001 })).toEqual([422, "validation_failed", expect.anything()]);
  expect(await refusal({ op: "rf", replication_factor: 17 })).toEqual([422, "validation_failed", expect.anything()]);
  expect(await refusal({ op: "recover", lost: ["node-3"], confirm: true })).toEqual([409, "conflict", expect.stringMatching(/node-3 is connected/)]);
  expect(await refusal({ op: "recover", lost: [] })).toEqual([409, "conflict", expect.anything()]);
});

test("two of three gone for good: a recovery says what it costs, wants to be confirmed, and the one that is left goes on", {
  timeout: 2 * MINUTE,
}, async () => {
  onTestFailed(() => console.error(federation.logs()));
  const [first, , third] = federation.nodes as [FederationNode, FederationNode, FederationNode];
  await Promise.all([third.kill("SIGKILL"), fourth.kill("SIGKILL")]);
  const lost = ["node-3", "node-4"];
  await eventually("they are missed", MINUTE, async () => {
    const { peers } = await statusOf(first);
    return peers.filter(({ name, connected }) => lost.includes(name) && !connected).length === 2 || undefined;
  });
  const preview = await layout(first, "preview", "recover", ...lost, "--json");
  const { plan } = JSON.parse(preview.out) as { plan: LayoutPlan };
  expect(plan.loss?.lost).toEqual(lost);
  // It is a replica of the others' partitions or their witness: of those it has no copy.
  expect(plan.loss?.partitions_without_copy).toBeGreaterThan(0);
  const unconfirmed = await ask<Problem>(first.url, "POST", "/v1/federation/layout", { body: { op: "recover", lost } });
  expect([unconfirmed.status, unconfirmed.body.detail]).toEqual([422, expect.stringMatching(/body\.confirm: must be true.*have no full copy left/)]);
  const recovered = await layout(first, "recover", ...lost, "--yes");
  expect([recovered.code, recovered.out], recovered.err).toEqual([0, expect.stringContaining("goes on without node-3, node-4")]);
  const body = { user_message: "Who is left?", ai_response: "Only the first is left." };
  await eventually(
    "it takes writes again",
    MINUTE,
    async () => (await ask(first.url, "POST", "/v1/learn?consistency=quorum", { body })).status === 200 || undefined,
  );
  expect((await layout(first, "history")).out).toContain("recovered by an operator, without a vote");
});
