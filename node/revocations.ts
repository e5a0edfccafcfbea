/**
 * Nodes that were shut out: one record of the system partition, one field a node id, JSON. Every member asks at every door whether somebody is in it, so the
 * answer is kept in memory, and on disk apart from the record: it holds from the first connection after a start, also while the system partition is copied,
 * and at a node that is no member and hears of it by asking one.
 */
import { type NodeId, SYSTEM_PARTITION, SYSTEM_TENANT } from "../protocol/ids.ts";
import { REVOKED_NODES_MAX } from "../protocol/limits.ts";
import type { Engine } from "./engine.ts";
import { ApiError } from "./errors.ts";
import { parseObject } from "./json-object.ts";
import type { GraphReader, Operations, ReadOperation, Router, WriteOperation } from "./ports.ts";

export const REVOKED_NODES_RECORD = "revoked-nodes";

/** Times ISO 8601 UTC. */
export interface RevokedNode {
  readonly node: NodeId;
  /** The name it went by; "" when nobody knew. */
  readonly name: string;
  readonly revoked_at: string;
  /** Public ids of the secrets it may know: with any of them it could come back as somebody else. */
  readonly secrets: readonly string[];
  /** When it was let in again; null: it is shut out. */
  readonly readmitted_at: string | null;
}

export interface RevokeArgs {
  readonly node: NodeId;
  readonly name: string;
  readonly secrets: readonly string[];
}

const revokeNode: WriteOperation<RevokeArgs, RevokedNode> = {
  type: "write",
  decide({ node, name, secrets }, context) {
    const known = revokedOf(context.reader);
    const before = known.find((other) => other.node === node);
    if (before === undefined && known.length >= REVOKED_NODES_MAX)
      throw new ApiError("conflict", `${known.length} nodes are revoked already: drop the secrets they knew, then readmit some.`);
    const isOut = before !== undefined && before.readmitted_at === null;
    const revoked: RevokedNode = {
      node,
      name: name === "" ? (before?.name ?? "") : name,
      revoked_at: isOut ? before.revoked_at : new Date(context.now).toISOString(),
      secrets: [...new Set([...(before?.secrets ?? []), ...secrets])].sort(),
      readmitted_at: null,
    };
    return { contributions: JSON.stringify(revoked) === JSON.stringify(before) ? [] : [put(revoked)], answer: revoked };
  },
};

const readmitNode: WriteOperation<{ readonly node: string }, RevokedNode> = {
  type: "write",
  decide({ node }, context) {
    const before = revokedOf(context.reader).find((other) => other.node === node || other.name === node);
    if (before === undefined) throw new ApiError("not_found", `No node ${node} is revoked.`);
    if (before.readmitted_at !== null) return { contributions: [], answer: before };
    const readmitted: RevokedNode = { ...before, readmitted_at: new Date(context.now).toISOString() };
    return { contributions: [put(readmitted)], answer: readmitted };
  },
};

const listRevoked: ReadOperation<Record<never, never>, { readonly revoked: readonly RevokedNode[] }> = {
  type: "read",
  answer: (_args, { reader }) => ({ revoked: revokedOf(reader) }),
};

/** Run with `call.tenant = SYSTEM_TENANT`. */
export const revocationOperations: Operations = { revoke_node: revokeNode, readmit_node: readmitNode, list_revoked_nodes: listRevoked };

function put(revoked: RevokedNode) {
  return { op: "register", id: REVOKED_NODES_RECORD, fields: { [revoked.node]: JSON.stringify(revoked) } } as const;
}

/** Ids of all that are out now. */
export function shutOut(reader: GraphReader): ReadonlySet<NodeId> {
  return new Set(revokedOf(reader).flatMap(({ node, readmitted_at }) => (readmitted_at === null ? [node] : [])));
}

/** Those that were let in again among them; the oldest first. */
function revokedOf(reader: GraphReader): RevokedNode[] {
  return Object.entries(reader.register(REVOKED_NODES_RECORD)?.fields ?? {})
    .flatMap(([node, { value }]) => revokedNode(node, value) ?? [])
    .sort((a, b) => (a.revoked_at < b.revoked_at ? -1 : 1));
}

/** Undefined for what is no such entry: a peer's delta may have written anything there, and every member looks at it all the time. */
function revokedNode(node: string, text: string): RevokedNode | undefined {
  const said = parseObject(text) as Partial<Record<keyof RevokedNode, unknown>> | undefined;
  if (said === undefined || said.node !== node || !Array.isArray(said.secrets)) return undefined;
  const areTexts = [said.name, said.revoked_at, said.readmitted_at ?? "", ...said.secrets].every((field) => typeof field === "string");
  return areTexts ? (said as RevokedNode) : undefined;
}

