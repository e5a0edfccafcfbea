/** Fault 8: what was deleted while a replica was away stays deleted, and late copies change nothing. */
import { type Answer, ask } from "../../e2e/ask.ts";
import { pause } from "../../e2e/federation.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { Stage } from "../stage.ts";

interface Memory {
  readonly tenant: string;
  readonly key: string;
  readonly id: string;
}

export const forgotten: Scenario = {
  fault: 8,
  name: "deleted while a replica is away, retried, created again",
  says: "Replicas are away one after the other, stopped or cut off, while memories and concepts are deleted and created again; then late retries of the old requests arrive at every node. Deleted stays deleted, created again stays created.",
  waits: "Floors: tombstones are not collected yet, so a replica never returns from below one.",
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
  },
};

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

/** The late copy of an old request: its first answer, or "not now", and nothing created. */
async function retried(stage: Stage, memories: readonly Memory[]): Promise<void> {
  for (const { tenant, key, id } of memories) {
    for (const node of stage.nodes) {
      const answer = await write(node, "POST", "/v1/memories", tenant, key);
      if (answer.status === 200) stage.expect((answer.body as { id: string }).id === id, `a retry of ${key} at ${node.name} made another memory`);
      else stage.expect(answer.status === 503, `a retry of ${key} at ${node.name} was answered ${answer.status}`);
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
