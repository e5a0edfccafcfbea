import { encode } from "cborg";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { sha256 } from "../../crypto/hash.ts";
import {
  type FederationId,
  type Incarnation,
  type NodeId,
  PARTITION_COUNT,
  type Partition,
  SYSTEM_PARTITION,
  SYSTEM_TENANT,
} from "../../protocol/ids.ts";
import {
  decodeLayout,
  encodeLayout,
  groupOf,
  type Layout,
  layoutHash,
  layoutOf,
  type Member,
  type MemberFields,
  partitionOf,
} from "../../protocol/layout.ts";
import {
  DECAY_PERIOD_MAX_MS,
  FEDERATION_MEMBERS_MAX,
  LAYOUT_MAX_BYTES,
  MEMBER_WEIGHT_MAX,
  NODE_ID_MAX_CHARS,
  NODE_NAME_MAX_CHARS,
  REPLICATION_FACTOR_MAX,
  ZONE_MAX_CHARS,
} from "../../protocol/limits.ts";

const PARTITIONS = Array.from({ length: PARTITION_COUNT }, (_, index) => index as Partition);

function member(name: string, fields: Partial<MemberFields> = {}): MemberFields {
  return { node: `node-of-${name}` as NodeId, name, incarnation: "0a".repeat(16) as Incarnation, zone: "", weight: 1, ...fields };
}

function layout(members: readonly MemberFields[], fields: Partial<Omit<Layout, "members">> = {}): Layout {
  return layoutOf({
    version: 1,
    federation: "fe".repeat(16) as FederationId,
    replicationFactor: 2,
    resonanceDecay: 0.85,
    hebbianRate: 0.15,
    periodMs: 30 * 24 * 3600 * 1000,
    members,
    ...fields,
  });
}

function names(members: readonly Member[]): string[] {
  return members.map(({ name }) => name);
}

function replicaCounts(of: Layout): Map<string, number> {
  const counts = new Map(of.members.map(({ name }) => [name, 0]));
  for (const partition of PARTITIONS) for (const { name } of groupOf(of, partition).replicas) counts.set(name, counts.get(name)! + 1);
  return counts;
}

const someName = fc.stringMatching(/^[a-z][a-z0-9-]{0,14}$/);
const someMembers = (least: number, most: number) => fc.uniqueArray(someName, { minLength: least, maxLength: most });
const someLayout = fc
  .record({
    members: fc.uniqueArray(fc.tuple(someName, fc.constantFrom("", "a", "b", "c"), fc.integer({ min: 1, max: 9 })), {
      selector: ([name]) => name,
      minLength: 1,
      maxLength: 9,
    }),
    replicationFactor: fc.integer({ min: 1, max: 5 }),
  })
  .map(({ members, replicationFactor }) =>
    layout(
      members.map(([name, zone, weight]) => member(name, { zone, weight })),
      { replicationFactor },
    ),
  );

