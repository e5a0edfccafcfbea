/**
 * Two clusters become one federation: three nodes each, on two networks that reach each other through an HTTP ingress on either side and by nothing else. The
 * first has one host name for its nodes and tells them apart by a path, the second by a port. Then the line between them is cut, both work on, and it heals.
 */
import { randomBytes } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, onTestFailed, test } from "vitest";
import type { FederationStatus, PartitionStatus } from "../../node/status.ts";
import { partitionOf } from "../../protocol/layout.ts";
import { callersOf } from "../faults/sockets.ts";
import { ask, type Problem } from "./ask.ts";
import { atRest } from "./at-rest.ts";
import { eventually, NodeProcess, pause, waitReady } from "./federation.ts";
import { Ingress } from "./ingress.ts";
import { OWN_NETWORK, type OwnNetwork } from "./own-network.ts";
import { markersAt, startWriters } from "./writers.ts";

const MINUTE = 60_000;
/** Spread over partitions: of some the first cluster has the witness, of others the second. */
const TENANTS = Array.from({ length: 16 }, (_, index) => `tenant-${index}`);
const NET = 1 + Math.floor(Math.random() * 200);
type Cluster = "a" | "b" | "c";
/** A network for each cluster, and one in between. */
const NETWORKS: Readonly<Record<Cluster | "between", string>> = {
  a: `127.${NET}.1.`,
  b: `127.${NET}.2.`,
  c: `127.${NET}.4.`,
  between: `127.${NET}.3.`,
};
const address = (network: Cluster | "between", host: number): string => `${NETWORKS[network]}${host}`;

const secret = randomBytes(32).toString("base64url");
const dataDir = mkdtempSync(join(tmpdir(), "continuum-clusters-"));
const bypasses = new Set<string>();
let port: number;
let east: Ingress;
let west: readonly Ingress[];
let a: readonly NodeProcess[];
let b: readonly NodeProcess[];
let foreign: NodeProcess | undefined;
/** In a third place: it dials both clusters, nobody dials it. */
let third: NodeProcess | undefined;
let watching: NodeJS.Timeout;
const everybody = (): readonly NodeProcess[] => [...a, ...b, ...(third === undefined ? [] : [third])];
const logs = (): string => [...everybody(), ...(foreign === undefined ? [] : [foreign])].map((node) => node.logTail()).join("\n");
/** Between the two clusters. */
function cut(): void {
  east.cut(NETWORKS.b);
  for (const ingress of west) ingress.cut(NETWORKS.a);
}
function heal(): void {
  for (const ingress of [east, ...west]) ingress.heal();
}

beforeAll(async () => {
  port = await freePort();
  const backend = (network: "a" | "b", host: number) => ({ host: address(network, host), port: port + 1 });
  east = await Ingress.start({
    from: address("between", 1),
    route: (path) => {
      const host = /^\/a-([1-4])$/.exec(path)?.[1];
      return host === undefined ? undefined : backend("a", Number(host));
    },
  });
  const host = address("between", 2);
  west = await Promise.all([1, 2, 3].map((node) => Ingress.start({ host, from: host, route: () => backend("b", node) })));
  a = [1, 2, 3].map((number) =>
    nodeIn("a", number, `,/dns4/localhost/tcp/${east.port}/ws/http-path/a-${number}`, {
      FEDERATION_FIRST_MEMBERS: "a-1,a-2,a-3",
      FEDERATION_PEERS: [1, 2, 3].map((other) => address("a", other)).join(),
    }),
  );
  b = [1, 2, 3].map((number) =>
    nodeIn("b", number, `,/ip4/${host}/tcp/${west[number - 1]!.port}/ws`, {
      FEDERATION_AUTO_JOIN: "true",
      FEDERATION_PEERS: `/dns4/localhost/tcp/${east.port}/ws/http-path/a-1`,
    }),
  );
  watching = setInterval(lookForBypasses, 300);
  for (const node of a) node.start();
  await waitReady(a, 2 * MINUTE);
}, 3 * MINUTE);

