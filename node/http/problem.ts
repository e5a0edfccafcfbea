/** Every refusal as RFC 9457 problem+json: what the client did is said, what we are made of is not. */
import type { FastifyError, FastifyReply } from "fastify";
import { API_CODES, type ApiCode, ApiError, type FieldError } from "../errors.ts";

export const PROBLEM_TYPE = "application/problem+json";

export interface Problem {
  readonly type: string;
  readonly title: string;
  readonly status: number;
  readonly code: ApiCode;
  readonly detail: string;
  readonly errors?: readonly FieldError[];
}

const TITLES: Readonly<Record<ApiCode, string>> = {
  bad_json: "Not JSON",
  bad_request: "Bad request",
  unauthorized: "No valid API key",
  forbidden: "Not allowed",
  not_found: "Not found",
  method_not_allowed: "Method not allowed",
  conflict: "Conflict",
  idempotency_key_reused: "Idempotency key used for another request",
  idempotency_key_expired: "Idempotency key used too long ago",
  payload_too_large: "Body too large",
  unsupported_media_type: "Unsupported media type",
  validation_failed: "Invalid request",
  rate_limited: "Too many requests",
  headers_too_large: "Headers too large",
  internal: "Internal error",
  no_quorum: "No quorum",
  in_doubt: "In doubt",
  catching_up: "Catching up",
  clock_skew: "Clock skew",
  overloaded: "Overloaded",
};

export function problemOf(error: ApiError): Problem {
  return {
    type: `urn:continuum:problem:${error.code}`,
    title: TITLES[error.code],
    status: error.status,
    code: error.code,
    detail: error.message,
    ...(error.errors === undefined ? {} : { errors: error.errors }),
  };
}

export function sendProblem(reply: FastifyReply, error: ApiError): FastifyReply {
  if (error.retryAfter !== undefined) reply.header("retry-after", String(Math.ceil(error.retryAfter)));
  if (error.code === "unauthorized") reply.header("www-authenticate", 'Bearer realm="continuum"');
  // Closing at once would cut off a client that is still sending, before it has read why; what it sends is dropped, within the time of a request.
  if (error.code === "payload_too_large") reply.removeHeader("connection");
  // A string goes out as it is: no serialiser of the route touches it.
  return reply
    .code(error.status)
    .header("content-type", PROBLEM_TYPE)
    .serializer(String)
    .send(JSON.stringify(problemOf(error)));
}

/** What the framework throws, by its code: [ours, what the client should know]. */
const FRAMEWORK: Readonly<Record<string, readonly [ApiCode, string]>> = {
  FST_ERR_CTP_INVALID_JSON_BODY: ["bad_json", "The body is not valid JSON, or holds a key that is refused (__proto__, constructor.prototype)."],
  FST_ERR_CTP_EMPTY_JSON_BODY: ["bad_json", "The body is empty, JSON was announced."],
  FST_ERR_CTP_BODY_TOO_LARGE: ["payload_too_large", "The body is larger than this node accepts; send less at once."],
  FST_ERR_CTP_INVALID_MEDIA_TYPE: ["unsupported_media_type", "The body must be sent as application/json."],
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: ["bad_request", "The body does not have the length that Content-Length says."],
  FST_ERR_BAD_URL: ["bad_request", "The path is not a valid URL component."],
  FST_ERR_MAX_PARAM_LENGTH: ["bad_request", "A part of the path is too long."],
};

/** undefined: not the client's doing. */
export function apiErrorOf(error: unknown): ApiError | undefined {
  if (error instanceof ApiError) return error;
  if (!(error instanceof Error)) return undefined;
  const { code = "", statusCode = 500 } = error as FastifyError;
  const known = FRAMEWORK[code];
  if (known !== undefined) return new ApiError(known[0], known[1]);
  if (statusCode === 413) return new ApiError("payload_too_large", "The body is larger than this node accepts; send less at once.");
  if (statusCode >= 400 && statusCode < 500) return new ApiError(statusCode === 404 ? "not_found" : "bad_request", "The request cannot be answered.");
  return undefined;
}

/** One validation error of ajv, as far as we read it. */
interface SchemaError {
  readonly keyword: string;
  readonly instancePath: string;
  readonly params: Readonly<Record<string, unknown>>;
  readonly message?: string;
}

const ERROR_TYPES: Readonly<Record<string, string>> = {
  required: "missing",
  minLength: "string_too_short",
  maxLength: "string_too_long",
  pattern: "string_pattern_mismatch",
  minimum: "greater_than_equal",
  maximum: "less_than_equal",
  minItems: "too_short",
  maxItems: "too_long",
  enum: "enum",
};
/** Enough for a person; a body of a thousand wrong items would otherwise be answered with a larger one. */
const ERRORS_MAX = 1000;

/** @param part "body", "querystring", "params" or "headers" */
export function validationError(errors: readonly SchemaError[], part: string): ApiError {
  const place = part === "querystring" ? "query" : part === "params" ? "path" : part === "headers" ? "header" : part;
  const found = errors.slice(0, ERRORS_MAX).map((error): FieldError => {
    const path = error.instancePath
      .split("/")
      .slice(1)
      .map((step) => (/^\d+$/.test(step) ? Number(step) : step.replaceAll("~1", "/").replaceAll("~0", "~")));
    const missing = error.keyword === "required" ? [String(error.params.missingProperty)] : [];
    const type = error.keyword === "type" ? `${[error.params.type].flat().join("_or_")}_type` : (ERROR_TYPES[error.keyword] ?? error.keyword);
    return { loc: [place, ...path, ...missing], msg: sentence(error), type };
  });
  const first = found[0];
  const where = first === undefined ? place : first.loc.join(".");
  return new ApiError("validation_failed", `${where}: ${first?.msg ?? "is not valid"}${found.length > 1 ? `, and ${found.length - 1} more` : ""}.`, {
    errors: found,
  });
}

function sentence(error: SchemaError): string {
  if (error.keyword === "required") return "is required";
  if (error.keyword === "pattern") return "has characters that are not allowed here";
  if (error.keyword === "enum") return `must be one of ${(error.params.allowedValues as unknown[] | undefined)?.join(", ")}`;
  return error.message ?? "is not valid";
}

/** One field that a schema cannot judge. */
export function fieldError(loc: readonly (string | number)[], msg: string, type = "value_error"): ApiError {
  return new ApiError("validation_failed", `${loc.join(".")}: ${msg}.`, { errors: [{ loc, msg, type }] });
}

/** A whole HTTP/1.1 answer for a connection whose request never became one. */
export function rawProblem(error: ApiError): string {
  const body = JSON.stringify(problemOf(error));
  const title = TITLES[error.code];
  return `HTTP/1.1 ${API_CODES[error.code]} ${title}\r\ncontent-type: ${PROBLEM_TYPE}\r\ncontent-length: ${Buffer.byteLength(body)}\r\nconnection: close\r\n\r\n${body}`;
}
