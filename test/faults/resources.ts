/** Resident memory of processes over time, from /proc: what grows in an hour of chaos shows in the slope. */
import { readFileSync } from "node:fs";

export interface Growth {
  readonly first: number;
  readonly median: number;
  readonly max: number;
  /** Least squares over the samples, MB an hour; over a short run it says little. */
  readonly slopePerHour: number;
  readonly samples: number;
}

/** Of one process, a restart begins another. */
interface Sampled {
  readonly name: string;
  readonly pid: number;
  readonly points: { readonly atMs: number; readonly mb: number }[];
}

export class Resources {
  readonly #sampled: Sampled[] = [];
  readonly #processes: () => readonly { readonly name: string; readonly pid: number | undefined }[];
  #timer: NodeJS.Timeout | undefined;

  constructor(processes: () => readonly { readonly name: string; readonly pid: number | undefined }[]) {
    this.#processes = processes;
  }

  start(everyMs: number): void {
    this.#sample();
    this.#timer = setInterval(() => this.#sample(), everyMs);
  }

  stop(): void {
    clearInterval(this.#timer);
  }

  /** The largest resident size of any process under this name so far, MB. */
  maxOf(name: string): number {
    return Math.max(0, ...this.#sampled.filter((one) => one.name === name).flatMap(({ points }) => points.map(({ mb }) => mb)));
  }

  /** A line a process that lived long enough to be sampled three times. */
  growth(): { readonly name: string; readonly growth: Growth }[] {
    return this.#sampled
      .filter(({ points }) => points.length >= 3)
      .map(({ name, pid, points }) => ({ name: `${name} (pid ${pid})`, growth: growthOf(points) }));
  }

  #sample(): void {
    const atMs = performance.now();
    for (const { name, pid } of this.#processes()) {
      const mb = pid === undefined ? undefined : residentMb(pid);
      if (pid === undefined || mb === undefined) continue;
      let of = this.#sampled.find((one) => one.pid === pid && one.name === name);
      if (of === undefined) {
        of = { name, pid, points: [] };
        this.#sampled.push(of);
      }
      of.points.push({ atMs, mb });
    }
  }
}

export function residentMb(pid: number): number | undefined {
  try {
    const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    return line === null ? undefined : Number(line[1]) / 1024;
  } catch {
    return undefined;
  }
}

function growthOf(points: readonly { readonly atMs: number; readonly mb: number }[]): Growth {
  const sizes = points.map(({ mb }) => mb).sort((a, b) => a - b);
  const meanAt = points.reduce((sum, { atMs }) => sum + atMs, 0) / points.length;
  const meanMb = sizes.reduce((sum, mb) => sum + mb, 0) / sizes.length;
  const spread = points.reduce((sum, { atMs }) => sum + (atMs - meanAt) ** 2, 0);
  const slope = points.reduce((sum, { atMs, mb }) => sum + (atMs - meanAt) * (mb - meanMb), 0) / (spread || 1);
  return {
    first: points[0]!.mb,
    median: sizes[Math.floor(sizes.length / 2)]!,
    max: sizes.at(-1)!,
    slopePerHour: slope * 3_600_000,
    samples: points.length,
  };
}
