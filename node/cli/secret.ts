/**
 * `continuum secret`: replaces the federation's secret step by step; `continuum node`: shuts a node out. Nothing here ever prints a secret but `secret new`,
 * which makes one: everything else goes by public ids.
 */
import { randomBytes } from "node:crypto";
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Command } from "commander";
import { createKeyring, SECRETS_MAX } from "../../crypto/keyring.ts";
import type { Revoked } from "../secret-admin.ts";
import { type RotationStep, rotationStep, type SecretsView } from "../secret-rotation.ts";
import { addClientOptions, type ClientOptions, callApi } from "./client.ts";
import { CliError, EXIT } from "./exit.ts";
import { counted, drawTable, print, printJson } from "./print.ts";

interface RotateOptions extends ClientOptions {
  readonly to?: string;
  readonly data?: string;
  readonly wait?: boolean;
}

const PATH = "/v1/federation/secrets";
const POLL_MS = 500;

export function addSecret(program: Command): void {
  const secret = program.command("secret").description("make and replace the federation's secret (admin)");
  secret
    .command("new")
    .description("make a fresh secret and print it, or write it to a file that only its owner reads")
    .option("--out <file>", "write it there, mode 0600; an existing file is not touched")
    .action(newSecret);
  addClientOptions(
    secret.command("status").description("which node knows which secret (public ids), what still needs an old one, who was shut out"),
  ).action(status);
  addClientOptions(secret.command("rotate").description("say which step of replacing the secret comes next, and which nodes lag"))
    .option("--to <id>", "public id of the secret that is to stay (default: the one that came last)")
    .option("--data <folder>", "of `npm start`: do the step in its federation-secret file; npm start is then to be restarted")
    .option("--wait", "while there is only to wait, wait")
    .addHelpText(
      "after",
      "\nExit codes: 0 there is a step to take, or nothing to do; 2 which secret is to stay is not clear; 3 not yet: run it again.",
    )
    .action(rotate);
  const node = program.command("node").description("shut a node out of the federation, or let it in again (admin)");
  addClientOptions(
    node
      .command("revoke")
      .description("shut a node out for good: it is cut off at once and taken out of the layout")
      .argument("<name>", "its name or id"),
  )
    .option("--yes", "do it")
    .action(revoke);
  addClientOptions(node.command("readmit").description("let a node connect again that was shut out").argument("<name>", "its name or id")).action(
    readmit,
  );
}

// ---- secrets ---------------------------------------------------------------------------------------------------------

function freshSecret(): string {
  return randomBytes(32).toString("base64url");
}

function newSecret({ out }: { readonly out?: string }): void {
  if (out === undefined) {
    print(freshSecret());
    return;
  }
  try {
    writeFileSync(out, `${freshSecret()}\n`, { mode: 0o600, flag: "wx" });
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw new CliError(
      code === "EEXIST" ? `${out} exists already and is left as it is.` : `${out} cannot be written (${message}).`,
      EXIT.failed,
      "not_written",
    );
  }
  print(`A new secret is in ${out} (public id ${createKeyring([readFileSync(out, "utf8").trim()]).ids[0]}).`);
}

async function look(options: ClientOptions): Promise<SecretsView> {
  return (await callApi<SecretsView>(options, { path: PATH })).body;
}

async function status(options: ClientOptions): Promise<void> {
  const view = await look(options);
  if (options.json) return printJson(view);
  print(drawSecrets(view));
}

async function rotate(options: RotateOptions): Promise<void> {
  let view = await look(options);
  let step = rotationStep(view, options.to);
  if (options.to !== undefined && !view.secrets.some(({ id }) => id === options.to))
    throw new CliError(
      `No node knows a secret ${options.to}: the ids are ${view.secrets.map(({ id }) => id).join(", ")}.`,
      EXIT.usage,
      "unknown_secret",
    );
  while (options.wait === true && step.step === "wait") {
    await new Promise<void>((done) => setTimeout(done, POLL_MS));
    view = await look(options);
    step = rotationStep(view, options.to);
  }
  const written = options.data === undefined ? undefined : inFolder(options.data, step);
  if (options.json) printJson({ ...step, written: written ?? null });
  else print([...drawStep(step, view), ...(written === undefined ? [] : ["", written])].join("\n"));
  if (step.step === "wait") process.exitCode = EXIT.unavailable;
  if (step.step === "unclear") process.exitCode = EXIT.usage;
}

