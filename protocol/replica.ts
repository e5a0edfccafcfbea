/**
 * The state machine of one member: `step(input) -> effects`. Pure: it never waits, reads no clock and no disk; time and stored state arrive as arguments.
 * It numbers what clients write here, accepts what other writers push, answers writes when their level holds it, and keeps reads behind their barrier.
 * Each decision has a file of its own (acknowledge, barrier, catch-up, witness, knowledge, membership, spread, streams); this one connects them.
 */
import { Acknowledgements } from "./acknowledge.ts";
import { Barriers } from "./barrier.ts";
import { CatchUp } from "./catch-up.ts";
import { type Hlc, laterHlc, tickHlc } from "./clock.ts";
import { Copies } from "./copies.ts";
import { buildDelta, type Delta, hashOf } from "./delta.ts";
import type { Batch, DamagedCopy, Effect, OwnTail, Proposal, ReadRequest, Refusal, RequestId } from "./effects.ts";
import { ProtocolError } from "./errors.ts";
import { type FloorContribution, type FloorCut, FloorRounds, missingForFloor } from "./floor.ts";
import type { OpenedDelta, VerifiedMessage } from "./frame.ts";
import { covers, type Frontier, type StreamHead } from "./frontier.ts";
import { applyDelta, type RecordState } from "./graph/apply.ts";
import { contribute } from "./graph/contribute.ts";
import { Handovers, holdsAll, isHandedOver } from "./handover.ts";
import type { KeyHash, Level, NodeId, Partition, WriterId } from "./ids.ts";
import { type Base, baseOf, type Kind, Knowledge } from "./knowledge.ts";
import { audienceOf, countingGroups, groupOf, type Layout, layoutTag, type Member, PARTITIONS, votersOf } from "./layout.ts";
import { ANSWERS_KEPT_MS, HEADS_STREAMS_MAX, INTERVAL_DELTAS_MAX, WITNESS_SEALED_MAX_BYTES } from "./limits.ts";
import { Membership, type Peer, type Role, roleIn } from "./membership.ts";
import type { KeptMark, Message, MessageOf, StartId } from "./message.ts";
import { PeerClocks } from "./peer-clocks.ts";
import type { Tally } from "./quorum.ts";
import { heldMessage, type News, pushes, reports } from "./spread.ts";
import { copyShownBy, type Standing, Standings, unheardTails } from "./standing.ts";
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
  /** A delta of the log. Undefined: not here, or its body is erased. */
  delta(partition: Partition, writer: WriterId, seq: number): Delta | undefined;
  /** As a witness: the first number of the stream whose sealed bytes are kept; undefined when none are. */
  keptFrom(partition: Partition, writer: WriterId): number | undefined;
  /** As a witness: bytes of all sealed deltas kept. */
  readonly sealedBytes: number;
}

/** What this node was told by a member before it started, or before the member did. */
export interface ToldBefore {
  readonly start: StartId;
  readonly layoutVersion: number;
  readonly heads: readonly StreamHead[];
  readonly marks: readonly StreamHead[];
}

export interface ReplicaStart {
  readonly writer: WriterId;
  readonly layout: Layout;
  readonly state: StagedState;
  /** As stored: held as a full replica, and seen as a witness. */
  readonly heads: readonly StreamHead[];
  readonly marks: readonly StreamHead[];
  /** Highest clock value ever stored. */
  readonly highWater: Hlc;
  /** Random whole number: where this process begins to number its barriers and reports. */
  readonly firstBarrier: number;
  /** Wall clock less monotonic clock, ms; told again with every tick. */
  readonly wallLead: number;
  readonly start: StartId;
  /** Of this disk's starts. Undefined: too old to be kept; null: there was none of this number. */
  readonly startAt: (count: number) => string | undefined | null;
  readonly toldBefore: (member: WriterId) => ToldBefore | undefined;
  /** The number up to which this node wrote its stream in a partition whose copy it gave up; 0 when it never did. */
  readonly ownSeqGivenUp: (partition: Partition) => number;
  /** As stored. Of one that is being replaced `heads` and `marks` still say what was acknowledged of it. */
  readonly damaged: readonly DamagedCopy[];
  /** This incarnation, re-listed after a lost disk, has begun to count before. */
  readonly hasCounted: boolean;
  /** FEDERATION_STRICT_START. */
  readonly strictStart: boolean;
  /** Public ids of the secrets this node knows, the one that seals first. */
  readonly secrets: readonly string[];
}

/** How long a live push may bring what another member reported first, ms; asking at once would double the traffic under load. */
const PATIENCE_MS = 100;
/** Between two introductions to a member that has not compared yet, ms: it may not have had a layout when the first came. */
const INTRODUCE_MS = 250;
/** Who has not reported under this version is asked to after so long, then after twice as long, ms: its report may have come before we had the layout. */
const REPORTS_FIRST_MS = 100;
const REPORTS_LAST_MS = 5000;
/** Between two looks at what is handed over, and at what may be dropped, ms. */
const HANDOVER_MS = 200;
const LEFTOVER_MS = 1000;
/** After so long the same verdicts are told again, ms. */
const READY_AGAIN_MS = 2000;
/** Copies that are in no group any more, of which the group is asked at a time. */
const LEFTOVERS_AT_A_TIME = 16;
/** An empty copy that lacks at least so many deltas takes the partition as it is: a delta replayed costs more than the records it left, and these are fewer. */
const SNAPSHOT_MIN_DELTAS = 64;
/** Members that have not told enough for a floor are asked this often, ms. Rounds that take longer begin again with what stands then. */
const FLOOR_ASK_MS = 1000;
const FLOOR_PATIENCE_MS = 600_000;

export class Replica {
  readonly #writer: WriterId;
  readonly #start: ReplicaStart;
  readonly #state: StagedState;
  /** Held as a full replica; seen as a witness. */
  readonly #streams: { readonly heads: Streams; readonly marks: Streams };
  readonly #catchUps: { readonly heads: CatchUp; readonly marks: CatchUp };
  readonly #knowledge = new Knowledge();
  readonly #members: Membership;
  readonly #standings: Standings;
  readonly #handovers = new Handovers();
  readonly #clocks = new PeerClocks();
  readonly #acknowledgements: Acknowledgements;
  readonly #barriers: Barriers;
  readonly #starts = new Map<WriterId, StartId>();
  readonly #secrets = new Map<WriterId, readonly string[]>();
  /** The layout version of the last frame of each connected peer; and those that are owed a report, because they go by an older one still. */
  readonly #goesBy = new Map<NodeId, number>();
  readonly #owed = new Set<NodeId>();
  /** Parts of each connected peer's comparison in which nothing spoke against this disk. */
  readonly #agreedParts = new Map<NodeId, { readonly parts: number; readonly seen: Set<number> }>();
  /** Per stream this node is witness of: sealed deltas up to here are forgotten. */
  readonly #forgotten = new Map<string, number>();
  readonly #copies: Copies;
  /** Floors this node proposes, and what members told in one message while the rounds are under way. */
  readonly #floors = new Map<Partition, { readonly rounds: FloorRounds; readonly begun: number; readonly told: Map<WriterId, Frontier> }>();
  #floorAt = 0;
  /** What this node held when it adopted this version. */
  #base: Base;
  #standing: Standing = "unlisted";
  #askedToCount = false;
  /** A comparison has shown that this disk is a copy: whatever it catches up with now, it never counts. */
  #isCopy = false;
  /** This node's own stream, by partition, as it was on disk when it started. */
  readonly #ownAtStart: ReadonlyMap<Partition, number>;
  /** By member and partition, for those of whom nothing was heard yet. */
  readonly #toldBeforeStart = new Map<WriterId, ReadonlyMap<Partition, readonly StreamHead[]>>();
  #conflict: { readonly peer: NodeId; readonly version: number } | undefined;
  #lastReport: number;
  #highWater: Hlc;
  #now = 0;
  #wallLead: number;
  #introduceAt = 0;
  #reportsAt = 0;
  #reportsPauseMs = REPORTS_FIRST_MS;
  #handoverAt = 0;
  #readyAt = 0;
  #leftoverAt = 0;
  #leftoversAsked = 0;

