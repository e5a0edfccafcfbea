import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { conflicts, current, mergeEditables } from "../../protocol/graph/editable.ts";
import { decodeRecord, encodeRecord, isVisible } from "../../protocol/graph/record.ts";
import type { Contribution, Editable, Memory } from "../../protocol/graph/records.ts";
import type { WriterId } from "../../protocol/ids.ts";
import { DELTA_BODY_MAX_BYTES, TEXT_MAX_CHARS } from "../../protocol/limits.ts";
import { Author, START_MS, stateOf, TENANT } from "./graph-executions.ts";
import type { StateInMemory } from "./state-in-memory.ts";

const create = (content: string): Contribution => ({
  op: "memory",
  id: "m",
  memory: { node: "n", session: "s", entity: "e", content, metadata: "{}", concepts: [] },
});
const edit = (fields: Extract<Contribution, { op: "edit" }>["fields"]): Contribution => ({ op: "edit", id: "m", fields });

function memory(state: StateInMemory): Memory {
  return state.record(TENANT, "memory", "m")!;
}
function shown(state: StateInMemory): { content: string; conflicts: string[] } {
  const { content } = memory(state);
  return { content: current(content), conflicts: conflicts(content) };
}

/** ann stored "first", ben and cat hold it. */
function three(): { ann: Author; ben: Author; cat: Author } {
  const [ann, ben, cat] = [new Author("ann"), new Author("ben"), new Author("cat")];
  ann.write([create("first")], "k", START_MS);
  ben.pull(ann);
  cat.pull(ann);
  return { ann, ben, cat };
}

describe("an edit that lies about what its author had seen", () => {
  const version = (seq: number, ms: number, saw: Record<string, number>) => ({
    value: `of ${seq}`,
    hlc: [ms, 0] as const,
    writer: "w" as WriterId,
    seq,
    saw: saw as Record<WriterId, number>,
    siblings: [],
  });
  const future = { w: Number.MAX_SAFE_INTEGER };

  it("replaces nothing that is newer, so that two which claim to have seen each other are not both gone", () => {
    const [one, two] = [version(1, 10, future), version(2, 20, future)];
    for (const order of [
      [one, two],
      [two, one],
    ] as const) {
      expect(mergeEditables([order[0]], [order[1]]).map(({ seq }) => seq)).toEqual([2]);
    }
  });

  it("replaces nothing by itself", () => {
    expect(mergeEditables([version(1, 10, future)], [version(1, 10, future)])).toHaveLength(1);
  });

  it("cannot tell a reader to look into nothing, whatever a writer's edits claim", () => {
    const some = fc.tuple(fc.nat({ max: 5 }), fc.nat({ max: 3 }), fc.nat({ max: 8 })).map(([seq, ms, saw]) => version(seq, ms, { w: saw }));
    fc.assert(
      fc.property(fc.array(some, { minLength: 1, maxLength: 6 }), (versions) => {
        expect(versions.reduce((field, one) => mergeEditables(field, [one]), [versions[0]!] as Editable<string>).length).toBeGreaterThan(0);
      }),
    );
  });
});

