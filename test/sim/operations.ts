import { ApiError } from "../../node/errors.ts";
import { layoutOperations } from "../../node/layout-queue.ts";
import type { GraphReader, Operations, ReadOperation, WriteOperation } from "../../node/ports.ts";
import { revocationOperations } from "../../node/revocations.ts";
import { conflicts, current } from "../../protocol/graph/editable.ts";
import { strengthOf } from "../../protocol/graph/link.ts";
import { linkId, type Memory } from "../../protocol/graph/records.ts";

/**
 * A memory so small that what it should hold can be said in one line each: the simulator is about the road, not the load. `Operations` is a port, so
 * the engine runs these exactly as it runs learn and recall.
 */
const put: WriteOperation<{ memory: string; value: string }, string> = {
  type: "write",
  decide: ({ memory, value }, { node }) => ({
    contributions: [{ op: "memory", id: memory, memory: { node, session: "", entity: "sim", content: value, metadata: "{}", concepts: [] } }],
    answer: memory,
  }),
};

const bump: WriteOperation<{ concepts: readonly [string, string] }, string> = {
  type: "write",
  decide: ({ concepts: [a, b] }) => ({
    contributions: [
      { op: "concept", id: a, mass: 1, name: a },
      { op: "concept", id: b, mass: 1, name: b },
      { op: "link", a, b, mass: 1 },
    ],
    answer: "bumped",
  }),
};

const edit: WriteOperation<{ memory: string; value: string }, string> = {
  type: "write",
  decide: ({ memory, value }, { reader }) => {
    mustExist(reader, memory);
    return { contributions: [{ op: "edit", id: memory, fields: { content: value } }], answer: memory };
  },
};

const forget: WriteOperation<{ memory: string }, string> = {
  type: "write",
  decide: ({ memory }, { reader }) => {
    mustExist(reader, memory);
    return { contributions: [{ op: "delete", kind: "memory", id: memory }], answer: memory };
  },
};

/** Takes away what this node has counted of two concepts and of their link. */
const unlearn: WriteOperation<{ concepts: readonly [string, string] }, string> = {
  type: "write",
  decide: ({ concepts: [a, b] }) => ({
    contributions: [
      { op: "delete", kind: "concept", id: a },
      { op: "delete", kind: "concept", id: b },
      { op: "delete", kind: "link", id: linkId(a, b) },
    ],
    answer: "unlearnt",
  }),
};

export interface ReadArguments {
  readonly memories: readonly string[];
  readonly concepts: readonly string[];
  /** Strengths of all links between the concepts as of this time, ms; absent: none. */
  readonly strengthsAt?: number;
}

/** JSON, because the answer may cross a connection. */
export interface ReadAnswer {
  readonly memories: Readonly<Record<string, readonly string[]>>;
  readonly counts: Readonly<Record<string, number>>;
  /** "a b" -> strength, a before b. */
  readonly strengths: Readonly<Record<string, number>>;
}

const read: ReadOperation<ReadArguments, ReadAnswer> = {
  type: "read",
  answer: ({ memories, concepts, strengthsAt }, { reader }) => ({
    memories: Object.fromEntries(memories.map((id) => [id, valuesOf(reader.memory(id))])),
    counts: Object.fromEntries(concepts.map((id) => [id, countOf(reader, id)])),
    strengths:
      strengthsAt === undefined ? {} : Object.fromEntries(pairsOf(concepts).map(([a, b]) => [`${a} ${b}`, strength(reader, a, b, strengthsAt)])),
  }),
};

export const SIM_OPERATIONS: Operations = { put, bump, edit, delete: forget, unlearn, read, ...layoutOperations, ...revocationOperations };

export function pairsOf(concepts: readonly string[]): [string, string][] {
  const sorted = [...concepts].sort();
  return sorted.flatMap((a, at) => sorted.slice(at + 1).map((b): [string, string] => [a, b]));
}

function strength(reader: GraphReader, a: string, b: string, atMs: number): number {
  const link = reader.link(a, b);
  return link === undefined ? 0 : strengthOf(link, atMs, reader.decay);
}

function mustExist(reader: GraphReader, id: string): void {
  if (reader.memory(id) === undefined) throw new ApiError("not_found", "no such memory here");
}

/** Visible value first, then those of concurrent edits; none when there is no such memory. */
function valuesOf(memory: Memory | undefined): readonly string[] {
  return memory === undefined ? [] : [current(memory.content), ...conflicts(memory.content)];
}

/** Written again here, not called: totals, less what was removed, less what a retried key added too much (nothing decays in a concept). */
function countOf(reader: GraphReader, id: string): number {
  const counter = reader.concept(id)?.occurrences;
  if (counter === undefined) return 0;
  const totals = Object.values(counter.totals).reduce((sum, share) => sum + share.mass, 0);
  const excess = Object.values(counter.repeats).reduce((sum, executions) => {
    const masses = executions.map((execution) => execution.mass);
    return sum + masses.reduce((all, mass) => all + mass, 0) - Math.max(...masses);
  }, 0);
  return totals - excess;
}
