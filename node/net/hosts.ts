/** The two libp2p hosts of a node. No DHT, relay, mDNS, UPnP, AutoNAT or bootstrap list: who is dialled is decided by our supervisor alone. */
import { generateKeyPairFromSeed } from "@libp2p/crypto/keys";
import { type GossipSub, gossipsub } from "@libp2p/gossipsub";
import { identify } from "@libp2p/identify";
import type { Libp2p, PrivateKey, ServiceMap, Transport, Upgrader } from "@libp2p/interface";
import { peerIdFromPrivateKey } from "@libp2p/peer-id";
import { tcp } from "@libp2p/tcp";
import { createLibp2p, type Libp2pOptions } from "libp2p";
import { sha256 } from "../../crypto/hash.ts";
import { identitySeeds } from "../../crypto/identity.ts";
import type { Keyring } from "../../crypto/keyring.ts";
import { GOSSIP_MESSAGE_MAX_BYTES, PENDING_CONNECTIONS_MAX } from "../../protocol/limits.ts";
import type { Meter, System } from "../ports.ts";
import { admission } from "./admission.ts";
import { NetError } from "./errors.ts";
import { type FederationPortOptions, federationPort } from "./federation-port.ts";
import { forgivingYamux } from "./muxer.ts";
import type { Refusals } from "./refusals.ts";
import { webSocket } from "./websocket.ts";

export type GossipHost = Libp2p<{ identify: unknown; pubsub: GossipSub }>;

export interface Identity {
  readonly key: PrivateKey;
  readonly id: string;
}

/** @throws CryptoError BAD_LENGTH */
export async function identitiesOf(nodeKey: Uint8Array): Promise<{ federation: Identity; gossip: Identity }> {
  const seeds = identitySeeds(nodeKey);
  return { federation: await identityOf(seeds.federation), gossip: await identityOf(seeds.gossip) };
}

async function identityOf(seed: Uint8Array): Promise<Identity> {
  const key = await generateKeyPairFromSeed("Ed25519", seed);
  return { key, id: peerIdFromPrivateKey(key).toString() };
}

export interface HostOptions {
  readonly identity: Identity;
  readonly listen: string;
  readonly keyring: Keyring;
  readonly isKnown: (peer: string) => boolean;
  readonly isRevoked: (peer: string) => boolean;
  readonly isExpected?: (peer: string) => Promise<boolean>;
  readonly refusals: Refusals;
  readonly meter: Meter;
  readonly system: System;
}

/** Several nodes behind one address (a laptop, an ingress, NAT) must not be taken for an attack: libp2p allows 5 connections a second by default. */
const INBOUND_PER_SECOND = 500;
const CONNECTIONS_MAX = 2_000;
const UPGRADE_MS = 5_000;
const DIAL_MS = 8_000;
const ADDRESS_DIAL_MS = 3_000;

function common(options: HostOptions): Libp2pOptions {
  const { identity, listen, meter } = options;
  return {
    start: false,
    privateKey: identity.key,
    addresses: { listen: [listen] },
    nodeInfo: { name: "continuum", userAgent: "continuum" },
    connectionEncrypters: [admission({ ...options, self: identity.id })],
    streamMuxers: [forgivingYamux(meter)],
    connectionManager: {
      maxConnections: CONNECTIONS_MAX,
      inboundConnectionThreshold: INBOUND_PER_SECOND,
      maxIncomingPendingConnections: PENDING_CONNECTIONS_MAX,
      inboundUpgradeTimeout: UPGRADE_MS,
      dialTimeout: DIAL_MS,
      addressDialTimeout: ADDRESS_DIAL_MS,
      addressSorter: () => 0, // the address book's order is the better one
      reconnectRetries: 0,
    },
    // Pings are ours (links.ts): this one ends a connection at the first miss.
    connectionMonitor: { enabled: false, abortConnectionOnPingFailure: false },
  };
}

export async function createFederationHost(options: HostOptions, port: Pick<FederationPortOptions, "health" | "sockets">): Promise<Libp2p> {
  const listening = federationPort({ ...options, ...port });
  return createLibp2p({ ...common(options), transports: [(components) => countingDenied(listening(components), options.meter), webSocket()] });
}

export async function createGossipHost(options: HostOptions, fanout: number, topics: readonly string[]): Promise<GossipHost> {
  return createLibp2p({
    ...common(options),
    transports: [(components) => countingDenied(tcp()(components), options.meter)],
    services: {
      identify: identify(),
      pubsub: gossipsub({
        ...meshOf(fanout),
        allowedTopics: [...topics],
        allowPublishToZeroTopicPeers: true,
        ignoreDuplicatePublishError: true,
        fallbackToFloodsub: false,
        doPX: false,
        tagMeshPeers: false, // a tag would start libp2p's own redials
        // Our seal already says that a member sent it; an id is the hash because unsigned messages have no number.
        globalSignaturePolicy: "StrictNoSign",
        msgIdFn: (message) => sha256(message.data),
        maxInboundDataLength: 2 * GOSSIP_MESSAGE_MAX_BYTES,
        maxOutboundBufferSize: 64 * GOSSIP_MESSAGE_MAX_BYTES,
        scoreParams: { IPColocationFactorWeight: 0 },
      }),
    },
  });
}

/** libp2p turns connections away that are too many, before they have said anything, and tells nobody. */
function countingDenied(transport: Transport, meter: Meter): Transport {
  const createListener = transport.createListener.bind(transport);
  transport.createListener = (options) => {
    const upgradeInbound: Upgrader["upgradeInbound"] = async (connection, upgrading) => {
      try {
        await options.upgrader.upgradeInbound(connection, upgrading);
      } catch (error) {
        if ((error as Error).name === "ConnectionDeniedError") meter.count("connection_error", 1, "too_many_connections");
        throw error;
      }
    };
    return createListener({ ...options, upgrader: Object.create(options.upgrader, { upgradeInbound: { value: upgradeInbound } }) as Upgrader });
  };
  return transport;
}

/** Gossipsub wants dLow <= d <= dHigh and dOut < dLow, dOut <= d / 2. @param fanout peers a message is passed on to, >= 1 */
function meshOf(fanout: number): { D: number; Dlo: number; Dhi: number; Dout: number; Dlazy: number } {
  const d = Math.max(2, fanout);
  const low = Math.max(1, Math.ceil((d * 2) / 3));
  return { D: d, Dlo: low, Dhi: 2 * d, Dout: Math.max(0, Math.min(2, low - 1, Math.floor(d / 2))), Dlazy: d };
}

/** @throws NetError PORT_IN_USE, LISTEN_FAILED */
export async function startHost(host: Libp2p<ServiceMap>, port: number, variable: string): Promise<void> {
  try {
    await host.start();
  } catch (error) {
    const text = `${error} ${(error as { errors?: unknown }).errors ?? ""} ${(error as Error).cause ?? ""}`;
    if (text.includes("EADDRINUSE")) throw new NetError("PORT_IN_USE", `Port ${port} is in use: stop what uses it, or set ${variable}.`, error);
    throw new NetError("LISTEN_FAILED", `Cannot listen on port ${port} (${variable}): ${text.trim()}`, error);
  }
}
