/** One node of `continuum federation`: its ports, its process, its log, and what it last said of itself. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, existsSync, mkdirSync, openSync, readSync, renameSync, statSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { FederationStatus, Readiness } from "../status.ts";
import { callApi } from "./client.ts";
import { CliError } from "./exit.ts";
import { NODE_FLAGS } from "./node-flags.ts";

export interface NodePlan {
  readonly name: string;
  readonly apiPort: number;
  readonly federationPort: number;
  readonly gossipPort: number;
  readonly dataDir: string;
  /** Came after the federation was formed: asks to be a member. */
  readonly joins: boolean;
  /** Of `continuum serve`. */
  readonly flags: readonly string[];
}
export type NodeState =
  | { readonly kind: "starting" }
  | { readonly kind: "up"; readonly ready: boolean; readonly reasons: readonly string[]; readonly status: FederationStatus | undefined }
  | { readonly kind: "down"; readonly since: number; readonly why: string };

const MAIN = fileURLToPath(new URL("../main.ts", import.meta.url));
const LOG_KEPT_BYTES = 16 * 1024 * 1024;
const POLL_TIMEOUT_MS = 2000;

export class FederationNode {
  readonly plan: NodePlan;
  readonly url: string;
  readonly logFile: string;
  state: NodeState = { kind: "starting" };
  /** Answered at least once: from then on its end is a fault to survive, before that it is a failed start. */
  wasUp = false;
  #child: ChildProcess | undefined;
  #logOffset = 0;

  constructor(plan: NodePlan) {
    this.plan = plan;
    this.url = `http://127.0.0.1:${plan.apiPort}`;
    this.logFile = join(plan.dataDir, "node.log");
  }

  get pid(): number | undefined {
    return this.#child?.pid;
  }

  start(): void {
    mkdirSync(this.plan.dataDir, { recursive: true, mode: 0o700 });
    if (existsSync(this.logFile) && statSync(this.logFile).size > LOG_KEPT_BYTES) renameSync(this.logFile, `${this.logFile}.1`);
    const log = openSync(this.logFile, "a");
    this.#logOffset = statSync(this.logFile).size;
    // The channel tells the node when we are gone, even by SIGKILL.
    const child = spawn(process.execPath, [...NODE_FLAGS, ...process.execArgv, MAIN, "serve", ...this.plan.flags], {
      stdio: ["ignore", log, log, "ipc"],
    });
    closeSync(log);
    this.#child = child;
    this.state = { kind: "starting" };
    child.on("exit", (code, signal) => this.#ended(child, signal ?? `exit code ${code}`));
    child.on("error", (error) => this.#ended(child, error.message));
  }

  #ended(child: ChildProcess, why: string): void {
    if (this.#child !== child) return;
    this.#child = undefined;
    this.state = { kind: "down", since: Date.now(), why };
  }

  /** Asks the node how it is. Never throws. @param apiKey an admin's, where keys are on */
  async poll(apiKey: string | undefined): Promise<void> {
    const child = this.#child;
    if (child === undefined) return;
    const client = { url: this.url, ...(apiKey === undefined ? {} : { apiKey }) };
    const readiness = await readyOf(this.url);
    if (readiness === undefined || child !== this.#child) return;
    const status = await callApi<FederationStatus>(client, { path: "/v1/federation", timeoutMs: POLL_TIMEOUT_MS }).catch((error: unknown) =>
      error instanceof CliError ? undefined : Promise.reject(error),
    );
    if (child !== this.#child) return;
    this.wasUp = true;
    this.state = { kind: "up", ready: readiness.ready, reasons: readiness.reasons, status: status?.body };
  }

  signal(name: NodeJS.Signals): void {
    this.#child?.kill(name);
  }

  /** @returns error lines, and lines that are not JSON (a crash), written since the last call */
  newErrors(): string[] {
    const size = existsSync(this.logFile) ? statSync(this.logFile).size : 0;
    if (size <= this.#logOffset) return [];
    const buffer = Buffer.alloc(Math.min(size - this.#logOffset, 1024 * 1024));
    const file = openSync(this.logFile, "r");
    const read = readSync(file, buffer, 0, buffer.length, this.#logOffset);
    closeSync(file);
    const whole = buffer.subarray(0, read).lastIndexOf(10) + 1;
    this.#logOffset += whole === 0 && read === buffer.length ? read : whole;
    return buffer.subarray(0, whole).toString().split("\n").flatMap(errorOf);
  }
}

async function readyOf(url: string): Promise<Readiness | undefined> {
  try {
    const response = await fetch(`${url}/v1/ready`, { signal: AbortSignal.timeout(POLL_TIMEOUT_MS) });
    const body = (await response.json()) as Partial<Readiness>;
    return { ready: response.ok, reasons: body.reasons ?? [], quorum: body.quorum ?? false, redundancy: body.redundancy ?? "short" };
  } catch {
    return undefined;
  }
}

function errorOf(line: string): string[] {
  if (line.trim() === "") return [];
  try {
    const { level, message, error } = JSON.parse(line);
    return level === "error" || level === "fatal" ? [error === undefined ? String(message) : `${message}: ${error}`] : [];
  } catch {
    return [line];
  }
}
