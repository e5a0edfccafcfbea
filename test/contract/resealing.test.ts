import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { createKeyring, type Keyring } from "../../crypto/keyring.ts";
import type { PeerInfo } from "../../node/links.ts";
import type { GraphIndex } from "../../node/ports.ts";
import { Resealing } from "../../node/resealing.ts";
import { keys } from "../../node/store/keyspace.ts";
import type { Level } from "../../node/store/level-port.ts";
import { Store } from "../../node/store/store.ts";
import { system } from "../../node/system.ts";
import type { Delta } from "../../protocol/delta.ts";
import { openEnvelope, sealDelta } from "../../protocol/envelope.ts";
import type { NodeId, Partition } from "../../protocol/ids.ts";
import type { MessageOf } from "../../protocol/message.ts";
import { Author, PARTITION, START_MS, writerNamed } from "../unit/graph-executions.ts";
import { FEDERATION } from "../unit/replica-world.ts";
import { classicLevel, memoryLevel, type Subject, simulatedDisk, watched } from "./store-subjects.ts";

const OLD = "the secret that is to go";
const NEW = "the secret that is to stay";
const before = createKeyring([OLD]);
const during = createKeyring([NEW, OLD]);
const after = createKeyring([NEW]);
const [newId, oldId] = during.ids as [string, string];
const ANN = writerNamed("ann");

const index: GraphIndex = { rows: () => [], committed: () => undefined, ready: async () => undefined, dropped: () => undefined };
const zeros = (length: number): Uint8Array => new Uint8Array(length);

function written(name: string, count: number, text = "tide"): Delta[] {
  const author = new Author(name);
  for (let at = 0; at < count; at++) author.write([{ op: "concept", id: text, mass: 1 }], `${name}-${at}`, START_MS + at);
  return author.own;
}
function keep(store: Store, delta: Delta, keyring: Keyring): void {
  store.staged.stage({ type: "sealed", delta, envelope: sealDelta(delta, keyring, FEDERATION, system.randomBytes(24)) });
}
const forgetting = (seq: number) => ({ type: "forget" as const, partition: PARTITION, writer: ANN, seq });
async function kept(store: Store, count: number): Promise<Uint8Array[]> {
  return (await store.readSealed(PARTITION, ANN, 1, count, Number.POSITIVE_INFINITY)).map(({ sealedBody }) => sealedBody);
}
/** Seqs that open with this keyring. */
async function readable(store: Store, count: number, keyring: Keyring): Promise<number[]> {
  return (await store.readSealed(PARTITION, ANN, 1, count, Number.POSITIVE_INFINITY)).flatMap((envelope) => {
    try {
      return [openEnvelope(envelope, keyring, FEDERATION).header.seq];
    } catch {
      return [];
    }
  });
}
const under = (store: Store): Record<string, number> => Object.fromEntries(store.staged.sealedUnder);
const upTo = (count: number): number[] => Array.from({ length: count }, (_, at) => at + 1);

interface Started {
  readonly resealing: Resealing;
  readonly said: [NodeId, MessageOf<"sealed-under">["others"]][];
  readonly lines: string[];
  run(until: () => boolean): Promise<void>;
}
const running: Resealing[] = [];
function start(store: Store, keyring: Keyring, peers: readonly PeerInfo[] = []): Started {
  const said: Started["said"] = [];
  const lines: string[] = [];
  const line = (_facts: object, message: string): void => void lines.push(message);
  const resealing = new Resealing({
    store,
    keyring,
    federation: () => FEDERATION,
    peers: () => peers,
    tell: (to, { others }) => void said.push([to, others]),
    system,
    log: { debug: line, info: line, warn: line, error: line },
    onFailure: (error) => {
      throw error;
    },
  });
  running.push(resealing);
  const run = async (until: () => boolean): Promise<void> => {
    const deadline = performance.now() + 20_000;
    while (!until()) {
      if (performance.now() > deadline) throw new Error(`not in time: ${JSON.stringify([under(store), lines])}`);
      resealing.tick(system.monotonic());
      await new Promise((done) => setTimeout(done, 5));
    }
  };
  return { resealing, said, lines, run };
}

