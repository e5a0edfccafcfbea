import { decode, encode } from "cborg";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { countItems, decodeWire, encodeWire, type Wire } from "../../protocol/codec.ts";
import { WIRE_ITEMS_MAX } from "../../protocol/limits.ts";

const MANY = 1_000_000;
const number = fc
  .oneof(fc.maxSafeInteger(), fc.integer(), fc.double({ noNaN: true, noDefaultInfinity: true }), fc.float({ noNaN: true, noDefaultInfinity: true }))
  .map((n) => (Object.is(n, -0) ? 0 : n));
const { wire } = fc.letrec<{ wire: Wire }>((tie) => ({
  wire: fc.oneof(
    { depthSize: "small" },
    fc.constant(null),
    fc.boolean(),
    number,
    fc.string({ unit: "binary", maxLength: 300 }),
    fc.string({ maxLength: 40 }),
    fc.uint8Array({ maxLength: 300 }),
    fc.array(tie("wire"), { maxLength: 30 }),
  ),
}));

describe("one value, one sequence of bytes", () => {
  test("the bytes are those of cborg, and come back as they were", () => {
    fc.assert(
      fc.property(wire, (value) => {
        const bytes = encodeWire(value);
        expect(Buffer.from(bytes).equals(Buffer.from(encode(value)))).toBe(true);
        expect(decodeWire(bytes, MANY)).toEqual(decode(bytes));
      }),
      { numRuns: 2000 },
    );
  });

  test("numbers at the edges of their forms", () => {
    for (const edge of [
      0,
      23,
      24,
      255,
      256,
      65535,
      65536,
      2 ** 32 - 1,
      2 ** 32,
      Number.MAX_SAFE_INTEGER,
      -1,
      -24,
      -25,
      -256,
      -257,
      -(2 ** 32),
      -(2 ** 32) - 1,
      Number.MIN_SAFE_INTEGER,
      0.5,
      1.1,
      1 / 3,
      2 ** 60,
      65504.5,
      5e-324,
    ]) {
      expect(Buffer.from(encodeWire(edge)).toString("hex"), String(edge)).toBe(Buffer.from(encode(edge)).toString("hex"));
      expect(decodeWire(encodeWire(edge), MANY)).toBe(edge);
    }
  });

  test("text longer than any buffer so far, in several scripts", () => {
    for (const sample of ["a", "é", "日本", "😀", `${"a".repeat(127)}é`, "ß".repeat(100_000)])
      expect(decodeWire(encodeWire(sample), MANY)).toBe(sample);
  });

  test("room in front is left alone", () => {
    expect([...encodeWire([1, "a"], 4).subarray(4)]).toEqual([...encodeWire([1, "a"])]);
  });
});

describe("whatever is not canonical is refused", () => {
  const refused: Record<string, string> = {
    nothing: "",
    "two values": "0000",
    "a number longer than needed": "1817",
    "a two-byte number longer than needed": "1900ff",
    "an eight-byte number longer than needed": "1b00000000ffffffff",
    "a number beyond the safe integers": "1b0020000000000000",
    "a float that is a whole number": "f93c00",
    "a double that fits a half": "fb3fe0000000000000",
    "not a number": "f97e00",
    infinity: "f97c00",
    undefined: "f7",
    "a map": "a0",
    "a tag": "c000",
    "an indefinite array": "9fff",
    "an indefinite text": "7fff",
    "text that is not UTF-8": "61ff",
    "half a surrogate": "63eda080",
    "text cut short": "6261",
    "an array cut short": "8201",
    "bytes that promise more than there is": "5affffffff",
    "an array that promises more than there is": "9affffffff",
    "arrays in arrays without end": `${"81".repeat(33)}00`,
  };
  test.each(Object.entries(refused))("%s", (_, hex) => {
    expect(() => decodeWire(Buffer.from(hex, "hex"), MANY)).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
  });

  test("WIRE_ITEMS_MAX values are read, in whatever arrays they lie, and one more is not", () => {
    const flat = (items: number): Wire => Array.from({ length: items - 1 }, () => 0);
    const nested = (items: number): Wire => [flat(items / 2 - 1), flat(items / 2)];
    for (const shape of [flat, nested]) {
      expect(countItems(shape(WIRE_ITEMS_MAX))).toBe(WIRE_ITEMS_MAX);
      expect(decodeWire(encodeWire(shape(WIRE_ITEMS_MAX)), MANY)).toHaveLength(shape === flat ? WIRE_ITEMS_MAX - 1 : 2);
    }
    const many = encodeWire(flat(WIRE_ITEMS_MAX + 1));
    expect(() => decodeWire(many, MANY)).toThrowError(expect.objectContaining({ code: "TOO_LARGE" }));
    expect(decodeWire(many, MANY, WIRE_ITEMS_MAX + 1)).toHaveLength(WIRE_ITEMS_MAX);
  });

  test("32 arrays deep is still read, 33 is not (above)", () => {
    expect(decodeWire(Buffer.from(`${"81".repeat(32)}00`, "hex"), MANY)).toBeDefined();
  });

  test("random bytes give a value whose bytes they are, or MALFORMED", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        let value: Wire;
        try {
          value = decodeWire(bytes, MANY);
        } catch (error) {
          expect(error).toMatchObject({ code: "MALFORMED" });
          return;
        }
        expect([...encodeWire(value)]).toEqual([...bytes]);
      }),
      { numRuns: 20_000 },
    );
  });
});
