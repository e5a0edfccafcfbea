/** The real LevelDB. Failures to open become sentences: a store that needs repair is a lost disk, never repaired and carried on with. */
import { mkdir } from "node:fs/promises";
import { Level as ClassicLevel } from "level";
import type { Level } from "./level-port.ts";
import { StoreError } from "./store-error.ts";

/** @throws StoreError LOCKED, UNWRITABLE, CORRUPT */
export async function openLevel(directory: string): Promise<Level> {
  try {
    await mkdir(directory, { recursive: true });
  } catch (error) {
    throw new StoreError("UNWRITABLE", `cannot create the data folder ${directory}: ${(error as Error).message}`, error);
  }
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
    throw new StoreError(
      "CORRUPT",
      `the store in ${directory} does not open (${cause?.message ?? (error as Error).message}); treat it as a lost disk: move the folder away and start again, the peers hold the data`,
      error,
    );
  }
  return db as unknown as Level;
}
