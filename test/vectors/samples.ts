/**
 * What the golden bytes are of: one delta of every kind of entry, one message of every number. `deltas.json` and `messages.json` hold the bytes; a change
 * in them is a change of the wire, so it comes with a new version in protocol/version.ts. Regenerate with write.ts, which shows what would change.
 */
import { keyHashOf, writerIdOf } from "../../crypto/hash.ts";
import { createKeyring } from "../../crypto/keyring.ts";
import { encodeConsensusMessage } from "../../protocol/consensus-message.ts";
import { buildDelta, type Delta, type Entry, genesisHash, parseDelta } from "../../protocol/delta.ts";
import { sealDelta } from "../../protocol/envelope.ts";
import { encodeFormationMessage } from "../../protocol/formation-message.ts";
import { encodeFrame } from "../../protocol/frame.ts";
import type { Positions } from "../../protocol/graph/records.ts";
import {
  type FederationId,
  type Incarnation,
  type KeyHash,
  type NodeId,
  type Partition,
  SYSTEM_PARTITION,
  type WriterId,
} from "../../protocol/ids.ts";
import { encodeLayout, layoutHash, layoutOf, layoutTag, partitionOf } from "../../protocol/layout.ts";
import { staged } from "../../protocol/layout-change.ts";
import { type Envelope, MESSAGE_NUMBERS, type Message } from "../../protocol/message.ts";

export const SECRET = "golden secret of the vectors";
export const FEDERATION = "fe".repeat(16) as FederationId;
export const ALICE = "12D3KooWAlice1111111111111111111111111111111111111111" as NodeId;
export const INCARNATION = "0a".repeat(16) as Incarnation;
export const WRITER = writerIdOf(ALICE, INCARNATION) as WriterId;
export const OTHER_WRITER = writerIdOf("12D3KooWBob1111111111111111111111111111111111111111", INCARNATION) as WriterId;
export const TENANT = "alice";
export const PARTITION = partitionOf(TENANT);
export const keyring = createKeyring([SECRET]);

const key = (name: string) => keyHashOf(TENANT, name) as KeyHash;
const removed = {
  [WRITER]: { mass: 2.5, hlc: [1_800_000_000_000, 3] as const, seq: 7 },
  [OTHER_WRITER]: { mass: 1, hlc: [1_800_000_000_001, 0] as const, seq: 1 },
};

/** Sorted by writer. */
function positions(...all: [WriterId, number][]): Positions {
  return all.sort(([a], [b]) => (a < b ? -1 : 1));
}

const ENTRIES: readonly (readonly [name: string, entries: readonly Entry[]])[] = [
  [
    "concept, described and only counted",
    [
      { op: "concept", id: "tide", mass: 1, total: 3, name: "Tide", type: "topic", description: "rises and falls" },
      { op: "concept", id: "lantern", mass: 0, total: 2 },
    ],
  ],
  ["link", [{ op: "link", a: "lantern", b: "tide", mass: 1, total: 1.85 }]],
  [
    "turn",
    [
      {
        op: "turn",
        id: "turn_1",
        turn: {
          node: "node-1",
          session: "s1",
          instance: "i1",
          user: "What moves the tide?",
          assistant: "The moon does. 潮",
          thinking: "",
          metadata: '{"session_id":"s1"}',
          concepts: ["moon", "tide"],
          decisions: ["sail at noon"],
        },
      },
    ],
  ],
  [
    "memory",
    [
      {
        op: "memory",
        id: "memory_1",
        memory: { node: "node-1", session: "s1", entity: "harbour", content: "opens at six", metadata: "{}", concepts: ["harbour"] },
      },
    ],
  ],
  [
    "edit of one field and of all",
    [
      { op: "edit", id: "memory_1", fields: { content: "opens at seven" } },
      { op: "edit", id: "memory_2", fields: { entity: "e", content: "c", metadata: "{}", concepts: [] } },
    ],
  ],
  [
    "tombstones",
    [
      { op: "tombstone", of: "memory", id: "memory_1", keys: [key("one"), key("two")] },
      { op: "tombstone", of: "turn", id: "turn_1", keys: [] },
    ],
  ],
  ["forget-concept", [{ op: "forget-concept", id: "tide", removed }]],
  ["forget-link", [{ op: "forget-link", a: "lantern", b: "tide", removed }]],
  ["register", [{ op: "register", id: "key/1", fields: { name: '"laptop"', revoked: "true" } }]],
  [
    "floors: of tombstones, and of bodies alone",
    [
      {
        op: "floor",
        frontier: positions([WRITER, 9], [OTHER_WRITER, 300]),
        erase: positions([OTHER_WRITER, 256]),
        tombstones: ["memory/memory_1", "turn/turn_1"],
      },
      { op: "floor", frontier: positions([WRITER, 1]), erase: positions([WRITER, 1]), tombstones: [] },
    ],
  ],
];

