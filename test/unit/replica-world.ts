/**
 * Three members of one federation around real replicas, on a state in memory: bytes really go through frames and seals, only disk, network and time are
 * moved by hand. alice and bob are full replicas of TENANT's partition, carol is its witness.
 */
import { createKeyring } from "../../crypto/keyring.ts";
import { HLC_ZERO, type Hlc } from "../../protocol/clock.ts";
import { buildDelta, type Delta, type Entry, genesisHash } from "../../protocol/delta.ts";
import type { Effect, Proposal } from "../../protocol/effects.ts";
import { sealDelta } from "../../protocol/envelope.ts";
import { encodeFrame, openFrame, type VerifiedMessage } from "../../protocol/frame.ts";
import type { StreamHead } from "../../protocol/frontier.ts";
import type { Contribution } from "../../protocol/graph/records.ts";
import type { FederationId, Incarnation, KeyHash, Level, NodeId, WriterId } from "../../protocol/ids.ts";
import { groupOf, layoutOf, type Member, partitionOf } from "../../protocol/layout.ts";
import type { Envelope, Message, MessageOf, MessageType } from "../../protocol/message.ts";
import { Replica } from "../../protocol/replica.ts";
import { StateInMemory } from "./state-in-memory.ts";

export const FEDERATION = "fe".repeat(16) as FederationId;
export const keyring = createKeyring(["a secret of three members"]);
export const LAYOUT = layoutOf({
  version: 1,
  federation: FEDERATION,
  replicationFactor: 2,
  resonanceDecay: 0.85,
  hebbianRate: 0.15,
  periodMs: 30 * 24 * 3600 * 1000,
  members: ["alice", "bob", "carol"].map((name) => ({
    node: `node-of-${name}` as NodeId,
    name,
    incarnation: "0a".repeat(16) as Incarnation,
    zone: "",
    weight: 1,
  })),
});
export const [alice, bob, carol] = LAYOUT.members as readonly [Member, Member, Member];
export const TENANT = tenantOf("carol");
export const PARTITION = partitionOf(TENANT);
/** Wall clock of every proposal, ms. */
export const WALL = 1_800_000_000_000;

/** A tenant whose partition has this member as its witness. */
function tenantOf(witness: string): string {
  for (let index = 0; ; index++) {
    const tenant = `tenant-${index}`;
    if (groupOf(LAYOUT, partitionOf(tenant)).witnesses[0]?.name === witness) return tenant;
  }
}

export function keyOf(name: string): KeyHash {
  return name.padEnd(22, "_") as KeyHash;
}

/** carol is the witness of every partition the tests look at. */
function byRole(member: Member, streams: readonly StreamHead[]): { heads: readonly StreamHead[]; marks: readonly StreamHead[] } {
  return member === carol ? { heads: [], marks: streams } : { heads: streams, marks: [] };
}

/** One member with its disk. The others speak protocol version 1 with it unless a test says otherwise: they count from their hello. */
export class Home {
  readonly member: Member;
  readonly state = new StateInMemory();
  readonly replica: Replica;
  #flushed = 0;
  #requests = 0;

  constructor(member: Member, stored: { streams?: readonly StreamHead[]; highWater?: Hlc } = {}) {
    this.member = member;
    this.replica = new Replica({
      writer: member.writer,
      layout: LAYOUT,
      state: this.state,
      ...byRole(member, stored.streams ?? []),
      highWater: stored.highWater ?? HLC_ZERO,
      firstBarrier: 100,
      wallLead: WALL,
      start: { count: 1, id: "5a".repeat(16) },
      startAt: () => undefined,
      toldBefore: () => undefined,
      ownSeqGivenUp: () => 0,
      damaged: [],
      hasCounted: false,
      strictStart: false,
      secrets: [],
    });
    // The others were here and compared: it counts.
    for (const { node, writer } of LAYOUT.members) if (writer !== member.writer) this.replica.peer(node, writer, 0);
    for (const { node } of LAYOUT.members) this.replica.peer(node, undefined, 0);
  }

  connect(...members: readonly Member[]): this {
    for (const { node, writer } of members) this.replica.peer(node, writer, 0);
    return this;
  }

  /** Asks to count a concept once, unless told otherwise. */
  propose(fields: Partial<Omit<Proposal, "key">> & { key?: string } = {}): Effect[] {
    const request = fields.request ?? ++this.#requests;
    const contributions: readonly Contribution[] = fields.contributions ?? [{ op: "concept", id: "tide", mass: 1 }];
    const defaults = {
      tenant: TENANT,
      partition: PARTITION,
      level: "quorum" as Level,
      fingerprint: "f",
      answer: `answer ${request}`,
      deadline: 1000,
      wall: WALL,
    };
    return this.replica.propose({ ...defaults, ...fields, request, contributions, key: keyOf(fields.key ?? `key-${request}`) }, 0);
  }

