#!/usr/bin/env node
/** The program `continuum`: one file a command under cli/. */
import { Command, CommanderError } from "commander";
import { CliError, EXIT } from "./cli/exit.ts";
import { addFederation } from "./cli/federation.ts";
import { addKeys } from "./cli/keys.ts";
import { addLayout } from "./cli/layout.ts";
import { addLearn } from "./cli/learn.ts";
import { addRecall } from "./cli/recall.ts";
import { addSecret } from "./cli/secret.ts";
import { addServe } from "./cli/serve.ts";
import { addStatus } from "./cli/status.ts";
import { addVersion } from "./cli/version.ts";
import { StartError } from "./start-error.ts";
import { VERSION } from "./version.ts";

const program = new Command("continuum")
  .description("A federated peer-to-peer memory for AI agents.")
  .version(VERSION, "-V, --version", "print the version")
  .showHelpAfterError("(continuum --help lists the commands)")
  .addHelpText(
    "after",
    "\nExit codes: 0 done, 1 refused or failed, 2 wrong command line or configuration, 3 no node answered or it cannot now (503): try again.",
  );
for (const add of [addServe, addFederation, addStatus, addLearn, addRecall, addLayout, addSecret, addKeys, addVersion]) add(program);
quietExit(program);

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
  // What a failed start left open must not keep the process.
  setTimeout(() => process.exit(), 500).unref();
}

/** commander ends the process itself unless told otherwise, on every level. */
function quietExit(command: Command): void {
  command.exitOverride();
  for (const child of command.commands) quietExit(child);
}

/** @returns the exit code; one sentence a fault, JSON where JSON was asked for */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.ok : EXIT.usage; // commander has printed it
  const known = error instanceof CliError || error instanceof StartError;
  const code = error instanceof Error && "code" in error ? String(error.code) : "unexpected";
  const text = known ? error.message : error instanceof Error ? (error.stack ?? error.message) : String(error);
  if (process.argv.includes("--json")) process.stderr.write(`${JSON.stringify({ error: { code, detail: text } })}\n`);
  else process.stderr.write(`${text.replace(/^/gm, "continuum: ")}${error instanceof StartError ? ` [${code}]` : ""}\n`);
  return error instanceof CliError ? error.exit : EXIT.failed;
}
