/** The graph itself: entities, one concept, its surroundings; describing and forgetting a concept. */
import { countOf } from "../../protocol/graph/counter.ts";
import { strengthOf } from "../../protocol/graph/link.ts";
import { type Concept, type ConceptType, type Contribution, type Link, linkId } from "../../protocol/graph/records.ts";
import { ApiError } from "../errors.ts";
import type { GraphReader, ReadContext, ReadOperation, WriteOperation } from "../ports.ts";
import type { MemoryIndex } from "./memory-index.ts";
import type { MemorySettings } from "./settings.ts";
import type { ConceptEntry, TenantIndex } from "./tenant-index.ts";
import { indexOf, iso, nameOf, visibleConcept, visibleLink } from "./tenant-view.ts";
import { fold } from "./text.ts";

export interface EntityAnswer {
  readonly name: string;
  readonly type: ConceptType;
  readonly description: string;
  readonly created_at: string;
}
export interface EntitiesAnswer {
  readonly entities: readonly EntityAnswer[];
  readonly total: number;
  readonly tenant_id: string;
}
export interface EntitiesArgs {
  readonly limit: number;
  readonly offset?: number;
  readonly entity_type?: ConceptType;
}

/** Newest first. */
export function entities(index: MemoryIndex): ReadOperation<EntitiesArgs, EntitiesAnswer> {
  return {
    type: "read",
    answer({ limit, offset = 0, entity_type }, { reader }) {
      const all = indexOf(index, reader).concepts.items;
      const found: readonly ConceptEntry[] = entity_type === undefined ? all : all.filter(({ type }) => type === entity_type);
      const end = Math.max(0, found.length - offset);
      const page = found.slice(Math.max(0, end - limit), end).reverse();
      return {
        entities: page.map(({ id, name, type, firstAt }) => ({
          name,
          type,
          description: visibleConcept(reader, id)?.description.value ?? "",
          created_at: iso(firstAt[0]),
        })),
        total: found.length,
        tenant_id: reader.tenant,
      };
    },
  };
}

export interface ConceptAnswer extends EntityAnswer {
  readonly id: string;
  readonly occurrences: number;
  /** Memories and turns that mention it. */
  readonly memories: number;
  /** Other concepts it is linked with. */
  readonly links: number;
  readonly tenant_id: string;
}

export function concept(index: MemoryIndex): ReadOperation<{ readonly name: string }, ConceptAnswer> {
  return {
    type: "read",
    answer({ name }, { reader }) {
      const id = fold(name);
      return conceptAnswer(indexOf(index, reader), reader, id, conceptOrRefuse(reader, id));
    },
  };
}

/** @throws ApiError not_found */
function conceptOrRefuse(reader: GraphReader, id: string): Concept {
  const held = visibleConcept(reader, id);
  if (held === undefined) throw new ApiError("not_found", "There is no concept of this name. Case and accents do not matter, spelling does.");
  return held;
}

function conceptAnswer(tenant: TenantIndex | undefined, reader: GraphReader, id: string, held: Concept): ConceptAnswer {
  return {
    id,
    name: nameOf(id, held),
    type: held.type.value,
    description: held.description.value,
    created_at: iso(held.firstAt[0]),
    occurrences: Math.round(countOf(held.occurrences)),
    memories: tenant?.entities.get(id)?.slots.length ?? 0,
    links: tenant?.neighbours.get(id)?.size ?? 0,
    tenant_id: reader.tenant,
  };
}

// The surroundings of a concept

export interface GraphArgs {
  readonly name: string;
  /** Links to go, 1 to 5. */
  readonly depth: number;
  /** Nodes, the first included. */
  readonly limit: number;
}
export interface GraphAnswer {
  readonly nodes: readonly { readonly id: string; readonly name: string; readonly type: ConceptType; readonly depth: number }[];
  readonly edges: readonly {
    readonly source: string;
    readonly target: string;
    readonly strength: number;
    readonly activations: number;
    readonly last_active: string;
  }[];
  readonly tenant_id: string;
}

/** Links looked at for one concept; a hub's others are left out. */
const LINKS_OF_NODE_MAX = 1_000;