/** The step as it is done in the one file that all nodes of an `npm start` folder read. @returns what was done */
function inFolder(folder: string, { step, old, new: fresh }: RotationStep): string {
  const file = join(folder, "federation-secret");
  let secrets: string[];
  try {
    secrets = readFileSync(file, "utf8")
      .trim()
      .split(",")
      .map((one) => one.trim());
  } catch (error) {
    throw new CliError(`${file} cannot be read (${(error as Error).message}): is it the folder of npm start --data?`, EXIT.usage, "no_secret_file");
  }
  const ids = [...createKeyring(secrets).ids];
  const by = (id: string | null): string[] => secrets.filter((_, at) => ids[at] === id);
  const restart = "stop npm start and start it again, then run this again.";
  let wanted: string[];
  if (step === "none" && secrets.length === 1) wanted = [...secrets, freshSecret()];
  else if (step === "first") wanted = [...by(fresh), ...secrets.filter((_, at) => ids[at] !== fresh)];
  else if (step === "drop") wanted = secrets.filter((_, at) => ids[at] !== old);
  else wanted = secrets;
  if (wanted.length > SECRETS_MAX) throw new CliError(`${file} has ${secrets.length} secrets already.`, EXIT.failed, "too_many_secrets");
  if (step === "wait" || step === "unclear") return `${file} is left as it is.`;
  if (wanted.join() === secrets.join()) return `${file} says it already: ${restart}`;
  writeFileSync(`${file}.new`, `${wanted.join(",")}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
  return `${file} is changed (${createKeyring(wanted).ids.join(", ")}): ${restart}`;
}

function drawSecrets({ secrets, nodes, revoked }: SecretsView): string {
  const rows = nodes.map(({ name, member, connected, secret_ids, sealed_under_others: others }) => [
    name,
    member ? "member" : "gateway",
    connected ? "connected" : "away",
    secret_ids.length === 0 ? "not told" : secret_ids.join(", "),
    Object.entries(others)
      .map(([id, deltas]) => `${deltas} under ${id}`)
      .join(", ") || "-",
  ]);
  return [
    drawTable(["node", "", "", "secrets (seals with the first)", "kept for others"], rows),
    ...(secrets.length < 2
      ? []
      : ["", `Known here: ${secrets.map(({ id, known_since }) => `${id} ${known_since === null ? "never" : `since ${known_since}`}`).join(", ")}.`]),
    ...(revoked.length === 0
      ? []
      : [
          "",
          drawTable(
            ["shut out", "since", "complete"],
            revoked.map(({ name, node, revoked_at, complete, secrets: knew }) => [
              name === "" ? node : name,
              revoked_at,
              complete ? "yes" : `no: it knows ${knew.join(", ")} - replace it (continuum secret rotate)`,
            ]),
          ),
        ]),
  ].join("\n");
}

function drawStep({ step, old, new: fresh, lagging }: RotationStep, { nodes, secrets, revoked }: SecretsView): string[] {
  const names = lagging.map(({ name }) => name).join(", ");
  const lags = lagging.map(({ name, why }) => `  ${name}  ${why}`);
  const one = "one after the other, each ready (GET /v1/ready) before the next goes";
  const open = revoked.filter(({ complete }) => !complete).map(({ name, node }) => name || node);
  switch (step) {
    case "none":
      return [
        `All ${counted(nodes.length, "node")} that are known here have one secret, ${secrets[0]?.id ?? "none"}: nothing is being replaced.`,
        ...lags,
        ...(open.length === 0 ? [] : [`It was known to ${open.join(", ")}, which was shut out: replace it.`]),
        "To replace it:",
        "  continuum secret new --out NEW        a fresh one, in a file",
        "  Then give every node both, the old one first: FEDERATION_SECRET=OLD,NEW, or in the file that FEDERATION_SECRET_FILE names:",
        `  printf ',%s' "$(cat NEW)" >> FILE     and restart the nodes ${one}. Then: continuum secret rotate.`,
      ];
    case "unclear":
      return [
        `Several secrets are in use (${secrets.map(({ id }) => id).join(", ")}), and this node cannot tell which is the newer one.`,
        "Say which is to stay: continuum secret rotate --to ID. Or ask another node with --url.",
      ];
    case "add":
      return [
        `Step 1 of 4: the new secret ${fresh} behind the old one ${old}, on every node.`,
        ...lags,
        `On ${names}: FEDERATION_SECRET=OLD,NEW (or the file of FEDERATION_SECRET_FILE holding OLD,NEW), and restart them ${one}.`,
      ];
    case "first":
      return [
        `Step 2 of 4: every node knows both; now the new one ${fresh} first.`,
        ...lags,
        `On ${names}: FEDERATION_SECRET=NEW,OLD (or the file), and restart them ${one}.`,
      ];
    case "wait":
      return [
        `${fresh !== null && nodes.every(({ secret_ids }) => secret_ids[0] === fresh) ? "Step 3 of 4: " : ""}wait, and keep ${old}: something still needs it.`,
        ...lags,
      ];
    case "drop":
      return [
        `Step 4 of 4: nothing that is known here needs ${old} any more; drop it.`,
        ...lags,
        `On ${names}: FEDERATION_SECRET=NEW (or the file holding only that), and restart them ${one}.`,
        "A gateway that was never connected to this node is not known here: it needs the new secret too, or it stays outside.",
      ];
  }
}

// ---- nodes -----------------------------------------------------------------------------------------------------------

async function revoke(name: string, options: ClientOptions & { readonly yes?: boolean }): Promise<void> {
  if (options.yes !== true)
    throw new CliError(
      `Nothing was changed. ${name} would be cut off at once, without handing over what only it holds, and taken out of the layout: say --yes to do it. A healthy node that is to leave is drained: continuum layout drain ${name}.`,
      EXIT.usage,
      "not_confirmed",
    );
  const path = `/v1/federation/peers/${encodeURIComponent(name)}`;
  const { body } = await callApi<Revoked>(options, { method: "DELETE", path });
  if (options.json) return printJson(body);
  const { revoked, change, not_removed } = body;
  print(
    [
      `${revoked.name || revoked.node} is shut out: no member speaks with it any more.`,
      ...(change === null ? [] : [`It is being taken out of the layout (${change.id}; continuum layout show).`]),
      ...(not_removed === null ? [] : [`! It is still in the layout, where it counts for nothing: ${not_removed}`]),
      ...(revoked.complete
        ? []
        : [
            `! It knows ${revoked.secrets.join(", ")} and could come back with it under a new identity. This is complete only when that secret is dropped: continuum secret rotate says how.`,
          ]),
    ].join("\n"),
  );
}

async function readmit(name: string, options: ClientOptions): Promise<void> {
  const { body } = await callApi<{ name: string; node: string }>(options, {
    method: "DELETE",
    path: `/v1/federation/revoked/${encodeURIComponent(name)}`,
  });
  if (options.json) return printJson(body);
  print(`${body.name || body.node} may connect again. A member it becomes as everybody does: continuum layout add ${body.name || body.node}.`);
}
