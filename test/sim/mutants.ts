/**
 * The product with one line wrong, each a rule that MODEL and DESIGN say cannot be weakened. The simulator must find every one of them: a check that has
 * never failed proves nothing. `find` must occur exactly once in its file, so that a mutant cannot silently stop being one when the code moves on.
 */
export interface Mutant {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
  /** Part of the name of the schedule that is meant for it, where random search would need too many seeds (scenarios.ts). */
  readonly scenario?: string;
}

export const MUTANTS: readonly Mutant[] = [
  {
    name: "a skipped fsync",
    file: "node/store/staged.ts",
    find: 'const sync = batches.some((batch) => batch.type !== "forget");',
    replace: "const sync = false;",
  },
  {
    name: "an acknowledgement before the fsync",
    file: "node/store/staged.ts",
    find: "await this.#db.batch(operations, { sync });",
    replace: "void this.#db.batch(operations, { sync });",
  },
  {
    name: "a batch that is not atomic",
    file: "node/store/staged.ts",
    find: "await this.#db.batch(operations, { sync });",
    replace: "await this.#db.batch(operations.slice(0, 1), { sync }); await this.#db.batch(operations.slice(1), { sync });",
  },
  {
    name: "a delta sent before its own fsync",
    file: "protocol/replica.ts",
    find: "    this.#highWater = hlc;\n    this.#stage(",
    replace:
      "    effects.push(...pushes(new Map([[partition, [delta]]]), (at) => this.#members.others(at).map((member) => member.node)));\n    this.#highWater = hlc;\n    this.#stage(",
  },
  {
    name: "an acknowledgement past a gap",
    file: "protocol/replica.ts",
    find: "      if (seq !== staged.seq + 1) continue;\n      if (previous !== staged.hash) {",
    replace: "      if (seq === staged.seq + 1 && previous !== staged.hash) {",
  },
  {
    name: "an acknowledgement counted twice",
    file: "protocol/membership.ts",
    find: "    for (const member of group.replicas) if (holds(member)) replicas++;",
    replace: "    for (const member of group.replicas) if (holds(member)) replicas = Math.min(group.replicas.length, replicas + 2);",
  },
  {
    name: "marks used as a frontier: a witness counted as a copy",
    file: "protocol/membership.ts",
    find: "    for (const member of group.witnesses) if (holds(member)) witnesses++;",
    replace: "    for (const member of group.witnesses) if (holds(member)) replicas = Math.min(group.replicas.length, replicas + 1);",
  },
  {
    name: "a retry answered before its level holds it",
    file: "protocol/replica.ts",
    find: "    // Others may hold it without having told: ask, as a barrier does.",
    replace:
      '    effects.push({ type: "done", request, done: { level: proposal.level, tally: { replicas: 1, witnesses: 0 }, frontier: [[earlier.writer, earlier.seq]], answer: delta.body.answer } });',
  },
  {
    name: "a forgotten barrier",
    file: "node/router.ts",
    find: 'if (level === "one") {\n      const snapshot',
    replace: 'if (level !== "all") {\n      const snapshot',
  },
  {
    name: "a read newer than its barrier",
    file: "protocol/barrier.ts",
    find: "    barrier.target = new Map(frontier);",
    replace: "",
    scenario: "though it was written while the first was on its way",
  },
  {
    name: "no write-back before a read is answered",
    file: "protocol/barrier.ts",
    find: "    if (!levelMet(barrier.level, group, tally)) return;\n    this.#barriers.delete(barrier.id);",
    replace: "    this.#barriers.delete(barrier.id);",
    scenario: "though its writer goes in between",
  },
  {
    name: "a barrier that counts itself twice",
    file: "protocol/barrier.ts",
    find: "let replicas = 1;",
    replace: "let replicas = 2;",
  },
  {
    name: "a witness that forgets early",
    file: "protocol/witness.ts",
    find: "    if (report === undefined) return [];",
    replace: "    if (report === undefined) continue;",
  },
  {
    name: "totals formed before the replica, from what is on the disk",
    file: "node/store/staged.ts",
    find: "    const row = this.#row(key);\n    if (row !== undefined) return row !== GONE",
    replace: "    const row = this.#flushing.get(key);\n    if (row !== undefined) return row !== GONE",
  },
  {
    name: "a key that is not reserved",
    file: "node/store/staged.ts",
    find: "    this.#rows.set(keys.idempotency(partition, key), ",
    replace: "    void (",
  },
  {
    name: "a retried key counted twice",
    file: "protocol/replica.ts",
    find: "applyDelta(opened.delta, this.#state, this.#sameKey(opened.delta))",
    replace: "applyDelta(opened.delta, this.#state, [])",
  },
  {
    name: "a clock that follows the wall",
    file: "protocol/replica.ts",
    find: "const hlc = tickHlc(this.#highWater, proposal.wall);",
    replace: "const hlc: Hlc = [proposal.wall, 0];",
  },
  {
    name: "a deleted memory that a late delta creates again",
    file: "protocol/graph/apply.ts",
    find: ' || state.record(tenant, "tombstone", name) !== undefined',
    replace: "",
  },
  {
    name: "a second formation: formed by its own yes",
    file: "protocol/formation.ts",
    find: "if (attempt.yeses.size === this.#list.length) this.#decide(attempt.layout);",
    replace: "this.#decide(attempt.layout);",
    scenario: "a proposer whose proposal nobody received",
  },
  {
    name: "a second formation: a new layout although one was reported",
    file: "protocol/formation.ts",
    find: "const layout = attempt.reported?.layout ?? this.#newLayout(attempt);",
    replace: "const layout = this.#newLayout(attempt);",
    scenario: "survives the loss of that one's disk",
  },
  {
    name: "a second formation: a yes that is not persisted",
    file: "protocol/formation.ts",
    find: "    this.#accepted = { ballot, layout };\n    this.#unsaved = true;",
    replace: "    this.#accepted = { ballot, layout };",
    scenario: "proposed again after all others restarted",
  },
  {
    name: "forwarded requests numbered from one in each process",
    file: "node/forward.ts",
    find: "this.#lastId = Math.floor(options.system.random() * 2 ** 48);",
    replace: "this.#lastId = 0;",
    scenario: "an answer meant for an earlier process",
  },
  {
    name: "two executions of one request that are two versions",
    file: "protocol/graph/editable.ts",
    find: "function isCovered(version: Version<unknown>, field: Editable<unknown>): boolean {",
    replace: "function isCovered(version: Version<unknown>, field: Editable<unknown>): boolean {\n  if (field.length > 0) return false;",
    scenario: "corrected in between stays corrected",
  },
  {
    name: "a refusal that does not wait for its barrier",
    file: "node/router.ts",
    find: '} else if (level === "one") {',
    replace: "} else {",
    scenario: "does not deny what a quorum acknowledged",
  },
  {
    name: "a refusal that spins while the disk works",
    file: "node/router.ts",
    find: "await this.#pause(call.deadline);",
    replace: "",
    scenario: "must wait for its own disk",
  },
  {
    name: "a retry refused for what its first execution left behind",
    file: "node/router.ts",
    find: "    if (engine.replica?.executed(partition, key)) return undefined;",
    replace: "",
    scenario: "a deletion retried at a replica",
  },
  {
    name: "a link that does not fade while it is counted",
    file: "protocol/graph/link.ts",
    find: "held.mass * decayBy(rule)(held.hlc[0], hlc[0]) + added",
    replace: "held.mass + added",
  },
  {
    name: "a link that does not fade while it is read",
    file: "protocol/graph/counter.ts",
    find: "    const here = total.mass * decay(total.hlc[0], atMs);",
    replace: "    const here = total.mass;",
  },
  {
    name: "a clock high-water that follows the last delta",
    file: "node/store/staged.ts",
    find: "    this.#highWater = laterHlc(this.#highWater, delta.header.hlc);",
    replace: "    this.#highWater = delta.header.hlc;",
  },
];
