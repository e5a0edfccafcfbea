import type { Connection, Libp2p, Stream } from "@libp2p/interface";
import { multiaddr } from "@multiformats/multiaddr";
import { afterEach, describe, expect, it } from "vitest";
import { createKeyring } from "../../crypto/keyring.ts";
import { FRAME_KIND } from "../../node/net/frames.ts";
import { encodeHello } from "../../node/net/hello.ts";
import { createFederationHost, identitiesOf } from "../../node/net/hosts.ts";
import { FEDERATION_PROTOCOLS } from "../../node/net/links.ts";
import { Refusals } from "../../node/net/refusals.ts";
import { system } from "../../node/system.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { FRAME_MAX_BYTES } from "../../protocol/limits.ts";
import { nodeKey, SECRET, stopAll, type TestNet, testNet, until } from "./net-nodes.ts";

const members: Libp2p[] = [];
afterEach(async () => {
  await Promise.all(members.splice(0).map((host) => host.stop()));
  await stopAll();
});

interface Liar {
  readonly id: NodeId;
  readonly connection: Connection;
  readonly stream: Stream;
  readonly gossipId: string;
}

/** Knows the secret, so it is admitted, and then says whatever the test wants. */
async function liarAt(alice: TestNet, seed = 9_000): Promise<Liar> {
  const identities = await identitiesOf(nodeKey(seed));
  const quiet = { debug() {}, info() {}, warn() {}, error() {} };
  const meter = { count() {}, observe() {} };
  const host = await createFederationHost(
    {
      identity: identities.federation,
      listen: "/ip4/127.0.0.1/tcp/0",
      keyring: createKeyring([SECRET]),
      isKnown: () => true,
      isRevoked: () => false,
      refusals: new Refusals(quiet, meter, system),
      meter,
      system,
    },
    { health: () => ({ status: 200, body: {} }), sockets: new Set() },
  );
  members.push(host);
  await host.handle(FEDERATION_PROTOCOLS, (stream) => stream.addEventListener("message", () => undefined));
  await host.start();
  const connection = await host.dial(multiaddr(`/ip4/127.0.0.1/tcp/${alice.port()}`));
  const stream = await connection.newStream(FEDERATION_PROTOCOLS);
  return { id: host.peerId.toString() as NodeId, connection, stream, gossipId: identities.gossip.id };
}

function frame(kind: number, body: Uint8Array, claimed = body.length): Uint8Array {
  return Uint8Array.of(kind, claimed >>> 16, (claimed >>> 8) & 255, claimed & 255, ...body);
}

const helloOf = (liar: Liar, session = "0".repeat(32)) =>
  frame(FRAME_KIND.hello, encodeHello({ session, addresses: [], stamp: 1, gossip: { id: liar.gossipId, addresses: [] }, secretIds: [] }, 2));

describe("a member that does not keep to the framing", () => {
  const forged: [what: string, bytes: (liar: Liar) => Uint8Array, reason: string][] = [
    [
      "announces one byte more than a frame may have",
      (liar) => Uint8Array.of(...helloOf(liar), ...frame(0, new Uint8Array(0), FRAME_MAX_BYTES + 1)),
      "frame_too_large",
    ],
    ["announces the largest length there is", (liar) => Uint8Array.of(...helloOf(liar), 255, 255, 255, 255), "frame_malformed"],
    ["sends a kind that does not exist", (liar) => Uint8Array.of(...helloOf(liar), ...frame(5, new Uint8Array(3))), "frame_malformed"],
    ["sends data before its hello", () => frame(FRAME_KIND.data, new Uint8Array(9)), "frame_malformed"],
    ["sends a hello that is none", () => frame(FRAME_KIND.hello, new Uint8Array(50).fill(255)), "frame_malformed"],
    ["greets twice", (liar) => Uint8Array.of(...helloOf(liar), ...helloOf(liar)), "frame_malformed"],
  ];

  it.each(forged)("loses its connection when it %s, and the reason is counted", async (_what, bytes, reason) => {
    const alice = await testNet();
    const liar = await liarAt(alice);
    liar.stream.send(bytes(liar));
    await until(() => liar.connection.status !== "open", "the connection to end");
    expect(alice.counts.get(`connection_error:${reason}`)).toBe(1);
    expect(alice.frames).toEqual([]);
    await until(() => alice.net.connected().length === 0, "the link to end");
  });

  it("is a good peer as long as it does", async () => {
    const alice = await testNet();
    const liar = await liarAt(alice);
    liar.stream.send(Uint8Array.of(...helloOf(liar), ...frame(FRAME_KIND.data, Uint8Array.of(1, 2, 3))));
    await until(() => alice.frames.length === 1, "its frame");
    expect(alice.frames[0]).toEqual({ from: liar.id, frame: Uint8Array.of(1, 2, 3) });
    expect(alice.net.connected()).toEqual([liar.id]);
  });

  it("is given up after it has been silent for three pings, not after one", async () => {
    const alice = await testNet();
    const liar = await liarAt(alice);
    liar.stream.send(helloOf(liar));
    await until(() => alice.net.connected().length === 1, "the link");
    const start = performance.now();
    await until(() => alice.net.connected().length === 0, "the end of patience", 14_000);
    expect(performance.now() - start).toBeGreaterThan(3_500);
    expect(alice.counts.get("connection_error:ping")).toBe(1);
    await until(() => liar.connection.status !== "open", "the connection to end");
  });

  it("has its older connections closed when it greets as a new process", async () => {
    const alice = await testNet();
    const before = await liarAt(alice);
    before.stream.send(helloOf(before, "1".repeat(32)));
    await until(() => alice.net.connected().length === 1, "the link");
    // The same identity, as after a restart of which the old connection knows nothing.
    const after = await liarAt(alice);
    expect(after.id).toBe(before.id);
    after.stream.send(helloOf(after, "2".repeat(32)));
    await until(() => before.connection.status !== "open", "the old connection to end");
    expect(after.connection.status).toBe("open");
    await until(() => alice.net.connected().length === 1, "the link");
  });
});
