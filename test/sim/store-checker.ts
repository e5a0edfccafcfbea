/**
 * What the disks hold, against what they must hold. Two parts: a `Registry` that looks at every delta the moment any disk completes it, for the whole run,
 * and checks of the disks at rest, when everything has healed.
 */
import { hash } from "node:crypto";
import { decode } from "cborg";
import { keyHashOf } from "../../crypto/hash.ts";
import { type Delta, parseDelta } from "../../protocol/delta.ts";
import { applyDelta, type RecordState } from "../../protocol/graph/apply.ts";
import { encodeRecord, KIND_CODES } from "../../protocol/graph/record.ts";
import type { GraphRecord, Kind, RecordOf } from "../../protocol/graph/records.ts";
import { HighWaters } from "./high-waters.ts";
import type { Operation, Violation } from "./history.ts";
import {
  conceptCount,
  isIntact,
  linkMass,
  markIn,
  ownersIn,
  type RawDecay,
  type RawDelta,
  type RawStore,
  rawDecayed,
  rawDelta,
  rawHeaderOf,
} from "./raw-store.ts";
import type { Entries } from "./sim-disk.ts";

const base64url = (bytes: Uint8Array | string): string => hash("sha256", bytes, "base64url");

type Disk = ReadonlyMap<string, Uint8Array>;

/**
 * Every delta that was ever complete on any disk, and what may be said of it at that moment. Checker (e): no (writer, partition, seq) with two hashes;
 * one layout of each number; a witness forgets only what every full replica holds.
 */
export class Registry {
  /** Checker (f). */
  readonly highWaters = new HighWaters();
  readonly #violations: Violation[] = [];
  /** By `partition/writer/seq`, as one full replica logged it. */
  readonly deltas = new Map<string, RawDelta>();
  /** Key hash -> names of the deltas with it. */
  readonly executions = new Map<string, Set<string>>();
  readonly #hashes = new Map<string, { hash: string; where: string }>();
  /** By version. */
  readonly #layouts = new Map<number, { readonly text: string; readonly where: string }>();
  /** By row: which nodes ever had it durably, a delta in full (`d/`) or sealed (`s/`); a disk may have been lost since. */
  readonly #everHeld = new Map<string, Set<string>>();
  /** Nodes and partitions, while what they keep as witnesses goes as a whole. */
  readonly #leaving = new Set<string>();
  /** A disk was lost, or an older copy took its place: what was acknowledged at `one` may be gone. */
  disksLost = false;
  readonly #disks: () => readonly Disk[];
  readonly #factor: number;

  /** @param disks what is durable on each node @param factor the replication factor */
  constructor(disks: () => readonly Disk[], factor: number) {
    this.#disks = disks;
    this.#factor = factor;
  }

  /** A batch has completed on a disk. @param synced a power cut cannot take it any more */
  wrote(where: string, entries: Entries, synced: boolean): void {
    this.highWaters.wrote(where, entries, synced);
    this.#saw(where, entries);
  }

  /** A process opens its disk. */
  found(where: string, contents: ReadonlyMap<string, Uint8Array>): void {
    this.highWaters.found(where, contents);
    this.#saw(where, contents);
  }

