/** learn: what user and assistant said becomes a turn, its concepts, and links among the most salient of them. */
import type { WriteOperation } from "../ports.ts";
import { conceptContributions, countPairs, linkContributions, pairsAmong } from "./contributions.ts";
import { decisionsIn } from "./decisions.ts";
import { extract } from "./extract.ts";
import type { MemoryIndex } from "./memory-index.ts";
import { instanceOf, type Metadata, metadataText, sessionOf } from "./metadata.ts";
import type { MemorySettings } from "./settings.ts";

export interface LearnArgs {
  readonly user_message: string;
  readonly ai_response: string;
  readonly thinking?: string;
  readonly metadata?: Metadata;
}

export interface LearnAnswer {
  readonly concepts_extracted: number;
  readonly decisions_detected: number;
  /** Links that did not exist before. */
  readonly links_created: number;
  /** Pairs of concepts met together before, which this turn reinforced. */
  readonly compounds_found: number;
  readonly tenant_id: string;
  readonly turn_id: string;
  /** Names, most salient first. */
  readonly concepts: readonly string[];
}

export function learn(index: MemoryIndex, settings: MemorySettings): WriteOperation<LearnArgs, LearnAnswer> {
  return {
    type: "write",
    decide(args, context) {
      const { reader } = context;
      const concepts = extract(`${args.user_message}\n\n${args.ai_response}`, settings);
      const decisions = decisionsIn(args.ai_response);
      const pairs = pairsAmong(concepts, settings.capacity);
      const { created, compounds } = countPairs(pairs, reader);
      const id = context.id("turn", 0);
      const turn = {
        node: context.node,
        session: sessionOf(args.metadata),
        instance: instanceOf(args.metadata, context.node),
        user: args.user_message,
        assistant: args.ai_response,
        thinking: args.thinking ?? "",
        metadata: metadataText(args.metadata),
        concepts: concepts.map((concept) => concept.id),
        decisions,
      };
      return {
        contributions: [{ op: "turn", id, turn }, ...conceptContributions(concepts, reader, index), ...linkContributions(pairs)],
        answer: {
          concepts_extracted: concepts.length,
          decisions_detected: decisions.length,
          links_created: created,
          compounds_found: compounds,
          tenant_id: reader.tenant,
          turn_id: id,
          concepts: concepts.map((concept) => concept.name),
        },
      };
    },
  };
}
