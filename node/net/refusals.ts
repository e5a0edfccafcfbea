import type { Log, Meter, System } from "../ports.ts";

/** `wrong_secret`: none of ours. `old_secret`: only one that admits known identities, and this is none. */
export type RefusalReason = "wrong_secret" | "old_secret";

export interface Refusal {
  readonly reason: RefusalReason;
  /** Host part of the remote address. */
  readonly remote: string;
  readonly peer: string;
  /** Who said no: us, or the other side to us. */
  readonly by: "us" | "them";
}

/** One line a remote host in this time: who is refused comes back every few seconds, for ever. */
const QUIET_MS = 10 * 60_000;
const REMOTES_MAX = 1000;

const WHAT_TO_CHECK: Readonly<Record<RefusalReason, string>> = {
  wrong_secret: "check that FEDERATION_SECRET is the same on both",
  old_secret: "only a secret being rotated out was proved, which admits known members only: put the new secret first in FEDERATION_SECRET there",
};

/** Counts every refusal and explains it in one log line a remote host. */
export class Refusals {
  readonly #log: Log;
  readonly #meter: Meter;
  readonly #system: System;
  readonly #quietUntil = new Map<string, number>();

  constructor(log: Log, meter: Meter, system: System) {
    this.#log = log;
    this.#meter = meter;
    this.#system = system;
  }

  report(refusal: Refusal): void {
    this.#meter.count("connection_error", 1, refusal.reason);
    if (this.#isQuiet(refusal.remote)) return;
    const { reason, remote, peer, by } = refusal;
    const what = by === "us" ? "refused a node that does not prove our federation's secret" : "a node refused us because of our federation secret";
    this.#log.warn({ reason, remote, peer }, `${what}: ${WHAT_TO_CHECK[reason]}`);
  }

  #isQuiet(remote: string): boolean {
    const now = this.#system.monotonic();
    if ((this.#quietUntil.get(remote) ?? 0) > now) return true;
    if (this.#quietUntil.size >= REMOTES_MAX) this.#quietUntil.clear();
    this.#quietUntil.set(remote, now + QUIET_MS);
    return false;
  }
}