  #saw(where: string, entries: Iterable<readonly [string, Uint8Array | undefined]>): void {
    for (const [key, value] of entries) {
      if (key.startsWith("z/")) this.#leaves(where, key.slice(2), value !== undefined);
      if (value === undefined) {
        if (key.startsWith("s/")) this.#forgot(where, key);
        continue;
      }
      if (!isIntact(value)) continue; // a bit has turned, and the node will notice or not read it
      if (key.startsWith("d/") || key.startsWith("s/")) this.#delta(where, key, value);
      else if (key === "!layout" || key.startsWith("l/")) this.#sawLayout(where, value.subarray(4));
    }
  }

  /** Deltas that some disk still has: one that was acknowledged at `one` may be lost with the only disk that had it. */
  surviving(): RawDelta[] {
    const disks = this.#disks();
    return [...this.deltas.values()].filter(({ name }) => disks.some((disk) => disk.has(`d/${rowOf(name)}`)));
  }

  /** The latest clock value of any delta, ms. */
  get latestMs(): number {
    return Math.max(0, ...[...this.deltas.values()].map(({ hlc }) => hlc[0]));
  }

  get violations(): readonly Violation[] {
    return [...this.#violations, ...this.highWaters.violations];
  }

  /** Nodes that ever had this row durably. */
  holders(row: string): ReadonlySet<string> {
    return this.#everHeld.get(row) ?? new Set();
  }

  /** Names of the deltas that executed a client's write. */
  executionsOf(tenant: string, key: string): readonly string[] {
    return [...(this.executions.get(keyHashOf(tenant, key)) ?? [])];
  }

  #delta(where: string, key: string, value: Uint8Array): void {
    const header = rawHeaderOf(value);
    const hashed = base64url(header.bytes);
    const known = this.#hashes.get(header.name);
    if (known === undefined) {
      this.#hashes.set(header.name, { hash: hashed, where });
      const executions = this.executions.get(header.key) ?? new Set();
      this.executions.set(header.key, executions.add(header.name));
    } else if (known.hash !== hashed) {
      this.#violations.push({
        checker: "e one hash",
        message: `${header.name} is ${hashed.slice(0, 8)} on ${where} and was ${known.hash.slice(0, 8)} on ${known.where}`,
      });
    }
    const holders = this.#everHeld.get(key) ?? new Set();
    this.#everHeld.set(key, holders.add(where));
    if (key.startsWith("d/") && !this.deltas.has(header.name)) this.deltas.set(header.name, rawDelta(value));
  }

  /** What is kept as a witness goes as a whole: another group keeps the partition, and a quorum of it has all of that, which need not be two full copies yet. */
  #leaves(where: string, partition: string, begins: boolean): void {
    if (begins) this.#leaving.add(`${where} ${partition}`);
    else this.#leaving.delete(`${where} ${partition}`);
  }

  #forgot(where: string, key: string): void {
    if (this.#leaving.has(`${where} ${key.split("/")[1]}`)) return;
    const copies = this.#everHeld.get(`d/${key.slice("s/".length)}`)?.size ?? 0;
    if (copies >= Math.min(this.#factor, this.#disks().length)) return;
    this.#violations.push({ checker: "witness", message: `${where} forgot ${key}, which only ${copies} full replicas hold` });
  }

  #sawLayout(where: string, bytes: Uint8Array): void {
    const version = (decode(bytes) as [number, number])[1];
    const text = Buffer.from(bytes).toString("hex");
    const known = this.#layouts.get(version);
    if (known === undefined) this.#layouts.set(version, { text, where });
    else if (known.text !== text)
      this.#violations.push({ checker: "one layout", message: `${where} has another layout ${version} than ${known.where}` });
  }
}

/** While the layout changes nodes go by different ones: the smallest group that any of them may have counted with. */
function leastGroup(disks: readonly Disk[]): { readonly replicas: number; readonly quorum: number } {
  const layouts = disks.map((disk) => disk.get("!layout")).filter((layout) => layout !== undefined && isIntact(layout)) as Uint8Array[];
  const groups = layouts.map(ownersIn).map(({ factor, members }) => {
    const size = Math.min(2 * factor - 1, members);
    return { replicas: Math.min(factor, members), quorum: Math.floor(size / 2) + 1 };
  });
  return { replicas: Math.min(...groups.map(({ replicas }) => replicas)), quorum: Math.min(...groups.map(({ quorum }) => quorum)) };
}

/** Of a delta `partition/writer/seq`, how keys end that are about it. */
function rowOf(name: string): string {
  const [partition, writer, seq] = name.split("/") as [string, string, string];
  return `${partition.padStart(3, "0")}/${writer}/${Number(seq).toString(16).padStart(12, "0")}`;
}

/** An edit or a deletion of what is gone changes nothing, so there is nothing to hold. */
const MAY_CHANGE_NOTHING: ReadonlySet<Operation["kind"]> = new Set(["edit", "delete", "unlearn"]);

