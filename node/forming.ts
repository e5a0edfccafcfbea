/** Drives formation.ts: its state is fsynced before anything that depends on it is said, and what it forms is handed on. */
import { Formation, type FormationEffect } from "../protocol/formation.ts";
import { decodeFormationMessage, encodeFormationMessage, type FormationMessage } from "../protocol/formation-message.ts";
import type { FederationId, NodeId } from "../protocol/ids.ts";
import { type Layout, type LayoutSettings, layoutOf, type MemberFields } from "../protocol/layout.ts";
import type { Links, PeerInfo } from "./links.ts";
import type { Log, Meter, System } from "./ports.ts";
import type { Store } from "./store/store.ts";

export interface FormingOptions {
  readonly store: Store;
  readonly links: Links;
  readonly system: System;
  readonly meter: Meter;
  readonly log: Log;
  readonly member: MemberFields;
  readonly settings: { readonly firstMembers: readonly string[]; readonly layout: LayoutSettings };
  /** Layout 1 holds; called once, or again with the same after a restart. */
  readonly onLayout: (layout: Layout) => Promise<void>;
  /** Runs something that may break an invariant. */
  readonly guard: (run: () => void) => void;
  readonly onFailure: (error: Error) => void;
}

export class Forming {
  readonly #o: FormingOptions;
  /** Undefined: on nobody's list. Such a node forms nothing and waits to be told. */
  #formation: Formation | undefined;

  constructor(options: FormingOptions) {
    this.#o = options;
  }

  async start(): Promise<void> {
    const { member, settings, store, system } = this.#o;
    if (settings.firstMembers.length === 0) return;
    const persisted = await store.meta("formation");
    const list = [...settings.firstMembers].sort();
    this.#formation = new Formation({ self: member, list, settings: settings.layout, federation: newFederationId(system), persisted });
    if (this.#formation.formed !== undefined) await this.#o.onLayout(this.#formation.formed);
  }

  peer(peer: PeerInfo, connected: boolean): void {
    this.#step({ type: "peer", node: peer.node, name: peer.name, incarnation: peer.incarnation, connected });
  }

  tick(now: number): void {
    this.#step({ type: "tick", now, random: this.#o.system.random() });
  }

  /** @param layout what this node goes by, if any @throws ProtocolError MALFORMED */
  receive(from: NodeId, bytes: Uint8Array, layout: Layout | undefined): void {
    const message = decodeFormationMessage(bytes);
    if (this.#formation !== undefined) this.#step({ type: "message", from, message });
    // Never on the list of the first members, but in the federation: it knows no ballots, only the result.
    else if (layout !== undefined && message.type !== "formed") this.#send(from, { type: "formed", layout });
  }

  /** A member said which layout holds; this node knows none. */
  told(from: NodeId, layout: Layout): void {
    if (this.#formation === undefined) void this.#o.onLayout(layout);
    else this.#step({ type: "message", from, message: { type: "formed", layout } });
  }

  #step(input: Parameters<Formation["step"]>[0]): void {
    if (this.#formation !== undefined) for (const effect of this.#formation.step(input)) this.#perform(effect);
  }

  #perform(effect: FormationEffect): void {
    if (effect.type === "send") this.#send(effect.to, effect.message);
    else if (effect.type === "formed") void this.#o.onLayout(effect.layout);
    else if (effect.type === "refuse") this.#o.log.warn(effect.facts, `formation: ${effect.reason}`);
    else void this.#persist(effect.id, effect.state);
  }

  async #persist(id: number, state: Uint8Array): Promise<void> {
    try {
      await this.#o.store.putMeta("formation", state);
    } catch (error) {
      this.#o.onFailure(error as Error);
      return;
    }
    this.#o.guard(() => this.#step({ type: "persisted", id }));
  }

  #send(to: NodeId, message: FormationMessage): void {
    this.#o.meter.count("sync_operation", 1, "formation");
    this.#o.links.send(to, { type: "formation", bytes: encodeFormationMessage(message) });
  }
}

/** A federation of one, for a node without a secret. */
export function layoutAlone(member: MemberFields, settings: LayoutSettings, system: System): Layout {
  return layoutOf({ version: 1, federation: newFederationId(system), ...settings, members: [member] });
}

function newFederationId(system: System): FederationId {
  return Buffer.from(system.randomBytes(16)).toString("hex") as FederationId;
}
