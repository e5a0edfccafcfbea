import { afterEach, describe, expect, it } from "vitest";
import { writerIdOf } from "../../crypto/hash.ts";
import { changesOf } from "../../node/layout-queue.ts";
import { Links, type PeerInfo, type Versions } from "../../node/links.ts";
import { encodeWire } from "../../protocol/codec.ts";
import { encodeFrame, type VerifiedMessage } from "../../protocol/frame.ts";
import { type FederationId, type Incarnation, type NodeId, SYSTEM_TENANT, type WriterId } from "../../protocol/ids.ts";
import { layoutTag } from "../../protocol/layout.ts";
import type { Message, MessageOf } from "../../protocol/message.ts";
import { HELLO_VERSION, PROTOCOL_VERSION, PROTOCOL_VERSION_MIN } from "../../protocol/version.ts";
import { Engines, Wire } from "./engine-world.ts";
import { FEDERATION, keyring, LAYOUT } from "./replica-world.ts";

const ALL: Versions = { min: PROTOCOL_VERSION_MIN, max: PROTOCOL_VERSION };
const FIRST: Versions = { min: 1, max: 1 };
const held: Message = { type: "held", heads: [], marks: [] };

/** One end of a connection: real links on a wire in memory, and all that came of it. */
class End {
  readonly wire: Wire;
  readonly links: Links;
  readonly incarnation: Incarnation;
  readonly peers: { readonly peer: PeerInfo; readonly connected: boolean }[] = [];
  readonly messages: VerifiedMessage[] = [];
  readonly frames: Uint8Array[] = [];
  readonly warned: object[] = [];
  readonly counted: string[] = [];

  constructor(
    name: string,
    versions: Versions,
    incarnation = "0a".repeat(16) as Incarnation,
    wire = new Wire(`node-of-${name}` as NodeId),
    federation: FederationId = FEDERATION,
  ) {
    this.wire = wire;
    this.incarnation = incarnation;
    const silent = () => undefined;
    this.links = new Links({
      network: this.wire,
      keyring,
      self: { name, incarnation, writer: this.writer, zone: "z" },
      federation: () => ({ federation, layoutVersion: LAYOUT.version, layoutTag: layoutTag(LAYOUT) }),
      versions,
      meter: { count: (_name, _value, label) => void this.counted.push(label ?? ""), observe: silent },
      log: { debug: silent, info: silent, error: silent, warn: (facts) => void this.warned.push(facts) },
      onPeer: (peer, connected) => void this.peers.push({ peer, connected }),
      onMessage: (verified) => void this.messages.push(verified),
    });
    const { onFrame } = this.wire;
    this.wire.onFrame = (from, frame) => {
      this.frames.push(frame);
      onFrame(from, frame);
    };
  }
  get writer(): WriterId {
    return writerIdOf(this.wire.self, this.incarnation) as WriterId;
  }
  get id(): NodeId {
    return this.wire.self;
  }
  /** Of each frame heard: its version. */
  get versions(): number[] {
    return this.frames.map((frame) => frame[1] as number);
  }
}

const settled = async () => {
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
};

async function pair(one: Versions, other: Versions): Promise<[End, End]> {
  const ends: [End, End] = [new End("alice", one), new End("bob", other)];
  ends[0].wire.join(ends[1].wire);
  await settled();
  return ends;
}

