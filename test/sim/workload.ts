import { ApiError } from "../../node/errors.ts";
import type { Outcome, Router } from "../../node/ports.ts";
import type { Level } from "../../protocol/ids.ts";
import type { Operation, Read } from "./history.ts";
import type { ReadAnswer } from "./operations.ts";
import type { Rng } from "./rng.ts";
import type { Scheduler } from "./scheduler.ts";

/** A node as a client meets it: an address that may or may not answer. */
export interface Door {
  readonly name: string;
  /** Undefined: nothing listens there. `monotonic` is that process's own clock, which deadlines are given in. */
  open(): { router: Router; monotonic: number } | undefined;
}

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

type WriteKind = "put" | "bump" | "unlearn" | "edit" | "delete";
/** Counted exactly. */
const CONCEPTS = ["ada", "babbage", "curie"] as const;
/** Counted, and unlearnt again: what must hold of them is that all replicas agree. */
const FLEETING = ["dirac", "euler"] as const;

/** Clients that learn, correct, delete and read at mixed levels, and write down what they asked and what they were told. */
export class Workload {
  readonly history: Operation[] = [];
  readonly #scheduler: Scheduler;
  readonly #rng: Rng;
  readonly #doors: readonly Door[];
  readonly #settings: WorkloadSettings;
  readonly #acknowledged: (operation: Operation, key: string) => void;
  readonly #memories = new Map<string, string[]>();
  #stopped = false;
  #busy = 0;
  #lastId = 0;

  /** @param acknowledged told at the moment a client hears that its write is done */
  constructor(
    scheduler: Scheduler,
    rng: Rng,
    doors: readonly Door[],
    settings: WorkloadSettings,
    acknowledged: (operation: Operation, key: string) => void,
  ) {
    this.#scheduler = scheduler;
    this.#acknowledged = acknowledged;
    this.#rng = rng;
    this.#doors = doors;
    this.#settings = settings;
    for (const tenant of settings.tenants) this.#memories.set(tenant, []);
  }

  start(): void {
    for (let i = 0; i < this.#settings.clients; i++) {
      const client = new Client(`client-${i}`, this.#rng.pick(this.#settings.tenants), this.#rng.pick(this.#doors));
      this.#scheduler.after(this.#rng.exponential(this.#settings.pauseMs), () => void this.#live(client));
    }
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
    for (;;) {
      const read = await this.#read(new Client("auditor", tenant, door), "quorum", this.#memories.get(tenant) as string[]);
      if (read.end !== undefined) return;
      await this.#scheduler.sleep(250);
    }
  }

  async #live(client: Client): Promise<void> {
    while (!this.#stopped) {
      this.#busy++;
      await this.#once(client);
      this.#busy--;
      await this.#scheduler.sleep(this.#rng.exponential(this.#settings.pauseMs));
    }
  }

  async #once(client: Client): Promise<void> {
    if (this.#rng.chance(0.1)) client.door = this.#rng.pick(this.#doors);
    const known = this.#memories.get(client.tenant) as string[];
    const dice = this.#rng.float();
    if (dice < 0.35) await this.#read(client, this.#readLevel(), known.slice(-40));
    else if (dice < 0.65 || known.length === 0) await this.#write(client, "put");
    else if (dice < 0.84) await this.#write(client, "bump");
    else if (dice < 0.86) await this.#write(client, "unlearn");
    else if (dice < 0.94) await this.#write(client, "edit");
    else await this.#write(client, "delete");
  }

