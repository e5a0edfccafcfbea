import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { isLoopback, loadConfig, parseConfig } from "../../node/config.ts";
import { configTableMarkdown, SETTINGS } from "../../node/config-table.ts";
import { nearestName } from "../../node/config-values.ts";
import { parsePeerAddress } from "../../node/net/addresses.ts";
import { ADDRESS_MAX_CHARS, CARD_ADDRESSES_MAX } from "../../protocol/limits.ts";

const SECRET = "correct horse battery staple";

function faults(env: Record<string, string>, more: Partial<Parameters<typeof parseConfig>[0]> = {}): readonly string[] {
  return parseConfig({ env, hostname: "alice", ...more }).faults;
}
function warnings(env: Record<string, string>, more: Partial<Parameters<typeof parseConfig>[0]> = {}): readonly string[] {
  return parseConfig({ env, hostname: "alice", ...more }).warnings;
}
function config(env: Record<string, string>, more: Partial<Parameters<typeof parseConfig>[0]> = {}) {
  const result = parseConfig({ env, hostname: "alice", ...more });
  expect(result.faults).toEqual([]);
  return result.config!;
}

describe("configuration without anything set", () => {
  it("is a single node on loopback with the documented ports and no keys", () => {
    const result = parseConfig({ env: {}, hostname: "alice.example.org" });
    expect(result.faults).toEqual([]);
    expect(result.warnings).toEqual([]);
    expect(result.config).toEqual({
      host: "127.0.0.1",
      apiPort: 8420,
      federationPort: 8421,
      gossipPort: 8422,
      dataDir: "./data",
      logLevel: "info",
      corsOrigins: [],
      requireApiKey: false,
      apiKeys: [],
      tenant: "default",
      nodeName: "alice",
      federationSecrets: [],
      federationPeers: [],
      federationFirstMembers: [],
      federationAdvertise: [],
      federationZone: "",
      replicationFactor: 2,
      consistencyLevel: "quorum",
      syncIntervalMs: 5000,
      gossipFanout: 6,
      autoJoin: false,
      strictStart: false,
      logRetentionMs: 30 * 24 * 3600 * 1000,
      timeoutMs: 5000,
      resonanceDecay: 0.85,
      hebbianRate: 0.15,
      minLinkStrength: 0.1,
      workingMemoryCapacity: 7,
      maxConceptsPerMessage: 20,
      minConceptLength: 3,
      maxConceptLength: 100,
    });
  });

  it("gives a frozen object with frozen lists", () => {
    const built = config({ CORS_ORIGINS: "https://a.example" });
    expect(Object.isFrozen(built)).toBe(true);
    expect(Object.isFrozen(built.corsOrigins)).toBe(true);
    expect(Object.isFrozen(built.federationPeers)).toBe(true);
  });
});

