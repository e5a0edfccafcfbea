import { spawn } from "node:child_process";
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import type { Mutant } from "./mutants.ts";

/** A mutant that keeps the simulator busy for longer is broken in another way than it says. */
const HUNT_MAX_MS = 300_000;
const ROOT = join(import.meta.dirname, "../..");

export interface Hunt {
  readonly mutant: Mutant;
  /** Undefined: it escaped. `by`: "seed 35", or "a schedule". */
  readonly caught: { readonly by: string; readonly checkers: readonly string[] } | undefined;
  readonly seconds: number;
}

/** @returns the file's text with the mutation. @throws Error when what it looks for is not there exactly once */
export function mutate(source: string, mutant: Mutant): string {
  const parts = source.split(mutant.find);
  if (parts.length !== 2) throw new Error(`mutant "${mutant.name}": its line occurs ${parts.length - 1} times in ${mutant.file}`);
  return parts.join(mutant.replace);
}

/** Hunts as many at a time as there are cores. @param told each, as it ends */
export async function huntAll(mutants: readonly Mutant[], seeds: number, told: (hunt: Hunt) => void): Promise<Hunt[]> {
  const waiting = [...mutants];
  const hunts: Hunt[] = [];
  const worker = async (): Promise<void> => {
    for (let mutant = waiting.shift(); mutant !== undefined; mutant = waiting.shift()) {
      const hunted = await hunt(mutant, seeds);
      hunts.push(hunted);
      told(hunted);
    }
  };
  await Promise.all(Array.from({ length: availableParallelism() }, worker));
  return hunts;
}

/** Runs the simulator on a copy of the tree with this mutation: its schedule if it names one, else seed after seed until one fails. */
export async function hunt(mutant: Mutant, seeds: number): Promise<Hunt> {
  const begun = performance.now();
  const directory = mkdtempSync(join(tmpdir(), "continuum-mutant-"));
  try {
    for (const folder of ["crypto", "protocol", "node", "test/sim"]) cpSync(join(ROOT, folder), join(directory, folder), { recursive: true });
    cpSync(join(ROOT, "package.json"), join(directory, "package.json"));
    symlinkSync(join(ROOT, "node_modules"), join(directory, "node_modules"), "dir");
    writeFileSync(join(directory, mutant.file), mutate(readFileSync(join(ROOT, mutant.file), "utf8"), mutant));
    const output = await simulate(
      directory,
      mutant.scenario === undefined ? ["--seed", "1", "--seeds", String(seeds), "--workers", "1", "--fail-fast"] : ["--scenario", mutant.scenario],
    );
    const failure = /^(seed \d+|scenario)\b.* failed/m.exec(output);
    const checkers = [...new Set([...output.matchAll(/^ {2}\(([^)]+)\)/gm)].map((match) => match[1] as string))];
    return {
      mutant,
      caught: failure === null ? undefined : { by: failure[1] === "scenario" ? "a schedule" : (failure[1] as string), checkers },
      seconds: (performance.now() - begun) / 1000,
    };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** @returns what it printed. @throws Error when it did not run to its end: a mutant that does not start is not one */
function simulate(directory: string, flags: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, ["test/sim/main.ts", ...flags], {
      cwd: directory,
      timeout: HUNT_MAX_MS,
      killSignal: "SIGKILL",
    });
    let output = "";
    let errors = "";
    child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    child.on("error", reject);
    child.on("close", () =>
      /\d+ passed, \d+ failed/.test(output) ? resolve(output) : reject(new Error(`the simulator did not run: ${errors.slice(0, 2000)}`)),
    );
  });
}
