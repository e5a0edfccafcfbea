/**
 * `continuum layout`: who keeps what, and how that changes. Every change is first asked for as a preview and drawn; then confirmed; then followed until it is
 * done, refused or stopped. What is followed goes on without us.
 */
import { createInterface } from "node:readline/promises";
import { type Command, InvalidArgumentError } from "commander";
import type { LayoutAnswer, LayoutAsk } from "../layout-admin.ts";
import type { QueuedChange } from "../layout-queue.ts";
import type { LayoutHistoryEntry, LayoutPlan, LayoutProgress, LayoutStatus } from "../status.ts";
import { addClientOptions, type ClientOptions, callApi } from "./client.ts";
import { CliError, EXIT } from "./exit.ts";
import { counted, drawTable, print, printJson } from "./print.ts";

interface ChangeOptions extends ClientOptions {
  readonly yes?: boolean;
  /** --no-wait */
  readonly wait: boolean;
  readonly zone?: string;
  readonly weight?: number;
}
interface LayoutView {
  readonly layout: LayoutStatus | null;
  readonly waiting_for: readonly string[];
  readonly moving: LayoutProgress | null;
  readonly queue: readonly QueuedChange[] | null;
  readonly history?: readonly LayoutHistoryEntry[];
}
/** ask: draw, then ask. preview: draw only. apply: draw, and do it. */
type Mode = "ask" | "preview" | "apply";

const PATH = "/v1/federation/layout";
const POLL_MS = 300;
/** A node that restarts is back by then. */
const SILENT_MS = 60_000;

export function addLayout(program: Command): void {
  const layout = program
    .command("layout")
    .description("see and change who keeps what (admin)")
    .addHelpText(
      "after",
      "\nEach change is shown before it is made, and followed until it has ended; it goes on if this command is stopped.\nExit codes: 0 done or nothing to do (with --no-wait: queued), 1 refused or stopped, 2 wrong command line or not confirmed, 3 no node answered or it cannot now.",
    );
  addClientOptions(layout.command("show").description("the layout, what is moving, and the changes that wait")).action(show);
  addClientOptions(layout.command("history").description("every layout this node went by, and what it changed")).action(history);
  addChanges(layout, "ask");
  addChanges(layout.command("preview").description("say what a change would mean, and change nothing"), "preview");
  addChanges(layout.command("apply").description("make a change without being asked, as --yes does"), "apply");
}

function addChanges(parent: Command, mode: Mode): void {
  const change = (usage: string, description: string): Command => {
    const command = addClientOptions(parent.command(usage).description(description));
    return mode === "preview"
      ? command
      : command.option("--yes", "do not ask").option("--no-wait", "return once it is queued; layout show tells how far it is");
  };
  const sized = (command: Command): Command =>
    command.option("--zone <zone>", "failure zone (default: what the node says)").option("--weight <number>", "its share beside the others'", whole);
  const run =
    (ask: (...words: string[]) => LayoutAsk) =>
    async (...given: unknown[]): Promise<void> => {
      const options = given.at(-2) as ChangeOptions;
      const { zone, weight } = options;
      const words = given.slice(0, -2) as string[];
      await makeChange({ ...ask(...words), ...(zone === undefined ? {} : { zone }), ...(weight === undefined ? {} : { weight }) }, options, mode);
    };
  sized(change("add <node>", "make a node a member: the name of a connected one, or its address (host:port)")).action(
    run((node) => ({ op: "add", node: node! })),
  );
  change("drain <name>", "take a member out once it has handed over everything it holds").action(run((name) => ({ op: "drain", name: name! })));
  change("remove <name>", "take a member out that is gone for good; the others vote").action(run((name) => ({ op: "remove", name: name! })));
  sized(change("replace <name> <node>", "one node takes a member's place and share")).action(
    run((name, node) => ({ op: "replace", name: name!, node: node! })),
  );
  change("zone <name> <zone>", "move a member to another failure zone").action(run((name, zone) => ({ op: "zone", name: name!, zone: zone! })));
  change("weight <name> <number>", "give a member a larger or smaller share").action(
    run((name, weight) => ({ op: "weight", name: name!, weight: wholeWord(weight!) })),
  );
  change("rf <number>", "how many full copies of each partition").action(run((number) => ({ op: "rf", replication_factor: wholeWord(number!) })));
  change("stop", "give up the change that is under way; everything stays with the owners that serve").action(run(() => ({ op: "stop" })));
  change("recover [lost...]", "go on without members whose disks are lost for good, when too few are left to vote").action(
    async (lost: string[], options: ChangeOptions) => makeChange({ op: "recover", lost }, options, mode),
  );
}

