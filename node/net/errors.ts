/** What this room refuses, as a closed list: `code` is the promise, the text is a sentence for a person. */
export type NetErrorCode =
  | "PORT_IN_USE"
  | "LISTEN_FAILED"
  | "BAD_ADDRESS" // not host:port, a DNS name or a multiaddr
  | "UNREACHABLE" // nobody answered at any of the addresses, or we are not admitted there
  | "ANOTHER_NODE" // somebody else than we wanted answers at an address
  | "FRAME_TOO_LARGE" // a frame above FRAME_MAX_BYTES was announced
  | "FRAME_MALFORMED" // an unknown kind of frame, a hello that is none, or frames before it
  | "REFUSED"; // the proof of the secret failed

export class NetError extends Error {
  readonly code: NetErrorCode;
  constructor(code: NetErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = "NetError";
    this.code = code;
  }
}
