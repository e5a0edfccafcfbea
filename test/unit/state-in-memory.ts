/** The smallest StagedState: maps. What a replica or a graph test stages is part of it at once; nothing is ever flushed. */
import type { Delta } from "../../protocol/delta.ts";
import type { Batch } from "../../protocol/effects.ts";
import { applyDelta } from "../../protocol/graph/apply.ts";
import { encodeRecord } from "../../protocol/graph/record.ts";
import type { GraphRecord, Kind, RecordOf } from "../../protocol/graph/records.ts";
import type { KeyHash, Partition, WriterId } from "../../protocol/ids.ts";
import type { StagedState } from "../../protocol/replica.ts";

export class StateInMemory implements StagedState {
  readonly records = new Map<string, GraphRecord>();
  readonly deltas = new Map<string, Delta>();
  /** Everything staged, in order. */
  readonly staged: Batch[] = [];
  readonly #executions = new Map<string, { writer: WriterId; seq: number }[]>();

  record<K extends Kind>(tenant: string, kind: K, id: string): RecordOf<K> | undefined {
    return this.records.get(`${tenant}|${kind}|${id}`) as RecordOf<K> | undefined;
  }
  executions(partition: Partition, key: KeyHash): readonly { readonly writer: WriterId; readonly seq: number }[] {
    return this.#executions.get(`${partition}|${key}`) ?? [];
  }
  delta(partition: Partition, writer: WriterId, seq: number): Delta | undefined {
    return this.deltas.get(`${partition}|${writer}|${seq}`);
  }

  /** Nothing is forgotten here. */
  keptFrom(_partition?: Partition, _writer?: WriterId): number | undefined {
    return 1;
  }
  get sealedBytes(): number {
    return 0;
  }

  stage(batch: Batch): void {
    this.staged.push(batch);
    if (batch.type !== "delta") return;
    const { partition, writer, seq, key } = batch.delta.header;
    this.deltas.set(`${partition}|${writer}|${seq}`, batch.delta);
    this.#executions.set(`${partition}|${key}`, [...this.executions(partition, key), { writer, seq }]);
    for (const change of batch.changes) {
      const name = `${batch.delta.body.tenant}|${change.kind}|${change.id}`;
      if (change.after === undefined) this.records.delete(name);
      else this.records.set(name, change.after);
    }
  }

  /** What a full replica does with a delta that follows. */
  take(delta: Delta): void {
    const { partition, key } = delta.header;
    const sameKey = this.executions(partition, key).map(({ writer, seq }) => this.delta(partition, writer, seq) as Delta);
    this.stage({ type: "delta", delta, changes: applyDelta(delta, this, sameKey) });
  }

  /** Every record by name in canonical bytes: two states are one exactly when these are equal. */
  bytes(): Record<string, string> {
    const names = [...this.records.keys()].sort();
    return Object.fromEntries(names.map((name) => [name, Buffer.from(encodeRecord(this.records.get(name) as GraphRecord)).toString("hex")]));
  }
}
