/** One HTTP request as a test sees it: a refusal is an answer, not an exception. */
export interface Answer<T> {
  readonly status: number;
  readonly headers: Headers;
  readonly body: T;
}
export interface AskOptions {
  /** Sent as JSON; a string or bytes go out as they are. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
}
export interface Problem {
  readonly code: string;
  readonly detail: string;
  readonly status: number;
  readonly errors?: readonly { readonly loc: readonly (string | number)[]; readonly msg: string }[];
}

const TIMEOUT_MS = 20_000;

/** @throws TypeError when nobody answers */
export async function ask<T = Record<string, unknown>>(url: string, method: string, path: string, options: AskOptions = {}): Promise<Answer<T>> {
  const { body } = options;
  const raw = typeof body === "string" || body instanceof Uint8Array;
  const response = await fetch(url + path, {
    method,
    headers: { ...(body === undefined ? {} : { "content-type": "application/json" }), ...options.headers },
    signal: AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS),
    ...(body === undefined ? {} : { body: raw ? (body as string) : JSON.stringify(body) }),
  });
  const text = await response.text();
  return { status: response.status, headers: response.headers, body: (text === "" ? undefined : JSON.parse(text)) as T };
}
