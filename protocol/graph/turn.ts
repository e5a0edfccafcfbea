/** A turn never changes. Two executions of one key give two copies with one id: the earlier stands; what each found is joined. */
import { compareHlc, type Hlc } from "../clock.ts";
import type { KeyHash, WriterId } from "../ids.ts";
import type { Turn, TurnBody } from "./records.ts";

export function turnFrom(said: TurnBody, by: { writer: WriterId; hlc: Hlc }, key: KeyHash): Turn {
  return {
    kind: "turn",
    at: by.hlc,
    writer: by.writer,
    ...said,
    concepts: union(said.concepts, []),
    decisions: union(said.decisions, []),
    keys: [key],
  };
}

export function mergeTurns(a: Turn, b: Turn): Turn {
  const first = (compareHlc(a.at, b.at) || (a.writer < b.writer ? -1 : 1)) <= 0 ? a : b;
  return { ...first, concepts: union(a.concepts, b.concepts), decisions: union(a.decisions, b.decisions), keys: union(a.keys, b.keys) };
}

function union<T extends string>(a: readonly T[], b: readonly T[]): readonly T[] {
  return [...new Set([...a, ...b])].sort();
}
