/**
 * The one door into the memory: runs an operation here when this node holds a full replica of the tenant's partition, else asks one that does. Every
 * request knows its tenant, level and key before it comes here.
 */

import { keyHashOf } from "../crypto/hash.ts";
import type { Keyring } from "../crypto/keyring.ts";
import { HLC_ZERO } from "../protocol/clock.ts";
import { hashOf } from "../protocol/delta.ts";
import type { Done } from "../protocol/effects.ts";
import { contribute } from "../protocol/graph/contribute.ts";

import type { Contribution } from "../protocol/graph/records.ts";

import { isTenant, type KeyHash, type Level, type NodeId, type Partition, type WriterId } from "../protocol/ids.ts";
import { groupOf, type Layout, type Member, partitionOf } from "../protocol/layout.ts";
import { INTERVAL_DELTAS_MAX } from "../protocol/limits.ts";

import type { Engine } from "./engine.ts";
import { ApiError, NotReplica } from "./errors.ts";
import { AskAnother, Forward } from "./forward.ts";
import type { Call, DecideContext, GraphIndex, GraphReader, Meter, Operations, Outcome, ReadOperation, Router, WriteOperation } from "./ports.ts";
import type { StoreSnapshot } from "./store/store.ts";
import { decodeToken, encodeToken } from "./token.ts";

/** No single silent replica may use up the whole deadline while another could answer; ms. */
const ATTEMPT_MIN_MS = 500;

/** About what pings need to give up a peer that is connected and takes nothing: until then it is nearest by what it answered before. */
const SILENT_MS = 10_000;

/** What a write operation makes of one state. */
type Decision = ReturnType<WriteOperation<unknown, unknown>["decide"]> | { readonly refusal: ApiError };

/** About an fsync. */
const PAUSE_MS = 2;

export interface RouterOptions {
  readonly engine: Engine;
  readonly operations: Operations;
  readonly index: GraphIndex;
  readonly meter: Meter;
  readonly self: NodeId;
  /** Undefined: a single node, which never forwards. */
  readonly keyring: Keyring | undefined;
  /** Whether another node may ask for this operation with these arguments (node/arguments.ts). */
  readonly accepts: (operation: string, args: unknown) => boolean;
  /** Round trip to a peer, ms; nearest replica first. */
  readonly latencyMs: (node: NodeId) => number | undefined;
}

export function createRouter(options: RouterOptions): Router {
  return new NodeRouter(options);
}

class NodeRouter implements Router {
  readonly #o: RouterOptions;
  readonly #forward: Forward | undefined;
  /** Replicas that let a request go unanswered: others are asked before them until then. At most as many as ever were members. */
  readonly #silentUntil = new Map<NodeId, number>();

  constructor(options: RouterOptions) {
    this.#o = options;
    const { engine, keyring } = options;
    const forward =
      keyring &&
      new Forward({
        keyring,
        self: options.self,
        system: engine.system,
        send: (to, message) => engine.send(to, message),
        accepts: options.accepts,
        refuse: (from, code, detail, facts) => engine.links?.refuse(from, code, detail, facts),
        execute: (operation, args, call) => this.#execute(operation, args, call),
      });
    engine.attach({
      receive: (verified) => forward?.receive(verified),
      gone: (node) => forward?.gone(node),
      run: (operation, args, call) => this.run(operation, args, call),
    });
    this.#forward = forward;
  }

