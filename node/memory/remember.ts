/** Facts: stored, corrected, forgotten. */
import { current } from "../../protocol/graph/editable.ts";
import type { Contribution, Editable, Memory } from "../../protocol/graph/records.ts";
import { ApiError } from "../errors.ts";
import type { DecideContext, GraphReader, WriteOperation } from "../ports.ts";
import { conceptContributions, linkContributions, pairsFrom } from "./contributions.ts";
import { extract } from "./extract.ts";
import type { MemoryIndex } from "./memory-index.ts";
import { type Metadata, metadataText, patchedMetadata, sessionOf } from "./metadata.ts";
import type { MemorySettings } from "./settings.ts";
import { type MemoryAnswer, memoryAnswer, memoryOrRefuse } from "./tenant-view.ts";
import { fold } from "./text.ts";

export interface RememberArgs {
  readonly entity: string;
  readonly content: string;
  readonly metadata?: Metadata;
}
export interface RememberAnswer {
  readonly id: string;
  readonly status: "stored";
  readonly tenant_id: string;
}

export function remember(index: MemoryIndex, settings: MemorySettings): WriteOperation<RememberArgs, RememberAnswer> {
  return {
    type: "write",
    decide({ entity, content, metadata }, context) {
      const id = context.id("mem", 0);
      const concepts = extract(content, settings, entity);
      const memory = {
        node: context.node,
        session: sessionOf(metadata),
        entity,
        content,
        metadata: metadataText(metadata),
        concepts: concepts.map((concept) => concept.id),
      };
      const contributions: Contribution[] = [
        { op: "memory", id, memory },
        ...conceptContributions(concepts, context.reader, index),
        ...linkContributions(pairsFrom(concepts[0]?.id ?? "", concepts, settings.capacity)),
      ];
      return { contributions, answer: { id, status: "stored", tenant_id: context.reader.tenant } };
    },
  };
}

export interface EditArgs {
  readonly id: string;
  readonly entity?: string;
  readonly content?: string;
  readonly metadata?: Metadata;
  /** PUT: what is not given is emptied (entity and content must be given). PATCH: what is not given stays, metadata is merged key by key. */
  readonly replace: boolean;
}

export function editMemory(index: MemoryIndex, settings: MemorySettings): WriteOperation<EditArgs, MemoryAnswer> {
  return {
    type: "write",
    decide(args, context) {
      const { reader } = context;
      const held = editable(reader, args.id);
      const entity = args.entity ?? current(held.entity);
      const content = args.content ?? current(held.content);
      const metadata = metadataAfter(args, current(held.metadata));
      const known = new Set(current(held.concepts));
      const concepts = extract(content, settings, entity);
      const fresh = concepts.filter((concept) => !known.has(concept.id));
      const said = args.entity !== undefined || args.content !== undefined;
      const fields = {
        ...(args.entity !== undefined && { entity }),
        ...(args.content !== undefined && { content }),
        ...(metadata !== undefined && { metadata }),
        ...(said && { concepts: concepts.map((concept) => concept.id) }),
      };
      if (Object.keys(fields).length === 0) return { contributions: [], answer: memoryAnswer(reader.tenant, args.id, held) };
      const contributions: Contribution[] = [{ op: "edit", id: args.id, fields }];
      if (said)
        contributions.push(...conceptContributions(fresh, reader, index), ...linkContributions(pairsFrom(fold(entity), fresh, settings.capacity)));
      return { contributions, answer: memoryAnswer(reader.tenant, args.id, edited(held, fields, context)) };
    },
  };
}

/** @throws ApiError not_found, conflict */
function editable(reader: GraphReader, id: string): Memory {
  if (reader.turn(id) !== undefined) throw new ApiError("conflict", "This id is a turn: what was said. It can be forgotten but not edited.");
  return memoryOrRefuse(reader, id);
}

function metadataAfter(args: EditArgs, held: string): string | undefined {
  if (args.replace) return metadataText(args.metadata);
  return args.metadata === undefined ? undefined : patchedMetadata(held, args.metadata);
}

/** The record as this edit leaves it: the edit has seen every version held here, so it stands alone in the fields it touches. */
function edited(
  held: Memory,
  fields: { readonly entity?: string; readonly content?: string; readonly metadata?: string },
  context: DecideContext,
): Memory {
  const over = (field: Editable<string>, value: string | undefined): Editable<string> =>
    value === undefined ? field : [{ ...field[0]!, value, hlc: [Math.max(context.now, ...field.map((version) => version.hlc[0])), 0] }];
  return {
    ...held,
    entity: over(held.entity, fields.entity),
    content: over(held.content, fields.content),
    metadata: over(held.metadata, fields.metadata),
  };
}

export interface ForgetAnswer {
  readonly id: string;
  readonly status: "deleted";
  readonly tenant_id: string;
}

/** Of a fact or a turn; final. */
export const forgetMemory: WriteOperation<{ readonly id: string }, ForgetAnswer> = {
  type: "write",
  decide({ id }, { reader }) {
    const kind = reader.turn(id) !== undefined ? "turn" : "memory";
    if (kind === "memory") memoryOrRefuse(reader, id);
    return { contributions: [{ op: "delete", kind, id }], answer: { id, status: "deleted", tenant_id: reader.tenant } };
  },
};
