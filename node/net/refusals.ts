import type { Log, Meter, System } from "../ports.ts";

/**
 * `wrong_secret`: none of ours. `old_secret`: only one that admits known identities, and this is none. `revoked`: this identity was shut out.
 * `identity_twice`: another living process has it.
 */
export type RefusalReason = "wrong_secret" | "old_secret" | "revoked" | "identity_twice";

export interface Refusal {
  readonly reason: RefusalReason;
  /** Host part of the remote address. */
  readonly remote: string;
  readonly peer: string;
  /** Who said no: us, or the other side to us. */
  readonly by: "us" | "them";
}

/** One line in this time a remote host and reason: who is refused comes back every few seconds, for ever. */
const QUIET_MS = 10 * 60_000;
const REMOTES_MAX = 1000;

const BY_US = "refused a node that does not prove our federation's secret";
const BY_THEM = "a node refused us because of our federation secret";
const TWICE = "two processes run with the identity of one node, and the newer was told to wait";
const WHAT_HAPPENED: Readonly<Record<RefusalReason, Readonly<Record<Refusal["by"], string>>>> = {
  wrong_secret: { us: BY_US, them: BY_THEM },
  old_secret: { us: BY_US, them: BY_THEM },
  revoked: { us: "refused a node whose identity has been revoked", them: "a node refused us because our identity has been revoked" },
  identity_twice: { us: TWICE, them: TWICE },
};
const WHAT_TO_CHECK: Readonly<Record<RefusalReason, string>> = {
  wrong_secret: "check that FEDERATION_SECRET is the same on both",
  old_secret: "only a secret being rotated out was proved, which admits known members only: put the new secret first in FEDERATION_SECRET there",
  revoked: "stop it; a new node needs an empty data folder and the current FEDERATION_SECRET",
  identity_twice: "a data folder was copied: stop one of them; until then they are heard in turn",
};

/** Counts every refusal and explains it in one log line a remote host and reason; an ingress stands for many nodes, so what is about one identity has its own. */
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
    const { reason, remote, peer, by } = refusal;
    if (this.#isQuiet(reason.endsWith("_secret") ? `${remote} ${reason}` : `${peer} ${reason}`)) return;
    this.#log.warn({ reason, remote, peer }, `${WHAT_HAPPENED[reason][by]}: ${WHAT_TO_CHECK[reason]}`);
  }

  #isQuiet(subject: string): boolean {
    const now = this.#system.monotonic();
    if ((this.#quietUntil.get(subject) ?? 0) > now) return true;
    if (this.#quietUntil.size >= REMOTES_MAX) this.#quietUntil.clear();
    this.#quietUntil.set(subject, now + QUIET_MS);
    return false;
  }
}
