/**
 * Chance from one seed: sfc32 (Doty-Humphrey, PractRand), 128 bits of state, passes BigCrush, six operations a draw.
 * `fork(purpose)` gives an independent stream, so that a draw more in one part (the network) does not shift another (the workload).
 */
export class Rng {
  readonly #seed: string;
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: string | number) {
    this.#seed = String(seed);
    this.#a = hash32(this.#seed, 0x9e3779b9);
    this.#b = hash32(this.#seed, 0x243f6a88);
    this.#c = hash32(this.#seed, 0xb7e15162);
    for (let warm = 0; warm < 12; warm++) this.next32();
  }

  /** An independent generator for one purpose. The same (seed, purpose) always gives the same one. */
  fork(purpose: string | number): Rng {
    return new Rng(`${this.#seed}/${purpose}`);
  }

  /** Whole number in [0, 2^32). */
  next32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    return sum >>> 0;
  }

  /** In [0, 1). */
  float(): number {
    return this.next32() / 0x1_0000_0000;
  }

  /** Whole number in [0, below). */
  int(below: number): number {
    return Math.floor(this.float() * below);
  }

  /** In [low, high). */
  between(low: number, high: number): number {
    return low + this.float() * (high - low);
  }

  chance(probability: number): boolean {
    return this.float() < probability;
  }

  /** Waiting time of a Poisson process with this mean. */
  exponential(mean: number): number {
    return -Math.log(1 - this.float()) * mean;
  }

  pick<T>(from: readonly T[]): T {
    if (from.length === 0) throw new Error("nothing to pick from");
    return from[this.int(from.length)] as T;
  }

  /** A new array in random order (Fisher-Yates). */
  shuffle<T>(from: readonly T[]): T[] {
    const out = [...from];
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.int(i + 1);
      [out[i], out[j]] = [out[j] as T, out[i] as T];
    }
    return out;
  }

  bytes(length: number): Uint8Array {
    const out = new Uint8Array(length);
    for (let i = 0; i < length; i++) out[i] = this.next32() >>> 24;
    return out;
  }
}

/** FNV-1a over the characters, finished with murmur3's mixer so that near seeds ("1", "2") start far apart. */
function hash32(text: string, basis: number): number {
  let hash = basis ^ 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
