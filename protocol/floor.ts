/**
 * How tombstones of turns and memories, and old bodies of the log, go for good: by a record in a delta, never by age, never by one member for itself, so that
 * equal frontiers still mean equal bytes (P3). The record names its tombstones and a frontier F, and whoever lacks part of F treats it as a gap.
 *
 * Two rounds. The proposer cuts its own durable state: a frontier S and the tombstones that stand in it. Round one is over when every member of the audience
 * has told that it holds S; F is the join of what they told then. Round two is over when every member has told that it holds F. Then the record is numbered.
 *
 * Why nothing comes back (P6): let a named tombstone be of id x. Every delta that says something of x (creation, edit, deletion) was numbered by some member
 * before that member held the tombstone: afterwards a creation is dropped when it is numbered, because the tombstone stands under the id that its key gives,
 * and an edit or a deletion finds nothing (graph/contribute.ts). The tombstone is in S, so in one *whole* report of each member, and a whole report is of one
 * moment: it holds all that the member had numbered before. So every such delta is in F, and everybody applies it before the record. S alone would not do:
 * streams are not ordered among each other, and what another member numbered before it saw the tombstone need not have come here. Nor would a report put
 * together from the heads of single streams: the tombstone's head may have arrived and the member's own last delta not. Once the record is applied, the
 * member holds the creation, so its key answers a retry (keys never go), and neither an edit nor a deletion finds anything.
 *
 * Why erased bodies are not missed (P5): a body is looked at again when another execution of its key arrives, or a client repeats the key. An erased delta d is
 * in S. Whoever held d knew its key and did not execute it again, so every other execution was numbered before its writer held d, hence is in that writer's
 * report and in F: at whoever applies the record all of them have been applied. A repeated key finds that it was executed; its stored answer may be gone.
 *
 * Reports count only under the layout version in which the record is numbered: another version may have members that nobody asked. A new one starts again.
 */

import type { Delta } from "./delta.ts";
import { covers, type Frontier, raise } from "./frontier.ts";
import type { Contribution, Positions } from "./graph/records.ts";
import type { Partition, WriterId } from "./ids.ts";
import { FLOOR_STREAMS_MAX, FLOOR_TOMBSTONES_MAX } from "./limits.ts";

/** What a floor could take, as of one durable moment of the proposer. */
export interface FloorCut {
  readonly partition: Partition;
  /** S: everything held then, sorted by writer. */
  readonly frontier: Positions;
  /** Bodies that are old enough; nowhere above `frontier`. */
  readonly erase: Positions;
  /** Tenant -> names of tombstones that stand in S, sorted. */
  readonly tombstones: ReadonlyMap<string, readonly string[]>;
  /** A tenant of the partition, for a floor without tombstones. */
  readonly tenant: string | undefined;
}

export interface FloorView {
  /** Of the layout in force here. */
  layoutVersion(): number;
  /** Replicas and witnesses of all live groups of the partition, this node too where it is one. */
  audience(): readonly WriterId[];
  /**
   * All that the member holds, marks included, as it told in *one* message (of this node itself: its durable frontier), with the layout version it told it
   * under. Not what is known of it from several messages.
   */
  report(member: WriterId): { readonly layoutVersion: number; readonly frontier: Frontier } | undefined;
}

export interface FloorContribution {
  readonly tenant: string;
  readonly contribution: Extract<Contribution, { op: "floor" }>;
}

/** The rounds of one partition, at its proposer. Nothing of them is stored: after a restart they begin again. */
export class FloorRounds {
  readonly #view: FloorView;
  #cut: FloorCut | undefined;
  #layoutVersion = 0;
  /** F, once round one is over. */
  #floor: ReadonlyMap<WriterId, number> | undefined;

  constructor(view: FloorView) {
    this.#view = view;
  }

  get isUnderWay(): boolean {
    return this.#cut !== undefined;
  }

  /** @returns false when there is nothing to collect */
  begin(cut: FloorCut): boolean {
    const isEmpty = cut.tombstones.size === 0 && (cut.erase.length === 0 || cut.tenant === undefined);
    this.#cut = isEmpty ? undefined : cut;
    this.#start();
    return !isEmpty;
  }

  cancel(): void {
    this.#cut = undefined;
  }

  /**
   * Looks at what the members have told.
   * @returns members that have not told enough: to be asked for all they hold. Empty and `contributions()` not: it may be numbered now.
   */
  step(): readonly WriterId[] {
    const cut = this.#cut;
    if (cut === undefined) return [];
    if (this.#view.layoutVersion() !== this.#layoutVersion) this.#start();
    if (this.#floor === undefined) {
      const missing = this.#missing(cut.frontier);
      if (missing.length > 0) return missing;
      this.#floor = this.#join();
    }
    return this.#missing(this.#floor);
  }

  /**
   * What may be numbered at this very moment, each in a delta of its own; empty while the rounds are not over. Each is to be numbered in the same step in which
   * this is called, or this is called again before the next: the layout may have changed.
   */
  contributions(): readonly FloorContribution[] {
    const cut = this.#cut;
    if (cut === undefined || this.step().length > 0 || this.#floor === undefined) return [];
    // More writers than a floor can name: nothing is collected rather than something wrong.
    if (this.#floor.size > FLOOR_STREAMS_MAX) return [];
    const frontier = sorted(this.#floor);
    const out: FloorContribution[] = [];
    for (const [tenant, names] of cut.tombstones) {
      for (let at = 0; at < names.length; at += FLOOR_TOMBSTONES_MAX)
        out.push({ tenant, contribution: { op: "floor", frontier, erase: [], tombstones: names.slice(at, at + FLOOR_TOMBSTONES_MAX) } });
    }
    if (cut.erase.length > 0 && out[0] === undefined && cut.tenant !== undefined)
      out.push({ tenant: cut.tenant, contribution: { op: "floor", frontier, erase: cut.erase, tombstones: [] } });
    else if (out[0] !== undefined) out[0] = { ...out[0], contribution: { ...out[0].contribution, erase: cut.erase } };
    return out;
  }

  #start(): void {
    this.#layoutVersion = this.#view.layoutVersion();
    this.#floor = undefined;
  }

  #missing(frontier: Iterable<readonly [WriterId, number]>): WriterId[] {
    const all = [...frontier];
    return this.#view.audience().filter((member) => {
      const report = this.#report(member);
      return report === undefined || !covers(report, all);
    });
  }

  #join(): Map<WriterId, number> {
    const floor = new Map<WriterId, number>();
    for (const member of this.#view.audience()) raise(floor, this.#report(member) ?? []);
    return floor;
  }

  #report(member: WriterId): Frontier | undefined {
    const report = this.#view.report(member);
    return report?.layoutVersion === this.#layoutVersion ? report.frontier : undefined;
  }
}

/** What a member must hold before it may apply the delta, where it carries a floor. A delta whose floor is not held is a gap: it waits for what is missing. */
export function missingForFloor(delta: Delta, held: Readonly<Record<WriterId, number>>): [WriterId, number][] {
  return delta.body.entries.flatMap((entry) =>
    entry.op === "floor" ? entry.frontier.flatMap(([writer, seq]): [WriterId, number][] => ((held[writer] ?? 0) < seq ? [[writer, seq]] : [])) : [],
  );
}

function sorted(frontier: Frontier): Positions {
  return [...frontier].sort(([a], [b]) => (a < b ? -1 : 1));
}
