/**
 * What a node is told from outside, read once, checked whole, frozen. The only door to the environment.
 * continuum_config.json < .env < environment < flags. All faults are reported at once, each a sentence.
 */
import { existsSync, readFileSync } from "node:fs";
import { hostname } from "node:os";
import { dirname, join } from "node:path";
import { parseEnv } from "node:util";
import type { Level } from "../protocol/ids.ts";
import { NODE_NAME_MAX_CHARS } from "../protocol/limits.ts";
import { PREFIX, RETIRED, SETTINGS, type Setting } from "./config-table.ts";
import { nearestName, parseSetting } from "./config-values.ts";

/** Durations in milliseconds. Lists are frozen. Never log it: `federationSecrets` and `apiKeys` are in it. */
export interface Config {
  readonly host: string;
  readonly apiPort: number;
  readonly federationPort: number;
  readonly gossipPort: number;
  readonly dataDir: string;
  readonly logLevel: "debug" | "info" | "warn" | "error";
  readonly corsOrigins: readonly string[];
  /** Already decided: what REQUIRE_API_KEY says, else whether HOST is wider than loopback. */
  readonly requireApiKey: boolean;
  readonly apiKeys: readonly string[];
  readonly tenant: string;
  readonly nodeName: string;
  readonly federationSecrets: readonly string[];
  readonly federationPeers: readonly string[];
  readonly federationFirstMembers: readonly string[];
  readonly federationAdvertise: readonly string[];
  /** "" when not set. */
  readonly federationZone: string;
  readonly replicationFactor: number;
  readonly consistencyLevel: Level;
  readonly syncIntervalMs: number;
  readonly gossipFanout: number;
  readonly autoJoin: boolean;
  readonly strictStart: boolean;
  readonly logRetentionMs: number;
  readonly timeoutMs: number;
  readonly resonanceDecay: number;
  readonly hebbianRate: number;
  readonly minLinkStrength: number;
  readonly workingMemoryCapacity: number;
  readonly maxConceptsPerMessage: number;
  readonly minConceptLength: number;
  readonly maxConceptLength: number;
}

export interface ConfigSources {
  readonly env: Readonly<Record<string, string | undefined>>;
  readonly files?: {
    /** Text of `.env`. */
    readonly env?: string | undefined;
    /** Text of `continuum_config.json`. */
    readonly json?: string | undefined;
    /** Reads the file a NAME_FILE points to. @throws Error */
    readonly read?: (path: string) => string;
  };
  /** As a command line parser gives them: `apiPort`, `api-port` or `API_PORT`; undefined is "not given". */
  readonly flags?: Readonly<Record<string, unknown>>;
  /** Stands in for NODE_NAME. */
  readonly hostname?: string;
}

export interface ConfigResult {
  /** Absent when there is a fault. */
  readonly config?: Config;
  readonly faults: readonly string[];
  readonly warnings: readonly string[];
}

export function loadConfig(
  options: { readonly directory?: string; readonly env?: ConfigSources["env"]; readonly flags?: ConfigSources["flags"] } = {},
): ConfigResult {
  const directory = options.directory ?? process.cwd();
  const optional = (name: string): string | undefined => {
    const path = join(directory, name);
    return existsSync(path) ? readFileSync(path, "utf8") : undefined;
  };
  return parseConfig({
    env: options.env ?? process.env,
    files: { env: optional(".env"), json: optional("continuum_config.json"), read: (path) => readFileSync(path, "utf8") },
    flags: options.flags ?? {},
    hostname: hostname(),
  });
}

/** Pure, but for `files.read`. */
export function parseConfig(sources: ConfigSources): ConfigResult {
  const findings: Findings = { faults: [], warnings: [] };
  const given = new Map<string, Given>();
  for (const source of collectSources(sources, findings)) {
    for (const [name, found] of readSource(source, sources.files?.read, findings)) given.set(name, found);
  }
  const values: Record<string, unknown> = {};
  for (const setting of SETTINGS) readSetting(setting, given.get(setting.name), values, findings);
  finish(values, given, sources.hostname ?? "", findings);
  const { faults, warnings } = findings;
  if (faults.length > 0) return { faults, warnings };
  return { config: Object.freeze(values) as unknown as Config, faults, warnings };
}

