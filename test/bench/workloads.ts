/** The requests of the bench, each by its name: what a client sends and which answer is right. */
import type { Payload } from "./payload.ts";

export type WorkloadName = "memories" | "learn" | "recall-quorum" | "recall-one" | "empty-quorum" | "etcd-put" | "etcd-read" | "floor-put";

export interface Workload {
  readonly method: "GET" | "POST";
  readonly path: string;
  readonly status: number;
  /** @param n a number no request had before: its text is its own */
  body(n: number, payload: Payload): string | null;
}

export const READ_TENANT = "bench-read";
export const WRITE_TENANT = "bench-write";
/** Memories a recall searches. */
export const STORED_MEMORIES = 2000;

export const WORKLOADS: Readonly<Record<WorkloadName, Workload & { readonly tenant?: string }>> = {
  memories: {
    method: "POST",
    path: "/v1/memories?consistency=quorum",
    status: 200,
    tenant: WRITE_TENANT,
    body: (n, payload) => memory(n, payload),
  },
  learn: {
    method: "POST",
    path: "/v1/learn?consistency=quorum",
    status: 200,
    tenant: WRITE_TENANT,
    body: (n, payload) => JSON.stringify({ user_message: payload.question(n), ai_response: payload.text(n) }),
  },
  "recall-quorum": {
    method: "POST",
    path: "/v1/recall?consistency=quorum",
    status: 200,
    tenant: READ_TENANT,
    body: (n, payload) => JSON.stringify({ message: payload.question(n % STORED_MEMORIES) }),
  },
  "recall-one": {
    method: "POST",
    path: "/v1/recall?consistency=one",
    status: 200,
    tenant: READ_TENANT,
    body: (n, payload) => JSON.stringify({ message: payload.question(n % STORED_MEMORIES) }),
  },
  // "There is none" is an answer that stands behind the same barrier, and costs nothing but it.
  "empty-quorum": { method: "GET", path: "/v1/memories/mem_none?consistency=quorum", status: 404, tenant: READ_TENANT, body: () => null },
  "etcd-put": {
    method: "POST",
    path: "/v3/kv/put",
    status: 200,
    body: (n, payload) => JSON.stringify({ key: base64(`memory/${n}`), value: base64(memory(n, payload)) }),
  },
  // Linearizable, etcd's default: its quorum read, of a key that is not there.
  "etcd-read": { method: "POST", path: "/v3/kv/range", status: 200, body: () => JSON.stringify({ key: base64("none") }) },
  "floor-put": { method: "POST", path: "/put", status: 200, body: (n, payload) => memory(n, payload) },
};

/** A body of `POST /v1/memories`; etcd and the floor keep these very bytes. */
export function memory(n: number, payload: Payload): string {
  return JSON.stringify({ entity: payload.entity(n), content: payload.text(n) });
}

function base64(text: string): string {
  return Buffer.from(text).toString("base64");
}
