import { readFileSync } from "node:fs";
import { inspect } from "node:util";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DOMAINS, KEY_NAMES } from "../../crypto/domains.ts";
import { equalConstantTime, fromBase64url, hkdfSha256, keyHashOf, sha256, sha256Hex, toBase64url, writerIdOf } from "../../crypto/hash.ts";
import { identitySeeds } from "../../crypto/identity.ts";
import { createKeyring } from "../../crypto/keyring.ts";

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString("hex");
const unhex = (text: string) => Uint8Array.from(Buffer.from(text, "hex"));
const secret = "correct horse battery staple";

describe("keyring", () => {
  it("refuses a secret under 16 characters with advice and without repeating it", () => {
    const short = "fifteen letters";
    expect(() => createKeyring([short])).toThrow(expect.objectContaining({ code: "SECRET_SHORT", message: expect.stringContaining("openssl rand") }));
    expect(() => createKeyring([short])).toThrow(expect.not.objectContaining({ message: expect.stringContaining(short) }));
    expect(() => createKeyring([secret, short])).toThrow(expect.objectContaining({ message: expect.stringContaining("number 2 of 2") }));
    expect(createKeyring(["sixteen letters!"]).count).toBe(1);
  });

  it("refuses none, more than four, and the same secret twice", () => {
    expect(() => createKeyring([])).toThrow(expect.objectContaining({ code: "SECRET_COUNT" }));
    expect(() => createKeyring(["a", "b", "c", "d", "e"].map((s) => s + secret))).toThrow(expect.objectContaining({ code: "SECRET_COUNT" }));
    expect(() => createKeyring([secret, secret])).toThrow(expect.objectContaining({ code: "SECRET_TWICE" }));
  });

  it("derives a key of its own for every name and secret, and no two domains share a string", () => {
    const ring = createKeyring([secret, `${secret} 2`]);
    const keys = [0, 1].flatMap((index) => KEY_NAMES.map((name) => hex(ring.key(name, index))));
    expect(new Set(keys).size).toBe(2 * KEY_NAMES.length);
    expect(new Set(Object.values(DOMAINS)).size).toBe(Object.keys(DOMAINS).length);
    expect(hex(ring.key("delta"))).toBe(hex(hkdfSha256(new TextEncoder().encode(secret), DOMAINS.keyring, DOMAINS.delta, 32)));
  });

  it("has every domain in the README's table, and none that is not", () => {
    const readme = readFileSync(new URL("../../crypto/README.md", import.meta.url), "utf8");
    const listed = [...readme.matchAll(/^\| `(continuum\/[^`]+)`/gm)].map((match) => match[1]);
    expect(listed.toSorted()).toEqual(Object.values(DOMAINS).toSorted());
  });

  it("keeps its keys from release to release (golden)", () => {
    const ring = createKeyring([secret]);
    expect(ring.ids).toEqual(["7d257506"]);
    expect(hex(ring.key("delta"))).toBe("42a3219df638fd8524495b4e6581facec36ce500ca7fd31a6cf190840066a114");
    expect(hex(ring.key("handshake"))).toBe("15099cdd0d8f88436cdde717f1fe89fa0043eb4371f1756a02a4cbe5bbd74fad");
  });

  it("shows ids and never a secret or key, however it is printed", () => {
    const ring = createKeyring([secret]);
    const printed = [String(ring), JSON.stringify({ ring }), inspect(ring, { showHidden: true, depth: 9 }), `${Object.values(ring)}`].join("\n");
    expect(printed).toContain(ring.ids[0]);
    expect(printed).not.toContain(secret);
    for (const name of KEY_NAMES) {
      expect(printed).not.toContain(hex(ring.key(name)).slice(0, 8));
      expect(printed).not.toContain(ring.key(name).slice(0, 4).join(","));
    }
  });

  it("takes a secret typed with combining characters for the same secret", () => {
    expect(createKeyring(["caf\u00e9 caf\u00e9 caf\u00e9 caf\u00e9"]).ids).toEqual(
      createKeyring(["cafe\u0301 cafe\u0301 cafe\u0301 cafe\u0301"]).ids,
    );
  });
});

describe("hash", () => {
  it("computes HKDF-SHA256 as RFC 5869 A.1 and A.3 do", () => {
    const ikm = new Uint8Array(22).fill(0x0b);
    expect(hex(hkdfSha256(ikm, unhex("000102030405060708090a0b0c"), unhex("f0f1f2f3f4f5f6f7f8f9"), 42))).toBe(
      "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
    );
    expect(hex(hkdfSha256(ikm, "", "", 42))).toBe("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8");
  });

  it("computes SHA-256 as FIPS 180-2 does", () => {
    expect(sha256Hex("abc")).toBe("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    expect(hex(sha256(new TextEncoder().encode("abc")))).toBe(sha256Hex("abc"));
  });

  it("makes ids of 22 characters that keep their parts and purposes apart", () => {
    expect(writerIdOf("12D3KooWAlice", "00ff")).toMatch(/^[A-Za-z0-9_-]{22}$/);
    expect(writerIdOf("ab", "c")).not.toBe(writerIdOf("a", "bc"));
    expect(writerIdOf("a", "b")).not.toBe(keyHashOf("a", "b"));
    expect(writerIdOf("12D3KooWAlice", "00ff")).toBe("Pl_5zrkXBa9gDev3Pn5vyQ");
    expect(keyHashOf("alice", "k-1")).toBe("rFmcEKfeYms2Qi7Vv3DcHA");
  });

  it("reads base64url back exactly, and nothing that is not exactly it", () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        expect(fromBase64url(toBase64url(bytes))).toEqual(bytes);
      }),
    );
    for (const bad of ["a", "a===", "YQ==", "Y+", "YR", " YQ"]) expect(fromBase64url(bad)).toBeUndefined();
  });

  it("compares bytes of any lengths", () => {
    expect(equalConstantTime(unhex("0102"), unhex("0102"))).toBe(true);
    expect(equalConstantTime(unhex("0102"), unhex("0103"))).toBe(false);
    expect(equalConstantTime(unhex("0102"), unhex("01"))).toBe(false);
  });
});

describe("identity", () => {
  it("derives two different seeds from one node key, always the same (golden)", () => {
    const seeds = identitySeeds(new Uint8Array(32).fill(7));
    expect(hex(seeds.federation)).toBe("7f9cd76de5d3a55dd4d620cf55cc87c6e570988e61c002f317f2b070897bac29");
    expect(hex(seeds.gossip)).toBe("d9737e8084b3f77d84b9c6ba5efca6b2535787389dc8fb0fd595157db3c0795f");
  });

  it("refuses a node key that is not 32 bytes", () => {
    expect(() => identitySeeds(new Uint8Array(31))).toThrow(expect.objectContaining({ code: "BAD_LENGTH" }));
  });
});