  constructor(start: ReplicaStart) {
    this.#start = start;
    this.#members = new Membership(start.layout, start.writer);
    this.#writer = start.writer;
    this.#state = start.state;
    this.#streams = { heads: new Streams(start.heads), marks: new Streams(start.marks) };
    this.#ownAtStart = new Map(start.heads.flatMap(({ partition, writer, seq }) => (writer === start.writer ? [[partition, seq]] : [])));
    this.#highWater = start.highWater;
    this.#lastReport = start.firstBarrier;
    this.#wallLead = start.wallLead;
    this.#acknowledgements = new Acknowledgements((partition, level, writer, seq) => this.#holders(partition, level, new Map([[writer, seq]])));
    this.#barriers = new Barriers(
      {
        others: (partition) => this.#members.others(partition).filter((member) => this.#countsIn(partition, member.writer)),
        ownFrontier: (partition) => this.#streams.heads.durableFrontier(partition),
        answered: (partition, level, members) =>
          this.#members.met(partition, level, (member) => member.writer === this.#writer || members.has(member.writer)),
        holders: (partition, level, frontier) => this.#holders(partition, level, frontier),
        need: (partition, frontier, effects) => {
          for (const [writer, seq] of frontier) this.#catchUp("heads", partition, writer, seq, this.#patience(writer), effects);
        },
      },
      start.firstBarrier,
    );
    this.#catchUps = { heads: this.#catchUpOf("heads"), marks: this.#catchUpOf("marks") };
    this.#standings = new Standings(
      {
        self: start.writer,
        layout: () => this.layout,
        connected: () => this.#members.peers().flatMap((peer) => (peer.version >= 2 ? [peer.writer] : [])),
        base: (member) => this.#knowledge.base(member),
        held: (kind, partition, writer) => this.#heldBy(start.writer, kind, partition, writer),
      },
      start.strictStart,
      start.hasCounted,
    );
    // Of a copy that is gone by now nothing was acknowledged.
    this.#copies = new Copies(start.damaged.filter(({ partition, kind }) => !this.#streams[kind].isEmpty(partition)));
    this.#base = this.#ownBase();
  }

  get layout(): Layout {
    return this.#members.layout;
  }

  /** What this node does for clients: it executes as a replica. Undefined: it is in no group that serves the partition, or does not count there. */
  role(partition: Partition): Role | undefined {
    return this.#standing === "counting" && !this.#copies.isGivenUp(partition) ? this.#members.role(partition) : undefined;
  }

  /** Whether it may answer reads at `one` from its own state, though it does not count yet after its start. */
  mayReadAtOne(partition: Partition): boolean {
    if (this.#standings.isRefilling || this.#copies.isGivenUp(partition)) return false;
    return (this.#standing === "counting" || this.#standing === "comparing") && this.#members.role(partition) === "replica";
  }

  get standing(): Standing {
    return this.#standing;
  }

  /** The highest clock value issued or seen. */
  get highWater(): Hlc {
    return this.#highWater;
  }

  // ---- the layout ----------------------------------------------------------------------------------------------

  /**
   * A newer version holds and is on disk. What was told under the older one counts no more; reads begin again, writes wait for the groups of this one.
   */
  adopt(layout: Layout, now: number): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    this.#members.adopt(layout);
    this.#knowledge.forget();
    this.#handovers.forget();
    this.#floors.clear();
    this.#conflict = undefined;
    this.#base = this.#ownBase();
    this.#handoverAt = now;
    this.#reportsPauseMs = REPORTS_FIRST_MS;
    this.#reportsAt = now + this.#reportsPauseMs;
    for (const peer of this.#members.peers()) {
      if (peer.version >= 2 && !this.#standings.compared.has(peer.writer)) effects.push(this.#introduction(peer));
      if (this.#standing === "counting") this.#tellAllOnce(peer, effects);
    }
    this.#review(effects);
    for (const partition of this.#copies.onlyCopies()) this.#giveUp(partition, "heads", effects);
    for (const partition of this.#copies.givenUp("heads")) if (this.#isOnlyCopy(partition)) effects.push({ type: "keep", partition });
    for (const read of this.#barriers.restart()) effects.push(...this.read(read, now));
    return effects;
  }

  /** Members of the layout that count for this node now, itself included if it does. */
  counting(): readonly WriterId[] {
    const others = this.#members.peers().filter((peer) => this.#counts(peer.writer));
    return [...(this.#standing === "counting" ? [this.#writer] : []), ...others.map((peer) => peer.writer)];
  }

  /** Likewise, without those whose copy of this partition is damaged. */
  countingIn(partition: Partition): readonly WriterId[] {
    return this.counting().filter((writer) => !this.damagedAt(writer).has(partition));
  }

  /** Partitions of which the copy of this member, this node included, is damaged and counts for nothing, as far as it has told. */
  damagedAt(member: WriterId): ReadonlySet<Partition> {
    return member === this.#writer ? new Set(this.#copies.givenUp()) : this.#knowledge.damagedOf(member);
  }

  /** While a change is under way: partitions that are not handed over yet, as far as this node has heard. */
  notHandedOver(): Partition[] {
    if (this.layout.next === undefined) return [];
    const here = new Set(this.counting());
    return this.#handovers.waiting(this.layout, (member) => here.has(member));
  }

  /** The re-listed incarnation is on disk as one that counts. */
  counted(now: number): Effect[] {
    this.#now = now;
    this.#standings.counted();
    const effects: Effect[] = [];
    this.#review(effects);
    return effects;
  }

  /** Full replicas that count and are connected: who may give a snapshot of the partition. In the place of a damaged copy only one with all that was acknowledged. */
  snapshotSources(partition: Partition): NodeId[] {
    const acknowledged = this.#copies.isGivenUp(partition) ? this.#streams.heads.durableFrontier(partition) : [];
    const hasAll = (writer: WriterId): boolean => acknowledged.every(([of, seq]) => this.#heldBy(writer, "heads", partition, of) >= seq);
    return groupOf(this.layout, partition).replicas.flatMap(({ writer, node }) =>
      this.#members.isConnected(writer) && this.#countsIn(partition, writer) && hasAll(writer) ? [node] : [],
    );
  }

  /** A snapshot that a crash interrupted goes on. @returns false when this node does not keep the partition any more: what is there of it is to be dropped */
  takesUp(partition: Partition): boolean {
    if (!this.#members.keepsAs(partition, "replica")) {
      this.#copies.leaves("heads", partition);
      this.#streams.heads.replace(partition, []);
      return false;
    }
    this.#copies.arrives(partition);
    return true;
  }

  /** A snapshot took the place of the partition's copy; what it holds. Undefined: it did not come. */
  fetched(partition: Partition, heads: readonly StreamHead[] | undefined, highWater: Hlc, now: number): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    if (heads === undefined) this.#copies.didNotArrive(partition, now);
    else {
      this.#copies.arrived(partition);
      this.#streams.heads.replace(partition, heads);
    }
    this.#highWater = laterHlc(this.#highWater, highWater);
    const wasDamaged = heads !== undefined && this.#isWhole(partition, "heads", effects);
    if (!wasDamaged) this.#catchUpWithAll("heads", partition, effects);
    if (heads !== undefined && !wasDamaged && this.#standing === "counting")
      this.#tell(
        heads.map((head) => ({ kind: "heads" as const, head })),
        effects,
      );
    this.#review(effects);
    return effects;
  }

  // ---- damaged copies ------------------------------------------------------------------------------------------

  /** Rows of this copy are not what was written. @returns nothing when that is known already */
  damaged(partition: Partition, kind: Kind, now: number): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    this.#giveUp(partition, kind, effects);
    return effects;
  }

  /** Nothing of the copy was cleared yet, and nobody else has one. */
  kept(partition: Partition, now: number): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    this.#copies.arrived(partition);
    this.#copies.keepAsOnly(partition);
    effects.push(onlyCopyNote(partition));
    this.#isWhole(partition, "heads", effects);
    return effects;
  }

  /** Copies here that are not what was written; `only`: in service all the same. */
  damagedCopies(): (DamagedCopy & { readonly only: boolean })[] {
    return [
      ...this.#copies.allGivenUp().map((copy) => ({ ...copy, only: false })),
      ...this.#copies.onlyCopies().map((partition) => ({ partition, kind: "heads" as const, only: true })),
    ];
  }

  isDamaged(partition: Partition): boolean {
    return this.#copies.isDamaged(partition);
  }

  /** It counts for nothing until it is replaced. */
  isGivenUp(partition: Partition): boolean {
    return this.#copies.isGivenUp(partition);
  }

  /** All its rows were read and are what was written: those that had turned have been written anew since. */
  foundWhole(partition: Partition): void {
    this.#copies.foundWhole(partition);
  }

  #giveUp(partition: Partition, kind: Kind, effects: Effect[]): void {
    if (this.#copies.isGivenUp(partition, kind)) return;
    if (kind === "heads" && this.#isOnlyCopy(partition)) {
      if (this.#copies.keepAsOnly(partition)) effects.push(onlyCopyNote(partition));
      return;
    }
    this.#copies.giveUp(partition, kind);
    effects.push({ type: "damaged", copies: this.#copies.allGivenUp() }, damagedNote(partition, kind));
    this.#tellEverybodyAll(effects);
    for (const read of this.#barriers.restart()) effects.push(...this.read(read, this.#now));
  }

  /** The copy holds again what it had acknowledged. @returns false when it was not damaged */
  #isWhole(partition: Partition, kind: Kind, effects: Effect[]): boolean {
    if (!this.#noLongerDamaged(partition, kind, effects)) return false;
    effects.push({ type: "note", level: "info", message: "a copy that was damaged counts again", facts: { partition, kind } });
    for (const [writer] of this.#streams[kind].durableFrontier(partition)) this.#held(partition, writer, effects);
    this.#catchUpWithAll(kind, partition, effects);
    return true;
  }

  #noLongerDamaged(partition: Partition, kind: Kind, effects: Effect[]): boolean {
    if (!this.#copies.mended(partition, kind)) return false;
    effects.push({ type: "damaged", copies: this.#copies.allGivenUp() });
    this.#tellEverybodyAll(effects);
    return true;
  }

  /** In a group that serves there is no other full replica. */
  #isOnlyCopy(partition: Partition): boolean {
    return countingGroups(this.layout, partition).some(({ replicas }) => replicas.length === 1 && replicas[0]?.writer === this.#writer);
  }

  #tellEverybodyAll(effects: Effect[]): void {
    if (this.#standing === "counting") for (const peer of this.#members.peers()) if (peer.version >= 2) this.#tellAllOnce(peer, effects);
  }

  /** What a witness's sealed rows are kept for is over once every full replica holds all it has marked: then they go, the bad ones too. */
  #reviewDamagedMarks(effects: Effect[]): void {
    for (const partition of this.#copies.givenUp("marks")) {
      const replicas = this.#replicasOfWitness(partition);
      const isForgotten = ({ writer, seq }: StreamHead): boolean =>
        (this.#forgotten.get(`${partition}/${writer}`) ?? 0) >= seq &&
        replicas.every((member) => (this.#headOf(member, partition, writer)?.seq ?? 0) >= seq);
      const marks = this.#streams.marks.durableHeads(partition);
      for (const { writer } of marks) this.#witness(partition, writer);
      if (marks.every(isForgotten)) this.#isWhole(partition, "marks", effects);
    }
  }

  // ---- floors --------------------------------------------------------------------------------------------------

  /** Begins the two rounds after which these tombstones and bodies may go. @returns false when there is nothing to collect, or a change is under way */
  beginFloor(cut: FloorCut, now: number): boolean {
    const { partition } = cut;
    if (this.role(partition) !== "replica" || this.layout.phase !== "done" || this.#floors.has(partition)) return false;
    const told = new Map<WriterId, Frontier>();
    const rounds = new FloorRounds({
      layoutVersion: () => this.layout.version,
      audience: () => audienceOf(this.layout, partition).map((member) => member.writer),
      report: (member) => {
        const frontier = member === this.#writer ? new Map(this.#streams.heads.durableFrontier(partition)) : told.get(member);
        return frontier === undefined ? undefined : { layoutVersion: this.layout.version, frontier };
      },
    });
    if (!rounds.begin(cut)) return false;
    this.#floors.set(partition, { rounds, begun: now, told });
    this.#floorAt = now;
    return true;
  }

  /** Floors whose rounds are over: to be numbered at once, in this very step. They are handed out once. */
  floorsToNumber(): { readonly partition: Partition; readonly contributions: readonly FloorContribution[] }[] {
    const ready: { partition: Partition; contributions: readonly FloorContribution[] }[] = [];
    for (const [partition, { rounds }] of this.#floors) {
      const contributions = rounds.contributions();
      if (contributions.length === 0) continue;
      this.#floors.delete(partition);
      ready.push({ partition, contributions });
    }
    return ready;
  }

  #reviewFloors(effects: Effect[]): void {
    this.#floorAt = this.#now + FLOOR_ASK_MS;
    for (const [partition, { rounds, begun }] of this.#floors) {
      const missing = rounds.step();
      if (this.#now - begun > FLOOR_PATIENCE_MS || this.role(partition) !== "replica") {
        this.#floors.delete(partition);
        continue;
      }
      const frontier = this.#streams.heads.durableFrontier(partition);
      for (const writer of missing) {
        const peer = this.#members.peerOf(writer);
        if (peer !== undefined) effects.push({ type: "send", to: peer.node, message: { type: "ask", id: 0, partition, frontier } });
      }
    }
  }

  /** A copy that nobody needed here any more is deleted. */
  dropped(partition: Partition, kind: Kind, now: number): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    this.#copies.left(kind, partition);
    // Should it become a witness of the partition again, it has forgotten nothing yet.
    if (kind === "marks") for (const name of [...this.#forgotten.keys()]) if (name.startsWith(`${partition}/`)) this.#forgotten.delete(name);
    this.#noLongerDamaged(partition, kind, effects);
    // It may be listed for the partition again: what is asked for, and what a witness may mark without asking.
    this.#catchUpWithAll(kind, partition, effects);
    if (kind === "marks" && this.#members.keepsAs(partition, "witness"))
      for (const writer of this.toldOf(partition).keys()) this.#witness(partition, writer);
    return effects;
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
    if (this.role(partition) !== "replica") return [this.#notReplica(request)];
    const earlier = this.#state.executions(partition, key)[0];
    if (earlier !== undefined) {
      this.#repeat(proposal, earlier, effects);
      return effects;
    }
    const unreachable = this.#unreachable(partition, level);
    if (unreachable !== undefined) return [refusal(request, "no_quorum", unreachable)];
    // Before a number or a clock value is spent: what is stamped in the peers' future none of them would take.
    if (this.#clocks.isTooFarAhead(proposal.wall, now))
      return [
        refusal(
          request,
          "clock_skew",
          "This node's clock is too far ahead of its peers' clocks. Nothing was written; ask another node, and set this one's clock.",
        ),
      ];
    const staged = this.#streams.heads.staged(partition, this.#writer);
    if (staged.seq < this.#start.ownSeqGivenUp(partition))
      return [
        refusal(
          request,
          "catching_up",
          "This node is taking the partition back and has not yet received all it once wrote there. Nothing was written.",
        ),
      ];
    // What is numbered beside a copy on its way would be replaced by it, and the number given again (P4).
    if (this.#copies.isMoving("heads", partition))
      return [refusal(request, "catching_up", "The partition is still on its way to this node. Nothing was written; another node takes it.")];
    const hlc = tickHlc(this.#highWater, proposal.wall);
    const by = { tenant, writer: this.#writer, hlc, decay: this.layout, frontier: this.#streams.heads.stagedFrontier(partition) };
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
    if (this.role(request.partition) !== "replica") return [this.#notReplica(request.request)];
    const unreachable = request.level === "one" ? undefined : this.#unreachable(request.partition, request.level);
    if (unreachable !== undefined) return [refusal(request.request, "no_quorum", unreachable)];
    this.#barriers.read(request, now, effects);
    return effects;
  }

  /** For reads at `one` with a frontier token: whether this node holds it; what is missing is asked for. */
  holds(partition: Partition, frontier: Frontier, now: number): { readonly held: boolean; readonly effects: Effect[] } {
    this.#now = now;
    const effects: Effect[] = [];
    const held = covers(new Map(this.#streams.heads.durableFrontier(partition)), frontier);
    if (!held) for (const [writer, seq] of frontier) this.#catchUp("heads", partition, writer, seq, this.#patience(writer), effects);
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
    const touched = new Map<string, News>();
    const own = new Map<Partition, Delta[]>();
    for (const batch of batches) {
      const moved = positionOf(batch);
      if (moved === undefined) continue;
      const { kind, head } = moved;
      this.#streams[kind].flush(head);
      touched.set(`${kind}/${head.partition}/${head.writer}`, moved);
      if (batch.type === "delta" && head.writer === this.#writer) {
        const deltas = own.get(head.partition);
        if (deltas === undefined) own.set(head.partition, [batch.delta]);
        else deltas.push(batch.delta);
      }
    }
    effects.push(...pushes(own, (partition) => this.#members.others(partition).map((member) => member.node)));
    this.#tell(
      [...touched.values()].filter(({ head }) => head.writer !== this.#writer && !this.#copies.isGivenUp(head.partition)),
      effects,
    );
    for (const { head } of touched.values()) this.#held(head.partition, head.writer, effects);
    this.#catchUps.heads.flushed(now, effects);
    this.#catchUps.marks.flushed(now, effects);
    return effects;
  }

  // ---- peers ---------------------------------------------------------------------------------------------------

  /** A hello named this member's incarnation on a live connection; or the connection went. Whoever is not listed does not count and is told nothing. */
  peer(node: NodeId, writer: WriterId | undefined, now: number, version = 1): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    const known = this.#members.peer(node);
    this.#members.disconnect(node);
    this.#goesBy.delete(node);
    this.#owed.delete(node);
    this.#agreedParts.delete(node);
    if (known !== undefined) this.#clocks.gone(known.writer);
    if (writer === undefined) {
      this.#catchUps.heads.gone(node, now, effects);
      this.#catchUps.marks.gone(node, now, effects);
      return effects;
    }
    const peer = { node, writer, version };
    if (!this.#members.connect(peer)) return effects;
    if (version < 2 && this.layout.version === 1) {
      // The first release compares and reports nothing, and knows no layout but the first.
      this.#knowledge.countsWithoutReport(writer);
      this.#knowledge.damaged(writer, []);
      this.#standings.agreed(writer);
      this.#review(effects);
    } else if (version >= 2) effects.push(this.#introduction(peer));
    if (this.#standing === "counting") this.#tellAllOnce(peer, effects);
    for (const kind of ["heads", "marks"] as const)
      for (const pull of this.#catchUps[kind].lacking()) this.#catchUp(kind, pull.partition, pull.writer, pull.known, 0, effects);
    return effects;
  }

  /** @param wall our wall clock, ms */
  receive(verified: VerifiedMessage, now: number, wall: number): Effect[] {
    this.#now = now;
    const effects: Effect[] = [];
    const peer = this.#members.peer(verified.from);
    const { federation, writer, layoutVersion, layoutTag: tag } = verified.header;
    if (peer === undefined || peer.writer !== writer || federation !== this.layout.federation) return effects;
    const { message } = verified;
    this.#goesBy.set(peer.node, layoutVersion);
    if (layoutVersion === this.layout.version && this.#owed.delete(peer.node) && this.#standing === "counting") this.#tellAll(peer, effects);
    if (message.type === "introduce") this.#meet(peer, message, effects);
    else if (message.type === "compare") this.#compare(peer, message, effects);
    // An ack, mark or frontier counts only under the layout we count with: whoever goes by an older one is told ours, a newer one is on its way here.
    else if (layoutVersion < this.layout.version) effects.push({ type: "behind", peer: peer.node });
    else if (layoutVersion > this.layout.version) return effects;
    else if (tag !== undefined && tag !== layoutTag(this.layout)) this.#meetConflict(peer, effects);
    else this.#take(peer, verified, wall, effects);
    return effects;
  }

  #take(peer: Peer, { message, deltas }: VerifiedMessage, wall: number, effects: Effect[]): void {
    const now = this.#now;
    switch (message.type) {
      case "push":
        this.#takePush(peer, deltas, wall, effects);
        break;
      case "repair": {
        const brought = this.#takeDeltas(peer, deltas, effects);
        const { partition, writer, to } = message;
        this.#catchUp("heads", partition, writer, to, 0, effects);
        this.#catchUp("marks", partition, writer, to, 0, effects);
        if (deltas.length === 0 && to > this.#streams.heads.staged(partition, writer).seq) this.#copies.foundBeyondLog(partition);
        this.#catchUps.heads.answered(partition, writer, peer.node, brought.heads, now, effects);
        this.#catchUps.marks.answered(partition, writer, peer.node, brought.marks, now, effects);
        break;
      }
      case "held":
        this.#learnApart(peer.writer, message.heads, message.marks, effects);
        break;
      case "report":
        this.#takeReport(peer, message, effects);
        break;
      case "ready":
        this.#handovers.claim(peer.writer, message.partitions);
        break;
      case "want":
        this.#serve(peer, message.partition, message.writer, message.from, message.to, effects);
        break;
      case "ask":
        for (const [writer, seq] of message.frontier)
          this.#learn(peer.writer, "heads", [{ partition: message.partition, writer, seq, hash: "" }], effects);
        if (this.#standing === "counting" && this.#keeps(message.partition) && !this.#copies.isGivenUp(message.partition))
          this.#answerAsk(peer, message, effects);
        break;
      case "told":
        this.#takeTold(peer, message, effects);
        break;
      case "digest":
        if (message.wall !== undefined) this.#clocks.heard(peer.writer, message.wall, now);
        if (message.reply && this.#standing === "counting") this.#tellAll(peer, effects);
        else if (!message.reply && (this.#knowledge.base(peer.writer) === undefined || message.digest !== this.#digestOfPeer(peer.writer)))
          effects.push({ type: "send", to: peer.node, message: this.#digest(peer, true) });
        break;
      default:
        break;
    }
  }

  // ---- time ----------------------------------------------------------------------------------------------------

  /** @param wall our wall clock, ms */
  tick(now: number, wall: number): Effect[] {
    this.#now = now;
    this.#wallLead = wall - now;
    const effects: Effect[] = [];
    this.#acknowledgements.expire(now, effects);
    this.#barriers.tick(now, effects);
    this.#catchUps.heads.tick(now, effects);
    this.#catchUps.marks.tick(now, effects);
    this.#review(effects);
    if (this.#standing === "comparing" && now >= this.#introduceAt) this.#introduceAgain(effects);
    if (now >= this.#reportsAt) this.#askForReports(effects);
    this.#fetchWhatIsFar(effects);
    this.#reviewDamagedMarks(effects);
    if (this.#floors.size > 0 && now >= this.#floorAt) this.#reviewFloors(effects);
    if (now >= this.#handoverAt) this.#reviewHandover(effects);
    if (now >= this.#leftoverAt) this.#reviewLeftovers(effects);
    return effects;
  }

  /** The periodic comparison that finds every difference, should a message have been lost. */
  compareWith(node: NodeId, now: number): Effect[] {
    this.#now = now;
    const peer = this.#members.peer(node);
    if (peer === undefined) return [];
    return [{ type: "send", to: node, message: this.#digest(peer, false) }];
  }

  // ---- for status ----------------------------------------------------------------------------------------------

  /** What this node holds of the partition as a replica; as a witness, what it has marked. */
  ownHeads(partition: Partition, kind: Kind = this.#kindHere(partition)): StreamHead[] {
    return this.#streams[kind].durableHeads(partition);
  }
  partitions(): Partition[] {
    return [...new Set([...this.#streams.heads.partitions(), ...this.#streams.marks.partitions()])].sort((a, b) => a - b);
  }
  /** How far a member of the partition's groups has said it holds, or has marked, a stream. */
  heldBy(member: WriterId, partition: Partition, writer: WriterId): number {
    return this.#knowledge.held(member, this.#members.keepsAs(partition, "replica", member) ? "heads" : "marks", partition, writer);
  }
  lacking(): readonly { partition: Partition; writer: WriterId; known: number }[] {
    return [...this.#catchUps.heads.lacking(), ...this.#catchUps.marks.lacking()];
  }
  /** Partitions that are on their way here as snapshots. */
  fetching(): readonly Partition[] {
    return this.#copies.arriving();
  }
  /**
   * How far anybody is known to hold, or to have marked, the streams of a partition, this node left out: what it must come to hold itself. Of whom it has not
   * heard since it started, as they told before.
   */
  toldOf(partition: Partition): ReadonlyMap<WriterId, number> {
    const told = new Map<WriterId, number>();
    const raise = (writer: WriterId, seq: number): void => void told.set(writer, Math.max(told.get(writer) ?? 0, seq));
    for (const member of votersOf(this.layout)) {
      if (member.writer === this.#writer) continue;
      for (const kind of ["heads", "marks"] as const)
        for (const [writer, { seq }] of this.#knowledge.of(member.writer, kind, partition)) raise(writer, seq);
      for (const head of this.#toldBefore(member.writer).get(partition) ?? []) raise(head.writer, head.seq);
    }
    return told;
  }

  #toldBefore(member: WriterId): ReadonlyMap<Partition, readonly StreamHead[]> {
    if (this.#counts(member)) return NOTHING_TOLD;
    let told = this.#toldBeforeStart.get(member);
    if (told === undefined) {
      const before = this.#start.toldBefore(member);
      told = Map.groupBy([...(before?.heads ?? []), ...(before?.marks ?? [])], ({ partition }) => partition);
      this.#toldBeforeStart.set(member, told);
    }
    return told;
  }
  /** As what this node takes the partition's deltas, for the groups that serve or are to come. */
  keeps(partition: Partition): readonly Role[] {
    return (["replica", "witness"] as const).filter((role) => this.#members.keepsAs(partition, role));
  }
  connectedMembers(): readonly NodeId[] {
    return this.#members.peers().map((peer) => peer.node);
  }
  /** How far this peer's wall clock is ahead of ours, ms; undefined: it has not told. */
  peerAheadMs(member: WriterId, wall: number, now: number): number | undefined {
    return this.#clocks.theirsAheadMs(member, wall, now);
  }
  /** How far this node's wall clock is ahead of its peers', ms; undefined: nobody has told. */
  clockAheadMs(wall: number, now: number): number | undefined {
    return this.#clocks.aheadMs(wall, now);
  }
  /** Which secrets a member knows, the one that it seals with first. */
  secretsOf(member: WriterId): readonly string[] {
    return this.#secrets.get(member) ?? [];
  }
  /** Changes with what `toldBy` would say. */
  toldRevision(member: WriterId): number {
    return this.#knowledge.revision(member);
  }
  /** What this node keeps of what a member told it, to compare with after the next start of either. */
  toldBy(member: WriterId): ToldBefore | undefined {
    const start = this.#starts.get(member);
    if (start === undefined || this.#knowledge.base(member) === undefined) return undefined;
    return { start, layoutVersion: this.layout.version, heads: this.#toldAsKept(member, "heads"), marks: this.#toldAsKept(member, "marks") };
  }
  /** A member goes by another layout of the same number: an operator has to choose. */
  get conflict(): { readonly peer: NodeId; readonly version: number } | undefined {
    return this.#conflict;
  }

  // ---- inside --------------------------------------------------------------------------------------------------

  /** The key was executed already: answer with its result once the level asked for holds it. */
  #repeat(proposal: Proposal, earlier: { writer: WriterId; seq: number }, effects: Effect[]): void {
    const { request, partition } = proposal;
    const delta = this.#state.delta(partition, earlier.writer, earlier.seq);
    if (delta === undefined) {
      effects.push(expired(request));
      return;
    }
    if (delta.body.fingerprint !== proposal.fingerprint) {
      effects.push(refusal(request, "idempotency_key_reused", "This Idempotency-Key was used for a different request."));
      return;
    }
    // The log may keep its body for longer, for those that were away; the key it has for ever.
    if (proposal.wall - delta.header.hlc[0] > ANSWERS_KEPT_MS) {
      effects.push(expired(request));
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
    const frontier = this.#streams.heads.durableFrontier(partition);
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

  // ---- starting, and counting ----------------------------------------------------------------------------------

  #introduction(peer: Peer): Effect {
    const { start, secrets } = this.#start;
    return { type: "send", to: peer.node, message: { type: "introduce", start, wall: this.#wall(), secrets } };
  }

  #askForReports(effects: Effect[]): void {
    this.#reportsPauseMs = Math.min(2 * this.#reportsPauseMs, REPORTS_LAST_MS);
    this.#reportsAt = this.#now + this.#reportsPauseMs;
    for (const peer of this.#members.peers())
      if (!this.#counts(peer.writer)) effects.push({ type: "send", to: peer.node, message: this.#digest(peer, true) });
  }

  #introduceAgain(effects: Effect[]): void {
    this.#introduceAt = this.#now + INTRODUCE_MS;
    for (const peer of this.#members.peers())
      if (peer.version >= 2 && !this.#standings.compared.has(peer.writer)) effects.push(this.#introduction(peer));
  }

  /** A member says which start of its program this is: it is told what it had said before, and what is held of its own streams. */
  #meet(peer: Peer, { start, wall, secrets }: MessageOf<"introduce">, effects: Effect[]): void {
    this.#clocks.heard(peer.writer, wall, this.#now);
    this.#secrets.set(peer.writer, secrets);
    const standing = this.#standings.now;
    // Who lost its disk has nothing to compare with.
    if (standing === "refilling" || standing === "unlisted") return;
    const known = this.toldBy(peer.writer) ?? this.#start.toldBefore(peer.writer);
    this.#starts.set(peer.writer, start);
    const own = (["heads", "marks"] as const).flatMap((kind) =>
      [...this.#streams[kind].partitions()].flatMap((partition) =>
        this.#streams[kind].durableHeads(partition).filter((head) => head.writer === peer.writer),
      ),
    );
    const before = { start: known?.start ?? null, layoutVersion: known?.layoutVersion ?? 0 };
    for (const part of inParts(known?.heads ?? [], known?.marks ?? []))
      effects.push({ type: "send", to: peer.node, message: { type: "compare", ...before, ...part, own: part.part === 0 ? own : [] } });
  }

  #compare(peer: Peer, message: MessageOf<"compare">, effects: Effect[]): void {
    const reason = copyShownBy(message, {
      layoutVersion: this.layout.version,
      startAt: this.#start.startAt,
      held: (kind, partition, writer) => this.#streams[kind].staged(partition, writer).seq,
      ownSeq: (partition) => this.#ownSeq(partition),
      ownHash: (partition, seq) => this.#ownHash(partition, seq),
    });
    if (reason !== undefined) {
      this.#isCopy = true;
      this.#review(effects);
      effects.push({ type: "copy", reason: `${this.#nameOf(peer.writer)}: ${reason}`, tails: this.#ownTails(message.own) });
      return;
    }
    const { part, parts } = message;
    let agreed = this.#agreedParts.get(peer.node);
    if (agreed?.parts !== parts) {
      agreed = { parts, seen: new Set() };
      this.#agreedParts.set(peer.node, agreed);
    }
    if (agreed.seen.add(part).size < parts) return;
    this.#standings.agreed(peer.writer);
    this.#review(effects);
  }

  /** Until it counts it numbers nothing: what it holds of its own stream beyond its start it was given back, and others had it (P4). */
  #ownSeq(partition: Partition): number {
    const given = this.#standing === "counting" ? this.#streams.heads.staged(partition, this.#writer).seq : (this.#ownAtStart.get(partition) ?? 0);
    return Math.max(given, this.#start.ownSeqGivenUp(partition));
  }

  #ownHash(partition: Partition, seq: number): string | undefined {
    const staged = this.#streams.heads.staged(partition, this.#writer);
    if (staged.seq === seq) return staged.hash;
    return this.isDamaged(partition) ? undefined : this.#state.delta(partition, this.#writer, seq)?.hash;
  }

  /** Only where a whole copy can be had instead of this one. @param told heads of this node's streams as the member says it holds them */
  #ownTails(told: readonly StreamHead[]): OwnTail[] {
    const known = votersOf(this.layout).flatMap(({ writer }) => {
      const before = this.#start.toldBefore(writer);
      return [...this.#knowledge.all(writer, "heads"), ...this.#knowledge.all(writer, "marks"), ...(before?.heads ?? []), ...(before?.marks ?? [])];
    });
    const own = [...told, ...known].filter(({ writer }) => writer === this.#writer);
    const partitions = [...this.#streams.heads.partitions()].filter((one) => this.#keepsIn(one, "heads") && !this.#isOnlyCopy(one));
    return unheardTails(own, partitions, {
      // What is staged is on the disk by the time it is set aside, or never.
      ownSeq: (partition) => this.#streams.heads.staged(partition, this.#writer).seq,
      ownHash: (partition, seq) => this.#ownHash(partition, seq),
    });
  }

  /** Where this node stands, and what follows when that changes. */
  #review(effects: Effect[]): void {
    if (this.#standings.advance(this.#now) && !this.#askedToCount && !this.#isCopy) {
      this.#askedToCount = true;
      effects.push({ type: "count" });
    }
    const now = this.#isCopy ? "comparing" : this.#standings.now;
    if (now === this.#standing) return;
    this.#standing = now;
    effects.push({ type: "note", level: "info", message: `this node is ${now}`, facts: { layout: this.layout.version } });
    if (now === "counting") for (const peer of this.#members.peers()) this.#tellAllOnce(peer, effects);
  }

  #meetConflict(peer: Peer, effects: Effect[]): void {
    if (this.#conflict === undefined) effects.push({ type: "conflict", peer: peer.node, version: this.layout.version });
    this.#conflict = { peer: peer.node, version: this.layout.version };
  }

  #unreachable(partition: Partition, level: Level): string | undefined {
    if (this.#conflict !== undefined)
      return `There are two layouts ${this.#conflict.version}: an operator has to choose one (continuum layout recover). Nothing was written.`;
    return this.#members.unreachable(partition, level, (writer) => this.#countsIn(partition, writer));
  }

  #notReplica(request: RequestId): Effect {
    return refusal(request, "not_replica", "This node holds no full replica of the partition that counts.");
  }

  #counts(writer: WriterId): boolean {
    return this.#knowledge.base(writer) !== undefined;
  }

  #countsIn(partition: Partition, writer: WriterId): boolean {
    return this.#counts(writer) && !this.#knowledge.damagedOf(writer).has(partition);
  }

  #ownBase(): Base {
    const all = (kind: Kind): StreamHead[] =>
      [...this.#streams[kind].partitions()].flatMap((partition) => this.#streams[kind].durableHeads(partition));
    return baseOf(
      all("heads"),
      all("marks").map((mark) => this.#keptMark(mark)),
    );
  }

  #keptMark(mark: StreamHead): KeptMark {
    return { ...mark, keptFrom: this.#state.keptFrom(mark.partition, mark.writer) ?? mark.seq + 1 };
  }

  // ---- deltas --------------------------------------------------------------------------------------------------

  #takePush(peer: Peer, deltas: readonly OpenedDelta[], wall: number, effects: Effect[]): void {
    // A live push comes from its own writer; what a member stored of others comes as repair.
    const live = deltas.filter(({ delta }) => delta.header.writer === peer.writer);
    // Only here is a clock judged: what is on a disk already, the writer's own too, is not undone by refusing it for ever; it comes as repair.
    const future = live.find(({ delta }) => PeerClocks.isFromTheFuture(delta.header.hlc[0], wall));
    if (future !== undefined) effects.push(futureNote(future.delta, peer, future.delta.header.hlc[0] - wall));
    else this.#takeDeltas(peer, live, effects);
    const last = new Map<Partition, StreamHead>();
    for (const { delta } of live)
      last.set(delta.header.partition, { partition: delta.header.partition, writer: peer.writer, seq: delta.header.seq, hash: delta.hash });
    this.#learn(peer.writer, "heads", [...last.values()], effects);
  }

  /** @returns how many were new and are staged, as a replica and as a witness */
  #takeDeltas(peer: Peer, deltas: readonly OpenedDelta[], effects: Effect[]): { heads: number; marks: number } {
    const brought = { heads: 0, marks: 0 };
    const again = new Map<string, News>();
    for (const opened of deltas) {
      const { partition } = opened.delta.header;
      if (this.#members.keepsAs(partition, "replica") && this.#takeOne("heads", opened, peer, again, effects)) brought.heads++;
      if (this.#members.keepsAs(partition, "witness") && this.#takeOne("marks", opened, peer, again, effects)) brought.marks++;
    }
    if (again.size > 0 && this.#standing === "counting")
      effects.push({ type: "send", to: peer.node, message: heldMessage([...again.values()], peer.version >= 2) });
    return brought;
  }

  /** @returns true when it is new and staged */
  #takeOne(kind: Kind, opened: OpenedDelta, peer: Peer, again: Map<string, News>, effects: Effect[]): boolean {
    const { delta } = opened;
    const { partition, writer, seq, previous } = delta.header;
    if (this.#copies.isGivenUp(partition)) return false;
    const streams = this.#streams[kind];
    const staged = streams.staged(partition, writer);
    if (seq <= staged.seq) {
      // Duplicates are acknowledged again: the first acknowledgement may have been lost.
      if (seq <= streams.durable(partition, writer))
        for (const head of streams.durableHeads(partition)) if (head.writer === writer) again.set(`${kind}/${partition}/${writer}`, { kind, head });
      if (seq === staged.seq && delta.hash !== staged.hash) effects.push(forkNote(delta, peer));
      return false;
    }
    // A delta that does not follow is neither stored nor acknowledged (P1); the interval is asked for.
    if (seq !== staged.seq + 1) return false;
    if (previous !== staged.hash) {
      effects.push(forkNote(delta, peer));
      return false;
    }
    if (this.#copies.isMoving(kind, partition)) return false;
    // A floor whose frontier is not held is a gap: what it covers comes first.
    const missing = kind === "heads" ? missingForFloor(delta, this.#streams.heads.stagedFrontier(partition)) : [];
    if (missing.length > 0) {
      for (const [of, seq] of missing) this.#catchUp("heads", partition, of, seq, 0, effects);
      return false;
    }
    if (kind === "marks" && this.#state.sealedBytes > WITNESS_SEALED_MAX_BYTES) {
      effects.push(fullNote(this.#state.sealedBytes));
      return false;
    }
    this.#highWater = laterHlc(this.#highWater, delta.header.hlc);
    if (kind === "marks") this.#stage({ type: "sealed", delta, envelope: opened.envelope });
    else this.#stage({ type: "delta", delta, changes: applyDelta(delta, this.#state, this.#sameKey(delta)) });
    return true;
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
    const moved = positionOf(batch);
    if (moved !== undefined) this.#streams[moved.kind].stage(moved.head);
    this.#state.stage(batch);
  }

  /** Something is held further than before, here or elsewhere. */
  #held(partition: Partition, writer: WriterId, effects: Effect[]): void {
    this.#acknowledgements.check(partition, writer, effects);
    this.#barriers.progressed(partition, this.#now, effects);
    if (this.#members.keepsAs(partition, "witness")) this.#witness(partition, writer);
  }

  /** @param marks undefined: a peer of version 1 does not tell them apart; what counts is decided by its role */
  #learnApart(member: WriterId, heads: readonly StreamHead[], marks: readonly StreamHead[] | undefined, effects: Effect[]): void {
    this.#learn(member, "heads", heads, effects);
    this.#learn(member, "marks", marks ?? heads, effects);
  }

  #learn(member: WriterId, kind: Kind, heads: readonly StreamHead[], effects: Effect[]): void {
    for (const head of heads) {
      const { partition, writer, seq, hash } = head;
      if (!this.#keeps(partition) && !this.#isLeftover(partition)) continue;
      const news = this.#knowledge.learn(member, kind, head);
      // Its own writer tells in the order it pushes: what is still missing then is a gap.
      const patience = writer === member ? 0 : this.#patience(writer);
      for (const here of ["heads", "marks"] as const) {
        const staged = this.#streams[here].staged(partition, writer);
        if (here === kind && seq === staged.seq && hash !== "" && hash !== staged.hash) effects.push(forkedHeadNote(head, member));
        this.#catchUp(here, partition, writer, seq, patience, effects);
      }
      if (news || this.#members.keepsAs(partition, "witness")) this.#held(partition, writer, effects);
    }
  }

  #witness(partition: Partition, writer: WriterId): void {
    if (this.#copies.isMoving("marks", partition)) return;
    const name = `${partition}/${writer}`;
    const reports = this.#replicasOfWitness(partition).map((member) => this.#headOf(member, partition, writer));
    const staged = this.#streams.marks.staged(partition, writer);
    for (const batch of witnessMay(partition, writer, staged, this.#forgotten.get(name) ?? 0, reports)) {
      if (batch.type === "forget") this.#forgotten.set(name, batch.seq);
      this.#stage(batch);
    }
  }

  /** Replicas of each group that counts, and of the one this node is to be a witness of: for them too a mark without bytes would be no second copy. */
  #replicasOfWitness(partition: Partition): Member[] {
    const groups = [...countingGroups(this.layout, partition)];
    const next = this.layout.next === undefined ? undefined : groupOf(this.layout.next, partition);
    if (next !== undefined && roleIn(next, this.#writer) === "witness") groups.push(next);
    return [...new Map(groups.flatMap(({ replicas }) => replicas).map((member) => [member.writer, member])).values()];
  }

  /** What a full replica has on disk of a stream, as it told; of this node what it knows. */
  #headOf(member: Member, partition: Partition, writer: WriterId): { seq: number; hash: string } | undefined {
    if (member.writer !== this.#writer) return this.#knowledge.head(member.writer, "heads", partition, writer);
    if (this.#copies.isGivenUp(partition, "heads")) return undefined;
    return this.#streams.heads.durableHeads(partition).find((head) => head.writer === writer);
  }

  #serve(peer: Peer, partition: Partition, writer: WriterId, from: number, to: number, effects: Effect[]): void {
    const [held, marked] = [this.#streams.heads.durable(partition, writer), this.#streams.marks.durable(partition, writer)];
    if (held === 0 && marked === 0 && !this.#keeps(partition)) return;
    // A body that is erased comes with a snapshot only; whoever asks hears how far the stream goes, and gets nothing.
    const sealed = held < from && marked >= from;
    const last = Math.min(to, sealed ? marked : held, from + INTERVAL_DELTAS_MAX - 1);
    effects.push({ type: "serve", to: peer.node, partition, writer, from, to_seq: last, sealed });
  }

  // ---- telling -------------------------------------------------------------------------------------------------

  #tell(news: readonly News[], effects: Effect[]): void {
    if (this.#standing !== "counting" || news.length === 0) return;
    const others = (partition: Partition): NodeId[] => this.#members.others(partition).map((member) => member.node);
    effects.push(...reports(news, others, (node) => (this.#members.peer(node)?.version ?? 1) >= 2));
  }

  /** All heads, once the peer goes by our version: what it hears under another it does not use. Until then a word by which it knows that we do. */
  #tellAllOnce(peer: Peer, effects: Effect[]): void {
    if (peer.version < 2 || this.#goesBy.get(peer.node) === this.layout.version) {
      this.#tellAll(peer, effects);
      return;
    }
    this.#owed.add(peer.node);
    effects.push(this.#claims(peer));
  }

  #claims(peer: Peer): Effect {
    return { type: "send", to: peer.node, message: { type: "ready", partitions: [...this.#handovers.claimedBy(this.#writer)] } };
  }

  /** All heads this node shares with a peer: from now on it counts there. */
  #tellAll(peer: Peer, effects: Effect[]): void {
    const heads = this.#shared(peer.writer, "heads");
    const marks = this.#shared(peer.writer, "marks").map((mark) => this.#keptMark(mark));
    const id = ++this.#lastReport;
    const damaged = this.#copies.givenUp();
    const messages: Message[] =
      peer.version >= 2
        ? inParts(heads, marks).map((part) => ({ type: "report", id, ...part, damaged }))
        : inParts([...heads, ...marks], []).map((part) => ({ type: "held", heads: part.heads }));
    for (const message of messages) effects.push({ type: "send", to: peer.node, message });
    // Who comes while a change is under way, or comes back, has heard none of them.
    if (peer.version >= 2 && this.layout.next !== undefined) effects.push(this.#claims(peer));
  }

  #takeReport(peer: Peer, message: MessageOf<"report">, effects: Effect[]): void {
    const before = this.#knowledge.damagedOf(peer.writer);
    this.#knowledge.damaged(peer.writer, message.damaged);
    const counts = this.#knowledge.report(peer.writer, message);
    this.#learnApart(peer.writer, message.heads, message.marks, effects);
    // What is whole again counts, though nothing of it is news.
    for (const partition of before)
      if (!message.damaged.includes(partition))
        for (const kind of ["heads", "marks"] as const)
          for (const writer of this.#knowledge.of(peer.writer, kind, partition).keys()) this.#held(partition, writer, effects);
    if (!counts) return;
    // It has adopted this version only now: what was said of the handover under it before, it could not take.
    if (peer.version >= 2 && this.layout.next !== undefined) effects.push(this.#claims(peer));
    this.#review(effects);
    for (const { partition, writer } of this.#acknowledgements.streams()) this.#acknowledgements.check(partition, writer, effects);
  }

  #answerAsk(peer: Peer, { id, partition }: MessageOf<"ask">, effects: Effect[]): void {
    const heads = this.#streams.heads.durableHeads(partition);
    const marks = this.#streams.marks.durableHeads(partition);
    const message: Message =
      peer.version >= 2
        ? { type: "told", id, partition, heads, marks }
        : { type: "told", id, partition, heads: this.#kindHere(partition) === "heads" ? heads : marks };
    effects.push({ type: "send", to: peer.node, message });
  }

  #takeTold(peer: Peer, message: MessageOf<"told">, effects: Effect[]): void {
    const { id, partition } = message;
    const within = (heads: readonly StreamHead[]): StreamHead[] => heads.filter((head) => head.partition === partition);
    const heads = within(message.heads);
    const marks = message.marks === undefined ? undefined : within(message.marks);
    this.#learnApart(peer.writer, heads, marks, effects);
    const isMember = countingGroups(this.layout, partition).some((group) => group.members.some((member) => member.writer === peer.writer));
    if (!isMember) return;
    const frontier = [...heads, ...(marks ?? [])].map((head) => [head.writer, head.seq] as const);
    // All that it holds, of one moment: only such a message is a report for a floor.
    if (marks !== undefined) this.#floors.get(partition)?.told.set(peer.writer, joinOf(frontier));
    this.#barriers.told(id, peer.writer, frontier, this.#now, effects);
  }

  /** What this node holds as an owner of partitions that another owns too. What it keeps of others until they have it is offered by itself. */
  #shared(other: WriterId, kind: Kind): StreamHead[] {
    return [...this.#streams[kind].partitions()]
      .filter((partition) => this.#members.isInAudience(partition, other) && this.#keepsIn(partition, kind))
      .flatMap((partition) => this.#streams[kind].durableHeads(partition));
  }

  #digest(peer: Peer, reply: boolean): Message {
    const digest = this.#digestForPeer(peer.writer);
    return peer.version >= 2 ? { type: "digest", digest, reply, wall: this.#wall() } : { type: "digest", digest, reply };
  }

  #wall(): number {
    return Math.max(0, Math.round(this.#now + this.#wallLead));
  }

  #digestForPeer(other: WriterId): string {
    return digestOf([...this.#shared(other, "heads"), ...this.#shared(other, "marks")], this.#sharedOf(this.#copies.givenUp(), other));
  }

  /** Of these partitions, those that this node and another own, now or to come. */
  #sharedOf(partitions: Iterable<Partition>, other: WriterId): Partition[] {
    return [...partitions].filter((partition) => this.#keeps(partition) && this.#members.isInAudience(partition, other));
  }

  /** What its digest must be if we know everything it holds of what we share. */
  #digestOfPeer(other: WriterId): string {
    const told = [...this.#toldAsKept(other, "heads"), ...this.#toldAsKept(other, "marks")];
    return digestOf(
      told.filter(({ partition }) => this.#keeps(partition)),
      this.#sharedOf(this.#knowledge.damagedOf(other), other),
    );
  }

  /** Of what a member told, what the layout has it keep: other copies it may drop, without a word and under this very version. */
  #toldAsKept(member: WriterId, kind: Kind): StreamHead[] {
    return this.#knowledge.all(member, kind).filter(({ partition }) => this.#keepsIn(partition, kind, member));
  }

  #keepsIn(partition: Partition, kind: Kind, member = this.#writer): boolean {
    return this.#members.keepsAs(partition, kind === "heads" ? "replica" : "witness", member);
  }

  // ---- counting others -----------------------------------------------------------------------------------------

  /** Of this node only what is on disk counts, of others what they reported. */
  #holders(partition: Partition, level: Level, frontier: Frontier): Tally | undefined {
    return this.#members.met(partition, level, (member, role) => {
      const kind = role === "replica" ? "heads" : "marks";
      for (const [writer, seq] of frontier) if (this.#heldBy(member.writer, kind, partition, writer) < seq) return false;
      return true;
    });
  }

  /** As others may rely on it: of a damaged copy nothing. */
  #heldBy(member: WriterId, kind: Kind, partition: Partition, writer: WriterId): number {
    if (member !== this.#writer) return this.#knowledge.held(member, kind, partition, writer);
    return this.#copies.isGivenUp(partition) ? 0 : this.#streams[kind].durable(partition, writer);
  }

  // ---- catching up ---------------------------------------------------------------------------------------------

  #catchUpOf(kind: Kind): CatchUp {
    return new CatchUp({
      stagedSeq: (partition, writer) => this.#streams[kind].staged(partition, writer).seq,
      durableSeq: (partition, writer) => this.#streams[kind].durable(partition, writer),
      sources: (partition, writer, seq) => this.#sources(partition, writer, seq),
    });
  }

  #catchUp(kind: Kind, partition: Partition, writer: WriterId, seq: number, patienceMs: number, effects: Effect[]): void {
    if (!this.#keepsIn(partition, kind) || this.#copies.isGivenUp(partition) || this.#copies.isMoving(kind, partition)) return;
    this.#catchUps[kind].learn(partition, writer, seq, patienceMs, this.#now, effects);
  }

  #catchUpWithAll(kind: Kind, partition: Partition, effects: Effect[]): void {
    for (const peer of this.#members.peers())
      for (const told of ["heads", "marks"] as const)
        for (const [writer, { seq }] of this.#knowledge.of(peer.writer, told, partition)) this.#catchUp(kind, partition, writer, seq, 0, effects);
  }

  /** Connected members that hold, or keep sealed, what follows; full replicas first, damaged copies last: what can be read of them may be all there is. */
  #sources(partition: Partition, writer: WriterId, seq: number): NodeId[] {
    if (this.#copies.isGivenUp(partition)) return [];
    const tells = (peer: Peer, kind: Kind): boolean => (this.#knowledge.of(peer.writer, kind, partition).get(writer)?.seq ?? 0) > seq;
    const rank = (peer: Peer): number => (this.#knowledge.damagedOf(peer.writer).has(partition) ? 2 : tells(peer, "heads") ? 0 : 1);
    const peers = this.#members.peers().filter((peer) => tells(peer, "heads") || tells(peer, "marks"));
    return peers.sort((a, b) => rank(a) - rank(b)).map((peer) => peer.node);
  }

  /** While its writer is connected, a delta that others hold already is most likely on its way here too. */
  #patience(writer: WriterId): number {
    return this.#members.isConnected(writer) ? PATIENCE_MS : 0;
  }

  /** A damaged copy is replaced. An empty one that counts for nothing yet, and lacks much, is taken as it is instead of replayed. */
  #fetchWhatIsFar(effects: Effect[]): void {
    for (const partition of this.#copies.givenUp("heads"))
      if (!this.#isOnlyCopy(partition) && this.#members.keepsAs(partition, "replica")) this.#replaceCopy(partition, effects);
    const lacks = new Map<Partition, number>();
    for (const { partition, writer, known } of this.#catchUps.heads.lacking())
      lacks.set(partition, (lacks.get(partition) ?? 0) + known - this.#streams.heads.staged(partition, writer).seq);
    for (const [partition, deltas] of lacks) {
      const far = deltas >= SNAPSHOT_MIN_DELTAS || this.#copies.isBeyondLog(partition);
      if (far && this.#mayReplace(partition)) this.#replaceCopy(partition, effects);
    }
  }

  #replaceCopy(partition: Partition, effects: Effect[]): void {
    if (!this.#copies.mayArrive(partition, this.#now) || this.snapshotSources(partition).length === 0) return;
    this.#copies.arrives(partition);
    effects.push({ type: "fetch", partition });
  }

  /** A copy that counts is never replaced: what it told it holds, others rely on. An empty one has told nothing. */
  #mayReplace(partition: Partition): boolean {
    const mayGo = this.#streams.heads.isEmpty(partition) || (this.#copies.isBeyondLog(partition) && this.#standing === "refilling");
    return mayGo && (this.#standing === "refilling" || this.#members.role(partition) !== "replica");
  }

  // ---- while the layout changes --------------------------------------------------------------------------------

  #reviewHandover(effects: Effect[]): void {
    this.#handoverAt = this.#now + HANDOVER_MS;
    if (this.layout.next === undefined || this.#standing !== "counting") return;
    const before = this.#handovers.claimedBy(this.#writer);
    const partitions = PARTITIONS.filter((partition) => this.#keeps(partition) && (before.has(partition) || this.#seesHandedOver(partition)));
    // Said again too: who has restarted since does not remember it.
    if (partitions.length === before.size && this.#now < this.#readyAt) return;
    this.#readyAt = this.#now + READY_AGAIN_MS;
    this.#handovers.claim(this.#writer, partitions);
    for (const peer of this.#members.peers()) if (peer.version >= 2) effects.push(this.#claims(peer));
  }

  #seesHandedOver(partition: Partition): boolean {
    const world = this.#handoverWorld();
    if (!isHandedOver(this.layout, partition, world)) return false;
    const kind = this.#members.role(partition) === "replica" ? "heads" : "marks";
    const own = this.#members.role(partition) === undefined ? [] : this.#streams[kind].durableFrontier(partition);
    return holdsAll(groupOf(this.layout.next as Layout, partition), partition, new Map(own), world);
  }

  #handoverWorld(): Parameters<typeof isHandedOver>[2] {
    return {
      base: (member) => (member === this.#writer ? this.#base : this.#knowledge.base(member)),
      held: (member, kind, partition, writer) => this.#heldBy(member, kind, partition, writer),
    };
  }

  /** Copies of partitions that this node does not keep any more: offered to those who do, and dropped once they hold all of it. */
  #reviewLeftovers(effects: Effect[]): void {
    this.#leftoverAt = this.#now + LEFTOVER_MS;
    if (this.#standing !== "counting" || this.layout.phase !== "done") return;
    const waiting: { readonly kind: Kind; readonly partition: Partition }[] = [];
    for (const kind of ["heads", "marks"] as const)
      for (const partition of this.#streams[kind].partitions()) {
        if (this.#keepsIn(partition, kind)) continue;
        const frontier = new Map(this.#streams[kind].durableFrontier(partition));
        const heldThere = holdsAll(groupOf(this.layout, partition), partition, frontier, this.#handoverWorld());
        if (heldThere && this.#streams[kind].isFlushed(partition)) this.#drop(kind, partition, effects);
        else waiting.push({ kind, partition });
      }
    // In turns: some may wait for long.
    const from = this.#leftoversAsked % Math.max(1, waiting.length);
    const turn = [...waiting.slice(from), ...waiting.slice(0, from)].slice(0, LEFTOVERS_AT_A_TIME);
    this.#leftoversAsked = from + turn.length;
    for (const { kind, partition } of turn)
      for (const member of groupOf(this.layout, partition).members)
        if (this.#members.isConnected(member.writer)) this.#offer(member.node, partition, kind, effects);
  }

  /** What is told from now on, under a version that lists this node for the partition again too, leaves the copy out: it will not be there. */
  #drop(kind: Kind, partition: Partition, effects: Effect[]): void {
    this.#copies.leaves(kind, partition);
    this.#streams[kind].replace(partition, []);
    effects.push({ type: "drop", partition, kind });
  }

  /** Tells what there is to be had here, and asks how much of it the member holds. The frontier of an ask is taken for heads: a mark is no copy (P1). */
  #offer(to: NodeId, partition: Partition, kind: Kind, effects: Effect[]): void {
    const frontier = kind === "heads" ? this.#streams.heads.durableFrontier(partition) : [];
    if (kind === "marks")
      effects.push({ type: "send", to, message: { type: "held", heads: [], marks: this.#streams.marks.durableHeads(partition) } });
    effects.push({ type: "send", to, message: { type: "ask", id: 0, partition, frontier } });
  }

  #keeps(partition: Partition): boolean {
    return this.#members.isInAudience(partition, this.#writer);
  }

  #isLeftover(partition: Partition): boolean {
    return !this.#streams.heads.isEmpty(partition) || !this.#streams.marks.isEmpty(partition);
  }

  /** What this node is for a partition, for those that know of one role only. */
  #kindHere(partition: Partition): Kind {
    return this.#members.role(partition) === "witness" ? "marks" : "heads";
  }

  #nameOf(writer: WriterId): string {
    const { members, next } = this.layout;
    return [...members, ...(next?.members ?? [])].find((member) => member.writer === writer)?.name ?? writer;
  }
}

const NOTHING_TOLD: ReadonlyMap<Partition, readonly StreamHead[]> = new Map();

/** Cut to what one message may list; one part at the least. */
function inParts<M extends StreamHead>(heads: readonly StreamHead[], marks: readonly M[]) {
  const parts = Math.max(1, Math.ceil(Math.max(heads.length, marks.length) / HEADS_STREAMS_MAX));
  return Array.from({ length: parts }, (_, part) => {
    const cut = <T>(all: readonly T[]): readonly T[] => all.slice(part * HEADS_STREAMS_MAX, (part + 1) * HEADS_STREAMS_MAX);
    return { part, parts, heads: cut(heads), marks: cut(marks) };
  });
}

/** The stream position a batch moves, if it moves one. */
export function positionOf(batch: Batch): News | undefined {
  if (batch.type === "mark") return { kind: "marks", head: batch.head };
  if (batch.type === "forget") return undefined;
  const { partition, writer, seq } = batch.delta.header;
  return { kind: batch.type === "delta" ? "heads" : "marks", head: { partition, writer, seq, hash: batch.delta.hash } };
}

function joinOf(heads: readonly (readonly [WriterId, number])[]): Frontier {
  const join = new Map<WriterId, number>();
  for (const [writer, seq] of heads) join.set(writer, Math.max(join.get(writer) ?? 0, seq));
  return join;
}

/** Each line once: a peer of version 1 does not tell heads and marks apart. */
function digestOf(heads: readonly StreamHead[], damaged: readonly Partition[]): string {
  const lines = new Set([
    ...heads.map((head) => `${head.partition}/${head.writer}/${head.seq}`),
    ...damaged.map((partition) => `${partition} damaged`),
  ]);
  return hashOf([...lines].sort().join("\n"));
}

function refusal(request: RequestId, code: Refusal, detail: string): Effect {
  return { type: "refuse", request, code, detail };
}

function expired(request: RequestId): Effect {
  return refusal(
    request,
    "idempotency_key_expired",
    "This Idempotency-Key was used for a request whose answer is not kept any more. Nothing was written.",
  );
}

function futureNote(delta: Delta, peer: Peer, aheadMs: number): Effect {
  const { writer, partition, seq } = delta.header;
  return {
    type: "note",
    level: "warn",
    message: "a delta from the future was not taken: its writer's clock, or ours, is wrong",
    counted: "future",
    facts: { writer, partition, seq, from: peer.node, aheadMs },
  };
}

function fullNote(bytes: number): Effect {
  return {
    type: "note",
    level: "warn",
    message: "this witness is full and acknowledges nothing more, until full replicas hold what it keeps for them",
    counted: "witness_full",
    facts: { bytes },
  };
}

function damagedNote(partition: Partition, kind: Kind): Effect {
  const until = kind === "heads" ? "a whole one is taken from another replica" : "the full replicas hold what it is kept for";
  return {
    type: "note",
    level: "error",
    message: `a copy on this disk is damaged: it counts for nothing until ${until}`,
    facts: { partition, kind },
  };
}

function onlyCopyNote(partition: Partition): Effect {
  return {
    type: "note",
    level: "error",
    message:
      "a copy on this disk is damaged, and there is no other full replica to take a whole one from: it stays in service, and what can be read of it is all there is",
    facts: { partition },
  };
}

function forkNote(delta: Delta, peer: Peer): Effect {
  return {
    type: "note",
    level: "error",
    message: "a stream has two histories: a delta does not follow what is held",
    counted: "fork",
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
