/** A thread that runs one seed after the other, for seeds.ts. */
import { parentPort } from "node:worker_threads";
import type { Violation } from "./history.ts";
import { runSeed } from "./run.ts";
import type { Asked, Told } from "./seeds.ts";

// A promise of the product that nobody waits for, and that failed: in a node it would end the process.
const unhandled: Violation[] = [];
process.on("unhandledRejection", (error) =>
  unhandled.push({ checker: "process", message: error instanceof Error ? (error.stack ?? error.message) : String(error) }),
);

parentPort?.on("message", async ({ seed, nodeCount, faults }: Asked) => {
  const { schedule: _, violations, ...result } = await runSeed({ seed, nodeCount, faults });
  const told: Told = { ...result, violations: [...violations, ...unhandled.splice(0)] };
  parentPort?.postMessage(told);
});
