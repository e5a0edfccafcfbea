/**
 * What is wrong with, or happening to, the copies of partitions on this disk. Which of it follows from whom is decided in replica.ts; here it is remembered.
 *
 * - *Given up*: rows of it are not what was written. What was acknowledged of it is remembered elsewhere, but it counts for nothing, neither here nor for others,
 *   until it holds all of that again: as a member does that is down and will come back with what it had (P1).
 * - *Only copy*: rows of it have turned too, but no other full replica is in the group: it stays in service, as what can be read of it is all there is.
 * - *On its way here*: a snapshot takes its place. *On its way out*: gone from the moment that was decided, whatever layout comes before the disk is done.
 * - *Beyond the log*: it has a gap that nobody can fill from a log, because the bodies are erased; only a snapshot helps.
 */
import type { DamagedCopy } from "./effects.ts";
import type { Partition } from "./ids.ts";
import type { Kind } from "./knowledge.ts";

/** Snapshots of different partitions on their way here at a time. */
const SNAPSHOTS_TAKEN_MAX = 2;
/** After one that did not come, ms. */
const SNAPSHOT_AGAIN_MS = 5000;

export class Copies {
  readonly #givenUp = new Map<Partition, Set<Kind>>();
  readonly #only = new Set<Partition>();
  readonly #arriving = new Set<Partition>();
  readonly #failedUntil = new Map<Partition, number>();
  readonly #leaving = new Set<`${Kind}/${Partition}`>();
  readonly #beyondLog = new Set<Partition>();

  /** @param givenUp as stored, of copies that are still here */
  constructor(givenUp: Iterable<DamagedCopy>) {
    for (const { partition, kind } of givenUp) this.giveUp(partition, kind);
  }

  // ---- damaged -------------------------------------------------------------------------------------------------

  giveUp(partition: Partition, kind: Kind): void {
    this.#only.delete(partition);
    this.#givenUp.set(partition, (this.#givenUp.get(partition) ?? new Set()).add(kind));
  }

  /** @returns false when it is known already */
  keepAsOnly(partition: Partition): boolean {
    if (this.#only.has(partition)) return false;
    this.#only.add(partition);
    return true;
  }

  /** @param kind undefined: any */
  isGivenUp(partition: Partition, kind?: Kind): boolean {
    const kinds = this.#givenUp.get(partition);
    return kinds !== undefined && (kind === undefined || kinds.has(kind));
  }

  /** Given up, or an only copy. */
  isDamaged(partition: Partition): boolean {
    return this.#givenUp.has(partition) || this.#only.has(partition);
  }

  /** Partitions of which a copy of this kind, or any, is given up. A list of its own: what is done with it may change what it was made from. */
  givenUp(kind?: Kind): Partition[] {
    return [...this.#givenUp].flatMap(([partition, kinds]) => (kind === undefined || kinds.has(kind) ? [partition] : []));
  }

  allGivenUp(): DamagedCopy[] {
    return [...this.#givenUp].flatMap(([partition, kinds]) => [...kinds].map((kind) => ({ partition, kind })));
  }

  onlyCopies(): Partition[] {
    return [...this.#only];
  }

  /** It holds again what it had acknowledged, or is no more. @returns false when it was not given up */
  mended(partition: Partition, kind: Kind): boolean {
    const kinds = this.#givenUp.get(partition);
    if (!kinds?.delete(kind)) return false;
    if (kinds.size === 0) this.#givenUp.delete(partition);
    return true;
  }

  /** All rows of an only copy were read and are what was written: those that had turned have been written anew since. */
  foundWhole(partition: Partition): void {
    this.#only.delete(partition);
  }

  // ---- on their way --------------------------------------------------------------------------------------------

  /** Nothing is put into it. */
  isMoving(kind: Kind, partition: Partition): boolean {
    return this.#leaving.has(`${kind}/${partition}`) || (kind === "heads" && this.#arriving.has(partition));
  }

  mayArrive(partition: Partition, now: number): boolean {
    return !this.isMoving("heads", partition) && this.#arriving.size < SNAPSHOTS_TAKEN_MAX && (this.#failedUntil.get(partition) ?? 0) <= now;
  }

  arriving(): Partition[] {
    return [...this.#arriving];
  }

  arrives(partition: Partition): void {
    this.#arriving.add(partition);
  }

  /** It is here, or is not awaited any more. */
  arrived(partition: Partition): void {
    this.#arriving.delete(partition);
    this.#beyondLog.delete(partition);
  }

  didNotArrive(partition: Partition, now: number): void {
    this.arrived(partition);
    this.#failedUntil.set(partition, now + SNAPSHOT_AGAIN_MS);
  }

  leaves(kind: Kind, partition: Partition): void {
    this.#leaving.add(`${kind}/${partition}`);
  }

  left(kind: Kind, partition: Partition): void {
    this.#leaving.delete(`${kind}/${partition}`);
    if (kind === "heads") this.#arriving.delete(partition);
  }

  isBeyondLog(partition: Partition): boolean {
    return this.#beyondLog.has(partition);
  }

  foundBeyondLog(partition: Partition): void {
    this.#beyondLog.add(partition);
  }
}
