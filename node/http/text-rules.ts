/** What a schema cannot say about texts, metadata and times. */
import { ENTITY_MAX_CHARS, METADATA_DEPTH_MAX, METADATA_MAX_BYTES } from "../../protocol/limits.ts";
import { fieldError } from "./problem.ts";

type Loc = readonly (string | number)[];

/** @returns the metadata, undefined for none. @throws ApiError 422: too deep, too large, or a session that could be no id */
export function checkMetadata(metadata: Record<string, unknown> | null | undefined, loc: Loc): Record<string, unknown> | undefined {
  if (metadata === undefined || metadata === null) return undefined;
  if (depthOf(metadata, 0) > METADATA_DEPTH_MAX) throw fieldError(loc, `is nested deeper than ${METADATA_DEPTH_MAX} levels`, "too_deep");
  if (Buffer.byteLength(JSON.stringify(metadata)) > METADATA_MAX_BYTES)
    throw fieldError(loc, `is larger than ${METADATA_MAX_BYTES} bytes`, "too_long");
  for (const name of ["session_id", "instance_id"]) {
    const value = metadata[name];
    if (typeof value !== "string") continue;
    if (value.length > ENTITY_MAX_CHARS) throw fieldError([...loc, name], `is longer than ${ENTITY_MAX_CHARS} characters`, "string_too_long");
    if (!isName(value)) throw fieldError([...loc, name], "has characters that are not allowed here", "string_pattern_mismatch");
  }
  return metadata;
}

/** Stops at one level too many, so it never recurses far. */
function depthOf(value: unknown, above: number): number {
  if (typeof value !== "object" || value === null) return above;
  let deepest = above + 1;
  if (deepest > METADATA_DEPTH_MAX) return deepest;
  for (const inner of Object.values(value)) {
    deepest = Math.max(deepest, depthOf(inner, above + 1));
    if (deepest > METADATA_DEPTH_MAX) break;
  }
  return deepest;
}

/** No control characters and no half surrogates. */
export function isName(text: string): boolean {
  return text.isWellFormed() && !/[\u0000-\u001f\u007f]/.test(text);
}

/** Half surrogates (text cut in the middle of an emoji) become U+FFFD, as UTF-8 would make them: a turn is not lost for that. */
export function cleanText(text: string): string {
  return text.toWellFormed();
}

/**
 * A time as clients write it: a date, or a date and time with or without a zone (then UTC).
 * @returns ISO 8601 UTC, undefined for none. @throws ApiError 422
 */
export function checkTime(text: string | null | undefined, loc: Loc): string | undefined {
  if (text === undefined || text === null || text === "") return undefined;
  const match = /^(\d{4}-\d{2}-\d{2})(?:[T ](\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?)\s?(Z|[+-]\d{2}:?\d{2})?)?$/i.exec(text);
  const at =
    match === null
      ? Number.NaN
      : Date.parse(`${match[1]}T${match[2] ?? "00:00"}${(match[3] ?? "Z").toUpperCase().replace(/^([+-]\d{2})(\d{2})$/, "$1:$2")}`);
  if (Number.isNaN(at)) throw fieldError(loc, "must be a time such as 2026-11-21 or 2026-11-21T12:00:00Z", "datetime_parsing");
  return new Date(at).toISOString();
}

/** Leaves out what is null or undefined: an operation sees only what was asked for. */
export function given<T extends Record<string, unknown>>(args: T): { [Key in keyof T]: Exclude<T[Key], null | undefined> } {
  const kept: Record<string, unknown> = {};
  for (const name in args) if (args[name] !== undefined && args[name] !== null) kept[name] = args[name];
  return kept as { [Key in keyof T]: Exclude<T[Key], null | undefined> };
}
