/** Schedules in words about who the members are: changes of the layout, lost and old disks, two machines with one disk, floors, clocks. */
import { decode } from "cborg";
import { ApiError } from "../../node/errors.ts";
import { type Level, SYSTEM_TENANT } from "../../protocol/ids.ts";
import type { Layout } from "../../protocol/layout.ts";
import type { SimNode } from "./federation.ts";
import type { Violation } from "./history.ts";
import { frameKind } from "./raw-frame.ts";
import { WallClock } from "./sim-system.ts";
import { expectThat, type Scenario, type Stage } from "./stage.ts";

export const LAYOUT_SCENARIOS: readonly Scenario[] = [
  {
    name: "a member joins through staged, joint and done, and what is written at each step is read through everybody afterwards",
    play: async (stage) => {
      await formed(stage);
      const { alice, federation } = stage;
      const dave = stage.addMachine("dave");
      const refused: Violation[] = await written(stage, alice, "before", "quorum");
      const asked = await stage.add(alice, dave);
      // Once a phase holds at one of them: the others go by the version before.
      for (const phase of ["staged", "joint", "done"] as const) {
        await stage.until(`somebody is ${phase}`, () =>
          federation.nodes.some((node) => isLater(stage.layout(node), 1) && stage.layout(node)?.phase === phase),
        );
        for (const node of federation.nodes) refused.push(...(await written(stage, node, `${phase} at ${node.name}`, "quorum")));
        refused.push(...(await written(stage, alice, `${phase} at one`, "one")));
      }
      await stage.layoutAt(federation.nodes, "the change is done", ({ members, phase }) => phase === "done" && members.length === 4);
      await stage.formed();
      const memories = [
        "before",
        ...["staged", "joint", "done"].flatMap((phase) => [`${phase} at one`, ...federation.nodes.map(({ name }) => `${phase} at ${name}`)]),
      ];
      return [
        ...refused,
        ...(await unseen(stage, federation.nodes, memories)),
        ...expectThat((await stage.outcomeOf(alice, asked)) === "done", "the change is not called done"),
        ...(await stage.examine()),
      ];
    },
  },
  {
    name: "a member that leaves and alone holds a write hands it over first",
    nodeCount: 4,
    play: async (stage) => {
      await formed(stage);
      const [leaver, other] = stage.groupOf("alpha").replicas;
      // Its deltas reach nobody; that it holds them, everybody hears.
      const quiet = new Set(["push", "repair", "snapshot-part"]);
      stage.federation.network.filter = (sender, _to, frame) => sender !== leaver.id || !quiet.has(frameKind(frame));
      await stage.ask(leaver, "put", { memory: "m", value: "1" }, { level: "one" });
      await stage.change(other, { op: "remove", name: leaver.name, drain: false });
      await stage.pass(8000);
      const early = stage.federation.nodes.some((node) => stage.layout(node)?.phase === "done" && isLater(stage.layout(node), 1));
      stage.lift();
      const rest = stage.federation.nodes.filter((node) => node !== leaver);
      await stage.layoutAt(rest, "it has left", ({ members, phase }) => phase === "done" && members.length === 3, 60_000);
      await stage.pass(5000);
      stage.federation.crash(leaver, "power");
      stage.federation.remove(leaver);
      return [...expectThat(!early, "it was let go while it alone held a write"), ...(await unseen(stage, rest, ["m"])), ...(await stage.examine())];
    },
  },
  {
    name: "a new owner that dies for good blocks nobody: the change goes on or is stopped, and writes go on",
    play: async (stage) => {
      await formed(stage);
      const { alice, federation } = stage;
      const dave = stage.addMachine("dave");
      const members = federation.nodes.filter((node) => node !== dave);
      hold(stage);
      const asked = await stage.add(alice, dave);
      await stage.layoutAt(members, "it is staged", ({ phase }) => phase === "staged");
      federation.crash(dave, "power");
      federation.remove(dave);
      const staged = await written(stage, alice, "staged", "quorum");
      await stage.change(alice, { op: "stop" });
      await stage.layoutAt(members, "it is stopped", ({ phase, version }) => phase === "done" && version > 1);
      await stage.until("the change is ended", () => stage.federation.nodes.every((node) => node.process?.engine.queue?.waiting().length === 0));
      stage.lift();
      return [
        ...staged,
        ...(await written(stage, alice, "stopped", "quorum")),
        ...expectThat(stage.layout(alice)?.members.length === 3, "the dead one is a member"),
        ...expectThat((await stage.outcomeOf(alice, asked)) === "stopped", "the change is not called stopped"),
        ...(await unseen(stage, members, ["staged", "stopped"])),
        ...(await stage.examine()),
      ];
    },
  },
  {
    name: "a member that missed several versions comes back by itself, and with it what it alone had",
    play: async (stage) => {
      await formed(stage);
      const { federation } = stage;
      const [away, here] = stage.groupOf("alpha").replicas;
      stage.drop(["push", "repair"], away);
      await stage.ask(away, "put", { memory: "alone", value: "1" }, { level: "one" });
      federation.crash(away, "kill");
      stage.lift();
      const rest = federation.nodes.filter((node) => node !== away);
      for (const zone of ["east", "west"]) {
        await stage.change(here, { op: "zone", name: away.name, zone });
        await stage.layoutAt(rest, `the zone is ${zone}`, ({ members, phase }) => phase === "done" && members.some((member) => member.zone === zone));
      }
      const meanwhile = await written(stage, here, "meanwhile", "quorum");
      federation.start(away);
      await stage.layoutAt(federation.nodes, "all go by version 7", ({ version }) => version === 7);
      await stage.formed();
      await stage.pass(5000);
      return [...meanwhile, ...(await unseen(stage, federation.nodes, ["alone", "meanwhile"])), ...(await stage.examine())];
    },
  },
  {
    name: "two operators at once: both changes come about, one after the other, in one order for everybody",
    play: async (stage) => {
      await formed(stage);
      const { alice, bob, carol, federation } = stage;
      const asked = await Promise.all([
        stage.change(alice, { op: "zone", name: "bob", zone: "east" }),
        stage.change(carol, { op: "weight", name: "bob", weight: 5 }),
      ]);
      await stage.layoutAt(federation.nodes, "both are done", ({ version, phase }) => phase === "done" && version === 7);
      await stage.pass(3000);
      const outcomes = [await stage.outcomeOf(bob, asked[0]), await stage.outcomeOf(bob, asked[1])];
      const member = stage.layout(carol)?.members.find(({ name }) => name === "bob");
      return [
        ...expectThat(outcomes.join() === "done,done", `they ended as ${outcomes}`),
        ...expectThat(member?.zone === "east" && member.weight === 5, "one change undid the other"),
        ...(await stage.examine()),
      ];
    },
  },
  ...(["staged", "joint", "done"] as const).map(
    (phase): Scenario => ({
      name: `a disk lost while the layout is ${phase} is listed again in that phase, and counts once it holds what the others held`,
      nodeCount: 4,
      play: async (stage) => {
        await formed(stage);
        const { federation } = stage;
        const [lost, other] = stage.groupOf("alpha").replicas;
        const before = await written(stage, lost, "before", "quorum");
        if (phase !== "done") {
          // Away from `other`, so that groups change.
          await stage.change(other, { op: "zone", name: other.name, zone: "east" });
          if (phase === "staged") hold(stage);
          await stage.until(`it is ${phase}`, () => federation.nodes.some((node) => stage.layout(node)?.phase === phase));
          hold(stage);
          await stage.layoutAt(federation.nodes, `all are ${phase}`, (layout) => layout.phase === phase);
        }
        const versions = federation.nodes.map((node) => stage.layout(node)?.version ?? 0);
        stage.loseDisk(lost);
        federation.start(lost);
        await stage.layoutAt(federation.nodes, "it is listed again", (layout) => relisted(layout, lost) && layout.phase === phase);
        const at = stage.layout(other)?.version ?? 0;
        await stage.formed();
        const meanwhile = await written(stage, lost, "meanwhile", "quorum");
        stage.lift();
        await stage.layoutAt(federation.nodes, "the change is done", (layout) => layout.phase === "done", 60_000);
        return [
          ...before,
          ...meanwhile,
          ...expectThat(at === Math.max(...versions) + 1, `it was listed again in version ${at}, after ${versions}`),
          ...(await unseen(stage, federation.nodes, ["before", "meanwhile"])),
          ...(await stage.examine()),
        ];
      },
    }),
  ),
  {
    name: "a disk lost again while its first loss is voted on is listed again a second time",
    play: async (stage) => {
      await formed(stage);
      const { federation } = stage;
      const [lost, other] = stage.groupOf("alpha").replicas;
      const refused = await written(stage, other, "before", "quorum");
      const accepts = new Set<SimNode>();
      federation.network.filter = (from, _to, frame) => {
        if (frameKind(frame) !== "vote/yes") return true;
        const voter = federation.nodes.find(({ id }) => id === from);
        if (voter !== undefined) accepts.add(voter);
        return false;
      };
      stage.loseDisk(lost);
      federation.start(lost);
      await stage.until("somebody has accepted that it is listed again", () => accepts.size > 0);
      stage.loseDisk(lost);
      federation.start(lost);
      await stage.pass(3000);
      stage.lift();
      // What was accepted comes first, and lists the incarnation that is gone.
      await stage.layoutAt(federation.nodes, "it is listed again as what it is now", (layout) => relisted(layout, lost), 60_000);
      await stage.formed();
      return [
        ...refused,
        ...expectThat((stage.layout(other)?.version ?? 0) === 3, `the layouts came to version ${stage.layout(other)?.version}`),
        ...(await unseen(stage, federation.nodes, ["before"])),
        ...(await stage.examine()),
      ];
    },
  },
  {
    name: "two members, a third joining, one disk lost: the re-listing does not wait for the change",
    nodeCount: 2,
    play: async (stage) => {
      await formed(stage);
      const { alice, bob, federation } = stage;
      const before = await written(stage, alice, "before", "quorum");
      const dave = stage.addMachine("dave");
      hold(stage);
      await stage.add(alice, dave);
      await stage.layoutAt([alice, bob], "it is staged", ({ phase }) => phase === "staged");
      stage.loseDisk(bob);
      federation.start(bob);
      await stage.layoutAt([alice, bob], "bob is listed again", (layout) => relisted(layout, bob));
      const phase = stage.layout(alice)?.phase;
      stage.lift();
      await stage.layoutAt(federation.nodes, "dave is a member", (layout) => layout.phase === "done" && layout.members.length === 3);
      await stage.formed();
      return [
        ...before,
        ...expectThat(phase === "staged", `it was listed again while the layout was ${phase}`),
        ...(await unseen(stage, federation.nodes, ["before"])),
        ...(await stage.examine()),
      ];
    },
  },
  {
    name: "a yes to a version is kept over a restart: what one member decided with it the others do not decide otherwise",
    play: async (stage) => {
      const { alice, bob, carol, federation } = await decidedByTwo(stage);
      federation.crash(bob, "power");
      federation.start(bob);
      // Nobody here has heard of the change that alice knows.
      await stage.change(carol, { op: "weight", name: "carol", weight: 5 });
      await stage.layoutAt([bob, carol], "both changes are made, or one", ({ version, phase }) => phase === "done" && version > 1, 60_000);
      federation.network.healAll();
      await stage.layoutAt([alice, bob, carol], "both changes are done", ({ version, phase }) => phase === "done" && version === 7, 60_000);
      return await stage.examine();
    },
  },
  {
    name: "no member speaks of a version before it is on its disk",
    play: async (stage) => {
      await formed(stage);
      const { alice, federation } = stage;
      const early: string[] = [];
      federation.network.filter = (from, _to, frame) => {
        const node = federation.nodes.find(({ id }) => id === from) as SimNode;
        const stored = node.disk.durable().get("!layout");
        const durable = stored === undefined ? 0 : (decode(stored.subarray(4)) as number[])[1]!;
        const said = (decode(frame) as number[])[3]!;
        if (said > durable) early.push(`${node.name} speaks under version ${said}, and has ${durable} on its disk`);
        return true;
      };
      await stage.change(alice, { op: "zone", name: "bob", zone: "east" });
      await stage.layoutAt(federation.nodes, "it is done", ({ version, phase }) => phase === "done" && version === 4);
      stage.lift();
      return [...early.slice(0, 3).flatMap((line) => expectThat(false, line)), ...(await stage.examine())];
    },
  },
  {
    name: "the same old copy put back twice: each time it is another incarnation, and no number is used twice",
    play: async (stage) => {
      await formed(stage);
      const { federation } = stage;
      const [node, other] = stage.groupOf("alpha").replicas;
      const refused = await written(stage, node, "first", "quorum");
      await stage.pass(5000);
      const copy = node.disk.copy();
      const incarnations = new Set([node.process?.engine.store.incarnation]);
      for (const time of ["once", "twice"]) {
        refused.push(...(await written(stage, node, `at its own disk ${time}`, "quorum")));
        await stage.pass(5000);
        federation.crash(node, "kill");
        federation.restore(node, copy);
        federation.start(node);
        await stage.layoutAt(federation.nodes, `it is listed again ${time}`, (layout) => {
          const { incarnation } = node.process?.engine.store ?? {};
          return incarnation !== undefined && !incarnations.has(incarnation) && layout.members.some((member) => member.incarnation === incarnation);
        });
        await stage.formed();
        incarnations.add(node.process?.engine.store.incarnation);
        refused.push(...(await written(stage, node, `after ${time}`, "quorum")));
      }
      const memories = ["first", ...["once", "twice"].flatMap((time) => [`at its own disk ${time}`, `after ${time}`])];
      return [...refused, ...(await unseen(stage, [node, other], memories)), ...(await stage.examine())];
    },
  },
  {
    name: "a memory deleted and collected stays deleted, whatever old copy and late retry return",
    play: async (stage) => {
      await formed(stage);
      const { federation } = stage;
      const [first, second] = stage.groupOf("alpha").replicas;
      // In doubt: the client hears nothing, the delta spreads later.
      for (const node of federation.nodes) if (node !== first) federation.network.cutBoth(first.id, node.id);
      const put = { memory: "m", value: "1" };
      const doubted = await stage.ask(first, "put", put, { key: "k", timeoutMs: 300 });
      federation.network.healAll();
      await stage.pass(10_000);
      const copy = second.disk.copy();
      const deleted = await stage.ask(first, "delete", { memory: "m" }, { level: "all" });
      const tombstones = (): number =>
        federation.nodes.flatMap((node) => [...node.disk.durable().keys()]).filter((key) => /^r\/[^/]+\/[^/]+\/x\//.test(key)).length;
      const atFirst = tombstones();
      await stage.until("the tombstone is collected", () => tombstones() === 0, 120_000);
      const retried = await stage.ask(second, "put", put, { key: "k" });
      const afterRetry = await stage.values(first, "m");
      federation.crash(second, "kill");
      federation.restore(second, copy);
      federation.start(second);
      await stage.pass(5000);
      await stage.formed();
      await stage.pass(5000);
      return [
        ...expectThat(doubted instanceof ApiError && doubted.code === "in_doubt", "the first execution was not in doubt"),
        ...expectThat(!(deleted instanceof ApiError), "the deletion was refused"),
        ...expectThat(atFirst > 0, "there was no tombstone"),
        ...expectThat(
          !(retried instanceof ApiError) || retried.code === "idempotency_key_expired",
          `the retry ended in ${(retried as ApiError).code}`,
        ),
        ...expectThat(afterRetry.length === 0, "the retry has brought it back"),
        ...expectThat((await stage.values(second, "m")).length === 0, "the old copy has brought it back"),
        ...expectThat((await stage.values(first, "m")).length === 0, "the old copy has brought it back to the other"),
        ...(await stage.examine()),
      ];
    },
  },
  {
    name: "a retry a week later is told that its answer is not kept, and counts once, also at a replica whose disk was lost since",
    play: async (stage) => {
      await formed(stage);
      const { federation } = stage;
      const [first, second] = stage.groupOf("alpha").replicas;
      const put = { memory: "m", value: "1" };
      const asked = await stage.ask(first, "put", put, { key: "k" });
      const days = (count: number): void => {
        for (const { clock } of federation.nodes) clock.offsetMs += count * 24 * 3_600_000;
      };
      const retry = async (node: SimNode): Promise<string> => {
        const answer = await stage.ask(node, "put", put, { key: "k" });
        return answer instanceof ApiError ? answer.code : JSON.stringify(answer.value);
      };
      days(6);
      await stage.pass(5000);
      const within = [await retry(first), await retry(second)];
      days(2);
      await stage.pass(5000);
      stage.loseDisk(second);
      federation.start(second);
      await stage.formed();
      await stage.pass(5000);
      const after = [await retry(first), await retry(second)];
      federation.crash(first, "power");
      federation.start(first);
      await stage.formed();
      after.push(await retry(first));
      return [
        ...expectThat(
          !(asked instanceof ApiError) && within.every((answer) => answer === JSON.stringify(asked.value)),
          `within a week the retries were answered with ${within}`,
        ),
        ...expectThat(
          after.every((code) => code === "idempotency_key_expired"),
          `after it they were answered with ${after}`,
        ),
        ...(await unseen(stage, [first, second], ["m"])),
        ...(await stage.examine()),
      ];
    },
  },
  {
    name: "a node whose clock is an hour ahead stamps nothing, lets another write for it, and writes again once its clock is right",
    play: async (stage) => {
      await formed(stage);
      const [ahead, other] = stage.groupOf("alpha").replicas;
      ahead.clock.offsetMs += 3_600_000;
      const byAnother = await written(stage, ahead, "by another", "quorum");
      const latest = stage.registry.latestMs;
      const elsewhere = await written(stage, other, "elsewhere", "quorum");
      ahead.clock.correct();
      await stage.pass(5000);
      return [
        ...byAnother,
        ...expectThat(latest < WallClock.EPOCH_MS + stage.scheduler.now + 60_000, "a clock value of the future was spent"),
        ...elsewhere,
        ...(await written(stage, ahead, "ahead", "quorum")),
        ...(await unseen(stage, [ahead, other], ["by another", "elsewhere", "ahead"])),
        ...(await stage.examine()),
      ];
    },
  },
  {
    name: "a volume that two machines run from at once: one of them becomes another incarnation, and no number is used twice",
    play: async (stage) => {
      await formed(stage);
      const { federation } = stage;
      const [original, other] = stage.groupOf("alpha").replicas;
      const refused = await written(stage, original, "before", "quorum");
      await stage.pass(5000);
      const twin = federation.clone(original);
      federation.start(twin);
      const incarnation = original.process?.engine.store.incarnation;
      await stage.pass(20_000);
      for (const node of [original, twin, other]) await stage.ask(node, "put", { memory: `through ${node.name}`, value: "1" });
      await stage.pass(10_000);
      const incarnations = [original, twin].map((node) => node.process?.engine.store.incarnation);
      return [
        ...refused,
        ...expectThat(incarnations[0] !== incarnations[1], "both run as one incarnation"),
        ...expectThat(
          incarnations.some((one) => one !== incarnation),
          "neither is another incarnation",
        ),
        ...(await unseen(stage, [other], ["before"])),
        ...stage.registry.violations,
      ];
    },
  },
  {
    name: "a volume that two machines run from, one of them cut off: what the lone one acknowledged at one is written again under its keys",
    play: async (stage) => {
      await formed(stage);
      const { federation } = stage;
      const [original, other] = stage.groupOf("alpha").replicas;
      const refused = await written(stage, original, "before", "quorum");
      await stage.pass(5000);
      const others = federation.nodes.filter((node) => node !== original);
      const twin = federation.clone(original);
      for (const node of [...others, twin]) federation.network.cutBoth(original.id, node.id);
      federation.start(twin);
      await stage.until("the twin counts", () => twin.process?.engine.replica?.standing === "counting");
      // The same numbers for other deltas: nobody knows better yet.
      const alone = [...(await written(stage, original, "alone", "one")), ...(await written(stage, original, "alone too", "one"))];
      await stage.ask(original, "bump", { concepts: ["lone", "wolf"] }, { level: "one", key: "counted once" });
      const together = await written(stage, twin, "together", "quorum");
      const incarnation = original.process?.engine.store.incarnation;
      federation.crash(twin, "kill");
      federation.remove(twin);
      federation.network.healAll();
      // Some are being written, and some wait behind them, in the moment in which it learns that it is the copy.
      const begun = [];
      for (let n = 0; n < 2000 && original.process?.engine.store.incarnation === incarnation; n++) {
        begun.push(stage.begin(original, "put", { memory: `late ${n}`, value: "1" }, { level: "one" }));
        original.disk.stall(5);
        await stage.pass(1);
      }
      await stage.until("the original is another incarnation and counts", () => isRelisted(stage, original) && federation.counting);
      const late = begun.flatMap(({ answer }, n) => (answer === undefined || answer instanceof ApiError ? [] : [`late ${n}`]));
      await stage.pass(10_000);
      // A client that had no answer asks again.
      await stage.insist(other, "bump", { concepts: ["lone", "wolf"] }, { key: "counted once" });
      await stage.pass(5000);
      const frontiers = federation.nodes.map((node) => [...node.disk.contents()].filter(([key]) => /^[fw]\//.test(key)));
      const texts = new Map<string, Set<string>>();
      for (const rows of frontiers)
        for (const [key, value] of rows) texts.set(key.slice(2), (texts.get(key.slice(2)) ?? new Set()).add(Buffer.from(value).toString("hex")));
      const counts = [await stage.count(original, "lone"), await stage.count(other, "lone")];
      const set = [...original.disk.contents().keys()].filter((key) => key.startsWith("a/"));
      return [
        ...refused,
        ...alone,
        ...together,
        ...(await unseen(stage, [original, other], ["before", "alone", "alone too", "together", ...late])),
        ...expectThat(
          [...texts.values()].every((values) => values.size === 1),
          "frontiers differ at rest",
        ),
        ...expectThat(set.length === 0, `set aside, and not written again: ${set.join(", ")}`),
        ...expectThat(counts.join() === "1,1", `what was asked for twice under one key counts ${counts.join(" and ")}`),
      ];
    },
  },
];

/** alice and bob decide version 2 and alice goes by it; carol hears nothing of it, bob does not hear that it is decided, and then alice is cut off. */
async function decidedByTwo(stage: Stage): Promise<Stage> {
  if (stage.layout(stage.alice) === undefined) await formed(stage);
  const { alice, bob, carol, federation } = stage;
  federation.network.filter = (from, to, frame) => {
    if (from !== alice.id) return true;
    const kind = frameKind(frame);
    return to === bob.id
      ? !["push", "repair", "layout", "told", "held"].includes(kind)
      : !["push", "repair", "layout"].includes(kind) && !kind.startsWith("vote/");
  };
  await stage.ask(alice, "layout.change", { op: "zone", name: "bob", zone: "east" }, { tenant: SYSTEM_TENANT, level: "one" });
  await stage.until("alice goes by version 2", () => stage.layout(alice)?.version === 2);
  federation.network.cutBoth(alice.id, bob.id);
  federation.network.cutBoth(alice.id, carol.id);
  stage.lift();
  return stage;
}

export async function formed(stage: Stage): Promise<void> {
  stage.start();
  await stage.formed();
}

/** No change goes on from the phase it is in: nobody hears that partitions are handed over. Until `lift`. */
function hold(stage: Stage): void {
  stage.federation.network.filter = (_from, _to, frame) => frameKind(frame) !== "ready";
}

export async function written(stage: Stage, node: SimNode, memory: string, level: Level): Promise<Violation[]> {
  try {
    await stage.insist(node, "put", { memory, value: "1" }, { level });
    return [];
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    return expectThat(false, `"${memory}" at ${level} was refused through ${node.name}: ${error.message}`);
  }
}

/** Which of these a quorum read through one of these nodes does not see. */
export async function unseen(stage: Stage, nodes: readonly SimNode[], memories: readonly string[]): Promise<Violation[]> {
  const out: Violation[] = [];
  for (const node of nodes)
    for (const memory of memories)
      out.push(...expectThat((await stage.values(node, memory)).join() === "1", `a quorum read through ${node.name} does not see "${memory}"`));
  return out;
}

function isLater(layout: Layout | undefined, version: number): boolean {
  return (layout?.version ?? 0) > version;
}

function isRelisted(stage: Stage, node: SimNode): boolean {
  const layout = stage.layout(node);
  return layout !== undefined && relisted(layout, node);
}

function relisted(layout: Layout, node: SimNode): boolean {
  const { incarnation } = node.process?.engine.store ?? {};
  return layout.members.some((member) => member.name === node.name && member.relisted > 0 && member.incarnation === incarnation);
}
