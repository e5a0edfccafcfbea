import type { Command } from "commander";
import type { FederationStatus, PeerStatus } from "../status.ts";
import { addClientOptions, type ClientOptions, callApi } from "./client.ts";
import { counted, drawTable, print, printJson } from "./print.ts";

export function addStatus(program: Command): void {
  addClientOptions(program.command("status").description("draw the federation as one node sees it")).action(async (options: ClientOptions) => {
    const { body } = await callApi<FederationStatus>(options, { path: "/v1/federation" });
    if (options.json) printJson(body);
    else print(drawStatus(body));
  });
}

export function drawStatus(status: FederationStatus): string {
  return [headline(status), "", members(status), "", health(status)].join("\n");
}

function headline({ node, layout, quorum, consistency, waiting_for: waiting }: FederationStatus): string {
  if (node.role === "single") return `${node.name} is a single node (no FEDERATION_SECRET), version ${node.version}`;
  if (layout === null) return `${node.name} waits for layout 1${waiting.length === 0 ? "" : `: ${waiting.join(", ")} not heard from yet`}`;
  return [
    `Federation ${layout.federation_id.slice(0, 8)}`,
    `layout ${layout.version}`,
    `replication factor ${layout.replication_factor}`,
    `quorum ${quorum.quorum} of ${quorum.group_size}`,
    `default consistency ${consistency}`,
    node.role === "gateway" ? `${node.name} is a gateway (in no layout)` : `seen from ${node.name}`,
  ].join(" · ");
}

function members({ node, peers }: FederationStatus): string {
  const self = [`${node.name} *`, node.zone || "-", node.role, "this node", "", "", shortId(node.id)];
  return drawTable(["node", "zone", "role", "state", "round trip", "behind", "id"], [self, ...peers.map(peerRow)]);
}

function peerRow(peer: PeerStatus): string[] {
  const state = peer.healthy
    ? "healthy"
    : peer.connected
      ? "connected, not healthy"
      : `not connected${peer.last_seen === null ? "" : `, last seen ${peer.last_seen}`}`;
  const latency = peer.latency_ms === null ? "" : `${peer.latency_ms.toFixed(1)} ms`;
  return [peer.name, peer.zone || "-", peer.role, state, latency, counted(peer.behind, "delta"), shortId(peer.id)];
}

function health({ quorum, partitions, completeness, sync_lag_seconds: lag, witness }: FederationStatus): string {
  const replicas = partitions.filter(({ role }) => role === "replica").length;
  return [
    `Quorum ${quorum.available ? "is available" : "is NOT available"}${quorum.short_groups === 0 ? "" : `; ${counted(quorum.short_groups, "partition")} with a short group`}.`,
    `Here, of the partitions with data: replica of ${replicas}, witness of ${partitions.length - replicas} (keeping ${counted(witness.held_deltas, "delta")}).`,
    `Replication: ${(completeness * 100).toFixed(completeness === 1 ? 0 : 2)} % of what is known is here; oldest waiting delta ${lag.toFixed(1)} s.`,
  ].join("\n");
}

function shortId(id: string): string {
  return id.length <= 12 ? id : `..${id.slice(-8)}`;
}
