/**
 * Drives what follows the layout that holds: the votes of consensus.ts, whose state is fsynced before anything that depends on it is said, and the steps that
 * steward.ts wants next, out of the queue of changes in the system partition. Every member that counts runs this; the first by name leads.
 */

import { Consensus, type ConsensusEffect } from "../protocol/consensus.ts";
import { decodeConsensusMessage, encodeConsensusMessage } from "../protocol/consensus-message.ts";
import { type Incarnation, type NodeId, SYSTEM_PARTITION, type WriterId } from "../protocol/ids.ts";
import { type Layout, layoutTag, type Member, votersOf } from "../protocol/layout.ts";
import type { Message } from "../protocol/message.ts";
import type { Replica } from "../protocol/replica.ts";
import { stewardStep } from "../protocol/steward.ts";
import { type Claim, Successions } from "../protocol/succession.ts";
import type { LayoutQueue } from "./layout-queue.ts";
import type { Links, PeerInfo } from "./links.ts";
import type { Log, Meter, System } from "./ports.ts";
import type { Store } from "./store/store.ts";

export interface ChangingOptions {
  readonly store: Store;
  readonly links: Links;
  readonly system: System;
  readonly meter: Meter;
  readonly log: Log;
  readonly writer: WriterId;
  readonly replica: Replica;
  readonly queue: LayoutQueue;
  /** A version was decided: persist it, adopt it, tell everybody. */
  readonly onDecided: (layout: Layout) => void;
  readonly guard: (run: () => void) => void;
  readonly onFailure: (error: Error) => void;
}

/** Between two looks at what should follow, ms. */
const LOOK_MS = 200;

/** An operator's word that a node succeeds a member is said again this often, ms, until the layout says it. */
const SAY_AGAIN_MS = 2_000;

export class Changing {
  readonly #o: ChangingOptions;
  readonly #successions: Successions;
  /** What an operator has said here, by name. */
  readonly #operators = new Map<string, Claim>();
  #sayAt = 0;
  readonly #consensus: Consensus;
  /** Names of the layout that live under another incarnation than the listed one, and which. */
  readonly #fresh = new Map<string, { readonly name: string; readonly node: NodeId; readonly incarnation: Incarnation; readonly listed: WriterId }>();
  #mayVote = false;
  #lookAt = 0;
  #said = "";

