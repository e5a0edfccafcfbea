/**
 * The driver of one node's protocol: it feeds the pure core (formation, replica) and performs what it asks for, in order. Decides nothing itself.
 * Knows ports only, so the simulator runs this very file on simulated time, network and disk.
 */
import { writerIdOf } from "../crypto/hash.ts";
import type { Keyring } from "../crypto/keyring.ts";
import type { DamagedCopy, Done, Effect, OwnTail, Proposal, ReadRequest, RequestId } from "../protocol/effects.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { VerifiedMessage } from "../protocol/frame.ts";
import { type Level, type NodeId, type Partition, SYSTEM_TENANT, type WriterId } from "../protocol/ids.ts";
import { decodeLayout, encodeLayout, type Layout, type LayoutSettings, layoutTag, type MemberFields, votersOf } from "../protocol/layout.ts";
import { recovered, stepBetween } from "../protocol/layout-change.ts";
import type { Message, MessageOf } from "../protocol/message.ts";
import { Replica, type ToldBefore } from "../protocol/replica.ts";
import { PROTOCOL_VERSION, PROTOCOL_VERSION_MIN } from "../protocol/version.ts";
import { Changing } from "./changing.ts";
import { Collecting } from "./collecting.ts";
import { Copying } from "./copying.ts";
import { ApiError, NotReplica } from "./errors.ts";
import { Forming, layoutAlone } from "./forming.ts";
import { firstMember } from "./from-single.ts";
import { LayoutQueue } from "./layout-queue.ts";
import { Links, type PeerInfo, type Versions } from "./links.ts";
import { Outbox } from "./outbox.ts";
import type { GraphIndex, Log, Meter, Network, RequestLayer, System } from "./ports.ts";
import { Resealing } from "./resealing.ts";
import { Snapshots } from "./snapshots.ts";
import { decodeDamaged, encodeDamaged } from "./store/rows.ts";
import type { Store, StoreSnapshot } from "./store/store.ts";
import { type Place, StoreError } from "./store/store-error.ts";
import { WritingAgain } from "./writing-again.ts";

export interface EngineSettings {
  readonly name: string;
  readonly zone: string;
  readonly weight: number;
  /** FEDERATION_FIRST_MEMBERS; empty: this node forms nothing and waits to be told a layout. */
  readonly firstMembers: readonly string[];
  readonly layout: LayoutSettings;
  readonly consistency: Level;
  readonly syncIntervalMs: number;
  /** FEDERATION_STRICT_START. */
  readonly strictStart: boolean;
  /** LOG_RETENTION, ms. */
  readonly logRetentionMs: number;
  /** Between two partitions that are looked at for what may be collected, ms. */
  readonly collectPaceMs: number;
}

export interface EngineOptions {
  readonly store: Store;
  /** Undefined: a single node without a secret, a federation of one. */
  readonly federation: { readonly network: Network; readonly keyring: Keyring } | undefined;
  /** The id of this node when it is single. */
  readonly node: NodeId;
  readonly index: GraphIndex;
  readonly system: System;
  readonly meter: Meter;
  readonly log: Log;
  readonly settings: EngineSettings;
  /** Default: all this code speaks. */
  readonly versions?: Versions;
  /** The disk failed or an invariant broke: nothing may be acknowledged any more, the process must end. */
  readonly onFatal: (error: Error) => void;
  /** This disk is a copy of one that went on: it has a new incarnation now, and everything must be opened again on it. */
  readonly onCopy: (reason: string) => void;
}

/** What a client's request waits for. */
interface Pending {
  readonly resolve: (done: Done | undefined) => void;
  readonly reject: (error: ApiError) => void;
  /** Reads: run once, on the snapshot. */
  readonly onSnapshot: ((snapshot: StoreSnapshot) => void) | undefined;
}

/** How often the core hears of time, ms. */
const TICK_MS = 50;
/** How often it is looked whether a flush that runs has ended, ms. */
const FLUSHED_MS = 5;
/** At the least between two gossiped "I have news", ms. */
const NEWS_MS = 1000;
/** Between two times that what others told is written down, and that a peer is told our layout, ms. */
const TOLD_MS = 2000;
const LAYOUT_AGAIN_MS = 500;
/** How often it is looked whether a member has its successor, ms. */
const SUCCEEDED_LOOK_MS = 50;
/** After a snapshot that was wrong another one is asked for, ms. */
const COPY_AGAIN_MS = 5000;

