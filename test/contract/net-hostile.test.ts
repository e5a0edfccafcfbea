import { afterEach, describe, expect, it } from "vitest";
import type { Card } from "../../node/net/cards.ts";
import { FRAME_KIND, FrameReader } from "../../node/net/frames.ts";
import { decodeHello, encodeCards } from "../../node/net/hello.ts";
import { FEDERATION_PROTOCOLS } from "../../node/net/links.ts";
import { CARDS_A_FRAME_MAX, CARDS_FRAME_MAX_BYTES, FRAME_MAX_BYTES } from "../../protocol/limits.ts";
import { frame, helloOf, type Liar, liarAt, stopLiars } from "./net-liars.ts";
import { stopAll, testNet, until } from "./net-nodes.ts";

afterEach(async () => {
  await stopLiars();
  await stopAll();
});

const SPEED = 3;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
const cards = (count: number): Card[] => Array(count).fill({ node: "12D3KooWScJw6cSZx6ysNZB5Jt9QpdqJ2av6XLVndLxZdtesjT2u", stamp: 1, addresses: [] });

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
    ["pings with more than a number", (liar) => Uint8Array.of(...helloOf(liar), ...frame(FRAME_KIND.ping, new Uint8Array(5))), "frame_malformed"],
    ["answers a ping with less", (liar) => Uint8Array.of(...helloOf(liar), ...frame(FRAME_KIND.pong, new Uint8Array(3))), "frame_malformed"],
    [
      "names one node too many in its cards",
      (liar) => Uint8Array.of(...helloOf(liar), ...frame(FRAME_KIND.cards, encodeCards(cards(CARDS_A_FRAME_MAX + 1)))),
      "frame_malformed",
    ],
    [
      "announces cards without end",
      (liar) => Uint8Array.of(...helloOf(liar), ...frame(FRAME_KIND.cards, new Uint8Array(0), CARDS_FRAME_MAX_BYTES + 1)),
      "frame_malformed",
    ],
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
    const alice = await testNet({ speed: SPEED });
    const liar = await liarAt(alice);
    liar.stream.send(helloOf(liar));
    await until(() => alice.net.connected().length === 1, "the link");
    const start = performance.now();
    await until(() => alice.net.connected().length === 0, "the end of patience", 14_000);
    expect(performance.now() - start).toBeGreaterThan(3_500 / SPEED);
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

describe("a member of the first release", () => {
  it("greets and is greeted as it always did, and is told nothing it would not understand", async () => {
    const alice = await testNet({ speed: SPEED });
    const said: Uint8Array[] = [];
    const old = await liarAt(alice, 9_001, FEDERATION_PROTOCOLS[1], (bytes) => said.push(bytes));
    old.stream.send(helloOf(old, "0".repeat(32), 1));
    const bob = await testNet({ speed: SPEED, peers: [alice.address()] });
    await until(() => alice.net.connected().length === 2, "both links");
    expect(alice.net.secretIds(old.id)).toEqual([]);
    await until(() => alice.net.latencyMs(bob.net.self) !== undefined, "a round of pings");
    await pause(2_500 / SPEED); // the next tick would bring cards
    const frames: [kind: number, frame: Uint8Array][] = [];
    new FrameReader((kind, bytes) => frames.push([kind, bytes])).feed(new Uint8Array(Buffer.concat(said)));
    expect(decodeHello(frames[0]![1])).toMatchObject({ stamp: 0, secretIds: [] });
    expect(new Set(frames.map(([kind]) => kind))).toEqual(new Set([FRAME_KIND.hello, FRAME_KIND.ping]));
  });
});
