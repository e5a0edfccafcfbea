/**
 * What an earlier incarnation of this disk had written and nobody else held (node/store/aside.ts) is executed again, one after the other, with the same keys:
 * what a client was told stands, and what was executed elsewhere meanwhile counts once (P5).
 */
import { parseDelta } from "../protocol/delta.ts";
import type { Done, Proposal } from "../protocol/effects.ts";
import { contributionsOf } from "../protocol/graph/contribute.ts";
import type { Partition } from "../protocol/ids.ts";
import type { Replica } from "../protocol/replica.ts";
import { ApiError } from "./errors.ts";
import type { Log, System } from "./ports.ts";
import type { Aside } from "./store/aside.ts";
import type { Store } from "./store/store.ts";

export interface WritingAgainOptions {
  readonly store: Store;
  readonly replica: Replica;
  readonly system: System;
  readonly log: Log;
  readonly propose: (proposal: Omit<Proposal, "request">) => Promise<Done | undefined>;
  readonly onFailure: (error: Error) => void;
}

/** Between two looks at what waits, ms. */
const LOOK_MS = 1000;
const WRITE_TIMEOUT_MS = 5000;

export class WritingAgain {
  readonly #o: WritingAgainOptions;
  #lookAt = 0;
  #busy = false;
  #isEmpty = false;

  constructor(options: WritingAgainOptions) {
    this.#o = options;
  }

  tick(now: number): void {
    if (this.#isEmpty || this.#busy || now < this.#lookAt || this.#o.replica.standing !== "counting") return;
    this.#busy = true;
    this.#all()
      .catch((error: Error) => this.#o.onFailure(error))
      .finally(() => {
        this.#busy = false;
        this.#lookAt = this.#o.system.monotonic() + LOOK_MS;
      });
  }

  async #all(): Promise<void> {
    const { store, replica, log } = this.#o;
    /** Its order is kept: after one that could not be written none of its partition is. */
    const waiting = new Set<Partition>();
    let [written, seen] = [0, 0];
    for await (const aside of store.aside()) {
      seen++;
      if (replica.role(aside.partition) !== "replica") waiting.add(aside.partition);
      if (waiting.has(aside.partition)) continue;
      if (await this.#again(aside)) written++;
      else waiting.add(aside.partition);
    }
    if (written > 0) log.info({ deltas: written, left: seen - written }, "wrote again what only this disk held of an earlier incarnation");
    this.#isEmpty = seen === written;
  }

  /** @returns false: not now */
  async #again(aside: Aside): Promise<boolean> {
    const { store, system, log, propose } = this.#o;
    const { header, body } = parseDelta(aside.headerBytes, aside.bodyBytes);
    try {
      await propose({
        tenant: body.tenant,
        partition: aside.partition,
        level: "quorum",
        key: header.key,
        fingerprint: body.fingerprint,
        contributions: contributionsOf(body.entries),
        answer: body.answer,
        deadline: system.monotonic() + WRITE_TIMEOUT_MS,
        wall: system.now(),
      });
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const facts = { tenant: body.tenant, seq: aside.seq, error: error.message };
      if (error.status >= 500) {
        log.warn(facts, "a write of an earlier incarnation could not be executed again yet");
        return false;
      }
      // Its key stands for another request by now.
      log.error(facts, "a write of an earlier incarnation cannot be executed again");
    }
    await store.dropAside(aside);
    return true;
  }
}
