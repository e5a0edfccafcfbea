import type { Level } from "../../protocol/ids.ts";

/** What the clients did and were told, in simulated milliseconds: the only thing the history checker knows. */
export type Operation = Put | Bump | Unlearn | Edit | Delete | Read;

interface Common {
  readonly id: number;
  readonly client: string;
  readonly tenant: string;
  readonly level: Level;
  /** When its first attempt was sent. */
  readonly begin: number;
  /** When it was acknowledged at `level`; undefined: never (refused, in doubt, or the node died). It may have happened all the same. */
  end: number | undefined;
  /** Attempts under one Idempotency-Key, on one node or several. */
  attempts: number;
}
/** Stores a memory under an id of its own. */
export interface Put extends Common {
  readonly kind: "put";
  readonly memory: string;
  readonly value: string;
}
/** Counts one more occurrence of each concept, and one of the link between the two. */
export interface Bump extends Common {
  readonly kind: "bump";
  readonly concepts: readonly [string, string];
}
/** Takes away what a node has counted of two concepts and of their link. Concepts that are ever unlearnt are in no read's counts. */
export interface Unlearn extends Common {
  readonly kind: "unlearn";
  readonly concepts: readonly [string, string];
}
export interface Edit extends Common {
  readonly kind: "edit";
  readonly memory: string;
  readonly value: string;
}
export interface Delete extends Common {
  readonly kind: "delete";
  readonly memory: string;
}
export interface Read extends Common {
  readonly kind: "read";
  /** Acknowledged operations of the same client whose frontier tokens this read carries: it must see them, at level `one` too. */
  readonly after: readonly number[];
  seen: Seen | undefined;
}

/** What a read answered: of each memory the values of its concurrent versions, none when it is not there; of each concept its count. */
export interface Seen {
  readonly memories: ReadonlyMap<string, readonly string[]>;
  readonly counts: ReadonlyMap<string, number>;
}

export interface Violation {
  readonly checker: string;
  readonly message: string;
}
