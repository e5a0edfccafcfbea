/**
 * How the voters of one layout version decide the next (DESIGN section 8: "the 2 of 3 consensus"). Paxos (Lamport, "Paxos made simple", 2001), one
 * instance a version: its acceptors are the incarnations that the version lists, and the version that follows it is the one value it can decide.
 *
 * C1 A promise and a yes are persisted before they are given; the state is replaced as a whole, one persist at a time.
 * C2 What the promises of a quorum report is proposed again unchanged, of the highest ballot; a new value only if none reported any.
 * C3 The next version holds for the proposer with a quorum of yes to one ballot; for others when somebody who adopted it tells them (the driver's part).
 * C4 Only listed incarnations that count vote, and only on the version that follows the one they adopted, in one step.
 * C5 A ballot `without x` is answered only by others who know that x's disk is lost.
 *
 * Quorums. Of M voters a normal ballot needs Q = floor(M / 2) + 1 in both phases. A ballot without x needs R = M - Q + 1 of the M - 1 others in both
 * phases, so that two of two can list one of them again. Any two quorums must share a voter, for that one remembers (Q + R = M + 1 is the trick):
 *
 * - normal and normal: 2Q > M.
 * - normal and without x: the normal one has at least Q - 1 voters other than x, the other one R, and Q - 1 + R = M > M - 1. So it is never x alone who
 *   knows, whatever x said before its disk was lost.
 * - without x twice: 2R > M - 1, as 2Q <= M + 2.
 * - without x (quorum A) and without y (quorum B): of four voters {y, z} and {x, w} share nobody. But y in A voted knowing that x's disk was lost, x in B
 *   knowing that y's was (C5): each voted after the other's loss and before its own, which is a circle in time. So y is not in A, or x not in B. Say y
 *   is not in A: then A and B both lie among the M - 1 others than y, and 2R > M - 1 again.
 *
 * What x itself said before its loss may have been forgotten by nobody but x: its listed incarnation never speaks again (a new one is another voter of
 * another version), so no voter is ever amnesic, it is only silent. The last case rests on evidence being final. A disk that comes back after others
 * were shown a newer incarnation is an old copy: the driver lets its node vote (`mayVote`) only after comparing.
 *
 * A proposer does not abandon a ballot because time passes: it asks again until a quorum has answered. It gives way only to a higher ballot, and then
 * waits a random time that doubles, so two proposers do not chase each other for ever.
 */
import { asArray, asCount, asText, decodeWire, encodeWire } from "./codec.ts";
import {
  type Accepted,
  acceptedOfRow,
  acceptedRow,
  type Ballot,
  ballotOfRow,
  ballotRow,
  type ConsensusMessage,
  compareBallot,
  type Decision,
  decisionOfRow,
} from "./consensus-message.ts";
import { ProtocolError } from "./errors.ts";
import type { Incarnation, NodeId, WriterId } from "./ids.ts";
import { type Layout, layoutHash, type Member, votersOf } from "./layout.ts";
import { stepBetween } from "./layout-change.ts";
import { CONSENSUS_ROUND_MAX, CONSENSUS_STATE_MAX_BYTES } from "./limits.ts";
import { quorumOf } from "./quorum.ts";

export interface ConsensusOptions {
  readonly self: WriterId;
  /** The version this node has adopted. */
  readonly layout: Layout;
  /** The last state that `persist` carried, undefined when there was none. */
  readonly persisted: Uint8Array | undefined;
}

