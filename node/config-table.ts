/** Every name a node can be configured with, on one page. config.ts reads it, `configTableMarkdown` renders the README's table from it. */
import { TENANT_PATTERN } from "../protocol/ids.ts";
import {
  ADDRESS_MAX_CHARS,
  CARD_ADDRESSES_MAX,
  FEDERATION_MEMBERS_MAX,
  NODE_NAME_MAX_CHARS,
  TENANT_MAX_CHARS,
  ZONE_MAX_CHARS,
} from "../protocol/limits.ts";

export type SettingKind = "integer" | "number" | "duration" | "boolean" | "text" | "choice" | "list";

export interface Setting {
  /** As in the environment, without the prefix. */
  readonly name: string;
  /** Field of Config, in camelCase. */
  readonly key: string;
  readonly kind: SettingKind;
  /** As a person would write it; "" is "not set". */
  readonly default: string;
  /** Of an integer or number as it is, of a duration in milliseconds. Inclusive. */
  readonly min?: number;
  readonly max?: number;
  /** Of a text, or of each item of a list, in characters. */
  readonly charsMin?: number;
  readonly charsMax?: number;
  readonly itemsMax?: number;
  readonly choices?: readonly string[];
  readonly pattern?: RegExp;
  /** In words, what `pattern` accepts. */
  readonly shape?: string;
  readonly secret?: true;
  /** Also read from the environment without CONTINUUM_. */
  readonly bare?: true;
  readonly aliases?: readonly string[];
  /** Known and checked for spelling, but this version does nothing with it: a sentence about what that means. */
  readonly notYet?: string;
  readonly description: string;
}

export const PREFIX = "CONTINUUM_";
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]*$/;
const NAME_SHAPE = "letters, digits, '.', '_' and '-', beginning with a letter or digit";
const TENANT = new RegExp(TENANT_PATTERN);
/** As node/net/addresses.ts reads it, so that a mistake is found with all the others. */
const ADDRESS =
  /^(?:\/(?:ip4|ip6|dns|dns4|dns6)\/[A-Za-z0-9.:_-]+\/tcp\/\d{1,5}(?:(?:\/ws|\/tls\/ws|\/wss)(?:\/http-path\/[A-Za-z0-9_~-](?:[A-Za-z0-9._~-]|%2[Ff](?=[A-Za-z0-9_~-]))*)?)?(?:\/p2p\/[1-9A-HJ-NP-Za-km-z]+)?|\[[0-9a-fA-F:.]+\](?::\d{1,5})?|[A-Za-z0-9](?:[A-Za-z0-9._-]*)(?::\d{1,5})?)$/;
const ADDRESS_SHAPE = "host:port, a DNS name, or a multiaddr such as /dns4/host/tcp/8421 or, through an ingress, /dns4/host/tcp/443/tls/ws";
/** With `/dns/`, `/tcp/` and a port around it, it still is what a peer takes (ADDRESS_MAX_CHARS). */
const ADVERTISED_MAX_CHARS = ADDRESS_MAX_CHARS - 16;

