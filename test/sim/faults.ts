import type { Federation, SimNode } from "./federation.ts";
import type { Rng } from "./rng.ts";
import type { Scheduler } from "./scheduler.ts";

/**
 * Kinds of faults. Each seed draws some of them and leaves the others out ("swarm testing", Groce et al. 2012): a run with every fault at once finds less
 * than many runs with a few each, because faults hide each other.
 */
export type FaultKind =
  | "kill"
  | "power"
  | "blackout"
  | "cut"
  | "one-way"
  | "split"
  | "flap"
  | "slow"
  | "clock"
  | "stall"
  | "eio"
  | "at-write"
  | "lose-disk";
/** Those that a federation at work must survive in full; a lost disk takes its node out of the layout, so it is for storms at birth only. */
export const FAULT_KINDS: readonly FaultKind[] = [
  "kill",
  "power",
  "blackout",
  "cut",
  "one-way",
  "split",
  "flap",
  "slow",
  "clock",
  "stall",
  "eio",
  "at-write",
];

type TimedKind = Exclude<FaultKind, "at-write">;

export interface FaultSettings {
  readonly kinds: readonly FaultKind[];
  /** Mean pause between two faults, ms. */
  readonly everyMs: number;
  /** Mean duration of one, ms. */
  readonly lastsMs: number;
  /** Of "at-write": the chance that a node crashes right after a batch of its own became durable, before anybody has heard of it. */
  readonly atWriteChance: number;
}

export function drawFaults(rng: Rng): FaultSettings {
  const kinds = FAULT_KINDS.filter(() => rng.chance(0.4));
  return { kinds, everyMs: rng.between(400, 4000), lastsMs: rng.between(200, 4000), atWriteChance: rng.pick([0.005, 0.03]) };
}

/** Lets faults happen until `stop`; then everything is healed, and every node runs. */
export class Faults {
  readonly #scheduler: Scheduler;
  readonly #rng: Rng;
  readonly #federation: Federation;
  readonly #settings: FaultSettings;
  #stopped = false;

  constructor(scheduler: Scheduler, rng: Rng, federation: Federation, settings: FaultSettings) {
    this.#scheduler = scheduler;
    this.#rng = rng;
    this.#federation = federation;
    this.#settings = settings;
  }

  start(): void {
    const { kinds, atWriteChance } = this.#settings;
    const timed = kinds.filter((kind) => kind !== "at-write");
    if (timed.length > 0) this.#next(timed);
    if (!kinds.includes("at-write")) return;
    this.#federation.onWrite = (node) => {
      if (!this.#rng.chance(atWriteChance)) return;
      const crash = () => this.#happen(kinds.includes("lose-disk") ? "lose-disk" : this.#rng.pick(["kill", "power"] as const), node);
      this.#scheduler.after(this.#rng.chance(0.5) ? 0 : this.#rng.exponential(2), crash);
    };
  }

