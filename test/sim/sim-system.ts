import type { System } from "../../node/ports.ts";
import type { Rng } from "./rng.ts";
import type { Scheduler } from "./scheduler.ts";

/** A node's wall clock: simulated time at a rate of its own, plus an offset; faults set it, slow it down, or stop it while it runs. */
export class WallClock {
  /** 2026-01-01: far from zero, so that a clock that was never set stands out. */
  static readonly EPOCH_MS = 1_767_225_600_000;
  readonly #scheduler: Scheduler;
  readonly #error: { readonly offsetMs: number; readonly rate: number };
  /** What it showed at `#since`, less true time. */
  #offsetMs: number;
  #rate: number;
  #since = 0;

  /** @param offsetMs how far it is ahead of true time (negative: behind) @param rate 1.0001 gains 0.1 ms a second */
  constructor(scheduler: Scheduler, offsetMs: number, rate: number) {
    this.#scheduler = scheduler;
    this.#error = { offsetMs, rate };
    this.#offsetMs = offsetMs;
    this.#rate = rate;
  }

  read(): number {
    return Math.floor(WallClock.EPOCH_MS + this.#scheduler.now + this.offsetMs);
  }

  /** Milliseconds this node is ahead (or behind, negative) of true time now. */
  get offsetMs(): number {
    return this.#offsetMs + (this.#scheduler.now - this.#since) * (this.#rate - 1);
  }
  set offsetMs(ms: number) {
    this.#offsetMs = ms;
    this.#since = this.#scheduler.now;
  }

  /** 0: it stands still. */
  setRate(rate: number): void {
    this.offsetMs = this.offsetMs;
    this.#rate = rate;
  }

  /** As good again as it was in the beginning. */
  correct(): void {
    this.offsetMs = this.#error.offsetMs;
    this.#rate = this.#error.rate;
  }
}

/**
 * A process that is stopped (SIGSTOP, a debugger, a machine that swaps) or whose machine is suspended: nothing it does happens, and what reaches it waits.
 * All of it happens at once, in order, when it goes on.
 */
export class Pause {
  readonly #scheduler: Scheduler;
  #waiting: (() => void)[] = [];
  #since: number | undefined;
  #clockStands = false;
  #stoodMs = 0;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  get holds(): boolean {
    return this.#since !== undefined;
  }

  /** How long the monotonic clock has stood, ms. */
  get stoodMs(): number {
    return this.#stoodMs;
  }

  /** @param clockStands the machine sleeps, and CLOCK_MONOTONIC with it; else only the process is stopped, and every timer is overdue afterwards */
  begin(clockStands: boolean): void {
    if (this.holds) return;
    this.#since = this.#scheduler.now;
    this.#clockStands = clockStands;
  }

  end(): void {
    if (this.#since === undefined) return;
    if (this.#clockStands) this.#stoodMs += this.#scheduler.now - this.#since;
    const waiting = this.#waiting;
    this.forget();
    for (const run of waiting) this.#scheduler.after(0, () => this.gate(run));
  }

  /** The process is gone, and whatever waited for it. */
  forget(): void {
    this.#waiting = [];
    this.#since = undefined;
  }

  /** Now, or once the process goes on. */
  gate(run: () => void): void {
    if (this.#since === undefined) run();
    else this.#waiting.push(run);
  }
}

/** Far more than the busiest event needs. */
const LOOKS_MAX = 100_000;

/**
 * Time and chance of one run of one process. `alive` goes false when that process crashes: its timers never fire again, as those of a dead
 * process do not, and the next process of the same node gets a system of its own.
 */
export function simSystem(scheduler: Scheduler, clock: WallClock, rng: Rng, alive: () => boolean, pause = new Pause(scheduler)): System {
  const bootedAt = scheduler.now - pause.stoodMs;
  let looks = 0;
  let lastEvent = 0;
  /** Code that looks at the clock again and again within one event waits for what cannot happen before the event ends: a real process would freeze. */
  const look = (): void => {
    looks = scheduler.eventCount === lastEvent ? looks + 1 : 0;
    lastEvent = scheduler.eventCount;
    if (looks > LOOKS_MAX) throw new Error(`the process spins: it looked at its clock ${LOOKS_MAX} times while no time passed`);
  };
  const monotonic = (): number => scheduler.now - bootedAt - pause.stoodMs;
  return {
    now: () => {
      look();
      return clock.read();
    },
    monotonic: () => {
      look();
      return monotonic();
    },
    randomBytes: (length) => rng.bytes(length),
    random: () => rng.float(),
    after: (ms, run) => {
      const due = monotonic() + ms;
      let cancelled = false;
      const wait = (leftMs: number): void =>
        void scheduler.after(leftMs, () =>
          pause.gate(() => {
            if (!alive() || cancelled) return;
            // The clock that timers go by has stood meanwhile: there is as long to wait as there was.
            const left = due - monotonic();
            if (left > 1e-6) wait(left);
            else run();
          }),
        );
      wait(ms);
      return () => {
        cancelled = true;
      };
    },
    soon: (run) =>
      void scheduler.after(0, () =>
        pause.gate(() => {
          if (alive()) run();
        }),
      ),
  };
}