describe("editing a memory", () => {
  it("replaces what the editor had seen, in whatever order the two arrive", () => {
    const { ann, ben } = three();
    ben.write([edit({ content: "second" })], "e", START_MS + 1);
    for (const order of [
      [...ann.own, ...ben.own],
      [...ben.own, ...ann.own],
    ]) {
      expect(shown(stateOf(order))).toEqual({ content: "second", conflicts: [] });
    }
  });

  it("replaces it also when the editor's clock is behind", () => {
    const { ben, cat } = three();
    ben.write([edit({ content: "second" })], "e", START_MS + 1000);
    cat.pull(ben);
    cat.write([edit({ content: "third" })], "f", START_MS - 1000);
    expect(shown(cat.state)).toEqual({ content: "third", conflicts: [] });
  });

  it("keeps two edits that did not see each other: the later is shown, the other reported", () => {
    const { ann, ben, cat } = three();
    ben.write([edit({ content: "of ben" })], "e", START_MS + 1);
    cat.write([edit({ content: "of cat" })], "f", START_MS + 2);
    for (const order of [
      [...ann.own, ...ben.own, ...cat.own],
      [...cat.own, ...ben.own, ...ann.own],
    ]) {
      expect(shown(stateOf(order))).toEqual({ content: "of cat", conflicts: ["of ben"] });
    }
  });

  it("reports no conflict between two edits that say the same", () => {
    const { ann, ben, cat } = three();
    ben.write([edit({ content: "agreed" })], "e", START_MS + 1);
    cat.write([edit({ content: "agreed" })], "f", START_MS + 2);
    expect(shown(stateOf([...ann.own, ...ben.own, ...cat.own]))).toEqual({ content: "agreed", conflicts: [] });
  });

  it("resolves a conflict by an edit that saw both", () => {
    const { ann, ben, cat } = three();
    ben.write([edit({ content: "of ben" })], "e", START_MS + 1);
    cat.write([edit({ content: "of cat" })], "f", START_MS + 2);
    ann.pull(ben);
    ann.pull(cat);
    ann.write([edit({ content: "settled" })], "g", START_MS + 3);
    for (const order of [
      [...ann.own, ...ben.own, ...cat.own],
      [...cat.own, ...ben.own, ...ann.own],
    ]) {
      expect(shown(stateOf(order))).toEqual({ content: "settled", conflicts: [] });
    }
  });

  it("keeps so many long texts as were written at once: the record is read again, however large", () => {
    const text = "\u6f6e".repeat(TEXT_MAX_CHARS);
    const { ann } = three();
    const editors = Array.from({ length: 8 }, (_, index) => new Author(`editor-${index}`));
    for (const [index, editor] of editors.entries()) {
      editor.pull(ann);
      editor.write([edit({ content: `${index}${text.slice(1)}` })], `e${index}`, START_MS + index);
    }
    const record = memory(stateOf([...ann.own, ...editors.flatMap((editor) => editor.own)]));
    const bytes = encodeRecord(record);
    expect(bytes.length).toBeGreaterThan(DELTA_BODY_MAX_BYTES);
    expect(conflicts((decodeRecord(bytes) as Memory).content)).toHaveLength(7);
  });

  it("touches only the fields it names", () => {
    const { ann, ben, cat } = three();
    ben.write([edit({ content: "new content" })], "e", START_MS + 1);
    cat.write([edit({ entity: "new entity", metadata: "[]", concepts: ["tide"] })], "f", START_MS + 2);
    const { content, entity, metadata, concepts } = memory(stateOf([...ann.own, ...ben.own, ...cat.own]));
    expect([current(content), current(entity), current(metadata), current(concepts)]).toEqual(["new content", "new entity", "[]", ["tide"]]);
    expect([content, entity, metadata, concepts].flatMap((field) => conflicts<unknown>(field))).toEqual([]);
  });

  it("waits unseen when it arrives before the memory it edits", () => {
    const { ann, ben } = three();
    ben.write([edit({ content: "second" })], "e", START_MS + 1);
    const early = stateOf(ben.own);
    expect(isVisible(memory(early))).toBe(false);
    for (const delta of ann.own) early.take(delta);
    expect(isVisible(memory(early))).toBe(true);
    expect(shown(early)).toEqual({ content: "second", conflicts: [] });
  });

  it("replaces through an edit that arrived before the memory: what the replaced edit had seen stays seen", () => {
    const { ann, ben } = three();
    ben.write([edit({ content: "second" })], "e", START_MS + 1);
    const dan = new Author("dan");
    dan.pull(ben);
    dan.write([edit({ content: "third" })], "f", START_MS + 2);
    for (const order of [
      [...ann.own, ...ben.own, ...dan.own],
      [...dan.own, ...ann.own, ...ben.own],
      [...dan.own, ...ben.own, ...ann.own],
    ]) {
      expect(shown(stateOf(order))).toEqual({ content: "third", conflicts: [] });
    }
  });

  it("does nothing to a deleted memory, in whatever order the two arrive (P6)", () => {
    const { ann, ben, cat } = three();
    ben.write([edit({ content: "second" })], "e", START_MS + 1);
    cat.write([{ op: "delete", kind: "memory", id: "m" }], "d", START_MS + 2);
    const states = [
      [...ann.own, ...ben.own, ...cat.own],
      [...cat.own, ...ben.own, ...ann.own],
    ].map((order) => stateOf(order).bytes());
    expect(Object.keys(states[0]!)).toEqual([`${TENANT}|tombstone|memory/m`]);
    expect(states[1]).toEqual(states[0]);
  });
});

describe("a retried request about a memory", () => {
  it("brings no old value back: who edited after one execution of a creation had seen the request", () => {
    const [ann, ben] = [new Author("ann"), new Author("ben")];
    ann.write([create("first")], "k", START_MS);
    ann.write([edit({ content: "corrected" })], "e", START_MS + 1);
    ben.write([create("first")], "k", START_MS + 1000);
    for (const order of [
      [...ann.own, ...ben.own],
      [...ben.own, ...ann.own],
      [ann.own[0]!, ben.own[0]!, ann.own[1]!],
    ]) {
      expect(shown(stateOf(order))).toEqual({ content: "corrected", conflicts: [] });
    }
  });

  it("brings no old edit back either", () => {
    const { ann, ben, cat } = three();
    ben.write([edit({ content: "second" })], "e", START_MS + 1);
    ann.pull(ben);
    ann.write([edit({ content: "third" })], "f", START_MS + 2);
    cat.write([edit({ content: "second" })], "e", START_MS + 1000);
    for (const order of [
      [...ann.own, ...ben.own, ...cat.own],
      [...cat.own, ...ben.own, ...ann.own],
      [ann.own[0]!, ...cat.own, ann.own[1]!, ...ben.own],
    ]) {
      expect(shown(stateOf(order))).toEqual({ content: "third", conflicts: [] });
    }
  });
});
