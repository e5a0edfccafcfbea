/**
 * A tiny federation for the rules of floors. Six members keep one partition: the replicas ann, ben, cat and fay, the witnesses dan and eve. Fay can be lost
 * and replaced by gus, who begins with nothing, in layout version 2. They create, retry, edit and delete memories, hand each other deltas and reports in any
 * order, and collect tombstones: at random, or as a schedule says. Real are the contributions, the merge, and the rounds; `weak` leaves one rule out.
 */
import { buildDelta, type Delta, genesisHash } from "../../protocol/delta.ts";
import { type FloorContribution, type FloorCut, FloorRounds, type FloorView, missingForFloor } from "../../protocol/floor.ts";
import { covers, type Frontier, raise } from "../../protocol/frontier.ts";
import type { RecordState } from "../../protocol/graph/apply.ts";
import { contribute } from "../../protocol/graph/contribute.ts";
import type { Contribution, Kind, Positions, RecordOf } from "../../protocol/graph/records.ts";
import type { WriterId } from "../../protocol/ids.ts";
import { Rng } from "../sim/rng.ts";
import { DECAY, keyNamed, PARTITION, START_MS, TENANT, writerNamed } from "./graph-executions.ts";
import { StateInMemory } from "./state-in-memory.ts";

export type Weakness =
  | "by age"
  | "one round"
  | "local, without a record"
  | "F is the proposer's own frontier"
  | "a round without the tombstone"
  | "applied before what it covers"
  | "drops every tombstone it finds"
  | "witnesses are not asked"
  | "a tombstone does not hold its key"
  | "what is edited is not looked up again"
  | "live pushes of an unlisted incarnation are taken"
  | "reports of an older layout version count"
  | "reports are put together from single heads";

interface Report {
  readonly layoutVersion: number;
  readonly frontier: Frontier;
}

class Member {
  readonly writer: WriterId;
  readonly isReplica: boolean;
  readonly state = new StateInMemory();
  readonly held = new Map<WriterId, number>();
  readonly erasedTo = new Map<WriterId, number>();
  layoutVersion = 1;
  isLost = false;
  /** As proposer: what has been told. */
  readonly reports = new Map<WriterId, Report>();
  rounds: FloorRounds | NaiveRounds | undefined;

  constructor(name: string, isReplica: boolean) {
    this.writer = writerNamed(name);
    this.isReplica = isReplica;
  }
}

export class FloorWorld {
  readonly members: readonly Member[];
  readonly violations: string[] = [];
  readonly story: string[] = [];
  readonly met = { floors: 0, retries: 0, erased: 0, applied: 0 };
  readonly #weak: Weakness | undefined;
  readonly #rng: Rng;
  readonly #log = new Map<WriterId, Delta[]>();
  #version = 1;
  #wall = START_MS;
  #keys = 0;
  #deeds = 0;

  constructor(seed: number, weak: Weakness | undefined) {
    this.#rng = new Rng(seed);
    this.#weak = weak;
    this.members = [
      new Member("ann", true),
      new Member("ben", true),
      new Member("cat", true),
      new Member("dan", false),
      new Member("eve", false),
      new Member("fay", true),
      new Member("gus", true),
    ];
    this.#named("gus").layoutVersion = 0;
  }

  run(steps: number): this {
    for (let step = 0; step < steps && this.violations.length === 0; step++) this.#step();
    this.#heal();
    return this;
  }

