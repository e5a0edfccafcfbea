/** Reads what `node --cpu-prof` wrote: where the time went, by function and by part of the program. */
import { readFileSync } from "node:fs";

interface CpuProfile {
  readonly nodes: readonly {
    readonly id: number;
    readonly callFrame: { readonly functionName: string; readonly url: string; readonly lineNumber: number };
    readonly children?: readonly number[];
  }[];
  readonly samples: readonly number[];
  readonly timeDeltas: readonly number[];
  /** Microseconds, as are the deltas. */
  readonly startTime: number;
}

export interface ProfileSummary {
  /** Share of the time that the main thread was not idle. */
  readonly busy: number;
  /** Shares of the busy time, largest first. */
  readonly functions: readonly { readonly name: string; readonly self: number; readonly total: number }[];
  readonly parts: readonly { readonly name: string; readonly self: number }[];
}

/** @param fromUs and `toUs`: only what ran between them, on the machine's monotonic clock (`process.hrtime`), which profiles count in too */
export function summariseProfile(file: string, fromUs: number, toUs: number): ProfileSummary {
  const profile = JSON.parse(readFileSync(file, "utf8")) as CpuProfile;
  const nodes = new Map(profile.nodes.map((node) => [node.id, node]));
  const parents = new Map(profile.nodes.flatMap((node) => (node.children ?? []).map((child) => [child, node.id] as const)));
  const self = new Map<string, number>();
  const total = new Map<string, number>();
  const parts = new Map<string, number>();
  let [at, busy, idle] = [profile.startTime, 0, 0];
  profile.samples.forEach((id, index) => {
    const delta = profile.timeDeltas[index] ?? 0;
    at += delta;
    if (at < fromUs || at > toUs) return;
    const frame = nodes.get(id)!.callFrame;
    if (frame.functionName === "(idle)") {
      idle += delta;
      return;
    }
    busy += delta;
    add(self, nameOf(frame), delta);
    add(parts, partOf(frame), delta);
    const seen = new Set<string>();
    for (let node: number | undefined = id; node !== undefined; node = parents.get(node)) seen.add(nameOf(nodes.get(node)!.callFrame));
    for (const name of seen) add(total, name, delta);
  });
  return {
    busy: busy / (busy + idle),
    functions: ranked(self).map(([name, time]) => ({ name, self: time / busy, total: total.get(name)! / busy })),
    parts: ranked(parts).map(([name, time]) => ({ name, self: time / busy })),
  };
}

type Frame = CpuProfile["nodes"][number]["callFrame"];

function nameOf({ functionName, url, lineNumber }: Frame): string {
  const file = url.replace(/^.*\/(?=node_modules\/)/, "").replace(/^file:.*\/(?=(?:node|protocol|crypto|test)\/)/, "");
  return `${functionName === "" ? "(anonymous)" : functionName}${file === "" ? "" : ` ${file}:${lineNumber + 1}`}`;
}

/** A package, a room of ours, or the runtime. */
function partOf({ functionName, url }: Frame): string {
  const installed = /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(url);
  if (installed !== null) return installed[1]!;
  const ours = /\/((?:node\/(?:http|memory|store|net)|node|protocol\/graph|protocol|crypto))\/[^/]*$/.exec(url);
  if (ours !== null) return ours[1]!;
  if (functionName.startsWith("(")) return functionName;
  return url.startsWith("node:") ? "node's own JavaScript" : "native calls";
}

function add(sums: Map<string, number>, name: string, value: number): void {
  sums.set(name, (sums.get(name) ?? 0) + value);
}

function ranked(sums: ReadonlyMap<string, number>): [string, number][] {
  return [...sums].sort((a, b) => b[1] - a[1]);
}