describe.each([
  ["classic-level", classicLevel],
  ["memory-level", memoryLevel],
  ["the simulated disk", () => simulatedDisk()],
] as const)("on %s a witness", (_name, make) => {
  let subject: Subject;
  let db: Level;
  let store: Store;

  beforeEach(async () => {
    subject = make();
    db = await subject.open();
    store = await Store.open(db, index, zeros);
  });
  afterEach(async () => {
    for (const resealing of running.splice(0)) await resealing.stop();
    await db.close();
    subject.destroy();
  });

  it("seals again what it keeps, under the first secret, with header and body as they were; also after a start", async () => {
    const deltas = written("ann", 200);
    for (const delta of deltas) keep(store, delta, before);
    await store.flush();
    const headers = (await store.readSealed(PARTITION, ANN, 1, 200, Number.POSITIVE_INFINITY)).map(({ headerBytes }) => headerBytes);
    const totals = store.staged.sealedTotals();
    db = await subject.reopen(db);
    store = await Store.open(db, index, zeros);
    expect(under(store)).toEqual({ [oldId]: 200 });
    expect(await readable(store, 200, after)).toEqual([]);

    await start(store, during).run(() => store.staged.sealedUnder.get(newId) === 200);
    expect(under(store)).toEqual({ [newId]: 200 });
    expect(await readable(store, 200, after)).toEqual(upTo(200));
    expect((await store.readSealed(PARTITION, ANN, 1, 200, Number.POSITIVE_INFINITY)).map(({ headerBytes }) => headerBytes)).toEqual(headers);
    expect(store.staged.sealedTotals()).toEqual(totals);
    db = await subject.reopen(db);
    store = await Store.open(db, index, zeros);
    expect(under(store)).toEqual({ [newId]: 200 });
    expect(await readable(store, 200, after)).toEqual(upTo(200));
  });

  it("leaves alone what is under the first secret, and nothing is sealed with a nonce of before", async () => {
    const deltas = written("ann", 6);
    for (const delta of deltas) keep(store, delta, delta.header.seq % 2 === 0 ? after : before);
    await store.flush();
    const first = await kept(store, 6);
    await start(store, during).run(() => under(store)[newId] === 6);
    const again = await kept(store, 6);
    again.forEach((body, at) => {
      if (at % 2 === 1) expect(body).toEqual(first[at]);
      else expect(body.subarray(4, 28)).not.toEqual(first[at]!.subarray(4, 28));
    });
    expect(new Set(again.map((body) => Buffer.from(body.subarray(4, 28)).toString("hex"))).size).toBe(6);
  });

  it("forgets while it seals again, and nothing that was forgotten comes back", async () => {
    for (const delta of written("ann", 300)) keep(store, delta, before);
    await store.flush();
    const { run } = start(store, during);
    await run(() => (under(store)[newId] ?? 0) > 0);
    store.staged.stage(forgetting(250)); // staged, not flushed: what is sealed again meanwhile goes with it
    await run(() => under(store)[newId] === 50);
    await store.flush();
    expect(under(store)).toEqual({ [newId]: 50 });
    expect(store.staged.keptFrom(PARTITION, ANN)).toBe(251);
    expect(await readable(store, 300, after)).toEqual(upTo(300).slice(250));
    db = await subject.reopen(db);
    store = await Store.open(db, index, zeros);
    expect(under(store)).toEqual({ [newId]: 50 });
  });

  it("does not touch a partition that is on its way out", async () => {
    for (const delta of written("ann", 20)) keep(store, delta, before);
    await store.flush();
    const dropping = store.dropPartition(PARTITION, "witness", ANN);
    expect(await store.reseal(PARTITION, ANN, upTo(20), (envelope) => envelope)).toBe(0);
    await dropping;
    expect(under(store)).toEqual({});
    expect(await db.get(keys.sealed(PARTITION, ANN, 1))).toBeUndefined();
  });

  it("keeps what no secret of its own opens, says so, and seals it again once the secret is back", async () => {
    for (const delta of written("ann", 3)) keep(store, delta, before);
    await store.flush();
    const first = await kept(store, 3);
    const lost = start(store, after);
    await lost.run(() => lost.lines.some((line) => line.includes("does not have")));
    await lost.resealing.stop();
    expect(await kept(store, 3)).toEqual(first);
    expect(lost.resealing.others()).toEqual([[oldId, 3]]);
    await start(store, during).run(() => under(store)[newId] === 3);
    expect(await readable(store, 3, after)).toEqual([1, 2, 3]);
  });

  it("writes bounded batches, each with an fsync", async () => {
    const batches: { rows: number; sync: boolean }[] = [];
    for (const delta of written("ann", 500)) keep(store, delta, before);
    await store.flush();
    store = await Store.open(
      watched(db, (names, sync) => void batches.push({ rows: names.length, sync })),
      index,
      zeros,
    );
    await start(store, during).run(() => under(store)[newId] === 500);
    expect(Math.max(...batches.map(({ rows }) => rows))).toBe(64);
    expect(batches.every(({ sync }) => sync)).toBe(true);
  });
});

