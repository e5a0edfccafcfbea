/**
 * Everything that happens to a federation in one run, as a list: what breaks, and what clients ask. A seed draws it; from then on the list is all there is,
 * so a run can be had again with a part of it left out (shrink.ts). Each element carries the chance it needs: leaving one out shifts no other.
 */
import type { EffectAt } from "./federation.ts";
import type { Profile } from "./profile.ts";
import type { Rng } from "./rng.ts";
import { EFFECT_STEPS, type Step } from "./steps.ts";

/** JSON, so that it can be kept in a file. */
export interface Schedule {
  readonly seed: number;
  readonly profile: Profile;
  readonly birth: readonly Fault[];
  readonly faults: readonly Fault[];
  readonly operations: readonly PlannedOperation[];
}

/**
 * Kinds of faults. Each seed draws some of them and leaves the others out ("swarm testing", Groce et al. 2012): a run with every fault at once finds less
 * than many runs with a few each, because faults hide each other.
 */
export const FAULT_KINDS = [
  /** Processes: they die, all at once too, between any two of their effects, or stand still. */
  "kill",
  "power",
  "torn",
  "blackout",
  "strike",
  "pause",
  /** Links. */
  "cut",
  "one-way",
  "split",
  "flap",
  "slow",
  "trickle",
  "link-stall",
  "release",
  /** Clocks. */
  "clock",
  "clock-stops",
  "drift",
  "skew",
  /** Disks. */
  "disk-stall",
  "eio",
  "read-eio",
  "full",
  "flip",
  "log-rot",
  "lose-disk",
  "restore",
  "clone",
  /** An operator changes the federation, replaces its secret, shuts a node out. */
  "operate",
  "rotate",
  "revoke",
] as const;
export type FaultKind = (typeof FAULT_KINDS)[number];

export interface Fault {
  /** Its name in this run, and its own chance: `rng.fork("fault n")`. */
  readonly n: number;
  readonly kind: FaultKind;
  /** Simulated ms after its phase began. */
  readonly at: number;
  /** Index of the node it happens to, and of another. */
  readonly node: number;
  readonly other: number;
  readonly lastsMs: number;
  /** Of a strike: at which of the node's effects after `at`, so many of its kind let pass; of all that are part of one step, if it names one. */
  readonly effect?: EffectAt & { readonly skip: number; readonly step?: Step };
}

export interface FaultSettings {
  /** With repetition: a kind that is there twice happens twice as often. */
  readonly kinds: readonly FaultKind[];
  /** Mean pause between two faults, ms. */
  readonly everyMs: number;
  /** Mean duration of one, ms. */
  readonly lastsMs: number;
}

/** All faults of a phase. */
export function drawFaults(rng: Rng, settings: FaultSettings, phaseMs: number, nodeCount: number): Fault[] {
  const faults: Fault[] = [];
  if (settings.kinds.length === 0) return faults;
  for (let at = rng.exponential(settings.everyMs); at < phaseMs; at += rng.exponential(settings.everyMs)) {
    const n = faults.length + 1;
    const own = rng.fork(n);
    const kind = own.pick(settings.kinds);
    const node = own.int(nodeCount);
    const fault = { n, kind, at, node, other: (node + 1 + own.int(Math.max(1, nodeCount - 1))) % nodeCount, lastsMs: lasting(own, kind, settings) };
    faults.push(kind === "strike" ? { ...fault, effect: drawEffect(own) } : fault);
  }
  return faults;
}

/** A process may stand still for a minute: long after everybody has forgotten it. */
function lasting(rng: Rng, kind: FaultKind, settings: FaultSettings): number {
  if (kind === "pause") return rng.pick([500, 3000, 12_000, 60_000]) * rng.float();
  if (kind === "link-stall") return 5000;
  return rng.exponential(settings.lastsMs);
}

const EFFECTS: readonly EffectAt[] = [
  { kind: "durable", when: "after" },
  { kind: "durable", when: "after" },
  { kind: "persist", when: "before" },
  { kind: "send", when: "before" },
  { kind: "send", when: "after" },
  { kind: "answer", when: "before" },
  { kind: "answer", when: "after" },
];

/** Half of the strikes wait for a step of the protocol: most effects are of the common ones, and the rare ones are where much is decided. */
function drawEffect(rng: Rng): NonNullable<Fault["effect"]> {
  if (rng.chance(0.5)) return { ...rng.pick(EFFECTS), skip: Math.floor(rng.exponential(3)) };
  return { kind: "send", when: rng.pick(["before", "after"] as const), skip: Math.floor(rng.exponential(1)), step: rng.pick(EFFECT_STEPS) };
}

export type PlannedKind = "put" | "bump" | "unlearn" | "edit" | "delete" | "read";

/** One thing that a client asks for, with all it will do to get an answer. */
export interface PlannedOperation {
  /** Unique in the run; its key, memory and value are named after it. */
  readonly id: number;
  readonly client: number;
  /** Simulated ms: not before. It also waits for the client's operation before. */
  readonly at: number;
  readonly kind: PlannedKind;
  readonly level: "one" | "quorum" | "all";
  /** What it writes to; of a read: all it looks at. */
  readonly memories: readonly string[];
  readonly concepts: readonly string[];
  /** A read at `one` that carries the token of the client's last acknowledged write. */
  readonly token: boolean;
  readonly attempts: readonly Attempt[];
}

export interface Attempt {
  /** Index of the node asked. */
  readonly door: number;
  /** How long after the attempt before failed. */
  readonly waitMs: number;
  /** A client that lost its patience asks another at the same moment, under the same key. */
  readonly twice?: number;
}