export interface DeltaVector {
  readonly name: string;
  readonly header: string;
  readonly body: string;
  readonly hash: string;
}

/** One stream: each delta follows the one before. Those that replace or delete name what their writer had seen. */
export const DELTAS: readonly { readonly name: string; readonly delta: Delta }[] = chain();

function chain(): { name: string; delta: Delta }[] {
  let previous = genesisHash(WRITER, PARTITION);
  return ENTRIES.map(([name, entries], index) => {
    const looks = entries.some(({ op }) => op === "edit" || op === "tombstone" || op.startsWith("forget"));
    const delta = buildDelta(
      {
        writer: WRITER,
        partition: PARTITION,
        seq: index + 1,
        previous,
        hlc: [1_800_000_000_000, index],
        key: key(name),
        saw: looks ? { [WRITER]: index, [OTHER_WRITER]: 4 } : {},
      },
      { tenant: TENANT, fingerprint: "fingerprint of the request", answer: '{"id":"memory_1"}', entries },
    );
    previous = delta.hash;
    return { name, delta };
  });
}

/** What encoding gives may be a Buffer; what decoding gives is not. */
const plain = (encoded: Uint8Array): Uint8Array => Uint8Array.from(encoded);

const nonce = (first: number) => Uint8Array.from({ length: 24 }, (_, index) => first + index);
function sealed(index: number): Envelope {
  const { headerBytes, sealedBody } = sealDelta(DELTAS[index]!.delta, keyring, FEDERATION, nonce(index));
  return { headerBytes: plain(headerBytes), sealedBody };
}
const heads = [{ partition: PARTITION, writer: WRITER, seq: 9, hash: DELTAS[8]!.delta.hash }];
const layout = layoutOf({
  version: 1,
  federation: FEDERATION,
  replicationFactor: 2,
  resonanceDecay: 0.85,
  hebbianRate: 0.15,
  periodMs: 30 * 24 * 3600 * 1000,
  members: [{ node: ALICE, name: "node-1", incarnation: INCARNATION, zone: "a", weight: 1 }],
});

const joining = {
  node: "12D3KooWBob1111111111111111111111111111111111111111" as NodeId,
  name: "node-2",
  incarnation: INCARNATION,
  zone: "b",
  weight: 2,
};
const following = staged(layout, { members: [...layout.members, joining], replicationFactor: 2 }, "change-1");
const marks = [{ partition: PARTITION, writer: OTHER_WRITER, seq: 4, hash: DELTAS[3]!.delta.hash }];
const start = { count: 3, id: "5a".repeat(16) };

export interface MessageSample {
  readonly name: string;
  readonly message: Message;
  /** Of the frame it stands in; 1 where nothing is said. */
  readonly version?: 2;
}

