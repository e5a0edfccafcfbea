import { describe, expect, it } from "vitest";
import { AddressBook } from "../../node/net/address-book.ts";
import { announceable, isDialable, parsePeerAddress, type Resolver, resolvePeerAddress, webSocketTarget } from "../../node/net/addresses.ts";
import { system } from "../../node/system.ts";
import type { NodeId } from "../../protocol/ids.ts";

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
      expect(isDialable(good)).toBe(true);
    for (const bad of [
      "/unix/run%2Fdocker.sock",
      "/ip4/10.0.0.1/udp/1",
      "/ip4/10.0.0.1/tcp/1/tls",
      "/ip4/10.0.0.1/tcp/1/http",
      "/dns4/a/tcp/443/tls/http-path/admin/ws",
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
    expect(webSocketTarget("/ip4/10.0.0.1/tcp/80")).toBeUndefined();
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
    const book = new AddressBook({}, save, system);
    book.heard(alice, [address(1), address(2), "/unix/x"]);
    book.worked(alice, address(2));
    book.heard(alice, [address(3), address(1)]);
    expect(book.of(alice)).toEqual([address(2), address(3), address(1)]);
    for (let i = 10; i < 40; i++) book.heard(alice, [address(i)]);
    expect(book.of(alice)).toHaveLength(16);
    expect(book.of(alice)[0]).toBe(address(2));
    book.flush();
    expect(new AddressBook(saved, () => {}, system).of(alice)).toEqual(book.of(alice));
  });
});
