/** Fault 6: nodes see different federations: while one forms, when another comes by, when layouts were missed, when operators disagree. */
import { join } from "node:path";
import type { LayoutAsk } from "../../../node/layout-admin.ts";
import type { QueuedChange } from "../../../node/layout-queue.ts";
import type { LayoutStatus } from "../../../node/status.ts";
import { ask } from "../../e2e/ask.ts";
import { eventually } from "../../e2e/federation.ts";
import { askForChange, outcomeOf } from "../operator.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { Stage } from "../stage.ts";

export const views: Scenario = {
  fault: 6,
  name: "different views of who belongs together",
  says: "A federation forms while its nodes are killed and cut off at every moment of it; a node with another list of first members and a federation of its own with the same secret come by; members miss layouts, hear of them late, and two operators change at once. Every version means one thing, nobody takes another federation's, no memory crosses over, and a quorum read sees what was acknowledged whoever coordinates.",
  stage: () => ({ unready: true, spare: 2, clients: { clients: 8, pauseMs: 30 } }),
  async play(stage, quick) {
    await formInAStorm(stage, quick ? 4_000 : 25_000);
    stage.clients.start();
    await stage.progress(20, "once formed");
    await stranger(stage);
    await foreignFederation(stage);
    await stage.progress(20, "after both");
    for (let round = 0; round < (quick ? 1 : 3); round++) {
      await missed(stage);
      await lateNews(stage);
      await twoOperators(stage);
    }
  },
};

async function formInAStorm(stage: Stage, ms: number): Promise<void> {
  stage.tell("the federation forms in a storm");
  const until = performance.now() + ms;
  while (performance.now() < until) {
    const node = stage.rng.pick(stage.nodes);
    if (!node.running) node.start();
    else if (stage.rng.chance(0.5)) {
      stage.tell(`${node.name} is killed`);
      await node.kill("SIGKILL");
    }
    const [a, b] = stage.rng.shuffle(stage.nodes);
    stage.proxy.set(a!.name, b!.name, { cut: stage.rng.chance(0.3) });
    await stage.during(stage.rng.exponential(600));
    oneFederation(stage, await layouts(stage.nodes));
  }
  stage.proxy.clear();
  for (const node of stage.nodes) if (!node.running) node.start();
  await stage.federation.ready();
  const formed = await layouts(stage.nodes);
  oneFederation(stage, formed);
  stage.expect(formed.length === stage.nodes.length, "not every node has a layout although all are ready");
}

/** Layouts as they are seen now, by whoever answers. */
async function layouts(nodes: readonly FaultyNode[]): Promise<string[]> {
  const seen = await Promise.all(nodes.map((node) => (node.running ? node.status().catch(() => undefined) : undefined)));
  return seen.flatMap((status) => (status?.layout == null ? [] : [JSON.stringify(status.layout)]));
}

/**
 * A member is cut off, with clients, while the others go through versions: changes that are staged, wait for its copies, and are taken back; and one that waits
 * until it is there again. It learns of them by what it is refused, and by repair.
 */
async function missed(stage: Stage): Promise<void> {
  const away = stage.rng.pick(stage.nodes);
  const others = stage.nodes.filter((node) => node !== away);
  const versionAt = async (node: FaultyNode): Promise<number> => (await node.status()).layout?.version ?? 0;
  const before = await versionAt(away);
  const stagedHere = async (): Promise<true | undefined> => (await others[0]!.status()).layout?.phase === "staged" || undefined;
  stage.proxy.isolate(away.name);
  stage.tell(`${away.name} is cut off, at version ${before}`);
  for (const weight of stage.rng.shuffle([20, 30, 40, 50]).slice(0, 2)) {
    const queued = await asked(stage, others, { op: "weight", name: away.name, weight });
    await eventually("a change is staged without it", PATIENCE_MS, stagedHere);
    await outcomeOf(others, await asked(stage, others, { op: "stop" }));
    const { outcome } = await outcomeOf(others, queued);
    stage.expect(outcome === "stopped", `a change that was taken back ended as "${outcome}"`);
  }
  const waiting = await asked(stage, others, { op: "zone", name: others[0]!.name, zone: `renamed-at-${before}` });
  await eventually("another is staged", PATIENCE_MS, stagedHere);
  const version = await versionAt(others[0]!);
  stage.expect((await versionAt(away)) === before, `${away.name} goes by a layout that nobody can have told it`);
  stage.proxy.clear();
  stage.tell(`${away.name} is back, ${version - before} versions behind`);
  const { outcome, reason } = await outcomeOf(stage.nodes, waiting);
  stage.expect(outcome === "done", `the change that waited ended as "${outcome}": ${reason}`);
  await alike(stage, version);
  await stage.progress(20, `with ${away.name} back`);
}

/** What one of them is told arrives some seconds late, both while the layout changes and after. */
async function lateNews(stage: Stage): Promise<void> {
  const late = stage.rng.pick(stage.nodes);
  for (const other of stage.nodes) if (other !== late) stage.proxy.set(other.name, late.name, { delayMs: 900, jitterMs: 900 });
  stage.tell(`what ${late.name} hears is one or two seconds old`);
  await changed(stage, stage.nodes, { op: "weight", name: late.name, weight: 6 + stage.rng.int(90) });
  await stage.progress(10, "with late news");
  stage.proxy.clear();
}