export type ConsensusInput =
  /** @param now monotonic ms @param random in [0, 1) */
  | { readonly type: "tick"; readonly now: number; readonly random: number }
  /** The driver has adopted and persisted this version: decided here, told by another, or forced by an operator. What was said before it is void. */
  | { readonly type: "layout"; readonly layout: Layout }
  /**
   * What this node would like the next version to be; undefined: nothing, but it finishes what it accepted. A layout that is no step from the adopted one
   * is not proposed. `without` as in a ballot.
   */
  | { readonly type: "want"; readonly layout: Layout | undefined; readonly without: string }
  /**
   * Evidence that the listed incarnation of this voter is lost: a node proved that identity and lives under another incarnation while the listed one is
   * not connected, or an operator named the one that takes its place. It holds until `seen`, or until a version lists another incarnation.
   */
  | { readonly type: "fresh"; readonly name: string; readonly node: NodeId; readonly incarnation: Incarnation }
  /** The listed incarnation of this name is connected again. */
  | { readonly type: "seen"; readonly name: string }
  /** False from the start until this node has compared, and while it is listed again but has not caught up: it then only listens. */
  | { readonly type: "may vote"; readonly mayVote: boolean }
  /** @param from the writer that the frame proves */
  | { readonly type: "message"; readonly from: WriterId; readonly message: ConsensusMessage }
  /** The state of this id is fsynced. */
  | { readonly type: "persisted"; readonly id: number };

export type ConsensusEffect =
  /** Replaces the state kept before; answer with `persisted` once fsynced. The next one comes only after that. */
  | { readonly type: "persist"; readonly id: number; readonly state: Uint8Array }
  /** To a voter; dropped when it is not connected. */
  | { readonly type: "send"; readonly to: NodeId; readonly message: ConsensusMessage }
  /** Once a version and process: persist and adopt it, tell everybody, give it back as `layout`. */
  | { readonly type: "decided"; readonly layout: Layout };

/** Between two times that an unanswered message is sent again, ms. Loopback answers in one, a WAN in 300. */
const RESEND_MS = 500;
/** Voter number r, by name, waits r times this before its first ballot, so that of several with one wish usually one proposes, ms. */
const STAGGER_MS = 250;
const STAGGER_MAX_MS = 10_000;
/** How long a higher ballot is left alone before we try, ms: half to one and a half of it, doubled for each own ballot that lost, up to 32 s. */
const BACKOFF_MS = 1_000;
/** The same for who wishes nothing, and only sees that what it accepted has not become a version: its proposer is probably gone. */
const FINISH_MS = 4_000;
const BACKOFF_DOUBLINGS_MAX = 5;

/** Voters that must answer each phase of a ballot. @param without whether the ballot leaves one out: it needs fewer then, all of them others */
export function votesNeeded(voterCount: number, without: boolean): number {
  const quorum = quorumOf(voterCount);
  return without ? voterCount - quorum + 1 : quorum;
}

/** A ballot of ours that is under way. Lost at a restart, when a higher one is begun. */
interface Attempt {
  readonly ballot: Ballot;
  /** Names. */
  readonly promises: Set<string>;
  readonly yeses: Set<string>;
  /** The accepted layout of the highest ballot that any promise reported. */
  reported: Accepted | undefined;
  /** Set when enough have promised: the second phase. */
  layout: Layout | undefined;
  resendAt: number;
}

/** What to hold a ballot for: a layout of our own, or, when undefined, what we accepted. */
interface Goal {
  readonly layout: Layout | undefined;
  readonly without: string;
}

const NOTHING: Goal = { layout: undefined, without: "" };

type Evidence = Pick<Member, "node" | "incarnation">;
type Continuation = (effects: ConsensusEffect[]) => void;

export class Consensus {
  readonly #self: WriterId;
  #layout: Layout;
  #decision: Decision;
  #voters: readonly Member[];

  // What is persisted, with the decision it is about.
  #promised: Ballot | undefined;
  #accepted: Accepted | undefined;

  // What waits for the disk.
  #unsaved = false;
  #waiting: Continuation[] = [];
  #saving: { readonly id: number; waiting: Continuation[] } | undefined;
  #lastId = 0;

  // What a restart forgets.
  readonly #evidence = new Map<string, Evidence>();
  #mayVote = false;
  #want = NOTHING;
  /** What is wished follows the adopted version, by such a ballot. */
  #isStep = false;
  #attempt: Attempt | undefined;
  #decided = false;
  #now = 0;
  #startAt: number | undefined;
  #failures = 0;
  #roundSeen = 0;

