/**
 * What a quorum read waits for (P2). A barrier goes through four rooms:
 * asking      members of the group for what they hold, until the level's count has answered; their join is the target
 * catching    until this node holds the target
 * (snapshot)  the driver takes one store snapshot and reports its frontier, which may be newer than the target
 * confirming  until the level's count holds everything *in that snapshot* (the write-back), so what this read saw, later reads see
 *
 * Barriers are shared: a read joins only a barrier that has not begun to ask, so one round serves all reads that waited for it. Asking of the next
 * may begin while earlier ones catch up or confirm.
 */
import type { Done, Effect, ReadRequest, RequestId } from "./effects.ts";
import { covers, raise } from "./frontier.ts";
import type { Level, NodeId, Partition, WriterId } from "./ids.ts";
import type { Tally } from "./quorum.ts";

/** What a barrier needs to know of this node and its group. */
export interface BarrierWorld {
  /** Members of the groups that count, other than this node, connected and counting. */
  others(partition: Partition): readonly { readonly node: NodeId; readonly writer: WriterId }[];
  ownFrontier(partition: Partition): readonly (readonly [WriterId, number])[];
  /** Whether these members and this node satisfy the level in each group that counts. @returns undefined: not yet */
  answered(partition: Partition, level: Level, members: ReadonlySet<WriterId>): Tally | undefined;
  /** Who holds all of the frontier, this node included if it does, once that satisfies the level. @returns undefined: not yet */
  holders(partition: Partition, level: Level, frontier: ReadonlyMap<WriterId, number>): Tally | undefined;
  /** Somebody holds this; get it. */
  need(partition: Partition, frontier: ReadonlyMap<WriterId, number>, effects: Effect[]): void;
}

interface Barrier {
  readonly id: number;
  readonly partition: Partition;
  readonly level: Exclude<Level, "one">;
  reads: ReadRequest[];
  phase: "asking" | "catching" | "snapshot" | "confirming";
  /** Members that answered this barrier, this node not among them. */
  readonly answered: Set<WriterId>;
  /** Asking, catching: the join of the answers. Confirming: the snapshot's frontier. */
  target: Map<WriterId, number>;
  nextAskAt: number;
}

/** Ask again when an answer is this late (lost with a connection); milliseconds. */
const ASK_AGAIN_MS = 250;

export class Barriers {
  readonly #world: BarrierWorld;
  readonly #barriers = new Map<number, Barrier>();
  readonly #waiting = new Map<string, ReadRequest[]>();
  readonly #asking = new Map<string, number>();
  #lastId: number;

  /** @param firstId whole number that no earlier process of this node used: a late answer to it must not count here */
  constructor(world: BarrierWorld, firstId: number) {
    this.#world = world;
    this.#lastId = firstId;
  }

