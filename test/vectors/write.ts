/**
 * `node test/vectors/write.ts` shows where today's code would write other bytes than the golden ones (exit 1 when it would);
 * `--write` then writes them. A changed line is a change of the wire: see protocol/version.ts.
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deltaVectors, messageVectors } from "./samples.ts";

const write = process.argv.includes("--write");
let different = 0;

for (const [file, vectors] of [
  ["deltas.json", deltaVectors()],
  ["messages.json", messageVectors()],
] as const) {
  const path = join(import.meta.dirname, file);
  const before: { name: string }[] = existsSync(path) ? JSON.parse(readFileSync(path, "utf8")) : [];
  const names = new Set([...before, ...vectors].map(({ name }) => name));
  for (const name of names) {
    const [golden, now] = [before, vectors].map((all) => JSON.stringify((all as readonly { name: string }[]).find((one) => one.name === name)));
    if (golden === now) continue;
    different++;
    console.log(`${file}: ${name}\n- ${golden ?? "(none)"}\n+ ${now ?? "(none)"}`);
  }
  if (write) writeFileSync(path, `${JSON.stringify(vectors, undefined, 2)}\n`);
}
console.log(different === 0 ? "golden bytes are what the code writes" : `${different} vectors differ${write ? ", written" : "; --write takes them"}`);
process.exitCode = different > 0 && !write ? 1 : 0;
