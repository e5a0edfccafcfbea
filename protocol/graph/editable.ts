/**
 * A field a person may correct. A version is replaced by an edit whose author had seen it (`saw` covers its dot), otherwise both are kept:
 * the multi-value register of Shapiro, Preguica, Baquero, Zawirski 2011. An edit's `saw` is joined with the `saw` of the versions it replaces,
 * which makes "replaces" transitive; without that, the result would depend on the order of arrival.
 *
 * A request that ran on two nodes (P5) gives two versions that name each other as siblings. An edit that saw only one of them covers the other too:
 * it stays in the record, last, and readers do not see it. It is not dropped, because what its own author saw may replace a version yet to arrive.
 */
import { compareHlc } from "../clock.ts";
import type { WriterId } from "../ids.ts";
import type { Dot, Editable, Version } from "./records.ts";

/**
 * Never empty when one of the two is not. What an author saw is older than what it then wrote (P4), so an edit that claims to have seen a newer one lies:
 * two that claimed to have seen each other would both be gone.
 */
export function mergeEditables<T>(a: Editable<T>, b: Editable<T>): Editable<T> {
  const all = new Map<string, Version<T>>();
  for (const version of [...a, ...b]) {
    const name = `${version.writer}/${version.seq}`;
    const held = all.get(name);
    all.set(name, held === undefined ? version : { ...version, siblings: mergeDots(held.siblings, version.siblings) });
  }
  const versions = [...all.values()];
  const kept = versions.filter((version) => !versions.some((other) => covers(other, version.writer, version.seq) && newestFirst(other, version) < 0));
  return kept.sort((x, y) => Number(isCovered(x, kept)) - Number(isCovered(y, kept)) || newestFirst(x, y));
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
    if (seen.has(text) || isCovered(version, field)) return [];
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

function covers(edit: Version<unknown>, writer: WriterId, seq: number): boolean {
  return (edit.saw[writer] ?? 0) >= seq;
}

/** An edit that is no sibling saw another execution of the same request. */
function isCovered(version: Version<unknown>, field: Editable<unknown>): boolean {
  return field.some(
    (edit) =>
      !version.siblings.some(([writer, seq]) => writer === edit.writer && seq === edit.seq) &&
      version.siblings.some(([writer, seq]) => covers(edit, writer, seq)),
  );
}

function mergeDots(a: readonly Dot[], b: readonly Dot[]): readonly Dot[] {
  return b.length === 0 ? a : sortDots([...a, ...b]);
}

/** In order, each once: the same set is the same bytes. */
export function sortDots(dots: readonly Dot[]): readonly Dot[] {
  const sorted = [...dots].sort((x, y) => (x[0] < y[0] ? -1 : x[0] > y[0] ? 1 : x[1] - y[1]));
  return sorted.filter(([writer, seq], at) => at === 0 || sorted[at - 1]?.[0] !== writer || sorted[at - 1]?.[1] !== seq);
}

function newestFirst(a: Version<unknown>, b: Version<unknown>): number {
  return compareHlc(b.hlc, a.hlc) || (a.writer < b.writer ? 1 : a.writer > b.writer ? -1 : b.seq - a.seq);
}
