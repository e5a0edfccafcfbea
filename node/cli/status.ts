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
    `layout ${layout.version}${layout.phase === "done" ? "" : ` (${layout.phase})`}`,
    `replication factor ${layout.replication_factor}`,
    `quorum ${quorum.quorum} of ${quorum.group_size}`,
    `default consistency ${consistency}`,
    node.role === "gateway" ? `${node.name} is a gateway (in no layout)` : `seen from ${node.name}`,
  ].join(" · ");
}

function members({ node, peers }: FederationStatus): string {
  const self = [`${node.name} *`, node.zone || "-", node.role, standing(node), "", "", "", "", "", shortId(node.id), secrets(node.secret_ids)];
  return drawTable(
    ["node", "zone", "role", "state", "round trip", "behind", "lag", "clock", "protocol", "id", "secrets"],
    [self, ...peers.map(peerRow)],
  );
}

function standing({ standing, role }: FederationStatus["node"]): string {
  return standing === "counting" || role === "gateway" || role === "forming" ? "this node" : `this node, ${standing}`;
}

function peerRow(peer: PeerStatus): string[] {
  const whole = peer.damaged === 0 ? "" : `, ${peer.damaged} of its copies damaged`;
  const state = peer.healthy
    ? peer.counts || peer.role === "gateway"
      ? `healthy${whole}`
      : "healthy, does not count yet"
    : peer.connected
      ? "connected, not healthy"
      : `not connected${peer.last_seen === null ? "" : `, last seen ${peer.last_seen}`}`;
  const latency = peer.latency_ms === null ? "" : `${peer.latency_ms.toFixed(1)} ms`;
  const lag = peer.lag_seconds === 0 ? "" : `${peer.lag_seconds.toFixed(1)} s`;
  const clock = peer.clock_ahead_ms === null ? "" : `${peer.clock_ahead_ms < 0 ? "-" : "+"}${Math.abs(peer.clock_ahead_ms / 1000).toFixed(1)} s`;
  const protocol = peer.protocol_version === null ? "" : String(peer.protocol_version);
  return [
    peer.name,
    peer.zone || "-",
    peer.role,
    state,
    latency,
    counted(peer.behind, "delta"),
    lag,
    clock,
    protocol,
    shortId(peer.id),
    secrets(peer.secret_ids),
  ];
}

function secrets(ids: readonly string[]): string {
  return ids.map((id) => id.slice(0, 8)).join(" ");
}

function health(status: FederationStatus): string {
  const { quorum, partitions, completeness, sync_lag_seconds: lag, witness, moving, conflict, copying, layout } = status;
  const replicas = partitions.filter(({ role }) => role === "replica").length;
  const waits = witness.waits_for.map(({ name, deltas }) => `${name} lacks ${deltas}`).join(", ");
  return [
    ...(conflict === null
      ? []
      : [`Two layouts ${conflict.version} are in use: quorum stops. Choose this side with continuum layout recover, here, or the other one there.`]),
    ...(moving === null
      ? []
      : [
          `Layout ${layout?.version} is ${moving.phase}: ${moving.partitions_total - moving.partitions_left} of ${moving.partitions_total} partitions are with the owners to come${moving.members.length === 0 ? "" : `; still to come: ${moving.members.map(({ name, partitions_left: left }) => `${name} ${left}`).join(", ")}`}.`,
        ]),
    `Quorum ${quorum.available ? "is available" : `is NOT available for ${without(quorum)}`}${quorum.short_groups === 0 ? "" : `; ${counted(quorum.short_groups, "partition")} with a short group`}${quorum.short_copies === 0 ? "" : `; ${counted(quorum.short_copies, "partition")} short of copies`}.`,
    ...damaged(status.damaged),
    `Here, of the partitions with data: replica of ${replicas}, witness of ${partitions.length - replicas} (keeping ${counted(witness.held_deltas, "delta")}${waits === "" ? "" : `: ${waits}`}).`,
    `Replication: ${percent(completeness)} % of what is known is here; oldest waiting delta ${lag.toFixed(1)} s.${copying === 0 ? "" : ` ${counted(copying, "partition")} on the way here.`}`,
    `Clock: ${status.clock_ahead_ms === null ? "nobody to compare with" : `${aside(status.clock_ahead_ms)} its peers'`}; answered in doubt since the start: ${status.in_doubt_total}.`,
  ].join("\n");
}

function damaged(copies: FederationStatus["damaged"]): string[] {
  const list = (state: string): string => copies.flatMap((copy) => (copy.state === state ? [`${copy.partition} (${copy.role})`] : [])).join(", ");
  const lines = [
    ["copying", "a whole one is on its way from another replica"],
    ["waiting", "none that holds all of it can be had yet, see the runbook"],
    ["only_copy", "there is no other: what cannot be read of them is lost"],
  ] as const;
  return lines.flatMap(([state, what]) => (list(state) === "" ? [] : [`DAMAGED copies of partitions on this disk: ${list(state)}; ${what}.`]));
}

function without({ unavailable, system }: FederationStatus["quorum"]): string {
  return [unavailable === 0 ? [] : `${unavailable} of 256 partitions`, system ? [] : "changes of keys and the layout"].flat().join(", nor for ");
}

/** 100 only when it is all. */
function percent(share: number): string {
  return share === 1 ? "100" : (Math.floor(share * 10_000) / 100).toFixed(2);
}

function aside(ms: number): string {
  return `${Math.abs(ms / 1000).toFixed(1)} s ${ms < 0 ? "behind" : "ahead of"}`;
}

function shortId(id: string): string {
  return id.length <= 12 ? id : `..${id.slice(-8)}`;
}
