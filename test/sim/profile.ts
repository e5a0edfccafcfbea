import type { Rng } from "./rng.ts";
import { FAULT_KINDS, type FaultKind, type FaultSettings } from "./schedule.ts";
import type { DiskTimes } from "./sim-disk.ts";
import type { NetworkSettings } from "./sim-network.ts";
import type { WorkloadSettings } from "./workload.ts";

/** Everything a seed decides before its run begins. */
export interface Profile {
  readonly nodeCount: number;
  readonly replicationFactor: number;
  readonly syncIntervalMs: number;
  /** Of decay; short enough in some runs that links fade while they are counted. */
  readonly periodMs: number;
  readonly network: NetworkSettings;
  readonly disk: DiskTimes;
  /** Largest difference of a node's clock from true time at the start, ms. */
  readonly clockErrorMs: number;
  readonly workload: WorkloadSettings;
  readonly faults: FaultSettings;
  /** A storm while layout 1 is being formed; undefined: calm weather. */
  readonly birth: { readonly faults: FaultSettings; readonly durationMs: number; readonly disksLost: boolean } | undefined;
  /** How long clients work and things break, ms. */
  readonly durationMs: number;
}

/** d of the federation that is simulated, with h = 1 - d. */
export const RESONANCE_DECAY = 0.85;

/** Faults that no run draws: the checkers know a delta by its number, and two machines on one volume give one number to two. Scenarios play them. */
export const NOT_DRAWN: ReadonlySet<FaultKind> = new Set<FaultKind>(["clone"]);

/** @param nodeCount undefined: drawn, mostly three */
export function drawProfile(rng: Rng, nodeCount?: number): Profile {
  const count = nodeCount ?? rng.pick([3, 3, 3, 3, 3, 3, 2, 4, 5, 5, 7, 1]);
  const workload = drawWorkload(rng);
  // A busy run is short and a quiet one long: each has about as much to examine.
  const durationMs = Math.min(120_000, Math.max(3000, (rng.between(25, 180) * (workload.pauseMs + 30)) / workload.clients));
  return {
    nodeCount: count,
    replicationFactor: count >= 5 ? rng.pick([2, 3]) : 2,
    syncIntervalMs: rng.pick([500, 1000, 5000]),
    periodMs: rng.pick([2000, 60_000, 30 * 24 * 3_600_000]),
    network: {
      link: rng.pick([
        { delayMs: 0.2, jitterMs: 0.2 },
        { delayMs: 2, jitterMs: 5 },
        { delayMs: 30, jitterMs: 30 },
      ]),
      hostility: rng.chance(0.4)
        ? { dropChance: rng.float() * 0.1, duplicateChance: rng.float() * 0.3, reorderChance: rng.float() * 0.2, lateMs: rng.pick([5, 200, 5000]) }
        : undefined,
      newsLossChance: rng.pick([0, 0.3, 1]),
      connectMs: rng.pick([5, 150]),
      detectMs: rng.pick([200, 1000, 4000]),
    },
    disk: { writeMs: 0.02, fsyncMs: rng.pick([0.5, 2, 20]), stallChance: rng.pick([0, 0.01]) },
    clockErrorMs: rng.pick([0, 5, 500, 60_000]),
    workload,
    faults: drawFaultSettings(rng, durationMs),
    birth: rng.chance(0.4) ? drawBirth(rng) : undefined,
    durationMs,
  };
}

/** The seed's weather and these kinds of faults besides, on at least three nodes that were born in peace and work long enough to meet them. */
export function withFaults(profile: Profile, kinds: readonly FaultKind[]): Profile {
  const { faults, nodeCount, durationMs } = profile;
  return {
    ...profile,
    birth: undefined,
    nodeCount: Math.max(3, nodeCount),
    durationMs: Math.max(15_000, durationMs),
    faults: { ...faults, kinds: [...new Set([...faults.kinds, ...kinds])] },
  };
}

function drawWorkload(rng: Rng): WorkloadSettings {
  return {
    clients: 2 + rng.int(6),
    tenants: rng.chance(0.5) ? ["alpha"] : ["alpha", "beta", "gamma"],
    pauseMs: rng.pick([20, 100, 300, 1000, 4000]),
    timeoutMs: rng.pick([500, 1500, 3000]),
    retryChance: rng.pick([0, 0.7, 0.95]),
    attemptsMax: 1 + rng.int(4),
    twiceChance: rng.pick([0, 0.1]),
  };
}

/** Over in a moment, so they meet less than what lasts. */
const DEATHS: ReadonlySet<FaultKind> = new Set<FaultKind>(["kill", "power", "torn", "strike"]);

function drawFaultSettings(rng: Rng, durationMs: number): FaultSettings {
  const kinds = FAULT_KINDS.filter((kind) => !NOT_DRAWN.has(kind) && rng.chance(DEATHS.has(kind) ? 0.45 : 0.3));
  // Between any two of its effects is where a node's death says most, and a change of the layout is over soon.
  const more = (kind: FaultKind): FaultKind[] => (kinds.includes(kind) ? kinds.map(() => kind) : []);
  const weighted = [...kinds, ...more("strike"), ...more("operate")];
  return { kinds: weighted, everyMs: Math.max(150, durationMs / rng.between(3, 30)), lastsMs: rng.between(200, 4000) };
}

/**
 * Short crashes and cuts, one after the other, so that some hit each step of the formation. In half of the storms disks are lost as well; such a run
 * ends with its birth, because who lost a disk after the layout had named it is no member any more.
 */
function drawBirth(rng: Rng): NonNullable<Profile["birth"]> {
  const disksLost = rng.chance(0.5);
  const kinds: FaultKind[] = ["kill", "power", "torn", "cut", "one-way", "flap", "slow", "pause", "eio", "full"];
  const drawn = rng.shuffle(kinds).slice(0, 1 + rng.int(kinds.length));
  const often = (kind: FaultKind, times: number): FaultKind[] => Array.from({ length: times }, () => kind);
  return {
    faults: {
      kinds: [...drawn, ...often("strike", 2 * drawn.length), ...(disksLost ? often("lose-disk", drawn.length) : [])],
      everyMs: rng.between(20, 300),
      lastsMs: rng.between(20, 400),
    },
    durationMs: rng.between(500, 4000),
    disksLost,
  };
}
