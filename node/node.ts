/** One running node: the one file that knows all parts. Opens from the disk upwards, closes in the opposite order. */
import { readdir, stat } from "node:fs/promises";
import { join, resolve } from "node:path";
import { CryptoError } from "../crypto/errors.ts";
import { createKeyring, type Keyring } from "../crypto/keyring.ts";
import type { NodeId } from "../protocol/ids.ts";
import { decodeLayout, type Member, votersOf } from "../protocol/layout.ts";
import { acceptsArguments } from "./arguments.ts";
import type { Config } from "./config.ts";
import { Engine } from "./engine.ts";
import { FederationView } from "./federation-status.ts";
import { ensureAdminKey } from "./first-key.ts";
import { isOfFederation, singleId } from "./from-single.ts";
import { createHttp, type HttpServer } from "./http/server.ts";
import { loadNodeKey } from "./identity-file.ts";
import { Joining } from "./joining.ts";
import { keyOperations } from "./keys.ts";
import { LayoutAdmin } from "./layout-admin.ts";
import { layoutOperations } from "./layout-queue.ts";
import { createLog } from "./log.ts";
import { MemoryIndex } from "./memory/memory-index.ts";
import { createOperations } from "./memory/operations.ts";
import { createMetrics } from "./metrics.ts";
import { NetError } from "./net/errors.ts";
import { createNet, type Net } from "./net/net.ts";
import type { Log, Meter } from "./ports.ts";
import { Revocations, revocationOperations } from "./revocations.ts";
import { createRouter } from "./router.ts";
import { scrubbedPartitions, scrubOf } from "./scrub.ts";
import { SecretAdmin } from "./secret-admin.ts";
import { StartError } from "./start-error.ts";
import type { FederationStatus } from "./status.ts";
import { makeFolder } from "./store/folder.ts";
import { openLevel } from "./store/level.ts";
import { Store } from "./store/store.ts";
import { StoreError } from "./store/store-error.ts";
import { freeDiskBytes, system } from "./system.ts";
import { VERSION } from "./version.ts";

export { StartError } from "./start-error.ts";

export interface RunningNode {
  readonly url: string;
  /** Multiaddrs of the federation port; none on a single node. */
  readonly federationAddresses: readonly string[];
  status(): Promise<FederationStatus>;
  stop(): Promise<void>;
  /** Resolves when the node must be opened again, on the same folder, as another incarnation; with the reason. */
  readonly mustOpenAgain: Promise<string>;
}

/** Free disk below this is reported as degraded, bytes: compaction needs room. */
const DISK_LOW_BYTES = 256 * 1024 * 1024;
const PERIOD_MS = 30 * 24 * 3600 * 1000;
const OBSERVE_MS = 500;
/** A node that has just started has better things to do than to read its disk again, ms. */
const SCRUB_AFTER_MS = 3600 * 1000;
/** All partitions of a node in half an hour at the most: what is deleted is let go of within that, and an idle node hardly works. */
const COLLECT_PACE_MS = 5_000;

/** @throws StartError */
export async function startNode(config: Config): Promise<RunningNode> {
  const log = createLog({ level: config.logLevel });
  const closing: (() => Promise<void>)[] = [];
  try {
    return await open(config, log, closing);
  } catch (error) {
    for (const close of closing.reverse()) await close().catch(() => undefined);
    throw asStartError(error);
  }
}

