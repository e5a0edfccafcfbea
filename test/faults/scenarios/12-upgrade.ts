/** Fault 12: a rolling upgrade with two protocol versions, and a version that nobody speaks. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { PROTOCOL_VERSION } from "../../../protocol/version.ts";
import { eventually } from "../../e2e/federation.ts";
import { VERSIONS } from "../old-version.ts";
import { askForChange, outcomeOf } from "../operator.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { Stage } from "../stage.ts";

const OLD = "1..1";
const FUTURE = PROTOCOL_VERSION + 1;

export const upgrade: Scenario = {
  fault: 12,
  name: "a rolling upgrade between two protocol versions",
  says: "Three nodes that speak the first protocol version form and serve; under load one after the other is started again with the program of today, one of them taken back once. Each pair speaks what both know, nothing is lost, and what only the new version can works once all have it. A node of a version that nobody speaks is refused by name.",
  stage: () => ({ versions: true, spare: 1, env: { [VERSIONS]: OLD }, clients: { clients: 8, pauseMs: 30 } }),
  async play(stage, quick) {
    stage.clients.start();
    await stage.progress(20, "with the old version everywhere");
    const order = stage.rng.shuffle(stage.nodes);
    for (const node of order) {
      await startedAs(stage, node, "");
      if (node === order[0] && !quick) {
        await startedAs(stage, node, OLD);
        await startedAs(stage, node, "");
      }
    }
    const queued = await askForChange(stage.nodes, { op: "weight", name: order[0]!.name, weight: 3 }, "after-the-upgrade");
    const { outcome, reason } = await outcomeOf(stage.nodes, queued);
    stage.expect(outcome === "done", `a change of the layout, with the new version everywhere, ended as ${outcome}: ${reason}`);
    await stage.progress(20, "with the new version everywhere");
    await fromTheFuture(stage);
    return undefined;
  },
};

async function startedAs(stage: Stage, node: FaultyNode, versions: string): Promise<void> {
  await node.stop();
  node.env[VERSIONS] = versions;
  node.start();
  await stage.federation.ready();
  const speaks = (one: FaultyNode): number => (one.env[VERSIONS] === OLD ? 1 : PROTOCOL_VERSION);
  await eventually("each pair speaks what both know", PATIENCE_MS, async () => {
    const { peers } = await node.status();
    const right = peers.map((peer) => peer.protocol_version === Math.min(speaks(node), speaks(stage.federation.node(peer.name))));
    return (right.length === stage.nodes.length - 1 && right.every(Boolean)) || undefined;
  });
  stage.tell(`${node.name} speaks up to version ${speaks(node)}`);
  await stage.progress(20, `with ${node.name} at version ${speaks(node)}`);
}

async function fromTheFuture(stage: Stage): Promise<void> {
  const late = stage.federation.add("node-4", join(stage.federation.dataDir, "node-4"));
  late.env[VERSIONS] = `${FUTURE}..${FUTURE}`;
  late.env.FEDERATION_FIRST_MEMBERS = "";
  late.start();
  await eventually("it is refused, and says why", PATIENCE_MS, async () => /VERSION/.test(readFileSync(late.logFile, "utf8")) || undefined);
  stage.tell(
    readFileSync(late.logFile, "utf8")
      .split("\n")
      .find((line) => line.includes("VERSION"))!,
  );
  const { layout, peers } = await late.status();
  stage.expect(layout === null && peers.every(({ connected }) => !connected), "a node of a version that nobody speaks was let in");
  await stage.progress(10, "beside a node from the future");
  await late.stop();
}