export class Engine {
  readonly writer: WriterId;
  readonly links: Links | undefined;
  /** Undefined on a single node. */
  readonly resealing: Resealing | undefined;
  readonly #o: EngineOptions;
  readonly #pending = new Map<RequestId, Pending>();
  readonly #outbox: Outbox | undefined;
  readonly #compareAt = new Map<NodeId, number>();
  readonly #layoutToldAt = new Map<NodeId, number>();
  readonly #toldWritten = new Map<WriterId, number>();
  readonly #toldBefore = new Map<WriterId, ToldBefore>();
  #start: { readonly count: number; readonly id: string } = { count: 0, id: "" };
  #hasCounted = false;
  #vote: Uint8Array | undefined;
  #damaged: readonly DamagedCopy[] = [];
  #toldAt = 0;
  #adopting: Promise<void> = Promise.resolve();
  #replica: Replica | undefined;
  #forming: Forming | undefined;
  #changing: Changing | undefined;
  #collecting: Collecting | undefined;
  #writingAgain: WritingAgain | undefined;
  #copying: Copying | undefined;
  #snapshots: Snapshots | undefined;
  #queue: LayoutQueue | undefined;
  #requests: RequestLayer | undefined;
  #lastRequest = 0;
  #inDoubt = 0;
  #flushing = false;
  #newsAt = 0;
  #hasNews = false;
  #stopped = false;
  #cancelTick: () => void = () => undefined;

