/**
 * Random executions of several writers on one tenant's graph, by the rules of a replica: a key that is known is not executed again, an edit names what
 * its author had seen, each writer takes the deltas of another in their order. What comes out is the set of deltas that every order must agree on.
 */
import fc from "fast-check";
import { keyHashOf, writerIdOf } from "../../crypto/hash.ts";
import { HLC_ZERO, type Hlc, tickHlc } from "../../protocol/clock.ts";
import { buildDelta, type Delta, genesisHash, parseDelta } from "../../protocol/delta.ts";
import { contribute } from "../../protocol/graph/contribute.ts";
import type { Contribution } from "../../protocol/graph/records.ts";
import { linkId } from "../../protocol/graph/records.ts";
import type { KeyHash, WriterId } from "../../protocol/ids.ts";
import { partitionOf } from "../../protocol/layout.ts";
import { StateInMemory } from "./state-in-memory.ts";

export const TENANT = "alice";
export const PARTITION = partitionOf(TENANT);
export const DAY_MS = 24 * 3600 * 1000;
export const DECAY = { resonanceDecay: 0.85, periodMs: 30 * DAY_MS };
/** Wall clock at the start, ms. */
export const START_MS = 1_800_000_000_000;

export function writerNamed(name: string): WriterId {
  return writerIdOf(`node-of-${name}`, "0a".repeat(16)) as WriterId;
}
export function keyNamed(name: string): KeyHash {
  return keyHashOf(TENANT, name) as KeyHash;
}

/** One writer with its copy of the graph. */
export class Author {
  readonly state = new StateInMemory();
  readonly writer: WriterId;
  readonly own: Delta[] = [];
  readonly #held = new Map<WriterId, number>();
  #highWater: Hlc = HLC_ZERO;

  constructor(name: string) {
    this.writer = writerNamed(name);
  }

  /** @returns undefined when the key is known here or nothing is left to write */
  write(contributions: readonly Contribution[], key: string, wallMs: number): Delta | undefined {
    if (this.state.executions(PARTITION, keyNamed(key)).length > 0) return undefined;
    const hlc = tickHlc(this.#highWater, wallMs);
    const by = { tenant: TENANT, writer: this.writer, hlc, decay: DECAY, frontier: Object.fromEntries(this.#held) };
    const { entries, saw } = contribute(contributions, by, this.state);
    if (entries.length === 0) return undefined;
    const previous = this.own.at(-1)?.hash ?? genesisHash(this.writer, PARTITION);
    const header = { writer: this.writer, partition: PARTITION, seq: this.own.length + 1, previous, hlc, key: keyNamed(key), saw };
    const delta = buildDelta(header, { tenant: TENANT, fingerprint: key, answer: "{}", entries });
    this.own.push(delta);
    this.#take(delta);
    return delta;
  }

  /** Takes the next deltas of another, in its order. */
  pull(from: Author, count = Number.POSITIVE_INFINITY): void {
    const held = this.#held.get(from.writer) ?? 0;
    for (const delta of from.own.slice(held, held + count)) this.#take(received(delta));
  }

  #take(delta: Delta): void {
    this.state.take(delta);
    this.#held.set(delta.header.writer, delta.header.seq);
    if (delta.header.hlc[0] > this.#highWater[0]) this.#highWater = delta.header.hlc;
  }
}

const WRITERS = 3;
const KEYS = 8;
const concepts = fc.constantFrom("harbour", "lantern", "tide");
const someKey = fc.integer({ min: 0, max: KEYS - 1 });

type Act =
  | { readonly what: "write"; readonly writer: number; readonly key: number; readonly days: number; readonly ops: readonly Op[] }
  | { readonly what: "pull"; readonly writer: number; readonly from: number; readonly count: number };
/** A contribution; ids of created records derive from the key when it is executed. */
type Op = (key: string) => Contribution;

const noThing = { node: "n", session: "s", metadata: "{}" };
const someOp: fc.Arbitrary<Op> = fc.oneof(
  fc.record({ id: concepts, mass: fc.integer({ min: 0, max: 3 }), name: fc.option(fc.constantFrom("Tide", "TIDE"), { nil: undefined }) }).map(
    ({ id, mass, name }): Op =>
      () => ({ op: "concept", id, mass, ...(name !== undefined && { name, description: `about ${name}` }) }),
  ),
  fc.record({ a: concepts, b: concepts, mass: fc.integer({ min: 1, max: 3 }) }).map(
    ({ a, b, mass }): Op =>
      () => ({ op: "link", a, b: a === b ? "anchor" : b, mass }),
  ),
  fc.array(concepts, { maxLength: 3 }).map(
    (found): Op =>
      (key) => ({
        op: "turn",
        id: `turn_${key}`,
        turn: { ...noThing, instance: "", user: "u", assistant: "a", thinking: "", concepts: found, decisions: found },
      }),
  ),
  fc.constantFrom("red", "\ufeffgreen").map(
    (content): Op =>
      (key) => ({ op: "memory", id: `memory_${key}`, memory: { ...noThing, entity: "e", content, concepts: [] } }),
  ),
  fc.record({ of: someKey, content: fc.constantFrom("blue", "white", "black"), both: fc.boolean() }).map(
    ({ of, content, both }): Op =>
      () => ({ op: "edit", id: `memory_${of}`, fields: { content, ...(both && { entity: content, concepts: [content] }) } }),
  ),
  fc.record({ kind: fc.constantFrom("turn", "memory", "concept", "link"), of: someKey, a: concepts, b: concepts }).map(({ kind, of, a, b }): Op => {
    const id = kind === "concept" ? a : kind === "link" ? linkId(a, b) : `${kind}_${of}`;
    return () => ({ op: "delete", kind, id });
  }),
  fc.record({ field: fc.constantFrom("name", "constructor", "__proto__"), value: fc.constantFrom("1", "2") }).map(
    ({ field, value }): Op =>
      () => ({ op: "register", id: "setting", fields: Object.fromEntries([[field, value]]) }),
  ),
);
const someAct: fc.Arbitrary<Act> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      what: fc.constant("write" as const),
      writer: fc.nat({ max: WRITERS - 1 }),
      key: someKey,
      // A clock may stand still or go back.
      days: fc.integer({ min: -1, max: 20 }),
      ops: fc.array(someOp, { minLength: 1, maxLength: 4 }),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      what: fc.constant("pull" as const),
      writer: fc.nat({ max: WRITERS - 1 }),
      from: fc.nat({ max: WRITERS - 1 }),
      count: fc.integer({ min: 1, max: 3 }),
    }),
  },
);

