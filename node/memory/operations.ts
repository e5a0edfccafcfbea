/** Everything the memory can be asked, by name: the one table that the rest of the node knows. Arguments are validated request bodies and queries. */
import type { Operations } from "../ports.ts";
import { concept, conceptGraph, deleteConcept, entities, patchConcept } from "./concepts.ts";
import { learn } from "./learn.ts";
import { getMemory, listMemories, searchMemories } from "./memories.ts";
import type { MemoryIndex } from "./memory-index.ts";
import { messages } from "./messages.ts";
import { decisions, sessions, stats } from "./overview.ts";
import { recall } from "./recall.ts";
import { editMemory, forgetMemory, remember } from "./remember.ts";
import type { MemorySettings } from "./settings.ts";

/** @param monotonic ms, for query_time_ms; without it that field is 0 */
export function createOperations(index: MemoryIndex, settings: MemorySettings, monotonic: () => number = () => 0): Operations {
  return {
    learn: learn(index, settings),
    remember: remember(index, settings),
    edit_memory: editMemory(index, settings),
    forget_memory: forgetMemory,
    patch_concept: patchConcept,
    delete_concept: deleteConcept(index),
    recall: recall(index, settings, monotonic),
    get_memory: getMemory,
    list_memories: listMemories(index),
    search_memories: searchMemories(index),
    entities: entities(index),
    concept: concept(index),
    concept_graph: conceptGraph(index, settings),
    messages: messages(index),
    search_messages: messages(index),
    stats: stats(index),
    sessions: sessions(index),
    decisions: decisions(index),
  };
}

export { DEFAULT_SETTINGS, type MemorySettings } from "./settings.ts";
