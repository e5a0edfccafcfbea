import { afterEach, describe, expect, it } from "vitest";
import { FRAME_MAX_BYTES } from "../../protocol/limits.ts";
import { joined, stopAll, stopNet, type TestNet, testNet, until } from "./net-nodes.ts";

afterEach(stopAll);

async function pair(): Promise<[alice: TestNet, bob: TestNet]> {
  const alice = await testNet();
  const bob = await testNet({ peers: [alice.address()] });
  await until(() => joined(alice, bob), "a link");
  return [alice, bob];
}

function numbered(number: number, size: number): Uint8Array {
  const frame = new Uint8Array(size);
  new DataView(frame.buffer).setUint32(0, number);
  return frame;
}

const numberOf = (frame: Uint8Array) => new DataView(frame.buffer, frame.byteOffset).getUint32(0);

describe("a link between two nodes", () => {
  it("carries frames both ways, in order", async () => {
    const [alice, bob] = await pair();
    for (let i = 0; i < 5_000; i++) {
      expect(alice.net.send(bob.net.self, numbered(i, 4 + (i % 700)))).toBe(true);
      expect(bob.net.send(alice.net.self, numbered(i, 4 + (i % 300)))).toBe(true);
    }
    await until(() => alice.frames.length === 5_000 && bob.frames.length === 5_000, "all frames");
    for (const [node, other] of [[alice, bob] as const, [bob, alice] as const]) {
      expect(node.frames.map(({ frame }) => numberOf(frame))).toEqual(Array.from({ length: 5_000 }, (_, i) => i));
      expect(new Set(node.frames.map(({ from }) => from))).toEqual(new Set([other.net.self]));
    }
  });

  it("carries an empty frame, a frame of 1 MB and the largest there may be, and refuses one byte more", async () => {
    const [alice, bob] = await pair();
    const megabyte = Uint8Array.from({ length: 1_048_576 }, (_, i) => (i * 7) & 255);
    for (const frame of [new Uint8Array(0), megabyte, numbered(9, FRAME_MAX_BYTES), numbered(10, 4)]) {
      expect(alice.net.send(bob.net.self, frame)).toBe(true);
    }
    expect(alice.net.send(bob.net.self, new Uint8Array(FRAME_MAX_BYTES + 1))).toBe(false);
    expect(alice.counts.get("frame_dropped:too_large")).toBe(1);
    await until(() => bob.frames.length === 4, "four frames");
    expect(bob.frames.map(({ frame }) => frame.length)).toEqual([0, 1_048_576, FRAME_MAX_BYTES, 4]);
    expect(Buffer.compare(bob.frames[1]!.frame, megabyte)).toBe(0);
    expect(numberOf(bob.frames[2]!.frame)).toBe(9);
  });

  it("refuses frames to a peer it has no link with, and those a full queue cannot hold, and carries on afterwards", async () => {
    const alice = await testNet({ maxQueueBytes: 100_000 });
    const bob = await testNet();
    expect(alice.net.send(bob.net.self, numbered(1, 10))).toBe(false);
    expect(alice.counts.get("frame_dropped:not_connected")).toBe(1);
    await alice.net.dial(bob.address());
    await until(() => joined(alice, bob), "a link");
    const sent = Array.from({ length: 20 }, (_, i) => alice.net.send(bob.net.self, numbered(i, 10_000)));
    expect(sent.filter((taken) => taken)).toHaveLength(9);
    expect(alice.counts.get("frame_dropped:queue_full")).toBe(11);
    await until(() => bob.frames.length === 9, "what was taken");
    expect(alice.net.send(bob.net.self, numbered(1, 10_000))).toBe(true);
    await until(() => bob.frames.length === 10, "one more");
    expect(bob.frames.map(({ frame }) => numberOf(frame))).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 1]);
  });

  it("knows the round trip of a ping, and nothing of a stranger's", async () => {
    const [alice, bob] = await pair();
    await until(() => alice.net.latencyMs(bob.net.self) !== undefined, "a ping");
    expect(alice.net.latencyMs(bob.net.self)).toBeGreaterThan(0);
    expect(alice.net.latencyMs(bob.net.self)).toBeLessThan(1_000);
    expect(alice.net.latencyMs(alice.net.self)).toBeUndefined();
  });

  it("ends with one usable link when both dial at once, and says so once", async () => {
    const alice = await testNet();
    const bob = await testNet();
    await Promise.all([alice.net.dial(bob.address()), bob.net.dial(alice.address())]);
    await until(() => joined(alice, bob), "a link");
    expect(alice.net.send(bob.net.self, numbered(1, 8))).toBe(true);
    expect(bob.net.send(alice.net.self, numbered(2, 8))).toBe(true);
    await until(() => alice.frames.length === 1 && bob.frames.length === 1, "a frame each way");
    await new Promise((resolve) => setTimeout(resolve, 300));
    expect(alice.net.connected()).toEqual([bob.net.self]);
    expect(bob.net.connected()).toEqual([alice.net.self]);
    expect(alice.peers).toEqual([{ peer: bob.net.self, connected: true }]);
    expect(bob.peers).toEqual([{ peer: alice.net.self, connected: true }]);
  });

  it("comes back by itself after the peer has restarted on the same port", async () => {
    const alice = await testNet({ seed: 1 });
    const port = alice.port();
    const bob = await testNet({ peers: [alice.address()] });
    await until(() => joined(alice, bob), "a link");
    await stopNet(alice);
    await until(() => bob.net.connected().length === 0, "bob to notice");
    expect(bob.net.send(alice.net.self, numbered(1, 8))).toBe(false);
    const again = await testNet({ seed: 1, federationPort: port });
    expect(again.net.self).toBe(alice.net.self);
    await until(() => joined(again, bob), "the link again");
    expect(bob.peers.map(({ connected }) => connected)).toEqual([true, false, true]);
    expect(bob.net.send(again.net.self, numbered(7, 8))).toBe(true);
    await until(() => again.frames.length === 1, "a frame");
    expect(numberOf(again.frames[0]!.frame)).toBe(7);
  });

  it("stands a peer that restarts again and again under load", async () => {
    const alice = await testNet();
    let bob = await testNet({ seed: 5, peers: [alice.address()] });
    const port = bob.port();
    await until(() => joined(alice, bob), "a link");
    const load = setInterval(() => {
      for (let i = 0; i < 50; i++) for (const node of [alice, bob]) for (const peer of node.net.connected()) node.net.send(peer, numbered(i, 2_000));
    }, 2);
    for (let restart = 0; restart < 6; restart++) {
      await new Promise((resolve) => setTimeout(resolve, 40));
      await stopNet(bob);
      bob = await testNet({ seed: 5, federationPort: port, peers: [alice.address()] });
      await until(() => joined(alice, bob), `link ${restart}`);
    }
    clearInterval(load);
    expect(alice.net.connected()).toEqual([bob.net.self]);
  });

  it("finds a wanted peer through the saved address book alone", async () => {
    const alice = await testNet({ seed: 2 });
    const bob = await testNet({ seed: 3, peers: [alice.address()] });
    await until(() => joined(alice, bob), "a link");
    await until(() => bob.book[alice.net.self] !== undefined, "the book to be saved");
    const { book } = bob;
    await stopNet(bob);
    await until(() => alice.net.connected().length === 0, "alice to notice");
    const again = await testNet({ seed: 3, loadAddresses: () => book });
    again.net.want([alice.net.self]);
    await until(() => joined(alice, again), "the link again");
    expect(again.net.connected()).toEqual([alice.net.self]);
  });

  it("does not take itself for a peer, although its own address is configured", async () => {
    const first = await testNet({ seed: 4 });
    const port = first.port();
    await stopNet(first);
    const alice = await testNet({ seed: 4, federationPort: port, peers: [`localhost:${port}`, `127.0.0.1:${port}`] });
    const bob = await testNet({ peers: [alice.address()] });
    await until(() => joined(alice, bob), "a link");
    expect(alice.net.connected()).toEqual([bob.net.self]);
    await expect(alice.net.dial(alice.address())).rejects.toMatchObject({ code: "UNREACHABLE" });
  });
});
