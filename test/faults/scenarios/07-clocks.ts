/** Fault 7: clocks that jump, run backwards, stand still or are an hour ahead, and processes that are paused. */
import { type Answer, ask } from "../../e2e/ask.ts";
import { eventually } from "../../e2e/federation.ts";
import type { Clock } from "../clock.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { Stage } from "../stage.ts";

const MINUTES = 60_000;
/** A clock that stands still is as wrong as it has stood for; an answer takes its time on a busy machine. */
const CLOCK_ERROR_MS = 20_000;

export const clocks: Scenario = {
  fault: 7,
  name: "clocks jump, stand still, differ; processes are paused",
  says: "Wall clocks jump ten minutes both ways, stand still, are an hour behind or ahead; a process is paused and goes on; one clock is half a minute ahead while a link is cut. No stream's clock goes back, across restarts too, deleted stays deleted, later edits win, and who is far ahead is refused.",
  stage: () => ({ clocks: true, clients: { clients: 8, pauseMs: 30, registerTenants: 6 } }),
  async play(stage, quick) {
    stage.clients.start();
    await stage.progress(20, "with true clocks");
    // First: a clock ten minutes ahead takes all clocks with it, and half a minute is nothing afterwards.
    await aheadAndCut(stage);
    const span = quick ? 1_000 : 6_000;
    const faults: readonly (readonly [what: string, clock: () => Clock])[] = [
      ["ten minutes back", () => ({ offsetMs: -10 * MINUTES })],
      ["ten minutes ahead", () => ({ offsetMs: 10 * MINUTES })],
      ["standing still", () => ({ frozenAt: Date.now() })],
      ["an hour behind", () => ({ offsetMs: -60 * MINUTES })],
      ["40 s ahead", () => ({ offsetMs: 40_000 })],
    ];
    for (const [what, clock] of faults) {
      const node = stage.rng.pick(stage.nodes);
      stage.tell(`the clock of ${node.name}: ${what}`);
      node.setClock(clock());
      await stage.during(span);
      await tells(stage, node, clock());
      await stage.progress(10, `with a clock ${what}`);
      if (stage.rng.chance(0.5)) await restarted(stage, node);
      node.setClock({});
      stage.tell(`the clock of ${node.name} is right again`);
      await stage.during(span / 3);
    }
    await paused(stage, stage.rng.pick(stage.nodes), quick ? 9_000 : 60_000);
    await farAhead(stage, stage.rng.pick(stage.nodes));
    await stage.progress(20, "with true clocks again");
  },
};

/** The fault has arrived: what the node takes for now is in its status, as the moment it last saw a connected peer. */
async function tells(stage: Stage, node: FaultyNode, { offsetMs = 0 }: Clock): Promise<void> {
  const { peers } = await node.status();
  const seen = peers.find(({ connected }) => connected)?.last_seen;
  const error = seen == null ? 0 : Math.abs(Date.parse(seen) - (Date.now() + offsetMs));
  stage.expect(error < CLOCK_ERROR_MS, `the clock of ${node.name} should be ${offsetMs} ms off and is ${error} ms from that`);
}

async function restarted(stage: Stage, node: FaultyNode): Promise<void> {
  stage.tell(`${node.name} is killed and starts again with that clock`);
  await node.kill("SIGKILL");
  node.start();
  await stage.federation.ready();
}

/** Longer than pings take to give it up: it comes back to connections that are gone and writes that others have decided. */
async function paused(stage: Stage, node: FaultyNode, ms: number): Promise<void> {
  stage.tell(`${node.name} is paused for ${ms / 1000} s`);
  node.pause();
  const others = stage.nodes.filter((one) => one !== node);
  stage.clients.use(others);
  await stage.progress(20, `while ${node.name} is paused`);
  await stage.during(ms);
  node.resume();
  stage.clients.use(stage.nodes);
  await stage.federation.ready();
}

