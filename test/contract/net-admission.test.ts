import { noise } from "@libp2p/noise";
import { tcp } from "@libp2p/tcp";
import { yamux } from "@libp2p/yamux";
import { multiaddr } from "@multiformats/multiaddr";
import { createLibp2p } from "libp2p";
import { afterEach, describe, expect, it } from "vitest";
import { createKeyring } from "../../crypto/keyring.ts";
import type { NodeId } from "../../protocol/ids.ts";
import { helloOf, liarAt, lurkerAt, stopLiars } from "./net-liars.ts";
import { freePort, joined, SECRET, stopAll, stopNet, type TestNet, testNet, until } from "./net-nodes.ts";

afterEach(async () => {
  await stopLiars();
  await stopAll();
});

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

describe("while the secret is replaced", () => {
  const steps = [[SECRET], [SECRET, NEW_SECRET], [NEW_SECRET, SECRET], [NEW_SECRET]];
  const meet: [dials: number, answers: number][] = [
    [0, 0],
    [0, 1],
    [0, 2],
    [1, 1],
    [1, 2],
    [2, 2],
    [2, 3],
    [3, 3],
    [1, 0],
    [2, 0],
    [2, 1],
    [3, 2],
  ];

  it.each(meet)("members at step %i and %i meet, whoever dials", async (dials, answers) => {
    const answering = await testNet({ secrets: steps[answers]!, isMember: () => true });
    const dialling = await testNet({ secrets: steps[dials]!, isMember: () => true, peers: [answering.address()] });
    await until(() => joined(dialling, answering), "a link");
    for (const node of [dialling, answering]) {
      expect(warnings(node)).toEqual([]);
      const other = node === dialling ? answering : dialling;
      expect(node.net.secretIds(other.net.self)).toEqual(createKeyring(steps[other === answering ? answers : dials]!).ids);
    }
    expect(answering.net.secretIds(answering.net.self)).toBeUndefined();
  });

  it("three members that are restarted one by one, new first and then old gone, are always three again", async () => {
    const ports = [await freePort(), await freePort(), await freePort()];
    const peers = ports.map((port) => `127.0.0.1:${port}`);
    const start = (index: number, secrets: string[]) =>
      testNet({ seed: 500 + index, federationPort: ports[index]!, secrets, peers, isMember: () => true });
    const nodes = [await start(0, steps[0]!), await start(1, steps[0]!), await start(2, steps[0]!)];
    const together = () => nodes.every((node) => node.net.connected().length === 2);
    await until(together, "the three");
    for (const secrets of [steps[2]!, steps[3]!]) {
      for (const index of [0, 1, 2]) {
        await stopNet(nodes[index]!);
        nodes[index] = await start(index, secrets);
        await until(together, `node ${index} with the secrets ${secrets.length === 2 ? "new, old" : "new"}`);
      }
    }
    for (const node of nodes) expect(warnings(node)).toEqual([]);
    const stranger = await testNet({ secrets: steps[0]!, peers });
    await until(() => refusals(stranger) >= 3, "the old secret to be refused by each");
    expect(stranger.peers).toEqual([]);
  }, 30_000);
});

describe("a revoked identity", () => {
  it("is refused with that reason, told so, in one line on each side, and does not dial in a hurry", async () => {
    const speed = 3;
    const alice = await testNet({ speed, isRevoked: (node) => node === mallory?.net.self });
    let mallory: TestNet | undefined;
    mallory = await testNet({ speed, seed: 601, isMember: () => true });
    await expect(mallory.net.dial(alice.address())).rejects.toMatchObject({ code: "UNREACHABLE" });
    await expect(alice.net.dial(mallory.address())).rejects.toMatchObject({ code: "UNREACHABLE" });
    await stopNet(mallory);
    mallory = await testNet({ speed, seed: 601, peers: [alice.address()] });
    await pause(3_000 / speed);
    expect(refusals(mallory, "revoked")).toBeLessThanOrEqual(8);
    await until(() => refusals(mallory as TestNet, "revoked") > 1, "another try");
    // Both sides count every try: those of this process, and one each way before.
    await until(() => refusals(alice, "revoked") === refusals(mallory as TestNet, "revoked") + 2, "both to count the same");
    for (const node of [alice, mallory]) {
      expect(warnings(node)).toHaveLength(1);
      expect(warnings(node)[0]!.message).toContain("revoked");
      expect(warnings(node)[0]!.facts).toMatchObject({ reason: "revoked" });
      expect(node.peers).toEqual([]);
    }
  });

  it("loses its connections on both ports at once and what it gossips is not heard, also through others", async () => {
    const revoked = new Set<NodeId>();
    const alice = await testNet({ isRevoked: (node) => revoked.has(node) });
    const carol = await testNet({ peers: [alice.address()] });
    const mallory = await testNet({ peers: [alice.address(), carol.address()] });
    await until(() => joined(alice, mallory) && joined(alice, carol) && joined(carol, mallory), "the three");
    const heard = (node: TestNet, from: TestNet) => node.news.some((news) => news.from === from.net.self);
    await until(() => {
      for (const node of [mallory, carol]) node.net.announce(Uint8Array.of(1));
      return heard(alice, mallory) && heard(alice, carol);
    }, "gossip to work");
    revoked.add(mallory.net.self);
    alice.net.disconnect(mallory.net.self);
    expect(alice.net.connected()).toEqual([carol.net.self]);
    await until(() => !mallory.net.connected().includes(alice.net.self), "mallory to know", 1_000);
    await pause(200); // what was on its way
    alice.news.length = 0;
    carol.news.length = 0;
    await until(() => {
      for (const node of [mallory, carol]) node.net.announce(Uint8Array.of(2));
      return heard(alice, carol) && heard(carol, mallory);
    }, "gossip of the others");
    await pause(500);
    expect(heard(alice, mallory)).toBe(false);
    expect(alice.net.connected()).toEqual([carol.net.self]);
    // Once all have shut it out, it hears nothing any more.
    const stranger = carol.counts.get("connection_error:gossip_stranger") ?? 0;
    await stopNet(carol);
    await until(() => mallory.net.connected().length === 0, "mallory to be alone");
    mallory.news.length = 0;
    alice.net.announce(Uint8Array.of(3));
    await pause(500);
    expect(mallory.news).toEqual([]);
    expect(stranger).toBe(0);
  });

  it("is refused at its hello when it is revoked between that and its admission", async () => {
    let isRevoked = false;
    const alice = await testNet({ isRevoked: () => isRevoked });
    const liar = await liarAt(alice);
    isRevoked = true;
    liar.stream.send(helloOf(liar));
    await until(() => liar.connection.status !== "open", "the connection to end");
    expect(refusals(alice, "revoked")).toBe(1);
    expect(alice.peers).toEqual([]);
  });
});

describe("port 8422", () => {
  it("is closed to who is no peer on port 8421, even with the secret", async () => {
    const gossipPort = await freePort();
    const alice = await testNet({ gossipPort });
    const bob = await testNet({ peers: [alice.address()] });
    await until(() => joined(alice, bob), "a link");
    expect(await lurkerAt(gossipPort)).toBe("refused");
    expect(alice.counts.get("connection_error:gossip_stranger")).toBe(1);
    expect(warnings(alice)).toEqual([]);
  });
});
