/** Fault 11: bytes flipped on the wire and on the disk, missing files, garbage and strangers at the door. */
import { closeSync, openSync, readdirSync, readFileSync, readSync, rmSync, statSync, writeSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { eventually } from "../../e2e/federation.ts";
import { readDisk } from "../disks.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { End, Stage } from "../stage.ts";

export const corrupt: Scenario = {
  fault: 11,
  name: "flipped bits, missing files, garbage and strangers",
  says: "Bits are flipped in everything a node sends and receives; garbage, half handshakes and a node with another secret come to its ports; then a byte of its store's log is flipped, a table file is missing, and a byte of another is flipped. Nothing wrong spreads, no process dies of it, a damaged store is refused in a sentence, and on an empty one the node takes back from its peers what it held. (Forged bounds, bombs and replayed frames need the secret: a listed member sends those in e2e/hostile-member.test.ts and the fuzz suite.)",
  stage: () => ({ spare: 1, clients: { clients: 8, pauseMs: 30 } }),
  async play(stage, quick): Promise<End> {
    stage.clients.start();
    await stage.progress(20, "before any fault");
    await flippedBits(stage, quick ? 5_000 : 20_000);
    await garbage(stage, quick ? 60 : 400);
    await wrongSecret(stage);
    await stage.progress(20, "after strangers came");
    const damaged = stage.rng.pick(stage.nodes);
    await damagedLog(stage, damaged);
    return await damagedStore(stage, damaged);
  },
};

async function flippedBits(stage: Stage, ms: number): Promise<void> {
  const node = stage.rng.pick(stage.nodes);
  const before = stage.proxy.counts.flips;
  stage.proxy.around(node.name, { flipEveryBytes: 20_000 });
  stage.tell(`bits are flipped on the way to and from ${node.name}`);
  await stage.during(ms);
  await stage.progress(10, "while bits are flipped");
  stage.proxy.clear();
  const flips = stage.proxy.counts.flips - before;
  stage.tell(`${flips} bits were flipped`);
  stage.expect(flips > 0, "no bit was flipped");
}

/** What port scanners and broken peers send, at all three ports. */
async function garbage(stage: Stage, count: number): Promise<void> {
  stage.tell(`${count} strangers with garbage come to each port`);
  const hello = Buffer.from("\u0013/multistream/1.0.0\n");
  for (const node of stage.nodes) {
    const [federation, gossip] = node.place.ports as [number, number];
    const sent: Promise<void>[] = [];
    for (let number = 0; number < count; number++) {
      const bytes = stage.rng.bytes(stage.rng.int(5_000));
      const what = stage.rng.pick<Uint8Array>([
        bytes,
        Buffer.concat([hello, bytes]),
        Buffer.from("GET /health HTTP/1.1\r\n"),
        Buffer.from(`GET /${"a".repeat(70_000)}`),
        new Uint8Array(0),
      ]);
      sent.push(knock(node, stage.rng.pick([node.port, federation, gossip]), what));
      if (sent.length % 20 === 0) await Promise.all(sent);
    }
    await Promise.all(sent);
  }
}

/** Sends, waits a moment for whatever is answered, hangs up. It comes from an outside address: from another it would count as a way around the proxy. */
function knock({ place }: FaultyNode, port: number, bytes: Uint8Array): Promise<void> {
  return new Promise((done) => {
    const socket = connect({ host: place.host, port, localAddress: place.outside });
    socket.on("error", () => undefined);
    socket.on("data", () => undefined);
    socket.once("close", () => done());
    socket.write(bytes);
    setTimeout(() => socket.destroy(), 100);
  });
}

async function wrongSecret(stage: Stage): Promise<void> {
  const mallory = stage.federation.add("mallory", join(stage.federation.dataDir, "mallory"));
  mallory.env.FEDERATION_SECRET = "not-the-secret-of-this-federation";
  mallory.env.FEDERATION_FIRST_MEMBERS = "mallory,node-1,node-2";
  mallory.start();
  await eventually(
    "mallory is refused",
    PATIENCE_MS,
    async () => readFileSync(mallory.logFile, "utf8").includes("FEDERATION_SECRET is the same on both") || undefined,
  );
  stage.tell("mallory, with another secret, is refused");
  await stage.during(2_000);
  const seen = await mallory.status();
  stage.expect(seen.layout === null && seen.peers.every(({ connected }) => !connected), "mallory is connected, or has a layout");
  for (const node of stage.nodes)
    stage.expect(
      (await node.status()).peers.every(({ name }) => name !== "mallory"),
      `${node.name} knows mallory`,
    );
  await mallory.stop();
}

/** First a file is missing, then, on the empty store that replaces it, nothing is: what a damaged disk is to the others is a lost one. */
async function damagedStore(stage: Stage, node: FaultyNode): Promise<End> {
  const others = stage.nodes.filter((one) => one !== node);
  stage.clients.use(others);
  await node.stop();
  stage.formerDisks.push(await readDisk(`${node.name} before it was damaged`, node.dataDir));
  // Reading the store turned its log into a table, so there is one.
  const copy = node.copyStore("whole");
  const table = readdirSync(node.storeDir).find((name) => /\.(ldb|sst)$/.test(name));
  if (table === undefined) throw new Error(`${node.name} has no table file: ${readdirSync(node.storeDir).join(" ")}`);
  rmSync(join(node.storeDir, table));
  stage.tell(`${table} of ${node.name} is missing`);
  await isRefused(stage, node);
  node.restoreStore(copy);
  flipByte(stage, join(node.storeDir, table));
  stage.tell(`a byte of ${table} of ${node.name} is flipped`);
  await servesNothingWrong(stage, node, others);
  if (node.running) await node.stop();
  node.loseStore();
  stage.disksLost = true;
  node.start();
  stage.tell(`${node.name} starts on an empty store, as it was told to`);
  await eventually(`${node.name} is listed again and counts`, PATIENCE_MS, async () => {
    const { role, standing } = (await node.status()).node;
    return (role === "member" && standing === "counting") || undefined;
  });
  stage.clients.use(stage.nodes);
  await stage.progress(20, `with ${node.name} refilled`);
  return {};
}

/** It says in one sentence what to do, and ends; it does not come up without what it promised to hold. */
async function isRefused(stage: Stage, node: FaultyNode): Promise<void> {
  node.start();
  await node.expectDeath();
  const log = readFileSync(node.logFile, "utf8").split("\n").slice(-6).join("\n");
  stage.expect(/treat it as a lost disk/.test(log), `a store with a missing file was refused with: ${log}`);
}

/** In the middle of it, where every byte had been synced: LevelDB itself would drop what it finds there and go on. */
async function damagedLog(stage: Stage, node: FaultyNode): Promise<void> {
  stage.clients.use(stage.nodes.filter((one) => one !== node));
  const logs = (): string[] =>
    readdirSync(node.storeDir).filter((name) => name.endsWith(".log") && statSync(join(node.storeDir, name)).size > 100_000);
  await eventually(`${node.name} has a log of some size`, PATIENCE_MS, async () => logs().length > 0 || undefined);
  await node.kill("SIGKILL");
  const copy = node.copyStore("before-its-log-was-damaged");
  const [log] = logs();
  if (log === undefined) throw new Error(`${node.name} has no log of some size`);
  flipByte(stage, join(node.storeDir, log));
  stage.tell(`a byte of ${log} of ${node.name} is flipped`);
  await isRefused(stage, node);
  node.restoreStore(copy);
  node.start();
  await stage.federation.ready();
}

function flipByte(stage: Stage, file: string): void {
  const fd = openSync(file, "r+");
  const byte = Buffer.alloc(1);
  // In a data block: the index and the footer are at the end.
  const at = stage.rng.int(Math.max(1, Math.floor(statSync(file).size / 2)));
  readSync(fd, byte, 0, 1, at);
  byte[0]! ^= 1 << stage.rng.int(8);
  writeSync(fd, byte, 0, 1, at);
  closeSync(fd);
}

/**
 * It may refuse to start, or start and end at the flipped byte, or never meet it. Clients ask through it all the while: their history says whether it
 * answered with what is not true, and the disks of the others whether it spread.
 */
async function servesNothingWrong(stage: Stage, node: FaultyNode, others: readonly FaultyNode[]): Promise<void> {
  node.start();
  const ended = node.expectDeath(10_000).then(
    () => true,
    () => false,
  );
  stage.clients.use(stage.nodes);
  stage.tell(
    (await ended)
      ? `${node.name} ended: ${readFileSync(node.logFile, "utf8").split("\n").slice(-4).join(" ").slice(0, 300)}`
      : `${node.name} goes on`,
  );
  stage.clients.use(others);
}
