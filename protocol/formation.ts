/**
 * How a federation begins: the closed list of names agrees on layout 1, once, whatever is lost on the way (DESIGN section 8, "Formation").
 * Paxos (Lamport, "Paxos made simple", 2001) over names, with *every* name in both phases, so any two rounds share every name: one name that
 * kept its disk is enough to remember a decision, and a name that lost its disk may therefore promise and say yes again.
 *
 * F1 A promise, a yes and "formed" are persisted before they are given; the state is replaced as a whole, one persist at a time.
 * F2 Nobody proposes before every listed name has promised its ballot; what a promise reports is proposed again unchanged, highest ballot first.
 * F3 Layout 1 holds for the proposer with every yes to one ballot, for others when a formed member tells them.
 * F4 A formed node answers only with layout 1.
 * F5 Only one's own exact list is promised to or accepted.
 *
 * A proposer does not abandon a ballot because time passes: it asks again until all have answered. It gives way only to a higher ballot, and
 * then waits a random time that doubles, so two proposers do not chase each other for ever.
 */
import { asArray, decodeWire, encodeWire } from "./codec.ts";
import { ProtocolError } from "./errors.ts";
import {
  type Accepted,
  acceptedOfRow,
  acceptedRow,
  type Ballot,
  ballotOfRow,
  ballotRow,
  compareBallot,
  type FormationMessage,
  layoutOfBytes,
  namesOfRow,
} from "./formation-message.ts";
import type { FederationId, Incarnation, NodeId } from "./ids.ts";
import {
  encodeLayout,
  federationId,
  type Layout,
  type LayoutSettings,
  layoutHash,
  layoutOf,
  type Member,
  type MemberFields,
  memberOf,
  settingsOf,
} from "./layout.ts";
import { FORMATION_REFUSALS_MAX, FORMATION_ROUND_MAX, FORMATION_STATE_MAX_BYTES } from "./limits.ts";

export interface FormationOptions {
  readonly self: MemberFields;
  /** FEDERATION_FIRST_MEMBERS: sorted, each name once, self included. */
  readonly list: readonly string[];
  readonly settings: LayoutSettings;
  /** The federation id this node proposes if it has to propose a new layout: 128 random bits, new at each start. */
  readonly federation: FederationId;
  /** The last state that `persist` carried, undefined on an empty disk. */
  readonly persisted: Uint8Array | undefined;
}

export type FormationInput =
  /** @param now monotonic ms @param random in [0, 1) */
  | { readonly type: "tick"; readonly now: number; readonly random: number }
  /** A link's hello, and its end: the same pair of node and incarnation both times. */
  | { readonly type: "peer"; readonly node: NodeId; readonly name: string; readonly incarnation: Incarnation; readonly connected: boolean }
  | { readonly type: "message"; readonly from: NodeId; readonly message: FormationMessage }
  /** The state of this id is fsynced. */
  | { readonly type: "persisted"; readonly id: number };

export type FormationEffect =
  /** Replaces the state kept before; answer with `persisted` once fsynced. The next one comes only after that. */
  | { readonly type: "persist"; readonly id: number; readonly state: Uint8Array }
  | { readonly type: "send"; readonly to: NodeId; readonly message: FormationMessage }
  /** Once, and after it was persisted; a restarted node shows it in `formed` from the beginning. */
  | { readonly type: "formed"; readonly layout: Layout }
  /** For the log; each once. */
  | { readonly type: "refuse"; readonly reason: FormationRefusal; readonly facts: Readonly<Record<string, string>> };

export type FormationRefusal =
  /** Two living nodes or incarnations under one name: both are refused until one is gone. */
  | "two_living"
  /** A peer's list, or the layout it formed or proposes, names others than ours. */
  | "list_differs"
  /** A peer formed another federation than ours. */
  | "foreign_federation"
  /** Our own list is not the one we said yes under: we take no part until it is as it was. */
  | "list_changed";

/** Between two times that an unanswered message is sent again, ms. Loopback answers in one, a WAN in 300. */
const RESEND_MS = 500;
/** Between two questions whether others formed layout 1 meanwhile, ms: who promised and formed later is not sent to again. */
const ASK_MS = 1_000;
/** Rank r waits r times this before its first ballot, so that usually the first of the list proposes alone, ms. */
const STAGGER_MS = 250;
const STAGGER_MAX_MS = 10_000;
/** How long a higher ballot is left alone before we try, ms: half to one and a half of it, doubled for each own ballot that lost, up to 32 s. */
const BACKOFF_MS = 1_000;
const BACKOFF_DOUBLINGS_MAX = 5;