  read(request: ReadRequest, now: number, effects: Effect[]): void {
    const name = queueName(request.partition, request.level);
    const queue = this.#waiting.get(name);
    if (queue === undefined) this.#waiting.set(name, [request]);
    else queue.push(request);
    if (!this.#asking.has(name)) this.#ask(request.partition, request.level as Barrier["level"], now, effects);
  }

  /** A new layout version holds: what was asked under the older one counts for nothing, every read starts again. @returns them, for whoever still serves them */
  restart(): ReadRequest[] {
    const reads = [...this.#barriers.values()].flatMap((barrier) => barrier.reads).concat([...this.#waiting.values()].flat());
    this.#barriers.clear();
    this.#waiting.clear();
    this.#asking.clear();
    return reads;
  }

  /** An answer to `ask`. Counted once a member; the frontier is what it holds after fsync. */
  told(id: number, from: WriterId, frontier: readonly (readonly [WriterId, number])[], now: number, effects: Effect[]): void {
    const barrier = this.#barriers.get(id);
    if (barrier === undefined || barrier.phase !== "asking" || barrier.answered.has(from)) return;
    barrier.answered.add(from);
    raise(barrier.target, frontier);
    this.#advance(barrier, now, effects);
  }

  /** This node or another holds more of the partition than before. */
  progressed(partition: Partition, now: number, effects: Effect[]): void {
    for (const barrier of this.#barriers.values()) if (barrier.partition === partition) this.#advance(barrier, now, effects);
  }

  /** The driver's snapshot for a barrier holds exactly this. */
  snapshotTaken(id: number, frontier: ReadonlyMap<WriterId, number>, now: number, effects: Effect[]): void {
    const barrier = this.#barriers.get(id);
    if (barrier === undefined || barrier.phase !== "snapshot") return;
    barrier.phase = "confirming";
    barrier.target = new Map(frontier);
    barrier.nextAskAt = now + ASK_AGAIN_MS;
    this.#advance(barrier, now, effects);
  }

  tick(now: number, effects: Effect[]): void {
    for (const [name, reads] of this.#waiting) {
      for (const read of reads) if (read.deadline <= now) refuse(read.request, read.level, "asking", effects);
      const rest = reads.filter((read) => read.deadline > now);
      if (rest.length > 0) this.#waiting.set(name, rest);
      else this.#waiting.delete(name);
    }
    for (const barrier of [...this.#barriers.values()]) {
      this.#expire(barrier, now, effects);
      if (barrier.reads.length === 0) this.#end(barrier, now, effects);
      else if (barrier.nextAskAt <= now && barrier.phase !== "snapshot") this.#askAgain(barrier, now, effects);
    }
  }

  #ask(partition: Partition, level: Barrier["level"], now: number, effects: Effect[]): void {
    const name = queueName(partition, level);
    const reads = this.#waiting.get(name);
    if (reads === undefined) return;
    this.#waiting.delete(name);
    const id = ++this.#lastId;
    const barrier: Barrier = {
      id,
      partition,
      level,
      reads,
      phase: "asking",
      answered: new Set(),
      target: new Map(this.#world.ownFrontier(partition)),
      nextAskAt: now + ASK_AGAIN_MS,
    };
    this.#barriers.set(id, barrier);
    this.#asking.set(name, id);
    this.#sendAsks(barrier, effects);
    this.#advance(barrier, now, effects);
  }

  #sendAsks(barrier: Barrier, effects: Effect[]): void {
    const frontier = [...this.#world.ownFrontier(barrier.partition)];
    for (const other of this.#world.others(barrier.partition)) {
      if (barrier.phase === "asking" && barrier.answered.has(other.writer)) continue;
      effects.push({ type: "send", to: other.node, message: { type: "ask", id: barrier.id, partition: barrier.partition, frontier } });
    }
  }

  #askAgain(barrier: Barrier, now: number, effects: Effect[]): void {
    barrier.nextAskAt = now + ASK_AGAIN_MS;
    if (barrier.phase === "catching") this.#world.need(barrier.partition, barrier.target, effects);
    this.#sendAsks(barrier, effects);
    this.#advance(barrier, now, effects);
  }

  #advance(barrier: Barrier, now: number, effects: Effect[]): void {
    if (barrier.phase === "asking") {
      if (this.#world.answered(barrier.partition, barrier.level, barrier.answered) === undefined) return;
      barrier.phase = "catching";
      this.#asking.delete(queueName(barrier.partition, barrier.level));
      this.#world.need(barrier.partition, barrier.target, effects);
      this.#ask(barrier.partition, barrier.level, now, effects);
    }
    if (barrier.phase === "catching") {
      if (!covers(new Map(this.#world.ownFrontier(barrier.partition)), barrier.target)) return;
      barrier.phase = "snapshot";
      effects.push({ type: "snapshot", barrier: barrier.id, partition: barrier.partition, requests: barrier.reads.map((read) => read.request) });
      return;
    }
    if (barrier.phase !== "confirming") return;
    const tally = this.#world.holders(barrier.partition, barrier.level, barrier.target);
    if (tally === undefined) return;
    this.#barriers.delete(barrier.id);
    const frontier = [...barrier.target];
    for (const read of barrier.reads) effects.push({ type: "done", request: read.request, done: doneOf(barrier.level, tally, frontier) });
  }

  #expire(barrier: Barrier, now: number, effects: Effect[]): void {
    const late = barrier.reads.filter((read) => read.deadline <= now);
    if (late.length === 0) return;
    barrier.reads = barrier.reads.filter((read) => read.deadline > now);
    for (const read of late) refuse(read.request, barrier.level, barrier.phase, effects);
  }

  #end(barrier: Barrier, now: number, effects: Effect[]): void {
    this.#barriers.delete(barrier.id);
    const name = queueName(barrier.partition, barrier.level);
    if (this.#asking.get(name) !== barrier.id) return;
    this.#asking.delete(name);
    this.#ask(barrier.partition, barrier.level, now, effects);
  }
}

const queueName = (partition: Partition, level: Level): string => `${partition}/${level}`;

function doneOf(level: Level, tally: Tally, frontier: readonly (readonly [WriterId, number])[]): Done {
  return { level, tally, frontier, answer: "" };
}

function refuse(request: RequestId, level: Level, phase: Barrier["phase"], effects: Effect[]): void {
  const asking = phase === "asking";
  effects.push({
    type: "refuse",
    request,
    code: asking ? "no_quorum" : "catching_up",
    detail: asking
      ? `Too few members of the group answered for a read at ${level}.`
      : `This read at ${level} waited in vain for data that other members have acknowledged.`,
  });
}