async function open(config: Config, log: Log, closing: (() => Promise<void>)[]): Promise<RunningNode> {
  const ended = Promise.withResolvers<string>();
  await makeDataFolder(config.dataDir);
  const storeFolder = join(config.dataDir, "store");
  const db = await openLevel(storeFolder);
  closing.push(() => db.close());
  const nodeKey = await loadNodeKey(config.dataDir, system.randomBytes);
  const index = new MemoryIndex();
  const store = await Store.open(db, index, system.randomBytes);
  const metrics = createMetrics(async () => ({
    federation: await view.status({ fingerprints: false }),
    records: view.firstReplicaRecords(),
    sealedUnder: store.staged.sealedUnder,
    databaseBytes: await folderBytes(storeFolder),
  }));
  const keyring = config.federationSecrets.length > 0 ? createKeyring(config.federationSecrets) : undefined;
  if (keyring === undefined) await refuseOfFederation(store, config.dataDir);
  const net =
    keyring === undefined
      ? undefined
      : await openNet(
          config,
          keyring,
          nodeKey,
          store,
          log,
          metrics,
          () => engine,
          () => view,
          (id) => revocations.isRevoked(id),
        );
  const node = net?.self ?? singleId(nodeKey);
  const engine = new Engine({
    store,
    federation: net === undefined || keyring === undefined ? undefined : { network: net, keyring },
    node,
    index,
    system,
    meter: metrics,
    log,
    settings: {
      name: config.nodeName,
      zone: config.federationZone,
      weight: 1,
      firstMembers: config.federationFirstMembers,
      layout: {
        replicationFactor: config.replicationFactor,
        resonanceDecay: config.resonanceDecay,
        hebbianRate: config.hebbianRate,
        periodMs: PERIOD_MS,
      },
      consistency: config.consistencyLevel,
      syncIntervalMs: config.syncIntervalMs,
      strictStart: config.strictStart,
      logRetentionMs: config.logRetentionMs,
      collectPaceMs: COLLECT_PACE_MS,
    },
    onFatal: (error) => die(log, error),
    onCopy: (reason) => ended.resolve(reason),
  });
  const view = new FederationView(engine, net, { id: node, version: VERSION, asksToJoin: () => joining.asks });
  const operations = {
    ...createOperations(index, memorySettings(config), system.monotonic),
    ...keyOperations,
    ...layoutOperations,
    ...revocationOperations,
  };
  const latencyMs = (peer: NodeId): number | undefined => net?.latencyMs(peer);
  const router = createRouter({ engine, operations, index, meter: metrics, self: node, keyring, accepts: acceptsArguments, latencyMs });
  const revocations = new Revocations({
    engine,
    router: () => router,
    connected: () => net?.connected() ?? [],
    disconnect: (id) => net?.disconnect(id),
  });
  await engine.start();
  closing.push(() => engine.stop());
  await revocations.load();
  revocations.start();
  closing.push(async () => revocations.stop());
  if (net !== undefined) {
    await net.start();
    closing.push(() => net.stop());
  }
  const joining = new Joining({
    engine,
    router,
    member: () => ({ node, name: config.nodeName, incarnation: store.incarnation, zone: config.federationZone, weight: 1 }),
    autoJoin: config.autoJoin,
    inStatefulSet: config.inStatefulSet,
    log,
  });
  joining.start();
  closing.push(async () => joining.stop());
  const stopObserving = every(OBSERVE_MS, () => {
    view.observe();
    net?.want(
      votersNow(engine)
        .map((member) => member.node)
        .filter((id) => id !== node && !revocations.isRevoked(id)),
    );
  });
  closing.push(async () => stopObserving());
  const scrub = scrubOf(engine, metrics, (error) => die(log, error));
  scrub.start(SCRUB_AFTER_MS);
  closing.push(() => scrub.stop());
  const layout = new LayoutAdmin({ engine, router, dial: net === undefined ? undefined : (address) => net.dial(address) });
  const secrets = new SecretAdmin({ engine, self: node, router, layout, revocations, secretIds: (peer) => net?.secretIds(peer) });
  await secrets.load();
  const http = await createHttp({
    config,
    log,
    router,
    metrics,
    system,
    version: VERSION,
    status: (ask) => view.status(ask),
    layout,
    secrets,
    repair: () => {
      scrub.now();
      return { partitions: scrubbedPartitions(engine).length, peers: engine.compareNow() };
    },
    readiness: () => view.readiness(),
    checks: async () => ({
      database: (await store.answers()) ? "ok" : "failed",
      disk_space: (await freeDiskBytes(config.dataDir)) < DISK_LOW_BYTES ? "degraded" : "ok",
    }),
  });
  closing.push(() => http.close());
  const url = await listen(http, config);
  const cancelFirstKey = ensureAdminKey({ config, router, system, log, print: (text) => process.stdout.write(`${text}\n`) });
  closing.push(async () => cancelFirstKey());
  return {
    url,
    federationAddresses: net?.listenAddresses() ?? [],
    status: () => view.status({ fingerprints: false }),
    mustOpenAgain: ended.promise,
    stop: async () => {
      for (const close of closing.reverse())
        await close().catch((error: Error) => log.warn({ error: error.message }, "a part did not close cleanly"));
    },
  };
}

