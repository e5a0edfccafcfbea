/**
 * What a member who keeps to the format may write in its own stream: entries of every kind, with the numbers, names and texts that no client of ours can
 * make. They decode; what must hold is that nobody who holds them dies of it.
 */
import fc from "fast-check";
import type { Entry } from "../../protocol/delta.ts";
import { CONCEPT_TYPES } from "../../protocol/graph/records.ts";
import type { KeyHash, WriterId } from "../../protocol/ids.ts";
import { HLC_COUNT_MAX, HLC_MS_MAX } from "../../protocol/limits.ts";

const NAMES = [
  "tide",
  "moon",
  "",
  "__proto__",
  "constructor",
  "toString",
  "a/b/../c",
  "a\u0001b",
  "a\u001eb",
  "a\u001fb",
  "\u0000",
  "\uffff",
  "the",
  "((((((((((",
  "x,".repeat(300),
  "long".repeat(2000),
  "潮\u{1f30a}",
  "\ufeff",
] as const;
/** Mostly the same two: what breaks is what several deltas say of one record. */
const name = fc.oneof({ weight: 2, arbitrary: fc.constantFrom("tide", "moon") }, { weight: 1, arbitrary: fc.constantFrom(...NAMES) });
const text = fc.oneof(
  name,
  fc.constantFrom(
    "What moves the tide? The moon moves the tide, said Alice in Berlin.",
    "?".repeat(5000),
    "a-b_c ".repeat(3000),
    "1e309 -0 NaN 0x",
    "decided ".repeat(1000),
    "\u202e\u200d",
  ),
);
const metadata = fc.constantFrom(
  "{}",
  "",
  "null",
  "[]",
  "7",
  '"timestamp"',
  'no json: "timestamp" "instance_id"',
  '{"timestamp":1e300,"instance_id":7,"session_id":{}}',
  '{"timestamp":"+275760-09-13T00:00:00.000Z"}',
  '{"timestamp":"-271821-04-20T00:00:00.000Z"}',
  '{"timestamp":null,"__proto__":{"instance_id":"x"}}',
  '{"timestamp":-1}',
  `${'{"timestamp":'.repeat(3000)}1${"}".repeat(3000)}`,
  `${"[".repeat(3000)}"timestamp"${"]".repeat(3000)}`,
);
const names = fc.array(name, { maxLength: 5 });
const mass = fc.constantFrom(0, 1, 0.15, 5e-324, 1e-9, Number.MAX_SAFE_INTEGER, 1e300, Number.MAX_VALUE);
const optional = { nil: undefined };
const given = <T extends object>(fields: T): T => Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as T;

/** @param writers whose totals are taken away, and who was seen */
export function hostileEntries(writers: readonly WriterId[]): fc.Arbitrary<Entry[]> {
  const end = name.filter((one) => !one.includes("\u0001"));
  const ends = fc.tuple(end, end).map(([a, b]) => (a < b ? { a, b } : { a: b, b: a }));
  const seq = fc.constantFrom(0, 1, 2, 1000, Number.MAX_SAFE_INTEGER);
  const share = fc.record({ mass, hlc: someHlc, seq });
  const removed = fc.dictionary(fc.constantFrom(...writers), share, { maxKeys: 3 }) as fc.Arbitrary<
    Record<WriterId, { mass: number; hlc: readonly [number, number]; seq: number }>
  >;
  const entry: fc.Arbitrary<Entry> = fc.oneof(
    fc
      .record({
        op: fc.constant("concept" as const),
        id: name,
        mass,
        total: mass,
        name: fc.option(text, optional),
        type: fc.option(fc.constantFrom(...CONCEPT_TYPES), optional),
        description: fc.option(text, optional),
      })
      .map((one) => given(one) as Entry),
    fc.tuple(ends, mass, mass).map(([two, one, total]): Entry => ({ op: "link", ...two, mass: one, total })),
    fc.record({
      op: fc.constant("turn" as const),
      id: name,
      turn: fc.record({
        node: name,
        session: name,
        instance: name,
        user: text,
        assistant: text,
        thinking: text,
        metadata,
        concepts: names,
        decisions: names,
      }),
    }),
    fc.record({
      op: fc.constant("memory" as const),
      id: name,
      memory: fc.record({ node: name, session: name, entity: name, content: text, metadata, concepts: names }),
    }),
    fc.record({
      op: fc.constant("edit" as const),
      id: name,
      fields: fc
        .record({
          entity: fc.option(name, optional),
          content: fc.option(text, optional),
          metadata: fc.option(metadata, optional),
          concepts: fc.option(names, optional),
        })
        .map(given) as fc.Arbitrary<Extract<Entry, { op: "edit" }>["fields"]>,
    }),
    fc.record({
      op: fc.constant("tombstone" as const),
      of: fc.constantFrom("turn" as const, "memory" as const),
      id: name,
      keys: names as fc.Arbitrary<string[]> as fc.Arbitrary<KeyHash[]>,
    }),
    fc.record({ op: fc.constant("forget-concept" as const), id: name, removed }),
    fc.tuple(ends, removed).map(([two, all]): Entry => ({ op: "forget-link", ...two, removed: all })),
    fc.record({ op: fc.constant("register" as const), id: name, fields: fc.dictionary(name, text, { maxKeys: 3 }) }),
  );
  return fc.array(entry, { minLength: 1, maxLength: 6 });
}

/** What takes tombstones and bodies away: a node that lacks part of its frontier does not follow it. */
export function hostileFloor(writers: readonly WriterId[]): fc.Arbitrary<Entry[]> {
  const position = fc.tuple(fc.constantFrom(...writers), fc.constantFrom(1, 2, 5, 1000, Number.MAX_SAFE_INTEGER), fc.boolean());
  const tombstone = fc
    .tuple(
      fc.constantFrom("turn", "memory"),
      name.filter((id) => id !== ""),
    )
    .map(([of, id]) => `${of}/${id}`);
  return fc
    .tuple(fc.uniqueArray(position, { maxLength: 3, selector: ([writer]) => writer }), fc.uniqueArray(tombstone, { maxLength: 4 }))
    .map(([positions, tombstones]): Entry[] => {
      const all = positions.sort(([a], [b]) => (a < b ? -1 : 1));
      const frontier = all.map(([writer, seq]) => [writer, seq] as const);
      const erase = all.flatMap(([writer, seq, erased]) => (erased ? [[writer, seq] as const] : []));
      return [{ op: "floor", frontier, erase, tombstones: tombstones.sort() }];
    });
}

export const someHlc: fc.Arbitrary<readonly [number, number]> = fc.tuple(
  fc.constantFrom(0, 1, 1_800_000_000_000, HLC_MS_MAX),
  fc.constantFrom(0, 7, HLC_COUNT_MAX),
);

export function someSaw(writers: readonly WriterId[]): fc.Arbitrary<Record<WriterId, number>> {
  return fc.dictionary(fc.constantFrom(...writers), fc.constantFrom(0, 1, 5, Number.MAX_SAFE_INTEGER), { maxKeys: 3 }) as fc.Arbitrary<
    Record<WriterId, number>
  >;
}
