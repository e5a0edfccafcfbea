import { DOMAINS } from "./domains.ts";
import { CryptoError } from "./errors.ts";
import { hkdfSha256 } from "./hash.ts";

export const NODE_KEY_BYTES = 32;

/** Ed25519 seeds of the two libp2p identities of a node, 32 bytes each. */
export interface IdentitySeeds {
  readonly federation: Uint8Array;
  readonly gossip: Uint8Array;
}

/**
 * Two identities from one node key: with the same identity on both ports libp2p would take a connection of one for a connection of the other.
 * @param nodeKey 32 random bytes, kept in a file of mode 600
 * @throws CryptoError BAD_LENGTH
 */
export function identitySeeds(nodeKey: Uint8Array): IdentitySeeds {
  if (nodeKey.length !== NODE_KEY_BYTES) throw new CryptoError("BAD_LENGTH", `A node key has ${NODE_KEY_BYTES} bytes.`);
  return {
    federation: hkdfSha256(nodeKey, DOMAINS.identity, DOMAINS.federationIdentity, 32),
    gossip: hkdfSha256(nodeKey, DOMAINS.identity, DOMAINS.gossipIdentity, 32),
  };
}
