import { afterAll, beforeAll, describe, expect, onTestFailed, test } from "vitest";
import type { FederationStatus } from "../../node/status.ts";
import { LEVELS } from "../../protocol/ids.ts";
import { ask, type Problem } from "./ask.ts";
import { atRest } from "./at-rest.ts";
import { type Federation, startFederation } from "./federation.ts";

let federation: Federation;
beforeAll(async () => {
  federation = await startFederation();
});
afterAll(() => federation?.stop());

/** `test` that prints the nodes' logs when it fails. */
const check: typeof test = Object.assign(
  ((name: string, run: () => Promise<void>) =>
    test(name, async () => {
      onTestFailed(() => console.error(federation.logs()));
      await run();
    })) as typeof test,
  test,
);

describe("formation", () => {
  check("three nodes agree on one layout 1 with all three in it", async () => {
    const seen = await Promise.all(federation.urls.map(async (url) => (await ask<FederationStatus>(url, "GET", "/v1/federation")).body));
    expect(seen.map(({ node }) => node.role)).toEqual(["member", "member", "member"]);
    expect(seen.map(({ layout }) => layout?.version)).toEqual([1, 1, 1]);
    expect(new Set(seen.map(({ layout }) => JSON.stringify(layout))).size).toBe(1);
    expect(seen[0]?.layout?.members.map(({ name }) => name).sort()).toEqual(["node-1", "node-2", "node-3"]);
    expect(new Set(seen.map(({ node }) => node.incarnation)).size).toBe(3);
    for (const { quorum, partitions } of seen) {
      expect(quorum).toEqual({ available: true, unavailable: 0, system: true, short_groups: 0, short_copies: 0, group_size: 3, quorum: 2 });
      for (const { replicas, witnesses } of partitions.filter(({ partition }) => partition < 256))
        expect([replicas.length, witnesses.length]).toEqual([2, 1]);
    }
  });

  check("the federation port answers health and readiness in plain HTTP", async () => {
    for (const node of federation.nodes) {
      expect((await ask(`http://127.0.0.1:${node.federationPort}`, "GET", "/health")).status).toBe(200);
      expect((await ask(`http://127.0.0.1:${node.federationPort}`, "GET", "/ready")).body).toMatchObject({ ready: true });
    }
  });
});

describe("what is learnt on one node is recalled on every other at quorum:", () => {
  for (const level of LEVELS) {
    for (const [teacher, name] of ["node-1", "node-2", "node-3"].entries()) {
      check(`learnt on ${name} at ${level}`, async () => {
        const marker = `zephyrium${level}${teacher}`;
        // A tenant of its own: its partition has other replicas, so that each node is replica and witness in turn.
        const headers = { "x-tenant-id": `levels-${level}-${teacher}` };
        const learnt = await ask<{ turn_id: string }>(federation.urls[teacher]!, "POST", `/v1/learn?consistency=${level}`, {
          headers,
          body: { user_message: `What is ${marker}?`, ai_response: `The ${marker} is a mineral of the northern caves.` },
        });
        expect(learnt.status).toBe(200);
        expect(learnt.headers.get("x-continuum-consistency")).toBe(level);
        const acks = Object.fromEntries((learnt.headers.get("x-continuum-acks") ?? "").split(",").map((part) => part.split("=")));
        expect(Number(acks.replicas)).toBeGreaterThanOrEqual(level === "all" ? 2 : 1);
        expect(Number(acks.replicas) + Number(acks.witnesses)).toBeGreaterThanOrEqual(level === "one" ? 1 : 2);
        const others = federation.urls.filter((_, index) => index !== teacher);
        for (const url of others) {
          // Acknowledged by one replica only: another may not hold it yet, and a quorum read is promised what was acknowledged at quorum.
          const token = level === "one" ? { "x-continuum-frontier": learnt.headers.get("x-continuum-frontier")! } : {};
          const recalled = await ask<{ memories: { id: string }[]; context: string }>(url, "POST", "/v1/recall?consistency=quorum", {
            headers: { ...headers, ...token },
            body: { message: marker },
          });
          expect(recalled.status).toBe(200);
          expect(recalled.body.memories.map(({ id }) => id)).toContain(learnt.body.turn_id);
          expect(recalled.body.context).toContain("mineral of the northern caves");
        }
      });
    }
  }
});

describe("placement", () => {
  check(
    "of each partition two nodes are replica and the third is witness; the system partition is whole everywhere; at rest all are equal",
    async () => {
      const partitions = await atRest(federation);
      expect(partitions.size).toBeGreaterThanOrEqual(5);
      for (const [partition, held] of partitions) {
        expect(held.map(({ role }) => role).sort()).toEqual(
          partition === 256 ? ["replica", "replica", "replica"] : ["replica", "replica", "witness"],
        );
      }
    },
  );
});