  constructor(options: EngineOptions) {
    this.#o = options;
    this.writer = writerIdOf(options.node, options.store.incarnation) as WriterId;
    if (options.federation === undefined) return;
    this.links = new Links({
      network: options.federation.network,
      keyring: options.federation.keyring,
      self: { name: options.settings.name, incarnation: options.store.incarnation, writer: this.writer, zone: options.settings.zone },
      versions: options.versions ?? { min: PROTOCOL_VERSION_MIN, max: PROTOCOL_VERSION },
      federation: () => ({
        federation: this.layout?.federation ?? null,
        layoutVersion: this.layout?.version ?? 0,
        layoutTag: this.layout === undefined ? "" : layoutTag(this.layout),
      }),
      meter: options.meter,
      log: options.log,
      onPeer: (peer, connected) => this.#guard(() => this.#peer(peer, connected)),
      onMessage: (verified, peer) => this.#guard(() => this.#message(verified, peer)),
    });
    this.#outbox = new Outbox({
      store: options.store,
      links: this.links,
      keyring: options.federation.keyring,
      system: options.system,
      meter: options.meter,
      federation: () => (this.layout as Layout).federation,
      onFailure: (error) => this.#failed(error),
    });
    const { links } = this;
    this.resealing = new Resealing({
      store: options.store,
      keyring: options.federation.keyring,
      federation: () => this.layout?.federation,
      peers: () => links.peers(),
      tell: (to, message) => void links.send(to, message),
      system: options.system,
      log: options.log,
      onFailure: (error) => this.#fatal(error),
    });
    options.federation.network.onNews = (from) =>
      this.#guard(() => this.#perform(this.#replica?.compareWith(from, this.#o.system.monotonic()) ?? []));
  }

  get layout(): Layout | undefined {
    return this.#replica?.layout;
  }
  get replica(): Replica | undefined {
    return this.#replica;
  }
  get store(): Store {
    return this.#o.store;
  }
  get node(): NodeId {
    return this.#o.node;
  }
  get log(): Log {
    return this.#o.log;
  }
  get settings(): EngineSettings {
    return this.#o.settings;
  }
  get system(): System {
    return this.#o.system;
  }
  /** Public ids of the secrets this node knows, the one it seals with first. */
  get secretIds(): readonly string[] {
    return this.#o.federation?.keyring.ids ?? [];
  }
  /** Requests executed here since the start that were answered in_doubt. */
  get inDoubt(): number {
    return this.#inDoubt;
  }
  /** Changes of the layout that wait; undefined on a single node, or before a layout holds. */
  get queue(): LayoutQueue | undefined {
    return this.#queue;
  }

  /** Names that layout 1 still waits for. */
  waitingFor(): readonly string[] {
    if (this.layout !== undefined) return [];
    const here = new Set([this.#o.settings.name, ...(this.links?.peers() ?? []).map((peer) => peer.name)]);
    return this.#o.settings.firstMembers.filter((name) => !here.has(name));
  }

  /** Loads the layout, or begins to form one. */
  async start(): Promise<void> {
    const { store, system } = this.#o;
    this.#start = await store.beginStart((length) => system.randomBytes(length));
    const counted = await store.meta("counted");
    this.#hasCounted = counted !== undefined && Buffer.from(counted).toString() === store.incarnation;
    this.#vote = await store.meta("vote");
    const damaged = await store.meta("damaged");
    this.#damaged = damaged === undefined ? [] : decodeDamaged(damaged);
    const stored = await store.meta("layout");
    if (stored !== undefined) {
      const layout = await this.#withIdentity(decodeLayout(stored));
      for (const member of votersOf(layout)) {
        const told = await store.told(member.writer);
        if (told !== undefined) this.#toldBefore.set(member.writer, told);
      }
      this.#run(layout);
    } else if (this.links === undefined) await this.#adopt(layoutAlone(this.#member(), this.#o.settings.layout, system));
    if (this.links !== undefined) {
      this.#forming = new Forming({
        ...this.#o,
        links: this.links,
        member: this.#member(),
        onLayout: (layout) => this.#adopt(layout),
        guard: (run) => this.#guard(run),
        onFailure: (error) => this.#fatal(error),
      });
      await this.#forming.start();
      // Some may have come while the disk was read.
      for (const peer of this.links.peers()) this.#forming.peer(peer, true);
    }
    this.#tick();
  }

  /** A single node that was given a secret lists itself again, under the identity that the others will know it by. */
  async #withIdentity(layout: Layout): Promise<Layout> {
    const { store, log } = this.#o;
    const next = this.links === undefined ? undefined : firstMember(layout, this.#member());
    if (next === undefined) return layout;
    await store.putLayout(next.version, encodeLayout(next), this.#o.system.now());
    log.info({ version: next.version, federation: next.federation }, "this single node is the first member of a federation now; others can join it");
    return next;
  }

  #member(): MemberFields {
    const { node, settings, store } = this.#o;
    return { node, name: settings.name, incarnation: store.incarnation, zone: settings.zone, weight: settings.weight };
  }

  /** Stops time; what is staged is flushed. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#cancelTick();
    for (const pending of this.#pending.values())
      pending.reject(new ApiError("in_doubt", "This node is stopping; retry at another node with the same Idempotency-Key."));
    this.#pending.clear();
    while (this.#flushing) await this.#pause();
    await this.#snapshots?.stop();
    await this.resealing?.stop();
    if (this.#o.store.staged.hasStaged) await this.#o.store.flush();
  }

  attach(requests: RequestLayer): void {
    this.#requests = requests;
  }

  // ---- clients -------------------------------------------------------------------------------------------------

  /** @returns undefined when it would change nothing here (at quorum and all: ask behind a barrier whether that holds) @throws ApiError */
  propose(proposal: Omit<Proposal, "request">): Promise<Done | undefined> {
    return this.#request(undefined, (request) => (this.#replica as Replica).propose({ ...proposal, request }, this.#o.system.monotonic()));
  }

  /** A read behind its barrier; `onSnapshot` runs once on the one snapshot it is answered from. @throws ApiError */
  read(read: Omit<ReadRequest, "request">, onSnapshot: (snapshot: StoreSnapshot) => void): Promise<Done> {
    const begin = (request: RequestId): Effect[] => (this.#replica as Replica).read({ ...read, request }, this.#o.system.monotonic());
    return this.#request(onSnapshot, begin) as Promise<Done>;
  }

  /** Resolves once this node holds the frontier. @throws ApiError catching_up */
  async waitUntilHeld(partition: Partition, frontier: ReadonlyMap<WriterId, number>, deadline: number): Promise<void> {
    const replica = this.#replica as Replica;
    for (;;) {
      const { held, effects } = replica.holds(partition, frontier, this.#o.system.monotonic());
      this.#perform(effects);
      if (held) return;
      if (this.#o.system.monotonic() >= deadline) throw new ApiError("catching_up", "This node has not yet received what your frontier token names.");
      await new Promise<void>((resolve) => this.#o.system.after(10, resolve));
    }
  }

  send(to: NodeId, message: Message): boolean {
    return this.links?.send(to, message) ?? false;
  }

  #request(onSnapshot: Pending["onSnapshot"], begin: (request: RequestId) => Effect[]): Promise<Done | undefined> {
    if (this.#stopped) return Promise.reject(new ApiError("overloaded", "This node is stopping; ask another node."));
    const request = ++this.#lastRequest;
    return new Promise<Done | undefined>((resolve, reject) => {
      this.#pending.set(request, { resolve, reject, onSnapshot });
      this.#guard(() => {
        let effects: Effect[];
        try {
          effects = begin(request);
        } catch (error) {
          if (!this.damagedBy(error)) throw error;
          // Nothing was numbered: what is changed is read before.
          this.#pending.delete(request);
          reject(error as Error);
          return;
        }
        this.#perform(effects);
      });
    });
  }

  // ---- effects -------------------------------------------------------------------------------------------------

  #perform(effects: readonly Effect[]): void {
    for (const effect of effects) this.#performOne(effect);
    if (this.#o.store.staged.hasStaged) this.#flushSoon();
  }

  #performOne(effect: Effect): void {
    switch (effect.type) {
      case "send":
        this.#o.meter.count("sync_operation", 1, effect.message.type);
        this.links?.send(effect.to, effect.message);
        break;
      case "push":
        this.#outbox?.push(effect.to, effect.deltas);
        break;
      case "serve":
        this.#outbox?.serve(effect, this.#replica?.ownHeads(effect.partition) ?? []);
        break;
      case "snapshot":
        this.#snapshot(effect);
        break;
      case "done": {
        const pending = this.#pending.get(effect.request);
        this.#pending.delete(effect.request);
        pending?.resolve(effect.done);
        break;
      }
      case "nothing": {
        const pending = this.#pending.get(effect.request);
        this.#pending.delete(effect.request);
        pending?.resolve(undefined);
        break;
      }
      case "refuse": {
        const pending = this.#pending.get(effect.request);
        this.#pending.delete(effect.request);
        if (effect.code === "in_doubt") this.#inDoubt++;
        if (effect.code === "not_replica") pending?.reject(new NotReplica(effect.detail));
        else pending?.reject(new ApiError(effect.code === "too_large" ? "payload_too_large" : effect.code, effect.detail));
        break;
      }
      case "copy":
        void this.#becomeAnother(effect.reason, effect.tails);
        break;
      case "count":
        void this.#count();
        break;
      case "behind":
        this.#tellLayout(effect.peer);
        break;
      case "conflict":
        this.#o.log.error(
          { peer: effect.peer, version: effect.version },
          "this peer goes by another layout of the same number: quorum stops on both sides until an operator chooses one with layout recover",
        );
        break;
      case "fetch":
        this.#copying?.begin(effect.partition);
        break;
      case "keep":
        if (this.#copying?.giveBack(effect.partition) ?? true)
          this.#perform((this.#replica as Replica).kept(effect.partition, this.#o.system.monotonic()));
        break;
      case "damaged":
        this.#o.store.putMeta("damaged", encodeDamaged(effect.copies)).catch((error: Error) => this.#fatal(error));
        break;
      case "drop":
        void this.#drop(effect.partition, effect.kind);
        break;
      case "note":
        if (effect.counted !== undefined) this.#o.meter.count("delta_refused", 1, effect.counted);
        this.#o.log[effect.level](effect.facts, effect.message);
        break;
    }
  }

  /** One moment for all reads of a barrier: they are computed now, and answered once enough members hold what they saw. */
  #snapshot(effect: Extract<Effect, { type: "snapshot" }>): void {
    const snapshot = this.#o.store.snapshot();
    try {
      for (const request of effect.requests) this.#pending.get(request)?.onSnapshot?.(snapshot);
      const frontier = new Map(snapshot.frontier(effect.partition).map((head) => [head.writer, head.seq] as const));
      this.#perform((this.#replica as Replica).snapshotTaken(effect.barrier, frontier, this.#o.system.monotonic()));
    } catch (error) {
      // What comes after this effect does not wait for it.
      if (!this.damagedBy(error)) throw error;
    } finally {
      void snapshot.close();
    }
  }

  // ---- storage: group commit -----------------------------------------------------------------------------------

  /** What arrives while one fsync runs shares the next. */
  #flushSoon(): void {
    if (this.#flushing || this.#stopped) return;
    this.#flushing = true;
    this.#o.system.soon(() => void this.#flushLoop());
  }

  async #flushLoop(): Promise<void> {
    const { store, system, meter, index } = this.#o;
    try {
      while (store.staged.hasStaged) {
        const begun = system.monotonic();
        const { batches, changes } = await store.flush();
        index.committed(changes);
        meter.observe("commit_seconds", (system.monotonic() - begun) / 1000);
        meter.observe("group_commit_deltas", batches.length);
        this.#hasNews = true;
        this.#perform(this.#replica?.persisted(batches, system.monotonic()) ?? []);
      }
    } catch (error) {
      this.#fatal(error as Error);
    } finally {
      this.#flushing = false;
    }
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => this.#o.system.after(FLUSHED_MS, resolve));
  }

  // ---- peers ---------------------------------------------------------------------------------------------------

  #peer(peer: PeerInfo, connected: boolean): void {
    const now = this.#o.system.monotonic();
    this.#forming?.peer(peer, connected);
    if (this.#replica !== undefined) this.#perform(this.#replica.peer(peer.node, connected ? peer.writer : undefined, now, peer.version));
    this.#changing?.peer(peer, connected);
    this.resealing?.peer(peer, connected);
    this.#layoutToldAt.delete(peer.node);
    if (!connected) this.#requests?.gone(peer.node);
    else if (peer.layoutVersion < (this.layout?.version ?? 0)) this.#tellLayout(peer.node);
  }

  /** Whoever goes by an older layout, or by none, learns ours: a node that is no member forwards by it. Listed names learn the first through formation. */
  #tellLayout(node: NodeId): void {
    const now = this.#o.system.monotonic();
    if (this.layout === undefined || now < (this.#layoutToldAt.get(node) ?? 0)) return;
    this.#layoutToldAt.set(node, now + LAYOUT_AGAIN_MS);
    this.links?.send(node, { type: "layout", bytes: encodeLayout(this.layout) });
  }

  #message(verified: VerifiedMessage, peer: PeerInfo): void {
    const { message, header } = verified;
    if (header.layoutVersion < (this.layout?.version ?? 0)) this.#tellLayout(peer.node);
    switch (message.type) {
      case "formation":
        this.#forming?.receive(peer.node, message.bytes, this.layout);
        break;
      case "layout":
        this.#hearLayout(peer, decodeLayout(message.bytes));
        break;
      case "vote":
        if (header.federation !== null && header.federation === this.layout?.federation) this.#changing?.receive(peer.writer, message.bytes);
        break;
      case "succeed":
        if (header.federation !== null && header.federation === this.layout?.federation) this.#changing?.claimed(peer, message);
        break;
      case "lives":
        if (header.federation !== null && header.federation === this.layout?.federation)
          this.#changing?.lives(peer, message.name, message.incarnation);
        break;
      case "forward":
      case "forwarded":
        this.#requests?.receive(verified);
        break;
      case "sealed-under":
        this.resealing?.received(peer.node, message);
        break;
      case "snapshot-want":
        if (this.#replica?.connectedMembers().includes(peer.node)) void this.#serveSnapshot(peer.node, message);
        break;
      case "snapshot-part":
        if (this.#replica?.connectedMembers().includes(peer.node)) void this.#copying?.received(peer.node, message);
        break;
      default:
        if (this.#replica !== undefined) this.#perform(this.#replica.receive(verified, this.#o.system.monotonic(), this.#o.system.now()));
    }
  }

  // ---- layout --------------------------------------------------------------------------------------------------

  #hearLayout(peer: PeerInfo, layout: Layout): void {
    const { layout: ours } = this;
    if (ours === undefined && layout.version === 1) this.#forming?.told(peer.node, layout);
    if (ours !== undefined && (layout.federation !== ours.federation || layout.version <= ours.version)) return;
    if (ours === undefined && layout.version === 1) return;
    // What follows ours must be a step from it, or an operator's word.
    if (ours !== undefined && layout.version === ours.version + 1 && !layout.forced && stepBetween(ours, layout) === undefined) {
      this.#o.log.warn({ peer: peer.node, version: layout.version }, "a layout that does not follow ours is not adopted");
      return;
    }
    void this.#adopt(layout);
  }

  /** An operator goes on without members whose disks are lost for good, with no vote. @throws ApiError conflict, while one of them is connected */
  async recover(lost: readonly string[]): Promise<Layout> {
    const layout = this.layout;
    if (layout === undefined) throw new ApiError("conflict", "There is no layout to recover.");
    const living = layout.members.find((member) => lost.includes(member.name) && this.links?.peer(member.node)?.writer === member.writer);
    if (living !== undefined) throw new ApiError("conflict", `${living.name} is connected: it is not lost. Remove it with layout remove.`);
    const next = recovered(layout, lost);
    this.#o.log.warn({ version: next.version, lost }, "an operator recovers the layout without a vote");
    await this.#adopt(next);
    this.#tellEverybody();
    return next;
  }

  /**
   * An operator says that this node takes the place of the member whose name it has: disk and identity of that one are lost. The others vote on it.
   * @param deadline monotonic ms
   * @throws ApiError conflict: the member lives. no_quorum: not decided by the deadline; it goes on while this node runs
   */
  async succeed({ name, node, incarnation }: PeerInfo, deadline: number): Promise<void> {
    const { system } = this.#o;
    const isListed = (): boolean => votersOf(this.layout as Layout).some((member) => member.name === name && member.node === node);
    if (this.#changing === undefined || this.#replica?.standing !== "counting")
      throw new ApiError("conflict", "Ask this of a member that counts (continuum status).");
    this.#changing.succeed({ name, node, incarnation, automatic: false });
    while (!isListed()) {
      if (!this.#changing.succeeds(name) && !isListed())
        throw new ApiError("conflict", `The member ${name} lives under its old identity: stop one of the two, or start one under another NODE_NAME.`);
      if (this.#stopped || system.monotonic() >= deadline)
        throw new ApiError(
          "no_quorum",
          `Not enough members have agreed yet that ${name} is lost. It goes on while this node runs: continuum layout history.`,
        );
      await new Promise<void>((resolve) => system.after(SUCCEEDED_LOOK_MS, resolve));
    }
  }

  /** This node says by itself that it takes the place of the member whose name it has, to whoever is connected. */
  claimPlace(): void {
    const { settings, store, node } = this.#o;
    for (const peer of this.links?.peers() ?? [])
      if (peer.version >= 2)
        this.links?.send(peer.node, { type: "succeed", name: settings.name, node, incarnation: store.incarnation, automatic: true });
  }

  /** Persisted before it is used; one after the other. */
  #adopt(layout: Layout): Promise<void> {
    this.#adopting = this.#adopting.then(async () => {
      if (this.#stopped || layout.version <= (this.layout?.version ?? 0)) return;
      try {
        await this.#o.store.putLayout(layout.version, encodeLayout(layout), this.#o.system.now());
      } catch (error) {
        this.#fatal(error as Error);
        return;
      }
      this.#guard(() => (this.#replica === undefined ? this.#run(layout) : this.#change(this.#replica, layout)));
    });
    return this.#adopting;
  }

  #change(replica: Replica, layout: Layout): void {
    const { log, system } = this.#o;
    log.info({ version: layout.version, phase: layout.phase, members: layout.members.map((member) => member.name) }, "layout holds");
    this.#perform(replica.adopt(layout, system.monotonic()));
    // Who is listed only now is met now.
    const known = new Set(replica.connectedMembers());
    for (const peer of this.links?.peers() ?? [])
      if (!known.has(peer.node)) this.#perform(replica.peer(peer.node, peer.writer, system.monotonic(), peer.version));
    this.#changing?.adopted(layout);
    this.#finishCopies(replica);
  }

  #tellEverybody(): void {
    this.#layoutToldAt.clear();
    for (const peer of this.links?.peers() ?? []) this.#tellLayout(peer.node);
  }

  #run(layout: Layout): void {
    const { store, log, system } = this.#o;
    // Of a copy that is being replaced the disk knows only what it held before.
    const replaced = this.#damaged.flatMap(({ partition, kind }) => (kind === "heads" ? (store.incomplete.get(partition) ?? []) : []));
    this.#replica = new Replica({
      writer: this.writer,
      layout,
      state: store.staged,
      heads: [...store.streams.frontiers, ...replaced],
      marks: store.streams.marks,
      highWater: store.highWater,
      firstBarrier: 1 + Math.floor(system.random() * 2 ** 48),
      wallLead: system.now() - system.monotonic(),
      start: this.#start,
      startAt: (count) => (count > this.#start.count ? null : store.startAt(count)),
      toldBefore: (member) => this.#toldBefore.get(member),
      ownSeqGivenUp: (partition) => store.ownHeads(partition).find((head) => head.writer === this.writer)?.seq ?? 0,
      damaged: this.#damaged,
      hasCounted: this.#hasCounted,
      strictStart: this.#o.settings.strictStart,
      secrets: this.#o.federation?.keyring.ids ?? [],
    });
    for (const name of ["replicationFactor", "resonanceDecay", "hebbianRate", "periodMs"] as const) {
      const [agreed, asked] = [layout[name], this.#o.settings.layout[name]];
      if (agreed !== asked)
        log.warn(
          { setting: name, agreed, asked },
          "the layout was formed with another value than this node is configured with; the layout's is used",
        );
    }
    const listed = votersOf(layout).some((member) => member.writer === this.writer);
    log.info(
      { version: layout.version, federation: layout.federation, members: layout.members.length },
      listed ? "layout holds" : "this node is in no layout: it forwards",
    );
    this.#perform(this.#replica.tick(system.monotonic(), system.now()));
    this.#writingAgain = new WritingAgain({
      ...this.#o,
      replica: this.#replica,
      propose: (proposal) => this.propose(proposal),
      onFailure: (error) => this.#failed(error),
    });
    this.#collecting = new Collecting({
      ...this.#o,
      replica: this.#replica,
      retentionMs: this.#o.settings.logRetentionMs,
      paceMs: () => this.#o.settings.collectPaceMs,
      propose: (proposal) => this.propose(proposal),
      onFailure: (error) => this.#failed(error),
    });
    if (this.links !== undefined) {
      this.#beginChanging(this.links, this.#replica);
      this.#beginCopying(this.links, this.#replica);
    }
    for (const peer of this.links?.peers() ?? []) {
      this.#perform(this.#replica.peer(peer.node, peer.writer, system.monotonic(), peer.version));
      if (peer.layoutVersion < layout.version) this.#tellLayout(peer.node);
    }
  }

  // ---- snapshots of partitions ---------------------------------------------------------------------------------

  #beginCopying(links: Links, replica: Replica): void {
    const { store, system, log } = this.#o;
    this.#snapshots = new Snapshots(store, system);
    this.#copying = new Copying({
      store,
      system,
      own: () => this.writer,
      sources: (partition) => replica.snapshotSources(partition),
      ask: (node, partition, id, after) => links.send(node, { type: "snapshot-want", partition, id, after }),
      copied: (partition, heads) => this.#guard(() => this.#perform(replica.fetched(partition, heads, store.staged.highWater, system.monotonic()))),
      failed: (partition, reason, source, detail) => {
        log.warn({ partition, source, reason, detail }, "a snapshot of a partition did not come");
        if (reason !== "wrong" && !store.incomplete.has(partition))
          this.#guard(() => this.#perform(replica.fetched(partition, undefined, replica.highWater, system.monotonic())));
        // What was cleared for it can only be filled by another one.
        else system.after(COPY_AGAIN_MS, () => this.#guard(() => this.#copying?.begin(partition)));
      },
      onFailure: (error) => this.#fatal(error),
    });
    this.#finishCopies(replica);
  }

  /** What a crash interrupted is taken up again, or given up when this node does not keep the partition any more. */
  #finishCopies(replica: Replica): void {
    for (const partition of this.#o.store.incomplete.keys()) {
      if (replica.takesUp(partition)) this.#copying?.begin(partition);
      else void this.#drop(partition, "heads");
    }
  }

  async #serveSnapshot(to: NodeId, want: MessageOf<"snapshot-want">): Promise<void> {
    try {
      const part = await (this.#snapshots as Snapshots).part(to, want);
      this.#o.meter.count("sync_operation", 1, "snapshot");
      this.links?.send(to, { type: "snapshot-part", ...part });
    } catch (error) {
      this.#failed(error as Error);
      const { partition, id } = want;
      this.links?.send(to, { type: "snapshot-part", partition, id, frontier: [], rows: [], last: false, refused: "not_held" });
    }
  }

  #beginChanging(links: Links, replica: Replica): void {
    const { store, system, log } = this.#o;
    this.#queue = new LayoutQueue({
      reader: () => store.stagedReader(SYSTEM_TENANT, replica.layout),
      run: async (operation, args, call) => this.#requests?.run(operation, args, call),
      system,
      log,
    });
    this.#changing = new Changing(
      {
        ...this.#o,
        links,
        replica,
        queue: this.#queue,
        writer: this.writer,
        onDecided: (layout) => void this.#adopt(layout).then(() => this.#tellEverybody()),
        guard: (run) => this.#guard(run),
        onFailure: (error) => this.#fatal(error),
      },
      this.#vote,
    );
  }

  // ---- repair asked for ----------------------------------------------------------------------------------------

  /** Compares with every connected member now, as every few seconds by itself. @returns with how many */
  compareNow(): number {
    const { replica } = this;
    if (replica === undefined) return 0;
    const nodes = replica.connectedMembers();
    this.#guard(() => {
      for (const node of nodes) this.#perform(replica.compareWith(node, this.#o.system.monotonic()));
    });
    return nodes.length;
  }

  // ---- damaged copies ------------------------------------------------------------------------------------------

  /** Rows of a copy are not what was written. It is replaced by another replica's, if there is one. */
  damaged({ partition, holding }: Place, detail: string): void {
    const effects = this.#replica?.damaged(partition, holding === "replica" ? "heads" : "marks", this.#o.system.monotonic()) ?? [];
    if (effects.length > 0)
      this.#o.log.error({ partition, what: holding, detail }, "a copy on this disk is not what was written: the disk may be failing");
    this.#guard(() => this.#perform(effects));
  }

  /** Whoever came to read a row and found it changed. @returns false: the error is another one, or concerns more than one copy */
  damagedBy(error: unknown): boolean {
    if (!(error instanceof StoreError) || error.code !== "CORRUPT" || error.place === undefined || this.#replica === undefined) return false;
    this.damaged(error.place, error.message);
    return true;
  }

  // ---- starting, counting, giving up ----------------------------------------------------------------------------

  /** Others have heard of more than this disk knows: what it holds stays, under a new incarnation, and everything begins again (P4). */
  async #becomeAnother(reason: string, tails: readonly OwnTail[]): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#cancelTick();
    const { store, system, log } = this.#o;
    log.error({ reason, incarnation: store.incarnation }, "this disk is a copy of one that went on: it goes on under a new incarnation");
    try {
      // What is staged comes first: a flush after this would write the frontiers as they were.
      while (this.#flushing) await this.#pause();
      if (store.staged.hasStaged) await store.flush();
      await store.renewIncarnation((length) => system.randomBytes(length), this.writer, tails);
    } catch (error) {
      this.#o.onFatal(error as Error);
      return;
    }
    this.#o.onCopy(reason);
  }

  async #count(): Promise<void> {
    try {
      await this.#o.store.putMeta("counted", new TextEncoder().encode(this.#o.store.incarnation));
    } catch (error) {
      this.#fatal(error as Error);
      return;
    }
    this.#guard(() => this.#perform(this.#replica?.counted(this.#o.system.monotonic()) ?? []));
  }

  async #drop(partition: Partition, kind: "heads" | "marks"): Promise<void> {
    if (kind === "heads") this.#copying?.cancel(partition);
    try {
      await this.#o.store.dropPartition(partition, kind === "heads" ? "replica" : "witness", this.writer);
    } catch (error) {
      this.#fatal(error as Error);
      return;
    }
    this.#guard(() => this.#perform(this.#replica?.dropped(partition, kind, this.#o.system.monotonic()) ?? []));
  }

  /** What the members told, so that a start of theirs, or of ours, can be compared with it. */
  #writeTold(now: number): void {
    if (now < this.#toldAt) return;
    this.#toldAt = now + TOLD_MS;
    const replica = this.#replica as Replica;
    for (const member of votersOf(replica.layout)) {
      const revision = replica.toldRevision(member.writer);
      const told = revision === this.#toldWritten.get(member.writer) ? undefined : replica.toldBy(member.writer);
      if (told === undefined) continue;
      this.#toldWritten.set(member.writer, revision);
      this.#o.store.putTold(member.writer, told).catch((error: Error) => this.#fatal(error));
    }
  }

  // ---- time ----------------------------------------------------------------------------------------------------

  #tick(): void {
    if (this.#stopped) return;
    const now = this.#o.system.monotonic();
    const replica = this.#replica;
    this.#guard(() => this.#forming?.tick(now));
    this.#guard(() => this.resealing?.tick(now));
    if (replica !== undefined) {
      this.#guard(() => this.#perform(replica.tick(now, this.#o.system.now())));
      // Reads the queue of changes: a row of it that is damaged must not keep a better one from coming.
      this.#guard(() => this.#changing?.tick(now));
      this.#guard(() => {
        this.#copying?.tick();
        this.#collecting?.tick(now);
        this.#writingAgain?.tick(now);
        this.#writeTold(now);
        this.#compare(now);
        this.#news(now);
      });
    }
    this.#cancelTick = this.#o.system.after(TICK_MS, () => this.#tick());
  }

  /** Every few seconds with jitter, with each peer: finds whatever a lost message left different. */
  #compare(now: number): void {
    for (const node of (this.#replica as Replica).connectedMembers()) {
      const at = this.#compareAt.get(node);
      if (at !== undefined && now < at) continue;
      this.#compareAt.set(node, now + this.#o.settings.syncIntervalMs * (0.5 + this.#o.system.random()));
      if (at !== undefined) this.#perform((this.#replica as Replica).compareWith(node, now));
    }
  }

  #news(now: number): void {
    if (!this.#hasNews || now < this.#newsAt) return;
    this.#hasNews = false;
    this.#newsAt = now + NEWS_MS;
    this.#o.federation?.network.announce(new Uint8Array([this.layout?.version ?? 0]));
  }

  // ---- failure -------------------------------------------------------------------------------------------------

  /** A broken invariant ends the process rather than the data. */
  #guard(run: () => void): void {
    if (this.#stopped) return;
    try {
      run();
    } catch (error) {
      // What a peer sent may be malformed deep inside; that is its fault and changes nothing here.
      if (error instanceof ProtocolError && error.code !== "INVARIANT") this.#o.log.warn({ code: error.code, ...error.facts }, error.message);
      else this.#failed(error as Error);
    }
  }

  /** What ends the process, unless it is one copy on the disk that can be taken again. */
  #failed(error: Error): void {
    if (!this.damagedBy(error)) this.#fatal(error);
  }

  #fatal(error: Error): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#cancelTick();
    this.#o.onFatal(error);
  }
}
