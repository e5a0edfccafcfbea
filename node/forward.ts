/**
 * Requests between nodes: any node answers for any tenant by asking a full replica of its partition. The request travels sealed, under the key the client
 * (or this node) gave it, so sending it again to another replica is safe (P5).
 */
import type { Keyring } from "../crypto/keyring.ts";
import { openWith, sealWith } from "../crypto/seal.ts";
import type { VerifiedMessage } from "../protocol/frame.ts";
import { LEVELS, type Level, type NodeId } from "../protocol/ids.ts";
import { FORWARD_TIMEOUT_MAX_MS, IDEMPOTENCY_KEY_MAX_CHARS, PENDING_REQUESTS_MAX } from "../protocol/limits.ts";
import { API_CODES, type ApiCode, ApiError } from "./errors.ts";
import type { Call, Outcome, System } from "./ports.ts";

/** A replica's refusal that another replica may not share. */
export class AskAnother extends Error {
  /** The request left this node and may have been executed. */
  readonly wasSent: boolean;
  readonly reason: ApiError | undefined;
  constructor(wasSent: boolean, reason?: ApiError) {
    super(reason?.message ?? "no answer");
    this.wasSent = wasSent;
    this.reason = reason;
  }
}

export interface ForwardOptions {
  readonly keyring: Keyring;
  readonly self: NodeId;
  readonly system: System;
  readonly send: (to: NodeId, message: { type: "forward" | "forwarded"; id: number; sealed: Uint8Array }) => boolean;
  /** Whether the arguments are those of the operation: the sender only claims to have checked them. */
  readonly accepts: (operation: string, args: unknown) => boolean;
  /** What a peer sent cannot be used; counted and logged. */
  readonly refuse: (from: NodeId, code: "MALFORMED" | "FOREIGN" | "FORWARD_FAILED", detail: string, facts?: object) => void;
  /** Runs a request here, as a replica. @throws ApiError */
  readonly execute: (operation: string, args: unknown, call: Call) => Promise<Outcome<unknown>>;
}

interface Waiting {
  readonly to: NodeId;
  readonly resolve: (outcome: Outcome<unknown>) => void;
  readonly reject: (error: Error) => void;
  readonly cancelTimeout: () => void;
}

interface Request {
  readonly operation: string;
  readonly args: unknown;
  readonly tenant: string;
  readonly level: Level | null;
  readonly key: string;
  readonly token: string | null;
  readonly requestId: string;
  /** What is left of the caller's deadline, ms: clocks of two machines are not compared. */
  readonly timeoutMs: number;
}

type Answer = { readonly ok: Outcome<unknown> } | { readonly error: { readonly code: ApiCode; readonly detail: string } };

const text = new TextEncoder();
const words = new TextDecoder();
const NONCE_BYTES = 24;

export class Forward {
  readonly #o: ForwardOptions;
  readonly #waiting = new Map<number, Waiting>();
  /** Begins anywhere: a late answer to an earlier process of this node answers nothing here. */
  #lastId: number;
  /** Requests of others that run here. */
  #serving = 0;

  constructor(options: ForwardOptions) {
    this.#o = options;
    this.#lastId = Math.floor(options.system.random() * 2 ** 48);
  }

  /** @param timeoutMs how long this one replica may take. @throws AskAnother, ApiError */
  ask(to: NodeId, operation: string, args: unknown, call: Call, timeoutMs: number): Promise<Outcome<unknown>> {
    const id = ++this.#lastId;
    const request: Request = {
      operation,
      args,
      tenant: call.tenant,
      level: call.level ?? null,
      key: call.key,
      token: call.token ?? null,
      requestId: call.requestId,
      timeoutMs,
    };
    return new Promise((resolve, reject) => {
      const cancelTimeout = this.#o.system.after(timeoutMs + 50, () => this.#fail(id, true));
      this.#waiting.set(id, { to, resolve, reject, cancelTimeout });
      if (!this.#o.send(to, { type: "forward", id, sealed: this.#seal(id, this.#o.self, to, request) })) this.#fail(id, false);
    });
  }

  /** The connection went: whatever was asked there may have been executed. */
  gone(node: NodeId): void {
    for (const [id, waiting] of this.#waiting) if (waiting.to === node) this.#fail(id, true);
  }

  receive(verified: VerifiedMessage): void {
    const { message, from } = verified;
    if (message.type === "forward") void this.#serve(from, message.id, message.sealed);
    else if (message.type === "forwarded") this.#answered(from, message.id, message.sealed);
  }

  #fail(id: number, wasSent: boolean): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    this.#waiting.delete(id);
    waiting.cancelTimeout();
    waiting.reject(new AskAnother(wasSent));
  }

  #answered(from: NodeId, id: number, sealed: Uint8Array): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined || waiting.to !== from) return;
    const answer = this.#open(id, from, this.#o.self, sealed);
    if (!isAnswer(answer)) {
      if (answer !== undefined) this.#o.refuse(from, "MALFORMED", "an answer to a forwarded request that is none");
      return;
    }
    this.#waiting.delete(id);
    waiting.cancelTimeout();
    if ("ok" in answer) waiting.resolve(answer.ok);
    else {
      const error = new ApiError(answer.error.code, answer.error.detail);
      const elsewhere = error.code === "no_quorum" || error.code === "catching_up" || error.code === "overloaded" || error.code === "clock_skew";
      waiting.reject(elsewhere ? new AskAnother(false, error) : error);
    }
  }

