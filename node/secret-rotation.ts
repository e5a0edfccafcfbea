/**
 * Replacing the federation's secret without an outage, one step after the other: a second one everywhere, then first everywhere, then nothing left under the
 * old one, then the old one goes. Which step is next follows from what the nodes tell now, so it can be asked at any time, of any of them. Only which secret is
 * the newer one cannot be seen from that: each node remembers since when it has known each.
 */

/** What `GET /v1/federation/secrets` says of one node. Secrets go by their public ids only. */
export interface SecretsOfNode {
  readonly id: string;
  readonly name: string;
  /** It is in the layout: nothing is finished without it. */
  readonly member: boolean;
  readonly connected: boolean;
  /** The one it seals with first; empty: it has not told. As it told last, where it is not connected. */
  readonly secret_ids: readonly string[];
  /** Deltas that it keeps for others, sealed under another secret than its first. */
  readonly sealed_under_others: Readonly<Record<string, number>>;
}
export interface RevokedWithSecrets {
  readonly node: string;
  readonly name: string;
  readonly revoked_at: string;
  readonly secrets: readonly string[];
  /** No node that is known here has a secret that it knew: it cannot come back as somebody else either. */
  readonly complete: boolean;
}
export interface SecretsView {
  /** In use at any node. `known_since`: here, ISO 8601; null: it has never been configured here. */
  readonly secrets: readonly { readonly id: string; readonly known_since: string | null }[];
  readonly nodes: readonly SecretsOfNode[];
  readonly revoked: readonly RevokedWithSecrets[];
}

export interface RotationStep {
  /**
   * none: one secret everywhere. unclear: which of them is to stay cannot be told. add, first, drop: what to do at the nodes of `lagging`, one after the other.
   * wait: nothing, until those of `lagging` are so far.
   */
  readonly step: "none" | "unclear" | "add" | "first" | "wait" | "drop";
  /** Public ids; null where nothing is being replaced. */
  readonly old: string | null;
  readonly new: string | null;
  readonly lagging: readonly { readonly name: string; readonly why: string }[];
}

/** @param to public id of the secret that is to stay; default: the one that came last to the node that was asked */
export function rotationStep({ secrets, nodes }: Pick<SecretsView, "secrets" | "nodes">, to?: string): RotationStep {
  const here = nodes.filter(({ connected, secret_ids }) => connected && secret_ids.length > 0);
  const away = nodes.filter((node) => node.member && !here.includes(node));
  if (secrets.length < 2) return { step: "none", old: null, new: null, lagging: away.map((node) => ({ name: node.name, why: notHere(node) })) };
  const direction = directionOf(secrets, to);
  if (direction === undefined) return { step: "unclear", old: null, new: null, lagging: [] };
  const [old, fresh] = direction;
  const say = (step: RotationStep["step"], those: readonly SecretsOfNode[], why: (node: SecretsOfNode) => string): RotationStep | undefined =>
    those.length === 0 ? undefined : { step, old, new: fresh, lagging: those.map((node) => ({ name: node.name, why: why(node) })) };
  const lacks = ({ secret_ids }: SecretsOfNode): boolean => !secret_ids.includes(fresh);
  return (
    say("add", here.filter(lacks), () => `does not know ${fresh}`) ??
    // Were the new one first elsewhere, who does not know it could come back only while the old one is still there.
    say("wait", away.filter(lacks), notHere) ??
    say(
      "first",
      here.filter(({ secret_ids }) => secret_ids[0] !== fresh),
      ({ secret_ids }) => `seals with ${secret_ids[0]}`,
    ) ??
    say("wait", away, notHere) ??
    say(
      "wait",
      here.filter(({ sealed_under_others: others }) => Object.keys(others).length > 0),
      keeps,
    ) ??
    say(
      "drop",
      here.filter(({ secret_ids }) => secret_ids.includes(old)),
      () => `still knows ${old}`,
    ) ?? { step: "none", old: null, new: null, lagging: [] }
  );
}

/** The one that goes, and the one that stays. */
function directionOf(secrets: SecretsView["secrets"], to: string | undefined): readonly [string, string] | undefined {
  // What was never here is newer than all that was.
  const since = ({ known_since }: SecretsView["secrets"][number]): string => known_since ?? "~";
  const sorted = secrets.toSorted((a, b) => (since(a) < since(b) ? -1 : since(a) > since(b) ? 1 : 0));
  const [oldest, second] = sorted;
  const [before, newest] = sorted.slice(-2);
  if (to !== undefined) {
    const old = sorted.find(({ id }) => id !== to);
    return old === undefined || !sorted.some(({ id }) => id === to) ? undefined : [old.id, to];
  }
  if (oldest === undefined || second === undefined || before === undefined || newest === undefined) return undefined;
  return since(oldest) === since(second) || since(before) === since(newest) ? undefined : [oldest.id, newest.id];
}

function notHere({ connected }: SecretsOfNode): string {
  return connected
    ? "is connected and has not told which secrets it knows"
    : "is not connected: bring it back, or take it out (continuum layout remove)";
}

function keeps({ sealed_under_others: others }: SecretsOfNode): string {
  const deltas = Object.values(others).reduce((sum, count) => sum + count, 0);
  return `keeps ${deltas} deltas for others under ${Object.keys(others).join(", ")}, and seals them again now`;
}

/** What a node remembers of its secrets: the public id, and since when it has been configured without a break. */
export interface SecretHistory {
  readonly id: string;
  readonly since: string;
  readonly configured: boolean;
}
const REMEMBERED_MAX = 16;

/** @param configured public ids of this start. @param now ISO 8601 */
export function rememberSecrets(before: readonly SecretHistory[], configured: readonly string[], now: string): SecretHistory[] {
  const next = configured.map((id) => before.find((one) => one.id === id && one.configured) ?? { id, since: now, configured: true });
  const gone = before.filter(({ id }) => !configured.includes(id)).map((one) => ({ ...one, configured: false }));
  return [...gone, ...next].slice(-REMEMBERED_MAX);
}
