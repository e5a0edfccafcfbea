import { afterEach, describe, expect, it } from "vitest";
import { ApiError } from "../../node/errors.ts";
import type { LayoutAnswer } from "../../node/layout-admin.ts";
import { Revocations, type RevokedNode } from "../../node/revocations.ts";
import { SecretAdmin } from "../../node/secret-admin.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { REVOKED_NODES_MAX } from "../../protocol/limits.ts";
import { Engines, type TestNode } from "./engine-world.ts";

const MALLORY = "node-of-mallory" as NodeId;
let engines: Engines;
const watching: Revocations[] = [];
afterEach(async () => {
  for (const one of watching.splice(0)) one.stop();
  await engines.stop();
});

/** As node.ts puts them together, over the wires of engine-world. */
function watch(node: TestNode): Revocations {
  const revocations = new Revocations({
    engine: node.engine,
    router: () => node.router,
    connected: () => node.wire.connected(),
    disconnect: (other) => {
      const wire = node.wire.peers.get(other);
      if (wire !== undefined) node.wire.cut(wire);
    },
  });
  watching.push(revocations);
  return revocations;
}
const facts = (node: NodeId, secrets: string[] = []) => ({ node, name: node.slice("node-of-".length), secrets });

async function four() {
  engines = await Engines.of(["alice", "bob", "carol"], { mallory: {} });
  engines.connectAll();
  const names = ["alice", "bob", "carol"];
  const lists = Object.fromEntries(names.map((name) => [name, watch(engines.at(name))]));
  for (const list of Object.values(lists)) {
    await list.load();
    list.start();
  }
  expect(await engines.pass(5000, () => names.every((name) => engines.at(name).engine.replica?.standing === "counting"))).toBe(true);
  const ask = async <T>(operation: string, args: unknown, at = "alice"): Promise<T> =>
    (await engines.answer(engines.at(at).run<T>(operation, args))).value;
  return { lists, ask, names };
}

describe("a node that is revoked", () => {
  it("is cut off by every member within a second, and stays out until it is readmitted", async () => {
    const { lists, ask, names } = await four();
    await ask("revoke_node", facts(MALLORY));
    const out = () => names.every((name) => !engines.at(name).wire.connected().includes(MALLORY));
    expect(await engines.pass(1000, out)).toBe(true);
    for (const name of names) engines.connect("mallory", name);
    expect(await engines.pass(500, out)).toBe(true);
    expect(names.every((name) => lists[name]!.isRevoked(MALLORY))).toBe(true);
    await ask("readmit_node", { node: MALLORY }, "bob");
    expect(await engines.pass(1000, () => names.every((name) => !lists[name]!.isRevoked(MALLORY)))).toBe(true);
    engines.connect("mallory", "alice");
    await engines.pass(1000);
    expect(engines.at("alice").wire.connected()).toContain(MALLORY);
  });

  it("is known to a member that was away, once it is back", async () => {
    const { lists, ask, names } = await four();
    const carol = engines.at("carol");
    for (const other of [...carol.wire.peers.values()]) carol.wire.cut(other);
    await engines.pass(500);
    await ask("revoke_node", facts(MALLORY));
    await engines.pass(1000);
    expect(lists.carol!.isRevoked(MALLORY)).toBe(false);
    for (const name of names.slice(0, 2)) engines.connect("carol", name);
    expect(await engines.pass(10_000, () => lists.carol!.isRevoked(MALLORY))).toBe(true);
  });

  it("is shut out from the first moment after a start, whatever the record says then", async () => {
    const { ask } = await four();
    await ask("revoke_node", facts(MALLORY));
    await engines.pass(1000);
    const again = watch(engines.at("bob"));
    await again.load();
    expect(again.isRevoked(MALLORY)).toBe(true);
    // As on a disk whose copy of the system partition is not whole: what was written beside it holds.
    await engines.loseDisk("bob");
    const bob = engines.at("bob");
    const saved: RevokedNode = { ...facts(MALLORY), revoked_at: "2026-11-01T00:00:00.000Z", readmitted_at: null };
    await bob.store.putMeta("revoked", new TextEncoder().encode(JSON.stringify([saved])));
    const empty = watch(bob);
    await empty.load();
    expect(empty.isRevoked(MALLORY)).toBe(true);
  });

  it("is heard of by a node that is no member, from one", async () => {
    const { ask } = await four();
    await ask("revoke_node", facts("node-of-trudy" as NodeId));
    const list = watch(engines.at("mallory"));
    await list.load();
    list.start();
    expect(await engines.pass(6000, () => list.isRevoked("node-of-trudy" as NodeId))).toBe(true);
  });

  it("says so in its own log, should it hear of it", async () => {
    await four();
    const list = watch(engines.at("bob"));
    await list.load();
    const revoked: RevokedNode = { ...facts("node-of-bob" as NodeId), revoked_at: "2026-11-01T00:00:00.000Z", readmitted_at: null };
    list.learn(revoked);
    list.learn(revoked);
    expect(engines.at("bob").logged.filter((line) => line.includes("this node was revoked"))).toHaveLength(1);
  });
});