  async #serve(from: NodeId, id: number, sealed: Uint8Array): Promise<void> {
    const request = this.#open(id, from, this.#o.self, sealed);
    if (request === undefined) return;
    if (!isRequest(request)) {
      this.#o.refuse(from, "MALFORMED", "a forwarded request that is none");
      return;
    }
    let answer: Uint8Array;
    this.#serving++;
    try {
      if (this.#serving > PENDING_REQUESTS_MAX) throw new ApiError("overloaded", "This replica has too many unanswered requests.");
      if (!this.#o.accepts(request.operation, request.args)) {
        this.#o.refuse(from, "MALFORMED", "a forwarded request whose arguments are not those of its operation");
        throw new ApiError("bad_request", `This replica does not take these arguments for ${request.operation}; it may run an older version.`);
      }
      const deadline = this.#o.system.monotonic() + request.timeoutMs;
      const call: Call = {
        tenant: request.tenant,
        level: request.level ?? undefined,
        key: request.key,
        token: request.token ?? undefined,
        requestId: request.requestId,
        deadline,
      };
      answer = this.#seal(id, this.#o.self, from, { ok: await this.#o.execute(request.operation, request.args, call) } satisfies Answer);
    } catch (error) {
      answer = this.#seal(id, this.#o.self, from, { error: this.#refusalOf(error, from) } satisfies Answer);
    } finally {
      this.#serving--;
    }
    this.#o.send(from, { type: "forwarded", id, sealed: answer });
  }

  /** A fault of ours ends this request and not the process, as it would over HTTP: whoever can send it once can send it to every replica. */
  #refusalOf(error: unknown, from: NodeId): { readonly code: ApiCode; readonly detail: string } {
    if (error instanceof ApiError) return { code: error.code, detail: error.message };
    const at = error instanceof Error ? (error.stack ?? "").split("\n").filter((line) => line.trimStart().startsWith("at ")) : [];
    this.#o.refuse(from, "FORWARD_FAILED", "a forwarded request could not be executed", { fault: (error as Error).name, at: at.slice(0, 8) });
    return { code: "internal", detail: "Something went wrong at the replica that executed this request." };
  }

  #seal(id: number, from: NodeId, to: NodeId, value: unknown): Uint8Array {
    return sealWith(
      this.#o.keyring,
      "forward",
      this.#o.system.randomBytes(NONCE_BYTES),
      text.encode(JSON.stringify(value)),
      text.encode(`${id} ${from} ${to}`),
    );
  }

  /** Undefined: not sealed by a holder of the secret for this node, or not JSON; the asker times out. */
  #open(id: number, from: NodeId, to: NodeId, sealed: Uint8Array): unknown {
    let plain: Uint8Array;
    try {
      plain = openWith(this.#o.keyring, "forward", sealed, text.encode(`${id} ${from} ${to}`));
    } catch {
      this.#o.refuse(from, "FOREIGN", "a forwarded request that does not open under our secrets for this node");
      return undefined;
    }
    try {
      return JSON.parse(words.decode(plain));
    } catch {
      this.#o.refuse(from, "MALFORMED", "a forwarded request that is not JSON");
      return undefined;
    }
  }
}

function isRequest(value: unknown): value is Request {
  if (typeof value !== "object" || value === null) return false;
  const { operation, tenant, key, requestId, timeoutMs, level, token } = value as Partial<Record<keyof Request, unknown>>;
  return (
    typeof operation === "string" &&
    typeof tenant === "string" &&
    typeof key === "string" &&
    key.length <= IDEMPOTENCY_KEY_MAX_CHARS &&
    typeof requestId === "string" &&
    typeof timeoutMs === "number" &&
    timeoutMs > 0 &&
    timeoutMs <= FORWARD_TIMEOUT_MAX_MS &&
    (level === null || LEVELS.includes(level as Level)) &&
    (token === null || typeof token === "string")
  );
}

function isAnswer(value: unknown): value is Answer {
  if (typeof value !== "object" || value === null) return false;
  const { ok, error } = value as { ok?: unknown; error?: { code?: unknown; detail?: unknown } | null };
  if (ok !== undefined) return isOutcome(ok);
  return typeof error === "object" && error !== null && typeof error.detail === "string" && Object.hasOwn(API_CODES, String(error.code));
}

/** What the client's answer is made of. `value` is the operation's, and whoever executed it is believed. */
function isOutcome(value: unknown): value is Outcome<unknown> {
  if (typeof value !== "object" || value === null) return false;
  const { level, acks, token, node } = value as {
    level?: unknown;
    acks?: { replicas?: unknown; witnesses?: unknown } | null;
    token?: unknown;
    node?: unknown;
  };
  const areCounts = typeof acks === "object" && acks !== null && Number.isSafeInteger(acks.replicas) && Number.isSafeInteger(acks.witnesses);
  return (
    LEVELS.includes(level as Level) &&
    areCounts &&
    typeof token === "string" &&
    token.length < 32_000 &&
    /^[A-Za-z0-9_-]*$/.test(token) &&
    typeof node === "string"
  );
}
