/** Talks to a node's memory API for the commands, and turns what can go wrong into a sentence and an exit code. */
import type { Command } from "commander";
import { CliError, EXIT } from "./exit.ts";

export interface ClientOptions {
  readonly url: string;
  readonly apiKey?: string;
  readonly tenant?: string;
  readonly json?: boolean;
}
export interface ApiRequest {
  readonly method?: "GET" | "POST" | "DELETE";
  /** From the root, with its query: "/v1/recall?consistency=quorum". */
  readonly path: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
}
export interface ApiAnswer<T> {
  readonly body: T;
  readonly headers: Headers;
}

/** Longer than a node's own FEDERATION_TIMEOUT, so that its 503 with a reason arrives. */
const TIMEOUT_MS = 30_000;
export const DEFAULT_URL = "http://127.0.0.1:8420";

export function addClientOptions(command: Command): Command {
  return command
    .option("--url <url>", "the node to ask (env CONTINUUM_URL)", process.env.CONTINUUM_URL || DEFAULT_URL)
    .option("--api-key <key>", "API key (better: env CONTINUUM_API_KEY, which the process list does not show)")
    .option("--tenant <tenant>", "act for this tenant (admin keys only)")
    .option("--json", "print the node's answer as JSON");
}

/** @throws CliError `unavailable` when nobody answers or the node says 503, `failed` on any other refusal */
export async function callApi<T>(client: ClientOptions, request: ApiRequest): Promise<ApiAnswer<T>> {
  const response = await send(client, request);
  const text = await response.text().catch((error: unknown) => {
    throw unreachable(client.url, error);
  });
  const body = parse(text);
  if (!response.ok) throw refused(response.status, body);
  if (body === undefined) throw new CliError(`${client.url} answered with something that is not JSON: is it a CONTINUUM node?`);
  return { body: body as T, headers: response.headers };
}

async function send(client: ClientOptions, request: ApiRequest): Promise<Response> {
  const url = URL.parse(client.url.replace(/\/+$/, "") + request.path);
  if (url === null || !/^https?:$/.test(url.protocol)) {
    throw new CliError(`--url must look like ${DEFAULT_URL}, and "${client.url}" does not.`, EXIT.usage, "bad_url");
  }
  const apiKey = client.apiKey ?? process.env.CONTINUUM_API_KEY;
  const init: RequestInit = {
    method: request.method ?? "GET",
    headers: {
      ...(request.body === undefined ? {} : { "content-type": "application/json" }),
      ...(apiKey === undefined || apiKey === "" ? {} : { "x-api-key": apiKey }),
      ...(client.tenant === undefined ? {} : { "x-tenant-id": client.tenant }),
      ...request.headers,
    },
    signal: AbortSignal.timeout(request.timeoutMs ?? TIMEOUT_MS),
    ...(request.body === undefined ? {} : { body: JSON.stringify(request.body) }),
  };
  try {
    return await fetch(url, init);
  } catch (error) {
    throw unreachable(client.url, error);
  }
}

function unreachable(url: string, error: unknown): CliError {
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  const code = cause instanceof Error && "code" in cause ? String(cause.code) : cause instanceof Error ? cause.message : "";
  const sentence =
    code === "ECONNREFUSED"
      ? `No node listens at ${url}. Start one with \`npm start\`, or name another with --url or CONTINUUM_URL.`
      : code === "ENOTFOUND" || code === "EAI_AGAIN"
        ? `The name in ${url} cannot be resolved.`
        : error instanceof Error && error.name === "TimeoutError"
          ? `${url} did not answer in time.`
          : `${url} cannot be reached (${code || String(cause)}).`;
  return new CliError(sentence, EXIT.unavailable, "unreachable");
}

interface Problem {
  readonly code?: string;
  readonly detail?: string;
  readonly errors?: readonly { readonly loc: readonly (string | number)[]; readonly msg: string }[];
}

function refused(status: number, body: unknown): CliError {
  const problem: Problem = typeof body === "object" && body !== null ? body : {};
  const fields = (problem.errors ?? []).map(({ loc, msg }) => `${loc.join(".")}: ${msg}`).join("; ");
  const advice = status === 401 ? " Give a key with CONTINUUM_API_KEY or --api-key." : "";
  const sentence = `${problem.detail ?? `The node answered with status ${status}.`}${fields === "" ? "" : ` (${fields})`}${advice}`;
  return new CliError(sentence, status === 503 ? EXIT.unavailable : EXIT.failed, problem.code ?? `http_${status}`);
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
