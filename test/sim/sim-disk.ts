import { MemoryLevel } from "memory-level";
import type { Rng } from "./rng.ts";
import type { Scheduler } from "./scheduler.ts";

/** One operation as abstract-level hands it to an implementation: keys and values already encoded. */
interface Operation {
  readonly type: "put" | "del";
  readonly key: Uint8Array;
  readonly value?: Uint8Array;
}

interface Write {
  readonly operations: readonly Operation[];
  readonly sync: boolean;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

export interface DiskTimes {
  /** Mean of one write to the log without fsync, ms. */
  readonly writeMs: number;
  /** Mean of one fsync, ms. */
  readonly fsyncMs: number;
  /** Chance that an fsync takes fifty times as long: a drive that stalls. */
  readonly stallChance: number;
}

/** What was written, in the order of the log. `synced` is what survives any power cut. */
export interface DiskWatcher {
  /** A batch has completed: readers see it. `synced` false: a power cut may still take it. */
  onWrite?(entries: ReadonlyMap<string, Uint8Array | undefined>, synced: boolean): void;
}

/**
 * One node's disk, under LevelDB's rules:
 * - a batch is one record of the log, so a crash keeps all of it or nothing;
 * - with `sync: true` it completes, and becomes visible, only after the fsync; that fsync also makes every earlier batch durable;
 * - without, it is visible at once, survives the death of the process (the page cache is the kernel's) and not a power cut;
 * - batches that arrive while another is being written wait, and share the next fsync;
 * - after a power cut any prefix of what was not synced may be there, chosen by chance.
 */
export class SimDisk {
  readonly #scheduler: Scheduler;
  readonly #rng: Rng;
  readonly #times: DiskTimes;
  /** Survives a power cut. Keys as latin1 of their bytes. */
  readonly #synced = new Map<string, Uint8Array>();
  /** In the page cache: batches after the last fsync, oldest first. */
  #unsynced: (readonly Operation[])[] = [];
  #open: SimLevel | undefined;
  #waiting: Write[] = [];
  #running: Write[] | undefined;
  #failNextSync = false;
  #stalledUntil = 0;
  /** After a failed fsync LevelDB takes no write until it is opened again. */
  #broken: Error | undefined;
  watcher: DiskWatcher | undefined;
  fsyncCount = 0;

  constructor(scheduler: Scheduler, rng: Rng, times: DiskTimes = { writeMs: 0.02, fsyncMs: 1, stallChance: 0.005 }) {
    this.#scheduler = scheduler;
    this.#rng = rng;
    this.#times = times;
  }