export const SETTINGS: readonly Setting[] = [
  {
    name: "HOST",
    key: "host",
    kind: "text",
    default: "127.0.0.1",
    charsMax: 253,
    description: "Address to listen on, all three ports. Wider than loopback turns API keys on.",
  },
  {
    name: "API_PORT",
    key: "apiPort",
    kind: "integer",
    default: "8420",
    min: 0,
    max: 65535,
    aliases: ["PORT"],
    description: "Memory API. 0 takes any free port.",
  },
  {
    name: "FEDERATION_PORT",
    key: "federationPort",
    kind: "integer",
    default: "8421",
    min: 0,
    max: 65535,
    bare: true,
    description: "Federation protocol and plain /health, /ready.",
  },
  { name: "GOSSIP_PORT", key: "gossipPort", kind: "integer", default: "8422", min: 0, max: 65535, description: "Gossip between nodes." },
  {
    name: "DATA_DIR",
    key: "dataDir",
    kind: "text",
    default: "./data",
    charsMax: 4096,
    aliases: ["DB_PATH"],
    description: "Folder of this node's store and identity.",
  },
  {
    name: "LOG_LEVEL",
    key: "logLevel",
    kind: "choice",
    default: "info",
    choices: ["debug", "info", "warn", "error"],
    bare: true,
    description: "Least severity that is logged.",
  },
  {
    name: "CORS_ORIGINS",
    key: "corsOrigins",
    kind: "list",
    default: "",
    charsMax: 2048,
    itemsMax: 64,
    pattern: /^(?:\*|https?:\/\/[^\s/]+)$/,
    shape: "http(s)://host[:port] without a path, or *",
    bare: true,
    description: "Web origins that may call the API from a browser. None unless named.",
  },
  { name: "REQUIRE_API_KEY", key: "requireApiKey", kind: "boolean", default: "", description: "Unset: false on loopback, true on a wider HOST." },
  {
    name: "API_KEYS",
    key: "apiKeys",
    kind: "list",
    default: "",
    charsMin: 16,
    charsMax: 256,
    itemsMax: 64,
    secret: true,
    bare: true,
    aliases: ["API_KEY"],
    description: "Admin keys given by configuration. Without any, a wide node's first start creates one and prints it once.",
  },
  {
    name: "TENANT",
    key: "tenant",
    kind: "text",
    default: "default",
    charsMax: TENANT_MAX_CHARS,
    pattern: TENANT,
    shape: "letters, digits and . _ : @ -",
    aliases: ["TENANT_ID"],
    description: "Tenant of callers without a key, and of admin keys that name none.",
  },
  {
    name: "NODE_NAME",
    key: "nodeName",
    kind: "text",
    default: "",
    charsMax: NODE_NAME_MAX_CHARS,
    pattern: NAME,
    shape: NAME_SHAPE,
    bare: true,
    description: "This node's name in the federation; a pod's name. Unset: the host name.",
  },
  {
    name: "FEDERATION_SECRET",
    key: "federationSecrets",
    kind: "list",
    default: "",
    charsMin: 16,
    charsMax: 1024,
    itemsMax: 4,
    secret: true,
    bare: true,
    description: "What all nodes share: the first seals, all open. Without one the node is single.",
  },
  {
    name: "FEDERATION_PEERS",
    key: "federationPeers",
    kind: "list",
    default: "",
    charsMax: 512,
    itemsMax: FEDERATION_MEMBERS_MAX,
    pattern: ADDRESS,
    shape: ADDRESS_SHAPE,
    bare: true,
    description: "Addresses to dial: host:port, a DNS name (A and SRV), or a multiaddr; through an ingress `/dns4/HOST/tcp/443/tls/ws`.",
  },
  {
    name: "FEDERATION_FIRST_MEMBERS",
    key: "federationFirstMembers",
    kind: "list",
    default: "",
    charsMax: NODE_NAME_MAX_CHARS,
    itemsMax: FEDERATION_MEMBERS_MAX,
    pattern: NAME,
    shape: NAME_SHAPE,
    bare: true,
    description: "Node names that form layout 1, this one included; the same list on each of them.",
  },
  {
    name: "FEDERATION_ADVERTISE",
    key: "federationAdvertise",
    kind: "list",
    default: "",
    charsMax: ADVERTISED_MAX_CHARS,
    itemsMax: CARD_ADDRESSES_MAX,
    pattern: ADDRESS,
    shape: ADDRESS_SHAPE,
    bare: true,
    description:
      "Addresses under which others reach port 8421 here, when they differ from the one listened on. Behind an ingress `/dns4/HOST/tcp/443/tls/ws`, each node with a host name or port of its own there, or a path (`.../ws/http-path/NAME`), after an address for those inside.",
  },
  {
    name: "FEDERATION_ZONE",
    key: "federationZone",
    kind: "text",
    default: "",
    charsMax: ZONE_MAX_CHARS,
    pattern: NAME,
    shape: NAME_SHAPE,
    bare: true,
    description: "Failure zone; copies are spread over zones first.",
  },
  {
    name: "FEDERATION_REPLICATION_FACTOR",
    key: "replicationFactor",
    kind: "integer",
    default: "2",
    min: 1,
    max: 9,
    bare: true,
    description: "Full replicas a partition; as many witnesses less one are added. Proposed at formation only.",
  },
  {
    name: "FEDERATION_CONSISTENCY_LEVEL",
    key: "consistencyLevel",
    kind: "choice",
    default: "quorum",
    choices: ["one", "quorum", "all"],
    bare: true,
    description: "Level of requests that name none.",
  },
  {
    name: "FEDERATION_SYNC_INTERVAL",
    key: "syncIntervalMs",
    kind: "duration",
    default: "5s",
    min: 100,
    max: 3_600_000,
    bare: true,
    description: "How often stream heads are compared with each peer.",
  },
  {
    name: "FEDERATION_GOSSIP_FANOUT",
    key: "gossipFanout",
    kind: "integer",
    default: "6",
    min: 2,
    max: 64,
    bare: true,
    description: "Peers each gossip message is passed to.",
  },
  {
    name: "FEDERATION_TIMEOUT",
    key: "timeoutMs",
    kind: "duration",
    default: "5s",
    min: 50,
    max: 300_000,
    bare: true,
    description: "Time a request may take before it is answered 503.",
  },
  {
    name: "RESONANCE_DECAY",
    key: "resonanceDecay",
    kind: "number",
    default: "0.85",
    min: 0.01,
    max: 0.99,
    description: "What is left of a link's mass after 30 days. Proposed at formation only.",
  },
  {
    name: "HEBBIAN_RATE",
    key: "hebbianRate",
    kind: "number",
    default: "0.15",
    min: 0.01,
    max: 0.99,
    description: "How much of the missing strength one use adds: always 1 - RESONANCE_DECAY; give one of the two.",
  },
  {
    name: "MIN_LINK_STRENGTH",
    key: "minLinkStrength",
    kind: "number",
    default: "0.1",
    min: 0,
    max: 1,
    description: "Links weaker than this are not recalled.",
  },
  {
    name: "WORKING_MEMORY_CAPACITY",
    key: "workingMemoryCapacity",
    kind: "integer",
    default: "7",
    min: 2,
    max: 20,
    description: "Concepts of one turn that are linked with each other.",
  },
  {
    name: "MAX_CONCEPTS_PER_MESSAGE",
    key: "maxConceptsPerMessage",
    kind: "integer",
    default: "20",
    min: 1,
    max: 100,
    description: "Concepts taken from one text, the most salient.",
  },
  {
    name: "MIN_CONCEPT_LENGTH",
    key: "minConceptLength",
    kind: "integer",
    default: "3",
    min: 1,
    max: 100,
    description: "Characters of the shortest concept.",
  },
  {
    name: "MAX_CONCEPT_LENGTH",
    key: "maxConceptLength",
    kind: "integer",
    default: "100",
    min: 1,
    max: 500,
    description: "Characters of the longest concept.",
  },
  {
    name: "CACHE_TTL",
    key: "",
    kind: "duration",
    default: "",
    notYet: "recall answers are not cached",
    description: "Age of a cached recall answer.",
  },
  {
    name: "FEDERATION_AUTO_JOIN",
    key: "autoJoin",
    kind: "boolean",
    default: "false",
    bare: true,
    description: "A node that the layout does not list asks to be added by itself; otherwise an operator adds it.",
  },
  {
    name: "FEDERATION_STRICT_START",
    key: "strictStart",
    kind: "boolean",
    default: "false",
    bare: true,
    description:
      "Count after a start only once so many others have compared that every old copy of this disk is found. The price: a restart while another of three is down waits for it.",
  },
  {
    name: "LOG_RETENTION",
    key: "logRetentionMs",
    kind: "duration",
    default: "30d",
    min: 1000,
    max: 3650 * 24 * 3600 * 1000,
    description: "How long the bodies of deltas are kept: for catching up, and for the state as of a time. What was deleted is let go of earlier.",
  },
  {
    name: "ENCRYPTION_KEY",
    key: "",
    kind: "text",
    default: "",
    secret: true,
    notYet: "values on disk are NOT encrypted",
    description: "Encrypts values at rest.",
  },
  {
    name: "TLS_CERT",
    key: "",
    kind: "text",
    default: "",
    notYet: "the API speaks plain HTTP; put a TLS proxy before it",
    description: "Certificate of the memory API.",
  },
  {
    name: "TLS_KEY",
    key: "",
    kind: "text",
    default: "",
    secret: true,
    notYet: "the API speaks plain HTTP; put a TLS proxy before it",
    description: "Private key of the memory API.",
  },
  {
    name: "METRICS_PORT",
    key: "",
    kind: "integer",
    default: "",
    notYet: "metrics are served at /metrics of the API port",
    description: "A port of its own for /metrics.",
  },
  { name: "WS_HEARTBEAT_INTERVAL", key: "", kind: "duration", default: "", notYet: "there is no WebSocket", description: "Heartbeat of /ws/sync." },
  {
    name: "WS_TIMEOUT",
    key: "",
    kind: "duration",
    default: "",
    notYet: "there is no WebSocket",
    description: "Silence after which a socket is closed.",
  },
  {
    name: "EMBEDDINGS_URL",
    key: "",
    kind: "text",
    default: "",
    notYet: "recall uses words and links only",
    description: "Encoder to ask for vectors.",
  },
  {
    name: "EMBEDDINGS_MODEL",
    key: "",
    kind: "text",
    default: "",
    notYet: "recall uses words and links only",
    description: "Model named to that encoder.",
  },
  {
    name: "EMBEDDINGS_KEY",
    key: "",
    kind: "text",
    default: "",
    secret: true,
    notYet: "recall uses words and links only",
    description: "Key for that encoder.",
  },
];

