/** Orders to broken-disk.c, which stands between one node's LevelDB and the kernel, and the power cut that its notes make possible. */
import { spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import type { Rng } from "../sim/rng.ts";

export type DiskOrder = "kill-before" | "kill-after" | "eio" | `slow ${number}` | "work";

const SOURCE = resolve(import.meta.dirname, "broken-disk.c");
let library: string | undefined;

/** Why there can be no broken disks here; undefined: there can. */
export function brokenDisksMissing(): string | undefined {
  if (process.platform !== "linux") return "LD_PRELOAD as broken-disk.c uses it is Linux's";
  return spawnSync("cc", ["--version"]).status === 0 ? undefined : "no C compiler (cc) builds broken-disk.c";
}

/** Built once a run, removed when the process ends. @throws Error with the compiler's words */
function builtLibrary(): string {
  if (library !== undefined) return library;
  const folder = mkdtempSync(join(tmpdir(), "continuum-broken-disk-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  const file = join(folder, "broken-disk.so");
  const { status, stderr } = spawnSync("cc", ["-shared", "-fPIC", "-O2", "-o", file, SOURCE, "-ldl"], { encoding: "utf8" });
  if (status !== 0) throw new Error(`cc does not build broken-disk.c: ${stderr}`);
  library = file;
  return file;
}

export class BrokenDisk {
  readonly env: Readonly<Record<string, string>>;
  readonly #store: string;
  readonly #orders: string;
  readonly #synced: string;

  /** @param dataDir of the node; orders and notes lie beside it */
  constructor(dataDir: string) {
    this.#store = join(dataDir, "store");
    this.#orders = `${dataDir}.disk-order`;
    this.#synced = `${dataDir}.disk-synced`;
    this.env = { LD_PRELOAD: builtLibrary(), FAULTS_DISK_FOLDER: this.#store, FAULTS_DISK_ORDER: this.#orders, FAULTS_DISK_SYNCED: this.#synced };
    this.order("work");
  }

  /** What its next syncs do. */
  order(order: DiskOrder): void {
    writeFileSync(this.#orders, order);
  }

  /**
   * The process is dead: what a power cut would have left. Each file keeps what was synced; of LevelDB's log what was written after that is gone, or torn
   * somewhere, or full of zeros, as file systems do it.
   * @returns what became of the logs, for the story
   */
  cutPower(rng: Rng): string {
    const synced = new Map<string, number>();
    if (existsSync(this.#synced)) {
      for (const line of readFileSync(this.#synced, "utf8").trimEnd().split("\n")) {
        const space = line.indexOf(" ");
        synced.set(line.slice(space + 1), Number(line.slice(0, space)));
      }
    }
    const done: string[] = [];
    for (const name of readdirSync(this.#store)) {
      if (!/\.log$|\.ldb$|^MANIFEST-/.test(name)) continue;
      const file = join(this.#store, name);
      const [safe, size] = [Math.min(synced.get(file) ?? 0, statSync(file).size), statSync(file).size];
      if (safe === size) continue;
      const torn = name.endsWith(".log") ? rng.pick(["gone", "torn", "zeroed"]) : "gone";
      const kept = torn === "gone" ? safe : safe + rng.int(size - safe + 1);
      truncateSync(file, torn === "zeroed" ? safe : kept);
      if (torn === "zeroed") truncateSync(file, kept); // growing it again fills with zeros
      done.push(`${name}: ${size - safe} unsynced bytes ${torn}`);
    }
    return done.join(", ") || "everything had been synced";
  }
}