  /** @param persisted the last state of the votes */
  constructor(options: ChangingOptions, persisted: Uint8Array | undefined) {
    this.#o = options;
    this.#consensus = new Consensus({ self: options.writer, layout: options.replica.layout, persisted });
    this.#successions = new Successions(
      {
        self: options.writer,
        layout: () => options.replica.layout,
        isConnected: (writer) => options.links.peers().some((peer) => peer.writer === writer),
      },
      options.system.monotonic(),
    );
    for (const peer of options.links.peers()) this.peer(peer, true);
  }

  peer(peer: PeerInfo, connected: boolean): void {
    const member = this.#memberAt(peer.node);
    if (member === undefined) return;
    if (connected && member.writer !== peer.writer) this.#lost(member, peer);
    else if (connected) this.#seen(member.name);
  }

  // ---- a member whose identity is lost with its disk -------------------------------------------------------------

  /** An operator says that this node takes the place of the member whose name it has. The others are told until the layout lists it. */
  succeed(claim: Claim): void {
    this.#operators.set(claim.name, claim);
    this.#sayAt = 0;
  }

  /** Whether the operator's word still stands: not once the member was seen to live, or the layout says it. */
  succeeds(name: string): boolean {
    return this.#operators.has(name);
  }

  /** A newcomer's own word, or what an operator said at another voter. */
  claimed(from: PeerInfo, { name, node, incarnation, automatic }: Claim): void {
    const isOwn = node === from.node && incarnation === from.incarnation && name === from.name;
    if (automatic ? isOwn : this.#isVoter(from)) this.#heard({ name, node, incarnation, automatic });
  }

  lives(from: PeerInfo, name: string, incarnation: Incarnation): void {
    if (!this.#isVoter(from)) return;
    this.#successions.lives(name, incarnation, this.#o.system.monotonic());
    this.#living(name);
  }

  #heard(claim: Claim): void {
    const { links, system } = this.#o;
    const living = this.#successions.claimed(claim, system.monotonic());
    if (living === undefined) return;
    this.#living(claim.name);
    this.#toVoters({ type: "lives", name: living.name, incarnation: living.incarnation });
    links.refuse(
      claim.node,
      "NAME_TAKEN",
      `a member ${living.name} lives, under another identity (${living.node}): start one of the two under another NODE_NAME`,
    );
  }

  /** Nobody takes its place, whatever was said. */
  #living(name: string): void {
    this.#operators.delete(name);
    const fresh = this.#fresh.get(name);
    const listed = votersOf(this.#o.replica.layout).find((member) => member.name === name);
    // Another incarnation of the same identity is evidence of its own.
    if (fresh !== undefined && fresh.node !== listed?.node) this.#seen(name);
  }

  #lookAtClaims(now: number): void {
    const { links, replica } = this.#o;
    if (now >= this.#sayAt) {
      this.#sayAt = now + SAY_AGAIN_MS;
      for (const claim of this.#operators.values()) {
        this.#toVoters({ type: "succeed", ...claim });
        this.#heard(claim);
      }
    }
    for (const claim of this.#successions.shown(now)) {
      const member = votersOf(replica.layout).find(({ name }) => name === claim.name);
      const by = links.peer(claim.node);
      // Only who is here, and is the one that was named.
      if (member !== undefined && by?.incarnation === claim.incarnation && by.name === claim.name) this.#lost(member, by);
    }
  }

  #toVoters(message: Message): void {
    const { links } = this.#o;
    for (const peer of links.peers()) if (peer.version >= 2 && this.#isVoter(peer)) links.send(peer.node, message);
  }

  #isVoter({ writer }: PeerInfo): boolean {
    return votersOf(this.#o.replica.layout).some((member) => member.writer === writer);
  }

  // ---- votes ---------------------------------------------------------------------------------------------------

  receive(from: WriterId, bytes: Uint8Array): void {
    this.#step({ type: "message", from, message: decodeConsensusMessage(bytes) });
  }

  adopted(layout: Layout): void {
    // What was shown of one incarnation says nothing of the next: whoever is connected shows it again below.
    for (const [name, fresh] of this.#fresh)
      if (!votersOf(layout).some((member) => member.name === name && member.writer === fresh.listed)) this.#fresh.delete(name);
    for (const [name, { node }] of this.#operators) if (votersOf(layout).some((member) => member.node === node)) this.#operators.delete(name);
    this.#step({ type: "layout", layout });
    for (const peer of this.#o.links.peers()) this.peer(peer, true);
    this.#lookAt = 0;
  }

  tick(now: number): void {
    const { replica, system } = this.#o;
    const mayVote = replica.standing === "counting";
    if (mayVote !== this.#mayVote) {
      this.#mayVote = mayVote;
      this.#step({ type: "may vote", mayVote });
    }
    this.#step({ type: "tick", now, random: system.random() });
    if (now < this.#lookAt || !mayVote || replica.conflict !== undefined) return;
    this.#lookAt = now + LOOK_MS;
    this.#lookAtClaims(now);
    this.#look();
  }

  #look(): void {
    const { replica, queue, writer, links } = this.#o;
    const { layout } = replica;
    // Whose copy of the queue is damaged does not lead.
    const counting = new Set(replica.countingIn(SYSTEM_PARTITION));
    const speakOfIt = votersOf(layout).every((member) => (links.peer(member.node)?.version ?? 2) >= 2);
    const leads = votersOf(layout).find((member) => counting.has(member.writer))?.writer === writer;
    const handedOver = layout.next !== undefined && replica.notHandedOver().length === 0;
    const [fresh] = this.#fresh.values();
    const next = stewardStep({
      layout,
      self: writer,
      // A member of the first release knows no layout but the first: nothing changes until all are upgraded.
      leads: leads && speakOfIt,
      queue: queue.waiting(),
      revoked: queue.revoked(),
      copied: layout.phase === "staged" && handedOver && this.#drained(layout),
      transferred: layout.phase === "joint" && handedOver && this.#drained(layout),
      fresh,
    });
    if (next === undefined) this.#step({ type: "want", layout: undefined, without: "" });
    else if ("finish" in next) queue.finish(next.finish, next.outcome, next.reason);
    else {
      this.#say(next.propose);
      this.#step({ type: "want", layout: next.propose, without: next.without });
    }
  }

  /** A member that drains must be here, so that what it alone was told is handed over too; one that was revoked meanwhile is not heard any more. */
  #drained(layout: Layout): boolean {
    const { replica, queue } = this.#o;
    const change = queue.change(layout.change);
    if (change?.op !== "remove" || !change.drain) return true;
    const leaving = layout.members.find((member) => member.name === change.name);
    return leaving === undefined || queue.revoked().has(leaving.node) || replica.counting().includes(leaving.writer);
  }

  #say(layout: Layout): void {
    const line = `${layout.version}/${layoutTag(layout)}`;
    if (line === this.#said) return;
    this.#said = line;
    this.#o.log.info({ version: layout.version, phase: layout.phase, change: layout.change }, "a layout is proposed");
  }

  #lost(member: Member, by: PeerInfo): void {
    if (this.#fresh.get(member.name)?.incarnation === by.incarnation) return;
    this.#o.log.warn({ name: member.name, peer: by.node }, "a member lives under a new incarnation: its disk is lost or replaced");
    const fresh = { name: member.name, node: by.node, incarnation: by.incarnation };
    this.#fresh.set(member.name, { ...fresh, listed: member.writer });
    this.#step({ type: "fresh", ...fresh });
    this.#lookAt = 0;
  }

  #seen(name: string): void {
    if (!this.#fresh.delete(name)) return;
    this.#step({ type: "seen", name });
  }

  #memberAt(node: NodeId): Member | undefined {
    return votersOf(this.#o.replica.layout).find((member) => member.node === node);
  }

  #step(input: Parameters<Consensus["step"]>[0]): void {
    for (const effect of this.#consensus.step(input)) this.#perform(effect);
  }

  #perform(effect: ConsensusEffect): void {
    if (effect.type === "decided") this.#o.onDecided(effect.layout);
    else if (effect.type === "persist") void this.#persist(effect.id, effect.state);
    else {
      this.#o.meter.count("sync_operation", 1, "vote");
      if ((this.#o.links.peer(effect.to)?.version ?? 1) >= 2)
        this.#o.links.send(effect.to, { type: "vote", bytes: encodeConsensusMessage(effect.message) });
    }
  }

  async #persist(id: number, state: Uint8Array): Promise<void> {
    try {
      await this.#o.store.putMeta("vote", state);
    } catch (error) {
      this.#o.onFailure(error as Error);
      return;
    }
    this.#o.guard(() => this.#step({ type: "persisted", id }));
  }
}
