/**
 * The agreed, numbered document of who is in the federation, and the placement that every member computes from it: never from gossip.
 * Two members with the same layout bytes compute the same groups, on any machine.
 */
import { sha256, sha256Hex, writerIdOf } from "../crypto/hash.ts";
import { asArray, decodeWire, encodeWire, type Wire } from "./codec.ts";
import { ProtocolError } from "./errors.ts";
import type { FederationId, Incarnation, NodeId, Partition, WriterId } from "./ids.ts";
import { SYSTEM_PARTITION, SYSTEM_TENANT } from "./ids.ts";
import {
  DECAY_PERIOD_MAX_MS,
  FEDERATION_MEMBERS_MAX,
  LAYOUT_MAX_BYTES,
  MEMBER_WEIGHT_MAX,
  NODE_ID_MAX_CHARS,
  NODE_NAME_MAX_CHARS,
  REPLICATION_FACTOR_MAX,
  ZONE_MAX_CHARS,
} from "./limits.ts";
import { quorumOf } from "./quorum.ts";

export interface Member {
  readonly node: NodeId;
  /** NODE_NAME: unique in a layout, 1..63 printable ASCII characters without comma. Placement hashes it, so a lost disk moves nothing. */
  readonly name: string;
  readonly incarnation: Incarnation;
  /** Derived from node and incarnation; not on the wire. */
  readonly writer: WriterId;
  /** Failure zone, 0..63 printable ASCII characters; "" is a zone too. */
  readonly zone: string;
  /** Share of the partitions relative to the others, whole number 1..10,000. */
  readonly weight: number;
}

/** The environment only proposes these at formation; layout 1 fixes them. */
export interface LayoutSettings {
  /** Full replicas per partition, 1..16. */
  readonly replicationFactor: number;
  /** d in (0, 1). */
  readonly resonanceDecay: number;
  /** h in (0, 1). */
  readonly hebbianRate: number;
  /** Whole ms >= 1. */
  readonly periodMs: number;
}

export interface Layout extends LayoutSettings {
  /** 1, 2, 3 ... */
  readonly version: number;
  readonly federation: FederationId;
  /** Sorted by name, names and nodes unique, 1..256 of them. */
  readonly members: readonly Member[];
}

/** Who keeps one partition. */
export interface Group {
  readonly replicas: readonly Member[];
  readonly witnesses: readonly Member[];
  /** Replicas, then witnesses. */
  readonly members: readonly Member[];
  readonly size: number;
  /** quorumOf(size). */
  readonly quorum: number;
}

/** Tells the bytes of a layout apart from what later versions will write. */
const LAYOUT_FORMAT = 1;

/** @throws ProtocolError MALFORMED, when a field is outside its bounds */
export function memberOf(fields: Omit<Member, "writer">): Member {
  return Object.freeze({
    node: nodeId(fields.node),
    name: nodeName(fields.name),
    incarnation: incarnationId(fields.incarnation),
    writer: writerIdOf(fields.node, fields.incarnation) as WriterId,
    zone: zoneName(fields.zone),
    weight: wholeNumber(fields.weight, 1, MEMBER_WEIGHT_MAX, "weight"),
  });
}

/**
 * Checks every bound and relation, sorts the members and freezes the result. Everything that makes a layout goes through here.
 * @throws ProtocolError MALFORMED
 */
export function layoutOf(fields: Omit<Layout, "members"> & { readonly members: readonly Omit<Member, "writer">[] }): Layout {
  const members = fields.members.map(memberOf).sort(byName);
  if (members.length < 1 || members.length > FEDERATION_MEMBERS_MAX) throw malformed("member count");
  if (new Set(members.map((member) => member.name)).size !== members.length) throw malformed("two members with one name");
  if (new Set(members.map((member) => member.node)).size !== members.length) throw malformed("two members with one node");
  return Object.freeze({
    version: wholeNumber(fields.version, 1, Number.MAX_SAFE_INTEGER, "version"),
    federation: federationId(fields.federation),
    ...settingsOf(fields),
    members: Object.freeze(members),
  });
}

