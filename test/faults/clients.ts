/**
 * Clients that store, correct, forget, learn and read at mixed levels, through any node, and write down what they asked and what they were told. The
 * history is the simulator's (`sim/history.ts`), so its checker judges it; beside it stand registers: memories that are only replaced and read at quorum,
 * for the linearizability check. A tenant that has grown large is retired and another takes its place.
 */

import type { Level } from "../../protocol/ids.ts";
import { ask, type Problem } from "../e2e/ask.ts";
import { pause } from "../e2e/federation.ts";
import type { Operation, Read } from "../sim/history.ts";
import type { Rng } from "../sim/rng.ts";

/** ok: acknowledged at its level. in doubt: may have happened, or happen yet. refused: every answer said that nothing was written. */
export type Outcome = "ok" | "in doubt" | "refused";

export interface Recorded {
  readonly operation: Operation;
  outcome: Outcome;
  /** Idempotency-Key of all its attempts. */
  readonly key: string;
}

/** Where clients may knock. */
export interface Door {
  readonly name: string;
  readonly url: string;
}

export interface ClientSettings {
  readonly clients: number;
  readonly tenants: number;
  readonly registerTenants: number;
  /** Mean pause of a client between two operations, ms. */
  readonly pauseMs: number;
  /** A client's patience with one answer, ms. */
  readonly timeoutMs: number;
  /** Attempts under one key, at most. */
  readonly attemptsMax: number;
  /** Chance that an unanswered write is tried again, with its key, perhaps elsewhere. */
  readonly retryChance: number;
  /** Chance that a write is sent to two nodes at the same time, under one key. */
  readonly twiceChance: number;
}

export const USUAL: ClientSettings = {
  clients: 8,
  tenants: 4,
  registerTenants: 2,
  pauseMs: 40,
  timeoutMs: 4_000,
  attemptsMax: 4,
  retryChance: 0.7,
  twiceChance: 0.05,
};

/** One call that was answered 200: for the percentiles. */
export interface Timing {
  readonly node: string;
  readonly at: number;
  readonly ms: number;
  readonly kind: Operation["kind"];
  readonly level: Level;
}

/** Names that the extractor takes whole, one occurrence a turn. */
const CONCEPTS = ["amber_stone", "cobalt_glass", "quartz_vein"] as const;
/** A tenant with this many memories makes room for another. */
const MEMORIES_MAX = 200;
const REGISTERS = 3;
const REGISTER_OPERATIONS_MAX = 400;
/** Memories a list read is asked about, newest first: its answer is short, and several clients meet on them. */
const LISTED = 40;

class Tenant {
  readonly name: string;
  readonly recorded: Recorded[] = [];
  /** Memory's name -> id as the API gave it. */
  readonly ids = new Map<string, string>();
  readonly memories: string[] = [];
  /** Operations under way. */
  busy = 0;

  constructor(name: string) {
    this.name = name;
  }
}

export class Clients {
  readonly timings: Timing[] = [];
  /** Answers that were not 200, by node and code: what clients meet. */
  readonly refusals: Record<string, number> = {};
  /** Answers that must never come (500, 4xx other than not found). */
  readonly wrong: string[] = [];
  readonly #rng: Rng;
  readonly #run: string;
  readonly #settings: ClientSettings;
  #doors: readonly Door[];
  readonly #tenants: Tenant[] = [];
  readonly #registers: Tenant[] = [];
  readonly #retired: Tenant[] = [];
  #lastId = 0;
  #lastTenant = 0;
  #stopping = false;
  #lives: Promise<void>[] = [];

