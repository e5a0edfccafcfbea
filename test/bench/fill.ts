/** Writes many small facts into a running federation, as fast as it takes them: what the studies then repair or compare. */
import type { FederationStatus, PartitionStatus } from "../../node/status.ts";
import { partitionOf } from "../../protocol/layout.ts";
import { ask } from "../e2e/ask.ts";
import { type Federation, type FederationNode, type FederationOptions, startFederation } from "../e2e/federation.ts";
import type { Payload } from "./payload.ts";

/** A tenant and the nodes that hold a full replica of it. */
export interface Home {
  readonly tenant: string;
  readonly partition: number;
  readonly replicas: readonly FederationNode[];
}

/** On a machine that does other work too. */
const READY_MS_MAX = 180_000;
const STORE_MS_MAX = 120_000;

/** Stopped by whatever `own` keeps, however long it takes them to be ready. */
export async function startNodes(options: FederationOptions, own: (stop: () => Promise<void>) => void): Promise<Federation> {
  const federation = await startFederation({ ...options, unready: true });
  own(() => federation.stop());
  await federation.ready(READY_MS_MAX);
  return federation;
}

/** Facts of one request. */
const BATCH = 250;
/** Requests under way at a time, over all nodes: the nodes are busy then, and no request waits for its deadline. */
const IN_FLIGHT = 4;

/**
 * Tenants of which a node holds a full replica, each in a partition of its own: whatever is written there while it is away, it lacks.
 * Every tenant gets its first fact by this.
 */
export async function tenantsOf(holder: FederationNode, nodes: readonly FederationNode[], count: number, payload: Payload): Promise<Home[]> {
  const candidates = Array.from({ length: 4 * count }, (_, index) => `bench-${index}`);
  for (const tenant of candidates) await store(holder, tenant, factsFrom(0, 1, payload), "quorum");
  const { partitions } = (await ask<FederationStatus>(holder.url, "GET", "/v1/federation")).body;
  const homes = new Map<number, Home>();
  for (const tenant of candidates) {
    const here = partitions.find(({ partition }) => partition === partitionOf(tenant));
    if (here?.role === "replica")
      homes.set(here.partition, { tenant, partition: here.partition, replicas: nodes.filter(({ name }) => isReplica(here, name)) });
  }
  if (homes.size < count) throw new Error(`only ${homes.size} of ${candidates.length} tenants live at ${holder.name}`);
  return [...homes.values()].slice(0, count);
}

function isReplica(partition: PartitionStatus, name: string): boolean {
  return partition.replicas.includes(name);
}

/** @param count facts in all, spread over the tenants in turn, each sent to a running replica of its tenant */
export async function fill(homes: readonly Home[], count: number, payload: Payload): Promise<void> {
  let next = 1;
  const writer = async (): Promise<void> => {
    while (next <= count) {
      const from = next;
      next += BATCH;
      const { tenant, replicas } = homes[Math.floor(from / BATCH) % homes.length]!;
      const running = replicas.filter(({ pid }) => pid !== undefined);
      await store(running[from % running.length]!, tenant, factsFrom(from, Math.min(BATCH, count + 1 - from), payload), "one");
    }
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, writer));
}

/** Sentences of at most a hundred characters, each about something. */
export function factsFrom(first: number, count: number, payload: Payload): object[] {
  return Array.from({ length: count }, (_, index) => first + index).map((n) => ({
    entity: payload.entity(n),
    content: payload.question(n),
    metadata: { n },
  }));
}

/** In one request. */
export async function store(node: FederationNode, tenant: string, memories: readonly object[], level: "one" | "quorum"): Promise<void> {
  const headers = { "x-tenant-id": tenant };
  const answer = await ask<{ results: { status: string }[] }>(node.url, "POST", `/v1/memories/batch?consistency=${level}`, {
    body: { memories },
    headers,
    timeoutMs: STORE_MS_MAX,
  });
  const refused = answer.status === 200 ? answer.body.results.find(({ status }) => status !== "stored") : answer.body;
  if (refused !== undefined) throw new Error(`storing facts at ${node.name}: ${answer.status} ${JSON.stringify(refused)}`);
}

/** How far a node holds each stream of some partitions: `{"partition/writer": n}`. */
export async function frontierOf(node: FederationNode, partitions: ReadonlySet<number>): Promise<Map<string, number>> {
  const status = (await ask<FederationStatus>(node.url, "GET", "/v1/federation")).body;
  return new Map(
    status.partitions
      .filter(({ partition }) => partitions.has(partition))
      .flatMap(({ partition, frontier }) => Object.entries(frontier).map(([writer, n]) => [`${partition}/${writer}`, n] as const)),
  );
}

/** Of every stream the furthest that any of the nodes holds. */
export async function highest(nodes: readonly FederationNode[], partitions: ReadonlySet<number>): Promise<Map<string, number>> {
  const all = new Map<string, number>();
  for (const node of nodes) for (const [stream, n] of await frontierOf(node, partitions)) all.set(stream, Math.max(n, all.get(stream) ?? 0));
  return all;
}

/** What is held of all streams together. */
export function sumOf(frontier: ReadonlyMap<string, number>): number {
  return [...frontier.values()].reduce((sum, n) => sum + n, 0);
}