// ---- changing ------------------------------------------------------------------------------------------------------

async function makeChange(ask: LayoutAsk, options: ChangeOptions, mode: Mode): Promise<void> {
  const { plan } = await post(options, { ...ask, preview: true });
  if (mode === "preview") {
    if (options.json) printJson({ plan });
    else print(drawPlan(plan));
    return;
  }
  if (!options.json) print(drawPlan(plan));
  if (plan.changes_nothing) {
    if (options.json) printJson({ plan, change: null });
    return;
  }
  if (mode === "ask" && options.yes !== true) await confirm(ask, plan);
  const { change } = await post(options, { ...ask, ...(ask.op === "recover" ? { confirm: true } : {}) });
  if (change === null) {
    if (options.json) printJson({ plan, change });
    else if (ask.op !== "recover") print("Done: it counts as soon as it has taken back what the others hold (continuum status).");
    else print(`Done: this node goes on without ${(ask.lost ?? []).join(", ")}, and tells the others.`);
    return;
  }
  const ended = options.wait ? await follow(change, options) : change;
  if (options.json) printJson({ plan, change: ended });
  else if (!options.wait) print(`Queued as ${change.id}. How far it is: continuum layout show.`);
  if (ended.outcome === "refused" || ended.outcome === "stopped") throw new CliError(sayEnd(ended), EXIT.failed, ended.outcome.replaceAll(" ", "_"));
  if (!options.json && options.wait) print(sayEnd(ended));
}

function post(options: ClientOptions, body: LayoutAsk & { preview?: boolean; confirm?: boolean }): Promise<LayoutAnswer> {
  return callApi<LayoutAnswer>(options, { method: "POST", path: PATH, body }).then((answer) => answer.body);
}

/** @throws CliError when the answer is no, or nobody can be asked */
async function confirm(ask: LayoutAsk, plan: LayoutPlan): Promise<void> {
  if (!process.stdin.isTTY)
    throw new CliError(
      "Nothing was changed: nobody can be asked here. Say --yes to do it, or layout preview to only look.",
      EXIT.usage,
      "not_confirmed",
    );
  const word = ask.op === "recover" && plan.loss !== null && plan.loss.lost.length > 0 ? "recover" : "yes";
  const terminal = createInterface({ input: process.stdin, output: process.stderr });
  const said = await terminal.question(`Type ${word} to do it: `).finally(() => terminal.close());
  if (said.trim().toLowerCase() !== word) throw new CliError("Nothing was changed.", EXIT.usage, "not_confirmed");
}

async function follow(asked: QueuedChange, options: ChangeOptions): Promise<QueuedChange> {
  const shown = new Progress(options.json === true);
  const leave = (): void => {
    shown.end();
    process.stderr.write("The change goes on without this command. Look: continuum layout show. Give it up: continuum layout stop.\n");
    process.exit(130);
  };
  process.once("SIGINT", leave);
  let heardAt = performance.now();
  try {
    for (;;) {
      const view = await callApi<LayoutView>(options, { path: PATH }).then(
        ({ body }) => body,
        (error: unknown) => {
          if (error instanceof CliError && error.exit === EXIT.unavailable) return undefined;
          throw error;
        },
      );
      const change = view?.queue?.find(({ id }) => id === asked.id);
      if (view?.queue) heardAt = performance.now();
      if (change !== undefined && change.outcome !== "waiting") return change;
      if (performance.now() - heardAt > SILENT_MS)
        throw new CliError(
          `${options.url} cannot say how far it is. The change goes on: ask another node with continuum layout show.`,
          EXIT.unavailable,
        );
      if (view !== undefined) shown.draw(sayProgress(view, asked), view.moving);
      await new Promise((done) => setTimeout(done, POLL_MS));
    }
  } finally {
    shown.end();
    process.off("SIGINT", leave);
  }
}