  stop(): void {
    this.#stopped = true;
    this.#federation.onWrite = () => {};
    this.#scheduler.note("---- faults end: everything heals ----");
    this.#federation.network.healAll();
    this.#federation.network.calm();
    for (const node of this.#federation.nodes) this.#federation.start(node);
  }

  #next(kinds: readonly TimedKind[]): void {
    this.#scheduler.after(this.#rng.exponential(this.#settings.everyMs), () => {
      if (this.#stopped) return;
      this.#happen(this.#rng.pick(kinds), this.#rng.pick(this.#federation.nodes));
      this.#next(kinds);
    });
  }

  #happen(kind: TimedKind, node: SimNode): void {
    if (this.#stopped) return;
    const { nodes } = this.#federation;
    const others = this.#rng.shuffle(nodes.filter((one) => one !== node));
    if (kind === "kill" || kind === "power") this.#crash(node, kind);
    else if (kind === "lose-disk") this.#loseDisk(node);
    else if (kind === "blackout") for (const one of nodes) this.#crash(one, "power");
    else if (kind === "eio" || kind === "stall") this.#breakDisk(node, kind);
    else if (kind === "clock") this.#turnClock(node);
    else if (others[0] !== undefined) this.#breakLink(kind, node, others[0], others);
  }

  /** Never the last node's: one name that keeps its disk is what a decision lives on. */
  #loseDisk(node: SimNode): void {
    if (!node.running || node === this.#federation.nodes.at(-1)) return;
    this.#federation.crash(node, "power");
    node.disk.lose();
    this.#scheduler.note(`fault: ${node.name} has lost its disk`);
    this.#scheduler.after(this.#duration(), () => this.#federation.start(node));
  }

  #breakDisk(node: SimNode, kind: "eio" | "stall"): void {
    this.#scheduler.note(`fault: ${node.name}'s ${kind === "eio" ? "next fsync fails" : "disk stalls"}`);
    if (kind === "eio") node.disk.failNextSync();
    else node.disk.stall(this.#duration());
  }

  #turnClock(node: SimNode): void {
    node.clock.offsetMs += this.#rng.pick([-600_000, -5000, -50, 50, 5000, 600_000]);
    this.#scheduler.note(`fault: ${node.name}'s clock jumps to ${node.clock.offsetMs} ms off`);
  }

  #breakLink(kind: "cut" | "one-way" | "split" | "flap" | "slow", node: SimNode, other: SimNode, others: readonly SimNode[]): void {
    const { network, nodes } = this.#federation;
    if (kind === "cut") {
      network.cutBoth(node.id, other.id);
      this.#heals(`${node.name} and ${other.name} are cut off from each other`, () => this.#healBoth(node, other));
    } else if (kind === "one-way") {
      network.cut(node.id, other.id);
      this.#heals(`${node.name} cannot reach ${other.name}`, () => network.heal(node.id, other.id));
    } else if (kind === "split") {
      const alone = [node, ...others.slice(0, this.#rng.int(Math.max(1, Math.floor(nodes.length / 2))))];
      const pairs = alone.flatMap((a) => nodes.filter((b) => !alone.includes(b)).map((b) => [a, b] as const));
      for (const [a, b] of pairs) network.cutBoth(a.id, b.id);
      // Links come back one by one, in another order than they went.
      this.#heals(`${alone.map((one) => one.name).join(", ")} against the rest`, () => {
        for (const [a, b] of this.#rng.shuffle(pairs)) this.#scheduler.after(this.#rng.exponential(200), () => this.#healBoth(a, b));
      });
    } else if (kind === "slow") {
      network.setLink(node.id, other.id, { delayMs: this.#rng.between(20, 400), jitterMs: this.#rng.between(1, 200) });
      this.#heals(`${node.name} to ${other.name} is slow`, () => network.setLink(node.id, other.id, network.settings.link));
    } else {
      this.#scheduler.note(`fault: the link ${node.name} - ${other.name} flaps`);
      this.#flap(node, other, 2 + this.#rng.int(5));
    }
  }

  #crash(node: SimNode, how: "kill" | "power"): void {
    if (!node.running) return;
    this.#federation.crash(node, how);
    this.#scheduler.after(this.#duration(), () => this.#federation.start(node));
  }

  #flap(a: SimNode, b: SimNode, times: number): void {
    if (this.#stopped) return;
    this.#federation.network.cutBoth(a.id, b.id);
    this.#scheduler.after(this.#rng.exponential(800), () => {
      this.#healBoth(a, b);
      if (times > 1) this.#scheduler.after(this.#rng.exponential(800), () => this.#flap(a, b, times - 1));
    });
  }

  #healBoth(a: SimNode, b: SimNode): void {
    this.#federation.network.heal(a.id, b.id);
    this.#federation.network.heal(b.id, a.id);
  }

  #heals(what: string, heal: () => void): void {
    this.#scheduler.note(`fault: ${what}`);
    this.#scheduler.after(this.#duration(), () => {
      if (this.#stopped) return;
      this.#scheduler.note(`healed: ${what}`);
      heal();
    });
  }

  #duration(): number {
    return this.#rng.exponential(this.#settings.lastsMs);
  }
}