/** @throws ProtocolError MALFORMED */
export function settingsOf(fields: LayoutSettings): LayoutSettings {
  return Object.freeze({
    replicationFactor: wholeNumber(fields.replicationFactor, 1, REPLICATION_FACTOR_MAX, "replicationFactor"),
    resonanceDecay: openUnit(fields.resonanceDecay, "resonanceDecay"),
    hebbianRate: openUnit(fields.hebbianRate, "hebbianRate"),
    periodMs: wholeNumber(fields.periodMs, 1, DECAY_PERIOD_MAX_MS, "periodMs"),
  });
}

/** How a member is written inside a layout or a message. */
export function memberRow(member: Member): Wire {
  return [member.node, member.name, member.incarnation, member.zone, member.weight];
}

/** @throws ProtocolError MALFORMED */
export function memberOfRow(row: Wire | undefined): Member {
  const [node, name, incarnation, zone, weight] = asArray(row, "member", 5);
  return memberOf({
    node: node as NodeId,
    name: name as string,
    incarnation: incarnation as Incarnation,
    zone: zone as string,
    weight: weight as number,
  });
}

/** Canonical: one layout, one byte string. CDDL in protocol/README.md. */
export function encodeLayout(layout: Layout): Uint8Array {
  return encodeWire([
    LAYOUT_FORMAT,
    layout.version,
    layout.federation,
    layout.replicationFactor,
    layout.resonanceDecay,
    layout.hebbianRate,
    layout.periodMs,
    layout.members.map(memberRow),
  ]);
}

/**
 * Accepts only what encodeLayout writes: another spelling of the same layout would have another hash.
 * @throws ProtocolError TOO_LARGE, VERSION, MALFORMED
 */
export function decodeLayout(bytes: Uint8Array): Layout {
  const fields = asArray(decodeWire(bytes, LAYOUT_MAX_BYTES), "layout");
  if (fields[0] !== LAYOUT_FORMAT) throw new ProtocolError("VERSION", "a layout of a format we do not know");
  const [, version, federation, replicationFactor, resonanceDecay, hebbianRate, periodMs, rows] = asArray(fields, "layout", 8);
  const layout = layoutOf({
    version: version as number,
    federation: federation as FederationId,
    replicationFactor: replicationFactor as number,
    resonanceDecay: resonanceDecay as number,
    hebbianRate: hebbianRate as number,
    periodMs: periodMs as number,
    members: asArray(rows, "members").map(memberOfRow),
  });
  if (!sameBytes(encodeLayout(layout), bytes)) throw malformed("not canonical");
  return layout;
}

/** SHA-256 of the canonical bytes, 64 hex digits: two layouts are one exactly when these are equal. */
export function layoutHash(layout: Layout): string {
  return sha256Hex(encodeLayout(layout));
}

/** First byte of SHA-256 over the tenant's UTF-8 bytes; the system tenant has its own partition. */
export function partitionOf(tenant: string): Partition {
  if (tenant === SYSTEM_TENANT) return SYSTEM_PARTITION;
  return sha256(tenant)[0]! as Partition;
}

/** Layouts are frozen, so a group is computed once for each of them. */
const groups = new WeakMap<Layout, Map<Partition, Group>>();

/**
 * RF full replicas, then RF - 1 witnesses, as far as there are members; of the system partition everybody is a full replica.
 * @throws ProtocolError EMPTY_GROUP
 */
export function groupOf(layout: Layout, partition: Partition): Group {
  let known = groups.get(layout);
  if (known === undefined) {
    known = new Map();
    groups.set(layout, known);
  }
  let group = known.get(partition);
  if (group === undefined) {
    group = placeGroup(layout, partition);
    known.set(partition, group);
  }
  return group;
}

function placeGroup(layout: Layout, partition: Partition): Group {
  const replicaCount = partition === SYSTEM_PARTITION ? layout.members.length : layout.replicationFactor;
  const placed = partition === SYSTEM_PARTITION ? layout.members : placeMembers(layout.members, partition, 2 * replicaCount - 1);
  return Object.freeze({
    replicas: Object.freeze(placed.slice(0, replicaCount)),
    witnesses: Object.freeze(placed.slice(replicaCount)),
    members: Object.freeze(placed.slice()),
    size: placed.length,
    quorum: quorumOf(placed.length),
  });
}

