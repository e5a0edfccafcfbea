/**
 * Bytes that are nearly right: a valid message taken apart into its items, one or several of them exchanged for what no honest encoder writes, and put
 * together again with lengths that fit, so that the wrong item is reached and not only the wrong length. Byte strings that hold CBOR of their own (a
 * layout, a header) are taken apart too.
 */
import { encodeWire, type Wire } from "../../protocol/codec.ts";

/** One item as it lies in the bytes. */
interface Item {
  /** Initial byte with its argument; of arrays and of byte strings with items inside it is made anew unless it was forged. */
  head: Uint8Array;
  /** Text or bytes. */
  body: Uint8Array;
  /** Of an array, or inside a byte string. */
  items: Item[] | undefined;
  isForged: boolean;
}

const NONE = new Uint8Array();

/** @param bytes canonical CBOR of ours */
function takeApart(bytes: Uint8Array): Item {
  let at = 0;
  const item = takeItem();
  if (at !== bytes.length) throw new Error("something is left over");
  return item;

  function takeItem(): Item {
    const start = at;
    const first = bytes[at++];
    if (first === undefined) throw new Error("cut short");
    const major = first >> 5;
    const short = first & 31;
    const size = short < 24 ? 0 : short === 24 ? 1 : short === 25 ? 2 : short === 26 ? 4 : short === 27 ? 8 : -1;
    if (size < 0 || at + size > bytes.length) throw new Error("no head");
    let value = size === 0 ? short : 0;
    for (let i = 0; i < size; i++) value = value * 256 + bytes[at++]!;
    const head = bytes.slice(start, at);
    if (major === 2 || major === 3) {
      if (at + value > bytes.length) throw new Error("cut short");
      const body = bytes.slice(at, at + value);
      at += value;
      return { head, body, items: major === 2 ? inside(body) : undefined, isForged: false };
    }
    if (major !== 4) return { head, body: NONE, items: undefined, isForged: false };
    if (value > bytes.length - at) throw new Error("cut short");
    return { head, body: NONE, items: Array.from({ length: value }, takeItem), isForged: false };
  }
}

function inside(body: Uint8Array): Item[] | undefined {
  if (body.length < 4 || body[0]! >> 5 !== 4) return undefined;
  try {
    return [takeApart(body)];
  } catch {
    return undefined;
  }
}

function putTogether(item: Item): Uint8Array {
  if (item.items === undefined) return join([item.head, item.body]);
  const parts = item.items.map(putTogether);
  const isBytes = item.head[0]! >> 5 === 2;
  const length = isBytes ? parts.reduce((sum, part) => sum + part.length, 0) : parts.length;
  return join([item.isForged ? item.head : headOf(isBytes ? 0x40 : 0x80, length), ...parts]);
}

function join(parts: readonly Uint8Array[]): Uint8Array {
  return new Uint8Array(Buffer.concat(parts));
}

/** @param width bytes of the argument; default the canonical */
function headOf(major: number, value: number, width?: 0 | 1 | 2 | 4 | 8): Uint8Array {
  const size = width ?? (value < 24 ? 0 : value < 0x100 ? 1 : value < 0x10000 ? 2 : value < 2 ** 32 ? 4 : 8);
  if (size === 0) return Uint8Array.of(major | (value & 23));
  const head = new Uint8Array(1 + size);
  head[0] = major | (size === 1 ? 24 : size === 2 ? 25 : size === 4 ? 26 : 27);
  const view = new DataView(head.buffer);
  if (size === 8) view.setBigUint64(1, BigInt(value));
  else if (size === 4) view.setUint32(1, value);
  else if (size === 2) view.setUint16(1, value);
  else head[1] = value;
  return head;
}

const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));
const wire = (value: Wire): Uint8Array => encodeWire(value);
const nested = (depth: number): Uint8Array => join([new Uint8Array(depth).fill(0x81), Uint8Array.of(0)]);

