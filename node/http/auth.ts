/** Who is calling: an API key names the tenant. Where keys are off, everybody is an admin of the default tenant. */
import { timingSafeEqual } from "node:crypto";
import type { FastifyRequest } from "fastify";
import { isTenant, SYSTEM_TENANT } from "../../protocol/ids.ts";
import { hashOfKey } from "../api-key.ts";
import { ApiError } from "../errors.ts";
import { isUsable, type KeyFacts } from "../keys.ts";
import type { System } from "../ports.ts";
import type { Door } from "./door.ts";
import { fieldError } from "./problem.ts";

export interface Caller {
  readonly tenant: string;
  readonly admin: boolean;
  /** No majority confirmed that its key still holds: it is served at `one` only. */
  readonly unconfirmed?: true;
}
declare module "fastify" {
  interface FastifyRequest {
    caller: Caller;
  }
}

/** How long a look-up is believed, from its beginning: behind a barrier, so a revoked key stops within a second wherever a majority is reached. */
const CACHE_MS = 400;
/** A barrier that takes longer is not waited for where the key is known here. */
const CONFIRM_MS = 500;
/** Since the last barrier, a node that reaches no majority goes by what it knows of keys for so long, and no longer. */
const CUT_OFF_MS = 30_000;
/** A node that nobody asks with such a key looks for a majority this often, so that it knows since when it is cut off. */
const LOOK_MS = 10_000;
/** The hash of no key. */
const NOBODYS = "0".repeat(64);
const CACHE_ENTRIES_MAX = 10_000;
const KEY_MAX_CHARS = 256;

export interface AuthOptions {
  readonly door: Door;
  readonly system: System;
  readonly requireApiKey: boolean;
  /** Admin keys given by configuration. */
  readonly apiKeys: readonly string[];
  /** Of callers without a key and of admins who name none. */
  readonly tenant: string;
}

export class Auth {
  readonly #options: AuthOptions;
  readonly #configured: readonly Buffer[];
  readonly #admin: Caller;
  readonly #cache = new Map<string, Found & { readonly until: number }>();
  readonly #lookups = new Map<string, Promise<Found>>();
  #confirmedAt = Number.NEGATIVE_INFINITY;
  #cancelLook = (): void => undefined;

  constructor(options: AuthOptions) {
    this.#options = options;
    this.#configured = options.apiKeys.map((key) => Buffer.from(hashOfKey(key), "hex"));
    this.#admin = { tenant: options.tenant, admin: true };
  }

