import { describe, expect, it } from "vitest";
import { CLOCK_AHEAD_MAX_MS } from "../../protocol/limits.ts";
import { PeerClocks } from "../../protocol/peer-clocks.ts";
import { dave } from "./change-world.ts";
import { alice, bob, carol, WALL } from "./replica-world.ts";

/** Peers whose clocks are ahead of true time by so much, all heard at monotonic 1,000 when ours was right. */
function clocks(...ahead: readonly number[]): PeerClocks {
  const peers = new PeerClocks();
  for (const [at, ms] of ahead.entries()) peers.heard([alice, bob, carol, dave][at]!.writer, WALL + ms, 1000);
  return peers;
}

describe("how far a clock is ahead of the peers'", () => {
  it("is unknown before one has told, and after the last has gone", () => {
    expect(clocks().aheadMs(WALL, 1000)).toBeUndefined();
    expect(clocks().isTooFarAhead(WALL + 10 * CLOCK_AHEAD_MAX_MS, 1000)).toBe(false);
    const one = clocks(0);
    one.gone(alice.writer);
    expect(one.aheadMs(WALL, 1000)).toBeUndefined();
  });

  it("is counted from the median, so one peer whose clock is wrong changes little", () => {
    expect(clocks(0, 10, -1_000_000).aheadMs(WALL, 1000)).toBe(0);
    expect(clocks(0, 10, 1_000_000).aheadMs(WALL, 1000)).toBe(-10);
    expect(clocks(0, 10, -1_000_000).isTooFarAhead(WALL, 1000)).toBe(false);
  });

  it("is known of each peer by itself", () => {
    const peers = clocks(0, 10, -1_000_000);
    const ahead = [alice, bob, carol, dave].map(({ writer }) => peers.theirsAheadMs(writer, WALL + 500, 1500));
    expect(ahead).toEqual([0, 10, -1_000_000, undefined]);
    // Ours jumps.
    expect(peers.theirsAheadMs(bob.writer, WALL + 10_000, 1000)).toBe(-9_990);
  });

  it("is said by both of two peers, or it is not so", () => {
    expect(clocks(0, -1_000_000).isTooFarAhead(WALL, 1000)).toBe(false);
    expect(clocks(-1_000_000, -1_000_000).isTooFarAhead(WALL, 1000)).toBe(true);
  });

  it("is said by the two in the lower half of four", () => {
    expect(clocks(0, 0, -1_000_000, -1_000_000).isTooFarAhead(WALL, 1000)).toBe(false);
    expect(clocks(0, -1_000_000, -1_000_000, -1_000_000).isTooFarAhead(WALL, 1000)).toBe(true);
  });

  it("shows a jump of our own at once, without a word from anybody", () => {
    const peers = clocks(0);
    expect(peers.aheadMs(WALL + 5000, 6000)).toBe(0);
    expect(peers.aheadMs(WALL + 5000 + 3_600_000, 6000)).toBe(3_600_000);
    expect(peers.aheadMs(WALL + 5000 - 3_600_000, 6000)).toBe(-3_600_000);
  });

  it("follows what a peer told last", () => {
    const peers = clocks(0);
    peers.heard(alice.writer, WALL + 7000, 2000);
    expect(peers.aheadMs(WALL + 1000, 2000)).toBe(-6000);
  });

  it("is too far from CLOCK_AHEAD_MAX_MS on, and not at it", () => {
    expect(clocks(0).isTooFarAhead(WALL + CLOCK_AHEAD_MAX_MS, 1000)).toBe(false);
    expect(clocks(0).isTooFarAhead(WALL + CLOCK_AHEAD_MAX_MS + 1, 1000)).toBe(true);
  });
});

it("a push is from the future beyond CLOCK_AHEAD_MAX_MS, and not at it", () => {
  expect(PeerClocks.isFromTheFuture(WALL + CLOCK_AHEAD_MAX_MS, WALL)).toBe(false);
  expect(PeerClocks.isFromTheFuture(WALL + CLOCK_AHEAD_MAX_MS + 1, WALL)).toBe(true);
  expect(PeerClocks.isFromTheFuture(WALL - CLOCK_AHEAD_MAX_MS * 2, WALL)).toBe(false);
});
