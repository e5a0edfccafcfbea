/** Frontier tokens (X-Continuum-Frontier): which streams an answer rested on, so that a later read at `one` can wait for them. */
import { fromBase64url, toBase64url } from "../crypto/hash.ts";
import { asArray, asText, decodeWire, encodeWire } from "../protocol/codec.ts";
import { asFrontier, asPartition, frontierToWire } from "../protocol/frontier.ts";
import type { FederationId, Partition, WriterId } from "../protocol/ids.ts";
import { ApiError } from "./errors.ts";

const TOKEN_MAX_BYTES = 16 * 1024;

export function encodeToken(federation: FederationId, partition: Partition, frontier: Iterable<readonly [WriterId, number]>): string {
  return toBase64url(encodeWire([federation, partition, frontierToWire(frontier)]));
}

/** @returns the streams to wait for; none when the token is of another federation or partition. @throws ApiError bad_request */
export function decodeToken(token: string, federation: FederationId, partition: Partition): [WriterId, number][] {
  const bytes = fromBase64url(token);
  try {
    const [of, at, frontier] = asArray(decodeWire(bytes ?? new Uint8Array(), TOKEN_MAX_BYTES), "token", 3);
    const streams = asFrontier(frontier);
    return asText(of, "federation") === federation && asPartition(at) === partition ? streams : [];
  } catch {
    throw new ApiError("bad_request", "X-Continuum-Frontier is not a token of ours: send back exactly what an earlier answer carried, or nothing.");
  }
}
