import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createServer as createTlsServer } from "node:tls";
import { afterEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import type { NodeId } from "../../protocol/ids.ts";
import { FRAME_MAX_BYTES, WEBSOCKET_MESSAGE_MAX_BYTES } from "../../protocol/limits.ts";
import { Ingress } from "../e2e/ingress.ts";
import { freePort, joined, stopAll, type TestNet, testNet, until } from "./net-nodes.ts";
import { endProcesses, spawnNet } from "./net-process.ts";
import { selfSigned } from "./self-signed.ts";
import { TcpProxy, type TcpProxyOptions } from "./tcp-proxy.ts";

const ingresses: { stop(): Promise<void> }[] = [];
const folders: string[] = [];
afterEach(async () => {
  await endProcesses();
  await stopAll();
  await Promise.all(ingresses.splice(0).map((ingress) => ingress.stop()));
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

async function ingress(options: TcpProxyOptions): Promise<TcpProxy> {
  const proxy = await TcpProxy.start(options);
  ingresses.push(proxy);
  return proxy;
}

/** A node that others know by the address of its ingress only. */
async function behindIngress(
  peers: readonly string[] = [],
  inside: readonly string[] = [],
  speed = 1,
): Promise<{ node: TestNet; door: TcpProxy; address: string; port: number }> {
  const port = await freePort();
  const door = await ingress({ target: () => port });
  const address = `/ip4/127.0.0.1/tcp/${door.port}/ws`;
  const node = await testNet({ advertise: [address, ...inside], peers, federationPort: port, speed });
  return { node, door, address, port };
}

const loud = (node: TestNet) => node.lines.filter(({ level }) => level === "warn" || level === "error");

describe("through an ingress, over WebSocket", () => {
  it("carries frames of every size both ways, in order, and comes back by itself after a cut", async () => {
    const { node: alice, door, address } = await behindIngress();
    const bob = await testNet({ peers: [address] });
    await until(() => joined(alice, bob), "a link");
    const sent = [0, 1, 65_535, 65_536, 1_048_576, FRAME_MAX_BYTES, 4].map((size) => randomBytes(size));
    for (const frame of sent) {
      expect(alice.net.send(bob.net.self, frame)).toBe(true);
      expect(bob.net.send(alice.net.self, frame)).toBe(true);
    }
    await until(() => alice.frames.length === sent.length && bob.frames.length === sent.length, "all frames");
    for (const { frames } of [alice, bob]) expect(sent.every((frame, index) => Buffer.compare(frame, frames[index]!.frame) === 0)).toBe(true);
    await until(() => bob.net.latencyMs(alice.net.self) !== undefined, "a ping");
    expect(door.accepted).toBeGreaterThan(0);
    door.cut();
    await until(() => bob.net.connected().length === 0 && alice.net.connected().length === 0, "both to notice");
    door.heal();
    await until(() => joined(alice, bob), "the link again");
  });

  it("is told to others as it is advertised, and dialled by them", async () => {
    const { node: alice, address } = await behindIngress();
    const bob = await testNet({ peers: [address] });
    await until(() => joined(alice, bob), "a link");
    expect(alice.net.listenAddresses()).toEqual([address]);
    const carol = await testNet({ peers: [bob.address()] });
    await until(() => joined(alice, carol), "carol to find alice by what bob was told");
    await until(() => carol.book[alice.net.self] !== undefined, "the book to be saved");
    expect(carol.book[alice.net.self]).toEqual([address]);
  });

  it("ends the socket itself when a connection is cut off, not only one side's view of it", async () => {
    const port = await freePort();
    const door = await ingress({ target: () => port });
    let shut: NodeId | undefined;
    const alice = await testNet({ federationPort: port, isRevoked: (node) => node === shut });
    const bob = await testNet({ peers: [`/ip4/127.0.0.1/tcp/${door.port}/ws`] });
    await until(() => joined(alice, bob), "a link");
    shut = bob.net.self;
    alice.net.disconnect(shut);
    await until(() => bob.net.connected().length === 0, "bob to know", 1_000);
    await until(() => door.openConnections === 0, "the socket to end", 1_000);
    expect(alice.net.connected()).toEqual([]);
  });

  it("answers probes, also to clients that ask for HTTP/2, and refuses what is no WebSocket", async () => {
    const { door } = await behindIngress();
    const answer = await raw(door.port, "GET /health HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\n\r\n");
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(await raw(door.port, "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n")).toMatch(/^HTTP\/1\.1 400 /);
    expect((await fetch(`http://127.0.0.1:${door.port}/ready`)).status).toBe(503);
  });

  it("hangs up on text, and on a message that is one byte too large before it has come", async () => {
    const { door, port } = await behindIngress();
    expect(await closeCodeOf(door.port, "text")).toBeGreaterThan(1000);
    expect(await closeCodeOf(door.port, new Uint8Array(WEBSOCKET_MESSAGE_MAX_BYTES + 1))).toBe(1009);
    expect((await fetch(`http://127.0.0.1:${port}/health`)).status).toBe(200);
  });

  it("carries TLS that ends at the ingress, and trusts only who signed its certificate", async () => {
    const { key, certificate } = selfSigned();
    const folder = mkdtempSync(join(tmpdir(), "continuum-tls-"));
    folders.push(folder);
    writeFileSync(join(folder, "ca.pem"), certificate);
    const alice = await testNet();
    const door = await ingress({ target: () => alice.port(), listen: (onSocket) => createTlsServer({ key, cert: certificate }, onSocket) });
    const address = `/dns4/localhost/tcp/${door.port}/tls/ws`;
    await expect((await testNet()).net.dial(address)).rejects.toMatchObject({ code: "UNREACHABLE" });
    const bob = await spawnNet({ peers: [address] }, { NODE_EXTRA_CA_CERTS: join(folder, "ca.pem") });
    await until(() => alice.net.connected().includes(bob.self), "a link over TLS", 12_000);
    alice.net.send(bob.self, Uint8Array.of(1, 2, 3));
    await until(() => alice.frames.length === 1, "the frame back");
    expect(alice.frames[0]).toEqual({ from: bob.self, frame: Uint8Array.of(1, 2, 3) });
  });
});

describe("two clusters", () => {
  it("find all nodes of each other through one address, each behind an ingress of its own", async () => {
    // Nobody reaches port 8422 of anybody, so addresses are learnt over 8421 alone.
    const inside = [`127.0.0.1:${await freePort()}`];
    const a1 = await behindIngress([], inside);
    const a2 = await behindIngress([`127.0.0.1:${a1.port}`], inside);
    const a3 = await behindIngress([`127.0.0.1:${a1.port}`], inside);
    const b1 = await behindIngress([a1.address], inside);
    const b2 = await behindIngress([a1.address], inside);
    const b3 = await behindIngress([`127.0.0.1:${b1.port}`], inside);
    const a = [a1, a2, a3];
    const b = [b1, b2, b3];
    const all = [...a, ...b];
    await until(() => all.every(({ node }) => node.net.connected().length === 5), "everybody to meet everybody", 14_000);
    for (const { node } of a) {
      await until(() => b.every(({ node: other }) => node.book[other.net.self] !== undefined), "the book to be saved");
      for (const other of b) expect(node.book[other.node.net.self]).toContain(other.address);
    }
    expect(all.flatMap(({ node }) => loud(node))).toEqual([]);
    // One side is cut off and comes back.
    for (const { door } of all) door.cut();
    await until(() => b.every(({ node }) => node.net.connected().length <= 2), "the cut to be noticed");
    for (const { door } of all) door.heal();
    await until(() => all.every(({ node }) => node.net.connected().length === 5), "everybody to meet again", 14_000);
  }, 45_000);

  it("find all nodes behind one host name by their paths, and nothing but a WebSocket gets through", async () => {
    const names = ["a-1", "a-2", "a-3"];
    const ports = await Promise.all(names.map(() => freePort()));
    const door = await httpIngress((path) => ports[names.findIndex((name) => path === `/east/${name}`)]);
    const outside = (at: number) => `/dns4/localhost/tcp/${door.port}/ws/http-path/east%2F${names[at]}`;
    const inside = (at: number) => `127.0.0.1:${ports[at]}`;
    const a: TestNet[] = [];
    for (const at of [0, 1, 2])
      a.push(await testNet({ federationPort: ports[at]!, peers: at === 0 ? [] : [inside(0)], advertise: [`127.0.0.2:${ports[at]}`, outside(at)] }));
    const bob = await testNet({ peers: [outside(1)], advertise: [`127.0.0.2:${ports[0]}`] });
    await until(() => bob.net.connected().length === 3, "bob to meet all of them", 14_000);
    await until(() => a.every(({ net }) => bob.book[net.self] !== undefined), "the book to be saved");
    for (const [at, { net }] of a.entries()) expect(bob.book[net.self]).toContain(outside(at));
    expect([...door.passed.keys()].sort()).toEqual(names.map((name) => `/east/${name}`));
    expect([...a, bob].flatMap(loud)).toEqual([]);
    const refused = door.refused;
    await expect((await testNet()).net.dial(`/dns4/localhost/tcp/${door.port}/ws/http-path/a-1`)).rejects.toMatchObject({ code: "UNREACHABLE" });
    await expect((await testNet()).net.dial(`127.0.0.1:${door.port}`)).rejects.toMatchObject({ code: "UNREACHABLE" });
    expect(door.refused).toBe(refused + 2);
  }, 30_000);

  it("say so when several nodes advertise one address and always the same answers there", async () => {
    const speed = 3;
    const ports = [await freePort(), await freePort()] as const;
    const door = await httpIngress(() => ports[0]);
    const address = `/ip4/127.0.0.1/tcp/${door.port}/ws`;
    const alice = await testNet({ federationPort: ports[0], advertise: [address], speed });
    const bob = await testNet({ federationPort: ports[1], advertise: [address], peers: [`127.0.0.1:${ports[0]}`], speed });
    await until(() => joined(alice, bob), "the two inside");
    const carol = await testNet({ peers: [address], advertise: [`127.0.0.2:${ports[0]}`], speed });
    await until(() => loud(carol).length > 0, "carol to complain", 14_000);
    expect(carol.net.connected()).toEqual([alice.net.self]);
    expect(loud(carol)).toEqual([
      {
        level: "warn",
        facts: { target: bob.net.self, address },
        message: expect.stringMatching(/another node answers.*a host name, a port or a path/),
      },
    ]);
  }, 30_000);

  it("go without gossip where port 8422 is not reached: seldom tried, nothing loud, nothing counted", async () => {
    // What is advertised beside the ingress is reached from inside only, and gossip is expected at the same place: here nobody is inside.
    const inside = `127.0.0.1:${await freePort()}`;
    const speed = 3;
    const alice = await behindIngress([], [inside], speed);
    const bob = await behindIngress([alice.address], [inside], speed);
    await until(() => joined(alice.node, bob.node), "the link");
    await new Promise((resolve) => setTimeout(resolve, 8_000 / speed));
    expect(joined(alice.node, bob.node)).toBe(true);
    const tries = [alice, bob].map(({ node }) => node.lines.filter(({ message }) => message === "gossip dial failed").length);
    expect(Math.max(...tries)).toBeGreaterThan(1);
    expect(Math.max(...tries)).toBeLessThanOrEqual(5);
    for (const { node } of [alice, bob]) {
      expect(loud(node)).toEqual([]);
      expect([...node.counts.keys()].filter((name) => name.startsWith("connection_error:gossip"))).toEqual([]);
    }
  });
});

async function httpIngress(route: (path: string) => number | undefined): Promise<Ingress> {
  const ingress = await Ingress.start({
    route: (path) => {
      const port = route(path);
      return port === undefined ? undefined : { host: "127.0.0.1", port };
    },
  });
  ingresses.push(ingress);
  return ingress;
}

/** What a raw request is answered, until the other side hangs up. */
function raw(port: number, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    let answer = "";
    socket.on("data", (chunk) => {
      answer += chunk;
    });
    socket.on("close", () => resolve(answer));
    socket.on("error", reject);
    socket.write(request);
  });
}

/** The code with which a WebSocket is closed after it has said this. */
function closeCodeOf(port: number, message: string | Uint8Array): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`ws://127.0.0.1:${port}/`);
    socket.on("open", () => socket.send(message));
    socket.on("close", resolve);
    socket.on("error", reject);
  });
}
