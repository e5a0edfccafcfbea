import { connect } from "node:net";
import type { StreamMuxer } from "@libp2p/interface";
import { multiaddr } from "@multiformats/multiaddr";
import { afterEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { FEDERATION_PROTOCOLS } from "../../node/net/links.ts";
import {
  CONNECTION_WRITE_MAX_BYTES,
  CONNECTIONS_A_PEER_MAX,
  DOOR_SOCKETS_MAX,
  PENDING_CONNECTIONS_MAX,
  STREAMS_A_CONNECTION_MAX,
} from "../../protocol/limits.ts";
import { helloOf, liarAt, stopLiars } from "./net-liars.ts";
import { joined, stopAll, testNet, until } from "./net-nodes.ts";

afterEach(async () => {
  await stopLiars();
  await stopAll();
});

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("a member that wants more than its share", () => {
  it("opens a thousand streams: a few are kept, the others refused and counted, and nobody else notices", async () => {
    const alice = await testNet();
    const bob = await testNet({ peers: [alice.address()] });
    await until(() => joined(alice, bob), "a link");
    const liar = await liarAt(alice);
    await Promise.allSettled(Array.from({ length: 1_000 }, () => liar.connection.newStream(FEDERATION_PROTOCOLS, { maxOutboundStreams: 2_000 })));
    await until(() => (alice.counts.get("connection_error:too_many_streams") ?? 0) > 900, "the refusals to be counted");
    await until(() => liar.connection.streams.length < 10, "the others to be reset");
    expect(liar.connection.streams.length).toBeGreaterThan(0);
    expect(joined(alice, bob)).toBe(true);
    alice.net.send(bob.net.self, Uint8Array.of(1));
    await until(() => bob.frames.length === 1, "a frame to bob");
  });

  it("opens one stream more than a connection carries, without a word on any: that one is refused", async () => {
    const alice = await testNet();
    const liar = await liarAt(alice);
    const { muxer } = liar.connection as unknown as { muxer: StreamMuxer };
    const silent = STREAMS_A_CONNECTION_MAX - 1; // and the one it has
    const streams = await Promise.all(Array.from({ length: silent }, () => muxer.createStream()));
    await pause(100);
    expect(streams.every(({ status }) => status === "open")).toBe(true);
    const last = await muxer.createStream();
    await until(() => last.status !== "open", "the last to be refused");
    expect(alice.counts.get("connection_error:too_many_streams")).toBe(1);
    expect(streams.every(({ status }) => status === "open")).toBe(true);
  });

  it("opens many connections: a few are kept, the oldest idle ones go, and are counted", async () => {
    const alice = await testNet();
    const liar = await liarAt(alice);
    liar.stream.send(helloOf(liar));
    await until(() => alice.net.connected().length === 1, "the link");
    const address = multiaddr(`/ip4/127.0.0.1/tcp/${alice.port()}`);
    for (let i = 0; i < 3 * CONNECTIONS_A_PEER_MAX; i++) await liar.host.dial(address, { force: true });
    await until(() => liar.host.getConnections().length <= CONNECTIONS_A_PEER_MAX, "the others to be closed");
    expect(alice.counts.get("connection_error:too_many_connections")).toBe(2 * CONNECTIONS_A_PEER_MAX + 1);
    expect(alice.net.connected()).toEqual([liar.id]);
    expect(alice.peers).toEqual([{ peer: liar.id, connected: true }]);
  });

  it("asks the muxer without end and never reads: its connection ends before its answers fill the memory", async () => {
    const alice = await testNet();
    const liar = await liarAt(alice);
    const { muxer, maConn } = liar.connection as unknown as { muxer: { send(bytes: Uint8Array): boolean }; maConn: { pause(): void } };
    maConn.pause();
    const ping = Uint8Array.of(0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7); // yamux: version 0, ping, SYN, no stream, its number
    const pings = Uint8Array.from({ length: 5_000 * ping.length }, (_, i) => ping[i % ping.length]!);
    const before = process.memoryUsage.rss();
    let sent = 0;
    while (liar.connection.status === "open" && sent < 4 * CONNECTION_WRITE_MAX_BYTES) {
      muxer.send(pings);
      sent += pings.length;
      await pause(0);
    }
    expect(liar.connection.status).not.toBe("open");
    expect(process.memoryUsage.rss() - before).toBeLessThan(200 * 1024 * 1024);
  }, 60_000);
});

describe("strangers", () => {
  const LIBP2P = Buffer.from("\x13/multistream/1.0.0\n");

  it("that say nothing, or never finish asking for a page, stand five seconds of its clock, as many as the door holds; who speaks gets in", async () => {
    const alice = await testNet({ speed: 3 });
    const asking = new Crowd(alice.port(), Buffer.from("GET /health HTTP/1.1\r\nhost: a\r\n"));
    const crowd = new Crowd(alice.port());
    await crowd.open(DOOR_SOCKETS_MAX + 50);
    await asking.open(3);
    await until(() => crowd.standing + asking.standing <= DOOR_SOCKETS_MAX, "the oldest to be sent away");
    expect(alice.counts.get("connection_error:too_many_waiting")).toBe(53);
    expect((await fetch(`http://${alice.address()}/health`)).status).toBe(200);
    const bob = await testNet({ speed: 3, peers: [alice.address()] });
    await until(() => joined(alice, bob), "a link");
    await until(() => crowd.standing + asking.standing === 0, "the others to be sent away", 8_000);
  });

  it("that begin a handshake and go on no further are bounded and counted, and their places are free again after five seconds", async () => {
    const alice = await testNet();
    const crowd = new Crowd(alice.port(), LIBP2P);
    await crowd.open(PENDING_CONNECTIONS_MAX + 40);
    await until(() => alice.counts.get("connection_error:too_many_connections") === 40, "the refusals to be counted");
    expect((await fetch(`http://${alice.address()}/health`)).status).toBe(200);
    await until(() => crowd.standing === 0, "the places to be free", 8_000);
    const bob = await testNet({ peers: [alice.address()] });
    await until(() => joined(alice, bob), "a link");
  });

  it.each(["tcp", "ws"])("that send a megabyte of anything over %s are cut off", async (way) => {
    const alice = await testNet();
    const flood = Buffer.concat([LIBP2P, Buffer.alloc(1_048_576)]);
    if (way === "tcp") {
      const crowd = new Crowd(alice.port(), flood);
      await crowd.open(1);
      await until(() => crowd.standing === 0, "the end", 1_000);
    } else {
      const socket = new WebSocket(`ws://${alice.address()}/`);
      await new Promise((resolve) => socket.once("open", resolve));
      socket.on("error", () => undefined);
      for (let at = 0; at < flood.length; at += 65_536) socket.send(flood.subarray(at, at + 65_536));
      await until(() => socket.readyState === WebSocket.CLOSED, "the end", 1_000);
    }
    expect((await fetch(`http://${alice.address()}/health`)).status).toBe(200);
  });
});

/** Sockets that all say the same and then nothing. */
class Crowd {
  standing = 0;
  readonly #port: number;
  readonly #says: Buffer | undefined;

  constructor(port: number, says?: Buffer) {
    this.#port = port;
    this.#says = says;
  }

  async open(count: number): Promise<void> {
    for (let i = 0; i < count; i++) {
      await new Promise<void>((resolve) => {
        const socket = connect(this.#port, "127.0.0.1", () => {
          this.standing += 1;
          socket.once("close", () => {
            this.standing -= 1;
          });
          if (this.#says !== undefined) socket.write(this.#says);
          resolve();
        });
        socket.on("error", () => resolve());
        socket.resume();
      });
    }
  }
}
