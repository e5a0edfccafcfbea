/**
 * Which version of the layout should come next, or which change in the queue is finished: one step from the facts as a node sees them, nothing remembered
 * (DESIGN section 8). Whoever takes over from a node that died therefore goes on where it stopped. What comes out is a wish: consensus.ts decides.
 */
import { ProtocolError } from "./errors.ts";
import type { NodeId, WriterId } from "./ids.ts";
import { type Layout, type Member, type OwnersFields, votersOf } from "./layout.ts";
import { type Change, done, joint, ownersAfter, relisted, staged, stopped } from "./layout-change.ts";

export interface Queued {
  /** Unique for ever, up to 64 printable characters; never "". */
  readonly id: string;
  /** stop: the change that is under way is given up. */
  readonly change: Change | { readonly op: "stop" };
}

export interface Facts {
  /** The version this node has adopted. */
  readonly layout: Layout;
  readonly self: WriterId;
  /** This node is the first by name of the voters that are connected and count. Only one of them proposes, or they would mostly hinder each other. */
  readonly leads: boolean;
  /** What operators asked for and is not finished, in its order. */
  readonly queue: readonly Queued[];
  /** Staged: of every partition enough next owners hold what the old ones hold. */
  readonly copied: boolean;
  /** Joint: the condition of *done* holds for every partition. */
  readonly transferred: boolean;
  /** Nodes that are shut out: nobody speaks with them, so none of them can join. */
  readonly revoked: ReadonlySet<NodeId>;
  /** The incarnation, and perhaps the identity, that lives in the place of a listed one that lost its disk. */
  readonly fresh: Pick<Member, "name" | "node" | "incarnation"> | undefined;
}

export type Outcome = "done" | "nothing to do" | "refused" | "stopped";

export type StewardStep =
  /** The next version, by a ballot without this member; "": a normal one. */
  | { readonly propose: Layout; readonly without: string }
  /** This entry leaves the queue. */
  | { readonly finish: string; readonly outcome: Outcome; readonly reason: string };

export function stewardStep(facts: Facts): StewardStep | undefined {
  const relisting = relistingOf(facts);
  if (relisting !== undefined) return relisting;
  if (!facts.leads) return undefined;
  const { layout, copied, transferred } = facts;
  const stop = facts.queue.find(({ change }) => change.op === "stop");
  if (layout.phase === "done") return stop === undefined ? startNext(facts) : finishStop(facts, stop);
  if (stop !== undefined) return plain(stopped(layout));
  if (waitsForRevoked(facts)) return plain(stopped(layout));
  if (layout.phase === "staged") return copied ? plain(joint(layout)) : undefined;
  return transferred ? plain(done(layout)) : undefined;
}

/** Before everything, in any phase and by any voter: with one disk lost a change may not find enough votes, nor the one who leads be the one who knows. */
function relistingOf({ layout, self, fresh }: Facts): StewardStep | undefined {
  if (fresh === undefined) return undefined;
  const voters = votersOf(layout);
  const listed = voters.find(({ name }) => name === fresh.name);
  if (listed === undefined || listed.writer === self || !voters.some(({ writer }) => writer === self)) return undefined;
  if (listed.node === fresh.node && listed.incarnation === fresh.incarnation) return undefined;
  try {
    return { propose: relisted(layout, fresh.name, fresh), without: fresh.name };
  } catch (error) {
    reasonOf(error);
    // The identity is a member already, by another name: it does not take a second place.
    return undefined;
  }
}

/** Nothing is under way. Before the change itself is finished, so that the stop can still tell what it did. */
function finishStop({ layout, queue }: Facts, { id }: Queued): StewardStep {
  const ended = queue.find((queued) => queued.id === layout.change);
  if (ended !== undefined && !isInEffect(layout, ended)) return { finish: id, outcome: "done", reason: `stopped ${ended.id}` };
  return { finish: id, outcome: "nothing to do", reason: "no change is under way" };
}

/** The change under way counts on a node that never comes back: it joins by this change, or would be an owner afterwards though it is to be taken out. */
function waitsForRevoked(facts: Facts): boolean {
  const { layout, queue, revoked } = facts;
  const current = queue.find(({ id }) => id === layout.change);
  if (current !== undefined && joinsRevoked(current, revoked)) return true;
  return removalOfRevoked(facts) !== undefined && layout.next?.members.some(({ node }) => revoked.has(node)) === true;
}

/** Goes before what was asked for earlier, which might wait for that node. */
function removalOfRevoked({ layout, queue, revoked }: Facts): Queued | undefined {
  const names = new Set(layout.members.flatMap(({ name, node }) => (revoked.has(node) ? [name] : [])));
  return queue.find(({ change }) => change.op === "remove" && names.has(change.name));
}

function joinsRevoked({ change }: Queued, revoked: ReadonlySet<NodeId>): boolean {
  return (change.op === "add" || change.op === "replace") && revoked.has(change.member.node);
}

function startNext(facts: Facts): StewardStep | undefined {
  const { layout, queue, revoked } = facts;
  const last = queue.find(({ id }) => id === layout.change);
  const first = last ?? removalOfRevoked(facts) ?? queue[0];
  if (first === undefined || first.change.op === "stop") return undefined;
  const { id, change } = first;
  if (first === last) {
    if (isInEffect(layout, first)) return { finish: id, outcome: "done", reason: `in effect since version ${layout.version} at the latest` };
    return { finish: id, outcome: "stopped", reason: `ended by version ${layout.version} at the latest, before it was done` };
  }
  if (joinsRevoked(first, revoked)) return { finish: id, outcome: "refused", reason: "the node is revoked" };
  try {
    const owners: OwnersFields | undefined = ownersAfter(layout, change);
    if (owners === undefined) return { finish: id, outcome: "nothing to do", reason: "it is so already" };
    return plain(staged(layout, owners, id));
  } catch (error) {
    return { finish: id, outcome: "refused", reason: reasonOf(error) };
  }
}

/** Whether the version that ended this change carried it out: `done` and `stopped` both keep its id. */
function isInEffect(layout: Layout, { change }: Queued): boolean {
  if (change.op === "stop") return false;
  try {
    return ownersAfter(layout, change) === undefined;
  } catch (error) {
    reasonOf(error);
    // Who came by it may have been listed again since; any other refusal names somebody who is gone, by a recovery.
    return (change.op === "add" || change.op === "replace") && layout.members.some(({ name }) => name === change.member.name);
  }
}

function plain(propose: Layout): StewardStep {
  return { propose, without: "" };
}

/** @throws what is not a refusal */
function reasonOf(error: unknown): string {
  if (error instanceof ProtocolError && error.code === "MALFORMED") return error.message;
  throw error;
}
