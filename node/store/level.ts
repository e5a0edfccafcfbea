/** The real LevelDB. Failures to open become sentences: a store that needs repair is a lost disk, never repaired and carried on with. */
import { Level as ClassicLevel } from "level";
import { makeFolder } from "./folder.ts";
import { logDamage } from "./level-log.ts";
import type { Level, LevelOperation, LevelSnapshot } from "./level-port.ts";
import { StoreError } from "./store-error.ts";

/** @throws StoreError LOCKED, UNWRITABLE, CORRUPT */
export async function openLevel(directory: string): Promise<Level> {
  try {
    await makeFolder(directory);
  } catch (error) {
    throw new StoreError("UNWRITABLE", `cannot create the data folder ${directory}: ${(error as Error).message}`, error);
  }
  const damage = await logDamage(directory);
  if (damage !== undefined) throw corrupt(directory, damage);
  const db = new ClassicLevel<string, Uint8Array>(directory, {
    keyEncoding: "utf8",
    valueEncoding: "view",
    writeBufferSize: 16 * 1024 * 1024,
    cacheSize: 32 * 1024 * 1024,
  });
  try {
    await db.open();
  } catch (error) {
    const cause = (error as { cause?: { code?: string; message?: string } }).cause;
    if (cause?.code === "LEVEL_LOCKED") throw new StoreError("LOCKED", `the data folder ${directory} is in use by another process`, error);
    if (/permission|denied|read-only|EACCES|EROFS/i.test(cause?.message ?? ""))
      throw new StoreError("UNWRITABLE", `cannot write to the data folder ${directory}: ${cause?.message}`, error);
    throw corrupt(directory, cause?.message ?? (error as Error).message, error);
  }
  return new LevelOfClassic(db);
}

function corrupt(directory: string, why: string, cause?: unknown): StoreError {
  return new StoreError(
    "CORRUPT",
    `the store in ${directory} does not open (${why}); treat it as a lost disk: move the folder away and start again, the peers hold the data`,
    cause,
  );
}

/** classic-level as the store's port. A batch is put together operation by operation: as one array it costs the main thread half as much again. */
class LevelOfClassic implements Level {
  readonly #db: ClassicLevel<string, Uint8Array>;

  constructor(db: ClassicLevel<string, Uint8Array>) {
    this.#db = db;
  }

  get(key: string): Promise<Uint8Array | undefined> {
    return this.#db.get(key);
  }
  getSync(key: string, options: { snapshot?: LevelSnapshot } = {}): Uint8Array | undefined {
    return this.#db.getSync(key, options as object);
  }
  put(key: string, value: Uint8Array, options: { sync: boolean }): Promise<void> {
    return this.#db.put(key, value, options as object);
  }
  async batch(operations: readonly LevelOperation[], options: { sync: boolean }): Promise<void> {
    const batch = this.#db.batch();
    for (const operation of operations) {
      if (operation.type === "put") batch.put(operation.key, operation.value);
      else batch.del(operation.key);
    }
    await batch.write(options as object);
  }
  iterator(range: { gte: string; lt: string; snapshot?: LevelSnapshot; values?: false }): AsyncIterable<[string, Uint8Array]> {
    return this.#db.iterator(range as object);
  }
  snapshot(): LevelSnapshot {
    return this.#db.snapshot();
  }
  close(): Promise<void> {
    return this.#db.close();
  }
}
