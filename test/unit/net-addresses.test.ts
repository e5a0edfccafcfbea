import { describe, expect, it } from "vitest";
import { AddressBook } from "../../node/net/address-book.ts";
import {
  announceable,
  isDialable,
  parsePeerAddress,
  type Resolver,
  resolvePeerAddress,
  webSocketTarget,
  withoutPeerId,
} from "../../node/net/addresses.ts";
import { Cards } from "../../node/net/cards.ts";
import type { System } from "../../node/ports.ts";
import { system as realSystem } from "../../node/system.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { KNOWN_NODES_MAX } from "../../protocol/limits.ts";

const host = (name: string, port = 8421) => ({ kind: "host", host: name, port });

describe("what people write as a peer address", () => {
  it.each([
    ["10.0.0.3", host("10.0.0.3")],
    ["10.0.0.3:9000", host("10.0.0.3", 9000)],
    [" node-2 ", host("node-2")],
    ["node-2.federation.svc.cluster.local:8421", host("node-2.federation.svc.cluster.local")],
    ["[fd00::3]:9000", host("fd00::3", 9000)],
    ["fd00::3", host("fd00::3")],
    ["/dns4/node-2/tcp/9000", host("node-2", 9000)],
    ["/ip4/10.0.0.3/tcp/8421", { kind: "multiaddr", address: "/ip4/10.0.0.3/tcp/8421" }],
    ["/ip4/127.0.0.1/tcp/9001/ws", { kind: "multiaddr", address: "/ip4/127.0.0.1/tcp/9001/ws" }],
    ["/dns4/memory.example.org/tcp/443/tls/ws", { kind: "multiaddr", address: "/dns4/memory.example.org/tcp/443/tls/ws" }],
    [
      "/dns4/memory.example.org/tcp/443/tls/ws/http-path/node-2",
      { kind: "multiaddr", address: "/dns4/memory.example.org/tcp/443/tls/ws/http-path/node-2" },
    ],
    ["/ip4/10.0.0.9/tcp/80/ws/http-path/east%2Fp2p", { kind: "multiaddr", address: "/ip4/10.0.0.9/tcp/80/ws/http-path/east%2Fp2p" }],
    ["/dns4/memory.example.org/tcp/443/wss", { kind: "multiaddr", address: "/dns4/memory.example.org/tcp/443/tls/ws" }],
  ])("reads %s", (text, expected) => {
    expect(parsePeerAddress(text, 8421)).toEqual(expected);
  });

  it.each([
    "",
    "http://node-2:8421",
    "node 2",
    "node-2:0",
    "node-2:70000",
    "node-2:",
    "/ip4/10.0.0.3",
    "/ip4/10.0.0.3/udp/8421",
    "/ip4/10.0.0.3/tcp/8421/tls",
    "/dns4/memory.example.org/tcp/443/ws/tls",
    "/dns4/memory.example.org/tcp/443/tls/ws/p2p-circuit",
    "/dns4/memory.example.org/tcp/443/http-path/node-2",
    "/dns4/memory.example.org/tcp/443/ws/http-path/",
    "https://memory.example.org",
    "/nonsense",
    "[fd00::3",
  ])("refuses %j with advice", (text) => {
    expect(() => parsePeerAddress(text, 8421)).toThrow(
      expect.objectContaining({ code: "BAD_ADDRESS", message: expect.stringContaining("host:port") }),
    );
  });

  it("means every address of a name and every service behind it, each once", async () => {
    const resolver: Resolver = {
      hosts: async (name) => ({ "fed.example": ["10.0.0.1", "fd00::1"], "pod-0.example": ["10.0.0.1"], "pod-1.example": ["10.0.0.2"] })[name] ?? [],
      services: async (name) =>
        name === "fed.example"
          ? [
              { name: "pod-0.example", port: 8421 },
              { name: "pod-1.example", port: 9421 },
            ]
          : [],
    };
    expect(await resolvePeerAddress(parsePeerAddress("fed.example", 8421), resolver)).toEqual([
      "/ip4/10.0.0.1/tcp/8421",
      "/ip6/fd00::1/tcp/8421",
      "/ip4/10.0.0.2/tcp/9421",
    ]);
    expect(await resolvePeerAddress(parsePeerAddress("nobody.example", 8421), resolver)).toEqual([]);
    expect(await resolvePeerAddress(parsePeerAddress("10.9.9.9:1", 8421), resolver)).toEqual(["/ip4/10.9.9.9/tcp/1"]);
  });

  it("does not tell others of loopback when there is anything else", () => {
    expect(announceable(["/ip4/127.0.0.1/tcp/1", "/ip4/10.0.0.1/tcp/1", "/ip6/::1/tcp/1"])).toEqual(["/ip4/10.0.0.1/tcp/1"]);
    expect(announceable(["/ip4/127.0.0.1/tcp/1"])).toEqual(["/ip4/127.0.0.1/tcp/1"]);
  });

  it("dials nothing that a peer invents but a host with a TCP port, with WebSocket or without", () => {
    for (const good of ["/dns4/node-2/tcp/8421", "/ip4/10.0.0.1/tcp/1/ws", "/dns4/memory.example.org/tcp/443/tls/ws"])
      for (const path of good.endsWith("ws") ? ["", "/http-path/node-2", "/http-path/east%2Fnode-2", "/http-path/p2p"] : [""])
        expect(isDialable(good + path)).toBe(true);
    for (const bad of [
      "/unix/run%2Fdocker.sock",
      "/ip4/10.0.0.1/udp/1",
      "/ip4/10.0.0.1/tcp/1/tls",
      "/ip4/10.0.0.1/tcp/1/http",
      "/dns4/a/tcp/443/tls/http-path/admin/ws",
      "/dns4/a/tcp/443/http-path/admin",
      ...["..", "a%2F..%2Fadmin", "a%3Fdelete%3D1", "a%23b", "a%0D%0AX-Evil: 1", "a%20b", "%2Fa", "a%2F", "%C3%A4"].map(
        (path) => `/dns4/a/tcp/443/tls/ws/http-path/${path}`,
      ),
      "/ip4/10.0.0.1/tcp/1/p2p/12D3KooWScJw6cSZx6ysNZB5Jt9QpdqJ2av6XLVndLxZdtesjT2u",
      "/ip4/10.0.0.1",
      "nonsense",
      "",
    ])
      expect(isDialable(bad)).toBe(false);
  });

  it("knows where a WebSocket goes", () => {
    expect(webSocketTarget("/ip4/10.0.0.1/tcp/80/ws")).toEqual({ url: "ws://10.0.0.1:80/", family: undefined });
    expect(webSocketTarget("/ip6/fd00::1/tcp/80/ws")).toEqual({ url: "ws://[fd00::1]:80/", family: undefined });
    expect(webSocketTarget("/dns4/memory.example.org/tcp/443/tls/ws")).toEqual({ url: "wss://memory.example.org:443/", family: 4 });
    expect(webSocketTarget("/dns6/memory.example.org/tcp/443/tls/ws")).toEqual({ url: "wss://memory.example.org:443/", family: 6 });
    expect(webSocketTarget("/dns4/memory.example.org/tcp/443/tls/ws/http-path/east%2Fnode-2")?.url).toBe("wss://memory.example.org:443/east/node-2");
    expect(webSocketTarget("/ip4/10.0.0.1/tcp/80")).toBeUndefined();
  });

  it("tells an address from the node that is to answer there", () => {
    const id = "12D3KooWScJw6cSZx6ysNZB5Jt9QpdqJ2av6XLVndLxZdtesjT2u";
    for (const address of ["/ip4/10.0.0.1/tcp/8421", "/dns4/a/tcp/443/tls/ws", "/dns4/a/tcp/443/tls/ws/http-path/p2p"]) {
      expect(withoutPeerId(address)).toBe(address);
      expect(withoutPeerId(`${address}/p2p/${id}`)).toBe(address);
    }
  });
});