/** A ballot of ours that is under way. Lost at a restart, when a higher one is begun. */
interface Attempt {
  readonly ballot: Ballot;
  readonly promises: Map<string, Member>;
  readonly yeses: Set<string>;
  /** The accepted layout of the highest ballot that any promise reported. */
  reported: Accepted | undefined;
  /** Set when every name has promised: the second phase. */
  layout: Layout | undefined;
  resendAt: number;
}

interface Peer {
  readonly node: NodeId;
  readonly name: string;
  readonly incarnation: Incarnation;
}

type Continuation = (effects: FormationEffect[]) => void;

export class Formation {
  readonly #self: Member;
  readonly #list: readonly string[];
  readonly #settings: LayoutSettings;
  readonly #federation: FederationId;

  // What is persisted. `#decided` becomes `#formed` once it is on the disk.
  #promised: Ballot | undefined;
  #accepted: Accepted | undefined;
  #decided: Layout | undefined;
  #formed: Layout | undefined;

  // What waits for the disk.
  #unsaved = false;
  #waiting: Continuation[] = [];
  #saving: { readonly id: number; readonly waiting: Continuation[] } | undefined;
  #lastId = 0;

  // What a restart forgets.
  readonly #living = new Map<string, Peer>();
  readonly #refused = new Set<string>();
  #attempt: Attempt | undefined;
  #now = 0;
  #askAt = 0;
  #startAt: number | undefined;
  #failures = 0;
  #roundSeen = 0;

