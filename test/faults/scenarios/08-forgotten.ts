/** Fault 8: what was deleted while a replica was away stays deleted, and late copies change nothing, also when the tombstones are gone. */
import { readFileSync } from "node:fs";
import { partitionOf } from "../../../protocol/layout.ts";
import { type Answer, ask, type Problem } from "../../e2e/ask.ts";
import { eventually, pause } from "../../e2e/federation.ts";
import { readDisk } from "../disks.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { Stage } from "../stage.ts";

/** Each partition with data is looked at in turn, one every five seconds at each node. */
const FLOORS_MS = 4 * 60_000;

interface Memory {
  readonly tenant: string;
  readonly key: string;
  readonly id: string;
}

export const forgotten: Scenario = {
  fault: 8,
  name: "deleted while a replica is away, collected, retried, created again",
  says: "Replicas are away one after the other, stopped or cut off, while memories are deleted and created again; then late retries of the old requests arrive at every node. Then floors let the tombstones go, and a replica's disk is put back from before the deletions: it returns from below the floor. Deleted stays deleted, created again stays created.",
  stage: () => ({ clients: { clients: 6, pauseMs: 40 } }),
  async play(stage, quick) {
    stage.clients.start();
    const tenants = Array.from({ length: quick ? 4 : 8 }, (_, index) => `forgetful-${stage.rng.next32().toString(36)}-${index}`);
    for (const away of stage.rng.shuffle(stage.nodes).slice(0, quick ? 1 : 3)) {
      const memories = await stored(stage, tenants, quick ? 3 : 6);
      const here = stage.nodes.filter((node) => node !== away);
      const goes = stage.rng.chance(0.5) ? "stopped" : "cut off";
      stage.tell(`${away.name} is ${goes}`);
      if (goes === "stopped") await away.kill("SIGKILL");
      else stage.proxy.isolate(away.name);
      stage.clients.use(here);
      for (const memory of memories) await forget(stage, here, memory);
      const again = await stored(stage, tenants, 1);
      await stage.progress(10, `while ${away.name} is away`);
      stage.proxy.clear();
      if (!away.running) away.start();
      await stage.federation.ready();
      stage.clients.use(stage.nodes);
      stage.tell(`${away.name} is back`);
      for (const memory of memories) await isGone(stage, memory);
      await retried(stage, memories);
      for (const memory of memories) await isGone(stage, memory);
      for (const memory of again) await isThere(stage, memory);
    }
    for (let time = 0; time < (quick ? 1 : 2); time++) await belowTheFloor(stage, tenants);
  },
};

/** A disk that still has them, and knows of no tombstone, comes back when nobody has the tombstones any more. */
async function belowTheFloor(stage: Stage, tenants: readonly string[]): Promise<void> {
  const returns = stage.rng.pick(stage.nodes);
  const others = stage.nodes.filter((node) => node !== returns);
  const memories = await stored(stage, tenants, 3);
  stage.clients.use(others);
  await returns.stop();
  const copy = returns.copyStore("before-the-deletions");
  returns.start();
  await stage.federation.ready();
  const before = stage.nodes.map(collected);
  for (const memory of memories) await forget(stage, stage.nodes, memory);
  const again = await stored(stage, tenants, 1);
  stage.tell(`${memories.length} memories are deleted`);
  await eventually("floors have let all their tombstones go", FLOORS_MS, async () => {
    const now = stage.nodes.map(collected);
    const went = (partition: number): number =>
      now.reduce((sum, counts, at) => sum + (counts.get(partition) ?? 0) - (before[at]!.get(partition) ?? 0), 0);
    const deleted = (partition: number): number => memories.filter(({ tenant }) => partitionOf(tenant) === partition).length;
    return tenants.map(partitionOf).every((partition) => went(partition) >= deleted(partition)) || undefined;
  });
  const { incarnation } = (await returns.status()).node;
  await returns.kill("SIGKILL");
  stage.formerDisks.push(await readDisk(`${returns.name} before its old copy`, returns.dataDir));
  stage.disksLost = true;
  returns.restoreStore(copy);
  returns.start();
  stage.tell(`tombstones are gone, and ${returns.name} is back with its disk from before the deletions`);
  await stage.federation.ready();
  await eventually(`${returns.name} counts under another name`, PATIENCE_MS, async () => {
    const { node } = await returns.status();
    return (node.standing === "counting" && node.incarnation !== incarnation) || undefined;
  });
  stage.clients.use(stage.nodes);
  for (const memory of memories) await isGone(stage, memory);
  await retried(stage, memories);
  for (const memory of memories) await isGone(stage, memory);
  for (const memory of again) await isThere(stage, memory);
}

