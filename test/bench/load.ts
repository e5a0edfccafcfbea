/** The parent's side of load-process.ts. */
import { type ChildProcess, fork } from "node:child_process";
import { resolve } from "node:path";
import type { WorkloadName } from "./workloads.ts";

export interface Order {
  readonly workload: WorkloadName;
  /** Clients take them in turn. */
  readonly urls: readonly string[];
  readonly clients: number;
  readonly warmupMs: number;
  readonly measureMs: number;
  /** Requests a second over all clients, sent when they are due whatever became of those before; undefined: the next when the last was answered. */
  readonly perSecond?: number;
  /** Undefined: the workload's own. */
  readonly tenant?: string;
}

export interface Sample {
  /** Right answers, the warm-up's included. */
  readonly answered: number;
  readonly perSecond: number;
  /** NaN when nothing was answered. */
  readonly p50Ms: number;
  readonly p99Ms: number;
  /** Per status code, or "connection". */
  readonly failures: Readonly<Record<string, number>>;
  /** The first failure's body. */
  readonly example: string | undefined;
}

export class Load {
  readonly #child: ChildProcess;

  constructor(dataDir: string | undefined) {
    this.#child = fork(resolve(import.meta.dirname, "load-process.ts"), [dataDir ?? ""]);
  }

  /** Ends a run with a rate early: what was measured until now is its sample. */
  finish(): void {
    this.#child.send("finish");
  }

  run(order: Order): Promise<Sample> {
    return new Promise((done, failed) => {
      const gone = (): void => failed(new Error("the load process ended"));
      this.#child.once("exit", gone);
      this.#child.once("message", (sample: Sample) => {
        this.#child.off("exit", gone);
        done(sample);
      });
      this.#child.send(order, (error) => {
        if (error !== null) failed(error);
      });
    });
  }

  stop(): void {
    if (this.#child.connected) this.#child.disconnect();
  }
}
