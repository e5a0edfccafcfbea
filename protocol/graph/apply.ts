/**
 * A delta into the graph: which records change, from what to what. The state is a pure function of the set of deltas applied, so the order of
 * arrival (within the streams' own order) cannot matter (P3).
 */
import type { Delta, Entry } from "../delta.ts";
import { conceptFrom, forgottenConcept } from "./concept.ts";
import { EMPTY_COUNTER, withRemoval, withRepeats } from "./counter.ts";
import { sortDots } from "./editable.ts";
import { linkFrom } from "./link.ts";
import { editFrom, memoryFrom } from "./memory.ts";
import { mergeRecords } from "./record.ts";
import { type Concept, type Dot, type Execution, type GraphRecord, type Kind, type Link, linkId, type Memory, type RecordOf } from "./records.ts";
import { registersFrom } from "./register.ts";
import { tombstoneId } from "./tombstone.ts";
import { turnFrom } from "./turn.ts";

/** The materialised records of one tenant, including what is not flushed yet. */
export interface RecordState {
  record<K extends Kind>(tenant: string, kind: K, id: string): RecordOf<K> | undefined;
}

export interface Change {
  readonly kind: Kind;
  readonly id: string;
  readonly before: GraphRecord | undefined;
  /** Undefined: the record goes (its tombstone is another change). */
  readonly after: GraphRecord | undefined;
}

/** @param sameKey other deltas with this delta's key that are applied already (a retry that ran on two nodes), in any order */
export function applyDelta(delta: Delta, state: RecordState, sameKey: readonly Delta[]): Change[] {
  const changes = new Map<string, Change>();
  const tenant = delta.body.tenant;
  for (const entry of delta.body.entries) {
    if (entry.op === "floor") {
      // Whoever applies it holds the floor's frontier (protocol/floor.ts), and all that can name these ids is in that: nothing comes after it.
      for (const name of entry.tombstones) change("tombstone", name, () => undefined);
      continue;
    }
    const { id, record } = whatItSays(entry, delta, sameKey);
    const { kind } = record;
    if (kind === "tombstone") change(record.of, record.id, () => undefined);
    // P6: the id of a deleted turn or memory never returns, whatever arrives late.
    else if ((kind === "turn" || kind === "memory") && isDeleted(kind, id)) continue;
    change(kind, id, (held) => (held === undefined ? record : mergeRecords(held, record)));
  }
  return [...changes.values()];

  function change(kind: Kind, id: string, to: (held: GraphRecord | undefined) => GraphRecord | undefined): void {
    const name = `${kind}/${id}`;
    const earlier = changes.get(name);
    const before = earlier === undefined ? state.record(tenant, kind, id) : earlier.before;
    const after = to(earlier === undefined ? before : earlier.after);
    // Made and unmade within one delta: nothing changed.
    if (before === undefined && after === undefined) changes.delete(name);
    else changes.set(name, { kind, id, before, after });
  }

  function isDeleted(kind: "turn" | "memory", id: string): boolean {
    const name = tombstoneId(kind, id);
    return changes.has(`tombstone/${name}`) || state.record(tenant, "tombstone", name) !== undefined;
  }
}

/** One entry as a record of its own, to be joined with what is there. */
function whatItSays(
  entry: Exclude<Entry, { op: "floor" }>,
  delta: Delta,
  sameKey: readonly Delta[],
): { readonly id: string; readonly record: GraphRecord } {
  const by = { writer: delta.header.writer, seq: delta.header.seq, hlc: delta.header.hlc };
  switch (entry.op) {
    case "concept":
      return { id: entry.id, record: correctedConcept(conceptFrom(entry, by), entry, delta, sameKey) };
    case "link":
      return { id: linkId(entry.a, entry.b), record: correctedLink(linkFrom(entry, by), entry, delta, sameKey) };
    case "turn":
      return { id: entry.id, record: turnFrom(entry.turn, by, delta.header.key) };
    case "memory":
      return {
        id: entry.id,
        record: joined(executionsOfEntry(entry, delta, sameKey).map((one) => memoryFrom(one.entry.memory, one.by, delta.header.key))),
      };
    case "edit":
      return { id: entry.id, record: joined(executionsOfEntry(entry, delta, sameKey).map((one) => editFrom(one.entry.fields, one.by, one.saw))) };
    case "tombstone":
      return {
        id: tombstoneId(entry.of, entry.id),
        record: { kind: "tombstone", of: entry.of, id: entry.id, at: by.hlc, keys: [...entry.keys].sort() },
      };
    case "forget-concept":
      return { id: entry.id, record: forgottenConcept(entry.removed, by) };
    case "forget-link": {
      const activations = withRemoval(EMPTY_COUNTER, entry.removed);
      return { id: linkId(entry.a, entry.b), record: { kind: "link", a: entry.a, b: entry.b, activations } };
    }
    case "register":
      return { id: entry.id, record: { kind: "register", fields: registersFrom(entry.fields, by) } };
  }
}

/** P5: a key executed twice counts once. Both executions are noted on each record that both touched; the totals stay as their writers gave them. */
function correctedConcept(said: Concept, entry: Extract<Entry, { op: "concept" }>, delta: Delta, sameKey: readonly Delta[]): Concept {
  const executions = executionsOf((other) => (other.op === "concept" && other.id === entry.id ? other.mass : undefined), entry.mass, delta, sameKey);
  return executions.length < 2 ? said : { ...said, occurrences: withRepeats(said.occurrences, delta.header.key, executions) };
}

function correctedLink(said: Link, entry: Extract<Entry, { op: "link" }>, delta: Delta, sameKey: readonly Delta[]): Link {
  const executions = executionsOf(
    (other) => (other.op === "link" && other.a === entry.a && other.b === entry.b ? other.mass : undefined),
    entry.mass,
    delta,
    sameKey,
  );
  return executions.length < 2 ? said : { ...said, activations: withRepeats(said.activations, delta.header.key, executions) };
}

/** The same for what a person may correct: every execution says its version again, and names the others as siblings. */
function executionsOfEntry<E extends Extract<Entry, { op: "memory" | "edit" }>>(entry: E, delta: Delta, sameKey: readonly Delta[]) {
  const all = [{ entry, header: delta.header }];
  for (const other of sameKey) {
    for (const one of other.body.entries) if (one.op === entry.op && one.id === entry.id) all.push({ entry: one as E, header: other.header });
  }
  return all.map((one) => {
    const siblings = sortDots(all.flatMap(({ header }): Dot[] => (header === one.header ? [] : [[header.writer, header.seq]])));
    return { entry: one.entry, saw: one.header.saw, by: { writer: one.header.writer, seq: one.header.seq, hlc: one.header.hlc, siblings } };
  });
}

function joined(memories: readonly Memory[]): Memory {
  return memories.reduce((a, b) => mergeRecords(a, b));
}

function executionsOf(massIn: (entry: Entry) => number | undefined, mass: number, delta: Delta, sameKey: readonly Delta[]): Execution[] {
  const executions: Execution[] = [{ writer: delta.header.writer, seq: delta.header.seq, mass, hlc: delta.header.hlc }];
  for (const other of sameKey) {
    for (const entry of other.body.entries) {
      const otherMass = massIn(entry);
      if (otherMass !== undefined) executions.push({ writer: other.header.writer, seq: other.header.seq, mass: otherMass, hlc: other.header.hlc });
    }
  }
  return executions;
}
