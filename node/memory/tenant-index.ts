/**
 * One tenant's search structures in RAM: postings with document frequencies, the graph of documents and entities, sessions in order, lists in order.
 * A pure function of the set of documents, concepts and links put in: the order of arrival changes nothing that a reader can see.
 */
import { compareHlc, type Hlc } from "../../protocol/clock.ts";
import type { ConceptType } from "../../protocol/graph/records.ts";
import { type Document, TITLE_UNIT } from "./document.ts";
import { entityKeys } from "./entity-keys.ts";
import { SortedList } from "./sorted-list.ts";

/** Where a term or an entity occurs: slots ascending, what it weighs there beside them. */
export interface Posting {
  readonly name: string;
  /** Dense among the terms or among the entities of the tenant; given again when nothing bears the name any more. */
  readonly number: number;
  readonly slots: number[];
  /** Terms: Document.frequencies. Entities: 1 where it is the title, else 0. */
  readonly weights: number[];
}

export interface Entry {
  readonly document: Document;
  readonly slot: number;
  readonly terms: readonly Posting[];
  readonly entities: readonly Posting[];
  /** Neighbours in the session. */
  previous: Entry | undefined;
  next: Entry | undefined;
}

export interface Session {
  readonly id: string;
  /** Dense number while the tenant is loaded. */
  readonly number: number;
  readonly entries: SortedList<Entry>;
  /** Sum of the lengths of its documents. */
  length: number;
}

export interface ConceptEntry {
  readonly id: string;
  readonly name: string;
  readonly type: ConceptType;
  readonly firstAt: Hlc;
}

/** Turn `t` takes the words of the one before at this weight when that one asked, else at the second; of the one before that at the third. */
export const CONTEXT_WEIGHTS = { afterQuestion: 1, afterStatement: 0.4, second: 0.5 } as const;

export function byArrival(a: Entry, b: Entry): number {
  return compareHlc(a.document.at, b.document.at) || (a.document.id < b.document.id ? -1 : a.document.id > b.document.id ? 1 : 0);
}

function byFirstMet(a: ConceptEntry, b: ConceptEntry): number {
  return compareHlc(a.firstAt, b.firstAt) || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}

export class TenantIndex {
  readonly terms = new Map<string, Posting>();
  readonly entities = new Map<string, Posting>();
  readonly #termNumbers = new Numbers();
  readonly #entityNumbers = new Numbers();
  readonly sessions = new Map<string, Session>();
  readonly memories = new SortedList<Entry>(byArrival);
  readonly turns = new SortedList<Entry>(byArrival);
  /** Turns of each instance, for message numbers. */
  readonly instances = new Map<string, SortedList<Entry>>();
  readonly concepts = new SortedList<ConceptEntry>(byFirstMet);
  readonly neighbours = new Map<string, Set<string>>();
  #slots: (Entry | undefined)[] = [];
  readonly #byId = new Map<string, Entry>();
  readonly #conceptsById = new Map<string, ConceptEntry>();
  readonly #compounds = new Set<string>();
  #sessionNumbers = 0;
  #decisions = 0;
  #links = 0;
  #length = 0;
  #lengthWithContext = 0;

