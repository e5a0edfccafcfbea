/**
 * What the listed names say to each other until layout 1 is formed (formation.ts), and the ballots they say it under. Carried inside message
 * number 2 of message.ts; the first item is this table's own number. Numbers are never used again.
 *
 * | no | type | says |
 * | --- | --- | --- |
 * | 1 | prepare | will you promise this ballot? here is my list |
 * | 2 | promise | I answer no lower ballot; this is me, and this is what I accepted |
 * | 3 | propose | every listed name promised: accept this layout |
 * | 4 | yes | accepted, fsynced |
 * | 5 | nack | I promised that higher ballot |
 * | 6 | formed | this is layout 1 |
 * | 7 | ask | has layout 1 been formed? Answered by a formed node only |
 */
import { asArray, asBytes, asCount, asText, decodeWire, encodeWire, type Wire } from "./codec.ts";
import { ProtocolError } from "./errors.ts";
import type { Incarnation } from "./ids.ts";
import { decodeLayout, encodeLayout, incarnationId, type Layout, type Member, memberOfRow, memberRow, nodeName } from "./layout.ts";
import { FEDERATION_MEMBERS_MAX, FORMATION_MESSAGE_MAX_BYTES, FORMATION_ROUND_MAX } from "./limits.ts";

/** Totally ordered by round, then name, then incarnation. The incarnation is in it so that a proposer that lost its disk never uses one again. */
export interface Ballot {
  /** 1, 2, 3 ... */
  readonly round: number;
  readonly name: string;
  readonly incarnation: Incarnation;
}

/** A yes: this layout under this ballot. */
export interface Accepted {
  readonly ballot: Ballot;
  readonly layout: Layout;
}

export type FormationMessage =
  | { readonly type: "prepare"; readonly ballot: Ballot; readonly list: readonly string[] }
  | { readonly type: "promise"; readonly ballot: Ballot; readonly member: Member; readonly accepted: Accepted | undefined }
  | { readonly type: "propose"; readonly ballot: Ballot; readonly layout: Layout }
  | { readonly type: "yes"; readonly ballot: Ballot }
  | { readonly type: "nack"; readonly ballot: Ballot }
  | { readonly type: "formed"; readonly layout: Layout }
  | { readonly type: "ask" };

const NUMBERS = { prepare: 1, promise: 2, propose: 3, yes: 4, nack: 5, formed: 6, ask: 7 } as const;

export function compareBallot(a: Ballot, b: Ballot): number {
  return a.round - b.round || compareText(a.name, b.name) || compareText(a.incarnation, b.incarnation);
}

export function encodeFormationMessage(message: FormationMessage): Uint8Array {
  const no = NUMBERS[message.type];
  switch (message.type) {
    case "prepare":
      return encodeWire([no, ballotRow(message.ballot), message.list]);
    case "promise":
      return encodeWire([no, ballotRow(message.ballot), memberRow(message.member), acceptedRow(message.accepted)]);
    case "propose":
      return encodeWire([no, ballotRow(message.ballot), encodeLayout(message.layout)]);
    case "yes":
    case "nack":
      return encodeWire([no, ballotRow(message.ballot)]);
    case "formed":
      return encodeWire([no, encodeLayout(message.layout)]);
    case "ask":
      return encodeWire([no]);
  }
}

/** @throws ProtocolError TOO_LARGE, MALFORMED, VERSION (a layout of a later format) */
export function decodeFormationMessage(bytes: Uint8Array): FormationMessage {
  const row = asArray(decodeWire(bytes, FORMATION_MESSAGE_MAX_BYTES), "formation message");
  switch (row[0]) {
    case NUMBERS.prepare:
      asArray(row, "prepare", 3);
      return { type: "prepare", ballot: ballotOfRow(row[1]), list: namesOfRow(row[2]) };
    case NUMBERS.promise:
      asArray(row, "promise", 4);
      return { type: "promise", ballot: ballotOfRow(row[1]), member: memberOfRow(row[2]), accepted: acceptedOfRow(row[3]) };
    case NUMBERS.propose:
      asArray(row, "propose", 3);
      return { type: "propose", ballot: ballotOfRow(row[1]), layout: layoutOfBytes(row[2]) };
    case NUMBERS.yes:
      asArray(row, "yes", 2);
      return { type: "yes", ballot: ballotOfRow(row[1]) };
    case NUMBERS.nack:
      asArray(row, "nack", 2);
      return { type: "nack", ballot: ballotOfRow(row[1]) };
    case NUMBERS.formed:
      asArray(row, "formed", 2);
      return { type: "formed", layout: layoutOfBytes(row[1]) };
    case NUMBERS.ask:
      asArray(row, "ask", 1);
      return { type: "ask" };
    default:
      throw new ProtocolError("MALFORMED", "no such formation message");
  }
}

export function ballotRow(ballot: Ballot): Wire {
  return [ballot.round, ballot.name, ballot.incarnation];
}

/** @throws ProtocolError MALFORMED */
export function ballotOfRow(value: Wire | undefined): Ballot {
  const row = asArray(value, "ballot", 3);
  const round = asCount(row[0], "round");
  if (round < 1 || round > FORMATION_ROUND_MAX) throw new ProtocolError("MALFORMED", "round out of bounds", { round });
  return { round, name: nodeName(row[1]), incarnation: incarnationId(row[2]) };
}

export function acceptedRow(accepted: Accepted | undefined): Wire {
  return accepted === undefined ? null : [ballotRow(accepted.ballot), encodeLayout(accepted.layout)];
}

/** @throws ProtocolError MALFORMED, VERSION */
export function acceptedOfRow(value: Wire | undefined): Accepted | undefined {
  if (value === null) return undefined;
  const row = asArray(value, "accepted", 2);
  return { ballot: ballotOfRow(row[0]), layout: layoutOfBytes(row[1]) };
}

/** A layout inside formation is always the first. @throws ProtocolError MALFORMED, VERSION */
export function layoutOfBytes(value: Wire | undefined): Layout {
  const layout = decodeLayout(asBytes(value, "layout"));
  if (layout.version !== 1) throw new ProtocolError("MALFORMED", "not a layout 1", { version: layout.version });
  return layout;
}

/** The exact list, sorted, each name once. @throws ProtocolError MALFORMED */
export function namesOfRow(value: Wire | undefined): readonly string[] {
  const names = asArray(value, "names").map((name) => nodeName(asText(name, "name")));
  const sorted = names.every((name, index) => index === 0 || names[index - 1]! < name);
  if (!sorted || names.length < 1 || names.length > FEDERATION_MEMBERS_MAX)
    throw new ProtocolError("MALFORMED", "a list is sorted and names each once");
  return names;
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
