import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { tickHlc } from "../../protocol/clock.ts";
import { encodeWire, type Wire } from "../../protocol/codec.ts";
import { buildDelta, type Delta, type DeltaBody, type Entry, genesisHash, hashOf, parseDelta, parseHeader } from "../../protocol/delta.ts";
import type { Partition, WriterId } from "../../protocol/ids.ts";
import { partitionOf } from "../../protocol/layout.ts";
import { DELTA_BODY_MAX_BYTES, DELTA_ENTRIES_MAX, DELTA_HEADER_MAX_BYTES, HLC_COUNT_MAX, HLC_MS_MAX, WIRE_ITEMS_MAX } from "../../protocol/limits.ts";
import { DELTAS, type DeltaVector, deltaOf, deltaVectors, hex, OTHER_WRITER, PARTITION, TENANT, WRITER } from "../vectors/samples.ts";

const golden: DeltaVector[] = JSON.parse(readFileSync(new URL("../vectors/deltas.json", import.meta.url), "utf8"));
const first = DELTAS[0]!.delta;

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    return (error as { code?: string }).code ?? `not a ProtocolError: ${error}`;
  }
  return "nothing thrown";
}
function delta(body: Partial<DeltaBody>, header: Partial<Parameters<typeof buildDelta>[0]> = {}): Delta {
  return buildDelta({ ...first.header, ...header }, { ...first.body, ...body });
}
/** A header of the same shape with one item exchanged. */
function headerWith(at: number, value: Wire): Uint8Array {
  const { writer, partition, seq, previous, hlc, key, bodyHash } = first.header;
  const row: readonly Wire[] = [writer, partition, seq, previous, hlc, key, bodyHash, []];
  return encodeWire(row.with(at, value));
}

describe("the golden bytes of a delta", () => {
  it("are what the code writes, of every kind of entry", () => {
    expect(deltaVectors()).toEqual(golden);
    const ops = new Set(DELTAS.flatMap(({ delta }) => delta.body.entries.map(({ op }) => op)));
    expect([...ops].sort()).toEqual(["concept", "edit", "floor", "forget-concept", "forget-link", "link", "memory", "register", "tombstone", "turn"]);
  });

  it.each(golden.map((vector, index) => [vector.name, vector, index] as const))("are read as what was written: %s", (_name, vector, index) => {
    const { delta } = DELTAS[index]!;
    const read = deltaOf(vector);
    expect(read.header).toEqual(delta.header);
    expect(read.body).toEqual(delta.body);
    expect(read.hash).toBe(vector.hash);
  });
});

describe("a stream", () => {
  it("is a chain: each header names the hash of the one before, the first that of its stream", () => {
    let previous = genesisHash(WRITER, PARTITION);
    for (const vector of golden) {
      const { header, hash } = deltaOf(vector);
      expect(header.previous).toBe(previous);
      previous = hash;
    }
  });

  it("begins differently for every writer and partition", () => {
    const beginnings = [genesisHash(WRITER, PARTITION), genesisHash(OTHER_WRITER, PARTITION), genesisHash(WRITER, (PARTITION + 1) as Partition)];
    expect(new Set(beginnings).size).toBe(3);
  });

  it("gives the same content the same bytes and hash, other content another", () => {
    expect(hex(delta({}).headerBytes)).toBe(hex(first.headerBytes));
    const others = [
      delta({ answer: "{}" }),
      delta({ fingerprint: "x" }),
      delta({}, { seq: 2 }),
      delta({}, { hlc: [1, 1] }),
      delta({}, { saw: { [WRITER]: 1 } }),
    ];
    expect(new Set([first, ...others].map(({ hash }) => hash)).size).toBe(others.length + 1);
  });

  it("writes what was seen in order of writers, however it was gathered", () => {
    const one = delta({}, { saw: { [WRITER]: 1, [OTHER_WRITER]: 2 } });
    const two = delta({}, { saw: { [OTHER_WRITER]: 2, [WRITER]: 1 } });
    expect(one.hash).toBe(two.hash);
  });
});

