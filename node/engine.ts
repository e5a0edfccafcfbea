/**
 * The driver of one node's protocol: it feeds the pure core (formation, replica) and performs what it asks for, in order. Decides nothing itself.
 * Knows ports only, so the simulator runs this very file on simulated time, network and disk.
 */
import { writerIdOf } from "../crypto/hash.ts";
import type { Keyring } from "../crypto/keyring.ts";
import type { Done, Effect, Proposal, ReadRequest, RequestId } from "../protocol/effects.ts";
import { ProtocolError } from "../protocol/errors.ts";
import type { VerifiedMessage } from "../protocol/frame.ts";
import type { Level, NodeId, Partition, WriterId } from "../protocol/ids.ts";
import { decodeLayout, encodeLayout, type Layout, type LayoutSettings, type MemberFields } from "../protocol/layout.ts";
import type { Message } from "../protocol/message.ts";
import { Replica } from "../protocol/replica.ts";
import { ApiError } from "./errors.ts";
import { Forming, layoutAlone } from "./forming.ts";
import { Links, type PeerInfo } from "./links.ts";
import { Outbox } from "./outbox.ts";
import type { GraphIndex, Log, Meter, Network, System } from "./ports.ts";
import type { Store, StoreSnapshot } from "./store/store.ts";

export interface EngineSettings {
  readonly name: string;
  readonly zone: string;
  readonly weight: number;
  /** FEDERATION_FIRST_MEMBERS; empty: this node forms nothing and waits to be told a layout. */
  readonly firstMembers: readonly string[];
  readonly layout: LayoutSettings;
  readonly consistency: Level;
  readonly syncIntervalMs: number;
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
  /** The disk failed or an invariant broke: nothing may be acknowledged any more, the process must end. */
  readonly onFatal: (error: Error) => void;
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
/** At the least between two gossiped "I have news", ms. */
const NEWS_MS = 1000;

export class Engine {
  readonly writer: WriterId;
  readonly links: Links | undefined;
  readonly #o: EngineOptions;
  readonly #pending = new Map<RequestId, Pending>();
  readonly #outbox: Outbox | undefined;
  readonly #compareAt = new Map<NodeId, number>();
  #replica: Replica | undefined;
  #forming: Forming | undefined;
  #forwarded: (verified: VerifiedMessage) => void = () => undefined;
  #gone: (node: NodeId) => void = () => undefined;
  #lastRequest = 0;
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
      federation: () => ({ federation: this.layout?.federation ?? null, layoutVersion: this.layout?.version ?? 0 }),
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
      onFailure: (error) => this.#fatal(error),
    });
    options.federation.network.onNews = (from) => this.#guard(() => this.#perform(this.#replica?.compareWith(from) ?? []));
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
  get settings(): EngineSettings {
    return this.#o.settings;
  }
  get system(): System {
    return this.#o.system;
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
    const stored = await store.meta("layout");
    if (stored !== undefined) this.#run(decodeLayout(stored));
    else if (this.links === undefined) await this.#adopt(layoutAlone(this.#member(), this.#o.settings.layout, system));
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
    }
    this.#tick();
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
    while (this.#flushing) await new Promise<void>((resolve) => this.#o.system.after(5, resolve));
    if (this.#o.store.staged.hasStaged) await this.#o.store.flush();
  }

  /** Frames of the request layer (forward, forwarded), and the end of a connection. */
  onForward(received: (verified: VerifiedMessage) => void, gone: (node: NodeId) => void): void {
    this.#forwarded = received;
    this.#gone = gone;
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

  /** Of a peer: its answer is "internal", and this log says why. */
  requestFailed(error: unknown, from: NodeId, operation: string): void {
    this.#o.log.error({ peer: from, operation, reason: error instanceof Error ? error.message : String(error) }, "a forwarded request failed here");
  }

  #request(onSnapshot: Pending["onSnapshot"], begin: (request: RequestId) => Effect[]): Promise<Done | undefined> {
    if (this.#stopped) return Promise.reject(new ApiError("overloaded", "This node is stopping; ask another node."));
    const request = ++this.#lastRequest;
    return new Promise<Done | undefined>((resolve, reject) => {
      this.#pending.set(request, { resolve, reject, onSnapshot });
      this.#guard(() => this.#perform(begin(request)));
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
        const code = effect.code === "not_replica" ? "catching_up" : effect.code === "too_large" ? "payload_too_large" : effect.code;
        pending?.reject(new ApiError(code, effect.detail));
        break;
      }
      case "note":
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
      this.#flushing = false;
    } catch (error) {
      this.#fatal(error as Error);
    }
  }

  // ---- peers ---------------------------------------------------------------------------------------------------

  #peer(peer: PeerInfo, connected: boolean): void {
    const now = this.#o.system.monotonic();
    this.#forming?.peer(peer, connected);
    if (this.#replica !== undefined) this.#perform(this.#replica.peer(peer.node, connected ? peer.writer : undefined, now));
    if (connected) this.#tellLayout(peer);
    else this.#gone(peer.node);
  }

  /** Whoever holds no layout learns ours: a node that is no member forwards by it. Listed names learn it through formation. */
  #tellLayout(peer: PeerInfo): void {
    if (this.layout !== undefined && peer.layoutVersion < this.layout.version)
      this.links?.send(peer.node, { type: "layout", bytes: encodeLayout(this.layout) });
  }

  #message(verified: VerifiedMessage, peer: PeerInfo): void {
    const { message } = verified;
    switch (message.type) {
      case "formation":
        this.#forming?.receive(peer.node, message.bytes, this.layout);
        break;
      case "layout":
        if (this.layout === undefined) this.#forming?.told(peer.node, decodeLayout(message.bytes));
        break;
      case "forward":
      case "forwarded":
        this.#forwarded(verified);
        break;
      default:
        if (this.#replica !== undefined) this.#perform(this.#replica.receive(verified, this.#o.system.monotonic()));
    }
  }

  // ---- layout --------------------------------------------------------------------------------------------------

  /** Persisted before it is used. */
  async #adopt(layout: Layout): Promise<void> {
    try {
      await this.#o.store.putMeta("layout", encodeLayout(layout));
    } catch (error) {
      this.#fatal(error as Error);
      return;
    }
    if (this.layout !== undefined) return;
    this.#guard(() => this.#run(layout));
  }

  #run(layout: Layout): void {
    const { store, log } = this.#o;
    this.#replica = new Replica({
      writer: this.writer,
      layout,
      state: store.staged,
      streams: [...store.streams.frontiers, ...store.streams.marks],
      highWater: store.highWater,
      firstBarrier: 1 + Math.floor(this.#o.system.random() * 2 ** 48),
    });
    for (const name of ["replicationFactor", "resonanceDecay", "hebbianRate", "periodMs"] as const) {
      const [agreed, asked] = [layout[name], this.#o.settings.layout[name]];
      if (agreed !== asked)
        log.warn(
          { setting: name, agreed, asked },
          "the layout was formed with another value than this node is configured with; the layout's is used",
        );
    }
    const listed = layout.members.some((member) => member.writer === this.writer);
    log.info(
      { version: layout.version, federation: layout.federation, members: layout.members.length },
      listed ? "layout holds" : "this node is in no layout: it forwards",
    );
    const now = this.#o.system.monotonic();
    for (const peer of this.links?.peers() ?? []) {
      this.#perform(this.#replica.peer(peer.node, peer.writer, now));
      this.#tellLayout(peer);
    }
  }

  // ---- time ----------------------------------------------------------------------------------------------------

  #tick(): void {
    if (this.#stopped) return;
    this.#guard(() => {
      const now = this.#o.system.monotonic();
      this.#forming?.tick(now);
      if (this.#replica !== undefined) {
        this.#perform(this.#replica.tick(now));
        this.#compare(now);
        this.#news(now);
      }
    });
    this.#cancelTick = this.#o.system.after(TICK_MS, () => this.#tick());
  }

  /** Every few seconds with jitter, with each peer: finds whatever a lost message left different. */
  #compare(now: number): void {
    for (const node of (this.#replica as Replica).connectedMembers()) {
      const at = this.#compareAt.get(node);
      if (at !== undefined && now < at) continue;
      this.#compareAt.set(node, now + this.#o.settings.syncIntervalMs * (0.5 + this.#o.system.random()));
      if (at !== undefined) this.#perform((this.#replica as Replica).compareWith(node));
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
      else this.#fatal(error as Error);
    }
  }

  #fatal(error: Error): void {
    if (this.#stopped) return;
    this.#stopped = true;
    this.#cancelTick();
    this.#o.onFatal(error);
  }
}
