import type { AbstractBatchOptions } from "abstract-level";
import { describe, expect, it } from "vitest";
import type { NodeId } from "../../protocol/ids.ts";
import { Rng } from "./rng.ts";
import { Scheduler } from "./scheduler.ts";
import { SimDisk } from "./sim-disk.ts";
import { CALM, SimNetwork } from "./sim-network.ts";
import { simSystem, WallClock } from "./sim-system.ts";

const alice = "alice" as NodeId;
const bob = "bob" as NodeId;
/** LevelDB's own option, which abstract-level passes on without knowing its type. */
type LevelDbOptions = AbstractBatchOptions<string, Uint8Array> & { sync: boolean };
const SYNC: LevelDbOptions = { sync: true };
const NO_SYNC: LevelDbOptions = { sync: false };

describe("chance", () => {
  it("gives the same draws for the same seed and others for the next", () => {
    const draws = (seed: number) =>
      Array.from(
        { length: 8 },
        (
          (rng) => () =>
            rng.next32()
        )(new Rng(seed)),
      );
    expect(draws(1)).toEqual(draws(1));
    expect(draws(1)).not.toEqual(draws(2));
  });

  it("keeps purposes apart: a draw more in one does not shift another", () => {
    const [left, right] = [new Rng(7), new Rng(7)];
    left.fork("network").next32();
    expect(left.fork("disk").next32()).toBe(right.fork("disk").next32());
  });

  it("spreads whole numbers evenly", () => {
    const rng = new Rng(3);
    const counts = [0, 0, 0, 0, 0];
    for (let i = 0; i < 50_000; i++) counts[rng.int(5)]!++;
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(400);
  });
});

describe("simulated time", () => {
  it("runs events in order of time, and of scheduling where the time is equal", async () => {
    const scheduler = new Scheduler();
    const seen: string[] = [];
    scheduler.after(5, () => seen.push("late"));
    scheduler.after(1, () => seen.push("first"));
    scheduler.after(1, () => seen.push("second"));
    await scheduler.run(10);
    expect(seen).toEqual(["first", "second", "late"]);
    expect(scheduler.now).toBe(10);
  });

  it("carries what an event started to its end before the next event", async () => {
    const scheduler = new Scheduler();
    const seen: string[] = [];
    scheduler.after(1, () => {
      void (async () => {
        for (let i = 0; i < 5; i++) await new Promise<void>((resolve) => process.nextTick(resolve));
        seen.push("promises of the first");
      })();
    });
    scheduler.after(1, () => seen.push("second"));
    await scheduler.run(2);
    expect(seen).toEqual(["promises of the first", "second"]);
  });

  it("sorts many events as an array would be sorted", async () => {
    const rng = new Rng(4);
    const scheduler = new Scheduler();
    const times = Array.from({ length: 500 }, () => rng.int(100));
    const seen: number[] = [];
    for (const time of times) scheduler.after(time, () => seen.push(time));
    await scheduler.run(100);
    expect(seen).toEqual([...times].sort((a, b) => a - b));
  });

  it("never fires the timer of a dead process", async () => {
    const scheduler = new Scheduler();
    let alive = true;
    let fired = 0;
    const system = simSystem(scheduler, new WallClock(scheduler, 0, 1), new Rng(2), () => alive);
    system.after(1, () => fired++);
    system.after(3, () => fired++);
    await scheduler.run(2);
    alive = false;
    await scheduler.run(5);
    expect(fired).toBe(1);
  });
});