afterAll(async () => {
  clearInterval(watching);
  await Promise.all([...everybody(), foreign].map((node) => node?.stop()));
  await Promise.all([east, ...west].map((ingress) => ingress?.stop()));
  rmSync(dataDir, { recursive: true, force: true });
});

/** @param outside where other clusters reach it */
function nodeIn(network: Cluster, number: number, outside: string, env: Readonly<Record<string, string>>): NodeProcess {
  const name = `${network}-${number}`;
  const host = address(network, number);
  const others = (["a", "b", "c"] as const).filter((other) => other !== network).map((other) => NETWORKS[other]);
  const own: OwnNetwork = { TEST_OWN_ADDRESS: host, TEST_UNREACHABLE: others.join() };
  const all = { FEDERATION_SECRET: secret, FEDERATION_ZONE: network, FEDERATION_ADVERTISE: `${host}${outside}`, ...own, ...env };
  return new NodeProcess({ name, host, port, dataDir: join(dataDir, name), env: all, flags: OWN_NETWORK });
}

/** Connections between the networks that do not come from an ingress, as the kernel knows them. */
function lookForBypasses(): void {
  const listening = everybody().flatMap(({ url }) => [port + 1, port + 2].map((one) => ({ host: new URL(url).hostname, port: one })));
  for (const { from, to } of callersOf(listening)) {
    const network = to.host.slice(0, to.host.lastIndexOf(".") + 1);
    if (!from.host.startsWith(network) && !from.host.startsWith(NETWORKS.between)) bypasses.add(`${from.host} -> ${to.host}:${to.port}`);
  }
}

const statusOf = async ({ url }: NodeProcess): Promise<FederationStatus> => (await ask<FederationStatus>(url, "GET", "/v1/federation")).body;
const connectedAt = async (node: NodeProcess): Promise<string> => {
  const { peers } = await statusOf(node);
  return peers.flatMap(({ name, healthy, counts }) => (healthy && counts ? [name] : [])).join();
};
/** Until every node has exactly these peers that count, itself left out. */
async function meet(nodes: readonly NodeProcess[], expected: readonly NodeProcess[], ms = 2 * MINUTE): Promise<void> {
  for (const node of nodes) {
    const others = expected.filter((other) => other !== node).map(({ name }) => name);
    await eventually(`${node.name} counts ${others}`, ms, async () => (await connectedAt(node)) === others.join() || undefined, logs);
  }
}

/** What was acknowledged, and at which level; a turn's text is `What about MARKER?`. */
const acknowledged: { readonly tenant: string; readonly marker: string; readonly level: string; readonly at: string }[] = [];

async function learn(node: NodeProcess, tenant: string, level: string): Promise<string> {
  const marker = `${node.name}x${acknowledged.length}${randomBytes(3).toString("hex")}`;
  const body = { user_message: `What about ${marker}?`, ai_response: `Remember ${marker} of the lighthouse.` };
  const answer = await ask<Problem>(node.url, "POST", `/v1/learn?consistency=${level}`, { headers: { "x-tenant-id": tenant }, body });
  if (answer.status !== 200) return `${answer.status} ${answer.body.code}`;
  acknowledged.push({ tenant, marker, level, at: node.name });
  return "200";
}
async function recall(node: NodeProcess, tenant: string, level: string): Promise<string> {
  const body = { message: "lighthouse", max_memories: 100 };
  const answer = await ask<Problem>(node.url, "POST", `/v1/recall?consistency=${level}`, { headers: { "x-tenant-id": tenant }, body });
  return answer.status === 200 ? "200" : `${answer.status} ${answer.body.code}`;
}

