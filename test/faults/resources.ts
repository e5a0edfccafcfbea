/** Resident memory of processes over time, from /proc: what grows in an hour of chaos shows in the slope. */
import { readFileSync } from "node:fs";

interface Point {
  readonly atMs: number;
  readonly mb: number;
}
interface Growth {
  readonly first: number;
  readonly median: number;
  readonly max: number;
  /** Least squares over the second half of the samples, MB an hour: a process first grows into its caches. */
  readonly slopePerHour: number;
}

/** Of one process, a restart begins another. */
interface Sampled {
  readonly name: string;
  readonly pid: number;
  readonly points: Point[];
}

/** Fewer samples say little about growth. */
const LONG_SAMPLES = 30;

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

  /** A line each for processes that lived for `LONG_SAMPLES`; the shorter lives of a node in one line. */
  report(): string[] {
    const long = this.#sampled.filter(({ points }) => points.length >= LONG_SAMPLES);
    const short = new Map<string, number[]>();
    for (const { name, points } of this.#sampled)
      if (points.length < LONG_SAMPLES) short.set(name, [...(short.get(name) ?? []), Math.max(...points.map(({ mb }) => mb))]);
    return [
      ...long.map(({ name, pid, points }) => {
        const { first, median, max, slopePerHour } = growthOf(points);
        const figures = [
          `first ${first.toFixed(0)}`,
          `median ${median.toFixed(0)}`,
          `max ${max.toFixed(0)}`,
          `slope ${slopePerHour.toFixed(1)} an hour`,
        ];
        return `${name} (pid ${pid}): ${figures.join(", ")}, ${points.length} samples`;
      }),
      ...[...short].map(([name, most]) => `${name}: ${most.length} shorter lives, max ${Math.max(...most).toFixed(0)}`),
    ];
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

function residentMb(pid: number): number | undefined {
  try {
    const line = /^VmRSS:\s+(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"));
    return line === null ? undefined : Number(line[1]) / 1024;
  } catch {
    return undefined;
  }
}

function growthOf(points: readonly Point[]): Growth {
  const sizes = points.map(({ mb }) => mb).sort((a, b) => a - b);
  return {
    first: points[0]!.mb,
    median: sizes[Math.floor(sizes.length / 2)]!,
    max: sizes.at(-1)!,
    slopePerHour: slopeOf(points.slice(points.length / 2)) * 3_600_000,
  };
}

function slopeOf(points: readonly Point[]): number {
  const meanAt = points.reduce((sum, { atMs }) => sum + atMs, 0) / points.length;
  const meanMb = points.reduce((sum, { mb }) => sum + mb, 0) / points.length;
  const spread = points.reduce((sum, { atMs }) => sum + (atMs - meanAt) ** 2, 0);
  return points.reduce((sum, { atMs, mb }) => sum + (atMs - meanAt) * (mb - meanMb), 0) / (spread || 1);
}
