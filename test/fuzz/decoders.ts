/**
 * Every place where bytes from outside become something, in one table: what it may throw, what it is given that is right, and how what it read is written
 * again. What is read must be written as it came: two spellings of one thing would have two hashes.
 *
 * Samples come from test/vectors/samples.ts and from tables that the compiler keeps complete, so a new message, record or kind of entry is fuzzed as soon
 * as it has a sample, and a test fails while it has none.
 */
import { sha256 } from "../../crypto/hash.ts";
import { PROOF_BYTES, PROOF_NONCE_BYTES, type ProofContext, prove, provedSecrets } from "../../crypto/proof.ts";
import { NONCE_BYTES, open, openWith, seal, sealWith } from "../../crypto/seal.ts";
import { FRAME_KIND, type FrameKind, FrameReader } from "../../node/net/frames.ts";
import { decodeHello, decodePresence, encodeHello, encodePresence } from "../../node/net/hello.ts";
import { protect, unprotect } from "../../node/store/keyspace.ts";
import {
  decodeCounts,
  decodeExecutions,
  decodeHeads,
  decodeHlc,
  decodePair,
  encodeCounts,
  encodeExecutions,
  encodeHeads,
  encodeHlc,
  encodePair,
} from "../../node/store/rows.ts";
import { decodeToken, encodeToken } from "../../node/token.ts";
import { decodeWire, encodeWire, type Wire } from "../../protocol/codec.ts";
import { type ConsensusMessage, decodeConsensusMessage, encodeConsensusMessage } from "../../protocol/consensus-message.ts";
import { buildDelta, type DeltaHeader, hashOf, parseDelta, parseHeader } from "../../protocol/delta.ts";
import { openEnvelope, sealDelta } from "../../protocol/envelope.ts";
import { decodeFormationMessage, encodeFormationMessage, type FormationMessage } from "../../protocol/formation-message.ts";
import { encodeFrame, openFrame } from "../../protocol/frame.ts";
import { sawToWire } from "../../protocol/graph/parts.ts";
import { decodeRecord, encodeRecord } from "../../protocol/graph/record.ts";
import type { GraphRecord } from "../../protocol/graph/records.ts";
import type { FederationId, NodeId } from "../../protocol/ids.ts";
import { decodeLayout, encodeLayout } from "../../protocol/layout.ts";
import { FRAME_MAX_BYTES } from "../../protocol/limits.ts";
import { type Message, messageFromWire, messageToWire } from "../../protocol/message.ts";
import { StateInMemory } from "../unit/state-in-memory.ts";
import { ALICE, DELTAS, FEDERATION, frameOf, INCARNATION, keyring, MESSAGES, OTHER_WRITER, PARTITION, WRITER } from "../vectors/samples.ts";

export interface Decoder {
  readonly name: string;
  /** `Class CODE` of everything it may throw. */
  readonly mayThrow: readonly string[];
  readonly samples: readonly Uint8Array[];
  /** Changed too, although they are refused as they are. */
  readonly refused?: readonly Uint8Array[];
  /** Samples are CBOR, so that items can be exchanged in them. */
  readonly isCbor: boolean;
  /** @returns the same bytes written again, or undefined when what was read has no bytes of its own */
  readonly readAndWrite: (bytes: Uint8Array) => Uint8Array | undefined;
}

const PROTOCOL = (...codes: readonly string[]): string[] => codes.map((code) => `ProtocolError ${code}`);
const MALFORMED = PROTOCOL("MALFORMED", "TOO_LARGE");

const context: ProofContext = {
  initiator: "12D3KooWalice",
  responder: "12D3KooWbob",
  initiatorNonce: new Uint8Array(PROOF_NONCE_BYTES).fill(1),
  responderNonce: new Uint8Array(PROOF_NONCE_BYTES).fill(2),
};
const key = keyring.key("delta");
const nonce = new Uint8Array(NONCE_BYTES).fill(9);
const aad = new TextEncoder().encode("what it is bound to");
const texts = new TextEncoder();

