/** Fault 12: a node is revoked and the secret rotated while another one is cut off. */

import { atRest } from "../../e2e/at-rest.ts";
import { eventually } from "../../e2e/federation.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { Stage } from "../stage.ts";

export const secrets: Scenario = {
  fault: 12,
  name: "the secret is rotated during a cut, nodes restart one by one",
  says: "A second secret is added, made the first, and the old one dropped, by rolling restarts under load, while one node is cut off and comes back a step late. Nothing is lost or unreadable, and in the end the old secret opens nothing.",
  waits:
    "Revoking a node, rotation by command with witnesses sealing again, and a rolling upgrade between two protocol versions: there is one version so far.",
  stage: () => ({ spare: 1, clients: { clients: 8, pauseMs: 30 } }),
  async play(stage) {
    const { secret } = stage.federation;
    const next = `next-${secret}`;
    const late = stage.rng.pick(stage.nodes);
    stage.clients.start();
    await stage.progress(20, "under the first secret");
    await roll(stage, stage.rng.shuffle(stage.nodes), `${secret},${next}`);
    stage.proxy.isolate(late.name);
    stage.tell(`${late.name} is cut off`);
    const prompt = stage.nodes.filter((node) => node !== late);
    stage.clients.use(prompt);
    await roll(stage, prompt, `${next},${secret}`, prompt);
    await stage.progress(20, `while ${late.name} knows the new secret only as its second`);
    stage.proxy.clear();
    stage.clients.use(stage.nodes);
    await stage.federation.ready();
    await roll(stage, [late], `${next},${secret}`);
    await stage.progress(20, "with the new secret first everywhere");
    // What a witness keeps sealed under the old secret nobody could open afterwards: all must be handed over first.
    await stage.clients.stop();
    await atRest(stage.federation, PATIENCE_MS);
    await roll(stage, stage.rng.shuffle(stage.nodes), next);
    stage.clients.start();
    await stage.progress(20, "without the old secret");
    await oldSecretIsWorthless(stage, secret);
  },
};

/** One node after the other, as orchestrators do it. @param ready who must be ready before the next one goes */
async function roll(stage: Stage, nodes: readonly FaultyNode[], secret: string, ready: readonly FaultyNode[] = stage.nodes): Promise<void> {
  for (const node of nodes) {
    node.env.FEDERATION_SECRET = secret;
    await node.stop();
    node.start();
    await stage.federation.ready(PATIENCE_MS, ready);
  }
  stage.tell(`${nodes.map(({ name }) => name).join(", ")} started again with ${secret.split(",").length} secrets`);
}

async function oldSecretIsWorthless(stage: Stage, secret: string): Promise<void> {
  const former = stage.federation.add("former", `${stage.federation.dataDir}/former`);
  former.env.FEDERATION_SECRET = secret;
  former.env.FEDERATION_FIRST_MEMBERS = "";
  former.start();
  await eventually("it serves", PATIENCE_MS, () => former.status());
  await stage.during(4_000);
  const { layout, peers } = await former.status();
  stage.expect(layout === null && peers.every(({ connected }) => !connected), "a node with the old secret only is let in");
  await former.stop();
}
