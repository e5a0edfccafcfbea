/**
 * What each operation may be given. HTTP checks its own clients' requests; this is for requests that another node forwards, whose sender only claims to
 * have checked them: what is of another shape would be numbered, or would end the process that decides on it. Wide enough for everything that HTTP lets
 * through (test/unit/arguments.test.ts sends that here).
 */
import Type, { type TSchema } from "typebox";
import { Compile } from "typebox/compile";
import { CONCEPT_TYPES } from "../protocol/graph/records.ts";
import { TENANT_PATTERN } from "../protocol/ids.ts";
import {
  ENTITY_MAX_CHARS,
  MEMBER_WEIGHT_MAX,
  METADATA_DEPTH_MAX,
  NODE_ID_MAX_CHARS,
  REPLICATION_FACTOR_MAX,
  TENANT_MAX_CHARS,
  TEXT_MAX_CHARS,
} from "../protocol/limits.ts";
import { isDeeperThan } from "./memory/metadata.ts";

const text = Type.String({ maxLength: TEXT_MAX_CHARS });
const name = Type.String({ maxLength: ENTITY_MAX_CHARS, pattern: "^[^\\u0000-\\u001F\\u007F]*$" });
const word = Type.String({ maxLength: 64 });
const count = Type.Integer({ minimum: 0, maximum: 1_000_000_000 });
const metadata = Type.Object({}, { additionalProperties: true });
const cursor = Type.String({ maxLength: 1024 });
const type = Type.Unsafe<string>({ type: "string", enum: [...CONCEPT_TYPES] });
const hash = Type.String({ pattern: "^[0-9a-f]{64}$" });

const nodeId = Type.String({ minLength: 1, maxLength: NODE_ID_MAX_CHARS });

const optional = <T extends Record<string, TSchema>>(fields: T) =>
  Object.fromEntries(Object.entries(fields).map(([key, schema]) => [key, Type.Optional(schema)]));
const page = { limit: count, ...optional({ offset: count, cursor }) };
const span = optional({ since: word, until: word, session_id: name });
const one = { name };
const id = { id: name };

const SHAPES: Readonly<Record<string, Record<string, TSchema>>> = {
  learn: { user_message: text, ai_response: text, ...optional({ thinking: text, metadata }) },
  remember: { entity: name, content: text, ...optional({ metadata }) },
  edit_memory: { ...id, ...optional({ entity: name, content: text, metadata }), replace: Type.Boolean() },
  forget_memory: id,
  patch_concept: { ...one, ...optional({ new_name: name, type, description: text }) },
  delete_concept: one,
  recall: { message: text, ...optional({ max_concepts: count, max_memories: count, max_tokens: count }), ...span },
  get_memory: id,
  list_memories: { ...page, ...span, ...optional({ entity: name, metadata }) },
  search_memories: { query: text, ...page, ...span, ...optional({ entity: name, metadata, fuzzy: Type.Boolean() }) },
  entities: { ...page, ...optional({ entity_type: type }) },
  concept: one,
  concept_graph: { ...one, depth: Type.Integer({ minimum: 1, maximum: 5 }), limit: count },
  messages: { ...page, ...optional({ keyword: text, start_date: word, end_date: word, session_id: name, role: word }) },
  search_messages: { ...page, ...optional({ keyword: text, start_date: word, end_date: word, session_id: name, role: word }) },
  stats: {},
  sessions: { ...page, ...span },
  decisions: { ...page, ...span },
  create_key: {
    hash,
    tenant_id: Type.String({ minLength: 1, maxLength: TENANT_MAX_CHARS, pattern: TENANT_PATTERN }),
    name,
    scope: Type.Unsafe<string>({ type: "string", enum: ["tenant", "admin"] }),
    expires_at: Type.Unsafe<string | null>({ type: ["string", "null"], maxLength: 64 }),
  },
  revoke_key: id,
  find_key: { hash },
  list_keys: {},
  list_tenants: {},
  "layout.change": {
    op: Type.Unsafe<string>({ type: "string", enum: ["add", "remove", "replace", "zone", "weight", "replication-factor", "stop"] }),
    ...optional({
      name: word,
      zone: word,
      weight: Type.Integer({ minimum: 1, maximum: MEMBER_WEIGHT_MAX }),
      replicationFactor: Type.Integer({ minimum: 1, maximum: REPLICATION_FACTOR_MAX }),
      drain: Type.Boolean(),
      member: Type.Object({ node: Type.String({ maxLength: NODE_ID_MAX_CHARS }), name: word, incarnation: word, zone: word, weight: count }),
    }),
  },
  "layout.end": {
    id: word,
    outcome: Type.Unsafe<string>({ type: "string", enum: ["done", "nothing to do", "refused", "stopped"] }),
    reason: text,
  },
  "layout.changes": {},
  revoke_node: { node: nodeId, name: word, secrets: Type.Array(word, { maxItems: 64 }) },
  readmit_node: { node: nodeId },
  list_revoked_nodes: {},
};

/** Compiled when first asked for: most nodes never forward. */
const checks = new Map<string, { Check(value: unknown): boolean }>();

/** Half surrogates have no bytes: what is written must be well formed, or this node would keep another text than it sends. */
const WRITES: ReadonlySet<string> = new Set(["learn", "remember", "edit_memory", "patch_concept", "create_key"]);

/** Fields that this version does not know are let through: a newer node may send them. */
export function acceptsArguments(operation: string, args: unknown): boolean {
  if (!Object.hasOwn(SHAPES, operation) || isDeeperThan(args, METADATA_DEPTH_MAX + 1)) return false;
  let check = checks.get(operation);
  if (check === undefined) {
    check = Compile(Type.Object(SHAPES[operation]!));
    checks.set(operation, check);
  }
  return check.Check(args) && (!WRITES.has(operation) || Object.values(args as object).every(isWellFormed));
}

function isWellFormed(value: unknown): boolean {
  return typeof value !== "string" || value.isWellFormed();
}

/** Every operation that can be forwarded. */
export const OPERATIONS_WITH_SHAPES: readonly string[] = Object.keys(SHAPES);