/** @throws StartError NO_SECRET */
async function refuseOfFederation(store: Store, dataDir: string): Promise<void> {
  const stored = await store.meta("layout");
  const layout = stored === undefined ? undefined : decodeLayout(stored);
  if (!isOfFederation(layout, (await store.meta("formation")) !== undefined)) return;
  const others =
    layout === undefined
      ? ""
      : ` (layout ${layout.version}: ${votersOf(layout)
          .map(({ name }) => name)
          .join(", ")})`;
  throw new StartError(
    "NO_SECRET",
    `the data folder ${dataDir} belongs to a federation${others}, and there is no FEDERATION_SECRET: set it, or FEDERATION_SECRET_FILE, to what the other nodes have. For a node of its own, name an empty folder`,
  );
}

function votersNow(engine: Engine): readonly Member[] {
  return engine.layout === undefined ? [] : votersOf(engine.layout);
}

function openNet(
  config: Config,
  keyring: Keyring,
  nodeKey: Uint8Array,
  store: Store,
  log: Log,
  meter: Meter,
  engine: () => Engine,
  view: () => FederationView,
  isRevoked: (id: NodeId) => boolean,
): Promise<Net> {
  return store.meta("peers").then((saved) =>
    createNet({
      nodeKey,
      keyring,
      host: config.host,
      federationPort: config.federationPort,
      gossipPort: config.gossipPort,
      advertise: config.federationAdvertise,
      peers: config.federationPeers,
      log,
      meter,
      system,
      health: (path) => {
        const readiness = view().readiness();
        return path === "/health" ? { status: 200, body: { status: "healthy" } } : { status: readiness.ready ? 200 : 503, body: readiness };
      },
      loadAddresses: () => (saved === undefined ? {} : (JSON.parse(new TextDecoder().decode(saved)) as Record<string, string[]>)),
      saveAddresses: (book) => void store.putMeta("peers", new TextEncoder().encode(JSON.stringify(book))).catch(() => undefined),
      isMember: (id) => votersNow(engine()).some((member) => member.node === id),
      isRevoked,
      fanout: config.gossipFanout,
    }),
  );
}

async function listen(http: HttpServer, config: Config): Promise<string> {
  try {
    return await http.listen({ host: config.host, port: config.apiPort });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EADDRINUSE")
      throw new StartError("PORT_IN_USE", `port ${config.apiPort} on ${config.host} is in use; stop what listens there or set API_PORT`, error);
    throw error;
  }
}

async function makeDataFolder(directory: string): Promise<void> {
  try {
    await makeFolder(resolve(directory));
  } catch (error) {
    throw new StartError("DATA_UNWRITABLE", `cannot create the data folder ${directory}: ${(error as Error).message}`, error);
  }
}

async function folderBytes(directory: string): Promise<number> {
  const sizes = await Promise.all(
    (await readdir(directory)).map((name) =>
      stat(join(directory, name)).then(
        (found) => found.size,
        () => 0,
      ),
    ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

function memorySettings(config: Config): Parameters<typeof createOperations>[1] {
  return {
    maxConcepts: config.maxConceptsPerMessage,
    minLength: config.minConceptLength,
    maxLength: config.maxConceptLength,
    capacity: config.workingMemoryCapacity,
    minStrength: config.minLinkStrength,
  };
}

function every(ms: number, run: () => void): () => void {
  let cancel: () => void = () => undefined;
  const again = (): void => {
    run();
    cancel = system.after(ms, again);
  };
  again();
  return () => cancel();
}

/** Going on could acknowledge what is not kept: end at once, as in a power cut. The peers hold the data. */
function die(log: Log, error: Error): void {
  log.error({ error: error.message, code: (error as { code?: string }).code ?? "unknown" }, "the node cannot go on safely and ends");
  setImmediate(() => process.exit(1));
}

function asStartError(error: unknown): StartError {
  if (error instanceof StartError) return error;
  const message = (error as Error).message;
  if (error instanceof StoreError) {
    const codes = {
      LOCKED: "DATA_LOCKED",
      UNWRITABLE: "DATA_UNWRITABLE",
      NEWER_FORMAT: "DATA_NEWER",
      CORRUPT: "DATA_CORRUPT",
      FAILED: "DATA_UNWRITABLE",
    } as const;
    return new StartError(codes[error.code], message, error);
  }
  if (error instanceof NetError) return new StartError(error.code === "PORT_IN_USE" ? "PORT_IN_USE" : "FAILED", message, error);
  if (error instanceof CryptoError) return new StartError("BAD_SECRET", message, error);
  return new StartError("FAILED", message, error);
}
