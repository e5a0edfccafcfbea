/** Writes that wait until enough members hold them. Acknowledgements are cumulative ("I hold this stream up to n"), so a lost one is repaired by the next. */
import type { Done, Effect, RequestId } from "./effects.ts";
import type { Level, Partition, WriterId } from "./ids.ts";
import type { Tally } from "./quorum.ts";

export interface Waiting {
  readonly request: RequestId;
  readonly partition: Partition;
  readonly writer: WriterId;
  readonly seq: number;
  readonly level: Level;
  readonly deadline: number;
  readonly answer: string;
}

/** @returns who holds the stream up to seq, this node's own fsync included, once that satisfies the level; undefined before */
export type LevelHolders = (partition: Partition, level: Level, writer: WriterId, seq: number) => Tally | undefined;

export class Acknowledgements {
  /** One queue a stream and level, in order of seq: what holds for n holds for all below, so only the head is looked at. */
  readonly #queues = new Map<string, Waiting[]>();
  readonly #holders: LevelHolders;

  constructor(holders: LevelHolders) {
    this.#holders = holders;
  }

  /** Streams that a write waits for. */
  streams(): { partition: Partition; writer: WriterId }[] {
    return [...this.#queues.values()].map(([first]) => first as Waiting);
  }

  add(waiting: Waiting): void {
    const name = queueName(waiting.partition, waiting.writer, waiting.level);
    let queue = this.#queues.get(name);
    if (queue === undefined) {
      queue = [];
      this.#queues.set(name, queue);
    }
    let at = queue.length;
    while (at > 0 && (queue[at - 1] as Waiting).seq > waiting.seq) at--;
    queue.splice(at, 0, waiting);
  }

  /** Answers every write on the stream that its level has been reached for. */
  check(partition: Partition, writer: WriterId, effects: Effect[]): void {
    for (const level of ["one", "quorum", "all"] as const) {
      const name = queueName(partition, writer, level);
      const queue = this.#queues.get(name);
      if (queue === undefined) continue;
      let met = 0;
      for (const waiting of queue) {
        const tally = this.#holders(partition, level, writer, waiting.seq);
        if (tally === undefined) break;
        effects.push({ type: "done", request: waiting.request, done: doneOf(waiting, tally) });
        met++;
      }
      this.#drop(name, queue, met);
    }
  }

  /** At its deadline a write is in doubt: it has a number and may yet spread. Never "failed". */
  expire(now: number, effects: Effect[]): void {
    for (const [name, queue] of this.#queues) {
      const rest = queue.filter((waiting) => waiting.deadline > now);
      if (rest.length === queue.length) continue;
      for (const waiting of queue) {
        if (waiting.deadline > now) continue;
        const delta = `${waiting.writer}/${waiting.partition}/${waiting.seq}`;
        effects.push({
          type: "refuse",
          request: waiting.request,
          code: "in_doubt",
          detail: `Delta ${delta} is written here but was not acknowledged at level ${waiting.level} in time; it may yet spread. Retry with the same Idempotency-Key.`,
        });
      }
      if (rest.length === 0) this.#queues.delete(name);
      else this.#queues.set(name, rest);
    }
  }

  #drop(name: string, queue: Waiting[], met: number): void {
    if (met === 0) return;
    if (met === queue.length) this.#queues.delete(name);
    else queue.splice(0, met);
  }
}

const queueName = (partition: Partition, writer: WriterId, level: Level): string => `${partition}/${writer}/${level}`;

function doneOf(waiting: Waiting, tally: Tally): Done {
  return { level: waiting.level, tally, frontier: [[waiting.writer, waiting.seq]], answer: waiting.answer };
}
