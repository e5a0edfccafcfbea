/**
 * The closed list of messages between nodes. Numbers are never reused; a removed one stays in the table with a note. `protocol/README.md` explains
 * each; `test/vectors/messages.json` holds their golden bytes.
 *
 * | no | name | since | carries |
 * | -- | ---- | ----- | ------- |
 * | 1 | hello | 1 | who I am, which federation and layout I know; the first frame each way |
 * | 2 | formation | 1 | one message of formation.ts |
 * | 3 | layout | 1 | the layout I hold, for whoever holds none or an older one |
 * | 4 | push | 1 | deltas, live from their writer, in stream order |
 * | 5 | held | 1 | stream heads I hold after fsync: acknowledgement, news and report in one |
 * | 6 | want | 1 | send me this interval of a stream |
 * | 7 | repair | 1 | deltas asked for; `to` is how far the sender holds the stream |
 * | 8 | ask | 1 | read barrier: which frontier do you hold (mine is attached; pull what you lack) |
 * | 9 | told | 1 | its answer |
 * | 10 | forward | 1 | a client's request for a replica of its partition, sealed |
 * | 11 | forwarded | 1 | its answer, sealed |
 * | 12 | digest | 1 | hash of all heads I hold of what we share; `reply` asks for all of them when it differs |
 * | 13 | refused | 1 | why I do not talk to you: a stable code and facts |
 */
import { asArray, asBytes, asCount, asText, asToken, type Wire } from "./codec.ts";
import { ProtocolError } from "./errors.ts";
import { asFrontier, asHeads, asPartition, frontierToWire, headsToWire, type StreamHead } from "./frontier.ts";
import type { FederationId, Incarnation, Partition, WriterId } from "./ids.ts";
import { DELTA_BODY_MAX_BYTES, HEADS_STREAMS_MAX, INTERVAL_DELTAS_MAX, NODE_NAME_MAX_CHARS, ZONE_MAX_CHARS } from "./limits.ts";

/** A delta on the wire: header readable (it is associated data), body sealed once by its writer or by whoever repairs from its log. */
export interface Envelope {
  readonly headerBytes: Uint8Array;
  readonly sealedBody: Uint8Array;
}

export type Message =
  | {
      readonly type: "hello";
      readonly versionMin: number;
      readonly versionMax: number;
      /** Null until a layout is known. */
      readonly federation: FederationId | null;
      readonly name: string;
      readonly incarnation: Incarnation;
      readonly zone: string;
      readonly layoutVersion: number;
    }
  | { readonly type: "formation"; readonly bytes: Uint8Array }
  | { readonly type: "layout"; readonly bytes: Uint8Array }
  | { readonly type: "push"; readonly envelopes: readonly Envelope[] }
  | { readonly type: "held"; readonly heads: readonly StreamHead[] }
  | { readonly type: "want"; readonly partition: Partition; readonly writer: WriterId; readonly from: number; readonly to: number }
  | {
      readonly type: "repair";
      readonly partition: Partition;
      readonly writer: WriterId;
      readonly to: number;
      readonly envelopes: readonly Envelope[];
    }
  | { readonly type: "ask"; readonly id: number; readonly partition: Partition; readonly frontier: readonly (readonly [WriterId, number])[] }
  | { readonly type: "told"; readonly id: number; readonly partition: Partition; readonly heads: readonly StreamHead[] }
  | { readonly type: "forward"; readonly id: number; readonly sealed: Uint8Array }
  | { readonly type: "forwarded"; readonly id: number; readonly sealed: Uint8Array }
  | { readonly type: "digest"; readonly digest: string; readonly reply: boolean }
  | { readonly type: "refused"; readonly code: string; readonly detail: string };

export type MessageType = Message["type"];
export type MessageOf<T extends MessageType> = Extract<Message, { type: T }>;

export const MESSAGE_NUMBERS: Readonly<Record<MessageType, number>> = {
  hello: 1,
  formation: 2,
  layout: 3,
  push: 4,
  held: 5,
  want: 6,
  repair: 7,
  ask: 8,
  told: 9,
  forward: 10,
  forwarded: 11,
  digest: 12,
  refused: 13,
};

