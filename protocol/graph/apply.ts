/**
 * A delta into the graph: which records change, from what to what. The state is a pure function of the set of deltas applied, so the order of
 * arrival (within the streams' own order) cannot matter (P3).
 */
import { HLC_NEVER } from "../clock.ts";
import type { Delta, Entry } from "../delta.ts";
import type { WriterId } from "../ids.ts";
import { conceptFrom } from "./concept.ts";
import { EMPTY_COUNTER, withRemoval, withRepeats } from "./counter.ts";
import { linkFrom } from "./link.ts";
import { MEMORY_NOT_ARRIVED } from "./memory.ts";
import { mergeRecords } from "./record.ts";
import {
  type Concept,
  type Editable,
  type Execution,
  type GraphRecord,
  type Kind,
  type Link,
  linkId,
  type Memory,
  type RecordOf,
} from "./records.ts";
import { tombstoneId } from "./tombstone.ts";

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
  const read = <K extends Kind>(kind: K, id: string): RecordOf<K> | undefined => {
    const changed = changes.get(`${kind}/${id}`);
    return changed === undefined ? state.record(tenant, kind, id) : (changed.after as RecordOf<K> | undefined);
  };
  const write = (kind: Kind, id: string, after: GraphRecord | undefined): void => {
    const name = `${kind}/${id}`;
    const before = changes.has(name) ? changes.get(name)?.before : state.record(tenant, kind, id);
    if (before === undefined && after === undefined) return;
    changes.set(name, { kind, id, before, after });
  };
  const merge = (kind: Kind, id: string, said: GraphRecord): void => {
    const held = read(kind, id);
    write(kind, id, held === undefined ? said : mergeRecords<GraphRecord>(held, said));
  };
  for (const entry of delta.body.entries) applyEntry(entry, delta, sameKey, read, write, merge);
  return [...changes.values()];
}

type Read = <K extends Kind>(kind: K, id: string) => RecordOf<K> | undefined;
type Merge = (kind: Kind, id: string, said: GraphRecord) => void;
type Write = (kind: Kind, id: string, after: GraphRecord | undefined) => void;

function applyEntry(entry: Entry, delta: Delta, sameKey: readonly Delta[], read: Read, write: Write, merge: Merge): void {
  const by = { writer: delta.header.writer, seq: delta.header.seq, hlc: delta.header.hlc };
  switch (entry.op) {
    case "concept":
      return merge("concept", entry.id, correctedConcept(conceptFrom(entry, by), entry, delta, sameKey));
    case "link":
      return merge("link", linkId(entry.a, entry.b), correctedLink(linkFrom(entry, by), entry, delta, sameKey));
    case "turn":
      if (read("tombstone", tombstoneId("turn", entry.id)) !== undefined) return; // P6: the id never returns
      return merge("turn", entry.id, {
        kind: "turn",
        at: by.hlc,
        writer: by.writer,
        ...entry.turn,
        concepts: [...entry.turn.concepts].sort(),
        decisions: [...entry.turn.decisions].sort(),
        keys: [delta.header.key],
      });
    case "memory": {
      if (read("tombstone", tombstoneId("memory", entry.id)) !== undefined) return;
      const first = <T>(value: T): Editable<T> => [{ value, ...by, saw: {} }];
      const { node, session, entity, content, metadata, concepts } = entry.memory;
      const said: Memory = {
        kind: "memory",
        at: by.hlc,
        writer: by.writer,
        node,
        session,
        entity: first(entity),
        content: first(content),
        metadata: first(metadata),
        concepts: first(concepts),
        keys: [delta.header.key],
      };
      return merge("memory", entry.id, said);
    }
    case "edit": {
      if (read("tombstone", tombstoneId("memory", entry.id)) !== undefined) return;
      const edited = <T>(value: T | undefined): Editable<T> => (value === undefined ? [] : [{ value, ...by, saw: delta.header.saw }]);
      const { entity, content, metadata, concepts } = entry.fields;
      return merge("memory", entry.id, {
        ...MEMORY_NOT_ARRIVED,
        entity: edited(entity),
        content: edited(content),
        metadata: edited(metadata),
        concepts: edited(concepts),
      });
    }
    case "tombstone":
      write(entry.of, entry.id, undefined);
      return merge("tombstone", tombstoneId(entry.of, entry.id), {
        kind: "tombstone",
        of: entry.of,
        id: entry.id,
        at: by.hlc,
        keys: [...entry.keys].sort(),
      });
    case "forget-concept": {
      const nothing: Concept = {
        ...conceptFrom({ description: "", total: 0 }, by),
        firstAt: HLC_NEVER,
        occurrences: withRemoval(EMPTY_COUNTER, entry.removed),
      };
      return merge("concept", entry.id, nothing);
    }
    case "forget-link":
      return merge("link", linkId(entry.a, entry.b), {
        kind: "link",
        a: entry.a,
        b: entry.b,
        activations: withRemoval(EMPTY_COUNTER, entry.removed),
      });
    case "register": {
      const fields = Object.fromEntries(
        Object.entries(entry.fields).map(([field, value]) => [field, { value, hlc: by.hlc, writer: by.writer as WriterId }]),
      );
      return merge("register", entry.id, { kind: "register", fields });
    }
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
