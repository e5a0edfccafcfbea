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
 * | 14 | introduce | 2 | which start of mine this is, my wall clock, the ids of my secrets; first after hello |
 * | 15 | compare | 2 | what you told me before this start, and what I hold of your own streams |
 * | 16 | report | 2 | all heads I hold of what we share, under this layout version; from then on I count for you |
 * | 17 | vote | 2 | one message of consensus.ts: which layout follows this one |
 * | 18 | ready | 2 | partitions that are handed over, as far as I can see, under this layout version |
 * | 19 | snapshot-want | 2 | send me the partition as it is, from this key on |
 * | 20 | snapshot-part | 2 | rows of it, as of one moment |
 * | 21 | sealed-under | 2 | how many deltas I keep sealed under another secret than my first, by its id |
 */
import { asArray, asBytes, asCount, asText, asToken, type Wire } from "./codec.ts";
import { ProtocolError } from "./errors.ts";
import { asFrontier, asHeads, asPartition, frontierToWire, headsToWire, type StreamHead } from "./frontier.ts";
import { type FederationId, type Incarnation, PARTITION_COUNT, type Partition, type WriterId } from "./ids.ts";
import {
  DELTA_BODY_MAX_BYTES,
  HEADS_STREAMS_MAX,
  INTERVAL_DELTAS_MAX,
  NODE_NAME_MAX_CHARS,
  REPORT_PARTS_MAX,
  SECRET_ID_MAX_CHARS,
  SECRET_IDS_MAX,
  SNAPSHOT_ROWS_MAX,
  STORED_KEY_MAX_BYTES,
  ZONE_MAX_CHARS,
} from "./limits.ts";

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
  /** `marks`: seen as a witness, kept apart since version 2; without it `heads` are what the sender's role in each partition makes of them. */
  | { readonly type: "held"; readonly heads: readonly StreamHead[]; readonly marks?: readonly StreamHead[] }
  | { readonly type: "want"; readonly partition: Partition; readonly writer: WriterId; readonly from: number; readonly to: number }
  | {
      readonly type: "repair";
      readonly partition: Partition;
      readonly writer: WriterId;
      readonly to: number;
      readonly envelopes: readonly Envelope[];
    }
  | { readonly type: "ask"; readonly id: number; readonly partition: Partition; readonly frontier: readonly (readonly [WriterId, number])[] }
  | {
      readonly type: "told";
      readonly id: number;
      readonly partition: Partition;
      readonly heads: readonly StreamHead[];
      readonly marks?: readonly StreamHead[];
    }
  | { readonly type: "forward"; readonly id: number; readonly sealed: Uint8Array }
  | { readonly type: "forwarded"; readonly id: number; readonly sealed: Uint8Array }
  /** `wall`: the sender's clock, ms, since version 2. */
  | { readonly type: "digest"; readonly digest: string; readonly reply: boolean; readonly wall?: number }
  | { readonly type: "refused"; readonly code: string; readonly detail: string }
  | { readonly type: "introduce"; readonly start: StartId; readonly wall: number; readonly secrets: readonly string[] }
  | {
      readonly type: "compare";
      /** 0 .. parts - 1; each stands alone, and nothing speaks against the sender's disk once all have come. */
      readonly part: number;
      readonly parts: number;
      /** The newest start of yours I was told of; null: none. */
      readonly start: StartId | null;
      /** The layout version under which you told me the rest. */
      readonly layoutVersion: number;
      readonly heads: readonly StreamHead[];
      readonly marks: readonly StreamHead[];
      /** Of your own streams, what is on my disk. */
      readonly own: readonly StreamHead[];
    }
  | {
      readonly type: "report";
      readonly id: number;
      /** 0 .. parts - 1. It counts once all parts have come. */
      readonly part: number;
      readonly parts: number;
      readonly heads: readonly StreamHead[];
      readonly marks: readonly KeptMark[];
      /** All partitions whose rows here are not what was written: what is said of them was acknowledged, and counts for nothing until a report leaves them out. */
      readonly damaged: readonly Partition[];
    }
  | { readonly type: "vote"; readonly bytes: Uint8Array }
  | { readonly type: "ready"; readonly partitions: readonly Partition[] }
  /** `id`: chosen by who asks, for all parts of one snapshot. `after`: the last key that arrived, empty at the beginning. */
  | { readonly type: "snapshot-want"; readonly partition: Partition; readonly id: number; readonly after: Uint8Array }
  | {
      readonly type: "snapshot-part";
      readonly partition: Partition;
      readonly id: number;
      readonly frontier: readonly StreamHead[];
      readonly rows: readonly (readonly [key: Uint8Array, value: Uint8Array])[];
      readonly last: boolean;
      readonly refused: SnapshotRefusal;
    }
  /** As a witness; empty: nothing is. */
  | { readonly type: "sealed-under"; readonly others: readonly (readonly [secret: string, deltas: number])[] };