/** 127.0.0.0/8, ::1 and localhost. */
export function isLoopback(host: string): boolean {
  return host === "localhost" || host === "::1" || /^127(?:\.\d{1,3}){3}$/.test(host);
}

interface Findings {
  readonly faults: string[];
  readonly warnings: string[];
}
interface Given {
  readonly label: string;
  readonly text: string;
}
interface Source {
  readonly title: string;
  /** Everything in it is meant for us; otherwise only prefixed names and the bare ones are. */
  readonly ours: boolean;
  /** `written` is how the person wrote the name; `name` is how the environment would write it. */
  readonly entries: readonly (readonly [written: string, text: string, name: string])[];
}

const BY_NAME = new Map(SETTINGS.flatMap((setting) => [setting.name, ...(setting.aliases ?? [])].map((name) => [name, setting] as const)));
/** What Kubernetes puts into a pod for every service beside it: FOO_SERVICE_HOST, FOO_PORT=tcp://10.0.0.1:80, FOO_PORT_80_TCP_ADDR. */
const KUBERNETES_NAME = /_SERVICE_(?:HOST|PORT(?:_[A-Z0-9_]+)?)$|_PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?$/;
const KUBERNETES_VALUE = /^(?:tcp|udp|sctp):\/\//;

function collectSources(sources: ConfigSources, findings: Findings): Source[] {
  const list: Source[] = [];
  if (sources.files?.json !== undefined)
    list.push({ title: "continuum_config.json", ours: true, entries: jsonEntries(sources.files.json, findings) });
  if (sources.files?.env !== undefined) list.push({ title: ".env", ours: false, entries: verbatim(texts(parseEnv(sources.files.env))) });
  list.push({ title: "the environment", ours: false, entries: verbatim(texts(sources.env)) });
  list.push({ title: "the command line", ours: true, entries: respelt(texts(sources.flags ?? {})) });
  return list;
}

function jsonEntries(text: string, findings: Findings): Source["entries"] {
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    findings.faults.push("continuum_config.json is not valid JSON.");
    return [];
  }
  if (typeof content !== "object" || content === null || Array.isArray(content)) {
    findings.faults.push("continuum_config.json must hold one JSON object of names and values.");
    return [];
  }
  const nested = Object.entries(content).filter(([, value]) => typeof value === "object" && value !== null && !Array.isArray(value));
  for (const [name] of nested) findings.faults.push(`${name} in continuum_config.json must be a text, a number, true, false or a list of texts.`);
  return respelt(texts(content as Record<string, unknown>));
}

/** An empty text is "not set", so that `NAME=${NAME:-}` in a compose file is harmless. */
function texts(record: Readonly<Record<string, unknown>>): [string, string][] {
  return Object.entries(record).flatMap(([name, value]): [string, string][] => {
    if (value === undefined || value === null) return [];
    if (typeof value === "object" && !Array.isArray(value)) return [];
    const text = (Array.isArray(value) ? value.join(",") : String(value)).trim();
    return text === "" ? [] : [[name, text]];
  });
}

function verbatim(entries: readonly [string, string][]): Source["entries"] {
  return entries.map(([name, text]) => [name, text, name] as const);
}

function respelt(entries: readonly [string, string][]): Source["entries"] {
  return entries.map(([written, text]) => [written, text, upperSnake(written)] as const);
}

/** apiPort, api-port, api_port -> API_PORT */
function upperSnake(name: string): string {
  return name
    .replace(/([a-z0-9])([A-Z])/g, "$1_$2")
    .replace(/-/g, "_")
    .toUpperCase();
}

