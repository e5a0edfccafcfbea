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
