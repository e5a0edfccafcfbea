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
  LAYOUT_CHANGE_ID_MAX_CHARS,
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
  /** The version that listed this incarnation in the place of one that lost its disk; 0: none did. Such a member counts only once it has caught up. */
  readonly relisted: number;
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

/** Who keeps data, and how many copies of it. */
export interface Owners {
  /** Sorted by name, names and nodes unique, 1..256 of them. */
  readonly members: readonly Member[];
  /** Full replicas per partition, 1..16. */
  readonly replicationFactor: number;
}

/**
 * done: one set of owners. staged: the next owners copy; they vote, and count for no data. joint: writes and quorum reads satisfy a quorum of the old and
 * of the next group; the old owners serve.
 */
export type Phase = "done" | "staged" | "joint";

/** `members` and `replicationFactor` are the owners that serve now. */
export interface Layout extends LayoutSettings, Owners {
  /** 1, 2, 3 ... */
  readonly version: number;
  readonly federation: FederationId;
  readonly phase: Phase;
  /** The owners to come; undefined exactly when done. A node that is in both sets has one name and one incarnation. */
  readonly next: Owners | undefined;
  /** layoutHash of the version before, 64 hex digits; "" of version 1. */
  readonly previous: string;
  /** Id of the change that is carried out, or that the version ended; "" when none asked for it (formation, re-listing). Up to 64 printable characters. */
  readonly change: string;
  /** Made by an operator without a vote, because too few were left to hold one. */
  readonly forced: boolean;
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

/** What a caller gives for a layout: what is derived, or stands still in most versions, may be left out. */
export type LayoutFields = Pick<Layout, "version" | "federation"> &
  LayoutSettings & { readonly members: readonly MemberFields[]; readonly next?: OwnersFields | undefined } & Partial<
    Pick<Layout, "phase" | "previous" | "change" | "forced">
  >;
export type MemberFields = Omit<Member, "writer" | "relisted"> & { readonly relisted?: number };
export interface OwnersFields {
  readonly members: readonly MemberFields[];
  readonly replicationFactor: number;
}

/** Tell the bytes of layouts apart. Version 1 is written in the first format, as the first release did: its hash is its name for ever. */
const FORMAT_FIRST = 1;
const FORMAT_CHANGES = 2;

/** @throws ProtocolError MALFORMED, when a field is outside its bounds */
export function memberOf(fields: MemberFields): Member {
  return Object.freeze({
    node: nodeId(fields.node),
    name: nodeName(fields.name),
    incarnation: incarnationId(fields.incarnation),
    writer: writerIdOf(fields.node, fields.incarnation) as WriterId,
    zone: zoneName(fields.zone),
    weight: wholeNumber(fields.weight, 1, MEMBER_WEIGHT_MAX, "weight"),
    relisted: wholeNumber(fields.relisted ?? 0, 0, Number.MAX_SAFE_INTEGER, "relisted"),
  });
}

/**
 * Checks every bound and relation, sorts the members and freezes the result. Everything that makes a layout goes through here.
 * @throws ProtocolError MALFORMED
 */
export function layoutOf(fields: LayoutFields): Layout {
  const version = wholeNumber(fields.version, 1, Number.MAX_SAFE_INTEGER, "version");
  const owners = ownersOf(fields);
  const next = fields.next === undefined ? undefined : ownersOf(fields.next);
  const phase = fields.phase ?? "done";
  if (!PHASES.includes(phase) || (phase === "done") !== (next === undefined)) throw malformed("phase");
  if (version === 1 && (phase !== "done" || fields.forced === true || fields.previous)) throw malformed("version 1");
  for (const member of next?.members ?? []) {
    const now = owners.members.find((other) => other.name === member.name || other.node === member.node);
    if (now !== undefined && (now.name !== member.name || now.writer !== member.writer || now.relisted !== member.relisted))
      throw malformed("one member in two shapes");
  }
  return Object.freeze({
    version,
    federation: federationId(fields.federation),
    ...settingsOf(fields),
    members: owners.members,
    phase,
    next,
    previous: version === 1 ? "" : hexHash(fields.previous),
    change: printable(fields.change ?? "", 0, LAYOUT_CHANGE_ID_MAX_CHARS, "change"),
    forced: fields.forced ?? false,
  });
}

function ownersOf(fields: OwnersFields): Owners {
  const members = fields.members.map(memberOf).sort(byName);
  if (members.length < 1 || members.length > FEDERATION_MEMBERS_MAX) throw malformed("member count");
  if (new Set(members.map((member) => member.name)).size !== members.length) throw malformed("two members with one name");
  if (new Set(members.map((member) => member.node)).size !== members.length) throw malformed("two members with one node");
  return Object.freeze({
    members: Object.freeze(members),
    replicationFactor: wholeNumber(fields.replicationFactor, 1, REPLICATION_FACTOR_MAX, "replicationFactor"),
  });
}

/** Everybody who votes on the next version, and whose incarnation counts in this one: old and next owners, each once, sorted by name. */
export function votersOf(layout: Layout): readonly Member[] {
  if (layout.next === undefined) return layout.members;
  let voters = unions.get(layout);
  if (voters === undefined) {
    const known = new Set(layout.members.map((member) => member.writer));
    voters = Object.freeze([...layout.members, ...layout.next.members.filter((member) => !known.has(member.writer))].sort(byName));
    unions.set(layout, voters);
  }
  return voters;
}
const unions = new WeakMap<Layout, readonly Member[]>();

/** @throws ProtocolError MALFORMED */
export function settingsOf(fields: LayoutSettings): LayoutSettings {
  return Object.freeze({
    replicationFactor: wholeNumber(fields.replicationFactor, 1, REPLICATION_FACTOR_MAX, "replicationFactor"),
    resonanceDecay: openUnit(fields.resonanceDecay, "resonanceDecay"),
    hebbianRate: openUnit(fields.hebbianRate, "hebbianRate"),
    periodMs: wholeNumber(fields.periodMs, 1, DECAY_PERIOD_MAX_MS, "periodMs"),
  });
}

/** How a member is written inside layout 1 or a message of formation. */
export function memberRow(member: Member): Wire {
  return [member.node, member.name, member.incarnation, member.zone, member.weight];
}

/** @throws ProtocolError MALFORMED */
export function memberOfRow(row: Wire | undefined): Member {
  const fields = asArray(row, "member", 5);
  return memberOf(memberFields(fields));
}

function memberFields([node, name, incarnation, zone, weight, relisted]: readonly Wire[]): MemberFields {
  return {
    node: node as NodeId,
    name: name as string,
    incarnation: incarnation as Incarnation,
    zone: zone as string,
    weight: weight as number,
    relisted: (relisted ?? 0) as number,
  };
}

function ownersRow(owners: Owners): Wire {
  return [owners.replicationFactor, owners.members.map((member) => [...(memberRow(member) as Wire[]), member.relisted])];
}

function ownersOfRow(row: Wire | undefined): OwnersFields {
  const [replicationFactor, members] = asArray(row, "owners", 2);
  return {
    replicationFactor: replicationFactor as number,
    members: asArray(members, "members").map((member) => memberFields(asArray(member, "member", 6))),
  };
}

/** Canonical: one layout, one byte string. CDDL in protocol/README.md. */
export function encodeLayout(layout: Layout): Uint8Array {
  const { version, federation, replicationFactor, resonanceDecay, hebbianRate, periodMs, members } = layout;
  if (version === 1)
    return encodeWire([FORMAT_FIRST, version, federation, replicationFactor, resonanceDecay, hebbianRate, periodMs, members.map(memberRow)]);
  return encodeWire([
    FORMAT_CHANGES,
    version,
    federation,
    [resonanceDecay, hebbianRate, periodMs],
    PHASES.indexOf(layout.phase),
    ownersRow(layout),
    layout.next === undefined ? null : ownersRow(layout.next),
    layout.previous,
    layout.change,
    layout.forced,
  ]);
}

/**
 * Accepts only what encodeLayout writes: another spelling of the same layout would have another hash.
 * @throws ProtocolError TOO_LARGE, VERSION, MALFORMED
 */
export function decodeLayout(bytes: Uint8Array): Layout {
  const fields = asArray(decodeWire(bytes, LAYOUT_MAX_BYTES), "layout");
  if (fields[0] !== FORMAT_FIRST && fields[0] !== FORMAT_CHANGES) throw new ProtocolError("VERSION", "a layout of a format we do not know");
  const layout = layoutOf(fields[0] === FORMAT_FIRST ? firstFormat(fields) : changesFormat(fields));
  if (!sameBytes(encodeLayout(layout), bytes)) throw malformed("not canonical");
  return layout;
}

function firstFormat(row: readonly Wire[]): LayoutFields {
  const [, version, federation, replicationFactor, resonanceDecay, hebbianRate, periodMs, rows] = asArray(row as Wire, "layout", 8);
  return {
    version: version as number,
    federation: federation as FederationId,
    replicationFactor: replicationFactor as number,
    resonanceDecay: resonanceDecay as number,
    hebbianRate: hebbianRate as number,
    periodMs: periodMs as number,
    members: asArray(rows, "members").map(memberOfRow),
  };
}

function changesFormat(row: readonly Wire[]): LayoutFields {
  const [, version, federation, settings, phase, owners, next, previous, change, forced] = asArray(row as Wire, "layout", 10);
  const [resonanceDecay, hebbianRate, periodMs] = asArray(settings, "settings", 3);
  return {
    version: version as number,
    federation: federation as FederationId,
    resonanceDecay: resonanceDecay as number,
    hebbianRate: hebbianRate as number,
    periodMs: periodMs as number,
    phase: PHASES[phase as number] as Phase,
    ...ownersOfRow(owners),
    next: next === null ? undefined : ownersOfRow(next),
    previous: previous as string,
    change: change as string,
    forced: forced === true,
  };
}

/** SHA-256 of the canonical bytes, 64 hex digits: two layouts are one exactly when these are equal. */
export function layoutHash(layout: Layout): string {
  let hash = hashes.get(layout);
  if (hash === undefined) {
    hash = sha256Hex(encodeLayout(layout));
    hashes.set(layout, hash);
  }
  return hash;
}
const hashes = new WeakMap<Layout, string>();

export const LAYOUT_TAG_CHARS = 16;

/** The beginning of its hash, which every frame carries: two layouts under one number are found at the first frame. */
export function layoutTag(layout: Layout): string {
  return layoutHash(layout).slice(0, LAYOUT_TAG_CHARS);
}

/** All of them, the system partition last. */
export const PARTITIONS: readonly Partition[] = Array.from({ length: SYSTEM_PARTITION + 1 }, (_, partition) => partition as Partition);

/** First byte of SHA-256 over the tenant's UTF-8 bytes; the system tenant has its own partition. */
export function partitionOf(tenant: string): Partition {
  if (tenant === SYSTEM_TENANT) return SYSTEM_PARTITION;
  return sha256(tenant)[0]! as Partition;
}

/** Owners are frozen, so a group is computed once for each of them. */
const groups = new WeakMap<Owners, Map<Partition, Group>>();

/**
 * The group that serves a partition: RF full replicas, then RF - 1 witnesses, as far as there are members; of the system partition everybody is a full
 * replica. Of staged and joint versions `groupOf(layout.next, partition)` is the group to come.
 * @throws ProtocolError EMPTY_GROUP
 */
export function groupOf(owners: Owners, partition: Partition): Group {
  let known = groups.get(owners);
  if (known === undefined) {
    known = new Map();
    groups.set(owners, known);
  }
  let group = known.get(partition);
  if (group === undefined) {
    group = placeGroup(owners, partition);
    known.set(partition, group);
  }
  return group;
}

/** Each of these must be satisfied by a write or a quorum read: the old and the next group while a change is joint, else the one that serves. */
export function countingGroups(layout: Layout, partition: Partition): readonly Group[] {
  const serving = groupOf(layout, partition);
  return layout.phase === "joint" ? [serving, groupOf(layout.next as Owners, partition)] : [serving];
}

/** Everybody who is to have the partition's deltas: the group that serves, and the one to come. */
export function audienceOf(layout: Layout, partition: Partition): readonly Member[] {
  const { members } = groupOf(layout, partition);
  if (layout.next === undefined) return members;
  const known = new Set(members.map((member) => member.writer));
  return [...members, ...groupOf(layout.next, partition).members.filter((member) => !known.has(member.writer))];
}

function placeGroup(owners: Owners, partition: Partition): Group {
  const replicaCount = partition === SYSTEM_PARTITION ? owners.members.length : owners.replicationFactor;
  const placed = partition === SYSTEM_PARTITION ? owners.members : placeMembers(owners.members, partition, 2 * replicaCount - 1);
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

const PHASES: readonly Phase[] = ["done", "staged", "joint"];

function hexHash(value: unknown): string {
  if (typeof value !== "string" || !/^[0-9a-f]{64}$/.test(value)) throw malformed("previous");
  return value;
}

/** Printable ASCII without space and comma: sorts the same as bytes and as characters, and survives a comma list. */
function printable(value: unknown, shortest: number, longest: number, field: string): string {
  if (typeof value !== "string" || value.length < shortest || value.length > longest || !/^[\x21-\x2b\x2d-\x7e]*$/.test(value))
    throw malformed(field, `is ${shortest} to ${longest} printable ASCII characters, without space and comma`);
  return value;
}

function wholeNumber(value: unknown, least: number, most: number, field: string): number {
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < least || value > most)
    throw malformed(field, `is a whole number from ${least} to ${most}`);
  return value;
}

function openUnit(value: unknown, field: string): number {
  if (typeof value !== "number" || !(value > 0 && value < 1)) throw malformed(field);
  return value;
}

/** @param rule what it must be, as the end of a sentence; none where no person types it */
function malformed(field: string, rule = "cannot be read"): ProtocolError {
  return new ProtocolError("MALFORMED", `layout: ${field} ${rule}`, { field });
}

function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && a.every((byte, index) => byte === b[index]);
}
