import type { Death, EffectAt, EffectOn, Federation, SimNode } from "./federation.ts";
import type { Operator } from "./operator.ts";
import type { Rng } from "./rng.ts";
import type { Fault, FaultKind } from "./schedule.ts";
import type { Scheduler } from "./scheduler.ts";
import type { DiskCopy } from "./sim-disk.ts";
import type { LinkSettings } from "./sim-network.ts";
import { stepsAt } from "./steps.ts";

/** A fault while it lasts, for those who count what it met. */
export interface ActiveFault {
  readonly kind: FaultKind;
  /** Nodes it happens to; of a broken link both ends. */
  readonly nodes: readonly SimNode[];
  /** It is over in the moment it happens. */
  readonly instant: boolean;
  /** It happens to what crosses between them, not to themselves. */
  readonly link: boolean;
}

const OF_LINKS: ReadonlySet<FaultKind> = new Set<FaultKind>(["cut", "one-way", "split", "flap", "slow", "trickle", "link-stall", "release"]);

/** Makes the faults of a list happen until `stop`; then everything is healed, and every node runs. */
export class Faults {
  readonly #scheduler: Scheduler;
  readonly #rng: Rng;
  readonly #federation: Federation;
  readonly #operators: Partial<Record<FaultKind, Operator>>;
  #strikes: { readonly node: SimNode; readonly effect: NonNullable<Fault["effect"]>; left: number; readonly fault: Fault; readonly rng: Rng }[] = [];
  readonly #copies = new Map<SimNode, DiskCopy>();
  #twins: SimNode[] = [];
  #stopped = false;
  /** Disks may be lost: a strike then takes the disk along as often as not. */
  readonly #disksLost: boolean;
  onBegin: (fault: ActiveFault) => void = () => {};
  onEnd: (fault: ActiveFault) => void = () => {};
  /** A node dies at this effect of its own: just before it, when it is under way nowhere yet. */
  onStrike: (node: SimNode, what: EffectOn) => void = () => {};

  constructor(scheduler: Scheduler, rng: Rng, federation: Federation, disksLost: boolean, operators: Partial<Record<FaultKind, Operator>> = {}) {
    this.#scheduler = scheduler;
    this.#rng = rng;
    this.#federation = federation;
    this.#disksLost = disksLost;
    this.#operators = operators;
  }

  start(faults: readonly Fault[]): void {
    const begun = this.#scheduler.now;
    for (const fault of faults) this.#scheduler.at(begun + fault.at, () => this.#happen(fault));
    if (faults.some((fault) => fault.effect !== undefined)) this.#federation.onEffect = (node, at, what) => this.#effect(node, at, what);
    this.#federation.onCorrupt = (node) => this.#replaceDisk(node);
  }

  stop(): void {
    this.#stopped = true;
    this.#strikes = [];
    this.#scheduler.note("---- faults end: everything heals ----");
    const { network, nodes } = this.#federation;
    this.#federation.onEffect = () => {};
    for (const twin of this.#twins) this.#retire(twin);
    for (const node of nodes) {
      this.#federation.resume(node);
      node.clock.correct();
      node.disk.setFull(false);
      node.disk.setUnreadable(false);
    }
    this.#mendDisks();
    network.healAll();
    network.calm();
    for (const node of nodes) this.#federation.start(node);
  }

  #happen(fault: Fault): void {
    if (this.#stopped) return;
    const { nodes } = this.#federation;
    const node = nodes[fault.node % nodes.length] as SimNode;
    const other = nodes[fault.other % nodes.length] as SimNode;
    const rng = this.#rng.fork(`fault ${fault.n}`);
    if (fault.effect !== undefined) this.#strikes.push({ node, effect: fault.effect, left: fault.effect.skip, fault, rng });
    else if (!this.#toProcess(fault, node, rng) && !this.#toDisk(fault, node, rng) && !this.#toClock(fault, node, rng) && node !== other)
      this.#toLink(fault, node, other, rng);
  }

  // ---- processes -----------------------------------------------------------------------------------------------

  #toProcess(fault: Fault, node: SimNode, rng: Rng): boolean {
    const { kind, lastsMs } = fault;
    if (kind === "kill" || kind === "power" || kind === "torn") this.#crash(kind, node, kind, lastsMs);
    else if (kind === "blackout") for (const one of this.#federation.nodes) this.#crash(kind, one, "power", lastsMs);
    else if (kind === "pause") {
      if (!node.running || node.pause.holds) return true;
      this.#federation.pause(node, rng.chance(0.3));
      const { generation } = node;
      this.#lasts(kind, [node], lastsMs, () => {
        if (node.generation === generation) this.#federation.resume(node);
      });
    } else if (this.#operators[kind] !== undefined) {
      this.#instant(kind, [node]);
      this.#operators[kind].act(fault, node);
    } else return false;
    return true;
  }

