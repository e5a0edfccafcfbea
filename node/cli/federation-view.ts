/** What `continuum federation` shows: a block that is redrawn on a terminal, a line for each change elsewhere. */
import type { FederationNode } from "./federation-node.ts";
import { drawTable } from "./print.ts";

export interface ViewFacts {
  readonly nodes: readonly FederationNode[];
  readonly folder: string;
  /** When a node that is down is started again, ms since the epoch; undefined: not any more. */
  readonly restartAt: (node: FederationNode) => number | undefined;
}

export function layoutOf(nodes: readonly FederationNode[]): string {
  if (nodes.length === 1) return "a single node";
  const layouts = nodes.flatMap(({ state }) => (state.kind === "up" && state.status?.layout ? [state.status.layout] : []));
  const versions = [...new Set(layouts.map(({ version }) => version))].sort((a, b) => a - b);
  const [layout] = layouts;
  if (layout === undefined) return "layout not formed yet";
  if (versions.length > 1) return `layouts ${versions.join(", ")}`;
  return layout.phase === "done" ? `layout ${layout.version} formed` : `layout ${layout.version}, ${layout.phase}`;
}

export function isReady(node: FederationNode): boolean {
  return node.state.kind === "up" && node.state.ready;
}

/** Formed and ready everywhere, as far as the nodes may tell us (an unknown layout counts where keys hide it). */
export function allReady(nodes: readonly FederationNode[]): boolean {
  return nodes.every(
    (node) =>
      isReady(node) &&
      node.state.kind === "up" &&
      (node.state.status === undefined ||
        node.state.status.node.role === "single" ||
        (node.state.status.layout !== null && joiningOf(node) === undefined)),
  );
}

export function stateInWords(node: FederationNode, restartAt: number | undefined): string {
  const { state } = node;
  if (state.kind === "starting") return "starting";
  const joining = joiningOf(node);
  if (joining !== undefined) return joining;
  if (state.kind === "up" && state.ready && state.status?.node.role === "gateway") return "healthy, forwards only: it is no member";
  if (state.kind === "up") return state.ready ? "healthy" : `not ready: ${state.reasons.join("; ") || "starting"}`;
  const back =
    restartAt === undefined ? `stays down, see ${node.logFile}` : `comes back in ${Math.max(0, Math.ceil((restartAt - Date.now()) / 1000))} s`;
  return `DOWN (${state.why}), ${back}`;
}

/** Of a node that came later, until it is a member; undefined: it is one, or cannot be asked. */
function joiningOf({ state, plan }: FederationNode): string | undefined {
  if (state.kind !== "up" || state.status === undefined || !plan.joins) return undefined;
  const { node, layout, moving } = state.status;
  if (node.role === "gateway" && !node.asks_to_join) return undefined;
  if (node.role === "gateway") return layout === null ? "joining: looks for the others" : `joining: layout ${layout.version}, asks to be added`;
  if (node.role !== "joining" || layout === null) return undefined;
  const total = moving?.partitions_total ?? 0;
  return `joining: layout ${layout.version}, ${layout.phase === "staged" ? "copying" : "taking over"} ${total - (moving?.partitions_left ?? 0)} of ${total}`;
}

export function drawFederation({ nodes, folder, restartAt }: ViewFacts): string {
  const healthy = nodes.filter(isReady).length;
  const rows = nodes.map((node) => [
    node.plan.name,
    node.url,
    String(node.plan.federationPort),
    String(node.plan.gossipPort),
    String(node.pid ?? "-"),
    stateInWords(node, restartAt(node)),
  ]);
  const title = `CONTINUUM · ${layoutOf(nodes)} · ${healthy === nodes.length ? "all healthy" : `${healthy} of ${nodes.length} healthy`} · data in ${folder}`;
  return `${title}\n\n${indent(drawTable(["node", "memory API", "federation", "gossip", "pid", "state"], rows))}`;
}

/** Three commands that work when pasted. @param pids are current: redrawn when a node comes back under another */
export function drawCommands(nodes: readonly FederationNode[]): string {
  const first = nodes[0];
  const last = nodes.at(-1);
  if (first === undefined || last === undefined) return "";
  const json = `-H 'content-type: application/json'`;
  const learn = `curl -s ${first.url}/v1/learn ${json} -d '{"user_message": "Which database does Project Orion use?", "ai_response": "Project Orion uses PostgreSQL 17. I will add a replica in Lisbon."}'`;
  const recall = `curl -s '${last.url}/v1/recall${nodes.length > 1 ? "?consistency=quorum" : ""}' ${json} -d '{"message": "What runs in Lisbon?"}'`;
  const victim = nodes.length > 2 ? nodes[1] : undefined;
  const killing =
    victim === undefined
      ? `npm run -s continuum -- status --url ${first.url}`
      : [
          `kill -9 ${victim.pid ?? "PID"}`,
          `npm run -s continuum -- learn --url ${first.url} 'Who runs the replica?' 'Alice runs the replica in Lisbon.'`,
          `npm run -s continuum -- recall --url ${last.url} --level quorum 'Alice'`,
        ].join("; ");
  return [
    "Try it, in another terminal:",
    `  1. Learn on ${first.plan.name}:`,
    `     ${learn}`,
    `  2. Recall on ${last.plan.name}${nodes.length > 1 ? " at quorum" : ""}:`,
    `     ${recall}`,
    victim === undefined
      ? "  3. Look at it as a person:"
      : `  3. Kill ${victim.plan.name} and see both still work (it is started again after a while):`,
    `     ${killing}`,
    `API pages: ${first.url}/docs · Ctrl-C stops everything.`,
  ].join("\n");
}

/** Redraws in place: the cursor goes back over what was drawn last. Text longer than the window is not cut, so lines are counted as wrapped. */
export class LiveBlock {
  #rows = 0;
  #last = "";

  draw(text: string): void {
    if (text === this.#last) return;
    const columns = process.stdout.columns || 80;
    const back = this.#rows === 0 ? "" : `\x1b[${this.#rows}A\r\x1b[J`;
    process.stdout.write(`${back}${text}\n`);
    this.#rows = text.split("\n").reduce((rows, line) => rows + Math.max(1, Math.ceil(line.length / columns)), 0);
    this.#last = text;
  }

  /** What is written next stays; the block is drawn anew below it. */
  say(line: string): void {
    if (this.#rows > 0) process.stdout.write(`\x1b[${this.#rows}A\r\x1b[J`);
    process.stdout.write(`${line}\n`);
    this.#rows = 0;
    this.#last = "";
  }
}

function indent(text: string): string {
  return text.replace(/^(?=.)/gm, "  ");
}
