/**
 * Checker (a): what clients were told, against what a single, never failing memory could have told them. It knows nothing of nodes, deltas or quorums.
 *
 * For every read at `quorum` or `all` (and for a read at `one`, of what its tokens name):
 * 1. every write acknowledged at quorum before it began is in its answer;
 * 2. nothing is in its answer that nobody had asked for yet;
 * 3. nothing that an earlier read had seen is missing, unless somebody took it away;
 * 4. nothing that was taken away comes back.
 */
import type { Bump, Delete, Edit, Operation, Put, Read, Seen, Violation } from "./history.ts";

type Answered = Read & { readonly end: number; readonly seen: Seen };
type Write = Put | Bump | Edit | Delete;

export function checkHistory(history: readonly Operation[]): Violation[] {
  return [...new Set(history.map((operation) => operation.tenant))].flatMap((tenant) => checkTenant(history.filter((one) => one.tenant === tenant)));
}

function checkTenant(history: readonly Operation[]): Violation[] {
  const violations: Violation[] = [];
  const fail = (read: Read, what: string): void => {
    violations.push({
      checker: "a history",
      message: `read ${read.id} at ${read.level} by ${read.client} (${ms(read.begin)}-${ms(read.end)} ms): ${what}`,
    });
  };
  const writes = history.filter((operation): operation is Write => operation.kind !== "read" && operation.kind !== "unlearn");
  const of = byMemory(writes);
  const reads = history.filter((operation): operation is Answered => operation.kind === "read" && operation.end !== undefined);
  for (const read of reads) {
    for (const [memory, values] of read.seen.memories) checkMemory(read, memory, values, of.get(memory) ?? [], fail);
    for (const [concept, count] of read.seen.counts) checkCount(read, concept, count, writes, fail);
  }
  const global = reads.filter((read) => read.level !== "one").sort((a, b) => a.end - b.end);
  checkCountsNeverFall(global, fail);
  for (const [memory, about] of of) checkMemoryNeverGoesBack(memory, global, about, fail);
  return violations;
}

/** Whether the read began after the write was acknowledged, at levels that promise it is seen. */
function mustSee(read: Read, write: Write): boolean {
  if (write.end === undefined || write.end > read.begin) return false;
  return (read.level !== "one" && write.level !== "one") || read.after.includes(write.id);
}

function mayHaveHappened(write: Write, until: Answered): boolean {
  return write.begin < until.end;
}

function checkMemory(
  read: Answered,
  memory: string,
  values: readonly string[],
  about: readonly Write[],
  fail: (read: Read, what: string) => void,
): void {
  const deletes = about.filter((write) => write.kind === "delete");
  const valued = about.filter((write): write is Put | Edit => write.kind === "put" || write.kind === "edit");
  for (const value of values) {
    if (!valued.some((write) => write.value === value && mayHaveHappened(write, read)))
      fail(read, `${memory} has the value ${value}, which nobody wrote`);
  }
  if (values.length > 0) {
    const gone = deletes.find((write) => mustSee(read, write));
    if (gone !== undefined) fail(read, `${memory} is there although its deletion ${gone.id} was acknowledged at ${ms(gone.end)} ms`);
    if (!about.some((write) => write.kind === "put")) fail(read, `${memory} was never stored`);
  }
  if (deletes.some((write) => mayHaveHappened(write, read))) return;
  for (const write of valued) {
    if (!mustSee(read, write) || values.includes(write.value)) continue;
    if (values.length === 0)
      fail(read, `${memory} is missing although ${write.kind} ${write.id} was acknowledged at ${write.level} at ${ms(write.end)} ms`);
    else if (!valued.some((other) => mayReplace(other, write, read)))
      fail(read, `${memory} lacks the value ${write.value} of ${write.kind} ${write.id}, acknowledged at ${ms(write.end)} ms`);
  }
}

/** An edit that was not over before this write began, and may have happened before the read ended. */
function mayReplace(edit: Write, write: Write, read: Answered): boolean {
  return edit.kind === "edit" && edit !== write && (edit.end ?? Number.POSITIVE_INFINITY) > write.begin && mayHaveHappened(edit, read);
}

function checkCount(read: Answered, concept: string, count: number, writes: readonly Write[], fail: (read: Read, what: string) => void): void {
  const bumps = writes.filter((write) => write.kind === "bump" && write.concepts.includes(concept));
  const least = bumps.filter((bump) => mustSee(read, bump)).length;
  const most = bumps.filter((bump) => mayHaveHappened(bump, read)).length;
  if (count < least) fail(read, `${concept} is counted ${count} times, but ${least} were acknowledged before`);
  if (count > most) fail(read, `${concept} is counted ${count} times, but only ${most} were asked for`);
}

function checkCountsNeverFall(reads: readonly Answered[], fail: (read: Read, what: string) => void): void {
  const concepts = new Set(reads.flatMap((read) => [...read.seen.counts.keys()]));
  for (const concept of concepts) {
    for (const read of reads) {
      const count = read.seen.counts.get(concept);
      if (count === undefined) continue;
      // In order of their ends; those that ended before this one began are its past.
      for (const earlier of reads) {
        if (earlier.end > read.begin) break;
        const before = earlier.seen.counts.get(concept);
        if (before !== undefined && before > count) fail(read, `${concept} is counted ${count} times, but read ${earlier.id} had seen ${before}`);
      }
    }
  }
}

function checkMemoryNeverGoesBack(
  memory: string,
  reads: readonly Answered[],
  about: readonly Write[],
  fail: (read: Read, what: string) => void,
): void {
  const asked = reads.filter((read) => read.seen.memories.has(memory));
  const valuesOf = (read: Answered): readonly string[] => read.seen.memories.get(memory) as readonly string[];
  for (const read of asked) {
    const past = asked.filter((earlier) => earlier.end <= read.begin);
    for (const earlier of past) {
      for (const value of valuesOf(earlier)) {
        if (valuesOf(read).includes(value)) continue;
        const taken = about.some(
          (write) => (write.kind === "delete" || (write.kind === "edit" && write.value !== value)) && mayHaveHappened(write, read),
        );
        if (!taken) fail(read, `${memory} has lost the value ${value}, which read ${earlier.id} had seen`);
      }
    }
    for (const value of valuesOf(read)) {
      const gone = past.find(
        (absent) => !valuesOf(absent).includes(value) && past.some((first) => first.end <= absent.begin && valuesOf(first).includes(value)),
      );
      if (gone !== undefined) fail(read, `${memory} has the value ${value} again, which was gone in read ${gone.id}`);
    }
  }
}

function byMemory(writes: readonly Write[]): Map<string, Write[]> {
  const out = new Map<string, Write[]>();
  for (const write of writes) {
    if (write.kind === "bump") continue;
    const about = out.get(write.memory);
    if (about === undefined) out.set(write.memory, [write]);
    else about.push(write);
  }
  return out;
}

const ms = (time: number | undefined): string => (time === undefined ? "-" : time.toFixed(1));
