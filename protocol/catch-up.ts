/**
 * How a node that was away finds what it lacks: it knows how far each stream goes (`known`), asks one member that holds more for the interval, and asks
 * on until there is nothing left. A delta that does not follow is never kept, so an interval is all a gap needs.
 *
 * What a stream is known to reach is what members say, and a member may lie: claim numbers that nobody wrote, in streams that nobody writes, and answer
 * with nothing or not at all. It costs its own share and nobody else's (P8):
 * - what is waited for is counted against the member that holds it, up to PULLS_WAITING_MAX; what it says of more is heard again from its next report;
 * - a stream is asked of a member again only after a pause that doubles while it brings nothing;
 * - a member that let questions lapse is asked one at a time, so it cannot keep PULLS_MAX of them; who brings something is asked first;
 * - what nobody who claims it has brought, asked twice, is no longer said to be lacking.
 */
import type { Effect } from "./effects.ts";
import type { NodeId, Partition, WriterId } from "./ids.ts";
import { INTERVAL_DELTAS_MAX, PULLS_A_PEER_MAX, PULLS_MAX, PULLS_WAITING_MAX } from "./limits.ts";

export interface CatchUpWorld {
  /** What follows this is lacking: the position up to which the stream is staged. */
  stagedSeq(partition: Partition, writer: WriterId): number;
  durableSeq(partition: Partition, writer: WriterId): number;
  /** Connected members that told they hold the stream beyond `seq`, best first. */
  sources(partition: Partition, writer: WriterId, seq: number): readonly NodeId[];
}

/** Streams known to go further than this node holds. A pull is in exactly one place: asked, queued at a source, full, or resting. */
interface Pull {
  readonly name: string;
  readonly partition: Partition;
  readonly writer: WriterId;
  known: number;
  /** Against whom it is counted: who held it when it was heard of, or nobody. */
  readonly account: Source;
  asked: NodeId | undefined;
  askedAt: number;
  /** Where it waits for its turn. */
  queuedAt: Source | undefined;
  /** Not looked at before this, when nothing is heard of it. */
  wakeAt: number;
  /** Not asked before this: a live push is probably bringing it. */
  notBefore: number;
  /** Members that had nothing for us at this position, how often in a row, and from when on they may be asked again. */
  readonly failed: Map<NodeId, { times: number; until: number }>;
  /** Everybody who claims it has been asked in vain, more than once. */
  isDoubted: boolean;
  /** Nobody connected claims it, since then. */
  orphanedAt: number | undefined;
}

/** A member as one to ask. */
interface Source {
  readonly node: NodeId;
  /** Questions that wait for its answer. */
  asked: number;
  /** Questions it let lapse, less those it has brought something for since. */
  lapses: number;
  /** Pulls counted against it. */
  pulls: number;
  /** One line says so, until it brings something. */
  isNoted: boolean;
  readonly queue: Set<Pull>;
}

/** An interval that has not come after this long is asked from somebody else; milliseconds. */
const GIVE_UP_MS = 2000;
/** Who had nothing for a stream is asked for it again after this long, then after twice as long, and so on; milliseconds. */
const AGAIN_MS = 500;
const AGAIN_MAX_MS = 60_000;
/** Lapses that are remembered: so many answers it takes to be trusted again. */
const LAPSES_MAX = 8;
/** After so many failures in a row of each who claims it, a stream is doubted. */
const DOUBT_AFTER = 2;
/** A stream that nobody connected claims is forgotten after this long; whoever comes back with it says so again. Milliseconds. */
const ORPHAN_MS = 60_000;
/** Resting pulls looked at in one tick: thousands that wake together must not hold up everything else. */
const WAKES_MAX = 256;

export class CatchUp {
  readonly #world: CatchUpWorld;
  readonly #pulls = new Map<string, Pull>();
  readonly #sources = new Map<NodeId, Source>();
  readonly #nobodys: Source = newSource("" as NodeId);
  readonly #asked = new Set<Pull>();
  /** More is on its way to disk than one message brings. */
  readonly #full = new Set<Pull>();
  readonly #resting = new Set<Pull>();

  constructor(world: CatchUpWorld) {
    this.#world = world;
  }