export const MESSAGES: readonly MessageSample[] = [
  {
    name: "hello, before a layout is known",
    message: {
      type: "hello",
      versionMin: 1,
      versionMax: 1,
      federation: null,
      name: "node-1",
      incarnation: INCARNATION,
      zone: "",
      layoutVersion: 0,
    },
  },
  {
    name: "hello of a member",
    message: {
      type: "hello",
      versionMin: 1,
      versionMax: 1,
      federation: FEDERATION,
      name: "node-1",
      incarnation: INCARNATION,
      zone: "a",
      layoutVersion: 1,
    },
  },
  { name: "formation: has layout 1 been formed?", message: { type: "formation", bytes: plain(encodeFormationMessage({ type: "ask" })) } },
  { name: "layout", message: { type: "layout", bytes: plain(encodeLayout(layout)) } },
  { name: "push of two deltas", message: { type: "push", envelopes: [sealed(0), sealed(1)] } },
  { name: "held", message: { type: "held", heads } },
  { name: "want", message: { type: "want", partition: PARTITION, writer: WRITER, from: 3, to: 9 } },
  { name: "repair", message: { type: "repair", partition: PARTITION, writer: WRITER, to: 9, envelopes: [sealed(2)] } },
  { name: "repair with nothing to give", message: { type: "repair", partition: PARTITION, writer: WRITER, to: 0, envelopes: [] } },
  {
    name: "ask",
    message: {
      type: "ask",
      id: 7,
      partition: PARTITION,
      frontier: [
        [WRITER, 9],
        [OTHER_WRITER, 4],
      ],
    },
  },
  { name: "told", message: { type: "told", id: 7, partition: PARTITION, heads } },
  { name: "forward", message: { type: "forward", id: 1, sealed: Uint8Array.of(1, 2, 3) } },
  { name: "forwarded", message: { type: "forwarded", id: 1, sealed: Uint8Array.of(4, 5, 6) } },
  { name: "digest", message: { type: "digest", digest: DELTAS[0]!.delta.hash, reply: false } },
  { name: "digest that asks for all heads", message: { type: "digest", digest: DELTAS[0]!.delta.hash, reply: true } },
  { name: "refused", message: { type: "refused", code: "VERSION", detail: "speaks 2 to 3" } },
  { name: "layout of the second format, staged", version: 2, message: { type: "layout", bytes: plain(encodeLayout(following)) } },
  { name: "held, marks apart", version: 2, message: { type: "held", heads, marks } },
  { name: "told, marks apart", version: 2, message: { type: "told", id: 7, partition: PARTITION, heads, marks } },
  {
    name: "digest with the sender's clock",
    version: 2,
    message: { type: "digest", digest: DELTAS[0]!.delta.hash, reply: false, wall: 1_800_000_000_000 },
  },
  {
    name: "introduce",
    version: 2,
    message: { type: "introduce", start, wall: 1_800_000_000_000, secrets: ["0123abcd", "89ef4567"] },
  },
  {
    name: "compare with what was told before",
    version: 2,
    message: { type: "compare", part: 1, parts: 2, start, layoutVersion: 1, heads, marks, own: heads },
  },
  {
    name: "compare of one who was told nothing",
    version: 2,
    message: { type: "compare", part: 0, parts: 1, start: null, layoutVersion: 0, heads: [], marks: [], own: [] },
  },
  {
    name: "report, the second of two parts",
    version: 2,
    message: {
      type: "report",
      id: 9,
      part: 1,
      parts: 2,
      heads,
      marks: marks.map((mark) => ({ ...mark, keptFrom: 3 })),
      damaged: [7, 256] as Partition[],
    },
  },
  {
    name: "vote: a propose of the next version",
    version: 2,
    message: {
      type: "vote",
      bytes: plain(
        encodeConsensusMessage({
          type: "propose",
          version: 2,
          previous: layoutHash(layout),
          ballot: { round: 1, name: "node-1", incarnation: INCARNATION, without: "" },
          layout: following,
          reported: false,
        }),
      ),
    },
  },
  { name: "ready", version: 2, message: { type: "ready", partitions: [PARTITION, SYSTEM_PARTITION] } },
  {
    name: "snapshot-want, from the beginning",
    version: 2,
    message: { type: "snapshot-want", partition: PARTITION, id: 11, after: new Uint8Array() },
  },
  {
    name: "snapshot-part, the last",
    version: 2,
    message: {
      type: "snapshot-part",
      partition: PARTITION,
      id: 11,
      frontier: heads,
      rows: [
        [Uint8Array.of(1, 2), Uint8Array.of(3)],
        [Uint8Array.of(1, 3), new Uint8Array()],
      ],
      last: true,
      refused: "",
    },
  },
  ...(["busy", "gone", "not_held"] as const).map((refused) => ({
    name: `snapshot-part, refused: ${refused}`,
    version: 2 as const,
    message: { type: "snapshot-part" as const, partition: PARTITION, id: 11, frontier: [], rows: [], last: false, refused },
  })),
  { name: "sealed-under", version: 2, message: { type: "sealed-under", others: [["89ef4567", 3]] } },
];

export interface MessageVector {
  readonly number: number;
  readonly name: string;
  readonly frame: string;
}

export const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
export const bytes = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));

export function deltaVectors(): DeltaVector[] {
  return DELTAS.map(({ name, delta }) => ({ name, header: hex(delta.headerBytes), body: hex(delta.bodyBytes), hash: delta.hash }));
}

/** Each message in the frame of alice, who is a member under layout 1. */
export function messageVectors(): MessageVector[] {
  return MESSAGES.map(({ name, message, version }) => ({ number: MESSAGE_NUMBERS[message.type], name, frame: hex(frameOf(message, version)) }));
}

/** The beginning of layout 1's hash, in a frame of version 2. */
export const LAYOUT_TAG = layoutTag(layout);

export function frameOf(message: Message, version: 1 | 2 = 1): Uint8Array {
  return encodeFrame({ federation: FEDERATION, writer: WRITER, layoutVersion: 1, layoutTag: version === 1 ? undefined : LAYOUT_TAG }, message);
}

/** A golden delta as today's code reads it. */
export function deltaOf(vector: DeltaVector): Delta {
  return parseDelta(bytes(vector.header), bytes(vector.body));
}
