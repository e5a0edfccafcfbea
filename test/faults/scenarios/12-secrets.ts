/** Fault 12: a node is revoked and the secret rotated while another one is cut off. */

import { join } from "node:path";
import type { Revoked } from "../../../node/secret-admin.ts";
import { type RotationStep, rotationStep, type SecretsView } from "../../../node/secret-rotation.ts";
import { type Answer, ask, type Problem } from "../../e2e/ask.ts";
import { eventually } from "../../e2e/federation.ts";
import { type FaultyNode, PATIENCE_MS } from "../proxied-federation.ts";
import type { Scenario } from "../scenario.ts";
import type { Stage } from "../stage.ts";

export const secrets: Scenario = {
  fault: 12,
  name: "a node is revoked and the secret rotated during a cut, nodes restart one by one",
  says: "A second secret is added and made the first by rolling restarts under load, while one node is cut off, for which the others keep deltas; then a fourth member is revoked. The late one hears of both, what was kept is sealed again, the old secret goes, and with it neither the revoked node nor a stranger opens anything. Nothing is lost or unreadable.",
  stage: () => ({ spare: 2, clients: { clients: 8, pauseMs: 30 } }),
  async play(stage, quick) {
    const { secret } = stage.federation;
    const next = `next-${secret}`;
    const late = stage.rng.pick(stage.nodes);
    const prompt = stage.nodes.filter((node) => node !== late);
    const at = stage.rng.pick(prompt);
    stage.clients.start();
    await stage.progress(20, "under the first secret");
    const mallory = await joins(stage, `${secret},${next}`);
    await roll(stage, stage.rng.shuffle(stage.nodes), `${secret},${next}`);
    stage.proxy.isolate(late.name);
    stage.tell(`${late.name} is cut off`);
    stage.clients.use([...prompt, mallory]);
    await stage.progress(40, `while ${late.name} is cut off`);
    await roll(stage, prompt, `${next},${secret}`, prompt);
    await stage.progress(20, `while ${late.name} knows the new secret only as its second`);
    stage.clients.use(prompt);
    const malloryId = await revoke(stage, at, mallory, prompt);
    // Two of four members decide nothing: it is taken out of the layout when the late one is back.
    await stage.during(3_000, `${mallory.name} is shut out, ${late.name} is away`);
    const waiting = await nextStep(at);
    stage.expect(waiting.step === "wait", `with a member away the next step is "${waiting.step}"`);
    stage.proxy.clear();
    stage.clients.use(stage.nodes);
    stage.tell(`${late.name} is back`);
    await eventually(`${late.name} hears who is shut out`, PATIENCE_MS, async () => isShutOut(late, malloryId));
    // Whoever was told "in doubt", or that it could not be taken out of the layout, asks again.
    await eventually("the revocation is acknowledged, and the removal asked for", PATIENCE_MS, async () => {
      const { status, body } = await askToRevoke(at);
      return (status === 200 && body.not_removed === null) || undefined;
    });
    await eventually("it is out of the layout everywhere", PATIENCE_MS, async () => {
      const layouts = await Promise.all(stage.nodes.map(async (node) => (await node.status()).layout));
      return layouts.every((layout) => layout?.phase === "done" && layout.members.length === 3) || undefined;
    });
    await mallory.stop();
    mallory.start();
    await roll(stage, [late], `${next},${secret}`);
    await stage.progress(20, "with the new secret first everywhere");
    await eventually("nothing is under the old secret", PATIENCE_MS, async () => (await nextStep(at)).step === "drop" || undefined);
    await roll(stage, stage.rng.shuffle(stage.nodes), next);
    await stage.progress(20, "without the old secret");
    await staysOut(stage, mallory, malloryId);
    // It knew the new one as well: only a third makes the revocation complete.
    await saysComplete(stage, false);
    if (!quick) {
      const third = `third-${secret}`;
      for (const secrets of [`${next},${third}`, `${third},${next}`]) await roll(stage, stage.nodes, secrets);
      await eventually("nothing is under the second secret", PATIENCE_MS, async () => (await nextStep(at)).step === "drop" || undefined);
      await roll(stage, stage.nodes, third);
      await saysComplete(stage, true);
    }
    await mallory.stop();
    await oldSecretIsWorthless(stage, secret);
    return undefined;
  },
};

