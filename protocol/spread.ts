/** Who is told what once it is on disk: the writer's deltas go to the rest of the group, and how far everybody else's streams are held to all who count by it. */
import type { Delta } from "./delta.ts";
import type { Effect } from "./effects.ts";
import type { StreamHead } from "./frontier.ts";
import type { NodeId, Partition } from "./ids.ts";
import { INTERVAL_DELTAS_MAX } from "./limits.ts";

export type NodesOf = (partition: Partition) => readonly NodeId[];

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
export function reports(heads: readonly StreamHead[], others: NodesOf): Effect[] {
  const news = new Map<NodeId, StreamHead[]>();
  for (const head of heads) {
    for (const node of others(head.partition)) {
      const list = news.get(node);
      if (list === undefined) news.set(node, [head]);
      else list.push(head);
    }
  }
  return [...news].map(([to, list]): Effect => ({ type: "send", to, message: { type: "held", heads: list } }));
}