  /** The disk catches up: everything staged is durable. */
  flush(now = 0): Effect[] {
    const batches = this.state.staged.slice(this.#flushed);
    this.#flushed = this.state.staged.length;
    return this.replica.persisted(batches, now);
  }

  hear(from: Member, message: Message, forged: Forged = {}, now = 0): Effect[] {
    return this.replica.receive(verified(from, message, forged), now, WALL + now);
  }

  /** Deltas staged here, as names `writer-name/seq`. */
  get stagedDeltas(): string[] {
    return this.state.staged.flatMap((batch) => (batch.type === "delta" || batch.type === "sealed" ? [nameOf(batch.delta)] : []));
  }
}

export interface Forged {
  readonly writer?: WriterId;
  readonly federation?: FederationId;
  readonly layoutVersion?: number;
}

export function verified(from: Member, message: Message, forged: Forged = {}): VerifiedMessage {
  const header = { federation: FEDERATION, writer: from.writer, layoutVersion: LAYOUT.version, ...forged };
  return openFrame(encodeFrame(header, message), { from: from.node, writer: header.writer, federation: header.federation, keyring });
}

export function nameOf(delta: Delta): string {
  const { writer, seq } = delta.header;
  return `${LAYOUT.members.find((member) => member.writer === writer)?.name ?? writer}/${seq}`;
}

/** The first `count` deltas of a member's stream, made elsewhere. `branch` tells two histories of one stream apart. */
export function stream(of: Member, count: number, branch = "", key?: string): Delta[] {
  const deltas: Delta[] = [];
  for (let seq = 1; seq <= count; seq++) {
    const entries: Entry[] = [{ op: "concept", id: "tide", mass: 1, total: seq }];
    const header = {
      writer: of.writer,
      partition: PARTITION,
      seq,
      previous: deltas.at(-1)?.hash ?? genesisHash(of.writer, PARTITION),
      hlc: [WALL, seq] as const,
      key: keyOf(key ?? `${of.name}-${seq}${branch}`),
      saw: {},
    };
    deltas.push(buildDelta(header, { tenant: TENANT, fingerprint: "f", answer: `of ${of.name}`, entries }));
  }
  return deltas;
}

let nonces = 0;
export function seal(delta: Delta): Envelope {
  const nonce = new Uint8Array(24);
  new DataView(nonce.buffer).setUint32(0, ++nonces);
  return sealDelta(delta, keyring, FEDERATION, nonce);
}
export function push(...deltas: readonly Delta[]): Message {
  return { type: "push", envelopes: deltas.map(seal) };
}
export function repair(of: Member, to: number, ...deltas: readonly Delta[]): Message {
  return { type: "repair", partition: PARTITION, writer: of.writer, to, envelopes: deltas.map(seal) };
}
export function headOf(delta: Delta): StreamHead {
  const { partition, writer, seq } = delta.header;
  return { partition, writer, seq, hash: delta.hash };
}
export function held(...deltas: readonly Delta[]): Message {
  return { type: "held", heads: deltas.map(headOf) };
}

/** Messages of one type among the effects, with the name of whom they go to. */
export function sent<T extends MessageType>(effects: readonly Effect[], type: T): { to: string; message: MessageOf<T> }[] {
  return effects.flatMap((effect) =>
    effect.type === "send" && effect.message.type === type
      ? [{ to: LAYOUT.members.find(({ node }) => node === effect.to)?.name ?? effect.to, message: effect.message as MessageOf<T> }]
      : [],
  );
}
export function ofType<T extends Effect["type"]>(effects: readonly Effect[], type: T): Extract<Effect, { type: T }>[] {
  return effects.filter((effect): effect is Extract<Effect, { type: T }> => effect.type === type);
}

/** All members connected; everything sent arrives, every disk keeps up, until nothing moves any more. */
export class Mesh {
  readonly homes: readonly Home[];
  readonly #waiting: { at: Home; effects: Effect[] }[] = [];
  /** What was answered, refused, noted or asked to be snapshot, by member. */
  readonly seen: { member: string; effect: Effect }[] = [];

  constructor(homes: readonly Home[]) {
    this.homes = homes;
    for (const at of homes) for (const other of homes) if (other !== at) this.do(at, at.replica.peer(other.member.node, other.member.writer, 0));
  }

  do(at: Home, effects: Effect[]): void {
    this.#waiting.push({ at, effects });
  }

  settle(now = 0): void {
    for (let round = 0; round < 1000; round++) {
      for (const home of this.homes) this.do(home, home.flush(now));
      const work = this.#waiting.splice(0).flatMap(({ at, effects }) => effects.map((effect) => ({ at, effect })));
      if (work.length === 0) return;
      for (const { at, effect } of work) this.#perform(at, effect, now);
    }
    throw new Error("the mesh does not come to rest");
  }

  #perform(at: Home, effect: Effect, now: number): void {
    if (effect.type === "send") this.#deliver(at, effect.to, effect.message, now);
    else if (effect.type === "push") for (const to of effect.to) this.#deliver(at, to, push(...effect.deltas), now);
    else if (effect.type === "serve") {
      const envelopes: Envelope[] = [];
      for (let seq = effect.from; seq <= effect.to_seq; seq++) {
        const delta = at.state.delta(effect.partition, effect.writer, seq);
        if (delta !== undefined) envelopes.push(seal(delta));
      }
      const to = at.replica.ownHeads(effect.partition).find(({ writer }) => writer === effect.writer)?.seq ?? 0;
      this.#deliver(at, effect.to, { type: "repair", partition: effect.partition, writer: effect.writer, to, envelopes }, now);
    } else this.seen.push({ member: at.member.name, effect });
  }

  #deliver(from: Home, to: NodeId, message: Message, now: number): void {
    const home = this.homes.find(({ member }) => member.node === to);
    if (home !== undefined) this.do(home, home.hear(from.member, message, {}, now));
  }
}
