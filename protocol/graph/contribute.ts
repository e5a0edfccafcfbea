/**
 * Contributions into entries: "+1" becomes this writer's new total. This happens at the moment a delta is numbered, one delta at a time per partition,
 * on top of what is not flushed yet; what a delta edits or deletes is looked up again here (P6), and what is gone by then is dropped.
 */
import type { Hlc } from "../clock.ts";
import type { Entry } from "../delta.ts";
import type { WriterId } from "../ids.ts";
import type { RecordState } from "./apply.ts";
import { conceptIsVisible } from "./concept.ts";
import { sawOf } from "./editable.ts";
import { type DecayRule, linkIsVisible, nextLinkTotal } from "./link.ts";
import { type Contribution, type Editable, linkId } from "./records.ts";
import { tombstoneId } from "./tombstone.ts";

export interface Numbered {
  readonly entries: readonly Entry[];
  readonly saw: Readonly<Record<WriterId, number>>;
}

/** @param frontier what this node holds of the partition, not yet flushed included */
export function contribute(
  contributions: readonly Contribution[],
  by: { tenant: string; writer: WriterId; hlc: Hlc; decay: DecayRule; frontier: Readonly<Record<WriterId, number>> },
  state: RecordState,
): Numbered {
  const entries: Entry[] = [];
  const replaced: Editable<unknown>[] = [];
  let deletes = false;
  for (const contribution of once(contributions)) {
    switch (contribution.op) {
      case "concept": {
        const held = state.record(by.tenant, "concept", contribution.id)?.occurrences.totals[by.writer];
        entries.push({ ...contribution, total: (held?.mass ?? 0) + contribution.mass });
        break;
      }
      case "link": {
        const held = state.record(by.tenant, "link", linkId(contribution.a, contribution.b))?.activations.totals[by.writer];
        const [a, b] = contribution.a < contribution.b ? [contribution.a, contribution.b] : [contribution.b, contribution.a];
        entries.push({ op: "link", a, b, mass: contribution.mass, total: nextLinkTotal(held, contribution.mass, by.hlc, by.decay) });
        break;
      }
      case "turn":
      case "memory":
        // P6: ids derive from keys, so this is a late retry of what was deleted meanwhile. A member that has the deletion and not yet what was deleted does
        // not know the key; numbered now, the delta could be outside the floor that collects the tombstone, and bring the record back after it.
        if (!isDeleted(contribution.op, contribution.id)) entries.push(contribution);
        break;
      case "edit": {
        const memory = state.record(by.tenant, "memory", contribution.id);
        if (memory === undefined || isDeleted("memory", contribution.id)) break;
        for (const field of Object.keys(contribution.fields) as (keyof typeof contribution.fields)[]) replaced.push(memory[field]);
        entries.push(contribution);
        break;
      }
      case "delete": {
        const entry = deletion(contribution.kind, contribution.id, by.tenant, state);
        if (entry === undefined) break;
        deletes = true;
        entries.push(entry);
        break;
      }
      default:
        entries.push(contribution);
    }
  }
  return { entries, saw: replaced.length > 0 || deletes ? sawOf(by.frontier, replaced) : {} };

  function isDeleted(of: "turn" | "memory", id: string): boolean {
    return state.record(by.tenant, "tombstone", tombstoneId(of, id)) !== undefined;
  }
}

function deletion(kind: "turn" | "memory" | "concept" | "link", id: string, tenant: string, state: RecordState): Entry | undefined {
  if (kind === "turn" || kind === "memory") {
    const held = state.record(tenant, kind, id);
    return held === undefined ? undefined : { op: "tombstone", of: kind, id, keys: held.keys };
  }
  if (kind === "concept") {
    const held = state.record(tenant, "concept", id);
    return held === undefined || !conceptIsVisible(held) ? undefined : { op: "forget-concept", id, removed: held.occurrences.totals };
  }
  const held = state.record(tenant, "link", id);
  return held === undefined || !linkIsVisible(held) ? undefined : { op: "forget-link", a: held.a, b: held.b, removed: held.activations.totals };
}

/** The way back: what a delta's writer meant, so that another can execute it again. A floor is left out: it speaks of its writer's own rounds. */
export function contributionsOf(entries: readonly Entry[]): Contribution[] {
  return entries.flatMap((entry): Contribution[] => {
    switch (entry.op) {
      case "concept": {
        const { total: _, ...contribution } = entry;
        return [contribution];
      }
      case "link":
        return [{ op: "link", a: entry.a, b: entry.b, mass: entry.mass }];
      case "tombstone":
        return [{ op: "delete", kind: entry.of, id: entry.id }];
      case "forget-concept":
        return [{ op: "delete", kind: "concept", id: entry.id }];
      case "forget-link":
        return [{ op: "delete", kind: "link", id: linkId(entry.a, entry.b) }];
      case "floor":
        return [];
      default:
        return [entry];
    }
  });
}

/** One entry a record: masses of one concept or link add up, later words about it stand. */
function once(contributions: readonly Contribution[]): readonly Contribution[] {
  const names = contributions.map(nameOf);
  if (new Set(names).size === names.length) return contributions;
  const out = new Map<string, Contribution>();
  contributions.forEach((contribution, index) => {
    const name = names[index] as string;
    const held = out.get(name);
    if (held !== undefined && (held.op === "concept" || held.op === "link") && "mass" in contribution) {
      out.set(name, { ...held, ...contribution, mass: held.mass + contribution.mass } as Contribution);
    } else out.set(name, contribution);
  });
  return [...out.values()];
}

function nameOf(contribution: Contribution, index: number): string {
  if (contribution.op === "concept") return `c/${contribution.id}`;
  return contribution.op === "link" ? `l/${linkId(contribution.a, contribution.b)}` : `${index}`;
}
