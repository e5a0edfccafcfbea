/** Fault 3: a store restored from an older copy, twice in a row, and one store in two running processes. */
import { cpSync } from "node:fs";
import { ask } from "../../e2e/ask.ts";
import { eventually, pause } from "../../e2e/federation.ts";
import { readDisk } from "../disks.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { Stage } from "../stage.ts";

export const oldCopy: Scenario = {
  fault: 3,
  name: "restored from an old copy, twice; cloned",
  says: "A node's store is replaced by a copy from minutes ago, then by one that is older still; then its store runs twice. Clients go on with the others. Each time it becomes another incarnation and counts again; nothing acknowledged is lost, no number means two things, and all are equal in the end.",
  stage: () => ({ spare: 1, clients: { clients: 8, pauseMs: 30 } }),
  async play(stage, quick) {
    const node = stage.rng.pick(stage.nodes);
    const others = stage.nodes.filter((one) => one !== node);
    stage.clients.start();
    await stage.progress(30, "before the first copy");
    const oldest = await copied(stage, node, others, "oldest");
    await stage.progress(40, "between the copies");
    const older = await copied(stage, node, others, "older");
    await stage.progress(40, "after the copies");
    // An older one, a less old one, and the same older one again: each time other numbers are missing.
    for (const copy of quick ? [older, oldest] : [older, oldest, older, oldest]) {
      await restored(stage, node, others, copy);
      await stage.progress(20, `with ${node.name} restored`);
    }
    await cloned(stage, node);
  },
};

async function copied(stage: Stage, node: FaultyNode, others: readonly FaultyNode[], name: string): Promise<string> {
  stage.clients.use(others);
  const code = await node.stop();
  stage.expect(code === 0, `${node.name} ended with ${code} when asked to stop, its clients gone`);
  const copy = node.copyStore(name);
  stage.tell(`${name} copy of ${node.name}`);
  await backAgain(stage, node);
  return copy;
}

async function restored(stage: Stage, node: FaultyNode, others: readonly FaultyNode[], copy: string): Promise<void> {
  stage.clients.use(others);
  await stage.during(stage.rng.between(100, 500));
  const { incarnation } = (await node.status()).node;
  await node.kill("SIGKILL");
  stage.formerDisks.push(await readDisk(`${node.name} before it was replaced`, node.dataDir));
  node.restoreStore(copy);
  stage.disksLost = true;
  stage.tell(`${node.name} is restored from ${copy}`);
  await backAgain(stage, node);
  stage.expect((await node.status()).node.incarnation !== incarnation, `${node.name} goes on under the incarnation of the copy`);
}

async function backAgain(stage: Stage, node: FaultyNode): Promise<void> {
  if (!node.running) node.start();
  await stage.federation.ready();
  await eventually(`${node.name} holds what the others hold`, PATIENCE_MS, async () => {
    const { completeness, peers, node: self } = await node.status();
    return (self.standing === "counting" && completeness === 1 && peers.every(({ connected }) => connected)) || undefined;
  });
  stage.clients.use(stage.nodes);
}

/**
 * The same store and identity in two processes that both reach the others. Until the two are found neither P2 nor P4 is promised of that writer, so nobody
 * replaces or reads meanwhile, and the disk of the one that goes may give its numbers other deltas; but what is stored through either of them, or through the
 * others, and acknowledged at quorum, is there in the end.
 */
async function cloned(stage: Stage, node: FaultyNode): Promise<void> {
  await stage.clients.stop();
  await node.stop();
  const folder = `${node.dataDir}-clone`;
  cpSync(node.dataDir, folder, { recursive: true });
  const clone = stage.federation.add(node.name, folder);
  clone.env.FEDERATION_PEERS = node.env.FEDERATION_PEERS ?? "";
  node.start();
  clone.start();
  stage.tell(`${node.name} runs twice`);
  const stored: Stored[] = [];
  let found = false;
  const writing = [...stage.nodes, clone].map(async (door, at) => {
    for (let number = 0; !found; number++) {
      const one = await store(door, `twin-${at}-${number % 9}`, `${at}-${number}`);
      if (one !== undefined) stored.push(one);
      await pause(30);
    }
  });
  await eventually(
    "the two are two incarnations, or one of them has ended",
    PATIENCE_MS,
    async () => !clone.running || (await clone.status()).node.incarnation !== (await node.status()).node.incarnation || undefined,
  );
  found = true;
  await Promise.all(writing);
  stage.tell(`they are found; ${stored.length} memories were stored meanwhile`);
  await clone.kill("SIGKILL");
  stage.disksLost = true;
  stage.clients.start();
  await backAgain(stage, node);
  await stage.progress(20, "after the clone");
  for (const door of stage.nodes) for (const one of stored) await isThere(stage, door, one);
}

interface Stored {
  readonly tenant: string;
  readonly id: string;
  readonly through: string;
}

async function store(door: FaultyNode, tenant: string, key: string): Promise<Stored | undefined> {
  const answer = await ask<{ id: string }>(door.url, "POST", "/v1/memories?consistency=quorum", {
    headers: { "x-tenant-id": tenant, "idempotency-key": key },
    body: { entity: "twins", content: `stored through ${door.name}` },
    timeoutMs: 4_000,
  }).catch(() => undefined);
  return answer?.status === 200 ? { tenant, id: answer.body.id, through: door.url } : undefined;
}

async function isThere(stage: Stage, door: FaultyNode, { tenant, id, through }: Stored): Promise<void> {
  const status = await eventually(`${door.name} answers a quorum read`, PATIENCE_MS, async () => {
    const answer = await ask(door.url, "GET", `/v1/memories/${id}?consistency=quorum`, { headers: { "x-tenant-id": tenant } });
    return answer.status === 503 ? undefined : answer.status;
  });
  stage.expect(status === 200, `${id} of ${tenant} was acknowledged through ${through}, and a quorum read at ${door.name} answered ${status}`);
}
