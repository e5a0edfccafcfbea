/** What the node counts, under the names of the API document. Labels are bounded: never a tenant, an id or a path. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from "prom-client";
import { SECRET_IDS_MAX } from "../protocol/limits.ts";
import { HttpStats } from "./http-stats.ts";
import type { Meter, MeterName } from "./ports.ts";
import type { FederationStatus } from "./status.ts";

/** Figures that are read when somebody scrapes, not kept up to date. What is absent is not exported. */
export interface MetricsSource {
  readonly federation?: FederationStatus;
  /** Records of the partitions whose first replica is this node, so that a sum over nodes is true. */
  readonly records?: { readonly concepts: number; readonly entities: number; readonly memories: number };
  /** Deltas kept as a witness, by the public id of the secret they are sealed under. */
  readonly sealedUnder?: ReadonlyMap<string, number>;
  readonly databaseBytes?: number;
}

export interface Metrics extends Meter {
  readonly http: HttpStats;
  /** Prometheus text format 0.0.4. */
  scrape(): Promise<string>;
  readonly contentType: string;
}

export function createMetrics(
  source: () => MetricsSource | Promise<MetricsSource> = () => ({}),
  options: { readonly process?: boolean } = {},
): Metrics {
  const registry = new Registry();
  if (options.process !== false) collectDefaultMetrics({ register: registry });
  const http = new HttpStats();
  const counters = buildCounters(registry);
  const histograms = buildHistograms(registry);
  const gauges = buildGauges();
  const states = buildStates();
  const sealedUnder = new Gauge({
    name: "continuum_federation_witness_sealed_under_deltas",
    help: "Sealed deltas a witness keeps, by the public id of the secret they are sealed under; one id outside of a rotation.",
    labelNames: ["secret"],
    registers: [],
  });
  piPhi(registry);
  return {
    http,
    contentType: registry.contentType,
    count(name, value = 1, label) {
      const counter = counters[name];
      if (counter === undefined) histograms[name]?.observe(value);
      else if (counter.labelNames.length === 0) counter.metric.inc(value);
      else counter.metric.inc(labelled(counter.labelNames, label), value);
    },
    observe(name, value) {
      histograms[name]?.observe(value);
    },
    async scrape() {
      const figures = await source();
      setGauges(registry, gauges, figures);
      setStates(registry, states, figures);
      setSealedUnder(registry, sealedUnder, figures.sealedUnder);
      return `${await registry.metrics()}${http.render()}`;
    },
  };
}

interface LabelledCounter {
  readonly metric: Counter;
  readonly labelNames: readonly string[];
}

function buildCounters(registry: Registry): Partial<Record<MeterName, LabelledCounter>> {
  const counter = (name: string, help: string, labelNames: string[] = []): LabelledCounter => ({
    metric: new Counter({ name, help, labelNames, registers: [registry] }),
    labelNames,
  });
  return {
    learn: counter("continuum_learn_operations_total", "Learn requests answered through this node."),
    recall: counter("continuum_recall_operations_total", "Recall requests answered through this node."),
    memory_stored: counter("continuum_memories_stored_total", "Memories stored through this node."),
    concepts_extracted: counter("continuum_concepts_extracted_total", "Concepts found in the turns learnt through this node."),
    consensus_failure: counter("continuum_federation_consensus_failures_total", "Requests that did not reach their level.", ["level", "reason"]),
    sync_operation: counter("continuum_federation_sync_operations_total", "Exchanges with peers.", ["operation"]),
    bytes_sent: counter("continuum_federation_bytes_sent_total", "Bytes of frames sent to peers."),
    bytes_received: counter("continuum_federation_bytes_received_total", "Bytes of frames received from peers."),
    connection_error: counter("continuum_federation_connection_errors_total", "Connections to or from peers that failed or were refused.", [
      "reason",
    ]),
    frame_dropped: counter("continuum_federation_frames_dropped_total", "Frames not sent or not accepted; repair finds what they carried.", [
      "reason",
    ]),
    scrubbed: counter("continuum_scrubbed_partitions_total", "Copies on this disk that were read again, and what they were found to be.", ["found"]),
    delta_refused: counter(
      "continuum_federation_deltas_refused_total",
      "Deltas of others that were not taken: stamped in the future, no room at a witness, or of a stream with two histories.",
      ["reason"],
    ),
  };
}

