/**
 * A federation of real replicas of protocol version 2, each with a disk in memory that outlives its program. Bytes go through frames and seals; the wires,
 * the disks and time are moved by hand: `settle` lets everything arrive and every disk keep up, `pass` lets time go by as well. What an engine does with
 * effects (adopting a layout that a peer told, counting, copying, dropping) is done here in the plainest way.
 */
import { HLC_ZERO, type Hlc, laterHlc } from "../../protocol/clock.ts";
import type { Delta } from "../../protocol/delta.ts";
import type { Batch, DamagedCopy, Effect, Proposal } from "../../protocol/effects.ts";
import { encodeFrame, openFrame } from "../../protocol/frame.ts";
import type { StreamHead } from "../../protocol/frontier.ts";
import type { Level, NodeId, Partition, WriterId } from "../../protocol/ids.ts";
import { SYSTEM_PARTITION, SYSTEM_TENANT } from "../../protocol/ids.ts";
import type { Kind } from "../../protocol/knowledge.ts";
import { type Layout, layoutTag, type Member, partitionOf, votersOf } from "../../protocol/layout.ts";
import type { Envelope, Message, MessageOf, MessageType } from "../../protocol/message.ts";
import { positionOf, Replica, type ToldBefore } from "../../protocol/replica.ts";
import { keyOf, keyring, seal, WALL } from "./replica-world.ts";
import { StateInMemory } from "./state-in-memory.ts";

const TICK_MS = 50;

/** A tenant of this partition. */
export function tenantIn(partition: Partition): string {
  if (partition === SYSTEM_PARTITION) return SYSTEM_TENANT;
  for (let index = 0; ; index++) if (partitionOf(`tenant-${index}`) === partition) return `tenant-${index}`;
}

/** What lies in a data folder. */
export class Disk extends StateInMemory {
  readonly #sealed = new Map<string, Map<number, Envelope>>();
  readonly durable = { heads: new Map<string, StreamHead>(), marks: new Map<string, StreamHead>() };
  readonly told = new Map<WriterId, ToldBefore>();
  readonly starts: string[] = [];
  readonly givenUp = new Map<Partition, number>();
  highWater: Hlc = HLC_ZERO;
  hasCounted = false;
  damaged: readonly DamagedCopy[] = [];
  /** Rows of the log that cannot be read any more, as `writer/seq`. */
  readonly rotten = new Set<string>();
  /** Bytes it keeps sealed of partitions that a test does not look at. */
  sealedElsewhere = 0;
  #flushed = 0;
  /** What is on its way out, as `kind/partition`: as in the store, nothing may be staged for it. */
  readonly #closed = new Set<string>();

