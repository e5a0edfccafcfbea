import type { AbstractBatchOptions } from "abstract-level";
import { describe, expect, it } from "vitest";
import type { NodeId } from "../../protocol/ids.ts";
import { Rng } from "./rng.ts";
import { Scheduler } from "./scheduler.ts";
import { DAMAGED, SimDisk } from "./sim-disk.ts";
import { CALM, SimNetwork } from "./sim-network.ts";
import { Pause, simSystem, WallClock } from "./sim-system.ts";

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

describe("a wall clock", () => {
  it("jumps, stands still, runs fast, and is right again", async () => {
    const scheduler = new Scheduler();
    const clock = new WallClock(scheduler, 5, 1);
    const shows = (): number => clock.read() - WallClock.EPOCH_MS;
    await scheduler.run(1000);
    expect(shows()).toBe(1005);
    clock.offsetMs += 600_000;
    expect(shows()).toBe(601_005);
    clock.setRate(0);
    await scheduler.run(3000);
    expect(shows()).toBe(601_005);
    clock.setRate(2);
    await scheduler.run(4000);
    expect(shows()).toBe(603_005);
    clock.correct();
    expect(shows()).toBe(4005);
    await scheduler.run(5000);
    expect(shows()).toBe(5005);
  });
});

describe("a process that stands still", () => {
  async function stoppedFor(clockStands: boolean) {
    const scheduler = new Scheduler();
    const pause = new Pause(scheduler);
    const system = simSystem(scheduler, new WallClock(scheduler, 0, 1), new Rng(2), () => true, pause);
    const seen: string[] = [];
    const say = (what: string) => () => seen.push(`${what} at ${scheduler.now}`);
    system.after(50, say("first"));
    system.after(300, say("second"));
    system.after(2000, say("third"));
    await scheduler.run(100);
    pause.begin(clockStands);
    await scheduler.run(1000);
    pause.gate(say("frame"));
    expect(seen).toEqual(["first at 50"]);
    pause.end();
    const monotonic = system.monotonic();
    await scheduler.run(10_000);
    return { seen, monotonic };
  }

  it("finds every timer overdue when it goes on, and what reached it meanwhile", async () => {
    expect(await stoppedFor(false)).toEqual({ monotonic: 1000, seen: ["first at 50", "second at 1000", "frame at 1000", "third at 2000"] });
  });

  it("has as long to wait as before when its machine slept", async () => {
    expect(await stoppedFor(true)).toEqual({ monotonic: 100, seen: ["first at 50", "frame at 1000", "second at 1200", "third at 2900"] });
  });

  it("does not run a timer that was cancelled by what it found first", async () => {
    const scheduler = new Scheduler();
    const pause = new Pause(scheduler);
    const system = simSystem(scheduler, new WallClock(scheduler, 0, 1), new Rng(2), () => true, pause);
    const seen: string[] = [];
    const holder: { cancel: () => void } = { cancel: () => {} };
    system.after(10, () => holder.cancel());
    holder.cancel = system.after(20, () => seen.push("cancelled"));
    pause.begin(false);
    await scheduler.run(100);
    pause.end();
    await scheduler.run(200);
    expect(seen).toEqual([]);
  });

  it("forgets what waited when it dies", async () => {
    const scheduler = new Scheduler();
    const pause = new Pause(scheduler);
    const seen: string[] = [];
    pause.begin(false);
    pause.gate(() => seen.push("late"));
    pause.forget();
    pause.end();
    await scheduler.run(10);
    expect(seen).toEqual([]);
    expect(pause.holds).toBe(false);
  });
});

