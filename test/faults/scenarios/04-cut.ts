/** Fault 4: the network between nodes is cut, one way, both ways, again and again, in every shape. */
import { ask } from "../../e2e/ask.ts";
import { eventually } from "../../e2e/federation.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { Stage } from "../stage.ts";

/** A silent link is given up after three pings of 2 s; what then happens is what a cut is about. */
const SPLIT_MS = 9_000;
const PROBE_MS = 4_000;

export const cut: Scenario = {
  fault: 4,
  name: "cut one way, both ways, flapping, link by link",
  says: "Each node is cut off from the other two; links are cut one way, flap, and are stopped one by one and released in another order. The lone node acknowledges nothing at quorum, the other two go on, and after healing all are equal.",
  stage: () => ({ clients: { clients: 10, pauseMs: 30 } }),
  async play(stage, quick) {
    stage.clients.start();
    await stage.progress(20, "before any cut");
    const splits = quick ? [stage.rng.pick(stage.nodes)] : stage.rng.shuffle(stage.nodes);
    for (const lone of splits) await split(stage, lone, "both");
    for (const way of quick ? [stage.rng.pick(["out", "in"] as const)] : (["out", "in"] as const))
      await split(stage, stage.rng.pick(stage.nodes), way);
    await flap(stage, quick ? 3_000 : 15_000);
    for (let time = 0; time < (quick ? 1 : 4); time++) await oneByOne(stage, quick ? 2_000 : 2 * SPLIT_MS);
    await stage.progress(20, "after healing");
  },
};

/** One node against two. `out`: what it sends is lost; `in`: what is sent to it. */
async function split(stage: Stage, lone: FaultyNode, way: "both" | "out" | "in"): Promise<void> {
  const majority = stage.nodes.filter((node) => node !== lone);
  stage.tell(`${lone.name} is cut off: ${way}`);
  for (const other of majority) {
    if (way !== "in") stage.proxy.set(lone.name, other.name, { cut: true });
    if (way !== "out") stage.proxy.set(other.name, lone.name, { cut: true });
  }
  const until = performance.now() + SPLIT_MS;
  // Some clients stay with the lone node all the while: its answers are in the history too.
  await stage.progress(20, `by two without ${lone.name}`);
  for (let probe = 0; performance.now() < until; probe++) await mustNotAcknowledge(stage, lone, `probe-${lone.name}-${way}-${probe}`);
  stage.proxy.clear();
  stage.tell("healed");
  await eventually(`all are connected after ${lone.name} was cut off`, PATIENCE_MS, () => allConnected(stage));
}

async function mustNotAcknowledge(stage: Stage, lone: FaultyNode, tenant: string): Promise<void> {
  const write = ask(lone.url, "POST", "/v1/memories", {
    headers: { "x-tenant-id": tenant, "x-consistency": "quorum" },
    body: { entity: "probe", content: "is anybody there?" },
    timeoutMs: PROBE_MS,
  });
  const read = ask(lone.url, "GET", "/v1/memories?consistency=quorum", { headers: { "x-tenant-id": tenant }, timeoutMs: PROBE_MS });
  for (const [what, asked] of [
    ["write", write],
    ["read", read],
  ] as const) {
    const answer = await asked.catch(() => undefined); // no answer in time is none
    stage.expect(answer === undefined || answer.status === 503, `the lone ${lone.name} answered ${answer?.status} to a quorum ${what}`);
  }
}

async function flap(stage: Stage, ms: number): Promise<void> {
  stage.tell("links flap");
  const until = performance.now() + ms;
  while (performance.now() < until) {
    const [a, b] = stage.rng.shuffle(stage.nodes);
    stage.proxy.set(a!.name, b!.name, { cut: stage.rng.chance(0.5) });
    if (stage.rng.chance(0.1)) stage.proxy.reset(a!.name, b!.name);
    await stage.during(stage.rng.exponential(60));
  }
  stage.proxy.clear();
}

async function oneByOne(stage: Stage, stoppedMs: number): Promise<void> {
  const ways = stage.nodes.flatMap((a) => stage.nodes.flatMap((b) => (a === b ? [] : [[a.name, b.name] as const])));
  for (const stop of [true, false]) {
    const order = stage.rng.shuffle(ways);
    stage.tell(`links are ${stop ? "stopped" : "released"} in the order ${order.map((way) => way.join(">")).join(" ")}`);
    for (const [from, to] of order) {
      stage.proxy.set(from, to, { cut: stop });
      await stage.during(stage.rng.between(100, 700));
    }
    if (stop) await stage.during(stage.rng.between(0, stoppedMs));
  }
}

async function allConnected(stage: Stage): Promise<true | undefined> {
  const seen = await Promise.all(stage.nodes.map((node) => node.status()));
  return seen.every(({ peers, quorum }) => peers.every(({ connected }) => connected) && quorum.available) || undefined;
}
