/** Metadata is a person's JSON object, kept as text. It is only ever parsed, read by own keys, and written again: a key "__proto__" is a key like any other. */
import type { Hlc } from "../../protocol/clock.ts";
import { METADATA_DEPTH_MAX } from "../../protocol/limits.ts";
import { parseObject } from "../json-object.ts";

export type Metadata = Readonly<Record<string, unknown>>;

export function metadataText(metadata: Metadata | undefined): string {
  return metadata === undefined ? "{}" : JSON.stringify(metadata);
}

/**
 * HTTP lets through objects only, and none too deep for recursive code; a peer's delta may say anything, is the same on every replica, and must not end
 * the process that reads it. Then it is no metadata.
 */
export function parseMetadata(text: string): Metadata {
  if (text === "{}" || text === "") return {};
  const value = parseObject(text);
  return value === undefined || isDeeperThan(value, METADATA_DEPTH_MAX) ? {} : value;
}

/** Stops at one level too many, so it never recurses far. */
export function isDeeperThan(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return false;
  return levels === 0 || Object.values(value).some((inner) => isDeeperThan(inner, levels - 1));
}

/** RFC 7396 on the top level: keys given are set, null takes away. */
export function patchedMetadata(text: string, patch: Metadata): string {
  const merged = new Map(Object.entries(parseMetadata(text)));
  for (const [key, value] of Object.entries(patch)) {
    if (value === null) merged.delete(key);
    else merged.set(key, value);
  }
  return JSON.stringify(Object.fromEntries(merged));
}

/** Empty: none. */
export function sessionOf(metadata: Metadata | undefined): string {
  return textUnder(metadata, "session_id") ?? "";
}

/** Who said it: the client's instance_id, else the node that stored it. */
export function instanceOf(metadata: string | Metadata | undefined, node: string): string {
  if (typeof metadata === "string") return metadata.includes('"instance_id"') ? instanceOf(parseMetadata(metadata), node) : node;
  return textUnder(metadata, "instance_id") || node;
}

/** When it happened, ms: the client's timestamp (ISO 8601, or seconds or milliseconds since the epoch), else the arrival. */
export function timeOf(metadata: string, at: Hlc): number {
  if (!metadata.includes('"timestamp"')) return at[0];
  return timeIn(parseMetadata(metadata)) ?? at[0];
}

function timeIn(metadata: Metadata): number | undefined {
  const value = own(metadata, "timestamp");
  if (typeof value === "number" && value > 0) return checkedTime(value < 1e11 ? value * 1000 : value);
  return typeof value === "string" ? parseTime(value) : undefined;
}

/** A time without a zone is UTC, a date without a time its first instant. @returns ms, undefined when it is no time */
export function parseTime(text: string): number | undefined {
  const bare = /^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d+)?)?$/.test(text);
  return checkedTime(Date.parse(bare ? `${text.replace(" ", "T")}Z` : text));
}

/** The range of Date: beyond it toISOString throws. */
function checkedTime(ms: number): number | undefined {
  return Number.isFinite(ms) && Math.abs(ms) <= 8.64e15 ? Math.trunc(ms) : undefined;
}

/** Every given key is there with an equal value. */
export function matchesMetadata(text: string, wanted: Metadata): boolean {
  const held = parseMetadata(text);
  return Object.entries(wanted).every(([key, value]) => Object.hasOwn(held, key) && canonical(held[key]) === canonical(value));
}

function canonical(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join()}]`;
  if (value === null || typeof value !== "object") return JSON.stringify(value) ?? "null";
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return `{${entries.map(([key, inner]) => `${JSON.stringify(key)}:${canonical(inner)}`).join()}}`;
}

function own(metadata: Metadata, key: string): unknown {
  return Object.hasOwn(metadata, key) ? metadata[key] : undefined;
}

function textUnder(metadata: Metadata | undefined, key: string): string | undefined {
  const value = metadata === undefined ? undefined : own(metadata, key);
  return typeof value === "string" ? value : undefined;
}