  async run<T>(operation: string, args: unknown, call: Call): Promise<Outcome<T>> {
    const partition = partitionOf(call.tenant);
    for (;;) {
      const layout = this.#layout();
      if (!this.#executesHere(partition, operation, call)) return (await this.#ask(layout, partition, operation, args, call)) as Outcome<T>;
      try {
        return (await this.#execute(operation, args, call)) as Outcome<T>;
      } catch (error) {
        // Nothing was written. A clock that is wrong here may be right elsewhere.
        if (error instanceof ApiError && error.code === "clock_skew")
          return (await this.#askAfter(error, layout, partition, operation, args, call)) as Outcome<T>;
        // The layout changed on the way: ask those who serve the partition now.
        if (!(error instanceof NotReplica) || this.#executesHere(partition, operation, call)) throw error;
      }
    }
  }

  /** A node that has started and not compared with the others yet answers reads at `one` only. */
  #executesHere(partition: Partition, operation: string, call: Call): boolean {
    const { engine, operations } = this.#o;
    if (engine.replica?.role(partition) === "replica") return true;
    const atOne = (call.level ?? engine.settings.consistency) === "one" && operations[operation]?.type === "read";
    return atOne && engine.replica?.mayReadAtOne(partition) === true;
  }

  /** @throws ApiError the refusal given here, when nobody else can be asked */
  async #askAfter(refusal: ApiError, layout: Layout, partition: Partition, operation: string, args: unknown, call: Call): Promise<Outcome<unknown>> {
    try {
      return await this.#ask(layout, partition, operation, args, call);
    } catch (error) {
      throw error instanceof ApiError && error.code === "no_quorum" ? refusal : error;
    }
  }

  // ---- elsewhere -----------------------------------------------------------------------------------------------

  async #ask(layout: Layout, partition: Partition, operation: string, args: unknown, call: Call): Promise<Outcome<unknown>> {
    const forward = this.#forward;
    const replicas = groupOf(layout, partition).replicas;
    const near = (node: NodeId): number => this.#o.latencyMs(node) ?? Number.MAX_VALUE;
    const behind = (member: Member): number => Number(this.#lacks(member.writer, partition) > INTERVAL_DELTAS_MAX);
    const silent = (node: NodeId): number => Number(this.#o.engine.system.monotonic() < (this.#silentUntil.get(node) ?? 0));
    const connected = replicas
      .filter((member) => this.#o.engine.links?.peer(member.node)?.writer === member.writer)
      .sort((a, b) => silent(a.node) - silent(b.node) || behind(a) - behind(b) || near(a.node) - near(b.node));
    if (forward === undefined || connected.length === 0) {
      throw new ApiError(
        "no_quorum",
        `No full replica of this tenant's partition is connected (${replicas.map((member) => member.name).join(", ")}). Nothing was written.`,
      );
    }
    let inDoubt = false;
    let reason: ApiError | undefined;
    for (const [at, member] of connected.entries()) {
      const left = call.deadline - this.#o.engine.system.monotonic();
      if (left <= 0) break;
      const attempt = Math.min(left, Math.max(ATTEMPT_MIN_MS, left / (connected.length - at)));
      try {
        this.#o.meter.count("sync_operation", 1, "forward");
        const outcome = await forward.ask(member.node, operation, args, call, attempt);
        this.#silentUntil.delete(member.node);
        return outcome;
      } catch (error) {
        if (!(error instanceof AskAnother)) throw error;
        if (error.wasSent) this.#silentUntil.set(member.node, this.#o.engine.system.monotonic() + SILENT_MS);
        inDoubt ||= error.wasSent;
        reason = error.reason ?? reason;
      }
    }
    if (inDoubt && this.#isWrite(operation))
      throw new ApiError(
        "in_doubt",
        "A replica took this request and has not answered; it may have been written. Retry with the same Idempotency-Key.",
      );
    throw reason ?? new ApiError("no_quorum", "No full replica of this tenant's partition answered in time.");
  }

  /** Deltas of the partition that a member has not told it holds, of those that this node knows of: a witness knows nearly all, who is in no group none. */
  #lacks(member: WriterId, partition: Partition): number {
    const { replica } = this.#o.engine;
    const heads = replica?.ownHeads(partition) ?? [];
    return heads.reduce((sum, head) => sum + Math.max(0, head.seq - (replica?.heldBy(member, partition, head.writer) ?? 0)), 0);
  }

  // ---- here ----------------------------------------------------------------------------------------------------

  async #execute(name: string, args: unknown, call: Call): Promise<Outcome<unknown>> {
    if (!isTenant(call.tenant)) throw new ApiError("bad_request", "This is no name of a tenant.");
    const operation = Object.hasOwn(this.#o.operations, name) ? this.#o.operations[name] : undefined;
    if (operation === undefined) throw new ApiError("bad_request", `This node knows no operation ${name}; it may run an older version.`);
    const level = call.level ?? this.#o.engine.settings.consistency;
    try {
      return operation.type === "write" ? await this.#write(operation, name, args, call, level) : await this.#read(operation, args, call, level);
    } catch (error) {
      const { engine } = this.#o;
      if (engine.damagedBy(error) && engine.replica?.role(partitionOf(call.tenant)) !== "replica")
        throw new NotReplica("This node's copy of the partition is damaged, and a whole one is on its way to it.");
      if (error instanceof ApiError && error.status === 503) this.#o.meter.count("consensus_failure", 1, `${level}:${error.code}`);
      throw error;
    }
  }

  async #write(operation: WriteOperation<unknown, unknown>, name: string, args: unknown, call: Call, level: Level): Promise<Outcome<unknown>> {
    const { engine } = this.#o;
    const layout = this.#layout();
    const partition = partitionOf(call.tenant);
    await this.#ready(call.tenant);
    const key = keyHashOf(call.tenant, call.key) as KeyHash;
    const begun = engine.system.monotonic();
    const proposal = { tenant: call.tenant, partition, level, key, fingerprint: fingerprintOf(name, args), deadline: call.deadline };
    let caughtUp = level === "one";
    for (;;) {
      const wall = engine.system.now();
      // Decided and numbered in one tick, on one state: nothing can come between. A key that was executed already is not decided again.
      const decision: Decision = engine.replica?.executed(partition, key)
        ? { contributions: [], answer: null }
        : decided(operation, args, this.#decideContext(engine.store.stagedReader(call.tenant, layout), key, wall));
      if (!caughtUp && !("refusal" in decision) && decision.contributions.some(replaces)) {
        // What is replaced must have been seen: else an edit that was acknowledged before this one began could win by a clock that runs ahead (P2).
        await engine.read({ partition, level, deadline: call.deadline }, () => undefined);
        caughtUp = true;
        continue;
      }
      if (!("refusal" in decision)) {
        const done = await engine.propose({ ...proposal, wall, contributions: decision.contributions, answer: JSON.stringify(decision.answer) });
        this.#o.meter.observe("quorum_wait_seconds", (engine.system.monotonic() - begun) / 1000);
        if (done !== undefined) return this.#outcome(JSON.parse(done.answer), done, layout, partition);
      } else if (level === "one") {
        // It may rest on a deletion that is not on disk yet: it stands only once that is.
        await engine.propose({ ...proposal, wall, contributions: [], answer: "null" });
        throw decision.refusal;
      }
      // "Not found" and "nothing to change" are answers about the state: like a read they stand only behind the barrier, on what its members hold (P2).
      const confirmed = await this.#confirm(operation, args, call, level, layout, key);
      if (confirmed !== undefined) return confirmed;
      // What this node has staged says otherwise than what is on disk: once it is there too, one of the two stands.
      await this.#pause(call.deadline);
    }
  }

  /** @throws ApiError catching_up at the deadline */
  async #pause(deadline: number): Promise<void> {
    const { system } = this.#o.engine;
    if (system.monotonic() >= deadline)
      throw new ApiError("catching_up", "Other writes to the same records kept this one from being decided in time. Nothing was written.");
    await new Promise<void>((resolve) => system.after(PAUSE_MS, resolve));
  }

  /** @returns the answer if nothing is to be written as of the barrier's snapshot; undefined if something is: decide again. @throws ApiError the refusal, or no quorum in time */
  async #confirm(
    operation: WriteOperation<unknown, unknown>,
    args: unknown,
    call: Call,
    level: Level,
    layout: Layout,
    key: KeyHash,
  ): Promise<Outcome<unknown> | undefined> {
    const { engine } = this.#o;
    const partition = partitionOf(call.tenant);
    let decision: Decision = { contributions: [], answer: null };
    let changes = false;
    const done = await engine.read({ partition, level, deadline: call.deadline }, (snapshot) => {
      decision = decided(operation, args, this.#decideContext(snapshot.reader(call.tenant, layout), key, engine.system.now()));
      if ("refusal" in decision) return;
      const by = { tenant: call.tenant, writer: engine.writer, hlc: HLC_ZERO, decay: layout, frontier: {} };
      changes = contribute(decision.contributions, by, snapshot.state).entries.length > 0;
    });
    // A retry whose first execution the barrier brought here: its result is the answer (P5), not what it left behind.
    if (engine.replica?.executed(partition, key)) return undefined;
    if ("refusal" in decision) throw decision.refusal;
    return changes ? undefined : this.#outcome(decision.answer, done, layout, partition);
  }

  #decideContext(reader: GraphReader, key: KeyHash, wall: number): DecideContext {
    const { engine } = this.#o;
    return {
      reader,
      now: engine.replica?.timeOfNext(wall) ?? wall,
      node: engine.settings.name,
      id: (prefix, ordinal) => `${prefix}_${keyHashOf(key, `${prefix}/${ordinal}`)}`,
    };
  }

  async #read(operation: ReadOperation<unknown, unknown>, args: unknown, call: Call, level: Level): Promise<Outcome<unknown>> {
    const { engine } = this.#o;
    const layout = this.#layout();
    const partition = partitionOf(call.tenant);
    await this.#ready(call.tenant);
    const after = call.token === undefined ? [] : decodeToken(call.token, layout.federation, partition);
    if (after.length > 0) await engine.waitUntilHeld(partition, new Map(after), call.deadline);
    const answerFrom = (snapshot: StoreSnapshot): unknown =>
      operation.answer(args, { reader: snapshot.reader(call.tenant, layout), now: engine.system.now(), node: engine.settings.name });
    if (level === "one") {
      const snapshot = engine.store.snapshot();
      try {
        const frontier = snapshot.frontier(partition).map((head) => [head.writer, head.seq] as const);
        return this.#outcome(answerFrom(snapshot), { level, tally: { replicas: 1, witnesses: 0 }, frontier, answer: "" }, layout, partition);
      } finally {
        void snapshot.close();
      }
    }
    let value: unknown;
    let failure: unknown;
    const begun = engine.system.monotonic();
    const done = await engine.read({ partition, level, deadline: call.deadline }, (snapshot) => {
      try {
        value = answerFrom(snapshot);
      } catch (error) {
        failure = error;
      }
    });
    this.#o.meter.observe("barrier_seconds", (engine.system.monotonic() - begun) / 1000);
    // "Not found" is an answer too: it stands only behind the barrier.
    if (failure !== undefined) throw failure;
    return this.#outcome(value, done, layout, partition);
  }

  #outcome(value: unknown, done: Done, layout: Layout, partition: Partition): Outcome<unknown> {
    return {
      value,
      level: done.level,
      acks: done.tally,
      token: encodeToken(layout.federation, partition, done.frontier),
      node: this.#o.engine.settings.name,
    };
  }

  #ready(tenant: string): Promise<void> {
    return this.#o.index.ready(tenant, (prefix) => this.#o.engine.store.indexRows(tenant, prefix));
  }

  #isWrite(operation: string): boolean {
    return this.#o.operations[operation]?.type === "write";
  }

  #layout(): Layout {
    const layout = this.#o.engine.layout;
    if (layout !== undefined) return layout;
    const waiting = this.#o.engine.waitingFor();
    throw new ApiError(
      "no_quorum",
      `The federation has not formed yet${waiting.length > 0 ? `; waiting for ${waiting.join(", ")}` : ""}. Nothing was written.`,
    );
  }
}

/** A key that comes back with another request is noticed by this. 128 bits. */
function fingerprintOf(operation: string, args: unknown): string {
  return hashOf(`${operation} ${JSON.stringify(args)}`).slice(0, 22);
}

function replaces(contribution: Contribution): boolean {
  return contribution.op === "edit" || contribution.op === "register";
}

function decided(operation: WriteOperation<unknown, unknown>, args: unknown, context: DecideContext): Decision {
  try {
    return operation.decide(args, context);
  } catch (error) {
    if (error instanceof ApiError) return { refusal: error };
    throw error;
  }
}
