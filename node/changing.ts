/**
 * Drives what follows the layout that holds: the votes of consensus.ts, whose state is fsynced before anything that depends on it is said, and the steps that
 * steward.ts wants next, out of the queue of changes in the system partition. Every member that counts runs this; the first by name leads.
 */

import { Consensus, type ConsensusEffect } from "../protocol/consensus.ts";
import { decodeConsensusMessage, encodeConsensusMessage } from "../protocol/consensus-message.ts";
import { type Incarnation, type NodeId, SYSTEM_PARTITION, type WriterId } from "../protocol/ids.ts";
import { type Layout, layoutTag, type Member, votersOf } from "../protocol/layout.ts";
import type { Replica } from "../protocol/replica.ts";
import { stewardStep } from "../protocol/steward.ts";
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

export class Changing {
  readonly #o: ChangingOptions;
  readonly #consensus: Consensus;
  /** Names of the layout that live under another incarnation, and which. */
  readonly #fresh = new Map<string, { readonly name: string; readonly node: NodeId; readonly incarnation: Incarnation }>();
  #mayVote = false;
  #lookAt = 0;
  #said = "";

  /** @param persisted the last state of the votes */
  constructor(options: ChangingOptions, persisted: Uint8Array | undefined) {
    this.#o = options;
    this.#consensus = new Consensus({ self: options.writer, layout: options.replica.layout, persisted });
    for (const peer of options.links.peers()) this.peer(peer, true);
  }

  peer(peer: PeerInfo, connected: boolean): void {
    const member = this.#memberAt(peer.node);
    if (member === undefined) return;
    if (connected && member.writer !== peer.writer) this.#lost(member, peer);
    else if (connected) this.#seen(member.name);
  }

  /** An operator says that this node takes the place of a member whose disk and identity are lost. */
  replaces(member: Member, by: PeerInfo): void {
    this.#lost(member, by);
  }

  receive(from: WriterId, bytes: Uint8Array): void {
    this.#step({ type: "message", from, message: decodeConsensusMessage(bytes) });
  }

  adopted(layout: Layout): void {
    for (const [name, fresh] of this.#fresh)
      if (!votersOf(layout).some((member) => member.name === name) || votersOf(layout).some((member) => member.incarnation === fresh.incarnation))
        this.#fresh.delete(name);
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
    this.#fresh.set(member.name, fresh);
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