/**
 * Names that CONTINUUM had and this node does not, each with what to do instead. A name with * stands for all that begin so. Read with the
 * prefix and, where CONTINUUM read them so, without it.
 */
export const RETIRED: Readonly<Record<string, string>> = {
  DATABASE_URL: "memory is kept in LevelDB under DATA_DIR, no database server is needed",
  POSTGRES_URL: "memory is kept in LevelDB under DATA_DIR, no database server is needed",
  "REDIS_*": "nothing is cached outside the process, no Redis is needed",
  "CACHE_*": "nothing is cached outside the process",
  ENV: "there are no environments: set LOG_LEVEL, HOST and REQUIRE_API_KEY themselves",
  DEBUG: "set LOG_LEVEL=debug",
  JWT_SECRET: "sessions need no secret: callers use API keys (API_KEYS, or `continuum keys create`)",
  "ENABLE_*": "features are always there; federation is on when FEDERATION_SECRET is set",
  "DB_*": "the store needs no connection settings; its folder is DATA_DIR",
  LOG_DIR: "logs go to standard output",
  BACKUP_DIR: "copies live on the other nodes of the federation",
  HOOK_TIMEOUT: "set FEDERATION_TIMEOUT",
  INSTANCE_ID: "send metadata.instance_id with a turn, or set NODE_NAME",
  "NEURAL_*": "link strength follows the Hebbian rule alone",
  MIN_CONCEPT_OCCURRENCES: "every concept counts from its first use",
  TOTAL_CONTEXT_TOKENS: "send max_tokens with a recall",
  "RESERVED_FOR_*": "send max_tokens with a recall",
  PI_PHI: "the constant is built in",
  "RATE_LIMIT_*": "limits belong to API keys",
  METRICS_ENABLED: "metrics are always served at /metrics",
  "HEALTH_CHECK_*": "health is always served at /v1/health",
  "AUDIT_LOG_*": "refusals and key changes are in the log",
  FEDERATION_ENABLED: "federation is on when FEDERATION_SECRET is set",
  FEDERATION_HOST: "set HOST, and FEDERATION_ADVERTISE where others see another address",
  FEDERATION_HEARTBEAT_INTERVAL: "connections are probed by themselves; stream heads are compared every FEDERATION_SYNC_INTERVAL",
  FEDERATION_MIN_CONSENSUS: "a quorum is always a majority of a partition's group",
  FEDERATION_QUORUM_SIZE: "a quorum is always a majority of a partition's group",
};

