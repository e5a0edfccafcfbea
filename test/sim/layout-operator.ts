/**
 * An operator at a console who changes the layout while the federation works and breaks: adds machines, takes some out, weighs and moves others, changes his
 * mind. Each action goes through one node and its queue, as `continuum layout` does; it may be refused, and it may be under way when the next one begins.
 */
import { ApiError } from "../../node/errors.ts";
import type { Asked, QueuedChange } from "../../node/layout-queue.ts";
import { SYSTEM_TENANT } from "../../protocol/ids.ts";
import { type Layout, votersOf } from "../../protocol/layout.ts";
import type { Federation, SimNode } from "./federation.ts";
import { NAMES } from "./federation.ts";
import type { Operator } from "./operator.ts";
import type { Rng } from "./rng.ts";
import type { Fault } from "./schedule.ts";
import type { Scheduler } from "./scheduler.ts";

/** No change takes members below this: with two, one death would stop every write for the rest of the run. */
export const MEMBERS_MIN = 3;
const TIMEOUT_MS = 3000;

export class LayoutOperator implements Operator {
  readonly #scheduler: Scheduler;
  readonly #rng: Rng;
  readonly #federation: Federation;

  constructor(scheduler: Scheduler, rng: Rng, federation: Federation) {
    this.#scheduler = scheduler;
    this.#rng = rng;
    this.#federation = federation;
  }

  act(fault: Fault, through: SimNode): void {
    const layout = through.process?.engine.layout;
    if (layout === undefined) return;
    const rng = this.#rng.fork(`operator ${fault.n}`);
    const change = this.#choose(rng, layout);
    if (change !== undefined) this.#ask(through, change, `change-${fault.n}`);
  }

  get idle(): boolean {
    return this.unfinished === undefined;
  }

  /** What is under way, or waits, in words; undefined: nothing. */
  get unfinished(): string | undefined {
    for (const node of this.#members()) {
      const { engine } = node.process ?? {};
      const { layout, queue, replica } = engine ?? {};
      if (layout === undefined || queue === undefined || replica === undefined) return `${node.name} has no layout`;
      const [first] = queue.waiting();
      if (layout.phase === "done" && first === undefined) continue;
      const partitions = replica.notHandedOver();
      return `at ${node.name} layout ${layout.version} is ${layout.phase}, ${JSON.stringify(first?.change)} waits, not handed over: ${partitions.length} partitions (${partitions.slice(0, 5)}), counting ${replica.counting().length}`;
    }
    return undefined;
  }

  #members(): SimNode[] {
    return membersOf(this.#federation);
  }

  #choose(rng: Rng, layout: Layout): Asked | undefined {
    const dice = rng.float();
    const name = rng.pick(layout.members).name;
    if (dice < 0.35) return this.#add();
    if (dice < 0.6) return layout.members.length > MEMBERS_MIN ? { op: "remove", name, drain: rng.chance(0.5) } : this.#add();
    if (dice < 0.75) return { op: "weight", name, weight: rng.pick([1, 2, 5, 50]) };
    if (dice < 0.85) return { op: "zone", name, zone: rng.pick(["", "east", "west"]) };
    return { op: "stop" };
  }

  /** A machine that is running and no member, or else a new one; it is asked for once it has opened its store. */
  #add(): Asked | undefined {
    const { nodes } = this.#federation;
    const known = new Set(this.#members().map((node) => node.name));
    let spare = nodes.find((node) => !known.has(node.name) && node.configuredName === node.name);
    if (spare === undefined) {
      const name = NAMES.find((free) => !nodes.some((node) => node.name === free));
      if (name === undefined) return undefined;
      spare = this.#federation.addNode(name);
      this.#federation.start(spare);
    }
    const incarnation = spare.process?.engine.store.incarnation;
    if (incarnation === undefined) return undefined;
    return { op: "add", member: { node: spare.id, name: spare.name, incarnation, zone: "", weight: 1 } };
  }

  #ask(through: SimNode, change: Asked, key: string): void {
    this.#scheduler.note(`operator at ${through.name}: ${JSON.stringify(change)}`);
    const call = { tenant: SYSTEM_TENANT, level: "quorum" as const, key, token: undefined, requestId: key, timeoutMs: TIMEOUT_MS };
    void this.#federation
      .door(through)
      .call<QueuedChange>("layout.change", change, call)
      ?.then((answer) => {
        this.#scheduler.note(`operator at ${through.name}: ${answer instanceof ApiError ? answer.message : `queued as ${answer.value.id}`}`);
      });
  }
}

/** The nodes of the newest layout that any of them goes by, voters all: they count, whatever else runs only forwards. */
export function membersOf(federation: Federation): SimNode[] {
  let newest: Layout | undefined;
  for (const { process } of federation.nodes) {
    const layout = process?.engine.layout;
    if (layout !== undefined && layout.version > (newest?.version ?? 0)) newest = layout;
  }
  if (newest === undefined) return federation.nodes;
  const names = new Set(votersOf(newest).map((member) => member.name));
  return federation.nodes.filter((node) => names.has(node.name));
}
