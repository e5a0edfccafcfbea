/**
 * A process's time of day, shifted or stopped while it runs. This file is both: `--import`ed by Node before a node's program (then the environment names
 * the file to obey) it replaces Date in that process alone; imported by the tests it writes that file. Timers and `performance.now()` stay true, as the
 * monotonic clock does when somebody sets a machine's time. The product has no flag for this and does not know.
 */
import { readFileSync, renameSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

export interface Clock {
  /** Added to the true time. */
  readonly offsetMs?: number;
  /** It stands at this moment, ms since 1970. */
  readonly frozenAt?: number;
}

/** Environment variable with the file's path. */
export const CLOCK_FILE = "FAULTS_CLOCK_FILE";
export const CLOCK_PRELOAD = ["--import", pathToFileURL(import.meta.filename).href] as const;
const LOOK_MS = 50;

export function writeClock(file: string, clock: Clock): void {
  writeFileSync(`${file}.new`, JSON.stringify(clock));
  renameSync(`${file}.new`, file);
}

const obeyed = process.env[CLOCK_FILE];
if (obeyed !== undefined) shiftDate(obeyed);

function shiftDate(file: string): void {
  const TrueDate = Date;
  const trueNow = Date.now;
  let clock: Clock = {};
  const look = (): void => {
    try {
      clock = JSON.parse(readFileSync(file, "utf8")) as Clock;
    } catch {
      // not written yet, or the run has ended and its folder is gone
    }
  };
  look();
  setInterval(look, LOOK_MS).unref();
  const now = (): number => clock.frozenAt ?? trueNow() + (clock.offsetMs ?? 0);
  globalThis.Date = new Proxy(TrueDate, {
    construct: (target, given, newTarget) => Reflect.construct(target, given.length === 0 ? [now()] : given, newTarget) as object,
    apply: () => new TrueDate(now()).toString(),
    get: (target, name, receiver) => (name === "now" ? now : (Reflect.get(target, name, receiver) as unknown)),
  });
}
