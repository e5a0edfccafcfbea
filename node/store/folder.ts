import { mkdir, stat } from "node:fs/promises";
import { dirname } from "node:path";

/**
 * Makes a folder and those above it, for this user alone. Step by step, because Node's own recursive mkdir never returns where the kernel says "no such file"
 * about a folder whose parent is there (/proc).
 * @throws the file system's error
 */
export async function makeFolder(directory: string): Promise<void> {
  try {
    await mkdir(directory, { mode: 0o700 });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "EEXIST" && (await stat(directory)).isDirectory()) return;
    const parent = dirname(directory);
    if (code !== "ENOENT" || parent === directory || (await exists(parent))) throw error;
    await makeFolder(parent);
    await mkdir(directory, { mode: 0o700 });
  }
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  );
}
