/** One question's view: the tenant's index and its records, with what every operation asks of both. */
import { conflicts, current } from "../../protocol/graph/editable.ts";
import { isVisible } from "../../protocol/graph/record.ts";
import type { Concept, Link, Memory, Turn } from "../../protocol/graph/records.ts";
import { ApiError } from "../errors.ts";
import type { GraphReader } from "../ports.ts";
import type { MemoryIndex } from "./memory-index.ts";
import { type Metadata, parseMetadata } from "./metadata.ts";
import type { TenantIndex } from "./tenant-index.ts";

export interface MemoryAnswer {
  readonly id: string;
  readonly entity: string;
  readonly content: string;
  readonly metadata: Metadata;
  readonly created_at: string;
  readonly updated_at: string;
  readonly tenant_id: string;
  /** Values of concurrent edits that lost; only fields that have some, the member only when there is one. */
  readonly conflicts?: { readonly entity?: string[]; readonly content?: string[]; readonly metadata?: Metadata[] };
}

/** @throws ApiError overloaded when the index was dropped to make room between being made ready and now */
export function indexOf(index: MemoryIndex, reader: GraphReader): TenantIndex {
  const tenant = index.tenant(reader.tenant);
  if (tenant === undefined) throw new ApiError("overloaded", "The search index of this tenant was just dropped to make room for others. Try again.");
  return tenant;
}

export function visibleMemory(reader: GraphReader, id: string): Memory | undefined {
  const memory = reader.memory(id);
  return memory !== undefined && isVisible(memory) ? memory : undefined;
}

/** @throws ApiError not_found */
export function memoryOrRefuse(reader: GraphReader, id: string): Memory {
  const memory = visibleMemory(reader, id);
  if (memory === undefined)
    throw new ApiError("not_found", "There is no memory with this id. It may have been forgotten, or belong to another tenant.");
  return memory;
}

export function visibleConcept(reader: GraphReader, id: string): Concept | undefined {
  const concept = reader.concept(id);
  return concept !== undefined && isVisible(concept) ? concept : undefined;
}

export function visibleLink(reader: GraphReader, a: string, b: string): Link | undefined {
  const link = reader.link(a, b);
  return link !== undefined && isVisible(link) ? link : undefined;
}

export function nameOf(id: string, concept: Concept | undefined): string {
  return concept?.name.value || id;
}

export function iso(ms: number): string {
  return new Date(ms).toISOString();
}

export function memoryAnswer(tenant: string, id: string, memory: Memory): MemoryAnswer {
  const edited = [memory.entity, memory.content, memory.metadata].flatMap((field) => field.map((version) => version.hlc[0]));
  const entity = conflicts(memory.entity);
  const content = conflicts(memory.content);
  const metadata = conflicts(memory.metadata).map(parseMetadata);
  const lost = { ...(entity.length > 0 && { entity }), ...(content.length > 0 && { content }), ...(metadata.length > 0 && { metadata }) };
  return {
    id,
    entity: current(memory.entity),
    content: current(memory.content),
    metadata: parseMetadata(current(memory.metadata)),
    created_at: iso(memory.at[0]),
    updated_at: iso(Math.max(memory.at[0], ...edited)),
    tenant_id: tenant,
    ...(Object.keys(lost).length > 0 && { conflicts: lost }),
  };
}

/** What was said in one turn, as one text. */
export function turnText(turn: Turn): string {
  return `User: ${turn.user}\nAssistant: ${turn.assistant}`;
}