describe("a retry", () => {
  check("with the same Idempotency-Key on another node gives the first answer and counts once", async () => {
    const headers = { "x-tenant-id": "retries", "idempotency-key": "alice-asks-once" };
    const body = { user_message: "Does bob grow quinces?", ai_response: "Bob grows quinces in Antwerp." };
    const [first, ...again] = await inTurn(federation.urls, (url) => ask(url, "POST", "/v1/learn", { headers, body }));
    expect(first?.status).toBe(200);
    for (const answer of again) {
      expect(answer.status).toBe(200);
      expect(answer.body).toEqual(first?.body);
    }
    for (const url of federation.urls) {
      const { messages, concepts } = await countsOf(url, "retries");
      expect({ messages, concepts }).toEqual({ messages: 2, concepts: first?.body.concepts_extracted });
    }
  });

  check("sent to all three nodes at the same moment counts once", async () => {
    const headers = { "x-tenant-id": "races", "idempotency-key": "bob-is-impatient" };
    const body = { user_message: "Does carol sail?", ai_response: "Carol sails to Heligoland." };
    const answers = await Promise.all(federation.urls.map((url) => ask<{ turn_id: string }>(url, "POST", "/v1/learn", { headers, body })));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200]);
    expect(new Set(answers.map((answer) => answer.body.turn_id)).size).toBe(1);
    for (const url of federation.urls) expect((await countsOf(url, "races")).messages).toBe(2);
  });

  check("with a used key and another body is refused", async () => {
    const headers = { "x-tenant-id": "retries", "idempotency-key": "alice-asks-once" };
    const body = { user_message: "Does bob grow pears?", ai_response: "Bob grows pears." };
    const { status, body: problem } = await ask<Problem>(federation.urls[1]!, "POST", "/v1/learn", { headers, body });
    expect([status, problem.code]).toEqual([409, "idempotency_key_reused"]);
  });
});

describe("refusals are problem+json with a stable code:", () => {
  const learn = { user_message: "hello", ai_response: "hello" };
  const cases: readonly (readonly [what: string, method: string, path: string, body: unknown, status: number, code: string])[] = [
    ["a body of 10 MB", "POST", "/v1/learn", JSON.stringify({ ...learn, thinking: "x".repeat(10 * 1024 * 1024) }), 413, "payload_too_large"],
    ["what is not JSON", "POST", "/v1/learn", '{"user_message": "hello", ', 400, "bad_json"],
    ["a number for a text", "POST", "/v1/learn", { ...learn, user_message: { text: "hello" } }, 422, "validation_failed"],
    ["a missing field", "POST", "/v1/learn", { user_message: "hello" }, 422, "validation_failed"],
    ["an empty text", "POST", "/v1/recall", { message: "" }, 422, "validation_failed"],
    ["a count out of bounds", "POST", "/v1/recall", { message: "hello", max_concepts: 101 }, 422, "validation_failed"],
    ["an unknown level", "POST", "/v1/learn?consistency=two", learn, 422, "validation_failed"],
    ["an unknown route", "GET", "/v1/nothing", undefined, 404, "not_found"],
    ["an unknown memory", "GET", "/v1/memories/mem_unknown", undefined, 404, "not_found"],
    ["a method that the route does not have", "DELETE", "/v1/learn", undefined, 405, "method_not_allowed"],
  ];
  for (const [what, method, path, body, status, code] of cases) {
    check(what, async () => {
      for (const url of federation.urls) {
        const answer = await ask<Problem>(url, method, path, { body });
        expect([answer.status, answer.body.code]).toEqual([status, code]);
        expect(answer.headers.get("content-type")).toMatch(/^application\/problem\+json/);
        expect(answer.body.detail).not.toMatch(/\bat .*:\d+|node_modules|\.ts\b/);
      }
    });
  }

  check("a body that is not said to be JSON", async () => {
    const answer = await ask<Problem>(federation.urls[0]!, "POST", "/v1/learn", {
      body: "user_message=hello",
      headers: { "content-type": "text/plain" },
    });
    expect([answer.status, answer.body.code]).toEqual([415, "unsupported_media_type"]);
  });

  check("and the node goes on as before", async () => {
    for (const url of federation.urls) expect((await ask(url, "POST", "/v1/learn", { body: learn })).status).toBe(200);
  });
});

async function inTurn<T, R>(items: readonly T[], run: (item: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const item of items) results.push(await run(item));
  return results;
}

async function countsOf(url: string, tenant: string): Promise<{ messages: number; concepts: number }> {
  const headers = { "x-tenant-id": tenant };
  const messages = await ask<{ total: number }>(url, "GET", "/v1/messages?consistency=quorum", { headers });
  const concepts = await ask<{ total: number }>(url, "GET", "/v1/entities?consistency=quorum", { headers });
  return { messages: messages.body.total, concepts: concepts.body.total };
}
