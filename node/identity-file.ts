/** The node's identity: 32 random bytes in a file of mode 600 beside the store, so that a node that lost its disk's contents may keep its name. */
import { open, readFile } from "node:fs/promises";
import { join } from "node:path";
import { StartError } from "./start-error.ts";

const KEY_BYTES = 32;

/** @throws StartError DATA_UNWRITABLE, DATA_CORRUPT */
export async function loadNodeKey(directory: string, randomBytes: (length: number) => Uint8Array): Promise<Uint8Array> {
  const path = join(directory, "identity");
  try {
    const text = (await readFile(path, "utf8")).trim();
    if (!/^[0-9a-f]{64}$/.test(text))
      throw new StartError(
        "DATA_CORRUPT",
        `the identity file ${path} does not hold 64 hex digits; restore it or move it away to start as a new node`,
      );
    return new Uint8Array(Buffer.from(text, "hex"));
  } catch (error) {
    if (error instanceof StartError) throw error;
    if ((error as NodeJS.ErrnoException).code !== "ENOENT")
      throw new StartError("DATA_UNWRITABLE", `cannot read the identity file ${path}: ${(error as Error).message}`, error);
  }
  const key = randomBytes(KEY_BYTES);
  try {
    const file = await open(path, "wx", 0o600);
    await file.writeFile(`${Buffer.from(key).toString("hex")}\n`);
    await file.sync();
    await file.close();
  } catch (error) {
    throw new StartError("DATA_UNWRITABLE", `cannot write the identity file ${path}: ${(error as Error).message}`, error);
  }
  return key;
}