  /** Streams known to go further than this node holds, as far as whoever says so is believed. */
  lacking(): { partition: Partition; writer: WriterId; known: number }[] {
    return [...this.#pulls.values()].filter((pull) => !pull.isDoubted && this.#world.stagedSeq(pull.partition, pull.writer) < pull.known);
  }

  /** Somebody holds the stream up to `seq`. @param patienceMs how long a live push may still bring it before it is asked for */
  learn(partition: Partition, writer: WriterId, seq: number, patienceMs: number, now: number, effects: Effect[]): void {
    const staged = this.#world.stagedSeq(partition, writer);
    if (seq <= staged) return;
    const name = `${partition}/${writer}`;
    let pull = this.#pulls.get(name);
    if (pull === undefined) {
      pull = this.#newPull(name, partition, writer, seq, staged, now + patienceMs, effects);
      if (pull === undefined) return;
    }
    // Only news gives those that had nothing another turn: two that promise the same and bring nothing would be asked in turns without a pause.
    if (seq > pull.known) for (const failure of pull.failed.values()) failure.until = now;
    pull.known = Math.max(pull.known, seq);
    pull.notBefore = Math.min(pull.notBefore, now + patienceMs);
    // Only this one: a message may bring thousands of heads.
    if (pull.asked === undefined && pull.queuedAt === undefined) this.#look(pull, now, effects);
  }

  /** What was brought is on disk: there is room for more. */
  flushed(now: number, effects: Effect[]): void {
    for (const pull of [...this.#full]) this.#look(pull, now, effects);
    this.#serveQueues(now, effects);
  }

  /** An interval arrived (perhaps empty), and what of it followed is staged. */
  answered(partition: Partition, writer: WriterId, from: NodeId, brought: number, now: number, effects: Effect[]): void {
    const pull = this.#pulls.get(`${partition}/${writer}`);
    if (pull === undefined) return;
    if (brought > 0) {
      pull.failed.delete(from);
      pull.isDoubted = false;
      const source = this.#sourceOf(from);
      source.lapses = Math.max(0, source.lapses - 1);
      source.isNoted = false;
    }
    if (pull.asked === from) {
      if (brought === 0) this.#fail(pull, from, now);
      this.#release(pull);
      // Others wait for the same member: each in its turn.
      this.#serveQueues(now, effects);
      this.#look(pull, now, effects);
    }
    this.#serveQueues(now, effects);
  }

  gone(node: NodeId, now: number, effects: Effect[]): void {
    for (const pull of [...this.#asked]) {
      if (pull.asked !== node) continue;
      this.#release(pull);
      this.#look(pull, now, effects);
    }
    // Not one by one: there may be thousands, and nobody else may hold them.
    const source = this.#sources.get(node);
    for (const pull of source?.queue ?? []) this.#rest(pull, now);
    this.#serveQueues(now, effects);
  }

  tick(now: number, effects: Effect[]): void {
    for (const pull of [...this.#asked]) {
      if (now - pull.askedAt < GIVE_UP_MS) continue;
      this.#lapse(pull, now, effects);
      this.#look(pull, now, effects);
    }
    let wakes = 0;
    for (const pull of this.#resting) {
      if (pull.wakeAt > now) continue;
      if (++wakes > WAKES_MAX) break;
      this.#look(pull, now, effects);
    }
    this.#serveQueues(now, effects);
  }

  // ---- one stream ----------------------------------------------------------------------------------------------

  /** @returns undefined when as many are waited for as one member may cause */
  #newPull(
    name: string,
    partition: Partition,
    writer: WriterId,
    known: number,
    staged: number,
    notBefore: number,
    effects: Effect[],
  ): Pull | undefined {
    // Against whoever has room: what an honest member holds is waited for, whoever else claims it.
    const holders = this.#world.sources(partition, writer, staged).map((node) => this.#sourceOf(node));
    const account = holders.find(({ pulls }) => pulls < PULLS_WAITING_MAX) ?? holders[0] ?? this.#nobodys;
    if (account.pulls >= PULLS_WAITING_MAX) {
      this.#note(account, "a member holds more streams that this node lacks than are waited for at a time", { streams: account.pulls }, effects);
      return undefined;
    }
    account.pulls++;
    const pull: Pull = {
      name,
      partition,
      writer,
      known,
      account,
      asked: undefined,
      askedAt: 0,
      queuedAt: undefined,
      wakeAt: 0,
      notBefore,
      failed: new Map(),
      isDoubted: false,
      orphanedAt: undefined,
    };
    this.#pulls.set(name, pull);
    return pull;
  }

  /** Puts a pull where it belongs now. */
  #look(pull: Pull, now: number, effects: Effect[]): void {
    this.#take(pull);
    const staged = this.#world.stagedSeq(pull.partition, pull.writer);
    if (staged >= pull.known) this.#end(pull);
    else if (now < pull.notBefore) this.#rest(pull, pull.notBefore);
    else if (staged - this.#world.durableSeq(pull.partition, pull.writer) > INTERVAL_DELTAS_MAX) this.#full.add(pull);
    else {
      const holders = this.#world.sources(pull.partition, pull.writer, staged);
      if (holders.length === 0) this.#orphan(pull, now);
      else this.#askBest(pull, holders, staged, now, effects);
    }
  }

  #orphan(pull: Pull, now: number): void {
    pull.orphanedAt ??= now;
    if (now - pull.orphanedAt >= ORPHAN_MS) this.#end(pull);
    else this.#rest(pull, now + AGAIN_MS);
  }

  #askBest(pull: Pull, holders: readonly NodeId[], staged: number, now: number, effects: Effect[]): void {
    pull.orphanedAt = undefined;
    const source = this.#best(pull, holders, now);
    if (source === undefined) {
      pull.isDoubted = holders.every((node) => (pull.failed.get(node)?.times ?? 0) >= DOUBT_AFTER);
      this.#rest(pull, Math.min(...holders.map((node) => pull.failed.get(node)?.until ?? now)));
    } else if (source.queue.size === 0 && this.#hasRoom(source)) this.#ask(pull, source, staged, now, effects);
    else {
      pull.queuedAt = source;
      source.queue.add(pull);
    }
  }

  /** Who is reliable before who is not, then who has room, then the shortest queue, then in the order given. */
  #best(pull: Pull, holders: readonly NodeId[], now: number): Source | undefined {
    let best: Source | undefined;
    for (const node of holders) {
      if ((pull.failed.get(node)?.until ?? 0) > now) continue;
      const source = this.#sourceOf(node);
      if (best === undefined || this.#rank(source) < this.#rank(best)) best = source;
    }
    return best;
  }

  #rank(source: Source): number {
    if (source.queue.size === 0 && this.#hasRoom(source)) return source.lapses === 0 ? 0 : 2;
    return (source.lapses === 0 ? 1 : 3) + source.queue.size / (PULLS_WAITING_MAX + 1);
  }

  #hasRoom(source: Source): boolean {
    return this.#asked.size < PULLS_MAX && source.asked < (source.lapses === 0 ? PULLS_A_PEER_MAX : 1);
  }

  #ask(pull: Pull, source: Source, staged: number, now: number, effects: Effect[]): void {
    pull.asked = source.node;
    pull.askedAt = now;
    source.asked++;
    this.#asked.add(pull);
    const { partition, writer } = pull;
    const to = Math.min(pull.known, staged + INTERVAL_DELTAS_MAX);
    effects.push({ type: "send", to: source.node, message: { type: "want", partition, writer, from: staged + 1, to } });
  }

  /** Had nothing that follows. */
  #fail(pull: Pull, node: NodeId, now: number): void {
    const times = (pull.failed.get(node)?.times ?? 0) + 1;
    pull.failed.set(node, { times, until: now + Math.min(AGAIN_MAX_MS, AGAIN_MS * 2 ** (times - 1)) });
  }

