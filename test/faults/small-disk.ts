/** A file system of a few megabytes under one node's folder (tmpfs, where root is available), which can be filled to the last byte. */
import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";

/** Why there can be none here; undefined: there can. */
export function smallDisksMissing(): string | undefined {
  if (process.platform !== "linux") return "tmpfs is Linux's";
  return process.getuid?.() === 0 ? undefined : "mounting a tmpfs needs root";
}

export class SmallDisk {
  readonly #folder: string;
  readonly #onExit = (): void => this.unmount();

  private constructor(folder: string) {
    this.#folder = folder;
    process.once("exit", this.#onExit);
  }

  /** @throws Error when it cannot be mounted */
  static mount(folder: string, megabytes: number): SmallDisk {
    mkdirSync(folder, { recursive: true });
    const { status, stderr } = spawnSync("mount", ["-t", "tmpfs", "-o", `size=${megabytes}m,mode=0755`, "tmpfs", folder], { encoding: "utf8" });
    if (status !== 0) throw new Error(`no tmpfs at ${folder}: ${stderr}`);
    return new SmallDisk(folder);
  }

  /** Takes every byte that is left; in a process of its own, because it takes its time. */
  async fill(): Promise<void> {
    // It ends with "No space left on device": that is what is wanted.
    await new Promise((done) => spawn("dd", ["if=/dev/zero", `of=${this.#filler}`, "bs=64k"], { stdio: "ignore" }).once("exit", done));
  }

  /** Gives them back. */
  free(): void {
    rmSync(this.#filler, { force: true });
  }

  unmount(): void {
    process.off("exit", this.#onExit);
    spawnSync("umount", ["-l", this.#folder]);
  }

  get #filler(): string {
    return join(this.#folder, "filler");
  }
}