/** By partition: how many tombstones the floors that this node numbered have let go, by its log. */
function collected({ logFile }: FaultyNode): Map<number, number> {
  const counts = new Map<number, number>();
  for (const line of readFileSync(logFile, "utf8").split("\n")) {
    if (!line.includes("a floor lets go")) continue;
    const { partition, tombstones } = JSON.parse(line) as { partition: number; tombstones: number };
    counts.set(partition, (counts.get(partition) ?? 0) + tombstones);
  }
  return counts;
}

async function stored(stage: Stage, tenants: readonly string[], each: number): Promise<Memory[]> {
  const memories: Memory[] = [];
  for (const tenant of tenants) {
    for (let number = 0; number < each; number++) {
      const key = `key-${stage.rng.next32().toString(36)}`;
      const { body } = await acknowledged(stage, stage.clients.doors, "POST", "/v1/memories", tenant, key);
      memories.push({ tenant, key, id: (body as { id: string }).id });
    }
  }
  return memories;
}

async function forget(stage: Stage, doors: readonly FaultyNode[], { tenant, key, id }: Memory): Promise<void> {
  await acknowledged(stage, doors, "DELETE", `/v1/memories/${id}`, tenant, `forget-${key}`);
}

/** The late copy of an old request: its first answer, "not now", or that its answer is no longer kept; and nothing created. */
async function retried(stage: Stage, memories: readonly Memory[]): Promise<void> {
  for (const { tenant, key, id } of memories) {
    for (const node of stage.nodes) {
      const answer = await write(node, "POST", "/v1/memories", tenant, key);
      if (answer.status === 200) stage.expect((answer.body as { id: string }).id === id, `a retry of ${key} at ${node.name} made another memory`);
      else {
        const { code } = answer.body as Problem;
        stage.expect(
          answer.status === 503 || code === "idempotency_key_expired",
          `a retry of ${key} at ${node.name} was answered ${answer.status} ${code}`,
        );
      }
    }
  }
}

async function isGone(stage: Stage, { tenant, id }: Memory): Promise<void> {
  for (const node of stage.nodes) {
    const { status } = await read(node, tenant, id);
    stage.expect(status === 404 || status === 503, `${id} of ${tenant} was forgotten, and a quorum read at ${node.name} answered ${status}`);
  }
}

async function isThere(stage: Stage, { tenant, id }: Memory): Promise<void> {
  for (const node of stage.nodes) {
    const { status } = await read(node, tenant, id);
    stage.expect(status === 200 || status === 503, `${id} of ${tenant} is stored, and a quorum read at ${node.name} answered ${status}`);
  }
}

function read(node: FaultyNode, tenant: string, id: string): Promise<Answer<unknown>> {
  return ask(node.url, "GET", `/v1/memories/${id}?consistency=quorum`, { headers: { "x-tenant-id": tenant } });
}

function write(door: { readonly url: string }, method: string, path: string, tenant: string, key: string): Promise<Answer<unknown>> {
  const body = method === "POST" ? { body: { entity: "ledger", content: `entry ${key}` } } : {};
  return ask(door.url, method, `${path}?consistency=quorum`, { headers: { "x-tenant-id": tenant, "idempotency-key": key }, ...body });
}

/** At quorum, by as many attempts as it takes. @throws Error when nobody does in time */
async function acknowledged(
  stage: Stage,
  doors: readonly { readonly url: string }[],
  method: string,
  path: string,
  tenant: string,
  key: string,
): Promise<Answer<unknown>> {
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    const answer = await write(stage.rng.pick(doors), method, path, tenant, key).catch(() => undefined);
    if (answer?.status === 200) return answer;
    if (performance.now() > until) throw new Error(`${method} ${path} is answered ${answer?.status} ${JSON.stringify(answer?.body)}`);
    await pause(100);
  }
}
