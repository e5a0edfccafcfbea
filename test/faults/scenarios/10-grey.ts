/** Fault 10: a peer that is slow, stalls, has a full disk, whose fsync fails, or that must be given a lot. */
import { randomBytes } from "node:crypto";
import { ask, type Problem } from "../../e2e/ask.ts";
import { eventually } from "../../e2e/federation.ts";
import { brokenDisksMissing } from "../broken-disk.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import { SmallDisk, smallDisksMissing } from "../small-disk.ts";
import type { Stage } from "../stage.ts";

/** Below this a percentile is the machine's own: two processors carry three nodes, their clients and whatever else runs. */
const NOISE_MS = 250;
const LOOKS = 3;
/** Three pings of 2 s in a row, and a look every 2 s. */
const NOTICED_MS = 8_000;
/** Of one large memory: near the largest text that is taken. */
const TEXT_CHARS = 190_000;
/** What a node may grow by while a peer takes nothing: its queues for that peer (32 MiB each way) and what the collector has not come to. */
const GROWTH_MAX_MB = 256;

const CLIENTS = 8;
const SICK = "node-3";
/** Of the sick node's own file system. */
const DISK_MB = 384;
let disk: SmallDisk | undefined;

export const grey: Scenario = {
  fault: 10,
  name: "slow, stalled, full and failing peers",
  says: "One node gets a byte a second, stalls for 5 s, has an fsync that fails, a disk that is full, and 64 MB to catch up with. The others' p99 stays within twice the usual, their memory is bounded, they do not reconnect to each other; a node whose fsync fails acknowledges nothing more.",
  missing: brokenDisksMissing,
  alone: true,
  stage() {
    disk = undefined;
    return {
      brokenDisks: true,
      clients: { clients: CLIENTS, pauseMs: 30 },
      prepare(name, dataDir) {
        if (name === SICK && smallDisksMissing() === undefined) disk = SmallDisk.mount(dataDir, DISK_MB);
      },
      cleanUp: () => disk?.unmount(),
    };
  },
  async play(stage, quick) {
    const sick = stage.federation.node(SICK);
    const others = stage.nodes.filter((node) => node !== sick);
    stage.clients.use(others);
    stage.clients.start();
    const span = quick ? 4_000 : 20_000;
    await stage.progress(20, "before any fault");
    const usual = await p99(stage, others, span);
    stage.tell(`usual p99 of the others: ${usual.toFixed(1)} ms`);

    await grown(stage, others, "a byte a second", async () => {
      stage.proxy.around(sick.name, { bytesPerSecond: 1 });
      await judgeFirstSeconds(stage, others, usual);
      await judgeP99(stage, others, span, usual, `while ${sick.name} gets a byte a second`);
      stage.proxy.clear();
    });
    await grown(stage, others, "a stall of 5 s", async () => {
      stage.proxy.isolate(sick.name);
      stage.tell(`p99 of the others during a stall of 5 s: ${(await p99(stage, others, 5_000)).toFixed(1)} ms`);
      stage.proxy.clear();
    });
    await caughtUp(stage, sick);
    await failingSync(stage, sick, others);
    await slowSync(stage, sick, others, usual, span);
    await fullDisk(stage, sick, others);
    await bigTransfer(stage, sick, others, quick ? 8 : 64);
    await stage.progress(20, "after everything");
  },
};

/** Of calls that succeeded at these nodes from now on. Writes at `all` wait for the sick one by their own wish. */
async function p99(stage: Stage, nodes: readonly FaultyNode[], ms: number): Promise<number> {
  const from = performance.now();
  await stage.during(ms);
  const times = stage
    .timings(
      nodes.map(({ name }) => name),
      from,
      performance.now(),
    )
    .filter(({ level }) => level !== "all")
    .map((timing) => timing.ms)
    .sort((a, b) => a - b);
  return times[Math.floor(times.length * 0.99)] ?? 0;
}

/** Until pings notice it a grey peer is the nearest replica of some: each client may wait for it once through each of the others, and then others are asked first. */
async function judgeFirstSeconds(stage: Stage, nodes: readonly FaultyNode[], usual: number): Promise<void> {
  const from = performance.now();
  await stage.during(NOTICED_MS);
  const names = nodes.map(({ name }) => name);
  const calls = stage.timings(names, from, performance.now()).filter(({ level }) => level !== "all");
  const slow = calls.filter(({ ms }) => ms > Math.max(2 * usual, NOISE_MS)).length;
  stage.tell(`until pings notice it ${slow} of ${calls.length} calls at the others are slow`);
  stage.expect(
    slow <= CLIENTS * nodes.length + 0.02 * calls.length,
    `beside a grey peer ${slow} of ${calls.length} calls were slow, usual p99 is ${usual.toFixed(1)} ms`,
  );
}

/** Whatever else the machine does disturbs one look or another; what the sick one does would show in all. */
async function judgeP99(stage: Stage, nodes: readonly FaultyNode[], ms: number, usual: number, when: string): Promise<void> {
  const most = Math.max(2 * usual, NOISE_MS);
  let reached = Number.POSITIVE_INFINITY;
  for (let look = 0; look < LOOKS && reached > most; look++) {
    reached = Math.min(reached, await p99(stage, nodes, ms));
    stage.tell(`p99 of the others ${when}: ${reached.toFixed(1)} ms`);
  }
  stage.expect(
    reached <= most,
    `p99 of the others ${when} was ${reached.toFixed(1)} ms in the best of ${LOOKS} looks, usual are ${usual.toFixed(1)} ms`,
  );
}