/** Every turn that was acknowledged is there, once. */
async function showsAll({ name, url }: NodeProcess, tenant: string): Promise<void> {
  const found = await markersAt(url, tenant);
  const missing = acknowledged.filter((one) => one.tenant === tenant && !found.has(one.marker));
  expect(missing, `at ${name}`).toEqual([]);
  expect([...found].filter(([, times]) => times > 1)).toEqual([]);
}

/** The line is mended: all become equal, and nothing is left to do. */
async function nothingIsLost(): Promise<void> {
  heal();
  await meet(everybody(), everybody());
  await atRest({ urls: everybody().map(({ url }) => url), nodes: everybody() }, 2 * MINUTE);
  for (const tenant of new Set(acknowledged.map((one) => one.tenant))) for (const node of everybody()) await showsAll(node, tenant);
  for (const node of everybody()) {
    await eventually(`${node.name} says that all is well`, MINUTE, async () => {
      const { completeness, quorum, witness, sync_lag_seconds: lag, copying } = await statusOf(node);
      const whole = completeness === 1 && quorum.available && quorum.unavailable === 0 && quorum.short_copies === 0;
      return (whole && witness.held_deltas === 0 && lag === 0 && copying === 0) || undefined;
    });
  }
}

/** Of the partitions with data: who keeps them. */
async function placement(): Promise<ReadonlyMap<number, PartitionStatus>> {
  const found = (await Promise.all(everybody().map(statusOf))).flatMap(({ partitions }) => partitions);
  return new Map(found.map((one) => [one.partition, one]));
}
const clusterOf = (name: string): Cluster => name.slice(0, 1) as Cluster;

test("the second cluster joins by itself through one address of the first, while clients learn there", { timeout: 5 * MINUTE }, async () => {
  onTestFailed(() => console.error(logs()));
  const writers = startWriters(
    a.map(({ url }) => url),
    3,
    "joining",
  );
  for (const node of b) node.start();
  await waitReady(b, 2 * MINUTE);
  await meet(everybody(), everybody());
  await eventually("no change is under way", MINUTE, async () => {
    const { layout } = await statusOf(a[0]!);
    return (layout?.phase === "done" && layout.members.length === 6) || undefined;
  });
  await writers.stop();
  for (const { tenant, marker } of writers.acknowledged) acknowledged.push({ tenant, marker, level: "quorum", at: "a" });
  expect(acknowledged.length).toBeGreaterThan(20);

  const { layout } = await statusOf(b[2]!);
  expect(layout!.members.map(({ name, zone }) => [name, zone])).toEqual(everybody().map(({ name }) => [name, clusterOf(name)]));
  const { body } = await ask<{ history: { what: string }[] }>(b[0]!.url, "GET", "/v1/federation/layout?history=true");
  expect(body.history.map(({ what }) => what)).toEqual(expect.arrayContaining(["add b-1: done", "add b-2: done", "add b-3: done"]));

  for (const node of everybody()) for (const tenant of TENANTS) expect(await learn(node, tenant, "quorum"), `${node.name} ${tenant}`).toBe("200");
  for (const node of everybody()) for (const tenant of TENANTS) expect(await recall(node, tenant, "quorum"), `${node.name} ${tenant}`).toBe("200");
  const groups = [...(await placement()).values()].filter(({ partition }) => partition !== 256);
  expect(groups.length).toBeGreaterThan(TENANTS.length / 2);
  for (const { replicas, witnesses } of groups) {
    expect([...replicas.map(clusterOf)].sort()).toEqual(["a", "b"]);
    expect(witnesses).toHaveLength(1);
  }
  expect([...bypasses]).toEqual([]);
  // Each of the first was dialled at its own path, each of the second at its own port, or the connection came from there.
  expect(east.passed.get("/a-1")).toBeGreaterThan(0);
  expect([...east.passed.values(), ...west.flatMap((one) => [...one.passed.values()])].reduce((sum, one) => sum + one, 0)).toBeGreaterThanOrEqual(9);
});

