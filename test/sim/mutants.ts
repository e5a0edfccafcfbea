/**
 * The product with one line wrong, each a rule that MODEL and DESIGN say cannot be weakened. The simulator must find every one of them: a check that has
 * never failed proves nothing. `find` must occur exactly once in its file, so that a mutant cannot silently stop being one when the code moves on.
 */
export interface Mutant {
  readonly name: string;
  readonly file: string;
  readonly find: string;
  readonly replace: string;
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
    name: "a witness's mark counted as a copy",
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
    find: 'if (level === "one") {',
    replace: 'if (level !== "all") {',
  },
  {
    name: "a read newer than its barrier",
    file: "protocol/barrier.ts",
    find: "    barrier.target = new Map(frontier);",
    replace: "",
  },
  {
    name: "no write-back before a read is answered",
    file: "protocol/barrier.ts",
    find: "    if (!levelMet(barrier.level, group, tally)) return;\n    this.#barriers.delete(barrier.id);",
    replace: "    this.#barriers.delete(barrier.id);",
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
    name: "totals formed from what is on the disk",
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
    find: 'else if ((kind === "turn" || kind === "memory") && read("tombstone", tombstoneId(kind, id)) !== undefined) continue;',
    replace: "",
  },
  {
    name: "formed by its own yes",
    file: "protocol/formation.ts",
    find: "if (attempt.yeses.size === this.#list.length) this.#decide(attempt.layout);",
    replace: "this.#decide(attempt.layout);",
  },
  {
    name: "a new layout although one was reported",
    file: "protocol/formation.ts",
    find: "const layout = attempt.reported?.layout ?? this.#newLayout(attempt);",
    replace: "const layout = this.#newLayout(attempt);",
  },
  {
    name: "a yes that is not persisted",
    file: "protocol/formation.ts",
    find: "    this.#accepted = { ballot, layout };\n    this.#unsaved = true;",
    replace: "    this.#accepted = { ballot, layout };",
  },
];
