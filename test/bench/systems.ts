/** The three systems under comparison, each three processes on loopback with fsync on. */
import { type ChildProcess, execFileSync, fork, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { FederationStatus } from "../../node/status.ts";
import { partitionOf } from "../../protocol/layout.ts";
import { ask } from "../e2e/ask.ts";
import { eventually, startFederation } from "../e2e/federation.ts";
import type { FloorSettings } from "./floor.ts";
import type { Payload } from "./payload.ts";
import { memory, READ_TENANT, STORED_MEMORIES, WRITE_TENANT } from "./workloads.ts";

export interface System {
  readonly urls: readonly string[];
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

export interface Continuum extends System {
  /** Places of nodes in `urls`, by what they are to the writing tenant. */
  readonly replicas: readonly number[];
  readonly witnesses: readonly number[];
}

const MEMBERS = 3;
/** On a machine that does other work too. */
const READY_MS_MAX = 180_000;
const STOP_MS_MAX = 5000;
const BATCH = 500;

/** @param env added to every node's own, for a profile */
export async function startContinuum(payload: Payload, env: Readonly<Record<string, string>> = {}): Promise<Continuum> {
  const federation = await startFederation({ nodes: MEMBERS, env, unready: true });
  try {
    await federation.ready(READY_MS_MAX);
    for (let from = 0; from < STORED_MEMORIES; from += BATCH) await store(federation.urls[0]!, READ_TENANT, payload, from, BATCH);
    // The status lists the partitions in use.
    await store(federation.urls[0]!, WRITE_TENANT, payload, STORED_MEMORIES, 1);
    const status = (await ask<FederationStatus>(federation.urls[0]!, "GET", "/v1/federation")).body;
    const group = status.partitions.find(({ partition }) => partition === partitionOf(WRITE_TENANT));
    if (group === undefined) throw new Error("the status names no group for the writing tenant");
    const placesOf = (names: readonly string[]): number[] =>
      federation.nodes.flatMap(({ name }, place) => {
        const id = status.layout?.members.find((member) => member.name === name)?.id;
        return names.includes(name) || (id !== undefined && names.includes(id)) ? [place] : [];
      });
    return {
      urls: federation.urls,
      pids: federation.nodes.map(({ pid }) => pid!),
      replicas: placesOf(group.replicas),
      witnesses: placesOf(group.witnesses),
      stop: () => federation.stop(),
    };
  } catch (error) {
    await federation.stop();
    throw error;
  }
}

async function store(url: string, tenant: string, payload: Payload, from: number, count: number): Promise<void> {
  const memories = Array.from({ length: count }, (_, index) => JSON.parse(memory(from + index, payload)) as object);
  const { status, body } = await ask(url, "POST", "/v1/memories/batch", { body: { memories }, headers: { "x-tenant-id": tenant } });
  if (status !== 200) throw new Error(`storing what is recalled: ${status} ${JSON.stringify(body)}`);
}

export async function startFloor(): Promise<System> {
  const dataDir = mkdtempSync(join(tmpdir(), "continuum-floor-"));
  const ports = await freePorts(2 * MEMBERS);
  const secret = randomBytes(32).toString("base64url");
  const children = Array.from({ length: MEMBERS }, (_, index) => {
    const settings: FloorSettings = {
      httpPort: ports[index]!,
      peerPort: ports[MEMBERS + index]!,
      peerPorts: ports.slice(MEMBERS).filter((_, other) => other !== index),
      dataDir: join(dataDir, String(index)),
      secret,
    };
    return fork(resolve(import.meta.dirname, "floor.ts"), [JSON.stringify(settings)]);
  });
  const stop = stopping(children, dataDir);
  try {
    await Promise.all(children.map((child) => Promise.race([once(child, "message"), ended(child, "a floor process")])));
  } catch (error) {
    await stop();
    throw error;
  }
  return { urls: urlsOf(ports.slice(0, MEMBERS)), pids: children.map(({ pid }) => pid!), stop };
}

/** @throws Error with a sentence: why there is no etcd to compare with */
export async function startEtcd(): Promise<System> {
  const dataDir = mkdtempSync(join(tmpdir(), "continuum-etcd-"));
  let children: ChildProcess[] = [];
  try {
    const program = findEtcd(dataDir);
    const ports = await freePorts(2 * MEMBERS);
    const [clientUrls, peerUrls] = [urlsOf(ports.slice(0, MEMBERS)), urlsOf(ports.slice(MEMBERS))];
    const cluster = peerUrls.map((url, index) => `m${index}=${url}`).join(",");
    children = clientUrls.map((url, index) => {
      const log = openSync(join(dataDir, `m${index}.log`), "a");
      const flags = {
        name: `m${index}`,
        "data-dir": join(dataDir, `m${index}`),
        "listen-client-urls": url,
        "advertise-client-urls": url,
        "listen-peer-urls": peerUrls[index]!,
        "initial-advertise-peer-urls": peerUrls[index]!,
        "initial-cluster": cluster,
        "initial-cluster-state": "new",
        "log-level": "warn",
      };
      const child = spawn(
        program,
        Object.entries(flags).map(([name, value]) => `--${name}=${value}`),
        { stdio: ["ignore", log, log], env: { PATH: process.env.PATH, ETCD_UNSUPPORTED_ARCH: process.arch } },
      );
      closeSync(log);
      return child;
    });
    const isHealthy = async (url: string): Promise<true | undefined> =>
      (await ask<{ health: string }>(url, "GET", "/health")).body.health === "true" ? true : undefined;
    const logs = (): string => readFileSync(join(dataDir, "m0.log"), "utf8").slice(-2000);
    await Promise.all(clientUrls.map((url) => eventually("etcd is healthy", READY_MS_MAX, () => isHealthy(url), logs)));
    return { urls: clientUrls, pids: children.map(({ pid }) => pid!), stop: stopping(children, dataDir) };
  } catch (error) {
    await stopping(children, dataDir)();
    throw error;
  }
}

/**
 * The etcd of this machine, else Debian's, unpacked beside the data and gone with it: nothing is installed, no service starts.
 * @throws Error with a sentence
 */
function findEtcd(folder: string): string {
  const run = (program: string, ...flags: string[]): void => void execFileSync(program, flags, { cwd: folder, stdio: ["ignore", "pipe", "pipe"] });
  try {
    run("etcd", "--version");
    return "etcd";
  } catch {
    // not on the path
  }
  try {
    download(run);
    run("sh", "-c", "dpkg-deb -x etcd-server_*.deb package");
    return join(folder, "package/usr/bin/etcd");
  } catch (error) {
    const { code, stderr } = error as { code?: string; stderr?: Buffer };
    const why = code === "ENOENT" ? "this machine has no apt-get" : (stderr?.toString().trim().split("\n").at(-1) ?? String(error));
    throw new Error(`no etcd on the path, and Debian's etcd-server cannot be had: ${why}`);
  }
}

function download(run: (program: string, ...flags: string[]) => void): void {
  try {
    run("apt-get", "download", "etcd-server");
  } catch (error) {
    if (process.getuid?.() !== 0) throw error;
    run("apt-get", "update");
    run("apt-get", "download", "etcd-server");
  }
}

function stopping(children: readonly ChildProcess[], dataDir: string): () => Promise<void> {
  return async () => {
    await Promise.all(
      children.map(async (child) => {
        if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
        const gone = once(child, "exit");
        child.kill("SIGTERM");
        const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
        await gone;
        clearTimeout(timer);
      }),
    );
    rmSync(dataDir, { recursive: true, force: true });
  };
}

async function ended(child: ChildProcess, what: string): Promise<never> {
  const [code, signal] = (await once(child, "exit")) as [number | null, string | null];
  throw new Error(`${what} ended: ${signal ?? code}`);
}

function urlsOf(ports: readonly number[]): string[] {
  return ports.map((port) => `http://127.0.0.1:${port}`);
}

async function freePorts(count: number): Promise<number[]> {
  const servers = Array.from({ length: count }, () => createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const ports = servers.map((server) => (server.address() as { port: number }).port);
  await Promise.all(servers.map((server) => new Promise((done) => server.close(done))));
  return ports;
}
