import { beforeEach, describe, expect, it } from "vitest";
import { Barriers } from "../../protocol/barrier.ts";
import type { Effect } from "../../protocol/effects.ts";
import type { Level, NodeId, Partition, WriterId } from "../../protocol/ids.ts";
import { levelMet, type Tally } from "../../protocol/quorum.ts";
import { alice, bob, carol, Home, Mesh, ofType, PARTITION, sent, stream } from "./replica-world.ts";

const partition = 7 as Partition;
const aliceWriter = "writer-alice" as WriterId;
const bobWriter = "writer-bob" as WriterId;
const FIRST = 100;

const bobName = "bob" as WriterId;
const carolName = "carol" as WriterId;
const met = (level: Level, tally: Tally): Tally | undefined => (levelMet(level, { replicaCount: 2, witnessCount: 1 }, tally) ? tally : undefined);

/** A group of alice (here), bob and the witness carol, whose answers the test gives. */
class World {
  readonly barriers: Barriers;
  readonly needed: string[] = [];
  own = new Map<WriterId, number>([[aliceWriter, 1]]);
  connected = ["bob", "carol"];
  /** What bob and carol are known to hold. */
  readonly known = new Map<string, Map<WriterId, number>>();
  #request = 0;

  constructor() {
    this.barriers = new Barriers(
      {
        others: () => this.connected.map((name) => ({ node: name as NodeId, writer: name as WriterId })),
        ownFrontier: () => [...this.own],
        answered: (_partition, level, members) =>
          met(level, { replicas: 1 + Number(members.has(bobName)), witnesses: Number(members.has(carolName)) }),
        holders: (_partition, level, frontier) => {
          const holds = (held: ReadonlyMap<WriterId, number> | undefined) => [...frontier].every(([writer, seq]) => (held?.get(writer) ?? 0) >= seq);
          return met(level, {
            replicas: Number(holds(this.own)) + Number(holds(this.known.get("bob"))),
            witnesses: Number(holds(this.known.get("carol"))),
          });
        },
        need: (_partition, frontier) => this.needed.push([...frontier].map(([writer, seq]) => `${writer}/${seq}`).join()),
      },
      FIRST,
    );
  }

  read(level: Level = "quorum", deadline = 1000): Effect[] {
    return this.#collect((effects) => this.barriers.read({ request: ++this.#request, partition, level, deadline }, 0, effects));
  }
  told(id: number, from: string, frontier: readonly (readonly [WriterId, number])[] = []): Effect[] {
    return this.#collect((effects) => this.barriers.told(id, from as WriterId, frontier, 0, effects));
  }
  snapshot(id: number, frontier: ReadonlyMap<WriterId, number> = this.own): Effect[] {
    return this.#collect((effects) => this.barriers.snapshotTaken(id, frontier, 0, effects));
  }
  /** This node or another holds more. */
  progress(name: "alice" | "bob" | "carol", writer: WriterId, seq: number): Effect[] {
    const held = name === "alice" ? this.own : (this.known.get(name) ?? new Map<WriterId, number>());
    held.set(writer, seq);
    if (name !== "alice") this.known.set(name, held);
    return this.#collect((effects) => this.barriers.progressed(partition, 0, effects));
  }
  tick(now: number): Effect[] {
    return this.#collect((effects) => this.barriers.tick(now, effects));
  }
  #collect(run: (effects: Effect[]) => void): Effect[] {
    const effects: Effect[] = [];
    run(effects);
    return effects;
  }
}

const asked = (effects: readonly Effect[]) => sent(effects, "ask").map(({ to, message }) => `${to} ${message.id}`);
const requests = (effects: readonly Effect[], type: "done" | "refuse") => ofType(effects, type).map(({ request }) => request);

let world: World;
beforeEach(() => {
  world = new World();
});

