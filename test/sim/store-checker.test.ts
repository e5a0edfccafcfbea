import { decode, encode } from "cborg";
import { beforeAll, describe, expect, it } from "vitest";
import { protect } from "../../node/store/keyspace.ts";
import type { Put } from "./history.ts";
import { readRawStore } from "./raw-store.ts";
import { Stage } from "./stage.ts";
import { checkAcknowledged, checkAtRest, checkStrengths, Registry } from "./store-checker.ts";

/** Three healthy disks, as a short run leaves them; each test plants one fault on copies. */
let disks: ReadonlyMap<string, Uint8Array>[];
let registry: Registry;
const put: Put = { id: 1, kind: "put", client: "carol", tenant: "alpha", level: "quorum", begin: 0, end: 1, attempts: 1, memory: "m", value: "v" };
const KEY = "the key of m";
const DECAY = { resonanceDecay: 0.85, periodMs: 30 * 24 * 3_600_000 };

beforeAll(async () => {
  const stage = new Stage();
  stage.start();
  await stage.formed();
  const [first, second] = stage.groupOf("alpha").replicas;
  await stage.ask(first, "put", { memory: "m", value: "v" }, { key: KEY });
  await stage.ask(second, "bump", { concepts: ["ada", "babbage"] });
  await stage.ask(first, "bump", { concepts: ["ada", "curie"] });
  await stage.ask(first, "edit", { memory: "m", value: "w" });
  await stage.pass(10_000);
  disks = stage.federation.nodes.map((node) => new Map(node.disk.contents()));
  registry = stage.registry;
});

type Disk = Map<string, Uint8Array>;
const copies = (): Disk[] => disks.map((disk) => new Map(disk));
const replicas = (all: readonly Disk[]): Disk[] => all.filter((disk) => [...disk.keys()].some((key) => key.startsWith("f/")));
const keyOf = (disk: Disk, prefix: string): string => [...disk.keys()].find((key) => key.startsWith(prefix)) as string;
const protectedRow = (value: unknown): Uint8Array => protect(encode(value));

/** What every node of a federation has, whatever else it lost. */
const withLayout = (disk: Disk): Disk => new Map([...disk, ["!layout", disks[0]?.get("!layout") as Uint8Array]]);

function complaints(all: readonly Disk[]): string[] {
  const nodes = all.map((disk, at) => ({ name: `node ${at}`, store: readRawStore(disk) }));
  const order = <T>(streams: readonly (readonly T[])[]) => [...streams].reverse().flat();
  return [...new Set(checkAtRest(nodes, registry, [{ operation: put, key: KEY }], 2, order, DECAY).map((violation) => violation.checker))];
}

