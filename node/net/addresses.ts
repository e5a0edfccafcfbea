/** What people write as an address, and the multiaddrs it means. A host name may have many addresses: all are dialled. */
import { isIPv4, isIPv6 } from "node:net";
import { type Multiaddr, multiaddr } from "@multiformats/multiaddr";
import { NetError } from "./errors.ts";

/** DNS as the operating system and its resolver see it. A name that is not found gives an empty list. */
export interface Resolver {
  /** A and AAAA, /etc/hosts included. */
  hosts(name: string): Promise<readonly string[]>;
  /** SRV records of `_federation._tcp.NAME`. */
  services(name: string): Promise<readonly { readonly name: string; readonly port: number }[]>;
}

export type PeerAddress =
  | { readonly kind: "multiaddr"; readonly address: string }
  | { readonly kind: "host"; readonly host: string; readonly port: number };

/** What a multiaddr that can be dialled says. */
interface Parts {
  /** ip4, ip6, dns, dns4 or dns6. */
  readonly kind: string;
  readonly host: string;
  readonly port: number;
  readonly webSocket: boolean;
  readonly tls: boolean;
  /** Of the WebSocket: "" or "/a-1". */
  readonly path: string;
  readonly peer: string | undefined;
}

const HOST_KINDS = ["ip4", "ip6", "dns", "dns4", "dns6"];
/** What an ingress tells nodes behind one host name apart by, and nothing else a URL can hold: peers say where we are to send a request. */
const PATH = /^(?:\/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+$/;

/**
 * `10.0.0.3`, `10.0.0.3:8421`, `[fd00::3]:8421`, `node-2`, `node-2.federation:8421`, `/dns4/node-2/tcp/8421`, with or without `/p2p/ID`;
 * through an ingress `/dns4/node-2.example.org/tcp/443/tls/ws`, or `/dns4/example.org/tcp/443/tls/ws/http-path/node-2` where it goes by paths, or without
 * TLS `/ip4/10.0.0.9/tcp/80/ws`.
 * @param defaultPort where none is written
 * @throws NetError BAD_ADDRESS
 */
export function parsePeerAddress(text: string, defaultPort: number): PeerAddress {
  const trimmed = text.trim();
  if (trimmed.startsWith("/")) return fromMultiaddr(trimmed);
  const bracketed = /^\[([0-9A-Fa-f:.]+)\](?::(\d+))?$/.exec(trimmed);
  if (bracketed !== null) return host(trimmed, bracketed[1]!, bracketed[2], defaultPort);
  if (isIPv6(trimmed)) return { kind: "host", host: trimmed, port: defaultPort };
  const named = /^([A-Za-z0-9_](?:[A-Za-z0-9._-]*[A-Za-z0-9_.])?)(?::(\d+))?$/.exec(trimmed);
  if (named === null) throw badAddress(text);
  return host(trimmed, named[1]!, named[2], defaultPort);
}

function fromMultiaddr(text: string): PeerAddress {
  const parts = partsOf(text);
  if (parts === undefined) throw badAddress(text);
  // A name in a multiaddr is resolved here as well, so that all its addresses are dialled; with a peer id it names one node and stays whole.
  // So does one that is spoken to over HTTP: the ingress and its certificate go by the name.
  if (parts.kind.startsWith("dns") && parts.peer === undefined && !parts.webSocket) return { kind: "host", host: parts.host, port: parts.port };
  return { kind: "multiaddr", address: written(parts) };
}

/** Host, TCP port, perhaps WebSocket over TLS or not with a path or none, perhaps a peer id, and nothing else; undefined for any other address. */
function partsOf(address: Multiaddr | string): Parts | undefined {
  let all: { name: string; value?: string }[];
  try {
    all = multiaddr(address).getComponents();
  } catch {
    return undefined;
  }
  const [first, second, ...rest] = all;
  if (first?.value === undefined || !HOST_KINDS.includes(first.name) || second?.name !== "tcp") return undefined;
  const peer = rest.at(-1)?.name === "p2p" ? rest.pop()!.value : undefined;
  const path = rest.at(-1)?.name === "http-path" ? rest.pop()!.value! : "";
  const above = rest.map((part) => part.name).join("/");
  if (!["", "ws", "tls/ws", "wss"].includes(above) || (path !== "" && (above === "" || !PATH.test(path)))) return undefined;
  return {
    kind: first.name,
    host: first.value,
    port: Number(second.value),
    webSocket: above !== "",
    tls: above === "tls/ws" || above === "wss",
    path,
    peer,
  };
}

/** `/wss` is an older way to write `/tls/ws`: one address has one spelling, so that it can be compared. */
function written({ kind, host, port, webSocket, tls, path, peer }: Parts): string {
  const above = `${tls ? "/tls" : ""}${webSocket ? "/ws" : ""}${path === "" ? "" : `/http-path/${encodeURIComponent(path.slice(1))}`}`;
  return `/${kind}/${host}/tcp/${port}${above}${peer === undefined ? "" : `/p2p/${peer}`}`;
}

function host(text: string, name: string, port: string | undefined, defaultPort: number): PeerAddress {
  const number = port === undefined ? defaultPort : Number(port);
  if (number < 1 || number > 65_535) throw badAddress(text);
  return { kind: "host", host: name, port: number };
}

function badAddress(text: string, cause?: unknown): NetError {
  return new NetError(
    "BAD_ADDRESS",
    `"${text}" is not a peer address: write host:port, a DNS name, or a multiaddr such as /dns4/node-2/tcp/8421 or, through an ingress, /dns4/node-2.example.org/tcp/443/tls/ws, with /http-path/NAME behind it where one host name stands for several nodes.`,
    cause,
  );
}

/** The multiaddrs a peer address means just now; empty when its name is unknown just now. Never throws. */
export async function resolvePeerAddress(peer: PeerAddress, resolver: Resolver): Promise<string[]> {
  if (peer.kind === "multiaddr") return [peer.address];
  if (isIPv4(peer.host) || isIPv6(peer.host)) return [tcpMultiaddr(peer.host, peer.port)];
  const [direct, services] = await Promise.all([addressesOf(peer.host, peer.port, resolver), resolver.services(peer.host)]);
  const behindServices = await Promise.all(services.map((service) => addressesOf(service.name, service.port, resolver)));
  return [...new Set([...direct, ...behindServices.flat()])];
}

async function addressesOf(name: string, port: number, resolver: Resolver): Promise<string[]> {
  return (await resolver.hosts(name)).map((ip) => tcpMultiaddr(ip, port));
}

export function tcpMultiaddr(host: string, port: number): string {
  if (isIPv4(host)) return `/ip4/${host}/tcp/${port}`;
  return isIPv6(host) ? `/ip6/${host}/tcp/${port}` : `/dns/${host}/tcp/${port}`;
}

/** What a peer says of itself may be dialled if it is an IP address or name with a TCP port, perhaps with WebSocket on it, nothing more. */
export function isDialable(address: string): boolean {
  const parts = partsOf(address);
  return parts !== undefined && parts.peer === undefined && address === written(parts);
}

/** Spoken to over HTTP: through an ingress, which passes on nothing else, so not port 8422 either. */
export function isWebSocket(address: Multiaddr | string): boolean {
  return partsOf(address)?.webSocket ?? false;
}

/** Where a WebSocket client has to go, and which kind of address a name has to have; undefined when the address is no WebSocket's. */
export function webSocketTarget(address: Multiaddr | string): { readonly url: string; readonly family: 4 | 6 | undefined } | undefined {
  const parts = partsOf(address);
  if (parts === undefined || !parts.webSocket) return undefined;
  const host = parts.kind === "ip6" ? `[${parts.host}]` : parts.host;
  const path = parts.path === "" ? "/" : parts.path;
  return {
    url: `${parts.tls ? "wss" : "ws"}://${host}:${parts.port}${path}`,
    family: parts.kind === "dns4" ? 4 : parts.kind === "dns6" ? 6 : undefined,
  };
}

/** `/ip4/1.2.3.4/tcp/8421/p2p/...` -> `/ip4/1.2.3.4/tcp/8421` */
export function withoutPeerId(address: Multiaddr | string): string {
  return String(address).replace(/\/p2p\/[^/]+$/, "");
}

/** The addresses others can use: loopback only when there is nothing else. */
export function announceable(addresses: readonly string[]): string[] {
  const outside = addresses.filter((address) => !/^\/ip4\/127\.|^\/ip6\/::1\/|^\/ip6\/fe80:/.test(address));
  return outside.length > 0 ? outside : [...addresses];
}