  /** @throws ProtocolError MALFORMED, TOO_LARGE, VERSION, when the state is not one of ours; INVARIANT, when it is about a later version than can be */
  constructor(options: ConsensusOptions) {
    this.#self = options.self;
    this.#layout = options.layout;
    this.#voters = votersOf(options.layout);
    this.#decision = decisionAfter(options.layout);
    if (options.persisted !== undefined) this.#restore(options.persisted);
  }

  step(input: ConsensusInput): ConsensusEffect[] {
    const effects: ConsensusEffect[] = [];
    switch (input.type) {
      case "tick":
        this.#tick(input.now, input.random, effects);
        break;
      case "layout":
        this.#follow(input.layout);
        break;
      case "want":
        this.#wish(input.layout, input.without);
        break;
      case "fresh":
        this.#learnLoss(input.name, { node: input.node, incarnation: input.incarnation });
        break;
      case "seen":
        this.#evidence.delete(input.name);
        this.#dropAttempt(input.name);
        break;
      case "may vote":
        this.#mayVote = input.mayVote;
        if (!input.mayVote) this.#attempt = undefined;
        break;
      case "message":
        this.#receive(input.from, input.message, effects);
        break;
      case "persisted":
        this.#saved(input.id, effects);
        break;
    }
    this.#save(effects);
    return effects;
  }

