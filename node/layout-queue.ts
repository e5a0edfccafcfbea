/**
 * The changes of the layout that operators, and nodes that want to join, asked for: one record of the system partition, one field a change, JSON, in order of
 * asking. Whoever leads carries out the first that waits. What came of each stays, for the history.
 */
import { type NodeId, SYSTEM_TENANT } from "../protocol/ids.ts";
import { memberOf } from "../protocol/layout.ts";
import type { Change } from "../protocol/layout-change.ts";
import { LAYOUT_CHANGES_WAITING_MAX } from "../protocol/limits.ts";
import { acceptsArguments } from "./arguments.ts";
import { ApiError } from "./errors.ts";
import { parseObject } from "./json-object.ts";
import type { Call, GraphReader, Log, Operations, ReadOperation, System, WriteOperation } from "./ports.ts";
import { shutOut } from "./revocations.ts";

export const LAYOUT_CHANGES_RECORD = "layout-changes";

export type Asked = Change | { readonly op: "stop" };
export type Outcome = "waiting" | "done" | "nothing to do" | "refused" | "stopped";

export interface QueuedChange {
  readonly id: string;
  readonly change: Asked;
  readonly outcome: Outcome;
  readonly reason: string;
  /** ISO 8601. */
  readonly asked_at: string;
  readonly ended_at: string | null;
  /** Node that was asked. */
  readonly node: string;
}

const askChange: WriteOperation<Asked, QueuedChange> = {
  type: "write",
  decide(change, context) {
    checkChange(change);
    const waiting = changesOf(context.reader).filter(({ outcome }) => outcome === "waiting");
    if (waiting.length >= LAYOUT_CHANGES_WAITING_MAX) throw new ApiError("conflict", `${waiting.length} changes of the layout are waiting already.`);
    if ((change.op === "add" || change.op === "replace") && shutOut(context.reader).has(change.member.node))
      throw new ApiError("conflict", `${change.member.name} is revoked: it can join after continuum node readmit only.`);
    // Who asks to join asks again and again until it is a member.
    const same = waiting.find((other) => JSON.stringify(other.change) === JSON.stringify(change));
    if (same !== undefined) return { contributions: [], answer: same };
    const asked: QueuedChange = {
      id: `${String(context.now).padStart(15, "0")}-${context.id("change", 0).slice(-8)}`,
      change,
      outcome: "waiting",
      reason: "",
      asked_at: new Date(context.now).toISOString(),
      ended_at: null,
      node: context.node,
    };
    return { contributions: [{ op: "register", id: LAYOUT_CHANGES_RECORD, fields: { [asked.id]: JSON.stringify(asked) } }], answer: asked };
  },
};

interface Ended {
  readonly id: string;
  readonly outcome: Outcome;
  readonly reason: string;
}

/** What came of a change. An entry that has ended, or that nobody knows, stays as it is. */
const endChange: WriteOperation<Ended, null> = {
  type: "write",
  decide({ id, outcome, reason }, { reader, now }) {
    const queued = changesOf(reader).find((change) => change.id === id);
    if (queued?.outcome !== "waiting") return { contributions: [], answer: null };
    const ended: QueuedChange = { ...queued, outcome, reason, ended_at: new Date(now).toISOString() };
    return { contributions: [{ op: "register", id: LAYOUT_CHANGES_RECORD, fields: { [id]: JSON.stringify(ended) } }], answer: null };
  },
};

const listChanges: ReadOperation<Record<never, never>, { readonly changes: readonly QueuedChange[] }> = {
  type: "read",
  answer: (_args, { reader }) => ({ changes: changesOf(reader) }),
};

/** Run with `call.tenant = SYSTEM_TENANT`. */
export const layoutOperations: Operations = { "layout.change": askChange, "layout.end": endChange, "layout.changes": listChanges };

/** All, in order of asking. What is no change is passed over: a peer's delta may have written anything there, and every member looks at it all the time. */
export function changesOf(reader: GraphReader): QueuedChange[] {
  const record = reader.register(LAYOUT_CHANGES_RECORD);
  return Object.entries(record?.fields ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .flatMap(([id, { value }]) => queuedChange(id, value) ?? []);
}

const OUTCOMES: readonly Outcome[] = ["waiting", "done", "nothing to do", "refused", "stopped"];

function queuedChange(id: string, text: string): QueuedChange | undefined {
  const said = parseObject(text) as Partial<Record<keyof QueuedChange, unknown>> | undefined;
  if (said === undefined || said.id !== id || !OUTCOMES.includes(said.outcome as Outcome)) return undefined;
  const areTexts = [said.reason, said.asked_at, said.node, said.ended_at ?? ""].every((field) => typeof field === "string");
  return areTexts && acceptsArguments("layout.change", said.change) ? (said as QueuedChange) : undefined;
}

/** @throws ApiError validation_failed */
function checkChange(change: Asked): void {
  try {
    if (change.op === "add" || change.op === "replace") memberOf(change.member);
  } catch (error) {
    throw new ApiError("validation_failed", (error as Error).message);
  }
}

export interface LayoutQueueOptions {
  readonly reader: () => GraphReader;
  /** Through the router: a node whose clock is wrong still leads, and has the outcome written by another. */
  readonly run: (operation: "layout.end", args: Ended, call: Call) => Promise<unknown>;
  readonly system: System;
  readonly log: Log;
}

const FINISH_MS = 5000;

/** The queue as the leading member sees it, with what is staged on its own disk included. */
export class LayoutQueue {
  readonly #o: LayoutQueueOptions;
  readonly #finishing = new Set<string>();
  /** The last change whose outcome could not be written. */
  #failed = "";

  constructor(options: LayoutQueueOptions) {
    this.#o = options;
  }

  waiting(): { readonly id: string; readonly change: Asked }[] {
    return changesOf(this.#o.reader()).filter(({ outcome }) => outcome === "waiting");
  }

  /** Nodes that nobody lets in. */
  revoked(): ReadonlySet<NodeId> {
    return shutOut(this.#o.reader());
  }

  change(id: string): Asked | undefined {
    return changesOf(this.#o.reader()).find((change) => change.id === id)?.change;
  }

  /** Writes what came of a change; tried again at the next look, should that fail. */
  finish(id: string, outcome: Outcome, reason: string): void {
    if (this.#finishing.has(id)) return;
    const queued = changesOf(this.#o.reader()).find((change) => change.id === id);
    if (queued === undefined) return;
    this.#finishing.add(id);
    const { system, log, run } = this.#o;
    log.info({ change: id, op: queued.change.op, outcome, reason }, "a change of the layout has ended");
    const key = `${id}/${outcome}`;
    const call: Call = { tenant: SYSTEM_TENANT, level: "quorum", key, token: undefined, requestId: key, deadline: system.monotonic() + FINISH_MS };
    run("layout.end", { id, outcome, reason }, call)
      .catch((error: Error) => {
        // Right after a layout changed few have reported under it, and the next look finds more.
        const level = this.#failed === id ? "warn" : "debug";
        this.#failed = id;
        log[level]({ change: id, error: error.message }, "what came of a change could not be written; it is tried again");
      })
      .finally(() => this.#finishing.delete(id));
  }
}
