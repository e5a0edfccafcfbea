/**
 * `npm start`: a federation of several nodes on this machine, each a process of this same program. Everything is checked before anything is
 * started: the configuration, the folder and every port.
 */
import { createServer } from "node:net";
import { join } from "node:path";
import { type Command, InvalidArgumentError } from "commander";
import { loadConfig } from "../config.ts";
import { CliError, EXIT } from "./exit.ts";
import { type FederationFolder, openFolder } from "./federation-folder.ts";
import type { NodePlan } from "./federation-node.ts";
import { RESTART_MS, Supervisor } from "./federation-supervisor.ts";

interface FederationOptions {
  readonly nodes?: number;
  readonly data: string;
  readonly portBase: number;
}

const NODES_MAX = 9;
/** Ports of one node lie together, nodes ten apart: 8420 8421 8422, 8430 8431 8432 ... */
const PORT_STEP = 10;

export function addFederation(program: Command): void {
  program
    .command("federation")
    .description("run a federation of several nodes on this machine (npm start)")
    .option(
      "--nodes <count>",
      "how many nodes (default: what the folder has, 3 in a new one); more are added and join; 1 is a node alone",
      wholeNumber(1, NODES_MAX),
    )
    .option("--data <folder>", "where everything is kept", "./data")
    .option(
      "--port-base <port>",
      "first port of the first node; the next nodes are 10 apart",
      wholeNumber(1024, 65_535 - NODES_MAX * PORT_STEP),
      8420,
    )
    .addHelpText("after", `\nA node that ends is started again after ${RESTART_MS / 1000} s. Logs: FOLDER/node-K/node.log.`)
    .action(federation);
}

async function federation(options: FederationOptions): Promise<void> {
  const folder = openFolder(options.data, options.nodes);
  try {
    const { plans, apiKey } = planNodes(folder, options.portBase);
    for (const plan of plans) await checkPorts(plan);
    folder.commit({ secret: plans.length > 1 });
    const clean = await new Supervisor(folder, plans, apiKey).run();
    process.exitCode = clean ? EXIT.ok : EXIT.failed;
  } finally {
    folder.release();
  }
  process.exit();
}

function planNodes(folder: FederationFolder, portBase: number): { plans: NodePlan[]; apiKey: string | undefined } {
  const numbers = Array.from({ length: folder.nodeCount }, (_, index) => index);
  const names = numbers.map((index) => `node-${index + 1}`);
  const { config, faults } = loadConfig({ flags: { nodeName: "node-1", federationFirstMembers: [], federationPeers: [] } });
  if (config === undefined) throw new CliError(faults.join("\n"), EXIT.usage, "bad_configuration");
  const secretGiven = config.federationSecrets.length > 0;
  const plans = numbers.map((index): NodePlan => {
    const apiPort = portBase + index * PORT_STEP;
    const dataDir = join(folder.path, names[index]!);
    const own = { "node-name": names[index], "data-dir": dataDir, "api-port": apiPort, "federation-port": apiPort + 1, "gossip-port": apiPort + 2 };
    const peers = numbers.filter((other) => other !== index).map((other) => `127.0.0.1:${portBase + other * PORT_STEP + 1}`);
    const together = names.length === 1 ? {} : { ...membership(index, names.slice(0, folder.firstCount)), "federation-peers": peers.join(",") };
    const secret = secretGiven || names.length === 1 ? {} : { "federation-secret-file": folder.secretFile };
    const flags = Object.entries({ ...own, ...together, ...secret }).flatMap(([name, value]) => [`--${name}`, String(value)]);
    return { name: names[index]!, apiPort, federationPort: apiPort + 1, gossipPort: apiPort + 2, dataDir, joins: index >= folder.firstCount, flags };
  });
  return { plans, apiKey: process.env.CONTINUUM_API_KEY || config.apiKeys[0] };
}

/** The first ones form layout 1; who comes later asks to be added. One that was alone has a layout already. */
function membership(index: number, first: readonly string[]): Record<string, string> {
  if (index >= first.length) return { "federation-auto-join": "true" };
  return first.length === 1 ? {} : { "federation-first-members": first.join(",") };
}

async function checkPorts({ name, apiPort, federationPort, gossipPort }: NodePlan): Promise<void> {
  const uses = [
    [apiPort, "memory API"],
    [federationPort, "federation"],
    [gossipPort, "gossip"],
  ] as const;
  for (const [port, use] of uses) {
    const code = await new Promise<string | undefined>((done) => {
      const server = createServer();
      server.once("error", (error: NodeJS.ErrnoException) => done(error.code ?? error.message));
      server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => done(undefined)));
    });
    if (code === undefined) continue;
    const reason = code === "EADDRINUSE" ? "is already in use" : `cannot be opened (${code})`;
    throw new CliError(`Port ${port} (${use} of ${name}) ${reason}: free it, or choose other ports with --port-base.`, EXIT.failed, "port_in_use");
  }
}

function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max) throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
    return value;
  };
}