function buildHistograms(registry: Registry): Partial<Record<MeterName, Histogram>> {
  const histogram = (name: string, help: string, buckets: number[]): Histogram => new Histogram({ name, help, buckets, registers: [registry] });
  const seconds = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.5, 2.5];
  return {
    group_commit_deltas: histogram(
      "continuum_group_commit_deltas",
      "Deltas that shared one batch and one fsync.",
      [1, 2, 4, 8, 16, 32, 64, 128, 256],
    ),
    commit_seconds: histogram("continuum_commit_seconds", "Time of one batch, fsync included.", seconds),
    quorum_wait_seconds: histogram("continuum_quorum_wait_seconds", "From a write's own fsync to the acknowledgements its level needs.", seconds),
    barrier_seconds: histogram("continuum_barrier_seconds", "Time a read waited for its barrier.", seconds),
  };
}

function labelled(names: readonly string[], label = "unknown"): Record<string, string> {
  const [first = "unknown", ...rest] = names.length > 1 ? label.split(":") : [label];
  return names.length > 1 ? { [names[0]!]: first, [names[1]!]: rest.join(":") || "unknown" } : { [names[0]!]: first };
}

type GaugeName =
  | "lag"
  | "completeness"
  | "peers"
  | "healthy"
  | "concepts"
  | "entities"
  | "memories"
  | "database"
  | "quorum"
  | "short"
  | "shortCopies"
  | "held"
  | "heldDeltas"
  | "layoutVersion"
  | "notHandedOver"
  | "conflict"
  | "clockAhead"
  | "inDoubt"
  | "copying"
  | "damaged";

const PHASES = ["done", "staged", "joint"];
const STANDINGS = ["unlisted", "comparing", "refilling", "counting"];

function piPhi(registry: Registry): void {
  new Gauge({ name: "continuum_pi_phi_constant", help: "Pi times phi, the constant of CONTINUUM.", registers: [registry] }).set(5.08320369231526);
}

/** Not registered yet: a gauge that nobody has set must not read as nought. */
function buildGauges(): Record<GaugeName, Gauge> {
  const gauge = (name: string, help: string): Gauge => new Gauge({ name, help, registers: [] });
  return {
    lag: gauge("continuum_federation_sync_lag_seconds", "How long the oldest delta that a group member lacks has waited."),
    completeness: gauge("continuum_federation_completeness_ratio", "Share of the known deltas that this node holds."),
    peers: gauge("continuum_federation_peers_total", "Nodes known beside this one."),
    healthy: gauge("continuum_federation_peers_healthy", "Of those, connected and answering."),
    quorum: gauge("continuum_federation_quorum_available", "1 when every partition known here can reach its quorum."),
    short: gauge("continuum_federation_short_groups", "Partitions with fewer replicas and witnesses than the factor asks for."),
    shortCopies: gauge(
      "continuum_federation_short_copies",
      "Partitions with data here of which fewer full replicas than the factor are connected and hold all that is known.",
    ),
    held: gauge("continuum_federation_witness_held_bytes", "Sealed bytes a witness keeps until the full replicas have them."),
    heldDeltas: gauge("continuum_federation_witness_held_deltas", "Sealed deltas a witness keeps until the full replicas have them."),
    layoutVersion: gauge("continuum_federation_layout_version", "Version of the layout this node goes by."),
    notHandedOver: gauge(
      "continuum_federation_partitions_not_handed_over",
      "Of 257 partitions, those that the owners to come do not have yet; 0 when no change of the layout is under way.",
    ),
    conflict: gauge(
      "continuum_federation_layout_conflict",
      "1 while a peer goes by another layout of the same number: quorum stops until an operator chooses.",
    ),
    clockAhead: gauge(
      "continuum_federation_clock_ahead_seconds",
      "How far this node's clock is ahead of the median of its peers'; negative: behind.",
    ),
    inDoubt: gauge("continuum_federation_in_doubt_total", "Requests executed here that were answered in_doubt, since the start."),
    copying: gauge("continuum_federation_partitions_copying", "Partitions that are on their way here as snapshots."),
    damaged: gauge("continuum_damaged_copies", "Copies of partitions on this disk that are not what was written, and not replaced yet."),
    concepts: gauge("continuum_concepts_total", "Concepts, each counted by the first replica of its partition."),
    entities: gauge("continuum_entities_total", "Entities, counted likewise."),
    memories: gauge("continuum_memories_total", "Memories, counted likewise."),
    database: gauge("continuum_database_size_bytes", "Bytes of the store on disk."),
  };
}