describe("the simulated network", () => {
  async function connected(settings = CALM) {
    const scheduler = new Scheduler();
    const network = new SimNetwork(scheduler, new Rng(2), settings);
    network.addNode(alice);
    network.addNode(bob);
    const ports = { alice: network.join(alice), bob: network.join(bob) };
    const got: string[] = [];
    const peers: string[] = [];
    ports.bob.onFrame = (from, frame) => got.push(`${from}:${frame[0]}`);
    ports.bob.onPeer = (peer, up) => peers.push(`${peer} ${up ? "up" : "down"}`);
    await scheduler.run(5000);
    expect(peers).toEqual(["alice up"]);
    return { scheduler, network, ...ports, got, peers };
  }

  it("keeps the order of one stream", async () => {
    const run = await connected();
    for (let i = 0; i < 50; i++) run.alice.send(bob, Uint8Array.of(i));
    await run.scheduler.run(6000);
    expect(run.got).toEqual(Array.from({ length: 50 }, (_, i) => `alice:${i}`));
  });

  it("delivers in order what stalled in a short cut", async () => {
    const run = await connected();
    run.network.cut(alice, bob);
    for (let i = 0; i < 3; i++) run.alice.send(bob, Uint8Array.of(i));
    await run.scheduler.run(5100);
    expect(run.got).toEqual([]);
    run.network.heal(alice, bob);
    await run.scheduler.run(20_000);
    expect(run.got).toEqual(["alice:0", "alice:1", "alice:2"]);
    expect(run.peers).toEqual(["alice up"]);
  });

  it("ends the connection after a long one-way cut, loses what stalled, and connects again after healing", async () => {
    const run = await connected();
    run.network.cut(alice, bob);
    expect(run.alice.send(bob, Uint8Array.of(1))).toBe(true);
    await run.scheduler.run(30_000);
    expect(run.peers).toEqual(["alice up", "alice down"]);
    expect(run.alice.send(bob, Uint8Array.of(2))).toBe(false);
    run.network.heal(alice, bob);
    await run.scheduler.run(40_000);
    expect(run.peers).toEqual(["alice up", "alice down", "alice up"]);
    expect(run.got).toEqual([]);
  });

  it("tells at once that a process was killed, and late that a machine lost power", async () => {
    for (const silently of [false, true]) {
      const run = await connected();
      run.network.leave(alice, silently);
      await run.scheduler.run(5010);
      expect(run.peers.length).toBe(silently ? 1 : 2);
      await run.scheduler.run(30_000);
      expect(run.peers).toEqual(["alice up", "alice down"]);
    }
  });

  it("does not let a dead process send, and gives its successor a connection of its own", async () => {
    const run = await connected();
    run.network.leave(alice, true);
    const next = run.network.join(alice);
    expect(run.alice.send(bob, Uint8Array.of(1))).toBe(false);
    await run.scheduler.run(30_000);
    expect(run.peers).toEqual(["alice up", "alice down", "alice up"]);
    expect(next.send(bob, Uint8Array.of(2))).toBe(true);
    await run.scheduler.run(31_000);
    expect(run.got).toEqual(["alice:2"]);
  });

  it("drops, repeats and reorders single frames when it is hostile", async () => {
    const run = await connected({ ...CALM, hostility: { dropChance: 0.2, duplicateChance: 0.2, reorderChance: 0.2, lateMs: 50 } });
    for (let i = 0; i < 200; i++) run.alice.send(bob, Uint8Array.of(i));
    await run.scheduler.run(9000);
    const numbers = run.got.map((line) => Number(line.slice("alice:".length)));
    expect(new Set(numbers).size).toBeLessThan(190);
    expect(numbers.length).toBeGreaterThan(new Set(numbers).size);
    expect(numbers).not.toEqual([...numbers].sort((a, b) => a - b));
  });
});

