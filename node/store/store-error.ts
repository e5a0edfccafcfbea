import type { Partition } from "../../protocol/ids.ts";

export type StoreErrorCode =
  | "LOCKED" // another process has the directory open
  | "UNWRITABLE"
  | "NEWER_FORMAT"
  | "CORRUPT"
  | "FAILED"; // a write or fsync failed: nothing may be acknowledged any more

/** Whose rows are not what was written. */
export interface Place {
  readonly partition: Partition;
  readonly holding: "replica" | "witness";
}

export class StoreError extends Error {
  readonly code: StoreErrorCode;
  /** With CORRUPT: the copy of a partition that the row belongs to, which can be taken again from another replica. Undefined: it is no copy's. */
  readonly place: Place | undefined;
  constructor(code: StoreErrorCode, message: string, cause?: unknown, place?: Place) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "StoreError";
    this.code = code;
    this.place = place;
  }
}

export type CopyErrorCode =
  | "WRONG" // the snapshot is not whole, or not of the partition
  | "BEHIND" // it lacks something that is held here
  | "ABANDONED"; // the copy was given up while a part of it was on its way

/** A peer's snapshot cannot take the place of what is held. The store itself is well. */
export class CopyError extends Error {
  readonly code: CopyErrorCode;
  constructor(code: CopyErrorCode, message: string) {
    super(message);
    this.name = "CopyError";
    this.code = code;
  }
}
