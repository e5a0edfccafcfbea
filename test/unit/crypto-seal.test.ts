import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { CryptoError } from "../../crypto/errors.ts";
import { createKeyring } from "../../crypto/keyring.ts";
import { ENVELOPE_BYTES, open, openWith, seal, sealWith } from "../../crypto/seal.ts";

const hex = (text: string) => Uint8Array.from(Buffer.from(text, "hex"));
const text = (value: string) => new TextEncoder().encode(value);
const bytes = (length: number, seed = 1) => Uint8Array.from({ length }, (_, i) => (i * 31 + seed) & 255);

/** draft-irtf-cfrg-xchacha-03, appendix A.3.1. */
const draft = {
  key: hex("808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f"),
  nonce: hex("404142434445464748494a4b4c4d4e4f5051525354555657"),
  aad: hex("50515253c0c1c2c3c4c5c6c7"),
  plaintext: text("Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it."),
  sealed: hex(
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64c6708c54c216cb96b72e1213b4522f8c9ba4" +
      "0db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49",
  ),
};

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    if (error instanceof CryptoError) return error.code;
    throw error;
  }
  return "nothing thrown";
}

describe("seal", () => {
  it("gives the bytes of the XChaCha20-Poly1305 draft", () => {
    expect(seal(draft.key, draft.nonce, draft.plaintext, draft.aad)).toEqual(draft.sealed);
    expect(open(draft.key, draft.nonce, draft.sealed, draft.aad)).toEqual(draft.plaintext);
  });

  it("gives the bytes that another library gives, whatever the length, and opens them again", () => {
    const sizes = fc.oneof(fc.integer({ min: 0, max: 2000 }), fc.constant(70_000));
    const key = fc.uint8Array({ minLength: 32, maxLength: 32 });
    const nonce = fc.uint8Array({ minLength: 24, maxLength: 24 });
    fc.assert(
      fc.property(key, nonce, sizes, fc.uint8Array({ maxLength: 80 }), (k, n, size, aad) => {
        const plaintext = bytes(size, k[0]);
        const sealed = seal(k, n, plaintext, aad);
        expect(Buffer.compare(sealed, xchacha20poly1305(k, n, aad).encrypt(plaintext))).toBe(0);
        expect(Buffer.compare(open(k, n, sealed, aad), plaintext)).toBe(0);
      }),
      { numRuns: 60 },
    );
  });

  it.each([10, 1000])("refuses another key, nonce, associated data and every kind of changed bit (%i bytes)", (size) => {
    const [key, nonce, aad] = [bytes(32, 2), bytes(24, 3), bytes(20, 4)];
    const sealed = seal(key, nonce, bytes(size), aad);
    expect(codeOf(() => open(bytes(32, 9), nonce, sealed, aad))).toBe("NOT_AUTHENTIC");
    expect(codeOf(() => open(key, bytes(24, 9), sealed, aad))).toBe("NOT_AUTHENTIC");
    expect(codeOf(() => open(key, nonce, sealed, bytes(20, 9)))).toBe("NOT_AUTHENTIC");
    expect(codeOf(() => open(key, nonce, sealed.subarray(0, -1), aad))).toBe("NOT_AUTHENTIC");
    for (let bit = 0; bit < sealed.length * 8; bit += 7) {
      const changed = Uint8Array.from(sealed);
      changed[bit >> 3]! ^= 1 << (bit & 7);
      expect(codeOf(() => open(key, nonce, changed, aad))).toBe("NOT_AUTHENTIC");
    }
  });

  it("refuses keys, nonces and messages of an impossible length", () => {
    expect(codeOf(() => seal(bytes(31), bytes(24), bytes(1), bytes(0)))).toBe("BAD_LENGTH");
    expect(codeOf(() => seal(bytes(32), bytes(12), bytes(1), bytes(0)))).toBe("BAD_LENGTH");
    expect(codeOf(() => open(bytes(32), bytes(24), bytes(15), bytes(0)))).toBe("BAD_LENGTH");
  });
});

describe("one key after the other", () => {
  it("is never mixed up, nor is a key whose bytes lie within a larger buffer", () => {
    const [first, aad] = [bytes(32, 2), bytes(20, 4)];
    const second = bytes(64, 5).subarray(3, 35);
    const sealed = [first, second, first].map((key, at) => seal(key, bytes(24, at), bytes(50), aad));
    sealed.forEach((one, at) => {
      const key = at === 1 ? second : first;
      expect(one).toEqual(xchacha20poly1305(key, bytes(24, at), aad).encrypt(bytes(50)));
      expect(open(key, bytes(24, at), one, aad)).toEqual(bytes(50));
    });
  });
});

describe("sealWith a keyring", () => {
  const first = "alice-and-bob-share-this";
  const second = "a-secret-that-came-after";
  const aad = text("partition 7");

  it("names the secret, so that whoever has it opens the message, first or not", () => {
    const sealed = sealWith(createKeyring([first]), "delta", bytes(24), bytes(512), aad);
    expect(sealed.length).toBe(512 + ENVELOPE_BYTES);
    expect(openWith(createKeyring([first]), "delta", sealed, aad)).toEqual(bytes(512));
    expect(openWith(createKeyring([second, first]), "delta", sealed, aad)).toEqual(bytes(512));
  });

  it("refuses an unknown secret, another purpose, other associated data, a changed id or nonce, and what is too short", () => {
    const ring = createKeyring([first, second]);
    const sealed = sealWith(ring, "delta", bytes(24), bytes(100), aad);
    expect(codeOf(() => openWith(createKeyring([second]), "delta", sealed, aad))).toBe("UNKNOWN_KEY");
    expect(codeOf(() => openWith(ring, "gossip", sealed, aad))).toBe("NOT_AUTHENTIC");
    expect(codeOf(() => openWith(ring, "delta", sealed, text("partition 8")))).toBe("NOT_AUTHENTIC");
    const otherSecret = Uint8Array.from(sealed);
    otherSecret.set(ring.idBytes(1), 0);
    expect(codeOf(() => openWith(ring, "delta", otherSecret, aad))).toBe("NOT_AUTHENTIC");
    const otherNonce = Uint8Array.from(sealed);
    otherNonce[4]! ^= 1;
    expect(codeOf(() => openWith(ring, "delta", otherNonce, aad))).toBe("NOT_AUTHENTIC");
    expect(codeOf(() => openWith(ring, "delta", sealed.subarray(0, ENVELOPE_BYTES - 1), aad))).toBe("BAD_LENGTH");
  });
});