/** Whole items that stand where something else was. */
export const STRANGE_ITEMS: Readonly<Record<string, Uint8Array>> = {
  null: wire(null),
  true: wire(true),
  zero: wire(0),
  one: wire(1),
  "minus one": wire(-1),
  "the largest whole number": wire(Number.MAX_SAFE_INTEGER),
  "the smallest whole number": wire(Number.MIN_SAFE_INTEGER),
  "2^53": hex("1b0020000000000000"),
  "2^64 - 1": hex("1bffffffffffffffff"),
  half: wire(0.5),
  "a negative fraction": wire(-0.25),
  "the least fraction": wire(5e-324),
  "the largest number": wire(Number.MAX_VALUE),
  "not a number": hex("f97e00"),
  "not a number, with a message": hex("fb7ff8000000001234"),
  infinity: hex("f97c00"),
  "minus infinity": hex("fbfff0000000000000"),
  "negative zero": hex("f98000"),
  "one as a fraction": hex("f93c00"),
  undefined: hex("f7"),
  "a simple value": hex("f8ff"),
  break: hex("ff"),
  "no text": wire(""),
  "a name of Object": wire("__proto__"),
  "a token": wire("A".repeat(22)),
  "a long token": wire("A".repeat(64)),
  "a token too long": wire("A".repeat(65)),
  "a text of control characters": wire("\u0000\u0001\u001e\u001f\u007f"),
  "a text that reaches into keys": wire("a/b/../c"),
  "text that is nearly metadata": wire('"timestamp" "instance_id"'),
  "metadata that is a list": wire('["timestamp","instance_id"]'),
  "metadata that is null": wire("null"),
  "metadata of a far time": wire('{"timestamp":1e300,"instance_id":7,"session_id":{}}'),
  "half a surrogate": hex("63eda080"),
  "two halves": hex("66eda080edb080"),
  "text that is no UTF-8": hex("62c328"),
  "an overlong slash": hex("62c0af"),
  "a long text": wire("long ".repeat(400)),
  "no bytes": wire(NONE),
  bytes: wire(new Uint8Array(40).fill(7)),
  "no items": wire([]),
  "a list of lists": wire([[], [[]], [[[]]]]),
  "as deep as may be": nested(28),
  "one deeper than may be": nested(33),
  "10,000 arrays deep": nested(10_000),
  "10,000 maps deep": new Uint8Array(10_000).fill(0xa1),
  "10,000 tags deep": new Uint8Array(10_000).fill(0xc1),
  "a map": hex("a16161f6"),
  "a map with one key twice": hex("a2616101616102"),
  "a tag": hex("c100"),
  "an array without end": hex("9f0102ff"),
  "text without end": hex("7f616161ff"),
  "bytes without end": hex("5f4101ff"),
  "an array that claims 2^53 items": hex("9b0020000000000000"),
  "an array that claims 2^32 - 1 items": hex("9affffffff"),
  "an array that claims more than there is": hex("9900ff00"),
  "a text that claims 2^53 bytes": hex("7b0020000000000000"),
  "bytes that claim 2^32 - 1": hex("5affffffff"),
  "a length that is reserved": hex("9c"),
};
const STRANGE = Object.values(STRANGE_ITEMS);
/** By major type: what is read as the same kind of thing. */
const ALIKE = Array.from({ length: 8 }, (_, major) => STRANGE.filter((item) => item[0]! >> 5 === major && item.length < 5000));

/** What is done to one item. Numbers choose among what is there, so that any will do. */
export interface Change {
  readonly how: (typeof HOWS)[number];
  /** Which item. */
  readonly at: number;
  /** Which other one, which strange one, how wide. */
  readonly what: number;
}
export const HOWS = [
  "alike",
  "like",
  "replace",
  "insert",
  "delete",
  "double",
  "reverse",
  "copy",
  "swap",
  "widen",
  "claim",
  "retype",
  "from",
  "bit",
] as const;
const WIDTHS = [1, 2, 4, 8] as const;
const CLAIMS = [0, 1, 23, 24, 255, 65_535, 65_536, 2 ** 31, 2 ** 32 - 1, 2 ** 53] as const;

