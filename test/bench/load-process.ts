/**
 * The clients, in a process of their own: each sends its next request when the last was answered, over a connection it keeps, or at its own times where a rate
 * is asked for. The same code for every system. Takes `Order`s from its parent, one at a time, and answers each with a `Sample`.
 */
import { Client } from "undici";
import type { Order, Sample } from "./load.ts";
import { loadPayload, type Payload } from "./payload.ts";
import { WORKLOADS } from "./workloads.ts";

const payload: Payload = loadPayload(process.argv[2] === "" ? undefined : process.argv[2]);
/** Of the next request; never used twice, so that all texts of a run are distinct. */
let next = 0;

let running: Run | undefined;

process.on("message", (order: Order | "finish") => {
  if (order === "finish") {
    if (running !== undefined) running.end = performance.now();
    return;
  }
  measure(order).then(
    (sample) => process.send?.(sample),
    (error: Error) => {
      process.stderr.write(`${error.stack}\n`);
      process.exit(1);
    },
  );
});
process.on("disconnect", () => process.exit(0));

async function measure(order: Order): Promise<Sample> {
  const clients = Array.from({ length: order.clients }, (_, index) => new Client(order.urls[index % order.urls.length]!, { pipelining: 1 }));
  const run: Run = { order, latencies: [], failures: {}, begin: performance.now() + order.warmupMs, end: 0, first: undefined, answered: 0 };
  run.end = run.begin + order.measureMs;
  running = run;
  const { perSecond } = order;
  await Promise.all(clients.map((client, place) => (perSecond === undefined ? repeat(client, run) : pace(client, run, place, perSecond))));
  running = undefined;
  const measuredMs = run.end - run.begin;
  await Promise.all(clients.map((client) => client.close()));
  const sorted = Float64Array.from(run.latencies).sort();
  return {
    answered: run.answered,
    perSecond: (sorted.length / measuredMs) * 1000,
    p50Ms: quantile(sorted, 0.5),
    p99Ms: quantile(sorted, 0.99),
    failures: run.failures,
    example: run.first,
  };
}

interface Run {
  readonly order: Order;
  readonly latencies: number[];
  readonly failures: Record<string, number>;
  readonly begin: number;
  end: number;
  first: string | undefined;
  answered: number;
}

/** Counts what was answered inside the window, whenever it was asked. */
async function repeat(client: Client, run: Run): Promise<void> {
  for (;;) {
    const asked = performance.now();
    if (asked >= run.end) return;
    await request(client, run, asked);
  }
}

/** A request when its time has come; the time it waits for the one before is part of its latency, as it is for whoever asked. */
async function pace(client: Client, run: Run, place: number, perSecond: number): Promise<void> {
  const { clients } = run.order;
  const everyMs = (1000 * clients) / perSecond;
  for (let due = performance.now() + (everyMs * place) / clients; ; due += everyMs) {
    const early = due - performance.now();
    if (early > 0) await new Promise((done) => setTimeout(done, early));
    if (performance.now() >= run.end) return;
    await request(client, run, due);
  }
}

async function request(client: Client, run: Run, asked: number): Promise<void> {
  const failure = await once(client, run.order);
  const answered = performance.now();
  if (failure !== undefined) {
    run.first ??= failure.detail;
    run.failures[failure.code] = (run.failures[failure.code] ?? 0) + 1;
  } else {
    run.answered++;
    if (answered >= run.begin && answered < run.end) run.latencies.push(answered - asked);
  }
}

/** @returns what went wrong */
function once(client: Client, order: Order): Promise<{ code: string; detail: string } | undefined> {
  const { method, path, status, body, tenant: usual } = WORKLOADS[order.workload];
  const tenant = order.tenant ?? usual;
  const bytes = body(next++, payload);
  const headers = { ...(bytes === null ? {} : { "content-type": "application/json" }), ...(tenant === undefined ? {} : { "x-tenant-id": tenant }) };
  return new Promise((done) => {
    let got = 0;
    let text = "";
    client.dispatch(
      { method, path, headers, body: bytes },
      {
        onRequestStart() {}, // undici tells its newer kind of handler by it
        onResponseStart(_controller, statusCode) {
          got = statusCode;
        },
        onResponseData(_controller, chunk) {
          if (got !== status) text += chunk.toString();
        },
        onResponseEnd() {
          done(got === status ? undefined : { code: String(got), detail: text.slice(0, 500) });
        },
        onResponseError(_controller, error) {
          done({ code: "connection", detail: error.message });
        },
      },
    );
  });
}

function quantile(sorted: Float64Array, share: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}
