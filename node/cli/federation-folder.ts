/**
 * The folder of a federation on this machine: `federation.json` remembers how many nodes it has and how many of them formed it, `federation-secret` what they
 * share, `node-K/` is each node's own, `federation.lock` says who runs it.
 */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { CliError, EXIT } from "./exit.ts";
import { takeLock } from "./process-lock.mjs";

export interface FederationFolder {
  readonly path: string;
  readonly nodeCount: number;
  /** Of those, the ones that formed layout 1, or 1 that was alone; the others came later and ask to join. */
  readonly firstCount: number;
  /** Writes what is new: the number of nodes, and a secret unless one is configured. Only after every check has passed. */
  readonly commit: (options: { readonly secret: boolean }) => void;
  readonly secretFile: string;
  readonly release: () => void;
}

const NODE_COUNT_DEFAULT = 3;

/**
 * Locks the folder and reads what it was made with. Changes nothing else.
 * @param nodeCount as asked for, or undefined for what the folder remembers (3 in a new one); more than it has are added
 * @throws CliError another federation runs on it, it cannot be written, or it has more nodes
 */
export function openFolder(folder: string, nodeCount: number | undefined): FederationFolder {
  const path = resolve(folder);
  const release = lock(path);
  try {
    const file = join(path, "federation.json");
    const made = readMade(file);
    if (made !== undefined && nodeCount !== undefined && nodeCount < made.nodes) {
      const last = `node-${made.nodes}`;
      throw new CliError(
        `${path} has ${made.nodes} nodes, and fewer would leave out what ${nodeCount + 1 === made.nodes ? last : `node-${nodeCount + 1} to ${last}`} keep. Start it without --nodes and take them out one by one: continuum layout drain ${last}. A node that is drained only forwards.`,
        EXIT.failed,
        "fewer_nodes",
      );
    }
    const count = nodeCount ?? made?.nodes ?? NODE_COUNT_DEFAULT;
    const first = made?.first ?? count;
    const secretFile = join(path, "federation-secret");
    const commit = ({ secret }: { readonly secret: boolean }): void => {
      const text = `${JSON.stringify(first === count ? { nodes: count } : { nodes: count, first })}\n`;
      if (made?.nodes !== count) {
        writeFileSync(`${file}.new`, text);
        renameSync(`${file}.new`, file);
      }
      if (secret && !existsSync(secretFile)) writeFileSync(secretFile, `${randomBytes(32).toString("base64url")}\n`, { mode: 0o600, flag: "wx" });
    };
    return { path, nodeCount: count, firstCount: first, commit, secretFile, release };
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

function readMade(file: string): { readonly nodes: number; readonly first: number } | undefined {
  if (!existsSync(file)) return undefined;
  try {
    const { nodes, first = nodes } = JSON.parse(readFileSync(file, "utf8"));
    if (Number.isInteger(nodes) && nodes > 0 && Number.isInteger(first) && first > 0 && first <= nodes) return { nodes, first };
  } catch {
    // said below
  }
  throw new CliError(`${file} is damaged: it should read {"nodes": N} with the number of node-K folders beside it.`, EXIT.failed, "folder_damaged");
}
