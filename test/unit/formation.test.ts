import { encode } from "cborg";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { Formation, type FormationEffect, type FormationOptions } from "../../protocol/formation.ts";
import {
  type Ballot,
  compareBallot,
  decodeFormationMessage,
  encodeFormationMessage,
  type FormationMessage,
} from "../../protocol/formation-message.ts";
import type { FederationId, Incarnation, NodeId } from "../../protocol/ids.ts";
import { encodeLayout, type Layout, layoutHash, layoutOf, memberOf } from "../../protocol/layout.ts";
import {
  FEDERATION_MEMBERS_MAX,
  FORMATION_MESSAGE_MAX_BYTES,
  FORMATION_REFUSALS_MAX,
  FORMATION_ROUND_MAX,
  FORMATION_STATE_MAX_BYTES,
} from "../../protocol/limits.ts";

const LIST = ["alice", "bob", "carol"];
const SETTINGS = { replicationFactor: 2, resonanceDecay: 0.85, hebbianRate: 0.15, periodMs: 1000 };

function incarnation(of: string, life = 1): Incarnation {
  return `${of.charCodeAt(0).toString(16)}${life}`.padEnd(32, "0") as Incarnation;
}
function node(of: string): NodeId {
  return `node-of-${of}` as NodeId;
}
function member(name: string, life = 1) {
  return memberOf({ node: node(name), name, incarnation: incarnation(name, life), zone: "", weight: 1 });
}
function ballot(round: number, name: string, life = 1): Ballot {
  return { round, name, incarnation: incarnation(name, life) };
}
function layout(federation: string, names = LIST, version = 1): Layout {
  const previous = version === 1 ? "" : "0".repeat(64);
  return layoutOf({ version, previous, federation: federation.repeat(16) as FederationId, ...SETTINGS, members: names.map((name) => member(name)) });
}
function create(name: string, options: Partial<FormationOptions> = {}): Formation {
  return new Formation({
    self: member(name),
    list: LIST,
    settings: SETTINGS,
    federation: "f0".repeat(16) as FederationId,
    persisted: undefined,
    ...options,
  });
}
function meet(formation: Formation, name: string, life = 1, connected = true): FormationEffect[] {
  return formation.step({ type: "peer", node: node(name), name, incarnation: incarnation(name, life), connected });
}
function tell(formation: Formation, from: string, message: FormationMessage): FormationEffect[] {
  return formation.step({ type: "message", from: node(from), message });
}
function tick(formation: Formation, now: number, random = 0): FormationEffect[] {
  return formation.step({ type: "tick", now, random });
}
function sent(effects: readonly FormationEffect[], type?: FormationMessage["type"]) {
  return effects
    .filter((effect) => effect.type === "send")
    .filter(({ message }) => type === undefined || message.type === type)
    .map(({ to, message }) => ({ to: to.slice("node-of-".length), ...message }));
}
function stateOf(effects: readonly FormationEffect[]): { id: number; state: Uint8Array } {
  const persists = effects.filter((effect) => effect.type === "persist");
  expect(persists).toHaveLength(1);
  return persists[0]!;
}
/** The disk writes what is asked; everything that follows. */
function settle(formation: Formation, effects: readonly FormationEffect[]): FormationEffect[] {
  const all = [...effects];
  for (let next = effects.find((effect) => effect.type === "persist"); next !== undefined; ) {
    const more = formation.step({ type: "persisted", id: next.id });
    all.push(...more);
    next = more.find((effect) => effect.type === "persist");
  }
  return all;
}
/** One of three, connected to the others. */
function connected(name: string, options: Partial<FormationOptions> = {}): Formation {
  const formation = create(name, options);
  for (const other of LIST) if (other !== name) meet(formation, other);
  return formation;
}