describe("the bytes of a layout", () => {
  const three = layout([member("carol", { zone: "z2" }), member("alice"), member("bob", { weight: 3 })]);

  it("come back as the same layout, members sorted by name, with their writers", () => {
    const decoded = decodeLayout(encodeLayout(three));
    expect(decoded).toEqual(three);
    expect(names(decoded.members)).toEqual(["alice", "bob", "carol"]);
    expect(decoded.members[0]!.writer).toMatch(/^[A-Za-z0-9_-]{22}$/);
    expect(new Set(decoded.members.map(({ writer }) => writer)).size).toBe(3);
  });

  it("are the same whatever order the members were given in, and differ when anything else differs", () => {
    const members = [member("alice"), member("bob", { weight: 3 }), member("carol", { zone: "z2" })];
    expect(layoutHash(layout(members))).toBe(layoutHash(three));
    const others = [
      layout(members.slice(1)),
      layout(members, { version: 2, previous: "0".repeat(64) }),
      layout(members, { federation: "00".repeat(16) as FederationId }),
      layout(members, { replicationFactor: 3 }),
      layout(members, { resonanceDecay: 0.86 }),
      layout(members, { hebbianRate: 0.16 }),
      layout(members, { periodMs: 1 }),
      layout([member("alice", { weight: 2 }), ...members.slice(1)]),
      layout([member("alice", { zone: "z" }), ...members.slice(1)]),
      layout([member("alice", { incarnation: "0b".repeat(16) as Incarnation }), ...members.slice(1)]),
      layout([member("alice", { node: "other" as NodeId }), ...members.slice(1)]),
    ];
    expect(new Set([three, ...others].map(layoutHash)).size).toBe(others.length + 1);
  });

  it("are these, for ever (golden)", () => {
    expect(layoutHash(three)).toBe("4821996eb25bdf848c5a648378b209f49f00df6f370bfa359abe9a75ab09ca78");
  });

  it("are refused in any other spelling, or cut short, or with one bit flipped into another layout's shape", () => {
    const bytes = encodeLayout(three);
    fc.assert(
      fc.property(fc.nat(bytes.length - 1), fc.integer({ min: 1, max: 255 }), (at, flip) => {
        const changed = bytes.slice();
        changed[at]! ^= flip;
        try {
          expect(encodeLayout(decodeLayout(changed))).toEqual(changed);
        } catch (error) {
          expect((error as { code: string }).code).toMatch(/^(MALFORMED|VERSION)$/);
        }
      }),
      { numRuns: 500 },
    );
    for (let length = 0; length < bytes.length; length++)
      expect(() => decodeLayout(bytes.subarray(0, length))).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
    expect(() => decodeLayout(Uint8Array.of(...bytes, 0))).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
    const unsorted = encode([1, 1, "fe".repeat(16), 2, 0.85, 0.15, 5, [row("bob"), row("alice")]]);
    expect(() => decodeLayout(unsorted)).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
    expect(decodeLayout(encode([1, 1, "fe".repeat(16), 2, 0.85, 0.15, 5, [row("alice"), row("bob")]])).members).toHaveLength(2);
  });

  it("of a format from the future are told apart from garbage", () => {
    expect(() => decodeLayout(encode([3, "whatever"]))).toThrowError(expect.objectContaining({ code: "VERSION" }));
  });

  it("are refused beyond each bound, and accepted at it", () => {
    const atBound = layout(
      [
        member("a".repeat(NODE_NAME_MAX_CHARS), {
          node: "n".repeat(NODE_ID_MAX_CHARS) as NodeId,
          zone: "z".repeat(ZONE_MAX_CHARS),
          weight: MEMBER_WEIGHT_MAX,
        }),
      ],
      { replicationFactor: REPLICATION_FACTOR_MAX, periodMs: DECAY_PERIOD_MAX_MS },
    );
    expect(decodeLayout(encodeLayout(atBound))).toEqual(atBound);
    const alice = row("alice");
    const valid: unknown[] = [1, 1, "fe".repeat(16), 2, 0.85, 0.15, 5, [alice]];
    expect(decodeLayout(encode(valid)).version).toBe(1);
    const wrong: unknown[] = [
      valid.with(1, 0),
      valid.with(1, 1.5),
      valid.with(1, -1),
      valid.with(2, "fe".repeat(15)),
      valid.with(2, "FE".repeat(16)),
      valid.with(3, 0),
      valid.with(3, REPLICATION_FACTOR_MAX + 1),
      valid.with(3, "2"),
      valid.with(4, 0),
      valid.with(4, 1),
      valid.with(4, Number.NaN),
      valid.with(5, 1.01),
      valid.with(6, 0),
      valid.with(6, DECAY_PERIOD_MAX_MS + 1),
      valid.with(7, []),
      valid.with(7, null),
      valid.with(7, [[]]),
      valid.with(7, [alice, alice]),
      valid.with(7, [alice, row("bob").with(0, alice[0])]),
      valid.with(7, [alice.with(0, "")]),
      valid.with(7, [alice.with(0, "n".repeat(NODE_ID_MAX_CHARS + 1))]),
      valid.with(7, [alice.with(1, "")]),
      valid.with(7, [alice.with(1, "a".repeat(NODE_NAME_MAX_CHARS + 1))]),
      valid.with(7, [alice.with(1, "al,ice")]),
      valid.with(7, [alice.with(1, "al ice")]),
      valid.with(7, [alice.with(1, "älice")]),
      valid.with(7, [alice.with(2, "0a")]),
      valid.with(7, [alice.with(3, "z".repeat(ZONE_MAX_CHARS + 1))]),
      valid.with(7, [alice.with(4, 0)]),
      valid.with(7, [alice.with(4, MEMBER_WEIGHT_MAX + 1)]),
      [...valid, 0],
      valid.slice(0, 7),
      { 0: 1 },
      1,
    ];
    for (const value of wrong)
      expect(() => decodeLayout(encode(value)), JSON.stringify(value)).toThrowError(
        expect.objectContaining({ name: "ProtocolError", code: "MALFORMED" }),
      );
  });

  it("say of what a person may have typed what it must be", () => {
    expect(() => layout([member("alice", { zone: "east wing" })])).toThrowError(
      `layout: zone is 0 to ${ZONE_MAX_CHARS} printable ASCII characters, without space and comma`,
    );
    expect(() => layout([member("alice", { weight: 0 })])).toThrowError(`layout: weight is a whole number from 1 to ${MEMBER_WEIGHT_MAX}`);
  });

  it("hold the largest federation, not one member more, and nothing above their size is even parsed", () => {
    const many = (count: number) =>
      Array.from({ length: count }, (_, index) =>
        member(`${index}-`.padEnd(NODE_NAME_MAX_CHARS, "x"), {
          node: `${index}-`.padEnd(52, "n") as NodeId,
          zone: `${index}-`.padEnd(ZONE_MAX_CHARS, "z"),
        }),
      );
    const largest = layout(many(FEDERATION_MEMBERS_MAX));
    expect(encodeLayout(largest).length).toBeLessThan(LAYOUT_MAX_BYTES);
    expect(decodeLayout(encodeLayout(largest))).toEqual(largest);
    expect(() => layout(many(FEDERATION_MEMBERS_MAX + 1))).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
    const rows = many(FEDERATION_MEMBERS_MAX + 1).map(({ node, name, incarnation, zone, weight }) => [node, name, incarnation, zone, weight]);
    expect(() => decodeLayout(encode([1, 1, "fe".repeat(16), 2, 0.85, 0.15, 5, rows]))).toThrowError(expect.objectContaining({ code: "MALFORMED" }));
    expect(() => decodeLayout(new Uint8Array(LAYOUT_MAX_BYTES + 1))).toThrowError(expect.objectContaining({ code: "TOO_LARGE" }));
  });

  function row(name: string): unknown[] {
    const { node, incarnation, zone, weight } = member(name);
    return [node, name, incarnation, zone, weight];
  }
});

