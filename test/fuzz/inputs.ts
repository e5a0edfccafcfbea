/** What a decoder is given: bytes of chance, valid bytes cut, flipped and spliced, and valid messages with items exchanged. Everything can be shrunk. */
import fc from "fast-check";
import { type Change, forge, HOWS } from "./forger.ts";

/** On bytes, wherever they stand. */
interface Cut {
  readonly how: (typeof CUTS)[number];
  readonly at: number;
  readonly what: number;
}
const CUTS = ["set", "flip", "truncate", "extend", "insert", "remove", "double", "splice", "huge"] as const;
/** Heads of lengths that nobody has. */
const HUGE = [
  [0x9b, 0, 0x20, 0, 0, 0, 0, 0, 0],
  [0x9a, 255, 255, 255, 255],
  [0x5a, 127, 255, 255, 255],
  [0x7b, 255, 255, 255, 255, 255, 255, 255, 255],
  [0xbb, 255, 255, 255, 255, 255, 255, 255, 255],
] as const;

/**
 * @param samples valid bytes of what the decoder reads
 * @param others valid bytes of everything else: parts of them are put in
 * @param isCbor false: only bytes are changed
 */
export function inputsFor(samples: readonly Uint8Array[], others: readonly Uint8Array[], isCbor: boolean): fc.Arbitrary<Uint8Array> {
  const sample = fc.nat({ max: samples.length - 1 });
  const place = fc.nat({ max: 1_000_000 });
  const cuts = fc.array(fc.record<Cut>({ how: fc.constantFrom(...CUTS), at: place, what: place }), { minLength: 1, maxLength: 4 });
  const cut = fc.tuple(sample, cuts).map(([which, all]) => all.reduce((bytes, one) => applyCut(bytes, one, others), samples[which]!));
  const chance = fc.uint8Array({ maxLength: 120 });
  if (!isCbor) return fc.oneof({ weight: 1, arbitrary: chance }, { weight: 6, arbitrary: cut });
  const changes = fc.array(fc.record<Change>({ how: fc.constantFrom("alike" as const, "like" as const, ...HOWS), at: place, what: place }), {
    minLength: 1,
    maxLength: 3,
    size: "max",
  });
  const forged = fc.tuple(sample, changes).map(([which, all]) => forge(samples[which]!, all, others));
  return fc.oneof({ weight: 1, arbitrary: chance }, { weight: 3, arbitrary: cut }, { weight: 8, arbitrary: forged });
}

function applyCut(bytes: Uint8Array, { how, at, what }: Cut, others: readonly Uint8Array[]): Uint8Array {
  const place = at % (bytes.length + 1);
  const [before, after] = [bytes.subarray(0, place), bytes.subarray(place)];
  switch (how) {
    case "set":
      return Uint8Array.from([...before, what & 255, ...after.subarray(1)]);
    case "flip":
      return Uint8Array.from([...before, ...(after.length === 0 ? [] : [after[0]! ^ (1 << (what % 8))]), ...after.subarray(1)]);
    case "truncate":
      return Uint8Array.from(before);
    case "extend":
      return Uint8Array.from([...bytes, ...new Uint8Array(what % 40).fill(what & 255)]);
    case "insert":
      return Uint8Array.from([...before, what & 255, ...after]);
    case "remove":
      return Uint8Array.from([...before, ...after.subarray(1 + (what % 9))]);
    case "double":
      return Uint8Array.from([...bytes, ...after]);
    case "splice": {
      const other = others[what % others.length]!;
      return Uint8Array.from([...before, ...other.subarray(at % other.length)]);
    }
    case "huge":
      return Uint8Array.from([...before, ...HUGE[what % HUGE.length]!, ...after.subarray(what % 3)]);
  }
}
