import { expect, test } from "vitest";
import { writerIdOf } from "../../crypto/hash.ts";
import { firstMember, isOfFederation, singleId } from "../../node/from-single.ts";
import type { FederationId, Incarnation, NodeId } from "../../protocol/ids.ts";
import { layoutHash, layoutOf, type MemberFields } from "../../protocol/layout.ts";
import { staged } from "../../protocol/layout-change.ts";

const incarnation = "07".repeat(16) as Incarnation;
const single = singleId(new Uint8Array(32));
const alone: MemberFields = { node: single, name: "old-name", incarnation, zone: "", weight: 1 };
const layout = layoutOf({
  version: 1,
  federation: "fe".repeat(16) as FederationId,
  replicationFactor: 2,
  resonanceDecay: 0.85,
  hebbianRate: 0.15,
  periodMs: 1000,
  members: [alone],
});
const member: MemberFields = { ...alone, node: "12D3KooWalice" as NodeId, name: "alice" };

test("a single node with a secret lists the same disk under its provable identity, in the version that follows", () => {
  const next = firstMember(layout, member)!;
  expect(next).toMatchObject({ version: 2, phase: "done", federation: layout.federation, previous: layoutHash(layout), forced: false });
  expect(next.members).toMatchObject([{ node: "12D3KooWalice", name: "alice", incarnation, relisted: 0 }]);
  // Another writer: no number of the old one is used again (P4).
  expect(next.members[0]!.writer).not.toBe(writerIdOf(single, incarnation));
});

test("once, and only a layout of a single node: not while it stays single, of another disk, or of a federation", () => {
  expect(firstMember(firstMember(layout, member)!, member)).toBeUndefined();
  expect(firstMember(layout, alone)).toBeUndefined();
  expect(firstMember(layout, { ...member, incarnation: "08".repeat(16) as Incarnation })).toBeUndefined();
  const two = layoutOf({ ...layout, members: [alone, { ...member, incarnation }] });
  expect(firstMember(two, member)).toBeUndefined();
});

test("a folder is a federation's as soon as others may go by what is in it, and a single node's before", () => {
  expect(isOfFederation(undefined, false)).toBe(false);
  expect(isOfFederation(layout, false)).toBe(false);
  expect(isOfFederation(layout, true)).toBe(true);
  expect(isOfFederation(undefined, true)).toBe(true);
  const first = firstMember(layout, member)!;
  expect(isOfFederation(first, false)).toBe(true);
  const others = [{ ...member, node: "12D3KooWbob" as NodeId, name: "bob" }];
  expect(isOfFederation(layoutOf({ ...layout, members: others }), false)).toBe(true);
  expect(isOfFederation(staged(layout, { members: [alone, ...others], replicationFactor: 2 }, "add"), false)).toBe(true);
});