describe("a barrier", () => {
  it("asks everybody connected for what they hold, with its own frontier attached", () => {
    const effects = world.read();
    expect(asked(effects)).toEqual([`bob ${FIRST + 1}`, `carol ${FIRST + 1}`]);
    expect(sent(effects, "ask")[0]!.message.frontier).toEqual([[aliceWriter, 1]]);
    expect(ofType(effects, "snapshot")).toEqual([]);
  });

  it("takes a snapshot once the level's count has answered and it holds the join of the answers", () => {
    world.read();
    expect(ofType(world.told(FIRST + 1, "carol", [[bobWriter, 3]]), "snapshot")).toEqual([]);
    expect(world.needed).toEqual([`${aliceWriter}/1,${bobWriter}/3`]);
    expect(ofType(world.progress("alice", bobWriter, 2), "snapshot")).toEqual([]);
    expect(ofType(world.progress("alice", bobWriter, 3), "snapshot")).toMatchObject([{ barrier: FIRST + 1, requests: [1] }]);
  });

  it("answers only when the level's count holds everything in the snapshot, which may be newer than the answers (P2)", () => {
    world.read();
    world.told(FIRST + 1, "carol", [[aliceWriter, 1]]);
    world.own.set(bobWriter, 9);
    expect(requests(world.snapshot(FIRST + 1), "done")).toEqual([]);
    expect(requests(world.progress("carol", bobWriter, 8), "done")).toEqual([]);
    expect(requests(world.progress("carol", bobWriter, 9), "done")).toEqual([]);
    const effects = world.progress("carol", aliceWriter, 1);
    expect(ofType(effects, "done")).toMatchObject([
      {
        request: 1,
        done: {
          level: "quorum",
          tally: { replicas: 1, witnesses: 1 },
          frontier: [
            [aliceWriter, 1],
            [bobWriter, 9],
          ],
        },
      },
    ]);
  });

  it("at all asks for every full replica's answer; the witness does not stand in for one", () => {
    world.read("all");
    expect(ofType(world.told(FIRST + 1, "carol"), "snapshot")).toEqual([]);
    expect(ofType(world.told(FIRST + 1, "bob"), "snapshot")).toHaveLength(1);
    world.progress("carol", aliceWriter, 1);
    expect(requests(world.snapshot(FIRST + 1), "done")).toEqual([]);
    expect(requests(world.progress("bob", aliceWriter, 1), "done")).toEqual([1]);
  });

  it("counts a member once, however often it answers", () => {
    world.read("all");
    for (let again = 0; again < 3; again++) expect(ofType(world.told(FIRST + 1, "carol", [[bobWriter, again]]), "snapshot")).toEqual([]);
    expect(ofType(world.told(FIRST + 1, "bob", [[aliceWriter, 1]]), "snapshot")).toHaveLength(1);
  });

  it("takes no notice of an answer to another barrier, or to one that asks no more", () => {
    world.read();
    expect(world.told(FIRST + 5, "carol", [[bobWriter, 50]])).toEqual([]);
    expect(ofType(world.told(FIRST + 1, "carol"), "snapshot")).toHaveLength(1);
    expect(world.told(FIRST + 1, "bob", [[bobWriter, 50]])).toEqual([]);
    world.progress("carol", aliceWriter, 1);
    expect(requests(world.snapshot(FIRST + 1), "done")).toEqual([1]);
  });

  it("takes no notice of a second snapshot, or of one that nobody waits for", () => {
    world.read();
    expect(world.snapshot(FIRST + 1)).toEqual([]);
    world.told(FIRST + 1, "carol");
    world.progress("carol", aliceWriter, 1);
    expect(requests(world.snapshot(FIRST + 1), "done")).toEqual([1]);
    expect(world.snapshot(FIRST + 1)).toEqual([]);
    expect(world.tick(100_000)).toEqual([]);
  });
});

describe("sharing a barrier", () => {
  it("lets a read that arrives while one asks wait for the next: the answers may be older than it", () => {
    world.read();
    expect(world.read()).toEqual([]);
    expect(world.read()).toEqual([]);
    const effects = world.told(FIRST + 1, "carol");
    expect(ofType(effects, "snapshot")).toMatchObject([{ requests: [1] }]);
    expect(asked(effects)).toEqual([`bob ${FIRST + 2}`, `carol ${FIRST + 2}`]);
    expect(ofType(world.told(FIRST + 2, "carol"), "snapshot")).toMatchObject([{ barrier: FIRST + 2, requests: [2, 3] }]);
  });

  it("asks one round for a thousand reads that waited together", () => {
    world.read();
    let asks = 0;
    for (let index = 0; index < 1000; index++) asks += asked(world.read()).length;
    asks += asked(world.told(FIRST + 1, "carol")).length;
    expect(asks).toBe(2);
    expect(ofType(world.told(FIRST + 2, "carol"), "snapshot")[0]!.requests).toHaveLength(1000);
  });

  it("lets the next ask while an earlier one catches up, and keeps levels apart", () => {
    world.read();
    world.told(FIRST + 1, "carol", [[bobWriter, 3]]);
    expect(asked(world.read())).toEqual([`bob ${FIRST + 2}`, `carol ${FIRST + 2}`]);
    expect(asked(world.read("all"))).toEqual([`bob ${FIRST + 3}`, `carol ${FIRST + 3}`]);
  });
});

