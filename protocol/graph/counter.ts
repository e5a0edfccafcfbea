/**
 * A count that converges by arithmetic. Each writer keeps one running total (a later seq of a writer replaces an earlier one), so order,
 * duplication and partition cannot change the sum. Merge laws (commutative, associative, idempotent): test/unit/graph-laws.test.ts.
 *
 * Two corrections are kept beside the totals, never written into them (P5, P6):
 * - `removed`: each writer's total at the moment of a deletion; only what exceeds it counts;
 * - `repeats`: a key executed more than once counts the largest of its executions, and nothing if one of them was removed.
 */
import { compareHlc } from "../clock.ts";
import type { KeyHash, WriterId } from "../ids.ts";
import type { Counter, Execution, Share } from "./records.ts";

export const EMPTY_COUNTER: Counter = { totals: {}, removed: {}, repeats: {} };

/** How a mass valued at `from` (ms) shrinks until `to`; age is clamped at 0, so a clock that is behind never adds mass. */
export type Decay = (fromMs: number, toMs: number) => number;
export const NO_DECAY: Decay = () => 1;

export function withTotal(counter: Counter, writer: WriterId, share: Share): Counter {
  const held = counter.totals[writer];
  if (held !== undefined && held.seq >= share.seq) return counter;
  return { ...counter, totals: { ...counter.totals, [writer]: share } };
}

export function withRemoval(counter: Counter, removed: Readonly<Record<WriterId, Share>>): Counter {
  return { ...counter, removed: mergeShares(counter.removed, removed) };
}

export function withRepeats(counter: Counter, key: KeyHash, executions: readonly Execution[]): Counter {
  return { ...counter, repeats: { ...counter.repeats, [key]: mergeExecutions(counter.repeats[key] ?? [], executions) } };
}

export function mergeCounters(a: Counter, b: Counter): Counter {
  return { totals: mergeShares(a.totals, b.totals), removed: mergeShares(a.removed, b.removed), repeats: mergeRepeats(a.repeats, b.repeats) };
}

/** Occurrences of a concept: no decay. */
export function countOf(counter: Counter): number {
  return massOf(counter, 0, NO_DECAY);
}

/**
 * What counts at a time: the sum over writers (in writer order, so every replica adds the same numbers in the same order) of what exceeds
 * the removal, less what repeated keys added too much. Never below 0.
 */
export function massOf(counter: Counter, atMs: number, decay: Decay): number {
  let mass = 0;
  for (const writer of Object.keys(counter.totals).sort() as WriterId[]) {
    const total = counter.totals[writer] as Share;
    const gone = counter.removed[writer];
    if (gone !== undefined && gone.seq >= total.seq) continue;
    const here = total.mass * decay(total.hlc[0], atMs);
    mass += gone === undefined ? here : Math.max(0, here - gone.mass * decay(gone.hlc[0], atMs));
  }
  for (const key of Object.keys(counter.repeats).sort() as KeyHash[])
    mass -= excessOf(counter, counter.repeats[key] as readonly Execution[], atMs, decay);
  // Floats that should cancel may leave dust; nothing that counts is that small.
  return mass > 1e-9 ? mass : 0;
}

function excessOf(counter: Counter, executions: readonly Execution[], atMs: number, decay: Decay): number {
  let sum = 0;
  let largest = 0;
  let oneRemoved = false;
  for (const execution of executions) {
    if ((counter.removed[execution.writer]?.seq ?? 0) >= execution.seq) {
      oneRemoved = true;
      continue;
    }
    const mass = execution.mass * decay(execution.hlc[0], atMs);
    sum += mass;
    largest = Math.max(largest, mass);
  }
  return oneRemoved ? sum : sum - largest;
}

function mergeShares(a: Readonly<Record<WriterId, Share>>, b: Readonly<Record<WriterId, Share>>): Readonly<Record<WriterId, Share>> {
  // Nearly every counter is without removals and repeats, and most merges bring one writer's next total: nothing is copied for nothing.
  if (isEmpty(b)) return a;
  const out: Record<WriterId, Share> = { ...a };
  for (const [writer, share] of Object.entries(b) as [WriterId, Share][]) {
    const held = out[writer];
    if (held === undefined || share.seq > held.seq) out[writer] = share;
  }
  return out;
}

type Repeats = Readonly<Record<KeyHash, readonly Execution[]>>;
function mergeRepeats(a: Repeats, b: Repeats): Repeats {
  if (isEmpty(b)) return a;
  const out: Record<KeyHash, readonly Execution[]> = { ...a };
  for (const [key, executions] of Object.entries(b) as [KeyHash, readonly Execution[]][]) out[key] = mergeExecutions(out[key] ?? [], executions);
  return out;
}

function isEmpty(record: object): boolean {
  for (const _ in record) return false;
  return true;
}

function mergeExecutions(a: readonly Execution[], b: readonly Execution[]): readonly Execution[] {
  const out = [...a];
  for (const execution of b) if (!out.some((held) => held.writer === execution.writer && held.seq === execution.seq)) out.push(execution);
  return out.sort((x, y) => (x.writer < y.writer ? -1 : x.writer > y.writer ? 1 : x.seq - y.seq || compareHlc(x.hlc, y.hlc)));
}