/** At the same moment, at different nodes, about the same member. */
async function twoOperators(stage: Stage): Promise<void> {
  const [here, there, about] = stage.rng.shuffle(stage.nodes) as [FaultyNode, FaultyNode, FaultyNode];
  const weight = 100 + stage.rng.int(900);
  const zone = `zone-${weight}`;
  const name = about.name;
  const both = await Promise.all([
    askForChange([here], { op: "weight", name, weight }, `weight-${weight}`),
    askForChange([there], { op: "zone", name, zone }, `zone-${weight}`),
  ]);
  stage.tell(`${here.name} and ${there.name} are told to change ${name} at once`);
  for (const one of both) {
    const { outcome, reason } = await outcomeOf(stage.nodes, one);
    stage.expect(outcome === "done", `of two changes at once ${JSON.stringify(one.change)} ended as "${outcome}": ${reason}`);
  }
  await alike(stage, 0);
  const member = (await here.status()).layout?.members.find((one) => one.name === name);
  stage.expect(member?.weight === weight && member.zone === zone, `of two changes at once one undid the other: ${JSON.stringify(member)}`);
  await stage.progress(10, "after two changes at once");
}

function asked(stage: Stage, at: readonly FaultyNode[], change: LayoutAsk): Promise<QueuedChange> {
  return askForChange(at, change, `change-${stage.rng.next32()}`);
}

async function changed(stage: Stage, at: readonly FaultyNode[], change: LayoutAsk): Promise<void> {
  const { outcome, reason } = await outcomeOf(at, await asked(stage, at, change));
  stage.expect(outcome === "done", `${JSON.stringify(change)} ended as "${outcome}": ${reason}`);
}

/** All go by one finished layout, `version` or later; on the way there no version was two different ones. */
async function alike(stage: Stage, version: number): Promise<void> {
  await eventually("all go by one layout", PATIENCE_MS, async () => {
    const seen = (await Promise.all(stage.nodes.map((node) => node.status()))).flatMap(({ layout }) => layout ?? []);
    oneMeaning(stage, seen);
    const newest = Math.max(...seen.map((layout) => layout.version));
    return (newest >= version && seen.every((layout) => layout.phase === "done" && layout.version === newest)) || undefined;
  });
}

function oneMeaning(stage: Stage, seen: readonly LayoutStatus[]): void {
  for (const layout of seen) {
    const text = JSON.stringify(layout);
    const same = seen.find((other) => other.version === layout.version && JSON.stringify(other) !== text);
    stage.expect(same === undefined, `version ${layout.version} is ${text} here and ${JSON.stringify(same)} there`);
  }
}

function oneFederation(stage: Stage, seen: readonly string[]): void {
  stage.expect(new Set(seen).size <= 1, `there are two layouts 1: ${[...new Set(seen)].join(" and ")}`);
}

/** Somebody wrote another list of first members for a node that comes late: it must not form anything with anybody. */
async function stranger(stage: Stage): Promise<void> {
  const late = stage.federation.add("node-4", join(stage.federation.dataDir, "node-4"));
  late.env.FEDERATION_FIRST_MEMBERS = "node-1,node-2,node-4";
  late.start();
  stage.tell("a node comes that has another list");
  await eventually("it serves", PATIENCE_MS, () => late.status());
  await stage.during(5_000);
  const formed = await layouts(stage.nodes);
  oneFederation(stage, formed);
  const { node, layout } = await late.status();
  stage.expect(node.role !== "member", "a node that only its own list names became a member");
  stage.expect(layout === null || JSON.stringify(layout) === formed[0], "a node with another list formed a layout of its own");
  await late.stop();
}

/** It formed by itself, under the same secret, before anybody met. */
async function foreignFederation(stage: Stage): Promise<void> {
  const foreign = stage.federation.add("node-5", join(stage.federation.dataDir, "node-5"));
  foreign.env.FEDERATION_FIRST_MEMBERS = "node-5";
  for (const node of stage.nodes) stage.proxy.cut(foreign.place.name, node.name);
  foreign.start();
  await eventually("the other federation forms", PATIENCE_MS, async () => (await foreign.status()).layout ?? undefined);
  const tenants = Array.from({ length: 6 }, (_, index) => `both-know-${index}`);
  for (const tenant of tenants) for (const node of [foreign, stage.nodes[0]!]) await remember(stage, node, tenant);
  const before = (await foreign.status()).layout;
  const ours = (await stage.nodes[0]!.status()).layout;
  for (const node of stage.nodes) stage.proxy.mend(foreign.place.name, node.name);
  stage.tell("two federations with one secret meet");
  await stage.during(8_000);
  stage.expect(JSON.stringify((await foreign.status()).layout) === JSON.stringify(before), "a federation took the layout of another");
  stage.expect(JSON.stringify((await stage.nodes[0]!.status()).layout) === JSON.stringify(ours), "our federation took the layout of another");
  for (const tenant of tenants) {
    for (const node of [foreign, ...stage.nodes]) {
      const { status, body } = await ask<{ total: number; memories: { content: string }[] }>(node.url, "GET", "/v1/memories?consistency=quorum", {
        headers: { "x-tenant-id": tenant },
      });
      const own = node === foreign ? "of node-5" : "of node-1";
      const contents = status === 200 ? body.memories.map(({ content }) => content) : [];
      stage.expect(
        status === 503 || (contents.length === 1 && contents[0]!.endsWith(own)),
        `${node.name} answered ${status} with ${contents.join(", ")}`,
      );
    }
  }
  await foreign.stop();
}

async function remember(stage: Stage, node: FaultyNode, tenant: string): Promise<void> {
  const key = `memory-${stage.rng.next32()}`;
  await eventually(`${node.name} stores a memory in its own federation`, PATIENCE_MS, async () => {
    const { status } = await ask(node.url, "POST", "/v1/memories?consistency=quorum", {
      headers: { "x-tenant-id": tenant, "idempotency-key": key },
      body: { entity: "border", content: `a memory of ${node.place.name}` },
    });
    return status === 200 || undefined;
  });
}
