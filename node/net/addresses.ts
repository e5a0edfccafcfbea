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

/**
 * `10.0.0.3`, `10.0.0.3:8421`, `[fd00::3]:8421`, `node-2`, `node-2.federation:8421`, `/dns4/node-2/tcp/8421`, with or without `/p2p/ID`.
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
  let parts: { name: string; value?: string }[];
  try {
    parts = multiaddr(text).getComponents();
  } catch (error) {
    throw badAddress(text, error);
  }
  const [first, second, ...rest] = parts;
  if (first === undefined || second?.name !== "tcp" || rest.some((part) => part.name !== "p2p")) throw badAddress(text);
  // A name in a multiaddr is resolved here as well, so that all its addresses are dialled; with a peer id it names one node and stays whole.
  if (first.name.startsWith("dns") && rest.length === 0) return { kind: "host", host: first.value!, port: Number(second.value) };
  return { kind: "multiaddr", address: text };
}

function host(text: string, name: string, port: string | undefined, defaultPort: number): PeerAddress {
  const number = port === undefined ? defaultPort : Number(port);
  if (number < 1 || number > 65_535) throw badAddress(text);
  return { kind: "host", host: name, port: number };
}

function badAddress(text: string, cause?: unknown): NetError {
  return new NetError(
    "BAD_ADDRESS",
    `"${text}" is not a peer address: write host:port, a DNS name, or a multiaddr such as /dns4/node-2/tcp/8421.`,
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

/** What a peer says of itself may be dialled if it is an IP address or name with a TCP port, nothing more. */
export function isDialable(address: string): boolean {
  try {
    const parts = multiaddr(address).getComponents();
    return parts.length === 2 && parts[1]!.name === "tcp" && ["ip4", "ip6", "dns", "dns4", "dns6"].includes(parts[0]!.name);
  } catch {
    return false;
  }
}

/** `/ip4/1.2.3.4/tcp/8421/p2p/...` -> `/ip4/1.2.3.4/tcp/8421` */
export function withoutPeerId(address: Multiaddr | string): string {
  return String(address).split("/p2p/", 1)[0]!;
}

/** The addresses others can use: loopback only when there is nothing else. */
export function announceable(addresses: readonly string[]): string[] {
  const outside = addresses.filter((address) => !/^\/ip4\/127\.|^\/ip6\/::1\/|^\/ip6\/fe80:/.test(address));
  return outside.length > 0 ? outside : [...addresses];
}
