/** `npm run bench -- --profile`: three nodes under `--cpu-prof` while 64 clients write; then where a replica and a witness spent their time. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { summariseProfile } from "./cpu-profile.ts";
import { Load } from "./load.ts";
import { loadPayload } from "./payload.ts";
import { startContinuum } from "./systems.ts";
import type { WorkloadName } from "./workloads.ts";

const FUNCTIONS_SHOWN = 40;
const TOTALS_SHOWN = 40;

export async function profile(workload: WorkloadName, clients: number, seconds: number, dataDir: string | undefined): Promise<string> {
  const profiles = new Profiles();
  const load = new Load(dataDir);
  try {
    const system = await startContinuum(loadPayload(dataDir), profiles.env);
    let lines: string[] = [];
    let [fromUs, toUs] = [0, 0];
    try {
      fromUs = nowUs();
      const sample = await load.run({ workload, urls: system.urls, clients, warmupMs: 2000, measureMs: seconds * 1000 });
      toUs = nowUs();
      lines = [`${workload}, ${clients} clients, under the profiler: ${Math.round(sample.perSecond)}/s, p50 ${sample.p50Ms.toFixed(1)} ms`];
      if (Object.keys(sample.failures).length > 0) lines.push(`failures ${JSON.stringify(sample.failures)} ${sample.example}`);
    } finally {
      await system.stop();
    }
    for (const [place, pid] of system.pids.entries()) {
      const role = system.witnesses.includes(place) ? "witness" : "replica";
      lines.push("", `== node ${place + 1}, ${role}`, ...profiles.describe(pid, fromUs, toUs));
    }
    return lines.join("\n");
  } finally {
    load.stop();
    profiles.remove();
  }
}

/** What processes started with `env` leave behind when they end. */
export class Profiles {
  readonly #folder = mkdtempSync(join(tmpdir(), "continuum-profile-"));

  get env(): Readonly<Record<string, string>> {
    return { NODE_OPTIONS: `--cpu-prof --cpu-prof-dir=${this.#folder} --cpu-prof-interval=500` };
  }

  /** @param fromUs and `toUs`: of `nowUs()` */
  describe(pid: number, fromUs: number, toUs: number): string[] {
    // CPU.date.time.pid.thread.number.cpuprofile
    const name = readdirSync(this.#folder).find((file) => Number(file.split(".")[3]) === pid && file.endsWith(".cpuprofile"));
    if (name === undefined) throw new Error(`process ${pid} has left no profile`);
    return describe(join(this.#folder, name), fromUs, toUs);
  }

  remove(): void {
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

function describe(file: string, fromUs: number, toUs: number): string[] {
  const { busy, functions, parts } = summariseProfile(file, fromUs, toUs);
  const byTotal = [...functions].sort((a, b) => b.total - a.total);
  return [
    `busy ${percent(busy)}; shares of the busy time:`,
    `parts: ${parts
      .filter(({ self }) => self >= 0.005)
      .map(({ name, self }) => `${name} ${percent(self)}`)
      .join(", ")}`,
    "self   total  function",
    ...functions.slice(0, FUNCTIONS_SHOWN).map(({ name, self, total }) => `${percent(self).padEnd(7)}${percent(total).padEnd(7)}${name}`),
    "by total:",
    ...byTotal.slice(0, TOTALS_SHOWN).map(({ name, self, total }) => `${percent(self).padEnd(7)}${percent(total).padEnd(7)}${name}`),
  ];
}

export function nowUs(): number {
  return Number(process.hrtime.bigint() / 1000n);
}

function percent(share: number): string {
  return `${(share * 100).toFixed(1)}%`;
}