describe("the simulated disk", () => {
  const bytes = (text: string) => new TextEncoder().encode(text);
  const entry = (key: string, value = "x") => [{ type: "put" as const, key, value: bytes(value) }];
  const fast = { writeMs: 0.01, fsyncMs: 1, stallChance: 0 };

  it("shows a synced batch only once it is durable", async () => {
    const scheduler = new Scheduler();
    const disk = new SimDisk(scheduler, new Rng(2), fast);
    const db = disk.open();
    await db.open();
    let done = false;
    void db.batch(entry("a"), SYNC).then(() => {
      done = true;
    });
    await scheduler.run(0.1);
    expect([done, db.getSync("a"), disk.durable().size]).toEqual([false, undefined, 0]);
    await scheduler.run(100);
    expect([done, db.getSync("a"), disk.durable().size]).toEqual([true, bytes("x"), 1]);
  });

  it("lets batches that arrive together share one fsync", async () => {
    const scheduler = new Scheduler();
    const disk = new SimDisk(scheduler, new Rng(2), fast);
    const db = disk.open();
    await db.open();
    const all = Array.from({ length: 20 }, (_, i) => db.batch(entry(`k${i}`), SYNC));
    await scheduler.run(100);
    await Promise.all(all);
    expect(disk.fsyncCount).toBe(2);
  });

  async function twoUnsynced(seed: number): Promise<SimDisk> {
    const scheduler = new Scheduler();
    const disk = new SimDisk(scheduler, new Rng(seed), fast);
    const db = disk.open();
    await db.open();
    void db.batch(entry("synced"), SYNC);
    await scheduler.run(50);
    void db.batch(entry("one"), NO_SYNC);
    await scheduler.run(60);
    void db.batch(entry("two"), NO_SYNC);
    await scheduler.run(70);
    return disk;
  }
  async function keysOf(disk: SimDisk): Promise<string[]> {
    const db = disk.open();
    await db.open();
    return await db.keys().all();
  }

  it("keeps through the death of the process what was written and not synced", async () => {
    const disk = await twoUnsynced(1);
    disk.kill();
    expect(await keysOf(disk)).toEqual(["one", "synced", "two"]);
    disk.powerCut();
    expect(await keysOf(disk)).toEqual(["one", "synced", "two"]);
  });

  it("may lose with the power what was not synced, the latest first", async () => {
    const survivors = new Set<number>();
    for (let seed = 0; seed < 40; seed++) {
      const disk = await twoUnsynced(seed);
      disk.powerCut();
      const keys = await keysOf(disk);
      expect(keys).toContain("synced");
      if (keys.includes("two")) expect(keys).toContain("one");
      survivors.add(keys.length);
    }
    expect([...survivors].sort()).toEqual([1, 2, 3]);
  });

  it("keeps all of a batch that was being synced when the power went, or nothing of it", async () => {
    const outcomes = new Set<number>();
    for (let seed = 0; seed < 30; seed++) {
      const scheduler = new Scheduler();
      const disk = new SimDisk(scheduler, new Rng(seed), fast);
      const db = disk.open();
      await db.open();
      void db.batch([...entry("a"), ...entry("b"), ...entry("c")], SYNC);
      await scheduler.run(0.1);
      disk.powerCut();
      const next = disk.open();
      await next.open();
      outcomes.add((await next.keys().all()).length);
    }
    expect([...outcomes].sort()).toEqual([0, 3]);
  });

  it("takes no write after a failed fsync, which the next process may find or not", async () => {
    const found = new Set<boolean>();
    for (let seed = 0; seed < 30; seed++) {
      const scheduler = new Scheduler();
      const disk = new SimDisk(scheduler, new Rng(seed), fast);
      const db = disk.open();
      await db.open();
      disk.failNextSync();
      const failed = db.batch(entry("a"), SYNC).catch((error: Error) => error.message);
      await scheduler.run(100);
      expect(await failed).toContain("EIO");
      await expect(db.batch(entry("b"), SYNC)).rejects.toThrow("EIO");
      disk.kill();
      const next = disk.open();
      await next.open();
      found.add(next.getSync("a") !== undefined);
      expect(next.getSync("b")).toBeUndefined();
    }
    expect(found.size).toBe(2);
  });

  it("loses everything with the volume", async () => {
    const scheduler = new Scheduler();
    const disk = new SimDisk(scheduler, new Rng(2), fast);
    const db = disk.open();
    await db.open();
    void db.batch(entry("a"), SYNC);
    await scheduler.run(50);
    disk.lose();
    const next = disk.open();
    await next.open();
    expect(await next.keys().all()).toEqual([]);
  });
});
