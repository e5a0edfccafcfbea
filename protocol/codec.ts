/**
 * Deterministic CBOR (RFC 8949 section 4.2.1): one value, one sequence of bytes. Only null, booleans, finite numbers, text, bytes and arrays; every
 * other item, every longer-than-needed form and everything nested deeper than DEPTH_MAX is refused. Hashed bytes are kept as received and never re-encoded.
 *
 * Our own because it stands between every write and every disk: several times faster than a general library on what we send. A property test holds it
 * against cborg, byte for byte, both ways (test/unit/codec.test.ts).
 */
import { ProtocolError } from "./errors.ts";
import { WIRE_ITEMS_MAX } from "./limits.ts";

export type Wire = null | boolean | number | string | Uint8Array | readonly Wire[];

const DEPTH_MAX = 32;
const utf8 = new TextEncoder();
const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

// ---- encoding ------------------------------------------------------------------------------------------------

/** One buffer for all encoding: it is synchronous, and the result is copied out. */
let buffer = new Uint8Array(64 * 1024);
let view = new DataView(buffer.buffer);
let at = 0;

/** @param reserve bytes left free in front, for whoever puts something there */
export function encodeWire(value: Wire, reserve = 0): Uint8Array {
  at = reserve;
  put(value);
  return buffer.slice(0, at);
}

function put(value: Wire): void {
  if (typeof value === "string") putText(value);
  else if (typeof value === "number") putNumber(value);
  else if (value === null) putByte(0xf6);
  else if (value === true || value === false) putByte(value ? 0xf5 : 0xf4);
  else if (value instanceof Uint8Array) {
    putHead(0x40, value.length);
    room(value.length);
    buffer.set(value, at);
    at += value.length;
  } else {
    putHead(0x80, value.length);
    // By index: an iterator would be an object an item, for every row of every write.
    for (let index = 0; index < value.length; index++) put(value[index] as Wire);
  }
}

function putText(value: string): void {
  const { length } = value;
  room(9 + length * 3);
  if (length < 128) {
    // Most are short and ASCII: written directly, one byte a character.
    const begin = at;
    at += length < 24 ? 1 : 2;
    let index = 0;
    for (; index < length; index++) {
      const code = value.charCodeAt(index);
      if (code > 0x7f) break;
      buffer[at++] = code;
    }
    if (index === length) {
      const end = at;
      at = begin;
      putHead(0x60, length);
      at = end;
      return;
    }
    at = begin;
  }
  const bytes = utf8.encode(value);
  putHead(0x60, bytes.length);
  room(bytes.length);
  buffer.set(bytes, at);
  at += bytes.length;
}

function putNumber(value: number): void {
  if (Number.isSafeInteger(value)) {
    if (value >= 0) putHead(0x00, value);
    else putHead(0x20, -1 - value);
    return;
  }
  if (!Number.isFinite(value)) throw new ProtocolError("INVARIANT", "only finite numbers have a canonical form");
  room(9);
  if (Math.f16round(value) === value) {
    buffer[at] = 0xf9;
    view.setFloat16(at + 1, value);
    at += 3;
  } else if (Math.fround(value) === value) {
    buffer[at] = 0xfa;
    view.setFloat32(at + 1, value);
    at += 5;
  } else {
    buffer[at] = 0xfb;
    view.setFloat64(at + 1, value);
    at += 9;
  }
}

function putHead(major: number, value: number): void {
  room(9);
  if (value < 24) buffer[at++] = major | value;
  else if (value < 0x100) {
    buffer[at] = major | 24;
    buffer[at + 1] = value;
    at += 2;
  } else if (value < 0x10000) {
    buffer[at] = major | 25;
    view.setUint16(at + 1, value);
    at += 3;
  } else if (value < 0x100000000) {
    buffer[at] = major | 26;
    view.setUint32(at + 1, value);
    at += 5;
  } else {
    buffer[at] = major | 27;
    view.setUint32(at + 1, Math.floor(value / 0x100000000));
    view.setUint32(at + 5, value % 0x100000000);
    at += 9;
  }
}

function putByte(byte: number): void {
  room(1);
  buffer[at++] = byte;
}

function room(bytes: number): void {
  if (at + bytes <= buffer.length) return;
  const larger = new Uint8Array(Math.max(buffer.length * 2, at + bytes));
  larger.set(buffer.subarray(0, at));
  buffer = larger;
  view = new DataView(buffer.buffer);
}

// ---- decoding ------------------------------------------------------------------------------------------------

let source: Uint8Array = buffer;
let sourceView: DataView = view;
let read = 0;
/** Items that may still be read. */
let itemsLeft = 0;

/** Records and headers have at most a dozen parts. */
const SHORT_LIST_MAX = 16;
/** Ids and hashes have up to 43 characters; the decoder's own cost is that of some fifty. */
const SHORT_TEXT_MAX = 48;

/**
 * Byte strings in the result are views into `bytes`.
 * @param maxItems an item of one byte takes up to 200 in memory, so the size alone bounds nothing
 * @throws ProtocolError MALFORMED, TOO_LARGE
 */