/** Breadth first, the strongest links first; links below the minimum strength are not there. Edges name concepts as nodes do. */
export function conceptGraph(index: MemoryIndex, settings: MemorySettings): ReadOperation<GraphArgs, GraphAnswer> {
  return {
    type: "read",
    answer({ name, depth, limit }, context) {
      const tenant = indexOf(index, context.reader);
      const start = fold(name);
      const nodes = new Map([[start, { id: start, ...described(start, conceptOrRefuse(context.reader, start)), depth: 0 }]]);
      const edges = new Map<string, GraphAnswer["edges"][number]>();
      let frontier = [start];
      for (let level = 1; level <= depth && frontier.length > 0; level++) {
        const next: string[] = [];
        for (const from of frontier) {
          for (const { to, link, strength } of strongLinks(tenant, from, context, settings.minStrength)) {
            if (!nodes.has(to)) {
              const held = visibleConcept(context.reader, to);
              if (held === undefined || nodes.size >= limit) continue;
              nodes.set(to, { id: to, ...described(to, held), depth: level });
              next.push(to);
            }
            edges.set(linkId(from, to), edge(nodes.get(link.a)!.name, nodes.get(link.b)!.name, link, strength));
          }
        }
        frontier = next;
      }
      return { nodes: [...nodes.values()], edges: [...edges.values()], tenant_id: context.reader.tenant };
    },
  };
}

function described(id: string, held: Concept): { name: string; type: ConceptType } {
  return { name: nameOf(id, held), type: held.type.value };
}

function strongLinks(
  tenant: TenantIndex,
  from: string,
  { reader, now }: ReadContext,
  minStrength: number,
): { to: string; link: Link; strength: number }[] {
  return [...(tenant.neighbours.get(from) ?? [])]
    .sort()
    .slice(0, LINKS_OF_NODE_MAX)
    .flatMap((to) => {
      const link = visibleLink(reader, from, to);
      const strength = link === undefined ? 0 : strengthOf(link, now, reader.decay);
      return link === undefined || strength < minStrength ? [] : [{ to, link, strength }];
    })
    .sort((x, y) => y.strength - x.strength || (x.to < y.to ? -1 : 1));
}

function edge(source: string, target: string, link: Link, strength: number): GraphAnswer["edges"][number] {
  const lastMs = Math.max(...Object.values(link.activations.totals).map((share) => share.hlc[0]));
  return {
    source,
    target,
    strength: Math.round(strength * 10_000) / 10_000,
    activations: Math.round(countOf(link.activations)),
    last_active: iso(lastMs),
  };
}

// Changing a concept

export interface PatchConceptArgs {
  readonly name: string;
  /** Another spelling of the same name: it must fold to the same id. */
  readonly new_name?: string;
  readonly type?: ConceptType;
  readonly description?: string;
}

export const patchConcept: WriteOperation<PatchConceptArgs, ConceptAnswer> = {
  type: "write",
  decide({ name, new_name, type, description }, { reader }) {
    const id = fold(name);
    const held = conceptOrRefuse(reader, id);
    if (new_name !== undefined && fold(new_name) !== id) {
      throw new ApiError(
        "conflict",
        "A concept is known by its name; only its spelling (case, accents) can be changed here. Joining two concepts is another request.",
      );
    }
    const said = {
      ...(new_name !== undefined && { name: new_name }),
      ...(type !== undefined && { type }),
      ...(description !== undefined && { description }),
    };
    const contributions: Contribution[] = Object.keys(said).length === 0 ? [] : [{ op: "concept", id, mass: 0, ...said }];
    const after: Concept = {
      ...held,
      name: { ...held.name, value: new_name ?? held.name.value },
      type: { ...held.type, value: type ?? held.type.value },
      description: { ...held.description, value: description ?? held.description.value },
    };
    return { contributions, answer: conceptAnswer(undefined, reader, id, after) };
  },
};

export interface DeleteConceptAnswer {
  readonly name: string;
  readonly status: "deleted";
  readonly tenant_id: string;
}

/** Takes away what was counted so far, of the concept and of its links where the index knows them; later mentions count again. */
export function deleteConcept(index: MemoryIndex): WriteOperation<{ readonly name: string }, DeleteConceptAnswer> {
  return {
    type: "write",
    decide({ name }, { reader }) {
      const id = fold(name);
      const held = conceptOrRefuse(reader, id);
      const others = [...(index.tenant(reader.tenant)?.neighbours.get(id) ?? [])].sort();
      const links = others.map((other): Contribution => ({ op: "delete", kind: "link", id: linkId(id, other) }));
      return {
        contributions: [{ op: "delete", kind: "concept", id }, ...links],
        answer: { name: nameOf(id, held), status: "deleted", tenant_id: reader.tenant },
      };
    },
  };
}
