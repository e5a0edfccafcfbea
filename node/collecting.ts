/**
 * Housekeeping of the partitions this node is first replica of: one after the other is looked at for tombstones, and for bodies of the log older than it is
 * kept, and a floor is begun that lets them go for good (protocol/floor.ts). What floors let go is erased from the disk little by little.
 */
import { keyHashOf } from "../crypto/hash.ts";
import type { Done, Proposal } from "../protocol/effects.ts";
import type { FloorContribution } from "../protocol/floor.ts";
import type { KeyHash, Partition } from "../protocol/ids.ts";
import { groupOf, PARTITIONS } from "../protocol/layout.ts";
import type { Replica } from "../protocol/replica.ts";
import type { Log, System } from "./ports.ts";
import type { Store } from "./store/store.ts";

export interface CollectingOptions {
  readonly store: Store;
  readonly replica: Replica;
  readonly system: System;
  readonly log: Log;
  /** How long bodies are kept above the floor, ms. */
  readonly retentionMs: number;
  /** Between two partitions, ms. */
  readonly paceMs: () => number;
  readonly propose: (proposal: Omit<Proposal, "request">) => Promise<Done | undefined>;
  readonly onFailure: (error: Error) => void;
}

/** A floor for bodies alone is worth a delta only from so many on. */
const BODIES_MIN = 100;
const FLOOR_TIMEOUT_MS = 10_000;

export class Collecting {
  readonly #o: CollectingOptions;
  #nextAt = 0;
  #next = 0;
  #looking = false;
  #erasing = false;

  constructor(options: CollectingOptions) {
    this.#o = options;
  }

  tick(now: number): void {
    for (const { partition, contributions } of this.#o.replica.floorsToNumber()) for (const one of contributions) this.#number(partition, one, now);
    if (!this.#erasing) void this.#erase();
    if (this.#looking || now < this.#nextAt) return;
    this.#nextAt = now + this.#o.paceMs();
    const partition = this.#nextPartition();
    if (partition !== undefined) void this.#look(partition);
  }

  /** The next in turn of which this node is the first replica. */
  #nextPartition(): Partition | undefined {
    const { replica, store } = this.#o;
    const own = replica.layout.members.find((member) => member.incarnation === store.incarnation)?.writer;
    const held = new Set(replica.partitions());
    for (let step = 0; step < PARTITIONS.length; step++) {
      const partition = PARTITIONS[this.#next] as Partition;
      this.#next = (this.#next + 1) % PARTITIONS.length;
      if (held.has(partition) && !replica.isDamaged(partition) && groupOf(replica.layout, partition).replicas[0]?.writer === own) return partition;
    }
    return undefined;
  }

  async #look(partition: Partition): Promise<void> {
    const { store, replica, system, retentionMs } = this.#o;
    this.#looking = true;
    try {
      const cut = await store.floorCut(partition, system.now() - retentionMs);
      const bodies = cut.erase.reduce((sum, [writer, seq]) => sum + seq - store.staged.erasedTo(partition, writer), 0);
      if (cut.tombstones.size > 0 || bodies >= BODIES_MIN) replica.beginFloor(cut, system.monotonic());
    } catch (error) {
      this.#o.onFailure(error as Error);
    } finally {
      this.#looking = false;
    }
  }

  /** In the step in which the rounds are over: another version of the layout would begin them again. */
  #number(partition: Partition, { tenant, contribution }: FloorContribution, now: number): void {
    const { system, log, propose } = this.#o;
    const key = Buffer.from(system.randomBytes(16)).toString("hex");
    propose({
      tenant,
      partition,
      level: "one",
      key: keyHashOf(tenant, `floor/${key}`) as KeyHash,
      fingerprint: "floor",
      contributions: [contribution],
      answer: "null",
      deadline: now + FLOOR_TIMEOUT_MS,
      wall: system.now(),
    }).then(
      () =>
        log.info({ partition, tombstones: contribution.tombstones.length, streams: contribution.erase.length }, "a floor lets go what is deleted"),
      (error: Error) => log.debug({ partition, error: error.message }, "a floor was not numbered"),
    );
  }

  async #erase(): Promise<void> {
    this.#erasing = true;
    try {
      await this.#o.store.eraseSome((partition) => this.#o.replica.isDamaged(partition));
    } catch (error) {
      this.#o.onFailure(error as Error);
    } finally {
      this.#erasing = false;
    }
  }
}
