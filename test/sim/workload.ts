import { ApiError } from "../../node/errors.ts";
import type { Call, Outcome } from "../../node/ports.ts";
import type { Level } from "../../protocol/ids.ts";
import type { Operation, Read } from "./history.ts";
import type { ReadAnswer } from "./operations.ts";
import type { Rng } from "./rng.ts";
import type { Attempt, PlannedKind, PlannedOperation } from "./schedule.ts";
import type { Scheduler } from "./scheduler.ts";

/** A node as a client meets it: an address that may or may not answer. */
export interface Door {
  readonly name: string;
  /** Undefined: nothing listens there. A node that dies never answers. */
  call<T>(operation: string, args: unknown, call: Request): Promise<Outcome<T> | ApiError> | undefined;
}
export type Request = Omit<Call, "deadline"> & {
  /** What the client gives the node, counted from when it takes the request. */
  readonly timeoutMs: number;
};

export interface WorkloadSettings {
  readonly clients: number;
  readonly tenants: readonly string[];
  /** Mean pause of a client between two operations, ms. */
  readonly pauseMs: number;
  /** What a client gives the node, ms; it waits a little longer itself. */
  readonly timeoutMs: number;
  /** Chance that an unanswered write is tried again, with its key, perhaps elsewhere. */
  readonly retryChance: number;
  readonly attemptsMax: number;
  /** Chance that a write is sent to two nodes at the same time, under one key. */
  readonly twiceChance: number;
}

/** Counted exactly. */
const CONCEPTS = ["ada", "babbage", "curie"] as const;
/** Counted, and unlearnt again: what must hold of them is that all replicas agree. */
const FLEETING = ["dirac", "euler"] as const;
/** What a read looks at: the latest, which others still work on, and some of long ago. */
const READ_LATEST = 12;
const READ_EARLIER = 4;

/** Where a client's next operation comes from. */
export interface Plan {
  /** @param known memories of the client's tenant, as far as anybody has asked for them, oldest first */
  next(client: number, now: number, known: readonly string[]): PlannedOperation | undefined;
}

/** Draws operations while the run goes, and keeps them: afterwards the list is as good as the seed. */
export class DrawnPlan implements Plan {
  readonly operations: PlannedOperation[] = [];
  readonly #rng: Rng;
  readonly #settings: WorkloadSettings;
  readonly #doorCount: number;
  readonly #clients: { drawn: number; door: number }[];

  constructor(rng: Rng, settings: WorkloadSettings, doorCount: number) {
    this.#rng = rng;
    this.#settings = settings;
    this.#doorCount = doorCount;
    this.#clients = Array.from({ length: settings.clients }, (_, client) => ({ drawn: 0, door: rng.fork(`door ${client}`).int(doorCount) }));
  }