  override keptFrom(partition?: Partition, writer?: WriterId): number | undefined {
    const numbers = [...(this.#sealed.get(`${partition}/${writer}`)?.keys() ?? [])];
    return numbers.length === 0 ? undefined : Math.min(...numbers);
  }
  override get sealedBytes(): number {
    let bytes = this.sealedElsewhere;
    for (const stream of this.#sealed.values()) for (const { sealedBody } of stream.values()) bytes += sealedBody.length;
    return bytes;
  }
  override stage(batch: Batch): void {
    const partition = batch.type === "mark" ? batch.head.partition : batch.type === "forget" ? batch.partition : batch.delta.header.partition;
    const kind = batch.type === "delta" ? "heads" : "marks";
    if (this.#closed.has(`${kind}/${partition}`)) throw new Error(`a batch (${batch.type}) for a partition whose rows are being cleared`);
    super.stage(batch);
    if (batch.type === "delta" || batch.type === "sealed") this.highWater = laterHlc(this.highWater, batch.delta.header.hlc);
    if (batch.type === "sealed") {
      const { partition, writer, seq } = batch.delta.header;
      const stream = this.#sealed.get(`${partition}/${writer}`) ?? new Map<number, Envelope>();
      this.#sealed.set(`${partition}/${writer}`, stream.set(seq, batch.envelope));
    } else if (batch.type === "forget")
      for (const seq of this.#sealed.get(`${batch.partition}/${batch.writer}`)?.keys() ?? [])
        if (seq <= batch.seq) this.#sealed.get(`${batch.partition}/${batch.writer}`)?.delete(seq);
  }

  flush(): Batch[] {
    const batches = this.staged.slice(this.#flushed);
    this.#flushed = this.staged.length;
    for (const batch of batches) {
      const moved = positionOf(batch);
      if (moved !== undefined) this.durable[moved.kind].set(`${moved.head.partition}/${moved.head.writer}`, moved.head);
    }
    return batches;
  }

  heads(kind: Kind, partition?: Partition): StreamHead[] {
    return [...this.durable[kind].values()].filter((head) => partition === undefined || head.partition === partition);
  }

  interval(partition: Partition, writer: WriterId, from: number, to: number, sealed: boolean): Envelope[] {
    const envelopes: Envelope[] = [];
    for (let seq = from; seq <= to && !this.rotten.has(`${writer}/${seq}`); seq++) {
      const delta = this.delta(partition, writer, seq);
      const envelope = sealed ? this.#sealed.get(`${partition}/${writer}`)?.get(seq) : delta === undefined ? undefined : seal(delta);
      if (envelope !== undefined) envelopes.push(envelope);
    }
    return envelopes;
  }

  /** The deltas of a partition in the order they came. */
  log(partition: Partition): Delta[] {
    return this.staged.flatMap((batch) => (batch.type === "delta" && batch.delta.header.partition === partition ? [batch.delta] : []));
  }

  /** Takes a whole copy; it is on disk at once. @returns undefined: it lacks something that is held here, and everything stays */
  copyOf(other: Disk, partition: Partition): StreamHead[] | undefined {
    const holds = (head: StreamHead): boolean => (other.durable.heads.get(`${partition}/${head.writer}`)?.seq ?? 0) >= head.seq;
    if (!this.heads("heads", partition).every(holds)) return undefined;
    for (const delta of other.log(partition)) this.take(delta);
    this.flush();
    return this.heads("heads", partition);
  }

  beginDrop(partition: Partition, kind: Kind): void {
    this.#closed.add(`${kind}/${partition}`);
  }

  drop(partition: Partition, kind: Kind, own: WriterId): void {
    this.#closed.delete(`${kind}/${partition}`);
    this.givenUp.set(partition, this.durable.heads.get(`${partition}/${own}`)?.seq ?? 0);
    for (const { writer } of this.heads(kind, partition)) this.durable[kind].delete(`${partition}/${writer}`);
  }
}

export interface SiteOptions {
  readonly strictStart?: boolean;
  /** How far its wall clock is off, ms. */
  readonly clockErrorMs?: number;
}

/** One node: a disk, and the program that runs on it. */
export class Site {
  readonly member: Member;
  disk: Disk;
  layout: Layout;
  replica: Replica;
  clockErrorMs: number;
  readonly #options: SiteOptions;
  readonly #toldRevisions = new Map<WriterId, number>();
  #requests = 0;

  constructor(member: Member, layout: Layout, options: SiteOptions = {}, disk = new Disk()) {
    this.member = member;
    this.layout = layout;
    this.disk = disk;
    this.#options = options;
    this.clockErrorMs = options.clockErrorMs ?? 0;
    this.replica = this.#started(0);
  }

  /** The program ends and starts again on what is on disk. */
  restart(now: number, disk = this.disk): void {
    this.disk = disk;
    this.replica = this.#started(now);
  }

  #started(now: number): Replica {
    const { disk, member } = this;
    this.#toldRevisions.clear();
    const count = disk.starts.push(`${disk.starts.length}${member.name}`.padEnd(32, "0").replace(/[^0-9a-f]/g, "a"));
    return new Replica({
      writer: member.writer,
      layout: this.layout,
      state: disk,
      heads: disk.heads("heads"),
      marks: disk.heads("marks"),
      highWater: disk.highWater,
      firstBarrier: 1000 * count,
      wallLead: this.wall(now) - now,
      start: { count, id: disk.starts[count - 1]! },
      startAt: (at) => (at > disk.starts.length ? null : disk.starts[at - 1]),
      toldBefore: (other) => disk.told.get(other),
      ownSeqGivenUp: (partition) => disk.givenUp.get(partition) ?? 0,
      damaged: disk.damaged,
      hasCounted: disk.hasCounted,
      strictStart: this.#options.strictStart ?? false,
      secrets: ["a-secret"],
    });
  }

  /** What others told goes to disk when it has changed. */
  writeTold(): void {
    for (const { writer } of votersOf(this.layout)) {
      const revision = this.replica.toldRevision(writer);
      const told = this.#toldRevisions.get(writer) === revision ? undefined : this.replica.toldBy(writer);
      if (told === undefined) continue;
      this.#toldRevisions.set(writer, revision);
      this.disk.told.set(writer, told);
    }
  }

  wall(now: number): number {
    return WALL + now + this.clockErrorMs;
  }

  proposal(partition: Partition, now: number, fields: Partial<Omit<Proposal, "key">> & { key?: string } = {}): Proposal {
    const request = fields.request ?? ++this.#requests;
    return {
      tenant: tenantIn(partition),
      partition,
      level: "quorum" as Level,
      fingerprint: "f",
      contributions: [{ op: "concept", id: "tide", mass: 1 }],
      answer: `answer ${request}`,
      deadline: now + 100_000,
      wall: this.wall(now),
      ...fields,
      request,
      key: keyOf(fields.key ?? `${this.member.name}-${request}`),
    };
  }

  /** Its frontier on disk, as `writer: seq` by name. */
  holds(kind: Kind, partition: Partition): Record<string, number> {
    return Object.fromEntries(this.disk.heads(kind, partition).map(({ writer, seq }) => [writer, seq]));
  }
}

export interface Seen {
  readonly at: string;
  readonly effect: Effect;
}
export interface Sent {
  readonly from: string;
  readonly to: string;
  readonly message: Message;
  readonly layoutVersion: number;
}

export class World {
  readonly sites = new Map<string, Site>();
  readonly #wires = new Set<string>();
  readonly #arriving: { from: Site; to: Site; frame: Uint8Array; message: Message }[] = [];
  /** All effects that are not messages, and all messages that were sent, in order. */
  readonly seen: Seen[] = [];
  readonly sent: Sent[] = [];
  /** Messages that are lost. */
  loses: (message: Sent) => boolean = () => false;
  /** Whether a node that goes by an older layout hears of the newer. */
  tellsLayouts = true;
  /** Snapshots take until finishSnapshots. */
  snapshotsAreSlow = false;
  readonly #snapshots: { readonly at: Site; readonly partition: Partition }[] = [];
  /** A copy takes until finishDrops to be deleted. */
  dropsAreSlow = false;
  readonly #drops: (() => void)[] = [];
  now = 0;

  constructor(members: readonly Member[], layout: Layout, options: Record<string, SiteOptions> = {}) {
    for (const member of members) this.sites.set(member.name, new Site(member, layout, options[member.name]));
  }

  /** A federation in which everybody is connected, has compared and counts. */
  static atRest(members: readonly Member[], layout: Layout, options: Record<string, SiteOptions> = {}): World {
    const world = new World(members, layout, options);
    world.connectAll();
    world.pass(2000);
    return world;
  }

  at(name: string): Site {
    return this.sites.get(name) as Site;
  }

  connect(one: string, other: string): void {
    this.#wires.add(`${one} ${other}`).add(`${other} ${one}`);
    for (const [here, there] of [
      [this.at(one), this.at(other)],
      [this.at(other), this.at(one)],
    ] as const)
      this.do(here, here.replica.peer(there.member.node, there.member.writer, this.now, 2));
  }
  connectAll(): void {
    const names = [...this.sites.keys()];
    for (const [index, one] of names.entries()) for (const other of names.slice(index + 1)) this.connect(one, other);
  }
  cut(one: string, other: string): void {
    this.#wires.delete(`${one} ${other}`);
    this.#wires.delete(`${other} ${one}`);
    for (const [here, there] of [
      [this.at(one), this.at(other)],
      [this.at(other), this.at(one)],
    ] as const)
      this.do(here, here.replica.peer(there.member.node, undefined, this.now));
  }
  isolate(name: string): void {
    for (const other of this.sites.keys()) if (this.#wires.has(`${name} ${other}`)) this.cut(name, other);
  }

  /** Its program ends and starts again, on this disk; its connections end with it and are made again. */
  restart(name: string, disk = this.at(name).disk): void {
    const others = [...this.sites.keys()].filter((other) => this.#wires.has(`${name} ${other}`));
    this.isolate(name);
    this.at(name).restart(this.now, disk);
    for (const other of others) this.connect(name, other);
  }

  adopt(layout: Layout, ...names: readonly string[]): void {
    for (const name of names.length === 0 ? this.sites.keys() : names) {
      const site = this.at(name);
      if (site.layout.version >= layout.version) continue;
      site.layout = layout;
      this.do(site, site.replica.adopt(layout, this.now));
      for (const other of this.sites.values())
        if (this.#wires.has(`${name} ${other.member.name}`) && !site.replica.connectedMembers().includes(other.member.node))
          this.do(site, site.replica.peer(other.member.node, other.member.writer, this.now, 2));
    }
  }

  propose(name: string, partition: Partition, fields: Partial<Omit<Proposal, "key">> & { key?: string } = {}): void {
    const site = this.at(name);
    this.do(site, site.replica.propose(site.proposal(partition, this.now, fields), this.now));
  }
  read(name: string, partition: Partition, request: number, level: Level = "quorum"): void {
    const site = this.at(name);
    this.do(site, site.replica.read({ request, partition, level, deadline: this.now + 100_000 }, this.now));
  }

  /** Somebody finds that rows of this copy are not what was written. */
  damage(name: string, partition: Partition, kind: Kind): void {
    const site = this.at(name);
    this.do(site, site.replica.damaged(partition, kind, this.now));
    this.settle();
  }

  /** Time goes by, and everything keeps up with it. */
  pass(ms: number): void {
    this.settle();
    for (const end = this.now + ms; this.now < end; ) {
      this.now = Math.min(end, this.now + TICK_MS);
      for (const site of this.sites.values()) {
        this.do(site, site.replica.tick(this.now, site.wall(this.now)));
        site.writeTold();
      }
      this.settle();
    }
  }

  /** Everything that was sent arrives, everything staged is flushed, until nothing moves any more. */
  settle(): void {
    for (let round = 0; round < 10_000; round++) {
      let moved = false;
      for (const site of this.sites.values()) {
        const batches = site.disk.flush();
        if (batches.length === 0) continue;
        moved = true;
        this.do(site, site.replica.persisted(batches, this.now));
      }
      for (const { from, to, frame } of this.#arriving.splice(0)) {
        moved = true;
        if (this.#wires.has(`${from.member.name} ${to.member.name}`)) this.deliver(from, to, frame);
      }
      if (!moved) return;
    }
    throw new Error("the world does not come to rest");
  }

  deliver(from: Site, to: Site, frame: Uint8Array): void {
    const expected = { from: from.member.node, writer: from.member.writer, federation: to.layout.federation, keyring };
    this.do(to, to.replica.receive(openFrame(frame, expected), this.now, to.wall(this.now)));
  }

  frameOf(from: Site, message: Message): Uint8Array {
    const { federation, version } = from.layout;
    return encodeFrame({ federation, writer: from.member.writer, layoutVersion: version, layoutTag: layoutTag(from.layout) }, message);
  }

  /** Those that are on their way arrive. */
  finishSnapshots(): void {
    for (const { at, partition } of this.#snapshots.splice(0)) {
      const [source] = at.replica.snapshotSources(partition);
      const heads = at.disk.copyOf(this.at(this.#named(source as NodeId)).disk, partition);
      this.do(at, at.replica.fetched(partition, heads, at.disk.highWater, this.now));
    }
  }

  finishDrops(): void {
    for (const drop of this.#drops.splice(0)) drop();
  }

  do(at: Site, effects: readonly Effect[]): void {
    for (const effect of effects) this.#perform(at, effect);
  }

  #perform(at: Site, effect: Effect): void {
    const { name, writer } = at.member;
    if (effect.type === "send") {
      this.#send(at, effect.to, effect.message);
      return;
    }
    if (effect.type === "push") {
      const message: Message = { type: "push", envelopes: effect.deltas.map(seal) };
      for (const to of effect.to) this.#send(at, to, message);
      return;
    }
    if (effect.type === "serve") {
      const { partition, to_seq } = effect;
      const envelopes = at.disk.interval(partition, effect.writer, effect.from, to_seq, effect.sealed);
      const to = at.replica.ownHeads(partition).find((head) => head.writer === effect.writer)?.seq ?? 0;
      this.#send(at, effect.to, { type: "repair", partition, writer: effect.writer, to, envelopes });
      return;
    }
    this.seen.push({ at: name, effect });
    if (effect.type === "behind" && this.tellsLayouts) this.adopt(at.layout, this.#named(effect.peer));
    else if (effect.type === "snapshot") {
      const frontier = new Map(at.disk.heads("heads", effect.partition).map((head) => [head.writer, head.seq]));
      this.do(at, at.replica.snapshotTaken(effect.barrier, frontier, this.now));
    } else if (effect.type === "count") {
      at.disk.hasCounted = true;
      this.do(at, at.replica.counted(this.now));
    } else if (effect.type === "fetch") {
      this.#snapshots.push({ at, partition: effect.partition });
      if (!this.snapshotsAreSlow) this.finishSnapshots();
    } else if (effect.type === "drop") {
      at.disk.beginDrop(effect.partition, effect.kind);
      this.#drops.push(() => {
        at.disk.drop(effect.partition, effect.kind, writer);
        this.do(at, at.replica.dropped(effect.partition, effect.kind, this.now));
      });
      if (!this.dropsAreSlow) this.finishDrops();
    } else if (effect.type === "damaged") at.disk.damaged = effect.copies;
    else if (effect.type === "keep") this.do(at, at.replica.kept(effect.partition, this.now));
  }

  #send(from: Site, node: NodeId, message: Message): void {
    const to = this.at(this.#named(node));
    const sent = { from: from.member.name, to: to.member.name, message, layoutVersion: from.layout.version };
    this.sent.push(sent);
    if (!this.loses(sent)) this.#arriving.push({ from, to, frame: this.frameOf(from, message), message });
  }

  #named(node: NodeId): string {
    for (const { member } of this.sites.values()) if (member.node === node) return member.name;
    throw new Error(`nobody is ${node}`);
  }

  /** Effects of one type so far, at one node or at all. */
  ofType<T extends Effect["type"]>(type: T, name?: string): Extract<Effect, { type: T }>[] {
    return this.seen.flatMap(({ at, effect }) =>
      effect.type === type && (name === undefined || name === at) ? [effect as Extract<Effect, { type: T }>] : [],
    );
  }
  /** What became of a request at a node: its tally, or the code of its refusal; undefined while it waits. */
  outcome(name: string, request: number): string | undefined {
    for (const { at, effect } of this.seen) {
      if (at !== name || !("request" in effect) || effect.request !== request) continue;
      if (effect.type === "done") return `${effect.done.tally.replicas}+${effect.done.tally.witnesses}`;
      return effect.type === "refuse" ? effect.code : effect.type;
    }
    return undefined;
  }
  messages<T extends MessageType>(type: T, from?: string, to?: string): MessageOf<T>[] {
    return this.sent.flatMap((sent) =>
      sent.message.type === type && (from ?? sent.from) === sent.from && (to ?? sent.to) === sent.to ? [sent.message as MessageOf<T>] : [],
    );
  }
  forgetWhatWasSeen(): void {
    this.seen.length = 0;
    this.sent.length = 0;
  }
  standings(): Record<string, string> {
    return Object.fromEntries([...this.sites].map(([name, { replica }]) => [name, replica.standing]));
  }
}
