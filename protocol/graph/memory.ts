/** A fact: who stored it first stands, the fields a person may correct are Editable. */
import { compareHlc, HLC_NEVER } from "../clock.ts";
import type { WriterId } from "../ids.ts";
import { mergeEditables } from "./editable.ts";
import type { Memory } from "./records.ts";

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
