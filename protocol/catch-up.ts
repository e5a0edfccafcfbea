/**
 * How a node that was away finds what it lacks: it knows how far each stream goes (`known`), asks one member that holds more for the interval, and asks
 * on until there is nothing left. A delta that does not follow is never kept, so an interval is all a gap needs.
 */
import type { Effect } from "./effects.ts";
import type { NodeId, Partition, WriterId } from "./ids.ts";
import { INTERVAL_DELTAS_MAX, PULLS_MAX } from "./limits.ts";

export interface CatchUpWorld {
  /** What follows this is lacking: the position up to which the stream is staged. */
  stagedSeq(partition: Partition, writer: WriterId): number;
  durableSeq(partition: Partition, writer: WriterId): number;
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
  /** Had nothing for us at this position; not asked again until the stream is known to go further, or AGAIN_MS. */
  readonly empty: Set<NodeId>;
}

/** An interval that has not come after this long is asked from somebody else; milliseconds. */
const GIVE_UP_MS = 2000;
/** Nobody had it: ask all again after this long; milliseconds. */
const AGAIN_MS = 500;

export class CatchUp {
  readonly #world: CatchUpWorld;
  readonly #pulls = new Map<string, Pull>();
  /** Pulls that wait for an answer. */
  #asked = 0;

  constructor(world: CatchUpWorld) {
    this.#world = world;
  }

  /** Streams known to go further than this node holds. */
  lacking(): { partition: Partition; writer: WriterId; known: number }[] {
    return [...this.#pulls.values()].filter((pull) => this.#world.stagedSeq(pull.partition, pull.writer) < pull.known);
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
    // Only news gives those that had nothing another turn: two that promise the same and bring nothing would be asked in turns without a pause.
    if (seq > pull.known) pull.empty.clear();
    pull.known = Math.max(pull.known, seq);
    pull.notBefore = Math.min(pull.notBefore, now + patienceMs);
    // Only this one: a message may bring thousands of heads.
    this.#ask(name, pull, now, effects);
  }

  /** What was brought is on disk: there is room for more. */
  flushed(now: number, effects: Effect[]): void {
    if (this.#pulls.size > 0) this.#pump(now, effects);
  }

  /** An interval arrived (perhaps empty), and what of it followed is staged. */
  answered(partition: Partition, writer: WriterId, from: NodeId, brought: number, now: number, effects: Effect[]): void {
    const pull = this.#pulls.get(`${partition}/${writer}`);
    if (pull === undefined) return;
    if (pull.asked === from) this.#release(pull);
    if (brought === 0) pull.empty.add(from);
    this.#pump(now, effects);
  }

  gone(node: NodeId, now: number, effects: Effect[]): void {
    for (const pull of this.#pulls.values()) if (pull.asked === node) this.#release(pull);
    this.#pump(now, effects);
  }

  tick(now: number, effects: Effect[]): void {
    for (const pull of this.#pulls.values()) {
      if (now - pull.askedAt < (pull.asked === undefined ? AGAIN_MS : GIVE_UP_MS)) continue;
      if (pull.asked !== undefined) pull.empty.add(pull.asked);
      else pull.empty.clear();
      this.#release(pull);
    }
    this.#pump(now, effects);
  }

  /** Asks wherever nobody is asked, as far as there is room: a node that was away long must not drown in what it lacks (P8). */
  #pump(now: number, effects: Effect[]): void {
    for (const [name, pull] of this.#pulls) {
      if (this.#asked >= PULLS_MAX) return;
      this.#ask(name, pull, now, effects);
    }
  }

  #ask(name: string, pull: Pull, now: number, effects: Effect[]): void {
    if (pull.asked !== undefined || this.#asked >= PULLS_MAX) return;
    const staged = this.#world.stagedSeq(pull.partition, pull.writer);
    if (staged >= pull.known) {
      this.#pulls.delete(name);
      return;
    }
    if (now < pull.notBefore || staged - this.#world.durableSeq(pull.partition, pull.writer) > INTERVAL_DELTAS_MAX) return;
    const source = this.#world.sources(pull.partition, pull.writer, staged).find((node) => !pull.empty.has(node));
    if (source === undefined) return;
    pull.asked = source;
    pull.askedAt = now;
    this.#asked++;
    const to = Math.min(pull.known, staged + INTERVAL_DELTAS_MAX);
    effects.push({ type: "send", to: source, message: { type: "want", partition: pull.partition, writer: pull.writer, from: staged + 1, to } });
  }

  #release(pull: Pull): void {
    if (pull.asked === undefined) return;
    pull.asked = undefined;
    this.#asked--;
  }
}
