/**
 * A lock that one process holds and that a dead one cannot keep: a directory with a file naming its holders. It appears by one rename, so
 * it is never seen half made. Plain JavaScript in the syntax of Node 20, because the bootstrap needs it before anything is installed.
 */
import { randomUUID } from "node:crypto";
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

const DEAD = ".dead";

/**
 * @param {string} path the directory to create; its parent must exist
 * @returns {{ held: true, alsoHeldBy: (pid: number) => void, release: () => void } | { held: false, pid: number }} `held: false` names the living process that has it.
 *   `alsoHeldBy` names a child whose work the lock protects too: if its parent is killed, the lock lives as long as the child.
 * @throws the file system's error (EACCES, EROFS ...) when the lock cannot be written
 */
export function takeLock(path) {
  const token = randomUUID();
  const draft = `${path}.${token}`;
  mkdirSync(draft);
  try {
    writeOwner(draft, token, [process.pid]);
    for (let attempt = 0; attempt < 5; attempt++) {
      if (renamed(draft, path)) return held(path, token);
      const owner = readOwner(path);
      if (owner === undefined) continue; // released between the two looks
      const living = owner.holders.find(isAlive);
      if (living !== undefined) return { held: false, pid: living.pid };
      // Of several that find the same dead owner one wins: the grave is named after the owner, and a rename onto a full directory fails. It stays
      // as long as the lock is held: without it, one that looked a moment ago would bury the new, living owner.
      renamed(path, `${path}.${owner.token}${DEAD}`);
    }
    return { held: false, pid: readOwner(path)?.holders[0].pid ?? 0 };
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

function held(path, token) {
  return {
    held: true,
    alsoHeldBy: (pid) => writeOwner(path, token, [process.pid, pid]),
    release: () => {
      if (readOwner(path)?.token !== token) return;
      rmSync(path, { recursive: true, force: true });
      removeGraves(path);
    },
  };
}

function removeGraves(path) {
  const name = basename(path);
  for (const entry of readdirSync(dirname(path))) {
    if (entry.startsWith(`${name}.`) && entry.endsWith(DEAD)) rmSync(join(dirname(path), entry), { recursive: true, force: true });
  }
}

function writeOwner(folder, token, pids) {
  const draft = join(folder, "owner.draft");
  writeFileSync(draft, JSON.stringify({ token, holders: pids.map((pid) => ({ pid, started: startOf(pid) })) }));
  renameSync(draft, join(folder, "owner.json"));
}

function renamed(from, to) {
  try {
    renameSync(from, to);
    return true;
  } catch (error) {
    if (["ENOTEMPTY", "EEXIST", "ENOENT", "EPERM"].includes(error.code)) return false;
    throw error;
  }
}

function readOwner(path) {
  try {
    return JSON.parse(readFileSync(join(path, "owner.json"), "utf8"));
  } catch {
    return undefined;
  }
}

function isAlive({ pid, started }) {
  try {
    process.kill(pid, 0);
  } catch (error) {
    return error.code === "EPERM"; // somebody else's process: it lives
  }
  return started === "" || started === startOf(pid);
}

/** When a process began, so that a number given to another process later is not taken for the owner. Empty where the system does not say. */
function startOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, "utf8");
    const boot = readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
    return `${boot}/${stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19]}`;
  } catch {
    return "";
  }
}
