/**
 * npm run mutants -- [--seeds COUNT] [--only TEXT]
 *
 * Breaks the product one line at a time, in a copy, and lets the simulator look for it, or the unit tests of the part where the mutant names them. Prints
 * which seed, schedule or test found each, and which checker; the last line is
 * `N caught, N escaped`, the exit code 0 when none escaped.
 */
import { parseArgs } from "node:util";
import { huntAll } from "./mutant-hunt.ts";
import { MUTANTS } from "./mutants.ts";

const { values } = parseArgs({ options: { seeds: { type: "string", default: "400" }, only: { type: "string", default: "" } } });
const chosen = MUTANTS.filter((mutant) => mutant.name.includes(values.only));
const hunts = await huntAll(chosen, Number(values.seeds), (hunt) => {
  const found = hunt.caught === undefined ? "ESCAPED" : `${hunt.caught.by.padEnd(10)}  ${hunt.caught.checkers.join(", ")}`;
  console.log(`${hunt.mutant.name.padEnd(62)} ${found}  (${hunt.seconds.toFixed(1)} s)`);
});
const escaped = hunts.filter((hunt) => hunt.caught === undefined).length;
console.log(`${hunts.length - escaped} caught, ${escaped} escaped`);
process.exitCode = escaped === 0 ? 0 : 1;
