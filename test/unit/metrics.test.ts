import { describe, expect, it } from "vitest";
import { createMetrics } from "../../node/metrics.ts";
import { STATUS } from "./http-api.ts";

describe("metrics", () => {
  it("have the documented names for what the layers count", async () => {
    const sealedUnder = new Map([["0123abcd", 7]]);
    const metrics = createMetrics(() => ({ federation: STATUS, records: { concepts: 3, entities: 4, memories: 5 }, sealedUnder, databaseBytes: 6 }));
    metrics.count("learn");
    metrics.count("concepts_extracted", 7);
    metrics.count("consensus_failure", 1, "quorum:in_doubt");
    metrics.count("sync_operation", 2, "heads");
    metrics.count("connection_error", 1, "wrong_secret");
    metrics.count("delta_refused", 2, "future");
    metrics.observe("quorum_wait_seconds", 0.002);
    metrics.observe("group_commit_deltas", 17);
    const lines = (await metrics.scrape()).split("\n");
    for (const line of [
      "continuum_learn_operations_total 1",
      "continuum_concepts_extracted_total 7",
      'continuum_federation_consensus_failures_total{level="quorum",reason="in_doubt"} 1',
      'continuum_federation_sync_operations_total{operation="heads"} 2',
      'continuum_federation_connection_errors_total{reason="wrong_secret"} 1',
      "continuum_quorum_wait_seconds_count 1",
      'continuum_group_commit_deltas_bucket{le="32"} 1',
      "continuum_federation_peers_total 2",
      "continuum_federation_peers_healthy 1",
      "continuum_federation_sync_lag_seconds 0.5",
      "continuum_concepts_total 3",
      "continuum_entities_total 4",
      "continuum_memories_total 5",
      "continuum_federation_layout_version 1",
      'continuum_federation_layout_phase{phase="done"} 1',
      'continuum_federation_layout_phase{phase="joint"} 0',
      'continuum_federation_standing{standing="counting"} 1',
      'continuum_federation_standing{standing="refilling"} 0',
      "continuum_federation_partitions_not_handed_over 0",
      "continuum_federation_layout_conflict 0",
      "continuum_federation_short_copies 0",
      "continuum_damaged_copies 0",
      "continuum_federation_witness_held_deltas 0",
      "continuum_federation_clock_ahead_seconds 0",
      "continuum_federation_in_doubt_total 0",
      'continuum_federation_deltas_refused_total{reason="future"} 2',
      'continuum_federation_witness_sealed_under_deltas{secret="0123abcd"} 7',
      "continuum_database_size_bytes 6",
      "continuum_pi_phi_constant 5.08320369231526",
    ]) {
      expect(lines).toContain(line);
    }
    expect(lines.some((line) => line.startsWith("nodejs_eventloop_lag_seconds"))).toBe(true);
  });

  it("leave out what nobody measures, instead of calling it nought", async () => {
    const metrics = createMetrics(() => ({ databaseBytes: 0 }), { process: false });
    for (const text of [await metrics.scrape(), await metrics.scrape()]) {
      expect(text).toContain("continuum_database_size_bytes 0");
      expect(text).not.toMatch(/continuum_concepts_total|continuum_federation_sync_lag_seconds/);
    }
  });

  it("put each request into one bucket and keep the sum", () => {
    const { http } = createMetrics(undefined, { process: false });
    const observe = http.observer("GET", '/v1/"odd"');
    observe(200, 0.9);
    observe(200, 1);
    observe(404, 30);
    observe(503, 60_000);
    const lines = http.render().split("\n");
    const labels = 'method="GET",route="/v1/_odd_"';
    expect(lines).toContain(`continuum_http_requests_total{${labels},status="200"} 2`);
    expect(lines).toContain(`continuum_http_request_duration_seconds_bucket{${labels},le="0.001"} 2`);
    expect(lines).toContain(`continuum_http_request_duration_seconds_bucket{${labels},le="0.025"} 2`);
    expect(lines).toContain(`continuum_http_request_duration_seconds_bucket{${labels},le="0.1"} 3`);
    expect(lines).toContain(`continuum_http_request_duration_seconds_bucket{${labels},le="10"} 3`);
    expect(lines).toContain(`continuum_http_request_duration_seconds_bucket{${labels},le="+Inf"} 4`);
    expect(lines).toContain(`continuum_http_request_duration_seconds_count{${labels}} 4`);
    expect(lines.find((line) => line.startsWith("continuum_http_request_duration_seconds_sum"))).toMatch(/ 60\.03/);
  });
});
