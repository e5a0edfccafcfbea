import { describe, expect, it } from "vitest";
import { presencePauseMs } from "../../node/net/gossip.ts";
import { FEDERATION_MEMBERS_MAX } from "../../protocol/limits.ts";

describe("how often a node says that it is there", () => {
  it("is every five seconds in a small federation", () => {
    expect([0, 2, 10].map(presencePauseMs)).toEqual([5000, 5000, 5000]);
  });

  it("leaves every node with two presences a second, however many there are", () => {
    for (const peers of [10, 25, 50, FEDERATION_MEMBERS_MAX]) expect(peers / (presencePauseMs(peers) / 1000)).toBeCloseTo(2);
  });

  it("stays far below the ten minutes after which a node is forgotten", () => {
    expect(presencePauseMs(FEDERATION_MEMBERS_MAX)).toBeLessThan(150_000);
  });
});