  /** Did not answer in time. */
  #lapse(pull: Pull, now: number, effects: Effect[]): void {
    const source = this.#sourceOf(pull.asked as NodeId);
    source.lapses = Math.min(LAPSES_MAX, source.lapses + 1);
    this.#fail(pull, source.node, now);
    this.#release(pull);
    if (source.lapses === LAPSES_MAX) {
      const { partition, writer, known } = pull;
      this.#note(source, "a member does not send what it says it holds; it is asked for one stream at a time", { partition, writer, known }, effects);
    }
  }

  #release(pull: Pull): void {
    if (pull.asked === undefined) return;
    this.#sourceOf(pull.asked).asked--;
    pull.asked = undefined;
    this.#asked.delete(pull);
  }

  #rest(pull: Pull, until: number): void {
    this.#take(pull);
    pull.wakeAt = until;
    this.#resting.add(pull);
  }

  /** Out of wherever it waits. */
  #take(pull: Pull): void {
    pull.queuedAt?.queue.delete(pull);
    pull.queuedAt = undefined;
    this.#full.delete(pull);
    this.#resting.delete(pull);
  }

  #end(pull: Pull): void {
    this.#take(pull);
    this.#pulls.delete(pull.name);
    pull.account.pulls--;
  }

  // ---- members -------------------------------------------------------------------------------------------------

  #sourceOf(node: NodeId): Source {
    let source = this.#sources.get(node);
    if (source === undefined) {
      source = newSource(node);
      this.#sources.set(node, source);
    }
    return source;
  }

  /** Asks wherever there is room: a node that was away long must not drown in what it lacks (P8). */
  #serveQueues(now: number, effects: Effect[]): void {
    for (let served = true; served; ) {
      served = false;
      for (const source of this.#sources.values()) {
        const [next] = source.queue;
        if (next === undefined || !this.#hasRoom(source)) continue;
        source.queue.delete(next);
        next.queuedAt = undefined;
        // Perhaps it has come meanwhile, or this member is not the best any more.
        this.#askOrLook(next, source, now, effects);
        served = true;
      }
    }
  }

  #askOrLook(pull: Pull, source: Source, now: number, effects: Effect[]): void {
    const staged = this.#world.stagedSeq(pull.partition, pull.writer);
    const isHere = staged >= pull.known || staged - this.#world.durableSeq(pull.partition, pull.writer) > INTERVAL_DELTAS_MAX;
    const mayAsk =
      (pull.failed.get(source.node)?.until ?? 0) <= now && this.#world.sources(pull.partition, pull.writer, staged).includes(source.node);
    if (!isHere && mayAsk) this.#ask(pull, source, staged, now, effects);
    else this.#look(pull, now, effects);
  }

  #note(source: Source, message: string, facts: Readonly<Record<string, string | number>>, effects: Effect[]): void {
    if (source.isNoted) return;
    source.isNoted = true;
    effects.push({ type: "note", level: "warn", message, facts: { peer: source.node, ...facts } });
  }
}

function newSource(node: NodeId): Source {
  return { node, asked: 0, lapses: 0, pulls: 0, isNoted: false, queue: new Set() };
}
