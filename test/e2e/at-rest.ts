/** What must hold once nothing moves any more: equal frontiers, equal fingerprints, and witnesses that keep nothing. */
import type { FederationStatus, PartitionStatus } from "../../node/status.ts";
import { SYSTEM_PARTITION } from "../../protocol/ids.ts";
import { ask } from "./ask.ts";
import { eventually, type Federation } from "./federation.ts";

/**
 * Waits until in every partition with data all members report the same frontier (a witness: marks), both full replicas the same fingerprint,
 * and no witness keeps a delta.
 * @returns partition -> its state on every node that has a part in it
 * @throws Error naming what still differs after `ms`
 */
export async function atRest(federation: Pick<Federation, "urls" | "nodes">, ms = 20_000): Promise<ReadonlyMap<number, readonly PartitionStatus[]>> {
  let different: readonly string[] = [];
  return eventually(
    "all nodes are equal at rest",
    ms,
    async () => {
      const seen = await Promise.all(
        federation.urls.map(async (url) => (await ask<FederationStatus>(url, "GET", "/v1/federation?fingerprints=true")).body),
      );
      const partitions = new Map<number, PartitionStatus[]>();
      for (const { partitions: own } of seen)
        for (const state of own) partitions.set(state.partition, [...(partitions.get(state.partition) ?? []), state]);
      different = [...partitions].flatMap(([partition, held]) =>
        differences(held, partition === SYSTEM_PARTITION ? federation.nodes.length : Math.min(3, federation.nodes.length)).map(
          (what) => `partition ${partition}: ${what}`,
        ),
      );
      different = [
        ...different,
        ...seen.flatMap(({ node, witness }) => (witness.held_deltas === 0 ? [] : [`${node.name} keeps ${witness.held_deltas} deltas as a witness`])),
      ];
      return different.length === 0 ? partitions : undefined;
    },
    () => different.slice(0, 20).join("\n"),
  );
}

function differences(held: readonly PartitionStatus[], nodes: number): string[] {
  const placed = held[0]!;
  const frontiers = new Set(held.map(({ frontier }) => JSON.stringify(Object.entries(frontier).sort())));
  const replicas = held.filter(({ role }) => role === "replica");
  const fingerprints = new Set(replicas.map(({ fingerprint }) => fingerprint));
  return [
    ...(held.length === Math.min(placed.replicas.length + placed.witnesses.length, nodes) ? [] : [`known to ${held.length} nodes`]),
    ...(frontiers.size === 1 ? [] : [`frontiers ${[...frontiers].join(" | ")}`]),
    ...(replicas.length >= 2 && fingerprints.size === 1 && !fingerprints.has(null) ? [] : [`fingerprints ${[...fingerprints].join(" | ")}`]),
    ...held.filter(({ held_deltas }) => held_deltas > 0).map(({ held_deltas }) => `a witness keeps ${held_deltas} deltas`),
  ];
}
