/**
 * A message with who says it, for which federation, in which version and under which layout: `[1, federation, writer, layout version, message]`, and since
 * version 2 `[2, federation, writer, layout version, layout tag, message]`.
 * Opening checks size, then version, then shape, then federation and sender, and opens every delta inside; the result is the only thing a replica accepts
 * from outside, so verifying cannot be forgotten. The connection (node/net) proves the sender's node id and the secret, and keeps order.
 */
import { writerIdOf } from "../crypto/hash.ts";
import type { Keyring } from "../crypto/keyring.ts";
import { asArray, asCount, asText, asToken, decodeWire, encodeWire } from "./codec.ts";
import type { Delta } from "./delta.ts";
import { openEnvelope } from "./envelope.ts";
import { ProtocolError } from "./errors.ts";
import type { FederationId, NodeId, WriterId } from "./ids.ts";
import { LAYOUT_TAG_CHARS } from "./layout.ts";
import { FRAME_MAX_BYTES } from "./limits.ts";
import { type Envelope, type Message, messageFromWire, messageToWire, SINCE_VERSION_2 } from "./message.ts";
import { PROTOCOL_VERSION, PROTOCOL_VERSION_MIN } from "./version.ts";

export interface FrameHeader {
  readonly federation: FederationId | null;
  readonly writer: WriterId;
  readonly layoutVersion: number;
  /** The first 16 hex digits of the layout's hash, "" without one. Undefined: a frame of version 1. */
  readonly layoutTag?: string | undefined;
}

/** A delta that was opened and parsed, with the envelope it came in (a witness keeps that). */
export interface OpenedDelta {
  readonly delta: Delta;
  readonly envelope: Envelope;
}

declare const verified: unique symbol;
export interface VerifiedMessage {
  readonly [verified]: true;
  readonly from: NodeId;
  readonly header: FrameHeader;
  readonly message: Message;
  /** Of push and repair; empty otherwise. */
  readonly deltas: readonly OpenedDelta[];
}

export interface Expectation {
  /** The node that the connection proved. */
  readonly from: NodeId;
  /** Its writer, known since its hello; undefined before. */
  readonly writer: WriterId | undefined;
  /** Ours; null while no layout is known. */
  readonly federation: FederationId | null;
  readonly keyring: Keyring;
}

export function encodeFrame(header: FrameHeader, message: Message): Uint8Array {
  const { federation, writer, layoutVersion, layoutTag } = header;
  if (layoutTag === undefined) return encodeWire([1, federation, writer, layoutVersion, messageToWire(message)]);
  return encodeWire([2, federation, writer, layoutVersion, layoutTag, messageToWire(message)]);
}

/** @throws ProtocolError TOO_LARGE, VERSION, MALFORMED, FOREIGN */
export function openFrame(bytes: Uint8Array, expected: Expectation): VerifiedMessage {
  const version = refuseOtherVersions(bytes);
  const row = asArray(decodeWire(bytes, FRAME_MAX_BYTES), "frame", version === 1 ? 5 : 6);
  const federation = row[1] === null ? null : asToken<FederationId>(row[1], "federation");
  const header: FrameHeader = {
    federation,
    writer: asToken<WriterId>(row[2], "writer"),
    layoutVersion: asCount(row[3], "layout version"),
    layoutTag: version === 1 ? undefined : asText(row[4], "layout tag", LAYOUT_TAG_CHARS),
  };
  const message = messageFromWire(row[version === 1 ? 4 : 5] as Parameters<typeof messageFromWire>[0]);
  if (version === 1 && SINCE_VERSION_2.has(message.type)) throw new ProtocolError("VERSION", "a message of version 2 in a frame of version 1");
  const writer = message.type === "hello" ? (writerIdOf(expected.from, message.incarnation) as WriterId) : expected.writer;
  if (writer !== header.writer) throw new ProtocolError("FOREIGN", "a frame whose sender is not the one its hello named");
  const deltas: OpenedDelta[] = [];
  if (message.type === "push" || message.type === "repair") {
    if (federation === null || federation !== expected.federation) throw new ProtocolError("FOREIGN", "deltas of another federation");
    for (const envelope of message.envelopes) deltas.push({ envelope, delta: openEnvelope(envelope, expected.keyring, federation) });
  }
  return { from: expected.from, header, message, deltas } as unknown as VerifiedMessage;
}

/** Looked at before anything is decoded: what comes behind a later version may not be in our alphabet. A frame is an array whose first item is its version. */
function refuseOtherVersions(bytes: Uint8Array): number {
  if (bytes.length > FRAME_MAX_BYTES) throw new ProtocolError("TOO_LARGE", "a frame over its bound", { size: bytes.length, bound: FRAME_MAX_BYTES });
  const [array, head] = bytes;
  if (array === undefined || head === undefined || array >> 5 !== 4) throw new ProtocolError("MALFORMED", "not a frame");
  const length = head < 24 ? 1 : head === 24 ? 2 : head === 25 ? 3 : 0;
  const version = length === 0 ? undefined : decodeWire(bytes.subarray(1, 1 + length), FRAME_MAX_BYTES);
  if (typeof version !== "number") throw new ProtocolError("MALFORMED", "a frame without a version");
  if (version < PROTOCOL_VERSION_MIN || version > PROTOCOL_VERSION)
    throw new ProtocolError("VERSION", "a protocol version we do not speak", { version });
  return version;
}
