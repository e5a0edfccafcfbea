/** What this node can say of itself and its peers, computed from frontiers and reports, never from belief. */
import type { Partition, WriterId } from "../protocol/ids.ts";
import type { Kind } from "../protocol/knowledge.ts";
import { audienceOf, countingGroups, type Group, groupOf, type Layout, type Member, PARTITIONS, votersOf } from "../protocol/layout.ts";
import { PROTOCOL_VERSION } from "../protocol/version.ts";
import type { Engine } from "./engine.ts";
import { layoutStatus, progressOf } from "./layout-admin.ts";
import type { Network } from "./ports.ts";
import type { DamagedStatus, FederationStatus, PartitionStatus, PeerStatus, Readiness } from "./status.ts";

/** Records a fingerprint is computed over without being asked for, over all partitions: some 10 ms. */
const CHEAP_RECORDS = 2_000;

/** In the stream of writes a node always lacks the newest for a moment; only beyond this does it count as behind, ms. */
const BEHIND_MS = 10_000;
/** How long a started node listens for what the others hold before it takes itself for caught up, ms. */
const HEARING_MS = 2_000;

export class FederationView {
  readonly #engine: Engine;
  readonly #network: Network | undefined;
  readonly #self: { readonly id: string; readonly version: string; readonly asksToJoin: () => boolean };
  /** The last fingerprint of a partition and the copy and frontier it stands for. */
  readonly #fingerprints = new Map<Partition, { of: string; fingerprint: string }>();
  readonly #lastSeen = new Map<string, number>();
  /** Since when a member lacks what this node held then: `member/partition` -> (what it lacked, when). */
  readonly #behind = new Map<string, { readonly target: readonly (readonly [string, number])[]; readonly since: number }>();

  /** Once after the start nothing was lacking that any connected member holds. */
  #caughtUp = false;
  #lackingSince: number | undefined;
  #layoutSince: number | undefined;