describe("sources", () => {
  it("lets flags win over the environment, that over .env, that over continuum_config.json", () => {
    const files = {
      env: "CONTINUUM_API_PORT=2\nCONTINUUM_GOSSIP_PORT=22\nFEDERATION_PORT=222\n",
      json: '{"api_port": 1, "gossip_port": 11, "FEDERATION_PORT": 111, "tenant_id": "bob"}',
    };
    const built = config({ CONTINUUM_API_PORT: "3", CONTINUUM_GOSSIP_PORT: "33" }, { files, flags: { apiPort: 4 } });
    expect([built.apiPort, built.gossipPort, built.federationPort, built.tenant]).toEqual([4, 33, 222, "bob"]);
  });

  it("reads only the listed names without the prefix", () => {
    const built = config({ LOG_LEVEL: "debug", NODE_NAME: "bob", HOST: "0.0.0.0", API_PORT: "9", TENANT: "carol" });
    expect([built.logLevel, built.nodeName, built.host, built.apiPort, built.tenant]).toEqual(["debug", "bob", "127.0.0.1", 8420, "default"]);
  });

  it("prefers the prefixed name over the bare one", () => {
    expect(config({ CONTINUUM_LOG_LEVEL: "warn", LOG_LEVEL: "debug" }).logLevel).toBe("warn");
    expect(config({ LOG_LEVEL: "debug", CONTINUUM_LOG_LEVEL: "warn" }).logLevel).toBe("warn");
  });

  it("takes an empty text for not set", () => {
    expect(config({ FEDERATION_SECRET: "", CONTINUUM_API_PORT: "" }).apiPort).toBe(8420);
  });

  it("ignores what Kubernetes injects for services", () => {
    const env = {
      CONTINUUM_API_PORT: "tcp://10.0.0.7:8420",
      CONTINUUM_SERVICE_HOST: "10.0.0.7",
      CONTINUUM_API_SERVICE_PORT_HTTP: "8420",
      CONTINUUM_PORT_8420_TCP_ADDR: "10.0.0.7",
      FEDERATION_PORT: "tcp://10.0.0.8:1",
    };
    expect(config(env).apiPort).toBe(8420);
    expect(config(env).federationPort).toBe(8421);
    expect(warnings(env)).toEqual([]);
  });

  it("reads secrets from the file that NAME_FILE names, one a line or comma separated", () => {
    const read = (path: string): string => (path === "/run/secrets/federation" ? `${SECRET}\nan older secret of ours\n` : "");
    expect(config({ FEDERATION_SECRET_FILE: "/run/secrets/federation" }, { files: { read } }).federationSecrets).toEqual([
      SECRET,
      "an older secret of ours",
    ]);
    expect(faults({ FEDERATION_SECRET_FILE: "/empty" }, { files: { read } })).toEqual([
      "FEDERATION_SECRET_FILE (the environment) names /empty, which is empty.",
    ]);
    expect(
      faults(
        { CONTINUUM_API_KEYS_FILE: "/none" },
        {
          files: {
            read: () => {
              throw new Error("ENOENT");
            },
          },
        },
      ),
    ).toEqual(["CONTINUUM_API_KEYS_FILE (the environment) names /none, which cannot be read."]);
  });

  it("refuses a name and its alias that disagree, and the same secret twice over", () => {
    expect(faults({ CONTINUUM_DATA_DIR: "/a", CONTINUUM_DB_PATH: "/b" })).toHaveLength(1);
    expect(faults({ CONTINUUM_DATA_DIR: "/a", CONTINUUM_DB_PATH: "/a" })).toEqual([]);
    const read = (): string => "another long secret of ours";
    expect(faults({ FEDERATION_SECRET: SECRET, FEDERATION_SECRET_FILE: "/x" }, { files: { read } })[0]).toMatch(/say different things/);
  });

  it("loads the files of a folder", () => {
    const directory = mkdtempSync(join(tmpdir(), "continuum-config-"));
    try {
      writeFileSync(join(directory, ".env"), `# a comment\nFEDERATION_SECRET="${SECRET}" # trailing\nNODE_NAME=bob\n`);
      writeFileSync(join(directory, "continuum_config.json"), '{"working_memory_capacity": 5}');
      const result = loadConfig({ directory, env: {}, flags: {} });
      expect(result.faults).toEqual([]);
      expect([result.config?.federationSecrets, result.config?.nodeName, result.config?.workingMemoryCapacity]).toEqual([[SECRET], "bob", 5]);
    } finally {
      rmSync(directory, { recursive: true });
    }
  });

  it("starts on a file that CONTINUUM itself saved", () => {
    const saved = {
      db_path: "/srv/continuum_data/memory.db",
      log_dir: "/srv/logs",
      backup_dir: "/srv/backups",
      tenant_id: "default",
      instance_id: null,
      db_timeout: 30.0,
      hook_timeout: 4.5,
      cache_ttl: 300,
      cache_enabled: true,
      cache_host: "localhost",
      resonance_decay: 0.85,
      hebbian_rate: 0.15,
      min_link_strength: 0.1,
      working_memory_capacity: 7,
      min_concept_occurrences: 2,
      max_concepts_per_message: 20,
      min_concept_length: 3,
      max_concept_length: 100,
      total_context_tokens: 100000,
      pi_phi: 5.08320369231526,
    };
    const result = parseConfig({ env: {}, files: { json: JSON.stringify(saved) }, hostname: "alice" });
    expect(result.faults).toEqual([]);
    expect(result.config?.dataDir).toBe("/srv/continuum_data");
    expect(result.warnings).toContain("backup_dir (continuum_config.json) is no longer used: copies live on the other nodes of the federation.");
    expect(result.warnings.filter((warning) => warning.includes("not known"))).toEqual([]);
  });
});

