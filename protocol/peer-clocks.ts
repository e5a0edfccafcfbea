/**
 * What the peers' wall clocks show, as of when they told. A node that they show too far ahead writes nothing: its deltas would win over later ones of others,
 * and no peer would take them. Compared by the median, so that one peer whose clock is wrong stops nobody.
 */
import type { WriterId } from "./ids.ts";
import { CLOCK_AHEAD_MAX_MS } from "./limits.ts";

export class PeerClocks {
  /** member -> its wall clock less our monotonic one, ms: so a jump of our own wall clock shows at once. */
  readonly #theirs = new Map<WriterId, number>();

  /** @param wall as the member said @param now our monotonic clock */
  heard(member: WriterId, wall: number, now: number): void {
    this.#theirs.set(member, wall - now);
  }

  gone(member: WriterId): void {
    this.#theirs.delete(member);
  }

  /** How far our wall clock is ahead of the median of the peers', ms; negative: behind. Undefined: nobody has told. */
  aheadMs(wall: number, now: number): number | undefined {
    if (this.#theirs.size === 0) return undefined;
    const ahead = [...this.#theirs.values()].map((theirs) => wall - (theirs + now)).sort((a, b) => a - b);
    // The lower of the two in the middle: with two peers both must say so.
    return ahead[Math.floor((ahead.length - 1) / 2)];
  }

  /** How far this peer's clock is ahead of ours, ms; negative: behind. */
  theirsAheadMs(member: WriterId, wall: number, now: number): number | undefined {
    const theirs = this.#theirs.get(member);
    return theirs === undefined ? undefined : theirs + now - wall;
  }

  isTooFarAhead(wall: number, now: number): boolean {
    return (this.aheadMs(wall, now) ?? 0) > CLOCK_AHEAD_MAX_MS;
  }

  /** A live push of a writer's own, stamped too far in our future, is not taken; what another member has stored is. */
  static isFromTheFuture(ms: number, wall: number): boolean {
    return ms > wall + CLOCK_AHEAD_MAX_MS;
  }
}
