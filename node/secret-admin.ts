/** Who knows which secret and who was shut out, and shutting out, behind `/v1/federation` and `continuum secret` and `continuum node`. */
import { type NodeId, SYSTEM_TENANT } from "../protocol/ids.ts";
import { type Layout, votersOf } from "../protocol/layout.ts";
import type { Engine } from "./engine.ts";
import { ApiError } from "./errors.ts";
import type { AskedBy, LayoutAdmin } from "./layout-admin.ts";
import type { QueuedChange } from "./layout-queue.ts";
import type { Router } from "./ports.ts";
import type { Revocations, RevokedNode } from "./revocations.ts";
import { type RevokedWithSecrets, rememberSecrets, type SecretHistory, type SecretsOfNode, type SecretsView } from "./secret-rotation.ts";

export interface SecretAdminOptions {
  readonly engine: Engine;
  readonly self: NodeId;
  readonly router: Router;
  readonly layout: Pick<LayoutAdmin, "apply">;
  readonly revocations: Revocations;
  /** As a connected node's hello says; undefined when it is not connected. */
  readonly secretIds: (node: NodeId) => readonly string[] | undefined;
}

export interface Revoked {
  readonly revoked: RevokedWithSecrets;
  /** The change of the layout that takes it out; null: it is in none, or it cannot be taken out now. */
  readonly change: QueuedChange | null;
  /** Why a member could not be taken out of the layout. */
  readonly not_removed: string | null;
}

export class SecretAdmin {
  readonly #o: SecretAdminOptions;
  #history: readonly SecretHistory[] = [];

  constructor(options: SecretAdminOptions) {
    this.#o = options;
  }

  /** Once at the start: since when each secret has been known here. */
  async load(): Promise<void> {
    const { engine } = this.#o;
    const saved = await engine.store.meta("secrets");
    const before = saved === undefined ? [] : (JSON.parse(new TextDecoder().decode(saved)) as SecretHistory[]);
    this.#history = rememberSecrets(before, engine.secretIds, new Date(engine.system.now()).toISOString());
    await engine.store.putMeta("secrets", new TextEncoder().encode(JSON.stringify(this.#history)));
  }

  view(): SecretsView {
    const nodes = this.#nodes();
    const used = [...new Set(nodes.flatMap(({ secret_ids }) => secret_ids))];
    const secrets = used.map((id) => ({ id, known_since: this.#history.find((one) => one.id === id)?.since ?? null }));
    return { secrets, nodes, revoked: this.#o.revocations.list().map((one) => this.#withSecrets(one, used)) };
  }

  #withSecrets({ node, name, revoked_at, secrets }: RevokedNode, used: readonly string[]): RevokedWithSecrets {
    return { node, name, revoked_at, secrets, complete: !secrets.some((id) => used.includes(id)) };
  }

  #nodes(): SecretsOfNode[] {
    const { engine, self, revocations } = this.#o;
    const { layout, links, replica, resealing } = engine;
    const own: SecretsOfNode = {
      id: self,
      name: engine.settings.name,
      member: layout !== undefined && votersOf(layout).some(({ node }) => node === self),
      connected: true,
      secret_ids: engine.secretIds,
      sealed_under_others: Object.fromEntries(resealing?.others() ?? []),
    };
    const others = new Map<NodeId, SecretsOfNode>();
    const add = (node: NodeId, name: string, member: boolean, known: readonly string[]): void => {
      if (node === self || others.has(node) || revocations.isRevoked(node)) return;
      const connected = links?.peer(node) !== undefined;
      others.set(node, {
        id: node,
        name,
        member,
        connected,
        secret_ids: this.#o.secretIds(node) ?? known,
        sealed_under_others: Object.fromEntries(resealing?.told(node) ?? []),
      });
    };
    for (const member of layout === undefined ? [] : votersOf(layout)) add(member.node, member.name, true, replica?.secretsOf(member.writer) ?? []);
    for (const peer of links?.peers() ?? []) add(peer.node, peer.name, false, []);
    return [own, ...others.values()].sort((a, b) => (a.name < b.name ? -1 : a.name > b.name ? 1 : 0));
  }

  /**
   * Shuts a node out, and takes it out of the layout.
   * @param who name or id
   * @throws ApiError
   */
  async revoke(who: string, by: AskedBy): Promise<Revoked> {
    const { engine, self, router, revocations, layout: layoutAdmin } = this.#o;
    const { layout } = engine;
    if (layout === undefined || engine.links === undefined)
      throw new ApiError("conflict", "This is a single node, or it has no layout yet: there is nobody to shut out.");
    const { node, name } = this.#named(who, layout);
    if (node === self) throw new ApiError("conflict", `${name} is this node: ask another one to shut it out.`);
    // It may have been given all that is known here, whatever it says of itself.
    const secrets = [...new Set([...engine.secretIds, ...this.#nodes().flatMap((one) => (one.id === node ? one.secret_ids : []))])];
    const call = { tenant: SYSTEM_TENANT, level: "quorum" as const, token: undefined, ...by };
    const { value } = await router.run<RevokedNode>("revoke_node", { node, name, secrets }, call);
    revocations.learn(value);
    const used = [...new Set(this.#nodes().flatMap(({ secret_ids }) => secret_ids))];
    const revoked = this.#withSecrets(value, used);
    const member = votersOf(layout).find((other) => other.node === node);
    if (member === undefined) return { revoked, change: null, not_removed: null };
    try {
      const { change } = await layoutAdmin.apply({ op: "remove", name: member.name }, { ...by, key: `${by.key}/remove` });
      return { revoked, change, not_removed: null };
    } catch (error) {
      // It is shut out all the same; who asked must hear both.
      if (error instanceof ApiError) return { revoked, change: null, not_removed: error.message };
      throw error;
    }
  }

  /** It may connect again; into the layout it comes as everybody does. @throws ApiError not_found */
  async readmit(who: string, by: AskedBy): Promise<RevokedNode> {
    const { router, revocations } = this.#o;
    const call = { tenant: SYSTEM_TENANT, level: "quorum" as const, token: undefined, ...by };
    const { value } = await router.run<RevokedNode>("readmit_node", { node: who }, call);
    revocations.learn(value);
    return value;
  }

  #named(who: string, layout: Layout): { readonly node: NodeId; readonly name: string } {
    const known = [...votersOf(layout), ...(this.#o.engine.links?.peers() ?? []), ...this.#o.revocations.list()];
    const byId = known.find(({ node }) => node === who);
    if (byId !== undefined) return byId;
    const named = new Map(known.filter(({ name }) => name === who).map((one) => [one.node, one]));
    const [found, other] = named.values();
    if (other !== undefined) throw new ApiError("conflict", `Several nodes are called ${who}: name one by its id (${[...named.keys()].join(", ")}).`);
    if (found !== undefined) return found;
    // One that is not here can be shut out by its id, before it comes.
    if (/^12D3KooW[1-9A-HJ-NP-Za-km-z]{44}$/.test(who)) return { node: who as NodeId, name: "" };
    throw new ApiError("not_found", `No node ${who} is known here.`);
  }
}
