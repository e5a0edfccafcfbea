/**
 * What a node's protocol is in the middle of, seen from outside: frames on their way by the kind of their message, batches on their way to disk by the keys
 * they write, and snapshots of the store. A step is under way from its begin to its end; what a fault meets is what is under way where it strikes.
 */
import type { EffectOn, SimNode } from "./federation.ts";
import { barrierId, frameKind } from "./raw-frame.ts";
import type { Entries } from "./sim-disk.ts";

/** The columns of the coverage table. */
export const STEPS = [
  "hello",
  "write staged",
  "flushed, unacknowledged",
  "push",
  "staged at a replica",
  "sealed at a witness",
  "ack",
  "mark rises",
  "witness forgets",
  "barrier asks",
  "barrier told",
  "barrier catches up",
  "barrier snapshot",
  "barrier confirms",
  "interval wanted",
  "interval repaired",
  "heads compared",
  "request forwarded",
  "answer forwarded",
  "formation prepare",
  "formation promise",
  "formation propose",
  "formation yes",
  "formation formed",
  "formation persisted",
  "layout persisted",
  "layout told",
  "start introduced",
  "start compared",
  "start persisted",
  "held reported",
  "vote prepare",
  "vote promise",
  "vote propose",
  "vote yes",
  "vote persisted",
  "handover told",
  "counting persisted",
  "snapshot wanted",
  "snapshot part",
  "copy replaced",
  "bodies erased",
] as const;
export type Step = (typeof STEPS)[number];

const OF_FRAMES: Readonly<Record<string, Step>> = {
  hello: "hello",
  push: "push",
  held: "ack",
  ask: "barrier asks",
  told: "barrier told",
  want: "interval wanted",
  repair: "interval repaired",
  digest: "heads compared",
  forward: "request forwarded",
  forwarded: "answer forwarded",
  layout: "layout told",
  "formation/prepare": "formation prepare",
  "formation/promise": "formation promise",
  "formation/propose": "formation propose",
  "formation/yes": "formation yes",
  "formation/formed": "formation formed",
  introduce: "start introduced",
  compare: "start compared",
  report: "held reported",
  "vote/prepare": "vote prepare",
  "vote/promise": "vote promise",
  "vote/propose": "vote propose",
  "vote/yes": "vote yes",
  ready: "handover told",
  "snapshot-want": "snapshot wanted",
  "snapshot-part": "snapshot part",
};

/** Batches by a key they write: the whole of it, or how it begins. */
const OF_ROWS: Readonly<Record<string, Step>> = {
  "!formation": "formation persisted",
  "!layout": "layout persisted",
  "!vote": "vote persisted",
  "!counted": "counting persisted",
  t: "start persisted",
  q: "copy replaced",
  e: "bodies erased",
};

/** Steps that are one effect of a node each, a frame or a batch: at these it can be struck by name. */
export const EFFECT_STEPS: readonly Step[] = [
  ...new Set([
    ...Object.values(OF_FRAMES),
    ...Object.values(OF_ROWS),
    "write staged",
    "staged at a replica",
    "sealed at a witness",
    "mark rises",
    "witness forgets",
  ] as const),
];

/** Where a step is under way: at one node, or between two. */
export type Where = readonly [SimNode] | readonly [SimNode, SimNode];

export interface StepsOptions {
  /** A step begins; `end` is called when it is over. */
  readonly begins: (step: Step, where: Where) => { end(): void };
  /** A moment without duration. */
  readonly happens: (step: Step, where: Where) => void;
}

/** A barrier is asked again within this many; older ones are forgotten. */
const BARRIERS_KEPT = 32;

/** One node, as far as its frames and writes show. */
interface Seen {
  /** Barriers by id: whether a snapshot was taken since they first asked. */
  readonly barriers: Map<number, boolean>;
  /** Own deltas are durable, and nobody has acknowledged since. */
  unacknowledged: { end(): void } | undefined;
}

export class Steps {
  readonly #o: StepsOptions;
  readonly #frames = new Map<Uint8Array, { end(): void }[]>();
  readonly #writes = new Map<Entries, { end(): void }[]>();
  readonly #nodes = new Map<SimNode, Seen>();

