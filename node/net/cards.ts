/**
 * What each node says of its own addresses, passed on by others. Gossip does it too, but does not get through an ingress; and a node that reaches a
 * federation through one address would otherwise never learn of the others behind it. A card is numbered by the node it is about, so the newest wins
 * wherever it comes from, and nobody repeats an old one for ever.
 */
import type { NodeId } from "../../protocol/ids.ts";
import { CARD_ADDRESSES_MAX, CARDS_A_FRAME_MAX, KNOWN_NODES_MAX } from "../../protocol/limits.ts";
import type { System } from "../ports.ts";

export interface Card {
  readonly node: NodeId;
  /** Wall clock of that node, ms, when its addresses last changed; larger than any it has heard of itself. */
  readonly stamp: number;
  readonly addresses: readonly string[];
}

/** Nobody's clock is right, but a number from further ahead is none: it could never be surpassed. */
const STAMP_AHEAD_MAX_MS = 24 * 3600_000;
/** Two processes with one identity would surpass each other for ever. */
const REFUTE_MS = 60_000;

export interface CardsOptions {
  readonly self: NodeId;
  /** Where others reach this node, just now. */
  readonly addresses: () => readonly string[];
  readonly system: System;
}

export class Cards {
  readonly #options: CardsOptions;
  readonly #cards = new Map<NodeId, Card>();
  #own: Card;
  #refutedAt = Number.NEGATIVE_INFINITY;

  constructor(options: CardsOptions) {
    this.#options = options;
    this.#own = { node: options.self, stamp: 0, addresses: [] };
  }

  own(): Card {
    const addresses = this.#options.addresses().slice(0, CARD_ADDRESSES_MAX);
    if (!equal(addresses, this.#own.addresses)) this.#renew(addresses, this.#own.stamp + 1);
    return this.#own;
  }

  /** Said by the node itself on its own connection: true whatever its number. */
  said(card: Card): void {
    this.#keep(card);
  }

  /** Passed on by somebody. @returns whether it is news */
  passedOn(card: Card): boolean {
    const now = this.#options.system.now();
    if (card.stamp > now + STAMP_AHEAD_MAX_MS) return false;
    if (card.node === this.#options.self) {
      this.#refute(card);
      return false;
    }
    const known = this.#cards.get(card.node);
    if (known !== undefined && known.stamp >= card.stamp) return false;
    return this.#keep(card);
  }

  /** What a peer has not been told yet of these nodes, one frame of it. @param told what it was told last, by node */
  untold(nodes: Iterable<NodeId>, told: ReadonlyMap<NodeId, Card>): Card[] {
    const found: Card[] = [];
    for (const node of nodes) {
      if (found.length === CARDS_A_FRAME_MAX) break;
      const card = node === this.#options.self ? this.own() : this.#cards.get(node);
      if (card !== undefined && told.get(node) !== card) found.push(card);
    }
    return found;
  }

  /** Somebody repeats what we no longer say, under a higher number: as after a clock that went back. Ours has to be the higher one. */
  #refute(card: Card): void {
    const own = this.own();
    const now = this.#options.system.monotonic();
    if (card.stamp < own.stamp || equal(card.addresses, own.addresses) || now - this.#refutedAt < REFUTE_MS) return;
    this.#refutedAt = now;
    this.#renew(own.addresses, card.stamp + 1);
  }

  #renew(addresses: readonly string[], atLeast: number): void {
    this.#own = { node: this.#options.self, stamp: Math.max(atLeast, this.#options.system.now()), addresses };
  }

  #keep(card: Card): boolean {
    const known = this.#cards.get(card.node);
    if (known === undefined && this.#cards.size >= KNOWN_NODES_MAX) return false;
    const kept = { ...card, addresses: card.addresses.slice(0, CARD_ADDRESSES_MAX) };
    if (known?.stamp === kept.stamp && equal(known.addresses, kept.addresses)) return false;
    this.#cards.set(card.node, kept);
    return true;
  }
}

function equal(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((item, index) => item === b[index]);
}
