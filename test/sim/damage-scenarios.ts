/** Schedules in words about a disk that returns other bytes than were written to it: one copy of one partition is damaged, everything else of the node is well. */
import { ApiError } from "../../node/errors.ts";
import { partitionOf } from "../../protocol/layout.ts";
import type { SimNode } from "./federation.ts";
import type { Violation } from "./history.ts";
import { Rng } from "./rng.ts";
import { expectThat, type Scenario, type Stage } from "./stage.ts";

const PARTITION = partitionOf("alpha");
const at = String(PARTITION).padStart(3, "0");

export const DAMAGE_SCENARIOS: readonly Scenario[] = [
  {
    name: "a damaged copy completes no quorum before it holds again all it had acknowledged, what it alone had included",
    play: async (stage) => {
      const { damaged, other, witness, incarnation } = await begun(stage);
      const { federation } = stage;
      // What it alone acknowledges, nobody is sent; that it holds it, everybody hears.
      stage.drop(["push", "repair"], damaged);
      await stage.ask(damaged, "put", { memory: "alone", value: "1" }, { level: "one" });
      await rot(stage, damaged, `r/${at}/`);
      federation.network.cutBoth(witness.id, other.id);
      federation.network.cutBoth(witness.id, damaged.id);
      await stage.pass(3000);
      // Two of three are connected, and one of the two counts for nothing here.
      const refused = await stage.ask(other, "put", { memory: "while it is damaged", value: "1" }, { timeoutMs: 1000 });
      const role = damaged.process?.engine.replica?.role(PARTITION);
      stage.lift();
      await whole(stage, damaged);
      await stage.insist(other, "put", { memory: "when it is whole", value: "1" });
      federation.network.healAll();
      await stage.pass(3000);
      return [
        ...expectThat(refused instanceof ApiError && refused.code === "no_quorum", "a damaged copy completed a quorum"),
        ...expectThat(role === undefined, "it was replaced by a copy that lacks what it had acknowledged"),
        ...expectThat(damaged.process?.engine.store.incarnation === incarnation, "it is another incarnation"),
        ...(await unseen(stage, [damaged, other], ["before", "alone", "when it is whole"])),
        ...(await stage.examine()),
      ];
    },
  },
  {
    name: "a node that stops while a damaged copy is replaced remembers over the restart what it had acknowledged of it",
    play: async (stage) => {
      const { damaged, other, witness, incarnation } = await begun(stage);
      const { federation } = stage;
      // It goes in the moment when the old rows have been given up and none of the new ones is there.
      federation.onEffect = (node, { kind, when }, { entries }) => {
        if (node !== damaged || kind !== "durable" || when !== "after" || !entries?.get(`q/${at}`)) return;
        federation.onEffect = () => {};
        stage.scheduler.after(0, () => federation.crash(damaged, "kill"));
      };
      await rot(stage, damaged, `d/${at}/`);
      await stage.until("it goes", () => !damaged.running);
      // It comes back to one that can give it nothing.
      federation.network.cutBoth(witness.id, damaged.id);
      stage.drop(["snapshot-part"], other);
      federation.start(damaged);
      await stage.until("it counts where it can", () => damaged.process?.engine.replica?.standing === "counting");
      await stage.pass(1000);
      federation.network.cutBoth(witness.id, other.id);
      await stage.pass(3000);
      const refused = await stage.ask(other, "put", { memory: "while it is damaged", value: "1" }, { timeoutMs: 1000 });
      federation.network.healAll();
      stage.lift();
      await whole(stage, damaged);
      return [
        ...expectThat(refused instanceof ApiError && refused.code === "no_quorum", "an empty copy completed a quorum"),
        ...expectThat(damaged.process?.engine.store.incarnation === incarnation, "it took itself for an old copy"),
        ...(await unseen(stage, [damaged, other], ["before"])),
        ...(await stage.examine()),
      ];
    },
  },
  {
    name: "whoever comes to read a row that has turned is answered by another replica, and the row is mended",
    play: async (stage) => {
      const { damaged, other } = await begun(stage);
      const turned = damaged.disk.flip(new Rng(1), `r/${at}/alpha/m/`);
      const read = await stage.ask(damaged, "read", { memories: ["before"], concepts: [] });
      await stage.until("it is known", () => damaged.process?.engine.replica?.isDamaged(PARTITION) === true);
      await whole(stage, damaged);
      return [
        ...expectThat(turned !== undefined, "nothing has turned"),
        ...expectThat(!(read instanceof ApiError), `the read was refused: ${(read as ApiError).message}`),
        ...(await unseen(stage, [damaged, other], ["before"])),
        ...(await stage.examine()),
      ];
    },
  },
  {
    name: "a witness whose sealed rows have turned counts for nothing until the replicas hold what they are kept for",
    play: async (stage) => {
      const { damaged: away, other, witness } = await begun(stage);
      const { federation } = stage;
      for (const node of federation.nodes) if (node !== away) federation.network.cutBoth(away.id, node.id);
      await stage.pass(3000);
      const kept = await stage.ask(other, "put", { memory: "kept", value: "1" });
      await rot(stage, witness, `s/${at}/`);
      await stage.pass(1000);
      const refused = await stage.ask(other, "put", { memory: "while it is damaged", value: "1" }, { timeoutMs: 1000 });
      federation.network.healAll();
      await whole(stage, witness);
      return [
        ...expectThat(!(kept instanceof ApiError), "a replica and the witness were no quorum"),
        ...expectThat(refused instanceof ApiError && refused.code === "no_quorum", "a damaged witness completed a quorum"),
        ...(await unseen(stage, [away, other], ["before", "kept"])),
        ...(await stage.examine()),
      ];
    },
  },
];

/** Everybody counts, and alpha's replicas hold a memory. */
async function begun(stage: Stage) {
  stage.start();
  await stage.formed();
  const {
    replicas: [damaged, other],
    witness,
  } = stage.groupOf("alpha");
  await stage.insist(other, "put", { memory: "before", value: "1" }, { level: "all" });
  await stage.pass(3000);
  return { damaged, other, witness, incarnation: damaged.process?.engine.store.incarnation };
}

/** A row turns, and the node reads its copies again. */
async function rot(stage: Stage, node: SimNode, prefix: string): Promise<void> {
  if (node.disk.flip(new Rng(1), prefix) === undefined) throw new Error(`${node.name} has nothing under ${prefix}`);
  stage.federation.scrub(node);
  await stage.until("it is found", () => node.process?.engine.replica?.isDamaged(PARTITION) === true);
}

async function whole(stage: Stage, node: SimNode): Promise<void> {
  await stage.until(`the copy of ${node.name} is whole again`, () => node.process?.engine.replica?.isDamaged(PARTITION) === false);
  await stage.until("nothing on its disk is turned", () => !node.disk.lies);
}

/** Which of these a quorum read through one of these nodes does not see. */
async function unseen(stage: Stage, nodes: readonly SimNode[], memories: readonly string[]): Promise<Violation[]> {
  const out: Violation[] = [];
  for (const node of nodes)
    for (const memory of memories)
      out.push(...expectThat((await stage.values(node, memory)).join() === "1", `a quorum read through ${node.name} does not see "${memory}"`));
  return out;
}
