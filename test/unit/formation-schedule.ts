/**
 * Formation under a random schedule: every step is one chance event (a message delivered, doubled or dropped, a disk write done, a clock moved,
 * a link cut or joined, a power cut, a lost disk), drawn from one seed. Then the faults heal, and layout 1 must exist, once.
 * Harsher than a network of connections: messages outlive the connection and the incarnation that sent them. Milder in one thing: a name that
 * is `keeper` never loses its disk, for when all disks are lost the federation is gone, and a new one is right.
 */
import type { Formation, FormationEffect, FormationInput, FormationOptions } from "../../protocol/formation.ts";
import { decodeFormationMessage, encodeFormationMessage } from "../../protocol/formation-message.ts";
import type { FederationId, Incarnation, NodeId } from "../../protocol/ids.ts";
import { layoutHash } from "../../protocol/layout.ts";

export type FormationClass = new (options: FormationOptions) => Formation;
export type Verdict = "formed once" | "two federations" | "stuck";

interface Machine {
  readonly name: string;
  readonly node: NodeId;
  incarnation: Incarnation;
  disk: Uint8Array | undefined;
  running: Formation | undefined;
  writing: { readonly id: number; readonly state: Uint8Array } | undefined;
  now: number;
}

/** What `by` was told about a link and has not yet been told the end of. */
interface Heard {
  readonly by: Machine;
  readonly of: Machine;
  readonly incarnation: Incarnation;
  /** The link is gone, the news of it is on its way. */
  stale: boolean;
}

interface Letter {
  readonly from: NodeId;
  readonly to: NodeId;
  readonly bytes: Uint8Array;
}

/** How often each event happens, before a seed makes some of them up to eight times more or less frequent. */
const WEIGHTS = {
  deliver: 30,
  "deliver twice": 5,
  drop: 4,
  written: 25,
  tick: 12,
  "tick late": 3,
  connect: 14,
  cut: 1,
  "tell stale": 2,
  "power cut": 1.5,
  "lose disk": 1.5,
  start: 3,
};
type Event = keyof typeof WEIGHTS;
const EVENTS = Object.keys(WEIGHTS) as Event[];

const NAMES = ["alice", "bob", "carol", "dave", "erin"];
const HEAL_ROUNDS_MAX = 1_500;
const LETTERS_MAX = 400;

