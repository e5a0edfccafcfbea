/**
 * Requests between nodes: any node answers for any tenant by asking a full replica of its partition. The request travels sealed, under the key the client
 * (or this node) gave it, so sending it again to another replica is safe (P5).
 */
import type { Keyring } from "../crypto/keyring.ts";
import { openWith, sealWith } from "../crypto/seal.ts";
import type { VerifiedMessage } from "../protocol/frame.ts";
import { LEVELS, type Level, type NodeId } from "../protocol/ids.ts";
import { PENDING_REQUESTS_MAX } from "../protocol/limits.ts";
import { type ApiCode, ApiError } from "./errors.ts";
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
  /** Runs a request here, as a replica. @throws ApiError */
  readonly execute: (operation: string, args: unknown, call: Call) => Promise<Outcome<unknown>>;
  /** A request of a peer ended in something that is no refusal: a disk that does not read, or arguments that no HTTP layer checked. */
  readonly onFailure: (error: unknown, from: NodeId, operation: string) => void;
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
    const answer = this.#open(id, from, this.#o.self, sealed) as Answer | undefined;
    if (answer === undefined) return;
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
    const request = this.#open(id, from, this.#o.self, sealed) as Request | undefined;
    if (request === undefined || !isRequest(request)) return;
    let answer: Answer;
    this.#serving++;
    try {
      if (this.#serving > PENDING_REQUESTS_MAX) throw new ApiError("overloaded", "This replica has too many unanswered requests.");
      const deadline = this.#o.system.monotonic() + request.timeoutMs;
      const call: Call = {
        tenant: request.tenant,
        level: request.level ?? undefined,
        key: request.key,
        token: request.token ?? undefined,
        requestId: request.requestId,
        deadline,
      };
      answer = { ok: await this.#o.execute(request.operation, request.args, call) };
    } catch (error) {
      // One request fails, not this process: otherwise a single member could end every replica that it may ask.
      if (!(error instanceof ApiError)) this.#o.onFailure(error, from, request.operation);
      const refusal = error instanceof ApiError ? error : new ApiError("internal", "The replica that was asked could not answer; its log says why.");
      answer = { error: { code: refusal.code, detail: refusal.message } };
    } finally {
      this.#serving--;
    }
    this.#o.send(from, { type: "forwarded", id, sealed: this.#seal(id, this.#o.self, from, answer) });
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

  /** Undefined: not sealed by a member for this node; dropped, the asker times out. */
  #open(id: number, from: NodeId, to: NodeId, sealed: Uint8Array): unknown {
    try {
      return JSON.parse(words.decode(openWith(this.#o.keyring, "forward", sealed, text.encode(`${id} ${from} ${to}`))));
    } catch {
      return undefined;
    }
  }
}

function isRequest(value: Request): boolean {
  return (
    typeof value.operation === "string" &&
    typeof value.tenant === "string" &&
    typeof value.key === "string" &&
    typeof value.requestId === "string" &&
    typeof value.timeoutMs === "number" &&
    value.timeoutMs > 0 &&
    (value.level === null || LEVELS.includes(value.level)) &&
    (value.token === null || typeof value.token === "string")
  );
}
