import { createHash } from "node:crypto";

/** Of the materialised records of a partition, added in the order of their keys. */
export class Fingerprint {
  readonly #hash = createHash("sha256");

  add(key: Uint8Array, value: Uint8Array): void {
    this.#hash.update(`${key.length}:${value.length}:`).update(key).update(value);
  }

  digest(): string {
    return this.#hash.digest("hex");
  }
}
