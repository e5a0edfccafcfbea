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
  readonly #trace = new Trace();

  /** @param delayMs >= 0 @returns cancel */
  after(delayMs: number, run: () => void): () => void {
    return this.at(this.now + Math.max(0, delayMs), run);
  }

  /** @param at simulated ms since the start of the run, not before now: what a schedule names must not depend on when it was read */
  at(at: number, run: () => void): () => void {
    const event: Event = { at: Math.max(this.now, at), order: this.#order++, run, cancelled: false };
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
    this.#trace.text(this.now, line);
    this.story?.(line);
  }

  /** As `note`, for bytes and without a line in the story. */
  noteBytes(label: string, bytes: Uint8Array): void {
    this.#trace.text(this.now, label);
    this.#trace.bytes(bytes);
  }

  /** Hash of everything noted so far, hex. */
  traceHash(): string {
    return this.#trace.digest();
  }

  /** Runs events until `untilMs` of simulated time, or until `done()` holds after an event. @returns whether `done` held */
  run(untilMs: number, done: () => boolean = () => false): Promise<boolean> {
    return new Promise((resolve, reject) => {
      // A macrotask of its own: nothing of the caller's is on the stack, so that promises can be carried to their end between two events.
      setImmediate(() => {
        try {
          resolve(this.#runNow(untilMs, done));
        } catch (error) {
          reject(error as Error);
        }
      });
    });
  }

  #runNow(untilMs: number, done: () => boolean): boolean {
    settle();
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
      settle();
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

/** The hash of all that was noted, fed in large pieces: one update a frame would cost more than the frame's own way through the network. */
class Trace {
  readonly #hash = createHash("sha256");
  readonly #buffer = Buffer.allocUnsafe(256 * 1024);
  #used = 0;

  text(now: number, line: string): void {
    if (!this.#room(3 * line.length + 16)) {
      this.#hash.update(line);
      return;
    }
    this.#used = this.#buffer.writeDoubleLE(now, this.#used);
    this.#used += this.#buffer.write(line, this.#used);
    this.#used = this.#buffer.writeUInt8(10, this.#used);
  }

  bytes(bytes: Uint8Array): void {
    if (!this.#room(bytes.byteLength + 4)) {
      this.#hash.update(bytes);
      return;
    }
    this.#used = this.#buffer.writeUInt32LE(bytes.byteLength, this.#used);
    this.#buffer.set(bytes, this.#used);
    this.#used += bytes.byteLength;
  }

  digest(): string {
    this.#flush();
    return this.#hash.copy().digest("hex");
  }

  /** False: it is larger than the whole buffer, which is empty now. */
  #room(bytes: number): boolean {
    if (this.#used + bytes > this.#buffer.byteLength) this.#flush();
    return bytes <= this.#buffer.byteLength;
  }

  #flush(): void {
    this.#hash.update(this.#buffer.subarray(0, this.#used));
    this.#used = 0;
  }
}

/**
 * Everything that one event started by way of promises and nextTicks, carried to its end. Node offers this to itself under this name; a turn of the event
 * loop does the same for thirty times the price. That it drains completely is checked in ground.test.ts.
 */
const settle: () => void = (process as unknown as { _tickCallback: () => void })._tickCallback.bind(process);
