/** From a request to the one door into the memory, and from its outcome to the answer's headers. */
import type { FastifyReply, FastifyRequest } from "fastify";
import { LEVELS, type Level } from "../../protocol/ids.ts";
import { IDEMPOTENCY_KEY_MAX_CHARS, PENDING_REQUESTS_MAX } from "../../protocol/limits.ts";
import { ApiError } from "../errors.ts";
import type { Call, Meter, Outcome, Router, System } from "../ports.ts";
import { fieldError } from "./problem.ts";

/** A frontier token of a tenant's partition is tens of bytes a writer; Node refuses headers over 16 KiB anyway. */
const TOKEN_MAX_CHARS = 12_000;

export class Door {
  readonly #router: Router;
  readonly #system: System;
  readonly #meter: Meter;
  readonly #timeoutMs: number;
  #pending = 0;

  constructor(router: Router, system: System, meter: Meter, timeoutMs: number) {
    this.#router = router;
    this.#system = system;
    this.#meter = meter;
    this.#timeoutMs = timeoutMs;
  }

  /** A read for the caller's tenant. @throws ApiError */
  async read<T>(request: FastifyRequest, reply: FastifyReply, operation: string, args: unknown): Promise<T> {
    const outcome = await this.run<T>(operation, args, this.callOf(request, ""));
    setOutcome(reply, outcome);
    return outcome.value;
  }

  /** A write for the caller's tenant, under its Idempotency-Key or one made here. @throws ApiError */
  async write<T>(request: FastifyRequest, reply: FastifyReply, operation: string, args: unknown): Promise<T> {
    const outcome = await this.run<T>(operation, args, this.callOf(request, this.keyOf(request)));
    setOutcome(reply, outcome);
    return outcome.value;
  }

  /** @throws ApiError, `overloaded` when too many are under way */
  async run<T>(operation: string, args: unknown, call: Call): Promise<Outcome<T>> {
    if (this.#pending >= PENDING_REQUESTS_MAX)
      throw new ApiError("overloaded", "This node has too many unanswered requests; try again or ask another node.");
    this.#pending++;
    try {
      const outcome = await this.#router.run<T>(operation, args, call);
      this.#count(operation, outcome.value);
      return outcome;
    } finally {
      this.#pending--;
    }
  }

  /** Where a request enters, so that one that is forwarded is counted once. */
  #count(operation: string, value: unknown): void {
    if (operation === "learn") {
      this.#meter.count("learn");
      this.#meter.count("concepts_extracted", (value as { concepts_extracted?: number }).concepts_extracted ?? 0);
    } else if (operation === "recall") this.#meter.count("recall");
    else if (operation === "remember") this.#meter.count("memory_stored");
  }

  /** What the request says of itself. @throws ApiError 422 */
  callOf(request: FastifyRequest, key: string): Call {
    const level = levelOf(request);
    if (request.caller.unconfirmed && level !== undefined && level !== "one")
      throw new ApiError("no_quorum", "This node reaches no majority that confirms your API key: it serves you at consistency=one only.");
    return { tenant: request.caller.tenant, level, key, token: tokenOf(request), requestId: request.id, deadline: this.deadline() };
  }

  deadline(): number {
    return this.#system.monotonic() + this.#timeoutMs;
  }

  /** @param charsMax room is needed where keys are made from it. @throws ApiError 422 */
  keyOf(request: FastifyRequest, charsMax = IDEMPOTENCY_KEY_MAX_CHARS): string {
    const key = request.headers["idempotency-key"];
    if (key === undefined) return this.randomId("auto-");
    if (typeof key === "string" && key.length <= charsMax && /^[\x20-\x7e]+$/.test(key)) return key;
    throw fieldError(["header", "idempotency-key"], `must be 1 to ${charsMax} printable ASCII characters`, "string_pattern_mismatch");
  }

  /** 128 random bits. */
  randomId(prefix: string): string {
    return prefix + Buffer.from(this.#system.randomBytes(16)).toString("base64url");
  }

  randomBytes(length: number): Uint8Array {
    return this.#system.randomBytes(length);
  }

  monotonic(): number {
    return this.#system.monotonic();
  }
}

/** Body, then query (both checked by schema), then header. */
function levelOf(request: FastifyRequest): Level | undefined {
  const named =
    (request.body as { consistency?: Level | null } | null | undefined)?.consistency ?? (request.query as { consistency?: Level }).consistency;
  if (named !== undefined && named !== null) return named;
  const header = request.headers["x-consistency"];
  if (header === undefined) return undefined;
  if (typeof header === "string" && (LEVELS as readonly string[]).includes(header)) return header as Level;
  throw fieldError(["header", "x-consistency"], `must be one of ${LEVELS.join(", ")}`, "enum");
}

function tokenOf(request: FastifyRequest): string | undefined {
  const token = request.headers["x-continuum-frontier"];
  if (token === undefined || token === "") return undefined;
  if (typeof token === "string" && token.length <= TOKEN_MAX_CHARS) return token;
  throw fieldError(["header", "x-continuum-frontier"], "is not a token of ours", "value_error");
}

export function setOutcome(reply: FastifyReply, outcome: Outcome<unknown>): void {
  reply.header("x-continuum-frontier", outcome.token);
  setLevel(reply, outcome);
}

export function setLevel(reply: FastifyReply, outcome: Outcome<unknown>): void {
  reply.header("x-continuum-consistency", outcome.level);
  reply.header("x-continuum-acks", `replicas=${outcome.acks.replicas},witnesses=${outcome.acks.witnesses}`);
}
