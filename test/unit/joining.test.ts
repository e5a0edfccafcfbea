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
    expect(engines.at("dave").logged.filter((line) => /continuum layout replace bob/.test(line))).toHaveLength(1);
    expect(members()).toEqual([...MEMBERS]);
  }, 60_000);

  it("does not ask while it knows nobody: it has no layout", async () => {
    engines = await Engines.of(MEMBERS, { dave: { autoJoin: true } });
    await engines.pass(3 * ASK_MS);
    expect(engines.at("dave").engine.layout).toBeUndefined();
    expect(engines.at("dave").logged.filter((line) => line.includes("member"))).toEqual([]);
  });
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
