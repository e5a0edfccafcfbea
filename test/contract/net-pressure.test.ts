import { afterEach, describe, expect, it } from "vitest";
import type { NodeId } from "../../protocol/ids.ts";
import { PEER_QUEUE_MAX_BYTES } from "../../protocol/limits.ts";
import { freePort, joined, stopAll, type TestNet, testNet, until } from "./net-nodes.ts";
import { endProcesses, spawnNet } from "./net-process.ts";
import { TcpProxy } from "./tcp-proxy.ts";

const proxies: TcpProxy[] = [];
afterEach(async () => {
  await endProcesses();
  await stopAll();
  await Promise.all(proxies.splice(0).map((proxy) => proxy.stop()));
});

const SPEED = 3;
const FRAME_BYTES = 64 * 1024;
/** Beside the queue: what yamux lets a peer owe (16 MB at the most), sockets and the kernel. */
const ON_THE_WAY_MAX_BYTES = 24 * 1024 * 1024;

/** Sends as fast as it is taken, in bursts between which others have their turn. @returns bytes taken and how often it was refused */
function pump(from: TestNet, to: NodeId): { taken: () => number; refused: () => number; stop: () => void } {
  let taken = 0;
  let refused = 0;
  const timer = setInterval(() => {
    for (let i = 0; i < 40; i++) {
      if (!from.net.send(to, new Uint8Array(FRAME_BYTES).fill(i))) {
        refused += 1;
        return;
      }
      taken += FRAME_BYTES;
    }
  }, 5);
  return { taken: () => taken, refused: () => refused, stop: () => clearInterval(timer) };
}

/** Round trips through a peer that sends back what it gets, one after another. @returns ms, sorted */
async function roundTrips(from: TestNet, to: NodeId, ms: number): Promise<number[]> {
  const times: number[] = [];
  const end = performance.now() + ms;
  while (performance.now() < end) {
    const start = performance.now();
    const before = from.frames.length;
    from.net.send(to, new Uint8Array(512));
    await new Promise<void>((resolve) => {
      const look = () => (from.frames.length > before ? resolve() : void setImmediate(look));
      look();
    });
    times.push(performance.now() - start);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return times.sort((a, b) => a - b);
}

const at = (sorted: readonly number[], share: number) => sorted[Math.floor(sorted.length * share)]!;
const megabytes = (bytes: number) => bytes / 1024 / 1024;

describe("a peer that takes nothing any more", () => {
  it.each(["tcp", "ws"])(
    "is owed no more than its queue over %s, slows nobody else, is dropped, and comes back when it goes on",
    async (way) => {
      const bob = await spawnNet({ seed: 801, speed: SPEED });
      const carol = await spawnNet({ seed: 802, speed: SPEED });
      const peers = [`/ip4/127.0.0.1/tcp/${bob.port}${way === "ws" ? "/ws" : ""}`, `127.0.0.1:${carol.port}`];
      const alice = await testNet({ speed: SPEED, peers });
      alice.net.onFrame = (from, frame) => {
        if (from === carol.self) alice.frames.push({ from, frame });
      };
      await until(() => alice.net.connected().length === 2, "both links");
      const usual = await roundTrips(alice, carol.self, 800);
      const memory = process.memoryUsage.rss();
      bob.process.kill("SIGSTOP");
      const load = pump(alice, bob.self);
      await until(() => load.refused() > 0, "the queue to be full");
      const meanwhile = await roundTrips(alice, carol.self, 800);
      expect(load.taken()).toBeLessThan(PEER_QUEUE_MAX_BYTES + ON_THE_WAY_MAX_BYTES);
      expect(alice.counts.get("frame_dropped:queue_full")).toBeGreaterThan(0);
      // The rest of this machine is at work too, so the middle is compared and not the tail.
      expect(at(meanwhile, 0.5)).toBeLessThan(3 * at(usual, 0.5) + 50);
      await until(() => !alice.net.connected().includes(bob.self), "bob to be given up", 12_000);
      load.stop();
      expect(megabytes(process.memoryUsage.rss() - memory)).toBeLessThan(200);
      expect(alice.counts.get("connection_error:ping")).toBe(1);
      expect(alice.net.connected()).toEqual([carol.self]);
      bob.process.kill("SIGCONT");
      await until(() => alice.net.connected().includes(bob.self), "bob to be back", 12_000);
    },
    45_000,
  );

  it("or a byte a second: is dropped by both, is not dialled in a storm, and comes back when the line is good again", async () => {
    const [alicePort, bobPort] = [await freePort(), await freePort()];
    const toAlice = await TcpProxy.start({ target: () => alicePort });
    const toBob = await TcpProxy.start({ target: () => bobPort });
    proxies.push(toAlice, toBob);
    const bob = await testNet({ speed: SPEED, federationPort: bobPort, advertise: [`127.0.0.1:${toBob.port}`] });
    const alice = await testNet({
      speed: SPEED,
      federationPort: alicePort,
      advertise: [`127.0.0.1:${toAlice.port}`],
      peers: [`127.0.0.1:${toBob.port}`],
    });
    await until(() => joined(alice, bob), "a link");
    toBob.towards = 1;
    toAlice.back = 1;
    const load = pump(alice, bob.net.self);
    await until(() => load.refused() > 0, "the queue to be full");
    const before = toBob.accepted + toAlice.accepted;
    await until(() => alice.net.connected().length === 0 && bob.net.connected().length === 0, "the end of the link", 14_000);
    expect(load.taken()).toBeLessThan(PEER_QUEUE_MAX_BYTES + ON_THE_WAY_MAX_BYTES);
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect(toBob.accepted + toAlice.accepted - before).toBeLessThan(20);
    load.stop();
    toBob.towards = Number.POSITIVE_INFINITY;
    toAlice.back = Number.POSITIVE_INFINITY;
    await until(() => joined(alice, bob), "the link again", 14_000);
  }, 60_000);
});
