import type { NodeId } from "../../protocol/ids.ts";
import { KNOWN_NODES_MAX } from "../../protocol/limits.ts";
import type { System } from "../ports.ts";
import { isDialable } from "./addresses.ts";

/** Addresses kept of one node, the best first. */
const ADDRESSES_MAX = 16;
const SAVE_DELAY_MS = 500;

export type Addresses = Readonly<Record<string, readonly string[]>>;

/** Where nodes were met or said to be: survives restarts, so that a federation finds itself again without DNS or configured peers. */
export class AddressBook {
  readonly #nodes = new Map<NodeId, string[]>();
  readonly #save: (book: Record<NodeId, string[]>) => void;
  readonly #system: System;
  #cancelSave: (() => void) | undefined;

  constructor(stored: Addresses, save: (book: Record<NodeId, string[]>) => void, system: System) {
    this.#save = save;
    this.#system = system;
    for (const [node, addresses] of Object.entries(stored).slice(0, KNOWN_NODES_MAX)) {
      this.#nodes.set(node as NodeId, addresses.filter(isDialable).slice(0, ADDRESSES_MAX));
    }
  }

  /** Best first. */
  of(node: NodeId): readonly string[] {
    return this.#nodes.get(node) ?? [];
  }

  /** An address that just worked goes to the front; what a node says of itself, behind what is known to work. */
  worked(node: NodeId, address: string): void {
    if (isDialable(address)) this.#put(node, [address, ...this.of(node)]);
  }

  heard(node: NodeId, addresses: readonly string[]): void {
    const known = this.of(node);
    const fresh = addresses.filter((address) => isDialable(address) && !known.includes(address));
    if (fresh.length > 0) this.#put(node, [...known.slice(0, 1), ...fresh, ...known.slice(1)]);
  }

  flush(): void {
    if (this.#cancelSave === undefined) return;
    this.#cancelSave();
    this.#cancelSave = undefined;
    this.#save(Object.fromEntries(this.#nodes) as Record<NodeId, string[]>);
  }

  #put(node: NodeId, addresses: readonly string[]): void {
    const next = [...new Set(addresses)].slice(0, ADDRESSES_MAX);
    const before = this.of(node);
    if (next.length === before.length && next.every((address, index) => address === before[index])) return;
    if (!this.#nodes.has(node) && this.#nodes.size >= KNOWN_NODES_MAX) return;
    this.#nodes.set(node, next);
    this.#cancelSave ??= this.#system.after(SAVE_DELAY_MS, () => this.flush());
  }
}
