import { afterEach, describe, expect, it } from "vitest";
import { changesOf } from "../../node/layout-queue.ts";
import { SYSTEM_TENANT } from "../../protocol/ids.ts";
import { votersOf } from "../../protocol/layout.ts";
import { Engines } from "./engine-world.ts";

const MEMBERS = ["alice", "bob", "carol"] as const;
const ASK_MS = 3000;
const MINUTE = 60_000;

let engines: Engines;
afterEach(() => engines.stop());

/** Who is a member, as each node sees it, once they all go by one version with no change under way. */
function members(): string[] | undefined {
  const layouts = [...engines.nodes.values()].map(({ engine }) => engine.layout);
  const [first] = layouts;
  if (first === undefined || layouts.some((layout) => layout?.version !== first.version || layout.phase !== "done")) return undefined;
  return first.members.map(({ name }) => name);
}
const asked = () => {
  const { store, engine } = engines.at("alice");
  return changesOf(store.stagedReader(SYSTEM_TENANT, engine.layout!));
};
const connect = (...pairs: readonly (readonly [string, string])[]) => {
  for (const [one, other] of pairs) engines.connect(one, other);
};
const complaints = () => engines.at("dave").logged.filter((line) => line.includes("does not ask to be a member yet"));
const becomes = (...names: string[]) => engines.pass(60_000, () => members()?.join() === names.join());

describe("a node that no layout lists", () => {
  it("asks to be added when its operator said so, and is a member after three versions", async () => {
    engines = await Engines.of(MEMBERS, { dave: { autoJoin: true } });
    engines.connectAll();
    expect(await becomes("alice", "bob", "carol", "dave")).toBe(true);
    const dave = engines.at("dave");
    expect(dave.engine.layout!.version).toBe(4);
    expect(dave.engine.replica!.standing).toBe("counting");
    await engines.pass(1000);
    expect(asked()).toMatchObject([{ change: { op: "add", member: dave.member }, outcome: "done" }]);
    expect(dave.logged).toContain("this node has asked to be a member");
    await engines.pass(3 * ASK_MS);
    expect(asked()).toHaveLength(1);
  }, 60_000);

  it("waits for its operator otherwise, says so once, and is a member when one adds it", async () => {
    engines = await Engines.of(MEMBERS, { dave: {} });
    engines.connectAll();
    await engines.pass(3 * ASK_MS);
    const { logged, member } = engines.at("dave");
    expect(logged.filter((line) => line.includes("continuum layout add dave"))).toHaveLength(1);
    expect(asked()).toEqual([]);
    await engines.answer(engines.at("bob").run("layout.change", { op: "add", member }));
    expect(await becomes("alice", "bob", "carol", "dave")).toBe(true);
  }, 60_000);

  it("asks through whichever members it reaches, if they are most and the others do not appear within a minute", async () => {
    engines = await Engines.of(MEMBERS, { dave: { autoJoin: true } });
    connect(["alice", "bob"], ["alice", "carol"], ["bob", "carol"], ["carol", "dave"], ["bob", "dave"]);
    await engines.pass(60_000);
    expect(asked()).toEqual([]);
    expect(complaints()).toEqual([expect.stringMatching(/not connected with alice of 3 members: it waits 60 s.*FEDERATION_ADVERTISE/)]);
    expect(await engines.pass(10_000, () => asked().length > 0)).toBe(true);
  }, 60_000);

  it("does not ask while it reaches one of three: behind one address for all of them it would take what the other two could not write any more", async () => {
    engines = await Engines.of(MEMBERS, { dave: { autoJoin: true } });
    connect(["alice", "bob"], ["alice", "carol"], ["bob", "carol"], ["carol", "dave"]);
    await engines.pass(2 * MINUTE);
    expect(asked()).toEqual([]);
    expect(complaints()).toEqual([expect.stringMatching(/not connected with alice, bob of 3 members: a majority is needed/)]);
    connect(["alice", "dave"], ["bob", "dave"]);
    expect(await becomes("alice", "bob", "carol", "dave")).toBe(true);
  }, 60_000);

  it("does not ask under the name of a member: that is another node, and its operator is told what to do", async () => {
    engines = await Engines.of(MEMBERS, { dave: { autoJoin: true, name: "bob" } });
    engines.connectAll();
    await engines.pass(3 * ASK_MS);
    expect(asked()).toEqual([]);
    expect(engines.at("dave").logged.filter((line) => /continuum layout add bob/.test(line))).toHaveLength(1);
    expect(members()).toEqual([...MEMBERS]);
  }, 60_000);

  it("does not ask while it knows nobody: it has no layout", async () => {
    engines = await Engines.of(MEMBERS, { dave: { autoJoin: true } });
    await engines.pass(3 * ASK_MS);
    expect(engines.at("dave").engine.layout).toBeUndefined();
    expect(engines.at("dave").logged.filter((line) => line.includes("member"))).toEqual([]);
  });
});

