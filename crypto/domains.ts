/**
 * Every string that separates one use of SHA-256, HMAC or HKDF from another, in one place: two uses never share one, so bytes made for
 * one purpose mean nothing to another. The number at the end is the version; what changes the bytes gets a new number, old ones are never reused.
 */
export const DOMAINS = {
  /** HKDF salt of the keyring: secret -> keys. */
  keyring: "continuum/keyring/1",
  /** Proof of the secret to a peer (proof.ts). */
  handshake: "continuum/handshake/1",
  /** Envelope of a delta (protocol/frame.ts). */
  delta: "continuum/seal/delta/1",
  /** Message on port 8422 and the name of its topic (node/net/gossip.ts). */
  gossip: "continuum/seal/gossip/1",
  /** Request forwarded to a replica. */
  forward: "continuum/seal/forward/1",
  /** Frontier tokens (X-Continuum-Frontier). */
  token: "continuum/token/1",
  /** The short public id of a secret. */
  secretId: "continuum/secret-id/1",
  /** Name of the gossip topic: public, so it comes from a domain of its own. */
  topic: "continuum/gossip-topic/1",
  /** HKDF salt of the identities: node key -> Ed25519 seeds. */
  identity: "continuum/identity/1",
  federationIdentity: "continuum/identity/federation/1",
  gossipIdentity: "continuum/identity/gossip/1",
  writerId: "continuum/writer-id/1",
  keyHash: "continuum/key-hash/1",
  apiKey: "continuum/api-key/1",
  /** Checksum of a value at rest that cannot be rebuilt (node/store). */
  atRest: "continuum/at-rest/1",
} as const;

export type DomainName = keyof typeof DOMAINS;

/** The keys a keyring holds for each secret. */
export const KEY_NAMES = ["handshake", "delta", "gossip", "forward", "token"] as const;
export type KeyName = (typeof KEY_NAMES)[number];
