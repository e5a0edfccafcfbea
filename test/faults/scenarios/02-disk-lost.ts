/** Fault 2: a volume is lost, the node comes back with its name and an empty directory, while clients go on. */
import { ask, type Problem } from "../../e2e/ask.ts";
import { eventually, pause } from "../../e2e/federation.ts";
import { readDisk } from "../disks.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { End, Stage } from "../stage.ts";

const PROBES_MS = 4_000;

export const diskLost: Scenario = {
  fault: 2,
  name: "an empty directory under a known name",
  says: "A node loses its store under load, twice. While one other is cut off too it makes no quorum with the third, and answers no read from its empty store; once all are there it is listed again by itself, takes back what it held and counts. The others lose nothing, and its old stream stands still.",
  stage: () => ({ clients: { clients: 8, pauseMs: 30 } }),
  async play(stage, quick): Promise<End> {
    const lost = stage.rng.pick(stage.nodes);
    const others = stage.nodes.filter((node) => node !== lost);
    const known = await knownMemories(stage, quick ? 6 : 16);
    stage.clients.start();
    await stage.progress(30, "before the loss");
    for (let time = 0; time < (quick ? 1 : 2); time++) {
      const { writer } = (await lost.status()).node;
      await stage.during(stage.rng.between(100, 800));
      await lost.kill("SIGKILL");
      stage.formerDisks.push(await readDisk(`${lost.name} before it was lost`, lost.dataDir));
      lost.loseStore();
      stage.disksLost = true;
      stage.tell(`${lost.name} has lost its store`);
      await stage.progress(10, `without ${lost.name}`);
      const before = await lastOf(others, writer);
      await makesNoQuorum(stage, lost, others);
      await answersNothingFromEmptiness(stage, lost, known);
      await countsAgain(stage, lost);
      await stage.progress(20, `with ${lost.name} again`);
      const after = await lastOf(others, writer);
      // What the dead process had sent may still arrive from one to the other; numbers beyond that would be new.
      stage.expect(before === after, `the stream of the lost ${writer} went from ${before} to ${after} after its disk was gone`);
    }
    return {};
  },
};

/** Acknowledged by every replica, long before anything goes wrong. @returns tenant -> id */
async function knownMemories(stage: Stage, count: number): Promise<Map<string, string>> {
  const known = new Map<string, string>();
  for (let number = 0; number < count; number++) {
    const tenant = `known-${number}`;
    const { status, body } = await ask<{ id: string }>(stage.nodes[number % 3]!.url, "POST", "/v1/memories?consistency=all", {
      headers: { "x-tenant-id": tenant },
      body: { entity: "archive", content: "written long ago" },
    });
    stage.expect(status === 200, `a first memory was answered ${status}`);
    known.set(tenant, body.id);
  }
  return known;
}

/** From its start on: found, or not now; never "there is no such memory". */
async function answersNothingFromEmptiness(stage: Stage, lost: FaultyNode, known: ReadonlyMap<string, string>): Promise<void> {
  const until = performance.now() + PROBES_MS;
  let found = 0;
  while (performance.now() < until || found === 0) {
    if (performance.now() > until + PATIENCE_MS) throw new Error(`${lost.name} answers no read at all after it came back empty`);
    for (const [tenant, id] of known) {
      const answer = await ask(lost.url, "GET", `/v1/memories/${id}?consistency=one`, { headers: { "x-tenant-id": tenant } }).catch(() => undefined);
      if (answer?.status === 200) found++;
      else
        stage.expect(
          answer === undefined || answer.status === 503,
          `the empty ${lost.name} answered ${answer?.status} for a memory that all replicas had`,
        );
    }
    await pause(50);
  }
}

async function countsAgain(stage: Stage, lost: FaultyNode): Promise<void> {
  await eventually(`${lost.name} counts again`, PATIENCE_MS, async () => {
    const { role, standing } = (await lost.status()).node;
    return (role === "member" && standing === "counting") || undefined;
  });
  stage.tell(`${lost.name} is listed again and counts`);
}

/** The empty one and one other are no two of three, and no majority that could list it again. Starts it. */
async function makesNoQuorum(stage: Stage, lost: FaultyNode, others: readonly FaultyNode[]): Promise<void> {
  const [with_, without] = stage.rng.shuffle(others) as [FaultyNode, FaultyNode];
  stage.proxy.isolate(without.name);
  lost.start();
  await eventually(`${lost.name} serves`, PATIENCE_MS, () => lost.status());
  stage.tell(`${with_.name} is alone with the empty ${lost.name}`);
  const until = performance.now() + PROBES_MS;
  for (let probe = 0; performance.now() < until; probe++) {
    for (const node of [with_, lost]) {
      const { status, body } = await ask<Problem>(node.url, "POST", "/v1/memories?consistency=quorum", {
        headers: { "x-tenant-id": `two-of-three-${probe % 7}` },
        body: { entity: "probe", content: "is this a quorum?" },
      });
      stage.expect(status === 503, `${node.name} answered ${status} ${body.code ?? ""}: a node that lost its disk was counted`);
    }
  }
  stage.proxy.clear();
}

/** Highest number of any stream of this writer, over all partitions, on any of the nodes. */
async function lastOf(nodes: readonly FaultyNode[], writer: string): Promise<string> {
  const seen = await Promise.all(nodes.map((node) => node.status()));
  const last = new Map<number, number>();
  for (const { partitions } of seen)
    for (const { partition, frontier } of partitions) last.set(partition, Math.max(last.get(partition) ?? 0, frontier[writer] ?? 0));
  return JSON.stringify([...last].filter(([, seq]) => seq > 0).sort(([a], [b]) => a - b));
}