describe("waiting", () => {
  it("asks again those that have not answered, should the question have been lost", () => {
    world.read("all");
    world.told(FIRST + 1, "carol");
    expect(asked(world.tick(249))).toEqual([]);
    expect(asked(world.tick(250))).toEqual([`bob ${FIRST + 1}`]);
    expect(asked(world.tick(251))).toEqual([]);
  });

  it("asks also whoever connects meanwhile", () => {
    world.connected = [];
    expect(asked(world.read())).toEqual([]);
    world.connected = ["carol"];
    expect(asked(world.tick(250))).toEqual([`carol ${FIRST + 1}`]);
  });

  it("while asking ends in no_quorum at the deadline, and the reads behind it get their turn", () => {
    world.read("quorum", 1000);
    world.read("quorum", 5000);
    expect(requests(world.tick(999), "refuse")).toEqual([]);
    const effects = world.tick(1000);
    expect(ofType(effects, "refuse")).toMatchObject([{ request: 1, code: "no_quorum" }]);
    expect(asked(effects)).toEqual([`bob ${FIRST + 2}`, `carol ${FIRST + 2}`]);
    expect(ofType(world.told(FIRST + 2, "carol"), "snapshot")).toMatchObject([{ requests: [2] }]);
  });

  it("for what nobody supplies ends in catching_up, never in an answer without it", () => {
    world.read("quorum", 1000);
    world.told(FIRST + 1, "carol", [[bobWriter, 3]]);
    world.tick(500);
    expect(world.needed.length).toBeGreaterThan(1);
    expect(ofType(world.tick(1000), "refuse")).toMatchObject([{ request: 1, code: "catching_up" }]);
    expect(world.progress("alice", bobWriter, 3)).toEqual([]);
    expect(world.tick(100_000)).toEqual([]);
  });

  it("for confirmation ends in catching_up too", () => {
    world.read("quorum", 1000);
    world.told(FIRST + 1, "carol");
    world.snapshot(FIRST + 1);
    expect(ofType(world.tick(1000), "refuse")).toMatchObject([{ code: "catching_up" }]);
  });
});

describe("a quorum read of a real replica", () => {
  it("sees a write that two others acknowledged, though this node has not heard of it (P2)", () => {
    const at = new Home(alice).connect(bob, carol);
    const deltas = stream(bob, 1);
    const first = at.replica.read({ request: 1, partition: PARTITION, level: "quorum", deadline: 1000 }, 0);
    const { id } = sent(first, "ask")[0]!.message;
    const head = { partition: PARTITION, writer: bob.writer, seq: 1, hash: deltas[0]!.hash };
    const told = at.hear(carol, { type: "told", id, partition: PARTITION, heads: [head] });
    expect(ofType(told, "snapshot")).toEqual([]);
  });

  it("runs to its end among three members, and its answer rests on what two of them hold", () => {
    const homes = [alice, bob, carol].map((member) => new Home(member));
    const [one, two] = homes as [Home, Home, Home];
    const mesh = new Mesh(homes);
    mesh.settle();
    mesh.do(two, two.propose({ request: 1 }));
    mesh.do(one, one.replica.read({ request: 2, partition: PARTITION, level: "quorum", deadline: 1000 }, 0));
    mesh.settle();
    const [snapshot] = mesh.seen.flatMap(({ effect }) => (effect.type === "snapshot" ? [effect] : []));
    const frontier = new Map(one.replica.ownHeads(PARTITION).map(({ writer, seq }) => [writer, seq]));
    mesh.do(one, one.replica.snapshotTaken(snapshot!.barrier, frontier, 0));
    mesh.settle();
    const done = mesh.seen.flatMap(({ member, effect }) => (effect.type === "done" ? [{ member, ...effect }] : []));
    expect(done).toMatchObject([
      { member: "bob", request: 1 },
      { member: "alice", request: 2, done: { frontier: [[bob.writer, 1]] } },
    ]);
  });

  it("counts no answer of another layout version or of a stranger", () => {
    const at = new Home(alice).connect(bob, carol);
    const effects = at.replica.read({ request: 1, partition: PARTITION, level: "quorum", deadline: 1000 }, 0);
    const told = { type: "told", id: sent(effects, "ask")[0]!.message.id, partition: PARTITION, heads: [] } as const;
    expect(at.hear(bob, told, { layoutVersion: 2 })).toEqual([]);
    expect(at.hear({ ...bob, node: "node-of-mallory" as NodeId, writer: "writer-of-mallory-00000" as WriterId }, told)).toEqual([]);
    expect(ofType(at.hear(bob, told), "snapshot")).toHaveLength(1);
  });

  it("is refused at once when too few are connected", () => {
    const at = new Home(alice);
    const read = { request: 1, partition: PARTITION, level: "quorum", deadline: 1000 } as const;
    expect(at.replica.read(read, 0)).toMatchObject([{ type: "refuse", code: "no_quorum" }]);
  });
});
