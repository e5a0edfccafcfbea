/**
 * A delta between nodes: the header readable, the body sealed once (XChaCha20-Poly1305) by its writer or by whoever repairs from its log, and sent to
 * everybody in the same bytes. The associated data is the federation and the header, which names partition, writer and seq: a body moved elsewhere
 * does not open. A witness keeps the envelope as it came.
 */
import type { Keyring } from "../crypto/keyring.ts";
import { openWith, sealWith } from "../crypto/seal.ts";
import { type Delta, parseDelta } from "./delta.ts";
import { ProtocolError } from "./errors.ts";
import type { FederationId } from "./ids.ts";
import type { Envelope } from "./message.ts";

const text = new TextEncoder();

/** @param nonce 24 random bytes, never used twice */
export function sealDelta(delta: Pick<Delta, "headerBytes" | "bodyBytes">, keyring: Keyring, federation: FederationId, nonce: Uint8Array): Envelope {
  return {
    headerBytes: delta.headerBytes,
    sealedBody: sealWith(keyring, "delta", nonce, delta.bodyBytes, associatedData(federation, delta.headerBytes)),
  };
}

/** @throws ProtocolError MALFORMED, TOO_LARGE, FOREIGN (not sealed for this federation, or altered) */
export function openEnvelope(envelope: Envelope, keyring: Keyring, federation: FederationId): Delta {
  let bodyBytes: Uint8Array;
  try {
    bodyBytes = openWith(keyring, "delta", envelope.sealedBody, associatedData(federation, envelope.headerBytes));
  } catch {
    throw new ProtocolError("FOREIGN", "a delta that does not open under our secrets for this federation");
  }
  return parseDelta(envelope.headerBytes, bodyBytes);
}

function associatedData(federation: FederationId, headerBytes: Uint8Array): Uint8Array {
  const id = text.encode(federation);
  const out = new Uint8Array(id.length + headerBytes.length);
  out.set(id, 0);
  out.set(headerBytes, id.length);
  return out;
}