describe("the checks of disks at rest", () => {
  it("are content with a healthy federation", () => {
    expect(complaints(copies())).toEqual([]);
    expect(registry.violations).toEqual([]);
    expect(registry.deltas.size).toBe(4);
  });

  it("find a delta that is missing below a frontier", () => {
    const all = copies();
    const [replica] = replicas(all) as [Disk];
    replica.delete(keyOf(replica, "d/"));
    expect(complaints(all)).toContain("one store");
  });

  it("find a delta beyond the frontier", () => {
    const all = copies();
    const [replica] = replicas(all) as [Disk];
    replica.set(keyOf(replica, "f/"), protectedRow([]));
    expect(complaints(all)).toEqual(expect.arrayContaining(["one store", "convergence"]));
  });

  it("find a key that does not know its delta", () => {
    const all = copies();
    const [replica] = replicas(all) as [Disk];
    replica.delete(keyOf(replica, "k/"));
    expect(complaints(all)).toEqual(["one store"]);
  });

  it("find a record that differs between equal frontiers", () => {
    const all = copies();
    const [replica] = replicas(all) as [Disk];
    replica.delete(keyOf(replica, "r/"));
    expect(complaints(all)).toEqual(expect.arrayContaining(["c equal graphs", "g any order"]));
  });

  it("find a count that no set of requests explains, on every disk alike", () => {
    const all = copies();
    for (const replica of replicas(all)) {
      const key = [...replica.keys()].find((one) => one.startsWith("r/") && one.endsWith("/c/ada")) as string;
      replica.set(key, protectedRow(["c", 0, 0, 0, 0, [[["w", 7, [0, 0], 1]], [], []]]));
    }
    expect(complaints(all)).toContain("b counts");
  });

  it("find a link that weighs something else than what was asked for, on every disk alike", () => {
    const all = copies();
    for (const replica of replicas(all)) {
      const key = [...replica.keys()].find((one) => /^r\/\d+\/alpha\/l\//.test(one)) as string;
      const [, a, b, [totals]] = decode((replica.get(key) as Uint8Array).subarray(4)) as [string, string, string, [unknown[][]]];
      const heavier = totals.map(([writer, mass, ...rest]) => [writer, (mass as number) + 1e-6, ...rest]);
      replica.set(key, protectedRow(["l", a, b, [heavier, [], []]]));
    }
    expect(complaints(all)).toContain("b links");
  });

  it("find a reader that was told another strength", () => {
    const atMs = registry.latestMs + DECAY.periodMs;
    const told = (strength: number) => checkStrengths("alpha", "bob", new Map([["ada babbage", strength]]), registry, atMs, DECAY).length;
    // One use, a period ago: n = 0.85.
    const right = 1 - 0.85 ** 0.85;
    expect([told(right), told(right + 2e-9), told(0)]).toEqual([0, 1, 1]);
    expect(checkStrengths("alpha", "bob", new Map([["babbage curie", 0]]), registry, atMs, DECAY)).toEqual([]);
  });

  it("find a witness that has not seen everything, or keeps what all hold", () => {
    const all = copies();
    const witness = all.find((disk) => [...disk.keys()].some((key) => key.startsWith("w/"))) as Disk;
    witness.set(keyOf(witness, "w/"), protectedRow([]));
    expect(complaints(all)).toEqual(["witness"]);
    const keeping = copies();
    const [replica] = replicas(keeping) as [Disk];
    const row = keyOf(replica, "d/");
    (keeping.find((disk) => !replicas(keeping).includes(disk)) as Disk).set(row.replace("d/", "s/"), replica.get(row) as Uint8Array);
    expect(complaints(keeping)).toEqual(["witness"]);
  });

  it("find an acknowledged write that is on one copy only", () => {
    const all = copies();
    const [, second] = replicas(all) as [Disk, Disk];
    for (const key of [...second.keys()]) if (/^[dfrk]\//.test(key)) second.delete(key);
    expect(complaints(all)).toContain("d copies");
  });
});

describe("the registry", () => {
  it("finds one number with two hashes", () => {
    const own = new Registry(() => [], 2);
    const [first, second] = replicas(copies())[0]!
      .entries()
      .filter(([key]) => key.startsWith("d/")) as unknown as [[string, Uint8Array], [string, Uint8Array]];
    own.wrote("alice", new Map([first]), true);
    own.wrote("bob", new Map([first]), true);
    expect(own.violations).toEqual([]);
    own.wrote("alice", new Map([second]), true);
    expect(own.violations).toEqual([]);
    // The same header with another clock value is another delta under the same name.
    const altered = new Uint8Array(first[1]);
    const hlc = Buffer.from(altered).indexOf(Buffer.from([0x82, 0x1b]));
    altered[hlc + 9] = (altered[hlc + 9] as number) ^ 1;
    own.wrote("carol", new Map([[first[0], protect(altered.subarray(4))]]), true);
    expect(own.violations.map((violation) => violation.checker)).toEqual(["e one hash"]);
  });

  it("finds two layouts of one number", () => {
    const own = new Registry(() => [], 2);
    const layout = (...fields: unknown[]): Uint8Array => protectedRow(fields);
    const saw = (where: string, value: Uint8Array, key = "!layout"): void => own.wrote(where, new Map([[key, value]]), true);
    saw("alice", layout(1, 1, "federation"));
    saw("bob", layout(1, 1, "federation"));
    saw("alice", layout(2, 2, "federation"));
    saw("bob", layout(2, 2, "federation"), "l/000000000002");
    expect(own.violations).toEqual([]);
    saw("carol", layout(1, 1, "another"));
    expect(own.violations.map((violation) => violation.checker)).toEqual(["one layout"]);
    saw("carol", layout(2, 2, "another"), "l/000000000002");
    expect(own.violations.map((violation) => violation.checker)).toEqual(["one layout", "one layout"]);
  });

  it("finds what goes back on a disk", () => {
    const own = new Registry(() => [], 2);
    const born = ["!incarnation", protect(Uint8Array.of(65))] as const;
    own.found("alice", new Map([born, ["!clock", protectedRow([5, 0])]]));
    own.wrote("alice", new Map([["!clock", protectedRow([4, 9])]]), true);
    expect(own.violations.map((violation) => violation.checker)).toEqual(["f never back"]);
  });

  it("finds a witness that forgets what a full replica never had", () => {
    const all = copies();
    const [first, second] = replicas(all) as [Disk, Disk];
    const row = keyOf(first, "d/");
    const complaintsOf = (...had: Disk[]): string[] => {
      const own = new Registry(() => all, 2);
      for (const [at, disk] of had.entries()) own.found(`node ${at}`, disk);
      own.wrote("carol", new Map([[row.replace("d/", "s/"), undefined]]), true);
      return own.violations.map((violation) => violation.checker);
    };
    expect(complaintsOf(first, second)).toEqual([]);
    second.delete(row);
    expect(complaintsOf(first, second)).toEqual(["witness"]);
  });

  it("finds an acknowledgement that no quorum of disks bears out", () => {
    const [first, second, witness] = [...replicas(copies()), copies().find((disk) => keyOf(disk, "w/") !== undefined) as Disk] as [Disk, Disk, Disk];
    const empty: Disk = new Map();
    const at = (level: Put["level"], ...all: Disk[]): number => {
      const own = new Registry(() => all, 2);
      for (const [index, disk] of all.entries()) own.found(`node ${index}`, disk);
      return checkAcknowledged({ ...put, level }, KEY, own, all.map(withLayout)).length;
    };
    expect([at("quorum", first, second, witness), at("all", first, second, witness), at("one", first, empty, empty)]).toEqual([0, 0, 0]);
    // A mark is no copy: it counts while the bytes are there, or once every full replica has them.
    expect([at("quorum", first, empty, witness), at("all", first, empty, witness), at("one", empty, empty, witness)]).toEqual([1, 1, 1]);
    const keeping = new Map(first.entries().map(([key, value]) => [key.replace(/^d\//, "s/"), value]));
    expect([at("quorum", first, empty, keeping), at("all", first, empty, keeping)]).toEqual([0, 1]);
    expect([at("quorum", first, empty, empty), at("quorum", empty, empty, empty)]).toEqual([1, 1]);
  });
});
