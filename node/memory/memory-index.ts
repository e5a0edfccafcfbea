/**
 * Where search keeps its rows (GraphIndex of node/ports.ts). Stored: one small row a turn, memory, concept or link, in the same batch as the record.
 * In RAM: a TenantIndex per tenant in use, built from those rows when it is first asked for, kept up by what is committed, and dropped when others
 * need the room. Building it twice or telling it a change twice gives the same index.
 */
import { countOf } from "../../protocol/graph/counter.ts";
import { isVisible } from "../../protocol/graph/record.ts";
import type { Concept, ConceptType, GraphRecord, Link } from "../../protocol/graph/records.ts";
import type { Partition } from "../../protocol/ids.ts";
import { partitionOf } from "../../protocol/layout.ts";
import type { GraphIndex, IndexRow, RecordChange } from "../ports.ts";
import { type Document, decodeDocument, documentOf, encodeDocument } from "./document.ts";
import { type ConceptEntry, TenantIndex } from "./tenant-index.ts";

/** One prefix a kind: `d/id` turns and memories, `c/id` concepts, `l/a\u0001b` links. */
const DOCUMENTS = "d/";
const CONCEPTS = "c/";
const LINKS = "l/";

/** Some 2 KB each for a sentence of 200 characters, postings included: 400 MB at most, unless the tenants in use need more. */
const DOCUMENTS_MAX = 200_000;
/** Tenants used last are never dropped, so one that was made ready is still there when its question is answered. */
const TENANTS_KEPT = 16;

/** Two concepts recur together from the second activation on; a first one that has faded a little still counts. */
const COMPOUND_MASS = 1.5;

type Loaded = { readonly state: "loaded"; readonly index: TenantIndex };
/** Changes committed since the load began wait until the rows are in. */
type Loading = { readonly state: "loading"; readonly waiting: RecordChange[]; readonly done: Promise<void> };

export class MemoryIndex implements GraphIndex {
  readonly #documentsMax: number;
  /** In order of use, the most recent last. */
  readonly #tenants = new Map<string, Loaded | Loading>();
  /** What `rows` found out about a record, for `committed`. */
  readonly #analysed = new WeakMap<GraphRecord, Document>();

  /** @param documentsMax turns and memories kept in RAM over all tenants */
  constructor(documentsMax = DOCUMENTS_MAX) {
    this.#documentsMax = documentsMax;
  }

  rows(change: RecordChange): IndexRow[] {
    const { id, before, after, kind } = change;
    if (kind === "turn" || kind === "memory") {
      const document = this.#documentOf(id, after);
      if (document !== undefined) return [{ key: DOCUMENTS + id, value: encodeDocument(document) }];
      return before === undefined ? [] : [{ key: DOCUMENTS + id, value: undefined }];
    }
    if (kind === "concept") return saysTheSame(before, after) ? [] : changedRow(CONCEPTS + id, conceptRow(before), conceptRow(after));
    if (kind === "link") return changedRow(LINKS + id, linkRow(before), linkRow(after));
    return [];
  }

  committed(changes: readonly RecordChange[]): void {
    for (const change of changes) {
      const tenant = this.#tenants.get(change.tenant);
      if (tenant === undefined) continue;
      if (tenant.state === "loading") tenant.waiting.push(change);
      else this.#apply(tenant.index, change);
    }
  }

