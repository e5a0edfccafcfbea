import { mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { makeFolder } from "../../node/store/folder.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "continuum-folder-"));
});
afterEach(() => rmSync(root, { recursive: true }));

test("makes a folder and those above it, for this user alone; again is no fault", async () => {
  const folder = join(root, "a", "b", "c");
  await makeFolder(folder);
  await makeFolder(folder);
  expect(statSync(folder).mode & 0o777).toBe(0o700);
});

test("says why it cannot, where a file is in the way", async () => {
  writeFileSync(join(root, "file"), "");
  await expect(makeFolder(join(root, "file"))).rejects.toMatchObject({ code: "EEXIST" });
  await expect(makeFolder(join(root, "file", "below"))).rejects.toMatchObject({ code: "ENOTDIR" });
});

test.runIf(process.platform === "linux")("ends where nothing can be made", async () => {
  await expect(makeFolder("/proc/continuum/below")).rejects.toMatchObject({ code: "ENOENT" });
});
