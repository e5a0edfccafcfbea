/** A partition with everything in it, for the tests of snapshots and of scrubbing. */
import { keyHashOf } from "../../crypto/hash.ts";
import type { GraphIndex, System } from "../../node/ports.ts";
import { isOfReplica } from "../../node/store/keyspace.ts";
import type { Level } from "../../node/store/level-port.ts";
import type { Store } from "../../node/store/store.ts";
import { HLC_ZERO, type Hlc, tickHlc } from "../../protocol/clock.ts";
import { buildDelta, type Delta, genesisHash } from "../../protocol/delta.ts";
import { applyDelta } from "../../protocol/graph/apply.ts";
import { contribute } from "../../protocol/graph/contribute.ts";
import type { Contribution } from "../../protocol/graph/records.ts";
import type { KeyHash, Partition } from "../../protocol/ids.ts";
import { partitionOf } from "../../protocol/layout.ts";
import { DECAY, PARTITION, START_MS, TENANT, writerNamed } from "../unit/graph-executions.ts";

export const ANN = writerNamed("ann");
export const BEN = writerNamed("ben");
/** Another tenant of alice's partition. */
export const NEIGHBOUR = Array.from({ length: 2000 }, (_, at) => `tenant${at}`).find((name) => partitionOf(name) === PARTITION)!;
export const dropped: Partition[] = [];
export const index: GraphIndex = {
  rows: ({ kind, id, before, after }) =>
    kind === "tombstone" || kind === "register" || (before === undefined && after === undefined)
      ? []
      : [{ key: `${kind}/${id}`, value: after === undefined ? undefined : Uint8Array.of(1) }],
  committed: () => undefined,
  ready: async () => undefined,
  dropped: (partition) => dropped.push(partition),
};

/** Time that the test moves. */
export class Clock implements System {
  #now = 0;
  #timers = new Set<{ at: number; run: () => void }>();
  #random = 0;
  now = (): number => START_MS + this.#now;
  monotonic = (): number => this.#now;
  random = (): number => 0.5;
  randomBytes = (length: number): Uint8Array => new Uint8Array(length).fill(++this.#random);
  soon = (run: () => void): void => void setImmediate(run);
  after = (ms: number, run: () => void): (() => void) => {
    const timer = { at: this.#now + ms, run };
    this.#timers.add(timer);
    return () => this.#timers.delete(timer);
  };
  pass(ms: number): void {
    this.#now += ms;
    for (const timer of [...this.#timers].filter(({ at }) => at <= this.#now)) {
      this.#timers.delete(timer);
      timer.run();
    }
  }
}

/** Numbers deltas of one writer on what the store holds, as a replica does. */
export class Writer {
  readonly deltas: Delta[] = [];
  readonly #writer;
  #hlc: Hlc = HLC_ZERO;
  constructor(writer: typeof ANN) {
    this.#writer = writer;
  }
  write(store: Store, key: string, contributions: readonly Contribution[], tenant = TENANT): Delta {
    this.#hlc = tickHlc(this.#hlc, START_MS + this.deltas.length);
    const frontier = Object.fromEntries(this.deltas.length > 0 ? [[this.#writer, this.deltas.length]] : []);
    const { entries, saw } = contribute(contributions, { tenant, writer: this.#writer, hlc: this.#hlc, decay: DECAY, frontier }, store.staged);
    const previous = this.deltas.at(-1)?.hash ?? genesisHash(this.#writer, PARTITION);
    const delta = buildDelta(
      {
        writer: this.#writer,
        partition: PARTITION,
        seq: this.deltas.length + 1,
        previous,
        hlc: this.#hlc,
        key: keyHashOf(tenant, key) as KeyHash,
        saw,
      },
      { tenant, fingerprint: key, answer: "{}", entries },
    );
    this.deltas.push(delta);
    take(store, delta);
    return delta;
  }
}
export function take(store: Store, delta: Delta): void {
  const sameKey = store.staged
    .executions(delta.header.partition, delta.header.key)
    .map(({ writer, seq }) => store.staged.delta(delta.header.partition, writer, seq) as Delta);
  store.staged.stage({ type: "delta", delta, changes: applyDelta(delta, store.staged, sameKey) });
}

const noThing = { node: "n", session: "s", metadata: "{}" };
export const memory = (id: string, content = "red"): Contribution => ({
  op: "memory",
  id,
  memory: { ...noThing, entity: "e", content, concepts: [] },
});
export const turn = (id: string, chars = 300): Contribution => ({
  op: "turn",
  id,
  turn: { ...noThing, instance: "", user: "u".repeat(chars), assistant: "a", thinking: "", concepts: ["tide"], decisions: [] },
});

/** All kinds of records, of two tenants, by two writers, with a key that ran twice and things that were deleted. */
export async function fill(store: Store, turns = 40, chars = 300): Promise<readonly [Writer, Writer]> {
  const [ann, ben] = [new Writer(ANN), new Writer(BEN)];
  ann.write(store, "one", [{ op: "concept", id: "tide", mass: 1, name: "Tide" }, { op: "link", a: "tide", b: "moon", mass: 1 }, turn("turn_one")]);
  ann.write(store, "two", [memory("memory_two"), memory("memory_gone")]);
  ben.write(store, "one", [{ op: "concept", id: "tide", mass: 2 }, turn("turn_one")]);
  ben.write(store, "edit", [{ op: "edit", id: "memory_two", fields: { content: "blue" } }]);
  ben.write(store, "forget", [
    { op: "delete", kind: "memory", id: "memory_gone" },
    { op: "delete", kind: "link", id: "moon\u0001tide" },
  ]);
  ann.write(store, "setting", [{ op: "register", id: "setting", fields: { name: '"x"' } }]);
  ann.write(store, "one", [{ op: "concept", id: "lantern", mass: 1 }, memory("memory_neighbour")], NEIGHBOUR);
  for (let at = 0; at < turns; at++) ann.write(store, `turn-${at}`, [turn(`turn_${at}`, chars), { op: "concept", id: `concept${at}`, mass: 1 }]);
  await store.flush();
  return [ann, ben];
}

export async function rowsOf(db: Level): Promise<Record<string, string>> {
  const rows: Record<string, string> = {};
  for await (const [key, value] of db.iterator({ gte: "!", lt: "~" }))
    if (isOfReplica(key, PARTITION)) rows[key] = Buffer.from(value).toString("hex");
  return rows;
}
