/**
 * `npm run bench -- --converge`: three peers, all full replicas, each write their entries at once; the time until all three hold all of them. Against OrbitDB 4
 * doing the same, in turns on the same machine.
 */
import { rmSync } from "node:fs";
import type { FederationStatus } from "../../node/status.ts";
import { partitionOf } from "../../protocol/layout.ts";
import { ask } from "../e2e/ask.ts";
import { eventually, type Federation, pause } from "../e2e/federation.ts";
import { factsFrom, frontierOf, startNodes, store, sumOf } from "./fill.ts";
import { installOrbitDb, OrbitDbPeer } from "./orbitdb.ts";
import { loadPayload, type Payload } from "./payload.ts";
import { goal, median, type StudyRun, type Verdict } from "./study.ts";

const PEERS = 3;
const ENTRIES = 1000;
const ROUNDS = 3;
const LOOK_MS = 20;
const CONVERGED_MS_MAX = 240_000;
/** Goal: how many times faster than OrbitDB. */
const FASTER_MIN = 20;

export async function converge({ deltas: entries = ENTRIES, rounds = ROUNDS, dataDir, own, say }: StudyRun): Promise<Verdict> {
  const payload = loadPayload(dataDir);
  let folder: string | undefined;
  let skipped = "";
  try {
    say("installing OrbitDB into a temporary folder");
    folder = await installOrbitDb();
    own(() => rmSync(folder!, { recursive: true, force: true }));
  } catch (error) {
    skipped = (error as Error).message;
    say(skipped);
  }
  const federation = await startNodes({ nodes: PEERS, env: { FEDERATION_REPLICATION_FACTOR: String(PEERS) } }, own);
  const ours: { writtenS: number; convergedS: number }[] = [];
  const theirs: typeof ours = [];
  for (let round = 1; round <= rounds; round++) {
    ours.push(await nodes(federation, `converge-${round}`, entries, payload));
    say(`round ${round} of ${rounds}: nodes ${JSON.stringify(ours.at(-1))}`);
    if (folder === undefined) continue;
    theirs.push(await orbitDb(folder, round, entries, payload, own));
    say(`round ${round} of ${rounds}: OrbitDB ${JSON.stringify(theirs.at(-1))}`);
  }
  const line = (name: string, all: typeof ours): string => {
    const [written, converged] = [median(all.map(({ writtenS }) => writtenS)), median(all.map(({ convergedS }) => convergedS))];
    return `- ${name}: ${PEERS} x ${entries} entries, written after ${written.toFixed(2)} s, the same everywhere after ${converged.toFixed(2)} s (medians of ${all.length} rounds)`;
  };
  const report = [line(`${PEERS} nodes, all full replicas, quorum writes`, ours)];
  if (theirs.length === 0) report.push(`- OrbitDB skipped: ${skipped}`, `- OrbitDB / nodes >= ${FASTER_MIN} x: not measured`);
  else {
    const ratio = median(theirs.map(({ convergedS }, round) => convergedS / ours[round]!.convergedS));
    report.push(line("OrbitDB 4.0.0, an event log, one `add` after the other at each peer", theirs));
    report.push(goal(`OrbitDB / nodes, time to converge >= ${FASTER_MIN} x`, ratio, ratio >= FASTER_MIN));
  }
  return { report: report.join("\n") };
}

async function nodes(federation: Federation, tenant: string, entries: number, payload: Payload): Promise<{ writtenS: number; convergedS: number }> {
  const partitions = new Set<number>([partitionOf(tenant)]);
  const before = sumOf(await frontierOf(federation.nodes[0]!, partitions));
  const begun = performance.now();
  await Promise.all(federation.nodes.map((node, place) => store(node, tenant, factsFrom(1 + place * entries, entries, payload), "quorum")));
  const writtenS = (performance.now() - begun) / 1000;
  for (const node of federation.nodes)
    while (sumOf(await frontierOf(node, partitions)) < before + PEERS * entries) {
      if (performance.now() - begun > CONVERGED_MS_MAX) throw new Error("the nodes have not converged");
      await pause(LOOK_MS);
    }
  const convergedS = (performance.now() - begun) / 1000;
  // Equal frontiers must be equal graphs (P3); the walk over the store is not part of the time.
  await eventually("equal fingerprints", 10_000, async () => {
    const all = await Promise.all(
      federation.urls.map(async (url) => (await ask<FederationStatus>(url, "GET", "/v1/federation?fingerprints=true")).body),
    );
    const prints = all.map(({ partitions: held }) => held.find(({ partition }) => partitions.has(partition))?.fingerprint);
    return prints[0] !== null && prints.every((print) => print === prints[0]) ? true : undefined;
  });
  return { writtenS, convergedS };
}

async function orbitDb(
  folder: string,
  round: number,
  entries: number,
  payload: Payload,
  own: StudyRun["own"],
): Promise<{ writtenS: number; convergedS: number }> {
  const peers = Array.from({ length: PEERS }, (_, place) => new OrbitDbPeer(folder, `peer-${round}-${place}`));
  const stop = (): void => {
    for (const peer of peers) peer.stop();
  };
  own(stop);
  const addresses = await Promise.all(peers.map((peer) => peer.listening()));
  for (const [place, peer] of peers.entries()) await peer.order("dial", addresses.slice(0, place).flat());
  const address = await peers[0]!.order<string>("open", "entries");
  await Promise.all(peers.slice(1).map((peer) => peer.order("open", address)));
  await settled(peers);
  const begun = performance.now();
  await Promise.all(peers.map((peer, place) => peer.order("write", factsFrom(1 + place * entries, entries, payload))));
  const writtenS = (performance.now() - begun) / 1000;
  for (;;) {
    const heads = await Promise.all(peers.map((peer) => peer.order<string[]>("heads")));
    if (heads.every((one) => one.join() === heads[0]!.join())) break;
    if (performance.now() - begun > CONVERGED_MS_MAX) throw new Error("OrbitDB has not converged");
    await pause(LOOK_MS);
  }
  const convergedS = (performance.now() - begun) / 1000;
  const sizes = await Promise.all(peers.map((peer) => peer.order<number>("size")));
  if (sizes.some((size) => size !== sizes[0] || size < PEERS * entries)) throw new Error(`OrbitDB holds ${sizes.join(", ")} entries`);
  stop();
  return { writtenS, convergedS };
}

/** One entry has come through everywhere: all are connected and subscribed, as the nodes are. */
async function settled(peers: readonly OrbitDbPeer[]): Promise<void> {
  await peers[0]!.order("write", ["first"]);
  await eventually("OrbitDB peers are subscribed", 30_000, async () => {
    const heads = await Promise.all(peers.map((peer) => peer.order<string[]>("heads")));
    return heads[0]!.length > 0 && heads.every((one) => one.join() === heads[0]!.join()) ? true : undefined;
  });
}
