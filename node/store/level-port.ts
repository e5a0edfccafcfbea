/** What the store uses of an abstract-level database, with the options classic-level understands. The simulator's disk offers the same. */
export interface LevelSnapshot {
  close(): Promise<void>;
}

export type LevelOperation =
  | { readonly type: "put"; readonly key: string; readonly value: Uint8Array }
  | { readonly type: "del"; readonly key: string };

export interface Level {
  get(key: string): Promise<Uint8Array | undefined>;
  getSync(key: string, options?: { snapshot?: LevelSnapshot }): Uint8Array | undefined;
  put(key: string, value: Uint8Array, options: { sync: boolean }): Promise<void>;
  /** Atomic; resolves after fsync when `sync`. */
  batch(operations: readonly LevelOperation[], options: { sync: boolean }): Promise<void>;
  /** In key order. With `values: false` the values are not read. */
  iterator(range: { gte: string; lt: string; snapshot?: LevelSnapshot; values?: false }): AsyncIterable<[string, Uint8Array]>;
  snapshot(): LevelSnapshot;
  close(): Promise<void>;
}
