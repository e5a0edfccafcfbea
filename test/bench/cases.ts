/** What one round measures, in order: the systems in turn at each number of clients, so that a change of the machine's mood meets all of them. */
import type { Contender } from "./options.ts";
import type { WorkloadName } from "./workloads.ts";

export interface Case {
  readonly system: Contender;
  readonly workload: WorkloadName;
  readonly clients: number;
  /** All clients at one node that holds a replica, instead of spread over the three. */
  readonly atOneReplica: boolean;
}

const SPREAD: readonly (readonly [Contender, WorkloadName])[] = [
  ["continuum", "memories"],
  ["etcd", "etcd-put"],
  ["floor", "floor-put"],
  ["continuum", "learn"],
  ["continuum", "recall-quorum"],
  ["continuum", "empty-quorum"],
  ["etcd", "etcd-read"],
  ["continuum", "recall-one"],
];

export function casesOf(clients: readonly number[]): Case[] {
  const most = Math.max(...clients);
  return clients.flatMap((count) => [
    ...SPREAD.map(([system, workload]) => ({ system, workload, clients: count, atOneReplica: false })),
    ...(count === most ? [{ system: "continuum" as const, workload: "memories" as const, clients: count, atOneReplica: true }] : []),
  ]);
}

export function keyOf({ workload, clients, atOneReplica }: Case): string {
  return `${workload}/${clients}${atOneReplica ? "/one-replica" : ""}`;
}
