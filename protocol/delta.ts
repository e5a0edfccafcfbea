/**
 * What one write changes. A delta is numbered in its stream (writer, partition) and chained: its header names the hash of the header before it
 * and the hash of its own body, so a stream cannot be reordered, cut or altered unseen, and bodies can be erased later while the chain stays whole.
 * Same content, same bytes, same hash.
 */
import { sha256Base64url } from "../crypto/hash.ts";
import type { Hlc } from "./clock.ts";
import { asArray, asCount, asText, asToken, countItems, decodeWire, encodeWire, type Wire } from "./codec.ts";
import { ProtocolError } from "./errors.ts";
import { asHlc, asMass, asPairs, asSaw, asShares, asTexts, sawToWire, sharesToWire } from "./graph/parts.ts";
import {
  CONCEPT_TYPES,
  type ConceptType,
  type EditFields,
  type Floor,
  LINK_JOIN,
  linkId,
  type MemoryBody,
  type Positions,
  type Share,
  type TurnBody,
} from "./graph/records.ts";
import { isTenant, type KeyHash, PARTITION_COUNT, type Partition, type WriterId } from "./ids.ts";
import { partitionOf } from "./layout.ts";
import {
  DELTA_BODY_MAX_BYTES,
  DELTA_ENTRIES_MAX,
  DELTA_HEADER_MAX_BYTES,
  FLOOR_STREAMS_MAX,
  FLOOR_TOMBSTONES_MAX,
  HLC_COUNT_MAX,
  HLC_MS_MAX,
  WIRE_ITEMS_MAX,
} from "./limits.ts";

/** Base64url of 32 bytes. */
export type HeaderHash = string;

export interface DeltaHeader {
  readonly writer: WriterId;
  readonly partition: Partition;
  /** 1, 2, 3 ... without a gap. */
  readonly seq: number;
  readonly previous: HeaderHash;
  readonly hlc: Hlc;
  readonly key: KeyHash;
  readonly bodyHash: string;
  /** What the writer had seen when this delta replaces or deletes something; empty otherwise. */
  readonly saw: Readonly<Record<WriterId, number>>;
}

export type Entry =
  | {
      readonly op: "concept";
      readonly id: string;
      readonly mass: number;
      readonly total: number;
      readonly name?: string;
      readonly type?: ConceptType;
      readonly description?: string;
    }
  | { readonly op: "link"; readonly a: string; readonly b: string; readonly mass: number; readonly total: number }
  | { readonly op: "turn"; readonly id: string; readonly turn: TurnBody }
  | { readonly op: "memory"; readonly id: string; readonly memory: MemoryBody }
  | { readonly op: "edit"; readonly id: string; readonly fields: EditFields }
  | { readonly op: "tombstone"; readonly of: "turn" | "memory"; readonly id: string; readonly keys: readonly KeyHash[] }
  | { readonly op: "forget-concept"; readonly id: string; readonly removed: Readonly<Record<WriterId, Share>> }
  | { readonly op: "forget-link"; readonly a: string; readonly b: string; readonly removed: Readonly<Record<WriterId, Share>> }
  | { readonly op: "register"; readonly id: string; readonly fields: Readonly<Record<string, string>> }
  | ({ readonly op: "floor" } & Floor);

export interface DeltaBody {
  readonly tenant: string;
  /** Hash of the request, so that a key reused for another request is noticed. */
  readonly fingerprint: string;
  /** JSON the client gets, also on a retry at another node. */
  readonly answer: string;
  readonly entries: readonly Entry[];
}

export interface Delta {
  readonly header: DeltaHeader;
  readonly headerBytes: Uint8Array;
  readonly hash: HeaderHash;
  readonly body: DeltaBody;
  readonly bodyBytes: Uint8Array;
}

/** What stands before the first delta of a stream. */
export function genesisHash(writer: WriterId, partition: Partition): HeaderHash {
  return hashOf(`continuum/stream/v1 ${writer} ${partition}`);
}

/** @throws ProtocolError TOO_LARGE when a request made more than one delta may hold */
export function buildDelta(header: Omit<DeltaHeader, "bodyHash">, body: DeltaBody): Delta {
  const rows: Wire = [body.tenant, body.fingerprint, body.answer, body.entries.map(entryToWire)];
  const bodyBytes = encodeWire(rows);
  // Whatever is numbered here must be read by everybody.
  if (bodyBytes.length > DELTA_BODY_MAX_BYTES || body.entries.length > DELTA_ENTRIES_MAX || countItems(rows) > WIRE_ITEMS_MAX) {
    throw new ProtocolError("TOO_LARGE", "a delta larger than its bound", { bytes: bodyBytes.length, entries: body.entries.length });
  }
  if (!isDeltaTime(header.hlc)) throw new ProtocolError("TOO_LARGE", "a clock value beyond its bound", { ms: header.hlc[0] });
  const full: DeltaHeader = { ...header, bodyHash: hashOf(bodyBytes) };
  const headerBytes = encodeWire([full.writer, full.partition, full.seq, full.previous, full.hlc, full.key, full.bodyHash, sawToWire(full.saw)]);
  if (headerBytes.length > DELTA_HEADER_MAX_BYTES)
    throw new ProtocolError("TOO_LARGE", "a delta header larger than its bound", { bytes: headerBytes.length });
  return { header: full, headerBytes, hash: hashOf(headerBytes), body, bodyBytes };
}

