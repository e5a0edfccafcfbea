/**
 * A member of the layout that lies, against real nodes. What it may cost is progress while it is there, and what its own word counted for. What holds,
 * looked at after each lie: no process ended, every learn that honest members acknowledged is recalled on each of them, their copies are equal, memory
 * is bounded, and what was refused is counted and said once.
 */
import { readFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, beforeEach, expect, onTestFailed, test } from "vitest";
import type { FederationStatus } from "../../node/status.ts";
import { buildDelta, type Delta, genesisHash } from "../../protocol/delta.ts";
import type { StreamHead } from "../../protocol/frontier.ts";
import type { FederationId, Incarnation, KeyHash, NodeId, Partition, WriterId } from "../../protocol/ids.ts";
import { encodeLayout, layoutOf, partitionOf } from "../../protocol/layout.ts";
import { HEADS_STREAMS_MAX } from "../../protocol/limits.ts";
import type { Message } from "../../protocol/message.ts";
import { ask } from "./ask.ts";
import { eventually, type Federation, type FederationNode, pause, startFederation } from "./federation.ts";
import { Liar, type LiarIdentity } from "./liar.ts";

const TENANTS = Array.from({ length: 8 }, (_, index) => `crowd-${index}`);
/** An attack sends up to 60 MB; what a node keeps of it is bounded by its queues and claims. */
const RSS_GROWTH_MAX_MB = 220;

let federation: Federation;
let honest: readonly FederationNode[];
let who: LiarIdentity;
let liar: Liar;
let pids: (number | undefined)[];
const learnt: { tenant: string; marker: string }[] = [];
let before: { rss: number[]; refused: number[] };

const statusOf = async (node: FederationNode): Promise<FederationStatus> => (await ask<FederationStatus>(node.url, "GET", "/v1/federation")).body;

beforeAll(async () => {
  federation = await startFederation({ nodes: 4, unready: true });
  await federation.ready(120_000);
  honest = federation.nodes.slice(0, 3);
  const last = federation.nodes[3]!;
  const { node, layout } = await statusOf(last);
  who = {
    name: last.name,
    incarnation: node.incarnation as Incarnation,
    zone: node.zone,
    federation: layout!.federation_id as FederationId,
    secret: federation.secret,
    dataDir: last.dataDir,
  };
  await last.stop();
  pids = honest.map(({ pid }) => pid);
  for (let index = 0; index < 24; index++) await learn(`before${index}`);
}, 240_000);
afterAll(() => federation?.stop());

beforeEach(async () => {
  onTestFailed(() => console.error(federation.logs()));
  before = { rss: honest.map(rssMb), refused: await Promise.all(honest.map((node) => refusalsOf(node))) };
  liar = await Liar.at(honest[0]!, who);
});
afterEach(() => liar.stop());

/** At quorum, on any honest node, until it is acknowledged: a retry is safe under its key. */
async function learn(marker: string, ms = 20_000): Promise<void> {
  const tenant = TENANTS[learnt.length % TENANTS.length]!;
  const headers = { "x-tenant-id": tenant, "idempotency-key": marker };
  const body = { user_message: `What about ${marker}?`, ai_response: `Remember ${marker} of the lighthouse.` };
  let turn = learnt.length;
  await eventually(`${marker} is acknowledged`, ms, async () => {
    const answer = await ask(honest[turn++ % honest.length]!.url, "POST", "/v1/learn?consistency=quorum", { headers, body });
    return answer.status === 200 ? true : undefined;
  });
  learnt.push({ tenant, marker });
}