  constructor(
    engine: Engine,
    network: Network | undefined,
    self: { readonly id: string; readonly version: string; readonly asksToJoin: () => boolean },
  ) {
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
    this.#forgetStrangers(layout);
    for (const partition of replica.partitions()) {
      // A witness knows all that full replicas must hold.
      if (replica.role(partition) === undefined) continue;
      const heads = replica.ownHeads(partition);
      for (const member of audienceOf(layout, partition)) {
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

  /** Who has left, and partitions that moved elsewhere, are behind in nothing. */
  #forgetStrangers(layout: Layout): void {
    for (const name of this.#behind.keys()) {
      const [writer, partition] = name.split("/");
      const at = Number(partition) as Partition;
      const keeps = this.#engine.replica?.role(at) !== undefined;
      if (!keeps || !audienceOf(layout, at).some((member) => member.writer === writer)) this.#behind.delete(name);
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
    const everybodyIsHere = (replica?.connectedMembers().length ?? 0) + 1 >= (layout === undefined ? 1 : votersOf(layout).length);
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
        standing: this.#engine.replica?.standing ?? "unlisted",
        asks_to_join: this.#self.asksToJoin(),
        secret_ids: this.#engine.secretIds,
        zone: this.#member()?.zone ?? settings.zone,
        version: this.#self.version,
        protocol_version: PROTOCOL_VERSION,
      },
      layout: layout === undefined ? null : layoutStatus(layout),
      moving: progressOf(this.#engine),
      conflict: this.#engine.replica?.conflict ?? null,
      waiting_for: this.#engine.waitingFor(),
      consistency: settings.consistency,
      peers: this.#peers(),
      quorum: this.#quorum(),
      sync_lag_seconds: this.#lagSeconds(),
      completeness: this.#completeness(),
      witness: { held_deltas: sealed.deltas, held_bytes: sealed.bytes, waits_for: this.#witnessWaitsFor() },
      clock_ahead_ms: this.#clockAheadMs(),
      in_doubt_total: this.#engine.inDoubt,
      copying: this.#engine.replica?.fetching().length ?? 0,
      damaged: this.#damaged(),
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
    const standing = layout === undefined ? undefined : this.#engine.replica?.standing;
    if (standing === "comparing") reasons.push(this.#whyComparing());
    if (standing === "refilling") reasons.push(this.#whyRefilling());
    if (layout === undefined) {
      const waiting = this.#engine.waitingFor();
      reasons.push(waiting.length > 0 ? `layout 1 waits for ${waiting.join(", ")}` : "no layout is known yet");
    }
    const lacking = this.#engine.replica?.lacking().length ?? 0;
    const behindMs = this.#lackingSince === undefined ? 0 : this.#engine.system.monotonic() - this.#lackingSince;
    if (reasons.length > 0) {
      // Said already, and better.
    } else if (!this.#caughtUp)
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

  /** This node as the layout lists it. */
  #member(): Member | undefined {
    const { layout, writer } = this.#engine;
    return layout === undefined ? undefined : votersOf(layout).find((member) => member.writer === writer);
  }

  #role(): FederationStatus["node"]["role"] {
    const { layout } = this.#engine;
    if (layout === undefined) return this.#engine.settings.firstMembers.length > 0 ? "forming" : "gateway";
    if (this.#network === undefined) return "single";
    if (isIn(layout.members, this.#engine.writer)) return "member";
    return isIn(votersOf(layout), this.#engine.writer) ? "joining" : "gateway";
  }

  #whyComparing(): string {
    const { replica, layout, settings } = this.#engine;
    const here = replica?.connectedMembers().length ?? 0;
    const others = layout === undefined ? 0 : votersOf(layout).length - 1;
    const what = "started, and not yet compared with the others what this disk knows, so it does not count (reads at one work)";
    if (here === 0) return `${what}: no other member is connected`;
    return settings.strictStart ? `${what}: ${here} of ${others} others are connected, and FEDERATION_STRICT_START waits for more` : what;
  }

  #whyRefilling(): string {
    return `this disk was empty or replaced: it takes back what it must hold before it counts (${(this.#completeness() * 100).toFixed(1)} % of what is known is here)`;
  }

  #peers(): PeerStatus[] {
    const { layout, links, replica } = this.#engine;
    const rows = new Map<string, PeerStatus>();
    const connected = new Set<string>(this.#network?.connected() ?? []);
    for (const member of layout === undefined ? [] : votersOf(layout)) {
      if (member.writer === this.#engine.writer || member.node === this.#self.id) continue;
      // Connected under another incarnation (its disk was lost), it does not count: not healthy.
      const live = links?.peer(member.node)?.writer === member.writer && connected.has(member.node);
      rows.set(member.node, this.#peer(member, "member", connected.has(member.node), live, replica === undefined ? 0 : this.#behindOf(member)));
    }
    for (const peer of links?.peers() ?? [])
      if (!rows.has(peer.node)) rows.set(peer.node, this.#peer(peer, "gateway", connected.has(peer.node), connected.has(peer.node), 0));
    return [...rows.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  #peer(
    peer: Pick<Member, "node" | "name" | "incarnation" | "zone" | "writer">,
    role: PeerStatus["role"],
    connected: boolean,
    healthy: boolean,
    behind: number,
  ): PeerStatus {
    const { replica, links, system } = this.#engine;
    const latency = this.#network?.latencyMs(peer.node);
    const seen = connected ? system.now() : this.#lastSeen.get(peer.node);
    const ahead = replica?.peerAheadMs(peer.writer, system.now(), system.monotonic());
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
      lag_seconds: this.#lagSeconds(peer.writer),
      counts: replica?.counting().includes(peer.writer) ?? false,
      damaged: replica?.damagedAt(peer.writer).size ?? 0,
      clock_ahead_ms: ahead === undefined || !connected ? null : Math.round(ahead),
      protocol_version: connected ? (links?.peer(peer.node)?.version ?? null) : null,
      secret_ids: replica?.secretsOf(peer.writer) ?? [],
    };
  }

  /** Deltas of the partitions we share that this member has not reported. */
  #behindOf({ writer }: Pick<Member, "writer">): number {
    const { replica, layout } = this.#engine;
    let behind = 0;
    for (const partition of replica?.partitions() ?? []) {
      if (!isIn(audienceOf(layout as Layout, partition), writer)) continue;
      for (const kind of this.#kinds(partition))
        for (const head of replica?.ownHeads(partition, kind) ?? [])
          behind += Math.max(0, head.seq - (replica?.heldBy(writer, partition, head.writer) ?? 0));
    }
    return behind;
  }

  /** As a replica it knows all that it must know of others; a node that is both while the layout changes counts once. */
  #kinds(partition: Partition): Kind[] {
    const [role] = this.#engine.replica?.keeps(partition) ?? [];
    return role === undefined ? [] : [role === "replica" ? "heads" : "marks"];
  }

  /** Every group that must agree, the old and the next one while a change is joint. */
  #quorum(): FederationStatus["quorum"] {
    const { layout, replica } = this.#engine;
    if (layout === undefined)
      return { available: false, unavailable: 256, system: false, short_groups: 0, short_copies: 0, group_size: 0, quorum: 0 };
    const counting = new Map((replica?.counting() ?? []).map((writer) => [writer, replica?.damagedAt(writer) ?? NOWHERE]));
    const counts: Counts = (writer, partition) => counting.get(writer)?.has(partition) === false;
    const satisfied = ({ members, quorum }: Group, partition: Partition): boolean =>
      members.filter(({ writer }) => counts(writer, partition)).length >= quorum;
    const whole = replica?.conflict === undefined;
    let unavailable = 0;
    let system = false;
    let short = 0;
    let smallest = groupOf(layout, PARTITIONS[0]!);
    const wanted = 2 * layout.replicationFactor - 1;
    for (const partition of PARTITIONS) {
      const available = whole && countingGroups(layout, partition).every((group) => satisfied(group, partition));
      if (partition === PARTITIONS.at(-1)) {
        system = available;
        continue;
      }
      if (!available) unavailable++;
      const group = groupOf(layout, partition);
      if (group.size < wanted) short++;
      if (group.size < smallest.size) smallest = group;
    }
    return {
      available: unavailable === 0 && system,
      unavailable,
      system,
      short_groups: short,
      short_copies: this.#shortCopies(layout, counts),
      group_size: smallest.size,
      quorum: smallest.quorum,
    };
  }

  /** A full replica that has lacked something for long, is damaged, or is not there, is no copy to rely on. As a member of its group knows, a witness too. */
  #shortCopies(layout: Layout, counts: Counts): number {
    const { replica, writer: self } = this.#engine;
    const now = this.#engine.system.monotonic();
    const lacksLong = ({ writer }: Member, partition: Partition): boolean => {
      const since = this.#behind.get(`${writer}/${partition}`)?.since;
      return since !== undefined && now - since > BEHIND_MS;
    };
    let short = 0;
    for (const partition of replica?.partitions() ?? []) {
      const group = groupOf(layout, partition);
      if (partition === PARTITIONS.at(-1) || !isIn(group.members, self)) continue;
      const whole = group.replicas.filter((member) => counts(member.writer, partition) && (member.writer === self || !lacksLong(member, partition)));
      if (whole.length < layout.replicationFactor) short++;
    }
    return short;
  }

  /** What a full replica lacks of what is kept here for it. */
  #witnessWaitsFor(): { readonly name: string; readonly deltas: number }[] {
    const { replica, layout, store, writer: self } = this.#engine;
    const waits = new Map<string, number>();
    if (replica === undefined || layout === undefined) return [];
    for (const partition of replica.partitions()) {
      if (store.staged.sealedTotals(partition).deltas === 0) continue;
      const replicas = new Set(countingGroups(layout, partition).flatMap((group) => group.replicas));
      for (const { writer, seq } of replica.ownHeads(partition, "marks"))
        for (const member of replicas) {
          if (member.writer === self) continue;
          const lacks = seq - replica.heldBy(member.writer, partition, writer);
          if (lacks > 0) waits.set(member.name, (waits.get(member.name) ?? 0) + lacks);
        }
    }
    return [...waits].map(([name, deltas]) => ({ name, deltas })).sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  #damaged(): DamagedStatus[] {
    const { replica } = this.#engine;
    const copying = new Set(replica?.fetching() ?? []);
    const state = (only: boolean, partition: Partition): DamagedStatus["state"] =>
      only ? "only_copy" : copying.has(partition) ? "copying" : "waiting";
    const copies = (replica?.damagedCopies() ?? []).map(({ partition, kind, only }) => ({
      partition,
      role: kind === "heads" ? ("replica" as const) : ("witness" as const),
      state: state(only, partition),
    }));
    return copies.sort((a, b) => a.partition - b.partition);
  }

  #clockAheadMs(): number | null {
    const { replica, system } = this.#engine;
    const ahead = replica?.clockAheadMs(system.now(), system.monotonic());
    return ahead === undefined ? null : Math.round(ahead);
  }

  /** @param member of this one only */
  #lagSeconds(member?: WriterId): number {
    const now = this.#engine.system.monotonic();
    let oldest = 0;
    for (const [name, { since }] of this.#behind) if (member === undefined || name.startsWith(`${member}/`)) oldest = Math.max(oldest, now - since);
    return Math.round(oldest) / 1000;
  }

  /** Of every stream of the partitions kept here: how far it is held, of how far it is known to go anywhere. */
  #completeness(): number {
    const { replica } = this.#engine;
    if (replica === undefined) return 0;
    let known = 0;
    let held = 0;
    for (const partition of PARTITIONS) {
      const kinds = this.#kinds(partition);
      if (kinds.length === 0) continue;
      const told = new Map(replica.toldOf(partition));
      // Of a damaged copy nothing is held, only known.
      const isWhole = !replica.isDamaged(partition);
      for (const { writer, seq } of kinds.flatMap((kind) => replica.ownHeads(partition, kind))) {
        if (isWhole) held += seq;
        known += Math.max(seq, told.get(writer) ?? 0);
        told.delete(writer);
      }
      for (const seq of told.values()) known += seq;
    }
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
    const { replica, store } = this.#engine;
    // One that is found damaged, and replaced, has the frontier that it had.
    const times = store.timesCopied(partition);
    const known = this.#fingerprints.get(partition);
    if (known?.of === `${times} ${JSON.stringify(replica?.ownHeads(partition))}`) return known.fingerprint;
    const found = await store.fingerprint(partition);
    this.#fingerprints.set(partition, { of: `${times} ${JSON.stringify(found.frontier)}`, fingerprint: found.fingerprint });
    return found.fingerprint;
  }
}

type Counts = (writer: WriterId, partition: Partition) => boolean;
const NOWHERE: ReadonlySet<Partition> = new Set();

function isIn(members: readonly Member[], writer: string): boolean {
  return members.some((member) => member.writer === writer);
}