  ready(tenant: string, scan: (prefix: string) => AsyncIterable<IndexRow>): Promise<void> {
    const held = this.#tenants.get(tenant);
    if (held !== undefined) {
      this.#tenants.delete(tenant);
      this.#tenants.set(tenant, held);
      return held.state === "loading" ? held.done : Promise.resolve();
    }
    const waiting: RecordChange[] = [];
    const { promise: done, resolve, reject } = Promise.withResolvers<void>();
    const loading: Loading = { state: "loading", waiting, done };
    // Before the snapshot is taken: what is committed from here on is either in the snapshot or in `waiting`, or in both.
    this.#tenants.set(tenant, loading);
    this.#load(tenant, loading, scan).then(resolve, (cause: unknown) => {
      if (this.#tenants.get(tenant) === loading) this.#tenants.delete(tenant);
      reject(cause);
    });
    return done;
  }

  /** @returns undefined when it was never made ready, or was dropped since */
  tenant(tenant: string): TenantIndex | undefined {
    const held = this.#tenants.get(tenant);
    return held?.state === "loaded" ? held.index : undefined;
  }

  dropped(partition: Partition): void {
    for (const tenant of this.#tenants.keys()) if (partitionOf(tenant) === partition) this.#tenants.delete(tenant);
  }

  async #load(tenant: string, loading: Loading, scan: (prefix: string) => AsyncIterable<IndexRow>): Promise<void> {
    const index = new TenantIndex();
    for await (const row of scan(DOCUMENTS))
      if (row.value !== undefined) index.putDocument(decodeDocument(row.key.slice(DOCUMENTS.length), row.value));
    for await (const row of scan(CONCEPTS)) if (row.value !== undefined) index.putConcept(decodeConcept(row.key.slice(CONCEPTS.length), row.value));
    for await (const row of scan(LINKS)) {
      const id = row.key.slice(LINKS.length);
      const [a, b] = id.split("\u0001") as [string, string];
      if (row.value !== undefined) index.putLink(id, a, b, row.value[0] === COMPOUND);
    }
    // No await from here on: no change can fall between what waited and the loaded index.
    for (const change of loading.waiting) this.#apply(index, change);
    // Dropped meanwhile: some of the rows read may be of before, some of after. Whoever waits for this load waits for the next.
    if (this.#tenants.get(tenant) !== loading) return this.ready(tenant, scan);
    this.#tenants.set(tenant, { state: "loaded", index });
    this.#makeRoom();
  }

  #makeRoom(): void {
    const loaded = [...this.#tenants].flatMap(([name, held]) => (held.state === "loaded" ? [{ name, documents: held.index.documents }] : []));
    let documents = loaded.reduce((sum, one) => sum + one.documents, 0);
    for (const one of loaded.slice(0, Math.max(0, loaded.length - TENANTS_KEPT))) {
      if (documents <= this.#documentsMax) return;
      this.#tenants.delete(one.name);
      documents -= one.documents;
    }
  }

  #apply(index: TenantIndex, change: RecordChange): void {
    const { id, kind, after } = change;
    if (kind === "turn" || kind === "memory") {
      const document = this.#documentOf(id, after);
      if (document === undefined) index.removeDocument(id);
      else index.putDocument(document);
    } else if (kind === "concept") {
      const concept = conceptEntry(id, after);
      if (concept === undefined) index.removeConcept(id);
      else if (!sameConcept(index.concept(id), concept)) index.putConcept(concept);
    } else if (kind === "link") {
      const link = (after ?? change.before) as Link;
      if (visible(after)) index.putLink(id, link.a, link.b, isCompound(link));
      else index.removeLink(id, link.a, link.b);
    }
  }

  #documentOf(id: string, record: GraphRecord | undefined): Document | undefined {
    if (record === undefined) return undefined;
    const known = this.#analysed.get(record);
    if (known !== undefined) return known;
    const document = documentOf(id, record);
    if (document !== undefined) this.#analysed.set(record, document);
    return document;
  }
}

// Rows of concepts and links: written only when what they say changes, not with every occurrence.

const encoder = new TextEncoder();
const decoder = new TextDecoder();
const COMPOUND = 1;

function changedRow(key: string, before: string | undefined, after: string | undefined): IndexRow[] {
  if (before === after) return [];
  return [
    {
      key,
      value: after === undefined ? undefined : after === "" ? Uint8Array.of(0) : after === "+" ? Uint8Array.of(COMPOUND) : encoder.encode(after),
    },
  ];
}

function visible(record: GraphRecord | undefined): record is GraphRecord {
  return record !== undefined && isVisible(record);
}

/** One more occurrence: what most writes say of most concepts. */
function saysTheSame(before: GraphRecord | undefined, after: GraphRecord | undefined): boolean {
  if (before?.kind !== "concept" || after?.kind !== "concept") return false;
  return before.name === after.name && before.type === after.type && before.firstAt === after.firstAt && visible(before) === visible(after);
}

/** JSON [name, type, ms, count]. */
function conceptRow(record: GraphRecord | undefined): string | undefined {
  if (!visible(record)) return undefined;
  const { name, type, firstAt } = record as Concept;
  return JSON.stringify([name.value, type.value, firstAt[0], firstAt[1]]);
}

function decodeConcept(id: string, row: Uint8Array): ConceptEntry {
  const [name, type, ms, count] = JSON.parse(decoder.decode(row)) as [string, ConceptType, number, number];
  return { id, name: name || id, type, firstAt: [ms, count] };
}

function conceptEntry(id: string, record: GraphRecord | undefined): ConceptEntry | undefined {
  if (!visible(record)) return undefined;
  const { name, type, firstAt } = record as Concept;
  return { id, name: name.value || id, type: type.value, firstAt };
}

function sameConcept(a: ConceptEntry | undefined, b: ConceptEntry): boolean {
  return a !== undefined && a.name === b.name && a.type === b.type && a.firstAt[0] === b.firstAt[0] && a.firstAt[1] === b.firstAt[1];
}

/** "+" when the two recur together, "" when they met once. */
function linkRow(record: GraphRecord | undefined): string | undefined {
  if (!visible(record)) return undefined;
  return isCompound(record as Link) ? "+" : "";
}

function isCompound(link: Link): boolean {
  return countOf(link.activations) >= COMPOUND_MASS;
}