it("after a power cut in the middle every delta opens, under the one secret or the other, and the rest is sealed again", async () => {
  for (let seed = 1; seed <= 12; seed++) {
    const subject = simulatedDisk(seed);
    let db = await subject.open();
    let store = await Store.open(db, index, zeros);
    for (const delta of written("ann", 200)) keep(store, delta, before);
    await store.flush();
    const { resealing, run } = start(store, during);
    await run(() => (under(store)[newId] ?? 0) >= 64);
    const promised = under(store)[newId] as number;
    db = await subject.powerCut();
    await resealing.stop();
    store = await Store.open(db, index, zeros);
    expect(under(store)[newId] ?? 0, `seed ${seed}`).toBeGreaterThanOrEqual(promised);
    expect(await readable(store, 200, during)).toEqual(upTo(200));
    const again = start(store, during);
    await again.run(() => under(store)[newId] === 200);
    await again.resealing.stop();
    await db.close();
  }
});

it("a member tells each peer that connects, and all when it changes, what it keeps under another secret; outside of a rotation it says nothing", async () => {
  const subject = memoryLevel();
  const store = await Store.open(await subject.open(), index, zeros);
  const bob = { node: "node-of-bob", version: 2 } as PeerInfo;
  const carol = { node: "node-of-carol", version: 1 } as PeerInfo;
  const quiet = start(store, after, [bob]);
  quiet.resealing.peer(bob, true);
  expect(quiet.said).toEqual([]);
  for (const delta of written("ann", 3)) keep(store, delta, before);
  await store.flush();
  const { resealing, said, run } = start(store, during, [bob, carol]);
  resealing.peer(bob, true);
  resealing.peer(carol, true);
  expect(said).toEqual([["node-of-bob", [[oldId, 3]]]]);
  // Meanwhile the same may be said again.
  await run(() => said.at(-1)?.[1].length === 0);
  expect(said.at(-1)).toEqual(["node-of-bob", []]);
  resealing.received(bob.node, { type: "sealed-under", others: [[oldId, 7]] });
  expect(resealing.told(bob.node)).toEqual([[oldId, 7]]);
  resealing.peer(bob, false);
  expect(resealing.told(bob.node)).toBeUndefined();
  await resealing.stop();
  await quiet.resealing.stop();
});

it("looks at every stream, of every partition", async () => {
  const store = await Store.open(await memoryLevel().open(), index, zeros);
  for (const name of ["ann", "ben", "cid"]) for (const delta of written(name, 70)) keep(store, delta, before);
  const stretches = [...store.staged.sealedNotUnder(newId)].map(({ partition, writer, seqs }) => [partition as Partition, writer, seqs.length]);
  expect(stretches).toEqual(["ann", "ben", "cid"].flatMap((name) => [64, 6].map((length) => [PARTITION, writerNamed(name), length])));
});