  /**
   * Follows a schedule, then lets everything heal. "ann creates 0", "ben edits 0", "ben deletes 0", "cat takes ann" (all that it can of her stream; "all takes
   * ann"), "cat tells ann" (everything it holds), "cat tells ann of ben" (one head), "ann collects", "fay lost", "cat adopts".
   */
  follow(schedule: string): this {
    for (const line of schedule.trim().split(/[;\n]+/)) {
      const [who = "", what, whom = "", , head] = line.trim().split(" ");
      for (const member of who === "all" ? this.#active() : [this.#named(who)]) this.#do(member, what as string, whom, head);
    }
    this.#heal();
    return this;
  }

  #do(member: Member, what: string, whom: string, head: string | undefined): void {
    if (what === "creates") this.#number(member, `create-${whom}`, [memory(Number(whom))]);
    else if (what === "edits") this.#number(member, `edit-${this.#keys++}`, [{ op: "edit", id: `memory_${whom}`, fields: { content: "edited" } }]);
    else if (what === "deletes") this.#number(member, `delete-${this.#keys++}`, [{ op: "delete", kind: "memory", id: `memory_${whom}` }]);
    else if (what === "takes") while (member.writer !== this.#named(whom).writer && this.#deliver(member, this.#named(whom)));
    else if (what === "tells" && head !== undefined) this.#tellOne(member, this.#named(whom), this.#named(head).writer);
    else if (what === "tells") this.#tell(member, this.#named(whom));
    else if (what === "collects") this.#collect(member);
    else if (what === "lost") this.#unlist();
    else this.#adopt(member);
  }

  // ---- what may happen -------------------------------------------------------------------------------------------

  #step(): void {
    const replicas = this.#active().filter(({ isReplica }) => isReplica);
    const replica = this.#rng.pick(replicas);
    // A few of the many deeds are common, so that rounds come to their end while something else is still on its way.
    const dice = this.#rng.int(100);
    const id = Math.floor(this.#deeds / 8) + this.#rng.int(2);
    if (dice < 9) this.#deeds++;
    if (dice < 4) this.#number(replica, `create-${id}`, [memory(id)]);
    else if (dice < 6) this.#number(replica, `edit-${this.#keys++}`, [{ op: "edit", id: `memory_${id}`, fields: { content: "edited" } }]);
    else if (dice < 9) this.#number(replica, `delete-${this.#keys++}`, [{ op: "delete", kind: "memory", id: `memory_${id}` }]);
    else if (dice < 60) this.#deliverSome();
    else if (dice < 80) this.#tell(this.#rng.pick(this.#active()), this.#rng.pick(replicas.slice(0, 2)));
    else if (dice < 95) this.#collect(this.#rng.pick(replicas.slice(0, 2)));
    else if (dice < 96) this.#unlist();
    else this.#adopt(this.#rng.pick(this.#active()));
  }

  #deliverSome(): void {
    const to = this.#rng.pick(this.#active());
    const behind = this.members.filter(({ writer }) => (this.#log.get(writer)?.length ?? 0) > (to.held.get(writer) ?? 0));
    if (behind.length > 0) this.#deliver(to, this.#rng.pick(behind));
  }

  /** Running, and in a layout that somebody has. */
  #active(): Member[] {
    return this.members.filter(({ isLost }) => !isLost).slice(0, this.#version === 1 ? 6 : undefined);
  }
  #listed(version: number): Member[] {
    const newcomer = this.#named("gus");
    return version < 2 ? this.members.slice(0, 6) : [...this.members.slice(0, 5), newcomer];
  }
  #named(name: string): Member {
    const member = this.members.find(({ writer }) => writer === writerNamed(name));
    if (member === undefined) throw new Error(`nobody is called ${name}`);
    return member;
  }

  #number(member: Member, key: string, contributions: readonly Contribution[]): boolean {
    if (member.state.executions(PARTITION, keyNamed(key)).length > 0) return false;
    const seq = (member.held.get(member.writer) ?? 0) + 1;
    const hlc = [++this.#wall, 0] as const;
    const by = { tenant: TENANT, writer: member.writer, hlc, decay: DECAY, frontier: Object.fromEntries(member.held) };
    const looksUp = this.#weak === "what is edited is not looked up again" && contributions[0]?.op === "edit";
    const { entries, saw } = looksUp
      ? { entries: contributions as Extract<Contribution, { op: "edit" }>[], saw: by.frontier }
      : contribute(contributions, by, this.#weak === "a tombstone does not hold its key" ? withoutTombstones(member.state) : member.state);
    if (entries.length === 0) return false;
    const stream = this.#log.get(member.writer) ?? [];
    this.#log.set(member.writer, stream);
    const previous = stream.at(-1)?.hash ?? genesisHash(member.writer, PARTITION);
    const header = { writer: member.writer, partition: PARTITION, seq, previous, hlc, key: keyNamed(key), saw };
    const delta = buildDelta(header, { tenant: TENANT, fingerprint: key, answer: "{}", entries });
    if (key.startsWith("create") && this.members.some(({ state }) => state.executions(PARTITION, keyNamed(key)).length > 0)) this.met.retries++;
    stream.push(delta);
    this.story.push(`${this.#name(member)} numbers ${seq}: ${key}`);
    this.#take(member, delta);
    return true;
  }

  /** The next delta of a stream, from whoever has it and may be believed. */
  #deliver(to: Member, of: Member): boolean {
    const delta = this.#log.get(of.writer)?.[to.held.get(of.writer) ?? 0];
    if (delta === undefined) return false;
    const { seq } = delta.header;
    const adopted = this.#listed(to.layoutVersion);
    const isFromMember = adopted.some((member) => !member.isLost && member !== to && (member.held.get(of.writer) ?? 0) >= seq);
    const isLive = adopted.includes(of) || this.#weak === "live pushes of an unlisted incarnation are taken";
    if (!isFromMember && !isLive) return false;
    const gap = to.isReplica ? missingForFloor(delta, Object.fromEntries(to.held)) : [];
    if (gap.length > 0 && this.#weak !== "applied before what it covers") return false;
    this.story.push(`${this.#name(to)} takes ${this.#name(of)}/${seq}`);
    this.#take(to, delta);
    return true;
  }

  #take(member: Member, delta: Delta): void {
    const { writer, seq, key } = delta.header;
    if (member.isReplica) {
      for (const one of member.state.executions(PARTITION, key))
        if ((member.erasedTo.get(one.writer) ?? 0) >= one.seq) this.#fail(`${this.#name(member)} needs a body that is erased for ${writer}/${seq}`);
      member.state.take(delta);
      for (const entry of delta.body.entries) {
        if (entry.op !== "floor") continue;
        this.met.applied++;
        raise(member.erasedTo, entry.erase);
        if (this.#weak === "drops every tombstone it finds")
          for (const name of member.state.records.keys()) if (name.includes("|tombstone|")) member.state.records.delete(name);
      }
    }
    member.held.set(writer, seq);
    if (member.isReplica) this.#compare(member);
  }

  #tell(from: Member, to: Member): void {
    if (from.layoutVersion >= (to.reports.get(from.writer)?.layoutVersion ?? 0))
      to.reports.set(from.writer, { layoutVersion: from.layoutVersion, frontier: new Map(from.held) });
  }

