/**
 * The state machine of one member: `step(input) -> effects`. Pure: it never waits, reads no clock and no disk; time and stored state arrive as arguments.
 * It numbers what clients write here, accepts what other writers push, answers writes when their level holds it, and keeps reads behind their barrier.
 * Each decision has a file of its own (acknowledge, barrier, catch-up, witness, knowledge, membership, spread, streams); this one connects them.
 */
import { Acknowledgements } from "./acknowledge.ts";
import { Barriers } from "./barrier.ts";
import { CatchUp } from "./catch-up.ts";
import { type Hlc, laterHlc, tickHlc } from "./clock.ts";
import { buildDelta, type Delta, hashOf } from "./delta.ts";
import type { Batch, Effect, Proposal, ReadRequest, Refusal, RequestId } from "./effects.ts";
import { ProtocolError } from "./errors.ts";
import type { OpenedDelta, VerifiedMessage } from "./frame.ts";
import { covers, type Frontier, type StreamHead } from "./frontier.ts";
import { applyDelta, type RecordState } from "./graph/apply.ts";
import { contribute } from "./graph/contribute.ts";
import type { KeyHash, NodeId, Partition, WriterId } from "./ids.ts";
import { Knowledge } from "./knowledge.ts";
import { groupOf, type Layout } from "./layout.ts";
import { HEADS_STREAMS_MAX, INTERVAL_DELTAS_MAX } from "./limits.ts";
import { Membership, type Peer, type Role } from "./membership.ts";
import type { Tally } from "./quorum.ts";
import { pushes, reports } from "./spread.ts";
import { Streams } from "./streams.ts";
import { witnessMay } from "./witness.ts";

/**
 * Stored state as it stands with everything staged, flushed or not; read synchronously inside a step. Staging makes a batch part of it at once, so one
 * step may number several deltas; the driver flushes what is staged, in order, and reports it with `persisted`.
 */
export interface StagedState extends RecordState {
  stage(batch: Batch): void;
  /** Executions of a key that are applied here, in order of arrival. */
  executions(partition: Partition, key: KeyHash): readonly { readonly writer: WriterId; readonly seq: number }[];
  /** A delta of the log. */
  delta(partition: Partition, writer: WriterId, seq: number): Delta | undefined;
}

export interface ReplicaStart {
  readonly writer: WriterId;
  readonly layout: Layout;
  readonly state: StagedState;
  /** Frontiers and marks as stored. */
  readonly streams: readonly StreamHead[];
  /** Highest clock value ever stored. */
  readonly highWater: Hlc;
  /** Random whole number: where this process begins to number its barriers. */
  readonly firstBarrier: number;
}

/** How long a live push may bring what another member reported first, ms; asking at once would double the traffic under load. */
const PATIENCE_MS = 100;

export class Replica {
  readonly layout: Layout;
  readonly #writer: WriterId;
  readonly #state: StagedState;
  readonly #streams: Streams;
  readonly #knowledge = new Knowledge();
  readonly #members: Membership;
  readonly #acknowledgements: Acknowledgements;
  readonly #barriers: Barriers;
  readonly #catchUp: CatchUp;
  /** Per stream this node is witness of: sealed deltas up to here are forgotten. */
  readonly #forgotten = new Map<string, number>();
  #highWater: Hlc;
  #now = 0;

