/** What a run's history says, by checkers that know nothing of nodes: the simulator's (a), the registers' order, and "nothing was written". */

import type { Operation, Violation } from "../sim/history.ts";
import { checkHistory } from "../sim/history-checker.ts";
import type { Recorded } from "./clients.ts";
import { type RegisterOperation, whyNotLinearizable } from "./linearizability.ts";

/** @param recorded all operations of one tenant */
export function checkTenant(recorded: readonly Recorded[]): Violation[] {
  return [...checkHistory(recorded.map(({ operation }) => operation)), ...checkRefused(recorded), ...checkRegisters(recorded)];
}

/** A write that every answer said was not written is seen by nobody, ever. */
export function checkRefused(recorded: readonly Recorded[]): Violation[] {
  const refused = new Map(
    recorded.flatMap(({ operation, outcome }) => (outcome === "refused" && "value" in operation ? [[operation.value, operation] as const] : [])),
  );
  return recorded.flatMap(({ operation }) => {
    if (operation.kind !== "read" || operation.seen === undefined) return [];
    const seen = [...operation.seen.memories.values()].flat().flatMap((value) => refused.get(value) ?? []);
    return seen.map((write) => ({
      checker: "refused",
      message: `read ${operation.id} saw ${write.kind} ${write.id} of ${write.memory}, of which every answer said that nothing was written`,
    }));
  });
}

/** Memories that were only ever stored, replaced and read at quorum or above, each by itself. */
export function checkRegisters(recorded: readonly Recorded[]): Violation[] {
  const byMemory = new Map<string, RegisterOperation[] | "other">();
  const add = (memory: string, operation: RegisterOperation | "other"): void => {
    const known = byMemory.get(memory);
    if (operation === "other") byMemory.set(memory, "other");
    else if (known === undefined) byMemory.set(memory, [operation]);
    else if (known !== "other") known.push(operation);
  };
  for (const { operation, outcome } of recorded) {
    if (operation.kind === "bump" || operation.kind === "unlearn") continue;
    if (operation.kind === "read") addReads(operation, add);
    else if (operation.kind === "delete" || operation.level === "one") add(operation.memory, "other");
    else if (outcome !== "refused") {
      const { begin, end, value, memory } = operation;
      add(memory, { name: `${operation.kind} ${operation.id} by ${operation.client}`, kind: "write", begin, end, value });
    }
  }
  return [...byMemory].flatMap(([memory, operations]) => {
    const why = operations === "other" ? undefined : whyNotLinearizable(operations);
    return why === undefined ? [] : [{ checker: "linearizability", message: `${recorded[0]?.operation.tenant} ${memory}: ${why}` }];
  });
}

function addReads(read: Extract<Operation, { kind: "read" }>, add: (memory: string, operation: RegisterOperation) => void): void {
  if (read.level === "one" || read.seen === undefined) return;
  for (const [memory, [value]] of read.seen.memories)
    add(memory, { name: `read ${read.id} by ${read.client}`, kind: "read", begin: read.begin, end: read.end, value });
}

export interface Tally {
  operations: number;
  acknowledged: number;
  inDoubt: number;
  refused: number;
}

export function tallyOf(recorded: readonly Recorded[]): Tally {
  const of = (outcome: Recorded["outcome"]): number => recorded.filter((one) => one.outcome === outcome && one.operation.kind !== "read").length;
  return { operations: recorded.length, acknowledged: of("ok"), inDoubt: of("in doubt"), refused: of("refused") };
}
