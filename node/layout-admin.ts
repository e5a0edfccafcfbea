/**
 * What an operator asks of the layout, behind `/v1/federation` and `continuum layout`: what it is and what moves, what a change would mean, and the change
 * itself, which goes into the queue (layout-queue.ts) like everybody's. Only `recover` goes past the queue: there is nobody left to vote.
 */

import { ProtocolError } from "../protocol/errors.ts";
import { type NodeId, SYSTEM_TENANT, type WriterId } from "../protocol/ids.ts";
import { decodeLayout, groupOf, type Layout, type Member, type MemberFields, PARTITIONS, votersOf } from "../protocol/layout.ts";
import { type Change, ownersAfter, recovered } from "../protocol/layout-change.ts";
import { type Plan, planOf } from "../protocol/layout-plan.ts";
import type { Engine } from "./engine.ts";
import { ApiError } from "./errors.ts";
import type { QueuedChange } from "./layout-queue.ts";
import type { PeerInfo } from "./links.ts";
import { lossOf } from "./loss.ts";
import type { Router } from "./ports.ts";
import type { LayoutHistoryEntry, LayoutPlan, LayoutProgress, LayoutStatus, Loss } from "./status.ts";

/** As it comes over HTTP. */
export interface LayoutAsk {
  readonly op: "add" | "remove" | "drain" | "replace" | "zone" | "weight" | "rf" | "stop" | "recover";
  readonly name?: string | null | undefined;
  /** Of the one that joins: its name, its id, or an address to dial. */
  readonly node?: string | null | undefined;
  readonly zone?: string | null | undefined;
  readonly weight?: number | null | undefined;
  readonly replication_factor?: number | null | undefined;
  readonly lost?: readonly string[] | null | undefined;
}

export interface LayoutAnswer {
  readonly plan: LayoutPlan;
  /** Null when it was a preview, or does not wait in the queue: a recovery, or a node that takes the place of one of its name. */
  readonly change: QueuedChange | null;
}

/** Of one request. */
export interface AskedBy {
  readonly key: string;
  readonly requestId: string;
  /** Monotonic ms. */
  readonly deadline: number;
}

export interface LayoutAdminOptions {
  readonly engine: Engine;
  readonly router: Router;
  /** Undefined on a single node. */
  readonly dial: ((address: string) => Promise<NodeId>) | undefined;
}

interface Understood {
  readonly plan: LayoutPlan;
  /** Undefined: a recovery, or a succession. */
  readonly change: Change | { readonly op: "stop" } | undefined;
  readonly successor?: PeerInfo;
}

/** After a connection is up the hello follows at once. */
const HELLO_MS = 3000;
const LOOK_MS = 20;

export class LayoutAdmin {
  readonly #o: LayoutAdminOptions;

  constructor(options: LayoutAdminOptions) {
    this.#o = options;
  }

  // ---- looking -------------------------------------------------------------------------------------------------