/** Each in the version it is of; what a version 1 knows, in both. */
const frames = MESSAGES.flatMap(({ message, version }) =>
  (version === 2 ? ([2] as const) : ([1, 2] as const)).map((of) => ({ isHello: message.type === "hello", bytes: frameOf(message, of) })),
);
const layoutSamples = MESSAGES.flatMap(({ message }) => (message.type === "layout" ? [message.bytes] : []));
const layout = decodeLayout(layoutSamples[0]!);
const member = layout.members[0]!;
const ballot = { round: 3, name: member.name, incarnation: INCARNATION };
/** The compiler asks for a new one. */
const FORMATION: { readonly [T in FormationMessage["type"]]: Extract<FormationMessage, { type: T }> } = {
  prepare: { type: "prepare", ballot, list: ["node-1", "node-2", "node-3"] },
  promise: { type: "promise", ballot, member, accepted: { ballot, layout } },
  propose: { type: "propose", ballot, layout },
  yes: { type: "yes", ballot },
  nack: { type: "nack", ballot },
  formed: { type: "formed", layout },
  ask: { type: "ask" },
};

const following = layoutSamples.map((bytes) => decodeLayout(bytes)).find(({ version }) => version === 2)!;
const decision = { version: 2, previous: following.previous, ballot: { ...ballot, without: "" } };
const CONSENSUS: { readonly [T in ConsensusMessage["type"]]: Extract<ConsensusMessage, { type: T }> } = {
  prepare: { type: "prepare", ...decision },
  promise: { type: "promise", ...decision, accepted: { ballot: { ...ballot, without: "node-2" }, layout: following } },
  propose: { type: "propose", ...decision, layout: following, reported: true },
  yes: { type: "yes", ...decision },
  nack: { type: "nack", ...decision },
};

/** Of every kind, as the golden deltas leave them. */
export function recordSamples(): GraphRecord[] {
  const state = new StateInMemory();
  const seen = new Map<string, GraphRecord>();
  for (const { delta } of DELTAS) {
    state.take(delta);
    for (const [name, record] of state.records) seen.set(`${name} ${record.kind}`, record);
  }
  return [...seen.values()];
}

const deltas = DELTAS.map(({ delta }) => delta);
const contact = { id: `12D3KooW${"A".repeat(44)}`, addresses: ["/ip4/127.0.0.1/tcp/8422"] };
const hello = { session: "0a".repeat(16), addresses: ["/ip4/127.0.0.1/tcp/8421", "/dns4/node-1/tcp/8421"], stamp: 7, gossip: contact, secretIds: [] };
const presence = { node: `12D3KooW${"B".repeat(44)}` as NodeId, addresses: hello.addresses, gossip: contact };
const head = { partition: PARTITION, writer: WRITER, seq: 9, hash: deltas[0]!.hash };

/** What a member says that keeps to the envelope and lies inside: a header that names the hash of whatever body there is. */
function headerFor(bodyBytes: Uint8Array): Uint8Array {
  return headerBytes({ ...deltas[0]!.header, bodyHash: hashOf(bodyBytes) });
}
function headerBytes(header: DeltaHeader): Uint8Array {
  const { writer, partition, seq, previous, hlc, key: idempotency, bodyHash, saw } = header;
  return encodeWire([writer, partition, seq, previous, hlc, idempotency, bodyHash, sawToWire(saw)]);
}

