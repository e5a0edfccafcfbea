/**
 * Which faults met which steps of the protocol, and how often: a fault that never struck where it could hurt proves nothing. What must have happened in
 * the seeds that CI runs is declared here.
 */

import type { ActiveFault } from "./faults.ts";
import type { SimNode } from "./federation.ts";
import type { FaultKind } from "./schedule.ts";
import { STEPS, type Step, type Where } from "./steps.ts";

/** `kind` -> `step` -> how often; JSON. */
export type Counts = Partial<Record<FaultKind, Partial<Record<Step, number>>>>;

const OF_WRITES: readonly Step[] = ["write staged", "flushed, unacknowledged", "push", "staged at a replica", "sealed at a witness", "ack"];
const OF_WITNESSES: readonly Step[] = ["mark rises", "witness forgets"];
const OF_READS: readonly Step[] = ["barrier asks", "barrier told", "barrier snapshot", "barrier confirms"];
const OF_REQUESTS: readonly Step[] = ["request forwarded", "answer forwarded"];
const OF_LINKS: readonly Step[] = [
  "push",
  "ack",
  "barrier asks",
  "barrier told",
  "interval wanted",
  "interval repaired",
  "heads compared",
  ...OF_REQUESTS,
];
const OF_FORMATION: readonly Step[] = [
  "formation prepare",
  "formation promise",
  "formation propose",
  "formation yes",
  "formation persisted",
  "layout persisted",
];

/**
 * Each of these kinds must have met each of these steps. Only what 500 seeds meet a dozen times is declared, so that another draw of the same chances does
 * not miss it; what is rarer has a schedule of its own (scenarios.ts, every-effect.test.ts).
 */
const DECLARED: readonly { readonly kinds: readonly FaultKind[]; readonly steps: readonly Step[] }[] = [
  {
    kinds: ["kill", "power", "torn", "blackout"],
    steps: ["flushed, unacknowledged", "push", "ack", "barrier asks", "heads compared", ...OF_REQUESTS],
  },
  {
    kinds: ["strike"],
    steps: [...OF_WRITES, "witness forgets", "barrier asks", "barrier told", "interval wanted", "interval repaired", ...OF_REQUESTS, ...OF_FORMATION],
  },
  { kinds: ["pause"], steps: [...OF_WRITES, ...OF_WITNESSES, ...OF_READS, ...OF_REQUESTS, ...OF_FORMATION] },
  { kinds: ["pause"], steps: ["interval wanted", "interval repaired", "heads compared"] },
  { kinds: ["cut", "one-way", "split", "flap", "link-stall", "release", "slow", "trickle"], steps: OF_LINKS },
  { kinds: ["clock", "clock-stops", "drift", "skew"], steps: ["write staged", "push", "ack"] },
  { kinds: ["disk-stall", "read-eio", "full"], steps: ["write staged", "staged at a replica", "sealed at a witness", "barrier snapshot"] },
  { kinds: ["eio"], steps: ["write staged", "push", "ack"] },
  { kinds: ["lose-disk"], steps: ["hello", "formation prepare"] },
];

/** Fewer seeds than this say nothing about what never happens. */
export const COVERED_SEEDS_MIN = 300;

/** Counts in one run. */
export class Coverage {
  readonly counts: Counts = {};
  readonly #faults = new Set<ActiveFault>();
  readonly #underWay = new Set<{ readonly step: Step; readonly where: Where }>();

  begins(step: Step, where: Where): { end(): void } {
    this.happens(step, where);
    const one = { step, where };
    this.#underWay.add(one);
    return { end: () => void this.#underWay.delete(one) };
  }

  happens(step: Step, where: Where): void {
    for (const fault of this.#faults) if (meets(fault, where)) this.#count(fault.kind, step);
  }

  faultBegins(fault: ActiveFault): void {
    for (const { step, where } of this.#underWay) if (meets(fault, where)) this.#count(fault.kind, step);
    if (!fault.instant) this.#faults.add(fault);
  }

  /** A node dies at its own effects; those of them that are under way already are counted with the rest. */
  strike(steps: readonly Step[], node: SimNode): void {
    const underWay = new Set([...this.#underWay].filter(({ where }) => where.includes(node)).map(({ step }) => step));
    for (const step of steps) if (!underWay.has(step)) this.#count("strike", step);
  }

  faultEnds(fault: ActiveFault): void {
    this.#faults.delete(fault);
  }

  #count(kind: FaultKind, step: Step): void {
    this.counts[kind] ??= {};
    const of = this.counts[kind] as Partial<Record<Step, number>>;
    of[step] = (of[step] ?? 0) + 1;
  }
}

/** A broken link meets what crosses it; anything else meets what its node has a part in. */
function meets({ nodes, link }: ActiveFault, where: Where): boolean {
  const there = (node: SimNode): boolean => nodes.includes(node);
  return link ? where.length === 2 && where.every(there) : where.some(there);
}

export function addCounts(to: Counts, more: Counts): void {
  for (const [kind, steps] of Object.entries(more) as [FaultKind, Partial<Record<Step, number>>][]) {
    to[kind] ??= {};
    const of = to[kind] as Partial<Record<Step, number>>;
    for (const [step, count] of Object.entries(steps) as [Step, number][]) of[step] = (of[step] ?? 0) + count;
  }
}

/** Declared and never met: "kind: step". */
export function missing(counts: Counts): string[] {
  const pairs = DECLARED.flatMap(({ kinds, steps }) => kinds.flatMap((kind) => steps.map((step) => [kind, step] as const)));
  return [...new Set(pairs.filter(([kind, step]) => (counts[kind]?.[step] ?? 0) === 0).map(([kind, step]) => `${kind}: ${step}`))];
}

/** Rows are faults, columns steps, their names written down the page. */
export function table(counts: Counts): string {
  const kinds = Object.keys(counts).sort() as FaultKind[];
  const steps = STEPS.filter((step) => kinds.some((kind) => counts[kind]?.[step] !== undefined));
  const width = Math.max(0, ...kinds.map((kind) => kind.length));
  const legend = steps.map((step, at) => `${letter(at)} ${step}`);
  const head = `${"".padEnd(width)} ${steps.map((_, at) => letter(at).padStart(6)).join("")}`;
  const rows = kinds.map((kind) => `${kind.padEnd(width)} ${steps.map((step) => short(counts[kind]?.[step] ?? 0).padStart(6)).join("")}`);
  return [...columns(legend, 4), head, ...rows].join("\n");
}

const letter = (at: number): string => (at < 26 ? String.fromCharCode(97 + at) : String.fromCharCode(65 + at - 26));
const short = (count: number): string => (count < 100_000 ? String(count) : `${Math.round(count / 1000)}k`);

function columns(words: readonly string[], count: number): string[] {
  const rows = Math.ceil(words.length / count);
  const width = Math.max(0, ...words.map((word) => word.length)) + 2;
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: count }, (_, column) => (words[column * rows + row] ?? "").padEnd(width))
      .join("")
      .trimEnd(),
  );
}