/** "": not refused. busy: ask again later. gone: begin again. not_held: ask somebody else. */
export type SnapshotRefusal = "" | "busy" | "gone" | "not_held";
const SNAPSHOT_REFUSALS: readonly SnapshotRefusal[] = ["", "busy", "gone", "not_held"];

/** One start of a node's program on one data folder: how many there have been, and 32 hex digits drawn at this one. */
export interface StartId {
  readonly count: number;
  readonly id: string;
}

/** A witness's mark, and the first number whose sealed bytes it still has: all up to the mark are kept from there on. */
export interface KeptMark extends StreamHead {
  readonly keptFrom: number;
}

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
  introduce: 14,
  compare: 15,
  report: 16,
  vote: 17,
  ready: 18,
  "snapshot-want": 19,
  "snapshot-part": 20,
  "sealed-under": 21,
};

/** Messages that a peer of protocol version 1 does not know. */
export const SINCE_VERSION_2: ReadonlySet<MessageType> = new Set(
  (Object.keys(MESSAGE_NUMBERS) as MessageType[]).filter((type) => MESSAGE_NUMBERS[type] >= MESSAGE_NUMBERS.introduce),
);

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
      return message.marks === undefined ? [no, headsToWire(message.heads)] : [no, headsToWire(message.heads), headsToWire(message.marks)];
    case "want":
      return [no, message.partition, message.writer, message.from, message.to];
    case "repair":
      return [no, message.partition, message.writer, message.to, envelopes(message.envelopes)];
    case "ask":
      return [no, message.id, message.partition, frontierToWire(message.frontier)];
    case "told":
      return message.marks === undefined
        ? [no, message.id, message.partition, headsToWire(message.heads)]
        : [no, message.id, message.partition, headsToWire(message.heads), headsToWire(message.marks)];
    case "forward":
    case "forwarded":
      return [no, message.id, message.sealed];
    case "digest":
      return message.wall === undefined ? [no, message.digest, message.reply] : [no, message.digest, message.reply, message.wall];
    case "refused":
      return [no, message.code, message.detail];
    case "introduce":
      return [no, startToWire(message.start), message.wall, message.secrets];
    case "compare":
      return [
        no,
        message.part,
        message.parts,
        message.start === null ? null : startToWire(message.start),
        message.layoutVersion,
        headsToWire(message.heads),
        headsToWire(message.marks),
        headsToWire(message.own),
      ];
    case "report":
      return [
        no,
        message.id,
        message.part,
        message.parts,
        headsToWire(message.heads),
        message.marks.map((mark) => [mark.partition, mark.writer, mark.seq, mark.hash, mark.keptFrom]),
        message.damaged,
      ];
    case "vote":
      return [no, message.bytes];
    case "ready":
      return [no, message.partitions];
    case "snapshot-want":
      return [no, message.partition, message.id, message.after];
    case "snapshot-part":
      return [
        no,
        message.partition,
        message.id,
        headsToWire(message.frontier),
        message.rows.map(([key, value]) => [key, value]),
        message.last,
        SNAPSHOT_REFUSALS.indexOf(message.refused),
      ];
    case "sealed-under":
      return [no, message.others.map(([secret, deltas]) => [secret, deltas])];
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
      sized(row, 2, 3);
      return { type: "held", heads: asHeads(row[1], HEADS_STREAMS_MAX), ...marksAt(row, 2) };
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
      sized(row, 4, 5);
      return {
        type: "told",
        id: asCount(row[1], "id"),
        partition: asPartition(row[2]),
        heads: asHeads(row[3], HEADS_STREAMS_MAX),
        ...marksAt(row, 4),
      };
    case 10:
      sized(row, 3);
      return { type: "forward", id: asCount(row[1], "id"), sealed: asBytes(row[2], "sealed") };
    case 11:
      sized(row, 3);
      return { type: "forwarded", id: asCount(row[1], "id"), sealed: asBytes(row[2], "sealed") };
    case 12:
      sized(row, 3, 4);
      return {
        type: "digest",
        digest: asToken(row[1], "digest"),
        reply: row[2] === true,
        ...(row[3] !== undefined && { wall: asCount(row[3], "wall") }),
      };
    case 13:
      sized(row, 3);
      return { type: "refused", code: asText(row[1], "code", 64), detail: asText(row[2], "detail", 1024) };
    case 14: {
      sized(row, 4);
      const secrets = asArray(row[3], "secrets");
      if (secrets.length > SECRET_IDS_MAX) throw new ProtocolError("TOO_LARGE", "more secrets than a node may have", { secrets: secrets.length });
      return {
        type: "introduce",
        start: asStart(row[1]),
        wall: asCount(row[2], "wall"),
        secrets: secrets.map((secret) => asText(secret, "secret id", SECRET_ID_MAX_CHARS)),
      };
    }
    case 15:
      sized(row, 8);
      return {
        type: "compare",
        ...asParts(row[1], row[2]),
        start: row[3] === null ? null : asStart(row[3]),
        layoutVersion: asCount(row[4], "layout version"),
        heads: asHeads(row[5], HEADS_STREAMS_MAX),
        marks: asHeads(row[6], HEADS_STREAMS_MAX),
        own: asHeads(row[7], HEADS_STREAMS_MAX),
      };
    case 16:
      sized(row, 7);
      return {
        type: "report",
        id: asCount(row[1], "id"),
        ...asParts(row[2], row[3]),
        heads: asHeads(row[4], HEADS_STREAMS_MAX),
        marks: asKeptMarks(row[5]),
        damaged: asPartitions(row[6]),
      };
    case 17:
      sized(row, 2);
      return { type: "vote", bytes: asBytes(row[1], "vote") };
    case 18:
      sized(row, 2);
      return { type: "ready", partitions: asPartitions(row[1]) };
    case 19:
      sized(row, 4);
      return { type: "snapshot-want", partition: asPartition(row[1]), id: asCount(row[2], "id"), after: asKey(row[3]) };
    case 20: {
      sized(row, 7);
      const rows = asArray(row[4], "rows");
      if (rows.length > SNAPSHOT_ROWS_MAX) throw new ProtocolError("TOO_LARGE", "more rows than one part may carry", { rows: rows.length });
      const refused = SNAPSHOT_REFUSALS[asCount(row[6], "refusal")];
      if (refused === undefined) throw new ProtocolError("MALFORMED", "no such refusal of a snapshot");
      return {
        type: "snapshot-part",
        partition: asPartition(row[1]),
        id: asCount(row[2], "id"),
        frontier: asHeads(row[3], HEADS_STREAMS_MAX),
        rows: rows.map((pair) => {
          const [key, value] = asArray(pair, "row", 2);
          return [asKey(key), asBytes(value, "value")] as const;
        }),
        last: row[5] === true,
        refused,
      };
    }
    case 21: {
      sized(row, 2);
      const others = asArray(row[1], "secrets");
      if (others.length > SECRET_IDS_MAX) throw new ProtocolError("TOO_LARGE", "more secrets than a node may have", { secrets: others.length });
      return {
        type: "sealed-under",
        others: others.map((pair) => {
          const [secret, deltas] = asArray(pair, "secret", 2);
          return [asText(secret, "secret id", SECRET_ID_MAX_CHARS), asCount(deltas, "deltas")] as const;
        }),
      };
    }
    default:
      throw new ProtocolError("VERSION", "a message of a number we do not know", { number: typeof row[0] === "number" ? row[0] : -1 });
  }
}

