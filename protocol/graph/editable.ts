/**
 * A field a person may correct. A version is replaced by an edit whose author had seen it (`saw` covers its dot), otherwise both are kept:
 * the multi-value register of Shapiro, Preguica, Baquero, Zawirski 2011. An edit's `saw` is joined with the `saw` of the versions it replaces,
 * which makes "replaces" transitive; without that, the result would depend on the order of arrival.
 */
import { compareHlc } from "../clock.ts";
import type { WriterId } from "../ids.ts";
import type { Editable, Version } from "./records.ts";

export function mergeEditables<T>(a: Editable<T>, b: Editable<T>): Editable<T> {
  const all = [...a];
  for (const version of b) if (!all.some((held) => held.writer === version.writer && held.seq === version.seq)) all.push(version);
  return all.filter((version) => !all.some((other) => other !== version && replaces(other, version))).sort(newestFirst);
}

/** What readers get. */
export function current<T>(field: Editable<T>): T {
  return (field[0] as Version<T>).value;
}

/** Values of concurrent edits that differ from the visible one. */
export function conflicts<T>(field: Editable<T>): T[] {
  const seen = new Set([JSON.stringify(current(field))]);
  return field.slice(1).flatMap((version) => {
    const text = JSON.stringify(version.value);
    if (seen.has(text)) return [];
    seen.add(text);
    return [version.value];
  });
}

/** What an edit made here and now replaces: what this node holds, and whatever the replaced versions had replaced. */
export function sawOf(frontier: Readonly<Record<WriterId, number>>, replaced: readonly Editable<unknown>[]): Record<WriterId, number> {
  const saw: Record<WriterId, number> = { ...frontier };
  for (const field of replaced) {
    for (const version of field) {
      for (const [writer, seq] of Object.entries(version.saw) as [WriterId, number][]) saw[writer] = Math.max(saw[writer] ?? 0, seq);
    }
  }
  return saw;
}

function replaces(edit: Version<unknown>, version: Version<unknown>): boolean {
  return (edit.saw[version.writer] ?? 0) >= version.seq;
}

function newestFirst(a: Version<unknown>, b: Version<unknown>): number {
  return compareHlc(b.hlc, a.hlc) || (a.writer < b.writer ? 1 : a.writer > b.writer ? -1 : b.seq - a.seq);
}