/** Keeps the names that are ours, under their first name; a prefixed name beats the bare one of the same source. */
function readSource(source: Source, read: ((path: string) => string) | undefined, findings: Findings): Map<string, Given> {
  const found = new Map<string, Given & { readonly prefixed: boolean }>();
  for (const [written, text, spelt] of source.entries) {
    if (KUBERNETES_VALUE.test(text) || KUBERNETES_NAME.test(spelt)) continue;
    const prefixed = spelt.startsWith(PREFIX);
    const name = prefixed ? spelt.slice(PREFIX.length) : spelt;
    const label = `${written} (${source.title})`;
    const isFile = name.endsWith("_FILE") && BY_NAME.get(name.slice(0, -"_FILE".length))?.secret === true;
    const setting = BY_NAME.get(isFile ? name.slice(0, -"_FILE".length) : name);
    if (setting === undefined || !(prefixed || source.ours || setting.bare === true)) {
      warnUnknown(source, written, name, prefixed, findings);
      continue;
    }
    const value = isFile ? readSecret(label, text, read, findings) : directoryOf(setting, name, text);
    if (value === undefined) continue;
    const before = found.get(setting.name);
    if (before?.prefixed === true && !prefixed) continue;
    if (before !== undefined && before.prefixed === prefixed && before.text !== value) {
      findings.faults.push(`${before.label} and ${label} say different things; keep one of them.`);
      continue;
    }
    found.set(setting.name, { label, text: value, prefixed });
  }
  return found;
}

/** CONTINUUM's DB_PATH named an SQLite file; its folder is ours. */
function directoryOf(setting: Setting, name: string, text: string): string {
  return setting.name === "DATA_DIR" && name === "DB_PATH" && text.endsWith(".db") ? dirname(text) : text;
}

function readSecret(label: string, path: string, read: ((path: string) => string) | undefined, findings: Findings): string | undefined {
  try {
    const text = read?.(path).trim() ?? "";
    if (text !== "") return text.replace(/\s*\n\s*/g, ",");
    findings.faults.push(`${label} names ${path}, which is empty.`);
  } catch {
    findings.faults.push(`${label} names ${path}, which cannot be read.`);
  }
  return undefined;
}

function warnUnknown(source: Source, written: string, name: string, prefixed: boolean, findings: Findings): void {
  const retired = retiredAdvice(name);
  if (retired !== undefined && (prefixed || source.ours || BARE_RETIRED.has(name))) {
    findings.warnings.push(`${written} (${source.title}) is no longer used: ${retired}.`);
  } else if (prefixed || source.ours) {
    findings.warnings.push(
      `${written} (${source.title}) is not known; the nearest name is ${prefixed ? PREFIX : ""}${nearestName(name, [...BY_NAME.keys()])}.`,
    );
  }
}

/** What CONTINUUM read without a prefix. Other programs' ENV, DEBUG and CACHE_SIZE are not our business. */
const BARE_RETIRED = new Set(["DATABASE_URL", "POSTGRES_URL", "REDIS_URL", "JWT_SECRET"]);

function retiredAdvice(name: string): string | undefined {
  if (Object.hasOwn(RETIRED, name)) return RETIRED[name];
  return Object.entries(RETIRED).find(([pattern]) => pattern.endsWith("*") && name.startsWith(pattern.slice(0, -1)))?.[1];
}

function readSetting(setting: Setting, given: Given | undefined, values: Record<string, unknown>, findings: Findings): void {
  if (setting.notYet !== undefined) {
    if (given !== undefined) findings.warnings.push(`${given.label} has no effect yet in this version: ${setting.notYet}.`);
    return;
  }
  const text = given?.text ?? setting.default;
  if (text === "") {
    values[setting.key] = setting.kind === "list" ? Object.freeze([]) : setting.kind === "boolean" ? undefined : "";
    return;
  }
  if (setting.name === "FEDERATION_CONSISTENCY_LEVEL" && text === "eventual") {
    findings.warnings.push(`${given?.label} says eventual, which is called one here: answered by a single replica.`);
    values[setting.key] = "one";
    return;
  }
  const parsed = parseSetting(setting, given?.label ?? setting.name, text);
  if ("fault" in parsed) findings.faults.push(parsed.fault);
  else values[setting.key] = parsed.value;
}