describe("faults", () => {
  it("are reported all at once, each a sentence that names where the value came from", () => {
    const found = faults({
      CONTINUUM_API_PORT: "http",
      CONTINUUM_REQUIRE_API_KEY: "yes",
      LOG_LEVEL: "loud",
      FEDERATION_TIMEOUT: "soon",
      FEDERATION_REPLICATION_FACTOR: "0",
      FEDERATION_SECRET: "short",
      CORS_ORIGINS: "example.org",
    });
    expect(found).toEqual([
      'CONTINUUM_API_PORT (the environment) must be a whole number, not "http".',
      'LOG_LEVEL (the environment) must be one of debug, info, warn, error, not "loud".',
      'CORS_ORIGINS (the environment) must be http(s)://host[:port] without a path, or *, not "example.org".',
      'CONTINUUM_REQUIRE_API_KEY (the environment) must be true or false, not "yes".',
      "FEDERATION_SECRET (the environment) has 5 characters and needs at least 16; a good one is made by: openssl rand -base64 32",
      "FEDERATION_REPLICATION_FACTOR (the environment) must be between 1 and 9, not 0.",
      'FEDERATION_TIMEOUT (the environment) must be a duration such as 500ms, 5s, 2m, 1h or 30d, not "soon".',
    ]);
    for (const fault of found) expect(fault).toMatch(/^[A-Z].*[.2]$/);
  });

  it.each([
    ["no configuration at all with a fault", { CONTINUUM_API_PORT: "70000" }, "must be between 0 and 65535"],
    ["two roles on one port", { CONTINUUM_API_PORT: "8421" }, "three different ports"],
    ["first members without a secret", { FEDERATION_FIRST_MEMBERS: "alice,bob" }, "needs FEDERATION_SECRET"],
    ["peers without a secret", { FEDERATION_PEERS: "bob:8421" }, "needs FEDERATION_SECRET"],
    [
      "first members without this node",
      { FEDERATION_SECRET: SECRET, FEDERATION_FIRST_MEMBERS: "bob,carol" },
      'must contain this node\'s own name, and "alice" is not in it',
    ],
    ["one first member twice", { FEDERATION_SECRET: SECRET, FEDERATION_FIRST_MEMBERS: "alice,alice" }, "twice"],
    ["a node name with a space", { NODE_NAME: "alice and bob" }, "must be letters"],
    ["a node name of 64 characters", { NODE_NAME: "a".repeat(64) }, "at most 63"],
    [
      "more first members than a federation has",
      { FEDERATION_SECRET: SECRET, FEDERATION_FIRST_MEMBERS: Array.from({ length: 257 }, (_, i) => `n${i}`).join(",") },
      "at most 256",
    ],
    [
      "a multiaddr that is neither TCP nor WebSocket",
      { FEDERATION_SECRET: SECRET, FEDERATION_PEERS: "/dns4/bob/tcp/443/tls/ws,/ip4/10.0.0.2/udp/8421/quic-v1" },
      "Item 2 of FEDERATION_PEERS",
    ],
    [
      "an address to advertise that ends half-way",
      { FEDERATION_SECRET: SECRET, FEDERATION_ADVERTISE: "/dns4/bob/tcp/443/tls" },
      "FEDERATION_ADVERTISE",
    ],
    [
      "a path without a WebSocket",
      { FEDERATION_SECRET: SECRET, FEDERATION_ADVERTISE: "/dns4/bob/tcp/443/http-path/bob,/dns4/bob/tcp/443/tls/ws/http-path/a" },
      "Item 1 of FEDERATION_ADVERTISE",
    ],
    [
      "a path that leads elsewhere",
      { FEDERATION_SECRET: SECRET, FEDERATION_PEERS: "/dns4/bob/tcp/443/tls/ws/http-path/a%2F..%2Fb" },
      "FEDERATION_PEERS",
    ],
    [
      "an address to advertise that no peer takes",
      { FEDERATION_SECRET: SECRET, FEDERATION_ADVERTISE: `/dns4/bob/tcp/443/tls/ws/http-path/${"b".repeat(ADDRESS_MAX_CHARS - 16 - 34)}` },
      "241 characters and may have at most 240",
    ],
    [
      "more addresses to advertise than others pass on",
      { FEDERATION_SECRET: SECRET, FEDERATION_ADVERTISE: Array.from({ length: CARD_ADDRESSES_MAX + 1 }, (_, i) => `bob-${i}`).join() },
      "at most 8",
    ],
    ["a peer that is no address", { FEDERATION_SECRET: SECRET, FEDERATION_PEERS: "bob:8421,http://carol" }, "Item 2 of FEDERATION_PEERS"],
    ["decay and rate that contradict each other", { CONTINUUM_RESONANCE_DECAY: "0.9", CONTINUUM_HEBBIAN_RATE: "0.15" }, "contradict each other"],
    [
      "concepts shorter than the longest and longer than the shortest",
      { CONTINUUM_MIN_CONCEPT_LENGTH: "50", CONTINUUM_MAX_CONCEPT_LENGTH: "10" },
      "no concept could be both",
    ],
    ["a timeout under its bound", { FEDERATION_TIMEOUT: "1ms" }, "between 50 ms and 300000 ms"],
    ["a number in another notation", { CONTINUUM_API_PORT: "0x20" }, "whole number"],
  ])("refuse %s", (_name, env, sentence) => {
    const result = parseConfig({ env: env as Record<string, string>, hostname: "alice" });
    expect(result.config).toBeUndefined();
    expect(result.faults.join("\n")).toContain(sentence);
  });

  it("take addresses of every form that can be dialled", () => {
    const peers =
      "bob,bob:8421,10.0.0.2,[fd00::2]:8421,/ip4/10.0.0.2/tcp/8421,/ip4/127.0.0.1/tcp/9001/ws,/dns4/bob.example.org/tcp/443/tls/ws,/dns4/example.org/tcp/443/tls/ws/http-path/east%2Fbob";
    const built = parseConfig({ env: { FEDERATION_SECRET: SECRET, FEDERATION_PEERS: peers, FEDERATION_ADVERTISE: peers }, hostname: "alice" });
    expect(built.faults).toEqual([]);
    expect(built.config?.federationPeers).toEqual(peers.split(","));
    for (const address of peers.split(",")) expect(() => parsePeerAddress(address, 8421)).not.toThrow();
  });

  it("refuse a config file that is not one object of plain values", () => {
    expect(faults({}, { files: { json: "{" } })).toEqual(["continuum_config.json is not valid JSON."]);
    expect(faults({}, { files: { json: "[]" } })[0]).toMatch(/one JSON object/);
    expect(faults({}, { files: { json: '{"api_port": {"a": 1}}' } })[0]).toMatch(/^api_port/);
  });

  it("never quote a secret", () => {
    const found = faults({ FEDERATION_SECRET: "tiny-secret", API_KEYS: "hunter2" });
    expect(found).toHaveLength(2);
    expect(found.join()).not.toMatch(/tiny-secret|hunter2/);
  });
});

