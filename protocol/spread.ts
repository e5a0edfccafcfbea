/** Who is told what once it is on disk: the writer's deltas go to the rest of the groups, and how far everybody else's streams are held to all who count by it. */
import type { Delta } from "./delta.ts";
import type { Effect } from "./effects.ts";
import type { StreamHead } from "./frontier.ts";
import type { NodeId, Partition } from "./ids.ts";
import type { Kind } from "./knowledge.ts";
import { INTERVAL_DELTAS_MAX } from "./limits.ts";
import type { MessageOf } from "./message.ts";

export type NodesOf = (partition: Partition) => readonly NodeId[];
/** A stream position this node holds as a replica (`heads`) or has seen as a witness (`marks`). */
export interface News {
  readonly kind: Kind;
  readonly head: StreamHead;
}

/** One push an audience, in stream order, cut to what one message may carry. */
export function pushes(own: ReadonlyMap<Partition, readonly Delta[]>, others: NodesOf): Effect[] {
  const audiences = new Map<string, { nodes: readonly NodeId[]; deltas: Delta[] }>();
  for (const [partition, deltas] of own) {
    const nodes = others(partition);
    if (nodes.length === 0) continue;
    const audience = audiences.get(nodes.join());
    if (audience === undefined) audiences.set(nodes.join(), { nodes, deltas: [...deltas] });
    else audience.deltas.push(...deltas);
  }
  const effects: Effect[] = [];
  for (const { nodes, deltas } of audiences.values()) {
    for (let at = 0; at < deltas.length; at += INTERVAL_DELTAS_MAX) {
      effects.push({ type: "push", to: nodes, deltas: deltas.slice(at, at + INTERVAL_DELTAS_MAX) });
    }
  }
  return effects;
}

/** One `held` a member: to the writer an acknowledgement, to replicas news for their barriers, to witnesses leave to forget. */
export function reports(news: readonly News[], others: NodesOf, speaksOfMarks: (node: NodeId) => boolean): Effect[] {
  const lists = new Map<NodeId, News[]>();
  for (const one of news) {
    for (const node of others(one.head.partition)) {
      const list = lists.get(node);
      if (list === undefined) lists.set(node, [one]);
      else list.push(one);
    }
  }
  return [...lists].map(([to, list]): Effect => ({ type: "send", to, message: heldMessage(list, speaksOfMarks(to)) }));
}

/** @param apart whether the receiver knows heads and marks apart (protocol version 2) */
export function heldMessage(news: readonly News[], apart: boolean): MessageOf<"held"> {
  const of = (kind: Kind): StreamHead[] => news.filter((one) => one.kind === kind).map(({ head }) => head);
  return apart ? { type: "held", heads: of("heads"), marks: of("marks") } : { type: "held", heads: news.map(({ head }) => head) };
}
