/**
 * How one version of the layout may follow another, and what an operator's change makes of the owners. A change is three decided versions: staged, joint,
 * done (DESIGN section 8). Every member checks a proposal with `stepBetween` before it says yes, so no vote can skip a step.
 */
import { ProtocolError } from "./errors.ts";
import { type Partition, SYSTEM_PARTITION } from "./ids.ts";
import {
  groupOf,
  type Layout,
  type LayoutFields,
  layoutHash,
  layoutOf,
  type Member,
  type MemberFields,
  memberOf,
  type Owners,
  type OwnersFields,
  votersOf,
} from "./layout.ts";

/** What an operator, or a node that wants to join, asks for. */
export type Change =
  | { readonly op: "add"; readonly member: MemberFields }
  /** Leaves the layout. `drain`: only once it has handed over everything it holds; without, also when it is dead. */
  | { readonly op: "remove"; readonly name: string; readonly drain: boolean }
  /** One takes the other's place, and its share. */
  | { readonly op: "replace"; readonly name: string; readonly member: MemberFields }
  | { readonly op: "zone"; readonly name: string; readonly zone: string }
  | { readonly op: "weight"; readonly name: string; readonly weight: number }
  | { readonly op: "replication-factor"; readonly replicationFactor: number };

/** @returns the owners as the change wants them; undefined when they are so already @throws ProtocolError MALFORMED, with what is wrong as its message */
export function ownersAfter(owners: Owners, change: Change): OwnersFields | undefined {
  const { members, replicationFactor } = owners;
  switch (change.op) {
    case "add": {
      const joining = memberOf({ ...change.member, relisted: 0 });
      const known = members.find((member) => member.name === joining.name || member.node === joining.node);
      if (known?.writer === joining.writer && known.name === joining.name) return undefined;
      if (known !== undefined) throw refused(`${known.name} is a member already, as another node or incarnation: use replace`);
      return { members: [...members, joining], replicationFactor };
    }
    case "remove": {
      if (!members.some((member) => member.name === change.name)) return undefined;
      if (members.length === 1) throw refused("the last member cannot leave");
      return { members: members.filter((member) => member.name !== change.name), replicationFactor };
    }
    case "replace": {
      const joining = memberOf({ ...change.member, relisted: 0 });
      if (members.some((member) => member.writer === joining.writer)) {
        if (!members.some((member) => member.name === change.name) || joining.name === change.name) return undefined;
        throw refused(`${joining.name} is a member already`);
      }
      named(owners, change.name);
      return { members: [...members.filter((member) => member.name !== change.name), joining], replicationFactor };
    }
    case "zone":
      return edited(owners, change.name, { zone: change.zone });
    case "weight":
      return edited(owners, change.name, { weight: change.weight });
    case "replication-factor":
      return change.replicationFactor === replicationFactor ? undefined : { members, replicationFactor: change.replicationFactor };
  }
}

function edited(owners: Owners, name: string, fields: Partial<Pick<Member, "zone" | "weight">>): OwnersFields | undefined {
  const member = named(owners, name);
  if (Object.entries(fields).every(([field, value]) => member[field as "zone" | "weight"] === value)) return undefined;
  const members = owners.members.map((other) => (other === member ? { ...member, ...fields } : other));
  return { members, replicationFactor: owners.replicationFactor };
}

function named(owners: Owners, name: string): Member {
  const member = owners.members.find((other) => other.name === name);
  if (member === undefined) throw refused(`no member is called ${name}`);
  return member;
}

// ---- the versions ----------------------------------------------------------------------------------------------

/** @throws ProtocolError MALFORMED */
export function staged(layout: Layout, next: OwnersFields, change: string): Layout {
  return layoutOf({ ...after(layout), phase: "staged", next, change });
}

export function joint(layout: Layout): Layout {
  return layoutOf({ ...after(layout), phase: "joint", next: layout.next as Owners });
}

export function done(layout: Layout): Layout {
  const next = layout.next as Owners;
  return layoutOf({ ...after(layout), ...next, phase: "done", next: undefined });
}

/** Back to the old groups, out of staged or joint. */
export function stopped(layout: Layout): Layout {
  return layoutOf({ ...after(layout), phase: "done", next: undefined });
}

