import { MemoryLevel } from "memory-level";
import type { Rng } from "./rng.ts";
import type { Scheduler } from "./scheduler.ts";
import { Pause } from "./sim-system.ts";

/** One operation as abstract-level hands it to an implementation: keys and values already encoded. */
interface Operation {
  readonly type: "put" | "del";
  readonly key: Uint8Array;
  readonly value?: Uint8Array;
  /** The key once more, as maps of the simulator name it: latin1 of its bytes. */
  readonly name: string;
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

/** Key -> what a batch puts there; undefined: it deletes the key. */
export type Entries = ReadonlyMap<string, Uint8Array | undefined>;

/** Who looks on. Each is called at one of the moments between which a process can die. */
export interface DiskWatcher {
  /** The process asks for a batch to be written. False: it died first. */
  onAsked?(entries: Entries, sync: boolean): boolean;
  /** The disk takes it. */
  onBegun?(entries: Entries): void;
  /** A batch has completed: readers see it. `synced` false: a power cut may still take it. */
  onWrite?(entries: Entries, synced: boolean): void;
}

/** The image of a disk, as somebody copied it behind the node's back. */
/** What a process is told that opens a store whose log is damaged before its end. */
export const DAMAGED = "the log is not what was written, and goes on after that";

export interface DiskCopy {
  readonly rows: ReadonlyMap<string, Uint8Array>;
  /** What had turned bad on the original is bad on its copy. */
  readonly flipped: ReadonlySet<string>;
}

/** LevelDB writes its log in blocks; after a bad record it goes on reading at the next block. */
const LOG_BLOCK_BYTES = 32 * 1024;
/** Of one batch in the log: checksum, length, type, sequence, count; of one operation: type and two lengths. */
const BATCH_BYTES = 19;
const OPERATION_BYTES = 4;

/**
 * One node's disk, under LevelDB's rules:
 * - a batch is one record of the log, so a crash keeps all of it or nothing;
 * - with `sync: true` it completes, and becomes visible, only after the fsync; that fsync also makes every earlier batch durable;
 * - without, it is visible at once, survives the death of the process (the page cache is the kernel's) and not a power cut;
 * - batches that arrive while another is being written wait, and share the next fsync;
 * - after a power cut any prefix of what was not synced may be there, chosen by chance; or a torn tail, whose bad blocks LevelDB's checksums drop;
 * - a failed write, for whatever reason, is the last: LevelDB takes no other until it is opened again.
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
  #full = false;
  #readsFail = false;
  #stalledUntil = 0;
  /** Keys whose stored bytes have changed by themselves. */
  readonly #flipped = new Set<string>();
  /** What was durable when the disk was opened, and the batches since: they are in the log, all else in tables. */
  #tables: ReadonlyMap<string, Uint8Array> = new Map();
  #log: (readonly Operation[])[] = [];
  #rotten = false;
  /** After a failed fsync LevelDB takes no write until it is opened again. */
  #broken: Error | undefined;
  watcher: DiskWatcher | undefined;
  fsyncCount = 0;
  /** Of the process that has it open. */
  readonly #pause: Pause;

  constructor(
    scheduler: Scheduler,
    rng: Rng,
    times: DiskTimes = { writeMs: 0.02, fsyncMs: 1, stallChance: 0.005 },
    pause: Pause = new Pause(scheduler),
  ) {
    this.#scheduler = scheduler;
    this.#rng = rng;
    this.#times = times;
    this.#pause = pause;
  }