/** Parses and verifies: the body is the one the header names, its tenant lives in the partition. @throws ProtocolError MALFORMED, TOO_LARGE */
export function parseDelta(headerBytes: Uint8Array, bodyBytes: Uint8Array): Delta {
  const header = parseHeader(headerBytes);
  if (hashOf(bodyBytes) !== header.bodyHash) throw new ProtocolError("MALFORMED", "a body that is not the one its header names");
  const body = parseBody(bodyBytes);
  // P3: records are found by tenant. In a foreign partition what they become would depend on what else a member holds.
  if (partitionOf(body.tenant) !== header.partition)
    throw new ProtocolError("MALFORMED", "a tenant of another partition", { partition: header.partition });
  return { header, headerBytes, hash: hashOf(headerBytes), body, bodyBytes };
}

export function parseHeader(bytes: Uint8Array): DeltaHeader {
  const row = asArray(decodeWire(bytes, DELTA_HEADER_MAX_BYTES), "delta header", 8);
  const partition = asCount(row[1], "partition");
  const seq = asCount(row[2], "seq");
  if (partition > PARTITION_COUNT || seq < 1) throw new ProtocolError("MALFORMED", "no such stream position", { partition, seq });
  const hlc = asHlc(row[4]);
  // One that no clock could go on from would stop every clock that follows it (P4).
  if (!isDeltaTime(hlc)) throw new ProtocolError("MALFORMED", "a clock value beyond its bound", { ms: hlc[0] });
  return {
    writer: asToken<WriterId>(row[0], "writer"),
    partition: partition as Partition,
    seq,
    previous: asToken(row[3], "previous"),
    hlc,
    key: asToken<KeyHash>(row[5], "key"),
    bodyHash: asToken(row[6], "body hash"),
    saw: asSaw(row[7]),
  };
}

function isDeltaTime([ms, count]: Hlc): boolean {
  return ms <= HLC_MS_MAX && count <= HLC_COUNT_MAX;
}

export function hashOf(bytes: Uint8Array | string): string {
  return sha256Base64url(bytes);
}

export function parseBody(bytes: Uint8Array): DeltaBody {
  const row = asArray(decodeWire(bytes, DELTA_BODY_MAX_BYTES), "delta body", 4);
  const entries = asArray(row[3], "entries");
  const tenant = asText(row[0], "tenant");
  if (!isTenant(tenant)) throw new ProtocolError("MALFORMED", "no name of a tenant");
  if (entries.length > DELTA_ENTRIES_MAX) throw new ProtocolError("TOO_LARGE", "more entries than a delta may hold", { entries: entries.length });
  return {
    tenant,
    fingerprint: asText(row[1], "fingerprint"),
    answer: asText(row[2], "answer"),
    entries: entries.map(entryFromWire),
  };
}

function entryToWire(entry: Entry): Wire {
  switch (entry.op) {
    case "concept":
      return ["c", entry.id, entry.mass, entry.total, entry.name ?? null, entry.type ?? null, entry.description ?? null];
    case "link":
      return ["l", entry.a, entry.b, entry.mass, entry.total];
    case "turn": {
      const t = entry.turn;
      return ["t", entry.id, t.node, t.session, t.instance, t.user, t.assistant, t.thinking, t.metadata, t.concepts, t.decisions];
    }
    case "memory": {
      const m = entry.memory;
      return ["m", entry.id, m.node, m.session, m.entity, m.content, m.metadata, m.concepts];
    }
    case "edit": {
      const f = entry.fields;
      return ["e", entry.id, f.entity ?? null, f.content ?? null, f.metadata ?? null, f.concepts ?? null];
    }
    case "tombstone":
      return ["x", entry.of, entry.id, entry.keys];
    case "forget-concept":
      return ["fc", entry.id, sharesToWire(entry.removed)];
    case "forget-link":
      return ["fl", entry.a, entry.b, sharesToWire(entry.removed)];
    case "register":
      return ["g", entry.id, Object.entries(entry.fields).sort(([a], [b]) => (a < b ? -1 : 1))];
    case "floor":
      return ["fr", entry.frontier, entry.erase, entry.tombstones];
  }
}

/** Items of an entry: one more would be dropped in silence by whoever reads it. */
const ENTRY_ITEMS: Readonly<Record<string, number>> = { c: 7, l: 5, t: 11, m: 8, e: 6, x: 4, fc: 3, fl: 4, g: 3, fr: 4 };

