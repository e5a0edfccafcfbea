/**
 * Nobody gets past the connection encrypter without the secret: after Noise and before the muxer both sides prove it, so no protocol at all
 * is spoken with a stranger, identify and gossipsub included (P7).
 *
 *   initiator -> responder   version, nonce
 *   responder -> initiator   version, nonce
 *   initiator -> responder   a proof for each of its secrets
 *   responder -> initiator   verdict; when welcome, a proof for each secret both have
 *   initiator -> responder   verdict
 *
 * The responder proves nothing before the initiator has. Each message is length-prefixed and travels inside Noise.
 */
import type { ConnectionEncrypter, MessageStream, SecureConnectionOptions, SecuredConnection } from "@libp2p/interface";
import { noise } from "@libp2p/noise";
import { type LengthPrefixedStream, lpStream } from "@libp2p/utils";
import type { Multiaddr } from "@multiformats/multiaddr";
import type { Keyring } from "../../crypto/keyring.ts";
import { PROOF_BYTES, PROOF_NONCE_BYTES, type ProofContext, type ProofRole, prove, provedSecrets } from "../../crypto/proof.ts";
import { CONNECTION_WRITE_MAX_BYTES } from "../../protocol/limits.ts";
import type { System } from "../ports.ts";
import { withoutPeerId } from "./addresses.ts";
import { NetError } from "./errors.ts";
import type { RefusalReason, Refusals } from "./refusals.ts";

const ENCRYPTER_PROTOCOL = "/continuum/noise-proof/1";
const VERSION = 1;
/** The largest message: four proofs and a verdict. */
const MESSAGE_MAX_BYTES = 4 * PROOF_BYTES + 1;
/** After a "no" the other side gets this long to read it and hang up, so that it knows why. */
const LINGER_MS = 300;

/** Their places are on the wire: never reused, new ones at the end. A node that does not know one takes it for `wrong_secret`. */
const VERDICTS = ["welcome", "wrong_secret", "old_secret", "revoked"] as const;
type Verdict = (typeof VERDICTS)[number];

export interface AdmissionOptions {
  readonly self: string;
  readonly keyring: Keyring;
  /** Whether a peer that proves only an old secret is let in. @param peer libp2p id on this host */
  readonly isKnown: (peer: string) => boolean;
  /** Refused whatever it proves. */
  readonly isRevoked: (peer: string) => boolean;
  /** Asked last, of who dials us and is welcome otherwise; a no ends the connection without a word. */
  readonly isExpected?: (peer: string) => Promise<boolean>;
  readonly refusals: Refusals;
  readonly system: System;
}

/** What a dial throws where somebody else answers than the node that was wanted. */
export function answeredByAnother(address: Multiaddr | string): string {
  return `another node answers at ${withoutPeerId(address)}`;
}

type NoiseComponents = Parameters<ReturnType<typeof noise>>[0];
type Channel = LengthPrefixedStream<MessageStream>;

export function admission(options: AdmissionOptions): (components: NoiseComponents) => ConnectionEncrypter {
  return (components) => new ProvingEncrypter(noise()(components), options);
}

class ProvingEncrypter implements ConnectionEncrypter {
  readonly protocol = ENCRYPTER_PROTOCOL;
  readonly #noise: ConnectionEncrypter;
  readonly #options: AdmissionOptions;

  constructor(inner: ConnectionEncrypter, options: AdmissionOptions) {
    this.#noise = inner;
    this.#options = options;
  }

  async secureOutbound(connection: MessageStream, options: SecureConnectionOptions = {}): Promise<SecuredConnection> {
    const noise = this.#noise.secureOutbound(connection, { ...options, skipStreamMuxerNegotiation: true });
    const secured = await noise.catch((error: Error) => Promise.reject(anotherNode(connection, error) ?? error));
    return this.#admit(secured, connection, "initiator", options);
  }

  async secureInbound(connection: MessageStream, options: SecureConnectionOptions = {}): Promise<SecuredConnection> {
    const secured = await this.#noise.secureInbound(connection, { ...options, skipStreamMuxerNegotiation: true });
    return this.#admit(secured, connection, "responder", options);
  }

  async #admit(secured: SecuredConnection, raw: MessageStream, role: ProofRole, options: SecureConnectionOptions): Promise<SecuredConnection> {
    const peer = secured.remotePeer.toString();
    const channel = lpStream(secured.connection, { maxDataLength: MESSAGE_MAX_BYTES });
    const refused = await (role === "initiator" ? this.#initiate(channel, peer, options) : this.#respond(channel, peer, options));
    if (refused !== undefined) {
      this.#options.refusals.report({ ...refused, peer, remote: remoteHost(raw) });
      throw new NetError("REFUSED", `${refused.by === "us" ? "refused" : "refused by"} ${peer}: ${refused.reason}`);
    }
    // The muxer answers pings and resets: not to a peer that asks without end and never reads.
    secured.connection.maxWriteBufferLength = CONNECTION_WRITE_MAX_BYTES;
    // Unwrapping hands over what was read ahead, so it must be the last thing before the return.
    return { remotePeer: secured.remotePeer, connection: channel.unwrap() };
  }