  constructor(rng: Rng, doors: readonly Door[], settings: Partial<ClientSettings> = {}) {
    this.#rng = rng;
    this.#doors = doors;
    this.#settings = { ...USUAL, ...settings };
    this.#run = `r${rng.fork("name").next32().toString(36)}`;
    for (let i = 0; i < this.#settings.tenants; i++) this.#tenants.push(this.#tenant("t"));
    for (let i = 0; i < this.#settings.registerTenants; i++) this.#registers.push(this.#tenant("reg"));
  }

  start(): void {
    this.#stopping = false;
    this.#lives = Array.from({ length: this.#settings.clients }, (_, number) => this.#live(number));
  }

  /** Lets every client end what it is at. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#lives);
    this.#lives = [];
  }

  get doors(): readonly Door[] {
    return this.#doors;
  }

  /** Clients go on at these doors only. */
  use(doors: readonly Door[]): void {
    this.#doors = doors;
  }

  /** Of every tenant: all operations so far. */
  histories(): { readonly tenant: string; readonly recorded: readonly Recorded[] }[] {
    return this.#all().map(({ name, recorded }) => ({ tenant: name, recorded }));
  }

  recorded(): Recorded[] {
    return this.#all().flatMap(({ recorded }) => recorded);
  }

  /** Acknowledged writes up to now. */
  get acknowledged(): number {
    let count = 0;
    for (const { recorded } of this.#all()) for (const { operation, outcome } of recorded) if (outcome === "ok" && operation.kind !== "read") count++;
    return count;
  }

  /** Whole tenants that nobody uses any more, taken out of the histories: a long run judges them as it goes. */
  takeRetired(): { readonly tenant: string; readonly recorded: readonly Recorded[] }[] {
    const idle = this.#retired.filter(({ busy }) => busy === 0);
    for (const tenant of idle) this.#retired.splice(this.#retired.indexOf(tenant), 1);
    return idle.map(({ name, recorded }) => ({ tenant: name, recorded }));
  }

  /** Quorum reads of everything, through each of the doors, until each is answered: how a run ends. @throws Error after `ms` */
  async readAll(doors: readonly Door[], ms: number): Promise<void> {
    const deadline = performance.now() + ms;
    for (const tenant of this.#all()) {
      for (const door of doors) {
        for (;;) {
          const read = await this.#list("auditor", tenant, door, "quorum", tenant.memories);
          const counts = await Promise.all(CONCEPTS.map((concept) => this.#count("auditor", tenant, door, "quorum", concept)));
          if ([read, ...counts].every(({ outcome }) => outcome === "ok")) break;
          if (performance.now() > deadline)
            throw new Error(`${door.name} still does not answer quorum reads of ${tenant.name}: ${JSON.stringify(this.refusals)}`);
          await pause(250);
        }
      }
    }
  }

  #all(): Tenant[] {
    return [...this.#retired, ...this.#tenants, ...this.#registers];
  }

  #tenant(kind: string): Tenant {
    return new Tenant(`${this.#run}-${kind}${++this.#lastTenant}`);
  }

  async #live(number: number): Promise<void> {
    const rng = this.#rng.fork(`client ${number}`);
    const name = `client-${number}`;
    let token: Token | undefined;
    while (!this.#stopping) {
      const isRegister = rng.chance(0.3) && this.#registers.length > 0;
      const tenants = isRegister ? this.#registers : this.#tenants;
      const index = rng.int(tenants.length);
      const tenant = tenants[index]!;
      tenant.busy++;
      if (isRegister) await this.#register(rng, name, tenant);
      else token = await this.#once(rng, name, tenant, token);
      tenant.busy--;
      const full = isRegister ? tenant.recorded.length > REGISTERS * REGISTER_OPERATIONS_MAX : tenant.memories.length > MEMORIES_MAX;
      if (full && tenants[index] === tenant) {
        this.#retired.push(tenant);
        tenants[index] = this.#tenant(isRegister ? "reg" : "t");
      }
      await pause(rng.exponential(this.#settings.pauseMs));
    }
  }

  /** Replaces or reads one of a few memories, at quorum. The first write of a register creates it. */
  async #register(rng: Rng, client: string, tenant: Tenant): Promise<void> {
    const memory = `reg${rng.int(REGISTERS)}`;
    const id = tenant.ids.get(memory);
    if (id === undefined) {
      if (tenant.memories.includes(memory)) return; // somebody is creating it, or nobody knows whether it was
      tenant.memories.push(memory);
      await this.#write(rng, client, tenant, { kind: "put", memory, value: `v${this.#lastId + 1}` }, "quorum");
    } else if (rng.chance(0.5)) await this.#get(client, tenant, this.#door(rng), "quorum", memory, id);
    else await this.#write(rng, client, tenant, { kind: "edit", memory, value: `v${this.#lastId + 1}` }, "quorum");
  }

  async #once(rng: Rng, client: string, tenant: Tenant, token: Token | undefined): Promise<Token | undefined> {
    const dice = rng.float();
    const level = readLevel(rng);
    const after = level === "one" && token?.tenant === tenant.name ? token : undefined;
    if (dice < 0.15) await this.#list(client, tenant, this.#door(rng), level, tenant.memories.slice(-LISTED), after);
    else if (dice < 0.25) await this.#count(client, tenant, this.#door(rng), level, rng.pick(CONCEPTS), after);
    else {
      const known = [...tenant.ids.keys()].slice(-8);
      const value = `v${this.#lastId + 1}`;
      const what: Write =
        dice < 0.55 || known.length === 0
          ? { kind: "put", memory: `m${this.#lastId + 1}`, value }
          : dice < 0.75
            ? { kind: "bump", concepts: rng.shuffle(CONCEPTS).slice(0, 2) as [string, string] }
            : dice < 0.93
              ? { kind: "edit", memory: rng.pick(known), value }
              : { kind: "delete", memory: rng.pick(known) };
      if (what.kind === "put") tenant.memories.push(what.memory);
      return (await this.#write(rng, client, tenant, what, writeLevel(rng))) ?? token;
    }
    return token;
  }

  #door(rng: Rng): Door {
    return rng.pick(this.#doors);
  }

  async #write(rng: Rng, client: string, tenant: Tenant, what: Write, level: Level): Promise<Token | undefined> {
    const id = ++this.#lastId;
    const operation: Operation = { id, client, tenant: tenant.name, level, begin: performance.now(), end: undefined, attempts: 0, ...what };
    const recorded: Recorded = { operation, outcome: "in doubt", key: `${this.#run}-${id}` };
    tenant.recorded.push(recorded);
    const request = requestOf(operation, tenant);
    let mayHaveHappened = false;
    let doubled: Promise<unknown> | undefined;
    try {
      while (operation.attempts < this.#settings.attemptsMax) {
        operation.attempts++;
        if (rng.chance(this.#settings.twiceChance)) {
          operation.attempts++;
          mayHaveHappened = true;
          doubled = this.#call(this.#door(rng), operation, request, recorded.key);
        }
        const answer = await this.#call(this.#door(rng), operation, request, recorded.key);
        if (answer.status === 200) {
          recorded.outcome = "ok";
          operation.end = performance.now();
          if (operation.kind === "put") tenant.ids.set(operation.memory, (answer.body as { id: string }).id);
          return { tenant: tenant.name, of: id, value: answer.headers.get("x-continuum-frontier") ?? "" };
        }
        if (answer.status === 404 && (operation.kind === "edit" || operation.kind === "delete")) {
          // "There is no such memory" answers a write as it answers a read, and must be as true.
          this.#saw(client, tenant, level, operation.begin, new Map([[operation.memory, []]]));
          recorded.outcome = mayHaveHappened ? "in doubt" : "refused";
          return undefined;
        }
        if (!answer.nothingWritten) mayHaveHappened = true;
        recorded.outcome = mayHaveHappened ? "in doubt" : "refused";
        if (this.#stopping || !rng.chance(this.#settings.retryChance)) return undefined;
        await pause(rng.exponential(150));
      }
      return undefined;
    } finally {
      await doubled;
    }
  }

  async #get(client: string, tenant: Tenant, door: Door, level: Level, memory: string, id: string): Promise<Recorded> {
    const read = this.#read(client, tenant, level, []);
    const answer = await this.#call<MemoryAnswer>(door, read.operation, { method: "GET", path: `/v1/memories/${id}` });
    if (answer.status !== 200 && answer.status !== 404) return read;
    return this.#answered(read, new Map([[memory, answer.status === 404 ? [] : valuesOf(answer.body)]]));
  }

  async #list(client: string, tenant: Tenant, door: Door, level: Level, memories: readonly string[], after?: Token): Promise<Recorded> {
    const read = this.#read(client, tenant, level, after === undefined ? [] : [after.of]);
    const answer = await this.#call<{ memories: MemoryAnswer[] }>(door, read.operation, {
      method: "GET",
      path: "/v1/memories?limit=1000",
      token: after?.value,
    });
    if (answer.status !== 200) return read;
    const found = new Map(answer.body.memories.map((memory) => [memory.content.split(" ")[0]!, memory]));
    // A put that nobody acknowledged is met here: from now on it can be corrected and forgotten.
    for (const [name, { id }] of found) if (!tenant.ids.has(name)) tenant.ids.set(name, id);
    return this.#answered(read, new Map([...memories].map((name) => [name, found.has(name) ? valuesOf(found.get(name)!) : []])));
  }

  async #count(client: string, tenant: Tenant, door: Door, level: Level, concept: string, after?: Token): Promise<Recorded> {
    const read = this.#read(client, tenant, level, after === undefined ? [] : [after.of]);
    const answer = await this.#call<{ occurrences: number }>(door, read.operation, {
      method: "GET",
      path: `/v1/concepts/${concept}`,
      token: after?.value,
    });
    if (answer.status !== 200 && answer.status !== 404) return read;
    return this.#answered(read, new Map(), new Map([[concept, answer.status === 404 ? 0 : answer.body.occurrences]]));
  }

  #read(client: string, tenant: Tenant, level: Level, after: readonly number[]): Recorded & { operation: Read } {
    const id = ++this.#lastId;
    const common = { id, client, tenant: tenant.name, level, begin: performance.now(), end: undefined, attempts: 1 };
    const recorded = { operation: { ...common, kind: "read" as const, after, seen: undefined }, outcome: "in doubt" as Outcome, key: "" };
    tenant.recorded.push(recorded);
    return recorded;
  }

  #answered(
    read: Recorded & { operation: Read },
    memories: ReadonlyMap<string, readonly string[]>,
    counts: ReadonlyMap<string, number> = new Map(),
  ): Recorded {
    read.outcome = "ok";
    read.operation.end = performance.now();
    read.operation.seen = { memories, counts };
    return read;
  }

  #saw(client: string, tenant: Tenant, level: Level, begin: number, memories: ReadonlyMap<string, readonly string[]>): void {
    const read = this.#read(client, tenant, level, []);
    Object.assign(read.operation, { begin });
    this.#answered(read, memories);
  }

  async #call<T = unknown>(door: Door, operation: Operation, request: Request, key?: string): Promise<Called<T>> {
    const headers: Record<string, string> = { "x-tenant-id": operation.tenant, "x-consistency": operation.level };
    if (key !== undefined) headers["idempotency-key"] = key;
    if (request.token !== undefined && request.token !== "") headers["x-continuum-frontier"] = request.token;
    const begin = performance.now();
    try {
      const answer = await ask<T & Problem>(door.url, request.method, request.path, {
        headers,
        body: request.body,
        timeoutMs: this.#settings.timeoutMs,
      });
      if (answer.status === 200)
        this.timings.push({ node: door.name, at: begin, ms: performance.now() - begin, kind: operation.kind, level: operation.level });
      else this.#refused(door, operation, answer.status, answer.body);
      return { ...answer, nothingWritten: answer.status === 503 ? answer.body.code !== "in_doubt" : true };
    } catch (error) {
      const refused = (error as { cause?: { code?: string } }).cause?.code === "ECONNREFUSED";
      this.#tally(`${door.name} ${refused ? "nobody listens" : (error as Error).name === "TimeoutError" ? "timeout" : "connection lost"}`);
      return { status: 0, headers: new Headers(), body: undefined as T, nothingWritten: refused };
    }
  }

  #refused(door: Door, operation: Operation, status: number, problem: Problem | undefined): void {
    this.#tally(`${door.name} ${status} ${problem?.code}`);
    if ((status === 503 || status === 404) && problem?.code !== undefined) return;
    this.wrong.push(`${operation.kind} ${operation.id} at ${door.name}: ${status} ${problem?.code}: ${problem?.detail}`);
  }

  #tally(what: string): void {
    this.refusals[what] = (this.refusals[what] ?? 0) + 1;
  }
}

