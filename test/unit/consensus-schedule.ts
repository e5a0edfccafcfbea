/**
 * The decision of layout versions under a random schedule: every step is one chance event (a message delivered, doubled or dropped, a disk write done, a
 * clock moved, a power cut, a lost disk, evidence of one, an operator's wish), drawn from one seed. Then the faults heal, and everybody must come to
 * rest on the same version, done, with every lost disk listed again. Harsher than a network of connections: messages outlive the incarnation that sent
 * them. Milder in one thing: fewer than a quorum of the first voters ever lose their disks, for otherwise a decision may be forgotten by all who knew.
 */
import { decodeWire } from "../../protocol/codec.ts";
import type { Consensus, ConsensusEffect, ConsensusInput, ConsensusOptions } from "../../protocol/consensus.ts";
import { type ConsensusMessage, decodeConsensusMessage, encodeConsensusMessage } from "../../protocol/consensus-message.ts";
import type { FederationId, Incarnation, NodeId } from "../../protocol/ids.ts";
import { decodeLayout, encodeLayout, type Layout, layoutHash, layoutOf, type Member, memberOf, votersOf } from "../../protocol/layout.ts";
import { type Change, done, joint, ownersAfter, relisted, staged, stepBetween, stopped } from "../../protocol/layout-change.ts";
import { CONSENSUS_STATE_MAX_BYTES } from "../../protocol/limits.ts";
import { chanceOf } from "./formation-schedule.ts";

export type ConsensusClass = new (options: ConsensusOptions) => Consensus;
export type Verdict = "at rest" | "two layouts" | "not a step" | "a living member was unlisted" | "unreadable" | "stuck";

interface Machine {
  readonly name: string;
  readonly node: NodeId;
  /** All it ever had, the living one last. */
  readonly incarnations: Incarnation[];
  /** What the driver keeps beside the state of the consensus, and persists before it is fed back. */
  layout: Layout;
  disk: Uint8Array | undefined;
  running: Consensus | undefined;
  writing: { readonly id: number; readonly state: Uint8Array } | undefined;
  adopting: Layout | undefined;
  now: number;
  /** What it was told of lost members, for its wishes; forgotten at a restart, as the consensus forgets it. */
  known: Map<string, Incarnation>;
  wished: { readonly running: Consensus | undefined; readonly layout: Layout; readonly about: string } | undefined;
}

interface Letter {
  readonly sender: Machine;
  /** As which it was sent. */
  readonly from: Member["writer"];
  readonly to: NodeId;
  readonly kind: "consensus" | "layout";
  readonly bytes: Uint8Array;
}

/** How often each event happens, before a seed makes some of them up to eight times more or less frequent. */
const WEIGHTS = {
  deliver: 40,
  "deliver twice": 5,
  drop: 4,
  written: 30,
  adopt: 2,
  tick: 14,
  "tick late": 5,
  wish: 8,
  evidence: 8,
  "false alarm": 1.5,
  seen: 1,
  "may vote": 2,
  "power cut": 4,
  "lose disk": 1.5,
  start: 8,
  cut: 5,
  join: 3,
};
type Event = keyof typeof WEIGHTS;
const EVENTS = Object.keys(WEIGHTS) as Event[];

/** In some of the schedules all want something else at the same time, nobody loses a disk, and no decision is adopted before the faults heal. */
const CROWD_WEIGHTS = { adopt: 0, wish: 0, evidence: 0, "false alarm": 0, seen: 0, "may vote": 0, "lose disk": 0, "tick late": 4, start: 30 };

const NAMES = ["alice", "bob", "carol", "dave", "erin", "frank"];
const HEAL_ROUNDS_MAX = 2_000;
const LETTERS_MAX = 300;

export class ConsensusSchedule {
  readonly #chance: () => number;
  readonly #machineClass: ConsensusClass;
  readonly #crowd: boolean;
  readonly #machines: Machine[];
  readonly #base: Layout;
  /** Who may lose a disk, and who may believe that somebody did without it being so. */
  readonly #lossy: readonly Machine[];
  readonly #gullible: Machine;
  /** Whether operators still wish something while the faults heal. */
  readonly #wishing: boolean;
  readonly #weights: Readonly<Record<Event, number>>;
  /** Every version that was decided, and the one it all began with, by number. */
  readonly #versions = new Map<number, Layout>();
  #verdict: Verdict | undefined;
  #letters: Letter[] = [];
  /** Whose letters, to and from, are held up. */
  readonly #alone = new Set<Machine>();
  /** Rounds of the healed phase that were needed. */
  rounds = 0;

