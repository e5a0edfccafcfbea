/** A sparse vector over slots, on a dense array that is reused: clearing costs only what was touched. */
export class Scores {
  #values = new Float64Array(0);
  readonly #touched: number[] = [];

  /** Empties it and makes room for slots below `size`. */
  reset(size: number): this {
    for (const slot of this.#touched) this.#values[slot] = 0;
    this.#touched.length = 0;
    if (this.#values.length < size) this.#values = new Float64Array(Math.max(size, this.#values.length * 2));
    return this;
  }

  get(slot: number): number {
    return this.#values[slot]!;
  }

  /** @param amount > 0 */
  add(slot: number, amount: number): void {
    if (this.#values[slot] === 0) this.#touched.push(slot);
    this.#values[slot]! += amount;
  }

  raise(slot: number, to: number): void {
    if (this.#values[slot] === 0) this.#touched.push(slot);
    if (to > this.#values[slot]!) this.#values[slot] = to;
  }

  scale(slot: number, factor: number): void {
    this.#values[slot]! *= factor;
  }

  /** Slots with a value, in no order. */
  get touched(): readonly number[] {
    return this.#touched;
  }

  max(): number {
    let max = 0;
    for (const slot of this.#touched) if (this.#values[slot]! > max) max = this.#values[slot]!;
    return max;
  }

  /** The `count` highest, highest first; equal ones by `tie`. */
  best(count: number, tie: (a: number, b: number) => number): number[] {
    return highest(this.#touched, (slot) => this.#values[slot]!, count, tie);
  }
}

/** Scores are compared to nine digits: sums that differ only by the order of their terms, as they do between replicas, are equal. */
const DIGITS = 1e9;

/** The `count` items of highest value, highest first, without sorting the rest. @param tie orders items of equal value; total */
export function highest<T>(items: readonly T[], scoreOf: (item: T) => number, count: number, tie: (a: T, b: T) => number): T[] {
  const best: { item: T; value: number }[] = [];
  for (const item of items) {
    const value = Math.round(scoreOf(item) * DIGITS);
    let at = best.length;
    while (at > 0 && (best[at - 1]!.value < value || (best[at - 1]!.value === value && tie(item, best[at - 1]!.item) < 0))) at--;
    if (at >= count) continue;
    best.splice(at, 0, { item, value });
    if (best.length > count) best.pop();
  }
  return best.map(({ item }) => item);
}

/** Standard scores of one kind of evidence over the candidates, so that kinds can be added up. A kind that tells nobody apart says 0. */
export function standardised(candidates: readonly number[], value: (slot: number) => number): Float64Array {
  const out = new Float64Array(candidates.length);
  let sum = 0;
  for (let i = 0; i < out.length; i++) {
    out[i] = value(candidates[i]!);
    sum += out[i]!;
  }
  const mean = sum / Math.max(1, out.length);
  let squares = 0;
  for (let i = 0; i < out.length; i++) squares += (out[i]! - mean) ** 2;
  const deviation = Math.sqrt(squares / Math.max(1, out.length));
  for (let i = 0; i < out.length; i++) out[i] = deviation > 1e-12 ? (out[i]! - mean) / deviation : 0;
  return out;
}