/** Memory and connections of the healthy while something happens to the sick one. */
async function grown(stage: Stage, others: readonly FaultyNode[], what: string, run: () => Promise<void>): Promise<void> {
  const before = others.map(({ name }) => stage.resources.maxOf(name));
  const [a, b] = others as [FaultyNode, FaultyNode];
  const connections = stage.proxy.made(a.name, b.name);
  await run();
  for (const [index, { name }] of others.entries()) {
    const growth = stage.resources.maxOf(name) - before[index]!;
    stage.expect(growth <= GROWTH_MAX_MB, `${name} grew by ${growth.toFixed(0)} MB during ${what}`);
  }
  const made = stage.proxy.made(a.name, b.name) - connections;
  stage.expect(made === 0, `${a.name} and ${b.name}, both healthy, connected ${made} times more during ${what}`);
}

async function caughtUp(stage: Stage, node: FaultyNode): Promise<void> {
  await eventually(`${node.name} is complete again`, PATIENCE_MS, async () => {
    const { completeness, peers } = await node.status();
    return (completeness === 1 && peers.every(({ connected }) => connected)) || undefined;
  });
  stage.tell(`${node.name} has caught up`);
}

async function fullDisk(stage: Stage, sick: FaultyNode, others: readonly FaultyNode[]): Promise<void> {
  if (disk === undefined) return stage.tell(`the full disk is left out: ${smallDisksMissing()}`);
  stage.clients.use(stage.nodes);
  const dead = sick.expectDeath();
  await disk.fill();
  stage.tell(`the disk of ${sick.name} is full`);
  await dead;
  stage.tell(`${sick.name} has ended`);
  await stage.progress(10, `without ${sick.name}`);
  stage.clients.use(others);
  disk.free();
  sick.start();
  await stage.federation.ready();
  await caughtUp(stage, sick);
}

/** EIO on fsync: LevelDB can no longer say what is safe, so the node ends; it must acknowledge nothing after the first failure. */
async function failingSync(stage: Stage, sick: FaultyNode, others: readonly FaultyNode[]): Promise<void> {
  stage.clients.use(stage.nodes);
  stage.tell(`fsync fails at ${sick.name}`);
  const dead = sick.expectDeath();
  sick.disk.order("eio");
  await dead;
  stage.tell(`${sick.name} has ended`);
  await stage.progress(10, `without ${sick.name}`);
  // What was written and not synced may be lost with the power: it was acknowledged to nobody.
  stage.tell(sick.disk.cutPower(stage.rng));
  sick.disk.order("work");
  stage.clients.use(others);
  sick.start();
  await stage.federation.ready();
  await caughtUp(stage, sick);
}

async function slowSync(stage: Stage, sick: FaultyNode, others: readonly FaultyNode[], usual: number, span: number): Promise<void> {
  stage.tell(`each fsync takes 400 ms at ${sick.name}`);
  sick.disk.order("slow 400");
  // The two others are a quorum of every partition only where one of them is the coordinator: what they forward to the sick one takes its time.
  const reached = await p99(stage, others, span / 2);
  stage.tell(`p99 of the others while ${sick.name} syncs slowly: ${reached.toFixed(1)} ms (usual ${usual.toFixed(1)} ms)`);
  sick.disk.order("work");
  await caughtUp(stage, sick);
}

/** A node was away and must be given many megabytes, while clients go on. */
async function bigTransfer(stage: Stage, sick: FaultyNode, others: readonly FaultyNode[], megabytes: number): Promise<void> {
  await sick.kill("SIGKILL");
  stage.tell(`${sick.name} is away while ${megabytes} MB are written`);
  const begun = performance.now();
  const answers: Record<string, number> = {};
  for (let written = 0, number = 0; written < megabytes * 1e6; written += TEXT_CHARS, number++) {
    const { status, body } = await ask<Problem>(others[number % 2]!.url, "POST", "/v1/memories", {
      headers: { "x-tenant-id": `big-${number % 5}`, "x-consistency": "quorum", "idempotency-key": `big-${number}` },
      body: { entity: "volume", content: randomBytes(TEXT_CHARS / 2).toString("hex") },
    });
    const answer = `${status} ${body.code ?? ""}`;
    answers[answer] = (answers[answer] ?? 0) + 1;
    stage.expect(status === 200 || status === 503, `a large memory was answered ${answer}: ${body.detail}`);
  }
  stage.tell(`written in ${((performance.now() - begun) / 1000).toFixed(1)} s: ${JSON.stringify(answers)}`);
  await grown(stage, others, "the transfer", async () => {
    sick.start();
    const begun = performance.now();
    await stage.federation.ready();
    await caughtUp(stage, sick);
    stage.tell(
      `${megabytes} MB took ${((performance.now() - begun) / 1000).toFixed(1)} s; p99 of the others meanwhile ${percentile(stage, others, begun).toFixed(1)} ms`,
    );
  });
  const most = stage.resources.maxOf(sick.name);
  stage.expect(most < 1_024, `${sick.name} needed ${most.toFixed(0)} MB to catch up with ${megabytes} MB`);
}

function percentile(stage: Stage, nodes: readonly FaultyNode[], from: number): number {
  const names = nodes.map(({ name }) => name);
  const times = stage
    .timings(names, from, performance.now())
    .map(({ ms }) => ms)
    .sort((a, b) => a - b);
  return times[Math.floor(times.length * 0.99)] ?? 0;
}