describe("reading a delta", () => {
  it("refuses a flipped bit anywhere in the body: the header names its hash", () => {
    for (const { header, body } of golden) {
      const bytes = Buffer.from(body, "hex");
      for (let at = 0; at < bytes.length; at++) {
        const flipped = Uint8Array.from(bytes);
        flipped[at]! ^= 1 << (at % 8);
        expect(codeOf(() => parseDelta(Buffer.from(header, "hex"), flipped))).toBe("MALFORMED");
      }
    }
  });

  it("finds a flipped bit anywhere in the header: refused, or another hash, which does not chain", () => {
    for (const { header, body, hash } of golden) {
      const bytes = Buffer.from(header, "hex");
      for (let at = 0; at < 8 * bytes.length; at++) {
        const flipped = Uint8Array.from(bytes);
        flipped[at >> 3]! ^= 1 << (at % 8);
        let read: Delta | undefined;
        const code = codeOf(() => {
          read = parseDelta(flipped, Buffer.from(body, "hex"));
        });
        if (read === undefined) expect(["MALFORMED", "TOO_LARGE"]).toContain(code);
        else expect(read.hash).not.toBe(hash);
      }
    }
  });

  it.each([
    ["no writer", 0, "short"],
    ["a writer that is a name of Object", 0, "__proto__"],
    ["a partition that does not exist", 1, 257],
    ["a negative partition", 1, -1],
    ["number 0", 2, 0],
    ["half a number", 2, 1.5],
    ["a number beyond whole numbers", 2, 2 ** 60],
    ["no previous hash", 3, ""],
    ["a clock value of one part", 4, [1]],
    ["a negative clock value", 4, [-1, 0]],
    ["no key", 5, null],
    ["no body hash", 6, 7],
    ["a saw that is no list", 7, "all"],
    ["a saw of a nameless writer", 7, [["", 1]]],
    [
      "a saw out of order",
      7,
      [
        ["writer-of-the-second-one", 1],
        ["writer-of-the-first-one-", 1],
      ],
    ],
    [
      "a saw that names one writer twice",
      7,
      [
        ["writer-of-the-first-one-", 1],
        ["writer-of-the-first-one-", 2],
      ],
    ],
  ])("refuses a header with %s", (_what, at, value) => {
    expect(codeOf(() => parseHeader(headerWith(at, value)))).toBe("MALFORMED");
  });

  it("accepts the header that those were made from", () => {
    expect(parseHeader(headerWith(7, []))).toEqual(first.header);
  });

  it.each([
    ["an entry nobody knows", ["zz", "id"]],
    ["a negative mass", ["c", "id", -1, 1, null, null, null]],
    ["a mass that is no number", ["l", "a", "b", "1", 1]],
    ["an unknown type of concept", ["c", "id", 1, 1, null, "planet", null]],
    ["a tombstone of a concept", ["x", "concept", "id", []]],
    ["a turn without its texts", ["t", "id", "node"]],
    ["a removal of a nameless writer", ["fc", "id", [["w", 1, [1, 0], 1]]]],
    ["a register that is no list of pairs", ["g", "id", [["only a name"]]]],
    [
      "a register that says one field twice",
      [
        "g",
        "id",
        [
          ["a", "1"],
          ["a", "2"],
        ],
      ],
    ],
    ["a removal of less than nothing", ["fc", "id", [["writer-of-the-first-one-", -1, [1, 0], 1]]]],
    ["an entry with more than its kind says", ["l", "a", "b", 1, 1, null]],
    ["a kind that is a name of Object", ["toString", "id"]],
    ["a link the wrong way round", ["l", "b", "a", 1, 1]],
    ["a link with an end that could be two", ["l", "a\u0001b", "c", 1, 1]],
    ["a removal of a link the wrong way round", ["fl", "b", "a", []]],
  ])("refuses a body with %s", (_what, entry) => {
    const body = encodeWire([TENANT, "", "", [entry]]);
    expect(codeOf(() => parseDelta(headerWith(6, hashOf(body)), body))).toBe("MALFORMED");
  });

  it("refuses a body of a tenant that lives in another partition: its records would depend on what else a member holds (P3)", () => {
    const stranger = ["bob", "carol", "dave"].find((tenant) => partitionOf(tenant) !== PARTITION)!;
    const { headerBytes, bodyBytes } = delta({ tenant: stranger });
    expect(codeOf(() => parseDelta(headerBytes, bodyBytes))).toBe("MALFORMED");
  });

  it("refuses a tenant whose name reaches into another's stored keys", () => {
    const names = Array.from({ length: 5000 }, (_, count) => `${TENANT}/m/${count}`);
    const sly = names.find((tenant) => partitionOf(tenant) === PARTITION)!;
    const { headerBytes, bodyBytes } = delta({ tenant: sly });
    expect(codeOf(() => parseDelta(headerBytes, bodyBytes))).toBe("MALFORMED");
  });

  it("returns any delta that was built, by bytes", () => {
    const text = fc.string({ unit: "grapheme", maxLength: 40 });
    const entry: fc.Arbitrary<Entry> = fc.oneof(
      fc.record({
        op: fc.constant("concept" as const),
        id: text,
        mass: fc.nat(),
        total: fc.double({ min: 0, noNaN: true, noDefaultInfinity: true }),
      }),
      fc.record({ op: fc.constant("register" as const), id: text, fields: fc.dictionary(fc.oneof(text, fc.constant("__proto__")), text) }),
      fc.record({
        op: fc.constant("memory" as const),
        id: text,
        memory: fc.record({ node: text, session: text, entity: text, content: text, metadata: text, concepts: fc.array(text) }),
      }),
    );
    fc.assert(
      fc.property(fc.array(entry), text, text, (entries, fingerprint, answer) => {
        const built = delta({ entries, fingerprint, answer });
        const read = parseDelta(built.headerBytes, built.bodyBytes);
        expect(read.hash).toBe(built.hash);
        expect(buildDelta(read.header, read.body).hash).toBe(built.hash);
      }),
    );
  });
});

