import { noise } from "@libp2p/noise";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import { afterEach, describe, expect, it } from "vitest";
import { joined, SECRET, stopAll, type TestNet, testNet, until } from "./net-nodes.ts";

afterEach(stopAll);

const NEW_SECRET = "a secret for the time after this";
const warnings = (node: TestNet) => node.lines.filter(({ level }) => level === "warn");
const refusals = (node: TestNet, reason = "wrong_secret") => node.counts.get(`connection_error:${reason}`) ?? 0;
const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

describe("admission", () => {
  it("refuses a wrong secret within a second on both sides, with one line each that says what to check, however often it is tried", async () => {
    const alice = await testNet();
    const start = performance.now();
    const mallory = await testNet({ secrets: ["a secret of somebody else"], peers: [alice.address()] });
    await until(() => refusals(alice) > 0 && refusals(mallory) > 0, "both to know", 1_000);
    expect(performance.now() - start).toBeLessThan(1_000);
    await until(() => refusals(alice) >= 4 && refusals(mallory) >= 4, "some more tries");
    for (const node of [alice, mallory]) {
      expect(warnings(node)).toHaveLength(1);
      expect(warnings(node)[0]!.message).toContain("FEDERATION_SECRET");
      expect(warnings(node)[0]!.facts).toMatchObject({ reason: "wrong_secret", remote: "127.0.0.1" });
      expect(node.peers).toEqual([]);
      expect(JSON.stringify(node.lines)).not.toContain("a secret of somebody else");
      expect(JSON.stringify(node.lines)).not.toContain(SECRET);
    }
    await expect(alice.net.dial(mallory.address())).rejects.toMatchObject({ code: "UNREACHABLE" });
  });

  it("speaks no protocol at all with a plain libp2p node", async () => {
    const alice = await testNet();
    const stranger = await createLibp2p({
      transports: [tcp()],
      connectionEncrypters: [noise()],
      streamMuxers: [yamux()],
      connectionMonitor: { enabled: false },
    });
    await expect(stranger.dial(multiaddr(`/ip4/127.0.0.1/tcp/${alice.port()}`))).rejects.toThrow();
    expect(stranger.getPeers()).toEqual([]);
    expect(alice.peers).toEqual([]);
    await stranger.stop();
  });

  it("lets members meet while the secret is replaced, in every order of the lists", async () => {
    const before = await testNet({ secrets: [SECRET] });
    const prepared = await testNet({ secrets: [SECRET, NEW_SECRET], peers: [before.address()] });
    await until(() => joined(before, prepared), "the old secret");
    const turned = await testNet({ secrets: [NEW_SECRET, SECRET], peers: [prepared.address()] });
    await until(() => joined(turned, prepared), "both secrets, in another order");
    const after = await testNet({ secrets: [NEW_SECRET], peers: [turned.address()] });
    await until(() => joined(after, turned), "the new secret");
    expect(refusals(turned)).toBe(0);
  });

  it("admits with an old secret only who is a member", async () => {
    const old = await testNet({ secrets: [SECRET], seed: 11 });
    const rotating = await testNet({ secrets: [NEW_SECRET, SECRET] });
    await expect(old.net.dial(rotating.address())).rejects.toMatchObject({ code: "UNREACHABLE" });
    await until(() => refusals(rotating, "old_secret") > 0 && refusals(old, "old_secret") > 0, "both to count it");
    expect(warnings(rotating)[0]!.message).toContain("put the new secret first");
    const member = await testNet({ secrets: [NEW_SECRET, SECRET], isMember: (node) => node === old.net.self, peers: [old.address()] });
    await until(() => joined(member, old), "the member to be let in");
    expect(rotating.net.connected()).toEqual([]);
  });

  it("keeps out a gossip host as it does a federation host", async () => {
    const alice = await testNet();
    const bob = await testNet({ peers: [alice.address()] });
    const mallory = await testNet({ secrets: ["a secret of somebody else"] });
    await until(() => joined(alice, bob), "a link");
    await mallory.net.dial(alice.address()).catch(() => undefined);
    let round = 0;
    await until(() => {
      if (round++ % 20 === 0) {
        mallory.net.announce(new Uint8Array([6, 6, 6]));
        alice.net.announce(new Uint8Array([1]));
      }
      return bob.news.length > 2;
    }, "news of a friend");
    await pause(200);
    expect(bob.news.every(({ from }) => from === alice.net.self)).toBe(true);
    expect(mallory.news).toEqual([]);
  });
});
