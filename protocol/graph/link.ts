/**
 * A link strengthens when two concepts are used together and fades when they are not. The saturating Hebbian rule s <- s + h(1 - s),
 * applied n times from 0, gives exactly s = 1 - (1 - h)^n. With resonance decay d = 1 - h that is 1 - d^n, so it is enough to keep the decayed
 * number n(t) = sum over writers of mass * d^((t - hlc) / period): sums do not depend on order, duplication or partition.
 */

import type { Hlc } from "../clock.ts";
import type { WriterId } from "../ids.ts";
import { type Decay, EMPTY_COUNTER, massOf, mergeCounters, withTotal } from "./counter.ts";
import type { Link } from "./records.ts";

export interface DecayRule {
  /** d, in (0, 1). */
  readonly resonanceDecay: number;
  readonly periodMs: number;
}

export function decayBy(rule: DecayRule): Decay {
  return (fromMs, toMs) => (toMs <= fromMs ? 1 : rule.resonanceDecay ** ((toMs - fromMs) / rule.periodMs));
}

/** @param atMs wall clock, ms @returns strength in [0, 1) */
export function strengthOf(link: Link, atMs: number, rule: DecayRule): number {
  return 1 - rule.resonanceDecay ** massOf(link.activations, atMs, decayBy(rule));
}

/** This writer's next total: what it had, decayed until now, plus what is added. Only the writer computes it; others store it as received. */
export function nextLinkTotal(held: { mass: number; hlc: Hlc } | undefined, added: number, hlc: Hlc, rule: DecayRule): number {
  return held === undefined ? added : held.mass * decayBy(rule)(held.hlc[0], hlc[0]) + added;
}

export function mergeLinks(a: Link, b: Link): Link {
  return { kind: "link", a: a.a, b: a.b, activations: mergeCounters(a.activations, b.activations) };
}

export function linkFrom(said: { a: string; b: string; total: number }, by: { writer: WriterId; seq: number; hlc: Hlc }): Link {
  return { kind: "link", a: said.a, b: said.b, activations: withTotal(EMPTY_COUNTER, by.writer, { mass: said.total, hlc: by.hlc, seq: by.seq }) };
}

/** Somebody used it since it was removed, if it ever was. It may still be too weak to be recalled. */
export function linkIsVisible(link: Link): boolean {
  const { totals, removed } = link.activations;
  return (Object.keys(totals) as WriterId[]).some((writer) => (totals[writer]?.seq ?? 0) > (removed[writer]?.seq ?? 0));
}
