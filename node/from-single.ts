/**
 * A node that was a federation of one, without a secret, becomes the first member of a real one with all it remembers. Without a secret it had no identity that
 * others could prove, so its layout lists a name of its own making; the version after it lists the same disk under the identity that the secret gave it. It is
 * the only voter, so it needs nobody's vote. Its writer changes with the identity: what it wrote before stays as streams of a writer that is in no layout,
 * which others copy like any other.
 */
import { sha256Hex } from "../crypto/hash.ts";
import type { NodeId } from "../protocol/ids.ts";
import { type Layout, layoutHash, layoutOf, type MemberFields, votersOf } from "../protocol/layout.ts";

const SINGLE = "single-";

/** What a node without a secret is called in its own layout. */
export function singleId(nodeKey: Uint8Array): NodeId {
  return `${SINGLE}${sha256Hex(nodeKey).slice(0, 32)}` as NodeId;
}

/**
 * Whether others go by what is in this folder: a layout with an identity that a secret gave, or the forming of one. Started without the secret it would take writes
 * that they never see, and form a federation of its own under the same name.
 */
export function isOfFederation(layout: Layout | undefined, hasFormed: boolean): boolean {
  return hasFormed || (layout !== undefined && votersOf(layout).some(({ node }) => !node.startsWith(SINGLE)));
}

/** @returns the version that follows; undefined when the layout is not one of a single node, or the node still is one */
export function firstMember(layout: Layout, member: MemberFields): Layout | undefined {
  const [alone] = layout.members;
  if (layout.phase !== "done" || layout.members.length !== 1 || alone?.node.startsWith(SINGLE) !== true) return undefined;
  if (member.node.startsWith(SINGLE) || alone.incarnation !== member.incarnation) return undefined;
  return layoutOf({ ...layout, version: layout.version + 1, previous: layoutHash(layout), change: "", members: [member] });
}
