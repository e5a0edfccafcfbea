/** What a node says of itself and its peers, on real engines whose truth is known. */
import { afterEach, expect, it } from "vitest";
import { FederationView } from "../../node/federation-status.ts";
import type { FederationStatus, PeerStatus } from "../../node/status.ts";
import { type KeyHash, type Level, SYSTEM_PARTITION } from "../../protocol/ids.ts";
import { Engines, type TestNode } from "./engine-world.ts";
import { keyOf, PARTITION, TENANT } from "./replica-world.ts";

// Of PARTITION alice and bob are replicas, carol is the witness.
const MEMBERS = ["alice", "bob", "carol"] as const;
type Name = (typeof MEMBERS)[number];
let engines: Engines;
let views: Map<string, FederationView>;
afterEach(() => engines.stop());

async function federation(): Promise<void> {
  engines = await Engines.of(MEMBERS);
  views = new Map();
  for (const [name, { engine, wire, id }] of engines.nodes)
    views.set(name, new FederationView(engine, wire, { id, version: "0.0.0", asksToJoin: () => false }));
  engines.connectAll();
  expect(await engines.pass(5000, () => [...engines.nodes.values()].every(({ engine }) => engine.replica?.standing === "counting"))).toBe(true);
  await pass(3000);
}

/** Time, in which each node looks at itself as it does twice a second. */
async function pass(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 500) {
    await engines.pass(500);
    for (const view of views.values()) view.observe();
  }
}

const statusOf = (name: Name): Promise<FederationStatus> => (views.get(name) as FederationView).status({ fingerprints: false });
const peerOf = async (at: Name, name: Name): Promise<PeerStatus> => (await statusOf(at)).peers.find((peer) => peer.name === name)!;

let writes = 0;
function write({ engine, system }: TestNode, level: Level, timeoutMs = 5000): Promise<unknown> {
  const number = ++writes;
  return engine.propose({
    tenant: TENANT,
    partition: PARTITION,
    level,
    key: keyOf(`write-${number}`) as KeyHash,
    fingerprint: "f",
    contributions: [{ op: "concept", id: `concept${number}`, mass: 1 }],
    answer: "null",
    deadline: system.monotonic() + timeoutMs,
    wall: system.now(),
  });
}
const written = (name: Name, level: Level = "quorum"): Promise<unknown> => engines.answer(write(engines.at(name), level));

it("says at rest that all is there and nothing waits", async () => {
  await federation();
  for (let count = 0; count < 5; count++) await written("alice");
  await pass(2000);
  for (const name of MEMBERS) {
    const status = await statusOf(name);
    expect(status).toMatchObject({
      completeness: 1,
      sync_lag_seconds: 0,
      quorum: { available: true, unavailable: 0, short_copies: 0, short_groups: 0, group_size: 3, quorum: 2 },
      witness: { held_deltas: 0, waits_for: [] },
      in_doubt_total: 0,
      copying: 0,
      damaged: [],
      moving: null,
    });
    for (const peer of status.peers) expect(peer).toMatchObject({ counts: true, behind: 0, lag_seconds: 0, damaged: 0 });
  }
});

it("says who is behind, by how much and for how long, and what a witness keeps for whom", async () => {
  await federation();
  engines.at("bob").wire.cut(engines.at("alice").wire);
  engines.at("bob").wire.cut(engines.at("carol").wire);
  for (let count = 0; count < 4; count++) await written("alice");
  await pass(15_000);
  const bob = await peerOf("alice", "bob");
  expect(bob).toMatchObject({ connected: false, healthy: false, behind: 4 });
  expect(bob.lag_seconds).toBeGreaterThanOrEqual(14);
  expect(bob.lag_seconds).toBeLessThanOrEqual(16);
  expect(await peerOf("alice", "carol")).toMatchObject({ behind: 0, lag_seconds: 0, counts: true });
  const [alice, carol] = [await statusOf("alice"), await statusOf("carol")];
  expect(alice.sync_lag_seconds).toBe(bob.lag_seconds);
  expect(carol.witness).toMatchObject({ held_deltas: 4, waits_for: [{ name: "bob", deltas: 4 }] });
  expect(carol.witness.held_bytes).toBeGreaterThan(100);
  // One full copy less, as each of the two sees that is left of the group.
  expect([alice.quorum.short_copies, carol.quorum.short_copies, alice.quorum.available]).toEqual([1, 1, true]);
  engines.connect("bob", "alice");
  engines.connect("bob", "carol");
  await pass(5000);
  expect(await peerOf("alice", "bob")).toMatchObject({ behind: 0, lag_seconds: 0, healthy: true });
  expect((await statusOf("carol")).witness).toMatchObject({ held_deltas: 0, waits_for: [] });
  expect((await statusOf("carol")).quorum.short_copies).toBe(0);
});