  start(): void {
    if (this.#options.requireApiKey) this.#look();
  }

  stop(): void {
    this.#cancelLook();
  }

  #look(): void {
    const { system } = this.#options;
    const begun = system.monotonic();
    if (begun - this.#confirmedAt >= LOOK_MS) this.#behindBarrier(this.#finder(NOBODYS, "confirm"), begun, begun + CONFIRM_MS).catch(() => undefined);
    this.#cancelLook = system.after(LOOK_MS, () => this.#look());
  }

  /** At once where it can be, so that the usual request awaits nothing. @throws ApiError 401, 403, 422, 503 */
  identify(request: FastifyRequest): Caller | Promise<Caller> {
    const key = presentedKey(request);
    if (key === undefined) {
      if (this.#options.requireApiKey) throw new ApiError("unauthorized", "Send an API key as X-API-Key, or as Authorization: Bearer.");
      return actingFor(this.#admin, request);
    }
    const digest = hashOfKey(key);
    if (this.#isConfigured(digest)) return actingFor(this.#admin, request);
    const cached = this.#cache.get(digest);
    if (cached !== undefined && cached.until > this.#options.system.monotonic()) return actingFor(this.#callerOf(cached), request);
    return this.#lookUp(digest, request.id).then((found) => actingFor(this.#callerOf(found), request));
  }

  /** Compares with every configured key, whatever the first ones gave. */
  #isConfigured(digest: string): boolean {
    if (this.#configured.length === 0) return false;
    const presented = Buffer.from(digest, "hex");
    let found = false;
    for (const known of this.#configured) found = timingSafeEqual(known, presented) || found;
    return found;
  }

  #callerOf({ facts, confirmed }: Found): Caller {
    if (facts !== null && isUsable(facts, this.#options.system.now()))
      return { tenant: facts.tenant_id, admin: facts.scope === "admin", ...(confirmed ? {} : { unconfirmed: true }) };
    // Clients of a development node send whatever key they have.
    if (facts === null && !this.#options.requireApiKey) return this.#admin;
    throw new ApiError(
      "unauthorized",
      facts === null ? "This API key is not known." : facts.revoked_at === null ? "This API key has expired." : "This API key has been revoked.",
    );
  }

  /** One look-up a key at a time, however many requests wait for it. */
  #lookUp(digest: string, requestId: string): Promise<Found> {
    const running = this.#lookups.get(digest);
    if (running !== undefined) return running;
    const lookup = this.#find(digest, requestId).finally(() => this.#lookups.delete(digest));
    this.#lookups.set(digest, lookup);
    return lookup;
  }

  async #find(digest: string, requestId: string): Promise<Found> {
    const { system, requireApiKey } = this.#options;
    const begun = system.monotonic();
    const find = this.#finder(digest, requestId);
    const found = requireApiKey ? await this.#confirm(find, begun) : { facts: await find("one"), confirmed: true };
    if (this.#cache.size >= CACHE_ENTRIES_MAX) this.#cache.clear();
    this.#cache.set(digest, { ...found, until: begun + CACHE_MS });
    return found;
  }

  #finder(digest: string, requestId: string): Find {
    const { door } = this.#options;
    return async (level, deadline = door.deadline()) => {
      const call = { tenant: SYSTEM_TENANT, level, key: "", token: undefined, requestId, deadline };
      return (await door.run<{ key: KeyFacts | null }>("find_key", { hash: digest }, call)).value.key;
    };
  }

  /** Behind a barrier; where none can be formed a key that is known here is believed, for a while. @throws ApiError 503 */
  async #confirm(find: Find, begun: number): Promise<Found> {
    try {
      return await this.#behindBarrier(find, begun, begun + CONFIRM_MS);
    } catch (error) {
      if (!(error instanceof ApiError) || error.status !== 503) throw error;
    }
    const facts = await find("one");
    // A key made a moment ago on another node may not be here yet, and one that was revoked may have been so for long.
    if (facts !== null && begun - this.#confirmedAt <= CUT_OFF_MS) return { facts, confirmed: false };
    return this.#behindBarrier(find, begun).catch((error: unknown) => Promise.reject(facts === null ? error : cutOff(error)));
  }

  async #behindBarrier(find: Find, begun: number, deadline?: number): Promise<Found> {
    const facts = await find("quorum", deadline);
    this.#confirmedAt = begun;
    return { facts, confirmed: true };
  }
}

function cutOff(error: unknown): unknown {
  if (!(error instanceof ApiError) || error.status !== 503) return error;
  const sentence = `This node has reached no majority for ${CUT_OFF_MS / 1000} s, so it cannot know whether your API key still holds.`;
  return new ApiError("no_quorum", sentence, { cause: error });
}

interface Found {
  readonly facts: KeyFacts | null;
  readonly confirmed: boolean;
}
type Find = (level: "one" | "quorum", deadline?: number) => Promise<KeyFacts | null>;

/** @throws ApiError 403 */
export function requireAdmin(request: FastifyRequest): void {
  if (!request.caller.admin) throw new ApiError("forbidden", "This needs an admin key.");
}

function presentedKey(request: FastifyRequest): string | undefined {
  const header = request.headers["x-api-key"];
  const bearer = request.headers.authorization;
  const key =
    typeof header === "string" && header !== "" ? header : bearer !== undefined && /^bearer /i.test(bearer) ? bearer.slice(7).trim() : undefined;
  if (key !== undefined && key.length > KEY_MAX_CHARS) throw new ApiError("unauthorized", "This API key is not known.");
  return key;
}

/** X-Tenant-ID: for admins; others may name only their own. */
function actingFor(caller: Caller, request: FastifyRequest): Caller {
  const tenant = request.headers["x-tenant-id"];
  if (tenant === undefined || tenant === caller.tenant) return caller;
  if (typeof tenant !== "string" || tenant === SYSTEM_TENANT || !isTenant(tenant)) {
    throw fieldError(["header", "x-tenant-id"], "is not a tenant's name (letters, digits and . _ : @ -)", "string_pattern_mismatch");
  }
  if (!caller.admin) throw new ApiError("forbidden", "This API key belongs to another tenant; only admin keys may name one.");
  return { ...caller, tenant };
}
