/** Medians of the rounds, ratios between systems of one run, the goals, and the table as Markdown. */
import type { Case } from "./cases.ts";
import type { Sample } from "./load.ts";

export interface Measured extends Sample {
  /** Of all processes of the system together, per answered request, microseconds; undefined where it cannot be read. */
  readonly processorUs: number | undefined;
}
export type Results = ReadonlyMap<string, { readonly case: Case; readonly samples: readonly Measured[] }>;

interface Row {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly processorUs: number | undefined;
}

const TITLES: Readonly<Record<Case["workload"], string>> = {
  memories: "`POST /v1/memories`, quorum",
  "etcd-put": "etcd put",
  "floor-put": "bare floor put",
  learn: "`POST /v1/learn`, quorum",
  "recall-quorum": "`POST /v1/recall`, quorum",
  "empty-quorum": "empty quorum read",
  "etcd-read": "etcd range, linearizable",
  "recall-one": "`POST /v1/recall`, one",
};

/** Ratio of each goal as the issue states them. */
const ETCD_MIN = 1;
const FLOOR_MIN = 0.6;
const ETCD_ALONE_MIN = 0.7;
const RECALL_P99_MAX = 2;

export function table(results: Results): string {
  const lines = [
    "| request | clients | /s | p50 ms | p99 ms | x etcd | x floor | CPU us |",
    "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
  ];
  for (const [name, { case: one, samples }] of results) {
    const row = median(samples);
    const compared = one.workload === "memories" || one.workload === "learn";
    const over = (workload: Case["workload"]): string =>
      compared ? ratioText(perSecond(results, name), perSecond(results, `${workload}/${one.clients}`)) : "";
    const title = `${TITLES[one.workload]}${one.atOneReplica ? ", all at one replica" : ""}`;
    lines.push(
      `| ${title} | ${one.clients} | ${Math.round(row.perSecond)} | ${row.p50Ms.toFixed(2)} | ${row.p99Ms.toFixed(2)} | ${over("etcd-put")} | ${over("floor-put")} | ${row.processorUs === undefined ? "" : Math.round(row.processorUs)} |`,
    );
  }
  return lines.join("\n");
}

export interface Goal {
  readonly text: string;
  /** Undefined: what it compares with was not measured. */
  readonly reached: number | undefined;
  readonly met: boolean | undefined;
}

export function goals(results: Results, clients: readonly number[]): Goal[] {
  const most = Math.max(...clients);
  const atLeast = (text: string, one: string, other: string, least: number): Goal => {
    const reached = ratio(perSecond(results, one), perSecond(results, other));
    return { text: `${text} >= ${least.toFixed(1)} x`, reached, met: reached === undefined ? undefined : reached >= least };
  };
  return [
    atLeast(`quorum memories / etcd put, ${counted(most)}`, `memories/${most}`, `etcd-put/${most}`, ETCD_MIN),
    atLeast(`quorum memories / bare floor, ${counted(most)}`, `memories/${most}`, `floor-put/${most}`, FLOOR_MIN),
    ...(clients.includes(1) ? [atLeast("quorum memories / etcd put, 1 client", "memories/1", "etcd-put/1", ETCD_ALONE_MIN)] : []),
    ...clients.map((count): Goal => {
      const reached = ratio(p99(results, `recall-quorum/${count}`), p99(results, `empty-quorum/${count}`));
      const text = `quorum recall p99 / empty quorum read p99, ${counted(count)} <= ${RECALL_P99_MAX.toFixed(1)} x`;
      return { text, reached, met: reached === undefined ? undefined : reached <= RECALL_P99_MAX };
    }),
  ];
}

function counted(clients: number): string {
  return clients === 1 ? "1 client" : `${clients} clients`;
}

export function goalLine({ text, reached, met }: Goal): string {
  return reached === undefined ? `- ${text}: not measured` : `- ${text}: ${reached.toFixed(2)}, ${met === true ? "met" : "**missed**"}`;
}

/** @returns a line a case in which answers were wrong */
export function failures(results: Results): string[] {
  return [...results].flatMap(([name, { samples }]) => {
    const wrong = samples.filter((sample) => Object.keys(sample.failures).length > 0);
    return wrong.length === 0 ? [] : [`${name}: ${wrong.map((sample) => JSON.stringify(sample.failures)).join(" ")} ${wrong[0]!.example ?? ""}`];
  });
}

function median(samples: readonly Measured[]): Row {
  const middle = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
  const processor = samples.flatMap(({ processorUs }) => (processorUs === undefined ? [] : [processorUs]));
  return {
    perSecond: middle(samples.map((sample) => sample.perSecond)),
    p50Ms: middle(samples.map((sample) => sample.p50Ms)),
    p99Ms: middle(samples.map((sample) => sample.p99Ms)),
    processorUs: processor.length === 0 ? undefined : middle(processor),
  };
}

function perSecond(results: Results, name: string): number[] | undefined {
  return results.get(name)?.samples.map((sample) => sample.perSecond);
}

function p99(results: Results, name: string): number[] | undefined {
  return results.get(name)?.samples.map((sample) => sample.p99Ms);
}

/** The median of the rounds' own ratios: what the machine did in one round, it did to both. */
function ratio(ones: readonly number[] | undefined, others: readonly number[] | undefined): number | undefined {
  if (ones === undefined || others === undefined) return undefined;
  const ratios = ones.map((one, round) => one / others[round]!).sort((a, b) => a - b);
  return ratios[Math.floor(ratios.length / 2)];
}

function ratioText(ones: readonly number[] | undefined, others: readonly number[] | undefined): string {
  const value = ratio(ones, others);
  return value === undefined ? "" : value.toFixed(2);
}
