/**
 * Whether a node may take the place of the member whose name it has: it comes with an identity that nobody knows, and says that disk and identity of the one
 * before are lost (DESIGN section 8, Recovery). What this shows is evidence for consensus.ts, which lists the newcomer as after a lost disk; so nobody may be
 * taken for lost who lives, and of two that live under one name none succeeds the other.
 *
 * S1 Who is connected to a voter, or is that voter, lives: the voter says so to all others, and none of them takes a claim on that place for a while after.
 * S2 A claim is taken only when it has been repeated for so long that whoever knows better has said so.
 * S3 By itself (automatic) a newcomer succeeds only who has been away from this voter for longer than a restart takes, and never one that it was seen to live
 *    beside for longer than a dead connection goes unnoticed: those are two nodes under one name. Nor is there a successor while two claim the place. An
 *    operator's word needs no such wait, and decides between claims.
 */
import type { Incarnation, NodeId, WriterId } from "./ids.ts";
import { type Layout, type Member, votersOf } from "./layout.ts";
import { CLAIMANTS_MAX } from "./limits.ts";

export interface Claim {
  /** Of the member whose place it is. */
  readonly name: string;
  readonly node: NodeId;
  readonly incarnation: Incarnation;
  /** The newcomer's own word; false: an operator's. */
  readonly automatic: boolean;
}

export interface SuccessionWorld {
  readonly self: WriterId;
  layout(): Layout;
  /** This very incarnation is connected. */
  isConnected(writer: WriterId): boolean;
}

/** S2: how long a claim is repeated before it is taken, ms. It is repeated every few seconds, and a voter answers at once. */
const HEARD_MS = 4_000;
/** S1: how long a word that the member lives is believed, ms; it is said again at each claim. */
const LIVES_MS = 20_000;
/** S3: a pod that is rescheduled, or a machine that is restarted, is back by then, ms. */
const AWAY_MS = 30_000;
/** S3: a connection whose other end is gone is found dead long before, ms. */
const BESIDE_MS = 60_000;
/** Who has not said it again by then is gone, ms. */
const FORGOTTEN_MS = 15_000;

interface Heard {
  readonly claim: Claim;
  readonly since: number;
  lastAt: number;
}

export class Successions {
  readonly #world: SuccessionWorld;
  /** By claimant. */
  readonly #heard = new Map<string, Heard>();
  /** Names, and until when their members are known to live. */
  readonly #lives = new Map<string, number>();
  /** Claimants that lived beside the member. */
  readonly #twins = new Set<string>();
  /** When this voter last saw a member. */
  readonly #seenAt = new Map<WriterId, number>();
  readonly #startedAt: number;

  constructor(world: SuccessionWorld, now: number) {
    this.#world = world;
    this.#startedAt = now;
  }

  /** @returns the member, when it lives: to be said to all voters (S1) */
  claimed(claim: Claim, now: number): Member | undefined {
    this.#look(now);
    const member = this.#memberOf(claim);
    if (member === undefined) return undefined;
    this.#hear(claim, now);
    if (member.writer !== this.#world.self && !this.#world.isConnected(member.writer)) return undefined;
    this.#alive(member.name, now);
    return member;
  }

  #hear(claim: Claim, now: number): void {
    const name = nameOf(claim);
    const known = this.#heard.get(name);
    // The operator's word is not taken back by the newcomer's.
    if (known !== undefined && (known.claim.automatic === claim.automatic || claim.automatic)) known.lastAt = now;
    else if (known !== undefined || this.#heard.size < CLAIMANTS_MAX) this.#heard.set(name, { claim, since: now, lastAt: now });
  }

  /** A voter sees this incarnation of the member. */
  lives(name: string, incarnation: Incarnation, now: number): void {
    const member = votersOf(this.#world.layout()).find((voter) => voter.name === name && voter.incarnation === incarnation);
    if (member === undefined) return;
    this.#alive(name, now);
  }

  /** The one that is shown to succeed a member of each name. */
  shown(now: number): Claim[] {
    this.#look(now);
    const shown: Claim[] = [];
    for (const claims of Map.groupBy(this.#heard.values(), ({ claim }) => claim.name).values()) {
      const said = claims.filter(({ claim }) => !claim.automatic);
      const [only] = said.length > 0 ? said : claims;
      if (only === undefined || said.length > 1 || (said.length === 0 && claims.length > 1)) continue;
      if (this.#isShown(only, now)) shown.push(only.claim);
    }
    return shown;
  }

  #isShown({ claim, since }: Heard, now: number): boolean {
    const member = this.#memberOf(claim);
    if (member === undefined || this.#world.isConnected(member.writer) || this.#livesNow(claim.name, now)) return false;
    if (now - since < HEARD_MS) return false;
    if (!claim.automatic) return true;
    return !this.#twins.has(nameOf(claim)) && now - (this.#seenAt.get(member.writer) ?? this.#startedAt) >= AWAY_MS;
  }

  /** The member of that name, unless it is the claimant already. An identity that is listed has its place. */
  #memberOf({ name, node }: Claim): Member | undefined {
    const voters = votersOf(this.#world.layout());
    return voters.some((voter) => voter.node === node) ? undefined : voters.find((voter) => voter.name === name);
  }

  #look(now: number): void {
    const voters = votersOf(this.#world.layout());
    for (const { writer } of voters) if (this.#world.isConnected(writer)) this.#seenAt.set(writer, now);
    if (this.#seenAt.size > voters.length)
      for (const writer of this.#seenAt.keys()) if (!voters.some((voter) => voter.writer === writer)) this.#seenAt.delete(writer);
    for (const [claimant, { claim, lastAt }] of this.#heard)
      if (now - lastAt > FORGOTTEN_MS || this.#memberOf(claim) === undefined) this.#heard.delete(claimant);
  }

  #alive(name: string, now: number): void {
    this.#lives.set(name, now + LIVES_MS);
    for (const [claimant, { claim, since }] of this.#heard) {
      if (claim.name !== name || now - since < BESIDE_MS) continue;
      if (this.#twins.size >= CLAIMANTS_MAX) this.#twins.clear();
      this.#twins.add(claimant);
    }
  }

  #livesNow(name: string, now: number): boolean {
    return (this.#lives.get(name) ?? 0) > now;
  }
}

function nameOf({ name, node, incarnation }: Claim): string {
  return `${name} ${node} ${incarnation}`;
}