describe("cards", () => {
  const [alice, bob, carol] = ["alice", "bob", "carol"] as NodeId[];
  const at = (number: number) => [`/ip4/10.0.0.${number}/tcp/8421`];
  const ofAlice = (now = 1_000_000) => {
    const clock = { now, monotonic: 0, addresses: at(1) };
    const system: System = { ...realSystem, now: () => clock.now, monotonic: () => clock.monotonic };
    return { clock, cards: new Cards({ self: alice!, addresses: () => clock.addresses, system }) };
  };

  it("keep the newest word of a node on itself, whoever passes it on, and its own word above all", () => {
    const { cards } = ofAlice();
    expect(cards.passedOn({ node: bob!, stamp: 5, addresses: at(2) })).toBe(true);
    expect(cards.passedOn({ node: bob!, stamp: 5, addresses: at(3) })).toBe(false);
    expect(cards.passedOn({ node: bob!, stamp: 4, addresses: at(3) })).toBe(false);
    expect(cards.passedOn({ node: bob!, stamp: 6, addresses: at(3) })).toBe(true);
    expect(cards.untold([bob!], new Map())).toEqual([{ node: bob, stamp: 6, addresses: at(3) }]);
    cards.said({ node: bob!, stamp: 1, addresses: at(4) });
    expect(cards.untold([bob!], new Map())).toEqual([{ node: bob, stamp: 1, addresses: at(4) }]);
  });

  it("tell a peer what has changed since, and nothing twice", () => {
    const { cards, clock } = ofAlice();
    cards.said({ node: bob!, stamp: 1, addresses: at(2) });
    const told = new Map(cards.untold([alice!, bob!, carol!], new Map()).map((card) => [card.node, card]));
    expect([...told.keys()]).toEqual([alice, bob]);
    cards.said({ node: bob!, stamp: 1, addresses: at(2) });
    expect(cards.untold([alice!, bob!, carol!], told)).toEqual([]);
    clock.addresses = at(9);
    cards.said({ node: carol!, stamp: 1, addresses: at(3) });
    expect(cards.untold([alice!, bob!, carol!], told).map(({ node, addresses }) => [node, addresses])).toEqual([
      [alice, at(9)],
      [carol, at(3)],
    ]);
  });

  it("of oneself that are out of date are surpassed, once a minute at most, and none from far ahead is believed", () => {
    const { cards, clock } = ofAlice();
    expect(cards.own().stamp).toBe(1_000_000);
    cards.passedOn({ node: alice!, stamp: 900_000, addresses: at(7) });
    expect(cards.own().stamp).toBe(1_000_000);
    cards.passedOn({ node: alice!, stamp: 1_500_000, addresses: at(7) });
    expect(cards.own()).toEqual({ node: alice, stamp: 1_500_001, addresses: at(1) });
    cards.passedOn({ node: alice!, stamp: 1_600_000, addresses: at(7) }); // the other process with our identity answers
    expect(cards.own().stamp).toBe(1_500_001);
    clock.monotonic = 60_000;
    cards.passedOn({ node: alice!, stamp: 1_600_000, addresses: at(7) });
    expect(cards.own().stamp).toBe(1_600_001);
    expect(cards.passedOn({ node: bob!, stamp: Number.MAX_SAFE_INTEGER, addresses: at(7) })).toBe(false);
  });

  it("are kept of so many nodes and not of one more, and so are addresses", () => {
    const { cards } = ofAlice();
    let saved: Record<string, readonly string[]> = {};
    const save = (all: Record<string, readonly string[]>) => {
      saved = all;
    };
    const book = new AddressBook({}, save, realSystem);
    for (let i = 0; i < KNOWN_NODES_MAX; i++) {
      expect(cards.passedOn({ node: `node-${i}` as NodeId, stamp: 1, addresses: at(1) })).toBe(true);
      book.heard(`node-${i}` as NodeId, at(1));
    }
    expect(cards.passedOn({ node: bob!, stamp: 1, addresses: at(1) })).toBe(false);
    book.heard(bob!, at(1));
    expect(book.of(bob!)).toEqual([]);
    expect(cards.passedOn({ node: "node-0" as NodeId, stamp: 2, addresses: at(1) })).toBe(true);
    book.flush();
    expect(Object.keys(saved)).toHaveLength(KNOWN_NODES_MAX);
  });
});

describe("address book", () => {
  const alice = "alice" as NodeId;
  const address = (number: number) => `/ip4/10.0.0.${number}/tcp/8421`;

  it("puts what worked first and what is said behind it, keeps sixteen, and loads what it saved", () => {
    let saved: Record<string, readonly string[]> = {};
    const save = (all: Record<string, readonly string[]>) => {
      saved = all;
    };
    const book = new AddressBook({}, save, realSystem);
    book.heard(alice, [address(1), address(2), "/unix/x"]);
    book.worked(alice, address(2));
    book.heard(alice, [address(3), address(1)]);
    expect(book.of(alice)).toEqual([address(2), address(3), address(1)]);
    for (let i = 10; i < 40; i++) book.heard(alice, [address(i)]);
    expect(book.of(alice)).toHaveLength(16);
    expect(book.of(alice)[0]).toBe(address(2));
    book.flush();
    expect(new AddressBook(saved, () => {}, realSystem).of(alice)).toEqual(book.of(alice));
  });
});
