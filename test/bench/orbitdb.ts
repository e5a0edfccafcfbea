/** Three OrbitDB peers as processes of their own, from packages installed for this run into a temporary folder. */
import { type ChildProcess, execFile, fork } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { promisify } from "node:util";

/** As OrbitDB 4.0.0 is tested by its authors; the rest of libp2p as this project uses it. */
const PACKAGES = [
  "@orbitdb/core@4.0.0",
  "helia@6.1.4",
  "blockstore-level@3.0.2",
  "@libp2p/gossipsub@15.0.23",
  "libp2p@3.3.11",
  "@libp2p/tcp@11.0.28",
  "@libp2p/noise@17.0.3",
  "@libp2p/yamux@8.0.3",
  "@libp2p/identify@4.1.14",
  "@multiformats/multiaddr@13.0.3",
];
const INSTALL_MS_MAX = 240_000;
const PEER = "orbitdb-peer.mjs";

/** @returns the folder. @throws Error with a sentence: why there is no OrbitDB to compare with */
export async function installOrbitDb(): Promise<string> {
  const folder = mkdtempSync(join(tmpdir(), "continuum-orbitdb-"));
  writeFileSync(join(folder, "package.json"), JSON.stringify({ private: true, type: "module" }));
  const flags = ["install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=dev", "--no-save", ...PACKAGES];
  try {
    await promisify(execFile)("npm", flags, { cwd: folder, timeout: INSTALL_MS_MAX });
  } catch (error) {
    rmSync(folder, { recursive: true, force: true });
    const { stderr, killed } = error as { stderr?: string; killed?: boolean };
    const why =
      killed === true ? `npm took longer than ${INSTALL_MS_MAX / 1000} s` : (stderr?.match(/npm error (?:code )?(.*)/)?.[1] ?? String(error));
    throw new Error(`OrbitDB cannot be installed: ${why}`);
  }
  copyFileSync(resolve(import.meta.dirname, PEER), join(folder, PEER));
  return folder;
}

export class OrbitDbPeer {
  readonly #child: ChildProcess;
  readonly #listening: Promise<string[]>;

  /** @param folder installed; the peer keeps its data in one of its own below */
  constructor(folder: string, name: string) {
    const cwd = join(folder, name);
    mkdirSync(cwd);
    this.#child = fork(join(folder, PEER), [], { cwd, stdio: ["ignore", "ignore", "inherit", "ipc"] });
    this.#listening = this.#answer();
  }

  listening(): Promise<string[]> {
    return this.#listening;
  }

  async order<T>(name: "dial" | "open" | "write" | "heads" | "size", argument: unknown = null): Promise<T> {
    await this.#listening;
    this.#child.send({ [name]: argument });
    return await this.#answer<T>();
  }

  stop(): void {
    if (this.#child.connected) this.#child.disconnect();
  }

  #answer<T>(): Promise<T> {
    return new Promise((done, failed) => {
      const gone = (): void => failed(new Error("an OrbitDB peer has ended"));
      this.#child.once("exit", gone);
      this.#child.once("message", (message: { done: T } | { failed: string }) => {
        this.#child.off("exit", gone);
        if ("failed" in message) failed(new Error(message.failed));
        else done(message.done);
      });
    });
  }
}