describe("the simulated network", () => {
  async function connected(settings = CALM) {
    const scheduler = new Scheduler();
    const network = new SimNetwork(scheduler, new Rng(2), settings);
    network.addNode(alice);
    network.addNode(bob);
    const ports = { alice: network.join(alice), bob: network.join(bob) };
    for (const name of [alice, bob]) network.open(name);
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
    run.network.open(alice);
    expect(run.alice.send(bob, Uint8Array.of(1))).toBe(false);
    await run.scheduler.run(30_000);
    expect(run.peers).toEqual(["alice up", "alice down", "alice up"]);
    expect(next.send(bob, Uint8Array.of(2))).toBe(true);
    await run.scheduler.run(31_000);
    expect(run.got).toEqual(["alice:2"]);
  });

  it("delivers in order what a stall held up, however long, and nobody notices", async () => {
    const run = await connected();
    run.network.hold(alice, bob);
    for (let i = 0; i < 3; i++) run.alice.send(bob, Uint8Array.of(i));
    await run.scheduler.run(60_000);
    expect(run.got).toEqual([]);
    run.network.heal(alice, bob);
    await run.scheduler.run(60_001);
    expect(run.got).toEqual(["alice:0", "alice:1", "alice:2"]);
    expect(run.peers).toEqual(["alice up"]);
  });

  it("carries one byte a second where that is all there is, in order, and the rest at once when it is mended", async () => {
    const run = await connected();
    run.network.setLink(alice, bob, { ...CALM.link, bytesPerMs: 0.001 });
    for (let i = 0; i < 4; i++) run.alice.send(bob, new Uint8Array(10).fill(i));
    await run.scheduler.run(14_000);
    expect(run.got).toEqual([]);
    await run.scheduler.run(26_000);
    expect(run.got).toEqual(["alice:0", "alice:1"]);
    run.network.setLink(alice, bob, CALM.link);
    run.alice.send(bob, Uint8Array.of(9));
    await run.scheduler.run(26_100);
    expect(run.got).toEqual(["alice:0", "alice:1", "alice:2", "alice:3", "alice:9"]);
  });

  it("refuses frames once a slow link has more to carry than a queue may hold", async () => {
    const run = await connected();
    run.network.setLink(alice, bob, { ...CALM.link, bytesPerMs: 0.001 });
    const large = new Uint8Array(8 * 1024 * 1024);
    const taken: boolean[] = [];
    for (let i = 0; i < 5; i++) {
      taken.push(run.alice.send(bob, large));
      await run.scheduler.run(run.scheduler.now + 10);
    }
    expect(taken).toEqual([true, true, true, true, false]);
  });

  it("gives each peer the machine that came last when two run under one id", async () => {
    const run = await connected();
    const twin = "alice-twin" as NodeId;
    run.network.addNode(twin, new Pause(run.scheduler), alice);
    const second = run.network.join(twin);
    run.network.open(twin);
    await run.scheduler.run(5400);
    expect(run.peers).toEqual(["alice up", "alice down", "alice up"]);
    expect(run.alice.send(bob, Uint8Array.of(1))).toBe(false);
    expect(second.send(bob, Uint8Array.of(2))).toBe(true);
    expect(run.bob.send(alice, Uint8Array.of(3))).toBe(true);
    const heard: string[] = [];
    run.alice.onFrame = () => heard.push("original");
    second.onFrame = () => heard.push("twin");
    await run.scheduler.run(5500);
    expect([run.got, heard]).toEqual([["alice:2"], ["twin"]]);
    // The original dials again, and takes its peer back.
    await run.scheduler.run(9000);
    expect(run.peers.slice(-2)).toEqual(["alice down", "alice up"]);
    expect(run.peers.length).toBeGreaterThan(3);
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

  async function filled(rows: number): Promise<SimDisk> {
    const scheduler = new Scheduler();
    const disk = new SimDisk(scheduler, new Rng(5), fast);
    const db = disk.open();
    await db.open();
    const all = Promise.all(Array.from({ length: rows }, (_, i) => db.batch(entry(`k${i}`, "some value"), SYNC)));
    await scheduler.run(100);
    await all;
    return disk;
  }

  it("may lose with a torn log a batch in the middle, and keep those of the next block", async () => {
    const large = "v".repeat(20_000);
    const kept = new Set<string>();
    for (let seed = 0; seed < 120; seed++) {
      const scheduler = new Scheduler();
      const disk = new SimDisk(scheduler, new Rng(seed), fast);
      const db = disk.open();
      await db.open();
      for (const key of ["a", "b", "c", "d"]) {
        void db.batch(entry(key, large), NO_SYNC);
        await scheduler.run(scheduler.now + 10);
      }
      disk.powerCut(true);
      kept.add((await keysOf(disk)).join(""));
    }
    expect(kept).toContain("");
    expect(kept).toContain("abcd");
    expect([...kept].some((keys) => keys.includes("d") && keys.length < 4)).toBe(true);
  });

  it("refuses writes while it is full, keeps nothing of them, and does not open", async () => {
    const scheduler = new Scheduler();
    const disk = new SimDisk(scheduler, new Rng(2), fast);
    const db = disk.open();
    await db.open();
    disk.setFull(true);
    const refused = db.batch(entry("a"), SYNC).catch((error: Error) => error.message);
    await scheduler.run(100);
    expect(await refused).toContain("ENOSPC");
    disk.kill();
    await expect(disk.open().open()).rejects.toMatchObject({ cause: { message: expect.stringContaining("ENOSPC") } });
    disk.kill();
    disk.setFull(false);
    expect(await keysOf(disk)).toEqual([]);
  });

  it("fails reads while it cannot be read", async () => {
    const disk = await filled(1);
    disk.kill();
    const db = disk.open();
    await db.open();
    disk.setUnreadable(true);
    expect(() => db.getSync("k0")).toThrow("EIO");
    await expect(db.get("k0")).rejects.toThrow("EIO");
    disk.setUnreadable(false);
    expect(db.getSync("k0")).toEqual(bytes("some value"));
  });

  it("turns one bit of one value, for those who read now and later, until it is written again", async () => {
    const disk = await filled(3);
    disk.kill();
    const db = disk.open();
    await db.open();
    const key = disk.flip(new Rng(1)) as string;
    expect([...disk.flipped]).toEqual([key]);
    const stored = db.getSync(key) as Uint8Array;
    const bits = stored.reduce((sum, byte, at) => sum + (byte ^ (bytes("some value")[at] as number)).toString(2).replaceAll("0", "").length, 0);
    expect(bits).toBe(1);
    expect(disk.durable().get(key)).toEqual(stored);
    disk.kill();
    disk.lose();
    expect(disk.flipped.size).toBe(0);
  });

  it("does not open with a bad batch in its log, as long as one comes after it; the last one it drops in silence", async () => {
    const kept = new Set<string>();
    for (let seed = 0; seed < 20; seed++) {
      const scheduler = new Scheduler();
      const disk = new SimDisk(scheduler, new Rng(5), fast);
      expect(disk.rotLog(new Rng(seed))).toBe(false);
      const db = disk.open();
      await db.open();
      for (const key of ["a", "b", "c"]) {
        void db.batch(entry(key), SYNC);
        await scheduler.run(scheduler.now + 10);
      }
      disk.kill();
      expect(disk.lies).toBe(false);
      expect(disk.rotLog(new Rng(seed))).toBe(true);
      const found = await keysOf(disk).then(
        (keys) => keys.join(""),
        (error: Error) => (error.cause as Error).message,
      );
      expect(disk.lies).toBe(found === DAMAGED);
      kept.add(found);
    }
    expect([...kept].sort()).toEqual(["ab", DAMAGED]);
  });

  it("can be copied and put back as it was", async () => {
    const disk = await filled(2);
    const copy = disk.copy();
    disk.kill();
    disk.lose();
    expect(disk.contents().size).toBe(0);
    disk.restore(copy);
    expect(await keysOf(disk)).toEqual(["k0", "k1"]);
    expect(() => disk.restore(copy)).toThrow("held");
  });
});
