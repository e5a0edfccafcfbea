import { afterAll, beforeAll, expect, onTestFailed, test } from "vitest";
import type { FederationStatus } from "../../node/status.ts";
import { ask, type Problem } from "./ask.ts";
import { atRest } from "./at-rest.ts";
import { eventually, type Federation, pause, startFederation } from "./federation.ts";
import { markersAt, startWriters } from "./writers.ts";

const CLIENTS = 32;
let federation: Federation;
beforeAll(async () => {
  federation = await startFederation();
});
afterAll(() => federation?.stop());

test("SIGKILL of each node in turn while 32 clients learn loses nothing that was acknowledged, and all nodes end equal", {
  timeout: 150_000,
}, async () => {
  onTestFailed(() => console.error(federation.logs()));
  const writers = startWriters(federation.urls, CLIENTS, "kill");
  for (const victim of federation.nodes) {
    const before = writers.acknowledged.length;
    await eventually("learning goes on", 20_000, async () => writers.acknowledged.length > before + 50 || undefined);
    await victim.kill("SIGKILL");
    const dead = writers.acknowledged.length;
    await eventually(`two nodes go on without ${victim.name}`, 20_000, async () => writers.acknowledged.length > dead + 50 || undefined);
    victim.start();
    await federation.ready(20_000);
  }
  await writers.stop();

  const partitions = await atRest(federation);
  expect(partitions.size).toBeGreaterThan(4);
  for (const tenant of new Set(writers.acknowledged.map((one) => one.tenant))) {
    const expected = writers.acknowledged.filter((one) => one.tenant === tenant).map(({ marker }) => marker);
    for (const url of federation.urls) {
      const found = await markersAt(url, tenant);
      expect(expected.filter((marker) => !found.has(marker))).toEqual([]);
      expect([...found].filter(([, times]) => times > 1)).toEqual([]);
    }
  }
  expect(writers.acknowledged.length).toBeGreaterThan(300);
});

test("two nodes down: writes are refused as no_quorum or in_doubt, reads at one still work, and all is well when they return", {
  timeout: 90_000,
}, async () => {
  onTestFailed(() => console.error(federation.logs()));
  // The survivor must be a full replica of the tenant's partition to answer at `one` by itself.
  const tenants = Array.from({ length: 12 }, (_, index) => `alone-${index}`);
  for (const tenant of tenants) {
    const body = { user_message: "Who tends the lighthouse?", ai_response: "Dorothea tends the lighthouse." };
    expect((await ask(federation.urls[0]!, "POST", "/v1/learn?consistency=all", { headers: { "x-tenant-id": tenant }, body })).status).toBe(200);
  }
  const [survivor, ...others] = federation.nodes;
  await Promise.all(others.map((node) => node.kill("SIGKILL")));
  await eventually("the survivor notices", 15_000, async () => (await statusOf(survivor!.url)).quorum.available === false || undefined);

  const outcomes = await Promise.all(
    tenants.map(async (tenant) => {
      const headers = { "x-tenant-id": tenant };
      const learn = { user_message: "Who left the harbour?", ai_response: "Dorothea left the harbour." };
      const written = await ask<Problem>(survivor!.url, "POST", "/v1/learn?consistency=quorum", { headers, body: learn });
      expect(written.status).toBe(503);
      expect(["no_quorum", "in_doubt"]).toContain(written.body.code);
      expect(written.headers.get("retry-after")).not.toBeNull();
      const quorum = await ask<Problem>(survivor!.url, "POST", "/v1/recall?consistency=quorum", { headers, body: { message: "lighthouse" } });
      expect(quorum.status).toBe(503);
      const one = await ask<{ context: string }>(survivor!.url, "POST", "/v1/recall?consistency=one", { headers, body: { message: "lighthouse" } });
      if (one.status === 200) expect(one.body.context).toContain("Dorothea tends the lighthouse");
      return one.status;
    }),
  );
  // It is a replica of two thirds of the partitions; of the others the only replicas are down.
  expect(outcomes.filter((status) => status === 200).length).toBeGreaterThan(tenants.length / 3);
  expect(outcomes.filter((status) => status !== 200 && status !== 503)).toEqual([]);

  expect((await ask(survivor!.url, "GET", "/v1/health")).status).toBe(200);
  expect((await ask(survivor!.url, "GET", "/v1/ready")).body).toMatchObject({ quorum: false });

  for (const node of others) node.start();
  await federation.ready();
  await eventually("writes work again", 15_000, async () => {
    const body = { user_message: "Who came back?", ai_response: "Everybody came back." };
    const answers = await Promise.all(
      tenants.map((tenant) => ask(survivor!.url, "POST", "/v1/learn?consistency=quorum", { headers: { "x-tenant-id": tenant }, body })),
    );
    return answers.every(({ status }) => status === 200) || undefined;
  });
  await atRest(federation);
});

test("a paused node does not stop the others, and catches up when it goes on", { timeout: 90_000 }, async () => {
  onTestFailed(() => console.error(federation.logs()));
  const [, paused] = federation.nodes;
  process.kill(paused!.pid!, "SIGSTOP");
  const living = federation.urls.filter((url) => url !== paused!.url);
  const writers = startWriters(living, 8, "pause");
  await pause(3000);
  const during = writers.acknowledged.length;
  process.kill(paused!.pid!, "SIGCONT");
  await writers.stop();
  expect(during).toBeGreaterThan(20);
  await atRest(federation);
});

test("a clean stop of all and a new start find the same memory", { timeout: 60_000 }, async () => {
  onTestFailed(() => console.error(federation.logs()));
  const before = fingerprintsOf(await atRest(federation));
  expect(await Promise.all(federation.nodes.map((node) => node.stop()))).toEqual([0, 0, 0]);
  for (const node of federation.nodes) node.start();
  await federation.ready();
  expect(fingerprintsOf(await atRest(federation))).toEqual(before);
});

function fingerprintsOf(partitions: Awaited<ReturnType<typeof atRest>>): Record<number, (string | null)[]> {
  return Object.fromEntries([...partitions].map(([partition, held]) => [partition, held.map(({ fingerprint }) => fingerprint).sort()]));
}

async function statusOf(url: string): Promise<FederationStatus> {
  return (await ask<FederationStatus>(url, "GET", "/v1/federation")).body;
}