it("counts a copy that is damaged for nothing: in the quorum, among the copies, in what is here", async () => {
  await federation();
  for (let count = 0; count < 3; count++) await written("alice");
  await pass(2000);
  // What it acknowledged at last nobody else has: no other copy can take the place of this one.
  for (const other of ["bob", "carol"]) engines.at("alice").wire.cut(engines.at(other).wire);
  await written("alice", "one");
  const { engine } = engines.at("alice");
  engine.damaged({ partition: PARTITION, holding: "replica" }, "a test says so");
  await pass(1000);
  const alone = await statusOf("alice");
  expect(alone.damaged).toEqual([{ partition: PARTITION, role: "replica", state: "waiting" }]);
  expect([alone.completeness, alone.quorum.short_copies, alone.quorum.available]).toEqual([0, 1, false]);
  // The others have the rest of the group, until one of them goes.
  engines.connect("alice", "bob");
  await engines.pass(30);
  expect([await peerOf("bob", "alice"), (await statusOf("bob")).quorum]).toMatchObject([{ damaged: 1 }, { unavailable: 0, short_copies: 1 }]);
  engines.at("bob").wire.cut(engines.at("carol").wire);
  expect((await statusOf("bob")).quorum).toMatchObject({ available: false, unavailable: 1, system: true });
  engines.connect("bob", "carol");
  await pass(10_000);
  expect([await statusOf("alice"), await statusOf("bob")]).toMatchObject([
    { damaged: [], completeness: 1, quorum: { available: true } },
    { damaged: [], completeness: 1, quorum: { available: true, short_copies: 0 } },
  ]);
});

it("says how far each clock is off, and counts what was answered in doubt", async () => {
  await federation();
  const { system } = engines.at("bob");
  const right = system.now.bind(system);
  system.now = () => right() + 30_000;
  await pass(10_000);
  const ahead = (await peerOf("alice", "bob")).clock_ahead_ms!;
  expect([Math.round(ahead / 1000), Math.round((await peerOf("alice", "carol")).clock_ahead_ms! / 1000)]).toEqual([30, 0]);
  expect(Math.round((await statusOf("bob")).clock_ahead_ms! / 1000)).toBe(30);
  // Of two others both must say that a clock is ahead.
  expect((await statusOf("alice")).clock_ahead_ms!).toBeLessThanOrEqual(0);
  system.now = right;

  const doubted = write(engines.at("alice"), "quorum", 1000).catch((error: { code: string }) => error.code);
  for (const other of ["bob", "carol"]) engines.at("alice").wire.cut(engines.at(other).wire);
  expect(await engines.answer(doubted)).toBe("in_doubt");
  expect([(await statusOf("alice")).in_doubt_total, (await statusOf("bob")).in_doubt_total]).toEqual([1, 0]);
});

it("remembers over a restart how far others are known to hold what it lacks", async () => {
  await federation();
  await written("alice");
  await pass(5000);
  const { store, engine } = engines.at("bob");
  const [alice] = engine.layout!.members;
  const told = (await store.told(alice!.writer))!;
  const head = told.heads.find(({ partition }) => partition === PARTITION)!;
  // It was told of four more, and lost the connection before they came.
  await store.putTold(alice!.writer, { ...told, heads: [...told.heads.filter((other) => other !== head), { ...head, seq: head.seq + 4 }] });
  for (const other of ["alice", "carol"]) engines.at("bob").wire.cut(engines.at(other).wire);
  await engines.upgrade("bob");
  const { engine: again, wire, id } = engines.at("bob");
  await engines.pass(500);
  const status = await new FederationView(again, wire, { id, version: "0.0.0", asksToJoin: () => false }).status({ fingerprints: false });
  const held = again.replica!.ownHeads(PARTITION)[0]!.seq;
  const system = again.replica!.ownHeads(SYSTEM_PARTITION).reduce((sum, { seq }) => sum + seq, 0);
  expect(status.completeness).toBeCloseTo((held + system) / (held + system + 4), 10);
});