test("cut off from each other each writes at quorum where it has one, refuses the rest, and goes on at one; healed, nothing is lost", {
  timeout: 8 * MINUTE,
}, async () => {
  onTestFailed(() => console.error(logs()));
  const groups = await placement();
  const majority = (tenant: string): Cluster => clusterOf(groups.get(partitionOf(tenant))!.witnesses[0]!);
  expect(new Set(TENANTS.map(majority))).toEqual(new Set(["a", "b"]));
  const before = (await statusOf(a[0]!)).layout;

  cut();
  await meet(a, a);
  await meet(b, b);
  for (const round of [1, 2, 3]) {
    for (const tenant of TENANTS) {
      for (const node of everybody()) {
        const expected = clusterOf(node.name) === majority(tenant) ? "200" : "503 no_quorum";
        const where = `${node.name}, ${tenant}, round ${round}`;
        expect(await learn(node, tenant, "quorum"), where).toBe(expected);
        expect(await recall(node, tenant, "quorum"), where).toBe(expected);
        expect(await learn(node, tenant, "one"), where).toBe("200");
        expect(await recall(node, tenant, "one"), where).toBe("200");
      }
    }
    // One of each cluster dies in between and comes back while the line is cut: it finds its own again.
    if (round === 2) for (const node of [a[1]!, b[1]!]) await node.kill("SIGKILL");
    if (round === 2) for (const node of [a[1]!, b[1]!]) node.start();
    if (round === 2) await Promise.all([meet(a, a), meet(b, b)]);
  }
  for (const node of everybody()) {
    const { quorum } = await statusOf(node);
    expect(quorum).toMatchObject({ available: false, system: false });
    expect(quorum.unavailable).toBeGreaterThan(20);
    expect(quorum.unavailable).toBeLessThan(236);
  }
  const change = await ask<Problem>(a[0]!.url, "POST", "/v1/federation/layout", { body: { op: "weight", name: "a-1", weight: 2 } });
  expect([change.status, change.body.code]).toEqual([503, "no_quorum"]);

  await nothingIsLost();
  expect((await statusOf(a[0]!)).layout).toEqual(before);
  expect([...bypasses]).toEqual([]);
});

test("with one node in a third place, which nobody can dial, both go on at quorum while they are cut off from each other", {
  timeout: 5 * MINUTE,
}, async () => {
  onTestFailed(() => console.error(logs()));
  third = nodeIn("c", 1, "", {
    FEDERATION_AUTO_JOIN: "true",
    FEDERATION_PEERS: `/dns4/localhost/tcp/${east.port}/ws/http-path/a-1,/ip4/${address("between", 2)}/tcp/${west[0]!.port}/ws`,
  });
  third.start();
  await waitReady([third], 2 * MINUTE);
  await meet(everybody(), everybody());
  await eventually("it is a member", MINUTE, async () => {
    const { node, layout } = await statusOf(third!);
    return (node.role === "member" && layout?.phase === "done") || undefined;
  });

  cut();
  await meet(a, [...a, third]);
  await meet(b, [...b, third]);
  await meet([third], everybody());
  for (const node of everybody()) {
    for (const tenant of TENANTS) {
      expect(await learn(node, tenant, "quorum"), `${node.name} ${tenant}`).toBe("200");
      expect(await recall(node, tenant, "quorum"), `${node.name} ${tenant}`).toBe("200");
    }
    expect((await statusOf(node)).quorum).toMatchObject({ available: true, unavailable: 0, system: true });
  }
  // What one side wrote at quorum the other sees at quorum: by way of the third.
  for (const node of [a[0]!, b[0]!]) for (const tenant of TENANTS) await showsAll(node, tenant);
  await nothingIsLost();
  expect([...bypasses]).toEqual([]);
});

