/**
 * How a node that was away finds what it lacks: it knows how far each stream goes (`known`), asks one member that holds more for the interval, and asks
 * on until there is nothing left. A delta that does not follow is never kept, so an interval is all a gap needs.
 */
import type { Effect } from "./effects.ts";
import type { NodeId, Partition, WriterId } from "./ids.ts";
import { INTERVAL_DELTAS_MAX } from "./limits.ts";

export interface CatchUpWorld {
  /** What follows this is lacking: the position up to which the stream is staged. */
  stagedSeq(partition: Partition, writer: WriterId): number;
  /** Connected members that told they hold the stream beyond `seq`, best first. */
  sources(partition: Partition, writer: WriterId, seq: number): readonly NodeId[];
}

interface Pull {
  readonly partition: Partition;
  readonly writer: WriterId;
  known: number;
  asked: NodeId | undefined;
  askedAt: number;
  /** Not asked before this: it is probably on its way. */
  notBefore: number;
  /** Had nothing for us at this position; not asked again until it tells more. */
  readonly empty: Set<NodeId>;
}

/** An interval that has not come after this long is asked from somebody else; milliseconds. */
const GIVE_UP_MS = 2000;
/** Nobody had it: ask all again after this long; milliseconds. */
const AGAIN_MS = 500;

export class CatchUp {
  readonly #world: CatchUpWorld;
  readonly #pulls = new Map<string, Pull>();

  constructor(world: CatchUpWorld) {
    this.#world = world;
  }

  /** Streams known to go further than this node holds. */
  get size(): number {
    return this.#pulls.size;
  }

  lacking(): { partition: Partition; writer: WriterId; known: number }[] {
    return [...this.#pulls.values()];
  }

  /** Somebody holds the stream up to `seq`. @param patienceMs how long a live push may still bring it before it is asked for */
  learn(partition: Partition, writer: WriterId, seq: number, patienceMs: number, now: number, effects: Effect[]): void {
    if (seq <= this.#world.stagedSeq(partition, writer)) return;
    const name = `${partition}/${writer}`;
    let pull = this.#pulls.get(name);
    if (pull === undefined) {
      pull = { partition, writer, known: seq, asked: undefined, askedAt: 0, notBefore: now + patienceMs, empty: new Set() };
      this.#pulls.set(name, pull);
    }
    pull.known = Math.max(pull.known, seq);
    pull.notBefore = Math.min(pull.notBefore, now + patienceMs);
    pull.empty.clear();
    this.#ask(name, pull, now, effects);
  }

  /** An interval arrived (perhaps empty), and what of it followed is staged. */
  answered(partition: Partition, writer: WriterId, from: NodeId, brought: number, now: number, effects: Effect[]): void {
    const name = `${partition}/${writer}`;
    const pull = this.#pulls.get(name);
    if (pull === undefined) return;
    if (pull.asked === from) pull.asked = undefined;
    if (brought === 0) pull.empty.add(from);
    this.#ask(name, pull, now, effects);
  }

  gone(node: NodeId, now: number, effects: Effect[]): void {
    for (const [name, pull] of this.#pulls) {
      if (pull.asked !== node) continue;
      pull.asked = undefined;
      this.#ask(name, pull, now, effects);
    }
  }

  tick(now: number, effects: Effect[]): void {
    for (const [name, pull] of this.#pulls) {
      if (now - pull.askedAt < (pull.asked === undefined ? AGAIN_MS : GIVE_UP_MS)) continue;
      if (pull.asked !== undefined) pull.empty.add(pull.asked);
      else pull.empty.clear();
      pull.asked = undefined;
      this.#ask(name, pull, now, effects);
    }
  }

  #ask(name: string, pull: Pull, now: number, effects: Effect[]): void {
    const staged = this.#world.stagedSeq(pull.partition, pull.writer);
    if (staged >= pull.known) {
      this.#pulls.delete(name);
      return;
    }
    if (pull.asked !== undefined || now < pull.notBefore) return;
    const source = this.#world.sources(pull.partition, pull.writer, staged).find((node) => !pull.empty.has(node));
    if (source === undefined) return;
    pull.asked = source;
    pull.askedAt = now;
    const to = Math.min(pull.known, staged + INTERVAL_DELTAS_MAX);
    effects.push({ type: "send", to: source, message: { type: "want", partition: pull.partition, writer: pull.writer, from: staged + 1, to } });
  }
}