export function messageToWire(message: Message): Wire {
  const no = MESSAGE_NUMBERS[message.type];
  switch (message.type) {
    case "hello":
      return [no, message.versionMin, message.versionMax, message.federation, message.name, message.incarnation, message.zone, message.layoutVersion];
    case "formation":
    case "layout":
      return [no, message.bytes];
    case "push":
      return [no, envelopes(message.envelopes)];
    case "held":
      return [no, headsToWire(message.heads)];
    case "want":
      return [no, message.partition, message.writer, message.from, message.to];
    case "repair":
      return [no, message.partition, message.writer, message.to, envelopes(message.envelopes)];
    case "ask":
      return [no, message.id, message.partition, frontierToWire(message.frontier)];
    case "told":
      return [no, message.id, message.partition, headsToWire(message.heads)];
    case "forward":
    case "forwarded":
      return [no, message.id, message.sealed];
    case "digest":
      return [no, message.digest, message.reply];
    case "refused":
      return [no, message.code, message.detail];
  }
}

/** @throws ProtocolError MALFORMED, TOO_LARGE, VERSION */
export function messageFromWire(wire: Wire): Message {
  const row = asArray(wire, "message");
  switch (row[0]) {
    case 1: {
      sized(row, 8);
      const federation = row[3] === null ? null : asToken<FederationId>(row[3], "federation");
      return {
        type: "hello",
        versionMin: asCount(row[1], "version"),
        versionMax: asCount(row[2], "version"),
        federation,
        name: asText(row[4], "name", NODE_NAME_MAX_CHARS),
        incarnation: asToken<Incarnation>(row[5], "incarnation"),
        zone: asText(row[6], "zone", ZONE_MAX_CHARS),
        layoutVersion: asCount(row[7], "layout version"),
      };
    }
    case 2:
      sized(row, 2);
      return { type: "formation", bytes: asBytes(row[1], "formation") };
    case 3:
      sized(row, 2);
      return { type: "layout", bytes: asBytes(row[1], "layout") };
    case 4:
      sized(row, 2);
      return { type: "push", envelopes: asEnvelopes(row[1]) };
    case 5:
      sized(row, 2);
      return { type: "held", heads: asHeads(row[1], HEADS_STREAMS_MAX) };
    case 6:
      sized(row, 5);
      return {
        type: "want",
        partition: asPartition(row[1]),
        writer: asToken<WriterId>(row[2], "writer"),
        from: asCount(row[3], "from"),
        to: asCount(row[4], "to"),
      };
    case 7:
      sized(row, 5);
      return {
        type: "repair",
        partition: asPartition(row[1]),
        writer: asToken<WriterId>(row[2], "writer"),
        to: asCount(row[3], "to"),
        envelopes: asEnvelopes(row[4]),
      };
    case 8:
      sized(row, 4);
      return { type: "ask", id: asCount(row[1], "id"), partition: asPartition(row[2]), frontier: asFrontier(row[3]) };
    case 9:
      sized(row, 4);
      return { type: "told", id: asCount(row[1], "id"), partition: asPartition(row[2]), heads: asHeads(row[3], HEADS_STREAMS_MAX) };
    case 10:
      sized(row, 3);
      return { type: "forward", id: asCount(row[1], "id"), sealed: asBytes(row[2], "sealed") };
    case 11:
      sized(row, 3);
      return { type: "forwarded", id: asCount(row[1], "id"), sealed: asBytes(row[2], "sealed") };
    case 12:
      sized(row, 3);
      return { type: "digest", digest: asToken(row[1], "digest"), reply: row[2] === true };
    case 13:
      sized(row, 3);
      return { type: "refused", code: asText(row[1], "code", 64), detail: asText(row[2], "detail", 1024) };
    default:
      throw new ProtocolError("VERSION", "a message of a number we do not know", { number: typeof row[0] === "number" ? row[0] : -1 });
  }
}

function sized(row: readonly Wire[], length: number): void {
  if (row.length !== length) throw new ProtocolError("MALFORMED", "a message of another shape than its number says", { length: row.length });
}

const envelopes = (all: readonly Envelope[]): Wire => all.map((one) => [one.headerBytes, one.sealedBody]);

function asEnvelopes(wire: Wire | undefined): Envelope[] {
  const rows = asArray(wire, "envelopes");
  if (rows.length > INTERVAL_DELTAS_MAX) throw new ProtocolError("TOO_LARGE", "more deltas than one message may carry", { deltas: rows.length });
  return rows.map((row) => {
    const [headerBytes, sealedBody] = asArray(row, "envelope", 2);
    const sealed = asBytes(sealedBody, "sealed body");
    if (sealed.length > DELTA_BODY_MAX_BYTES + 1024) throw new ProtocolError("TOO_LARGE", "a sealed body over its bound", { bytes: sealed.length });
    return { headerBytes: asBytes(headerBytes, "header"), sealedBody: sealed };
  });
}
