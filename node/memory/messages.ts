/** What was said, message by message: each turn is a user's and an assistant's. */
import type { Turn } from "../../protocol/graph/records.ts";
import type { GraphReader, ReadOperation } from "../ports.ts";
import type { MemoryIndex } from "./memory-index.ts";
import { type Metadata, parseMetadata } from "./metadata.ts";
import { within } from "./span.ts";
import type { Entry, TenantIndex } from "./tenant-index.ts";
import { indexOf, iso } from "./tenant-view.ts";
import { terms, words } from "./text.ts";

export type Role = "user" | "assistant";
const ROLES: readonly Role[] = ["user", "assistant"];

export interface MessageAnswer {
  /** `${turn id}:${role}`. */
  readonly id: string;
  readonly instance_id: string;
  readonly timestamp: string;
  /** 1, 2, 3 ... within the tenant's instance, in order of arrival. */
  readonly message_number: number;
  readonly role: Role;
  readonly content: string;
  readonly metadata: Metadata;
  readonly tenant_id: string;
}
export interface MessagesAnswer {
  readonly messages: readonly MessageAnswer[];
  readonly total: number;
  readonly tenant_id: string;
}

/** Of a list and of a search. */
export interface MessagesArgs {
  readonly keyword?: string;
  readonly start_date?: string;
  readonly end_date?: string;
  readonly session_id?: string;
  readonly role?: Role;
  readonly limit: number;
  readonly offset?: number;
}

/** Newest first. A message holds the keyword as it is written, or all its words in other forms. */
export function messages(index: MemoryIndex): ReadOperation<MessagesArgs, MessagesAnswer> {
  return {
    type: "read",
    answer(args, { reader }) {
      const tenant = indexOf(index, reader);
      const { start_date, end_date, session_id, keyword = "", limit, offset = 0 } = args;
      const inSpan = within({
        ...(start_date !== undefined && { since: start_date }),
        ...(end_date !== undefined && { until: end_date }),
        ...(session_id !== undefined && { session_id }),
      });
      const roles = args.role === undefined ? ROLES : [args.role];
      const all = start_date === undefined && end_date === undefined && session_id === undefined;
      const turns = all ? tenant.turns.items : tenant.turns.items.filter(inSpan);
      if (keyword.trim() === "") return pageOfMessages(tenant, turns, roles, limit, offset, reader);
      const holds = holding(keyword);
      const candidates = candidatesFor(tenant, keyword);
      const found: MessageAnswer[] = [];
      for (const entry of turns.filter((turn) => candidates?.has(turn.slot) ?? true).reverse()) {
        const turn = reader.turn(entry.document.id);
        if (turn !== undefined)
          for (const role of [...roles].reverse()) if (holds(contentOf(turn, role))) found.push(message(tenant, entry, turn, role, reader));
      }
      return { messages: found.slice(offset, offset + limit), total: found.length, tenant_id: reader.tenant };
    },
  };
}

/** Records are read for the page only. @param turns oldest first */
function pageOfMessages(
  tenant: TenantIndex,
  turns: readonly Entry[],
  roles: readonly Role[],
  limit: number,
  offset: number,
  reader: GraphReader,
): MessagesAnswer {
  const total = turns.length * roles.length;
  const page: MessageAnswer[] = [];
  for (let i = offset; i < Math.min(total, offset + limit); i++) {
    const entry = turns[turns.length - 1 - Math.floor(i / roles.length)]!;
    const turn = reader.turn(entry.document.id);
    if (turn !== undefined) page.push(message(tenant, entry, turn, roles[roles.length - 1 - (i % roles.length)]!, reader));
  }
  return { messages: page, total, tenant_id: reader.tenant };
}

function message(tenant: TenantIndex, entry: Entry, turn: Turn, role: Role, reader: GraphReader): MessageAnswer {
  const { document } = entry;
  const before = tenant.instances.get(document.instance)?.rank(entry) ?? 0;
  return {
    id: `${document.id}:${role}`,
    instance_id: document.instance,
    timestamp: iso(document.time),
    message_number: 2 * before + (role === "user" ? 1 : 2),
    role,
    content: contentOf(turn, role),
    metadata: parseMetadata(turn.metadata),
    tenant_id: reader.tenant,
  };
}

function contentOf(turn: Turn, role: Role): string {
  return role === "user" ? turn.user : turn.assistant;
}

function holding(keyword: string): (text: string) => boolean {
  const plain = keyword.trim().toLowerCase();
  const wanted = terms(keyword);
  return (text) => {
    if (text.toLowerCase().includes(plain)) return true;
    if (wanted.length === 0) return false;
    const held = new Set(terms(text));
    return wanted.every((term) => held.has(term));
  };
}

/** Turns that can hold the keyword: for each of its words some term that contains it or its stem. Undefined: no word to go by, all of them. */
function candidatesFor(tenant: TenantIndex, keyword: string): Set<number> | undefined {
  let candidates: Set<number> | undefined;
  for (const word of words(keyword)) {
    const [stem] = terms(word);
    if (stem === undefined) continue;
    const slots = new Set<number>();
    for (const [term, posting] of tenant.terms) {
      // Part of a longer word, or the stem of a word it is cut from.
      if (term === stem || term.includes(word) || term.includes(stem)) for (const slot of posting.slots) slots.add(slot);
    }
    candidates = candidates === undefined ? slots : new Set([...candidates].filter((slot) => slots.has(slot)));
  }
  return candidates;
}