  #crash(kind: FaultKind, node: SimNode, how: Death, downMs: number): void {
    if (!node.running) return;
    this.#instant(kind, [node]);
    this.#federation.crash(node, how);
    this.#scheduler.after(downMs, () => this.#federation.start(node));
  }

  /** Between two effects of a node: the first strike that waits for this one lets it happen no more. */
  #effect(node: SimNode, at: EffectAt, what: EffectOn): void {
    const mine = this.#strikes.filter((one) => one.node === node && one.effect.when === at.when);
    if (mine.length === 0) return;
    const steps = stepsAt(what, node.process?.engine.writer);
    const strike = mine.find(({ effect }) => (effect.step === undefined ? effect.kind === at.kind : steps.includes(effect.step)));
    if (strike === undefined || strike.left-- > 0) return;
    this.#strikes = this.#strikes.filter((one) => one !== strike);
    this.#scheduler.note(
      `fault: ${node.name} dies ${at.when} ${EFFECT_WORDS[at.kind]}${strike.effect.step === undefined ? "" : ` (${strike.effect.step})`}`,
    );
    const { rng, fault } = strike;
    this.onStrike(node, what);
    if (this.#disksLost && rng.chance(0.5) && this.#mayLose(node)) this.#loseDisk("lose-disk", node, fault.lastsMs);
    else this.#crash("strike", node, rng.pick(["kill", "power", "torn"] as const), fault.lastsMs);
  }

  // ---- disks ---------------------------------------------------------------------------------------------------

  #toDisk(fault: Fault, node: SimNode, rng: Rng): boolean {
    const { kind, lastsMs } = fault;
    const { disk } = node;
    if (kind === "eio") {
      this.#note(`${node.name}'s next fsync fails`);
      this.#instant(kind, [node]);
      disk.failNextSync();
    } else if (kind === "disk-stall") {
      disk.stall(lastsMs);
      this.#lasts(kind, [node], lastsMs, () => {}, `${node.name}'s disk stalls`);
    } else if (kind === "read-eio") {
      disk.setUnreadable(true);
      this.#lasts(kind, [node], lastsMs, () => disk.setUnreadable(false), `${node.name}'s disk cannot be read`);
    } else if (kind === "full") {
      disk.setFull(true);
      this.#lasts(kind, [node], lastsMs, () => disk.setFull(false), `${node.name}'s disk is full`);
    } else if (kind === "flip") {
      if (!this.#mayLie(node)) return true;
      this.#instant(kind, [node]);
      this.#note(`a bit turns on ${node.name}'s disk, in ${disk.flip(rng) ?? "nothing"}`);
      this.#scheduler.after(rng.exponential(3000), () => this.#federation.scrub(node));
    } else if (kind === "log-rot") {
      if (!this.#mayLie(node)) return true;
      this.#crash(kind, node, "kill", lastsMs);
      if (!node.running && this.#federation.rotLog(node, rng)) this.#note(`a record of ${node.name}'s log is bad`);
    } else if (kind === "lose-disk") {
      if (this.#mayLose(node)) this.#loseDisk(kind, node, lastsMs);
    } else if (kind === "restore") this.#restore(node, lastsMs);
    else if (kind === "clone") this.#clone(node);
    else return false;
    return true;
  }

  /**
   * While layout 1 is formed never the last node's: one name that keeps its disk is what a decision lives on. Later one at a time, and only when all others
   * run and count, and none has a disk that lies: what quorum promises is to survive the loss of one.
   */
  #mayLose(node: SimNode): boolean {
    const { nodes } = this.#federation;
    // What a node held that was shut out is given up: that is one disk already.
    if (nodes.some(({ revoked }) => revoked)) return false;
    if (this.#disksLost) return node !== nodes.at(-1);
    const isWhole = ({ process, disk }: SimNode): boolean => process?.engine.replica?.damagedCopies().length === 0 && !disk.lies;
    const counts = ({ process }: SimNode): boolean => process?.engine.replica?.standing === "counting";
    return nodes.length > 2 && nodes.every((one) => counts(one) && (one === node || isWhole(one)));
  }

  /** A copy that lies is as good as lost; two at a time are more than a quorum survives. */
  #mayLie(node: SimNode): boolean {
    return this.#mayLose(node) && !node.disk.lies;
  }

  /** What lies may not have been read yet. All copies are, and what is no copy, or was dropped in silence, means another disk. */
  #mendDisks(): void {
    const { nodes } = this.#federation;
    for (const node of nodes) if (node.disk.rotten) this.#replaceDisk(node);
    this.#scheduler.after(SCRUB_AFTER_MS, () => {
      for (const node of nodes) if (node.disk.lies) this.#federation.scrub(node);
    });
    this.#scheduler.after(SCRUB_AFTER_MS + MENDED_AFTER_MS, () => {
      for (const node of nodes) if (node.disk.lies) this.#replaceDisk(node);
    });
  }

  #loseDisk(kind: FaultKind, node: SimNode, downMs: number): void {
    if (!node.running) return;
    this.#crash(kind, node, "power", downMs);
    this.#federation.loseDisk(node);
    this.#note(`${node.name} has lost its disk`);
  }

  #replaceDisk(node: SimNode): void {
    this.#federation.crash(node, "kill");
    this.#federation.loseDisk(node);
    this.#note(`${node.name}'s disk lied; it is replaced by an empty one`);
    this.#scheduler.after(500, () => this.#federation.start(node));
  }

  /** The first time a copy is taken; the next time it comes back, behind the node's back. */
  #restore(node: SimNode, downMs: number): void {
    const copy = this.#copies.get(node);
    if (copy === undefined) {
      if (node.disk.lies) return;
      this.#note(`somebody copies ${node.name}'s disk`);
      this.#copies.set(node, node.disk.copy());
      return;
    }
    if (!this.#mayLose(node)) return;
    this.#crash("restore", node, "kill", downMs);
    if (node.running) return;
    this.#federation.restore(node, copy);
    this.#note(`${node.name}'s disk is an old copy of itself`);
  }

  #clone(node: SimNode): void {
    if (this.#twins.length > 0 || node.revoked || node.disk.lies) return;
    this.#note(`${node.name}'s disk is copied into a second machine, and both run`);
    this.#instant("clone", [node]);
    const twin = this.#federation.clone(node);
    this.#twins.push(twin);
    this.#federation.start(twin);
  }

  #retire(twin: SimNode): void {
    this.#federation.crash(twin, "kill");
    this.#federation.remove(twin);
    this.#twins = this.#twins.filter((one) => one !== twin);
  }

  // ---- clocks --------------------------------------------------------------------------------------------------

  #toClock({ kind, lastsMs }: Fault, node: SimNode, rng: Rng): boolean {
    const { clock, name } = node;
    if (kind === "clock") {
      clock.offsetMs += rng.pick([-600_000, -5000, -50, 50, 5000, 600_000]);
      this.#instant(kind, [node]);
      this.#note(`${name}'s clock jumps to ${Math.round(clock.offsetMs)} ms off`);
    } else if (kind === "clock-stops") {
      clock.setRate(0);
      this.#lasts(kind, [node], lastsMs, () => clock.correct(), `${name}'s clock stands still`);
    } else if (kind === "drift") {
      const rate = rng.pick([0.5, 0.9, 1.1, 2]);
      clock.setRate(rate);
      this.#lasts(kind, [node], lastsMs, () => clock.setRate(1), `${name}'s clock runs at ${rate}`);
    } else if (kind === "skew") {
      clock.offsetMs = 3_600_000;
      this.#lasts(kind, [node], lastsMs, () => clock.correct(), `${name}'s clock is an hour ahead`);
    } else return false;
    return true;
  }

  // ---- links ---------------------------------------------------------------------------------------------------

  #toLink(fault: Fault, node: SimNode, other: SimNode, rng: Rng): void {
    const { kind, lastsMs } = fault;
    const { network } = this.#federation;
    if (kind === "cut") {
      network.cutBoth(node.id, other.id);
      this.#lasts(kind, [node, other], lastsMs, () => this.#healBoth(node, other), `${node.name} and ${other.name} are cut off from each other`);
    } else if (kind === "one-way") {
      network.cut(node.id, other.id);
      this.#lasts(kind, [node, other], lastsMs, () => network.heal(node.id, other.id), `${node.name} cannot reach ${other.name}`);
    } else if (kind === "link-stall") {
      for (const [from, to] of [
        [node, other],
        [other, node],
      ] as const)
        network.hold(from.id, to.id);
      this.#lasts(kind, [node, other], lastsMs, () => this.#healBoth(node, other), `nothing moves between ${node.name} and ${other.name}`);
    } else if (kind === "slow") {
      this.#slow(fault, node, other, { delayMs: rng.between(20, 400), jitterMs: rng.between(1, 200) }, "is slow");
    } else if (kind === "trickle") {
      const bytesPerMs = rng.pick([0.001, 0.02, 1, 20]);
      this.#slow(fault, node, other, { ...network.settings.link, bytesPerMs }, `carries ${bytesPerMs * 1000} bytes a second`);
    } else if (kind === "split") this.#split(fault, node, rng);
    else if (kind === "release") this.#release(fault, rng);
    else if (kind === "flap") {
      this.#note(`the link ${node.name} - ${other.name} flaps`);
      this.#flap(node, other, 2 + rng.int(5), rng);
    }
  }

  #slow({ kind, lastsMs }: Fault, node: SimNode, other: SimNode, settings: LinkSettings, what: string): void {
    const { network } = this.#federation;
    network.setLink(node.id, other.id, settings);
    this.#lasts(
      kind,
      [node, other],
      lastsMs,
      () => network.setLink(node.id, other.id, network.settings.link),
      `${node.name} to ${other.name} ${what}`,
    );
  }

  /** Links come back one by one, in another order than they went. */
  #split({ kind, lastsMs }: Fault, node: SimNode, rng: Rng): void {
    const { network, nodes } = this.#federation;
    const others = rng.shuffle(nodes.filter((one) => one !== node));
    const alone = [node, ...others.slice(0, rng.int(Math.max(1, Math.floor(nodes.length / 2))))];
    const pairs = alone.flatMap((a) => nodes.filter((b) => !alone.includes(b)).map((b) => [a, b] as const));
    for (const [a, b] of pairs) network.cutBoth(a.id, b.id);
    const heal = (): void => {
      for (const [a, b] of rng.shuffle(pairs)) this.#scheduler.after(rng.exponential(200), () => this.#healBoth(a, b));
    };
    this.#lasts(kind, nodes, lastsMs, heal, `${alone.map((one) => one.name).join(", ")} against the rest`);
  }

  /** All links stop one by one, each way by itself, and go on one by one in another order. */
  #release({ kind, lastsMs }: Fault, rng: Rng): void {
    const { network, nodes } = this.#federation;
    const ways = nodes.flatMap((from) => nodes.filter((to) => to !== from).map((to) => [from, to] as const));
    const step = lastsMs / ways.length;
    const all = { kind, nodes, instant: false, link: true };
    this.#note("links stop one by one, to be released in another order");
    this.onBegin(all);
    for (const [at, [from, to]] of rng.shuffle(ways).entries())
      this.#scheduler.after(at * step, () => {
        if (!this.#stopped) network.hold(from.id, to.id);
      });
    for (const [at, [from, to]] of rng.shuffle(ways).entries()) this.#scheduler.after(lastsMs + at * step, () => network.heal(from.id, to.id));
    this.#scheduler.after(2 * lastsMs, () => this.onEnd(all));
  }

  #flap(a: SimNode, b: SimNode, times: number, rng: Rng): void {
    if (this.#stopped) return;
    this.#federation.network.cutBoth(a.id, b.id);
    this.#lasts("flap", [a, b], rng.exponential(800), () => {
      this.#healBoth(a, b);
      if (times > 1) this.#scheduler.after(rng.exponential(800), () => this.#flap(a, b, times - 1, rng));
    });
  }

  #healBoth(a: SimNode, b: SimNode): void {
    this.#federation.network.heal(a.id, b.id);
    this.#federation.network.heal(b.id, a.id);
  }

  // ---- what all have in common ---------------------------------------------------------------------------------

  #note(what: string): void {
    this.#scheduler.note(`fault: ${what}`);
  }

  #instant(kind: FaultKind, nodes: readonly SimNode[]): void {
    this.onBegin({ kind, nodes, instant: true, link: false });
  }

  /** Ends by itself, or with everything. @param what a line of the story, at both ends */
  #lasts(kind: FaultKind, nodes: readonly SimNode[], ms: number, heal: () => void, what?: string): void {
    const active = { kind, nodes, instant: false, link: OF_LINKS.has(kind) };
    if (what !== undefined) this.#note(what);
    this.onBegin(active);
    this.#scheduler.after(ms, () => {
      this.onEnd(active);
      if (this.#stopped) return;
      if (what !== undefined) this.#scheduler.note(`healed: ${what}`);
      heal();
    });
  }
}

/** When everything has healed, nodes whose disks lie read all their copies; and what lies still after so long is replaced, ms. */
const SCRUB_AFTER_MS = 2_000;
const MENDED_AFTER_MS = 15_000;

const EFFECT_WORDS: Readonly<Record<EffectAt["kind"], string>> = {
  send: "a frame leaves",
  persist: "it asks for a write",
  durable: "a write completes",
  answer: "it answers a client",
};