/**
 * Rendezvous hashing (Thaler and Ravishankar 1998) with weights: the members in ascending order of -ln(u) / weight, u drawn from (0, 1] by a
 * hash of partition and name, so a member comes first in proportion to its weight and a new one takes places without moving others. Zones are
 * spread first: each place goes to the best member among the zones that hold the fewest places so far.
 */
function placeMembers(members: readonly Member[], partition: Partition, places: number): readonly Member[] {
  const waiting = members.map((member) => ({ member, cost: placementCost(partition, member.name) })).sort(byCost);
  const used = new Map<string, number>();
  const placed: Member[] = [];
  while (placed.length < places && waiting.length > 0) {
    const fewest = Math.min(...waiting.map(({ member }) => used.get(member.zone) ?? 0));
    const [next] = waiting.splice(
      waiting.findIndex(({ member }) => (used.get(member.zone) ?? 0) === fewest),
      1,
    );
    placed.push(next!.member);
    used.set(next!.member.zone, fewest + 1);
  }
  return placed;
}

interface Candidate {
  readonly member: Member;
  readonly cost: number;
}

/** cost / weight compared by cross-multiplying whole numbers below 2^53, so no rounding can decide; equal costs by name. */
function byCost(a: Candidate, b: Candidate): number {
  return a.cost * b.member.weight - b.cost * a.member.weight || byName(a.member, b.member);
}

const PLACEMENT_DOMAIN = "continuum/placement/1";
/** Of u's bits, 48 count: u = (hash + 1) / 2^48. */
const UNIT_BITS = 48;
/** Binary digits kept of the logarithm: costs stay below 48 * 2^32 < 2^38, and times a weight below 2^14 they fit a double exactly. */
const COST_BITS = 32;

/**
 * -log2(u) in units of 2^-32, a whole number. Math.log may differ between machines in the last bit and so put a partition on different
 * members; here the digits come from repeated squaring, and IEEE multiplication and comparison are the same everywhere (ECMA-262).
 */
function placementCost(partition: Partition, name: string): number {
  const hash = sha256(`${PLACEMENT_DOMAIN}\n${partition}\n${name}`);
  let value = 1;
  for (let index = 0; index < UNIT_BITS / 8; index++) value += hash[index]! * 2 ** (8 * index);
  let whole = 0;
  while (value >= 2) {
    value /= 2;
    whole++;
  }
  let fraction = 0;
  for (let digit = 0; digit < COST_BITS; digit++) {
    value *= value;
    fraction *= 2;
    if (value >= 2) {
      value /= 2;
      fraction += 1;
    }
  }
  return UNIT_BITS * 2 ** COST_BITS - (whole * 2 ** COST_BITS + fraction);
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}

function nodeId(value: unknown): NodeId {
  return printable(value, 1, NODE_ID_MAX_CHARS, "node") as NodeId;
}

/** @throws ProtocolError MALFORMED */
export function nodeName(value: unknown): string {
  return printable(value, 1, NODE_NAME_MAX_CHARS, "name");
}

/** @throws ProtocolError MALFORMED */
export function incarnationId(value: unknown): Incarnation {
  if (typeof value !== "string" || !/^[0-9a-f]{32}$/.test(value)) throw malformed("incarnation");
  return value as Incarnation;
}

/** @throws ProtocolError MALFORMED */
export function federationId(value: unknown): FederationId {
  if (typeof value !== "string" || !/^[0-9a-f]{32}$/.test(value)) throw malformed("federation");
  return value as FederationId;
}

function zoneName(value: unknown): string {
  return printable(value, 0, ZONE_MAX_CHARS, "zone");
}

/** Printable ASCII without space and comma: sorts the same as bytes and as characters, and survives a comma list. */
function printable(value: unknown, shortest: number, longest: number, field: string): string {
  if (typeof value !== "string" || value.length < shortest || value.length > longest || !/^[\x21-\x2b\x2d-\x7e]*$/.test(value))
    throw malformed(field);
  return value;
}

function wholeNumber(value: unknown, least: number, most: number, field: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < least || value > most) throw malformed(field);
  return value;
}

function openUnit(value: unknown, field: string): number {
  if (typeof value !== "number" || !(value > 0 && value < 1)) throw malformed(field);
  return value;
}

function malformed(field: string): ProtocolError {
  return new ProtocolError("MALFORMED", `layout: ${field}`, { field });
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
