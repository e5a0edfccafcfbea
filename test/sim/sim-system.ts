import type { System } from "../../node/ports.ts";
import type { Rng } from "./rng.ts";
import type { Scheduler } from "./scheduler.ts";

/** A node's wall clock: what it shows is simulated time times `rate`, plus an offset that faults may change while it runs. */
export class WallClock {
  /** 2026-01-01: far from zero, so that a clock that was never set stands out. */
  static readonly EPOCH_MS = 1_767_225_600_000;
  /** Milliseconds this node is ahead (or behind, negative) of true time. */
  offsetMs: number;
  /** Simulated time is multiplied by this: 1.0001 gains 0.1 ms a second. */
  readonly rate: number;
  readonly #scheduler: Scheduler;

  constructor(scheduler: Scheduler, offsetMs: number, rate: number) {
    this.#scheduler = scheduler;
    this.offsetMs = offsetMs;
    this.rate = rate;
  }

  read(): number {
    return Math.floor(WallClock.EPOCH_MS + this.#scheduler.now * this.rate + this.offsetMs);
  }
}

/** Far more than the busiest event needs. */
const LOOKS_MAX = 100_000;

/**
 * Time and chance of one run of one process. `alive` goes false when that process crashes: its timers never fire again, as those of a dead
 * process do not, and the next process of the same node gets a system of its own.
 */
export function simSystem(scheduler: Scheduler, clock: WallClock, rng: Rng, alive: () => boolean): System {
  const bootedAt = scheduler.now;
  let looks = 0;
  let lastEvent = 0;
  /** Code that looks at the clock again and again within one event waits for what cannot happen before the event ends: a real process would freeze. */
  const look = (): void => {
    looks = scheduler.eventCount === lastEvent ? looks + 1 : 0;
    lastEvent = scheduler.eventCount;
    if (looks > LOOKS_MAX) throw new Error(`the process spins: it looked at its clock ${LOOKS_MAX} times while no time passed`);
  };
  return {
    now: () => {
      look();
      return clock.read();
    },
    monotonic: () => {
      look();
      return scheduler.now - bootedAt;
    },
    randomBytes: (length) => rng.bytes(length),
    random: () => rng.float(),
    after: (ms, run) =>
      scheduler.after(ms, () => {
        if (alive()) run();
      }),
    soon: (run) =>
      void scheduler.after(0, () => {
        if (alive()) run();
      }),
  };
}
