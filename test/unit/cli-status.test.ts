import { expect, test } from "vitest";
import { drawTable } from "../../node/cli/print.ts";
import { drawStatus } from "../../node/cli/status.ts";
import type { FederationStatus, PeerStatus } from "../../node/status.ts";

const peer = (name: string, more: Partial<PeerStatus> = {}): PeerStatus => ({
  id: `12D3KooW${name}abcdefgh`,
  name,
  incarnation: "0".repeat(32),
  zone: "",
  role: "member",
  connected: true,
  healthy: true,
  latency_ms: 0.42,
  last_seen: "2026-11-21T12:00:00.000Z",
  behind: 0,
  lag_seconds: 0,
  counts: true,
  damaged: 0,
  clock_ahead_ms: -1234,
  protocol_version: 2,
  secret_ids: ["5ec2e701"],
  ...more,
});
const status: FederationStatus = {
  node: {
    id: "12D3KooWselfabcdefgh",
    name: "alice",
    incarnation: "1".repeat(32),
    writer: "w",
    role: "member",
    standing: "counting",
    asks_to_join: false,
    secret_ids: ["5ec2e701"],
    zone: "east",
    version: "0.1.0",
    protocol_version: 1,
  },
  layout: {
    version: 1,
    phase: "done",
    change: null,
    forced: false,
    federation_id: "79d4fff3656ec4a1",
    replication_factor: 2,
    resonance_decay: 0.85,
    hebbian_rate: 0.15,
    period_ms: 1,
    members: [],
    next: null,
  },
  moving: null,
  conflict: null,
  waiting_for: [],
  consistency: "quorum",
  peers: [peer("bob"), peer("carol", { connected: false, healthy: false, latency_ms: null, behind: 1 })],
  quorum: { available: true, unavailable: 0, system: true, short_groups: 0, short_copies: 0, group_size: 3, quorum: 2 },
  sync_lag_seconds: 1.25,
  completeness: 0.995,
  witness: { held_deltas: 1, held_bytes: 100, waits_for: [{ name: "carol", deltas: 1 }] },
  clock_ahead_ms: 12,
  in_doubt_total: 2,
  copying: 0,
  damaged: [],
  partitions: [
    { partition: 1, role: "replica", replicas: [], witnesses: [], frontier: {}, held_deltas: 0, fingerprint: "ab" },
    { partition: 2, role: "witness", replicas: [], witnesses: [], frontier: {}, held_deltas: 1, fingerprint: null },
  ],
};

test("a federation is drawn as a table a person can read", () => {
  expect(
    drawStatus(status),
  ).toBe(`Federation 79d4fff3 · layout 1 · replication factor 2 · quorum 2 of 3 · default consistency quorum · seen from alice

node     zone  role    state                                              round trip  behind    lag  clock   protocol  id          secrets
alice *  east  member  this node                                                                                       ..abcdefgh  5ec2e701
bob      -     member  healthy                                            0.4 ms      0 deltas       -1.2 s  2         ..abcdefgh  5ec2e701
carol    -     member  not connected, last seen 2026-11-21T12:00:00.000Z              1 delta        -1.2 s  2         ..abcdefgh  5ec2e701

Quorum is available.
Here, of the partitions with data: replica of 1, witness of 1 (keeping 1 delta: carol lacks 1).
Replication: 99.50 % of what is known is here; oldest waiting delta 1.3 s.
Clock: 0.0 s ahead of its peers'; answered in doubt since the start: 2.`);
});

test("a lost quorum and short groups are said in words", () => {
  const drawn = drawStatus({
    ...status,
    quorum: { available: false, unavailable: 256, system: false, short_groups: 256, short_copies: 0, group_size: 2, quorum: 2 },
  });
  expect(drawn).toContain(
    "Quorum is NOT available for 256 of 256 partitions, nor for changes of keys and the layout; 256 partitions with a short group.",
  );
  const halved = { ...status.quorum, available: false, unavailable: 0, system: false };
  expect(drawStatus({ ...status, quorum: halved })).toContain("Quorum is NOT available for changes of keys and the layout.");
});

test("what moves, what conflicts and what does not count yet is said", () => {
  const drawn = drawStatus({
    ...status,
    node: { ...status.node, standing: "refilling" },
    layout: { ...status.layout!, version: 3, phase: "joint" },
    moving: { phase: "joint", change: "c", partitions_total: 257, partitions_left: 17, members: [{ name: "dave", partitions_left: 17 }] },
    conflict: { peer: "12D3", version: 3 },
    quorum: { available: false, unavailable: 130, system: true, short_groups: 0, short_copies: 2, group_size: 3, quorum: 2 },
    completeness: 0.99999,
    copying: 1,
    peers: [peer("bob", { counts: false }), peer("carol", { damaged: 2 })],
    clock_ahead_ms: null,
  });
  expect(drawn).toContain("layout 3 (joint)");
  expect(drawn).toContain("Quorum is NOT available for 130 of 256 partitions; 2 partitions short of copies.");
  expect(drawn).toContain("this node, refilling");
  expect(drawn).toContain("healthy, does not count yet");
  expect(drawn).toContain("Layout 3 is joint: 240 of 257 partitions are with the owners to come; still to come: dave 17.");
  expect(drawn).toContain("healthy, 2 of its copies damaged");
  expect(drawn).toContain("Clock: nobody to compare with; answered in doubt since the start: 2.");
  expect(drawn).toContain("Two layouts 3 are in use: quorum stops.");
  expect(drawn).toContain("2 partitions short of copies");
  expect(drawn).toContain("99.99 % of what is known is here");
  expect(drawn).toContain("1 partition on the way here.");
});

test("damaged copies are named, by what is done about them", () => {
  const drawn = drawStatus({
    ...status,
    damaged: [
      { partition: 3, role: "replica", state: "copying" },
      { partition: 4, role: "witness", state: "waiting" },
      { partition: 9, role: "replica", state: "waiting" },
      { partition: 256, role: "replica", state: "only_copy" },
    ],
  });
  expect(drawn.split("\n").filter((line) => line.startsWith("DAMAGED"))).toEqual([
    "DAMAGED copies of partitions on this disk: 3 (replica); a whole one is on its way from another replica.",
    "DAMAGED copies of partitions on this disk: 4 (witness), 9 (replica); none that holds all of it can be had yet, see the runbook.",
    "DAMAGED copies of partitions on this disk: 256 (replica); there is no other: what cannot be read of them is lost.",
  ]);
});

test("a node that waits for layout 1 names whom it waits for", () => {
  expect(drawStatus({ ...status, layout: null, waiting_for: ["bob", "carol"] }).split("\n")[0]).toBe(
    "alice waits for layout 1: bob, carol not heard from yet",
  );
});

test("a single node says that it is one", () => {
  expect(drawStatus({ ...status, node: { ...status.node, role: "single" } })).toMatch(/^alice is a single node/);
});

test("columns are as wide as their widest cell and lines end without spaces", () => {
  expect(
    drawTable(
      ["a", "long head"],
      [
        ["wide cell", ""],
        ["x", "y"],
      ],
    ),
  ).toBe("a          long head\nwide cell\nx          y");
});
