import { DOMAINS, KEY_NAMES, type KeyName } from "./domains.ts";
import { CryptoError } from "./errors.ts";
import { hkdfSha256 } from "./hash.ts";

/** Below this a secret can be guessed: a proof recorded by an impostor can be tried against a dictionary at leisure. */
export const SECRET_MIN_CHARS = 16;
/** A rotation needs two; four leave room for one that went wrong. */
export const SECRETS_MAX = 4;
/** Bytes of a secret's public id, in front of everything sealed. */
export const SECRET_ID_BYTES = 4;

/** What console.log and util.inspect ask for; node:util itself stays outside this layer. */
const INSPECT = Symbol.for("nodejs.util.inspect.custom");

/** The keys of one federation's secrets. Index 0 seals, all open. Shows ids when printed, never a key. */
export interface Keyring {
  readonly count: number;
  /** Public names of the secrets, 8 lower-case hex digits each, in order. */
  readonly ids: readonly string[];
  /** 32 bytes; not a copy, do not write into it. @param index which secret, 0 to count - 1; default the one that seals */
  key(name: KeyName, index?: number): Uint8Array;
  /** The public id as SECRET_ID_BYTES bytes. */
  idBytes(index?: number): Uint8Array;
  /** Which secret has this id in the first bytes of `sealed`; -1 when none. */
  find(sealed: Uint8Array): number;
}

/**
 * @param secrets 1 to 4 texts of at least 16 characters: the first seals and admits new members, all open
 * @throws CryptoError SECRET_COUNT, SECRET_SHORT, SECRET_TWICE
 */
export function createKeyring(secrets: readonly string[]): Keyring {
  if (secrets.length < 1 || secrets.length > SECRETS_MAX) {
    throw new CryptoError("SECRET_COUNT", `A federation has 1 to ${SECRETS_MAX} secrets at a time, not ${secrets.length}.`);
  }
  secrets.forEach(refuseShort);
  const ring = new SecretKeyring(secrets);
  if (new Set(ring.ids).size !== ring.count) throw new CryptoError("SECRET_TWICE", "One of the federation's secrets is listed twice.");
  return ring;
}

function refuseShort(secret: string, index: number, all: readonly string[]): void {
  if ([...secret].length >= SECRET_MIN_CHARS) return;
  const which = all.length > 1 ? ` (number ${index + 1} of ${all.length})` : "";
  throw new CryptoError(
    "SECRET_SHORT",
    `The federation secret${which} is shorter than ${SECRET_MIN_CHARS} characters and could be guessed. Make one with: openssl rand -base64 32`,
  );
}

class SecretKeyring implements Keyring {
  readonly ids: readonly string[];
  readonly #keys: readonly Readonly<Record<KeyName, Uint8Array>>[];
  readonly #idBytes: readonly Uint8Array[];

  constructor(secrets: readonly string[]) {
    const materials = secrets.map((secret) => new TextEncoder().encode(secret.normalize("NFC")));
    this.#keys = materials.map(keysOf);
    this.#idBytes = materials.map((material) => hkdfSha256(material, DOMAINS.keyring, DOMAINS.secretId, SECRET_ID_BYTES));
    this.ids = this.#idBytes.map((id) => Buffer.from(id).toString("hex"));
  }

  get count(): number {
    return this.ids.length;
  }

  key(name: KeyName, index = 0): Uint8Array {
    return this.#keys[index]![name];
  }

  idBytes(index = 0): Uint8Array {
    return this.#idBytes[index]!;
  }

  find(sealed: Uint8Array): number {
    // Ids are public, so they are compared as they come.
    return this.#idBytes.findIndex((id) => id[0] === sealed[0] && id[1] === sealed[1] && id[2] === sealed[2] && id[3] === sealed[3]);
  }

  toString(): string {
    return `Keyring(${this.ids.join(", ")})`;
  }

  toJSON(): object {
    return { ids: this.ids };
  }

  [INSPECT](): string {
    return this.toString();
  }
}

function keysOf(material: Uint8Array): Record<KeyName, Uint8Array> {
  const derived = KEY_NAMES.map((name) => [name, hkdfSha256(material, DOMAINS.keyring, DOMAINS[name], 32)] as const);
  return Object.fromEntries(derived) as Record<KeyName, Uint8Array>;
}
