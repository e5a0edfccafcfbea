/** Schedules in words about nodes that start again one by one with something new: another secret, a newer program. */
import { partitionOf } from "../../protocol/layout.ts";
import { SECRET, type SimNode } from "./federation.ts";
import type { Violation } from "./history.ts";
import { formed, unseen, written } from "./layout-scenarios.ts";
import { expectThat, type Scenario, type Stage } from "./stage.ts";

const NEXT = "the secret after that";

export const ROLLING_SCENARIOS: readonly Scenario[] = [
  {
    name: "the secret is rotated while a replica is cut off, for which a witness keeps deltas: it can read them, and the old secret goes",
    play: async (stage) => {
      await formed(stage);
      const { federation } = stage;
      const { replicas, witness } = stage.groupOf("alpha");
      const [late, other] = replicas;
      const refused = await written(stage, other, "under the old one", "quorum");
      for (const node of federation.nodes) await startedWith(stage, node, [SECRET, NEXT]);
      for (const node of [other, witness]) federation.network.cutBoth(late.id, node.id);
      await stage.pass(10_000);
      refused.push(...(await written(stage, other, "kept under the old one", "quorum")));
      const kept = [...(witness.process?.engine.store.staged.sealedUnder.values() ?? [])].reduce((sum, deltas) => sum + deltas, 0);
      refused.push(...expectThat(kept > 0, "the witness keeps nothing under the old secret"));
      const keeps = (): number => Object.keys(sealedUnderOthers(witness)).length;
      for (const node of [other, witness]) await startedWith(stage, node, [NEXT, SECRET], [other, witness]);
      refused.push(...(await written(stage, other, "kept under the new one", "quorum")));
      await stage.until("the witness has sealed again what it keeps", () => keeps() === 0);
      // Who could have given it the same in another way is gone: what it hears now is what was sealed again.
      federation.crash(other, "power");
      federation.network.healAll();
      await stage.until("the late one has what the witness kept", () => known(late, "heads") === known(witness, "marks"));
      federation.start(other);
      await startedWith(stage, late, [NEXT, SECRET]);
      await stage.until("nothing is under the old one", () => federation.nodes.every((node) => Object.keys(sealedUnderOthers(node)).length === 0));
      for (const node of federation.nodes) await startedWith(stage, node, [NEXT]);
      refused.push(...(await written(stage, late, "without the old one", "quorum")));
      const memories = ["under the old one", "kept under the old one", "kept under the new one", "without the old one"];
      return [...refused, ...(await unseen(stage, federation.nodes, memories)), ...(await stage.examine())];
    },
  },
  {
    name: "a rolling upgrade: each pair speaks what both know, and layouts change once all speak the new version",
    play: async (stage) => {
      const { federation, alice, bob } = stage;
      for (const node of federation.nodes) node.versions = { min: 1, max: 1 };
      await formed(stage);
      const refused: Violation[] = [];
      const memories: string[] = [];
      const goOn = async (when: string): Promise<void> => {
        for (const node of federation.nodes) {
          memories.push(`${when} at ${node.name}`);
          refused.push(...(await written(stage, node, `${when} at ${node.name}`, "quorum")));
        }
      };
      await goOn("with the old version");
      for (const node of federation.nodes) {
        node.versions = undefined;
        await startedWith(stage, node, node.secrets);
        const spoken = federation.nodes.filter((one) => one !== node).map((one) => node.process?.engine.links?.peer(one.id)?.version);
        const expected = federation.nodes.filter((one) => one !== node).map((one) => one.versions?.max ?? 2);
        refused.push(...expectThat(spoken.join() === expected.join(), `${node.name} speaks versions ${spoken}, not ${expected}`));
        await goOn(`with ${node.name} upgraded`);
      }
      const asked = await stage.change(alice, { op: "zone", name: "bob", zone: "east" });
      await stage.layoutAt(
        federation.nodes,
        "the change is done",
        ({ members, phase }) => phase === "done" && members.some(({ zone }) => zone === "east"),
      );
      await stage.pass(3000);
      return [
        ...refused,
        ...expectThat((await stage.outcomeOf(bob, asked)) === "done", "the change is not called done"),
        ...(await unseen(stage, federation.nodes, memories)),
        ...(await stage.examine()),
      ];
    },
  },
];

/** In an orderly way, as far as a disk can tell. @param ready who must count again before it goes on */
async function startedWith(
  stage: Stage,
  node: SimNode,
  secrets: readonly string[],
  ready: readonly SimNode[] = stage.federation.nodes,
): Promise<void> {
  stage.federation.crash(node, "kill");
  node.secrets = secrets;
  stage.federation.start(node);
  await stage.until(`${node.name} counts again`, () => ready.every((one) => one.process?.engine.replica?.standing === "counting"));
  await stage.until(`${node.name} hears the others`, () =>
    ready.every((one) => one === node || node.process?.engine.links?.peer(one.id) !== undefined),
  );
}

/** Of the partition of these memories: every stream, and how far it is held or seen. */
function known(node: SimNode, kind: "heads" | "marks"): string {
  const heads = node.process?.engine.replica?.ownHeads(partitionOf("alpha"), kind) ?? [];
  return heads
    .map(({ writer, seq }) => `${writer}:${seq}`)
    .sort()
    .join();
}

function sealedUnderOthers(node: SimNode): object {
  return Object.fromEntries(node.process?.engine.resealing?.others() ?? []);
}