function entryFromWire(wire: Wire): Entry {
  const kind = asText(asArray(wire, "entry")[0], "kind of entry", 8);
  if (!Object.hasOwn(ENTRY_ITEMS, kind)) throw new ProtocolError("MALFORMED", "unknown entry");
  const row = asArray(wire, "entry", ENTRY_ITEMS[kind]);
  const text = (at: number, what: string): string => asText(row[at], what);
  const optional = (at: number, what: string): string | undefined => (row[at] === null ? undefined : asText(row[at], what));
  switch (kind) {
    case "c": {
      const name = optional(4, "name");
      const type = optional(5, "type");
      const description = optional(6, "description");
      if (type !== undefined && !(CONCEPT_TYPES as readonly string[]).includes(type)) throw new ProtocolError("MALFORMED", "unknown type of concept");
      return {
        op: "concept",
        id: text(1, "id"),
        mass: asMass(row[2]),
        total: asMass(row[3]),
        ...(name !== undefined && { name }),
        ...(type !== undefined && { type: type as ConceptType }),
        ...(description !== undefined && { description }),
      };
    }
    case "l":
      return { op: "link", ...asEnds(row), mass: asMass(row[3]), total: asMass(row[4]) };
    case "t":
      return {
        op: "turn",
        id: text(1, "id"),
        turn: {
          node: text(2, "node"),
          session: text(3, "session"),
          instance: text(4, "instance"),
          user: text(5, "user"),
          assistant: text(6, "assistant"),
          thinking: text(7, "thinking"),
          metadata: text(8, "metadata"),
          concepts: asTexts(row[9]),
          decisions: asTexts(row[10]),
        },
      };
    case "m":
      return {
        op: "memory",
        id: text(1, "id"),
        memory: {
          node: text(2, "node"),
          session: text(3, "session"),
          entity: text(4, "entity"),
          content: text(5, "content"),
          metadata: text(6, "metadata"),
          concepts: asTexts(row[7]),
        },
      };
    case "e": {
      const entity = optional(2, "entity");
      const content = optional(3, "content");
      const metadata = optional(4, "metadata");
      return {
        op: "edit",
        id: text(1, "id"),
        fields: {
          ...(entity !== undefined && { entity }),
          ...(content !== undefined && { content }),
          ...(metadata !== undefined && { metadata }),
          ...(row[5] !== null && { concepts: asTexts(row[5]) }),
        },
      };
    }
    case "x": {
      const of = text(1, "of");
      if (of !== "turn" && of !== "memory") throw new ProtocolError("MALFORMED", "a tombstone of neither turn nor memory");
      return { op: "tombstone", of, id: text(2, "id"), keys: asTexts(row[3]) as readonly KeyHash[] };
    }
    case "fc":
      return { op: "forget-concept", id: text(1, "id"), removed: asShares(row[2]) };
    case "fl":
      return { op: "forget-link", ...asEnds(row), removed: asShares(row[3]) };
    case "g":
      return {
        op: "register",
        id: text(1, "id"),
        fields: Object.fromEntries(asPairs(row[2], "fields", 2).map(([field, value]) => [asText(field, "field"), asText(value, "value")])),
      };
    case "fr":
      return { op: "floor", ...asFloor(row) };
    default:
      throw new ProtocolError("MALFORMED", "unknown entry");
  }
}

/**
 * A link has no direction: written both ways round it would be one record with two spellings, and which one stays would depend on the order (P3). So it
 * would if an end held the character that joins the ends to an id; names of concepts have no control characters.
 */
function asEnds(row: readonly Wire[]): { readonly a: string; readonly b: string } {
  const [a, b] = [asText(row[1], "a"), asText(row[2], "b")];
  if (a > b || linkId(a, b).split(LINK_JOIN).length !== 2) throw new ProtocolError("MALFORMED", "ends of a link that are none");
  return { a, b };
}

function asFloor(row: readonly Wire[]): Floor {
  const frontier = asPositions(row[1]);
  const erase = asPositions(row[2]);
  const tombstones = asTexts(row[3]);
  if (tombstones.length > FLOOR_TOMBSTONES_MAX)
    throw new ProtocolError("TOO_LARGE", "more tombstones than a floor may name", { tombstones: tombstones.length });
  if (!tombstones.every((name, at) => TOMBSTONE_NAME.test(name) && (at === 0 || (tombstones[at - 1] as string) < name)))
    throw new ProtocolError("MALFORMED", "tombstones of a floor that are not names in order");
  const covered = new Map(frontier);
  if (erase.some(([writer, seq]) => (covered.get(writer) ?? 0) < seq))
    throw new ProtocolError("MALFORMED", "a floor that erases more than it covers");
  return { frontier, erase, tombstones };
}

const TOMBSTONE_NAME = /^(turn|memory)\/./;

function asPositions(wire: Wire | undefined): Positions {
  const rows = asArray(wire, "positions");
  if (rows.length > FLOOR_STREAMS_MAX) throw new ProtocolError("TOO_LARGE", "more streams than a floor may cover", { streams: rows.length });
  let last = "";
  return rows.map((row) => {
    const pair = asArray(row, "position", 2);
    const writer = asToken<WriterId>(pair[0], "writer");
    const seq = asCount(pair[1], "seq");
    if (writer <= last || seq < 1) throw new ProtocolError("MALFORMED", "positions that are not in order, each once, from 1");
    last = writer;
    return [writer, seq] as const;
  });
}
