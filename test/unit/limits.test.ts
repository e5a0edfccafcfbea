import { readFileSync } from "node:fs";
import type { Stream } from "@libp2p/interface";
import { MemoryLevel } from "memory-level";
import { describe, expect, it } from "vitest";
import { createKeyring } from "../../crypto/keyring.ts";
import { Engine } from "../../node/engine.ts";
import { FRAME_KIND, FrameWriter } from "../../node/net/frames.ts";
import type { Network } from "../../node/ports.ts";
import type { Level } from "../../node/store/level-port.ts";
import { Store } from "../../node/store/store.ts";
import { decodeWire } from "../../protocol/codec.ts";
import { encodeFrame } from "../../protocol/frame.ts";
import type { Incarnation, NodeId } from "../../protocol/ids.ts";
import { encodeLayout, layoutOf, memberOf } from "../../protocol/layout.ts";
import * as limits from "../../protocol/limits.ts";
import { type Message, messageFromWire } from "../../protocol/message.ts";
import { createApi } from "./http-api.ts";
import { TestSystem } from "./http-router.ts";
import { FEDERATION, LAYOUT, PARTITION } from "./replica-world.ts";

/** Where the test lies that sends one too many, for every bound of protocol/limits.ts. "here" is this file. */
const TESTED_IN: Readonly<Record<keyof typeof limits, string>> = {
  HTTP_BODY_MAX_BYTES: "test/unit/http-errors.test.ts",
  TEXT_MAX_CHARS: "here",
  ENTITY_MAX_CHARS: "here",
  METADATA_MAX_BYTES: "here",
  METADATA_DEPTH_MAX: "here",
  BATCH_MEMORIES_MAX: "here",
  IDEMPOTENCY_KEY_MAX_CHARS: "here",
  ANSWERS_KEPT_MS: "test/unit/replica.test.ts",
  TENANT_MAX_CHARS: "here",
  DELTA_BODY_MAX_BYTES: "test/unit/delta.test.ts",
  DELTA_HEADER_MAX_BYTES: "test/unit/delta.test.ts",
  DELTA_ENTRIES_MAX: "test/unit/delta.test.ts",
  HLC_MS_MAX: "test/unit/delta.test.ts",
  HLC_COUNT_MAX: "test/unit/delta.test.ts",
  WIRE_ITEMS_MAX: "test/unit/codec.test.ts",
  FLOOR_TOMBSTONES_MAX: "test/unit/floor.test.ts",
  FLOOR_STREAMS_MAX: "test/unit/floor.test.ts",
  FRAME_MAX_BYTES: "test/unit/frame.test.ts",
  PEER_QUEUE_MAX_BYTES: "here",
  DOOR_SOCKETS_MAX: "test/contract/net-crowd.test.ts",
  PENDING_CONNECTIONS_MAX: "test/contract/net-crowd.test.ts",
  CONNECTIONS_A_PEER_MAX: "test/contract/net-crowd.test.ts",
  STREAMS_A_CONNECTION_MAX: "test/contract/net-crowd.test.ts",
  CONNECTION_WRITE_MAX_BYTES: "test/contract/net-crowd.test.ts",
  FIRST_FRAMES_MAX: "here",
  WEBSOCKET_MESSAGE_MAX_BYTES: "test/contract/net-ingress.test.ts",
  KNOWN_NODES_MAX: "test/unit/net-addresses.test.ts",
  CARDS_A_FRAME_MAX: "test/unit/net-frames.test.ts",
  ADDRESS_MAX_CHARS: "test/unit/net-frames.test.ts",
  CARD_ADDRESSES_MAX: "test/unit/net-frames.test.ts",
  CARDS_FRAME_MAX_BYTES: "test/unit/net-frames.test.ts",
  INTERVAL_DELTAS_MAX: "test/unit/message.test.ts",
  PULLS_MAX: "test/unit/catch-up.test.ts",
  PULLS_A_PEER_MAX: "test/unit/catch-up.test.ts",
  PULLS_WAITING_MAX: "test/unit/catch-up.test.ts",
  SERVES_MAX: "here",
  SERVED_DELTAS_MAX: "test/unit/outbox.test.ts",
  SERVED_MAX_BYTES: "test/unit/outbox.test.ts",
  SNAPSHOTS_SERVED_MAX: "test/contract/snapshots.test.ts",
  SNAPSHOT_PART_MAX_BYTES: "test/contract/snapshots.test.ts",
  COPIES_MAX: "test/contract/snapshots.test.ts",
  HEADS_STREAMS_MAX: "test/unit/message.test.ts",
  GOSSIP_MESSAGE_MAX_BYTES: "test/contract/net-gossip.test.ts",
  FORWARD_TIMEOUT_MAX_MS: "test/unit/forward.test.ts",
  FEDERATION_MEMBERS_MAX: "test/unit/layout.test.ts",
  NODE_NAME_MAX_CHARS: "test/unit/layout.test.ts",
  ZONE_MAX_CHARS: "test/unit/layout.test.ts",
  NODE_ID_MAX_CHARS: "test/unit/layout.test.ts",
  LAYOUT_MAX_BYTES: "test/unit/layout.test.ts",
  REPORT_PARTS_MAX: "test/unit/message.test.ts",
  SECRET_IDS_MAX: "test/unit/message.test.ts",
  SECRET_ID_MAX_CHARS: "test/unit/message.test.ts",
  SNAPSHOT_ROWS_MAX: "test/unit/message.test.ts",
  STORED_KEY_MAX_BYTES: "test/unit/message.test.ts",
  WITNESS_SEALED_MAX_BYTES: "test/unit/replica-changes.test.ts",
  CLOCK_AHEAD_MAX_MS: "test/unit/replica-changes.test.ts",
  KNOWN_STREAMS_MAX: "test/unit/knowledge.test.ts",
  REVOKED_NODES_MAX: "test/unit/revocations.test.ts",
  CLAIMANTS_MAX: "test/unit/succession.test.ts",
  LAYOUT_CHANGES_WAITING_MAX: "test/unit/layout-queue.test.ts",
  LAYOUT_CHANGE_ID_MAX_CHARS: "test/unit/layout-change.test.ts",
  FORMATION_MESSAGE_MAX_BYTES: "test/unit/formation.test.ts",
  FORMATION_STATE_MAX_BYTES: "test/unit/formation.test.ts",
  FORMATION_ROUND_MAX: "test/unit/formation.test.ts",
  FORMATION_REFUSALS_MAX: "test/unit/formation.test.ts",
  CONSENSUS_MESSAGE_MAX_BYTES: "test/unit/consensus.test.ts",
  CONSENSUS_STATE_MAX_BYTES: "test/unit/consensus.test.ts",
  CONSENSUS_ROUND_MAX: "test/unit/consensus.test.ts",
  REPLICATION_FACTOR_MAX: "test/unit/layout.test.ts",
  MEMBER_WEIGHT_MAX: "test/unit/layout.test.ts",
  DECAY_PERIOD_MAX_MS: "test/unit/layout.test.ts",
  PENDING_REQUESTS_MAX: "test/unit/http-errors.test.ts",
};

