/**
 * Frames on a byte stream: one byte of kind, three bytes of length (big-endian), then the bytes. Frames of one tick leave together.
 * A writer holds a bounded number of bytes and refuses what exceeds it (P8).
 */
import type { Stream } from "@libp2p/interface";
import { FIRST_FRAMES_MAX, FRAME_MAX_BYTES } from "../../protocol/limits.ts";
import { NetError } from "./errors.ts";

/** Numbers on the wire; never reused. Everything but `data` is between the two nets. */
export const FRAME_KIND = { data: 0, hello: 1, ping: 2, pong: 3, cards: 4 } as const;
export type FrameKind = (typeof FRAME_KIND)[keyof typeof FRAME_KIND];

export const HEADER_BYTES = 4;
/** What is copied together before it is handed to the stream. */
const BATCH_BYTES = 256 * 1024;
/** Handed to the stream in one tick; then others get their turn. */
const TICK_BYTES = 1024 * 1024;

/** Where sealed frames wait for the stream. */
export class FrameWriter {
  readonly #stream: Stream;
  readonly #maxQueueBytes: number;
  readonly #onBytes: (count: number) => void;
  #queue: Uint8Array[] = [];
  #queuedBytes = 0;
  /** How many at the head were pushed first. */
  #firstCount = 0;
  #scheduled = false;
  #blocked = false;
  #closed = false;

  /** @param onBytes told how many bytes were handed to the stream */
  constructor(stream: Stream, maxQueueBytes: number, onBytes: (count: number) => void) {
    this.#stream = stream;
    this.#maxQueueBytes = maxQueueBytes;
    this.#onBytes = onBytes;
    stream.addEventListener("drain", () => {
      this.#blocked = false;
      this.#schedule();
    });
  }

  /** Bytes that have not left this process, as far as we can see. */
  get waitingBytes(): number {
    return this.#queuedBytes + this.#stream.writeBufferLength;
  }

  /** Leaves at once, before everything that is pushed later. @throws Error when the stream has closed */
  greet(frame: Uint8Array): void {
    const bytes = new Uint8Array([...header(FRAME_KIND.hello, frame.length), ...frame]);
    this.#onBytes(bytes.length);
    this.#blocked = !this.#stream.send(bytes);
  }

  /** @returns false when the queue is full or the stream closed: the frame is not sent. The bytes are used later: do not change them. */
  push(kind: FrameKind, frame: Uint8Array): boolean {
    const size = HEADER_BYTES + frame.length;
    if (this.#closed || this.waitingBytes + size > this.#maxQueueBytes) return false;
    this.#queue.push(header(kind, frame.length), frame);
    this.#queuedBytes += size;
    this.#schedule();
    return true;
  }

  /** In front of what waits, whatever waits: for pings, which are few and tiny. Too many are dropped. */
  pushFirst(kind: FrameKind, frame: Uint8Array): void {
    if (this.#closed || this.#firstCount >= FIRST_FRAMES_MAX) return;
    this.#firstCount += 1;
    this.#queue.unshift(header(kind, frame.length), frame);
    this.#queuedBytes += HEADER_BYTES + frame.length;
    this.#schedule();
  }

  close(): void {
    this.#closed = true;
    this.#queue = [];
    this.#queuedBytes = 0;
    this.#firstCount = 0;
  }

  #schedule(): void {
    if (this.#scheduled || this.#blocked || this.#closed) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      this.#flush();
    });
  }

  #flush(): void {
    let left = TICK_BYTES;
    while (this.#queue.length > 0 && !this.#blocked && left > 0) {
      const batch = this.#takeBatch();
      left -= batch.length;
      this.#onBytes(batch.length);
      try {
        // A false means: no more until the stream has drained. What was handed over is kept there.
        if (!this.#stream.send(batch)) this.#blocked = true;
      } catch {
        this.close(); // the stream is closing; its close event tells everybody else
      }
    }
    if (this.#queue.length > 0) this.#schedule();
  }

  #takeBatch(): Uint8Array {
    let size = 0;
    let count = 0;
    // Header and body stay together; a single large frame is a batch of its own.
    do {
      size += this.#queue[count]!.length + this.#queue[count + 1]!.length;
      count += 2;
    } while (count < this.#queue.length && size + this.#queue[count + 1]!.length < BATCH_BYTES);
    const batch = new Uint8Array(size);
    let at = 0;
    for (const part of this.#queue.splice(0, count)) {
      batch.set(part, at);
      at += part.length;
    }
    this.#queuedBytes -= size;
    this.#firstCount = Math.max(0, this.#firstCount - count / 2);
    return batch;
  }
}

function header(kind: FrameKind, length: number): Uint8Array {
  return Uint8Array.of(kind, length >>> 16, (length >>> 8) & 255, length & 255);
}

/** Puts frames together again from pieces of any size. Each frame is bytes of its own. */
export class FrameReader {
  readonly #onFrame: (kind: FrameKind, frame: Uint8Array) => void;
  readonly #onAnnounced: (kind: FrameKind, length: number) => void;
  readonly #header = new Uint8Array(HEADER_BYTES);
  #headerFill = 0;
  #body: Uint8Array | undefined;
  #bodyFill = 0;

  /** @param onAnnounced told of each frame before room is made for it; may throw NetError to end the reading */
  constructor(onFrame: (kind: FrameKind, frame: Uint8Array) => void, onAnnounced: (kind: FrameKind, length: number) => void = () => {}) {
    this.#onFrame = onFrame;
    this.#onAnnounced = onAnnounced;
  }

  /** @throws NetError FRAME_TOO_LARGE, FRAME_MALFORMED: the stream cannot be read any further */
  feed(piece: Uint8Array): void {
    let at = 0;
    while (at < piece.length) {
      at = this.#body === undefined ? this.#readHeader(piece, at) : this.#readBody(piece, at);
    }
  }

  #readHeader(piece: Uint8Array, start: number): number {
    let at = start;
    while (at < piece.length && this.#headerFill < HEADER_BYTES) this.#header[this.#headerFill++] = piece[at++]!;
    if (this.#headerFill < HEADER_BYTES) return at;
    const length = this.#announcedLength();
    if (at + length > piece.length) {
      this.#body = new Uint8Array(length);
      return at;
    }
    // Not slice(): pieces are Buffers, whose slice is a view of memory that noise and the socket own.
    this.#finish(new Uint8Array(piece.subarray(at, at + length)));
    return at + length;
  }

  #announcedLength(): number {
    const [kind, high, middle, low] = this.#header as unknown as [number, number, number, number];
    const length = (high << 16) | (middle << 8) | low;
    if (kind > FRAME_KIND.cards) throw new NetError("FRAME_MALFORMED", `a frame of unknown kind ${kind}`);
    if (length > FRAME_MAX_BYTES) throw new NetError("FRAME_TOO_LARGE", `a frame of ${length} bytes was announced, ${FRAME_MAX_BYTES} are allowed`);
    this.#onAnnounced(kind as FrameKind, length);
    return length;
  }

  #readBody(piece: Uint8Array, start: number): number {
    const body = this.#body!;
    const end = Math.min(piece.length, start + body.length - this.#bodyFill);
    body.set(piece.subarray(start, end), this.#bodyFill);
    this.#bodyFill += end - start;
    if (this.#bodyFill === body.length) this.#finish(body);
    return end;
  }

  #finish(frame: Uint8Array): void {
    this.#headerFill = 0;
    this.#body = undefined;
    this.#bodyFill = 0;
    this.#onFrame(this.#header[0] as FrameKind, frame);
  }
}