  /** @throws ProtocolError MALFORMED, when an option is out of bounds, the list lacks self, or the state is not one of ours */
  constructor(options: FormationOptions) {
    this.#self = memberOf(options.self);
    this.#list = namesOfRow(options.list);
    this.#settings = settingsOf(options.settings);
    this.#federation = federationId(options.federation);
    if (!this.#list.includes(this.#self.name))
      throw new ProtocolError("MALFORMED", "the list of first members lacks this node", { name: this.#self.name });
    if (options.persisted !== undefined) this.#restore(options.persisted);
  }

  /** Layout 1 as it is on this disk. */
  get formed(): Layout | undefined {
    return this.#formed;
  }

  /** Listed names that are not connected as exactly one living node; for status and log. */
  get waitingFor(): readonly string[] {
    return this.#list.filter((name) => name !== this.#self.name && this.#peerNamed(name) === undefined);
  }

  step(input: FormationInput): FormationEffect[] {
    const effects: FormationEffect[] = [];
    switch (input.type) {
      case "tick":
        this.#tick(input.now, input.random, effects);
        break;
      case "peer":
        this.#meet(input, effects);
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

  #tick(now: number, random: number, effects: FormationEffect[]): void {
    this.#now = now;
    if (this.#decided !== undefined || !this.#mayTakePart(effects)) return;
    if (now >= this.#askAt) {
      this.#askAt = now + ASK_MS;
      for (const name of this.#others()) this.#sendTo(name, { type: "ask" }, effects);
    }
    if (this.#attempt !== undefined) {
      if (now >= this.#attempt.resendAt) this.#sendAgain(this.#attempt, effects);
      return;
    }
    if (this.waitingFor.length > 0) return;
    this.#startAt ??= now + this.#pauseMs(random);
    if (now >= this.#startAt) this.#begin();
  }

  #pauseMs(random: number): number {
    if (this.#roundSeen === 0) return Math.min(this.#list.indexOf(this.#self.name) * STAGGER_MS, STAGGER_MAX_MS);
    return BACKOFF_MS * 2 ** Math.min(this.#failures, BACKOFF_DOUBLINGS_MAX) * (0.5 + random);
  }

  #meet({ node, name, incarnation, connected }: Peer & { readonly connected: boolean }, effects: FormationEffect[]): void {
    if (!this.#list.includes(name) || (node === this.#self.node && incarnation === this.#self.incarnation)) return;
    const key = `${node}/${incarnation}`;
    if (!connected) {
      this.#living.delete(key);
      return;
    }
    this.#living.set(key, { node, name, incarnation });
    if (this.#livingAs(name).length > (name === this.#self.name ? 0 : 1)) this.#refuse("two_living", { name, node, incarnation }, effects);
    // A name that lost its disk since it promised promises again, so that the layout lists its new incarnation. What it reported stays known.
    const attempt = this.#attempt;
    if (name === this.#self.name || attempt === undefined || attempt.layout !== undefined) return;
    if (attempt.promises.get(name)?.incarnation !== incarnation) attempt.promises.delete(name);
  }

  #receive(from: NodeId, message: FormationMessage, effects: FormationEffect[]): void {
    const peer = this.#peerAt(from);
    if (peer === undefined) return;
    if (message.type === "formed") {
      this.#learn(peer, message.layout, effects);
    } else if (this.#formed !== undefined) {
      // F4, and nothing at all to an answer that came too late.
      if (message.type === "prepare" || message.type === "propose" || message.type === "ask") {
        effects.push({ type: "send", to: from, message: { type: "formed", layout: this.#formed } });
      }
    } else if (this.#decided === undefined && this.#mayTakePart(effects)) {
      this.#takePart(peer, message, effects);
    }
  }

  #takePart(peer: Peer, message: Exclude<FormationMessage, { type: "formed" }>, effects: FormationEffect[]): void {
    switch (message.type) {
      case "prepare":
        this.#answerPrepare(peer, message.ballot, message.list, effects);
        break;
      case "propose":
        this.#answerPropose(peer, message.ballot, message.layout, effects);
        break;
      case "promise":
        if (message.member.name === peer.name && message.member.node === peer.node && message.member.incarnation === peer.incarnation) {
          this.#countPromise(message.ballot, message.member, message.accepted, effects);
        }
        break;
      case "yes":
        this.#countYes(message.ballot, peer.name);
        break;
      case "nack":
        if (this.#attempt !== undefined) this.#giveWay(message.ballot);
        break;
      case "ask":
        break;
    }
  }

  // The acceptor.

  #answerPrepare(peer: Peer, ballot: Ballot, list: readonly string[], effects: FormationEffect[]): void {
    if (!isBallotOf(ballot, peer)) return;
    if (!sameNames(list, this.#list)) {
      this.#refuse("list_differs", { name: peer.name, node: peer.node, theirs: list.join(","), ours: this.#list.join(",") }, effects);
      return;
    }
    if (this.#isBelowPromise(ballot)) {
      this.#nack(peer, effects);
      return;
    }
    this.#promise(ballot);
    const message: FormationMessage = { type: "promise", ballot, member: this.#self, accepted: this.#accepted };
    this.#whenSaved((later) => later.push({ type: "send", to: peer.node, message }), effects);
  }

  #answerPropose(peer: Peer, ballot: Ballot, layout: Layout, effects: FormationEffect[]): void {
    if (!isBallotOf(ballot, peer)) return;
    if (!this.#isOurList(peer, layout, effects)) return;
    if (this.#isBelowPromise(ballot)) {
      this.#nack(peer, effects);
      return;
    }
    this.#promise(ballot);
    this.#accept(ballot, layout);
    this.#whenSaved((later) => later.push({ type: "send", to: peer.node, message: { type: "yes", ballot } }), effects);
  }

  #isBelowPromise(ballot: Ballot): boolean {
    return this.#promised !== undefined && compareBallot(ballot, this.#promised) < 0;
  }

  #promise(ballot: Ballot): void {
    if (this.#promised !== undefined && compareBallot(ballot, this.#promised) === 0) return;
    this.#promised = ballot;
    this.#unsaved = true;
    if (ballot.name !== this.#self.name || ballot.incarnation !== this.#self.incarnation) this.#giveWay(ballot);
  }

  #accept(ballot: Ballot, layout: Layout): void {
    if (this.#accepted !== undefined && compareBallot(ballot, this.#accepted.ballot) === 0) return;
    this.#accepted = { ballot, layout };
    this.#unsaved = true;
  }

  #nack(peer: Peer, effects: FormationEffect[]): void {
    effects.push({ type: "send", to: peer.node, message: { type: "nack", ballot: this.#promised! } });
  }

  // The proposer.

  #begin(): void {
    const round = Math.max(this.#promised?.round ?? 0, this.#roundSeen) + 1;
    if (round > FORMATION_ROUND_MAX) return;
    const ballot: Ballot = { round, name: this.#self.name, incarnation: this.#self.incarnation };
    const attempt: Attempt = {
      ballot,
      promises: new Map(),
      yeses: new Set(),
      reported: undefined,
      layout: undefined,
      resendAt: this.#now + RESEND_MS,
    };
    this.#attempt = attempt;
    this.#promise(ballot);
    this.#waiting.push((effects) => {
      this.#countPromise(ballot, this.#self, this.#accepted, effects);
      this.#sendAgain(attempt, effects);
    });
  }

  #countPromise(ballot: Ballot, member: Member, accepted: Accepted | undefined, effects: FormationEffect[]): void {
    const attempt = this.#attempt;
    if (attempt === undefined || attempt.layout !== undefined || compareBallot(ballot, attempt.ballot) !== 0) return;
    if (accepted !== undefined && !sameNames(namesOf(accepted.layout), this.#list)) {
      this.#refuse(
        "list_differs",
        { name: member.name, node: member.node, theirs: namesOf(accepted.layout).join(","), ours: this.#list.join(",") },
        effects,
      );
      return;
    }
    // A node that now goes by another name does not promise for both.
    for (const [name, { node }] of attempt.promises) if (node === member.node) attempt.promises.delete(name);
    attempt.promises.set(member.name, member);
    attempt.reported = higher(attempt.reported, accepted);
    if (attempt.promises.size === this.#list.length) this.#propose(attempt, effects); // F2
  }

  #propose(attempt: Attempt, effects: FormationEffect[]): void {
    const layout = attempt.reported?.layout ?? this.#newLayout(attempt);
    attempt.layout = layout;
    this.#accept(attempt.ballot, layout);
    this.#whenSaved((later) => {
      this.#countYes(attempt.ballot, this.#self.name);
      this.#sendAgain(attempt, later);
    }, effects);
  }

  #newLayout(attempt: Attempt): Layout {
    return layoutOf({ version: 1, federation: this.#federation, ...this.#settings, members: [...attempt.promises.values()] });
  }

  #countYes(ballot: Ballot, name: string): void {
    const attempt = this.#attempt;
    if (attempt?.layout === undefined || compareBallot(ballot, attempt.ballot) !== 0) return;
    attempt.yeses.add(name);
    if (attempt.yeses.size === this.#list.length) this.#decide(attempt.layout); // F3
  }

  /** To each that has not answered the phase this ballot is in. */
  #sendAgain(attempt: Attempt, effects: FormationEffect[]): void {
    if (this.#attempt !== attempt) return;
    attempt.resendAt = this.#now + RESEND_MS;
    const { ballot, layout } = attempt;
    // Not before the disk has our own promise or yes under this ballot (F1).
    if (layout === undefined ? !attempt.promises.has(this.#self.name) : !attempt.yeses.has(this.#self.name)) return;
    for (const name of this.#others()) {
      if (layout === undefined && !attempt.promises.has(name)) this.#sendTo(name, { type: "prepare", ballot, list: this.#list }, effects);
      if (layout !== undefined && !attempt.yeses.has(name)) this.#sendTo(name, { type: "propose", ballot, layout }, effects);
    }
  }

  /** A higher ballot is about: ours cannot win any more, and the other is left alone for a while. */
  #giveWay(ballot: Ballot): void {
    this.#roundSeen = Math.max(this.#roundSeen, ballot.round);
    this.#startAt = undefined;
    if (this.#attempt === undefined || compareBallot(ballot, this.#attempt.ballot) <= 0) return;
    this.#attempt = undefined;
    this.#failures++;
  }

  // The end.

  #learn(peer: Peer, layout: Layout, effects: FormationEffect[]): void {
    const known = this.#decided ?? this.#formed;
    if (known !== undefined) {
      if (layoutHash(known) !== layoutHash(layout)) {
        this.#refuse("foreign_federation", { name: peer.name, node: peer.node, theirs: layout.federation, ours: known.federation }, effects);
      }
      return;
    }
    if (this.#isOurList(peer, layout, effects)) this.#decide(layout);
  }

  #decide(layout: Layout): void {
    this.#decided = layout;
    const proposed = this.#attempt?.layout === layout;
    this.#attempt = undefined;
    this.#unsaved = true;
    this.#waiting.push((effects) => {
      this.#formed = layout;
      effects.push({ type: "formed", layout });
      // The others would ask; told at once they need not.
      if (proposed) for (const name of this.#others()) this.#sendTo(name, { type: "formed", layout }, effects);
    });
  }

  // Who is who.

  #mayTakePart(effects: FormationEffect[]): boolean {
    if (this.#accepted !== undefined && !sameNames(namesOf(this.#accepted.layout), this.#list)) {
      this.#refuse("list_changed", { before: namesOf(this.#accepted.layout).join(","), now: this.#list.join(",") }, effects);
      return false;
    }
    return this.#livingAs(this.#self.name).length === 0;
  }

  #isOurList(peer: Peer, layout: Layout, effects: FormationEffect[]): boolean {
    if (sameNames(namesOf(layout), this.#list)) return true;
    this.#refuse("list_differs", { name: peer.name, node: peer.node, theirs: namesOf(layout).join(","), ours: this.#list.join(",") }, effects);
    return false;
  }

  #livingAs(name: string): readonly Peer[] {
    return [...this.#living.values()].filter((peer) => peer.name === name);
  }

  #peerNamed(name: string): Peer | undefined {
    const peers = this.#livingAs(name);
    return peers.length === 1 ? peers[0] : undefined;
  }

  #peerAt(node: NodeId): Peer | undefined {
    const peer = [...this.#living.values()].find((each) => each.node === node);
    return peer === undefined || peer.name === this.#self.name ? undefined : this.#peerNamed(peer.name);
  }

  #others(): readonly string[] {
    return this.#list.filter((name) => name !== this.#self.name);
  }

  #sendTo(name: string, message: FormationMessage, effects: FormationEffect[]): void {
    const peer = this.#peerNamed(name);
    if (peer !== undefined) effects.push({ type: "send", to: peer.node, message });
  }

  #refuse(reason: FormationRefusal, facts: Readonly<Record<string, string>>, effects: FormationEffect[]): void {
    const key = JSON.stringify([reason, facts]);
    if (this.#refused.has(key) || this.#refused.size >= FORMATION_REFUSALS_MAX) return;
    this.#refused.add(key);
    effects.push({ type: "refuse", reason, facts });
  }

  // The disk: one persist at a time, each with everything up to it, so the last one that was written is never an older state.

  /** Runs once all that was decided up to now is on the disk. */
  #whenSaved(run: Continuation, effects: FormationEffect[]): void {
    if (this.#unsaved) this.#waiting.push(run);
    else if (this.#saving !== undefined) this.#saving.waiting.push(run);
    else run(effects);
  }

  #save(effects: FormationEffect[]): void {
    if (!this.#unsaved || this.#saving !== undefined) return;
    this.#saving = { id: ++this.#lastId, waiting: this.#waiting };
    this.#waiting = [];
    this.#unsaved = false;
    effects.push({ type: "persist", id: this.#saving.id, state: this.#state() });
  }

  #saved(id: number, effects: FormationEffect[]): void {
    if (this.#saving?.id !== id) return;
    const { waiting } = this.#saving;
    this.#saving = undefined;
    for (const run of waiting) run(effects);
  }

  #state(): Uint8Array {
    return encodeWire([
      STATE_FORMAT,
      this.#promised === undefined ? null : ballotRow(this.#promised),
      acceptedRow(this.#accepted),
      this.#decided === undefined ? null : encodeLayout(this.#decided),
    ]);
  }

  #restore(state: Uint8Array): void {
    const [format, promised, accepted, decided] = asArray(decodeWire(state, FORMATION_STATE_MAX_BYTES), "formation state", 4);
    if (format !== STATE_FORMAT) throw new ProtocolError("VERSION", "a formation state of a format we do not know");
    this.#promised = promised === null ? undefined : ballotOfRow(promised);
    this.#accepted = acceptedOfRow(accepted);
    this.#decided = decided === null ? undefined : layoutOfBytes(decided);
    this.#formed = this.#decided;
  }
}

const STATE_FORMAT = 1;

/** A ballot comes from its proposer only: a late one of an incarnation that is gone is not answered. */
function isBallotOf(ballot: Ballot, peer: Peer): boolean {
  return ballot.name === peer.name && ballot.incarnation === peer.incarnation;
}

function higher(a: Accepted | undefined, b: Accepted | undefined): Accepted | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return compareBallot(a.ballot, b.ballot) >= 0 ? a : b;
}

function namesOf(layout: Layout): readonly string[] {
  return layout.members.map((member) => member.name);
}

function sameNames(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((name, index) => name === b[index]);
}