/** @param others from which items are borrowed */
export function forge(sample: Uint8Array, changes: readonly Change[], others: readonly Uint8Array[]): Uint8Array {
  const root: Item = { head: NONE, body: NONE, items: [takeApart(sample)], isForged: true };
  for (const change of changes) apply(root, change, others);
  return join(root.items!.map(putTogether));
}

function apply(root: Item, { how, at, what }: Change, others: readonly Uint8Array[]): void {
  const places = placesIn(root);
  const place = places[at % places.length];
  if (place === undefined) return;
  const { list, index } = place;
  const item = list[index]!;
  const other = places[what % places.length]!;
  switch (how) {
    case "alike": {
      const same = ALIKE[(item.head[0] ?? 0) >> 5]!;
      if (same.length > 0) list[index] = raw(same[what % same.length]!);
      break;
    }
    case "like": {
      const like = places.filter((one) => (one.list[one.index]!.head[0] ?? 0) >> 5 === (item.head[0] ?? 0) >> 5);
      const chosen = like[what % Math.max(1, like.length)];
      if (chosen !== undefined) list[index] = raw(putTogether(chosen.list[chosen.index]!));
      break;
    }
    case "replace":
      list[index] = raw(STRANGE[what % STRANGE.length]!);
      break;
    case "insert":
      list.splice(index, 0, raw(STRANGE[what % STRANGE.length]!));
      break;
    case "delete":
      list.splice(index, 1);
      break;
    case "double":
      list.splice(index, 0, item);
      break;
    case "reverse":
      item.items?.reverse();
      break;
    case "copy":
      list[index] = raw(putTogether(other.list[other.index]!));
      break;
    case "swap": {
      const theirs = other.list[other.index]!;
      if (isWithin(item, theirs) || isWithin(theirs, item)) break;
      other.list[other.index] = item;
      list[index] = theirs;
      break;
    }
    case "widen":
      item.head = headOf(item.head[0]! & 0xe0, argumentOf(item), WIDTHS[what % WIDTHS.length]!);
      item.isForged = true;
      break;
    case "claim":
      item.head = headOf(item.head[0]! & 0xe0, CLAIMS[what % CLAIMS.length]!);
      item.isForged = true;
      break;
    case "retype":
      item.head = Uint8Array.from(item.head);
      item.head[0] = (item.head[0]! & 31) | ((what % 8) << 5);
      item.isForged = true;
      break;
    case "from": {
      const donor = placesIn({ head: NONE, body: NONE, items: [takeApart(others[what % others.length]!)], isForged: true });
      const chosen = donor[at % donor.length]!;
      list[index] = raw(putTogether(chosen.list[chosen.index]!));
      break;
    }
    case "bit":
      if (item.body.length > 0) item.body[what % item.body.length]! ^= 1 << (what % 8);
      else item.head = item.head.map((byte, i) => (i === item.head.length - 1 ? byte ^ (1 << (what % 5)) : byte));
      item.isForged = true;
      break;
  }
}

function raw(bytes: Uint8Array): Item {
  return { head: bytes.slice(0, 1), body: bytes.slice(1), items: undefined, isForged: true };
}

function argumentOf(item: Item): number {
  if (item.items !== undefined) return item.head[0]! >> 5 === 4 ? item.items.length : putTogether({ ...item, isForged: false }).length;
  const short = item.head[0]! & 31;
  if (short < 24) return short;
  return Number(item.head.slice(1).reduce((sum, byte) => (sum * 256 + byte) % 2 ** 52, 0));
}

function placesIn(root: Item): { list: Item[]; index: number }[] {
  const places: { list: Item[]; index: number }[] = [];
  const walk = (item: Item): void => {
    item.items?.forEach((inner, index) => {
      places.push({ list: item.items!, index });
      walk(inner);
    });
  };
  walk(root);
  return places;
}

function isWithin(item: Item, outer: Item): boolean {
  return item === outer || (outer.items?.some((inner) => isWithin(item, inner)) ?? false);
}
