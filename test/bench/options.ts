/** What the bench can be asked on its command line. */
import { parseArgs } from "node:util";

export interface Options {
  /** Each round measures every case once; the table shows medians of the rounds. */
  readonly rounds: number;
  /** Measured a case and round; half a second of warm-up comes before. */
  readonly seconds: number;
  readonly clients: readonly number[];
  /** Systems to run; the node itself always. */
  readonly only: readonly Contender[];
  /** A folder with passages.jsonl to take the text from. */
  readonly dataDir: string | undefined;
  /** Put the table into test/bench/README.md. */
  readonly write: boolean;
  /** Instead of the table: the functions a node spends its time in. */
  readonly profile: boolean;
}

export type Contender = "continuum" | "etcd" | "floor";
const CONTENDERS: readonly Contender[] = ["continuum", "etcd", "floor"];

export const USAGE = `npm run bench -- [FOLDER] [--rounds 3] [--seconds 2] [--clients 1,16,64] [--only continuum,etcd,floor] [--write] [--profile]
FOLDER holds passages.jsonl; without it the vendored sentences are used. --write puts the table into test/bench/README.md.
--profile prints what a replica and a witness spend their time on while 64 clients write.`;

/** @throws Error with a sentence */
export function readOptions(argv: readonly string[]): Options {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: {
      rounds: { type: "string", default: "3" },
      seconds: { type: "string", default: "2" },
      clients: { type: "string", default: "1,16,64" },
      only: { type: "string", default: CONTENDERS.join(",") },
      write: { type: "boolean", default: false },
      profile: { type: "boolean", default: false },
    },
  });
  if (positionals.length > 1) throw new Error("one folder at most");
  const only = values.only.split(",");
  const unknown = only.find((name) => !(CONTENDERS as readonly string[]).includes(name));
  if (unknown !== undefined) throw new Error(`--only knows ${CONTENDERS.join(", ")}, not ${unknown}`);
  return {
    rounds: positive("rounds", values.rounds),
    seconds: positive("seconds", values.seconds),
    clients: values.clients.split(",").map((one) => positive("clients", one)),
    only: CONTENDERS.filter((name) => only.includes(name)),
    dataDir: positionals[0],
    write: values.write,
    profile: values.profile,
  };
}

function positive(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isFinite(value) || value <= 0 || (name !== "seconds" && !Number.isInteger(value))) throw new Error(`--${name} ${text} is not above 0`);
  return value;
}
