/** What the bench can be asked on its command line. */
import { parseArgs } from "node:util";

export interface Options {
  /** Each round measures every case once; the table shows medians of the rounds. Undefined: as many as are worth their time. */
  readonly rounds: number | undefined;
  /** Measured a case and round; half a second of warm-up comes before. */
  readonly seconds: number;
  readonly clients: readonly number[];
  /** Systems to run; the node itself always. */
  readonly only: readonly Contender[];
  /** A folder with passages.jsonl to take the text from. */
  readonly dataDir: string | undefined;
  /** Put the table into test/bench/README.md. */
  readonly write: boolean;
  /** Instead of the figures, or beside those of a study: the functions a node spends its time in. */
  readonly profile: boolean;
  /** Undefined: writes and reads against etcd and the floor. */
  readonly study: Study | undefined;
  /** What a study writes; its own default when undefined. */
  readonly deltas: number | undefined;
}

/** What is measured beside writes and reads, each by a file of its name. */
export type Study = (typeof STUDIES)[number];
export const STUDIES = ["catch-up", "converge", "repair", "idle"] as const;

export type Contender = "continuum" | "etcd" | "floor";
const CONTENDERS: readonly Contender[] = ["continuum", "etcd", "floor"];

export const USAGE = `npm run bench -- [FOLDER] [--rounds 3] [--seconds 2] [--clients 1,16,64] [--only continuum,etcd,floor] [--write] [--profile]
FOLDER holds passages.jsonl; without it the vendored sentences are used. --write puts the table into test/bench/README.md.
--profile prints what a replica and a witness spend their time on while 64 clients write.
npm run bench -- --catch-up | --converge | --repair | --idle [--deltas N] [--rounds N] [--write] [--profile]
measures how fast a returning node catches up, how fast three peers converge, what clients notice of a repair, what a federation at rest sends.`;

/** @throws Error with a sentence */
export function readOptions(argv: readonly string[]): Options {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      rounds: { type: "string" },
      seconds: { type: "string", default: "2" },
      clients: { type: "string", default: "1,16,64" },
      only: { type: "string", default: CONTENDERS.join(",") },
      write: { type: "boolean", default: false },
      profile: { type: "boolean", default: false },
      deltas: { type: "string" },
      ...Object.fromEntries(STUDIES.map((name) => [name, { type: "boolean" as const, default: false }])),
    },
  });
  if (positionals.length > 1) throw new Error("one folder at most");
  const only = values.only.split(",");
  const unknown = only.find((name) => !(CONTENDERS as readonly string[]).includes(name));
  if (unknown !== undefined) throw new Error(`--only knows ${CONTENDERS.join(", ")}, not ${unknown}`);
  const studies = STUDIES.filter((name) => (values as Record<string, unknown>)[name] === true);
  if (studies.length > 1) throw new Error(`one of ${studies.map((name) => `--${name}`).join(", ")} at a time`);
  return {
    rounds: values.rounds === undefined ? undefined : positive("rounds", values.rounds),
    seconds: positive("seconds", values.seconds),
    clients: values.clients.split(",").map((one) => positive("clients", one)),
    only: CONTENDERS.filter((name) => only.includes(name)),
    dataDir: positionals[0],
    write: values.write,
    profile: values.profile,
    study: studies[0],
    deltas: values.deltas === undefined ? undefined : positive("deltas", values.deltas),
  };
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0 || (name !== "seconds" && !Number.isInteger(value))) throw new Error(`--${name} ${text} is not above 0`);
  return value;
}