/**
 * The member of this name under a new incarnation, everywhere and in the same phase: it lost its disk, or its identity with it.
 * @throws ProtocolError MALFORMED when nobody has that name, or the node is listed under another
 */
export function relisted(layout: Layout, name: string, by: Pick<Member, "node" | "incarnation">): Layout {
  if (!votersOf(layout).some((member) => member.name === name)) throw refused(`no member is called ${name}`);
  const fresh = { node: by.node, incarnation: by.incarnation, relisted: layout.version + 1 };
  const again = ({ members, replicationFactor }: Owners): OwnersFields => ({
    members: members.map((member) => (member.name === name ? { ...member, ...fresh } : member)),
    replicationFactor,
  });
  return layoutOf({ ...after(layout), ...again(layout), next: layout.next === undefined ? undefined : again(layout.next) });
}

/** Without those whose disks are lost for good, by an operator's word alone. @throws ProtocolError MALFORMED when nobody would be left */
export function recovered(layout: Layout, lost: readonly string[]): Layout {
  const members = layout.members.filter((member) => !lost.includes(member.name));
  return layoutOf({ ...after(layout), members, phase: "done", next: undefined, forced: true });
}

function after(layout: Layout): LayoutFields {
  return { ...layout, version: layout.version + 1, previous: layoutHash(layout), forced: false };
}

export type Step = "staged" | "joint" | "done" | "stopped" | "relisted";

/** Which step leads from one version to the next; undefined: none, so nobody may say yes to it. A forced version is never voted on. */
export function stepBetween(before: Layout, later: Layout): { readonly step: Step; readonly without: string } | undefined {
  if (later.forced || later.previous !== layoutHash(before)) return undefined;
  const hash = layoutHash(later);
  const is = (make: () => Layout): boolean => {
    try {
      return layoutHash(make()) === hash;
    } catch (error) {
      if (error instanceof ProtocolError && error.code === "MALFORMED") return false;
      throw error;
    }
  };
  const plain = (step: Step): { step: Step; without: string } => ({ step, without: "" });
  if (before.phase === "done" && later.next !== undefined && is(() => staged(before, later.next as Owners, later.change))) return plain("staged");
  if (before.phase === "staged" && is(() => joint(before))) return plain("joint");
  if (before.phase === "joint" && is(() => done(before))) return plain("done");
  if (before.phase !== "done" && is(() => stopped(before))) return plain("stopped");
  const fresh = votersOf(later).find((member) => member.relisted === later.version);
  return fresh !== undefined && is(() => relisted(before, fresh.name, fresh)) ? { step: "relisted", without: fresh.name } : undefined;
}

// ---- what it means ---------------------------------------------------------------------------------------------

export interface Move {
  readonly name: string;
  /** Partitions it becomes, and ceases to be, a full replica of; likewise as a witness. */
  readonly replicaGains: number;
  readonly replicaLosses: number;
  readonly witnessGains: number;
  readonly witnessLosses: number;
}

/** What moves when these owners follow those, by member, for a preview. The system partition is not counted: everybody has it. */
export function movesBetween(from: Owners, to: Owners): Move[] {
  const names = [...new Set([...from.members, ...to.members].map((member) => member.name))].sort();
  const moves = new Map(names.map((name) => [name, { name, replicaGains: 0, replicaLosses: 0, witnessGains: 0, witnessLosses: 0 }]));
  for (let partition = 0; partition < SYSTEM_PARTITION; partition++) {
    const [old, next] = [groupOf(from, partition as Partition), groupOf(to, partition as Partition)];
    for (const [, move] of moves) {
      const was = (group: readonly Member[]): number => Number(group.some((member) => member.name === move.name));
      const [replica, witness] = [was(next.replicas) - was(old.replicas), was(next.witnesses) - was(old.witnesses)];
      if (replica > 0) move.replicaGains++;
      if (replica < 0) move.replicaLosses++;
      if (witness > 0) move.witnessGains++;
      if (witness < 0) move.witnessLosses++;
    }
  }
  return [...moves.values()];
}

function refused(reason: string): ProtocolError {
  return new ProtocolError("MALFORMED", reason);
}