  /**
   * What a starting process finds; the one before must have crashed or closed. Opening makes it durable: LevelDB writes what it recovers from its
   * log into a synced table before it serves anything.
   */
  open(): SimLevel {
    if (this.#open !== undefined) throw new Error("the disk is held by a running process");
    for (const batch of this.#unsynced) this.#settle(batch);
    this.#unsynced = [];
    this.#tables = new Map(this.#synced);
    this.#log = [];
    this.#open = new SimLevel(this);
    this.#open.load([...this.#synced].map(([name, value]) => putOf(name, value)));
    return this.#open;
  }

  /** The next fsync fails with EIO. Nobody knows whether that write is in the log: the next process may find it, after its writer was told it failed. */
  failNextSync(): void {
    this.#failNextSync = true;
  }

  /** Until it is empty again no write succeeds, and no store opens: LevelDB writes a new log first. Nothing of a refused batch is kept. */
  setFull(full: boolean): void {
    this.#full = full;
  }

  /** Every read ends in EIO, until it does not. */
  setUnreadable(unreadable: boolean): void {
    this.#readsFail = unreadable;
  }

  /** @throws Error EIO, ENOSPC, or that the log is damaged: what a process that opens the store now is told */
  checkOpens(): void {
    if (this.#rotten) throw new Error(DAMAGED);
    if (this.#full) throw new Error("ENOSPC: no space left on device, open");
    this.checkReads();
  }

  /** @throws Error EIO */
  checkReads(): void {
    if (this.#readsFail) throw new Error("EIO: i/o error, read");
  }

  /** One bit of one stored value turns, under a running process too. @param prefix of its key @returns the key; undefined: there is nothing */
  flip(rng: Rng, prefix = ""): string | undefined {
    const rows = [...this.#synced].filter(([name, value]) => value.byteLength > 0 && name.startsWith(prefix));
    if (rows.length === 0) return undefined;
    const [name, value] = rng.pick(rows);
    const changed = new Uint8Array(value);
    (changed[rng.int(changed.length)] as number) ^= 1 << rng.int(8);
    const put = putOf(name, changed);
    applyTo(this.#synced, [put]);
    this.#open?.load([put]);
    this.#flipped.add(name);
    return name;
  }

  /** Keys whose stored bytes turned and were not written again since. */
  get flipped(): ReadonlySet<string> {
    return this.#flipped;
  }

  /**
   * A record of the log turns bad after it was fsynced, of a process that is gone. With whole ones after it no store opens; the last one is dropped in
   * silence, as what a power cut leaves (test/contract/level-log.test.ts). @returns whether there was one
   */
  rotLog(rng: Rng): boolean {
    if (this.#open !== undefined) throw new Error("the disk is held by a running process");
    if (this.#log.length === 0) return false;
    const at = rng.int(this.#log.length);
    if (at < this.#log.length - 1) {
      this.#rotten = true;
      return true;
    }
    this.#log.pop();
    this.#synced.clear();
    for (const [name, value] of this.#tables) this.#synced.set(name, value);
    for (const batch of this.#log) applyTo(this.#synced, batch);
    return true;
  }

  /** Something durable is not what was written, and may be found out: flipped and not written again, or in the middle of the log. */
  get lies(): boolean {
    return this.#rotten || this.#flipped.size > 0;
  }

  /** A record of the log was dropped in silence: no row says so. */
  get rotten(): boolean {
    return this.#rotten;
  }

  /** What `cp -r` of the volume would give now. */
  copy(): DiskCopy {
    return { rows: new Map(this.#synced), flipped: new Set(this.#flipped) };
  }

  /** The volume is replaced by a copy; the process that had it open must be gone. */
  restore(copy: DiskCopy): void {
    if (this.#open !== undefined) throw new Error("the disk is held by a running process");
    this.lose();
    for (const [name, value] of copy.rows) this.#synced.set(name, value);
    for (const name of copy.flipped) this.#flipped.add(name);
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

  /**
   * The machine loses power: a prefix of what was not synced may have reached the platter.
   * @param torn the end of the log has garbage in it: LevelDB drops every record that touches a bad block, and reads on behind it
   */
  powerCut(torn = false): void {
    const tail = [...this.#unsynced, ...(this.#running?.map((write) => write.operations) ?? [])];
    const written = tail.slice(0, this.#rng.int(tail.length + 1));
    for (const batch of torn ? this.#besideGarbage(written) : written) this.#settle(batch);
    this.#unsynced = [];
    this.#detach();
  }

  /** Batches that no bad block touches. Where in a block the tail begins nobody knows. */
  #besideGarbage(tail: readonly (readonly Operation[])[]): (readonly Operation[])[] {
    const begin = this.#rng.int(LOG_BLOCK_BYTES);
    const ends: number[] = [];
    for (const batch of tail) ends.push((ends.at(-1) ?? begin) + bytesOf(batch));
    const end = ends.at(-1) ?? begin;
    // Or behind everything, where it does no harm.
    const bad = this.#rng.chance(0.3) ? end : begin + this.#rng.int(end - begin + 1);
    const next = (Math.floor(bad / LOG_BLOCK_BYTES) + 1) * LOG_BLOCK_BYTES;
    return tail.filter((_, at) => (ends[at] as number) <= bad || (ends[at - 1] ?? begin) >= next);
  }

  /** The volume is gone: the next process finds an empty one. */
  lose(): void {
    this.#synced.clear();
    this.#flipped.clear();
    this.#rotten = false;
    this.#tables = new Map();
    this.#log = [];
    this.#unsynced = [];
    this.#full = false;
    this.#readsFail = false;
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
      if (this.watcher?.onAsked?.(asEntries(operations), sync) === false) return;
      this.#waiting.push({ operations, sync, resolve, reject });
      this.#pump();
    });
  }

  /** A read that leaves the process: a fraction of a write, and nothing while the disk stalls or the process is stopped. */
  readDelay(): Promise<void> {
    return new Promise((resolve) => {
      this.#scheduler.after(this.#stallMs() + this.#rng.exponential(this.#times.writeMs), () => this.#pause.gate(resolve));
    });
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
    for (const write of group) this.watcher?.onBegun?.(asEntries(write.operations));
    const done = (): void => {
      if (this.#running === group) this.#complete(group, first.sync);
    };
    this.#scheduler.after(this.#stallMs() + this.#latency(first.sync), () => this.#pause.gate(done));
  }

  #complete(group: Write[], sync: boolean): void {
    this.#running = undefined;
    if (this.#full) {
      this.#break(group, "ENOSPC: no space left on device, write");
      return;
    }
    if (sync && this.#failNextSync) {
      this.#unsynced.push(...group.slice(0, this.#rng.int(group.length + 1)).map((write) => write.operations));
      this.#break(group, "EIO: i/o error, fsync");
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
    const { watcher } = this;
    for (const write of group) {
      watcher?.onWrite?.(asEntries(write.operations), sync);
      write.resolve();
    }
    this.#pump();
  }

  #break(group: readonly Write[], message: string): void {
    this.#broken = new Error(message);
    const refused = [...group, ...this.#waiting.splice(0)];
    for (const write of refused) write.reject(this.#broken);
  }

  #settle(batch: readonly Operation[]): void {
    applyTo(this.#synced, batch);
    this.#log.push(batch);
    if (this.#flipped.size > 0) for (const { name } of batch) this.#flipped.delete(name);
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

function putOf(name: string, value: Uint8Array): Operation {
  return { type: "put", key: new Uint8Array(Buffer.from(name, "latin1")), value, name };
}

function bytesOf(batch: readonly Operation[]): number {
  return batch.reduce((sum, { key, value }) => sum + OPERATION_BYTES + key.byteLength + (value?.byteLength ?? 0), BATCH_BYTES);
}

function applyTo(entries: Map<string, Uint8Array>, batch: readonly Operation[]): void {
  for (const { name, value } of batch) {
    if (value === undefined) entries.delete(name);
    else entries.set(name, value);
  }
}

const entriesOf = new WeakMap<readonly Operation[], Entries>();
function asEntries(operations: readonly Operation[]): Entries {
  let entries = entriesOf.get(operations);
  if (entries === undefined) {
    entries = new Map(operations.map(({ name, value }) => [name, value]));
    entriesOf.set(operations, entries);
  }
  return entries;
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

  async _open(): Promise<void> {
    this.#disk.checkOpens();
  }

  async _batch(operations: readonly Omit<Operation, "name">[], options: { sync?: boolean }): Promise<void> {
    await this.#disk.write(
      this,
      operations.map(({ type, key, value }) => {
        const copy = { type, key: new Uint8Array(key), name: keyText(key) };
        return value === undefined ? copy : { ...copy, value: new Uint8Array(value) };
      }),
      options.sync === true,
    );
  }

  async _put(key: Uint8Array, value: Uint8Array, options: { sync?: boolean }): Promise<void> {
    await this._batch([{ type: "put", key, value }], options);
  }

  async _del(key: Uint8Array, options: { sync?: boolean }): Promise<void> {
    await this._batch([{ type: "del", key }], options);
  }

  async _get(key: Uint8Array, options: object): Promise<Uint8Array | undefined> {
    this.#disk.checkReads();
    // @ts-expect-error the hooks of abstract-level are not in its types
    return await super._get(key, options);
  }

  _getSync(key: Uint8Array, options: object): Uint8Array | undefined {
    this.#disk.checkReads();
    // @ts-expect-error the hooks of abstract-level are not in its types
    return super._getSync(key, options);
  }

  /** Iterating takes time, as in LevelDB's own thread: others write meanwhile. The state it sees is that of its creation. */
  _iterator(options: object): AsyncReader {
    // @ts-expect-error the hooks of abstract-level are not in its types
    const iterator = super._iterator(options) as AsyncReader;
    const [next, nextv] = [iterator._next.bind(iterator), iterator._nextv.bind(iterator)];
    iterator._next = async () => {
      await this.#disk.readDelay();
      this.#disk.checkReads();
      return await next();
    };
    iterator._nextv = async (size, more) => {
      await this.#disk.readDelay();
      this.#disk.checkReads();
      return await nextv(size, more);
    };
    return iterator;
  }

  /** Nothing in a node clears ranges; a silent clear in memory only would be a hole in the model. */
  async _clear(): Promise<void> {
    throw new Error("clear() is not modelled by the simulated disk");
  }
}
