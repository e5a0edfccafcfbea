/** Why a node did not start: one sentence for the person who started it, and a stable code. Nothing was harmed. */
export type StartErrorCode =
  | "PORT_IN_USE"
  | "DATA_LOCKED"
  | "DATA_UNWRITABLE"
  | "DATA_NEWER"
  | "DATA_CORRUPT"
  | "BAD_SECRET"
  | "NO_SECRET" // the data folder belongs to a federation
  | "FAILED";

export class StartError extends Error {
  readonly code: StartErrorCode;
  constructor(code: StartErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "StartError";
    this.code = code;
  }
}
