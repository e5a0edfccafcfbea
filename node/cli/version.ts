import type { Command } from "commander";
import { PROTOCOL_VERSION } from "../../protocol/version.ts";
import { VERSION } from "../version.ts";
import { print, printJson } from "./print.ts";

export function addVersion(program: Command): void {
  program
    .command("version")
    .description("print the version of this program, of the federation protocol it speaks, and of Node")
    .option("--json", "print JSON")
    .action(({ json }: { json?: boolean }) => {
      const facts = { version: VERSION, protocol_version: PROTOCOL_VERSION, node: process.version };
      if (json) printJson(facts);
      else print(`continuum ${facts.version} (protocol ${facts.protocol_version}, Node ${facts.node})`);
    });
}
