/** All kinds in one table: how each merges, and its canonical bytes. Equal sets of deltas give equal records, equal records give equal bytes (P3). */
import type { Hlc } from "../clock.ts";
import { asArray, asCount, asFinite, asText, asToken, decodeWire, encodeWire, type Wire } from "../codec.ts";
import { ProtocolError } from "../errors.ts";
import type { KeyHash, WriterId } from "../ids.ts";
import { conceptIsVisible, mergeConcepts } from "./concept.ts";
import { linkIsVisible, mergeLinks } from "./link.ts";
import { memoryHasArrived, mergeMemories } from "./memory.ts";
import type { ConceptType, Counter, Dot, Editable, Execution, GraphRecord, Kind, Register, RegisterRecord, Share, Version } from "./records.ts";
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
  return fromWire(decodeWire(bytes, bytes.length));
}

function toWire(record: GraphRecord): Wire {
  switch (record.kind) {
    case "concept":
      return ["c", register(record.name), register(record.type), register(record.description), record.firstAt, counter(record.occurrences)];
    case "link":
      return ["l", record.a, record.b, counter(record.activations)];
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
        editable(record.entity),
        editable(record.content),
        editable(record.metadata),
        editable(record.concepts),
        record.keys,
      ];
    case "tombstone":
      return ["x", record.of, record.id, record.at, record.keys];
    case "register":
      return ["g", sortedEntries(record.fields).map(([field, value]) => [field, register(value)])];
  }
}

function fromWire(wire: Wire): GraphRecord {
  const row = asArray(wire, "record");
  switch (row[0]) {
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
        asArray(row[1], "fields").map((pair) => {
          const [field, value] = asArray(pair, "field", 2);
          return [asText(field, "field name"), asRegister(value)];
        }),
      );
      return { kind: "register", fields };
    }
    default:
      throw new ProtocolError("MALFORMED", "unknown kind of record");
  }
}

const sortedEntries = <T>(record: Readonly<Record<string, T>>): [string, T][] => Object.entries(record).sort(([a], [b]) => (a < b ? -1 : 1));

const register = (value: Register<string>): Wire => [value.value, value.hlc, value.writer];
function asRegister(wire: Wire | undefined): Register<string> {
  const [value, hlc, writer] = asArray(wire, "register", 3);
  return { value: asText(value, "value"), hlc: asHlc(hlc), writer: asText(writer, "writer") as WriterId };
}

const shares = (all: Readonly<Record<WriterId, Share>>): Wire =>
  sortedEntries(all).map(([writer, share]) => [writer, share.mass, share.hlc, share.seq]);
export const counter = (value: Counter): Wire => [
  shares(value.totals),
  shares(value.removed),
  sortedEntries(value.repeats).map(([key, all]) => [key, all.map(execution)]),
];
const execution = (value: Execution): Wire => [value.writer, value.seq, value.mass, value.hlc];

export const sharesToWire = shares;
export function asShares(wire: Wire | undefined): Record<WriterId, Share> {
  const out: Record<WriterId, Share> = {};
  for (const row of asArray(wire, "shares")) {
    const [writer, mass, hlc, seq] = asArray(row, "share", 4);
    out[asToken<WriterId>(writer, "writer")] = { mass: asFinite(mass, "mass"), hlc: asHlc(hlc), seq: asCount(seq, "seq") };
  }
  return out;
}

function asCounter(wire: Wire | undefined): Counter {
  const [totals, removed, repeats] = asArray(wire, "counter", 3);
  const out: Record<KeyHash, Execution[]> = {};
  for (const row of asArray(repeats, "repeats")) {
    const [key, all] = asArray(row, "repeat", 2);
    out[asToken<KeyHash>(key, "key")] = asArray(all, "executions").map((one) => {
      const [writer, seq, mass, hlc] = asArray(one, "execution", 4);
      return { writer: asToken<WriterId>(writer, "writer"), seq: asCount(seq, "seq"), mass: asFinite(mass, "mass"), hlc: asHlc(hlc) };
    });
  }
  return { totals: asShares(totals), removed: asShares(removed), repeats: out };
}

const editable = <T extends Wire>(field: Editable<T>): Wire =>
  field.map((version) => [version.value, version.hlc, version.writer, version.seq, sawToWire(version.saw), version.siblings]);
function asEditable<T>(wire: Wire | undefined, asValue: (value: Wire | undefined) => T): Editable<T> {
  return asArray(wire, "editable").map((row): Version<T> => {
    const [value, hlc, writer, seq, saw, siblings] = asArray(row, "version", 6);
    return {
      value: asValue(value),
      hlc: asHlc(hlc),
      writer: asToken<WriterId>(writer, "writer"),
      seq: asCount(seq, "seq"),
      saw: asSaw(saw),
      siblings: asDots(siblings),
    };
  });
}

function asDots(wire: Wire | undefined): readonly Dot[] {
  return asArray(wire, "dots").map((pair) => {
    const [writer, seq] = asArray(pair, "dot", 2);
    return [asToken<WriterId>(writer, "writer"), asCount(seq, "seq")];
  });
}

export function asSaw(wire: Wire | undefined): Record<WriterId, number> {
  const out: Record<WriterId, number> = {};
  for (const pair of asArray(wire, "saw")) {
    const [writer, seq] = asArray(pair, "saw entry", 2);
    out[asToken<WriterId>(writer, "writer")] = asCount(seq, "seq");
  }
  return out;
}
export const sawToWire = (saw: Readonly<Record<WriterId, number>>): Wire => sortedEntries(saw).map(([writer, seq]) => [writer, seq]);

export function asHlc(wire: Wire | undefined): Hlc {
  const [ms, count] = asArray(wire, "hlc", 2);
  return [asCount(ms, "ms"), asCount(count, "count")];
}
export function asTexts(wire: Wire | undefined): readonly string[] {
  return asArray(wire, "texts").map((text) => asText(text, "text"));
}
