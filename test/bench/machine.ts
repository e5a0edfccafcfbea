/** What the figures were measured on, without saying whose machine it is; and how much processor time processes have used. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { resolve } from "node:path";

/** Call it before the work begins: the load of others is part of what was measured on. */
export function describeMachine(): string {
  const model = cpus()[0]?.model.trim();
  const cores = `${cpus().length} cores${model === undefined || model === "" || model === "unknown" ? "" : ` (${model})`}`;
  return `${cores}, ${Math.round(totalmem() / 1024 ** 3)} GiB, ${process.platform} ${release()}, Node ${process.versions.node}, load average ${loadavg()[0]!.toFixed(1)} before`;
}

/** @returns the commit measured, with a + when files differ from it; "unknown" without git */
export function describeCommit(): string {
  const git = (...flags: string[]): string =>
    execFileSync("git", flags, { cwd: resolve(import.meta.dirname, "../.."), stdio: ["ignore", "pipe", "ignore"] })
      .toString()
      .trim();
  try {
    return `${git("rev-parse", "--short", "HEAD")}${git("status", "--porcelain", "--", "node", "protocol", "crypto") === "" ? "" : "+"}`;
  } catch {
    return "unknown";
  }
}

/** Of user and system together since the processes began, ms; undefined where there is no /proc. Ticks of 10 ms, so only for seconds of work. */
export function processorMs(pids: readonly number[]): number | undefined {
  try {
    return pids.reduce((sum, pid) => {
      const fields = readFileSync(`/proc/${pid}/stat`, "utf8").split(") ").at(-1)!.split(" ");
      return sum + (Number(fields[11]) + Number(fields[12])) * 10;
    }, 0);
  } catch {
    return undefined;
  }
}
