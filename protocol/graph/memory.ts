/** A fact: who stored it first stands, the fields a person may correct are Editable. */
import { compareHlc, HLC_NEVER, type Hlc } from "../clock.ts";
import type { KeyHash, WriterId } from "../ids.ts";
import { mergeEditables } from "./editable.ts";
import type { Dot, Editable, EditFields, Memory, MemoryBody } from "./records.ts";

interface By {
  readonly writer: WriterId;
  readonly seq: number;
  readonly hlc: Hlc;
  readonly siblings: readonly Dot[];
}

export function memoryFrom(said: MemoryBody, by: By, key: KeyHash): Memory {
  const first = <T>(value: T): Editable<T> => [{ value, ...by, saw: {} }];
  const fields = { entity: first(said.entity), content: first(said.content), metadata: first(said.metadata), concepts: first(said.concepts) };
  return { kind: "memory", at: by.hlc, writer: by.writer, node: said.node, session: said.session, ...fields, keys: [key] };
}

export function editFrom(said: EditFields, by: By, saw: Readonly<Record<WriterId, number>>): Memory {
  const edited = <T>(value: T | undefined): Editable<T> => (value === undefined ? [] : [{ value, ...by, saw }]);
  const fields = { entity: edited(said.entity), content: edited(said.content), metadata: edited(said.metadata), concepts: edited(said.concepts) };
  return { ...MEMORY_NOT_ARRIVED, ...fields };
}

export function mergeMemories(a: Memory, b: Memory): Memory {
  const first = (compareHlc(a.at, b.at) || (a.writer < b.writer ? -1 : 1)) <= 0 ? a : b;
  return {
    ...first,
    entity: mergeEditables(a.entity, b.entity),
    content: mergeEditables(a.content, b.content),
    metadata: mergeEditables(a.metadata, b.metadata),
    concepts: mergeEditables(a.concepts, b.concepts),
    keys: [...new Set([...a.keys, ...b.keys])].sort(),
  };
}

/** An edit may arrive before the fact it edits (they are in two streams): it is kept in a copy that readers do not see yet. */
export const MEMORY_NOT_ARRIVED: Memory = {
  kind: "memory",
  at: HLC_NEVER,
  writer: "" as WriterId,
  node: "",
  session: "",
  entity: [],
  content: [],
  metadata: [],
  concepts: [],
  keys: [],
};

export function memoryHasArrived(memory: Memory): boolean {
  return memory.writer !== "";
}
