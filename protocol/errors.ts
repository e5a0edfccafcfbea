/** What the protocol refuses, as a closed list: `code` is the promise, the text is for people. */
export type ProtocolErrorCode =
  | "EMPTY_GROUP"
  | "MALFORMED" // bytes that do not decode to the shape they claim
  | "TOO_LARGE" // a bound of limits.ts
  | "VERSION" // a protocol version we do not speak
  | "FOREIGN" // another federation, or not the sender we expect on this connection
  | "BROKEN_CHAIN" // a delta that does not follow what is held
  | "INVARIANT"; // ours is broken: the process must stop

export class ProtocolError extends Error {
  readonly code: ProtocolErrorCode;
  readonly facts: Readonly<Record<string, string | number | boolean>>;
  constructor(code: ProtocolErrorCode, message: string, facts: Readonly<Record<string, string | number | boolean>> = {}) {
    super(message);
    this.name = "ProtocolError";
    this.code = code;
    this.facts = facts;
  }
}
