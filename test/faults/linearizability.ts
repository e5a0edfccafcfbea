/**
 * Is there an order of a register's operations in which each takes effect at one moment between its call and its answer, and each read gives the value of
 * the write before it? (Herlihy, Wing 1990.) The search is Wing and Gong's (1993) with Lowe's memoisation (2017): a state that was met before, the same
 * operations done and the same value, is not searched again. A write in doubt may take effect at any moment after its call, or never.
 */
export interface RegisterOperation {
  readonly name: string;
  readonly begin: number;
  /** Undefined: never answered. Of a write: in doubt. A read without an answer says nothing and is not given here. */
  readonly end: number | undefined;
  readonly kind: "write" | "read";
  /** Written or read; undefined: there is no such register (before its first write). Each write has a value of its own. */
  readonly value: string | undefined;
}

interface Timed extends RegisterOperation {
  readonly end: number;
}

/** @returns undefined when they are linearizable; else a sentence with the operations at which every order fails */
export function whyNotLinearizable(operations: readonly RegisterOperation[]): string | undefined {
  const read = new Set(operations.filter(({ kind }) => kind === "read").map(({ value }) => value));
  const timed = operations
    // What is in doubt and was never read can be taken never to have happened: leaving it out loses no order and saves most of the search.
    .filter(({ end, value }) => end !== undefined || read.has(value))
    .map((one): Timed => ({ ...one, end: one.end ?? Number.POSITIVE_INFINITY }))
    .sort((a, b) => a.begin - b.begin);
  return search(timed);
}

/** Everything before `low` is done, and these beyond it. */
interface State {
  readonly low: number;
  readonly beyond: readonly number[];
  readonly value: string | undefined;
}

function search(operations: readonly Timed[]): string | undefined {
  const seen = new Set<string>();
  const open: State[] = [afterReads({ low: 0, beyond: [], value: undefined }, operations)];
  let furthest = open[0]!;
  for (let state = open.pop(); state !== undefined; state = open.pop()) {
    if (isDone(state, operations)) return undefined;
    const name = `${state.low} ${state.beyond.join(" ")} ${state.value}`;
    if (seen.has(name)) continue;
    seen.add(name);
    if (state.low + state.beyond.length > furthest.low + furthest.beyond.length) furthest = state;
    for (const index of nextIn(state, operations)) {
      const operation = operations[index]!;
      if (operation.kind === "write") open.push(afterReads(withDone({ ...state, value: operation.value }, index), operations));
    }
  }
  const stuck = nextIn(furthest, operations).map((index) => describe(operations[index]!));
  return `with the value ${furthest.value} after ${furthest.low + furthest.beyond.length} of ${operations.length} operations, none of these can be next: ${stuck.join("; ")}`;
}

/** What is left is in doubt at most: it never happened. */
function isDone({ low, beyond }: State, operations: readonly Timed[]): boolean {
  return operations.slice(low).every((operation, offset) => operation.end === Number.POSITIVE_INFINITY || beyond.includes(low + offset));
}

/** Those that may be next: not done, and begun before every other that is not done had ended. */
function nextIn({ low, beyond }: State, operations: readonly Timed[]): number[] {
  const next: number[] = [];
  let firstEnd = Number.POSITIVE_INFINITY;
  for (let index = low; index < operations.length && operations[index]!.begin <= firstEnd; index++) {
    if (beyond.includes(index)) continue;
    next.push(index);
    firstEnd = Math.min(firstEnd, operations[index]!.end);
  }
  return next;
}

/** A read that may be next and fits changes nothing and forbids nothing: it is taken at once, not tried in every order. */
function afterReads(state: State, operations: readonly Timed[]): State {
  for (;;) {
    const fits = nextIn(state, operations).find((index) => operations[index]!.kind === "read" && operations[index]!.value === state.value);
    if (fits === undefined) return state;
    state = withDone(state, fits);
  }
}

function withDone({ low, beyond, value }: State, index: number): State {
  const done = new Set([...beyond, index]);
  while (done.delete(low)) low++;
  return { low, beyond: [...done].sort((a, b) => a - b), value };
}

function describe({ name, kind, value, begin, end }: Timed): string {
  return `${name} (${kind} ${value}, ${begin.toFixed(1)} to ${end === Number.POSITIVE_INFINITY ? "never answered" : end.toFixed(1)})`;
}