describe("forming layout 1", () => {
  it("three nodes on a perfect network agree in a few messages, and the first of the list proposes", () => {
    const nodes = new Map(LIST.map((name) => [name, connected(name)]));
    const formed = new Map<string, Layout>();
    let letters = 0;
    const perform = (name: string, effects: readonly FormationEffect[]): void => {
      for (const effect of settle(nodes.get(name)!, effects)) {
        if (effect.type === "formed") formed.set(name, effect.layout);
        if (effect.type !== "send") continue;
        if (effect.message.type !== "ask") letters++;
        const to = effect.to.slice("node-of-".length);
        perform(to, tell(nodes.get(to)!, name, effect.message));
      }
    };
    for (const name of LIST) perform(name, tick(nodes.get(name)!, 0));
    expect([...formed.keys()].sort()).toEqual(LIST);
    expect(new Set([...formed.values()].map(layoutHash)).size).toBe(1);
    expect(formed.get("carol")!).toMatchObject({ version: 1, federation: "f0".repeat(16), ...SETTINGS, members: LIST.map((name) => member(name)) });
    expect(letters).toBeLessThanOrEqual(12);
  });

  it("a list of one forms alone at once, and shows it after a restart", () => {
    const alone = create("alice", { list: ["alice"] });
    const effects = settle(alone, tick(alone, 0));
    expect(effects.filter(({ type }) => type === "formed")).toHaveLength(1);
    expect(sent(effects)).toEqual([]);
    const state = effects.filter((effect) => effect.type === "persist").at(-1)!.state;
    const restarted = create("alice", { list: ["alice"], persisted: state });
    expect(restarted.formed).toEqual(alone.formed);
    expect(tick(restarted, 0)).toEqual([]);
  });

  it("does not begin before all listed names are connected, and says whom it waits for", () => {
    const alice = create("alice");
    meet(alice, "bob");
    expect(alice.waitingFor).toEqual(["carol"]);
    for (let now = 0; now < 60_000; now += 500) expect(sent(tick(alice, now), "prepare")).toEqual([]);
    meet(alice, "carol");
    expect(alice.waitingFor).toEqual([]);
    expect(sent(settle(alice, tick(alice, 60_000)), "prepare").map(({ to }) => to)).toEqual(["bob", "carol"]);
  });

  it("does not propose before every name has promised, and is not formed before every name said yes", () => {
    const alice = connected("alice");
    settle(alice, tick(alice, 0));
    const promise = (name: string) =>
      settle(alice, tell(alice, name, { type: "promise", ballot: ballot(1, "alice"), member: member(name), accepted: undefined }));
    expect(sent(promise("bob"))).toEqual([]);
    expect(sent(promise("bob"))).toEqual([]);
    expect(sent(promise("carol")).map(({ to, type }) => `${type} ${to}`)).toEqual(["propose bob", "propose carol"]);
    const yes = (name: string) => settle(alice, tell(alice, name, { type: "yes", ballot: ballot(1, "alice") }));
    expect(yes("bob")).toEqual([]);
    expect(yes("bob")).toEqual([]);
    expect(alice.formed).toBeUndefined();
    const end = yes("carol");
    expect(end.map(({ type }) => type)).toEqual(["persist", "formed", "send", "send"]);
    expect(sent(end, "formed").map(({ to }) => to)).toEqual(["bob", "carol"]);
  });

  it("proposes what was reported unchanged, of several the one of the highest ballot", () => {
    const alice = connected("alice");
    tell(alice, "bob", { type: "nack", ballot: ballot(5, "bob") });
    settle(alice, tick(alice, 0));
    settle(
      alice,
      tell(alice, "bob", {
        type: "promise",
        ballot: ballot(1, "alice"),
        member: member("bob"),
        accepted: { ballot: ballot(1, "Z"), layout: layout("01") },
      }),
    );
    const effects = settle(
      alice,
      tell(alice, "carol", {
        type: "promise",
        ballot: ballot(1, "alice"),
        member: member("carol"),
        accepted: { ballot: ballot(1, "a"), layout: layout("02") },
      }),
    );
    expect(sent(effects, "propose")[0]).toMatchObject({ layout: layout("02") });
  });

  it("counts no answer to another ballot, for another name, or from a stranger", () => {
    const alice = connected("alice");
    settle(alice, tick(alice, 0));
    const wrong: [string, FormationMessage][] = [
      ["carol", { type: "promise", ballot: ballot(2, "alice"), member: member("carol"), accepted: undefined }],
      ["carol", { type: "promise", ballot: ballot(1, "alice", 2), member: member("carol"), accepted: undefined }],
      ["bob", { type: "promise", ballot: ballot(1, "alice"), member: member("carol"), accepted: undefined }],
      ["carol", { type: "promise", ballot: ballot(1, "alice"), member: member("carol", 2), accepted: undefined }],
      ["dave", { type: "promise", ballot: ballot(1, "alice"), member: member("dave"), accepted: undefined }],
    ];
    tell(alice, "bob", { type: "promise", ballot: ballot(1, "alice"), member: member("bob"), accepted: undefined });
    for (const [from, message] of wrong) expect(settle(alice, tell(alice, from, message))).toEqual([]);
    expect(
      sent(settle(alice, tell(alice, "carol", { type: "promise", ballot: ballot(1, "alice"), member: member("carol"), accepted: undefined }))),
    ).toHaveLength(2);
  });

  it("asks again while answers are missing, only those who have not answered, and no more often than twice a second", () => {
    const alice = connected("alice");
    settle(alice, tick(alice, 0));
    tell(alice, "bob", { type: "promise", ballot: ballot(1, "alice"), member: member("bob"), accepted: undefined });
    let count = 0;
    for (let now = 10; now <= 10_000; now += 10) {
      for (const message of sent(tick(alice, now), "prepare")) {
        expect(message.to).toBe("carol");
        count++;
      }
    }
    expect(count).toBe(20);
  });

  it("gives way to a higher ballot, waits a time that chance decides, and comes back above it", () => {
    const alice = connected("alice");
    settle(alice, tick(alice, 0));
    tell(alice, "bob", { type: "nack", ballot: ballot(7, "bob") });
    const began = (random: number): number => {
      const again = connected("alice");
      settle(again, tick(again, 0));
      tell(again, "bob", { type: "nack", ballot: ballot(7, "bob") });
      for (let now = 1; now < 100_000; now += 50) {
        const [prepare] = sent(settle(again, tick(again, now, random)), "prepare");
        if (prepare === undefined) continue;
        expect(prepare).toMatchObject({ ballot: ballot(8, "alice") });
        return now;
      }
      return Number.POSITIVE_INFINITY;
    };
    expect(began(0)).toBeGreaterThan(500);
    expect(began(0.99)).toBeGreaterThan(began(0));
    expect(began(0.99)).toBeLessThan(5_000);
  });
});

