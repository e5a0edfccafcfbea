import { connect, createServer, type Server, type Socket } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { FaultProxy } from "../faults/fault-proxy.ts";
import { Rng } from "../sim/rng.ts";

// On loopback every address of 127.0.0.0/8 is this machine's only on Linux.
const onLinux = process.platform === "linux" ? describe : describe.skip;

interface Rig {
  readonly proxy: FaultProxy;
  /** alice dials bob. */
  dial(): Promise<Socket>;
  /** What bob received so far, and his end of the newest connection. */
  readonly received: () => string;
  readonly accepted: () => Socket;
}

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0).reverse()) close();
});

async function rig(): Promise<Rig> {
  let received = "";
  let newest: Socket | undefined;
  const server: Server = createServer((socket) => {
    newest = socket;
    socket.on("error", () => undefined);
    socket.on("data", (bytes) => {
      received += bytes.toString("latin1");
    });
  });
  await new Promise<void>((done) => server.listen({ host: "127.77.1.2", port: 0 }, done));
  const { port } = server.address() as { port: number };
  const proxy = new FaultProxy(
    [
      { name: "alice", host: "127.77.1.1", outside: "127.77.2.1", ports: [port] },
      { name: "bob", host: "127.77.1.2", outside: "127.77.2.2", ports: [port] },
    ],
    new Rng(1),
  );
  await proxy.start();
  closing.push(
    () => server.close(),
    () => newest?.destroy(),
    () => void proxy.stop(),
  );
  return {
    proxy,
    received: () => received,
    accepted: () => newest as Socket,
    dial: async () => {
      const socket = connect({ host: "127.77.2.2", port, localAddress: "127.77.1.1" });
      socket.on("error", () => undefined);
      closing.push(() => socket.destroy());
      await new Promise<void>((done, failed) => socket.once("connect", done).once("error", failed));
      return socket;
    },
  };
}

const pause = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

async function until(what: () => boolean, ms = 3_000): Promise<void> {
  for (const end = performance.now() + ms; !what(); await pause(5)) if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
}

onLinux("the fault proxy", () => {
  it("carries bytes both ways, and shows each node at its outside address", async () => {
    const { dial, received, accepted } = await rig();
    const socket = await dial();
    let answered = "";
    socket.on("data", (bytes) => {
      answered += bytes.toString();
    });
    socket.write("hello bob");
    await until(() => received() === "hello bob");
    expect(accepted().remoteAddress).toBe("127.77.2.1");
    accepted().write("hello alice");
    await until(() => answered === "hello alice");
  });

  it("turns away a caller that is no node", async () => {
    const { proxy, accepted, dial } = await rig();
    const honest = await dial();
    const stranger = connect({ host: "127.77.2.2", port: honest.remotePort!, localAddress: "127.77.1.9" });
    stranger.on("error", () => undefined);
    await new Promise((done) => stranger.once("close", done));
    expect(proxy.counts).toMatchObject({ connections: 1, strangers: 1 });
    await until(() => accepted() !== undefined);
  });

  it("holds what is sent under a cut and gives it on in order afterwards; the other way stays open", async () => {
    const { proxy, dial, received, accepted } = await rig();
    const socket = await dial();
    socket.write("before ");
    await until(() => received() === "before ");
    proxy.set("alice", "bob", { cut: true });
    let answered = "";
    socket.on("data", (bytes) => {
      answered += bytes.toString();
    });
    socket.write("during ");
    accepted().write("heard");
    await until(() => answered === "heard");
    await pause(60);
    expect(received()).toBe("before ");
    socket.write("and after");
    proxy.set("alice", "bob", { cut: false });
    await until(() => received() === "before during and after");
  });

  it("lets nothing new through under a cut of either way", async () => {
    const { proxy, dial, received } = await rig();
    proxy.set("bob", "alice", { cut: true });
    const socket = await dial();
    socket.write("anybody?");
    await pause(60);
    expect(received()).toBe("");
    proxy.set("bob", "alice", { cut: false });
    await until(() => received() === "anybody?");
  });

  it("tells of an end only once the cut is healed", async () => {
    const { proxy, dial, accepted } = await rig();
    const socket = await dial();
    await until(() => accepted() !== undefined);
    let ended = false;
    accepted().once("close", () => {
      ended = true;
    });
    proxy.cut("alice", "bob");
    socket.destroy();
    await pause(60);
    expect(ended).toBe(false);
    proxy.clear();
    await until(() => ended);
  });

  it("delays by what is asked, jitter included, and keeps the order", async () => {
    const { proxy, dial, received } = await rig();
    const socket = await dial();
    proxy.set("alice", "bob", { delayMs: 80, jitterMs: 60 });
    const begun = performance.now();
    for (let i = 0; i < 10; i++) {
      socket.write(String(i));
      await pause(3);
    }
    await until(() => received().length > 0);
    expect(performance.now() - begun).toBeGreaterThanOrEqual(79);
    await until(() => received() === "0123456789");
  });

  it("throttles to a few bytes a second", async () => {
    const { proxy, dial, received } = await rig();
    const socket = await dial();
    proxy.set("alice", "bob", { bytesPerSecond: 20 });
    socket.write("x".repeat(200));
    await pause(1_000);
    expect(received().length).toBeGreaterThan(5);
    expect(received().length).toBeLessThan(60);
    proxy.clear();
    await until(() => received().length === 200);
  });

  it("flips bits at about the rate asked for, and no byte is lost", async () => {
    const { proxy, dial, received } = await rig();
    const socket = await dial();
    proxy.set("alice", "bob", { flipEveryBytes: 100 });
    socket.write("a".repeat(20_000));
    await until(() => received().length === 20_000);
    const wrong = [...received()].filter((letter) => letter !== "a").length;
    expect(wrong).toBeGreaterThan(100);
    expect(wrong).toBeLessThan(400);
    expect(proxy.counts.flips).toBe(wrong);
  });

  it("pushes back on a sender whose bytes go nowhere, and loses none of them", async () => {
    const { proxy, dial, received } = await rig();
    const socket = await dial();
    proxy.set("alice", "bob", { cut: true });
    const megabytes = 32;
    for (let i = 0; i < megabytes; i++) socket.write("b".repeat(1 << 20));
    await pause(300);
    // The kernel's buffers and the proxy's queue take some; the rest waits with the sender.
    expect(socket.writableLength).toBeGreaterThan((megabytes / 2) * (1 << 20));
    proxy.set("alice", "bob", { cut: false });
    await until(() => received().length === megabytes * (1 << 20), 10_000);
  });

  it("resets every connection between two nodes at once", async () => {
    const { proxy, dial, accepted } = await rig();
    const sockets = [await dial(), await dial()];
    await until(() => accepted() !== undefined);
    const closed = sockets.map((socket) => new Promise((done) => socket.once("close", done)));
    proxy.reset("bob", "alice");
    await Promise.all(closed);
    expect(proxy.made("alice", "bob")).toBe(2);
  });
});