  #tick(now: number, random: number, effects: ConsensusEffect[]): void {
    this.#now = now;
    const self = this.#votingSelf();
    if (self === undefined || this.#decided) return;
    const goal = this.#goal();
    if (this.#attempt !== undefined) {
      // A loss is told apart from a ballot that lacks answers only by its evidence: then the ballot without that member takes its place.
      if (goal === undefined || goal.without === "" || goal.without === this.#attempt.ballot.without) {
        if (now >= this.#attempt.resendAt) this.#sendAgain(this.#attempt, effects);
        return;
      }
    } else {
      if (goal === undefined) return;
      this.#startAt ??= now + this.#pauseMs(goal, random);
      if (now < this.#startAt) return;
    }
    this.#begin(self, goal.without);
  }

  #pauseMs(goal: Goal, random: number): number {
    const rank = this.#voters.findIndex(({ writer }) => writer === this.#self);
    if (goal.layout !== undefined && this.#roundSeen === 0) return Math.min(rank * STAGGER_MS, STAGGER_MAX_MS);
    const alone = goal.layout === undefined ? FINISH_MS : BACKOFF_MS;
    return alone * 2 ** Math.min(this.#failures, BACKOFF_DOUBLINGS_MAX) * (0.5 + random);
  }

  // What this node is told by its driver.

  #follow(layout: Layout): void {
    // Told late, or twice. Another layout of the same number is an operator's choice between two.
    if (layout.version < this.#layout.version || layoutHash(layout) === this.#decision.previous) return;
    const voters = votersOf(layout);
    // Evidence is about the incarnation that was listed.
    for (const name of this.#evidence.keys()) {
      if (named(voters, name)?.writer !== named(this.#voters, name)?.writer) this.#evidence.delete(name);
    }
    this.#layout = layout;
    this.#voters = voters;
    this.#decision = decisionAfter(layout);
    // On the disk the old state may stay: it names the decision it is about.
    this.#promised = undefined;
    this.#accepted = undefined;
    this.#unsaved = false;
    this.#waiting = [];
    if (this.#saving !== undefined) this.#saving.waiting = [];
    this.#want = NOTHING;
    this.#attempt = undefined;
    this.#decided = false;
    this.#startAt = undefined;
    this.#failures = 0;
    this.#roundSeen = 0;
  }

  #wish(layout: Layout | undefined, without: string): void {
    if (without === this.#want.without && isSame(layout, this.#want.layout)) return;
    this.#want = { layout, without };
    // Asked once, not at every tick.
    this.#isStep = layout !== undefined && stepBetween(this.#layout, layout)?.without === without;
    if (this.#roundSeen === 0) this.#startAt = undefined;
  }

  #learnLoss(name: string, { node, incarnation }: Evidence): void {
    const listed = named(this.#voters, name);
    if (listed === undefined || (listed.node === node && listed.incarnation === incarnation)) return;
    const known = this.#evidence.get(name);
    if (known?.node === node && known.incarnation === incarnation) return;
    this.#evidence.set(name, { node, incarnation });
    // Lost once more: what the ballot proposed names the incarnation between. Begun again, it reports that, and so may finish it.
    this.#dropAttempt(name);
  }

  #dropAttempt(without: string): void {
    if (this.#attempt?.ballot.without === without) this.#attempt = undefined;
  }

  /** What this node may hold a ballot for now. */
  #goal(): Goal | undefined {
    const { layout, without } = this.#want;
    if (layout !== undefined && this.#isStep && this.#isShown(layout, without)) return this.#want;
    if (this.#accepted === undefined) return undefined;
    return { layout: undefined, without: this.#evidence.has(without) ? without : "" };
  }

  /** Whether the evidence about the lost member is of exactly the incarnation that the layout lists in its place (C5). */
  #isShown(layout: Layout, without: string): boolean {
    if (without === "") return true;
    const [fresh, evidence] = [named(votersOf(layout), without), this.#evidence.get(without)];
    return fresh !== undefined && evidence?.node === fresh.node && evidence.incarnation === fresh.incarnation;
  }

  // The acceptor.

  #receive(from: WriterId, message: ConsensusMessage, effects: ConsensusEffect[]): void {
    const voter = this.#voters.find(({ writer }) => writer === from);
    if (voter === undefined || from === this.#self || this.#votingSelf() === undefined) return; // C4
    if (message.version !== this.#decision.version || message.previous !== this.#decision.previous) return;
    switch (message.type) {
      case "prepare":
        if (this.#mayAnswer(message.ballot, voter)) this.#answerPrepare(voter, message.ballot, effects);
        break;
      case "propose":
        if (this.#mayAnswer(message.ballot, voter)) this.#answerPropose(voter, message.ballot, message.layout, message.reported, effects);
        break;
      case "promise":
        this.#countPromise(message.ballot, voter.name, message.accepted, effects);
        break;
      case "yes":
        this.#countYes(message.ballot, voter.name, effects);
        break;
      case "nack":
        if (this.#attempt !== undefined) this.#giveWay(message.ballot);
        break;
    }
  }

  /** A ballot comes from its proposer only, and without a member only from others, to others who know of its loss (C5). */
  #mayAnswer({ name, incarnation, without }: Ballot, proposer: Member): boolean {
    if (name !== proposer.name || incarnation !== proposer.incarnation) return false;
    return without === "" || (without !== name && without !== this.#votingSelf()?.name && this.#evidence.has(without));
  }

  #answerPrepare(voter: Member, ballot: Ballot, effects: ConsensusEffect[]): void {
    if (this.#isBelowPromise(ballot)) {
      this.#nack(voter, effects);
      return;
    }
    this.#promise(ballot);
    this.#whenSaved(this.#sending(voter, { type: "promise", ...this.#decision, ballot, accepted: this.#accepted }), effects);
  }

  #answerPropose(voter: Member, ballot: Ballot, layout: Layout, reported: boolean, effects: ConsensusEffect[]): void {
    if (this.#isBelowPromise(ballot)) {
      this.#nack(voter, effects);
      return;
    }
    const step = stepBetween(this.#layout, layout);
    if (step === undefined) return; // C4
    // What was reported was right when it was new. It must be finished, also when the evidence of then is no longer at hand.
    const isRight = reported || (step.without === ballot.without && this.#isShown(layout, ballot.without));
    if (!isRight) return;
    this.#promise(ballot);
    this.#accept(ballot, layout);
    this.#whenSaved(this.#sending(voter, { type: "yes", ...this.#decision, ballot }), effects);
  }

  #isBelowPromise(ballot: Ballot): boolean {
    return this.#promised !== undefined && compareBallot(ballot, this.#promised) < 0;
  }

  #promise(ballot: Ballot): void {
    // News: whoever asks is alive.
    this.#startAt = undefined;
    if (this.#promised !== undefined && compareBallot(ballot, this.#promised) === 0) return;
    this.#promised = ballot;
    this.#unsaved = true;
    this.#giveWay(ballot);
  }

  #accept(ballot: Ballot, layout: Layout): void {
    if (this.#accepted !== undefined && compareBallot(ballot, this.#accepted.ballot) === 0) return;
    this.#accepted = { ballot, layout };
    this.#unsaved = true;
  }

  #nack(voter: Member, effects: ConsensusEffect[]): void {
    this.#sending(voter, { type: "nack", ...this.#decision, ballot: this.#promised! })(effects);
  }

  #sending(voter: Member, message: ConsensusMessage): Continuation {
    return (effects) => effects.push({ type: "send", to: voter.node, message });
  }

  // The proposer.

  #begin(self: Member, without: string): void {
    const round = Math.max(this.#promised?.round ?? 0, this.#roundSeen) + 1;
    if (round > CONSENSUS_ROUND_MAX || without === self.name) return;
    const ballot: Ballot = { round, name: self.name, incarnation: self.incarnation, without };
    const attempt: Attempt = {
      ballot,
      promises: new Set(),
      yeses: new Set(),
      reported: undefined,
      layout: undefined,
      resendAt: this.#now + RESEND_MS,
    };
    this.#promise(ballot);
    this.#attempt = attempt;
    this.#waiting.push((effects) => {
      this.#countPromise(ballot, self.name, this.#accepted, effects);
      this.#sendAgain(attempt, effects);
    });
  }

  #countPromise(ballot: Ballot, name: string, accepted: Accepted | undefined, effects: ConsensusEffect[]): void {
    const attempt = this.#attempt;
    if (attempt === undefined || attempt.layout !== undefined || compareBallot(ballot, attempt.ballot) !== 0) return;
    if (name === attempt.ballot.without) return;
    attempt.promises.add(name);
    attempt.reported = higher(attempt.reported, accepted);
    if (this.#isQuorum(attempt.promises, attempt.ballot)) this.#propose(attempt, effects);
  }

  #propose(attempt: Attempt, effects: ConsensusEffect[]): void {
    const layout = attempt.reported?.layout ?? this.#newLayout(attempt.ballot.without); // C2
    if (layout === undefined) {
      this.#attempt = undefined;
      return;
    }
    attempt.layout = layout;
    this.#accept(attempt.ballot, layout);
    this.#whenSaved((later) => {
      const { name } = attempt.ballot;
      this.#countYes(attempt.ballot, name, later);
      this.#sendAgain(attempt, later);
    }, effects);
  }

  /** The wish as it is now; undefined when it went away, or turned to another kind of ballot, while the promises came. */
  #newLayout(without: string): Layout | undefined {
    const goal = this.#goal();
    return goal?.without === without ? goal.layout : undefined;
  }

  #countYes(ballot: Ballot, name: string, effects: ConsensusEffect[]): void {
    const attempt = this.#attempt;
    if (attempt?.layout === undefined || compareBallot(ballot, attempt.ballot) !== 0 || name === attempt.ballot.without) return;
    attempt.yeses.add(name);
    if (!this.#isQuorum(attempt.yeses, attempt.ballot)) return;
    this.#attempt = undefined;
    this.#decided = true;
    effects.push({ type: "decided", layout: attempt.layout }); // C3
  }

  #isQuorum(names: ReadonlySet<string>, { without }: Ballot): boolean {
    return names.size >= votesNeeded(this.#voters.length, without !== "");
  }

  /** To each that has not answered the phase this ballot is in. */
  #sendAgain(attempt: Attempt, effects: ConsensusEffect[]): void {
    if (this.#attempt !== attempt) return;
    attempt.resendAt = this.#now + RESEND_MS;
    const { ballot, layout } = attempt;
    const answered = layout === undefined ? attempt.promises : attempt.yeses;
    // Not before the disk has our own promise or yes under this ballot (C1).
    if (!answered.has(ballot.name)) return;
    const message: ConsensusMessage =
      layout === undefined
        ? { type: "prepare", ...this.#decision, ballot }
        : { type: "propose", ...this.#decision, ballot, layout, reported: attempt.reported !== undefined };
    for (const voter of this.#voters) {
      if (voter.name !== ballot.without && !answered.has(voter.name)) this.#sending(voter, message)(effects);
    }
  }

  /** A higher ballot is about: ours cannot win any more, and the other is left alone for a while. */
  #giveWay(ballot: Ballot): void {
    if (this.#isOwn(ballot)) return;
    this.#roundSeen = Math.max(this.#roundSeen, ballot.round);
    this.#startAt = undefined;
    if (this.#attempt === undefined || compareBallot(ballot, this.#attempt.ballot) <= 0) return;
    this.#attempt = undefined;
    this.#failures++;
  }

  // Who is who.

  #isOwn({ name, incarnation }: Ballot): boolean {
    const self = this.#votingSelf();
    return name === self?.name && incarnation === self.incarnation;
  }

  /** This node as a voter; undefined while it is none, or does not count. */
  #votingSelf(): Member | undefined {
    return this.#mayVote ? this.#voters.find(({ writer }) => writer === this.#self) : undefined;
  }

  // The disk: one persist at a time, each with everything up to it, so the last one that was written is never an older state.

  /** Runs once all that was decided up to now is on the disk. */
  #whenSaved(run: Continuation, effects: ConsensusEffect[]): void {
    if (this.#unsaved) this.#waiting.push(run);
    else if (this.#saving !== undefined) this.#saving.waiting.push(run);
    else run(effects);
  }

  #save(effects: ConsensusEffect[]): void {
    if (!this.#unsaved || this.#saving !== undefined) return;
    this.#saving = { id: ++this.#lastId, waiting: this.#waiting };
    this.#waiting = [];
    this.#unsaved = false;
    effects.push({ type: "persist", id: this.#saving.id, state: this.#state() });
  }

  #saved(id: number, effects: ConsensusEffect[]): void {
    if (this.#saving?.id !== id) return;
    const { waiting } = this.#saving;
    this.#saving = undefined;
    for (const run of waiting) run(effects);
  }

  #state(): Uint8Array {
    return encodeWire([
      STATE_FORMAT,
      this.#decision.version,
      this.#decision.previous,
      this.#promised === undefined ? null : ballotRow(this.#promised),
      acceptedRow(this.#accepted),
    ]);
  }

  #restore(state: Uint8Array): void {
    const [format, version, previous, promised, accepted] = asArray(decodeWire(state, CONSENSUS_STATE_MAX_BYTES), "consensus state", 5);
    if (format !== STATE_FORMAT) throw new ProtocolError("VERSION", "a consensus state of a format we do not know");
    const decision = decisionOfRow(asCount(version, "version"), asText(previous, "previous"));
    // Whoever voted on a version had the one before on its disk: now it has not, and might vote again on what it forgot.
    if (decision.version > this.#decision.version)
      throw new ProtocolError("INVARIANT", "votes on a version later than the adopted layout allows", { version: decision.version });
    const restored = { promised: promised === null ? undefined : ballotOfRow(promised), accepted: acceptedOfRow(accepted, decision) };
    if (decision.version !== this.#decision.version || decision.previous !== this.#decision.previous) return;
    this.#promised = restored.promised;
    this.#accepted = restored.accepted;
  }
}

const STATE_FORMAT = 1;

function decisionAfter(layout: Layout): Decision {
  return { version: layout.version + 1, previous: layoutHash(layout) };
}

function named(voters: readonly Member[], name: string): Member | undefined {
  return voters.find((voter) => voter.name === name);
}

function isSame(a: Layout | undefined, b: Layout | undefined): boolean {
  return a === b || (a !== undefined && b !== undefined && layoutHash(a) === layoutHash(b));
}

function higher(a: Accepted | undefined, b: Accepted | undefined): Accepted | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return compareBallot(a.ballot, b.ballot) >= 0 ? a : b;
}
