/** The parts that records and deltas are made of, to and from the wire. Maps become lists in the order of their keys, so equal values give equal bytes. */
import type { Hlc } from "../clock.ts";
import { asArray, asCount, asFinite, asText, asToken, type Wire } from "../codec.ts";
import { ProtocolError } from "../errors.ts";
import type { KeyHash, WriterId } from "../ids.ts";
import type { Counter, Dot, Editable, Execution, Register, Share, Version } from "./records.ts";

export const sortedEntries = <T>(record: Readonly<Record<string, T>>): [string, T][] => Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));

export const registerToWire = (value: Register<string>): Wire => [value.value, value.hlc, value.writer];
export function asRegister(wire: Wire | undefined): Register<string> {
  const [value, hlc, writer] = asArray(wire, "register", 3);
  return { value: asText(value, "value"), hlc: asHlc(hlc), writer: asText(writer, "writer") as WriterId };
}

export const sharesToWire = (all: Readonly<Record<WriterId, Share>>): Wire =>
  sortedEntries(all).map(([writer, share]) => [writer, share.mass, share.hlc, share.seq]);
export const counterToWire = (value: Counter): Wire => [
  sharesToWire(value.totals),
  sharesToWire(value.removed),
  sortedEntries(value.repeats).map(([key, all]) => [key, all.map(execution)]),
];
const execution = (value: Execution): Wire => [value.writer, value.seq, value.mass, value.hlc];

/**
 * A map as it is written: rows of `length` items in the order of their first, which is text, each once. Any other order would be other bytes for one value.
 * @throws ProtocolError MALFORMED
 */
export function asPairs(wire: Wire | undefined, what: string, length: number): readonly (readonly Wire[])[] {
  let before: string | undefined;
  return asArray(wire, what).map((item) => {
    const row = asArray(item, what, length);
    const key = asText(row[0], what);
    if (before !== undefined && before >= key) throw new ProtocolError("MALFORMED", `${what} out of order, or twice`);
    before = key;
    return row;
  });
}

/** What was counted is never below 0. */
export function asMass(wire: Wire | undefined): number {
  const mass = asFinite(wire, "mass");
  if (mass < 0) throw new ProtocolError("MALFORMED", "a negative mass");
  return mass;
}

export function asShares(wire: Wire | undefined): Record<WriterId, Share> {
  const out: Record<WriterId, Share> = {};
  for (const [writer, mass, hlc, seq] of asPairs(wire, "shares", 4))
    out[asToken<WriterId>(writer, "writer")] = { mass: asMass(mass), hlc: asHlc(hlc), seq: asCount(seq, "seq") };
  return out;
}

export function asCounter(wire: Wire | undefined): Counter {
  const [totals, removed, repeats] = asArray(wire, "counter", 3);
  const out: Record<KeyHash, Execution[]> = {};
  for (const [key, all] of asPairs(repeats, "repeats", 2)) {
    out[asToken<KeyHash>(key, "key")] = asArray(all, "executions").map((one) => {
      const [writer, seq, mass, hlc] = asArray(one, "execution", 4);
      return { writer: asToken<WriterId>(writer, "writer"), seq: asCount(seq, "seq"), mass: asMass(mass), hlc: asHlc(hlc) };
    });
  }
  return { totals: asShares(totals), removed: asShares(removed), repeats: out };
}

export const editableToWire = <T extends Wire>(field: Editable<T>): Wire =>
  field.map((version) => [version.value, version.hlc, version.writer, version.seq, sawToWire(version.saw), version.siblings]);
export function asEditable<T>(wire: Wire | undefined, asValue: (value: Wire | undefined) => T): Editable<T> {
  return asArray(wire, "editable").map((row): Version<T> => {
    const [value, hlc, writer, seq, saw, siblings] = asArray(row, "version", 6);
    return {
      value: asValue(value),
      hlc: asHlc(hlc),
      writer: asToken<WriterId>(writer, "writer"),
      seq: asCount(seq, "seq"),
      saw: asSaw(saw),
      siblings: asDots(siblings),
    };
  });
}

function asDots(wire: Wire | undefined): readonly Dot[] {
  return asArray(wire, "dots").map((pair) => {
    const [writer, seq] = asArray(pair, "dot", 2);
    return [asToken<WriterId>(writer, "writer"), asCount(seq, "seq")];
  });
}

export function asSaw(wire: Wire | undefined): Record<WriterId, number> {
  const out: Record<WriterId, number> = {};
  for (const [writer, seq] of asPairs(wire, "saw", 2)) out[asToken<WriterId>(writer, "writer")] = asCount(seq, "seq");
  return out;
}
export const sawToWire = (saw: Readonly<Record<WriterId, number>>): Wire => sortedEntries(saw).map(([writer, seq]) => [writer, seq]);

export function asHlc(wire: Wire | undefined): Hlc {
  const [ms, count] = asArray(wire, "hlc", 2);
  return [asCount(ms, "ms"), asCount(count, "count")];
}
export function asTexts(wire: Wire | undefined): readonly string[] {
  return asArray(wire, "texts").map((text) => asText(text, "text"));
}
