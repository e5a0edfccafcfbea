/**
 * One real node - engine, store, index, router - whose wire the test holds: it is alice, a replica of TENANT's partition like bob, with carol as witness,
 * and what bob and carol say is made here, byte for byte. Time is real.
 */
import { MemoryLevel } from "memory-level";
import { createKeyring } from "../../crypto/keyring.ts";
import { sealWith } from "../../crypto/seal.ts";
import { acceptsArguments } from "../../node/arguments.ts";
import { Engine } from "../../node/engine.ts";
import { keyOperations } from "../../node/keys.ts";
import { layoutOperations } from "../../node/layout-queue.ts";
import { MemoryIndex } from "../../node/memory/memory-index.ts";
import { createOperations, DEFAULT_SETTINGS } from "../../node/memory/operations.ts";
import type { Network, Router } from "../../node/ports.ts";
import { revocationOperations } from "../../node/revocations.ts";
import { createRouter } from "../../node/router.ts";
import type { Level } from "../../node/store/level-port.ts";
import { Store } from "../../node/store/store.ts";
import { system } from "../../node/system.ts";
import { decodeWire, type Wire } from "../../protocol/codec.ts";
import { buildDelta, type Delta, type DeltaBody, genesisHash } from "../../protocol/delta.ts";
import { sealDelta } from "../../protocol/envelope.ts";
import { encodeFrame } from "../../protocol/frame.ts";
import type { FederationId, Incarnation, KeyHash, NodeId, Partition, WriterId } from "../../protocol/ids.ts";
import { encodeLayout, groupOf, layoutOf, type Member, memberOf, partitionOf } from "../../protocol/layout.ts";
import { FRAME_MAX_BYTES } from "../../protocol/limits.ts";
import { type Envelope, type Message, type MessageOf, type MessageType, messageFromWire } from "../../protocol/message.ts";

export const FEDERATION = "fe".repeat(16) as FederationId;
export const keyring = createKeyring(["a secret of three members"]);
const INCARNATION = "07".repeat(16) as Incarnation;
const people = ["alice", "bob", "carol"].map((name) =>
  memberOf({ node: `node-of-${name}` as NodeId, name, incarnation: INCARNATION, zone: "", weight: 1 }),
);
export const LAYOUT = layoutOf({
  version: 1,
  federation: FEDERATION,
  replicationFactor: 2,
  resonanceDecay: 0.85,
  hebbianRate: 0.15,
  periodMs: 30 * 24 * 3600 * 1000,
  members: people,
});
export const [alice, bob, carol] = people as unknown as readonly [Member, Member, Member];
export const TENANT = tenantOf("carol");
/** Alice holds no copy of it: what is asked of her is forwarded to bob or carol. */
export const TENANT_ELSEWHERE = tenantOf("alice");
export const PARTITION = partitionOf(TENANT);

function tenantOf(witness: string): string {
  for (let count = 0; ; count++) {
    const tenant = `tenant-${count}`;
    if (groupOf(LAYOUT, partitionOf(tenant)).witnesses[0]?.name === witness) return tenant;
  }
}

export interface Counted {
  /** `${name}:${label}` -> sum, as /metrics would show it. */
  readonly counts: Map<string, number>;
  readonly lines: { level: string; facts: Record<string, unknown>; message: string }[];
}

export class WiredNode implements Counted {
  readonly counts = new Map<string, number>();
  readonly lines: { level: string; facts: Record<string, unknown>; message: string }[] = [];
  /** What would have ended the process. */
  fatal: Error | undefined;
  /** Why it would have begun again under a new incarnation. */
  copy: string | undefined;
  readonly sent: { to: NodeId; message: Message }[] = [];
  readonly engine: Engine;
  readonly router: Router;
  readonly store: Store;
  readonly index: MemoryIndex;
  readonly #network: Network;
  #nonces = 0;

  private constructor(store: Store, index: MemoryIndex) {
    this.store = store;
    this.index = index;
    this.#network = {
      self: alice.node,
      onFrame: () => undefined,
      onPeer: () => undefined,
      onNews: () => undefined,
      send: (to, frame) => {
        const row = decodeWire(frame, FRAME_MAX_BYTES) as readonly Wire[];
        this.sent.push({ to, message: messageFromWire(row.at(-1)!) });
        return true;
      },
      announce: () => undefined,
      connected: () => [bob.node, carol.node],
      latencyMs: () => undefined,
    };
    const line = (level: string) => (facts: object, message: string) =>
      void this.lines.push({ level, facts: facts as Record<string, unknown>, message });
    const meter = {
      count: (name: string, value = 1, label = "") => void this.counts.set(`${name}:${label}`, (this.counts.get(`${name}:${label}`) ?? 0) + value),
      observe: () => undefined,
    };
    this.engine = new Engine({
      store,
      federation: { network: this.#network, keyring },
      node: alice.node,
      index,
      system,
      meter,
      log: { debug: line("debug"), info: line("info"), warn: line("warn"), error: line("error") },
      settings: {
        name: alice.name,
        zone: "",
        weight: 1,
        firstMembers: [],
        layout: LAYOUT,
        consistency: "quorum",
        syncIntervalMs: 5000,
        strictStart: false,
        logRetentionMs: 1e12,
        collectPaceMs: 1e9,
      },
      onFatal: (error) => {
        this.fatal ??= error;
      },
      onCopy: (reason) => {
        this.copy ??= reason;
      },
    });
    const operations = {
      ...createOperations(index, DEFAULT_SETTINGS, system.monotonic),
      ...keyOperations,
      ...layoutOperations,
      ...revocationOperations,
    };
    this.router = createRouter({
      engine: this.engine,
      operations,
      index,
      meter,
      self: alice.node,
      keyring,
      accepts: acceptsArguments,
      latencyMs: () => undefined,
    });
  }