  /**
   * What a starting process finds; the one before must have crashed or closed. Opening makes it durable: LevelDB writes what it recovers from its
   * log into a synced table before it serves anything.
   */
  open(): SimLevel {
    if (this.#open !== undefined) throw new Error("the disk is held by a running process");
    for (const batch of this.#unsynced) this.#settle(batch);
    this.#unsynced = [];
    this.#open = new SimLevel(this);
    this.#open.load([...this.#synced].map(([key, value]) => ({ type: "put", key: new Uint8Array(Buffer.from(key, "latin1")), value })));
    return this.#open;
  }

  /** The next fsync fails with EIO. Nobody knows whether that write is in the log: the next process may find it, after its writer was told it failed. */
  failNextSync(): void {
    this.#failNextSync = true;
  }

  /** Nothing completes for this long. */
  stall(ms: number): void {
    this.#stalledUntil = Math.max(this.#stalledUntil, this.#scheduler.now + ms);
  }

  /** The process dies (kill -9): the kernel keeps what reached it; of a batch on its way nobody knows. */
  kill(): void {
    const running = this.#running?.map((write) => write.operations) ?? [];
    this.#unsynced.push(...running.slice(0, this.#rng.int(running.length + 1)));
    this.#detach();
  }

  /** The machine loses power: a prefix of what was not synced may have reached the platter. */
  powerCut(): void {
    const tail = [...this.#unsynced, ...(this.#running?.map((write) => write.operations) ?? [])];
    for (const batch of tail.slice(0, this.#rng.int(tail.length + 1))) this.#settle(batch);
    this.#unsynced = [];
    this.#detach();
  }

  /** The volume is gone: the next process finds an empty one. */
  lose(): void {
    this.#synced.clear();
    this.#unsynced = [];
    this.#detach();
  }

  /** Clean end of a process: what completed stays as it is. */
  closed(): void {
    this.#detach();
  }

  /** Something is being written. */
  get busy(): boolean {
    return this.#running !== undefined;
  }

  /** What is durable now, for checkers: key as text -> value. */
  durable(): ReadonlyMap<string, Uint8Array> {
    return this.#synced;
  }

  /** What a process that opened the disk now would read: what is durable, and what the page cache has on top. */
  contents(): ReadonlyMap<string, Uint8Array> {
    if (this.#unsynced.length === 0) return this.#synced;
    const all = new Map(this.#synced);
    for (const batch of this.#unsynced) applyTo(all, batch);
    return all;
  }

  /** As LevelDB's writer queue: the first waiting write decides, and takes along all that may share its fate. */
  write(by: SimLevel, operations: readonly Operation[], sync: boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      if (by !== this.#open) return; // a dead process writes nothing
      if (this.#broken !== undefined) return reject(this.#broken);
      this.#waiting.push({ operations, sync, resolve, reject });
      this.#pump();
    });
  }

  /** A read that leaves the process: a fraction of a write, and nothing while the disk stalls. */
  readDelay(): Promise<void> {
    return this.#scheduler.sleep(this.#stallMs() + this.#rng.exponential(this.#times.writeMs));
  }

  #stallMs(): number {
    return Math.max(0, this.#stalledUntil - this.#scheduler.now);
  }

  #pump(): void {
    const first = this.#waiting[0];
    if (this.#running !== undefined || first === undefined) return;
    const foreign = first.sync ? -1 : this.#waiting.findIndex((write) => write.sync);
    const group = this.#waiting.splice(0, foreign === -1 ? this.#waiting.length : foreign);
    this.#running = group;
    this.#scheduler.after(this.#stallMs() + this.#latency(first.sync), () => {
      if (this.#running === group) this.#complete(group, first.sync);
    });
  }

  #complete(group: Write[], sync: boolean): void {
    this.#running = undefined;
    if (sync && this.#failNextSync) {
      this.#broken = new Error("EIO: i/o error, fsync");
      this.#unsynced.push(...group.slice(0, this.#rng.int(group.length + 1)).map((write) => write.operations));
      for (const write of [...group, ...this.#waiting]) write.reject(this.#broken);
      this.#waiting = [];
      return;
    }
    for (const write of group) {
      this.#open?.load(write.operations);
      this.#unsynced.push(write.operations);
    }
    if (sync) {
      this.fsyncCount++;
      for (const batch of this.#unsynced) this.#settle(batch);
      this.#unsynced = [];
    }
    for (const write of group) {
      this.watcher?.onWrite?.(asEntries(write.operations), sync);
      write.resolve();
    }
    this.#pump();
  }

  #settle(batch: readonly Operation[]): void {
    applyTo(this.#synced, batch);
  }

  /** Writes that nobody waits for any more never complete: their process is gone. */
  #detach(): void {
    this.#open = undefined;
    this.#waiting = [];
    this.#running = undefined;
    this.#failNextSync = false;
    this.#broken = undefined;
  }

  #latency(sync: boolean): number {
    if (!sync) return this.#rng.exponential(this.#times.writeMs);
    const factor = this.#rng.chance(this.#times.stallChance) ? 50 : 1;
    return (0.2 + this.#rng.exponential(0.8)) * this.#times.fsyncMs * factor;
  }
}

/** Keys of a disk as the store wrote them (utf8). */
export function keyText(key: Uint8Array): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString("latin1");
}

function applyTo(entries: Map<string, Uint8Array>, batch: readonly Operation[]): void {
  for (const operation of batch) {
    const key = keyText(operation.key);
    if (operation.value === undefined) entries.delete(key);
    else entries.set(key, operation.value);
  }
}

function asEntries(operations: readonly Operation[]): Map<string, Uint8Array | undefined> {
  return new Map(operations.map((operation) => [keyText(operation.key), operation.value]));
}

/** The two hooks of abstract-level's iterators that fetch. */
interface AsyncReader {
  _next(): Promise<unknown>;
  _nextv(size: number, options: object): Promise<unknown>;
}

/**
 * The database a process opens on a SimDisk: memory-level's tree for reading, iterating and snapshots, the disk's rules for writing.
 * abstract-level's public options (`sync`) arrive in the private hooks unchanged.
 */
export class SimLevel extends MemoryLevel<string, Uint8Array> {
  readonly #disk: SimDisk;

  constructor(disk: SimDisk) {
    super({ storeEncoding: "view", keyEncoding: "utf8", valueEncoding: "view" });
    this.#disk = disk;
  }

  /** Puts completed writes where readers see them: memory-level's own batch, which is synchronous in spite of its promise. */
  load(operations: readonly Operation[]): void {
    // @ts-expect-error the hooks of abstract-level are not in its types
    void super._batch(operations, {});
  }

  async _batch(operations: readonly Operation[], options: { sync?: boolean }): Promise<void> {
    await this.#disk.write(
      this,
      operations.map(({ type, key, value }) =>
        value === undefined ? { type, key: new Uint8Array(key) } : { type, key: new Uint8Array(key), value: new Uint8Array(value) },
      ),
      options.sync === true,
    );
  }

  async _put(key: Uint8Array, value: Uint8Array, options: { sync?: boolean }): Promise<void> {
    await this._batch([{ type: "put", key, value }], options);
  }

  async _del(key: Uint8Array, options: { sync?: boolean }): Promise<void> {
    await this._batch([{ type: "del", key }], options);
  }

  /** Iterating takes time, as in LevelDB's own thread: others write meanwhile. The state it sees is that of its creation. */
  _iterator(options: object): AsyncReader {
    // @ts-expect-error the hooks of abstract-level are not in its types
    const iterator = super._iterator(options) as AsyncReader;
    const [next, nextv] = [iterator._next.bind(iterator), iterator._nextv.bind(iterator)];
    iterator._next = async () => {
      await this.#disk.readDelay();
      return await next();
    };
    iterator._nextv = async (size, more) => {
      await this.#disk.readDelay();
      return await nextv(size, more);
    };
    return iterator;
  }

  /** Nothing in a node clears ranges; a silent clear in memory only would be a hole in the model. */
  async _clear(): Promise<void> {
    throw new Error("clear() is not modelled by the simulated disk");
  }
}
