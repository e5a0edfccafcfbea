/** What this layer refuses, as a closed list: `code` is the promise, the text is for people and never holds a secret. */
export type CryptoErrorCode =
  | "SECRET_SHORT" // under 16 characters
  | "SECRET_COUNT" // none, or more than 4
  | "SECRET_TWICE" // one secret listed twice
  | "BAD_LENGTH" // a key, nonce or sealed message of an impossible length
  | "UNKNOWN_KEY" // sealed under a secret that is not in the keyring
  | "NOT_AUTHENTIC"; // wrong key, other associated data, or changed bytes: the three cannot be told apart

export class CryptoError extends Error {
  readonly code: CryptoErrorCode;
  constructor(code: CryptoErrorCode, message: string) {
    super(message);
    this.name = "CryptoError";
    this.code = code;
  }
}
