import { spawn } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import type { Mutant } from "./mutants.ts";

/** A mutant that keeps the simulator busy for longer is broken in another way than it says. */
const HUNT_MAX_MS = 300_000;
const ROOT = join(import.meta.dirname, "../..");

export interface Hunt {
  readonly mutant: Mutant;
  /** Undefined: it escaped. `by`: "seed 35", "a schedule" or "a test"; then which checkers, or which test. */
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

/** Works on a copy of the tree with this mutation: runs its test or its schedule if it names one, else seed after seed until one fails. */
export async function hunt(mutant: Mutant, seeds: number): Promise<Hunt> {
  const begun = performance.now();
  const directory = mkdtempSync(join(tmpdir(), "continuum-mutant-"));
  try {
    for (const folder of FOLDERS) cpSync(join(ROOT, folder), join(directory, folder), { recursive: true });
    for (const file of ["package.json", "test/vitest.config.ts"]) cpSync(join(ROOT, file), join(directory, file));
    symlinkSync(join(ROOT, "node_modules"), join(directory, "node_modules"), "dir");
    writeFileSync(join(directory, mutant.file), mutate(readFileSync(join(ROOT, mutant.file), "utf8"), mutant));
    const caught = mutant.test === undefined ? await simulate(directory, mutant, seeds) : await test(directory, mutant.test, mutant);
    return { mutant, caught, seconds: (performance.now() - begun) / 1000 };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const FOLDERS = ["crypto", "protocol", "node", "test/sim", "test/unit", "test/contract", "test/vectors"];

/** @throws Error when the simulator did not run to its end: a mutant that does not start is not one */
async function simulate(directory: string, { scenario }: Mutant, seeds: number): Promise<Hunt["caught"]> {
  const flags = scenario === undefined ? ["--seed", "1", "--seeds", String(seeds), "--workers", "1", "--fail-fast"] : ["--scenario", scenario];
  const { output, errors } = await run(directory, ["test/sim/main.ts", ...flags]);
  const [, passed, failed] = /(\d+) passed, (\d+) failed/.exec(output) ?? [];
  if (passed === undefined || Number(passed) + Number(failed) === 0) throw new Error(`the simulator did not run: ${errors.slice(0, 2000)}`);
  const failure = /^(seed \d+|scenario)\b.* failed/m.exec(output);
  if (failure === null) return undefined;
  const checkers = [...new Set([...output.matchAll(/^ {2}\(([^)]+)\)/gm)].map((match) => match[1] as string))];
  return { by: failure[1] === "scenario" ? "a schedule" : (failure[1] as string), checkers };
}

/** @throws Error when no test of the file ran: a mutant that does not load is not one */
async function test(directory: string, file: string, mutant: Mutant): Promise<Hunt["caught"]> {
  const report = join(directory, "tests.json");
  const flags = ["run", "--root", ".", "--config", "test/vitest.config.ts", "--reporter", "json", "--outputFile", report, "--bail", "1"];
  const only = mutant.only === undefined ? [] : ["-t", mutant.only];
  const { output, errors } = await run(directory, ["node_modules/vitest/vitest.mjs", ...flags, ...only, file]);
  if (!existsSync(report)) throw new Error(`${file} did not run: ${output.slice(0, 1000)} ${errors.slice(0, 1000)}`);
  const told = JSON.parse(readFileSync(report, "utf8")) as { testResults: { assertionResults: { status: string; fullName: string }[] }[] };
  const results = told.testResults.flatMap(({ assertionResults }) => assertionResults);
  const failed = results.find(({ status }) => status === "failed");
  if (failed !== undefined) return { by: "a test", checkers: [`${file.split("/").at(-1)}: ${failed.fullName}`] };
  if (!results.some(({ status }) => status === "passed")) throw new Error(`no test of ${file} ran: ${output.slice(0, 1000)}`);
  return undefined;
}

/** To its end, whatever its exit code. */
function run(directory: string, args: readonly string[]): Promise<{ output: string; errors: string }> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, args, { cwd: directory, timeout: HUNT_MAX_MS, killSignal: "SIGKILL" });
    let output = "";
    let errors = "";
    child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
    child.on("error", reject);
    child.on("close", () => resolve({ output, errors }));
  });
}