export const DECODERS: readonly Decoder[] = [
  {
    name: "codec",
    mayThrow: MALFORMED,
    samples: frames.map(({ bytes }) => bytes),
    isCbor: true,
    readAndWrite: (bytes) => encodeWire(decodeWire(bytes, FRAME_MAX_BYTES)),
  },
  {
    name: "frame",
    mayThrow: [...MALFORMED, ...PROTOCOL("VERSION", "FOREIGN")],
    samples: frames.map(({ bytes }) => bytes),
    isCbor: true,
    readAndWrite(bytes) {
      const { header, message } = openFrame(bytes, { from: ALICE, writer: WRITER, federation: FEDERATION, keyring });
      return onlySpelling(message, encodeFrame(header, message));
    },
  },
  {
    name: "frame before the hello",
    mayThrow: [...MALFORMED, ...PROTOCOL("VERSION", "FOREIGN")],
    samples: frames.flatMap(({ isHello, bytes }) => (isHello ? [bytes] : [])),
    refused: frames.flatMap(({ isHello, bytes }) => (isHello ? [] : [bytes])),
    isCbor: true,
    readAndWrite(bytes) {
      const { message } = openFrame(bytes, { from: ALICE, writer: undefined, federation: null, keyring });
      if (message.type !== "hello") throw new Error(`a ${message.type} before the hello`);
      return undefined;
    },
  },
  {
    name: "message",
    mayThrow: [...MALFORMED, ...PROTOCOL("VERSION")],
    samples: MESSAGES.map(({ message }) => encodeWire(messageToWire(message))),
    isCbor: true,
    readAndWrite(bytes) {
      const message = messageFromWire(decodeWire(bytes, FRAME_MAX_BYTES));
      return onlySpelling(message, encodeWire(messageToWire(message)));
    },
  },
  {
    name: "delta header",
    mayThrow: MALFORMED,
    samples: deltas.map((delta) => delta.headerBytes),
    isCbor: true,
    readAndWrite: (bytes) => headerBytes(parseHeader(bytes)),
  },
  {
    name: "delta body",
    mayThrow: MALFORMED,
    samples: deltas.map((delta) => delta.bodyBytes),
    isCbor: true,
    readAndWrite(bytes) {
      const { header, body } = parseDelta(headerFor(bytes), bytes);
      return buildDelta(header, body).bodyBytes;
    },
  },
  {
    name: "delta body under another header",
    mayThrow: [],
    samples: deltas.map((delta) => delta.bodyBytes),
    isCbor: true,
    readAndWrite(bytes) {
      for (const { headerBytes: other, bodyBytes } of deltas) {
        if (Buffer.compare(bodyBytes, bytes) === 0) return undefined;
        let opened = false;
        try {
          parseDelta(other, bytes);
          opened = true;
        } catch (error) {
          if ((error as { code?: unknown }).code !== "MALFORMED") throw error;
        }
        if (opened) throw new Error("a body opened under a header that names another");
      }
      return undefined;
    },
  },
  {
    name: "sealed delta",
    mayThrow: PROTOCOL("FOREIGN"),
    samples: [sealDelta(deltas[0]!, keyring, FEDERATION, nonce).sealedBody],
    refused: [
      sealDelta(deltas[1]!, keyring, FEDERATION, nonce).sealedBody,
      sealDelta(deltas[0]!, keyring, "ab".repeat(16) as FederationId, nonce).sealedBody,
    ],
    isCbor: false,
    readAndWrite(sealedBody) {
      const opened = openEnvelope({ headerBytes: deltas[0]!.headerBytes, sealedBody }, keyring, FEDERATION);
      return sealDelta(opened, keyring, FEDERATION, sealedBody.subarray(4, 4 + NONCE_BYTES)).sealedBody;
    },
  },
  {
    name: "delta sealed by a member who lies",
    mayThrow: MALFORMED,
    samples: deltas.map((delta) => delta.bodyBytes),
    isCbor: true,
    readAndWrite(bodyBytes) {
      const sealed = sealDelta({ headerBytes: headerFor(bodyBytes), bodyBytes }, keyring, FEDERATION, nonce);
      return openEnvelope(sealed, keyring, FEDERATION).bodyBytes;
    },
  },
  {
    name: "layout",
    mayThrow: [...MALFORMED, ...PROTOCOL("VERSION")],
    samples: layoutSamples,
    isCbor: true,
    readAndWrite: (bytes) => encodeLayout(decodeLayout(bytes)),
  },
  {
    name: "formation message",
    mayThrow: [...MALFORMED, ...PROTOCOL("VERSION")],
    samples: Object.values(FORMATION).map(encodeFormationMessage),
    isCbor: true,
    readAndWrite: (bytes) => encodeFormationMessage(decodeFormationMessage(bytes)),
  },
  {
    name: "consensus message",
    mayThrow: [...MALFORMED, ...PROTOCOL("VERSION")],
    samples: Object.values(CONSENSUS).map(encodeConsensusMessage),
    isCbor: true,
    readAndWrite: (bytes) => encodeConsensusMessage(decodeConsensusMessage(bytes)),
  },
  {
    name: "frontier token",
    mayThrow: ["ApiError bad_request"],
    samples: [
      encodeToken(FEDERATION, PARTITION, [
        [WRITER, 9],
        [OTHER_WRITER, Number.MAX_SAFE_INTEGER],
      ]),
      encodeToken(FEDERATION, PARTITION, []),
    ].map((token) => Uint8Array.from(Buffer.from(token, "base64url"))),
    isCbor: true,
    readAndWrite(bytes) {
      const streams = decodeToken(Buffer.from(bytes).toString("base64url"), FEDERATION, PARTITION);
      // None: perhaps of another federation or partition, which is no error.
      return streams.length === 0 ? undefined : Uint8Array.from(Buffer.from(encodeToken(FEDERATION, PARTITION, streams), "base64url"));
    },
  },
  {
    name: "frontier token, as text",
    mayThrow: ["ApiError bad_request"],
    samples: [texts.encode(encodeToken(FEDERATION, PARTITION, [[WRITER, 9]]))],
    isCbor: false,
    readAndWrite(bytes) {
      decodeToken(new TextDecoder().decode(bytes), FEDERATION, PARTITION);
      return undefined;
    },
  },
  {
    name: "record",
    mayThrow: PROTOCOL("MALFORMED"),
    samples: recordSamples().map((record) => encodeRecord(record)),
    isCbor: true,
    readAndWrite: (bytes) => encodeRecord(decodeRecord(bytes)),
  },
  {
    name: "stored heads",
    mayThrow: MALFORMED,
    samples: [
      encodeHeads(
        new Map([
          [WRITER, head],
          [OTHER_WRITER, head],
        ]),
      ),
    ],
    isCbor: true,
    readAndWrite: (bytes) => encodeWire(decodeHeads(PARTITION, bytes).map(({ writer, seq, hash }): Wire => [writer, seq, hash])),
  },
  {
    name: "stored executions",
    mayThrow: MALFORMED,
    samples: [
      encodeExecutions([
        { writer: WRITER, seq: 1 },
        { writer: OTHER_WRITER, seq: 2 },
      ]),
    ],
    isCbor: true,
    readAndWrite: (bytes) => encodeExecutions(decodeExecutions(bytes)),
  },
  {
    name: "stored clock",
    mayThrow: MALFORMED,
    samples: [encodeHlc([1_800_000_000_000, 3])],
    isCbor: true,
    readAndWrite: (bytes) => encodeHlc(decodeHlc(bytes)),
  },
  {
    name: "stored counts",
    mayThrow: MALFORMED,
    samples: [encodeCounts({ concept: 1, link: 2, turn: 300, memory: 70_000 })],
    isCbor: true,
    readAndWrite: (bytes) => encodeCounts(decodeCounts(bytes)),
  },
  {
    name: "stored pair",
    mayThrow: PROTOCOL("MALFORMED"),
    samples: [encodePair(deltas[0]!.headerBytes, deltas[0]!.bodyBytes)],
    isCbor: false,
    readAndWrite: (bytes) => encodePair(...decodePair(bytes)),
  },
  {
    name: "stored value",
    mayThrow: ["StoreError CORRUPT"],
    samples: [protect(deltas[0]!.bodyBytes)],
    isCbor: false,
    readAndWrite: (bytes) => protect(unprotect("a/key", bytes)),
  },
  {
    name: "greeting of a net",
    mayThrow: ["NetError FRAME_MALFORMED"],
    samples: [encodeHello(hello, 2), encodeHello({ ...hello, addresses: [] }, 1)].map((bytes) => Uint8Array.from(bytes)),
    isCbor: true,
    // Read by a general library, in any spelling; nothing is hashed.
    readAndWrite(bytes) {
      decodeHello(encodeHello(decodeHello(bytes), 2));
      return undefined;
    },
  },
  {
    name: "presence over gossip",
    mayThrow: ["NetError FRAME_MALFORMED"],
    samples: [encodePresence({ ...presence, news: Uint8Array.of(1) }), encodePresence({ ...presence, news: undefined })].map((bytes) =>
      Uint8Array.from(bytes),
    ),
    isCbor: true,
    readAndWrite(bytes) {
      decodePresence(encodePresence(decodePresence(bytes)));
      return undefined;
    },
  },
  {
    name: "framing of a stream",
    mayThrow: ["NetError FRAME_MALFORMED", "NetError FRAME_TOO_LARGE"],
    samples: [
      framed([FRAME_KIND.hello, encodeHello(hello, 2)], [FRAME_KIND.ping, new Uint8Array(4)], [FRAME_KIND.data, frameOf(MESSAGES[4]!.message)]),
      framed(...MESSAGES.map(({ message }) => [FRAME_KIND.data, frameOf(message)] as const)),
    ],
    isCbor: false,
    readAndWrite(bytes) {
      // However they are cut: the cuts come from the bytes, so that one input is one run.
      const cuts = sha256(bytes);
      const read: (readonly [FrameKind, Uint8Array])[] = [];
      const reader = new FrameReader((kind, frame) => void read.push([kind, frame]));
      for (let at = 0, turn = 0; at < bytes.length; turn++) {
        const piece = bytes.subarray(at, at + 1 + (cuts[turn % cuts.length]! % 64));
        reader.feed(piece);
        at += piece.length;
      }
      const written = framed(...read);
      // The last frame may not be whole yet.
      return Buffer.compare(written, bytes.subarray(0, written.length)) === 0 ? bytes : written;
    },
  },
  {
    name: "sealed, under a keyring",
    mayThrow: ["CryptoError BAD_LENGTH", "CryptoError UNKNOWN_KEY", "CryptoError NOT_AUTHENTIC"],
    samples: [sealWith(keyring, "forward", nonce, texts.encode("a request"), aad), sealWith(keyring, "forward", nonce, new Uint8Array(3000), aad)],
    isCbor: false,
    readAndWrite: (bytes) => sealWith(keyring, "forward", bytes.subarray(4, 4 + NONCE_BYTES), openWith(keyring, "forward", bytes, aad), aad),
  },
  {
    name: "sealed, under a key",
    mayThrow: ["CryptoError BAD_LENGTH", "CryptoError NOT_AUTHENTIC"],
    samples: [seal(key, nonce, texts.encode("short"), aad), seal(key, nonce, new Uint8Array(5000), aad), seal(key, nonce, new Uint8Array(), aad)],
    isCbor: false,
    readAndWrite: (bytes) => seal(key, nonce, open(key, nonce, bytes, aad), aad),
  },
  {
    name: "proof of the secret",
    mayThrow: [],
    samples: [prove(keyring, "initiator", context)],
    isCbor: false,
    readAndWrite(bytes) {
      const proved = provedSecrets(keyring, "initiator", context, bytes);
      const proof = Buffer.from(prove(keyring, "initiator", context));
      const parts = Array.from({ length: Math.floor(bytes.length / PROOF_BYTES) }, (_, index) =>
        bytes.subarray(index * PROOF_BYTES, (index + 1) * PROOF_BYTES),
      );
      const isProof = parts.some((part) => proof.equals(part)) && bytes.length % PROOF_BYTES === 0 && parts.length <= 4;
      if (proved.length !== Number(isProof)) throw new Error("what was not proved was taken for a proof");
      return undefined;
    },
  },
];

/** Of these one item is read as false whatever it is but true: they have several spellings. */
function onlySpelling(message: Message, written: Uint8Array): Uint8Array | undefined {
  return message.type === "digest" || message.type === "snapshot-part" ? undefined : written;
}

function framed(...frames: readonly (readonly [kind: FrameKind, frame: Uint8Array])[]): Uint8Array {
  return Uint8Array.from(
    Buffer.concat(
      frames.flatMap(([kind, frame]) => [Uint8Array.of(kind, frame.length >>> 16, (frame.length >>> 8) & 255, frame.length & 255), frame]),
    ),
  );
}