  async #initiate(channel: Channel, peer: string, options: SecureConnectionOptions): Promise<Refused | undefined> {
    const { keyring, self, system } = this.#options;
    const initiatorNonce = system.randomBytes(PROOF_NONCE_BYTES);
    await writeNonce(channel, initiatorNonce, options);
    const context = { initiator: self, responder: peer, initiatorNonce, responderNonce: await readNonce(channel, options) };
    await channel.write(prove(keyring, "initiator", context), options);
    const answer = (await channel.read(options)).subarray();
    const theirs = VERDICTS[answer[0] ?? -1] ?? "wrong_secret";
    if (theirs !== "welcome") return { by: "them", reason: theirs };
    const ours = this.#judge(peer, "responder", context, answer.subarray(1));
    return this.#answer(channel, ours, new Uint8Array(0), options);
  }

  async #respond(channel: Channel, peer: string, options: SecureConnectionOptions): Promise<Refused | undefined> {
    const { keyring, self, system } = this.#options;
    const initiatorNonce = await readNonce(channel, options);
    const responderNonce = system.randomBytes(PROOF_NONCE_BYTES);
    await writeNonce(channel, responderNonce, options);
    const context: ProofContext = { initiator: peer, responder: self, initiatorNonce, responderNonce };
    const proofs = (await channel.read(options)).subarray();
    const ours = this.#judge(peer, "initiator", context, proofs);
    if (ours === "welcome" && (await this.#options.isExpected?.(peer)) === false) throw new NetError("REFUSED", `nobody told us of ${peer}`);
    const shared = ours === "welcome" ? provedSecrets(keyring, "initiator", context, proofs) : [];
    const refused = await this.#answer(channel, ours, prove(keyring, "responder", context, shared), options);
    if (refused !== undefined) return refused;
    const theirs = VERDICTS[(await channel.read(options)).subarray()[0] ?? -1] ?? "wrong_secret";
    return theirs === "welcome" ? undefined : { by: "them", reason: theirs };
  }

  /** The first secret admits anybody; another only who is known. That an identity is revoked is told only to who proves a secret. */
  #judge(peer: string, role: ProofRole, context: ProofContext, proofs: Uint8Array): Verdict {
    const [best] = provedSecrets(this.#options.keyring, role, context, proofs);
    if (best === undefined) return "wrong_secret";
    if (this.#options.isRevoked(peer)) return "revoked";
    return best === 0 || this.#options.isKnown(peer) ? "welcome" : "old_secret";
  }

  async #answer(channel: Channel, verdict: Verdict, proofs: Uint8Array, options: SecureConnectionOptions): Promise<Refused | undefined> {
    await channel.write(Uint8Array.of(VERDICTS.indexOf(verdict), ...proofs), options);
    if (verdict === "welcome") return undefined;
    await channel.read({ signal: AbortSignal.timeout(LINGER_MS) }).catch(() => undefined);
    return { by: "us", reason: verdict };
  }
}

interface Refused {
  readonly by: "us" | "them";
  readonly reason: RefusalReason;
}

async function writeNonce(channel: Channel, nonce: Uint8Array, options: SecureConnectionOptions): Promise<void> {
  await channel.write(Uint8Array.of(VERSION, ...nonce), options);
}

async function readNonce(channel: Channel, options: SecureConnectionOptions): Promise<Uint8Array> {
  const message = (await channel.read(options)).subarray();
  if (message[0] !== VERSION || message.length !== 1 + PROOF_NONCE_BYTES) {
    throw new NetError("REFUSED", `the other side speaks version ${message[0]} of admission, we speak ${VERSION}`);
  }
  return new Uint8Array(message.subarray(1));
}

/** Says where, since of several addresses that were tried libp2p keeps only what each threw. */
function anotherNode(raw: Transported, error: Error): NetError | undefined {
  if (raw.remoteAddr === undefined || !error.message.includes("does not match expected remote identity key")) return undefined;
  return new NetError("ANOTHER_NODE", answeredByAnother(raw.remoteAddr), error);
}

/** The stream under an encrypter is the transport's connection, which knows where it comes from. */
type Transported = MessageStream & { readonly remoteAddr?: Multiaddr };

function remoteHost(raw: Transported): string {
  return raw.remoteAddr?.getComponents()[0]?.value ?? "unknown";
}
