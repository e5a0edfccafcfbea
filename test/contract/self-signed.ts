/** A certificate for localhost, made when it is needed, so that none expires and no private key lies in the repository. */
import { generateKeyPairSync, sign } from "node:crypto";

const OID = {
  ecdsaWithSha256: [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02],
  commonName: [0x55, 0x04, 0x03],
  subjectAltName: [0x55, 0x1d, 0x11],
  basicConstraints: [0x55, 0x1d, 0x13],
};
const SEQUENCE = 0x30;

/** @returns both as PEM */
export function selfSigned(name = "localhost"): { key: string; certificate: string } {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
  const algorithm = der(SEQUENCE, der(0x06, OID.ecdsaWithSha256));
  const subject = der(SEQUENCE, der(0x31, der(SEQUENCE, der(0x06, OID.commonName), der(0x0c, Buffer.from(name)))));
  const extension = (oid: number[], value: Buffer) => der(SEQUENCE, der(0x06, oid), der(0x04, value));
  const toBeSigned = der(
    SEQUENCE,
    der(0xa0, der(0x02, [2])), // version 3
    der(0x02, [1]),
    algorithm,
    subject,
    der(SEQUENCE, time(Date.now() - 86_400_000), time(Date.now() + 86_400_000)),
    subject,
    publicKey.export({ type: "spki", format: "der" }),
    der(
      0xa3,
      der(
        SEQUENCE,
        extension(OID.basicConstraints, der(SEQUENCE, der(0x01, [0xff]))),
        extension(OID.subjectAltName, der(SEQUENCE, der(0x82, Buffer.from(name)))),
      ),
    ),
  );
  const signature = der(0x03, [0], sign("sha256", toBeSigned, privateKey));
  const body = der(SEQUENCE, toBeSigned, algorithm, signature).toString("base64").replaceAll(/.{64}/g, "$&\n");
  return {
    key: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
    certificate: `-----BEGIN CERTIFICATE-----\n${body}\n-----END CERTIFICATE-----\n`,
  };
}

function der(tag: number, ...parts: (Buffer | number[])[]): Buffer {
  const value = Buffer.concat(parts.map((part) => Buffer.from(part)));
  const { length } = value;
  const header = length < 0x80 ? [tag, length] : length < 0x100 ? [tag, 0x81, length] : [tag, 0x82, length >>> 8, length & 0xff];
  return Buffer.concat([Buffer.from(header), value]);
}

/** GeneralizedTime */
function time(ms: number): Buffer {
  return der(0x18, Buffer.from(`${new Date(ms).toISOString().slice(0, 19).replaceAll(/[-:T]/g, "")}Z`));
}