/** The table of the README, between its markers. */
export function configTableMarkdown(): string {
  const rows = SETTINGS.filter((setting) => setting.notYet === undefined).map(
    (setting) =>
      `| ${[`\`${setting.name}\``, kindInWords(setting), setting.default === "" ? "" : `\`${setting.default}\``, boundsInWords(setting), notes(setting)].join(" | ")} |`,
  );
  const later = SETTINGS.filter((setting) => setting.notYet !== undefined).map((setting) => `\`${setting.name}\``);
  return [
    "| name | unit | default | bounds | what it is |",
    "| --- | --- | --- | --- | --- |",
    ...rows,
    "",
    `Known, and answered with a warning until they do something: ${later.join(", ")}.`,
  ].join("\n");
}

function kindInWords(setting: Setting): string {
  const words: Record<SettingKind, string> = {
    integer: "whole number",
    number: "number",
    duration: "duration (`500ms`, `5s`, `2m`, `1h`, `30d`; bare: seconds)",
    boolean: "`true` or `false`",
    text: "text",
    choice: "word",
    list: "comma list",
  };
  return words[setting.kind];
}

function boundsInWords(setting: Setting): string {
  if (setting.choices !== undefined) return setting.choices.map((choice) => `\`${choice}\``).join(", ");
  if (setting.min !== undefined && setting.max !== undefined) {
    return setting.kind === "duration" ? `${setting.min} ms to ${setting.max / 1000} s` : `${setting.min} to ${setting.max}`;
  }
  const items = setting.itemsMax === undefined ? "" : `at most ${setting.itemsMax}, each `;
  const least = setting.charsMin === undefined ? "" : `${setting.charsMin} to `;
  return setting.charsMax === undefined ? "" : `${items}${least === "" ? "up to " : least}${setting.charsMax} characters`;
}

function notes(setting: Setting): string {
  const also = [...(setting.aliases ?? []).map((alias) => `\`${alias}\``)];
  return [
    setting.description,
    also.length > 0 ? `Also ${also.join(", ")}.` : "",
    setting.bare === true ? "Read without the prefix too." : "",
    setting.secret === true ? `Secret: \`${setting.name}_FILE\` names a file that holds it.` : "",
  ]
    .filter((part) => part !== "")
    .join(" ");
}
