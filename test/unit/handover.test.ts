import { describe, expect, it } from "vitest";
import type { StreamHead } from "../../protocol/frontier.ts";
import { Handovers, type HandoverWorld, isHandedOver } from "../../protocol/handover.ts";
import type { Partition, WriterId } from "../../protocol/ids.ts";
import { type Base, Knowledge } from "../../protocol/knowledge.ts";
import { groupOf, type Layout, type Member, type Owners, PARTITIONS } from "../../protocol/layout.ts";
import type { KeptMark } from "../../protocol/message.ts";
import { LEAVING_JOINT, MOVING, MOVING_JOINT } from "./change-world.ts";
import { alice, bob, carol, LAYOUT, PARTITION } from "./replica-world.ts";

const next = groupOf(MOVING_JOINT.next as Owners, PARTITION);
const [first, second] = next.replicas as readonly [Member, Member];
const witness = next.witnesses[0] as Member;

const at = (seq: number, writer = alice.writer): StreamHead => ({ partition: PARTITION, writer, seq, hash: "h".repeat(43) });
const kept = (seq: number, keptFrom: number, writer = alice.writer): KeptMark => ({ ...at(seq, writer), keptFrom });

/** What one member knows of all, itself included. */
class Heard implements HandoverWorld {
  readonly #knowledge = new Knowledge();
  /** It has adopted the version, and this is what it held then. */
  adopted(member: Member, heads: readonly StreamHead[] = [], marks: readonly KeptMark[] = []): this {
    this.#knowledge.report(member.writer, { id: 1, part: 0, parts: 1, heads, marks });
    this.holds(member, ...heads).marked(member, ...marks);
    return this;
  }
  holds(member: Member, ...heads: readonly StreamHead[]): this {
    for (const head of heads) this.#knowledge.learn(member.writer, "heads", head);
    return this;
  }
  marked(member: Member, ...marks: readonly StreamHead[]): this {
    for (const mark of marks) this.#knowledge.learn(member.writer, "marks", mark);
    return this;
  }
  base(member: WriterId): Base | undefined {
    return this.#knowledge.base(member);
  }
  held(member: WriterId, kind: "heads" | "marks", partition: Partition, writer: WriterId): number {
    return this.#knowledge.held(member, kind, partition, writer);
  }
}

const handedOver = (heard: Heard, layout: Layout = MOVING_JOINT): boolean => isHandedOver(layout, PARTITION, heard);

describe("a partition is handed over", () => {
  it("never while nothing changes", () => {
    expect(handedOver(new Heard().adopted(alice).adopted(bob).adopted(carol), LAYOUT)).toBe(false);
  });

  it("not before q of the old group have adopted the version, however much the next hold", () => {
    const heard = new Heard()
      .adopted(alice, [at(3)])
      .holds(first, at(9))
      .holds(second, at(9))
      .adopted(witness);
    expect(handedOver(heard)).toBe(false);
    expect(handedOver(heard.adopted(carol))).toBe(true);
  });

  it("once q of the next hold all that q of the old held then, a replica among them", () => {
    const heard = new Heard().adopted(alice, [at(3)]).adopted(bob, [at(2), at(5, bob.writer)]);
    expect(handedOver(heard)).toBe(false);
    heard.holds(first, at(3), at(5, bob.writer));
    expect(handedOver(heard)).toBe(false);
    heard.holds(second, at(3));
    expect(handedOver(heard)).toBe(false);
    expect(handedOver(heard.holds(second, at(5, bob.writer)))).toBe(true);
  });

  it("not by what the old hold now, but by what they held when they adopted: that stands still", () => {
    const heard = new Heard()
      .adopted(alice, [at(3)])
      .adopted(bob)
      .holds(first, at(3))
      .holds(second, at(3));
    expect(handedOver(heard.holds(alice, at(100)))).toBe(true);
  });

  it("with what an old witness had marked: that may be an acknowledged write nobody else told of", () => {
    const heard = new Heard().adopted(alice, [at(3)]).adopted(carol, [], [kept(4, 4)]);
    heard.holds(first, at(3)).holds(second, at(3));
    expect(handedOver(heard)).toBe(false);
    heard.holds(first, at(4)).holds(second, at(4));
    expect(handedOver(heard)).toBe(true);
  });

  it("not with what an old witness holds as a replica, nor an old replica as a witness: that is of another role", () => {
    const heard = new Heard().adopted(alice, [], [kept(8, 1)]).adopted(carol, [at(9)]);
    expect(handedOver(heard.holds(first).holds(second))).toBe(true);
  });

  it("an empty one with nobody's help, once q of the old have said so and the next are empty too", () => {
    expect(handedOver(new Heard().adopted(alice))).toBe(false);
    expect(handedOver(new Heard().adopted(alice).adopted(bob))).toBe(true);
  });

  it("by the same rule while staged: the next have copied", () => {
    const heard = new Heard()
      .adopted(alice, [at(3)])
      .adopted(bob, [at(3)])
      .holds(first, at(3));
    expect(handedOver(heard, MOVING)).toBe(false);
    expect(handedOver(heard.holds(second, at(3)), MOVING)).toBe(true);
  });
});

