import { describe, expect, it } from "vitest";
import type { StreamHead } from "../../protocol/frontier.ts";
import type { Partition, WriterId } from "../../protocol/ids.ts";
import { Knowledge } from "../../protocol/knowledge.ts";
import { KNOWN_STREAMS_MAX } from "../../protocol/limits.ts";
import type { KeptMark } from "../../protocol/message.ts";
import { alice, bob, carol, PARTITION } from "./replica-world.ts";

const hash = (letter: string) => letter.repeat(43);
const head = (seq: number, more: Partial<StreamHead> = {}): StreamHead => ({
  partition: PARTITION,
  writer: alice.writer,
  seq,
  hash: hash("h"),
  ...more,
});
const mark = (seq: number, keptFrom: number): KeptMark => ({ ...head(seq), keptFrom });
const part = (id: number, at: number, parts: number, heads: readonly StreamHead[] = [], marks: readonly KeptMark[] = []) => ({
  id,
  part: at,
  parts,
  heads,
  marks,
});

describe("what a member told", () => {
  it("is only raised", () => {
    const knowledge = new Knowledge();
    expect(knowledge.learn(bob.writer, "heads", head(3))).toBe(true);
    expect(knowledge.learn(bob.writer, "heads", head(2))).toBe(false);
    expect(knowledge.learn(bob.writer, "heads", head(3, { hash: hash("x") }))).toBe(false);
    expect(knowledge.head(bob.writer, "heads", PARTITION, alice.writer)).toEqual({ seq: 3, hash: hash("h") });
    expect(knowledge.learn(bob.writer, "heads", head(4))).toBe(true);
    expect(knowledge.held(bob.writer, "heads", PARTITION, alice.writer)).toBe(4);
  });

  it("takes the hash of a number that was known without one, which is no news", () => {
    const knowledge = new Knowledge();
    expect(knowledge.learn(bob.writer, "heads", head(3, { hash: "" }))).toBe(true);
    expect(knowledge.all(bob.writer, "heads")).toEqual([]);
    expect(knowledge.learn(bob.writer, "heads", head(3))).toBe(false);
    expect(knowledge.all(bob.writer, "heads")).toEqual([head(3)]);
    expect(knowledge.learn(bob.writer, "heads", head(3, { hash: "" }))).toBe(false);
    expect(knowledge.all(bob.writer, "heads")).toEqual([head(3)]);
  });

  it("is kept apart by kind, by member, by partition and by stream", () => {
    const knowledge = new Knowledge();
    knowledge.learn(bob.writer, "heads", head(3));
    expect(knowledge.held(bob.writer, "marks", PARTITION, alice.writer)).toBe(0);
    expect(knowledge.held(carol.writer, "heads", PARTITION, alice.writer)).toBe(0);
    expect(knowledge.held(bob.writer, "heads", (PARTITION + 1) as Partition, alice.writer)).toBe(0);
    expect(knowledge.held(bob.writer, "heads", PARTITION, bob.writer)).toBe(0);
    expect([...knowledge.of(bob.writer, "heads", PARTITION)]).toEqual([[alice.writer, { seq: 3, hash: hash("h") }]]);
    expect([...knowledge.of(bob.writer, "marks", PARTITION)]).toEqual([]);
  });

  it("counts for nothing where its copy is damaged, and is remembered and worth asking for all the same", () => {
    const knowledge = new Knowledge();
    knowledge.report(bob.writer, part(1, 0, 1, [head(3)], [mark(2, 1)]));
    knowledge.learn(bob.writer, "heads", head(3));
    knowledge.learn(bob.writer, "marks", head(2));
    knowledge.damaged(bob.writer, [PARTITION]);
    for (const kind of ["heads", "marks"] as const) expect(knowledge.held(bob.writer, kind, PARTITION, alice.writer)).toBe(0);
    expect(knowledge.head(bob.writer, "heads", PARTITION, alice.writer)).toBeUndefined();
    expect([...knowledge.damagedOf(bob.writer)]).toEqual([PARTITION]);
    expect(knowledge.of(bob.writer, "heads", PARTITION).get(alice.writer)?.seq).toBe(3);
    expect(knowledge.all(bob.writer, "heads")).toEqual([head(3)]);
    expect(knowledge.base(bob.writer)?.heads.get(PARTITION)?.get(alice.writer)?.seq).toBe(3);
    knowledge.damaged(bob.writer, []);
    expect(knowledge.held(bob.writer, "heads", PARTITION, alice.writer)).toBe(3);
    knowledge.damaged(bob.writer, [PARTITION]);
    knowledge.forget();
    expect([...knowledge.damagedOf(bob.writer)]).toEqual([]);
  });

  it("has another revision exactly when something was learnt", () => {
    const knowledge = new Knowledge();
    const revisions: number[] = [knowledge.revision(bob.writer)];
    const then = (run: () => unknown) => {
      run();
      revisions.push(knowledge.revision(bob.writer));
    };
    then(() => knowledge.learn(bob.writer, "heads", head(3, { hash: "" })));
    then(() => knowledge.learn(bob.writer, "heads", head(3)));
    then(() => knowledge.learn(bob.writer, "heads", head(2)));
    then(() => knowledge.learn(carol.writer, "heads", head(9)));
    then(() => knowledge.report(bob.writer, part(1, 0, 1)));
    then(() => knowledge.report(bob.writer, part(2, 0, 1)));
    expect(revisions.map((revision, at) => revision !== revisions[at - 1])).toEqual([true, true, true, false, false, true, false]);
  });

  it("is KNOWN_STREAMS_MAX streams at the most: those are raised further, one more is not kept (P8)", () => {
    const knowledge = new Knowledge();
    for (let stream = 0; stream < KNOWN_STREAMS_MAX; stream++)
      knowledge.learn(bob.writer, stream % 2 === 0 ? "heads" : "marks", head(1, { writer: `w${stream}` as WriterId }));
    const last = `w${KNOWN_STREAMS_MAX - 1}` as WriterId;
    expect(knowledge.held(bob.writer, "marks", PARTITION, last)).toBe(1);
    expect(knowledge.learn(bob.writer, "heads", head(1, { writer: "one-more" as WriterId }))).toBe(false);
    expect(knowledge.held(bob.writer, "heads", PARTITION, "one-more" as WriterId)).toBe(0);
    expect(knowledge.learn(bob.writer, "marks", head(2, { writer: last }))).toBe(true);
    expect(knowledge.learn(carol.writer, "heads", head(1, { writer: "one-more" as WriterId }))).toBe(true);
  });
});

