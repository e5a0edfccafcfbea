/** A router with nothing behind it but a table of answers and the key operations over two records in memory: what HTTP tests need of a node. */
import { keyOperations } from "../../node/keys.ts";
import type { Call, GraphReader, Outcome, Router, System } from "../../node/ports.ts";
import type { Contribution, RegisterRecord } from "../../protocol/graph/records.ts";
import { SYSTEM_TENANT, type WriterId } from "../../protocol/ids.ts";

export interface Seen {
  readonly operation: string;
  readonly args: Record<string, unknown>;
  readonly call: Call;
}

export type Answers = Record<string, (args: Record<string, unknown>, call: Call) => unknown>;

export class TableRouter implements Router {
  readonly seen: Seen[] = [];
  readonly #answers: Answers;
  readonly #records = new Map<string, RegisterRecord>();
  readonly #byKey = new Map<string, unknown>();
  readonly #now: () => number;
  /** What a replica that has not caught up yet does not see at level one. */
  behind = false;

  constructor(answers: Answers, now: () => number = Date.now) {
    this.#answers = answers;
    this.#now = now;
  }

  async run<T>(operation: string, args: unknown, call: Call): Promise<Outcome<T>> {
    this.seen.push({ operation, args: args as Record<string, unknown>, call });
    const value = call.tenant === SYSTEM_TENANT ? this.#system(operation, args, call) : await this.#answer(operation, args, call);
    return {
      value: value as T,
      level: call.level ?? "quorum",
      acks: { replicas: 2, witnesses: 1 },
      token: `token-${this.seen.length}`,
      node: "alice",
    };
  }

  of(operation: string): Seen[] {
    return this.seen.filter((seen) => seen.operation === operation);
  }

  #answer(operation: string, args: unknown, call: Call): unknown {
    const answer = this.#answers[operation];
    if (answer === undefined) throw new Error(`no answer for ${operation}`);
    return answer(args as Record<string, unknown>, call);
  }

  #system(operation: string, args: unknown, call: Call): unknown {
    const overridden = this.#answers[operation];
    if (overridden !== undefined) return overridden(args as Record<string, unknown>, call);
    const found = keyOperations[operation];
    if (found === undefined) throw new Error(`no operation ${operation}`);
    const records = this.behind && call.level === "one" ? new Map<string, RegisterRecord>() : this.#records;
    const context = {
      reader: readerOf(records),
      now: this.#now(),
      node: "alice",
      id: (prefix: string, ordinal: number) => `${prefix}_${call.key}_${ordinal}`,
    };
    if (found.type === "read") return found.answer(args, context);
    if (this.#byKey.has(call.key)) return this.#byKey.get(call.key);
    const { contributions, answer } = found.decide(args, context);
    for (const contribution of contributions) this.#store(contribution);
    this.#byKey.set(call.key, answer);
    return answer;
  }

  #store(contribution: Contribution): void {
    if (contribution.op !== "register") throw new Error(`unexpected ${contribution.op}`);
    const before = this.#records.get(contribution.id)?.fields ?? {};
    const added = Object.entries(contribution.fields).map(([name, value]) => [
      name,
      { value, hlc: [this.#now(), 0] as const, writer: "w" as WriterId },
    ]);
    this.#records.set(contribution.id, { kind: "register", fields: { ...before, ...Object.fromEntries(added) } });
  }
}

function readerOf(records: ReadonlyMap<string, RegisterRecord>): GraphReader {
  const none = (): undefined => undefined;
  return {
    tenant: SYSTEM_TENANT,
    concept: none,
    link: none,
    turn: none,
    memory: none,
    register: (id) => records.get(id),
    decay: { resonanceDecay: 0.85, periodMs: 1 },
  };
}

/** A clock that stands until it is moved. */
export class TestSystem implements System {
  ms = Date.parse("2026-11-21T12:00:00Z");
  #count = 0;
  readonly #timers = new Set<{ readonly at: number; readonly run: () => void }>();
  now(): number {
    return this.ms;
  }
  monotonic(): number {
    return this.ms;
  }
  soon(run: () => void): void {
    setImmediate(run);
  }
  randomBytes(length: number): Uint8Array {
    this.#count++;
    return Uint8Array.from({ length }, (_, index) => (this.#count * 31 + index * 7) % 256);
  }
  random(): number {
    return 0.5;
  }
  after(ms: number, run: () => void): () => void {
    const timer = { at: this.ms + ms, run };
    this.#timers.add(timer);
    return () => void this.#timers.delete(timer);
  }
  /** Time goes by, and what falls due in it is done. */
  pass(ms: number): void {
    const end = this.ms + ms;
    for (;;) {
      const [next] = [...this.#timers].filter(({ at }) => at <= end).sort((a, b) => a.at - b.at);
      if (next === undefined) break;
      this.#timers.delete(next);
      this.ms = Math.max(this.ms, next.at);
      next.run();
    }
    this.ms = end;
  }
}