describe("two nodes that meet", () => {
  it("of which both know the newest version speak it after the hello, which is in the first", async () => {
    const [alice, bob] = await pair(ALL, ALL);
    expect(alice.peers).toEqual([
      { peer: expect.objectContaining({ name: "bob", zone: "z", writer: bob.writer, version: PROTOCOL_VERSION }), connected: true },
    ]);
    expect(bob.peers).toMatchObject([{ peer: { name: "alice", version: PROTOCOL_VERSION } }]);
    alice.links.send(bob.id, held);
    await settled();
    expect(bob.versions).toEqual([HELLO_VERSION, PROTOCOL_VERSION]);
    expect(bob.messages).toMatchObject([{ message: held, header: { layoutTag: layoutTag(LAYOUT), writer: alice.writer } }]);
  });

  it("of which one knows only the first speak the first, both ways", async () => {
    for (const [one, other] of [
      [ALL, FIRST],
      [FIRST, ALL],
    ] as const) {
      const [alice, bob] = await pair(one, other);
      expect([alice.peers, bob.peers]).toMatchObject([[{ peer: { version: 1 } }], [{ peer: { version: 1 } }]]);
      alice.links.send(bob.id, { type: "held", heads: [] });
      bob.links.send(alice.id, { type: "held", heads: [] });
      await settled();
      expect([alice.versions, bob.versions]).toEqual([
        [1, 1],
        [1, 1],
      ]);
      expect(bob.messages[0]?.header.layoutTag).toBeUndefined();
    }
  });

  it("that share no version refuse each other by name, once, and do not talk", async () => {
    const [alice, bob] = await pair({ min: 2, max: 2 }, FIRST);
    expect([alice.peers, bob.peers]).toEqual([[], []]);
    expect(alice.warned[0]).toMatchObject({ code: "VERSION", detail: "it speaks protocol versions 1 to 1, this node 2 to 2" });
    expect(bob.warned[0]).toMatchObject({ code: "VERSION", detail: "it speaks protocol versions 2 to 2, this node 1 to 1" });
    // Each hears the other's reason too, and nothing else of it.
    expect(alice.warned.slice(1)).toEqual([bob.warned[0]].map((line) => ({ ...line, peer: bob.id })));
    expect(bob.warned.slice(1)).toEqual([alice.warned[0]].map((line) => ({ ...line, peer: alice.id })));
    expect(alice.counted).toContain("version");
    const frames = bob.frames.length;
    alice.wire.cut(bob.wire);
    alice.wire.join(bob.wire);
    await settled();
    expect(bob.frames).toHaveLength(frames + 1);
    expect(alice.warned).toHaveLength(2);
    expect(bob.peers).toEqual([]);
  });
});

describe("a message to several", () => {
  it("is written once a version, so that each can read it", async () => {
    const alice = new End("alice", ALL);
    const others = [new End("bob", ALL), new End("carol", FIRST), new End("dave", ALL)];
    for (const other of others) alice.wire.join(other.wire);
    await settled();
    alice.links.sendAll(
      others.map(({ id }) => id),
      { type: "held", heads: [] },
    );
    await settled();
    expect(others.map(({ versions }) => versions.at(-1))).toEqual([PROTOCOL_VERSION, 1, PROTOCOL_VERSION]);
    expect(others.map(({ messages }) => messages.length)).toEqual([1, 1, 1]);
    expect(others[2]?.frames.at(-1)).toBe(others[0]?.frames.at(-1));
  });
});

describe("a frame", () => {
  it("of a version that nobody speaks yet is refused by name", async () => {
    const [alice, bob] = await pair(ALL, ALL);
    bob.wire.send(alice.id, encodeWire([PROTOCOL_VERSION + 1, "whatever it may be"]));
    await settled();
    expect(alice.warned).toMatchObject([{ code: "VERSION", peer: bob.id }]);
    expect(bob.warned).toMatchObject([{ code: "VERSION", peer: alice.id }]);
    expect(alice.messages).toEqual([]);
  });

  it("before the hello is refused: nobody has said whose it is", async () => {
    const alice = new End("alice", ALL);
    const silent = new Wire("node-of-mallory" as NodeId);
    silent.join(alice.wire);
    const writer = writerIdOf(silent.self, "0a".repeat(16) as Incarnation) as WriterId;
    silent.send(alice.id, encodeFrame({ federation: FEDERATION, writer, layoutVersion: 1, layoutTag: layoutTag(LAYOUT) }, held));
    await settled();
    expect(alice.messages).toEqual([]);
    expect(alice.warned).toMatchObject([{ code: "FOREIGN" }]);
  });

  it("of another incarnation than the hello's is refused", async () => {
    const [alice, bob] = await pair(ALL, ALL);
    bob.wire.send(alice.id, encodeFrame({ federation: FEDERATION, writer: alice.writer, layoutVersion: 1, layoutTag: layoutTag(LAYOUT) }, held));
    await settled();
    expect([alice.messages, alice.warned]).toMatchObject([[], [{ code: "FOREIGN" }]]);
  });

  it("of another federation under the same secret is refused with what helps", async () => {
    const [alice, bob] = await pair(ALL, ALL);
    const foreign = { federation: "ab".repeat(16) as never, writer: bob.writer, layoutVersion: 1, layoutTag: layoutTag(LAYOUT) };
    bob.wire.send(alice.id, encodeFrame(foreign, held));
    await settled();
    expect([alice.messages, alice.warned]).toMatchObject([
      [],
      [
        {
          code: "FOREIGN",
          federation: foreign.federation,
          detail: expect.stringMatching(/GET \/v1\/memories.*FEDERATION_AUTO_JOIN=true.*POST \/v1\/memories\/batch/),
        },
      ],
    ]);
  });

  it("of another federation that has formed is no peer on either side, and both can say why", async () => {
    const [alice, bob] = [new End("alice", ALL), new End("bob", ALL, undefined, undefined, "ab".repeat(16) as FederationId)];
    alice.wire.join(bob.wire);
    await settled();
    for (const [end, other] of [
      [alice, bob],
      [bob, alice],
    ] as const) {
      expect(end.peers).toEqual([]);
      expect(end.warned).toMatchObject([{ code: "FOREIGN", name: other === bob ? "bob" : "alice" }]);
      expect(end.links.whyNoPeer(other.id)).toMatch(/belongs to another federation/);
    }
    alice.wire.cut(bob.wire);
    expect(alice.links.whyNoPeer(bob.id)).toBeUndefined();
  });
});

