/** Fault 5: nodes join, leave and crash, in the middle of a layout change too. */
import { join } from "node:path";
import { ask } from "../../e2e/ask.ts";
import { eventually } from "../../e2e/federation.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { Stage } from "../stage.ts";

/**
 * Layout changes to play, by how an operator would ask for each at a node; empty as long as the product has none. Each is begun while clients work, then
 * a node is killed at a random moment of it, and it must be done (or taken back) within `PATIENCE_MS` after that node is back.
 */
const CHANGES: readonly { readonly what: string; readonly ask: (at: FaultyNode, about: FaultyNode) => Promise<void> }[] = [];

export const layoutChange: Scenario = {
  fault: 5,
  name: "nodes come, go and crash",
  says: "A node that is no member joins in as a gateway, members leave and come back, and nodes crash meanwhile. Whoever asks whom, a quorum read sees what was acknowledged; the gateway counts for nothing.",
  waits:
    "Layout changes themselves: adding, draining and removing members with crashes at each step (CHANGES in this file), and the alarm of a partition below its factor.",
  stage: () => ({ spare: 1, clients: { clients: 8, pauseMs: 30 } }),
  async play(stage, quick) {
    stage.clients.start();
    const gateway = stage.federation.add("node-4", join(stage.federation.dataDir, "node-4"));
    gateway.env.FEDERATION_FIRST_MEMBERS = "";
    gateway.start();
    await forwards(stage, gateway);
    stage.clients.use([...stage.nodes, gateway]);
    await stage.progress(20, "through the gateway too");
    for (let round = 0; round < (quick ? 1 : 4); round++) {
      await leaves(stage, stage.rng.pick(stage.nodes));
      await crashes(stage, stage.rng.pick([...stage.nodes, gateway]));
      await countsForNothing(stage, gateway);
    }
    for (const change of CHANGES) await changes(stage, change, gateway);
    stage.clients.use(stage.nodes);
    await gateway.stop();
  },
};

async function forwards(stage: Stage, gateway: FaultyNode): Promise<void> {
  await eventually("the gateway forwards", PATIENCE_MS, async () => {
    const answer = await ask(gateway.url, "GET", "/v1/memories?consistency=quorum", { headers: { "x-tenant-id": "anybody" } });
    return answer.status === 200 || undefined;
  });
  stage.expect((await gateway.status()).node.role === "gateway", "a node that nobody listed is no gateway");
}

/** In an orderly way: what it was asked is answered, and it comes back. */
async function leaves(stage: Stage, node: FaultyNode): Promise<void> {
  stage.tell(`${node.name} leaves`);
  const code = await node.stop();
  stage.expect(code === 0, `${node.name} ended with ${code} when asked to stop under load`);
  await stage.progress(10, `without ${node.name}`);
  node.start();
  await stage.federation.ready();
}

async function crashes(stage: Stage, node: FaultyNode): Promise<void> {
  stage.tell(`${node.name} crashes`);
  await node.kill("SIGKILL");
  await stage.progress(10, `without ${node.name}`);
  node.start();
  await stage.federation.ready(PATIENCE_MS, [...stage.nodes, node]);
}

/** One member and the gateway are no two of three. */
async function countsForNothing(stage: Stage, gateway: FaultyNode): Promise<void> {
  const [alone] = stage.rng.shuffle(stage.nodes);
  for (const other of stage.nodes) {
    if (other === alone) continue;
    stage.proxy.cut(alone!.name, other.name);
    stage.proxy.cut(gateway.place.name, other.name);
  }
  stage.tell(`${alone!.name} and the gateway are alone`);
  for (let probe = 0; probe < 6; probe++) {
    for (const node of [alone!, gateway]) {
      const { status } = await ask(node.url, "POST", "/v1/memories?consistency=quorum", {
        headers: { "x-tenant-id": `gateway-${probe}` },
        body: { entity: "probe", content: "is this a quorum?" },
      });
      stage.expect(status === 503, `${node.name} answered ${status} to a quorum write with one member`);
    }
  }
  stage.proxy.clear();
  await stage.progress(10, "with all again");
}

async function changes(stage: Stage, change: (typeof CHANGES)[number], about: FaultyNode): Promise<void> {
  const at = stage.rng.pick(stage.nodes);
  const before = (await at.status()).layout?.version ?? 0;
  stage.tell(`${change.what} is asked for at ${at.name}`);
  await change.ask(at, about);
  await stage.during(stage.rng.between(0, 3_000));
  await crashes(stage, stage.rng.pick([...stage.nodes, about]));
  await eventually(`${change.what} is done`, PATIENCE_MS, async () => {
    const versions = await Promise.all(stage.nodes.map(async (node) => (await node.status()).layout?.version ?? 0));
    return (new Set(versions).size === 1 && versions[0]! > before) || undefined;
  });
  await stage.progress(20, `after ${change.what}`);
}
