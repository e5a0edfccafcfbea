/**
 * What search needs to know of one turn or memory, in one stored row. Derived from the record alone, so every replica derives the same;
 * everything that depends on other records (document frequencies, neighbours in the session) is computed from these in RAM.
 */
import type { Hlc } from "../../protocol/clock.ts";
import { current } from "../../protocol/graph/editable.ts";
import { isVisible } from "../../protocol/graph/record.ts";
import type { GraphRecord, Memory, Turn } from "../../protocol/graph/records.ts";
import { instanceOf, timeOf } from "./metadata.ts";
import { fold, terms } from "./text.ts";

export interface Document {
  readonly kind: "turn" | "memory";
  readonly id: string;
  /** Orders a session: when it arrived, not when it is said to have happened. */
  readonly at: Hlc;
  /** When it happened, ms: the metadata's timestamp, else the arrival. */
  readonly time: number;
  /** Empty: none. */
  readonly session: string;
  readonly instance: string;
  /** Concept id of a memory's entity, empty for turns. */
  readonly entity: string;
  /** Ids of the concepts met in it, the entity included. */
  readonly concepts: readonly string[];
  readonly decisions: number;
  /** It ends by asking: what follows probably answers. */
  readonly asks: boolean;
  /** Terms of the body. */
  readonly length: number;
  /** Distinct terms; their weights are in `frequencies`, same order. */
  readonly terms: readonly string[];
  /** Occurrences in the body, and times TITLE_UNIT in the entity. */
  readonly frequencies: readonly number[];
}

/** Body occurrences are counted below it, title occurrences above it: one number holds both. */
export const TITLE_UNIT = 65_536;
const BODY_COUNT_MAX = TITLE_UNIT - 1;
const TITLE_COUNT_MAX = 1_000;

/** @returns undefined for what is not (or no longer) visible */
export function documentOf(id: string, record: GraphRecord | undefined): Document | undefined {
  if (record === undefined || !isVisible(record)) return undefined;
  if (record.kind === "memory") return documentOfMemory(id, record);
  return record.kind === "turn" ? documentOfTurn(id, record) : undefined;
}

function documentOfMemory(id: string, memory: Memory): Document {
  const entity = current(memory.entity);
  const content = current(memory.content);
  const metadata = current(memory.metadata);
  return {
    kind: "memory",
    id,
    at: memory.at,
    time: timeOf(metadata, memory.at),
    session: memory.session,
    instance: instanceOf(metadata, memory.node),
    entity: isName(fold(entity)) ? fold(entity) : "",
    concepts: current(memory.concepts).filter(isName),
    decisions: 0,
    asks: asksIn(content),
    ...weigh(content, entity),
  };
}

function documentOfTurn(id: string, turn: Turn): Document {
  return {
    kind: "turn",
    id,
    at: turn.at,
    time: timeOf(turn.metadata, turn.at),
    session: turn.session,
    instance: turn.instance,
    entity: "",
    concepts: turn.concepts.filter(isName),
    decisions: turn.decisions.length,
    asks: asksIn(turn.assistant),
    ...weigh(`${turn.user}\n${turn.assistant}`, ""),
  };
}

/** Names of ours have no control characters; what a peer's delta calls a name may have them, and would break the stored row apart. */
function isName(id: string): boolean {
  return !/[\u001e\u001f]/.test(id);
}

function asksIn(text: string): boolean {
  return /[?？؟]\s*$/.test(text.slice(-100));
}

function weigh(body: string, title: string): Pick<Document, "length" | "terms" | "frequencies"> {
  const counts = new Map<string, number>();
  const inBody = terms(body);
  for (const term of inBody) counts.set(term, Math.min(BODY_COUNT_MAX, (counts.get(term) ?? 0) + 1));
  if (title !== "") for (const term of terms(title).slice(0, TITLE_COUNT_MAX)) counts.set(term, (counts.get(term) ?? 0) + TITLE_UNIT);
  return { length: inBody.length, terms: [...counts.keys()], frequencies: [...counts.values()] };
}

// The stored row: fields by unit separator, list items by record separator, plain UTF-8. Terms and ids hold no control characters; free text is JSON.

const FORMAT = "1";
const FIELD = "\u001f";
const ITEM = "\u001e";

const encoder = new TextEncoder();
const decoder = new TextDecoder();

export function encodeDocument(document: Document): Uint8Array {
  const { terms: names, frequencies } = document;
  let packed = "";
  for (let i = 0; i < names.length; i++) {
    const frequency = frequencies[i]!;
    packed += (i > 0 ? ITEM : "") + (frequency === 1 ? names[i] : `${names[i]}:${frequency}`);
  }
  return encoder.encode(
    [
      FORMAT,
      document.kind,
      document.at[0],
      document.at[1],
      document.time,
      JSON.stringify(document.session),
      JSON.stringify(document.instance),
      document.entity,
      document.concepts.join(ITEM),
      document.decisions,
      document.asks ? 1 : 0,
      document.length,
      packed,
    ].join(FIELD),
  );
}

/** @throws Error for a format this version does not know: the index has to be built again from the records */
export function decodeDocument(id: string, bytes: Uint8Array): Document {
  const [format, kind, ms, count, time, session, instance, entity, concepts, decisions, asks, length, packed] = decoder
    .decode(bytes)
    .split(FIELD) as string[];
  if (format !== FORMAT || packed === undefined) throw new Error(`index row of ${id} has format ${format}, this version reads ${FORMAT}`);
  const names: string[] = [];
  const frequencies: number[] = [];
  for (const item of items(packed)) {
    const colon = item.indexOf(":");
    names.push(colon < 0 ? item : item.slice(0, colon));
    frequencies.push(colon < 0 ? 1 : Number(item.slice(colon + 1)));
  }
  return {
    kind: kind === "turn" ? "turn" : "memory",
    id,
    at: [Number(ms), Number(count)],
    time: Number(time),
    session: JSON.parse(session!) as string,
    instance: JSON.parse(instance!) as string,
    entity: entity!,
    concepts: items(concepts!),
    decisions: Number(decisions),
    asks: asks === "1",
    length: Number(length),
    terms: names,
    frequencies,
  };
}

function items(joined: string): string[] {
  return joined === "" ? [] : joined.split(ITEM);
}
