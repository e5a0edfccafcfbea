import { describe, expect, it } from "vitest";
import { rememberSecrets, rotationStep, type SecretsOfNode, type SecretsView } from "../../node/secret-rotation.ts";

const OLD = "0000aaaa";
const NEW = "1111bbbb";
const T1 = "2026-11-01T00:00:00.000Z";
const T2 = "2026-11-02T00:00:00.000Z";

/** Three members, each with what it says of its secrets. */
function three(ids: Readonly<Record<string, readonly string[]>>, more: Readonly<Record<string, Partial<SecretsOfNode>>> = {}): SecretsOfNode[] {
  return Object.entries(ids).map(([name, secret_ids]) => ({
    id: `node-of-${name}`,
    name,
    member: true,
    connected: true,
    secret_ids,
    sealed_under_others: {},
    ...more[name],
  }));
}
const known: SecretsView["secrets"] = [
  { id: OLD, known_since: T1 },
  { id: NEW, known_since: T2 },
];
const step = (nodes: readonly SecretsOfNode[], secrets = known, to?: string) => {
  const found = rotationStep({ nodes, secrets }, to);
  return [found.step, ...found.lagging.map(({ name }) => name)];
};
const everywhere = (...ids: string[]) => ({ alice: ids, bob: ids, carol: ids });

describe("the next step of replacing a secret", () => {
  it("is none while there is one secret", () => {
    expect(rotationStep({ nodes: three(everywhere(OLD)), secrets: [known[0]!] })).toEqual({ step: "none", old: null, new: null, lagging: [] });
  });

  it("is to add the new one where it is not known, to make it first, and to drop the old one, naming who lags", () => {
    expect(step(three({ ...everywhere(OLD), alice: [OLD, NEW] }))).toEqual(["add", "bob", "carol"]);
    expect(step(three(everywhere(OLD, NEW)))).toEqual(["first", "alice", "bob", "carol"]);
    expect(step(three({ ...everywhere(OLD, NEW), bob: [NEW, OLD] }))).toEqual(["first", "alice", "carol"]);
    expect(step(three(everywhere(NEW, OLD)))).toEqual(["drop", "alice", "bob", "carol"]);
    expect(step(three({ ...everywhere(NEW, OLD), carol: [NEW] }))).toEqual(["drop", "alice", "bob"]);
    expect(rotationStep({ nodes: three(everywhere(NEW, OLD)), secrets: known })).toMatchObject({ old: OLD, new: NEW });
  });

  it("is the other way round when the other one is newer: what the nodes tell is the same", () => {
    const backwards = [
      { id: OLD, known_since: T2 },
      { id: NEW, known_since: T1 },
    ];
    expect(step(three(everywhere(NEW, OLD)), backwards)).toEqual(["first", "alice", "bob", "carol"]);
    expect(step(three(everywhere(OLD, NEW)), backwards)).toEqual(["drop", "alice", "bob", "carol"]);
  });

  it("takes a secret that this node never had for the newer one", () => {
    const elsewhere = [
      { id: NEW, known_since: null },
      { id: OLD, known_since: T1 },
    ];
    expect(step(three({ ...everywhere(OLD), bob: [OLD, NEW] }), elsewhere)).toEqual(["add", "alice", "carol"]);
  });

  it("is to wait while anything is sealed under the old one, and says how much where", () => {
    const nodes = three(everywhere(NEW, OLD), { carol: { sealed_under_others: { [OLD]: 3 } } });
    const found = rotationStep({ nodes, secrets: known });
    expect(found).toMatchObject({ step: "wait", lagging: [{ name: "carol" }] });
    expect(found.lagging[0]?.why).toContain(`3 deltas for others under ${OLD}`);
  });

  it("does not drop the old one while a member is away: what it keeps may be under it", () => {
    const away = { carol: { connected: false } };
    expect(step(three(everywhere(NEW, OLD), away))).toEqual(["wait", "carol"]);
    expect(step(three({ ...everywhere(NEW), carol: [NEW, OLD] }, away))).toEqual(["wait", "carol"]);
    // It knows the new one, as it told: the others may go on to the second step.
    expect(step(three(everywhere(OLD, NEW), away))).toEqual(["first", "alice", "bob"]);
    expect(step(three({ ...everywhere(OLD, NEW), carol: [OLD] }, away))).toEqual(["wait", "carol"]);
    expect(step(three({ ...everywhere(OLD, NEW), carol: [] }, away))).toEqual(["wait", "carol"]);
  });

  it("waits for a connected member that has not told its secrets, and not for a gateway that is away", () => {
    expect(step(three({ ...everywhere(NEW, OLD), carol: [] }))).toEqual(["wait", "carol"]);
    expect(step(three({ ...everywhere(NEW, OLD), carol: [] }, { carol: { member: false, connected: false } }))).toEqual(["drop", "alice", "bob"]);
    expect(step(three({ ...everywhere(NEW, OLD), carol: [OLD] }, { carol: { member: false } }))).toEqual(["add", "carol"]);
  });

  it("is unclear when both came to this node at once, until it is told which is to stay", () => {
    const together = [OLD, NEW].map((id) => ({ id, known_since: T1 }));
    const nodes = three(everywhere(NEW, OLD));
    expect(step(nodes, together)).toEqual(["unclear"]);
    expect(step(nodes, together, NEW)).toEqual(["drop", "alice", "bob", "carol"]);
    expect(step(nodes, together, OLD)).toEqual(["first", "alice", "bob", "carol"]);
    expect(step(nodes, known, "never-heard-of")).toEqual(["unclear"]);
  });

  it("replaces the oldest by the newest where a third was left behind", () => {
    const third = { id: "2222cccc", known_since: "2026-11-03T00:00:00.000Z" };
    expect(rotationStep({ nodes: three(everywhere("2222cccc", NEW, OLD)), secrets: [...known, third] })).toMatchObject({
      step: "drop",
      old: OLD,
      new: "2222cccc",
    });
  });
});

describe("what a node remembers of its secrets", () => {
  it("is since when each has been configured without a break", () => {
    let history = rememberSecrets([], [OLD], T1);
    history = rememberSecrets(history, [OLD, NEW], T2);
    expect(history.map(({ id, since }) => [id, since])).toEqual([
      [OLD, T1],
      [NEW, T2],
    ]);
    history = rememberSecrets(history, [NEW], "2026-11-03T00:00:00.000Z");
    expect(history).toEqual([
      { id: OLD, since: T1, configured: false },
      { id: NEW, since: T2, configured: true },
    ]);
    // Taken back: it is the newer one now.
    history = rememberSecrets(history, [NEW, OLD], "2026-11-04T00:00:00.000Z");
    expect(history.find(({ id }) => id === OLD)).toEqual({ id: OLD, since: "2026-11-04T00:00:00.000Z", configured: true });
  });

  it("is bounded, and never loses those in use", () => {
    let history = rememberSecrets([], ["first"], T1);
    for (let at = 0; at < 40; at++) history = rememberSecrets(history, ["first", `next-${at}`], T2);
    expect(history).toHaveLength(16);
    expect(history.filter(({ configured }) => configured).map(({ id }) => id)).toEqual(["first", "next-39"]);
  });
});
