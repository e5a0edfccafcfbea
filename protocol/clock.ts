/**
 * Hybrid logical clock (Kulkarni, Demirbas, Madappa, Avva, Leone 2014): wall milliseconds plus a counter, so that a later event
 * of one writer is always greater (P4) and the value stays close to wall time.
 */
import { HLC_COUNT_MAX } from "./limits.ts";

export type Hlc = readonly [ms: number, count: number];

export const HLC_ZERO: Hlc = [0, 0];

/** Later than every event: the time of what has not arrived yet. */
export const HLC_NEVER: Hlc = [Number.MAX_SAFE_INTEGER, 0];

export function compareHlc(a: Hlc, b: Hlc): number {
  return a[0] - b[0] || a[1] - b[1];
}

export function laterHlc(a: Hlc, b: Hlc): Hlc {
  return compareHlc(a, b) >= 0 ? a : b;
}

/** The next value after everything this node has issued or seen. @param now wall clock, ms since the epoch */
export function tickHlc(highWater: Hlc, now: number): Hlc {
  const [ms, count] = highWater;
  if (now > ms) return [now, 0];
  return count < HLC_COUNT_MAX ? [ms, count + 1] : [ms + 1, 0];
}
