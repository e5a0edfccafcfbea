/** Fault 1: SIGKILL and power cut at every step of a write. */
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { brokenDisksMissing, type DiskOrder } from "../broken-disk.ts";
import type { FaultyNode } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { Stage } from "../stage.ts";

export const killed: Scenario = {
  fault: 1,
  name: "killed and powered off at every step of a write",
  says: "Nodes are SIGKILLed at random moments, just before an fsync, just after it and before anybody was told, and lose all that was not synced (torn and zeroed log tails too), one at a time and all at once. What was acknowledged is there; nothing is half there.",
  missing: brokenDisksMissing,
  stage: () => ({ brokenDisks: true, clients: { clients: 12, pauseMs: 15 } }),
  async play(stage, quick) {
    stage.clients.start();
    const rounds = quick ? 1 : 4;
    for (let round = 0; round < rounds; round++) {
      for (const victim of stage.rng.shuffle(stage.nodes).slice(0, quick ? 1 : 3)) await killAtRandom(stage, victim);
      for (const order of ["kill-before", "kill-after"] as const) await killAtSync(stage, stage.rng.pick(stage.nodes), order);
      await powerCut(stage, [stage.rng.pick(stage.nodes)]);
      await powerCut(stage, stage.nodes);
    }
    await stage.progress(30, "after everything");
  },
};

async function killAtRandom(stage: Stage, victim: FaultyNode): Promise<void> {
  await stage.during(stage.rng.between(200, 1200));
  stage.tell(`SIGKILL for ${victim.name}`);
  await victim.kill("SIGKILL");
  await stage.progress(10, `without ${victim.name}`);
  await back(stage, [victim]);
}

async function killAtSync(stage: Stage, victim: FaultyNode, order: DiskOrder): Promise<void> {
  stage.tell(`${victim.name} will die at its next sync: ${order}`);
  const dead = victim.expectDeath();
  victim.disk.order(order);
  await dead;
  victim.disk.order("work");
  const lost = victim.disk.cutPower(stage.rng);
  stage.tell(`${victim.name} is dead; and its power was cut: ${lost}`);
  await back(stage, [victim]);
}

async function powerCut(stage: Stage, victims: readonly FaultyNode[]): Promise<void> {
  await stage.during(stage.rng.between(100, 600));
  await Promise.all(victims.map((victim) => victim.kill("SIGKILL")));
  for (const victim of victims) stage.tell(`power cut at ${victim.name} (${storeKb(victim)} KB): ${victim.disk.cutPower(stage.rng)}`);
  await back(stage, victims);
}

async function back(stage: Stage, nodes: readonly FaultyNode[]): Promise<void> {
  for (const node of nodes) node.start();
  await stage.federation.ready();
}

function storeKb(node: FaultyNode): number {
  const folder = join(node.dataDir, "store");
  return Math.round(readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0) / 1024);
}
