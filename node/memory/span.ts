/** A span of time and a session, as many lists filter by them. */
import { parseTime } from "./metadata.ts";
import { timeArgument } from "./paging.ts";
import type { Entry } from "./tenant-index.ts";

export interface SpanArgs {
  readonly since?: string;
  readonly until?: string;
  readonly session_id?: string;
}

/** Both ends included; an end given as a date takes the whole day. @throws ApiError validation_failed */
export function within({ since, until, session_id }: SpanArgs): (entry: Entry) => boolean {
  const from = timeArgument("since", since, parseTime) ?? Number.NEGATIVE_INFINITY;
  const to = timeArgument("until", until, endOf) ?? Number.POSITIVE_INFINITY;
  return ({ document }) => document.time >= from && document.time <= to && (session_id === undefined || document.session === session_id);
}

const DAY_MS = 86_400_000;

function endOf(text: string): number | undefined {
  const ms = parseTime(text);
  return ms !== undefined && /^\d{4}-\d{2}-\d{2}$/.test(text) ? ms + DAY_MS - 1 : ms;
}
