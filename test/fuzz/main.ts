/**
 * npm run fuzz -- [--inputs 1000000] [--seed N] [--only TEXT]
 *
 * Gives every decoder its share of the inputs, and says how many were read and how many refused with which code. A failure prints the smallest input that
 * shows it and the command that replays it. The last line is `N inputs, M failures`; the exit code is 0 when there are none.
 */
import { parseArgs } from "node:util";
import { DECODERS } from "./decoders.ts";
import { fuzz } from "./fuzz.ts";

const { values } = parseArgs({
  options: { inputs: { type: "string", default: "1000000" }, seed: { type: "string" }, only: { type: "string", default: "" } },
});
const chosen = DECODERS.filter(({ name }) => name.includes(values.only));
const share = Math.ceil(Number(values.inputs) / Math.max(1, chosen.length));
if (!Number.isSafeInteger(share) || share < 1 || chosen.length === 0) {
  process.stderr.write("usage: npm run fuzz -- [--inputs COUNT] [--seed NUMBER] [--only TEXT], where TEXT is part of a decoder's name\n");
  process.exit(2);
}
const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);

let inputs = 0;
let failures = 0;
for (const decoder of chosen) {
  const begun = performance.now();
  try {
    const { read, refused } = fuzz(decoder, share, seed);
    const codes = [...refused].map(([code, count]) => `${count} ${code}`).join(", ");
    const us = Math.round(((performance.now() - begun) * 1000) / share);
    console.log(`${decoder.name.padEnd(36)} ${String(read).padStart(7)} read${codes === "" ? "" : `, ${codes}`}  (${us} us each)`);
  } catch (error) {
    failures++;
    console.log(`${decoder.name}: ${(error as Error).message}\n${String((error as Error).cause ?? "")}`);
    console.log(`  replay: npm run fuzz -- --inputs ${share} --seed ${seed} --only "${decoder.name}"`);
  }
  inputs += share;
}
console.log(`seed ${seed}, ${Math.round(process.resourceUsage().maxRSS / 1024)} MB at the most`);
console.log(`${inputs} inputs, ${failures} failures`);
process.exitCode = failures === 0 ? 0 : 1;
