import { afterEach, describe, expect, it } from "vitest";
import { GOSSIP_MESSAGE_MAX_BYTES } from "../../protocol/limits.ts";
import { joined, stopAll, testNet, until } from "./net-nodes.ts";

afterEach(stopAll);

const text = (value: string) => new TextEncoder().encode(value);

describe("gossip", () => {
  it("brings news to every node, those two steps away included, with the name of who had them", async () => {
    const bob = await testNet();
    const alice = await testNet({ peers: [bob.address()] });
    const carol = await testNet({ peers: [bob.address()] });
    await until(() => joined(alice, bob) && joined(carol, bob), "both links");
    let number = 0;
    await until(() => {
      // A hint may be lost while the mesh forms; a node with news says so again at its next write.
      if (number++ % 20 === 0) alice.net.announce(text("alice learned something"));
      return bob.news.length > 0 && carol.news.length > 0;
    }, "news at bob and carol");
    for (const node of [bob, carol]) expect(node.news[0]).toEqual({ from: alice.net.self, news: text("alice learned something") });
    expect(alice.news).toEqual([]);
  });

  it("introduces nodes that only have a friend in common", async () => {
    const bob = await testNet();
    const alice = await testNet({ peers: [bob.address()] });
    const carol = await testNet({ peers: [bob.address()] });
    await until(() => joined(alice, carol), "alice and carol to meet", 14_000);
    expect(alice.net.connected().toSorted()).toEqual([bob.net.self, carol.net.self].toSorted());
  });

  it("does not publish more than a message may hold, and only the latest of many at once", async () => {
    const alice = await testNet();
    const bob = await testNet({ peers: [alice.address()] });
    await until(() => joined(alice, bob), "a link");
    alice.net.announce(new Uint8Array(GOSSIP_MESSAGE_MAX_BYTES));
    expect(alice.counts.get("frame_dropped:gossip_too_large")).toBe(1);
    await until(() => {
      alice.net.announce(text("again"));
      return bob.news.length > 0;
    }, "gossip to work");
    await new Promise((resolve) => setTimeout(resolve, 200));
    bob.news.length = 0;
    for (let i = 0; i <= 1_000; i++) alice.net.announce(text(`news ${i}`));
    await until(() => bob.news.length === 2, "the first and the last");
    await new Promise((resolve) => setTimeout(resolve, 200));
    expect(bob.news.map(({ news }) => Buffer.from(news).toString())).toEqual(["news 0", "news 1000"]);
  });
});
