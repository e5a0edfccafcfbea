/**
 * Deterministic CBOR (RFC 8949 section 4.2.1 by cborg): one value, one sequence of bytes. Hashed bytes are kept as received and never re-encoded, so
 * it does no harm that a float may arrive in a longer spelling than encoding gives it, or a text in broken UTF-8 (read with U+FFFD).
 * Every failure to decode is a ProtocolError, so a caller cannot be surprised by an exception type.
 */
import { decode, encode, type Token, Tokenizer, Type } from "cborg";
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
    return decode(
      bytes,
      hasByteOrderMark(bytes) ? { ...STRICT, tokenizer: new ExactTexts(bytes, { ...STRICT, retainStringBytes: true }) } : STRICT,
    ) as Wire;
  } catch {
    throw new ProtocolError("MALFORMED", "bytes are not strict CBOR");
  }
}

/**
 * A text may begin with U+FEFF (pasted from a file that did). cborg's decoder drops it there, so a replica would hold another text than the writer (P3).
 */
class ExactTexts extends Tokenizer {
  override next(): Token {
    const token = super.next();
    const raw: unknown = token.byteValue;
    if (!Type.equals(token.type, Type.string) || !(raw instanceof Uint8Array) || !startsWithMark(raw, 0)) return token;
    token.value = `\ufeff${token.value}`;
    return token;
  }
}

/** Anywhere: only such bytes, which are rare, take the slower way. */
function hasByteOrderMark(bytes: Uint8Array): boolean {
  for (let at = bytes.indexOf(0xef); at >= 0; at = bytes.indexOf(0xef, at + 1)) if (startsWithMark(bytes, at)) return true;
  return false;
}
function startsWithMark(bytes: Uint8Array, at: number): boolean {
  return bytes[at] === 0xef && bytes[at + 1] === 0xbb && bytes[at + 2] === 0xbf;
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