  get documents(): number {
    return this.#byId.size;
  }
  get decisions(): number {
    return this.#decisions;
  }
  get links(): number {
    return this.#links;
  }
  get compounds(): number {
    return this.#compounds.size;
  }
  /** Slots lie below it. */
  get slots(): number {
    return this.#slots.length;
  }
  /** Numbers of entities lie below it. */
  get entityNumbers(): number {
    return this.#entityNumbers.end;
  }
  get sessionNumbers(): number {
    return this.#sessionNumbers;
  }
  get averageLength(): number {
    return Math.max(1, this.#length / Math.max(1, this.documents));
  }
  get averageLengthWithContext(): number {
    return Math.max(1, this.#lengthWithContext / Math.max(1, this.documents));
  }

  at(slot: number): Entry {
    return this.#slots[slot]!;
  }

  document(id: string): Entry | undefined {
    return this.#byId.get(id);
  }

  concept(id: string): ConceptEntry | undefined {
    return this.#conceptsById.get(id);
  }

  /** Robertson and Sparck Jones, never negative. */
  idf(posting: Posting): number {
    const df = posting.slots.length;
    return Math.log(1 + (this.documents - df + 0.5) / (df + 0.5));
  }

  // Documents

  putDocument(document: Document): void {
    this.removeDocument(document.id);
    if (this.#slots.length > 2 * this.documents + 1_000) this.#renumber();
    this.#place(document);
  }

  removeDocument(id: string): void {
    const entry = this.#byId.get(id);
    if (entry === undefined) return;
    const { document } = entry;
    this.#byId.delete(id);
    this.#slots[entry.slot] = undefined;
    for (const posting of entry.terms) drop(this.terms, this.#termNumbers, posting, entry.slot);
    for (const posting of entry.entities) drop(this.entities, this.#entityNumbers, posting, entry.slot);
    this.#length -= document.length;
    this.#decisions -= document.decisions;
    (document.kind === "turn" ? this.turns : this.memories).remove(entry);
    if (document.kind === "turn") this.#removeFromInstance(entry);
    this.#leaveSession(entry);
  }

  #place(document: Document): void {
    const slot = this.#slots.length;
    const entry: Entry = {
      document,
      slot,
      terms: document.terms.map((term, i) => add(this.terms, this.#termNumbers, term, slot, document.frequencies[i]!)),
      entities: entityKeys(document).map((key) => add(this.entities, this.#entityNumbers, key.key, slot, key.title ? 1 : 0)),
      previous: undefined,
      next: undefined,
    };
    this.#slots.push(entry);
    this.#byId.set(document.id, entry);
    this.#length += document.length;
    this.#decisions += document.decisions;
    (document.kind === "turn" ? this.turns : this.memories).insert(entry);
    if (document.kind === "turn") this.#instance(document.instance).insert(entry);
    this.#joinSession(entry);
  }

  /** Edits and deletions leave holes; when they outnumber what lives, everything gets a new slot. */
  #renumber(): void {
    const documents = this.#slots.flatMap((entry) => (entry === undefined ? [] : [entry.document]));
    for (const document of documents) this.removeDocument(document.id);
    this.#slots = [];
    for (const document of documents) this.#place(document);
  }

  #instance(name: string): SortedList<Entry> {
    let list = this.instances.get(name);
    if (list === undefined) {
      list = new SortedList(byArrival);
      this.instances.set(name, list);
    }
    return list;
  }

  #removeFromInstance(entry: Entry): void {
    const list = this.#instance(entry.document.instance);
    list.remove(entry);
    if (list.length === 0) this.instances.delete(entry.document.instance);
  }

  // Sessions: a change of neighbours changes the context, and so the length, of up to three documents.

  #joinSession(entry: Entry): void {
    const id = entry.document.session;
    if (id === "") {
      this.#lengthWithContext += entry.document.length;
      return;
    }
    let session = this.sessions.get(id);
    if (session === undefined) {
      session = { id, number: this.#sessionNumbers++, entries: new SortedList(byArrival), length: 0 };
      this.sessions.set(id, session);
    }
    session.length += entry.document.length;
    const at = session.entries.insert(entry);
    const previous = session.entries.items[at - 1];
    const next = session.entries.items[at + 1];
    this.#lengthWithContext -= lengthWithContext(next) + lengthWithContext(next?.next);
    link(previous, entry);
    link(entry, next);
    this.#lengthWithContext += lengthWithContext(entry) + lengthWithContext(next) + lengthWithContext(next?.next);
  }

  #leaveSession(entry: Entry): void {
    const id = entry.document.session;
    const session = this.sessions.get(id);
    if (session === undefined) {
      this.#lengthWithContext -= entry.document.length;
      return;
    }
    const { previous, next } = entry;
    this.#lengthWithContext -= lengthWithContext(entry) + lengthWithContext(next) + lengthWithContext(next?.next);
    session.entries.remove(entry);
    session.length -= entry.document.length;
    link(previous, next);
    this.#lengthWithContext += lengthWithContext(next) + lengthWithContext(next?.next);
    if (session.entries.length === 0) this.sessions.delete(id);
  }

  // Concepts and links

  putConcept(concept: ConceptEntry): void {
    this.removeConcept(concept.id);
    this.#conceptsById.set(concept.id, concept);
    this.concepts.insert(concept);
  }

  removeConcept(id: string): void {
    const held = this.#conceptsById.get(id);
    if (held === undefined) return;
    this.#conceptsById.delete(id);
    this.concepts.remove(held);
  }

  /** @param compound the two recur together */
  putLink(id: string, a: string, b: string, compound: boolean): void {
    if (!this.hasLink(a, b)) {
      this.#links++;
      neighboursOf(this.neighbours, a).add(b);
      neighboursOf(this.neighbours, b).add(a);
    }
    if (compound) this.#compounds.add(id);
    else this.#compounds.delete(id);
  }

  removeLink(id: string, a: string, b: string): void {
    if (!this.hasLink(a, b)) return;
    this.#links--;
    this.#compounds.delete(id);
    for (const [one, other] of [
      [a, b],
      [b, a],
    ] as const) {
      // Gone already when a peer's delta tied a concept to itself.
      const set = this.neighbours.get(one);
      set?.delete(other);
      if (set?.size === 0) this.neighbours.delete(one);
    }
  }

  hasLink(a: string, b: string): boolean {
    return this.neighbours.get(a)?.has(b) ?? false;
  }
}

class Numbers {
  readonly #free: number[] = [];
  end = 0;

  take(): number {
    return this.#free.pop() ?? this.end++;
  }

  giveBack(number: number): void {
    this.#free.push(number);
  }
}

/** Share of the previous document's words that an entry takes as its own. */
export function contextWeight(previous: Entry): number {
  return previous.document.asks ? CONTEXT_WEIGHTS.afterQuestion : CONTEXT_WEIGHTS.afterStatement;
}

export function lengthWithContext(entry: Entry | undefined): number {
  if (entry === undefined) return 0;
  const { previous } = entry;
  if (previous === undefined) return entry.document.length;
  return (
    entry.document.length + contextWeight(previous) * previous.document.length + CONTEXT_WEIGHTS.second * (previous.previous?.document.length ?? 0)
  );
}

/** Weight of a term in one document; 0 when it does not occur. */
export function weightIn(posting: Posting, slot: number): number {
  const at = position(posting.slots, slot);
  return posting.slots[at] === slot ? posting.weights[at]! : 0;
}

export function bodyOf(weight: number): number {
  return weight % TITLE_UNIT;
}

export function titleOf(weight: number): number {
  return Math.floor(weight / TITLE_UNIT);
}

function link(a: Entry | undefined, b: Entry | undefined): void {
  if (a !== undefined) a.next = b;
  if (b !== undefined) b.previous = a;
}

function add(postings: Map<string, Posting>, numbers: Numbers, name: string, slot: number, weight: number): Posting {
  let posting = postings.get(name);
  if (posting === undefined) {
    posting = { name, number: numbers.take(), slots: [], weights: [] };
    postings.set(name, posting);
  }
  // New documents have the highest slot.
  posting.slots.push(slot);
  posting.weights.push(weight);
  return posting;
}

function drop(postings: Map<string, Posting>, numbers: Numbers, posting: Posting, slot: number): void {
  const at = position(posting.slots, slot);
  posting.slots.splice(at, 1);
  posting.weights.splice(at, 1);
  if (posting.slots.length > 0) return;
  postings.delete(posting.name);
  numbers.giveBack(posting.number);
}

function position(slots: readonly number[], slot: number): number {
  let low = 0;
  let high = slots.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (slots[middle]! < slot) low = middle + 1;
    else high = middle;
  }
  return low;
}

function neighboursOf(all: Map<string, Set<string>>, id: string): Set<string> {
  let set = all.get(id);
  if (set === undefined) {
    set = new Set();
    all.set(id, set);
  }
  return set;
}