describe("a report", () => {
  it("counts once all its parts have come, in any order", () => {
    for (const order of [
      [0, 1, 2],
      [2, 0, 1],
    ]) {
      const knowledge = new Knowledge();
      const counted = order.map((at) => knowledge.report(bob.writer, part(1, at, 3, [head(at + 1, { writer: `w${at}` as WriterId })])));
      expect(counted).toEqual([false, false, true]);
      expect([...knowledge.base(bob.writer)!.heads.get(PARTITION)!.keys()].sort()).toEqual(["w0", "w1", "w2"]);
    }
  });

  it("of which a part comes twice is not whole by that", () => {
    const knowledge = new Knowledge();
    expect([0, 0, 0].map((at) => knowledge.report(bob.writer, part(1, at, 2)))).toEqual([false, false, false]);
    expect(knowledge.base(bob.writer)).toBeUndefined();
    expect(knowledge.report(bob.writer, part(1, 1, 2))).toBe(true);
  });

  it("that was broken off is not completed by the parts of another", () => {
    const knowledge = new Knowledge();
    expect(knowledge.report(bob.writer, part(1, 0, 2, [head(9)]))).toBe(false);
    expect(knowledge.report(bob.writer, part(2, 1, 2))).toBe(false);
    expect(knowledge.report(bob.writer, part(2, 0, 2))).toBe(true);
    expect(knowledge.base(bob.writer)!.heads.size).toBe(0);
  });

  it("of one member is not completed by another", () => {
    const knowledge = new Knowledge();
    knowledge.report(bob.writer, part(1, 0, 2));
    expect(knowledge.report(carol.writer, part(1, 1, 2))).toBe(false);
    expect([knowledge.base(bob.writer), knowledge.base(carol.writer)]).toEqual([undefined, undefined]);
  });

  it("gives what the member held when it adopted the version: the first whole one, whatever comes later", () => {
    const knowledge = new Knowledge();
    expect(knowledge.report(bob.writer, part(1, 0, 1, [head(3)], [mark(5, 4)]))).toBe(true);
    expect(knowledge.report(bob.writer, part(2, 0, 1, [head(8)], [mark(9, 9)]))).toBe(false);
    const base = knowledge.base(bob.writer)!;
    expect(base.heads.get(PARTITION)?.get(alice.writer)).toEqual({ seq: 3, hash: hash("h") });
    expect(base.marks.get(PARTITION)?.get(alice.writer)).toEqual({ seq: 5, hash: hash("h") });
    expect(base.keptFrom.get(PARTITION)?.get(alice.writer)).toBe(4);
  });

  it("that names more streams than one member may tell of makes nobody count (P8)", () => {
    const knowledge = new Knowledge();
    const parts = 16;
    const heads = (at: number) =>
      Array.from({ length: Math.ceil((KNOWN_STREAMS_MAX + 1) / parts) }, (_, index) => head(1, { writer: `w${at}-${index}` as WriterId }));
    const counted = Array.from({ length: parts }, (_, at) => knowledge.report(bob.writer, part(1, at, parts, heads(at))));
    expect(counted).not.toContain(true);
    expect(knowledge.base(bob.writer)).toBeUndefined();
    expect(knowledge.report(bob.writer, part(2, 0, 1, [head(1)]))).toBe(true);
  });

  it("is not awaited of a member of protocol version 1: it counts with an empty one, which takes nobody else's place", () => {
    const knowledge = new Knowledge();
    knowledge.countsWithoutReport(bob.writer);
    expect(knowledge.base(bob.writer)!.heads.size).toBe(0);
    knowledge.report(carol.writer, part(1, 0, 1, [head(3)]));
    knowledge.countsWithoutReport(carol.writer);
    expect(knowledge.base(carol.writer)!.heads.size).toBe(1);
  });
});

describe("a new layout version", () => {
  it("begins with nothing: who has told, who counts, and half a report are forgotten", () => {
    const knowledge = new Knowledge();
    knowledge.learn(bob.writer, "heads", head(3));
    knowledge.report(bob.writer, part(1, 0, 1));
    knowledge.report(carol.writer, part(7, 0, 2));
    const before = knowledge.revision(bob.writer);
    knowledge.forget();
    expect(knowledge.held(bob.writer, "heads", PARTITION, alice.writer)).toBe(0);
    expect(knowledge.base(bob.writer)).toBeUndefined();
    expect(knowledge.report(carol.writer, part(7, 1, 2))).toBe(false);
    knowledge.learn(bob.writer, "heads", head(3));
    expect(knowledge.revision(bob.writer)).not.toBe(before);
  });
});