describe("answering others", () => {
  it("a promise leaves only after its state is on the disk (F1)", () => {
    const bob = connected("bob");
    const effects = tell(bob, "alice", { type: "prepare", ballot: ballot(1, "alice"), list: LIST });
    expect(effects.map(({ type }) => type)).toEqual(["persist"]);
    // A doubled request does not get round the disk.
    expect(tell(bob, "alice", { type: "prepare", ballot: ballot(1, "alice"), list: LIST })).toEqual([]);
    const after = bob.step({ type: "persisted", id: stateOf(effects).id });
    expect(sent(after)).toEqual([
      { to: "alice", type: "promise", ballot: ballot(1, "alice"), member: member("bob"), accepted: undefined },
      { to: "alice", type: "promise", ballot: ballot(1, "alice"), member: member("bob"), accepted: undefined },
    ]);
  });

  it("a yes and what was formed leave only after their state is on the disk (F1)", () => {
    const bob = connected("bob");
    const accepted = tell(bob, "alice", { type: "propose", ballot: ballot(1, "alice"), layout: layout("01") });
    expect(accepted.map(({ type }) => type)).toEqual(["persist"]);
    expect(sent(bob.step({ type: "persisted", id: stateOf(accepted).id }))).toEqual([{ to: "alice", type: "yes", ballot: ballot(1, "alice") }]);
    const learnt = tell(bob, "alice", { type: "formed", layout: layout("01") });
    expect(learnt.map(({ type }) => type)).toEqual(["persist"]);
    expect(bob.formed).toBeUndefined();
    expect(tell(bob, "carol", { type: "ask" })).toEqual([]);
    expect(bob.step({ type: "persisted", id: stateOf(learnt).id }).map(({ type }) => type)).toEqual(["formed"]);
    expect(bob.formed).toEqual(layout("01"));
  });

  it("writes one state at a time, so an older one can never replace a newer", () => {
    const bob = connected("bob");
    const first = tell(bob, "alice", { type: "prepare", ballot: ballot(1, "alice"), list: LIST });
    expect(tell(bob, "carol", { type: "prepare", ballot: ballot(2, "carol"), list: LIST })).toEqual([]);
    const second = bob.step({ type: "persisted", id: stateOf(first).id });
    expect(second.map(({ type }) => type)).toEqual(["send", "persist"]);
    expect(bob.step({ type: "persisted", id: 99 })).toEqual([]);
    expect(sent(bob.step({ type: "persisted", id: stateOf(second).id })).map(({ to }) => to)).toEqual(["carol"]);
  });

  it("a lower ballot gets the higher promise as its answer, also after a restart, also when it proposes", () => {
    const bob = connected("bob");
    const { state } = stateOf(tell(bob, "carol", { type: "prepare", ballot: ballot(2, "carol"), list: LIST }));
    const restarted = connected("bob", { persisted: state });
    expect(sent(tell(restarted, "alice", { type: "prepare", ballot: ballot(1, "alice"), list: LIST }))).toEqual([
      { to: "alice", type: "nack", ballot: ballot(2, "carol") },
    ]);
    expect(sent(tell(restarted, "alice", { type: "propose", ballot: ballot(1, "alice"), layout: layout("01") }))).toEqual([
      { to: "alice", type: "nack", ballot: ballot(2, "carol") },
    ]);
    expect(sent(settle(restarted, tell(restarted, "carol", { type: "propose", ballot: ballot(2, "carol"), layout: layout("01") })))).toEqual([
      { to: "carol", type: "yes", ballot: ballot(2, "carol") },
    ]);
  });

  it("what it accepted is reported in later promises, after a restart too", () => {
    const bob = connected("bob");
    const { state } = stateOf(tell(bob, "alice", { type: "propose", ballot: ballot(1, "alice"), layout: layout("01") }));
    const restarted = connected("bob", { persisted: state });
    expect(sent(settle(restarted, tell(restarted, "carol", { type: "prepare", ballot: ballot(2, "carol"), list: LIST })))).toMatchObject([
      { type: "promise", accepted: { ballot: ballot(1, "alice"), layout: layout("01") } },
    ]);
  });

  it("a restarted proposer begins above every ballot it used, a proposer without its disk under its new incarnation", () => {
    const alice = connected("alice");
    const { state } = stateOf(tick(alice, 0));
    const restarted = connected("alice", { persisted: state });
    expect(sent(settle(restarted, tick(restarted, 0)), "prepare")[0]).toMatchObject({ ballot: ballot(2, "alice") });
    const reborn = connected("alice", { self: member("alice", 2) });
    expect(sent(settle(reborn, tick(reborn, 0)), "prepare")[0]).toMatchObject({ ballot: ballot(1, "alice", 2) });
  });

  it("a name that lost its disk promises, and says yes also to a proposal that names its lost incarnation", () => {
    const bob = connected("bob", { self: member("bob", 2) });
    expect(sent(settle(bob, tell(bob, "alice", { type: "prepare", ballot: ballot(1, "alice"), list: LIST })))).toMatchObject([
      { type: "promise", member: member("bob", 2) },
    ]);
    expect(sent(settle(bob, tell(bob, "alice", { type: "propose", ballot: ballot(1, "alice"), layout: layout("01") })))).toMatchObject([
      { type: "yes" },
    ]);
  });

  it("lists the new incarnation of a name that lost its disk after it promised", () => {
    const alice = connected("alice");
    settle(alice, tick(alice, 0));
    const promise = (name: string, life: number) =>
      settle(alice, tell(alice, name, { type: "promise", ballot: ballot(1, "alice"), member: member(name, life), accepted: undefined }));
    promise("bob", 1);
    meet(alice, "bob", 1, false);
    meet(alice, "bob", 2);
    expect(sent(promise("carol", 1))).toEqual([]);
    expect(sent(tick(alice, 1_000), "prepare").map(({ to }) => to)).toEqual(["bob"]);
    expect(sent(promise("bob", 2), "propose")[0]).toMatchObject({ layout: { members: [member("alice"), member("bob", 2), member("carol")] } });
  });

  it("a ballot is answered only to its living proposer", () => {
    const bob = connected("bob");
    for (const wrong of [ballot(1, "carol"), ballot(1, "alice", 2), ballot(1, "bob")]) {
      expect(tell(bob, "alice", { type: "prepare", ballot: wrong, list: LIST })).toEqual([]);
      expect(tell(bob, "alice", { type: "propose", ballot: wrong, layout: layout("01") })).toEqual([]);
    }
  });

  it("a formed node answers every request with layout 1 and with nothing else (F4)", () => {
    const bob = connected("bob");
    settle(bob, tell(bob, "alice", { type: "formed", layout: layout("01") }));
    const formed = [{ to: "carol", type: "formed", layout: layout("01") }];
    expect(sent(tell(bob, "carol", { type: "prepare", ballot: ballot(9, "carol"), list: LIST }))).toEqual(formed);
    expect(sent(tell(bob, "carol", { type: "propose", ballot: ballot(9, "carol"), layout: layout("02") }))).toEqual(formed);
    expect(sent(tell(bob, "carol", { type: "ask" }))).toEqual(formed);
    expect(tell(bob, "carol", { type: "yes", ballot: ballot(9, "bob") })).toEqual([]);
    expect(tell(bob, "carol", { type: "nack", ballot: ballot(9, "bob") })).toEqual([]);
  });

  it("asks those it can reach whether layout 1 is formed, while others are away", () => {
    const bob = create("bob");
    meet(bob, "carol");
    expect(sent(tick(bob, 0))).toEqual([{ to: "carol", type: "ask" }]);
    expect(tick(bob, 10)).toEqual([]);
    expect(settle(bob, tell(bob, "carol", { type: "formed", layout: layout("01") })).map(({ type }) => type)).toEqual(["persist", "formed"]);
  });
});

