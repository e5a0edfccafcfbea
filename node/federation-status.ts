/** What this node can say of itself and its peers, computed from frontiers and reports, never from belief. */
import type { Partition } from "../protocol/ids.ts";
import { type Group, groupOf, type Layout } from "../protocol/layout.ts";
import { quorumOf } from "../protocol/quorum.ts";
import { PROTOCOL_VERSION } from "../protocol/version.ts";
import type { Engine } from "./engine.ts";
import type { Network } from "./ports.ts";
import type { FederationStatus, LayoutStatus, PartitionStatus, PeerStatus, Readiness } from "./status.ts";

/** Records a fingerprint is computed over without being asked for, over all partitions: some 10 ms. */
const CHEAP_RECORDS = 2_000;

/** In the stream of writes a node always lacks the newest for a moment; only beyond this does it count as behind, ms. */
const BEHIND_MS = 10_000;
/** How long a started node listens for what the others hold before it takes itself for caught up, ms. */
const HEARING_MS = 2_000;

export class FederationView {
  readonly #engine: Engine;
  readonly #network: Network | undefined;
  readonly #self: { readonly id: string; readonly version: string };
  /** The last fingerprint of a partition and the frontier it stands for. */
  readonly #fingerprints = new Map<Partition, { frontier: string; fingerprint: string }>();
  readonly #lastSeen = new Map<string, number>();
  /** Since when a member lacks what this node held then: `member/partition` -> (what it lacked, when). */
  readonly #behind = new Map<string, { readonly target: readonly (readonly [string, number])[]; readonly since: number }>();

  /** Once after the start nothing was lacking that any connected member holds. */
  #caughtUp = false;
  #lackingSince: number | undefined;
  #layoutSince: number | undefined;

  constructor(engine: Engine, network: Network | undefined, self: { readonly id: string; readonly version: string }) {
    this.#engine = engine;
    this.#network = network;
    this.#self = self;
  }