function rssMb(node: FederationNode): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${node.pid}/status`, "utf8"))![1]) / 1024;
}

/** Of all reasons that a peer's message can be refused for. */
async function refusalsOf(node: FederationNode, reason?: string): Promise<number> {
  const metrics = await (await fetch(`${node.url}/metrics`)).text();
  const found = [...metrics.matchAll(/continuum_federation_connection_errors_total\{reason="(\w+)"\} (\d+)/g)];
  const wanted = reason === undefined ? ["malformed", "foreign", "version", "too_large"] : [reason];
  return found.filter(([, name]) => wanted.includes(name!)).reduce((sum, [, , count]) => sum + Number(count), 0);
}

function linesOf(node: FederationNode, text: string): string[] {
  return readFileSync(node.logFile, "utf8")
    .split("\n")
    .filter((line) => line.includes(text));
}

/** The liar is gone: everything is as if it had never been there. */
async function unharmed(): Promise<void> {
  expect(honest.map(({ pid }) => pid)).toEqual(pids);
  for (const [index, node] of honest.entries()) expect(rssMb(node) - before.rss[index]!, `${node.name} grew`).toBeLessThan(RSS_GROWTH_MAX_MB);
  await liar.stop();
  await learn(`after${learnt.length}`);
  for (const { tenant, marker } of learnt) {
    for (const { url, name } of honest) {
      await eventually(`${name} recalls ${marker}`, 20_000, async () => {
        const { status, body } = await ask<{ messages: { content: string }[] }>(url, "POST", "/v1/messages/search?consistency=quorum", {
          headers: { "x-tenant-id": tenant },
          body: { keyword: marker },
        });
        return status === 200 && body.messages.some(({ content }) => content.includes(`Remember ${marker} `)) ? true : undefined;
      });
    }
  }
  await eventually("honest copies are equal", 20_000, async () => {
    const seen = await Promise.all(honest.map(async ({ url }) => (await ask<FederationStatus>(url, "GET", "/v1/federation?fingerprints=true")).body));
    expect(seen.map(({ layout }) => layout?.version)).toEqual([1, 1, 1]);
    const copies = new Map<number, Set<string>>();
    for (const { partitions } of seen)
      for (const { partition, role, frontier, fingerprint } of partitions) {
        if (role !== "replica") continue;
        const copy = JSON.stringify([Object.entries(frontier).sort(), fingerprint]);
        copies.set(partition, (copies.get(partition) ?? new Set()).add(copy));
      }
    return [...copies.values()].every((different) => different.size === 1) ? true : undefined;
  });
}

/** What the liar makes up in a partition of a tenant. */
function madeUp(writer: string, partition: Partition, tenant: string, count: number): Delta[] {
  const deltas: Delta[] = [];
  for (let seq = 1; seq <= count; seq++)
    deltas.push(
      buildDelta(
        {
          writer: writer as WriterId,
          partition,
          seq,
          previous: deltas.at(-1)?.hash ?? genesisHash(writer as WriterId, partition),
          hlc: [Date.now() - 1000, seq],
          key: `${writer}-${seq}`.padEnd(22, "_").slice(0, 40) as KeyHash,
          saw: {},
        },
        { tenant, fingerprint: "f", answer: "{}", entries: [{ op: "concept", id: `invented by ${writer}`, mass: 1, total: seq, name: "Invented" }] },
      ),
    );
  return deltas;
}
const head = (writer: string, seq: number, partition = partitionOf(TENANTS[0]!)): StreamHead => ({
  partition,
  writer: writer as WriterId,
  seq,
  hash: "h".repeat(43),
});
const invented = (index: number): string => `invented-${String(index).padStart(13, "0")}`;
const connected = (): Promise<true> =>
  eventually("the liar is a peer", 10_000, async () =>
    (await statusOf(honest[0]!)).peers.some(({ name, connected: is }) => name === who.name && is) ? true : undefined,
  );

test("messages before any hello are refused and counted", { timeout: 180_000 }, async () => {
  await pause(300);
  for (let round = 0; round < 50; round++) {
    liar.say({ type: "held", heads: [head(invented(0), 1)] });
    liar.say({ type: "want", partition: partitionOf(TENANTS[0]!), writer: invented(1) as WriterId, from: 1, to: 9 });
  }
  await eventually("it is counted", 5000, async () => ((await refusalsOf(honest[0]!, "foreign")) >= before.refused[0]! + 100 ? true : undefined));
  expect(linesOf(honest[0]!, `"code":"FOREIGN"`).length).toBe(1);
  await unharmed();
});

test("a member that claims a hundred thousand streams, and numbers that nobody wrote, starves nobody", { timeout: 240_000 }, async () => {
  liar.greet();
  await connected();
  const real = (await statusOf(honest[0]!)).partitions.flatMap(({ partition, frontier }) =>
    Object.keys(frontier).map((writer) => head(writer, Number.MAX_SAFE_INTEGER, partition as Partition)),
  );
  for (let round = 0; round < 10; round++) {
    const heads = Array.from({ length: HEADS_STREAMS_MAX / 2 }, (_, index) => head(invented(round * 10_000 + index), 1 + index));
    liar.say({ type: "held", heads, marks: [] });
    liar.say({ type: "held", heads: real, marks: real });
  }
  // What shrinks was never there.
  liar.say({ type: "held", heads: real.map((one) => ({ ...one, seq: 1 })), marks: [] });
  const begun = performance.now();
  for (let count = 0; count < 8; count++) await learn(`claims${count}`);
  expect(performance.now() - begun).toBeLessThan(30_000);
  await eventually("one line says so", 30_000, async () =>
    linesOf(honest[0]!, "holds more streams that this node lacks").length === 1 ? true : undefined,
  );
  await unharmed();
});

test("deltas pushed in the name of another writer are refused, and its stream goes on", { timeout: 180_000 }, async () => {
  liar.greet();
  await connected();
  const victim = (await statusOf(honest[1]!)).node.writer;
  for (const tenant of TENANTS) {
    const deltas = madeUp(victim, partitionOf(tenant), tenant, 3);
    liar.say({ type: "push", envelopes: deltas.map((delta) => liar.seal(delta)) });
  }
  await eventually("it is counted", 5000, async () =>
    (await refusalsOf(honest[0]!, "foreign")) >= before.refused[0]! + TENANTS.length ? true : undefined,
  );
  await unharmed();
});

test("repair for streams that nobody wrote and nobody asked for leaves honest copies equal", { timeout: 180_000 }, async () => {
  liar.greet();
  await connected();
  for (const [index, tenant] of TENANTS.entries()) {
    const deltas = madeUp(invented(500_000 + index), partitionOf(tenant), tenant, 20);
    const { partition, writer } = deltas[0]!.header;
    liar.say({ type: "repair", partition, writer, to: 20, envelopes: deltas.map((delta) => liar.seal(delta)) });
    // Twice, the other way round, and a piece of it elsewhere.
    liar.say({ type: "repair", partition, writer, to: Number.MAX_SAFE_INTEGER, envelopes: deltas.toReversed().map((delta) => liar.seal(delta)) });
  }
  await pause(1000);
  await unharmed();
});

test("an invented next layout is not taken, nor one of another federation", { timeout: 180_000 }, async () => {
  liar.greet();
  await connected();
  const { layout } = await statusOf(honest[0]!);
  const members = layout!.members.map(({ id, name, incarnation, zone, weight }) => ({
    node: id as NodeId,
    name,
    incarnation: incarnation as Incarnation,
    zone,
    weight,
  }));
  const settings = { replicationFactor: 1, resonanceDecay: 0.5, hebbianRate: 0.5, periodMs: 1 };
  const alone = members.filter(({ name }) => name === who.name);
  const versions = [
    layoutOf({ version: 1, federation: who.federation, ...settings, members: alone }),
    layoutOf({ version: 1, federation: "ab".repeat(16) as FederationId, ...settings, members }),
    layoutOf({ version: 2, federation: who.federation, ...settings, members: alone, previous: "0".repeat(64) }),
  ];
  for (const version of versions) {
    liar.say({ type: "layout", bytes: encodeLayout(version) });
    liar.say({ type: "layout", bytes: encodeLayout(version) }, { layoutVersion: version.version });
  }
  liar.say({ type: "layout", bytes: new Uint8Array(1000).fill(0x81) });
  liar.say({ type: "held", heads: [] }, { federation: "ab".repeat(16) as FederationId });
  await eventually("the foreign one is counted", 10_000, async () =>
    (await refusalsOf(honest[0]!, "foreign")) > before.refused[0]! ? true : undefined,
  );
  await unharmed();
});

test("acknowledgements of what was never sent count for themselves only: what another honest member holds is still there", {
  timeout: 180_000,
}, async () => {
  liar.greet();
  await connected();
  // Whatever is written meanwhile, the liar says it holds it already.
  const lying = setInterval(() => {
    for (const tenant of TENANTS) {
      const heads = liar.heard.flatMap((message) => (message.type === "ask" ? message.frontier.map(([writer]) => writer) : []));
      liar.say({ type: "held", heads: [...new Set(heads)].map((writer) => head(writer, Number.MAX_SAFE_INTEGER, partitionOf(tenant))), marks: [] });
    }
  }, 50);
  try {
    for (let count = 0; count < 16; count++) await learn(`acks${count}`, 30_000);
  } finally {
    clearInterval(lying);
  }
  await unharmed();
});

test("old frames and frames in a wrong order change nothing", { timeout: 180_000 }, async () => {
  liar.greet();
  await connected();
  const tenant = TENANTS[0]!;
  const deltas = madeUp(liar.writer, partitionOf(tenant), tenant, 30);
  const frames: Message[] = deltas.map((delta) => ({ type: "push", envelopes: [liar.seal(delta)] }));
  for (const message of frames.toReversed()) liar.say(message);
  for (let round = 0; round < 3; round++) for (const message of frames) liar.say(message);
  for (let round = 0; round < 20; round++) liar.greet();
  // What it heard itself, back again, in another's name.
  for (const message of liar.heard.slice(0, 200)) liar.say(message);
  liar.say({ type: "told", id: 1, partition: partitionOf(tenant), heads: [head(liar.writer, Number.MAX_SAFE_INTEGER)], marks: [] });
  await pause(1000);
  await unharmed();
});

test("thousands of questions are answered within bounds, and others are served meanwhile", { timeout: 240_000 }, async () => {
  liar.greet();
  await connected();
  const partition = partitionOf(TENANTS[0]!);
  const [first] = honest;
  const { node, partitions } = await statusOf(first!);
  const writer = (Object.keys(partitions[0]?.frontier ?? {})[0] ?? node.writer) as WriterId;
  const request = (index: number): Uint8Array =>
    new TextEncoder().encode(
      JSON.stringify({
        operation: ["recall", "stats", "explode"][index % 3],
        args: index % 3 === 0 ? { message: "lighthouse" } : {},
        tenant: TENANTS[index % TENANTS.length],
        level: "quorum",
        key: `flood-${index}`,
        token: null,
        requestId: "r",
        timeoutMs: 300_000,
      }),
    );
  const asks: ((index: number) => Message)[] = [
    (index) => ({ type: "want", partition, writer, from: 1 + (index % 3), to: Number.MAX_SAFE_INTEGER }),
    (index) => ({ type: "ask", id: index, partition, frontier: [[invented(index) as WriterId, index]] }),
    (index) => ({ type: "forward", id: index, sealed: liar.sealRequest(index, node.id as NodeId, request(index)) }),
  ];
  const flooding = (async () => {
    for (const next of asks) await liar.flood(3000, next);
  })();
  for (let count = 0; count < 6; count++) await learn(`flood${count}`, 40_000);
  await flooding;
  await eventually("what is no operation is counted", 10_000, async () => ((await refusalsOf(first!, "malformed")) > 0 ? true : undefined));
  await unharmed();
});

test("lists beyond their bounds are refused and counted", { timeout: 180_000 }, async () => {
  liar.greet();
  await connected();
  const heads = Array.from({ length: HEADS_STREAMS_MAX + 1 }, (_, index) => head(invented(index), 1));
  for (let round = 0; round < 5; round++) {
    liar.say({ type: "held", heads, marks: [] });
    liar.say({ type: "ask", id: round, partition: partitionOf(TENANTS[0]!), frontier: heads.map(({ writer, seq }) => [writer, seq]) });
    liar.sayBytes(new Uint8Array(100_000).fill(0x81));
    liar.say({ type: "formation", bytes: new Uint8Array(200_000).fill(0x80) });
  }
  await eventually("each is counted", 10_000, async () =>
    (await refusalsOf(honest[0]!, "too_large")) >= 10 && (await refusalsOf(honest[0]!, "malformed")) >= 5 ? true : undefined,
  );
  await unharmed();
});