export interface Execution {
  readonly authors: readonly Author[];
  /** All deltas, in the order they were written. */
  readonly deltas: readonly Delta[];
  /** What fast-check prints of a counterexample. */
  [fc.toStringMethod](): string;
}

function execute(acts: readonly Act[]): Execution {
  const authors = ["ann", "ben", "cat"].map((name) => new Author(name));
  const deltas: Delta[] = [];
  let now = START_MS;
  for (const act of acts) {
    const author = authors[act.writer] as Author;
    if (act.what === "pull") {
      if (act.from !== act.writer) author.pull(authors[act.from] as Author, act.count);
      continue;
    }
    now += act.days * DAY_MS;
    const delta = author.write(
      act.ops.map((op) => op(`${act.key}`)),
      `${act.key}`,
      now,
    );
    if (delta !== undefined) deltas.push(delta);
  }
  const told = () =>
    deltas.map(({ header, body }) => `\n${header.writer}/${header.seq} ${JSON.stringify({ ...header, entries: body.entries })}`).join("");
  return { authors, deltas, [fc.toStringMethod]: told };
}

export const someExecution: fc.Arbitrary<Execution> = fc.array(someAct, { minLength: 3, maxLength: 30 }).map(execute);

/** The deltas in another order that keeps each writer's own: `picks` says whose next delta comes. */
export function reordered(deltas: readonly Delta[], picks: readonly number[]): Delta[] {
  const streams = [...Map.groupBy(deltas, (delta) => delta.header.writer).values()].map((stream) => [...stream]);
  const out: Delta[] = [];
  for (let turn = 0; streams.length > 0; turn++) {
    const at = (picks[turn % Math.max(1, picks.length)] ?? 0) % streams.length;
    const stream = streams[at] as Delta[];
    out.push(stream.shift() as Delta);
    if (stream.length === 0) streams.splice(at, 1);
  }
  return out;
}

/** As it arrives elsewhere: by bytes. */
function received(delta: Delta): Delta {
  return parseDelta(delta.headerBytes, delta.bodyBytes);
}

/** The state of a replica that wrote none of these. */
export function stateOf(deltas: readonly Delta[]): StateInMemory {
  const state = new StateInMemory();
  for (const delta of deltas) state.take(received(delta));
  return state;
}