function sayProgress({ layout, moving, queue }: LayoutView, asked: QueuedChange): string {
  if (moving === null) return layout !== null && layout.phase !== "done" ? `layout ${layout.version}, ${layout.phase}` : "waits to begin";
  if (moving.change === asked.id || asked.change.op === "stop")
    return `layout ${layout?.version}, ${moving.phase === "staged" ? "copying" : "handing over"}`;
  const before = queue?.find(({ id }) => id === moving.change);
  return `waits for ${before === undefined ? "another change" : before.change.op}: layout ${layout?.version}, ${moving.phase}`;
}

function sayEnd({ outcome, reason, change }: QueuedChange): string {
  if (outcome === "done") return change.op === "stop" ? "Stopped: everything stays with the owners that serve." : "Done.";
  if (outcome === "nothing to do") return `Nothing to do: ${reason}.`;
  const advice = outcome === "stopped" ? " Ask for it again to go on with it." : " continuum layout preview says what would be possible.";
  return `The change was ${outcome}: ${reason}.${advice}`;
}

/** A bar that is redrawn on a terminal; elsewhere a line when the words change, or a tenth is done. To stderr: the answer is on stdout. */
class Progress {
  readonly #silent: boolean;
  #last = "";
  #drawn = false;

  constructor(silent: boolean) {
    this.#silent = silent;
  }