describe("values", () => {
  it.each([
    ["500ms", 500],
    ["5s", 5000],
    ["5", 5000],
    ["1.5s", 1500],
    ["2m", 120_000],
  ])("reads the duration %s as %i ms", (text, ms) => {
    expect(config({ FEDERATION_TIMEOUT: text }).timeoutMs).toBe(ms);
  });

  it("derives the Hebbian rate from the decay and the other way round", () => {
    expect(config({ CONTINUUM_RESONANCE_DECAY: "0.9" }).hebbianRate).toBe(0.1);
    expect(config({ CONTINUUM_HEBBIAN_RATE: "0.2" }).resonanceDecay).toBe(0.8);
  });

  it("turns keys on when it listens wider than loopback, unless refused in plain words", () => {
    expect(config({ CONTINUUM_HOST: "0.0.0.0" }).requireApiKey).toBe(true);
    expect(config({ CONTINUUM_HOST: "::1" }).requireApiKey).toBe(false);
    expect(config({ CONTINUUM_REQUIRE_API_KEY: "true" }).requireApiKey).toBe(true);
    const open = { CONTINUUM_HOST: "0.0.0.0", CONTINUUM_REQUIRE_API_KEY: "false" };
    expect(config(open).requireApiKey).toBe(false);
    expect(warnings(open)[0]).toMatch(/everybody who reaches/);
    expect(["localhost", "127.0.0.1", "127.9.9.9", "::1"].every(isLoopback)).toBe(true);
    expect(["0.0.0.0", "::", "127.evil.example", "10.0.0.1"].some(isLoopback)).toBe(false);
  });

  it("calls CONTINUUM's eventual consistency one, and says so", () => {
    expect(config({ CONTINUUM_FEDERATION_CONSISTENCY_LEVEL: "eventual" }).consistencyLevel).toBe("one");
    expect(warnings({ CONTINUUM_FEDERATION_CONSISTENCY_LEVEL: "eventual" })).toHaveLength(1);
  });
});

