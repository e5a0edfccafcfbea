/**
 * What this node keeps as a witness is sealed under a secret, and a secret is to be dropped some day. So what is not under the first one is opened and sealed
 * again, a small piece at a time, then a pause several times as long as the piece took: it yields to foreground work by itself. Each member tells the others
 * what it still keeps under other secrets, so that `continuum secret rotate` knows when nothing anywhere needs the old one.
 */
import type { Keyring } from "../crypto/keyring.ts";
import { NONCE_BYTES, sealedUnder } from "../crypto/seal.ts";
import { openEnvelope, sealDelta } from "../protocol/envelope.ts";
import type { FederationId, NodeId } from "../protocol/ids.ts";
import { SECRET_IDS_MAX } from "../protocol/limits.ts";
import type { Envelope, MessageOf } from "../protocol/message.ts";
import type { PeerInfo } from "./links.ts";
import type { Log, System } from "./ports.ts";
import type { Store } from "./store/store.ts";

export interface ResealingOptions {
  readonly store: Store;
  readonly keyring: Keyring;
  readonly federation: () => FederationId | undefined;
  readonly peers: () => readonly PeerInfo[];
  readonly tell: (to: NodeId, message: MessageOf<"sealed-under">) => void;
  readonly system: System;
  readonly log: Log;
  /** The disk failed. */
  readonly onFailure: (error: Error) => void;
}

/** At the least between two pieces, ms; and as a multiple of what the piece took. */
const PAUSE_MS = 10;
const PAUSE_RATIO = 3;
/** From a round to the next, ms: deltas that were under way arrive meanwhile. Longer where nothing of what is left opens. */
const ROUND_MS = 1_000;
const IN_VAIN_MS = 60_000;
/** At the least between two times that the others are told what is left, ms. */
const TELL_MS = 500;
const TELL_AGAIN_MS = 5_000;

type Others = MessageOf<"sealed-under">["others"];

export class Resealing {
  readonly #o: ResealingOptions;
  readonly #first: string;
  readonly #told = new Map<NodeId, Others>();
  #lastTold = "";
  #tellAt = 0;
  #tellAgainAt: number;
  #roundAt = 0;
  #round: Promise<void> | undefined;
  #wake: () => void = () => undefined;
  #stopped = false;

  constructor(options: ResealingOptions) {
    this.#o = options;
    this.#first = options.keyring.ids[0] as string;
    this.#lastTold = JSON.stringify(this.others());
    this.#tellAgainAt = options.system.monotonic() + TELL_AGAIN_MS;
  }

  /** What is kept here under another secret than the first: public id, deltas. */
  others(): Others {
    return [...this.#o.store.staged.sealedUnder].filter(([secret]) => secret !== this.#first).slice(0, SECRET_IDS_MAX);
  }

  /** What a connected peer said of itself; undefined: it has said nothing, as nodes with one secret that keep nothing under another. */
  told(node: NodeId): Others | undefined {
    return this.#told.get(node);
  }

  received(from: NodeId, { others }: MessageOf<"sealed-under">): void {
    this.#told.set(from, others);
  }

  peer(peer: PeerInfo, connected: boolean): void {
    this.#told.delete(peer.node);
    // Outside of a rotation there is nothing to say.
    if (connected && (this.#o.keyring.count > 1 || this.others().length > 0)) this.#tell(peer);
  }

  #tell(peer: PeerInfo): void {
    if (peer.version >= 2) this.#o.tell(peer.node, { type: "sealed-under", others: this.others() });
  }

  tick(now: number): void {
    const others = this.others();
    if (now >= this.#tellAt) {
      this.#tellAt = now + TELL_MS;
      const say = JSON.stringify(others);
      // While a secret is replaced said again too: a frame that did not fit a peer's queue would hold the rotation up for ever.
      if (say !== this.#lastTold || (this.#o.keyring.count > 1 && now >= this.#tellAgainAt)) {
        this.#tellAgainAt = now + TELL_AGAIN_MS;
        for (const peer of this.#o.peers()) this.#tell(peer);
      }
      this.#lastTold = say;
    }
    const federation = this.#o.federation();
    if (others.length === 0 || federation === undefined || this.#round !== undefined || now < this.#roundAt || this.#stopped) return;
    this.#round = this.#reseal(federation)
      .catch((error: Error) => this.#o.onFailure(error))
      .finally(() => {
        this.#round = undefined;
      });
  }

  /** Before the store is closed. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.#wake();
    await this.#round;
  }

  async #reseal(federation: FederationId): Promise<void> {
    const { store, keyring, system, log } = this.#o;
    const again = (envelope: Envelope): Envelope | undefined => {
      if (sealedUnder(envelope.sealedBody) === this.#first) return undefined;
      try {
        return sealDelta(openEnvelope(envelope, keyring, federation), keyring, federation, system.randomBytes(NONCE_BYTES));
      } catch {
        return undefined; // a secret that is not here any more
      }
    };
    let done = 0;
    for (const { partition, writer, seqs } of store.staged.sealedNotUnder(this.#first)) {
      const begun = system.monotonic();
      done += await store.reseal(partition, writer, seqs, again);
      await this.#pause(Math.max(PAUSE_MS, PAUSE_RATIO * (system.monotonic() - begun)));
      if (this.#stopped) return;
    }
    const lost = this.others().filter(([secret]) => !keyring.ids.includes(secret));
    // Nothing done is in vain only where a secret is missing: what was not on disk yet is there in the next round.
    this.#roundAt = system.monotonic() + (done === 0 && lost.length > 0 ? IN_VAIN_MS : ROUND_MS);
    if (done > 0) log.info({ deltas: done, secret: this.#first }, "sealed again what is kept for others, under the first secret");
    if (lost.length > 0)
      log.error(
        { secrets: lost.map(([secret]) => secret), deltas: lost.reduce((sum, [, deltas]) => sum + deltas, 0) },
        "deltas kept for others are sealed under a secret that this node does not have: give it back behind the first until they are sealed again",
      );
  }

  #pause(ms: number): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    return new Promise((resolve) => {
      const cancel = this.#o.system.after(ms, resolve);
      this.#wake = () => {
        cancel();
        resolve();
      };
    });
  }
}
