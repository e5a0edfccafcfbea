/** Keeps the node processes of `continuum federation` running until a signal ends it. */
import { CliError, EXIT } from "./exit.ts";
import type { FederationFolder } from "./federation-folder.ts";
import { FederationNode, type NodePlan } from "./federation-node.ts";
import { allReady, drawCommands, drawFederation, LiveBlock, layoutOf, stateInWords } from "./federation-view.ts";
import { print } from "./print.ts";
import { onStopSignal } from "./stop-signals.ts";

const POLL_MS = 1000;
/** Long enough to see a federation do without the node, short enough to wait for its return. */
export const RESTART_MS = 20_000;
/** A node that ended this soon after each of as many starts is not started again. */
const QUICK_MS = 5000;
const QUICK_ENDS_MAX = 3;
const STOP_MS_MAX = 9500;

/** Starts the nodes, watches them, shows them, starts again what ended, and stops them all. */
export class Supervisor {
  readonly #folder: FederationFolder;
  readonly #nodes: readonly FederationNode[];
  readonly #apiKey: string | undefined;
  readonly #quickEnds = new Map<FederationNode, number>();
  readonly #startedAt = new Map<FederationNode, number>();
  readonly #shown = new Map<string, string>();
  readonly #block = process.stdout.isTTY ? new LiveBlock() : undefined;
  #commandsShown = false;

  constructor(folder: FederationFolder, plans: readonly NodePlan[], apiKey: string | undefined) {
    this.#folder = folder;
    this.#nodes = plans.map((plan) => new FederationNode(plan));
    this.#apiKey = apiKey;
  }

  /** @returns whether every node stopped by itself. @throws CliError when a node cannot start in the first place; the others are stopped */
  async run(): Promise<boolean> {
    let wake = (): void => {};
    let stopping = false;
    onStopSignal(
      () => {
        stopping = true;
        wake();
      },
      () => {
        for (const node of this.#nodes) node.signal("SIGKILL");
        this.#folder.release();
        process.exit(EXIT.failed);
      },
    );
    this.#say(`Starting ${this.#nodes.length === 1 ? "one node" : `${this.#nodes.length} nodes`}; data in ${this.#folder.path}`);
    for (const node of this.#nodes) this.#start(node);
    while (!stopping) {
      await Promise.all(this.#nodes.map((node) => node.poll(this.#apiKey)));
      for (const node of this.#nodes) await this.#attend(node);
      this.#show();
      const idle = allReady(this.#nodes) ? POLL_MS : POLL_MS / 4;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, stopping ? 0 : idle);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    this.#say("Stopping ...");
    const clean = await this.#stopAll();
    this.#say(
      clean ? "All stopped. The memory is kept; the same command goes on with it." : "Some nodes had to be killed. What was acknowledged is kept.",
    );
    return clean;
  }

  #start(node: FederationNode): void {
    this.#startedAt.set(node, Date.now());
    node.start();
  }

  async #attend(node: FederationNode): Promise<void> {
    const errors = node.newErrors();
    for (const error of errors) this.#say(`${node.plan.name}: ${error}`);
    if (node.state.kind !== "down") return;
    if (!node.wasUp) {
      await this.#stopAll();
      throw new CliError(
        `${node.plan.name} could not start (${node.state.why})${errors.length === 0 ? `; its log is ${node.logFile}` : ", see above"}. Everything is stopped.`,
        EXIT.failed,
        "start_failed",
      );
    }
    const at = this.#restartAt(node);
    if (at !== undefined && Date.now() >= at) {
      const quick = node.state.since - (this.#startedAt.get(node) ?? 0) < QUICK_MS;
      this.#quickEnds.set(node, quick ? (this.#quickEnds.get(node) ?? 0) + 1 : 0);
      this.#start(node);
    }
  }

  #restartAt(node: FederationNode): number | undefined {
    return node.state.kind === "down" && (this.#quickEnds.get(node) ?? 0) < QUICK_ENDS_MAX ? node.state.since + RESTART_MS : undefined;
  }

  #show(): void {
    if (allReady(this.#nodes)) this.#commandsShown = true;
    const commands = drawCommands(this.#nodes);
    if (this.#block !== undefined) {
      const view = drawFederation({ nodes: this.#nodes, folder: this.#folder.path, restartAt: (node) => this.#restartAt(node) });
      this.#block.draw(this.#commandsShown ? `${view}\n\n${commands}` : view);
      return;
    }
    for (const node of this.#nodes) {
      const words = stateInWords(node, this.#restartAt(node)).replace(/comes back in \d+ s/, `comes back after ${RESTART_MS / 1000} s`);
      this.#change(
        node.plan.name,
        `${node.plan.name}  ${node.url}  federation ${node.plan.federationPort}  gossip ${node.plan.gossipPort}  pid ${node.pid ?? "-"}  ${words}`,
      );
    }
    if (this.#nodes.length > 1) this.#change("layout", `federation: ${layoutOf(this.#nodes)}`);
    if (this.#commandsShown && !this.#shown.has("commands")) this.#change("commands", `\n${commands}`);
  }

  #change(what: string, line: string): void {
    if (this.#shown.get(what) === line) return;
    this.#shown.set(what, line);
    print(line);
  }

  #say(line: string): void {
    if (this.#block === undefined) print(line);
    else this.#block.say(line);
  }

  async #stopAll(): Promise<boolean> {
    const running = () => this.#nodes.filter(({ pid }) => pid !== undefined);
    for (const node of running()) node.signal("SIGTERM");
    const deadline = Date.now() + STOP_MS_MAX;
    while (running().length > 0 && Date.now() < deadline) await new Promise((resume) => setTimeout(resume, 20));
    const left = running();
    for (const node of left) node.signal("SIGKILL");
    while (running().length > 0) await new Promise((resume) => setTimeout(resume, 20));
    return left.length === 0;
  }
}
