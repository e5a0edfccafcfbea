/**
 * What the voters of one layout version say to each other until the next one is decided (consensus.ts), and the ballots they say it under. Carried inside
 * a message of message.ts; the first item is this table's own number. Numbers are never used again.
 *
 * | no | type | says |
 * | --- | --- | --- |
 * | 1 | prepare | will you promise this ballot? |
 * | 2 | promise | I answer no lower ballot; this is what I accepted |
 * | 3 | propose | enough have promised: accept this layout |
 * | 4 | yes | accepted, fsynced |
 * | 5 | nack | I promised that higher ballot |
 *
 * Every message names the version to come and the hash of the one before, so that an answer given under another version, or under another layout of the
 * same number, is never counted.
 */
import { asArray, asBytes, asCount, asText, decodeWire, encodeWire, type Wire } from "./codec.ts";
import { ProtocolError } from "./errors.ts";
import { compareBallot, type Ballot as FormationBallot } from "./formation-message.ts";
import { decodeLayout, encodeLayout, incarnationId, type Layout, nodeName } from "./layout.ts";
import { CONSENSUS_MESSAGE_MAX_BYTES, CONSENSUS_ROUND_MAX } from "./limits.ts";

export { compareBallot };

/** Totally ordered by round, then name, then incarnation; nobody uses one twice, so `without` does not order them. */
export interface Ballot extends FormationBallot {
  /** The member whose disk is lost, and who therefore does not vote; "": nobody's is. */
  readonly without: string;
}

/** A yes: this layout under this ballot. */
export interface Accepted {
  readonly ballot: Ballot;
  readonly layout: Layout;
}

/** Which decision a message is about. */
export interface Decision {
  /** Of the layout to come: 2, 3, 4 ... */
  readonly version: number;
  /** layoutHash of the version before it. */
  readonly previous: string;
}

export type ConsensusMessage = Decision &
  (
    | { readonly type: "prepare"; readonly ballot: Ballot }
    | { readonly type: "promise"; readonly ballot: Ballot; readonly accepted: Accepted | undefined }
    /** `reported`: a promise reported it, so it is bound, and whether it was right to propose it is no longer asked. */
    | { readonly type: "propose"; readonly ballot: Ballot; readonly layout: Layout; readonly reported: boolean }
    | { readonly type: "yes"; readonly ballot: Ballot }
    | { readonly type: "nack"; readonly ballot: Ballot }
  );

const NUMBERS = { prepare: 1, promise: 2, propose: 3, yes: 4, nack: 5 } as const;

export function encodeConsensusMessage(message: ConsensusMessage): Uint8Array {
  const head = [NUMBERS[message.type], message.version, message.previous, ballotRow(message.ballot)];
  switch (message.type) {
    case "promise":
      return encodeWire([...head, acceptedRow(message.accepted)]);
    case "propose":
      return encodeWire([...head, encodeLayout(message.layout), message.reported]);
    case "prepare":
    case "yes":
    case "nack":
      return encodeWire(head);
  }
}

/** @throws ProtocolError TOO_LARGE, MALFORMED, VERSION (a layout of a later format) */
export function decodeConsensusMessage(bytes: Uint8Array): ConsensusMessage {
  const row = asArray(decodeWire(bytes, CONSENSUS_MESSAGE_MAX_BYTES), "consensus message");
  const [no, version, previous, ballot] = row;
  const type = TYPES.find((each) => NUMBERS[each] === no);
  if (type === undefined) throw new ProtocolError("MALFORMED", "no such consensus message");
  asArray(row, type, LENGTHS[type]);
  const head = { ...decisionOfRow(version, previous), ballot: ballotOfRow(ballot) };
  switch (type) {
    case "promise":
      return { type, ...head, accepted: acceptedOfRow(row[4], head) };
    case "propose":
      if (typeof row[5] !== "boolean") throw new ProtocolError("MALFORMED", "reported is yes or no");
      return { type, ...head, layout: layoutOfBytes(row[4], head), reported: row[5] };
    case "prepare":
    case "yes":
    case "nack":
      return { type, ...head };
  }
}

const TYPES = Object.keys(NUMBERS) as ConsensusMessage["type"][];
const LENGTHS = { prepare: 4, promise: 5, propose: 6, yes: 4, nack: 4 } as const;

/** @throws ProtocolError MALFORMED */
export function decisionOfRow(version: Wire | undefined, previous: Wire | undefined): Decision {
  const number = asCount(version, "version");
  const hash = asText(previous, "previous");
  if (number < 2 || !/^[0-9a-f]{64}$/.test(hash)) throw new ProtocolError("MALFORMED", "not a version that follows another", { version: number });
  return { version: number, previous: hash };
}

export function ballotRow(ballot: Ballot): Wire {
  return [ballot.round, ballot.name, ballot.incarnation, ballot.without];
}

/** @throws ProtocolError MALFORMED */
export function ballotOfRow(value: Wire | undefined): Ballot {
  const row = asArray(value, "ballot", 4);
  const round = asCount(row[0], "round");
  if (round < 1 || round > CONSENSUS_ROUND_MAX) throw new ProtocolError("MALFORMED", "round out of bounds", { round });
  return { round, name: nodeName(row[1]), incarnation: incarnationId(row[2]), without: row[3] === "" ? "" : nodeName(row[3]) };
}

export function acceptedRow(accepted: Accepted | undefined): Wire {
  return accepted === undefined ? null : [ballotRow(accepted.ballot), encodeLayout(accepted.layout)];
}

/** @throws ProtocolError MALFORMED, VERSION */
export function acceptedOfRow(value: Wire | undefined, decision: Decision): Accepted | undefined {
  if (value === null) return undefined;
  const row = asArray(value, "accepted", 2);
  return { ballot: ballotOfRow(row[0]), layout: layoutOfBytes(row[1], decision) };
}

/** The layout that the decision is about. */
function layoutOfBytes(value: Wire | undefined, { version, previous }: Decision): Layout {
  const layout = decodeLayout(asBytes(value, "layout"));
  if (layout.version !== version || layout.previous !== previous)
    throw new ProtocolError("MALFORMED", "a layout of another decision", { version: layout.version });
  return layout;
}
