/** Runs one node until a signal ends it. Its flags are the configuration table's names. */
import { type Command, Option } from "commander";
import { loadConfig } from "../config.ts";
import { PREFIX, SETTINGS, type Setting } from "../config-table.ts";
import { createLog } from "../log.ts";
import type { Log } from "../ports.ts";
import { CliError, EXIT } from "./exit.ts";
import { onStopSignal } from "./stop-signals.ts";

/** A clean stop takes well under a second; after this long the process ends all the same (a transport may hang). */
const STOP_MS_MAX = 9000;

export function addServe(program: Command): void {
  const command = program
    .command("serve")
    .description("run one node in the foreground")
    .addHelpText(
      "after",
      `\nEach option is also read from the environment (${PREFIX}API_PORT for --api-port), from .env and from continuum_config.json; options win.`,
    );
  for (const setting of SETTINGS.filter(({ notYet }) => notYet === undefined)) command.addOption(optionFor(setting));
  command.action((flags: Record<string, unknown>) => serve(flags));
}

/** Secrets come as the path of a file: the process list shows a command line to everybody. */
function optionFor(setting: Setting): Option {
  const name = setting.name.toLowerCase().replaceAll("_", "-");
  if (setting.secret === true) return new Option(`--${name}-file <path>`, `${setting.description} A file that holds it.`);
  const value = setting.choices?.join("|") ?? (setting.kind === "boolean" ? "true|false" : setting.kind);
  return new Option(`--${name} <${value}>`, `${setting.description}${setting.default === "" ? "" : ` (default: ${setting.default})`}`);
}

async function serve(flags: Record<string, unknown>): Promise<void> {
  const { config, faults, warnings } = loadConfig({ flags: asWritten(flags), env: withoutClientNames(process.env) });
  if (config === undefined) throw new CliError(faults.join("\n"), EXIT.usage, "bad_configuration");
  const log = createLog({ level: config.logLevel });
  for (const warning of warnings) log.warn({}, warning);
  dieOnBrokenInvariant(log);
  const ending = new Promise<string>((resolve) => {
    onStopSignal(resolve, () => process.exit(EXIT.failed));
    // `continuum federation` starts nodes with a channel: when it is gone, nobody is left to stop them.
    if (process.connected) process.once("disconnect", () => resolve("disconnect"));
  });
  const { startNode } = await import("../node.ts");
  let node = await startNode(config);
  for (;;) {
    log.info({ url: node.url, pages: `${node.url}/docs`, federation: node.federationAddresses, pid: process.pid }, "serving");
    const copied = await Promise.race([ending.then(() => undefined), node.mustOpenAgain]);
    if (copied === undefined) break;
    log.warn({ reason: copied }, "opening everything again as another incarnation");
    await node.stop();
    node = await startNode(config);
  }
  log.info({ reason: await ending }, "stopping");
  setTimeout(() => {
    log.error({ waitedMs: STOP_MS_MAX }, "something did not stop in time; ending all the same");
    process.exit(EXIT.failed);
  }, STOP_MS_MAX);
  await node.stop();
  log.info({}, "stopped");
  process.exit(EXIT.ok);
}

/** What nobody caught is a broken invariant: going on could acknowledge what is not kept. */
function dieOnBrokenInvariant(log: Log): void {
  const die = (error: unknown): void => {
    log.error({ error: error instanceof Error ? error.stack : String(error) }, "unexpected failure; the node ends");
    process.exit(EXIT.failed);
  };
  process.on("uncaughtException", die);
  process.on("unhandledRejection", die);
}

/** CONTINUUM_URL is the client's; to the configuration it would be an unknown name. */
function withoutClientNames({ CONTINUUM_URL: _, ...env }: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return env;
}

/** apiPort -> api-port, so that a fault names the option as it was typed. */
function asWritten(flags: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(flags).map(([name, value]) => [name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`), value]));
}