describe("refusing", () => {
  it("another list gets no promise, a proposal or a layout that names others no yes; each is reported once", () => {
    const bob = connected("bob");
    const other: FormationMessage = { type: "prepare", ballot: ballot(1, "alice"), list: ["alice", "bob"] };
    expect(tell(bob, "alice", other)).toMatchObject([
      { type: "refuse", reason: "list_differs", facts: { name: "alice", theirs: "alice,bob", ours: "alice,bob,carol" } },
    ]);
    expect(tell(bob, "alice", other)).toEqual([]);
    const four = layout("01", [...LIST, "dave"]);
    expect(tell(bob, "alice", { type: "propose", ballot: ballot(1, "alice"), layout: four })).toMatchObject([
      { type: "refuse", reason: "list_differs" },
    ]);
    expect(tell(bob, "carol", { type: "formed", layout: four })).toMatchObject([{ type: "refuse", reason: "list_differs" }]);
    expect(bob.formed).toBeUndefined();
  });

  it("two living nodes or incarnations under one name take part in nothing until one is gone", () => {
    const alice = connected("alice");
    expect(meet(alice, "bob", 2)).toMatchObject([{ type: "refuse", reason: "two_living", facts: { name: "bob" } }]);
    expect(meet(alice, "bob", 2)).toEqual([]);
    expect(alice.waitingFor).toEqual(["bob"]);
    expect(sent(tick(alice, 0), "prepare")).toEqual([]);
    expect(tell(alice, "bob", { type: "prepare", ballot: ballot(1, "bob"), list: LIST })).toEqual([]);
    meet(alice, "bob", 1, false);
    expect(sent(settle(alice, tick(alice, 1)), "prepare")).toHaveLength(2);
  });

  it("a second living node under our own name stops us until it is gone", () => {
    const alice = connected("alice");
    const twin = { type: "peer", node: "node-of-a-twin" as NodeId, name: "alice", incarnation: incarnation("alice", 2) } as const;
    expect(alice.step({ ...twin, connected: true })).toMatchObject([{ type: "refuse", reason: "two_living" }]);
    expect(tick(alice, 0)).toEqual([]);
    expect(tell(alice, "bob", { type: "prepare", ballot: ballot(1, "bob"), list: LIST })).toEqual([]);
    alice.step({ ...twin, connected: false });
    expect(sent(settle(alice, tick(alice, 1)), "prepare")).toHaveLength(2);
  });

  it("a formed node keeps its federation and reports another once", () => {
    const bob = connected("bob");
    settle(bob, tell(bob, "alice", { type: "formed", layout: layout("01") }));
    expect(tell(bob, "carol", { type: "formed", layout: layout("02") })).toMatchObject([{ type: "refuse", reason: "foreign_federation" }]);
    expect(tell(bob, "carol", { type: "formed", layout: layout("02") })).toEqual([]);
    expect(bob.formed).toEqual(layout("01"));
  });

  it("a node that said yes under one list takes no part under another until its list is as it was", () => {
    const bob = connected("bob");
    const { state } = stateOf(tell(bob, "alice", { type: "propose", ballot: ballot(1, "alice"), layout: layout("01") }));
    const changed = create("bob", { list: ["alice", "bob"], persisted: state });
    meet(changed, "alice");
    expect(tick(changed, 0)).toMatchObject([{ type: "refuse", reason: "list_changed", facts: { before: "alice,bob,carol", now: "alice,bob" } }]);
    expect(tell(changed, "alice", { type: "prepare", ballot: ballot(2, "alice"), list: ["alice", "bob"] })).toEqual([]);
    const restored = connected("bob", { persisted: state });
    expect(sent(settle(restored, tell(restored, "carol", { type: "prepare", ballot: ballot(2, "carol"), list: LIST })))).toHaveLength(1);
  });

  it("strangers to the list are not heard", () => {
    const bob = connected("bob");
    expect(meet(bob, "dave")).toEqual([]);
    expect(tell(bob, "dave", { type: "prepare", ballot: ballot(1, "dave"), list: LIST })).toEqual([]);
  });

  it("a list that lacks self, is unsorted or names one twice does not even start; nor does a state that is not ours", () => {
    for (const list of [["bob", "carol"], ["carol", "alice"], ["alice", "alice"], []]) {
      expect(() => create("alice", { list })).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
    }
    expect(() => create("alice", { persisted: encode([2, null, null, null]) })).toThrowError(expect.objectContaining({ code: "VERSION" }));
    expect(() => create("alice", { persisted: Uint8Array.of(1) })).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
    expect(() => create("alice", { persisted: new Uint8Array(FORMATION_STATE_MAX_BYTES + 1) })).toThrowError(
      expect.objectContaining({ code: "TOO_LARGE" }),
    );
  });

  it("reports a bounded number of different refusals", () => {
    const bob = connected("bob");
    let reported = 0;
    for (let index = 0; index < FORMATION_REFUSALS_MAX + 10; index++) {
      reported += tell(bob, "alice", { type: "prepare", ballot: ballot(1, "alice"), list: [`n${index}`] }).length;
    }
    expect(reported).toBe(FORMATION_REFUSALS_MAX);
  });
});