const read = (path: string): string => readFileSync(new URL(`../../${path}`, import.meta.url), "utf8");

describe("every bound", () => {
  it("is listed here, and nothing else is", () => {
    expect(Object.keys(TESTED_IN).sort()).toEqual(Object.keys(limits).sort());
  });

  it.each(Object.entries(TESTED_IN))("%s has a test that uses it where it is said to: %s", (name, path) => {
    const text = path === "here" ? read("test/unit/limits.test.ts").replace(/const TESTED_IN[^;]*;/, "") : read(path);
    const uses = text.split("\n").filter((line) => line.includes(name) && !line.startsWith("import "));
    expect(uses.length).toBeGreaterThan(0);
  });

  it("says why, in the lines above it", () => {
    const lines = read("protocol/limits.ts").split("\n");
    for (const name of Object.keys(limits)) {
      const at = lines.findIndex((line) => line.startsWith(`export const ${name} `));
      const above = lines.slice(0, at).findLast((line) => !line.startsWith("export const"));
      expect(above, name).toMatch(/^\/\*\*|^ \*\/|^\/\//);
    }
  });
});

describe("what a client may send, and one more", () => {
  const turn = { user_message: "hello", ai_response: "hi" };
  const memory = { entity: "a", content: "b" };
  const nested = (depth: number): object => (depth === 1 ? {} : { in: nested(depth - 1) });
  const padded = (bytes: number): object => ({ pad: "x".repeat(bytes - JSON.stringify({ pad: "" }).length) });
  const refused = async (method: string, url: string, body: object, headers: Record<string, string> = {}): Promise<string[]> => {
    const api = await createApi();
    const { status } = await api.call(method, url, { body, headers });
    return [String(status), ...api.router.seen.map(({ operation }) => operation)];
  };

  it.each([
    ["TEXT_MAX_CHARS", "/v1/learn", (more: number) => ({ ...turn, user_message: "x".repeat(limits.TEXT_MAX_CHARS + more) })],
    ["TEXT_MAX_CHARS", "/v1/memories", (more: number) => ({ ...memory, content: "x".repeat(limits.TEXT_MAX_CHARS + more) })],
    ["ENTITY_MAX_CHARS", "/v1/memories", (more: number) => ({ ...memory, entity: "x".repeat(limits.ENTITY_MAX_CHARS + more) })],
    ["METADATA_MAX_BYTES", "/v1/memories", (more: number) => ({ ...memory, metadata: padded(limits.METADATA_MAX_BYTES + more) })],
    ["METADATA_DEPTH_MAX", "/v1/memories", (more: number) => ({ ...memory, metadata: nested(limits.METADATA_DEPTH_MAX + more) })],
    [
      "BATCH_MEMORIES_MAX",
      "/v1/memories/batch",
      (more: number) => ({ memories: Array.from({ length: limits.BATCH_MEMORIES_MAX + more }, () => memory) }),
    ],
  ])("%s at %s", async (_name, url, body) => {
    const [atBound, ...ran] = await refused("POST", url, body(0));
    expect(atBound).toBe("200");
    expect(ran.length).toBeGreaterThan(0);
    expect(await refused("POST", url, body(1))).toEqual(["422"]);
  });

  it.each([
    ["idempotency-key", limits.IDEMPOTENCY_KEY_MAX_CHARS],
    ["x-tenant-id", limits.TENANT_MAX_CHARS],
  ])("the header %s: %d characters", async (name, most) => {
    expect((await refused("POST", "/v1/learn", turn, { [name]: "k".repeat(most) }))[0]).toBe("200");
    expect(await refused("POST", "/v1/learn", turn, { [name]: "k".repeat(most + 1) })).toEqual(["422"]);
  });
});

describe("what waits, and one more", () => {
  it("PEER_QUEUE_MAX_BYTES wait for a peer that takes nothing; the frame that does not fit is refused (P8)", () => {
    const stuck = { addEventListener: () => undefined, send: () => false, writeBufferLength: 0 } as unknown as Stream;
    const writer = new FrameWriter(stuck, limits.PEER_QUEUE_MAX_BYTES, () => undefined);
    const megabyte = new Uint8Array(1024 * 1024);
    while (writer.push(FRAME_KIND.data, megabyte)) expect(writer.waitingBytes).toBeLessThanOrEqual(limits.PEER_QUEUE_MAX_BYTES);
    expect(writer.waitingBytes).toBeGreaterThan(limits.PEER_QUEUE_MAX_BYTES - megabyte.length - 16);
    const header = 4;
    const room = limits.PEER_QUEUE_MAX_BYTES - writer.waitingBytes - header;
    expect(writer.push(FRAME_KIND.data, new Uint8Array(room + 1))).toBe(false);
    expect(writer.push(FRAME_KIND.data, new Uint8Array(room))).toBe(true);
    expect(writer.waitingBytes).toBe(limits.PEER_QUEUE_MAX_BYTES);
    writer.close();
  });

  it("FIRST_FRAMES_MAX pings and answers wait in front of a peer that takes nothing; one more is dropped (P8)", () => {
    const stuck = { addEventListener: () => undefined, send: () => false, writeBufferLength: 0 } as unknown as Stream;
    const writer = new FrameWriter(stuck, limits.PEER_QUEUE_MAX_BYTES, () => undefined);
    for (let i = 0; i < limits.FIRST_FRAMES_MAX; i++) writer.pushFirst(FRAME_KIND.pong, new Uint8Array(4));
    const full = writer.waitingBytes;
    expect(full).toBe(limits.FIRST_FRAMES_MAX * 8);
    writer.pushFirst(FRAME_KIND.pong, new Uint8Array(4));
    expect(writer.waitingBytes).toBe(full);
    writer.close();
  });

  it("SERVES_MAX intervals wait to be read for others; one more is dropped, and its peer asks again (P8)", async () => {
    const { engine, hear, repairs } = await engineOfAlice();
    const bob = LAYOUT.members[1]!;
    const want: Message = { type: "want", partition: PARTITION, writer: bob.writer, from: 1, to: 1 };
    for (let index = 0; index < limits.SERVES_MAX + 20; index++) hear(want);
    await expect.poll(() => repairs()).toBe(limits.SERVES_MAX);
    hear(want);
    await expect.poll(() => repairs()).toBe(limits.SERVES_MAX + 1);
    await engine.stop();
  });
});

/** A real engine and store of alice, with bob at the other end of a wire that the test holds. */
async function engineOfAlice() {
  const db = new MemoryLevel<string, Uint8Array>({ storeEncoding: "view", keyEncoding: "utf8", valueEncoding: "view" });
  await db.open();
  const index = { rows: () => [], committed: () => undefined, ready: async () => undefined, dropped: () => undefined };
  const store = await Store.open(db as unknown as Level, index, (length) => new Uint8Array(length).fill(7));
  const [, bob] = LAYOUT.members;
  const self = { ...LAYOUT.members[0]!, incarnation: "07".repeat(16) as Incarnation };
  const layout = layoutOf({ ...LAYOUT, members: [memberOf(self), ...LAYOUT.members.slice(1)] });
  await store.putMeta("layout", encodeLayout(layout));
  const sent: Message[] = [];
  const network: Network = {
    self: self.node,
    onFrame: () => undefined,
    onPeer: () => undefined,
    onNews: () => undefined,
    send: (_to: NodeId, frame: Uint8Array) => {
      sent.push(messageFromWire((decodeWire(frame, limits.FRAME_MAX_BYTES) as never)[4]));
      return true;
    },
    announce: () => undefined,
    connected: () => [bob!.node],
    latencyMs: () => undefined,
  };
  const silent = () => undefined;
  const engine = new Engine({
    store,
    federation: { network, keyring: createKeyring(["a secret of the limits"]) },
    node: self.node,
    index,
    system: new TestSystem(),
    meter: { count: silent, observe: silent },
    log: { debug: silent, info: silent, warn: silent, error: silent },
    settings: {
      name: self.name,
      zone: "",
      weight: 1,
      firstMembers: [],
      layout: LAYOUT,
      consistency: "quorum",
      syncIntervalMs: 5000,
      strictStart: false,
      logRetentionMs: 1e12,
      collectPaceMs: 1e9,
    },
    onFatal: (error) => {
      throw error;
    },
    onCopy: (reason) => {
      throw new Error(reason);
    },
  });
  await engine.start();
  const hear = (message: Message): void =>
    network.onFrame(bob!.node, encodeFrame({ federation: FEDERATION, writer: bob!.writer, layoutVersion: 1 }, message));
  network.onPeer(bob!.node, true);
  hear({
    type: "hello",
    versionMin: 1,
    versionMax: 1,
    federation: FEDERATION,
    name: bob!.name,
    incarnation: bob!.incarnation,
    zone: "",
    layoutVersion: 1,
  });
  return { engine, hear, repairs: () => sent.filter(({ type }) => type === "repair").length };
}
