/** Clients that learn without pause and remember what was acknowledged: each retries with its key, on any node, until it gets an answer. */
import { ask, type Problem } from "./ask.ts";
import { pause } from "./federation.ts";

export interface Acknowledged {
  readonly tenant: string;
  readonly marker: string;
  readonly turnId: string;
}
export interface Writers {
  readonly acknowledged: readonly Acknowledged[];
  /** Answers that were not 200, by code: what a client meets while a node dies. */
  readonly refusals: Readonly<Record<string, number>>;
  /** Lets every client finish the learn it is at. */
  stop(): Promise<void>;
}

/** Spread over partitions, so that each node is replica of some and witness of others. */
const TENANTS = Array.from({ length: 8 }, (_, index) => `crowd-${index}`);
const RETRY_MS = 100;
const GIVE_UP_MS = 60_000;

export function startWriters(urls: readonly string[], count: number, run: string): Writers {
  const acknowledged: Acknowledged[] = [];
  const refusals: Record<string, number> = {};
  let stopping = false;

  const client = async (number: number): Promise<void> => {
    for (let turn = 0; !stopping; turn++) acknowledged.push(await learn(`${run}c${number}t${turn}`, number + turn));
  };
  const learn = async (marker: string, start: number): Promise<Acknowledged> => {
    const tenant = TENANTS[start % TENANTS.length]!;
    const headers = { "x-tenant-id": tenant, "idempotency-key": marker };
    const body = { user_message: `What about ${marker}?`, ai_response: `Remember ${marker} of the lighthouse.`, metadata: { session_id: marker } };
    const deadline = performance.now() + GIVE_UP_MS;
    for (let attempt = start; performance.now() < deadline; attempt++) {
      const url = urls[attempt % urls.length]!;
      try {
        const answer = await ask<{ turn_id: string } & Problem>(url, "POST", "/v1/learn?consistency=quorum", { headers, body });
        if (answer.status === 200) return { tenant, marker, turnId: answer.body.turn_id };
        countRefusal(`${answer.status} ${answer.body.code}`);
        if (answer.status !== 503) throw new Error(`${marker} on ${url}: ${answer.status} ${answer.body.detail}`);
      } catch (error) {
        if (!(error instanceof TypeError) && (error as Error).name !== "TimeoutError") throw error;
        countRefusal("unreachable");
      }
      await pause(RETRY_MS);
    }
    throw new Error(`${marker} was not acknowledged in ${GIVE_UP_MS} ms`);
  };
  const countRefusal = (what: string): void => {
    refusals[what] = (refusals[what] ?? 0) + 1;
  };

  const clients = Promise.all(Array.from({ length: count }, (_, number) => client(number)));
  clients.catch(() => {}); // seen by stop()
  return {
    acknowledged,
    refusals,
    stop: async () => {
      stopping = true;
      await clients;
    },
  };
}

/** @returns the turns of the tenant that a quorum read on this node shows: turn's user message -> how often */
export async function markersAt(url: string, tenant: string): Promise<Map<string, number>> {
  const markers = new Map<string, number>();
  for (let offset = 0; ; offset += 1000) {
    const path = `/v1/messages?consistency=quorum&role=user&limit=1000&offset=${offset}`;
    const { status, body } = await ask<{ messages: { content: string }[]; total: number }>(url, "GET", path, { headers: { "x-tenant-id": tenant } });
    if (status !== 200) throw new Error(`${url} answered ${status} to a list: ${JSON.stringify(body)}`);
    for (const { content } of body.messages) {
      const marker = /What about (\S+)\?/.exec(content)?.[1] ?? content;
      markers.set(marker, (markers.get(marker) ?? 0) + 1);
    }
    if (body.messages.length < 1000) return markers;
  }
}