/** Checker P1, at the very moment of an acknowledgement: that many disks have it durably, a full copy among them. */
export function checkAcknowledged(operation: Operation, key: string, registry: Registry, disks: readonly Disk[]): Violation[] {
  const { replicas, quorum } = leastGroup(disks);
  const found: string[] = [];
  for (const name of registry.executionsOf(operation.tenant, key)) {
    const [partition, writer, seq] = name.split("/") as [string, string, string];
    const row = rowOf(name);
    // Whoever had it and lost its disk before the client heard of it had acknowledged it all the same.
    const full = registry.holders(`d/${row}`);
    const copies = full.size;
    // A mark is no copy: it counts while the witness keeps the bytes, or once every full replica has them.
    const sealed = [...registry.holders(`s/${row}`)].filter((name) => !full.has(name)).length;
    const marked = disks.filter((disk) => !disk.has(`d/${row}`) && markIn(disk, partition, writer) >= Number(seq)).length;
    const witnesses = copies >= replicas ? marked : sealed;
    if (copies >= (operation.level === "all" ? replicas : 1) && copies + witnesses >= (operation.level === "quorum" ? quorum : 1)) return [];
    found.push(`${name} on ${copies} disks and ${witnesses} witnesses`);
  }
  // Of two attempts one may have found nothing to change, and said so, while the other is still on its way.
  if ((found.length === 0 || operation.attempts > 1) && MAY_CHANGE_NOTHING.has(operation.kind)) return [];
  return [
    {
      checker: "p1 durable",
      message: `${operation.kind} ${operation.id} of ${operation.tenant} is acknowledged at ${operation.level}, but durable is: ${found.join(", ") || "nothing"}`,
    },
  ];
}

export interface RestingNode {
  readonly name: string;
  readonly store: RawStore;
}

/** Everything that must hold of disks at rest, when all faults are healed and nothing is under way. */
export function checkAtRest(
  nodes: readonly RestingNode[],
  registry: Registry,
  acknowledged: readonly { operation: Operation; key: string }[],
  factor: number,
  order: Order,
  decay: RawDecay,
): Violation[] {
  return [
    ...nodes.flatMap((node) => checkStore(node, registry)),
    ...checkConvergence(nodes),
    ...checkWitnesses(nodes),
    ...checkCopies(nodes, registry, acknowledged, factor),
    ...checkCounts(nodes, registry.surviving()),
    ...checkLinks(nodes, registry.surviving(), registry.latestMs, decay),
    ...checkAnyOrder(nodes, order),
  ];
}

/** One disk by itself: streams without a gap, chained, with rising clocks; every key known; nothing that nobody wrote. */
function checkStore({ name, store }: RestingNode, registry: Registry): Violation[] {
  const violations: Violation[] = [];
  const fail = (message: string): void => void violations.push({ checker: "one store", message: `${name}: ${message}` });
  for (const [partition, heads] of store.frontiers) {
    for (const [writer, head] of heads) {
      let previous: RawDelta | undefined;
      for (let seq = 1; seq <= head.seq; seq++) {
        const delta = store.log.get(`${partition}/${writer}/${seq}`);
        if (delta === undefined) {
          fail(`the frontier of ${partition}/${writer} says ${head.seq}, but ${seq} is missing`);
          break;
        }
        if (previous !== undefined && delta.previous !== base64url(previous.bytes)) fail(`${delta.name} does not follow the header before it`);
        if (previous !== undefined && !(delta.hlc[0] - previous.hlc[0] || delta.hlc[1] - previous.hlc[1]))
          fail(`${delta.name} has the clock value of the delta before it`);
        if (previous !== undefined && (delta.hlc[0] - previous.hlc[0] || delta.hlc[1] - previous.hlc[1]) < 0)
          fail(`${delta.name} has an earlier clock value than the delta before it`);
        if (delta.bodyHash !== base64url(delta.bodyBytes)) fail(`${delta.name} has another body than its header names`);
        if ((store.clock[0] - delta.hlc[0] || store.clock[1] - delta.hlc[1]) < 0) fail(`the clock high-water is below ${delta.name}`);
        if (!store.keys.get(`${partition}/${delta.key}`)?.includes(`${writer}/${seq}`)) fail(`the key of ${delta.name} does not know it`);
        previous = delta;
      }
      if (previous !== undefined && previous.seq === head.seq && base64url(previous.bytes) !== head.hash)
        fail(`the frontier of ${partition}/${writer} has another hash than its last delta`);
    }
  }
  for (const delta of store.log.values()) {
    // One that nobody needs here any more may have begun to go since all came to rest.
    if (store.leaving.has(delta.partition)) continue;
    if ((store.frontiers.get(delta.partition)?.get(delta.writer)?.seq ?? 0) < delta.seq) fail(`${delta.name} is stored beyond the frontier`);
    if (!registry.deltas.has(delta.name)) fail(`${delta.name} came from nowhere`);
  }
  return violations;
}