  #writeLevel(): Level {
    const dice = this.#rng.float();
    return dice < 0.75 ? "quorum" : dice < 0.9 ? "one" : "all";
  }

  #readLevel(): Level {
    const dice = this.#rng.float();
    return dice < 0.7 ? "quorum" : dice < 0.95 ? "one" : "all";
  }

  async #write(client: Client, kind: WriteKind): Promise<void> {
    const id = ++this.#lastId;
    const known = this.#memories.get(client.tenant) as string[];
    const base = {
      id,
      client: client.name,
      tenant: client.tenant,
      level: this.#writeLevel(),
      begin: this.#scheduler.now,
      end: undefined,
      attempts: 0,
    };
    // Recent memories, so that several clients meet on one.
    const target = kind === "put" ? `m${id}` : this.#rng.pick(known.slice(-8).length > 0 ? known.slice(-8) : [`m${id}`]);
    const operation: Operation =
      kind === "bump" || kind === "unlearn"
        ? { ...base, kind, concepts: this.#twoConcepts(kind) }
        : kind === "delete"
          ? { ...base, kind, memory: target }
          : { ...base, kind, memory: target, value: `v${id}` };
    if (kind === "put") known.push(target);
    this.history.push(operation);
    const { kind: name, ...args } = operation;
    let door = client.door;
    while (operation.attempts < this.#settings.attemptsMax) {
      operation.attempts++;
      // Now and then a client that lost its patience asks two nodes at once.
      if (this.#rng.chance(this.#settings.twiceChance)) {
        operation.attempts++;
        void this.#call(this.#rng.pick(this.#doors), client, operation, name, argumentsOf(args), undefined);
      }
      const outcome = await this.#call(door, client, operation, name, argumentsOf(args), undefined);
      if (outcome instanceof ApiError && !MAY_RETRY.has(outcome.code)) {
        if (outcome.code === "not_found" && (operation.kind === "edit" || operation.kind === "delete")) this.#sawNothing(operation, operation.memory);
        return;
      }
      if (!(outcome instanceof ApiError)) {
        operation.end = this.#scheduler.now;
        this.#acknowledged(operation, keyOf(operation));
        client.token = { value: outcome.token, of: id };
        return;
      }
      if (!this.#rng.chance(this.#settings.retryChance)) return;
      door = this.#rng.chance(0.6) ? this.#rng.pick(this.#doors) : door;
      await this.#scheduler.sleep(this.#rng.exponential(200));
    }
  }

  #twoConcepts(kind: "bump" | "unlearn"): [string, string] {
    if (kind === "unlearn" || this.#rng.chance(0.2)) return [...FLEETING];
    return this.#rng.shuffle(CONCEPTS).slice(0, 2) as [string, string];
  }

  /** "There is no such memory" answers a write as it answers a read, and must be as true. */
  #sawNothing(operation: Operation, memory: string): void {
    const { client, tenant, level, begin } = operation;
    const seen = { memories: new Map([[memory, []]]), counts: new Map() };
    this.history.push({ id: ++this.#lastId, client, tenant, level, begin, end: this.#scheduler.now, attempts: 1, kind: "read", after: [], seen });
  }

  async #read(client: Client, level: Level, memories: readonly string[]): Promise<Read> {
    const token = level === "one" ? client.token : undefined;
    const read: Read = {
      id: ++this.#lastId,
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
    const outcome = await this.#call<ReadAnswer>(client.door, client, read, "read", { memories: [...memories], concepts: CONCEPTS }, token?.value);
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
    const node = door.open();
    if (node === undefined) {
      this.#scheduler.note(`${said}: nobody listens`);
      return new ApiError("overloaded", "connection refused");
    }
    this.#scheduler.note(`${said}${operation.attempts > 1 ? ` (attempt ${operation.attempts})` : ""}`);
    const call = {
      tenant: client.tenant,
      level: operation.level,
      key: keyOf(operation),
      token,
      requestId: `${operation.id}.${operation.attempts}`,
      deadline: node.monotonic + this.#settings.timeoutMs,
    };
    const outcome = await new Promise<Outcome<T> | ApiError>((resolve) => {
      this.#scheduler.after(this.#settings.timeoutMs * 1.2, () => resolve(new ApiError("in_doubt", "no answer")));
      node.router.run<T>(name, args, call).then(resolve, (error: unknown) => {
        if (!(error instanceof ApiError)) throw error;
        resolve(error);
      });
    });
    this.#scheduler.note(`${said} -> ${outcome instanceof ApiError ? `${outcome.code}: ${outcome.message}` : answerOf(outcome)}`);
    return outcome;
  }
}

/** These say "not now" or "nobody knows"; everything else is an answer. */
const MAY_RETRY = new Set(["no_quorum", "in_doubt", "catching_up", "overloaded", "clock_skew"]);

class Client {
  readonly name: string;
  readonly tenant: string;
  door: Door;
  /** Of its last acknowledged write. */
  token: { value: string; of: number } | undefined;

  constructor(name: string, tenant: string, door: Door) {
    this.name = name;
    this.tenant = tenant;
    this.door = door;
  }
}

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
