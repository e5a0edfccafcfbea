/** Last writer wins by (hlc, writer): total order, so merging is the maximum. */
import { compareHlc, type Hlc } from "../clock.ts";
import type { WriterId } from "../ids.ts";
import type { Register } from "./records.ts";

export function mergeRegisters<T>(a: Register<T>, b: Register<T>): Register<T> {
  const order = compareHlc(a.hlc, b.hlc) || (a.writer < b.writer ? -1 : a.writer > b.writer ? 1 : 0);
  return order >= 0 ? a : b;
}

/** A field may have any name: "constructor" and "__proto__" are names like others here. */
export function mergeFields(
  a: Readonly<Record<string, Register<string>>>,
  b: Readonly<Record<string, Register<string>>>,
): Record<string, Register<string>> {
  const out = new Map(Object.entries(a));
  for (const [field, register] of Object.entries(b)) {
    const held = out.get(field);
    out.set(field, held === undefined ? register : mergeRegisters(held, register));
  }
  return Object.fromEntries(out);
}

export function registersFrom(fields: Readonly<Record<string, string>>, by: { writer: WriterId; hlc: Hlc }): Record<string, Register<string>> {
  return Object.fromEntries(Object.entries(fields).map(([field, value]) => [field, { value, hlc: by.hlc, writer: by.writer }]));
}