describe("a node with a member's name and an identity that nobody knows", () => {
  /** bob is not connected, unless a test connects him; dave says that he is bob. */
  async function comes(inStatefulSet: boolean): Promise<void> {
    engines = await Engines.of(MEMBERS, { dave: { name: "bob", inStatefulSet } });
    for (const [one, other] of [
      ["alice", "carol"],
      ["alice", "dave"],
      ["carol", "dave"],
    ] as const)
      engines.connect(one, other);
  }
  const bobs = (at = "alice") => engines.at(at).engine.layout!.members.find(({ name }) => name === "bob")!;
  const isPlaced = (): boolean => bobs().node === engines.at("dave").id && bobs("carol").node === engines.at("dave").id;

  it("takes its place in a StatefulSet once that one has stayed away, and counts when it has taken back what the others hold", async () => {
    await comes(true);
    await engines.pass(2000);
    await engines.answer(engines.at("alice").run("layout.change", { op: "zone", name: "carol", zone: "z" }));
    await engines.pass(2000);
    const { version } = engines.at("alice").engine.layout!;
    await engines.pass(24_000, isPlaced);
    expect([isPlaced(), engines.at("alice").engine.layout!.version]).toEqual([false, version]);
    expect(await engines.pass(20_000, isPlaced)).toBe(true);
    expect(bobs().relisted).toBe(version + 1);
    const { engine, store } = engines.at("dave");
    expect(await engines.pass(20_000, () => engine.replica?.standing === "counting")).toBe(true);
    expect(changesOf(store.stagedReader(SYSTEM_TENANT, engine.layout!))).toEqual(asked());
    // The one it succeeded comes back: it forwards, and does not take the place again, though the other is away for a while.
    engines.connect("bob", "alice");
    engines.connect("bob", "carol");
    for (const other of ["alice", "carol"]) engines.at("dave").wire.cut(engines.at(other).wire);
    await engines.pass(40_000);
    expect([isPlaced(), engines.at("bob").engine.replica?.standing]).toEqual([true, "unlisted"]);
    expect(engines.at("bob").logged.filter((line) => /continuum layout add bob/.test(line))).toHaveLength(1);
  }, 300_000);

  it("does not while that one is connected to anybody", async () => {
    await comes(true);
    engines.connect("bob", "carol");
    await engines.pass(50_000);
    expect([isPlaced(), bobs().node, engines.at("alice").engine.layout!.version]).toEqual([false, engines.at("bob").id, 1]);
    expect(engines.at("alice").logged.filter((line) => /lives under a new incarnation/.test(line))).toEqual([]);
    const dave = engines.at("dave").engine.links!.peer(engines.at("dave").id);
    expect(dave).toBeUndefined();
    const refused = engines.answer(engines.at("alice").engine.succeed(engines.at("alice").engine.links!.peer(engines.at("dave").id)!, 1e12));
    await expect(refused).rejects.toMatchObject({ code: "conflict", message: expect.stringMatching(/lives under its old identity/) });
    await engines.pass(20_000);
    expect(bobs().node).toBe(engines.at("bob").id);
  }, 300_000);

  it("waits for an operator outside of one, whose word at one member is enough", async () => {
    await comes(false);
    await engines.pass(50_000);
    expect(isPlaced()).toBe(false);
    const { engine } = engines.at("carol");
    await engines.answer(engine.succeed(engine.links!.peer(engines.at("dave").id)!, 1e12));
    expect(await engines.pass(1000, isPlaced)).toBe(true);
    expect(await engines.pass(20_000, () => engines.at("dave").engine.replica?.standing === "counting")).toBe(true);
  }, 300_000);

  it("is not placed by one member's word where more are needed, and the operator is told so in time", async () => {
    await comes(false);
    await engines.pass(3000);
    engines.at("carol").wire.cut(engines.at("alice").wire);
    const { engine, system } = engines.at("carol");
    const asks = engine.succeed(engine.links!.peer(engines.at("dave").id)!, system.monotonic() + 8000);
    await expect(engines.answer(asks)).rejects.toMatchObject({ code: "no_quorum" });
    expect(isPlaced()).toBe(false);
    engines.connect("carol", "alice");
    expect(await engines.pass(20_000, isPlaced)).toBe(true);
  }, 300_000);
});

describe("a member", () => {
  it("does not ask", async () => {
    engines = await Engines.of(MEMBERS, {}, { alice: { autoJoin: true } });
    engines.connectAll();
    await engines.pass(3 * ASK_MS);
    expect(asked()).toEqual([]);
  });

  it("that lost its disk does not ask either: the others list its new incarnation, and it counts again", async () => {
    engines = await Engines.of(MEMBERS);
    engines.connectAll();
    await engines.pass(2000);
    await engines.answer(engines.at("bob").run("layout.change", { op: "zone", name: "carol", zone: "z" }));
    expect(await engines.pass(30_000, () => asked()[0]?.outcome === "done")).toBe(true);
    const lost = engines.at("bob").engine.writer;
    await engines.loseDisk("bob", { autoJoin: true });
    const again = engines.at("bob");
    expect(again.engine.writer).not.toBe(lost);
    expect(await engines.pass(30_000, () => again.engine.replica?.standing === "counting")).toBe(true);
    const listed = votersOf(engines.at("alice").engine.layout!);
    expect(listed.map(({ writer }) => writer)).toContain(again.engine.writer);
    expect(listed.map(({ writer }) => writer)).not.toContain(lost);
    expect(asked()).toHaveLength(1);
    expect(changesOf(again.store.stagedReader(SYSTEM_TENANT, again.engine.layout!))).toEqual(asked());
  }, 60_000);
});