describe("a next witness", () => {
  const old = () =>
    new Heard()
      .adopted(alice, [at(5)])
      .adopted(bob, [at(5)])
      .holds(first, at(5));

  it("counts only once it has adopted the version itself", () => {
    const heard = old().marked(witness, at(5));
    expect(handedOver(heard)).toBe(false);
    expect(handedOver(heard.adopted(witness))).toBe(true);
  });

  it("counts for what it has marked, not for less", () => {
    expect(handedOver(old().adopted(witness).marked(witness, at(4)))).toBe(false);
    expect(handedOver(old().adopted(witness).marked(witness, at(5)))).toBe(true);
  });

  it("does not count with a mark without bytes: that is no second copy", () => {
    expect(handedOver(old().adopted(witness, [], [kept(5, 6)]))).toBe(false);
    expect(handedOver(old().adopted(witness, [], [kept(5, 3)]))).toBe(false);
  });

  it("counts with a mark whose bytes it keeps", () => {
    expect(handedOver(old().adopted(witness, [], [kept(5, 1)]))).toBe(true);
  });

  it("counts with bytes it forgot when every next replica holds them", () => {
    const heard = old().adopted(witness, [], [kept(5, 3)]);
    expect(handedOver(heard.holds(second, at(1)))).toBe(false);
    expect(handedOver(heard.holds(second, at(2)))).toBe(true);
  });

  it("counts with what it marked after it adopted: it forgets that only when every replica of both groups holds it", () => {
    const heard = new Heard()
      .adopted(alice, [at(5)])
      .adopted(bob, [at(5)])
      .holds(first, at(5));
    heard.adopted(witness, [], [kept(2, 1)]).marked(witness, at(5));
    expect(handedOver(heard)).toBe(true);
  });

  it("with a replica makes a quorum; without any replica it makes none", () => {
    const heard = new Heard()
      .adopted(alice, [at(5)])
      .adopted(bob)
      .adopted(witness, [], [kept(5, 1)]);
    expect(handedOver(heard)).toBe(false);
    expect(handedOver(heard.holds(second, at(5)))).toBe(true);
  });

  it("that stays a member is judged as what it becomes: of two that are left both must hold all", () => {
    // bob leaves; carol, the witness, becomes a replica beside alice.
    const heard = new Heard().adopted(alice, [at(5)]).adopted(carol, [], [kept(5, 1)]);
    expect(handedOver(heard, LEAVING_JOINT)).toBe(false);
    expect(handedOver(heard.holds(carol, at(5)), LEAVING_JOINT)).toBe(true);
  });
});

describe("a partition waits", () => {
  const everybody = () => true;
  const others = PARTITIONS.filter((partition) => partition !== PARTITION);

  it("until somebody has claimed it", () => {
    const handovers = new Handovers();
    expect(handovers.waiting(MOVING_JOINT, () => false)).toEqual(PARTITIONS);
    handovers.claim(first.writer, others);
    expect(handovers.waiting(MOVING_JOINT, () => false)).toEqual([PARTITION]);
    handovers.claim(first.writer, PARTITIONS);
    expect(handovers.waiting(MOVING_JOINT, () => false)).toEqual([]);
  });

  it("while one of the old group is here that has not claimed it: it may hold what it alone was told", () => {
    const handovers = new Handovers();
    for (const { writer } of [first, alice, bob]) handovers.claim(writer, PARTITIONS);
    expect(handovers.waiting(MOVING_JOINT, (writer) => writer !== carol.writer)).toEqual([]);
    expect(handovers.waiting(MOVING_JOINT, everybody)).toEqual(PARTITIONS);
    handovers.claim(carol.writer, others);
    expect(handovers.waiting(MOVING_JOINT, everybody)).toEqual([PARTITION]);
    handovers.claim(carol.writer, PARTITIONS);
    expect(handovers.waiting(MOVING_JOINT, everybody)).toEqual([]);
  });

  it("for no next owner: what is claimed says that enough of them hold it", () => {
    const handovers = new Handovers();
    for (const { writer } of [alice, bob, carol]) handovers.claim(writer, PARTITIONS);
    expect(handovers.waiting(MOVING_JOINT, everybody)).toEqual([]);
  });

  it("again under a new version: claims are forgotten", () => {
    const handovers = new Handovers();
    handovers.claim(alice.writer, PARTITIONS);
    expect(handovers.claimedBy(alice.writer).size).toBe(PARTITIONS.length);
    handovers.forget();
    expect(handovers.claimedBy(alice.writer).size).toBe(0);
    expect(handovers.waiting(MOVING_JOINT, () => false)).toEqual(PARTITIONS);
  });
});
