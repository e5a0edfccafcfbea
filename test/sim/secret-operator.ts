/**
 * An operator who replaces the federation's secret while it works and breaks, and one who shuts a node out. Each step of a rotation is the one that
 * `continuum secret rotate` names, done to one node as a person does it: another FEDERATION_SECRET, and a restart. Once begun it goes on by itself to its end.
 */
import { ApiError } from "../../node/errors.ts";
import { type RotationStep, rotationStep } from "../../node/secret-rotation.ts";
import { SYSTEM_TENANT } from "../../protocol/ids.ts";
import { votersOf } from "../../protocol/layout.ts";
import type { Federation, SimNode } from "./federation.ts";
import { MEMBERS_MIN, membersOf } from "./layout-operator.ts";
import type { Operator } from "./operator.ts";
import type { Fault } from "./schedule.ts";
import type { Scheduler } from "./scheduler.ts";

/** From one step of a rotation to the next, ms. */
const STEP_MS = 400;
const TIMEOUT_MS = 3000;

/** How long a node that was restarted is waited for, ms. */
const AWAY_MAX_MS = 5000;

type Change = (secrets: readonly string[], fresh: string) => readonly string[];
const add: Change = (secrets, fresh) => (secrets.includes(fresh) ? secrets : [...secrets, fresh]);
const CHANGES: Partial<Record<RotationStep["step"], Change>> = {
  add,
  first: (secrets, fresh) => [fresh, ...secrets.filter((one) => one !== fresh)],
  drop: (_secrets, fresh) => [fresh],
};
const isChanged = (node: SimNode, secrets: readonly string[]): boolean => node.secrets.join() !== secrets.join();

export class SecretOperator implements Operator {
  readonly #scheduler: Scheduler;
  readonly #federation: Federation;
  #rotations = 0;
  #last: { readonly node: SimNode; readonly at: number } | undefined;
  /** What is under way, in words; undefined: nothing. */
  #waitsFor: string | undefined;
  #shutsOut: string | undefined;

  constructor(scheduler: Scheduler, federation: Federation) {
    this.#scheduler = scheduler;
    this.#federation = federation;
  }

