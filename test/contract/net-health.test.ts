import { connect } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import { joined, stopAll, testNet, until } from "./net-nodes.ts";

afterEach(stopAll);

describe("plain HTTP on the federation port", () => {
  it("answers probes beside libp2p, and nothing else", async () => {
    const alice = await testNet();
    const bob = await testNet({ peers: [alice.address()] });
    await until(() => joined(alice, bob), "a link");
    const base = `http://${alice.address()}`;
    const health = await fetch(`${base}/health`);
    expect(health.status).toBe(200);
    expect(health.headers.get("content-type")).toBe("application/json");
    expect(await health.json()).toEqual({ path: "/health" });
    const ready = await fetch(`${base}/ready?verbose=1`);
    expect([ready.status, await ready.json()]).toEqual([503, { path: "/ready" }]);
    expect((await fetch(`${base}/health`, { method: "HEAD" })).status).toBe(200);
    expect((await fetch(`${base}/v1/stats`)).status).toBe(404);
    expect(joined(alice, bob)).toBe(true);
  });

  it("understands a request that arrives a byte at a time", async () => {
    const alice = await testNet();
    const socket = connect(alice.port(), "127.0.0.1").setNoDelay(true);
    let answer = "";
    socket.on("data", (chunk) => {
      answer += chunk;
    });
    for (const byte of "GET /health HTTP/1.1\r\nhost: a\r\n\r\n") {
      socket.write(byte);
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    await until(() => answer.includes('{"path":"/health"}'), "an answer");
    expect(answer).toMatch(/^HTTP\/1\.1 200/);
    socket.destroy();
  });

  it("hangs up on bytes that are neither, without harm", async () => {
    const alice = await testNet();
    const socket = connect(alice.port(), "127.0.0.1");
    let closed = false;
    socket.on("close", () => {
      closed = true;
    });
    socket.on("error", () => undefined);
    socket.write("POST /health HTTP/1.1\r\n\r\n");
    await until(() => closed, "the end");
    expect((await fetch(`http://${alice.address()}/health`)).status).toBe(200);
  });

  it("says which port is in use", async () => {
    const alice = await testNet();
    await expect(testNet({ federationPort: alice.port() })).rejects.toMatchObject({
      code: "PORT_IN_USE",
      message: expect.stringContaining("FEDERATION_PORT"),
    });
  });
});