/** What follows from several settings together. Settings with a fault of their own are absent here and are not judged again. */
function finish(values: Record<string, unknown>, given: ReadonlyMap<string, Given>, host: string, findings: Findings): void {
  const { faults, warnings } = findings;
  const config = values as { -readonly [Key in keyof Config]?: Config[Key] };
  if (config.nodeName === "") config.nodeName = nameOfHost(host);
  if (config.host !== undefined) config.requireApiKey ??= !isLoopback(config.host);

  const ports = [config.apiPort, config.federationPort, config.gossipPort].filter((port) => port !== undefined && port !== 0);
  if (new Set(ports).size < ports.length) faults.push("API_PORT, FEDERATION_PORT and GOSSIP_PORT must be three different ports.");

  finishDecay(config, given, faults);
  const { minConceptLength: shortest, maxConceptLength: longest } = config;
  if (shortest !== undefined && longest !== undefined && shortest > longest) {
    faults.push(`MIN_CONCEPT_LENGTH is ${shortest} and MAX_CONCEPT_LENGTH ${longest}: no concept could be both.`);
  }
  finishFederation(config, faults, warnings);
  if (config.requireApiKey === false && config.host !== undefined && !isLoopback(config.host)) {
    warnings.push(`REQUIRE_API_KEY is false and HOST is ${config.host}: everybody who reaches this address can read and change every memory.`);
  }
}

/** Strength is 1 - d^n and one use adds h of what is missing, so h = 1 - d: one of the two settings says it all (DESIGN 6). */
function finishDecay(config: { -readonly [Key in keyof Config]?: Config[Key] }, given: ReadonlyMap<string, Given>, faults: string[]): void {
  if (config.resonanceDecay === undefined || config.hebbianRate === undefined) return;
  const round = (value: number): number => Number((1 - value).toFixed(12));
  if (!given.has("HEBBIAN_RATE")) config.hebbianRate = round(config.resonanceDecay);
  else if (!given.has("RESONANCE_DECAY")) config.resonanceDecay = round(config.hebbianRate);
  else if (Math.abs(config.resonanceDecay + config.hebbianRate - 1) > 1e-9) {
    faults.push(
      `RESONANCE_DECAY ${config.resonanceDecay} and HEBBIAN_RATE ${config.hebbianRate} contradict each other: the rate is always 1 - decay. Give one of them.`,
    );
  }
}

function finishFederation(config: { readonly [Key in keyof Config]?: Config[Key] }, faults: string[], warnings: string[]): void {
  const { federationSecrets: secrets, federationFirstMembers: first, federationPeers: peers, nodeName } = config;
  if (secrets === undefined) return;
  if (secrets.length === 0) {
    if ((first?.length ?? 0) > 0)
      faults.push("FEDERATION_FIRST_MEMBERS needs FEDERATION_SECRET: a federation is formed only by nodes that share a secret.");
    if ((peers?.length ?? 0) > 0) faults.push("FEDERATION_PEERS needs FEDERATION_SECRET: without a secret this node would talk to nobody.");
    return;
  }
  if (first !== undefined && first.length > 0 && nodeName !== undefined && !first.includes(nodeName)) {
    faults.push(`FEDERATION_FIRST_MEMBERS must contain this node's own name, and "${nodeName}" is not in it (set NODE_NAME).`);
  }
  if (first?.length === 0 && peers?.length === 0) {
    warnings.push(
      "FEDERATION_SECRET is set, and neither FEDERATION_FIRST_MEMBERS nor FEDERATION_PEERS: unless this node has a layout already, it waits until another dials it.",
    );
  }
}

/** The first label of the host name, where it can be a node name; a pod's host name is its own name. */
function nameOfHost(host: string): string {
  const label = (host.split(".")[0] ?? "").replace(/[^A-Za-z0-9_-]/g, "-").replace(/^[^A-Za-z0-9]+/, "");
  return label.slice(0, NODE_NAME_MAX_CHARS) || "node";
}