/** Between two looks at the record, ms: with the way here, a node is cut off within a second. */
const LOOK_MS = 200;
/** Who holds no system partition asks a member as often, ms. */
const ASK_MS = 5_000;

export interface RevocationsOptions {
  readonly engine: Engine;
  readonly router: () => Router;
  readonly connected: () => readonly NodeId[];
  readonly disconnect: (node: NodeId) => void;
}

export class Revocations {
  readonly #o: RevocationsOptions;
  #known: ReadonlyMap<NodeId, RevokedNode> = new Map();
  #out: ReadonlySet<NodeId> = new Set();
  #seen: unknown;
  #askAt = 0;
  #asking = false;
  #cancel: () => void = () => undefined;
  #stopped = false;

  constructor(options: RevocationsOptions) {
    this.#o = options;
  }

  isRevoked(node: NodeId): boolean {
    return this.#out.has(node);
  }

  /** Shut out now. */
  list(): RevokedNode[] {
    return [...this.#known.values()].filter(({ readmitted_at }) => readmitted_at === null);
  }

  /** Before the network opens. */
  async load(): Promise<void> {
    const saved = await this.#o.engine.store.meta("revoked");
    if (saved !== undefined) this.#set((JSON.parse(new TextDecoder().decode(saved)) as RevokedNode[]).map((one) => [one.node, one]));
    this.look();
  }

  start(): void {
    this.#cancel = this.#o.engine.system.after(LOOK_MS, () => {
      if (this.#stopped) return;
      this.look();
      this.start();
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  /** Now: what the record says holds, and who is shut out and connected is not any more. Where it cannot be read, what is known holds. */
  look(): void {
    const { engine, connected, disconnect } = this.#o;
    try {
      this.#read();
    } catch (error) {
      engine.log.error({ error: (error as Error).message }, "which nodes are revoked cannot be read; those known before stay out");
    }
    for (const node of connected()) if (this.#out.has(node)) disconnect(node);
  }

  #read(): void {
    const { engine } = this.#o;
    const { replica, store } = engine;
    const holds = replica?.role(SYSTEM_PARTITION) === "replica" && !store.staged.isClosed(SYSTEM_PARTITION, "replica");
    if (holds) {
      const reader = store.stagedReader(SYSTEM_TENANT, replica.layout);
      const record = reader.register(REVOKED_NODES_RECORD);
      // A copy that is being filled may lack what was known before; one that counts is all there is to know.
      if (record !== this.#seen) this.#learn(revokedOf(reader), replica.standing === "counting");
      this.#seen = record;
    } else if (replica !== undefined) void this.#ask();
  }

  /** What the answer to a request said, at once. */
  learn(revoked: RevokedNode): void {
    this.#learn([revoked], false);
    this.look();
  }

  #learn(all: readonly RevokedNode[], isAll: boolean): void {
    const { engine } = this.#o;
    const before = JSON.stringify([...this.#known.values()]);
    this.#set([...(isAll ? [] : this.#known), ...all.map((one) => [one.node, one] as const)]);
    const known = [...this.#known.values()];
    if (JSON.stringify(known) === before) return;
    const self = this.#o.engine.links === undefined ? undefined : known.find(({ node }) => node === engine.node);
    if (self?.readmitted_at === null)
      engine.log.error({ since: self.revoked_at }, "this node was revoked: no member speaks with it; it can be stopped and its disk erased");
    engine.store.putMeta("revoked", new TextEncoder().encode(JSON.stringify(known))).catch((error: Error) => {
      engine.log.error({ error: error.message }, "which nodes are revoked could not be written down");
    });
  }

  #set(all: Iterable<readonly [NodeId, RevokedNode]>): void {
    this.#known = new Map(all);
    this.#out = new Set(this.list().map(({ node }) => node));
  }

  async #ask(): Promise<void> {
    const { engine, router } = this.#o;
    const now = engine.system.monotonic();
    if (this.#asking || now < this.#askAt) return;
    this.#asking = true;
    this.#askAt = now + ASK_MS;
    try {
      const call = { tenant: SYSTEM_TENANT, level: "one", key: "", token: undefined, requestId: "revoked", deadline: now + ASK_MS } as const;
      const { value } = await router().run<{ revoked: readonly RevokedNode[] }>("list_revoked_nodes", {}, call);
      this.#learn(value.revoked, false);
    } catch {
      // Nobody to ask: what is known holds.
    } finally {
      this.#asking = false;
    }
  }
}