  constructor(start: ReplicaStart) {
    this.layout = start.layout;
    this.#members = new Membership(start.layout, start.writer);
    this.#writer = start.writer;
    this.#state = start.state;
    this.#streams = new Streams(start.streams);
    this.#highWater = start.highWater;
    this.#acknowledgements = new Acknowledgements(
      (partition, writer, seq) => this.#tally(partition, new Map([[writer, seq]])),
      (partition) => this.#members.counts(partition),
    );
    this.#barriers = new Barriers(
      {
        others: (partition) =>
          this.#members.others(partition).map((member) => ({
            node: member.node,
            writer: member.writer,
            isReplica: this.#members.isReplica(partition, member.writer),
          })),
        group: (partition) => this.#members.counts(partition),
        ownFrontier: (partition) => this.#streams.durableFrontier(partition),
        holders: (partition, frontier) => this.#tally(partition, frontier),
        need: (partition, frontier, effects) => {
          for (const [writer, seq] of frontier) this.#catchUp.learn(partition, writer, seq, this.#patience(writer), this.#now, effects);
        },
      },
      start.firstBarrier,
    );
    this.#catchUp = new CatchUp({
      stagedSeq: (partition, writer) => this.#streams.staged(partition, writer).seq,
      durableSeq: (partition, writer) => this.#streams.durable(partition, writer),
      sources: (partition, writer, seq) => this.#sources(partition, writer, seq),
    });
  }

  /** Undefined: this node is in no group of the partition, or not a member at all. */
  role(partition: Partition): Role | undefined {
    return this.#members.role(partition);
  }

  /** The highest clock value issued or seen. */
  get highWater(): Hlc {
    return this.#highWater;
  }

  // ---- clients -------------------------------------------------------------------------------------------------

  /** Whether the key was executed here already (P5); then `propose` answers with its result and decides nothing. */
  executed(partition: Partition, key: KeyHash): boolean {
    return this.#state.executions(partition, key).length > 0;
  }

  /** The time, ms, that a delta numbered now will carry. @param wall wall clock, ms */
  timeOfNext(wall: number): number {
    return tickHlc(this.#highWater, wall)[0];
  }

  propose(proposal: Proposal, now: number): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    const { request, partition, tenant, key, level } = proposal;
    if (this.role(partition) !== "replica") return [refusal(request, "not_replica", "This node holds no full replica of the partition.")];
    const earlier = this.#state.executions(partition, key)[0];
    if (earlier !== undefined) {
      this.#repeat(proposal, earlier, effects);
      return effects;
    }
    const unreachable = this.#members.unreachable(partition, level);
    if (unreachable !== undefined) return [refusal(request, "no_quorum", unreachable)];
    const hlc = tickHlc(this.#highWater, proposal.wall);
    const staged = this.#streams.staged(partition, this.#writer);
    const by = { tenant, writer: this.#writer, hlc, decay: this.layout, frontier: this.#streams.stagedFrontier(partition) };
    const numbered = contribute(proposal.contributions, by, this.#state);
    if (numbered.entries.length === 0) {
      if (level === "one") this.#answerWithoutDelta(proposal, staged.seq, effects);
      else effects.push({ type: "nothing", request });
      return effects;
    }
    let delta: Delta;
    try {
      delta = buildDelta(
        { writer: this.#writer, partition, seq: staged.seq + 1, previous: staged.hash, hlc, key, saw: numbered.saw },
        { tenant, fingerprint: proposal.fingerprint, answer: proposal.answer, entries: numbered.entries },
      );
    } catch (error) {
      if (error instanceof ProtocolError && error.code === "TOO_LARGE")
        return [refusal(request, "too_large", "This request makes a larger change than one delta may hold; split it.")];
      throw error;
    }
    this.#highWater = hlc;
    this.#stage({ type: "delta", delta, changes: applyDelta(delta, this.#state, []) });
    this.#acknowledgements.add({
      request,
      partition,
      writer: this.#writer,
      seq: delta.header.seq,
      level,
      deadline: proposal.deadline,
      answer: proposal.answer,
    });
    return effects;
  }

  read(request: ReadRequest, now: number): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    // A witness has marks but no graph: what it would answer from is empty.
    if (this.role(request.partition) !== "replica")
      return [refusal(request.request, "not_replica", "This node holds no full replica of the partition.")];
    const unreachable = request.level === "one" ? undefined : this.#members.unreachable(request.partition, request.level);
    if (unreachable !== undefined) return [refusal(request.request, "no_quorum", unreachable)];
    this.#barriers.read(request, now, effects);
    return effects;
  }

  /** For reads at `one` with a frontier token: whether this node holds it; what is missing is asked for. */
  holds(partition: Partition, frontier: Frontier, now: number): { readonly held: boolean; readonly effects: Effect[] } {
    this.#now = now;
    const effects: Effect[] = [];
    const held = covers(new Map(this.#streams.durableFrontier(partition)), frontier);
    if (!held) for (const [writer, seq] of frontier) this.#catchUp.learn(partition, writer, seq, this.#patience(writer), now, effects);
    return { held, effects };
  }

  snapshotTaken(barrier: number, frontier: Frontier, now: number): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    this.#barriers.snapshotTaken(barrier, frontier, now, effects);
    return effects;
  }

  // ---- storage -------------------------------------------------------------------------------------------------

  /** These batches are on disk, fsynced, in this order. Only now may anybody hear of them (P1). */
  persisted(batches: readonly Batch[], now: number): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    const touched = new Map<string, StreamHead>();
    const own = new Map<Partition, Delta[]>();
    for (const batch of batches) {
      const head = headOf(batch);
      if (head === undefined) continue;
      this.#streams.flush(head);
      touched.set(`${head.partition}/${head.writer}`, head);
      if (batch.type === "delta" && head.writer === this.#writer) {
        const deltas = own.get(head.partition);
        if (deltas === undefined) own.set(head.partition, [batch.delta]);
        else deltas.push(batch.delta);
      }
    }
    const others = (partition: Partition): NodeId[] => this.#members.others(partition).map((member) => member.node);
    effects.push(...pushes(own, others));
    const foreign = [...touched.values()].filter((head) => head.writer !== this.#writer);
    effects.push(...reports(foreign, others));
    for (const head of touched.values()) this.#held(head.partition, head.writer, effects);
    this.#catchUp.flushed(now, effects);
    return effects;
  }

  // ---- peers ---------------------------------------------------------------------------------------------------

  /** A hello named this member's incarnation on a live connection; or the connection went. Whoever is not listed does not count and is told nothing. */
  peer(node: NodeId, writer: WriterId | undefined, now: number): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    if (writer === undefined) {
      this.#members.disconnect(node);
      this.#catchUp.gone(node, now, effects);
      return effects;
    }
    this.#members.disconnect(node);
    if (!this.#members.connect({ node, writer })) return effects;
    this.#tellAll(node, writer, effects);
    for (const pull of this.#catchUp.lacking()) this.#catchUp.learn(pull.partition, pull.writer, pull.known, 0, now, effects);
    return effects;
  }

  receive(verified: VerifiedMessage, now: number): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    const peer = this.#members.peer(verified.from);
    // An ack, mark or frontier counts only from a listed member, under the layout we count with.
    const { federation, writer, layoutVersion } = verified.header;
    if (peer === undefined || peer.writer !== writer || federation !== this.layout.federation || layoutVersion !== this.layout.version)
      return effects;
    const { message } = verified;
    switch (message.type) {
      case "push":
        this.#takePush(peer, verified.deltas, effects);
        break;
      case "repair": {
        const brought = this.#take(peer, verified.deltas, effects);
        this.#learn(peer.writer, [{ partition: message.partition, writer: message.writer, seq: message.to, hash: "" }], effects);
        this.#catchUp.answered(message.partition, message.writer, peer.node, brought, now, effects);
        break;
      }
      case "held":
        this.#learn(peer.writer, message.heads, effects);
        break;
      case "want":
        this.#serve(peer, message.partition, message.writer, message.from, message.to, effects);
        break;
      case "ask":
        if (this.role(message.partition) === undefined) break;
        for (const [writer, seq] of message.frontier) this.#learn(peer.writer, [{ partition: message.partition, writer, seq, hash: "" }], effects);
        effects.push({
          type: "send",
          to: peer.node,
          message: { type: "told", id: message.id, partition: message.partition, heads: this.#streams.durableHeads(message.partition) },
        });
        break;
      case "told": {
        const heads = message.heads.filter((head) => head.partition === message.partition);
        this.#learn(peer.writer, heads, effects);
        const isReplica = this.#members.isReplica(message.partition, peer.writer);
        if (!isReplica && !this.#members.isWitness(message.partition, peer.writer)) break;
        this.#barriers.told(
          message.id,
          peer.node,
          isReplica,
          heads.map((head) => [head.writer, head.seq] as const),
          now,
          effects,
        );
        break;
      }
      case "digest":
        if (message.reply) this.#tellAll(peer.node, peer.writer, effects);
        else if (message.digest !== this.#digestOfPeer(peer.writer))
          effects.push({ type: "send", to: peer.node, message: { type: "digest", digest: this.#digestForPeer(peer.writer), reply: true } });
        break;
      default:
        break;
    }
    return effects;
  }

  // ---- time ----------------------------------------------------------------------------------------------------

  tick(now: number): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    this.#acknowledgements.expire(now, effects);
    this.#barriers.tick(now, effects);
    this.#catchUp.tick(now, effects);
    return effects;
  }

  /** The periodic comparison that finds every difference, should a message have been lost. */
  compareWith(node: NodeId): Effect[] {
    const peer = this.#members.peer(node);
    if (peer === undefined) return [];
    return [{ type: "send", to: node, message: { type: "digest", digest: this.#digestForPeer(peer.writer), reply: false } }];
  }

  // ---- for status ----------------------------------------------------------------------------------------------

  ownHeads(partition: Partition): StreamHead[] {
    return this.#streams.durableHeads(partition);
  }
  partitions(): Partition[] {
    return [...this.#streams.partitions()].sort((a, b) => a - b);
  }
  heldBy(member: WriterId, partition: Partition, writer: WriterId): number {
    return this.#knowledge.held(member, partition, writer);
  }
  lacking(): readonly { partition: Partition; writer: WriterId; known: number }[] {
    return this.#catchUp.lacking();
  }
  connectedMembers(): readonly NodeId[] {
    return this.#members.nodes();
  }

  // ---- inside --------------------------------------------------------------------------------------------------

  /** The key was executed already: answer with its result once the level asked for holds it. */
  #repeat(proposal: Proposal, earlier: { writer: WriterId; seq: number }, effects: Effect[]): void {
    const { request, partition } = proposal;
    const delta = this.#state.delta(partition, earlier.writer, earlier.seq);
    if (delta === undefined) throw new ProtocolError("INVARIANT", "a key without its delta", { writer: earlier.writer, seq: earlier.seq });
    if (delta.body.fingerprint !== proposal.fingerprint) {
      effects.push(refusal(request, "idempotency_key_reused", "This Idempotency-Key was used for a different request."));
      return;
    }
    this.#acknowledgements.add({
      request,
      partition,
      writer: earlier.writer,
      seq: earlier.seq,
      level: proposal.level,
      deadline: proposal.deadline,
      answer: delta.body.answer,
    });
    this.#acknowledgements.check(partition, earlier.writer, effects);
    // Others may hold it without having told: ask, as a barrier does.
    const frontier = this.#streams.durableFrontier(partition);
    for (const member of this.#members.others(partition))
      effects.push({ type: "send", to: member.node, message: { type: "ask", id: 0, partition, frontier } });
  }

  /** Nothing is left to write; but what that was decided on may not be on disk yet, so the answer waits for what this node numbered before. */
  #answerWithoutDelta({ request, partition, level, deadline, answer }: Proposal, seq: number, effects: Effect[]): void {
    if (seq === 0) effects.push({ type: "done", request, done: { level, tally: { replicas: 0, witnesses: 0 }, frontier: [], answer } });
    else {
      this.#acknowledgements.add({ request, partition, writer: this.#writer, seq, level, deadline, answer });
      this.#acknowledgements.check(partition, this.#writer, effects);
    }
  }

  #takePush(peer: Peer, deltas: readonly OpenedDelta[], effects: Effect[]): void {
    // A live push comes from its own writer; what a member stored of others comes as repair.
    const live = deltas.filter(({ delta }) => delta.header.writer === peer.writer);
    this.#take(peer, live, effects);
    const last = new Map<Partition, StreamHead>();
    for (const { delta } of live)
      last.set(delta.header.partition, { partition: delta.header.partition, writer: peer.writer, seq: delta.header.seq, hash: delta.hash });
    this.#learn(peer.writer, [...last.values()], effects);
  }

  /** @returns how many were new and are staged */
  #take(peer: Peer, deltas: readonly OpenedDelta[], effects: Effect[]): number {
    let brought = 0;
    const again = new Map<string, StreamHead>();
    for (const opened of deltas) {
      const { partition, writer, seq, previous } = opened.delta.header;
      const role = this.role(partition);
      if (role === undefined) continue;
      const staged = this.#streams.staged(partition, writer);
      if (seq <= staged.seq) {
        // Duplicates are acknowledged again: the first acknowledgement may have been lost.
        const durable = this.#streams.durable(partition, writer);
        if (seq <= durable)
          for (const head of this.#streams.durableHeads(partition)) if (head.writer === writer) again.set(`${partition}/${writer}`, head);
        if (seq === staged.seq && opened.delta.hash !== staged.hash) effects.push(forkNote(opened.delta, peer));
        continue;
      }
      // A delta that does not follow is neither stored nor acknowledged (P1); the interval is asked for.
      if (seq !== staged.seq + 1) continue;
      if (previous !== staged.hash) {
        effects.push(forkNote(opened.delta, peer));
        continue;
      }
      this.#highWater = laterHlc(this.#highWater, opened.delta.header.hlc);
      if (role === "witness") this.#stage({ type: "sealed", delta: opened.delta, envelope: opened.envelope });
      else this.#stage({ type: "delta", delta: opened.delta, changes: applyDelta(opened.delta, this.#state, this.#sameKey(opened.delta)) });
      brought++;
    }
    if (again.size > 0) effects.push({ type: "send", to: peer.node, message: { type: "held", heads: [...again.values()] } });
    return brought;
  }

  #sameKey(delta: Delta): Delta[] {
    const { partition, key } = delta.header;
    return this.#state.executions(partition, key).flatMap(({ writer, seq }) => {
      const other = this.#state.delta(partition, writer, seq);
      if (other === undefined) throw new ProtocolError("INVARIANT", "a key without its delta", { writer, seq });
      return [other];
    });
  }

  /** The batch takes effect for everything numbered after it. */
  #stage(batch: Batch): void {
    const head = headOf(batch);
    if (head !== undefined) this.#streams.stage(head);
    this.#state.stage(batch);
  }

  /** Something is held further than before, here or elsewhere. */
  #held(partition: Partition, writer: WriterId, effects: Effect[]): void {
    this.#acknowledgements.check(partition, writer, effects);
    this.#barriers.progressed(partition, this.#now, effects);
    if (this.role(partition) === "witness") this.#witness(partition, writer);
  }

  #learn(member: WriterId, heads: readonly StreamHead[], effects: Effect[]): void {
    for (const head of heads) {
      const role = this.role(head.partition);
      if (role === undefined) continue;
      const news = this.#knowledge.learn(member, head.partition, head.writer, head.seq, head.hash);
      const staged = this.#streams.staged(head.partition, head.writer);
      if (head.seq === staged.seq && head.hash !== "" && head.hash !== staged.hash) effects.push(forkedHeadNote(head, member));
      // Its own writer tells in the order it pushes: what is still missing then is a gap.
      const patience = head.writer === member ? 0 : this.#patience(head.writer);
      this.#catchUp.learn(head.partition, head.writer, head.seq, patience, this.#now, effects);
      if (news || role === "witness") this.#held(head.partition, head.writer, effects);
    }
  }

  #witness(partition: Partition, writer: WriterId): void {
    const name = `${partition}/${writer}`;
    const reports = groupOf(this.layout, partition).replicas.map((member) => this.#knowledge.head(member.writer, partition, writer));
    const staged = this.#streams.staged(partition, writer);
    for (const batch of witnessMay(partition, writer, staged, this.#forgotten.get(name) ?? 0, reports)) {
      if (batch.type === "forget") this.#forgotten.set(name, batch.seq);
      this.#stage(batch);
    }
  }

  #serve(peer: Peer, partition: Partition, writer: WriterId, from: number, to: number, effects: Effect[]): void {
    const role = this.role(partition);
    if (role === undefined) return;
    const durable = this.#streams.durable(partition, writer);
    effects.push({
      type: "serve",
      to: peer.node,
      partition,
      writer,
      from,
      to_seq: Math.min(to, durable, from + INTERVAL_DELTAS_MAX - 1),
      sealed: role === "witness",
    });
  }

  /** All heads this node shares with a peer. */
  #tellAll(node: NodeId, writer: WriterId, effects: Effect[]): void {
    const heads = this.#shared(writer).flatMap((partition) => this.#streams.durableHeads(partition));
    // One at the least, also when there is nothing to tell.
    for (let at = 0; at === 0 || at < heads.length; at += HEADS_STREAMS_MAX) {
      effects.push({ type: "send", to: node, message: { type: "held", heads: heads.slice(at, at + HEADS_STREAMS_MAX) } });
    }
  }

  #shared(other: WriterId): Partition[] {
    return this.partitions().filter((partition) => groupOf(this.layout, partition).members.some((member) => member.writer === other));
  }

  #digestForPeer(other: WriterId): string {
    return digestOf(this.#shared(other).flatMap((partition) => this.#streams.durableHeads(partition)));
  }

  /** What its digest must be if we know everything it holds of what we share. */
  #digestOfPeer(other: WriterId): string {
    const shared = [...this.#knowledge.partitions(other)].filter((partition) => this.role(partition) !== undefined).sort((a, b) => a - b);
    return digestOf(shared.flatMap((partition) => this.#knowledge.heads(other, partition)));
  }

  /** Of this node only what is on disk counts, of others what they reported. */
  #tally(partition: Partition, frontier: Frontier): Tally {
    return this.#members.tally(partition, (member) => {
      for (const [writer, seq] of frontier) {
        const held =
          member.writer === this.#writer ? this.#streams.durable(partition, writer) : this.#knowledge.held(member.writer, partition, writer);
        if (held < seq) return false;
      }
      return true;
    });
  }

  #sources(partition: Partition, writer: WriterId, seq: number): NodeId[] {
    return this.#members
      .others(partition)
      .filter((member) => this.#knowledge.held(member.writer, partition, writer) > seq)
      .sort((a, b) => Number(this.#members.isReplica(partition, b.writer)) - Number(this.#members.isReplica(partition, a.writer)))
      .map((member) => member.node);
  }

  /** While its writer is connected, a delta that others hold already is most likely on its way here too. */
  #patience(writer: WriterId): number {
    return this.#members.isConnected(writer) ? PATIENCE_MS : 0;
  }
}

/** The stream position a batch moves, if it moves one. */
export function headOf(batch: Batch): StreamHead | undefined {
  if (batch.type === "mark") return batch.head;
  if (batch.type === "forget") return undefined;
  const { partition, writer, seq } = batch.delta.header;
  return { partition, writer, seq, hash: batch.delta.hash };
}

function digestOf(heads: readonly StreamHead[]): string {
  const lines = heads.map((head) => `${head.partition}/${head.writer}/${head.seq}`).sort();
  return hashOf(lines.join("\n"));
}

function refusal(request: RequestId, code: Refusal, detail: string): Effect {
  return { type: "refuse", request, code, detail };
}

function forkNote(delta: Delta, peer: Peer): Effect {
  return {
    type: "note",
    level: "error",
    message: "a stream has two histories: a delta does not follow what is held",
    facts: { writer: delta.header.writer, partition: delta.header.partition, seq: delta.header.seq, from: peer.node },
  };
}

function forkedHeadNote(head: StreamHead, member: WriterId): Effect {
  return {
    type: "note",
    level: "error",
    message: "a stream has two histories: heads differ at one number",
    facts: { writer: head.writer, partition: head.partition, seq: head.seq, member },
  };
}