/** @param also the length with the fields of a later version */
function sized(row: readonly Wire[], length: number, also = length): void {
  if (row.length !== length && row.length !== also)
    throw new ProtocolError("MALFORMED", "a message of another shape than its number says", { length: row.length });
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

const startToWire = (start: StartId): Wire => [start.count, start.id];

function asStart(wire: Wire | undefined): StartId {
  const [count, id] = asArray(wire, "start", 2);
  if (typeof id !== "string" || !/^[0-9a-f]{32}$/.test(id)) throw new ProtocolError("MALFORMED", "no id of a start");
  return { count: asCount(count, "count"), id };
}

function asParts(atPart: Wire | undefined, ofParts: Wire | undefined): { part: number; parts: number } {
  const [part, parts] = [asCount(atPart, "part"), asCount(ofParts, "parts")];
  if (parts < 1 || parts > REPORT_PARTS_MAX || part >= parts) throw new ProtocolError("TOO_LARGE", "a list in too many parts", { part, parts });
  return { part, parts };
}

function asPartitions(wire: Wire | undefined): Partition[] {
  const partitions = asArray(wire, "partitions");
  if (partitions.length > PARTITION_COUNT + 1)
    throw new ProtocolError("TOO_LARGE", "more partitions than there are", { partitions: partitions.length });
  return partitions.map(asPartition);
}

function asKeptMarks(wire: Wire | undefined): KeptMark[] {
  const rows = asArray(wire, "marks");
  const marks = asHeads(
    rows.map((row) => asArray(row, "mark", 5).slice(0, 4)),
    HEADS_STREAMS_MAX,
  );
  return marks.map((mark, at) => ({ ...mark, keptFrom: asCount((rows[at] as readonly Wire[])[4], "kept from") }));
}

function marksAt(row: readonly Wire[], at: number): { marks?: StreamHead[] } {
  return row[at] === undefined ? {} : { marks: asHeads(row[at], HEADS_STREAMS_MAX) };
}

function asKey(wire: Wire | undefined): Uint8Array {
  const key = asBytes(wire, "key");
  if (key.length > STORED_KEY_MAX_BYTES) throw new ProtocolError("TOO_LARGE", "a key longer than any of ours", { bytes: key.length });
  return key;
}