/** Checker (c): whoever holds a partition in full holds the same streams, and then the same bytes. */
function checkConvergence(nodes: readonly RestingNode[]): Violation[] {
  const violations: Violation[] = [];
  const partitions = new Set(nodes.flatMap(({ store }) => [...store.frontiers.keys()]));
  for (const partition of partitions) {
    const [first, ...others] = nodes.filter(({ store }) => store.frontiers.has(partition));
    for (const other of others) {
      const frontiers = [first as RestingNode, other].map(({ store }) => frontierText(store.frontiers.get(partition)));
      if (frontiers[0] !== frontiers[1]) {
        violations.push({
          checker: "convergence",
          message: `partition ${partition}: ${first?.name} holds ${frontiers[0]}, ${other.name} holds ${frontiers[1]}`,
        });
        continue;
      }
      const difference = firstDifference(first?.store.records.get(partition), other.store.records.get(partition));
      if (difference !== undefined)
        violations.push({
          checker: "c equal graphs",
          message: `partition ${partition}: equal frontiers, but ${difference} differs on ${first?.name} and ${other.name}`,
        });
    }
  }
  return violations;
}

/** At rest a witness has seen everything, and keeps nothing. */
function checkWitnesses(nodes: readonly RestingNode[]): Violation[] {
  const violations: Violation[] = [];
  for (const { name, store } of nodes) {
    for (const [partition, heads] of store.marks) {
      const replica = nodes.find((node) => node.store.frontiers.has(partition));
      const held = frontierText(replica?.store.frontiers.get(partition));
      if (frontierText(heads) !== held)
        violations.push({
          checker: "witness",
          message: `partition ${partition}: the marks of ${name} are ${frontierText(heads)}, ${replica?.name} holds ${held}`,
        });
    }
    if (store.sealed.size > 0) violations.push({ checker: "witness", message: `${name} still keeps ${[...store.sealed.keys()].join(" ")}` });
  }
  return violations;
}

/** Checker (d): every acknowledged write is on min(RF, members) full copies. */
function checkCopies(
  nodes: readonly RestingNode[],
  registry: Registry,
  acknowledged: readonly { operation: Operation; key: string }[],
  factor: number,
): Violation[] {
  const violations: Violation[] = [];
  for (const { operation, key } of acknowledged) {
    const executions = registry.executionsOf(operation.tenant, key);
    const copies = nodes.filter(({ store }) => executions.some((name) => store.log.has(name))).length;
    const changedNothing = executions.length === 0 && MAY_CHANGE_NOTHING.has(operation.kind);
    const mayBeLost = operation.level === "one" && registry.disksLost;
    if (copies < Math.min(factor, nodes.length) && !changedNothing && !mayBeLost) {
      violations.push({
        checker: "d copies",
        message: `${operation.kind} ${operation.id} was acknowledged at ${operation.level} and is on ${copies} full copies`,
      });
    }
  }
  return violations;
}

