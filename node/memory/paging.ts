/** Pages of an ordered list: by offset, or by a cursor that says after which item to go on, so that what is added or removed meanwhile moves nothing. */
import { compareHlc, type Hlc } from "../../protocol/clock.ts";
import { ApiError } from "../errors.ts";

export interface PageArgs {
  readonly limit: number;
  readonly offset?: number;
  readonly cursor?: string;
}

export interface Position {
  readonly at: Hlc;
  readonly id: string;
}

export interface Page<T> {
  readonly items: readonly T[];
  readonly next_cursor: string | null;
}

/** @param list newest first @throws ApiError bad_request for a cursor we did not give out */
export function pageOf<T>(list: readonly T[], positionOf: (item: T) => Position, { limit, offset = 0, cursor }: PageArgs): Page<T> {
  const start = cursor === undefined ? offset : firstAfter(list, positionOf, parseCursor(cursor));
  const items = list.slice(start, start + limit);
  const last = items.at(-1);
  return { items, next_cursor: last !== undefined && start + items.length < list.length ? cursorOf(positionOf(last)) : null };
}

/** Newest first. */
function firstAfter<T>(list: readonly T[], positionOf: (item: T) => Position, after: Position): number {
  let low = 0;
  let high = list.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (isAfter(positionOf(list[middle]!), after)) high = middle;
    else low = middle + 1;
  }
  return low;
}

function isAfter(item: Position, after: Position): boolean {
  const order = compareHlc(item.at, after.at);
  return order < 0 || (order === 0 && item.id < after.id);
}

function cursorOf({ at, id }: Position): string {
  return Buffer.from(JSON.stringify([at[0], at[1], id])).toString("base64url");
}

function parseCursor(cursor: string): Position {
  try {
    const [ms, count, id] = JSON.parse(Buffer.from(cursor, "base64url").toString()) as unknown[];
    if (typeof ms === "number" && typeof count === "number" && typeof id === "string") return { at: [ms, count], id };
  } catch {
    // Not JSON: refused below like any other text that is no cursor.
  }
  throw new ApiError("bad_request", "This cursor was not given out by this list. Leave it away to start from the beginning.");
}

/** A start or end of a time span. @throws ApiError validation_failed */
export function timeArgument(name: string, text: string | undefined, parse: (text: string) => number | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = parse(text);
  if (ms === undefined) {
    const msg = `${name} must be an ISO 8601 time`;
    throw new ApiError("validation_failed", `${msg}, for example 2026-01-31T12:00:00Z.`, { errors: [{ loc: [name], msg, type: "datetime" }] });
  }
  return ms;
}