  /** What is not handed over yet; null when nothing is under way. */
  moving(): LayoutProgress | null {
    return progressOf(this.#o.engine);
  }

  /** In order of asking. Null: nobody who has the queue can be asked now. */
  async queue(by: AskedBy): Promise<readonly QueuedChange[] | null> {
    const { engine, router } = this.#o;
    if (engine.layout === undefined || engine.queue === undefined) return [];
    try {
      const call = { tenant: SYSTEM_TENANT, level: "one" as const, token: undefined, ...by };
      return (await router.run<{ changes: readonly QueuedChange[] }>("layout.changes", {}, call)).value.changes;
    } catch (error) {
      if (error instanceof ApiError && error.status === 503) return null;
      throw error;
    }
  }

  /** Layouts this node adopted, the oldest first. @param asked what was ever asked for, as far as it is known */
  async history(asked: readonly QueuedChange[]): Promise<LayoutHistoryEntry[]> {
    const changes = new Map(asked.map((change) => [change.id, change]));
    const adopted = (await this.#o.engine.store.layoutHistory()).map(({ bytes, adoptedMs }) => ({ layout: decodeLayout(bytes), adoptedMs }));
    const layouts = adopted.map(({ layout }) => layout);
    return adopted.map(({ layout, adoptedMs }, index) => {
      const change = changes.get(layout.change);
      return {
        ...layoutStatus(layout),
        adopted_at: adoptedMs === undefined ? null : new Date(adoptedMs).toISOString(),
        asked_at: change?.asked_at ?? null,
        ended_at: layout.phase === "done" ? (change?.ended_at ?? null) : null,
        what: whatChanged(layouts[index - 1], layout, change),
      };
    });
  }

  // ---- asking --------------------------------------------------------------------------------------------------

  /** Changes nothing. @throws ApiError */
  async preview(ask: LayoutAsk): Promise<LayoutAnswer> {
    return { plan: (await this.#understand(ask)).plan, change: null };
  }

  /** @throws ApiError: `conflict` when it cannot be; what becomes of it later is in the queue */
  async apply(ask: LayoutAsk, by: AskedBy): Promise<LayoutAnswer> {
    const { plan, change, successor } = await this.#understand(ask);
    if (successor !== undefined) {
      if (!plan.changes_nothing) await this.#o.engine.succeed(successor, by.deadline);
      return { plan, change: null };
    }
    if (change === undefined) {
      await this.#o.engine.recover(ask.lost ?? []);
      return { plan, change: null };
    }
    const call = { tenant: SYSTEM_TENANT, level: "quorum" as const, token: undefined, ...by };
    return { plan, change: (await this.#o.router.run<QueuedChange>("layout.change", change, call)).value };
  }

  /** @throws ApiError: nobody answers there, or the address is none */
  async dial(address: string): Promise<PeerInfo> {
    const { dial, engine } = this.#o;
    if (dial === undefined || engine.links === undefined)
      throw new ApiError("conflict", "This is a single node: give it a FEDERATION_SECRET before it can meet others.");
    let node: NodeId;
    try {
      node = await dial(address);
    } catch (error) {
      throw new ApiError("conflict", (error as Error).message, { cause: error });
    }
    const until = engine.system.monotonic() + HELLO_MS;
    for (;;) {
      const peer = engine.links.peer(node);
      if (peer !== undefined) return peer;
      const why = engine.links.whyNoPeer(node);
      if (why !== undefined) throw new ApiError("conflict", `${address} is ${node}, and is not spoken with: ${why}.`);
      if (engine.system.monotonic() >= until)
        throw new ApiError("conflict", `${address} is ${node}, but it does not speak with this node: the logs of both say why.`);
      await new Promise<void>((resolve) => engine.system.after(LOOK_MS, resolve));
    }
  }

  async #understand(ask: LayoutAsk): Promise<Understood> {
    const layout = this.#layout();
    if (ask.op === "stop") return { plan: stopPlan(layout), change: { op: "stop" } };
    if (ask.op === "recover") return { plan: await this.#recovery(layout, ask.lost ?? []), change: undefined };
    const change = await this.#changeOf(ask);
    const successor = this.#successorIn(layout, change);
    if (successor !== undefined) return { plan: this.#succession(layout, successor), change: undefined, successor };
    return { plan: this.#plan(layout, change), change };
  }

  /** Who comes with a member's name and another identity: disk and identity of that one are lost, or there are two nodes of one name. */
  #successorIn(layout: Layout, change: Change): PeerInfo | undefined {
    if (change.op !== "add" && change.op !== "replace") return undefined;
    const { node, name } = change.member;
    if (change.op === "replace" && change.name !== name) return undefined;
    const voters = votersOf(layout);
    if (voters.some((member) => member.node === node) || !voters.some((member) => member.name === name)) return undefined;
    return this.#o.engine.links?.peer(node);
  }

  #succession(layout: Layout, { name, node }: PeerInfo): LayoutPlan {
    const old = votersOf(layout).find((member) => member.name === name) as Member;
    if (this.#isHere(old.writer))
      throw new ApiError(
        "conflict",
        `Two nodes are called ${name}, and both live (${old.node}, ${node}): start one of them under another NODE_NAME.`,
      );
    return planStatus(
      `list ${node} as ${name}, whose disk and identity are lost`,
      planOf({ ...layout, phase: "done", next: undefined }, layout, (writer) => this.#isHere(writer)),
      [
        `What only ${name} held is lost. The new one keeps its place, zone and weight, and counts once it has taken back what the others hold.`,
        `If ${name} should come back, it only forwards.`,
      ],
    );
  }

  #layout(): Layout {
    const { layout, links } = this.#o.engine;
    if (layout === undefined) throw new ApiError("conflict", "There is no layout yet; layout 1 is formed by FEDERATION_FIRST_MEMBERS.");
    if (links === undefined) throw new ApiError("conflict", "This is a single node: give it a FEDERATION_SECRET, then others can join it.");
    return layout;
  }

  async #changeOf(ask: LayoutAsk): Promise<Change> {
    switch (ask.op) {
      case "add":
        return { op: "add", member: memberBy(await this.#joining(ask.node ?? given(ask.name, "name")), ask) };
      case "replace": {
        const name = given(ask.name, "name");
        const peer = await this.#joining(given(ask.node, "node"));
        return { op: "replace", name, member: memberBy(peer, this.#inPlaceOf(name, ask)) };
      }
      case "remove":
      case "drain":
        return { op: "remove", name: given(ask.name, "name"), drain: ask.op === "drain" };
      case "zone":
        return { op: "zone", name: given(ask.name, "name"), zone: given(ask.zone, "zone") };
      case "weight":
        return { op: "weight", name: given(ask.name, "name"), weight: given(ask.weight, "weight") };
      default:
        return { op: "replication-factor", replicationFactor: given(ask.replication_factor, "replication_factor") };
    }
  }

  /** It takes over the share, and the zone unless another is named. */
  #inPlaceOf(name: string, ask: LayoutAsk): LayoutAsk {
    const old = this.#layout().members.find((member) => member.name === name);
    return { ...ask, weight: ask.weight ?? old?.weight };
  }

  /** Who is connected under this name or id; else whoever lives at this address. */
  async #joining(who: string): Promise<PeerInfo> {
    const peers = this.#o.engine.links?.peers() ?? [];
    const named = peers.filter((peer) => peer.name === who || peer.node === who);
    if (named.length > 1)
      throw new ApiError("conflict", `Two connected nodes are called ${who}: name one by its id (${named.map(({ node }) => node).join(", ")}).`);
    if (named[0] !== undefined) return named[0];
    if (/[:/.]/.test(who)) return this.dial(who);
    throw new ApiError(
      "conflict",
      `No node called ${who} is connected here. Start it with the secret and FEDERATION_PEERS naming one of us, or give its address (host:port).`,
    );
  }

  #plan(layout: Layout, change: Change): LayoutPlan {
    const base = layout.next ?? layout;
    try {
      const owners = ownersAfter(base, change);
      if (owners === undefined)
        return planStatus(
          sayChange(change),
          planOf(layout, base, (writer) => this.#isHere(writer)),
          this.#notes(change),
          true,
        );
      return planStatus(
        sayChange(change),
        planOf({ ...layout, ...base, phase: "done", next: undefined }, owners, (writer) => this.#isHere(writer)),
        [
          ...(layout.next === undefined ? [] : [`Layout ${layout.version} is ${layout.phase}: this change waits until that one is done or stopped.`]),
          ...this.#notes(change),
        ],
      );
    } catch (error) {
      if (error instanceof ProtocolError && error.code === "MALFORMED") throw new ApiError("conflict", `${sentence(error.message)}.`);
      throw error;
    }
  }

  #notes(change: Change): string[] {
    if (change.op !== "remove") return [];
    const leaving = this.#layout().members.find((member) => member.name === change.name);
    if (leaving === undefined) return [];
    const here = this.#isHere(leaving.writer);
    if (change.drain && !here)
      return [`${change.name} is not connected: a drain waits until it is and has handed over. If it is gone for good, use layout remove.`];
    if (!change.drain && here) return [`${change.name} is connected: layout drain waits until it has handed over everything, remove does not.`];
    return [];
  }

  async #recovery(layout: Layout, lost: readonly string[]): Promise<LayoutPlan> {
    const { engine } = this.#o;
    const unknown = lost.filter((name) => !layout.members.some((member) => member.name === name));
    if (unknown.length > 0) throw new ApiError("conflict", `No member is called ${unknown.join(", ")}.`);
    if (lost.length === 0 && engine.replica?.conflict === undefined)
      throw new ApiError("conflict", "Name the members whose disks are lost for good, as `lost`.");
    if (!votersOf(layout).some(({ writer }) => writer === engine.writer) || lost.includes(engine.settings.name))
      throw new ApiError("conflict", "A recovery is made at a member that is left, not here.");
    for (const member of layout.members)
      if (lost.includes(member.name) && this.#isHere(member.writer))
        throw new ApiError("conflict", `${member.name} is connected: it is not lost. Take it out with layout drain.`);
    let next: Layout;
    try {
      next = recovered(layout, lost);
    } catch (error) {
      throw new ApiError("conflict", `${sentence((error as Error).message)}.`);
    }
    const loss = await lossOf(engine, layout, lost);
    const plan = planStatus(
      lost.length === 0 ? "choose this side's layout" : `go on without ${lost.join(", ")}`,
      planOf({ ...layout, phase: "done", next: undefined }, next, (writer) => this.#isHere(writer)),
      recoveryWarnings(layout, lost, loss),
    );
    return { ...plan, loss };
  }

  #isHere(writer: WriterId): boolean {
    const { engine } = this.#o;
    return writer === engine.writer || (engine.links?.peers() ?? []).some((peer) => peer.writer === writer);
  }
}

/** Partitions that are not handed over yet, as far as this node has heard; null when nothing is under way, or this node is not among those who are told. */
export function progressOf({ layout, replica }: Pick<Engine, "layout" | "replica">): LayoutProgress | null {
  if (layout?.next === undefined || replica === undefined || replica.standing === "unlisted") return null;
  const { next } = layout;
  const waiting = replica.notHandedOver();
  const gains = new Map<string, number>();
  for (const partition of waiting) {
    const old = groupOf(layout, partition);
    const group = groupOf(next, partition);
    for (const member of group.members) {
      // A witness becomes a replica from an empty copy; a replica has all that a witness needs.
      const had = group.replicas.includes(member) ? old.replicas : old.members;
      if (!isIn(had, member)) gains.set(member.name, (gains.get(member.name) ?? 0) + 1);
    }
  }
  return {
    phase: layout.phase === "joint" ? "joint" : "staged",
    change: layout.change,
    partitions_total: PARTITIONS.length,
    partitions_left: waiting.length,
    members: [...gains].map(([name, partitions_left]) => ({ name, partitions_left })).sort((a, b) => (a.name < b.name ? -1 : 1)),
  };
}

function isIn(members: readonly Member[], member: Member): boolean {
  return members.some(({ writer }) => writer === member.writer);
}

export function layoutStatus(layout: Layout): LayoutStatus {
  const rows = (members: readonly Member[]): LayoutStatus["members"] =>
    members.map(({ node, name, incarnation, zone, weight }) => ({ id: node, name, incarnation, zone, weight }));
  return {
    version: layout.version,
    phase: layout.phase,
    change: layout.change === "" ? null : layout.change,
    forced: layout.forced,
    federation_id: layout.federation,
    replication_factor: layout.replicationFactor,
    resonance_decay: layout.resonanceDecay,
    hebbian_rate: layout.hebbianRate,
    period_ms: layout.periodMs,
    members: rows(layout.members),
    next: layout.next === undefined ? null : { replication_factor: layout.next.replicationFactor, members: rows(layout.next.members) },
  };
}

export function sayChange(change: Change | { readonly op: "stop" }): string {
  switch (change.op) {
    case "add":
      return `add ${change.member.name}`;
    case "remove":
      return `${change.drain ? "drain" : "remove"} ${change.name}`;
    case "replace":
      return `replace ${change.name} by ${change.member.name}`;
    case "zone":
      return `put ${change.name} into zone "${change.zone}"`;
    case "weight":
      return `give ${change.name} weight ${change.weight}`;
    case "replication-factor":
      return `set the replication factor to ${change.replicationFactor}`;
    case "stop":
      return "stop the change that is under way";
  }
}

function memberBy(peer: PeerInfo, ask: LayoutAsk): MemberFields {
  return { node: peer.node, name: peer.name, incarnation: peer.incarnation, zone: ask.zone ?? peer.zone, weight: ask.weight ?? 1 };
}

/** @throws ApiError validation_failed */
function given<T>(value: T | null | undefined, field: string): T {
  if (value !== undefined && value !== null) return value;
  throw new ApiError("validation_failed", `body.${field}: is required for this change.`, {
    errors: [{ loc: ["body", field], msg: "is required for this change", type: "missing" }],
  });
}

function planStatus(what: string, plan: Plan, notes: readonly string[], isSo = false): LayoutPlan {
  return {
    what,
    changes_nothing: isSo,
    partitions_moved: plan.partitionsMoved,
    moves: plan.moves.map((move) => ({
      name: move.name,
      replica_gains: move.replicaGains,
      replica_losses: move.replicaLosses,
      witness_gains: move.witnessGains,
      witness_losses: move.witnessLosses,
    })),
    members: plan.to.members.map(({ name }) => name),
    replication_factor: plan.to.replicationFactor,
    group_size: plan.groupSize,
    quorum: plan.quorum,
    warnings: [...notes, ...(isSo ? [] : plan.warnings)],
    loss: null,
  };
}

function stopPlan(layout: Layout): LayoutPlan {
  const nothing = layout.phase === "done";
  return {
    what: "stop the change that is under way",
    changes_nothing: nothing,
    partitions_moved: 0,
    moves: [],
    members: layout.members.map(({ name }) => name),
    replication_factor: layout.replicationFactor,
    group_size: groupOf(layout, PARTITIONS[0]!).size,
    quorum: groupOf(layout, PARTITIONS[0]!).quorum,
    warnings: nothing ? [] : [`Layout ${layout.version} is ${layout.phase}: everything stays with the owners that serve now.`],
    loss: null,
  };
}

function recoveryWarnings(layout: Layout, lost: readonly string[], loss: Loss): string[] {
  const names = lost.join(", ");
  const left = layout.members.length - lost.length;
  return [
    ...(loss.deltas_at_least > 0
      ? [`At least ${loss.deltas_at_least} deltas are lost: members told that they held them, and nobody who is left here does.`]
      : []),
    ...(loss.partitions_without_copy > 0
      ? [`${loss.partitions_without_copy} of 256 partitions have no full copy left: all their memories are lost, but for what witnesses still keep.`]
      : []),
    ...(lost.length > 0 && left >= Math.floor(layout.members.length / 2) + 1
      ? [`Enough members are left to vote: layout remove ${lost[0]} does this without a risk of two layouts.`]
      : []),
    ...(lost.length > 0 ? [`If ${names} should come back, its data is not asked for: it is in no layout and only forwards.`] : []),
    ...(layout.next === undefined ? [] : [`The change that is under way (layout ${layout.version}, ${layout.phase}) is given up.`]),
    "Nobody votes on this. Every other member that is left must be told by this node: do not do it on two sides.",
  ];
}

function whatChanged(before: Layout | undefined, layout: Layout, change: QueuedChange | undefined): string {
  if (layout.version === 1) return "formed";
  if (before?.members.length === 1 && before.members[0]?.node !== layout.members[0]?.node && layout.change === "")
    return "a single node got a secret";
  if (layout.forced) return "recovered by an operator, without a vote";
  const asked = change === undefined ? "" : sayChange(change.change);
  const fresh = votersOf(layout).find((member) => member.relisted === layout.version);
  if (fresh !== undefined) {
    const identity = before !== undefined && votersOf(before).some((member) => member.node === fresh.node) ? "" : " and its identity";
    return `${fresh.name} listed again after its disk${identity} ${identity === "" ? "was" : "were"} lost`;
  }
  if (layout.phase !== "done") return asked === "" ? layout.phase : `${asked}: ${layout.phase}`;
  // What was staged and is back at the same owners was given up.
  const sameAs = (other: Layout): boolean =>
    JSON.stringify([other.members, other.replicationFactor]) === JSON.stringify([layout.members, layout.replicationFactor]);
  const stopped = before !== undefined && before.next !== undefined && before.version === layout.version - 1 && sameAs(before);
  return `${asked === "" ? "" : `${asked}: `}${stopped ? "stopped" : "done"}`;
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
