/**
 * A run starts the same program a hundred times: what Node makes of its source is kept for the run, which saves each start a fifth of its work. It is filled
 * once by an orderly import, because a process that is killed writes nothing there.
 */
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const PROGRAM = ["main.ts", "node.ts"].map((file) => pathToFileURL(resolve(import.meta.dirname, "../../node", file)).href);
let folder: string | undefined;

/** For the environment of every node. Removed when this process ends. */
export function compileCache(): Readonly<Record<string, string>> {
  if (folder === undefined) {
    const made = mkdtempSync(join(tmpdir(), "continuum-compiled-"));
    process.once("exit", () => rmSync(made, { recursive: true, force: true }));
    folder = made;
    const script = `process.argv.push("version"); for (const url of ${JSON.stringify(PROGRAM)}) await import(url);`;
    spawnSync(process.execPath, ["--input-type=module", "--eval", script], {
      env: { PATH: process.env.PATH, NODE_COMPILE_CACHE: made },
      stdio: "ignore",
    });
  }
  return { NODE_COMPILE_CACHE: folder };
}
