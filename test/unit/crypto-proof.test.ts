import { describe, expect, it } from "vitest";
import { createKeyring } from "../../crypto/keyring.ts";
import { PROOF_BYTES, type ProofContext, prove, provedSecrets } from "../../crypto/proof.ts";

const [oldSecret, newSecret, foreign] = ["the secret of last year", "the secret of this year", "somebody else's secret"];
const nonce = (value: number) => new Uint8Array(32).fill(value);
const context: ProofContext = { initiator: "alice", responder: "bob", initiatorNonce: nonce(1), responderNonce: nonce(2) };
const ring = createKeyring([newSecret, oldSecret]);

describe("proof of the secret", () => {
  it("tells which of several secrets the other side knows", () => {
    expect(provedSecrets(ring, "initiator", context, prove(createKeyring([newSecret]), "initiator", context))).toEqual([0]);
    expect(provedSecrets(ring, "initiator", context, prove(createKeyring([oldSecret]), "initiator", context))).toEqual([1]);
    expect(provedSecrets(ring, "initiator", context, prove(createKeyring([oldSecret, newSecret]), "initiator", context))).toEqual([0, 1]);
    expect(provedSecrets(ring, "initiator", context, prove(createKeyring([foreign]), "initiator", context))).toEqual([]);
  });

  it("proves only the secrets asked for", () => {
    const proofs = prove(ring, "responder", context, [1]);
    expect(proofs.length).toBe(PROOF_BYTES);
    expect(provedSecrets(ring, "responder", context, proofs)).toEqual([1]);
  });

  it("is worth nothing in the other role, between other peers, with other nonces, or with one bit changed", () => {
    const proofs = prove(ring, "initiator", context);
    expect(provedSecrets(ring, "initiator", context, proofs)).toEqual([0, 1]);
    expect(provedSecrets(ring, "responder", context, proofs)).toEqual([]);
    const others: Partial<ProofContext>[] = [
      { initiator: "carol" },
      { responder: "carol" },
      { initiator: "bob", responder: "alice" },
      { initiator: "alic", responder: "ebob" },
      { initiatorNonce: nonce(3) },
      { responderNonce: nonce(3) },
      { initiatorNonce: nonce(2), responderNonce: nonce(1) },
    ];
    for (const other of others) expect(provedSecrets(ring, "initiator", { ...context, ...other }, proofs)).toEqual([]);
    const changed = Uint8Array.from(proofs.subarray(0, PROOF_BYTES));
    changed[31]! ^= 1;
    expect(provedSecrets(ring, "initiator", context, changed)).toEqual([]);
  });

  it("refuses proofs of an impossible length, however much of them is true", () => {
    const proofs = prove(ring, "initiator", context);
    for (const wrong of [proofs.subarray(0, 0), proofs.subarray(0, 33), new Uint8Array([...proofs, ...proofs, ...proofs])]) {
      expect(provedSecrets(ring, "initiator", context, wrong)).toEqual([]);
    }
    expect(() => prove(ring, "initiator", { ...context, responderNonce: nonce(2).subarray(1) })).toThrow(
      expect.objectContaining({ code: "BAD_LENGTH" }),
    );
  });
});
