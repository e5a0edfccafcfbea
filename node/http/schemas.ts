/** Shapes that several resources share. A schema validates the request, serialises the answer and draws the OpenAPI page. */
import Type, { type TSchema } from "typebox";
import { CONCEPT_TYPES } from "../../protocol/graph/records.ts";
import { TENANT_PATTERN } from "../../protocol/ids.ts";
import { ENTITY_MAX_CHARS, TENANT_MAX_CHARS, TEXT_MAX_CHARS } from "../../protocol/limits.ts";

export const Text = Type.String({ minLength: 1, maxLength: TEXT_MAX_CHARS });
/** One line without control characters or half surrogates: they would break ids and keys made from it. */
export const NAME_PATTERN = "^[^\\u0000-\\u001F\\u007F\\uD800-\\uDFFF]*$";
export const Name = Type.String({ minLength: 1, maxLength: ENTITY_MAX_CHARS, pattern: NAME_PATTERN });
export const Tenant = Type.String({ minLength: 1, maxLength: TENANT_MAX_CHARS, pattern: TENANT_PATTERN });

/** Clients send null for what they leave out. */
export const OptionalText = Type.Optional(Type.Unsafe<string | null>({ type: ["string", "null"], maxLength: TEXT_MAX_CHARS }));
export const OptionalName = Type.Optional(
  Type.Unsafe<string | null>({ type: ["string", "null"], maxLength: ENTITY_MAX_CHARS, pattern: NAME_PATTERN }),
);
export const OptionalTime = Type.Optional(
  Type.Unsafe<string | null>({ type: ["string", "null"], maxLength: 40, description: "ISO 8601; UTC where no zone is given." }),
);
export const JsonObject = Type.Unsafe<Record<string, unknown>>({ type: "object", additionalProperties: true });
export const OptionalMetadata = Type.Optional(Type.Unsafe<Record<string, unknown> | null>({ type: ["object", "null"], additionalProperties: true }));

export const Consistency = Type.Optional(
  Type.Unsafe<"one" | "quorum" | "all">({ type: "string", enum: ["one", "quorum", "all"], description: "Also as the header X-Consistency." }),
);
export const OptionalConsistency = Type.Optional(
  Type.Unsafe<"one" | "quorum" | "all" | null>({
    type: ["string", "null"],
    enum: ["one", "quorum", "all", null],
    description: "Also in the query, or as the header X-Consistency.",
  }),
);
export const ConsistencyQuery = Type.Object({ consistency: Consistency });

export function optionalCount(minimum: number, maximum: number): ReturnType<typeof Type.Optional<ReturnType<typeof Type.Unsafe<number | null>>>> {
  return Type.Optional(Type.Unsafe<number | null>({ type: ["integer", "null"], minimum, maximum }));
}
export function limitQuery(standard: number, maximum: number) {
  return Type.Integer({ minimum: 1, maximum, default: standard });
}
export const OffsetQuery = Type.Integer({ minimum: 0, maximum: 1_000_000_000, default: 0 });
export const CursorQuery = Type.Optional(Type.String({ maxLength: 1024, description: "next_cursor of the page before." }));

export function nullable<T extends TSchema>(schema: T & { readonly type: string }) {
  return Type.Unsafe<Type.Static<T> | null>({ ...schema, type: [schema.type, "null"] });
}
export const NullableText = Type.Unsafe<string | null>({ type: ["string", "null"] });

export const IdParams = Type.Object({ id: Type.String({ minLength: 1, maxLength: 200, pattern: NAME_PATTERN }) });

export const MemoryView = Type.Object({
  id: Type.String(),
  entity: Type.String(),
  content: Type.String(),
  metadata: JsonObject,
  created_at: Type.String(),
  updated_at: Type.String(),
  tenant_id: Type.String(),
  conflicts: Type.Optional(
    Type.Object(
      {
        entity: Type.Optional(Type.Array(Type.String())),
        content: Type.Optional(Type.Array(Type.String())),
        metadata: Type.Optional(Type.Array(JsonObject)),
      },
      { description: "By field: values of edits made at the same time that did not see each other, and lost." },
    ),
  ),
});
export const EntityView = Type.Object({
  name: Type.String(),
  type: Type.Unsafe<(typeof CONCEPT_TYPES)[number]>({ type: "string", enum: [...CONCEPT_TYPES] }),
  description: NullableText,
  created_at: Type.String(),
});

/** A list whose items are described elsewhere or are open. */
export function JsonList(description: string) {
  return Type.Unsafe<unknown[]>({ type: "array", items: {}, description });
}
