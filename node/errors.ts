/** The one place that knows how a refusal looks over HTTP (RFC 9457). `code` never changes meaning; `detail` is a sentence for a person. */
export const API_CODES = {
  bad_json: 400,
  bad_request: 400,
  unauthorized: 401,
  forbidden: 403,
  not_found: 404,
  method_not_allowed: 405,
  conflict: 409,
  idempotency_key_reused: 409,
  idempotency_key_expired: 409,
  payload_too_large: 413,
  unsupported_media_type: 415,
  validation_failed: 422,
  rate_limited: 429,
  headers_too_large: 431,
  internal: 500,
  no_quorum: 503,
  in_doubt: 503,
  catching_up: 503,
  clock_skew: 503,
  overloaded: 503,
} as const;
export type ApiCode = keyof typeof API_CODES;

export interface FieldError {
  readonly loc: readonly (string | number)[];
  readonly msg: string;
  readonly type: string;
}

export class ApiError extends Error {
  readonly code: ApiCode;
  readonly status: number;
  readonly errors: readonly FieldError[] | undefined;
  /** Seconds, for Retry-After. */
  readonly retryAfter: number | undefined;
  constructor(code: ApiCode, detail: string, more: { errors?: readonly FieldError[]; retryAfter?: number; cause?: unknown } = {}) {
    super(detail, more.cause === undefined ? undefined : { cause: more.cause });
    this.name = "ApiError";
    this.code = code;
    this.status = API_CODES[code];
    this.errors = more.errors;
    this.retryAfter = more.retryAfter ?? (this.status === 503 ? 1 : undefined);
  }
}

/** This node does not execute for the partition, or does not any more: another one may. Never leaves the router. */
export class NotReplica extends ApiError {
  constructor(detail: string) {
    super("catching_up", detail);
  }
}
