/** What a recall answers with, and the reasons it gives. */
import type { ConceptType } from "../../protocol/graph/records.ts";

export interface RecalledMemory {
  readonly id: string;
  readonly text: string;
  /** 1 for the best, 0 for the least of all that were considered. */
  readonly score: number;
  readonly at: string;
  readonly session_id: string | null;
  readonly node: string;
  readonly kind: "turn" | "memory";
  /** Null for a turn. */
  readonly entity: string | null;
  readonly why: MemoryWhy;
}
export interface RecalledConcept {
  readonly name: string;
  readonly kind: ConceptType;
  /** 1 when the question names it, else its share of the strongest. */
  readonly score: number;
  readonly why: ConceptWhy;
}
export interface RecalledLink {
  readonly source: string;
  readonly target: string;
  readonly strength: number;
}
export interface RecallAnswer {
  readonly recall_id: string;
  readonly context: string;
  readonly concepts_found: number;
  readonly relationships_found: number;
  readonly query_time_ms: number;
  readonly tenant_id: string;
  readonly concepts: readonly RecalledConcept[];
  readonly memories: readonly RecalledMemory[];
  readonly links: readonly RecalledLink[];
}

export interface MemoryWhy {
  /** Words of the question it holds, in whatever form. */
  readonly words: readonly string[];
  /** Words of the question that were said just before it in its session. */
  readonly words_before: readonly string[];
  /** Names of the question it is about or mentions. */
  readonly concepts: readonly string[];
  /** Links that lead from a name of the question to a name in it. */
  readonly links: readonly { readonly from: string; readonly to: string; readonly strength: number }[];
  /** The memory that led here, and the name both share. */
  readonly through: { readonly memory: string; readonly concept: string } | null;
}

export interface ConceptWhy {
  /** The question names it. */
  readonly named: boolean;
  /** Memories and turns it occurs in. */
  readonly memories: number;
  /** Other recalled concepts it is linked with. */
  readonly linked_with: readonly string[];
}
