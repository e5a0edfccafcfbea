import { MemoryLevel } from "memory-level";
import { beforeEach, describe, expect, it } from "vitest";
import { createKeyring } from "../../crypto/keyring.ts";
import { Links } from "../../node/links.ts";
import { Outbox } from "../../node/outbox.ts";
import type { Network } from "../../node/ports.ts";
import type { Level } from "../../node/store/level-port.ts";
import { Store } from "../../node/store/store.ts";
import { decodeWire } from "../../protocol/codec.ts";
import { buildDelta, type Delta, genesisHash } from "../../protocol/delta.ts";
import { openEnvelope } from "../../protocol/envelope.ts";
import { FRAME_MAX_BYTES, SERVED_DELTAS_MAX, SERVED_MAX_BYTES } from "../../protocol/limits.ts";
import { type MessageOf, messageFromWire } from "../../protocol/message.ts";
import { PROTOCOL_VERSION, PROTOCOL_VERSION_MIN } from "../../protocol/version.ts";
import { TestSystem } from "./http-router.ts";
import { alice, bob, FEDERATION, keyOf, PARTITION, TENANT, WALL } from "./replica-world.ts";

const keyring = createKeyring(["a secret of the outbox"]);
const silent = () => undefined;
const log = { debug: silent, info: silent, warn: silent, error: silent };
const meter = { count: silent, observe: silent };

/** Time that passes only while the store is read, and timers that the test runs. */
class SlowSystem extends TestSystem {
  readonly pauses: { ms: number; run: () => void }[] = [];
  override after(ms?: number, run?: () => void): () => void {
    this.pauses.push({ ms: ms!, run: run! });
    return () => {};
  }
}

let system: SlowSystem;
let store: Store;
let outbox: Outbox;
let repairs: MessageOf<"repair">[];
let readMs: number;

beforeEach(async () => {
  system = new SlowSystem();
  repairs = [];
  readMs = 0;
  const db = new MemoryLevel<string, Uint8Array>({ storeEncoding: "view", keyEncoding: "utf8", valueEncoding: "view" });
  await db.open();
  const index = { rows: () => [], committed: silent, ready: async () => undefined, dropped: silent };
  store = await Store.open(db as unknown as Level, index, (length) => new Uint8Array(length).fill(7));
  const network: Network = {
    self: alice.node,
    onFrame: silent,
    onPeer: silent,
    onNews: silent,
    send: (_to, frame) => {
      system.ms += readMs;
      repairs.push(messageFromWire((decodeWire(frame, FRAME_MAX_BYTES) as never)[4]) as MessageOf<"repair">);
      return true;
    },
    announce: silent,
    connected: () => [bob.node],
    latencyMs: silent,
  };
  const links = new Links({
    network,
    keyring,
    self: { name: alice.name, incarnation: alice.incarnation, writer: alice.writer, zone: "" },
    versions: { min: PROTOCOL_VERSION_MIN, max: PROTOCOL_VERSION },
    federation: () => ({ federation: FEDERATION, layoutVersion: 1, layoutTag: "" }),
    meter,
    log,
    onPeer: silent,
    onMessage: silent,
  });
  const onFailure = (error: Error): never => {
    throw error;
  };
  outbox = new Outbox({ store, links, keyring, system, meter, federation: () => FEDERATION, onFailure });
});

/** A stream of alice's, on disk. */
async function holds(count: number, textBytes: number): Promise<Delta[]> {
  const deltas: Delta[] = [];
  for (let seq = 1; seq <= count; seq++) {
    const previous = deltas.at(-1)?.hash ?? genesisHash(alice.writer, PARTITION);
    const header = { writer: alice.writer, partition: PARTITION, seq, previous, hlc: [WALL, seq] as const, key: keyOf(`k${seq}`), saw: {} };
    deltas.push(buildDelta(header, { tenant: TENANT, fingerprint: "f", answer: "x".repeat(textBytes), entries: [] }));
  }
  for (const delta of deltas) store.staged.stage({ type: "delta", delta, changes: [] });
  await store.flush();
  return deltas;
}

function serve(from: number, to: number): void {
  const heads = [{ partition: PARTITION, writer: alice.writer, seq: 1000, hash: "" }];
  outbox.serve({ type: "serve", to: bob.node, partition: PARTITION, writer: alice.writer, from, to_seq: to, sealed: false }, heads);
}

describe("an interval for a peer", () => {
  it("holds SERVED_DELTAS_MAX deltas at the most, and the peer asks on from there", async () => {
    const deltas = await holds(SERVED_DELTAS_MAX + 1, 10);
    serve(1, SERVED_DELTAS_MAX + 1);
    await expect.poll(() => repairs.length).toBe(1);
    expect(repairs[0]!.envelopes.map((envelope) => openEnvelope(envelope, keyring, FEDERATION).hash)).toEqual(
      deltas.slice(0, SERVED_DELTAS_MAX).map(({ hash }) => hash),
    );
    serve(SERVED_DELTAS_MAX + 1, SERVED_DELTAS_MAX + 1);
    await expect.poll(() => repairs.length).toBe(2);
    expect(repairs[1]!.envelopes).toHaveLength(1);
  });

  it("ends with the delta that passes SERVED_MAX_BYTES", async () => {
    await holds(5, SERVED_MAX_BYTES / 2);
    serve(1, 5);
    await expect.poll(() => repairs.length).toBe(1);
    expect(repairs[0]!.envelopes).toHaveLength(2);
  });

  it("is followed by a pause as long as it took, and no longer than 50 ms, so that repair leaves room for clients", async () => {
    await holds(3, 10);
    readMs = 20;
    for (const seq of [1, 2, 3]) serve(seq, seq);
    await expect.poll(() => system.pauses.map(({ ms }) => ms)).toEqual([20]);
    expect(repairs).toHaveLength(1);
    readMs = 300;
    system.pauses[0]!.run();
    await expect.poll(() => system.pauses.map(({ ms }) => ms)).toEqual([20, 50]);
    expect(repairs).toHaveLength(2);
    system.pauses[1]!.run();
    await expect.poll(() => repairs.length).toBe(3);
  });
});