describe("a peer", () => {
  it("that says hello again is no other, unless its incarnation is", async () => {
    const [alice, bob] = await pair(ALL, ALL);
    const hello = (incarnation: Incarnation): MessageOf<"hello"> => ({
      type: "hello",
      versionMin: 1,
      versionMax: PROTOCOL_VERSION,
      federation: FEDERATION,
      name: "bob",
      incarnation,
      zone: "",
      layoutVersion: 1,
    });
    const say = async (incarnation: Incarnation) => {
      const writer = writerIdOf(bob.id, incarnation) as WriterId;
      bob.wire.send(alice.id, encodeFrame({ federation: FEDERATION, writer, layoutVersion: 1 }, hello(incarnation)));
      await settled();
    };
    await say(bob.incarnation);
    expect(alice.peers).toHaveLength(1);
    await say("0b".repeat(16) as Incarnation);
    expect(alice.peers).toHaveLength(2);
    expect(alice.links.peers()).toMatchObject([{ incarnation: "0b".repeat(16) }]);
  });

  it("that goes is told of once, and forgotten", async () => {
    const [alice, bob] = await pair(ALL, ALL);
    alice.wire.cut(bob.wire);
    expect(alice.peers.map(({ connected }) => connected)).toEqual([true, false]);
    expect(alice.links.peers()).toEqual([]);
  });
});

describe("a federation in which one node is not upgraded yet", () => {
  let engines: Engines;
  afterEach(() => engines.stop());

  it("works in the first version with it, and carries out no change of the layout until it is", async () => {
    engines = await Engines.of(["alice", "bob", "carol"], {}, { carol: { versions: FIRST } });
    engines.connectAll();
    await engines.pass(2000);
    for (const { engine } of engines.nodes.values()) expect(engine.replica?.standing).toBe("counting");
    const asked = await engines.answer(engines.at("carol").run<{ id: string }>("layout.change", { op: "weight", name: "bob", weight: 2 }));
    expect(asked.acks.replicas).toBeGreaterThanOrEqual(2);
    await engines.pass(10_000);
    expect([...engines.nodes.values()].map(({ engine }) => engine.layout?.version)).toEqual([1, 1, 1]);
    await engines.upgrade("carol");
    const { store, engine } = engines.at("carol");
    const outcome = () => changesOf(store.stagedReader(SYSTEM_TENANT, engine.layout!))[0]?.outcome;
    expect(await engines.pass(30_000, () => outcome() === "done")).toBe(true);
    expect([...engines.nodes.values()].map(({ engine: { layout } }) => layout?.version)).toEqual([4, 4, 4]);
  }, 60_000);
});