  act(fault: Fault, through: SimNode): void {
    if (fault.kind === "revoke") this.#revoke(fault, through);
    else if (this.#waitsFor === undefined) this.#begin();
  }

  get idle(): boolean {
    return this.unfinished === undefined;
  }

  get unfinished(): string | undefined {
    return this.#waitsFor ?? this.#shutsOut;
  }

  // ---- rotation ------------------------------------------------------------------------------------------------

  #begin(): void {
    this.#rotations++;
    const fresh = `secret ${this.#rotations + 1} of this run`;
    this.#federation.freshSecret = fresh;
    this.#scheduler.note(`operator: replaces the secret by "${fresh}"`);
    this.#waitsFor = "a rotation of the secret has begun";
    this.#configure(
      this.#federation.nodes.find(({ revoked }) => !revoked),
      add,
      fresh,
    );
    this.#later();
  }

  #later(): void {
    this.#scheduler.after(STEP_MS, () => {
      if (this.#waitsFor === undefined) return;
      this.#next();
      if (this.#waitsFor !== undefined) this.#later();
    });
  }

  /** Whoever answers and has been told of the new secret is asked, as a person would. Who is down is configured too, and starts with it. */
  #next(): void {
    const { freshSecret: fresh } = this.#federation;
    const nodes = this.#federation.nodes.filter(({ revoked }) => !revoked);
    if (fresh === undefined || !this.#isBack()) return;
    const asked = nodes.find(({ process, pause, secrets }) => process?.engine.layout !== undefined && !pause.holds && secrets.includes(fresh));
    if (asked?.process === undefined) return;
    const { step, lagging } = rotationStep(asked.process.secrets.view(), this.#federation.idOf(fresh));
    this.#waitsFor = `secret rotation at ${asked.name}: ${step}, ${lagging.map(({ name, why }) => `${name} ${why}`).join("; ")}`;
    const change = CHANGES[step];
    if (change !== undefined) {
      const names = new Set(lagging.map(({ name }) => name));
      this.#configure(
        nodes.find((node) => names.has(node.configuredName) && isChanged(node, change(node.secrets, fresh))),
        change,
        fresh,
      );
    } else if (step === "none" && lagging.length === 0) {
      // Those that nobody asked after: they were away, and in no layout.
      const behind = nodes.find((node) => isChanged(node, [fresh]));
      if (behind !== undefined) this.#configure(behind, () => [fresh], fresh);
      else {
        this.#scheduler.note("operator: the secret is replaced everywhere");
        this.#waitsFor = undefined;
      }
    }
  }

  /** One after the other, unless something else keeps the last one away. */
  #isBack(): boolean {
    if (this.#last === undefined || this.#scheduler.now - this.#last.at > AWAY_MAX_MS) return true;
    const standing = this.#last.node.process?.engine.replica?.standing;
    return standing === "counting" || standing === "unlisted";
  }

  #configure(node: SimNode | undefined, change: Change, fresh: string): void {
    if (node === undefined) return;
    node.secrets = change(node.secrets, fresh);
    this.#last = { node, at: this.#scheduler.now };
    this.#scheduler.note(`operator: ${node.name} is configured with ${node.secrets.length} secrets, "${node.secrets[0]}" first`);
    if (!node.running) return;
    this.#federation.crash(node, "kill");
    this.#scheduler.after(100, () => this.#federation.start(node));
  }

  // ---- revocation ----------------------------------------------------------------------------------------------

  /** One that no layout lists, or a member while enough others are there to go on without it: what only it held is given up with it. */
  #revoke(fault: Fault, through: SimNode): void {
    const { nodes } = this.#federation;
    const layout = through.process?.engine.layout;
    if (layout === undefined || this.#shutsOut !== undefined || nodes.some(({ revoked }) => revoked)) return;
    // What a node held that is shut out is given up, and so is a copy that has turned: together they are more than a quorum survives.
    if (nodes.some(({ disk, process }) => disk.lies || (process?.engine.replica?.damagedCopies().length ?? 0) > 0)) return;
    const isMember = (node: SimNode): boolean => votersOf(layout).some((member) => member.node === node.id);
    const mayGo = layout.members.length > MEMBERS_MIN && layout.phase === "done" && this.#federation.counting;
    const victims = nodes.filter((node) => node !== through && node.configuredName === node.name && (!isMember(node) || mayGo));
    const victim = victims[fault.other % Math.max(1, victims.length)];
    if (victim === undefined) return;
    victim.revoked = true;
    if (isMember(victim)) this.#federation.losesFor(victim);
    this.#scheduler.note(`operator: revokes ${victim.name}`);
    this.#shutOut(victim, { key: `revoke-${fault.n}`, isRevoked: false });
  }

  /** Asked again, of whoever runs, until it is revoked and in no layout. */
  #shutOut(victim: SimNode, state: { readonly key: string; isRevoked: boolean }): void {
    this.#shutsOut = `${victim.name} is to be revoked`;
    this.#scheduler.after(STEP_MS, () => {
      const through = this.#federation.nodes.find(({ revoked, process }) => !revoked && process?.engine.layout !== undefined);
      const layout = through?.process?.engine.layout;
      if (through === undefined || layout === undefined) return this.#shutOut(victim, state);
      if (state.isRevoked && !votersOf(layout).some((member) => member.node === victim.id)) {
        this.#shutsOut = undefined;
        return;
      }
      const args = { node: victim.id, name: victim.name, secrets: victim.secrets.map((secret) => this.#federation.idOf(secret)) };
      const [operation, asked] = state.isRevoked
        ? (["layout.change", { op: "remove", name: victim.name }] as const)
        : (["revoke_node", args] as const);
      const call = { tenant: SYSTEM_TENANT, level: "quorum" as const, token: undefined, requestId: state.key, timeoutMs: TIMEOUT_MS };
      const key = state.isRevoked ? `${state.key}/remove` : state.key;
      const answered = this.#federation.door(through).call<unknown>(operation, asked, { ...call, key });
      // A node that dies meanwhile answers nothing.
      this.#scheduler.after(TIMEOUT_MS, () => this.#shutOut(victim, state));
      void answered?.then((answer) => {
        this.#scheduler.note(`operator at ${through.name}: ${operation}: ${answer instanceof ApiError ? answer.message : "done"}`);
        if (!(answer instanceof ApiError)) state.isRevoked = true;
      });
    });
  }
}

/** Nobody speaks with a revoked node once all have heard of it. */
export function spokenWithRevoked(federation: Federation): string[] {
  return membersOf(federation).flatMap(({ name, process }) =>
    (process?.engine.links?.peers() ?? []).flatMap((peer) =>
      process?.revocations.isRevoked(peer.node) === true ? [`${name} is connected to ${peer.name}, which it knows to be revoked`] : [],
    ),
  );
}