export function decodeWire(bytes: Uint8Array, maxBytes: number, maxItems = WIRE_ITEMS_MAX): Wire {
  if (bytes.length > maxBytes) throw new ProtocolError("TOO_LARGE", "message larger than its bound", { size: bytes.length, bound: maxBytes });
  source = bytes;
  sourceView = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  read = 0;
  itemsLeft = maxItems;
  const value = take(0);
  if (read !== bytes.length) throw notCanonical();
  return value;
}

function take(depth: number): Wire {
  if (read >= source.length) throw notCanonical();
  if (--itemsLeft < 0) throw new ProtocolError("TOO_LARGE", "more items than a message may hold");
  const first = source[read++] as number;
  const major = first >> 5;
  if (major === 7) return takeSimple(first);
  const value = takeHead(first & 0x1f);
  if (major === 0) return value;
  if (major === 1) return takeNegative(value);
  // An item has at least one byte: a length that promises more than there is was forged, and nothing is allocated for it.
  if (value > source.length - read) throw notCanonical();
  if (major === 2) {
    read += value;
    return source.subarray(read - value, read);
  }
  if (major === 3) return takeText(value);
  if (major !== 4 || depth >= DEPTH_MAX) throw notCanonical();
  // A short list is made at its length, a long one grows: a forged length must not make room for what is not there.
  if (value > SHORT_LIST_MAX) return takeLongList(value, depth);
  const items = new Array<Wire>(value);
  for (let index = 0; index < value; index++) items[index] = take(depth + 1);
  return items;
}

function takeLongList(length: number, depth: number): Wire {
  const items: Wire[] = [];
  for (let index = 0; index < length; index++) items.push(take(depth + 1));
  return items;
}

function takeHead(short: number): number {
  if (short < 24) return short;
  const size = short === 24 ? 1 : short === 25 ? 2 : short === 26 ? 4 : short === 27 ? 8 : 0;
  if (size === 0 || read + size > source.length) throw notCanonical();
  const start = read;
  read += size;
  if (size === 1) return atLeast(source[start] as number, 24);
  if (size === 2) return atLeast(sourceView.getUint16(start), 0x100);
  if (size === 4) return atLeast(sourceView.getUint32(start), 0x10000);
  const high = sourceView.getUint32(start);
  const value = high * 0x100000000 + sourceView.getUint32(start + 4);
  if (high > 0x1fffff) throw notCanonical();
  return atLeast(value, 0x100000000);
}

/** Shorter forms exist for smaller numbers, and only they are canonical. */
function atLeast(value: number, least: number): number {
  if (value < least) throw notCanonical();
  return value;
}

function takeNegative(value: number): number {
  const negative = -1 - value;
  if (!Number.isSafeInteger(negative)) throw notCanonical();
  return negative;
}

function takeText(length: number): string {
  const start = read;
  read += length;
  if (length <= SHORT_TEXT_MAX) {
    const short = takeShortText(start);
    if (short !== undefined) return short;
  }
  try {
    return text.decode(source.subarray(start, read));
  } catch {
    throw notCanonical();
  }
}

/** Most are ASCII: eight at a time, so that few strings are made on the way to the whole. Undefined: it is not. */
function takeShortText(start: number): string | undefined {
  const s = source;
  let out = "";
  let index = start;
  for (; index + 8 <= read; index += 8) {
    const [a, b, c, d] = [s[index] as number, s[index + 1] as number, s[index + 2] as number, s[index + 3] as number];
    const [e, f, g, h] = [s[index + 4] as number, s[index + 5] as number, s[index + 6] as number, s[index + 7] as number];
    if ((a | b | c | d | e | f | g | h) > 0x7f) return undefined;
    out += String.fromCharCode(a, b, c, d, e, f, g, h);
  }
  for (; index < read; index++) {
    const code = s[index] as number;
    if (code > 0x7f) return undefined;
    out += String.fromCharCode(code);
  }
  return out;
}

function takeSimple(first: number): Wire {
  if (first === 0xf4) return false;
  if (first === 0xf5) return true;
  if (first === 0xf6) return null;
  const size = first === 0xf9 ? 2 : first === 0xfa ? 4 : first === 0xfb ? 8 : 0;
  if (size === 0 || read + size > source.length) throw notCanonical();
  const start = read;
  read += size;
  const value = size === 2 ? sourceView.getFloat16(start) : size === 4 ? sourceView.getFloat32(start) : sourceView.getFloat64(start);
  const shorter = size === 8 ? Math.fround(value) === value : size === 4 ? Math.f16round(value) === value : false;
  if (!Number.isFinite(value) || Number.isSafeInteger(value) || shorter) throw notCanonical();
  return value;
}

function notCanonical(): ProtocolError {
  return new ProtocolError("MALFORMED", "bytes are not strict CBOR");
}

/** How many items a value has, itself and those inside counted: what decodeWire counts. */
export function countItems(value: Wire): number {
  if (!Array.isArray(value)) return 1;
  let items = 1;
  for (const item of value) items += countItems(item as Wire);
  return items;
}

// ---- shapes --------------------------------------------------------------------------------------------------

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