  draw(words: string, moving: LayoutProgress | null): void {
    if (this.#silent) return;
    const total = moving?.partitions_total ?? 0;
    const there = total - (moving?.partitions_left ?? 0);
    if (process.stderr.isTTY) {
      const filled = total === 0 ? 0 : Math.round((there / total) * BAR_CHARS);
      const bar = total === 0 ? "" : `[${"#".repeat(filled)}${".".repeat(BAR_CHARS - filled)}] ${there} of ${total}  `;
      process.stderr.write(`\r\x1b[K${bar}${words}`);
      this.#drawn = true;
      return;
    }
    const line = total === 0 ? words : `${words}: ${Math.floor((10 * there) / total) * 10} % of ${total} partitions`;
    if (line === this.#last) return;
    this.#last = line;
    process.stderr.write(`${line}\n`);
  }

  end(): void {
    if (this.#drawn) process.stderr.write("\r\x1b[K");
    this.#drawn = false;
  }
}
const BAR_CHARS = 30;

// ---- looking -------------------------------------------------------------------------------------------------------

async function show(options: ClientOptions): Promise<void> {
  const { body } = await callApi<LayoutView>(options, { path: PATH });
  if (options.json) printJson(body);
  else print(drawLayout(body));
}

async function history(options: ClientOptions): Promise<void> {
  const { body } = await callApi<LayoutView>(options, { path: `${PATH}?history=true` });
  const entries = body.history ?? [];
  if (options.json) return printJson(entries);
  const rows = entries.map(({ version, phase, adopted_at, ended_at, asked_at, members, next, what }) => [
    String(version),
    phase,
    adopted_at ?? ended_at ?? asked_at ?? "",
    what,
    (next ?? { members }).members.map(({ name }) => name).join(", "),
  ]);
  print(rows.length === 0 ? "No layout is known here yet." : drawTable(["version", "phase", "when", "what", "members"], rows));
}

export function drawPlan(plan: LayoutPlan): string {
  const share = (gains: number, losses: number): string =>
    [...(gains > 0 ? [`+${gains}`] : []), ...(losses > 0 ? [`-${losses}`] : [])].join(" ") || "0";
  const rows = plan.moves.map((move) => [move.name, share(move.replica_gains, move.replica_losses), share(move.witness_gains, move.witness_losses)]);
  return [
    `Plan: ${plan.what}.`,
    ...(plan.changes_nothing
      ? ["It is so already: nothing would change."]
      : [
          `Then ${counted(plan.members.length, "member")} (${plan.members.join(", ")}), replication factor ${plan.replication_factor}, quorum ${plan.quorum} of ${plan.group_size}.`,
        ]),
    ...(rows.length === 0 ? [] : ["", drawTable(["member", "full copies", "as witness"], rows), ""]),
    ...(plan.partitions_moved > 0 ? [`${plan.partitions_moved} of 256 partitions get a full copy somewhere new.`] : []),
    ...(plan.loss === null || plan.loss.lost.length === 0 ? [] : [`May be lost: at least ${counted(plan.loss.deltas_at_least, "delta")}.`]),
    ...plan.warnings.map((warning) => `! ${warning}`),
  ].join("\n");
}

export function drawLayout({ layout, waiting_for: waiting, moving, queue }: LayoutView): string {
  if (layout === null) return `There is no layout yet${waiting.length === 0 ? "" : `: ${waiting.join(", ")} not heard from`}.`;
  const names = new Set(layout.members.map(({ name }) => name));
  const next = layout.next?.members ?? [];
  const leaving = (name: string): boolean => layout.next !== null && !next.some((member) => member.name === name);
  const rows = [
    ...layout.members.map(({ name, zone, weight }) => [name, zone || "-", String(weight), leaving(name) ? "leaves" : "serves"]),
    ...next.filter(({ name }) => !names.has(name)).map(({ name, zone, weight }) => [name, zone || "-", String(weight), "comes"]),
  ];
  const waits = (queue ?? []).filter(({ outcome }) => outcome === "waiting");
  return [
    `Layout ${layout.version}, ${layout.phase}${layout.forced ? " (by an operator, without a vote)" : ""} · replication factor ${layout.replication_factor}${layout.next !== null && layout.next.replication_factor !== layout.replication_factor ? `, to be ${layout.next.replication_factor}` : ""}`,
    "",
    drawTable(["member", "zone", "weight", ""], rows),
    ...(moving === null
      ? []
      : [
          "",
          `${moving.phase === "staged" ? "Copying" : "Handing over"}: ${moving.partitions_total - moving.partitions_left} of ${moving.partitions_total} partitions${moving.members.length === 0 ? "" : `; still to come: ${moving.members.map(({ name, partitions_left }) => `${name} ${partitions_left}`).join(", ")}`}.`,
        ]),
    ...(queue === null ? ["", "The queue of changes cannot be asked for now."] : []),
    ...(waits.length === 0
      ? []
      : [
          "",
          drawTable(
            ["change", "asked", "at", "state"],
            waits.map(({ id, change, asked_at }) => [sayAsked(change), asked_at, id, stateOf(id, moving)]),
          ),
        ]),
  ].join("\n");
}

function stateOf(id: string, moving: LayoutProgress | null): string {
  return moving?.change === id ? "under way" : "waits";
}

function sayAsked(change: QueuedChange["change"]): string {
  if (change.op === "add") return `add ${change.member.name}`;
  if (change.op === "replace") return `replace ${change.name} by ${change.member.name}`;
  if (change.op === "remove") return `${change.drain ? "drain" : "remove"} ${change.name}`;
  return "name" in change ? `${change.op} ${change.name}` : change.op;
}

function whole(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1) throw new InvalidArgumentError("It must be a whole number from 1.");
  return value;
}

/** Of an argument, which commander does not check. */
function wholeWord(text: string): number {
  try {
    return whole(text);
  } catch (error) {
    throw new CliError(`"${text}": ${(error as Error).message}`, EXIT.usage, "bad_number");
  }
}
