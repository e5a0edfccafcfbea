import { afterEach, beforeEach, expect, test } from "vitest";
import { lossOf } from "../../node/loss.ts";
import type { StreamHead } from "../../protocol/frontier.ts";
import { groupOf, PARTITIONS } from "../../protocol/layout.ts";
import { bob, carol, LAYOUT, PARTITION, Stream, WiredNode } from "./wired-node.ts";

let node: WiredNode;
let stream: Stream;
beforeEach(async () => {
  node = await WiredNode.start();
  stream = new Stream(bob.writer);
  for (let count = 0; count < 5; count++) stream.next({});
  // Alice holds three of five, and nobody gives her the rest.
  node.hear(bob, { type: "push", envelopes: stream.deltas.slice(0, 3).map((delta) => node.seal(delta)) });
  await node.settle();
});
afterEach(() => node.stop());

const head = (seq: number): StreamHead => ({ partition: PARTITION, writer: bob.writer, seq, hash: stream.deltas[seq - 1]!.hash });
const bare = PARTITIONS.slice(0, -1).filter((partition) => groupOf(LAYOUT, partition).replicas.every(({ name }) => name === "bob")).length;

test("counts what the lost member told that it held, and nobody who is left does", async () => {
  node.hear(bob, { type: "held", heads: [head(5)] });
  node.hear(carol, { type: "held", heads: [head(4)] });
  expect(await lossOf(node.engine, LAYOUT, ["bob"])).toEqual({ lost: ["bob"], deltas_at_least: 1, partitions_without_copy: bare });
});

test("counts nothing that a witness which is left has marked", async () => {
  node.hear(bob, { type: "held", heads: [head(5)] });
  node.hear(carol, { type: "held", heads: [head(5)] });
  expect((await lossOf(node.engine, LAYOUT, ["bob"])).deltas_at_least).toBe(0);
});

test("is never too high: what somebody who is left and is not here may hold does not count", async () => {
  node.hear(bob, { type: "held", heads: [head(5)] });
  node.connection(carol, false);
  expect((await lossOf(node.engine, LAYOUT, ["bob"])).deltas_at_least).toBe(0);
});

test("names partitions of which all full replicas are lost", async () => {
  const both = PARTITIONS.slice(0, -1).filter((partition) => !groupOf(LAYOUT, partition).replicas.some(({ name }) => name === "alice")).length;
  expect(both).toBeGreaterThan(50);
  expect((await lossOf(node.engine, LAYOUT, ["bob", "carol"])).partitions_without_copy).toBe(both);
});
