/**
 * API keys and tenants, as operations over two records of the system partition: `keys` has one field a key, named by the SHA-256 of the key in
 * hex, and `tenants` one field a tenant; each field is JSON text, last writer wins. A key itself is never stored. Run with
 * `call.tenant = SYSTEM_TENANT`.
 */
import { ApiError } from "./errors.ts";
import { parseObject } from "./json-object.ts";
import type { DecideContext, GraphReader, Operations, ReadContext, ReadOperation, WriteOperation } from "./ports.ts";

export const KEYS_RECORD = "keys";
export const TENANTS_RECORD = "tenants";

export type KeyScope = "tenant" | "admin";

/** What is known of a key. Times ISO 8601 UTC. */
export interface KeyFacts {
  readonly id: string;
  readonly tenant_id: string;
  readonly name: string;
  readonly scope: KeyScope;
  readonly created_at: string;
  readonly expires_at: string | null;
  readonly revoked_at: string | null;
}
export interface TenantFacts {
  readonly id: string;
  readonly created_at: string;
  /** Keys that are neither revoked nor expired. */
  readonly keys: number;
}

export interface CreateKeyArgs {
  /** SHA-256 of the new key, hex. */
  readonly hash: string;
  readonly tenant_id: string;
  readonly name: string;
  readonly scope: KeyScope;
  readonly expires_at: string | null;
}
/** `hash` is the one stored: a retry of an earlier request finds the hash of the key that was shown then. */
export type CreateKeyAnswer = KeyFacts & { readonly hash: string };

const createKey: WriteOperation<CreateKeyArgs, CreateKeyAnswer> = {
  type: "write",
  decide(args, context) {
    const facts: KeyFacts = {
      id: keyId(args.hash),
      tenant_id: args.tenant_id,
      name: args.name,
      scope: args.scope,
      created_at: time(context),
      expires_at: args.expires_at,
      revoked_at: null,
    };
    const register = { op: "register", id: KEYS_RECORD, fields: { [args.hash]: JSON.stringify(facts) } } as const;
    const known = field(context.reader, TENANTS_RECORD, args.tenant_id) !== undefined;
    const tenant = { op: "register", id: TENANTS_RECORD, fields: { [args.tenant_id]: JSON.stringify({ created_at: time(context) }) } } as const;
    return { contributions: known ? [register] : [register, tenant], answer: { ...facts, hash: args.hash } };
  },
};

const revokeKey: WriteOperation<{ readonly id: string }, { readonly id: string; readonly status: "revoked" }> = {
  type: "write",
  decide({ id }, context) {
    const found = allKeys(context.reader).find(([, facts]) => facts.id === id);
    if (found === undefined) throw new ApiError("not_found", `There is no API key ${id}.`);
    const [hash, facts] = found;
    const answer = { id, status: "revoked" } as const;
    if (facts.revoked_at !== null) return { contributions: [], answer };
    const revoked: KeyFacts = { ...facts, revoked_at: time(context) };
    return { contributions: [{ op: "register", id: KEYS_RECORD, fields: { [hash]: JSON.stringify(revoked) } }], answer };
  },
};

const findKey: ReadOperation<{ readonly hash: string }, { readonly key: KeyFacts | null }> = {
  type: "read",
  answer({ hash }, { reader }) {
    const text = field(reader, KEYS_RECORD, hash);
    return { key: text === undefined ? null : (factsOf(text) ?? null) };
  },
};

const listKeys: ReadOperation<unknown, { readonly keys: readonly KeyFacts[]; readonly total: number }> = {
  type: "read",
  answer(_args, { reader }) {
    const keys = allKeys(reader)
      .map(([, facts]) => facts)
      .sort((a, b) => byTime(b, a));
    return { keys, total: keys.length };
  },
};

const listTenants: ReadOperation<unknown, { readonly tenants: readonly TenantFacts[]; readonly total: number }> = {
  type: "read",
  answer(_args, { reader, now }) {
    const keys = allKeys(reader).map(([, facts]) => facts);
    const usable = (tenant: string): number => keys.filter((facts) => facts.tenant_id === tenant && isUsable(facts, now)).length;
    const tenants = fields(reader, TENANTS_RECORD)
      .flatMap(([id, text]) => {
        const created_at = parseObject(text)?.created_at;
        return typeof created_at === "string" ? [{ id, created_at, keys: usable(id) }] : [];
      })
      .sort(byTime);
    return { tenants, total: tenants.length };
  },
};

/** Merged with the memory's operations by the node. */
export const keyOperations: Operations = {
  create_key: createKey,
  revoke_key: revokeKey,
  find_key: findKey,
  list_keys: listKeys,
  list_tenants: listTenants,
};

/** Short enough to type, long enough not to collide: 16 hex digits of the hash. */
export function keyId(hash: string): string {
  return `key_${hash.slice(0, 16)}`;
}

/** @param now wall clock, ms */
export function isUsable(facts: KeyFacts, now: number): boolean {
  return facts.revoked_at === null && (facts.expires_at === null || Date.parse(facts.expires_at) > now);
}

function allKeys(reader: GraphReader): [hash: string, facts: KeyFacts][] {
  return fields(reader, KEYS_RECORD).flatMap(([hash, text]): [string, KeyFacts][] => {
    const facts = factsOf(text);
    return facts === undefined ? [] : [[hash, facts]];
  });
}

/** Undefined: no facts of a key, and so no key. A peer's delta may have written anything. */
function factsOf(text: string): KeyFacts | undefined {
  const said = parseObject(text);
  if (said === undefined) return undefined;
  const { id, tenant_id, name, scope, created_at, expires_at, revoked_at } = said;
  const areTexts = [id, tenant_id, name, created_at, expires_at ?? "", revoked_at ?? ""].every((field) => typeof field === "string");
  return areTexts && (scope === "tenant" || scope === "admin") ? (said as unknown as KeyFacts) : undefined;
}

function fields(reader: GraphReader, record: string): [name: string, text: string][] {
  return Object.entries(reader.register(record)?.fields ?? {}).map(([name, register]) => [name, register.value]);
}

function field(reader: GraphReader, record: string, name: string): string | undefined {
  const found = reader.register(record)?.fields;
  return found !== undefined && Object.hasOwn(found, name) ? found[name]?.value : undefined;
}

function byTime(a: { readonly created_at: string; readonly id: string }, b: { readonly created_at: string; readonly id: string }): number {
  return a.created_at < b.created_at ? -1 : a.created_at > b.created_at ? 1 : a.id < b.id ? -1 : 1;
}

function time(context: DecideContext | ReadContext): string {
  return new Date(context.now).toISOString();
}
