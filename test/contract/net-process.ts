import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import type { NodeId } from "../../protocol/ids.ts";
import type { TestNetOptions } from "./net-nodes.ts";

export interface NetProcess {
  readonly self: NodeId;
  readonly port: number;
  readonly process: ChildProcess;
  readonly peers: { peer: NodeId; connected: boolean }[];
}

const running = new Set<ChildProcess>();

/** @param options as for testNet, but only what JSON can carry */
export async function spawnNet(
  options: Pick<TestNetOptions, "seed" | "speed" | "secrets" | "peers" | "advertise">,
  env: NodeJS.ProcessEnv = {},
): Promise<NetProcess> {
  const script = new URL("./net-child.ts", import.meta.url).pathname;
  const child = spawn(process.execPath, [script, JSON.stringify(options)], { env: { ...process.env, ...env }, stdio: ["ignore", "pipe", "inherit"] });
  running.add(child);
  child.once("exit", () => running.delete(child));
  const peers: NetProcess["peers"] = [];
  return new Promise((resolve, reject) => {
    child.once("exit", (code) => reject(new Error(`the child ended with ${code}`)));
    createInterface({ input: child.stdout! }).on("line", (line) => {
      const said = JSON.parse(line) as { self: NodeId; port: number } | { peer: NodeId; connected: boolean };
      if ("self" in said) resolve({ ...said, process: child, peers });
      else peers.push(said);
    });
  });
}

export async function endProcesses(): Promise<void> {
  const ended = [...running].map((child) => new Promise((resolve) => child.once("exit", resolve)));
  for (const child of running) child.kill("SIGKILL");
  await Promise.all(ended);
}
