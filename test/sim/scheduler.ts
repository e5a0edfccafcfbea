import { createHash } from "node:crypto";

interface Event {
  readonly at: number;
  /** Ties are broken by order of scheduling, so that a run never depends on the heap. */
  readonly order: number;
  readonly run: () => void;
  cancelled: boolean;
}

/** Ten times what a busy run needs: a run that wants more is a storm of messages that feed on each other (P8). */
const EVENTS_MAX = 400_000;

/**
 * Simulated time. Events run one by one in order of their time; between two of them everything the first one started (promises, nextTicks)
 * is carried to its end, so that the only waiting in a run is waiting for simulated time. Code takes no simulated time, the disk and the network do.
 * Every event of importance is fed to `note`, whose running hash is the run's identity: same seed, same hash.
 */
export class Scheduler {
  /** Simulated milliseconds since the start of the run. */
  now = 0;
  /** Called with each noted line; undefined costs nothing. */
  story: ((line: string) => void) | undefined;
  /** Events run so far: the cost of a run, and a bound against runs that never end. */
  eventCount = 0;
  #order = 0;
  readonly #heap: Event[] = [];
  readonly #hash = createHash("sha256");

  /** @param delayMs >= 0 @returns cancel */
  after(delayMs: number, run: () => void): () => void {
    const event: Event = { at: this.now + Math.max(0, delayMs), order: this.#order++, run, cancelled: false };
    this.#push(event);
    return () => {
      event.cancelled = true;
    };
  }

  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => void this.after(delayMs, resolve));
  }

  /** Part of the run's identity, and a line of the story. */
  note(line: string): void {
    this.#hash.update(`${this.now.toFixed(6)} ${line}\n`);
    this.story?.(`${this.now.toFixed(3).padStart(12)} ms  ${line}`);
  }

  /** As `note`, for bytes and without a line in the story. */
  noteBytes(label: string, bytes: Uint8Array): void {
    this.#hash.update(`${this.now.toFixed(6)} ${label} ${bytes.byteLength}\n`);
    this.#hash.update(bytes);
  }

  /** Hash of everything noted so far, hex. */
  traceHash(): string {
    return this.#hash.copy().digest("hex");
  }

  /** Runs events until `untilMs` of simulated time, or until `done()` holds after an event. @returns whether `done` held */
  async run(untilMs: number, done: () => boolean = () => false): Promise<boolean> {
    await settle();
    while (!done()) {
      const event = this.#heap[0];
      if (event === undefined || event.at > untilMs) {
        this.now = Math.max(this.now, untilMs);
        return done();
      }
      this.#pop();
      if (event.cancelled) continue;
      this.now = event.at;
      if (++this.eventCount > EVENTS_MAX) throw new Storm(this.now);
      event.run();
      await settle();
    }
    return true;
  }

  /** Events that have not run; cancelled ones included until their time comes. */
  get pendingCount(): number {
    return this.#heap.length;
  }

  #push(event: Event): void {
    const heap = this.#heap;
    let i = heap.length;
    heap.push(event);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (!before(event, heap[parent] as Event)) break;
      heap[i] = heap[parent] as Event;
      i = parent;
    }
    heap[i] = event;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop() as Event;
    const size = heap.length;
    if (size === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= size) break;
      if (child + 1 < size && before(heap[child + 1] as Event, heap[child] as Event)) child++;
      if (!before(heap[child] as Event, last)) break;
      heap[i] = heap[child] as Event;
      i = child;
    }
    heap[i] = last;
  }
}

export class Storm extends Error {
  constructor(now: number) {
    super(`more than ${EVENTS_MAX} events, ${Math.round(now)} ms after the start: messages breed messages`);
  }
}

function before(a: Event, b: Event): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}

/** Node empties nextTicks and promises completely before a macrotask runs; one immediate (0.9 us) is therefore a full drain. */
function settle(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