describe("the record of revoked nodes", () => {
  async function alone() {
    engines = await Engines.of([], { alice: { single: true } });
    const alice = engines.at("alice");
    return async <T>(operation: string, args: unknown): Promise<T> => (await engines.answer(alice.run<T>(operation, args))).value;
  }

  it("keeps when it was, adds what it knew, and is written once", async () => {
    const ask = await alone();
    const first = await ask<RevokedNode>("revoke_node", facts(MALLORY, ["0000aaaa"]));
    expect(first).toMatchObject({ node: MALLORY, name: "mallory", secrets: ["0000aaaa"], readmitted_at: null });
    await engines.pass(50);
    expect(await ask("revoke_node", { node: MALLORY, name: "", secrets: ["1111bbbb", "0000aaaa"] })).toEqual({
      ...first,
      secrets: ["0000aaaa", "1111bbbb"],
    });
    const readmitted = await ask<RevokedNode>("readmit_node", { node: "mallory" });
    expect(Date.parse(readmitted.readmitted_at as string)).toBeGreaterThanOrEqual(Date.parse(first.revoked_at));
    await engines.pass(50);
    const again = await ask<RevokedNode>("revoke_node", facts(MALLORY));
    expect(again.readmitted_at).toBeNull();
    expect(Date.parse(again.revoked_at)).toBeGreaterThan(Date.parse(first.revoked_at));
    expect(await ask("list_revoked_nodes", {})).toEqual({ revoked: [again] });
  });

  it("does not readmit whom nobody revoked", async () => {
    const ask = await alone();
    await expect(ask("readmit_node", { node: "nobody" })).rejects.toMatchObject({ code: "not_found" });
  });

  it("holds REVOKED_NODES_MAX nodes and refuses one more", async () => {
    const ask = await alone();
    for (let at = 0; at < REVOKED_NODES_MAX; at++) await ask("revoke_node", facts(`node-of-${at}` as NodeId));
    await expect(ask("revoke_node", facts("node-of-one-more" as NodeId))).rejects.toMatchObject({ code: "conflict" });
    await ask("revoke_node", facts("node-of-7" as NodeId));
  }, 120_000);
});

describe("an operator who revokes", () => {
  async function operated(apply: () => Promise<LayoutAnswer> = async () => ({ plan: {} as never, change: { id: "change-1" } as never })) {
    const world = await four();
    const alice = engines.at("alice");
    const ids = (node: NodeId): readonly string[] | undefined => (alice.wire.connected().includes(node) ? ["1111bbbb", "0000aaaa"] : undefined);
    const admin = new SecretAdmin({
      engine: alice.engine,
      self: alice.id,
      router: alice.router,
      layout: { apply },
      revocations: world.lists.alice!,
      secretIds: ids,
    });
    await admin.load();
    const by = { key: "k", requestId: "test", deadline: alice.system.monotonic() + 5000 };
    return { ...world, admin, by };
  }

  it("cuts the node off here at once, has it taken out of the layout, and hears that it still knows the secret", async () => {
    const { admin, by } = await operated();
    const done = await engines.answer(admin.revoke("bob", by));
    expect(engines.at("alice").wire.connected()).not.toContain("node-of-bob");
    expect(done).toMatchObject({ change: { id: "change-1" }, not_removed: null, revoked: { name: "bob", complete: false } });
    expect(done.revoked.secrets).toEqual(expect.arrayContaining(["0000aaaa", "1111bbbb", ...engines.at("alice").engine.secretIds]));
    const view = admin.view();
    expect(view.nodes.map(({ name }) => name)).toEqual(["alice", "carol", "mallory"]);
    expect(view.revoked).toMatchObject([{ name: "bob" }]);
  });

  it("hears both when it is shut out and cannot be taken out of the layout", async () => {
    const { admin, by, lists } = await operated(async () => {
      throw new ApiError("conflict", "Too few would be left.");
    });
    expect(await engines.answer(admin.revoke("node-of-bob", by))).toMatchObject({ change: null, not_removed: "Too few would be left." });
    expect(lists.alice!.isRevoked("node-of-bob" as NodeId)).toBe(true);
  });

  it("may name one that is no member, or by its id one that is not here; not this node, nor a name nobody has", async () => {
    const { admin, by } = await operated(() => expect.fail("nothing to take out"));
    expect(await engines.answer(admin.revoke("mallory", by))).toMatchObject({ change: null, not_removed: null });
    const id = `12D3KooW${"A".repeat(44)}`;
    expect(await engines.answer(admin.revoke(id, { ...by, key: "k2" }))).toMatchObject({ revoked: { node: id, name: "" } });
    await expect(admin.revoke("alice", by)).rejects.toMatchObject({ code: "conflict" });
    await expect(admin.revoke("nobody", by)).rejects.toMatchObject({ code: "not_found" });
  });
});
