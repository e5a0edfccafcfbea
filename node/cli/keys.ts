/** API keys, by an admin. A key is shown once, when it is made. */
import { type Command, Option } from "commander";
import { addClientOptions, type ClientOptions, callApi } from "./client.ts";
import { drawTable, print, printJson } from "./print.ts";

interface KeyView {
  readonly id: string;
  readonly tenant_id: string;
  readonly name: string | null;
  readonly scope: string;
  readonly created_at: string;
  readonly expires_at: string | null;
  readonly revoked_at: string | null;
}

interface CreateOptions extends ClientOptions {
  readonly for: string;
  readonly name?: string;
  readonly scope?: string;
  readonly expires?: string;
}

export function addKeys(program: Command): void {
  const keys = program.command("keys").description("create, list and revoke API keys (admin)");
  const create = keys
    .command("create")
    .description("make a key for a tenant and print it, once")
    .requiredOption("--for <tenant>", "the tenant whose memory the key opens")
    .option("--name <name>", "what it is for, to recognise it in the list")
    .option("--expires <time>", "ISO 8601")
    .addOption(new Option("--scope <scope>", "what it may do").choices(["tenant", "admin"]));
  addClientOptions(create).action(createKey);
  addClientOptions(keys.command("list").description("list the keys, without the keys themselves")).action(listKeys);
  addClientOptions(keys.command("revoke").description("end a key").argument("<id>", "from the list")).action(revokeKey);
}

async function createKey(options: CreateOptions): Promise<void> {
  const { name, scope, expires } = options;
  const { body } = await callApi<{ api_key: string; tenant_id: string; message: string }>(options, {
    method: "POST",
    path: "/v1/keys",
    body: {
      tenant_id: options.for,
      ...(name === undefined ? {} : { name }),
      ...(scope === undefined ? {} : { scope }),
      ...(expires === undefined ? {} : { expires_at: expires }),
    },
  });
  if (options.json) return printJson(body);
  print(body.api_key);
  process.stderr.write(`For tenant ${body.tenant_id}. ${body.message}\n`);
}

async function listKeys(options: ClientOptions): Promise<void> {
  const { body } = await callApi<{ keys: readonly KeyView[] }>(options, { path: "/v1/keys" });
  if (options.json) return printJson(body);
  if (body.keys.length === 0) return print("There are no keys yet: continuum keys create --for TENANT makes one.");
  const rows = body.keys.map((key) => [key.id, key.tenant_id, key.scope, key.name ?? "", key.created_at, stateOf(key)]);
  print(drawTable(["id", "tenant", "scope", "name", "created", "state"], rows));
}

async function revokeKey(id: string, options: ClientOptions): Promise<void> {
  const { body } = await callApi<unknown>(options, { method: "DELETE", path: `/v1/keys/${encodeURIComponent(id)}` });
  if (options.json) return printJson(body);
  print(`${id} is revoked.`);
}

function stateOf(key: KeyView): string {
  if (key.revoked_at !== null) return `revoked ${key.revoked_at}`;
  return key.expires_at === null ? "valid" : `${Date.parse(key.expires_at) <= Date.now() ? "expired" : "valid until"} ${key.expires_at}`;
}
