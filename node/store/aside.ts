/**
 * The end of this node's own stream that nobody else is known to hold, when its disk turns out to be a copy: another process may have given the same numbers
 * to other deltas. Of two branches of a stream the one that others hold keeps the name. So the copy's own end is cut off its frontier and set aside, its
 * partition is taken whole from another replica, and what was set aside is written again under the new incarnation, with its keys (DESIGN section 8).
 */

import { hashOf } from "../../protocol/delta.ts";
import type { OwnTail } from "../../protocol/effects.ts";
import type { Partition, WriterId } from "../../protocol/ids.ts";
import { headsAt } from "./clearing.ts";
import { keys, META, protect, ranges, rowsOf, streamAt, unprotect } from "./keyspace.ts";
import type { Level, LevelOperation } from "./level-port.ts";
import { decodeDamaged, decodePair, encodeDamaged, encodeHeads, encodeReplacing } from "./rows.ts";

/** One write that waits to be executed again. */
export interface Aside {
  readonly partition: Partition;
  readonly writer: WriterId;
  readonly seq: number;
  readonly headerBytes: Uint8Array;
  readonly bodyBytes: Uint8Array;
}

/** What one batch must do, together with the renewal of the incarnation. */
export function setAside(db: Level, own: WriterId, tails: readonly OwnTail[]): LevelOperation[] {
  const operations: LevelOperation[] = [];
  const cut: Partition[] = [];
  for (const { partition, after } of tails) {
    const heads = headsAt(db, keys.frontier(partition), partition);
    const head = heads.get(own);
    if (head === undefined || head.seq <= after) continue;
    for (let seq = after + 1; seq <= head.seq; seq++) {
      const value = db.getSync(keys.log(partition, own, seq));
      if (value !== undefined) operations.push({ type: "put", key: keys.aside(partition, own, seq), value });
    }
    const shared = after === 0 ? undefined : db.getSync(keys.log(partition, own, after));
    if (shared === undefined) heads.delete(own);
    else heads.set(own, { seq: after, hash: hashOf(decodePair(unprotect(keys.log(partition, own, after), shared))[0]) });
    if (heads.size > 0) {
      operations.push({ type: "put", key: keys.frontier(partition), value: protect(encodeHeads(heads)) });
      cut.push(partition);
    } else {
      // Nothing of it is left: the next start finishes clearing it.
      for (const key of rowsOf(partition, "replica").single) operations.push({ type: "del", key });
      operations.push({ type: "put", key: keys.replacing(partition), value: protect(encodeReplacing({ what: "drop" })) });
    }
  }
  if (cut.length === 0) return operations;
  const stored = db.getSync(META.damaged);
  const damaged = stored === undefined ? [] : decodeDamaged(unprotect(META.damaged, stored));
  const others = damaged.filter(({ partition, kind }) => kind === "marks" || !cut.includes(partition));
  const all = [...others, ...cut.map((partition) => ({ partition, kind: "heads" as const }))];
  return [...operations, { type: "put", key: META.damaged, value: protect(encodeDamaged(all)) }];
}

/** In the order in which they were written, partition by partition. A body that a floor has erased is not among them: all replicas hold that delta. */
export async function* allAside(db: Level): AsyncGenerator<Aside> {
  for await (const [key, value] of db.iterator(ranges.aside())) {
    const [headerBytes, bodyBytes] = decodePair(unprotect(key, value));
    if (bodyBytes.length > 0) yield { ...streamAt(key), headerBytes, bodyBytes };
  }
}