/** One node after the other, as orchestrators do it. @param ready who must be ready before the next one goes */
async function roll(stage: Stage, nodes: readonly FaultyNode[], secret: string, ready: readonly FaultyNode[] = stage.nodes): Promise<void> {
  for (const node of nodes) {
    node.env.FEDERATION_SECRET = secret;
    await node.stop();
    node.start();
    await stage.federation.ready(PATIENCE_MS, ready);
  }
  stage.tell(`${nodes.map(({ name }) => name).join(", ")} started again with ${secret.split(",").length} secrets`);
}

/** A fourth member, which knows both secrets and holds a share. */
async function joins(stage: Stage, secret: string): Promise<FaultyNode> {
  const mallory = stage.federation.add("mallory", join(stage.federation.dataDir, "mallory"));
  mallory.env.FEDERATION_SECRET = secret;
  mallory.env.FEDERATION_FIRST_MEMBERS = "";
  mallory.env.FEDERATION_AUTO_JOIN = "true";
  mallory.start();
  await eventually("mallory is a member", PATIENCE_MS, async () => {
    const { layout } = await stage.nodes[0]!.status();
    return (layout?.phase === "done" && layout.members.some(({ name }) => name === "mallory")) || undefined;
  });
  stage.tell("mallory is a member");
  return mallory;
}

/** @returns its id */
async function revoke(stage: Stage, at: FaultyNode, mallory: FaultyNode, prompt: readonly FaultyNode[]): Promise<string> {
  const { id } = (await mallory.status()).node;
  const answer = await eventually("mallory is revoked", PATIENCE_MS, async () => {
    const { status, body } = await ask<Revoked & Problem>(at.url, "DELETE", "/v1/federation/peers/mallory", {
      headers: { "idempotency-key": "revoke" },
    });
    // Three of four members are a majority of the system partition only with mallory, which is cut off at once: its acknowledgement may be missed.
    return status === 200 ? body.revoked : body.code === "in_doubt" || (await isShutOut(at, id)) === true ? "in doubt" : undefined;
  });
  stage.tell(`${mallory.name} is revoked at ${at.name}${answer === "in doubt" ? ", as far as two of four members can say" : ""}`);
  stage.expect(answer === "in doubt" || !answer.complete, "a revocation is said to be complete while the secret that was known is in use");
  for (const node of prompt) await eventually(`${node.name} cuts it off`, PATIENCE_MS, async () => isShutOut(node, id));
  return id;
}

function askToRevoke(at: FaultyNode): Promise<Answer<Revoked & Problem>> {
  return ask<Revoked & Problem>(at.url, "DELETE", "/v1/federation/peers/mallory", { headers: { "idempotency-key": "revoke" } });
}

async function isShutOut(node: FaultyNode, id: string): Promise<true | undefined> {
  const { revoked } = (await ask<SecretsView>(node.url, "GET", "/v1/federation/secrets")).body;
  const { peers } = await node.status();
  return (revoked.some((one) => one.node === id) && !peers.some((peer) => peer.id === id && peer.connected)) || undefined;
}

async function nextStep(node: FaultyNode): Promise<RotationStep> {
  return rotationStep((await ask<SecretsView>(node.url, "GET", "/v1/federation/secrets")).body);
}

async function staysOut(stage: Stage, mallory: FaultyNode, id: string): Promise<void> {
  const { peers } = await mallory.status();
  stage.expect(
    peers.every(({ connected }) => !connected),
    "a revoked node is connected to a member",
  );
  for (const node of stage.nodes) stage.expect((await isShutOut(node, id)) === true, `${node.name} forgot that a node is revoked, over its restarts`);
}

/** Everybody says whether the revoked node knows a secret that is in use. */
async function saysComplete(stage: Stage, complete: boolean): Promise<void> {
  for (const node of stage.nodes) {
    let seen: SecretsView | undefined;
    await eventually(
      `${node.name} says that the revocation is ${complete ? "" : "not "}complete`,
      PATIENCE_MS,
      async () => {
        seen = (await ask<SecretsView>(node.url, "GET", "/v1/federation/secrets")).body;
        return (seen.revoked.length === 1 && seen.revoked[0]!.complete === complete) || undefined;
      },
      () => JSON.stringify(seen),
    );
  }
}

async function oldSecretIsWorthless(stage: Stage, secret: string): Promise<void> {
  const former = stage.federation.add("former", join(stage.federation.dataDir, "former"));
  former.env.FEDERATION_SECRET = secret;
  former.env.FEDERATION_FIRST_MEMBERS = "";
  former.start();
  await eventually("it serves", PATIENCE_MS, () => former.status());
  await stage.during(4_000);
  const { layout, peers } = await former.status();
  stage.expect(layout === null && peers.every(({ connected }) => !connected), "a node with the old secret only is let in");
  await former.stop();
}