  constructor(seed: number, machineClass: ConsensusClass) {
    this.#chance = chanceOf(seed);
    this.#machineClass = machineClass;
    this.#crowd = this.#chance() < 0.3;
    const spread = this.#crowd ? 3 : 8;
    const weights = this.#crowd ? { ...WEIGHTS, ...CROWD_WEIGHTS } : WEIGHTS;
    this.#weights = Object.fromEntries(EVENTS.map((event) => [event, weights[event] * spread ** (2 * this.#chance() - 1)])) as Record<Event, number>;
    const count = this.#pick(this.#crowd ? [3, 3, 3, 4, 5] : [1, 2, 2, 3, 3, 3, 4, 4, 5]);
    const identities = NAMES.map((name) => ({ name, node: `node-of-${name}` as NodeId, incarnations: [this.#hex() as Incarnation] }));
    const members = identities.slice(0, count).map(({ name, node, incarnations }) => this.#member(name, node, incarnations[0]!));
    const first = layoutOf({
      version: 1,
      federation: "fe".repeat(16) as FederationId,
      replicationFactor: 2,
      resonanceDecay: 0.85,
      hebbianRate: 0.15,
      periodMs: 1000,
      members,
    });
    const joiner = identities[count]!;
    const member = this.#member(joiner.name, joiner.node, joiner.incarnations[0]!);
    const stage = staged(first, ownersAfter(first, { op: "add", member })!, "c0");
    this.#base = this.#crowd ? first : this.#pick([first, first, stage, joint(stage)]);
    this.#versions.set(this.#base.version, this.#base);
    this.#machines = identities.slice(0, count + 1).map((identity) => ({
      ...identity,
      layout: this.#base,
      disk: undefined,
      running: undefined,
      writing: undefined,
      adopting: undefined,
      now: 0,
      known: new Map(),
      wished: undefined,
    }));
    const keepers = Math.floor(count / 2) + 1;
    const drawn = this.#machines.slice(0, count).sort(() => this.#chance() - 0.5);
    this.#lossy = drawn.slice(0, Math.min(count - 1, keepers - 1));
    this.#gullible = this.#pick(this.#machines);
    this.#wishing = this.#chance() < 0.7;
    for (const machine of this.#machines) this.#start(machine);
  }

  run(): Verdict {
    const steps = 50 + Math.floor(this.#chance() * 750);
    for (let step = 0; step < steps; step++) {
      this.#events[this.#draw()](this.#pick(this.#machines), this.#pick(this.#machines));
      if (this.#verdict !== undefined) return this.#verdict;
    }
    return this.#heal();
  }

  readonly #events: Readonly<Record<Event, (machine: Machine, other: Machine) => void>> = {
    deliver: () => this.#deliver(false),
    "deliver twice": () => this.#deliver(true),
    drop: () => this.#drop(),
    written: () => this.#writtenOne(),
    adopt: (machine) => this.#adopt(machine),
    tick: (machine) => this.#tick(machine, 50 + this.#chance() * 1_500),
    "tick late": (machine) => {
      // Long enough for a pause to be drawn, and over.
      this.#tick(machine, 60_000);
      this.#tick(machine, 60_000);
    },
    wish: (machine) => this.#wish(machine, this.#drawWish(machine)),
    evidence: (machine, other) => this.#showLoss(machine, other),
    "false alarm": (_, other) => this.#falseAlarm(other),
    seen: (machine, other) => this.#see(machine, other),
    "may vote": (machine) => this.#step(machine, { type: "may vote", mayVote: this.#chance() < 0.8 }),
    "power cut": (machine) => this.#powerCut(machine),
    "lose disk": (machine) => this.#loseDisk(machine),
    start: (machine) => this.#start(machine),
    cut: (machine) => this.#alone.add(machine),
    join: (machine) => this.#alone.delete(machine),
  };

  #draw(): Event {
    let dice = this.#chance() * EVENTS.reduce((sum, event) => sum + this.#weights[event], 0);
    for (const event of EVENTS) {
      dice -= this.#weights[event];
      if (dice < 0) return event;
    }
    return "tick";
  }

  #heal(): Verdict {
    this.#alone.clear();
    for (this.rounds = 1; this.rounds <= HEAL_ROUNDS_MAX; this.rounds++) {
      for (const machine of this.#machines) {
        this.#start(machine);
        this.#step(machine, { type: "may vote", mayVote: true });
        for (const other of this.#machines) {
          this.#see(machine, other);
          this.#showLoss(machine, other);
        }
        this.#wishLast(machine);
        this.#tick(machine, 100);
      }
      for (let count = this.#letters.length; count > 0; count--) this.#deliver(false);
      for (const machine of this.#machines) {
        this.#written(machine);
        this.#adopt(machine);
        this.#hail(machine);
      }
      if (this.#verdict !== undefined) return this.#verdict;
      if (this.#isAtRest()) return "at rest";
    }
    return "stuck";
  }

  #isAtRest(): boolean {
    const { layout } = this.#machines[0]!;
    const hash = hashOf(layout);
    return (
      this.#letters.length === 0 &&
      (!this.#wishing || (layout.version > this.#base.version && layout.phase === "done")) &&
      this.#machines.every((machine) => hashOf(machine.layout) === hash && !holdsAccepted(machine)) &&
      votersOf(layout).every(({ name, incarnation }) => this.#named(name).incarnations.at(-1) === incarnation)
    );
  }

  // Machines.

  #start(machine: Machine): void {
    if (machine.running !== undefined) return;
    machine.now = Math.floor(this.#chance() * 1e6);
    machine.known = new Map();
    const self = this.#member(machine.name, machine.node, machine.incarnations.at(-1)!).writer;
    machine.running = new this.#machineClass({ self, layout: machine.layout, persisted: machine.disk });
    if (this.#crowd || this.#chance() < 0.9) this.#step(machine, { type: "may vote", mayVote: true });
    if (this.#crowd) this.#wish(machine, { layout: this.#change(machine), without: "" });
    else if (this.#chance() < 0.8) this.#wish(machine, this.#drawWish(machine));
  }

  #powerCut(machine: Machine): void {
    this.#stop(machine);
    if (this.#chance() < 0.5) this.#start(machine);
  }

  #stop(machine: Machine): void {
    // What was being written may be there or not.
    if (machine.writing !== undefined && this.#chance() < 0.5) machine.disk = machine.writing.state;
    if (machine.adopting !== undefined && this.#chance() < 0.5) machine.layout = machine.adopting;
    machine.writing = undefined;
    machine.adopting = undefined;
    machine.running = undefined;
  }

  #loseDisk(machine: Machine): void {
    if (!this.#lossy.includes(machine)) return;
    this.#stop(machine);
    machine.disk = undefined;
    // As a gateway it holds whatever layout a member told it.
    machine.layout = this.#base;
    machine.incarnations.push(this.#hex() as Incarnation);
    this.#start(machine);
  }

  #tick(machine: Machine, ms: number): void {
    machine.now += ms;
    this.#step(machine, { type: "tick", now: machine.now, random: this.#chance() });
  }

  #writtenOne(): void {
    const writing = this.#machines.filter((machine) => machine.writing !== undefined);
    if (writing.length > 0) this.#written(this.#pick(writing));
  }

  #written(machine: Machine): void {
    if (machine.running === undefined || machine.writing === undefined) return;
    const { id, state } = machine.writing;
    machine.disk = state;
    machine.writing = undefined;
    this.#step(machine, { type: "persisted", id });
  }

  #adopt(machine: Machine): void {
    if (machine.running === undefined || machine.adopting === undefined) return;
    const layout = machine.adopting;
    machine.layout = layout;
    machine.adopting = undefined;
    for (const [name, incarnation] of machine.known) {
      const listed = votersOf(layout).find((voter) => voter.name === name);
      if (listed === undefined || listed.incarnation === incarnation) machine.known.delete(name);
    }
    this.#step(machine, { type: "layout", layout });
    this.#hail(machine);
  }

  /** Tells everybody which version it is on. */
  #hail(machine: Machine): void {
    for (const other of this.#machines)
      if (other.layout.version < machine.layout.version) this.#post(machine, other.node, "layout", encodeLayout(machine.layout));
  }

  // Evidence.

  /** `machine` learns that the disk of `other` is lost, if it is: perhaps not of the latest loss. */
  #showLoss(machine: Machine, other: Machine): void {
    const listed = votersOf(machine.layout).find(({ name }) => name === other.name);
    if (machine.running === undefined || listed === undefined || listed.incarnation === other.incarnations.at(-1)) return;
    const later = other.incarnations.slice(other.incarnations.indexOf(listed.incarnation) + 1);
    const incarnation = this.rounds > 0 ? later.at(-1)! : this.#pick(later);
    machine.known.set(other.name, incarnation);
    this.#step(machine, { type: "fresh", name: other.name, node: other.node, incarnation });
  }

  /** One alone is wrong about a loss. Two of two are not enough to notice. */
  #falseAlarm(other: Machine): void {
    const { running, layout } = this.#gullible;
    if (running === undefined || layout.members.length < 3 || !votersOf(layout).some(({ name }) => name === other.name)) return;
    const incarnation = this.#hex() as Incarnation;
    this.#gullible.known.set(other.name, incarnation);
    this.#step(this.#gullible, { type: "fresh", name: other.name, node: other.node, incarnation });
  }

  #see(machine: Machine, other: Machine): void {
    const listed = votersOf(machine.layout).find(({ name }) => name === other.name);
    if (listed?.incarnation !== other.incarnations.at(-1)) return;
    machine.known.delete(other.name);
    this.#step(machine, { type: "seen", name: other.name });
  }

  // Wishes.

  #wish(machine: Machine, wish: { layout: Layout | undefined; without: string }): void {
    this.#step(machine, { type: "want", ...wish });
  }

  #drawWish(machine: Machine): { layout: Layout | undefined; without: string } {
    const { layout, known } = machine;
    if (known.size > 0 && this.#chance() < 0.8) return relistingOf(layout, this.#pick([...known]));
    const nothing = (): undefined => undefined;
    const plain: readonly (() => Layout | undefined)[] =
      layout.phase === "done"
        ? [nothing, () => this.#change(machine), () => this.#change(machine), () => joint(this.#change(machine))]
        : layout.phase === "staged"
          ? [nothing, () => joint(layout), () => joint(layout), () => stopped(layout), () => done(layout)]
          : [nothing, () => done(layout), () => done(layout), () => stopped(layout)];
    return { layout: this.#pick(plain)(), without: "" };
  }

  /** What an operator and the lost disks ask for in the end; said again only when it is another. */
  #wishLast(machine: Machine): void {
    const about = JSON.stringify([...machine.known].sort());
    const { running, layout, wished } = machine;
    if (wished?.running === running && wished?.layout === layout && wished.about === about) return;
    machine.wished = { running, layout, about };
    this.#wish(machine, this.#lastWish(machine));
  }

  #lastWish({ name, layout, known }: Machine): { layout: Layout | undefined; without: string } {
    const lost = [...known].sort()[0];
    if (lost !== undefined && lost[0] !== name) return relistingOf(layout, lost);
    if (!this.#wishing) return { layout: undefined, without: "" };
    if (layout.phase === "staged") return { layout: joint(layout), without: "" };
    if (layout.phase === "joint") return { layout: done(layout), without: "" };
    return { layout: layout.version === this.#base.version ? this.#change(this.#named(name)) : undefined, without: "" };
  }

  /** A change that nobody else asks for. */
  #change({ name, layout }: Machine): Layout {
    const target = this.#pick(layout.members);
    const changes: readonly Change[] = [
      { op: "weight", name: target.name, weight: target.weight + 1 },
      { op: "zone", name: target.name, zone: `${target.zone}.`.slice(-63) },
    ];
    return staged(layout, ownersAfter(layout, this.#pick(changes))!, `of-${name}-${layout.version}`);
  }

  // Messages.

  #post(from: Machine, to: NodeId, kind: Letter["kind"], bytes: Uint8Array): void {
    if (this.#letters.length >= LETTERS_MAX) this.#drop();
    const { writer } = this.#member(from.name, from.node, from.incarnations.at(-1)!);
    this.#letters.push({ sender: from, from: writer, to, kind, bytes });
  }

  #deliver(again: boolean): void {
    const letter = this.#takeLetter(again);
    const machine = letter && this.#machines.find(({ node }) => node === letter.to);
    if (letter === undefined || machine === undefined) return;
    if (machine.running === undefined || this.#alone.has(machine) || this.#alone.has(letter.sender)) {
      if (!again && this.#chance() < 0.9) this.#letters.push(letter);
      return;
    }
    if (letter.kind === "layout") {
      const layout = decodeLayout(letter.bytes);
      if (layout.version > machine.layout.version && layout.version > (machine.adopting?.version ?? 0)) machine.adopting = layout;
      return;
    }
    const message = this.#read(letter.bytes);
    if (message === undefined) return;
    if (message.version <= machine.layout.version) this.#hail(machine);
    this.#step(machine, { type: "message", from: letter.from, message });
  }

  #read(bytes: Uint8Array): ConsensusMessage | undefined {
    try {
      return decodeConsensusMessage(bytes);
    } catch {
      this.#verdict = "unreadable";
      return undefined;
    }
  }

  #drop(): void {
    this.#takeLetter(false);
  }

  #takeLetter(keep: boolean): Letter | undefined {
    const index = Math.floor(this.#chance() * this.#letters.length);
    return keep ? this.#letters[index] : this.#letters.splice(index, 1)[0];
  }

  #step(machine: Machine, input: ConsensusInput): void {
    const { running } = machine;
    if (running === undefined) return;
    for (const effect of running.step(input)) if (machine.running === running) this.#perform(machine, effect);
  }

  #perform(machine: Machine, effect: ConsensusEffect): void {
    switch (effect.type) {
      case "persist":
        if (machine.writing !== undefined) throw new Error("two states are being written at once");
        machine.writing = { id: effect.id, state: effect.state };
        break;
      case "send":
        this.#post(machine, effect.to, "consensus", encodeConsensusMessage(effect.message));
        if (this.#crowd) this.#strike(machine, effect.message.type);
        break;
      case "decided":
        this.#judge(effect.layout);
        if (effect.layout.version > (machine.adopting?.version ?? 0)) machine.adopting = effect.layout;
        break;
    }
  }

  /** A fault just when it hurts: once a value is chosen, and once a promise is given. */
  #strike(machine: Machine, type: ConsensusMessage["type"]): void {
    if (this.rounds > 0) return;
    if (type === "propose" && this.#chance() < 0.3) this.#alone.add(machine);
    if ((type === "promise" || type === "yes") && this.#chance() < 0.1) this.#powerCut(machine);
  }

  #judge(layout: Layout): void {
    const known = this.#versions.get(layout.version);
    if (known !== undefined) {
      if (hashOf(known) !== hashOf(layout)) this.#verdict = "two layouts";
      return;
    }
    this.#versions.set(layout.version, layout);
    const before = this.#versions.get(layout.version - 1);
    const step = before && stepBetween(before, layout);
    if (before === undefined || step === undefined) {
      this.#verdict = "not a step";
    } else if (step.without !== "") {
      const lost = votersOf(before).find(({ name }) => name === step.without)!;
      if (this.#named(lost.name).incarnations.at(-1) === lost.incarnation) this.#verdict = "a living member was unlisted";
    }
  }

  #member(name: string, node: NodeId, incarnation: Incarnation): Member {
    return memberOf({ node, name, incarnation, zone: "", weight: 1 });
  }

  #named(name: string): Machine {
    return this.#machines.find((machine) => machine.name === name)!;
  }

  #pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.#chance() * from.length)]!;
  }

  #hex(): string {
    return Array.from({ length: 32 }, () => Math.floor(this.#chance() * 16).toString(16)).join("");
  }
}

function relistingOf(layout: Layout, [name, incarnation]: readonly [string, Incarnation]): { layout: Layout; without: string } {
  return { layout: relisted(layout, name, { node: `node-of-${name}` as NodeId, incarnation }), without: name };
}

/** Whether a listed machine's disk keeps a yes about the version it is to have next: something is half decided. */
function holdsAccepted({ disk, layout, name, incarnations }: Machine): boolean {
  const listed = votersOf(layout).some((voter) => voter.name === name && voter.incarnation === incarnations.at(-1));
  if (disk === undefined || !listed) return false;
  const [, , previous, , accepted] = decodeWire(disk, CONSENSUS_STATE_MAX_BYTES) as readonly unknown[];
  return previous === hashOf(layout) && accepted !== null;
}

/** Layouts are frozen, and asked for their hash at every step. */
function hashOf(layout: Layout): string {
  let hash = hashes.get(layout);
  if (hash === undefined) {
    hash = layoutHash(layout);
    hashes.set(layout, hash);
  }
  return hash;
}
const hashes = new WeakMap<Layout, string>();
