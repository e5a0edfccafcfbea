/** A byte that arrives is a byte: nothing on the way from a socket to a decoder makes more of it. */
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants, gzipSync, zstdCompressSync } from "node:zlib";
import { afterEach, describe, expect, it } from "vitest";
import { WebSocket } from "ws";
import { HTTP_BODY_MAX_BYTES } from "../../protocol/limits.ts";
import { readSources } from "../unit/boundaries.ts";
import { createApi } from "../unit/http-api.ts";
import { stopAll, testNet } from "./net-nodes.ts";

afterEach(stopAll);

const INFLATES =
  /\b(?:gunzip|inflate|unzip|brotliDecompress|zstdDecompress|create(?:Gunzip|Inflate|InflateRaw|Unzip|BrotliDecompress|ZstdDecompress)|DecompressionStream)\b/i;

describe("nothing inflates", () => {
  it("is named in no source of ours that could", () => {
    const sources = readSources(fileURLToPath(new URL("../..", import.meta.url)), ["crypto", "protocol", "node"]);
    expect(sources.length).toBeGreaterThan(100);
    expect(sources.filter(({ text }) => INFLATES.test(text)).map(({ path }) => path)).toEqual([]);
    expect(INFLATES.test('import { createGunzip } from "node:zlib";')).toBe(true);
  });

  const bomb = Buffer.alloc(256 * 1024 * 1024, " ");
  it.each([
    ["gzip", () => gzipSync(bomb, { level: 1 })],
    ["br", () => brotliCompressSync(bomb, { params: { [constants.BROTLI_PARAM_QUALITY]: 1 } })],
    ["zstd", () => zstdCompressSync(bomb)],
    ["deflate", () => gzipSync("{}")],
    ["gzip, gzip", () => gzipSync(gzipSync("{}"))],
  ] as const)("of an HTTP body: with Content-Encoding %s it is refused as it came", async (encoding, payload) => {
    const { app, router } = await createApi();
    const body = payload();
    expect(body.length).toBeLessThan(HTTP_BODY_MAX_BYTES);
    const before = process.memoryUsage().rss;
    const headers = { "content-type": "application/json", "content-encoding": encoding };
    const answer = await app.inject({ method: "POST", url: "/v1/learn", headers, payload: body });
    expect([answer.statusCode, answer.json<{ code: string }>().code]).toEqual([415, "unsupported_media_type"]);
    expect(router.seen).toEqual([]);
    expect((process.memoryUsage().rss - before) / 1e6).toBeLessThan(64);
  });

  it("of a body that says it is as it is", async () => {
    const { app } = await createApi();
    const payload = JSON.stringify({ user_message: "a", ai_response: "b" });
    const headers = { "content-type": "application/json", "content-encoding": "identity" };
    expect((await app.inject({ method: "POST", url: "/v1/learn", headers, payload })).statusCode).toBe(200);
  });

  it("of a WebSocket on 8421: compression that a client offers is not agreed to", async () => {
    const alice = await testNet();
    const socket = new WebSocket(`ws://127.0.0.1:${alice.port()}/`, { perMessageDeflate: true });
    await new Promise((resolve, reject) => {
      socket.on("open", resolve);
      socket.on("error", reject);
    });
    expect(socket.extensions).toBe("");
    socket.terminate();
  });
});
