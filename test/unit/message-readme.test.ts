import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { decodeWire, type Wire } from "../../protocol/codec.ts";
import { FRAME_MAX_BYTES } from "../../protocol/limits.ts";
import { MESSAGE_NUMBERS } from "../../protocol/message.ts";
import { DELTAS, hex } from "../vectors/samples.ts";

const folder = new URL("../../protocol/", import.meta.url);
const readme = readFileSync(new URL("README.md", folder), "utf8");

test("the README of the protocol has every message in its table and in its CDDL, under its number", () => {
  const table = [...readme.matchAll(/^\| (\d+) \| ([a-z-]+) \|/gm)].map(([, number, name]) => [name, Number(number)]);
  expect(Object.fromEntries(table)).toEqual(MESSAGE_NUMBERS);
  const cddl = [...readme.matchAll(/^([a-z-]+) += \[(\d+),/gm)].map(([, name, number]) => [name, Number(number)]);
  expect(Object.fromEntries(cddl)).toEqual(MESSAGE_NUMBERS);
});

test("the README of the protocol has every kind of entry, with as many items as its golden bytes", () => {
  for (const { name, delta } of DELTAS) {
    const body = decodeWire(delta.bodyBytes, FRAME_MAX_BYTES) as readonly Wire[];
    for (const entry of body[3] as readonly (readonly Wire[])[]) {
      const rule = new RegExp(`\\["${entry[0]}",([^;]*?)\\](?=\\s+(?:/|;|shares))`).exec(readme)?.[1];
      expect(rule?.replace(/\[[^\]]*\[[^\]]*\]\]|\[[^\]]*\]/g, "list").split(",").length, `${name} ${hex(delta.bodyBytes)}`).toBe(entry.length - 1);
    }
  }
});

test("every file that the README of the protocol links to or names exists", () => {
  const linked = [...readme.matchAll(/\]\(([^)#]+)\)/g)].map(([, path]) => path as string);
  const named = [...readme.matchAll(/`((?:graph\/)?[a-z-]+\.ts)`/g)].map(([, path]) => path as string);
  const elsewhere = [...readme.matchAll(/`(node\/[a-z/-]+\.ts)`/g)].map(([, path]) => `../${path}`);
  expect(linked.length + named.length + elsewhere.length).toBeGreaterThan(50);
  for (const path of [...linked, ...named, ...elsewhere]) expect(() => readFileSync(new URL(path, folder)), path).not.toThrow();
});
