/** A list kept in order. Nearly everything arrives at the end, so an insertion usually costs one comparison; a late one moves the tail. */
export class SortedList<T> {
  readonly #compare: (a: T, b: T) => number;
  readonly #items: T[] = [];

  /** @param compare a total order: 0 only for the same item */
  constructor(compare: (a: T, b: T) => number) {
    this.#compare = compare;
  }

  get items(): readonly T[] {
    return this.#items;
  }

  get length(): number {
    return this.#items.length;
  }

  /** @returns where it is now */
  insert(item: T): number {
    const last = this.#items.at(-1);
    if (last === undefined || this.#compare(last, item) < 0) return this.#items.push(item) - 1;
    const at = this.rank(item);
    this.#items.splice(at, 0, item);
    return at;
  }

  remove(item: T): void {
    const at = this.rank(item);
    const held = this.#items[at];
    if (held !== undefined && this.#compare(held, item) === 0) this.#items.splice(at, 1);
  }

  /** How many items come before it. */
  rank(item: T): number {
    let low = 0;
    let high = this.#items.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#compare(this.#items[middle]!, item) < 0) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
