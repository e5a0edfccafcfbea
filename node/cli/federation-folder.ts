/**
 * The folder of a federation on this machine: `federation.json` remembers how many nodes it was made with, `federation-secret` what they
 * share, `node-K/` is each node's own, `federation.lock` says who runs it.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { CliError, EXIT } from "./exit.ts";
import { takeLock } from "./process-lock.mjs";

export interface FederationFolder {
  readonly path: string;
  readonly nodeCount: number;
  /** Writes what is new: the number of nodes, and a secret unless one is configured. Only after every check has passed. */
  readonly commit: (options: { readonly secret: boolean }) => void;
  readonly secretFile: string;
  readonly release: () => void;
}

const NODE_COUNT_DEFAULT = 3;

/**
 * Locks the folder and reads what it was made with. Changes nothing else.
 * @param nodeCount as asked for, or undefined for what the folder remembers (3 in a new one)
 * @throws CliError another federation runs on it, it cannot be written, or it was made with another number
 */
export function openFolder(folder: string, nodeCount: number | undefined): FederationFolder {
  const path = resolve(folder);
  const release = lock(path);
  try {
    const file = join(path, "federation.json");
    const made = readMade(file);
    if (made !== undefined && nodeCount !== undefined && made !== nodeCount) {
      throw new CliError(
        `${path} was made with ${made} nodes and cannot change to ${nodeCount} yet: leave --nodes out to go on with ${made}, or name another folder with --data.`,
        EXIT.failed,
        "other_node_count",
      );
    }
    const count = made ?? nodeCount ?? NODE_COUNT_DEFAULT;
    const secretFile = join(path, "federation-secret");
    const commit = ({ secret }: { readonly secret: boolean }): void => {
      if (made === undefined) writeFileSync(file, `${JSON.stringify({ nodes: count })}\n`);
      if (secret && !existsSync(secretFile)) writeFileSync(secretFile, `${randomBytes(32).toString("base64url")}\n`, { mode: 0o600, flag: "wx" });
    };
    return { path, nodeCount: count, commit, secretFile, release };
  } catch (error) {
    release();
    throw error;
  }
}

function lock(path: string): () => void {
  let taken: ReturnType<typeof takeLock>;
  try {
    mkdirSync(path, { recursive: true });
    taken = takeLock(join(path, "federation.lock"));
  } catch (error) {
    const reason = error instanceof Error && "code" in error ? String(error.code) : String(error);
    throw new CliError(`The folder ${path} cannot be written (${reason}): name another with --data.`, EXIT.failed, "folder_not_writable");
  }
  if (taken.held) return taken.release;
  throw new CliError(
    `A federation already runs on ${path} (process ${taken.pid}): stop it first, or name another folder with --data and other ports with --port-base.`,
    EXIT.failed,
    "folder_in_use",
  );
}

function readMade(file: string): number | undefined {
  if (!existsSync(file)) return undefined;
  try {
    const { nodes } = JSON.parse(readFileSync(file, "utf8"));
    if (Number.isInteger(nodes) && nodes > 0) return nodes;
  } catch {
    // said below
  }
  throw new CliError(`${file} is damaged: it should read {"nodes": N} with the number of node-K folders beside it.`, EXIT.failed, "folder_damaged");
}