  /** News of one stream is no report. */
  #tellOne(from: Member, to: Member, stream: WriterId): void {
    if (this.#weak !== "reports are put together from single heads") return;
    const known = new Map(to.reports.get(from.writer)?.frontier ?? []);
    raise(known, [[stream, from.held.get(stream) ?? 0]]);
    to.reports.set(from.writer, { layoutVersion: from.layoutVersion, frontier: known });
  }

  #collect(proposer: Member): void {
    const view: FloorView = {
      layoutVersion: () => proposer.layoutVersion,
      audience: () =>
        this.#listed(proposer.layoutVersion)
          .filter((member) => member.isReplica || this.#weak !== "witnesses are not asked")
          .map(({ writer }) => writer),
      report: (writer) => {
        if (writer === proposer.writer) return { layoutVersion: proposer.layoutVersion, frontier: proposer.held };
        const report = proposer.reports.get(writer);
        const anyVersion = this.#weak === "reports of an older layout version count";
        return report === undefined || !anyVersion ? report : { ...report, layoutVersion: proposer.layoutVersion };
      },
    };
    proposer.rounds ??= NAIVE.has(this.#weak) ? new NaiveRounds(view, this.#weak) : new FloorRounds(view);
    const { rounds } = proposer;
    if (!rounds.isUnderWay) {
      const [tombstones, erase] = [this.#tombstones(proposer), this.#rng.chance(0.5) ? sorted(proposer.held) : []];
      if (tombstones.length === 0) return;
      rounds.begin({ partition: PARTITION, frontier: sorted(proposer.held), erase, tombstones: new Map([[TENANT, tombstones]]), tenant: TENANT });
      this.story.push(`${this.#name(proposer)} wants to collect ${tombstones.join(" ")}`);
    }
    for (const { contribution } of rounds.contributions()) {
      rounds.cancel();
      this.met.floors++;
      if (contribution.erase.length > 0) this.met.erased++;
      if (this.#weak === "local, without a record")
        for (const name of contribution.tombstones) proposer.state.records.delete(`${TENANT}|tombstone|${name}`);
      else this.#number(proposer, `floor-${this.#keys++}`, [contribution]);
    }
  }

  /** Fay is lost, and a new version does not list her. */
  #unlist(): void {
    this.#version = 2;
    const lost = this.#named("fay");
    if (!lost.isLost) this.story.push("fay is lost and unlisted");
    lost.isLost = true;
  }

  #adopt(member: Member): void {
    if (member.layoutVersion !== this.#version) this.story.push(`${this.#name(member)} adopts ${this.#version}`);
    member.layoutVersion = this.#version;
  }

  // ---- what must hold ----------------------------------------------------------------------------------------------

  /** Everybody adopts, everything that members have arrives. */
  #heal(): void {
    if (this.#version === 2) for (const member of this.#active()) this.#adopt(member);
    let moved = true;
    while (moved && this.violations.length === 0) {
      moved = false;
      for (const to of this.#active()) for (const of of this.members) while (this.violations.length === 0 && this.#deliver(to, of)) moved = true;
    }
    if (this.violations.length > 0) return;
    const replicas = this.#active().filter(({ isReplica }) => isReplica);
    for (const { writer } of this.members) {
      const seqs = this.#active().map((member) => member.held.get(writer) ?? 0);
      if (new Set(seqs).size > 1) this.#fail(`a stream stopped at ${seqs.join(" ")}`);
    }
    for (const replica of replicas) this.#compare(replica);
    // Of what reached somebody: a deletion that its lost writer took along never was.
    const deleted = new Set<string>();
    for (const { writer } of this.members) {
      const seq = Math.max(...this.#active().map((member) => member.held.get(writer) ?? 0));
      for (const { body } of this.#log.get(writer)?.slice(0, seq) ?? [])
        for (const entry of body.entries) if (entry.op === "tombstone") deleted.add(entry.id);
    }
    for (const replica of replicas)
      for (const id of deleted)
        if (replica.state.record(TENANT, "memory", id) !== undefined) this.#fail(`${id} was deleted and is back on ${this.#name(replica)}`);
  }

  /** P3: equal frontiers, equal bytes. */
  #compare(taker: Member): void {
    const frontier = JSON.stringify(sorted(taker.held));
    for (const other of this.members) {
      if (other === taker || !other.isReplica || JSON.stringify(sorted(other.held)) !== frontier) continue;
      if (JSON.stringify(other.state.bytes()) !== JSON.stringify(taker.state.bytes()))
        this.#fail(`${this.#name(taker)} and ${this.#name(other)} hold ${frontier} with different bytes`);
    }
  }

  #tombstones(member: Member): string[] {
    return [...member.state.records.keys()].flatMap((name) => (name.includes("|tombstone|") ? [name.split("|")[2] as string] : [])).sort();
  }
  #name(member: Member): string {
    return ["ann", "ben", "cat", "dan", "eve", "fay", "gus"][this.members.indexOf(member)] as string;
  }
  #fail(what: string): void {
    this.violations.push(what);
  }
}

/** Weaknesses of the rounds themselves. */
const NAIVE: ReadonlySet<Weakness | undefined> = new Set([
  "by age",
  "one round",
  "F is the proposer's own frontier",
  "a round without the tombstone",
] as const);

/** The rounds again, simple-minded, so that one rule can be left out; without a weakness it decides as FloorRounds does. */
export class NaiveRounds {
  readonly #view: FloorView;
  readonly #weak: Weakness | undefined;
  #cut: FloorCut | undefined;
  #version = 0;
  #floor: Map<WriterId, number> | undefined;

