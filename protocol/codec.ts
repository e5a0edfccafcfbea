/**
 * Deterministic CBOR (RFC 8949 section 4.2.1 by cborg): one value, one sequence of bytes. Hashed bytes are kept as received and never re-encoded.
 * Decoding accepts only what encoding can produce and turns every failure into a ProtocolError, so a caller cannot be surprised by an exception type.
 */
import { decode, encode } from "cborg";
import { ProtocolError } from "./errors.ts";

export type Wire = null | boolean | number | string | Uint8Array | readonly Wire[];

const STRICT = {
  strict: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowInfinity: false,
  allowNaN: false,
  allowBigInt: false,
  rejectDuplicateMapKeys: true,
} as const;

export function encodeWire(value: Wire): Uint8Array {
  return encode(value);
}

/** @throws ProtocolError MALFORMED, TOO_LARGE */
export function decodeWire(bytes: Uint8Array, maxBytes: number): Wire {
  if (bytes.length > maxBytes) throw new ProtocolError("TOO_LARGE", "message larger than its bound", { size: bytes.length, bound: maxBytes });
  try {
    return decode(bytes, STRICT) as Wire;
  } catch {
    throw new ProtocolError("MALFORMED", "bytes are not strict CBOR");
  }
}

const malformed = (what: string): ProtocolError => new ProtocolError("MALFORMED", `expected ${what}`, { what });

/** @param length exact number of items, or undefined for any */
export function asArray(value: Wire | undefined, what: string, length?: number): readonly Wire[] {
  if (!Array.isArray(value) || (length !== undefined && value.length !== length)) throw malformed(what);
  return value as readonly Wire[];
}
export function asText(value: Wire | undefined, what: string, maxChars = Number.MAX_SAFE_INTEGER): string {
  if (typeof value !== "string" || value.length > maxChars) throw malformed(what);
  return value;
}
export function asBytes(value: Wire | undefined, what: string, length?: number): Uint8Array {
  if (!(value instanceof Uint8Array) || (length !== undefined && value.length !== length)) throw malformed(what);
  return value;
}
/** A whole number >= 0. */
export function asCount(value: Wire | undefined, what: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 0) throw malformed(what);
  return value;
}
export function asFinite(value: Wire | undefined, what: string): number {
  if (typeof value !== "number" || !Number.isFinite(value)) throw malformed(what);
  return value;
}
/** Writer ids, incarnations and key hashes: short base64url or hex, never a name that means something to JavaScript objects. */
const TOKEN = /^[A-Za-z0-9_-]{22,64}$/;
export function asToken<T extends string>(value: Wire | undefined, what: string): T {
  if (typeof value !== "string" || !TOKEN.test(value)) throw malformed(what);
  return value as T;
}
