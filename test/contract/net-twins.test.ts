import { afterEach, describe, expect, it } from "vitest";
import { FEDERATION_PROTOCOLS } from "../../node/net/links.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { helloOf, liarAt, stopLiars } from "./net-liars.ts";
import { stopAll, stopNet, testNet, until } from "./net-nodes.ts";

afterEach(async () => {
  await stopLiars();
  await stopAll();
});

const SPEED = 3;
const SWITCH_MS = 10_000 / SPEED;

describe("two processes with one identity", () => {
  it("are heard in turn, ten seconds each, told as gone and connected, without a storm; the one that stays has the link", async () => {
    const alice = await testNet({ speed: SPEED });
    const events: { at: number; peer: NodeId; connected: boolean }[] = [];
    alice.net.onPeer = (peer, connected) => void events.push({ at: performance.now(), peer, connected });
    const first = await testNet({ seed: 700, speed: SPEED, peers: [alice.address()] });
    await until(() => events.length === 1, "the first");
    const twin = await testNet({ seed: 700, speed: SPEED, peers: [alice.address()] });
    expect(twin.net.self).toBe(first.net.self);
    const started = performance.now();
    const heard = new Set<number>();
    alice.net.onFrame = (_, frame) => void heard.add(frame[0]!);
    while (performance.now() - started < 2 * SWITCH_MS + 1_500) {
      first.net.send(alice.net.self, Uint8Array.of(1));
      twin.net.send(alice.net.self, Uint8Array.of(2));
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    expect(heard).toEqual(new Set([1, 2]));
    expect(events.every(({ peer }) => peer === first.net.self)).toBe(true);
    expect(events.map(({ connected }) => connected)).toEqual(events.map((_, index) => index % 2 === 0));
    const switches = events.filter(({ connected }) => !connected);
    expect(switches.length).toBeGreaterThan(1);
    for (const [index, { at }] of switches.entries()) if (index > 0) expect(at - switches[index - 1]!.at).toBeGreaterThan(0.95 * SWITCH_MS);
    // Who has to wait does not dial in a hurry, and a person is told once.
    expect(alice.counts.get("connection_error:identity_twice")).toBeLessThan(40);
    expect(alice.lines.filter(({ level }) => level === "warn").map(({ facts }) => facts.reason)).toEqual(["identity_twice"]);
    await stopNet(first);
    await until(() => alice.net.connected().length === 1 && twin.net.connected().length === 1, "the one that stays");
    const settled = events.length;
    await new Promise((resolve) => setTimeout(resolve, 1_500));
    expect(events.length).toBe(settled);
    expect(events.at(-1)!.connected).toBe(true);
  }, 40_000);

  it("a restart is no twin: the new process is heard at once, though the old one's end was not noticed", async () => {
    const alice = await testNet({ speed: SPEED });
    const before = await testNet({ seed: 701, speed: SPEED, peers: [alice.address()] });
    await until(() => alice.peers.length === 1, "the first");
    const after = await testNet({ seed: 701, speed: SPEED });
    const asked = performance.now();
    await after.net.dial(alice.address());
    await until(() => after.net.connected().length === 1, "the second");
    expect(performance.now() - asked).toBeLessThan(1_500);
    expect(alice.peers.map(({ connected }) => connected)).toEqual([true, false, true]);
    expect(alice.counts.get("connection_error:identity_twice")).toBeUndefined();
    await stopNet(before);
  });

  it("are told apart also when the newer greets on a connection that is in use", async () => {
    const alice = await testNet();
    const liar = await liarAt(alice);
    liar.stream.send(helloOf(liar, "1".repeat(32)));
    await until(() => alice.peers.length === 1, "the link");
    const stream = await liar.connection.newStream(FEDERATION_PROTOCOLS);
    stream.send(helloOf(liar, "2".repeat(32)));
    await until(() => alice.peers.length === 3, "gone and connected");
    expect(alice.peers.map(({ connected }) => connected)).toEqual([true, false, true]);
  });
});