/** Checker (b): a concept counts once for each key that ever touched it, however often that key was executed; but for those that were unlearnt. */
function checkCounts(nodes: readonly RestingNode[], deltas: readonly RawDelta[]): Violation[] {
  const violations: Violation[] = [];
  const keysOf = new Map<string, Map<string, number>>();
  const unlearnt = new Set<string>();
  for (const delta of deltas) {
    for (const [op, id, mass] of delta.entries) {
      if (op !== "c" && op !== "fc") continue;
      const record = `r/${String(delta.partition).padStart(3, "0")}/${delta.tenant}/c/${String(id)}`;
      if (op === "fc") unlearnt.add(record);
      const masses = keysOf.get(record) ?? new Map<string, number>();
      keysOf.set(record, masses.set(delta.key, Math.max(masses.get(delta.key) ?? 0, mass as number)));
    }
  }
  for (const [record, masses] of keysOf) {
    if (unlearnt.has(record)) continue;
    const expected = [...masses.values()].reduce((sum, mass) => sum + mass, 0);
    for (const { name, store } of nodes) {
      const bytes = store.records.get(Number(record.slice(2, 5)))?.get(record);
      if (bytes === undefined) continue;
      const counted = conceptCount(Buffer.from(bytes, "latin1"));
      if (counted !== expected)
        violations.push({ checker: "b counts", message: `${record} counts ${counted} on ${name}, ${expected} were asked for` });
    }
  }
  return violations;
}

/** Floats are added in another order here than there. */
const STRENGTH_ERROR_MAX = 1e-9;

/**
 * Checker (b) of links: what all requests of a link come to at a time, each decayed since it was numbered, one key once (its largest execution). Concepts
 * of a tenant -> mass. Links that were ever unlearnt are left out.
 * @param atMs not before any delta
 */
export function expectedLinks(
  deltas: Iterable<RawDelta>,
  atMs: number,
  decay: RawDecay,
): Map<string, { readonly partition: number; readonly mass: number }> {
  const keysOf = new Map<string, { partition: number; masses: Map<string, number> }>();
  const unlearnt = new Set<string>();
  for (const { partition, tenant, key, hlc, entries } of deltas) {
    for (const [op, a, b, mass] of entries) {
      if (op !== "l" && op !== "fl") continue;
      const link = `${tenant}/${a} ${b}`;
      if (op === "fl") unlearnt.add(link);
      else {
        const { masses } = keysOf.get(link) ?? { masses: new Map<string, number>() };
        masses.set(key, Math.max(masses.get(key) ?? 0, rawDecayed(mass as number, hlc[0], atMs, decay)));
        keysOf.set(link, { partition, masses });
      }
    }
  }
  return new Map(
    [...keysOf]
      .filter(([link]) => !unlearnt.has(link))
      .map(([link, { partition, masses }]) => [link, { partition, mass: [...masses.values()].reduce((sum, mass) => sum + mass, 0) }]),
  );
}

/** As of now, and when a good part has faded. */
function checkLinks(nodes: readonly RestingNode[], deltas: readonly RawDelta[], latestMs: number, decay: RawDecay): Violation[] {
  const violations: Violation[] = [];
  for (const atMs of [latestMs, latestMs + 0.7 * decay.periodMs]) {
    for (const [link, { partition, mass }] of expectedLinks(deltas, atMs, decay)) {
      for (const { name, store } of nodes) {
        const record = linkRecord(store, partition, link);
        const found = record === undefined ? undefined : linkMass(Buffer.from(record, "latin1"), atMs, decay);
        if (found !== undefined && Math.abs(found - mass) > STRENGTH_ERROR_MAX)
          violations.push({ checker: "b links", message: `${link} weighs ${found} on ${name}, ${mass} were asked for and are left` });
      }
    }
  }
  return violations;
}

/** A link's key ends in a hash of its concepts; its record names them. */
function linkRecord(store: RawStore, partition: number, link: string): string | undefined {
  const [tenant, concepts] = link.split("/") as [string, string];
  const prefix = `r/${String(partition).padStart(3, "0")}/${tenant}/l/`;
  for (const [key, record] of store.records.get(partition) ?? []) {
    if (!key.startsWith(prefix)) continue;
    const [, a, b] = decode(Buffer.from(record, "latin1")) as [string, string, string];
    if (`${a} ${b}` === concepts) return record;
  }
  return undefined;
}