function setGauges(registry: Registry, gauges: Record<GaugeName, Gauge>, source: MetricsSource): void {
  const set = (name: GaugeName, value: number | undefined): void => {
    if (value === undefined) return;
    gauges[name].set(value);
    registry.registerMetric(gauges[name]);
  };
  const { federation, records, databaseBytes } = source;
  set("lag", federation?.sync_lag_seconds);
  set("completeness", federation?.completeness);
  set("peers", federation?.peers.length);
  set("healthy", federation?.peers.filter((peer) => peer.healthy).length);
  set("quorum", federation === undefined ? undefined : Number(federation.quorum.available));
  set("short", federation?.quorum.short_groups);
  set("shortCopies", federation?.quorum.short_copies);
  set("held", federation?.witness.held_bytes);
  set("heldDeltas", federation?.witness.held_deltas);
  set("layoutVersion", federation?.layout?.version);
  set("notHandedOver", federation === undefined ? undefined : (federation.moving?.partitions_left ?? 0));
  set("conflict", federation === undefined ? undefined : Number(federation.conflict !== null));
  set("clockAhead", federation?.clock_ahead_ms == null ? undefined : federation.clock_ahead_ms / 1000);
  set("inDoubt", federation?.in_doubt_total);
  set("copying", federation?.copying);
  set("damaged", federation?.damaged.length);
  set("concepts", records?.concepts);
  set("entities", records?.entities);
  set("memories", records?.memories);
  set("database", databaseBytes);
}

/** One series a word, 1 for the one that is so. */
function buildStates(): Record<"phase" | "standing", Gauge> {
  const gauge = (name: string, help: string, label: string): Gauge => new Gauge({ name, help, labelNames: [label], registers: [] });
  return {
    phase: gauge(
      "continuum_federation_layout_phase",
      "1 for the phase the layout is in: done, staged (owners to come copy), joint (both count).",
      "phase",
    ),
    standing: gauge(
      "continuum_federation_standing",
      "1 for how this node stands: counting; comparing or refilling (does not count yet); unlisted (in no layout).",
      "standing",
    ),
  };
}

function setStates(registry: Registry, states: Record<"phase" | "standing", Gauge>, { federation }: MetricsSource): void {
  const set = (gauge: Gauge, label: string, words: readonly string[], now: string | undefined): void => {
    if (now === undefined) return;
    for (const word of words) gauge.set({ [label]: word }, Number(word === now));
    registry.registerMetric(gauge);
  };
  set(states.phase, "phase", PHASES, federation?.layout?.phase);
  set(states.standing, "standing", STANDINGS, federation?.node.standing);
}

/** At most as many series as the store has secrets: an id that nothing is under any more goes. */
function setSealedUnder(registry: Registry, gauge: Gauge, sealedUnder: MetricsSource["sealedUnder"]): void {
  if (sealedUnder === undefined) return;
  gauge.reset();
  for (const [secret, deltas] of [...sealedUnder].slice(0, SECRET_IDS_MAX)) gauge.set({ secret }, deltas);
  registry.registerMetric(gauge);
}
