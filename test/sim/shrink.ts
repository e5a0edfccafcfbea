/**
 * A failing run with as much as possible left out: fewer faults, fewer operations, a shorter life, a kinder world. What is left is short enough to be read.
 * Parts are left out in halves, quarters, eighths ... of what there is (delta debugging, Zeller and Hildebrandt 2002), as long as the run still fails.
 */
import type { Profile } from "./profile.ts";
import type { Fault, PlannedOperation, Schedule } from "./schedule.ts";

export interface ShrinkOptions {
  /** Runs it: whether it still breaks what was broken. */
  readonly fails: (schedule: Schedule) => Promise<boolean>;
  /** Whether there is time for another run. */
  readonly goOn: () => boolean;
  /** Each smaller one, as it is found. */
  readonly smaller?: (schedule: Schedule) => void;
}

/** @param failing fails @returns the smallest that was found, which fails too */
export async function shrink(failing: Schedule, options: ShrinkOptions): Promise<Schedule> {
  const shrinker = new Shrinker(failing, options);
  await shrinker.run();
  return shrinker.smallest;
}

class Shrinker {
  smallest: Schedule;
  readonly #o: ShrinkOptions;

  constructor(failing: Schedule, options: ShrinkOptions) {
    this.smallest = failing;
    this.#o = options;
  }

  async run(): Promise<void> {
    let found: boolean;
    do {
      const sizeBefore = sizeOf(this.smallest);
      await this.#shorter();
      await this.#fewer(
        (schedule) => schedule.faults,
        (schedule, faults) => ({ ...schedule, faults }),
      );
      await this.#fewer(
        (schedule) => schedule.birth,
        (schedule, birth) => ({ ...schedule, birth }),
      );
      await this.#fewer(
        (schedule) => schedule.operations,
        (schedule, operations) => ({ ...schedule, operations }),
      );
      await this.#simpler();
      await this.#kinder();
      found = sizeOf(this.smallest) < sizeBefore;
    } while (found && this.#o.goOn());
  }

  async #try(candidate: Schedule): Promise<boolean> {
    if (!this.#o.goOn() || !(await this.#o.fails(candidate))) return false;
    this.smallest = candidate;
    this.#o.smaller?.(candidate);
    return true;
  }

  /** Everything heals earlier. */
  async #shorter(): Promise<void> {
    for (const share of [0.25, 0.5, 0.75, 0.9]) if (await this.#try(shortened(this.smallest, share))) return await this.#shorter();
  }

  async #fewer<T>(listOf: (schedule: Schedule) => readonly T[], withList: (schedule: Schedule, list: readonly T[]) => Schedule): Promise<void> {
    for (let size = Math.ceil(listOf(this.smallest).length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
      for (let at = 0; at < listOf(this.smallest).length && this.#o.goOn(); ) {
        const rest = listOf(this.smallest).filter((_, index) => index < at || index >= at + size);
        if (!(await this.#try(withList(this.smallest, rest)))) at += size;
      }
    }
  }

  /** Each write asked for once, at one node; reads that look at less. */
  async #simpler(): Promise<void> {
    for (const { id } of this.smallest.operations) {
      const simpler = this.smallest.operations.map((operation) => (operation.id === id ? simplified(operation) : operation));
      if (sizeOf({ ...this.smallest, operations: simpler }) < sizeOf(this.smallest)) await this.#try({ ...this.smallest, operations: simpler });
    }
  }

  async #kinder(): Promise<void> {
    for (const kinder of KINDER) {
      const profile = kinder(this.smallest.profile);
      if (JSON.stringify(profile) !== JSON.stringify(this.smallest.profile)) await this.#try({ ...this.smallest, profile });
    }
  }
}

const KINDER: readonly ((profile: Profile) => Profile)[] = [
  (profile) => ({ ...profile, network: { ...profile.network, hostility: undefined } }),
  (profile) => ({ ...profile, network: { ...profile.network, newsLossChance: 0 } }),
  (profile) => ({ ...profile, disk: { ...profile.disk, stallChance: 0 } }),
  (profile) => ({ ...profile, clockErrorMs: 0 }),
];

function shortened(schedule: Schedule, share: number): Schedule {
  const durationMs = Math.ceil(schedule.profile.durationMs * share);
  return { ...schedule, profile: { ...schedule.profile, durationMs }, faults: schedule.faults.filter((fault) => fault.at < durationMs) };
}

function simplified(operation: PlannedOperation): PlannedOperation {
  const { door } = operation.attempts[0] as { door: number };
  return { ...operation, attempts: [{ door, waitMs: 0 }] };
}

function sizeOf({ birth, faults, operations, profile }: Schedule): number {
  const attempts = operations.reduce((sum, { attempts: all }) => sum + all.length + all.filter(({ twice }) => twice !== undefined).length, 0);
  return birth.length + faults.length + operations.length + attempts + profile.durationMs / 100 + (profile.network.hostility === undefined ? 0 : 1);
}

/** "3 faults, 2 operations, 1.2 s" */
export function sizeInWords({ birth, faults, operations, profile }: Schedule): string {
  const all: readonly Fault[] = [...birth, ...faults];
  return `${all.length} faults, ${operations.length} operations, ${(profile.durationMs / 1000).toFixed(1)} s`;
}