/** Deterministic chance in [0, 1): mulberry32. */
export function chanceOf(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class FormationSchedule {
  readonly #chance: () => number;
  readonly #machineClass: FormationClass;
  readonly #machines: Machine[];
  readonly #keeper: Machine;
  readonly #weights: Readonly<Record<Event, number>>;
  readonly #formedHashes = new Set<string>();
  #heard: Heard[] = [];
  #letters: Letter[] = [];
  /** Rounds of the healed phase that were needed. */
  rounds = 0;

  constructor(seed: number, machineClass: FormationClass) {
    this.#chance = chanceOf(seed);
    this.#machineClass = machineClass;
    this.#weights = Object.fromEntries(EVENTS.map((event) => [event, WEIGHTS[event] * 8 ** (2 * this.#chance() - 1)])) as Record<Event, number>;
    const count = this.#pick([1, 2, 2, 2, 3, 3, 3, 3, 4, 5]);
    this.#machines = NAMES.slice(0, count).map((name) => ({
      name,
      node: `node-of-${name}` as NodeId,
      incarnation: this.#hex() as Incarnation,
      disk: undefined,
      running: undefined,
      writing: undefined,
      now: 0,
    }));
    this.#keeper = this.#pick(this.#machines);
    for (const machine of this.#machines) this.#start(machine);
  }

  run(): Verdict {
    const steps = 50 + Math.floor(this.#chance() * 750);
    for (let step = 0; step < steps; step++) {
      this.#events[this.#draw()](this.#pick(this.#machines), this.#pick(this.#machines));
      if (this.#formedHashes.size > 1) return "two federations";
    }
    return this.#heal();
  }

  readonly #events: Readonly<Record<Event, (machine: Machine, other: Machine) => void>> = {
    deliver: () => this.#deliver(false),
    "deliver twice": () => this.#deliver(true),
    drop: () => this.#drop(),
    written: (machine) => this.#written(machine),
    tick: (machine) => this.#tick(machine, 50 + this.#chance() * 1_500),
    "tick late": (machine) => this.#tick(machine, 60_000),
    connect: (machine, other) => this.#connect(machine, other),
    cut: (machine, other) => this.#cut(machine, other),
    "tell stale": () => this.#tellStale(),
    "power cut": (machine) => this.#powerCut(machine),
    "lose disk": (machine) => this.#loseDisk(machine),
    start: (machine) => this.#start(machine),
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
    for (const machine of this.#machines) this.#start(machine);
    this.#tellStale();
    for (this.rounds = 1; this.rounds <= HEAL_ROUNDS_MAX; this.rounds++) {
      for (const one of this.#machines) for (const other of this.#machines) this.#connect(one, other);
      for (const machine of this.#machines) this.#tick(machine, 100);
      for (let count = this.#letters.length; count > 0; count--) this.#deliver(false);
      for (const machine of this.#machines) this.#written(machine);
      if (this.#formedHashes.size > 1) return "two federations";
      if (this.#machines.every((machine) => machine.running?.formed !== undefined)) return "formed once";
    }
    return "stuck";
  }

  #start(machine: Machine): void {
    if (machine.running !== undefined) return;
    machine.now = Math.floor(this.#chance() * 1e6);
    machine.running = new this.#machineClass({
      self: { node: machine.node, name: machine.name, incarnation: machine.incarnation, zone: "", weight: 1 },
      list: this.#machines.map(({ name }) => name),
      settings: { replicationFactor: 2, resonanceDecay: 0.85, hebbianRate: 0.15, periodMs: 1000 },
      federation: this.#hex() as FederationId,
      persisted: machine.disk,
    });
    this.#watch(machine);
  }

  #powerCut(machine: Machine): void {
    // What was being written may be there or not.
    if (machine.writing !== undefined && this.#chance() < 0.5) machine.disk = machine.writing.state;
    machine.writing = undefined;
    machine.running = undefined;
    this.#heard = this.#heard.filter(({ by }) => by !== machine);
    for (const heard of this.#heard) if (heard.of === machine) heard.stale = true;
    if (this.#chance() < 0.8) this.#tellStale();
  }

  #loseDisk(machine: Machine): void {
    if (machine === this.#keeper) return;
    this.#powerCut(machine);
    machine.disk = undefined;
    machine.incarnation = this.#hex() as Incarnation;
    this.#start(machine);
  }

  #connect(one: Machine, other: Machine): void {
    if (one === other || one.running === undefined || other.running === undefined) return;
    this.#hello(one, other);
    this.#hello(other, one);
  }

  #hello(by: Machine, of: Machine): void {
    const known = this.#heard.find((heard) => heard.by === by && heard.of === of && heard.incarnation === of.incarnation);
    if (known !== undefined && !known.stale) return;
    if (known === undefined) this.#heard.push({ by, of, incarnation: of.incarnation, stale: false });
    else known.stale = false;
    this.#step(by, { type: "peer", node: of.node, name: of.name, incarnation: of.incarnation, connected: true });
  }

  #cut(one: Machine, other: Machine): void {
    for (const heard of this.#heard) {
      if ((heard.by === one && heard.of === other) || (heard.by === other && heard.of === one)) heard.stale = true;
    }
    this.#tellStale();
  }

  #tellStale(): void {
    const stale = this.#heard.filter((heard) => heard.stale);
    this.#heard = this.#heard.filter((heard) => !heard.stale);
    for (const { by, of, incarnation } of stale) {
      this.#step(by, { type: "peer", node: of.node, name: of.name, incarnation, connected: false });
    }
  }

  #tick(machine: Machine, ms: number): void {
    machine.now += ms;
    this.#step(machine, { type: "tick", now: machine.now, random: this.#chance() });
  }

  #written(machine: Machine): void {
    if (machine.running === undefined || machine.writing === undefined) return;
    const { id, state } = machine.writing;
    machine.disk = state;
    machine.writing = undefined;
    this.#step(machine, { type: "persisted", id });
  }

  #deliver(again: boolean): void {
    const letter = this.#takeLetter(again);
    const machine = letter && this.#machines.find(({ node }) => node === letter.to);
    if (letter === undefined || machine === undefined) return;
    this.#step(machine, { type: "message", from: letter.from, message: decodeFormationMessage(letter.bytes) });
  }

  #drop(): void {
    this.#takeLetter(false);
  }

  #takeLetter(keep: boolean): Letter | undefined {
    const index = Math.floor(this.#chance() * this.#letters.length);
    return keep ? this.#letters[index] : this.#letters.splice(index, 1)[0];
  }

  #step(machine: Machine, input: FormationInput): void {
    if (machine.running === undefined) return;
    for (const effect of machine.running.step(input)) this.#perform(machine, effect);
    this.#watch(machine);
  }

  #perform(machine: Machine, effect: FormationEffect): void {
    switch (effect.type) {
      case "persist":
        if (machine.writing !== undefined) throw new Error("two states are being written at once");
        machine.writing = { id: effect.id, state: effect.state };
        break;
      case "send":
        if (this.#letters.length >= LETTERS_MAX) this.#drop();
        this.#letters.push({ from: machine.node, to: effect.to, bytes: encodeFormationMessage(effect.message) });
        break;
      case "formed":
        this.#formedHashes.add(layoutHash(effect.layout));
        break;
      case "refuse":
        if (effect.reason === "foreign_federation") this.#formedHashes.add(`foreign to ${machine.name}`);
        break;
    }
  }

  #watch(machine: Machine): void {
    if (machine.running?.formed !== undefined) this.#formedHashes.add(layoutHash(machine.running.formed));
  }

  #pick<T>(from: readonly T[]): T {
    return from[Math.floor(this.#chance() * from.length)]!;
  }

  #hex(): string {
    return Array.from({ length: 32 }, () => Math.floor(this.#chance() * 16).toString(16)).join("");
  }
}