  next(client: number, now: number, known: readonly string[]): PlannedOperation {
    const state = this.#clients[client] as { drawn: number; door: number };
    const id = 1 + client + this.#settings.clients * state.drawn++;
    const rng = this.#rng.fork(id);
    if (rng.chance(0.1)) state.door = rng.int(this.#doorCount);
    const kind = drawKind(rng, known.length > 0);
    const level = kind === "read" ? drawReadLevel(rng) : drawWriteLevel(rng);
    const operation: PlannedOperation = {
      id,
      client,
      at: now + rng.exponential(this.#settings.pauseMs),
      kind,
      level,
      memories:
        kind === "read"
          ? drawMemories(rng, known)
          : kind === "put"
            ? [`m${id}`]
            : kind === "edit" || kind === "delete"
              ? [rng.pick(known.slice(-8))]
              : [],
      concepts: kind === "bump" || kind === "unlearn" ? drawConcepts(rng, kind) : kind === "read" ? [...CONCEPTS] : [],
      token: kind === "read" && level === "one",
      attempts: kind === "read" ? [{ door: state.door, waitMs: 0 }] : this.#drawAttempts(rng, state.door),
    };
    this.operations.push(operation);
    return operation;
  }

  #drawAttempts(rng: Rng, first: number): Attempt[] {
    const { attemptsMax, retryChance, twiceChance } = this.#settings;
    const attempts: Attempt[] = [];
    for (let door = first, waitMs = 0; ; door = rng.chance(0.6) ? rng.int(this.#doorCount) : door, waitMs = rng.exponential(200)) {
      attempts.push(rng.chance(twiceChance) ? { door, waitMs, twice: rng.int(this.#doorCount) } : { door, waitMs });
      if (attempts.length >= attemptsMax || !rng.chance(retryChance)) return attempts;
    }
  }
}

/** A list that was drawn before, whole or in part. */
export class ListedPlan implements Plan {
  readonly #waiting: PlannedOperation[][] = [];

  constructor(operations: readonly PlannedOperation[]) {
    for (const operation of operations) {
      this.#waiting[operation.client] ??= [];
      this.#waiting[operation.client]?.push(operation);
    }
  }

  next(client: number): PlannedOperation | undefined {
    return this.#waiting[client]?.shift();
  }
}

function drawKind(rng: Rng, memoriesKnown: boolean): PlannedKind {
  const dice = rng.float();
  if (dice < 0.35) return "read";
  if (dice < 0.65 || !memoriesKnown) return "put";
  if (dice < 0.84) return "bump";
  if (dice < 0.86) return "unlearn";
  return dice < 0.94 ? "edit" : "delete";
}

function drawWriteLevel(rng: Rng): Level {
  const dice = rng.float();
  return dice < 0.75 ? "quorum" : dice < 0.9 ? "one" : "all";
}

function drawReadLevel(rng: Rng): Level {
  const dice = rng.float();
  return dice < 0.7 ? "quorum" : dice < 0.95 ? "one" : "all";
}

function drawMemories(rng: Rng, known: readonly string[]): string[] {
  const earlier = rng.shuffle(known.slice(0, -READ_LATEST)).slice(0, READ_EARLIER);
  return [...earlier, ...known.slice(-READ_LATEST)];
}

function drawConcepts(rng: Rng, kind: "bump" | "unlearn"): string[] {
  return kind === "unlearn" || rng.chance(0.2) ? [...FLEETING] : rng.shuffle(CONCEPTS).slice(0, 2);
}

interface Client {
  readonly name: string;
  readonly tenant: string;
  /** Of its last acknowledged write. */
  token: { readonly value: string; readonly of: number } | undefined;
}

/** Clients that learn, correct, delete and read at mixed levels, and write down what they asked and what they were told. */
export class Workload {
  readonly history: Operation[] = [];
  readonly #scheduler: Scheduler;
  readonly #doors: readonly Door[];
  readonly #settings: WorkloadSettings;
  readonly #plan: Plan;
  readonly #acknowledged: (operation: Operation, key: string) => void;
  readonly #memories = new Map<string, string[]>();
  #stopped = false;
  #busy = 0;
  /** Of reads that no plan has: what a refusal says, and the audit. Far above those of any plan. */
  #lastId = 1_000_000;

  /** @param acknowledged told at the moment a client hears that its write is done */
  constructor(
    scheduler: Scheduler,
    doors: readonly Door[],
    settings: WorkloadSettings,
    plan: Plan,
    acknowledged: (operation: Operation, key: string) => void,
  ) {
    this.#scheduler = scheduler;
    this.#acknowledged = acknowledged;
    this.#doors = doors;
    this.#settings = settings;
    this.#plan = plan;
    for (const tenant of settings.tenants) this.#memories.set(tenant, []);
  }

  start(): void {
    const { clients, tenants } = this.#settings;
    for (let i = 0; i < clients; i++) void this.#live(i, { name: `client-${i}`, tenant: tenants[i % tenants.length] as string, token: undefined });
  }

  /** No new operations; those under way end in their own time. */
  stop(): void {
    this.#stopped = true;
  }

  get idle(): boolean {
    return this.#stopped && this.#busy === 0;
  }

  /** Quorum reads of everything in a tenant, through one door, until one is answered: how a run ends. */
  async readAll(tenant: string, door: Door): Promise<void> {
    const auditor: Client = { name: "auditor", tenant, token: undefined };
    for (;;) {
      const read = await this.#read(auditor, ++this.#lastId, "quorum", door, this.#memories.get(tenant) as string[], CONCEPTS);
      if (read.end !== undefined) return;
      await this.#scheduler.sleep(250);
    }
  }

  /** What each node says of the strengths of a tenant's links as of one time. @returns undefined: it did not answer */
  async readStrengths(tenant: string, door: Door, atMs: number): Promise<ReadonlyMap<string, number> | undefined> {
    const call = { tenant, level: "quorum", key: `strengths ${++this.#lastId}`, token: undefined, requestId: "audit", timeoutMs: 5000 } as const;
    const outcome = await door.call<ReadAnswer>("read", { memories: [], concepts: CONCEPTS, strengthsAt: atMs }, call);
    return outcome === undefined || outcome instanceof ApiError ? undefined : new Map(Object.entries(outcome.value.strengths));
  }

  async #live(index: number, client: Client): Promise<void> {
    for (;;) {
      const planned = this.#plan.next(index, this.#scheduler.now, this.#memories.get(client.tenant) as string[]);
      if (planned === undefined) return;
      await new Promise<void>((resolve) => void this.#scheduler.at(planned.at, resolve));
      if (this.#stopped) return;
      this.#busy++;
      await this.#once(client, planned);
      this.#busy--;
    }
  }

  async #once(client: Client, planned: PlannedOperation): Promise<void> {
    const { kind, id, level, memories, concepts } = planned;
    if (kind !== "read") return await this.#write(client, planned, kind);
    const token = planned.token ? client.token : undefined;
    await this.#read(client, id, level, this.#door((planned.attempts[0] as Attempt).door), memories, concepts, token);
  }

  #door(index: number): Door {
    return this.#doors[index % this.#doors.length] as Door;
  }

  async #write(client: Client, planned: PlannedOperation, kind: Exclude<PlannedKind, "read">): Promise<void> {
    const { id, level } = planned;
    const base = { id, client: client.name, tenant: client.tenant, level, begin: this.#scheduler.now, end: undefined, attempts: 0 };
    const memory = planned.memories[0] as string;
    const concepts = planned.concepts as [string, string];
    const operation: Operation =
      kind === "bump" || kind === "unlearn"
        ? { ...base, kind, concepts }
        : kind === "delete"
          ? { ...base, kind, memory }
          : { ...base, kind, memory, value: `v${id}` };
    if (kind === "put") this.#memories.get(client.tenant)?.push(memory);
    this.history.push(operation);
    const args = argumentsOf(operation);
    for (const [at, { door, waitMs, twice }] of planned.attempts.entries()) {
      if (at > 0) await this.#scheduler.sleep(waitMs);
      operation.attempts++;
      if (twice !== undefined) {
        operation.attempts++;
        void this.#call(this.#door(twice), client, operation, kind, args, undefined);
      }
      const outcome = await this.#call(this.#door(door), client, operation, kind, args, undefined);
      if (outcome instanceof ApiError && !MAY_RETRY.has(outcome.code)) {
        if (outcome.code === "not_found" && (operation.kind === "edit" || operation.kind === "delete")) this.#sawNothing(operation, operation.memory);
        return;
      }
      if (outcome instanceof ApiError) continue;
      operation.end = this.#scheduler.now;
      this.#acknowledged(operation, keyOf(operation));
      client.token = { value: outcome.token, of: id };
      return;
    }
  }

  /** "There is no such memory" answers a write as it answers a read, and must be as true. */
  #sawNothing(operation: Operation, memory: string): void {
    const { client, tenant, level, begin } = operation;
    const seen = { memories: new Map([[memory, []]]), counts: new Map() };
    this.history.push({ id: ++this.#lastId, client, tenant, level, begin, end: this.#scheduler.now, attempts: 1, kind: "read", after: [], seen });
  }

  async #read(
    client: Client,
    id: number,
    level: Level,
    door: Door,
    memories: readonly string[],
    concepts: readonly string[],
    token?: Client["token"],
  ): Promise<Read> {
    const read: Read = {
      id,
      client: client.name,
      tenant: client.tenant,
      level,
      begin: this.#scheduler.now,
      end: undefined,
      attempts: 1,
      kind: "read",
      after: token === undefined ? [] : [token.of],
      seen: undefined,
    };
    this.history.push(read);
    const outcome = await this.#call<ReadAnswer>(door, client, read, "read", { memories: [...memories], concepts }, token?.value);
    if (outcome instanceof ApiError) return read;
    read.end = this.#scheduler.now;
    read.seen = { memories: new Map(Object.entries(outcome.value.memories)), counts: new Map(Object.entries(outcome.value.counts)) };
    return read;
  }

  /** One attempt. A node that died, or never answers, is a timeout. */
  async #call<T>(
    door: Door,
    client: Client,
    operation: Operation,
    name: string,
    args: unknown,
    token: string | undefined,
  ): Promise<Outcome<T> | ApiError> {
    const said = `${client.name}@${door.name} ${describe(operation)}`;
    const { timeoutMs } = this.#settings;
    const requestId = `${operation.id}.${operation.attempts}`;
    this.#scheduler.note(`${said}${operation.attempts > 1 ? ` (attempt ${operation.attempts})` : ""}`);
    const answer = door.call<T>(name, args, { tenant: client.tenant, level: operation.level, key: keyOf(operation), token, requestId, timeoutMs });
    if (answer === undefined) {
      this.#scheduler.note(`${said}: nobody listens`);
      return new ApiError("overloaded", "connection refused");
    }
    const outcome = await new Promise<Outcome<T> | ApiError>((resolve, reject) => {
      const cancel = this.#scheduler.after(timeoutMs * 1.2, () => resolve(new ApiError("in_doubt", "no answer")));
      answer.then((got) => {
        cancel();
        resolve(got);
      }, reject);
    });
    this.#scheduler.note(`${said} -> ${outcome instanceof ApiError ? `${outcome.code}: ${outcome.message}` : answerOf(outcome)}`);
    return outcome;
  }
}

/** These say "not now" or "nobody knows"; everything else is an answer. */
const MAY_RETRY = new Set(["no_quorum", "in_doubt", "catching_up", "overloaded", "clock_skew"]);

/** The Idempotency-Key of an operation, the same for all its attempts. */
export function keyOf(operation: Operation): string {
  return `key-${operation.id}`;
}

function argumentsOf(operation: object): unknown {
  const { memory, value, concepts } = operation as { memory?: string; value?: string; concepts?: readonly string[] };
  return JSON.parse(JSON.stringify({ memory, value, concepts }));
}

function describe(operation: Operation): string {
  const about =
    operation.kind === "bump" || operation.kind === "unlearn" ? operation.concepts.join("-") : operation.kind === "read" ? "" : operation.memory;
  return `#${operation.id} ${operation.kind} ${about} at ${operation.level} in ${operation.tenant}`;
}

function answerOf(outcome: Outcome<unknown>): string {
  const read = (outcome.value as Partial<ReadAnswer>).memories === undefined ? "" : ` ${JSON.stringify(outcome.value)}`;
  return `acknowledged, ${outcome.acks.replicas} replicas ${outcome.acks.witnesses} witnesses, by ${outcome.node}${read}`;
}