describe("the partition of a tenant", () => {
  it("is the first byte of SHA-256 of its name (FIPS 180-2: abc -> ba7816bf...), the system's its own", () => {
    expect(partitionOf("abc")).toBe(0xba);
    expect(partitionOf("")).toBe(0xe3);
    expect(partitionOf(SYSTEM_TENANT)).toBe(SYSTEM_PARTITION);
  });

  it("is always one of 256 and reaches all of them", () => {
    const seen = new Set(Array.from({ length: 5000 }, (_, index) => partitionOf(`tenant-${index}`)));
    expect(seen.size).toBe(PARTITION_COUNT);
    expect(Math.max(...seen)).toBe(255);
  });
});

describe("the group of a partition", () => {
  it("has RF replicas first, then RF - 1 witnesses, as far as there are members", () => {
    const shapes = (count: number, replicationFactor: number) => {
      const group = groupOf(
        layout(
          "abcdefghi"
            .slice(0, count)
            .split("")
            .map((name) => member(name)),
          { replicationFactor },
        ),
        7 as Partition,
      );
      return [group.replicas.length, group.witnesses.length, group.size, group.quorum];
    };
    expect(shapes(1, 2)).toEqual([1, 0, 1, 1]);
    expect(shapes(2, 2)).toEqual([2, 0, 2, 2]);
    expect(shapes(3, 2)).toEqual([2, 1, 3, 2]);
    expect(shapes(5, 2)).toEqual([2, 1, 3, 2]);
    expect(shapes(3, 3)).toEqual([3, 0, 3, 2]);
    expect(shapes(4, 3)).toEqual([3, 1, 4, 3]);
    expect(shapes(5, 3)).toEqual([3, 2, 5, 3]);
    expect(shapes(9, 3)).toEqual([3, 2, 5, 3]);
    expect(shapes(3, 1)).toEqual([1, 0, 1, 1]);
  });

  it("names nobody twice, lists replicas before witnesses, and every quorum of it holds a full replica", () => {
    fc.assert(
      fc.property(someLayout, fc.constantFrom(...PARTITIONS, SYSTEM_PARTITION), (of, partition) => {
        const group = groupOf(of, partition);
        expect(group.members).toEqual([...group.replicas, ...group.witnesses]);
        expect(new Set(names(group.members)).size).toBe(group.size);
        expect(group.quorum).toBeGreaterThan(group.witnesses.length);
      }),
    );
  });

  it("of the system partition has every member as a full replica", () => {
    const group = groupOf(layout(["a", "b", "c", "d", "e"].map((name) => member(name))), SYSTEM_PARTITION);
    expect(names(group.replicas)).toEqual(["a", "b", "c", "d", "e"]);
    expect([group.witnesses.length, group.size, group.quorum]).toEqual([0, 5, 3]);
  });

  it("does not depend on the order of the members, on their incarnations or on their node ids", () => {
    fc.assert(
      fc.property(
        someMembers(1, 9).chain((all) => fc.tuple(fc.constant(all), fc.shuffledSubarray(all, { minLength: all.length }))),
        ([all, shuffled]) => {
          const before = layout(all.map((name) => member(name)));
          const after = layout(shuffled.map((name) => member(name, { incarnation: "0b".repeat(16) as Incarnation, node: `new-${name}` as NodeId })));
          for (const partition of [0, 100, 255] as Partition[])
            expect(names(groupOf(after, partition).members)).toEqual(names(groupOf(before, partition).members));
        },
      ),
    );
  });

  it("is this, for ever (golden): another answer would lose data at an upgrade", () => {
    const five = layout([
      member("alice", { zone: "z1" }),
      member("bob", { zone: "z1", weight: 2 }),
      member("carol", { zone: "z2" }),
      member("dave", { zone: "z3", weight: 5 }),
      member("erin", { zone: "z3" }),
    ]);
    expect([0, 1, 2, 127, 255].map((partition) => names(groupOf(five, partition as Partition).members).join(" "))).toEqual([
      "dave bob carol",
      "erin bob carol",
      "bob dave carol",
      "dave carol bob",
      "dave alice carol",
    ]);
  });

  it("agrees with the plain formula, -ln(u) / weight in floating point", () => {
    const of = layout(
      Array.from({ length: 16 }, (_, index) => member(`m${index}`, { weight: index + 1 })),
      { replicationFactor: 16 },
    );
    for (const partition of PARTITIONS) {
      const cost = ({ name, weight }: Member) => {
        const hash = sha256(`continuum/placement/1\n${partition}\n${name}`);
        const bits = hash.subarray(0, 6).reduceRight((sum, byte) => sum * 256n + BigInt(byte), 0n);
        return -Math.log((Number(bits) + 1) / 2 ** 48) / weight;
      };
      expect(names(groupOf(of, partition).replicas)).toEqual(names([...of.members].sort((a, b) => cost(a) - cost(b))));
    }
  });

  it("gives each of 3, 5 and 7 equal members RF * 256 / N partitions, within four and a half standard deviations", () => {
    for (const count of [3, 5, 7]) {
      fc.assert(
        fc.property(someMembers(count, count), (all) => {
          const share = 2 / count;
          const deviation = Math.sqrt(PARTITION_COUNT * share * (1 - share));
          for (const replicas of replicaCounts(layout(all.map((name) => member(name)))).values()) {
            expect(Math.abs(replicas - PARTITION_COUNT * share)).toBeLessThan(4.5 * deviation);
          }
        }),
        { numRuns: 30, seed: count },
      );
    }
  });

  it("gives a member first places in proportion to its weight", () => {
    let first = 0;
    for (let run = 0; run < 20; run++) {
      const of = layout([member(`heavy-${run}`, { weight: 3 }), member(`b-${run}`), member(`c-${run}`)], { replicationFactor: 1 });
      first += replicaCounts(of).get(`heavy-${run}`)!;
    }
    const expected = (20 * PARTITION_COUNT * 3) / 5;
    expect(Math.abs(first - expected)).toBeLessThan(4.5 * Math.sqrt(expected * (2 / 5)));
  });

  it("only the new member gains a place when one is added, and it gains its share", () => {
    for (const count of [3, 5, 7]) {
      fc.assert(
        fc.property(someMembers(count + 1, count + 1), (all) => {
          const before = layout(all.slice(1).map((name) => member(name)));
          const after = layout(all.map((name) => member(name)));
          let moved = 0;
          for (const partition of PARTITIONS) {
            const had = new Set(names(groupOf(before, partition).replicas));
            const gained = names(groupOf(after, partition).replicas).filter((name) => !had.has(name));
            expect(gained.filter((name) => name !== all[0])).toEqual([]);
            moved += gained.length;
          }
          const share = 2 / (count + 1);
          expect(Math.abs(moved - PARTITION_COUNT * share)).toBeLessThan(4.5 * Math.sqrt(PARTITION_COUNT * share * (1 - share)));
        }),
        { numRuns: 15, seed: count },
      );
    }
  });

  it("spreads over zones before it repeats one", () => {
    fc.assert(
      fc.property(someLayout, fc.constantFrom(...PARTITIONS), (of, partition) => {
        const sizes = new Map<string, number>();
        for (const { zone } of of.members) sizes.set(zone, (sizes.get(zone) ?? 0) + 1);
        const { replicas, members } = groupOf(of, partition);
        for (const placed of [replicas, members]) {
          const used = (zone: string) => placed.filter((each) => each.zone === zone).length;
          const most = Math.max(...[...sizes.keys()].map(used));
          for (const [zone, size] of sizes) expect(used(zone)).toBeGreaterThanOrEqual(Math.min(size, most - 1));
        }
      }),
      { numRuns: 300 },
    );
  });
});