type Write =
  | { readonly kind: "put" | "edit"; readonly memory: string; readonly value: string }
  | { readonly kind: "bump"; readonly concepts: readonly [string, string] }
  | { readonly kind: "delete"; readonly memory: string };
interface Token {
  readonly tenant: string;
  /** The operation whose acknowledgement carried it. */
  readonly of: number;
  readonly value: string;
}
interface Request {
  readonly method: string;
  readonly path: string;
  readonly body?: unknown;
  readonly token?: string | undefined;
}
interface Called<T> {
  /** 0: no answer. */
  readonly status: number;
  readonly headers: Headers;
  readonly body: T;
  readonly nothingWritten: boolean;
}
interface MemoryAnswer {
  readonly id: string;
  readonly content: string;
  readonly conflicts?: { readonly content?: readonly string[] };
}

function requestOf(operation: Operation, tenant: Tenant): Request {
  switch (operation.kind) {
    case "put":
      return { method: "POST", path: "/v1/memories", body: { entity: "registry", content: `${operation.memory} holds ${operation.value}` } };
    case "edit":
      return {
        method: "PATCH",
        path: `/v1/memories/${tenant.ids.get(operation.memory)}`,
        body: { content: `${operation.memory} holds ${operation.value}` },
      };
    case "delete":
      return { method: "DELETE", path: `/v1/memories/${tenant.ids.get(operation.memory)}` };
    case "bump": {
      const [a, b] = operation.concepts;
      return {
        method: "POST",
        path: "/v1/learn",
        body: { user_message: `what lies between ${a} and ${b}?`, ai_response: "nothing that we know of." },
      };
    }
    default:
      throw new Error(`no client sends ${operation.kind}`);
  }
}

/** The visible value first, then those of concurrent edits. */
function valuesOf(memory: MemoryAnswer): string[] {
  return [memory.content, ...(memory.conflicts?.content ?? [])].map((content) => content.split(" ").at(-1)!);
}

function writeLevel(rng: Rng): Level {
  const dice = rng.float();
  return dice < 0.75 ? "quorum" : dice < 0.9 ? "one" : "all";
}

function readLevel(rng: Rng): Level {
  const dice = rng.float();
  return dice < 0.7 ? "quorum" : dice < 0.95 ? "one" : "all";
}