describe("warnings", () => {
  it("name the nearest known name for an unknown one with our prefix", () => {
    expect(warnings({ CONTINUUM_API_PROT: "1" })).toEqual([
      "CONTINUUM_API_PROT (the environment) is not known; the nearest name is CONTINUUM_API_PORT.",
    ]);
    expect(warnings({ PATH: "/bin", ENV: "prod", DEBUG: "*" })).toEqual([]);
    expect(
      nearestName(
        "FEDERATION_SECRETS",
        SETTINGS.map((setting) => setting.name),
      ),
    ).toBe("FEDERATION_SECRET");
  });

  it("say what replaced a retired name", () => {
    expect(warnings({ DATABASE_URL: "postgres://x" })).toEqual([
      "DATABASE_URL (the environment) is no longer used: memory is kept in LevelDB under DATA_DIR, no database server is needed.",
    ]);
    expect(warnings({ CONTINUUM_ENABLE_FEDERATION: "true" })[0]).toMatch(/no longer used: features are always there/);
  });

  it("say when a node has nobody to form a federation with and nobody to ask, and not when it is there to join one", () => {
    expect(warnings({ FEDERATION_SECRET: SECRET })).toEqual([expect.stringContaining("waits until another dials it")]);
    expect(warnings({ FEDERATION_SECRET: SECRET, FEDERATION_PEERS: "bob", FEDERATION_AUTO_JOIN: "true" })).toEqual([]);
    expect(warnings({ FEDERATION_SECRET: SECRET, FEDERATION_FIRST_MEMBERS: "alice" })).toEqual([]);
  });

  it("say that a name of a later version does nothing yet", () => {
    expect(warnings({ CONTINUUM_ENCRYPTION_KEY: "k".repeat(32) })).toEqual([
      "CONTINUUM_ENCRYPTION_KEY (the environment) has no effect yet in this version: values on disk are NOT encrypted.",
    ]);
  });
});

describe("the table", () => {
  it("has one row for each setting that does something and names every other", () => {
    const table = configTableMarkdown();
    for (const setting of SETTINGS) expect(table).toContain(`\`${setting.name}\``);
    expect(table.split("\n").filter((line) => line.startsWith("| `"))).toHaveLength(
      SETTINGS.filter((setting) => setting.notYet === undefined).length,
    );
  });

  it("gives each setting a default that it would accept itself", () => {
    for (const setting of SETTINGS.filter((each) => each.notYet === undefined && each.default !== "")) {
      expect(faults({ [`CONTINUUM_${setting.name}`]: setting.default })).toEqual([]);
    }
  });
});
