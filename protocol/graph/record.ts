import { asArray, asText, asToken, decodeWire, encodeWire, type Wire } from "../codec.ts";
import { ProtocolError } from "../errors.ts";
import type { KeyHash, WriterId } from "../ids.ts";
import { conceptIsVisible, mergeConcepts } from "./concept.ts";
import { linkIsVisible, mergeLinks } from "./link.ts";
import { memoryHasArrived, mergeMemories } from "./memory.ts";
import { asCounter, asEditable, asHlc, asPairs, asRegister, asTexts, counterToWire, editableToWire, registerToWire, sortedEntries } from "./parts.ts";
import type { ConceptType, GraphRecord, Kind, Register, RegisterRecord } from "./records.ts";
import { mergeFields } from "./register.ts";
import { mergeTombstones } from "./tombstone.ts";
import { mergeTurns } from "./turn.ts";

/** The join of two states of one record. Both must be of one kind. */
export function mergeRecords<R extends GraphRecord>(a: R, b: R): R {
  return join(a, b) as R;
}

function join(a: GraphRecord, b: GraphRecord): GraphRecord {
  if (a.kind === "concept" && b.kind === "concept") return mergeConcepts(a, b);
  if (a.kind === "link" && b.kind === "link") return mergeLinks(a, b);
  if (a.kind === "turn" && b.kind === "turn") return mergeTurns(a, b);
  if (a.kind === "memory" && b.kind === "memory") return mergeMemories(a, b);
  if (a.kind === "tombstone" && b.kind === "tombstone") return mergeTombstones(a, b);
  if (a.kind === "register" && b.kind === "register") return { kind: "register", fields: mergeFields(a.fields, b.fields) };
  throw new ProtocolError("INVARIANT", "records of two kinds under one id", { a: a.kind, b: b.kind });
}

/** Whether readers see it. An invisible record is kept only to remember what was removed. */
export function isVisible(record: GraphRecord): boolean {
  if (record.kind === "concept") return conceptIsVisible(record);
  if (record.kind === "link") return linkIsVisible(record);
  if (record.kind === "memory") return memoryHasArrived(record);
  return true;
}

/** One letter a kind, also in LevelDB keys. Never reused. */
export const KIND_CODES: Readonly<Record<Kind, string>> = { concept: "c", link: "l", turn: "t", memory: "m", tombstone: "x", register: "g" };

/** @param reserve bytes left free in front */
export function encodeRecord(record: GraphRecord, reserve = 0): Uint8Array {
  return encodeWire(toWire(record), reserve);
}

/** Of stored bytes, never of a peer's: a record has no bound of its own, as concurrent edits of a long text are all kept. @throws ProtocolError MALFORMED */
export function decodeRecord(bytes: Uint8Array): GraphRecord {
  return fromWire(decodeWire(bytes, bytes.length, bytes.length));
}

function toWire(record: GraphRecord): Wire {
  switch (record.kind) {
    case "concept":
      return [
        "c",
        registerToWire(record.name),
        registerToWire(record.type),
        registerToWire(record.description),
        record.firstAt,
        counterToWire(record.occurrences),
      ];
    case "link":
      return ["l", record.a, record.b, counterToWire(record.activations)];
    case "turn":
      return [
        "t",
        record.at,
        record.writer,
        record.node,
        record.session,
        record.instance,
        record.user,
        record.assistant,
        record.thinking,
        record.metadata,
        record.concepts,
        record.decisions,
        record.keys,
      ];
    case "memory":
      return [
        "m",
        record.at,
        record.writer,
        record.node,
        record.session,
        editableToWire(record.entity),
        editableToWire(record.content),
        editableToWire(record.metadata),
        editableToWire(record.concepts),
        record.keys,
      ];
    case "tombstone":
      return ["x", record.of, record.id, record.at, record.keys];
    case "register":
      return ["g", sortedEntries(record.fields).map(([field, value]) => [field, registerToWire(value)])];
  }
}

const RECORD_ITEMS: Readonly<Record<string, number>> = { c: 6, l: 4, t: 13, m: 10, x: 5, g: 2 };

function fromWire(wire: Wire): GraphRecord {
  const kind = asText(asArray(wire, "record")[0], "kind of record", 1);
  const row = asArray(wire, "record", Object.hasOwn(RECORD_ITEMS, kind) ? RECORD_ITEMS[kind] : undefined);
  switch (kind) {
    case "c":
      return {
        kind: "concept",
        name: asRegister(row[1]),
        type: asRegister(row[2]) as Register<ConceptType>,
        description: asRegister(row[3]),
        firstAt: asHlc(row[4]),
        occurrences: asCounter(row[5]),
      };
    case "l":
      return { kind: "link", a: asText(row[1], "a"), b: asText(row[2], "b"), activations: asCounter(row[3]) };
    case "t":
      return {
        kind: "turn",
        at: asHlc(row[1]),
        writer: asToken<WriterId>(row[2], "writer"),
        node: asText(row[3], "node"),
        session: asText(row[4], "session"),
        instance: asText(row[5], "instance"),
        user: asText(row[6], "user"),
        assistant: asText(row[7], "assistant"),
        thinking: asText(row[8], "thinking"),
        metadata: asText(row[9], "metadata"),
        concepts: asTexts(row[10]),
        decisions: asTexts(row[11]),
        keys: asTexts(row[12]) as readonly KeyHash[],
      };
    case "m":
      return {
        kind: "memory",
        at: asHlc(row[1]),
        writer: asText(row[2], "writer") as WriterId,
        node: asText(row[3], "node"),
        session: asText(row[4], "session"),
        entity: asEditable(row[5], (value) => asText(value, "entity")),
        content: asEditable(row[6], (value) => asText(value, "content")),
        metadata: asEditable(row[7], (value) => asText(value, "metadata")),
        concepts: asEditable(row[8], asTexts),
        keys: asTexts(row[9]) as readonly KeyHash[],
      };
    case "x":
      return {
        kind: "tombstone",
        of: asText(row[1], "of") as "turn" | "memory",
        id: asText(row[2], "id"),
        at: asHlc(row[3]),
        keys: asTexts(row[4]) as readonly KeyHash[],
      };
    case "g": {
      const fields: RegisterRecord["fields"] = Object.fromEntries(
        asPairs(row[1], "fields", 2).map(([field, value]) => [asText(field, "field name"), asRegister(value)]),
      );
      return { kind: "register", fields };
    }
    default:
      throw new ProtocolError("MALFORMED", "unknown kind of record");
  }
}
