import { decode, encode } from "cborg";
import { describe, expect, it } from "vitest";
import { barrierId, frameKind, frameWords } from "./raw-frame.ts";

const WRITER = "ABCDEFGHIJKLMNOPQRSTUV";
const name = (writer: string) => (writer === WRITER ? "alice" : writer);
const federation = "f".repeat(64);
const frame = (message: unknown[]) => encode([1, federation, WRITER, 3, message]);

describe("a frame read from outside", () => {
  it("is named after its message, whatever stands before it", () => {
    expect(frameKind(frame([4, []]))).toBe("push");
    expect(frameKind(encode([1, null, WRITER, 0, [1, 1, 1, null, "alice", "0".repeat(32), "", 0]]))).toBe("hello");
    expect(frameKind(encode([2, federation, WRITER, 70_000, "0123456789abcdef", [12, "x", false]]))).toBe("digest");
    expect(frameKind(frame([2, encode([3, ["round"]])]))).toBe("formation/propose");
    expect(frameKind(frame([2, encode([2, "x".repeat(1000)])]))).toBe("formation/promise");
    expect(frameKind(frame([17, encode([4, 1])]))).toBe("vote/yes");
  });

  it("tells its barrier's id, small and large", () => {
    for (const id of [0, 23, 24, 1000, 2 ** 31, 2 ** 48 + 5]) {
      expect(barrierId(frame([8, id, 7, []]))).toBe(id);
      expect((decode(frame([8, id, 7, []])) as unknown[][])[4]?.[1]).toBe(id);
    }
  });

  it("has a line for a person", () => {
    expect(frameWords(frame([5, [[7, WRITER, 12, "hash"]]]), name)).toBe("acks 7:alice/12");
    expect(frameWords(frame([6, 7, WRITER, 3, 9]), name)).toBe("wants 7:alice/3-9");
    expect(frameWords(frame([4, [[encode([WRITER, 7, 12]), new Uint8Array(3)]]]), name)).toBe("pushes 7:alice/12");
    expect(frameWords(frame([12, "x", false]), name)).toBeUndefined();
  });
});
