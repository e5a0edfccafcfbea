/**
 * Fault 9: acknowledgements are lost, answers come too late, requests come twice, coordinators die. Frames that arrive twice or out of order cannot be made below
 * Noise, which refuses them: the simulator plays those.
 */
import { ask } from "../../e2e/ask.ts";
import { eventually } from "../../e2e/federation.ts";
import { readDisk } from "../disks.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { Stage } from "../stage.ts";

export const doubt: Scenario = {
  fault: 9,
  name: "lost acknowledgements, timeouts, doubled requests, dead coordinators",
  says: "Clients lose patience early and retry elsewhere under the same key, every third write goes to two nodes at once, acknowledgements are held back, connections are reset, coordinators are killed with writes in doubt, and one comes back with the disk it had before. Every key counts once, and counts equal the model exactly.",
  stage: () => ({
    env: { FEDERATION_TIMEOUT: "700ms" },
    clients: { clients: 12, pauseMs: 25, timeoutMs: 600, retryChance: 0.95, twiceChance: 0.35, attemptsMax: 6 },
  }),
  async play(stage, quick) {
    stage.clients.start();
    await stage.progress(20, "before any fault");
    for (let round = 0; round < (quick ? 1 : 4); round++) {
      await withheldAcks(stage);
      await resets(stage, quick ? 3_000 : 8_000);
      await deadCoordinators(stage, quick ? 1 : 3);
    }
    await restoredAndRetried(stage);
    await stage.progress(20, "after everything");
  },
};

/** What a coordinator did is not on the disk that it comes back with: the key must count once all the same, at that node too. */
async function restoredAndRetried(stage: Stage): Promise<void> {
  const node = stage.rng.pick(stage.nodes);
  const others = stage.nodes.filter((one) => one !== node);
  stage.clients.use(others);
  await node.stop();
  const copy = node.copyStore("before-the-request");
  node.start();
  await counts(stage, node);
  const learnt = Array.from({ length: 9 }, () => `once-${stage.rng.next32().toString(36)}`);
  for (const tenant of learnt) {
    await eventually(`${tenant} has learnt`, PATIENCE_MS, async () => ((await learn(node, tenant)) === 200 ? true : undefined));
  }
  const { incarnation } = (await node.status()).node;
  await node.kill("SIGKILL");
  stage.formerDisks.push(await readDisk(`${node.name} before its old copy`, node.dataDir));
  stage.disksLost = true;
  node.restoreStore(copy);
  node.start();
  stage.tell(`${node.name} is back with the disk it had before ${learnt.length} requests`);
  await counts(stage, node);
  stage.expect((await node.status()).node.incarnation !== incarnation, `${node.name} goes on under the incarnation of the copy`);
  stage.clients.use(stage.nodes);
  for (const tenant of learnt) {
    await Promise.all(stage.nodes.map((door) => learn(door, tenant)));
    for (const door of stage.nodes) {
      const { status, body } = await ask<{ occurrences: number }>(door.url, "GET", "/v1/concepts/quartz_vein?consistency=quorum", {
        headers: { "x-tenant-id": tenant },
      });
      stage.expect(status === 503 || body.occurrences === 1, `${door.name} counts ${body.occurrences} of one request that was retried everywhere`);
    }
  }
}

async function learn(door: FaultyNode, tenant: string): Promise<number> {
  const { status } = await ask(door.url, "POST", "/v1/learn?consistency=quorum", {
    headers: { "x-tenant-id": tenant, "idempotency-key": `key of ${tenant}` },
    body: { user_message: "what lies beside the quartz_vein?", ai_response: "nothing that we know of." },
  });
  return status;
}

async function counts(stage: Stage, node: FaultyNode): Promise<void> {
  await stage.federation.ready();
  await eventually(`${node.name} counts`, PATIENCE_MS, async () => (await node.status()).node.standing === "counting" || undefined);
}

/** A node hears all and is heard late or not at all: what it did it cannot say. */
async function withheldAcks(stage: Stage): Promise<void> {
  for (const mute of stage.rng.shuffle(stage.nodes).slice(0, 2)) {
    stage.tell(`what ${mute.name} sends is held back`);
    for (const other of stage.nodes) if (other !== mute) stage.proxy.set(mute.name, other.name, { cut: true });
    await stage.during(stage.rng.between(800, 2500));
    stage.proxy.clear();
    await stage.during(300);
  }
}

async function resets(stage: Stage, ms: number): Promise<void> {
  stage.tell("connections are reset, links are slow and uneven");
  for (const a of stage.nodes)
    for (const b of stage.nodes) if (a !== b) stage.proxy.set(a.name, b.name, { delayMs: stage.rng.int(30), jitterMs: 200 });
  const until = performance.now() + ms;
  while (performance.now() < until) {
    const [a, b] = stage.rng.shuffle(stage.nodes);
    stage.proxy.reset(a!.name, b!.name);
    await stage.during(stage.rng.exponential(400));
  }
  stage.proxy.clear();
}

async function deadCoordinators(stage: Stage, times: number): Promise<void> {
  for (let time = 0; time < times; time++) {
    const victim = stage.rng.pick(stage.nodes);
    // Its writes leave it and no answer returns; then it dies, and they are in doubt for ever unless somebody retries.
    for (const other of stage.nodes) if (other !== victim) stage.proxy.set(other.name, victim.name, { cut: true });
    await stage.during(stage.rng.between(100, 500));
    stage.tell(`${victim.name} dies with writes in doubt`);
    await victim.kill("SIGKILL");
    stage.proxy.clear();
    await stage.progress(10, `without ${victim.name}`);
    victim.start();
    await stage.federation.ready();
  }
}