  constructor(view: FloorView, weak: Weakness | undefined) {
    this.#view = view;
    this.#weak = weak;
  }
  get isUnderWay(): boolean {
    return this.#cut !== undefined;
  }
  begin(cut: FloorCut): void {
    this.#cut = cut;
    this.#floor = undefined;
    this.#version = this.#view.layoutVersion();
  }
  cancel(): void {
    this.#cut = undefined;
  }
  contributions(): FloorContribution[] {
    const cut = this.#cut;
    if (cut === undefined) return [];
    if (this.#version !== this.#view.layoutVersion()) this.begin(cut);
    if (this.#weak === "by age") return this.#contribution(cut, []);
    const all = this.#view.audience().map((member) => this.#view.report(member));
    const told = all.flatMap((report) => (report?.layoutVersion === this.#version ? [report.frontier] : []));
    if (told.length < all.length) return [];
    if (this.#floor === undefined) {
      if (this.#weak !== "a round without the tombstone" && !told.every((frontier) => covers(frontier, cut.frontier))) return [];
      this.#floor = new Map(cut.frontier);
      if (this.#weak !== "F is the proposer's own frontier") for (const frontier of told) raise(this.#floor, frontier);
    }
    const floor = this.#floor;
    if (this.#weak !== "one round" && !told.every((frontier) => covers(frontier, floor))) return [];
    return this.#contribution(cut, sorted(floor));
  }
  #contribution(cut: FloorCut, frontier: Positions): FloorContribution[] {
    const covered = new Map(frontier);
    const erase = cut.erase.filter(([writer, seq]) => (covered.get(writer) ?? 0) >= seq);
    return [{ tenant: TENANT, contribution: { op: "floor", frontier, erase, tombstones: cut.tombstones.get(TENANT) ?? [] } }];
  }
}

function memory(id: number): Contribution {
  return { op: "memory", id: `memory_${id}`, memory: { node: "n", session: "s", entity: "e", content: "c", metadata: "{}", concepts: [] } };
}

function withoutTombstones(state: StateInMemory): RecordState {
  return {
    record: <K extends Kind>(tenant: string, kind: K, id: string): RecordOf<K> | undefined =>
      kind === "tombstone" ? undefined : state.record(tenant, kind, id),
  };
}

export function sorted(frontier: Frontier): Positions {
  return [...frontier].sort(([a], [b]) => (a < b ? -1 : 1));
}
