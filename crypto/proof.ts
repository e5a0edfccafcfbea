import { createHmac } from "node:crypto";
import { DOMAINS } from "./domains.ts";
import { CryptoError } from "./errors.ts";
import { equalConstantTime } from "./hash.ts";
import { type Keyring, SECRETS_MAX } from "./keyring.ts";

export const PROOF_BYTES = 32;
export const PROOF_NONCE_BYTES = 32;

/** Who speaks: a proof of one role is worth nothing in the other, so it cannot be sent back to its maker. */
export type ProofRole = "initiator" | "responder";

/** What a proof is bound to: this one connection between these two. Peer ids as the transport has authenticated them. */
export interface ProofContext {
  readonly initiator: string;
  readonly responder: string;
  /** 32 fresh random bytes of each side. */
  readonly initiatorNonce: Uint8Array;
  readonly responderNonce: Uint8Array;
}

/**
 * One proof a secret, PROOF_BYTES each, one after another, in the keyring's order.
 * @param indices which secrets to prove; default all
 * @throws CryptoError BAD_LENGTH for a nonce that is not 32 bytes
 */
export function prove(keyring: Keyring, role: ProofRole, context: ProofContext, indices: readonly number[] = all(keyring)): Uint8Array {
  const proofs = new Uint8Array(indices.length * PROOF_BYTES);
  indices.forEach((index, at) => {
    proofs.set(proofOf(keyring, index, role, context), at * PROOF_BYTES);
  });
  return proofs;
}

/**
 * Which of our secrets the other side has proved, lowest first; empty when none. 0 admits a new member, a higher index only who is known.
 * @param role of the side that made the proofs
 * @throws CryptoError BAD_LENGTH for a nonce that is not 32 bytes
 */
export function provedSecrets(keyring: Keyring, role: ProofRole, context: ProofContext, proofs: Uint8Array): number[] {
  if (proofs.length === 0 || proofs.length % PROOF_BYTES !== 0 || proofs.length > SECRETS_MAX * PROOF_BYTES) return [];
  return all(keyring).filter((index) => contains(proofs, proofOf(keyring, index, role, context)));
}

/** Compares with every proof, so that the time does not tell which one matched. */
function contains(proofs: Uint8Array, expected: Uint8Array): boolean {
  let found = false;
  for (let at = 0; at < proofs.length; at += PROOF_BYTES) {
    const same = equalConstantTime(proofs.subarray(at, at + PROOF_BYTES), expected);
    found = found || same;
  }
  return found;
}

/** HMAC-SHA256 over domain, role, both ids with their lengths, both nonces. */
function proofOf(keyring: Keyring, index: number, role: ProofRole, context: ProofContext): Uint8Array {
  if (context.initiatorNonce.length !== PROOF_NONCE_BYTES || context.responderNonce.length !== PROOF_NONCE_BYTES) {
    throw new CryptoError("BAD_LENGTH", `A proof's nonces have ${PROOF_NONCE_BYTES} bytes each.`);
  }
  const { initiator, responder } = context;
  return createHmac("sha256", keyring.key("handshake", index))
    .update(`${DOMAINS.handshake}\n${role}\n${initiator.length}:${initiator}${responder.length}:${responder}\n`)
    .update(context.initiatorNonce)
    .update(context.responderNonce)
    .digest();
}

function all(keyring: Keyring): number[] {
  return keyring.ids.map((_, index) => index);
}
