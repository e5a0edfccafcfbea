/**
 * Names of things, branded so that one cannot be passed for another. All are plain strings on the wire.
 * A writer is (node, incarnation): a node that lost its disk is the same node and a new writer, so a number is never used twice (P4).
 */
import { TENANT_MAX_CHARS } from "./limits.ts";

declare const brand: unique symbol;
type Branded<T, Name extends string> = T & { readonly [brand]: Name };

/** The libp2p peer id of a node on the federation port (base58, "12D3Koo..."): the connection proves it. */
export type NodeId = Branded<string, "NodeId">;
/** 128 random bits born with a LevelDB directory, 32 lower-case hex digits. */
export type Incarnation = Branded<string, "Incarnation">;
/** Base64url of the first 16 bytes of SHA-256 over (node, incarnation): 22 characters. */
export type WriterId = Branded<string, "WriterId">;
/** 128 random bits chosen with layout 1, 32 lower-case hex digits. */
export type FederationId = Branded<string, "FederationId">;
/** Base64url of the first 16 bytes of SHA-256 over (tenant, Idempotency-Key): 22 characters. */
export type KeyHash = Branded<string, "KeyHash">;
/** 0..255 hold tenants, 256 is the system partition. */
export type Partition = Branded<number, "Partition">;

export type Level = "one" | "quorum" | "all";
export const LEVELS: readonly Level[] = ["one", "quorum", "all"];

export const PARTITION_COUNT = 256;
/** Tenants, key hashes and settings: every member is a full replica of it. */
export const SYSTEM_PARTITION = 256 as Partition;
/** The name under which the records of the system partition are stored; no tenant can have it. */
export const SYSTEM_TENANT = "!system";

/** What a tenant may be called: no "/", which separates the parts of a stored key, so that no tenant's name can reach into another's records. */
export const TENANT_PATTERN = "^[A-Za-z0-9][A-Za-z0-9._:@-]*$";
const TENANT = new RegExp(TENANT_PATTERN);

export function isTenant(name: string): boolean {
  return name === SYSTEM_TENANT || (name.length <= TENANT_MAX_CHARS && TENANT.test(name));
}
