/**
 * Deltas on their way out: sealed once, sent to everybody in the same bytes. Live pushes go at once; intervals that others lack are read from the disk one
 * at a time, so that repair yields to what clients wait for and a crowd of returning peers cannot fill the memory (P8).
 */
import type { Keyring } from "../crypto/keyring.ts";
import { NONCE_BYTES } from "../crypto/seal.ts";
import type { Delta } from "../protocol/delta.ts";
import type { Effect } from "../protocol/effects.ts";
import { sealDelta } from "../protocol/envelope.ts";
import type { StreamHead } from "../protocol/frontier.ts";
import type { FederationId, NodeId } from "../protocol/ids.ts";
import { SERVED_DELTAS_MAX, SERVED_MAX_BYTES, SERVES_MAX } from "../protocol/limits.ts";
import type { Envelope } from "../protocol/message.ts";
import type { Links } from "./links.ts";
import type { Meter, System } from "./ports.ts";
import type { Store } from "./store/store.ts";

export interface OutboxOptions {
  readonly store: Store;
  readonly links: Links;
  readonly keyring: Keyring;
  readonly system: System;
  readonly meter: Meter;
  readonly federation: () => FederationId;
  readonly onFailure: (error: Error) => void;
}

/** Bytes of one push: well under a frame's bound, so a batch of large deltas goes in several. */
const PUSH_BYTES = 1024 * 1024;
/** The longest pause between two intervals, ms. */
const PAUSE_MAX_MS = 50;

export class Outbox {
  readonly #o: OutboxOptions;
  #waiting = 0;
  #serving: Promise<unknown> = Promise.resolve();

  constructor(options: OutboxOptions) {
    this.#o = options;
  }

  push(to: readonly NodeId[], deltas: readonly Delta[]): void {
    const { links, meter } = this.#o;
    meter.count("sync_operation", 1, "push");
    for (const envelopes of bundles(deltas.map((delta) => this.#seal(delta)))) {
      links.sendAll(to, { type: "push", envelopes });
    }
  }

  /** @param heads what this node holds of the partition */
  serve(interval: Extract<Effect, { type: "serve" }>, heads: readonly StreamHead[]): void {
    if (this.#waiting >= SERVES_MAX) return;
    this.#waiting++;
    const held = heads.find((head) => head.writer === interval.writer)?.seq ?? 0;
    this.#serving = this.#serving
      .then(() => this.#answerThenPause(interval, held))
      .catch((error: Error) => this.#o.onFailure(error))
      .finally(() => this.#waiting--);
  }

  /** As long as it took: repair has half of this node when there is nothing else to do, less when there is, as it takes longer then. */
  async #answerThenPause(interval: Extract<Effect, { type: "serve" }>, held: number): Promise<void> {
    const { system } = this.#o;
    const begun = system.monotonic();
    await this.#answer(interval, held);
    const took = Math.min(system.monotonic() - begun, PAUSE_MAX_MS);
    if (took > 0) await new Promise<void>((resolve) => system.after(took, resolve));
  }

  async #answer({ to, partition, writer, from, to_seq, sealed }: Extract<Effect, { type: "serve" }>, held: number): Promise<void> {
    const { store, links, meter } = this.#o;
    const last = Math.min(to_seq, from + SERVED_DELTAS_MAX - 1);
    let envelopes: Envelope[] = [];
    if (from <= last && sealed) envelopes = await store.readSealed(partition, writer, from, last, SERVED_MAX_BYTES);
    else if (from <= last) envelopes = (await store.readLog(partition, writer, from, last, SERVED_MAX_BYTES)).map((delta) => this.#seal(delta));
    meter.count("sync_operation", 1, "interval");
    links.send(to, { type: "repair", partition, writer, to: held, envelopes });
  }

  #seal(delta: Pick<Delta, "headerBytes" | "bodyBytes">): Envelope {
    const { keyring, system, federation } = this.#o;
    return sealDelta(delta, keyring, federation(), system.randomBytes(NONCE_BYTES));
  }
}

function* bundles(envelopes: readonly Envelope[]): Generator<Envelope[]> {
  let bundle: Envelope[] = [];
  let bytes = 0;
  for (const envelope of envelopes) {
    const size = envelope.headerBytes.length + envelope.sealedBody.length;
    if (bundle.length > 0 && bytes + size > PUSH_BYTES) {
      yield bundle;
      bundle = [];
      bytes = 0;
    }
    bundle.push(envelope);
    bytes += size;
  }
  if (bundle.length > 0) yield bundle;
}
