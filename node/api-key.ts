/** The text of an API key, and what is stored of it. */
import { hash } from "node:crypto";

/** "cm_" and 43 url-safe characters: 256 random bits, so that a plain hash of it is enough to store. */
export function newApiKey(randomBytes: (length: number) => Uint8Array): string {
  return `cm_${Buffer.from(randomBytes(32)).toString("base64url")}`;
}

/** SHA-256, hex. */
export function hashOfKey(key: string): string {
  return hash("sha256", key, "hex");
}