  /** Called every second or so: keeps the ages that a single look cannot know. */
  observe(): void {
    const { replica, layout, system } = this.#engine;
    const wall = system.now();
    for (const node of this.#network?.connected() ?? []) this.#lastSeen.set(node, wall);
    if (replica === undefined || layout === undefined) return;
    const now = system.monotonic();
    this.#observeCatchUp(now);
    for (const partition of replica.partitions()) {
      if (replica.role(partition) !== "replica") continue;
      const heads = replica.ownHeads(partition);
      for (const member of groupOf(layout, partition).members) {
        if (member.writer === this.#engine.writer) continue;
        const name = `${member.writer}/${partition}`;
        const lacks = (target: readonly (readonly [string, number])[]): boolean =>
          target.some(([writer, seq]) => replica.heldBy(member.writer, partition, writer as typeof member.writer) < seq);
        const held = heads.map((head) => [head.writer, head.seq] as const);
        const known = this.#behind.get(name);
        if (known !== undefined && lacks(known.target)) continue;
        if (lacks(held)) this.#behind.set(name, { target: held, since: now });
        else this.#behind.delete(name);
      }
    }
  }

  #observeCatchUp(now: number): void {
    const { replica, layout } = this.#engine;
    this.#layoutSince ??= now;
    if ((replica?.lacking().length ?? 0) > 0) {
      this.#lackingSince ??= now;
      return;
    }
    this.#lackingSince = undefined;
    const everybodyIsHere = (replica?.connectedMembers().length ?? 0) + 1 >= (layout?.members.length ?? 1);
    if (everybodyIsHere || now - this.#layoutSince >= HEARING_MS) this.#caughtUp = true;
  }

  async status(ask: { readonly fingerprints: boolean }): Promise<FederationStatus> {
    const { layout, settings, store } = this.#engine;
    const sealed = store.staged.sealedTotals();
    return {
      node: {
        id: this.#self.id,
        name: settings.name,
        incarnation: store.incarnation,
        writer: this.#engine.writer,
        role: this.#role(),
        zone: settings.zone,
        version: this.#self.version,
        protocol_version: PROTOCOL_VERSION,
      },
      layout: layout === undefined ? null : layoutStatus(layout),
      waiting_for: this.#engine.waitingFor(),
      consistency: settings.consistency,
      peers: this.#peers(),
      quorum: this.#quorum(),
      sync_lag_seconds: this.#lagSeconds(),
      completeness: this.#completeness(),
      witness: { held_deltas: sealed.deltas, held_bytes: sealed.bytes },
      partitions: await this.#partitions(ask.fingerprints),
    };
  }

  /** Records of the partitions whose first replica is this node, so that a sum over nodes counts each once. */
  firstReplicaRecords(): { readonly concepts: number; readonly entities: number; readonly memories: number } {
    const { replica, layout, store } = this.#engine;
    let concepts = 0;
    let memories = 0;
    for (const partition of replica?.partitions() ?? []) {
      if (groupOf(layout as Layout, partition).replicas[0]?.writer !== this.#engine.writer) continue;
      const counts = store.staged.counts(partition);
      concepts += counts.concept;
      memories += counts.memory;
    }
    return { concepts, entities: concepts, memories };
  }

  readiness(): Readiness {
    const { layout } = this.#engine;
    const reasons: string[] = [];
    if (layout === undefined) {
      const waiting = this.#engine.waitingFor();
      reasons.push(waiting.length > 0 ? `layout 1 waits for ${waiting.join(", ")}` : "no layout is known yet");
    }
    const lacking = this.#engine.replica?.lacking().length ?? 0;
    const behindMs = this.#lackingSince === undefined ? 0 : this.#engine.system.monotonic() - this.#lackingSince;
    if (layout !== undefined && !this.#caughtUp)
      reasons.push(
        lacking === 0
          ? "started a moment ago: hearing what the others hold"
          : `catching up after the start: ${lacking} streams lack deltas that other members hold`,
      );
    else if (behindMs > BEHIND_MS)
      reasons.push(`catching up for ${Math.round(behindMs / 1000)} s: ${lacking} streams lack deltas that other members hold`);
    const quorum = this.#quorum();
    const redundancy = layout === undefined || layout.members.length === 1 ? "single" : quorum.short_groups > 0 ? "short" : "full";
    return { ready: reasons.length === 0, reasons, quorum: quorum.available, redundancy };
  }

  #role(): FederationStatus["node"]["role"] {
    const { layout } = this.#engine;
    if (layout === undefined) return this.#engine.settings.firstMembers.length > 0 ? "forming" : "gateway";
    if (this.#network === undefined) return "single";
    return layout.members.some((member) => member.writer === this.#engine.writer) ? "member" : "gateway";
  }

  #peers(): PeerStatus[] {
    const { layout, links, replica } = this.#engine;
    const rows = new Map<string, PeerStatus>();
    const connected = new Set<string>(this.#network?.connected() ?? []);
    for (const member of layout?.members ?? []) {
      if (member.writer === this.#engine.writer || member.node === this.#self.id) continue;
      // Connected under another incarnation (its disk was lost), it does not count: not healthy.
      const live = links?.peer(member.node)?.writer === member.writer && connected.has(member.node);
      rows.set(
        member.node,
        this.#peer(member, "member", connected.has(member.node), live, replica === undefined ? 0 : this.#behindOf(member.writer)),
      );
    }
    for (const peer of links?.peers() ?? [])
      if (!rows.has(peer.node)) rows.set(peer.node, this.#peer(peer, "gateway", connected.has(peer.node), connected.has(peer.node), 0));
    return [...rows.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  #peer(
    peer: { node: string; name: string; incarnation: string; zone: string },
    role: PeerStatus["role"],
    connected: boolean,
    healthy: boolean,
    behind: number,
  ): PeerStatus {
    const latency = this.#network?.latencyMs(peer.node as Parameters<Network["latencyMs"]>[0]);
    const seen = connected ? this.#engine.system.now() : this.#lastSeen.get(peer.node);
    return {
      id: peer.node,
      name: peer.name,
      incarnation: peer.incarnation,
      zone: peer.zone,
      role,
      connected,
      healthy,
      latency_ms: latency === undefined || !connected ? null : Math.round(latency * 100) / 100,
      last_seen: seen === undefined ? null : new Date(seen).toISOString(),
      behind,
    };
  }

  /** Deltas of the partitions we share that this member has not reported. */
  #behindOf(member: string): number {
    const { replica, layout } = this.#engine;
    let behind = 0;
    for (const partition of replica?.partitions() ?? []) {
      if (!groupOf(layout as Layout, partition).members.some((other) => other.writer === member)) continue;
      for (const head of replica?.ownHeads(partition) ?? [])
        behind += Math.max(0, head.seq - (replica?.heldBy(member as typeof head.writer, partition, head.writer) ?? 0));
    }
    return behind;
  }

  #quorum(): FederationStatus["quorum"] {
    const { layout } = this.#engine;
    if (layout === undefined) return { available: false, short_groups: 0, group_size: 0, quorum: 0 };
    const live = (group: Group): number =>
      group.members.filter((member) => member.writer === this.#engine.writer || this.#engine.links?.peer(member.node)?.writer === member.writer)
        .length;
    let available = true;
    let short = 0;
    const wanted = 2 * layout.replicationFactor - 1;
    for (let partition = 0; partition < 256; partition++) {
      const group = groupOf(layout, partition as Partition);
      if (group.size < wanted) short++;
      if (live(group) < group.quorum) available = false;
    }
    const size = groupOf(layout, 0 as Partition).size;
    return { available, short_groups: short, group_size: size, quorum: quorumOf(size) };
  }

  #lagSeconds(): number {
    const now = this.#engine.system.monotonic();
    let oldest = 0;
    for (const { since } of this.#behind.values()) oldest = Math.max(oldest, now - since);
    return Math.round(oldest) / 1000;
  }

  #completeness(): number {
    const { replica } = this.#engine;
    if (replica === undefined) return 0;
    let known = 0;
    let held = 0;
    for (const partition of replica.partitions()) for (const head of replica.ownHeads(partition)) held += head.seq;
    known = held;
    for (const pull of replica.lacking())
      known += pull.known - (replica.ownHeads(pull.partition).find((head) => head.writer === pull.writer)?.seq ?? 0);
    return known === 0 ? 1 : held / known;
  }

  async #partitions(fingerprints: boolean): Promise<PartitionStatus[]> {
    const { replica, layout, store } = this.#engine;
    if (replica === undefined || layout === undefined) return [];
    const rows: PartitionStatus[] = [];
    let records = 0;
    for (const partition of replica.partitions()) {
      const role = replica.role(partition);
      if (role === undefined) continue;
      const group = groupOf(layout, partition);
      let fingerprint: string | null = null;
      const { concept, link, turn, memory } = store.staged.counts(partition);
      records += concept + link + turn + memory;
      if (role === "replica" && (fingerprints || records <= CHEAP_RECORDS)) fingerprint = await this.#fingerprint(partition);
      rows.push({
        partition,
        role,
        replicas: group.replicas.map((member) => member.name),
        witnesses: group.witnesses.map((member) => member.name),
        frontier: Object.fromEntries(replica.ownHeads(partition).map((head) => [head.writer, head.seq])),
        held_deltas: store.staged.sealedTotals(partition).deltas,
        fingerprint,
      });
    }
    return rows;
  }

  async #fingerprint(partition: Partition): Promise<string> {
    const frontier = JSON.stringify(this.#engine.replica?.ownHeads(partition));
    const known = this.#fingerprints.get(partition);
    if (known?.frontier === frontier) return known.fingerprint;
    const found = await this.#engine.store.fingerprint(partition);
    this.#fingerprints.set(partition, { frontier: JSON.stringify(found.frontier), fingerprint: found.fingerprint });
    return found.fingerprint;
  }
}

function layoutStatus(layout: Layout): LayoutStatus {
  return {
    version: layout.version,
    federation_id: layout.federation,
    replication_factor: layout.replicationFactor,
    resonance_decay: layout.resonanceDecay,
    hebbian_rate: layout.hebbianRate,
    period_ms: layout.periodMs,
    members: layout.members.map(({ node, name, incarnation, zone, weight }) => ({ id: node, name, incarnation, zone, weight })),
  };
}