  /** Alice with bob and carol connected; both have said hello. */
  static async start(): Promise<WiredNode> {
    const db = new MemoryLevel<string, Uint8Array>({ storeEncoding: "view", keyEncoding: "utf8", valueEncoding: "view" });
    await db.open();
    const index = new MemoryIndex();
    const store = await Store.open(db as unknown as Level, index, (length) => new Uint8Array(length).fill(7));
    await store.putMeta("layout", encodeLayout(LAYOUT));
    const node = new WiredNode(store, index);
    await node.engine.start();
    for (const member of [bob, carol]) {
      node.connection(member, true);
      node.hear(member, helloOf(member));
    }
    return node;
  }

  async stop(): Promise<void> {
    await this.engine.stop();
  }

  connection(member: Pick<Member, "node">, connected: boolean): void {
    this.#network.onPeer(member.node, connected);
  }

  /** A message in a frame of this member, who keeps to everything that a frame says of its sender. */
  hear(from: Member, message: Message): void {
    this.hearBytes(from, encodeFrame({ federation: FEDERATION, writer: from.writer, layoutVersion: 1 }, message));
  }

  hearBytes(from: Pick<Member, "node">, frame: Uint8Array): void {
    this.#network.onFrame(from.node, frame);
  }

  sentOf<T extends MessageType>(to: Member, type: T): MessageOf<T>[] {
    return this.sent.flatMap((one) => (one.to === to.node && one.message.type === type ? [one.message as MessageOf<T>] : []));
  }

  /** Sealed as any holder of the secret can. */
  seal(delta: Pick<Delta, "headerBytes" | "bodyBytes">): Envelope {
    return sealDelta(delta, keyring, FEDERATION, this.nonce());
  }

  /** A request in alice's mailbox, sealed as any holder of the secret can. */
  sealedFor(from: Member, id: number, value: Uint8Array): Uint8Array {
    return sealWith(keyring, "forward", this.nonce(), value, new TextEncoder().encode(`${id} ${from.node} ${alice.node}`));
  }

  nonce(): Uint8Array {
    const nonce = new Uint8Array(24);
    new DataView(nonce.buffer).setUint32(0, ++this.#nonces);
    return nonce;
  }

  /** Everything staged so far is on disk, and what followed from it has been done. */
  async settle(): Promise<void> {
    for (let quiet = 0; quiet < 3; quiet++) {
      await new Promise<void>((resolve) => setImmediate(resolve));
      while (this.store.staged.hasStaged && this.fatal === undefined) {
        quiet = 0;
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
    }
  }

  /** Of a client of alice, at `one` unless told otherwise. */
  async ask<T>(
    operation: string,
    args: object,
    more: { level?: "one" | "quorum"; key?: string; tenant?: string; timeoutMs?: number } = {},
  ): Promise<T> {
    const outcome = await this.router.run<T>(operation, args, {
      tenant: more.tenant ?? TENANT,
      level: more.level ?? "one",
      key: more.key ?? `key-${++this.#nonces}`,
      token: undefined,
      requestId: "r",
      deadline: system.monotonic() + (more.timeoutMs ?? 2000),
    });
    return outcome.value;
  }
}

export function helloOf(member: Pick<Member, "name" | "incarnation" | "zone">): MessageOf<"hello"> {
  const { name, incarnation, zone } = member;
  return { type: "hello", versionMin: 1, versionMax: 1, federation: FEDERATION, name, incarnation, zone, layoutVersion: 1 };
}

/** A stream as its writer would go on with it: numbers and hashes fit, whatever the bodies say. */
export class Stream {
  readonly writer: WriterId;
  readonly partition: Partition;
  readonly deltas: Delta[] = [];

  constructor(writer: WriterId, partition = PARTITION) {
    this.writer = writer;
    this.partition = partition;
  }

  next(body: Partial<DeltaBody>, header: { hlc?: readonly [number, number]; saw?: Record<WriterId, number>; key?: string } = {}): Delta {
    const seq = this.deltas.length + 1;
    const delta = buildDelta(
      {
        writer: this.writer,
        partition: this.partition,
        seq,
        previous: this.deltas.at(-1)?.hash ?? genesisHash(this.writer, this.partition),
        hlc: header.hlc ?? [1_800_000_000_000, seq],
        key: (header.key ?? `of-${seq}-${this.writer}`).padEnd(22, "_").slice(0, 40) as KeyHash,
        saw: header.saw ?? {},
      },
      { tenant: TENANT, fingerprint: "f", answer: "{}", entries: [], ...body },
    );
    this.deltas.push(delta);
    return delta;
  }
}