/** What readers were told of strengths, against what the deltas say: 1 - d^n. Links that were ever unlearnt are left out. */
export function checkStrengths(
  tenant: string,
  node: string,
  told: ReadonlyMap<string, number>,
  registry: Registry,
  atMs: number,
  decay: RawDecay,
): Violation[] {
  const expected = expectedLinks(registry.surviving(), atMs, decay);
  const violations: Violation[] = [];
  for (const [concepts, strength] of told) {
    const right = 1 - decay.resonanceDecay ** (expected.get(`${tenant}/${concepts}`)?.mass ?? 0);
    if (Math.abs(strength - right) > STRENGTH_ERROR_MAX)
      violations.push({ checker: "b strengths", message: `a reader at ${node} was told ${strength} of ${concepts} in ${tenant}, it is ${right}` });
  }
  return violations;
}

/** A random order that keeps each stream's own. */
export type Order = <T>(streams: readonly (readonly T[])[]) => readonly T[];

/** Checker (g): the deltas of a node, applied in another order to an empty graph, give the bytes it holds. */
function checkAnyOrder(nodes: readonly RestingNode[], order: Order): Violation[] {
  const violations: Violation[] = [];
  for (const { name, store } of nodes) {
    for (const [partition, heads] of store.frontiers) {
      const streams = [...heads].map(([writer, { seq }]) =>
        Array.from({ length: seq }, (_, i) => store.log.get(`${partition}/${writer}/${i + 1}`)).filter((delta) => delta !== undefined),
      );
      const difference = firstDifference(store.records.get(partition), materialise(partition, order(streams)));
      if (difference !== undefined)
        violations.push({ checker: "g any order", message: `partition ${partition} of ${name}: ${difference} depends on the order of arrival` });
    }
  }
  return violations;
}

function materialise(partition: number, deltas: readonly RawDelta[]): Map<string, string> {
  const records = new Map<string, GraphRecord>();
  const byKey = new Map<string, Delta[]>();
  const keyOf = (tenant: string, kind: Kind, id: string): string => `r/${String(partition).padStart(3, "0")}/${tenant}/${KIND_CODES[kind]}/${id}`;
  const state: RecordState = {
    record: <K extends Kind>(tenant: string, kind: K, id: string) => records.get(keyOf(tenant, kind, id)) as RecordOf<K> | undefined,
  };
  for (const raw of floorsLast(deltas)) {
    const delta = parseDelta(raw.bytes, raw.bodyBytes);
    const same = byKey.get(raw.key) ?? [];
    for (const change of applyDelta(delta, state, same)) {
      if (change.after === undefined) records.delete(keyOf(raw.tenant, change.kind, change.id));
      else records.set(keyOf(raw.tenant, change.kind, change.id), change.after);
    }
    byKey.set(raw.key, [...same, delta]);
  }
  return new Map([...records].map(([key, record]) => [key, Buffer.from(encodeRecord(record)).toString("latin1")]));
}

/** The same order, but that a delta with a floor, and what follows it in its stream, waits until all the floor covers is there: before that it is a gap. */
function floorsLast(deltas: readonly RawDelta[]): RawDelta[] {
  const out: RawDelta[] = [];
  const held = new Map<string, number>();
  let waiting = [...deltas];
  for (let before = -1; waiting.length > 0 && before !== waiting.length; ) {
    before = waiting.length;
    waiting = waiting.filter((delta) => {
      const covered = delta.entries.every(
        ([op, frontier]) => op !== "fr" || (frontier as [string, number][]).every(([writer, seq]) => (held.get(writer) ?? 0) >= seq),
      );
      if (!covered || (held.get(delta.writer) ?? 0) !== delta.seq - 1) return true;
      held.set(delta.writer, delta.seq);
      out.push(delta);
      return false;
    });
  }
  return out;
}

function firstDifference(a: ReadonlyMap<string, string> = new Map(), b: ReadonlyMap<string, string> = new Map()): string | undefined {
  return [...new Set([...a.keys(), ...b.keys()])].sort().find((key) => a.get(key) !== b.get(key));
}

function frontierText(heads: ReadonlyMap<string, { readonly seq: number; readonly hash: string }> = new Map()): string {
  return [...heads]
    .map(([writer, { seq, hash }]) => `${writer.slice(0, 6)}:${seq}:${hash.slice(0, 6)}`)
    .sort()
    .join(" ");
}