/** Each of the two has its quorum with the third: what one edits after the other was acknowledged is what all read. */
async function aheadAndCut(stage: Stage): Promise<void> {
  const [ahead, other] = stage.rng.shuffle(stage.nodes) as [FaultyNode, FaultyNode];
  ahead.setClock({ offsetMs: 30_000 });
  const memories = new Map<string, string>();
  // Of a third of the tenants these two are the replicas.
  for (let number = 0; number < 18; number++) {
    const tenant = `edited-${stage.rng.next32().toString(36)}`;
    const { body } = await write(other, "POST", "/v1/memories?consistency=all", tenant, "first");
    memories.set(tenant, body.id);
  }
  stage.proxy.cut(ahead.name, other.name);
  stage.tell(`the clock of ${ahead.name} is 30 s ahead and its link to ${other.name} is cut`);
  for (const [tenant, id] of memories) {
    const earlier = await write(ahead, "PATCH", `/v1/memories/${id}?consistency=quorum`, tenant, "earlier");
    const later = await write(other, "PATCH", `/v1/memories/${id}?consistency=quorum`, tenant, "later");
    if (earlier.status !== 200 || later.status !== 200) continue;
    for (const node of stage.nodes) {
      const read = await ask<{ content: string }>(node.url, "GET", `/v1/memories/${id}?consistency=quorum`, { headers: { "x-tenant-id": tenant } });
      if (read.status === 200)
        stage.expect(read.body.content === "later", `${node.name} shows the edit "${read.body.content}", acknowledged before "later" was asked for`);
    }
  }
  stage.proxy.clear();
  ahead.setClock({});
}

function write(node: FaultyNode, method: string, path: string, tenant: string, content: string): Promise<Answer<{ id: string }>> {
  const body = method === "POST" ? { entity: "ledger", content } : { content };
  return ask<{ id: string }>(node.url, method, path, { headers: { "x-tenant-id": tenant }, body });
}

/** It says so, spends no number and no clock value, and lets others write for it, or refuses. */
async function farAhead(stage: Stage, node: FaultyNode): Promise<void> {
  node.setClock({ offsetMs: 60 * MINUTES });
  stage.tell(`the clock of ${node.name} is an hour ahead`);
  await eventually(
    `${node.name} sees that it is far ahead`,
    PATIENCE_MS,
    async () => ((await node.status()).clock_ahead_ms ?? 0) > 50 * MINUTES || undefined,
  );
  await stage.during(1_000); // what it had numbered before is on its disk
  const before = await ownNumbers(node);
  const answers: string[] = [];
  for (let probe = 0; probe < 12; probe++) {
    const headers = { "x-tenant-id": `ahead-${probe}` };
    const { status, body } = await ask<{ code?: string; id: string }>(node.url, "POST", "/v1/memories?consistency=one", {
      headers,
      body: { entity: "probe", content: "what time is it?" },
    });
    answers.push(`${status} ${body.code ?? ""}`);
    if (status === 200) {
      const written = await ask<{ created_at: string }>(node.url, "GET", `/v1/memories/${body.id}?consistency=quorum`, { headers });
      const ahead = written.status === 200 ? Date.parse(written.body.created_at) - Date.now() : 0;
      stage.expect(ahead < 2 * MINUTES, `through a node an hour ahead a memory was written ${ahead} ms ahead`);
    }
    stage.expect(status === 200 || status === 503, `a node an hour ahead answered ${status} ${body.code}`);
  }
  stage.tell(`it answered ${[...new Set(answers)].join(", ")}`);
  stage.expect((await ownNumbers(node)) === before, `${node.name} numbered deltas while its clock was an hour ahead`);
  node.setClock({});
  await eventually(
    `${node.name} is believed again`,
    PATIENCE_MS,
    async () => Math.abs((await node.status()).clock_ahead_ms ?? MINUTES) < MINUTES || undefined,
  );
}

/** How far its own stream has come, in all partitions. */
async function ownNumbers(node: FaultyNode): Promise<string> {
  const { partitions, node: self } = await node.status();
  return JSON.stringify(
    partitions.flatMap(({ partition, frontier }) => (frontier[self.writer] === undefined ? [] : [[partition, frontier[self.writer]]])),
  );
}