  constructor(options: StepsOptions) {
    this.#o = options;
  }

  frame(moment: "sent" | "arrived" | "lost", from: SimNode, to: SimNode, frame: Uint8Array): void {
    if (moment === "sent") this.#frames.set(frame, this.#sent(from, to, frame));
    else {
      this.#end(this.#frames, frame);
      if (moment === "arrived" && frameKind(frame) === "held") this.#acknowledged(to);
    }
  }

  /** @param writer of the node's process, once it is known: what else it stores are deltas of others */
  disk(moment: "begun" | "complete", node: SimNode, entries: Entries, writer: string | undefined): void {
    if (moment === "begun") {
      this.#writes.set(
        entries,
        stepsOf(entries, writer).map((step) => this.#o.begins(step, [node])),
      );
      return;
    }
    this.#end(this.#writes, entries);
    if (stepsOf(entries, writer).includes("write staged")) this.#seen(node).unacknowledged ??= this.#o.begins("flushed, unacknowledged", [node]);
  }

  snapshot(node: SimNode): void {
    const { barriers } = this.#seen(node);
    if ([...barriers.values()].every((taken) => taken)) return;
    this.#o.happens("barrier snapshot", [node]);
    for (const id of barriers.keys()) barriers.set(id, true);
  }

  /** The process is gone, and whatever it was in the middle of. What is on its way already arrives. */
  died(node: SimNode): void {
    this.#acknowledged(node);
    this.#nodes.delete(node);
  }

  #sent(from: SimNode, to: SimNode, frame: Uint8Array): { end(): void }[] {
    const kind = frameKind(frame);
    const step = kind === "ask" ? this.#asks(from, barrierId(frame)) : OF_FRAMES[kind];
    const begun = step === undefined ? [] : [this.#o.begins(step, [from, to])];
    const catching = kind === "want" && [...this.#seen(from).barriers.values()].includes(false);
    return catching ? [...begun, this.#o.begins("barrier catches up", [from, to])] : begun;
  }

  /** A barrier that asks again after a snapshot waits for what was in it. */
  #asks(node: SimNode, id: number): Step {
    const { barriers } = this.#seen(node);
    const confirms = barriers.get(id) === true;
    if (!barriers.has(id)) barriers.set(id, false);
    if (barriers.size > BARRIERS_KEPT) barriers.delete(barriers.keys().next().value as number);
    return confirms ? "barrier confirms" : "barrier asks";
  }

  #acknowledged(node: SimNode): void {
    const seen = this.#seen(node);
    seen.unacknowledged?.end();
    seen.unacknowledged = undefined;
  }

  #end<K>(all: Map<K, { end(): void }[]>, key: K): void {
    for (const step of all.get(key) ?? []) step.end();
    all.delete(key);
  }

  #seen(node: SimNode): Seen {
    let seen = this.#nodes.get(node);
    if (seen === undefined) {
      seen = { barriers: new Map(), unacknowledged: undefined };
      this.#nodes.set(node, seen);
    }
    return seen;
  }
}

/** What one effect of a node is a step of. */
export function stepsAt({ frame, entries }: EffectOn, writer: string | undefined): Step[] {
  if (entries !== undefined) return stepsOf(entries, writer);
  const step = frame === undefined ? undefined : OF_FRAMES[frameKind(frame)];
  return step === undefined ? [] : [step];
}

function stepsOf(entries: Entries, writer: string | undefined): Step[] {
  const steps = new Set<Step>();
  let marks = false;
  for (const [key, value] of entries) {
    if (key.startsWith("d/")) steps.add(key.split("/")[2] === writer ? "write staged" : "staged at a replica");
    else if (key.startsWith("s/")) steps.add(value === undefined ? "witness forgets" : "sealed at a witness");
    else if (key.startsWith("w/")) marks = true;
    const step = OF_ROWS[key] ?? OF_ROWS[key.slice(0, key.indexOf("/"))];
    if (step !== undefined) steps.add(step);
  }
  if (marks && !steps.has("sealed at a witness")) steps.add("mark rises");
  return [...steps];
}
