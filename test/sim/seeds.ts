/** Many seeds, on all cores: each thread asks for the next as soon as it is done with one. */
import { Worker } from "node:worker_threads";
import type { RunResult } from "./run.ts";
import type { FaultKind } from "./schedule.ts";

export interface Asked {
  readonly seed: number;
  readonly nodeCount: number | undefined;
  readonly faults: readonly FaultKind[];
}
/** A schedule is found again by its seed, and large. */
export type Told = Omit<RunResult, "schedule">;

export interface SeedsOptions {
  /** Undefined: that was the last. */
  readonly next: () => number | undefined;
  readonly nodeCount: number | undefined;
  readonly faults: readonly FaultKind[];
  readonly workers: number;
  /** Each result as it comes, in no order. */
  readonly told: (result: Told) => void;
}

export async function runSeeds(options: SeedsOptions): Promise<void> {
  await Promise.all(Array.from({ length: options.workers }, () => runThread(options)));
}

/** @throws Error when a thread dies: out of memory, or an exception between two events */
async function runThread({ next, nodeCount, faults, told }: SeedsOptions): Promise<void> {
  const worker = new Worker(new URL("./seed-worker.ts", import.meta.url));
  try {
    for (let seed = next(); seed !== undefined; seed = next()) {
      const asked: Asked = { seed, nodeCount, faults };
      told(
        await new Promise<Told>((resolve, reject) => {
          worker.once("message", resolve);
          worker.once("error", (error) => reject(new Error(`seed ${asked.seed} ended its thread`, { cause: error })));
          worker.postMessage(asked);
        }),
      );
      worker.removeAllListeners("error");
    }
  } finally {
    await worker.terminate();
  }
}
