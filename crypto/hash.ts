import { hash, hkdfSync, timingSafeEqual } from "node:crypto";
import { DOMAINS, type DomainName } from "./domains.ts";

/** @returns 32 bytes */
export function sha256(bytes: Uint8Array | string): Uint8Array {
  const digest = hash("sha256", bytes, "buffer");
  return new Uint8Array(digest.buffer, digest.byteOffset, digest.length);
}

/** SHA-256 as 64 lower-case hex digits. */
export function sha256Hex(bytes: Uint8Array | string): string {
  return hash("sha256", bytes, "hex");
}

/** SHA-256 in base64url without padding, 43 characters. */
export function sha256Base64url(bytes: Uint8Array | string): string {
  return hash("sha256", bytes, "base64url");
}

/** HKDF-SHA256 (RFC 5869), extract and expand. @param length bytes, 1 to 8160 */
export function hkdfSha256(secret: Uint8Array, salt: Uint8Array | string, info: Uint8Array | string, length: number): Uint8Array {
  return new Uint8Array(hkdfSync("sha256", secret, salt, info, length));
}

/** Takes the same time wherever the bytes differ; only the lengths may show. */
export function equalConstantTime(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b);
}

/** RFC 4648 section 5, without padding. */
export function toBase64url(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString("base64url");
}

/** @returns undefined when the text is not exactly what toBase64url writes */
export function fromBase64url(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, "base64url");
  return bytes.toString("base64url") === text ? new Uint8Array(bytes) : undefined;
}

/** WriterId: base64url of the first 16 bytes of SHA-256 over (node, incarnation), 22 characters. The caller brands it. */
export function writerIdOf(node: string, incarnation: string): string {
  return shortHash("writerId", node, incarnation);
}

/** KeyHash: base64url of the first 16 bytes of SHA-256 over (tenant, Idempotency-Key), 22 characters. The caller brands it. */
export function keyHashOf(tenant: string, key: string): string {
  return shortHash("keyHash", tenant, key);
}

/** The length before the first part keeps ("ab", "c") and ("a", "bc") apart. */
function shortHash(domain: DomainName, first: string, second: string): string {
  return hash("sha256", `${DOMAINS[domain]}\n${first.length}:${first}${second}`, "buffer").toString("base64url", 0, 16);
}