describe("a text", () => {
  const through = (text: string) => {
    const built = delta({ entries: [{ op: "register", id: text, fields: { [text]: text } }] });
    return parseDelta(built.headerBytes, built.bodyBytes).body.entries;
  };

  it.each([
    ["\ufeff"],
    ["\ufeffpasted from a file"],
    [`\ufeff${"long ".repeat(50)}`],
    ["\ufeff\ufefftwice"],
    ["in the \ufeff middle"],
    ["\u0000"],
    ["\uffff"],
    ["潮\u{1f30a}"],
  ])("arrives as it was written, a byte order mark at its beginning included: %j (P3)", (text) => {
    expect(through(text)).toEqual([{ op: "register", id: text, fields: { [text]: text } }]);
  });
});

describe("the bounds of a delta", () => {
  it("has a clock value up to HLC_MS_MAX and HLC_COUNT_MAX and refuses more, when it is built and when it is read: no clock could go on from it (P4)", () => {
    const last = delta({}, { hlc: [HLC_MS_MAX, HLC_COUNT_MAX] });
    expect(parseHeader(last.headerBytes).hlc).toEqual([HLC_MS_MAX, HLC_COUNT_MAX]);
    expect(new Date(HLC_MS_MAX).toISOString()).toBe("9999-12-31T23:59:59.999Z");
    for (const hlc of [
      [HLC_MS_MAX + 1, 0],
      [0, HLC_COUNT_MAX + 1],
      [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
    ] as const) {
      expect(codeOf(() => delta({}, { hlc }))).toBe("TOO_LARGE");
      expect(codeOf(() => parseHeader(headerWith(4, hlc)))).toBe("MALFORMED");
    }
    expect(tickHlc([5, HLC_COUNT_MAX], 0)).toEqual([6, 0]);
  });

  it("is not built with more items than anybody would read", () => {
    const fields = Object.fromEntries(Array.from({ length: WIRE_ITEMS_MAX / 3 }, (_, index) => [String(index), ""]));
    expect(codeOf(() => delta({ entries: [{ op: "register", id: "", fields }] }))).toBe("TOO_LARGE");
  });

  const entries = (count: number): Entry[] => Array.from({ length: count }, (_, index) => ({ op: "register", id: `${index}`, fields: {} }));

  it("holds DELTA_ENTRIES_MAX entries and refuses one more, when it is built and when it is read", () => {
    const full = delta({ entries: entries(DELTA_ENTRIES_MAX) });
    expect(parseDelta(full.headerBytes, full.bodyBytes).body.entries.length).toBe(DELTA_ENTRIES_MAX);
    expect(codeOf(() => delta({ entries: entries(DELTA_ENTRIES_MAX + 1) }))).toBe("TOO_LARGE");
    const body = encodeWire([TENANT, "", "", Array.from({ length: DELTA_ENTRIES_MAX + 1 }, () => ["g", "x", []])]);
    expect(codeOf(() => parseDelta(headerWith(6, hashOf(body)), body))).toBe("TOO_LARGE");
  });

  it("holds a body of DELTA_BODY_MAX_BYTES and refuses one byte more", () => {
    const room = DELTA_BODY_MAX_BYTES - delta({ answer: "x".repeat(1_000_000) }).bodyBytes.length + 1_000_000;
    const full = delta({ answer: "x".repeat(room) });
    expect(full.bodyBytes.length).toBe(DELTA_BODY_MAX_BYTES);
    expect(parseDelta(full.headerBytes, full.bodyBytes).body.answer.length).toBe(room);
    expect(codeOf(() => delta({ answer: "x".repeat(room + 1) }))).toBe("TOO_LARGE");
    const body = encodeWire([TENANT, "", "x".repeat(DELTA_BODY_MAX_BYTES), []]);
    expect(codeOf(() => parseDelta(headerWith(6, hashOf(body)), body))).toBe("TOO_LARGE");
  });

  it("holds a header of DELTA_HEADER_MAX_BYTES and refuses more, when it is built and when it is read", () => {
    const saw = (count: number): Record<WriterId, number> =>
      Object.fromEntries(Array.from({ length: count }, (_, index) => [`writer-${String(index).padStart(15, "0")}`, 1]));
    const writers = Math.floor((DELTA_HEADER_MAX_BYTES - 300) / 25);
    const full = delta({}, { saw: saw(writers) });
    expect(Object.keys(parseHeader(full.headerBytes).saw).length).toBe(writers);
    expect(codeOf(() => delta({}, { saw: saw(writers + 20) }))).toBe("TOO_LARGE");
    expect(codeOf(() => parseHeader(new Uint8Array(DELTA_HEADER_MAX_BYTES + 1)))).toBe("TOO_LARGE");
  });
});
