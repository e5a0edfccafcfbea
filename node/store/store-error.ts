export type StoreErrorCode =
  | "LOCKED" // another process has the directory open
  | "UNWRITABLE"
  | "NEWER_FORMAT"
  | "CORRUPT"
  | "FAILED"; // a write or fsync failed: nothing may be acknowledged any more

export class StoreError extends Error {
  readonly code: StoreErrorCode;
  constructor(code: StoreErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "StoreError";
    this.code = code;
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