describe("the messages of formation", () => {
  const everyMessage: FormationMessage[] = [
    { type: "prepare", ballot: ballot(1, "alice"), list: LIST },
    { type: "promise", ballot: ballot(2, "bob"), member: member("carol"), accepted: undefined },
    { type: "promise", ballot: ballot(2, "bob"), member: member("carol"), accepted: { ballot: ballot(1, "alice"), layout: layout("01") } },
    { type: "propose", ballot: ballot(1, "alice"), layout: layout("01") },
    { type: "yes", ballot: ballot(FORMATION_ROUND_MAX, "alice") },
    { type: "nack", ballot: ballot(1, "alice") },
    { type: "formed", layout: layout("01") },
    { type: "ask" },
  ];

  it("come back as they were", () => {
    for (const message of everyMessage) expect(decodeFormationMessage(encodeFormationMessage(message))).toEqual(message);
  });

  it("are refused when cut short or changed into no message", () => {
    for (const message of everyMessage) {
      const bytes = encodeFormationMessage(message);
      for (let length = 0; length < bytes.length; length++) {
        expect(() => decodeFormationMessage(bytes.subarray(0, length))).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
      }
    }
    const row = [1, "alice", incarnation("alice")];
    const wrong: unknown[] = [
      [0],
      [8],
      [7, 0],
      [],
      { 0: 7 },
      [4],
      [4, row, 0],
      [4, null],
      [4, row.with(0, 0)],
      [4, row.with(0, FORMATION_ROUND_MAX + 1)],
      [4, row.with(0, 1.5)],
      [4, row.with(1, "")],
      [4, row.with(2, "A".repeat(32))],
      [1, row, []],
      [1, row, ["bob", "alice"]],
      [1, row, ["bob", "bob"]],
      [1, row, [1]],
      [1, row, Array.from({ length: FEDERATION_MEMBERS_MAX + 1 }, (_, index) => `n${index}`).sort()],
      [2, row, ["n", "carol", incarnation("carol"), "", 0], null],
      [2, row, ["n", "carol", incarnation("carol"), "", 1], [row]],
      [3, row, "layout"],
      [6, encodeLayout(layout("01", LIST, 2))],
    ];
    for (const value of wrong) {
      expect(() => decodeFormationMessage(encode(value)), JSON.stringify(value)).toThrowError(
        expect.objectContaining({ name: "ProtocolError", code: "MALFORMED" }),
      );
    }
    expect(() => decodeFormationMessage(new Uint8Array(FORMATION_MESSAGE_MAX_BYTES + 1))).toThrowError(
      expect.objectContaining({ code: "TOO_LARGE" }),
    );
  });

  it("never surprise with another kind of error, whatever the bytes", () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ maxLength: 200 }),
          fc.anything({ maxDepth: 3 }).map((value) => tryEncode(value)),
        ),
        (bytes) => {
          try {
            decodeFormationMessage(bytes);
          } catch (error) {
            expect((error as Error).name).toBe("ProtocolError");
          }
          expect(bytes.length).toBeGreaterThanOrEqual(0);
        },
      ),
      { numRuns: 500 },
    );
  });

  it("order ballots by round, then name, then incarnation, and never call two different ones equal", () => {
    const ordered = [ballot(1, "alice"), ballot(1, "alice", 2), ballot(1, "bob"), ballot(2, "alice"), ballot(10, "alice")];
    for (const [i, a] of ordered.entries()) for (const [j, b] of ordered.entries()) expect(Math.sign(compareBallot(a, b))).toBe(Math.sign(i - j));
  });

  function tryEncode(value: unknown): Uint8Array {
    try {
      return encode(value);
    } catch {
      return new Uint8Array();
    }
  }
});
