/**
 * A real federation for tests and benches: `continuum serve` processes on free ports of loopback, each with a folder of its own. They end with
 * the process that started them, however it ends (they watch its channel).
 */
import { type ChildProcess, spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { NODE_FLAGS } from "../../node/cli/node-flags.ts";
import type { FederationStatus } from "../../node/status.ts";
import { ask } from "./ask.ts";

export interface FederationOptions {
  /** Default 3. */
  readonly nodes?: number;
  /** For every node; what the machine's own environment says is not passed on. */
  readonly env?: Readonly<Record<string, string>>;
  /** Kept afterwards. Default: a temporary folder, removed by `stop`. */
  readonly dataDir?: string;
  /** false: the folder lies on a memory file system (Linux), where an fsync costs nothing. Default true. */
  readonly fsync?: boolean;
  /** Start the processes only, and wait for nothing. */
  readonly unready?: boolean;
}

export interface Federation {
  readonly urls: readonly string[];
  readonly nodes: readonly FederationNode[];
  readonly secret: string;
  readonly dataDir: string;
  /** Until layout 1 is formed and every running node is ready. @throws Error with the logs after `ms` */
  ready(ms?: number): Promise<void>;
  /** One more process in the same folder, ended by `stop` too; `env` is all it is told besides its name, ports and folder. */
  add(name: string, env: Readonly<Record<string, string>>): Promise<FederationNode>;
  /** The last lines of every node's log, for a failed test. */
  logs(): string;
  stop(): Promise<void>;
}

export interface FederationNode {
  readonly name: string;
  readonly url: string;
  /** Of the memory API; federation and gossip are `federationPort` and the one above it. */
  readonly port: number;
  readonly federationPort: number;
  readonly dataDir: string;
  readonly logFile: string;
  readonly pid: number | undefined;
  /** Resolves once the process is gone. */
  kill(signal: NodeJS.Signals): Promise<void>;
  /** Starts the process again on its folder; wait with `federation.ready()`. */
  start(): void;
  /** SIGTERM. @returns the exit code */
  stop(): Promise<number | null>;
}

const MAIN = resolve(import.meta.dirname, "../../node/main.ts");
const READY_MS_MAX = 30_000;
const STOP_MS_MAX = 12_000;
/** Whoever waits looks often at first, and less and less: a look at everything costs the processes that it waits for. */
const LOOK_MIN_MS = 50;
const LOOK_MAX_MS = 400;

export async function startFederation(options: FederationOptions = {}): Promise<Federation> {
  const count = options.nodes ?? 3;
  const dataDir = options.dataDir ?? mkdtempSync(join(options.fsync === false ? "/dev/shm" : tmpdir(), "continuum-e2e-"));
  const secret = randomBytes(32).toString("base64url");
  const ports = await freePorts(count);
  const names = ports.map((_, index) => `node-${index + 1}`);
  const federationEnv = (own: number): Record<string, string> =>
    count === 1
      ? {}
      : {
          FEDERATION_SECRET: secret,
          FEDERATION_FIRST_MEMBERS: names.join(","),
          FEDERATION_PEERS: ports
            .filter((_, other) => other !== own)
            .map((port) => `127.0.0.1:${port + 1}`)
            .join(","),
        };
  const nodes = ports.map((port, index) => {
    const name = names[index]!;
    return new NodeProcess({ name, port, dataDir: join(dataDir, name), env: { ...federationEnv(index), ...options.env } });
  });
  for (const node of nodes) node.start();
  const added: NodeProcess[] = [];
  const federation: Federation = {
    nodes,
    urls: nodes.map(({ url }) => url),
    secret,
    dataDir,
    ready: (ms = READY_MS_MAX) => waitReady(nodes, ms, options.env?.API_KEYS),
    add: async (name, env) => {
      const node = new NodeProcess({ name, port: (await freePorts(1))[0]!, dataDir: join(dataDir, name), env });
      added.push(node);
      node.start();
      return node;
    },
    logs: () => [...nodes, ...added].map((node) => node.logTail()).join("\n"),
    stop: async () => {
      await Promise.all([...nodes, ...added].map((node) => node.stop()));
      if (options.dataDir === undefined) rmSync(dataDir, { recursive: true, force: true });
    },
  };
  try {
    if (options.unready !== true) await federation.ready();
  } catch (error) {
    await federation.stop();
    throw error;
  }
  return federation;
}

/** Retries until `check` returns something else than undefined. @throws Error `what` with what `check` last threw or `why` said */
export async function eventually<T>(what: string, ms: number, check: () => Promise<T | undefined>, why: () => string = () => ""): Promise<T> {
  const deadline = performance.now() + ms;
  let last: unknown;
  for (let wait = LOOK_MIN_MS; performance.now() < deadline; wait = Math.min(LOOK_MAX_MS, wait * 1.2)) {
    try {
      const found = await check();
      if (found !== undefined) return found;
    } catch (error) {
      last = error;
    }
    await pause(wait);
  }
  throw new Error(`not within ${ms} ms: ${what}${last === undefined ? "" : ` (${last})`}\n${why()}`);
}

export function pause(ms: number): Promise<void> {
  return new Promise((done) => setTimeout(done, ms));
}

export interface NodeProcessOptions {
  readonly name: string;
  /** Address to listen on. Default: 127.0.0.1. */
  readonly host?: string;
  /** Of the memory API; the two above it are federation and gossip. */
  readonly port: number;
  readonly dataDir: string;
  readonly env: Readonly<Record<string, string>>;
  /** For Node itself, before the program. */
  readonly flags?: readonly string[];
}

export class NodeProcess implements FederationNode {
  readonly name: string;
  readonly port: number;
  readonly federationPort: number;
  readonly url: string;
  readonly dataDir: string;
  readonly logFile: string;
  /** What it is told at its next start, besides its name, ports and folder. */
  readonly env: Record<string, string>;
  readonly #flags: readonly string[];
  #child: ChildProcess | undefined;
  #gone: Promise<number | null> = Promise.resolve(null);

  constructor({ name, host, port, dataDir, env, flags }: NodeProcessOptions) {
    this.name = name;
    this.port = port;
    this.federationPort = port + 1;
    this.url = `http://${host ?? "127.0.0.1"}:${port}`;
    this.dataDir = dataDir;
    this.logFile = `${dataDir}.log`;
    this.env = { ...(host === undefined ? {} : { CONTINUUM_HOST: host }), ...env };
    this.#flags = flags ?? [];
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  start(): void {
    if (this.#child !== undefined) throw new Error(`${this.name} is running`);
    mkdirSync(this.dataDir, { recursive: true });
    const log = openSync(this.logFile, "a");
    const own = { NODE_NAME: this.name, CONTINUUM_API_PORT: String(this.port), CONTINUUM_FEDERATION_PORT: String(this.port + 1) };
    const child = spawn(process.execPath, [...NODE_FLAGS, ...this.#flags, MAIN, "serve"], {
      // Not the clone: a person's own .env there is not the test's.
      cwd: this.dataDir,
      env: { PATH: process.env.PATH, ...own, CONTINUUM_GOSSIP_PORT: String(this.port + 2), CONTINUUM_DATA_DIR: this.dataDir, ...this.env },
      stdio: ["ignore", log, log, "ipc"],
    });
    closeSync(log);
    this.#child = child;
    this.#gone = new Promise((done) => {
      child.once("exit", (code, signal) => {
        if (this.#child === child) this.#child = undefined;
        this.ended(String(signal ?? code));
        done(code);
      });
    });
  }

  /** @param how the signal or the exit code */
  protected ended(how: string): void {
    writeFileSync(this.logFile, `--- ${this.name} ended: ${how}\n`, { flag: "a" });
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    this.#child?.kill(signal);
    await this.#gone;
  }

  async stop(): Promise<number | null> {
    const child = this.#child;
    if (child === undefined) return null;
    child.kill("SIGTERM");
    child.kill("SIGCONT");
    const timer = setTimeout(() => child.kill("SIGKILL"), STOP_MS_MAX);
    const code = await this.#gone;
    clearTimeout(timer);
    return code;
  }

  logTail(): string {
    const lines = readFileSync(this.logFile, "utf8").trimEnd().split("\n");
    return `===== ${this.name} (${this.logFile})\n${lines.slice(-25).join("\n")}`;
  }
}

export async function waitReady(nodes: readonly NodeProcess[], ms: number, adminKey?: string): Promise<void> {
  const headers: Record<string, string> = adminKey === undefined ? {} : { "x-api-key": adminKey };
  const running = nodes.filter(({ pid }) => pid !== undefined);
  await Promise.all(
    running.map((node) =>
      eventually(
        `${node.name} is ready`,
        ms,
        async () => {
          if (node.pid === undefined) throw new Error(`${node.name} has ended`);
          if ((await ask(node.url, "GET", "/v1/ready")).status !== 200) return undefined;
          const { node: self, layout } = (await ask<FederationStatus>(node.url, "GET", "/v1/federation", { headers })).body;
          return self.role === "single" || layout !== null ? true : undefined;
        },
        () => node.logTail(),
      ),
    ),
  );
}

/** Three ports in a row for each node, below the range from which the system gives ports to clients. */
async function freePorts(count: number): Promise<number[]> {
  for (;;) {
    const first = 20_000 + Math.floor(Math.random() * 1000) * 10;
    const candidates = Array.from({ length: count }, (_, index) => first + index * 10);
    const free = await Promise.all(candidates.flatMap((port) => [port, port + 1, port + 2]).map(isFree));
    if (free.every(Boolean)) return candidates;
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((done) => {
    const server = createServer();
    server.once("error", () => done(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => done(true)));
  });
}