test("a federation that formed by itself under the same secret is refused by both with what to do, and joins once that is done", {
  timeout: 4 * MINUTE,
}, async () => {
  onTestFailed(() => console.error(logs()));
  const before = (await statusOf(a[0]!)).layout;
  foreign = nodeIn("a", 4, `,/dns4/localhost/tcp/${east.port}/ws/http-path/a-4`, { FEDERATION_FIRST_MEMBERS: "a-4" });
  foreign.start();
  await waitReady([foreign], MINUTE);
  expect(await learn(foreign, "abroad", "quorum")).toBe("200");
  const { marker } = acknowledged.at(-1)!;
  const own = (await statusOf(foreign)).layout;

  await foreign.stop();
  foreign.env.FEDERATION_PEERS = address("a", 1);
  foreign.start();
  await waitReady([foreign], MINUTE);
  const sides = [foreign, a[0]!];
  const refusals = (node: NodeProcess): { name: string; detail: string; federation: string }[] =>
    readFileSync(node.logFile, "utf8")
      .split("\n")
      .filter((line) => line.includes("belongs to another federation"))
      .map((line) => JSON.parse(line));
  await eventually("both say why", MINUTE, async () => sides.every((node) => refusals(node).length > 0) || undefined, logs);
  const added = await ask<Problem>(a[0]!.url, "POST", "/v1/federation/layout", { body: { op: "add", node: `${address("a", 4)}:${port + 1}` } });
  expect([added.status, added.body.detail]).toEqual([409, expect.stringMatching(/belongs to another federation.*do not merge by themselves/)]);
  await pause(3000);
  for (const node of sides) {
    expect(refusals(node)).toHaveLength(1);
    expect(refusals(node)[0]!.detail).toMatch(/GET \/v1\/memories and \/v1\/messages.*empty data folders.*FEDERATION_AUTO_JOIN=true.*\/v1\/learn/);
  }
  expect(refusals(foreign)[0]).toMatchObject({ name: expect.stringMatching(/^a-[1-3]$/), federation: before!.federation_id });
  expect(refusals(a[0]!)[0]).toMatchObject({ name: "a-4", federation: own!.federation_id });
  expect((await statusOf(foreign)).layout).toEqual(own);
  expect((await statusOf(a[0]!)).layout).toEqual(before);
  expect(await markersAt(a[0]!.url, "abroad")).toEqual(new Map());

  // What the sentence says.
  const headers = { "x-tenant-id": "abroad" };
  const turns = await ask<{ messages: { role: string; content: string; timestamp: string }[] }>(foreign.url, "GET", "/v1/messages?limit=1000", {
    headers,
  });
  const texts = turns.body.messages.map(({ content }) => content);
  await foreign.stop();
  rmSync(foreign.dataDir, { recursive: true });
  delete foreign.env.FEDERATION_FIRST_MEMBERS;
  foreign.env.FEDERATION_AUTO_JOIN = "true";
  foreign.start();
  await eventually("it is a member", 2 * MINUTE, async () => (await statusOf(foreign!)).node.role === "member" || undefined, logs);
  const body = { user_message: texts.find((text) => text.startsWith("What"))!, ai_response: texts.find((text) => text.startsWith("Remember"))! };
  expect((await ask(foreign.url, "POST", "/v1/learn?consistency=quorum", { headers, body })).status).toBe(200);
  for (const { url } of everybody()) expect([...(await markersAt(url, "abroad")).keys()]).toEqual([marker]);
});

/** Three in a row that nobody listens on, below the range from which the system gives ports to clients. */
async function freePort(): Promise<number> {
  for (;;) {
    const first = 20_000 + Math.floor(Math.random() * 1000) * 10;
    const free = [first, first + 1, first + 2].map(
      (one) =>
        new Promise<boolean>((done) => {
          const server = createServer();
          server.once("error", () => done(false));
          server.listen({ port: one, host: "0.0.0.0", exclusive: true }, () => server.close(() => done(true)));
        }),
    );
    if ((await Promise.all(free)).every(Boolean)) return first;
  }
}
