/** Fault 5: members join, leave and crash, in the middle of a layout change too. */
import { join } from "node:path";
import type { LayoutAsk } from "../../../node/layout-admin.ts";
import type { QueuedChange } from "../../../node/layout-queue.ts";
import { ask } from "../../e2e/ask.ts";
import { eventually } from "../../e2e/federation.ts";
import { askForChange, membersAt, outcomeOf } from "../operator.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { End, Stage } from "../stage.ts";

export const layoutChange: Scenario = {
  fault: 5,
  name: "members join, leave and crash in the middle of layout changes",
  says: "Under load a gateway is added, a weight changes, a member is drained and added again, and a drain is stopped; in each change somebody is killed at a random moment of it. A quorum read sees what was acknowledged whoever is asked, every change is done or taken back, and who is below its factor says so.",
  stage: () => ({ spare: 1, clients: { clients: 8, pauseMs: 30 } }),
  async play(stage, quick): Promise<End> {
    stage.clients.start();
    const fourth = stage.federation.add("node-4", join(stage.federation.dataDir, "node-4"));
    fourth.env.FEDERATION_FIRST_MEMBERS = "";
    fourth.start();
    await forwards(stage, fourth);
    await countsForNothing(stage, fourth);
    stage.clients.use([...stage.nodes, fourth]);
    await stage.progress(20, "through the gateway too");
    await alarm(stage);
    const all = [...stage.nodes, fourth];
    await changes(stage, all, { op: "add", name: "node-4" });
    const leaver = stage.rng.pick(stage.nodes);
    for (let round = 0; round < (quick ? 1 : 3); round++) {
      await changes(stage, all, { op: "weight", name: stage.rng.pick(all).name, weight: 1 + stage.rng.int(4) });
      await changes(stage, all, { op: "drain", name: leaver.name });
      await forwards(stage, leaver);
      if (round === 0) await stopped(stage, all, leaver);
      if (!quick) await changes(stage, all, { op: "add", name: leaver.name });
    }
    return { members: await membersAt(fourth) };
  },
};

async function forwards(stage: Stage, gateway: FaultyNode): Promise<void> {
  await eventually(`${gateway.name} forwards`, PATIENCE_MS, async () => {
    const answer = await ask(gateway.url, "GET", "/v1/memories?consistency=quorum", { headers: { "x-tenant-id": "anybody" } });
    return (answer.status === 200 && (await gateway.status()).node.role === "gateway") || undefined;
  });
  stage.tell(`${gateway.name} is a gateway, and forwards`);
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

/** A member is away and others write: they say that copies are short, and that they are not when it is back. */
async function alarm(stage: Stage): Promise<void> {
  const away = stage.rng.pick(stage.nodes);
  const others = stage.nodes.filter((node) => node !== away);
  const short = async (): Promise<boolean> => (await Promise.all(others.map((node) => node.status()))).some(({ quorum }) => quorum.short_copies > 0);
  stage.tell(`${away.name} leaves`);
  const code = await away.stop();
  stage.expect(code === 0, `${away.name} ended with ${code} when asked to stop under load`);
  await stage.progress(10, `without ${away.name}`);
  await eventually("somebody says that copies are short", PATIENCE_MS, async () => (await short()) || undefined);
  away.start();
  await stage.federation.ready();
  await eventually("nobody says so any more", PATIENCE_MS, async () => !(await short()) || undefined);
}

/** Asked for at one, while another, or the one that joins or leaves, is killed at a moment of it. */
async function changes(stage: Stage, all: readonly FaultyNode[], change: LayoutAsk): Promise<void> {
  const begun = performance.now();
  const queued = await askForChange(stage.rng.shuffle(all), change, `change-${stage.rng.next32()}`);
  stage.tell(`asked for: ${change.op} ${change.name}`);
  const slept = stage.rng.between(0, 3_000);
  await stage.during(slept);
  const victim = stage.rng.pick(all);
  stage.tell(`${victim.name} crashes, ${((performance.now() - begun) / 1000).toFixed(1)} s after it was asked for, in ${await phaseAt(all)}`);
  await victim.kill("SIGKILL");
  const left = all.filter((node) => node !== victim);
  stage.clients.use(left);
  await stage.progress(10, `without ${victim.name}`);
  victim.start();
  stage.clients.use(all);
  await stage.federation.ready(PATIENCE_MS, all);
  await ended(stage, all, queued, ["done", "nothing to do"]);
  await stage.progress(20, `after ${change.op} ${change.name}`);
}

async function phaseAt(all: readonly FaultyNode[]): Promise<string> {
  const phases = await Promise.all(all.map((node) => node.status().then(({ layout }) => layout?.phase)));
  return [...new Set(phases)].join(" and ");
}

async function ended(stage: Stage, all: readonly FaultyNode[], queued: QueuedChange, as: readonly string[]): Promise<void> {
  const { outcome, reason } = await outcomeOf(all, queued);
  stage.tell(`${queued.change.op}: ${outcome} ${reason}`);
  stage.expect(as.includes(outcome), `${JSON.stringify(queued.change)} ended as "${outcome}": ${reason}`);
  await eventually("all go by one layout, and nothing moves", PATIENCE_MS, async () => {
    const seen = await Promise.all(all.map(async (node) => (await node.status()).layout));
    return (seen.every((layout) => layout?.phase === "done") && new Set(seen.map((layout) => layout?.version)).size === 1) || undefined;
  });
}

/** A member hangs while another is to leave: nothing can be handed over to it, until somebody takes the change back. */
async function stopped(stage: Stage, all: readonly FaultyNode[], gateway: FaultyNode): Promise<void> {
  const members = all.filter((node) => node !== gateway);
  const [hangs, other] = stage.rng.shuffle(members) as [FaultyNode, FaultyNode];
  const others = all.filter((node) => node !== hangs);
  const before = await membersAt(other);
  stage.clients.use(others);
  hangs.pause();
  const queued = await askForChange([other], { op: "drain", name: other.name }, `change-${stage.rng.next32()}`);
  await eventually("it is staged", PATIENCE_MS, async () => (await other.status()).layout?.phase === "staged" || undefined);
  stage.tell(`${hangs.name} hangs while ${other.name} is drained`);
  await stage.progress(10, "while nothing can be handed over");
  const stop = await askForChange([other], { op: "stop" }, `stop-${stage.rng.next32()}`);
  await outcomeOf([other], stop);
  hangs.resume();
  stage.clients.use(all);
  await ended(stage, all, queued, ["stopped"]);
  stage.expect((await membersAt(other)).join() === before.join(), "a change that was stopped has changed who the members are");
}
