/** Fault 3: a store restored from an older copy, twice in a row, and one store in two running processes. */
import { cpSync } from "node:fs";
import { eventually } from "../../e2e/federation.ts";
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
  node.start();
  await stage.federation.ready();
  await eventually(`${node.name} holds what the others hold`, PATIENCE_MS, async () => {
    const { completeness, peers, node: self } = await node.status();
    return (self.standing === "counting" && completeness === 1 && peers.every(({ connected }) => connected)) || undefined;
  });
  stage.clients.use(stage.nodes);
}

/** The same store and identity in two processes that both reach the others. */
async function cloned(stage: Stage, node: FaultyNode): Promise<void> {
  await node.stop();
  const folder = `${node.dataDir}-clone`;
  cpSync(node.dataDir, folder, { recursive: true });
  const clone = stage.federation.add(node.name, folder);
  node.start();
  clone.start();
  stage.tell(`${node.name} runs twice`);
  stage.clients.use([...stage.nodes, { name: `${node.name} (clone)`, url: clone.url }]);
  await eventually(
    "the two are two incarnations, or one of them has ended",
    PATIENCE_MS,
    async () => !clone.running || (await clone.status()).node.incarnation !== (await node.status()).node.incarnation || undefined,
  );
  await stage.progress(20, "with a clone about");
  stage.clients.use(stage.nodes);
  await clone.kill("SIGKILL");
  stage.formerDisks.push(await readDisk(`${node.name}'s clone`, folder));
}
