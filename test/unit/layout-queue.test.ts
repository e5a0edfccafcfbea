import { afterEach, expect, it } from "vitest";
import type { ApiError } from "../../node/errors.ts";
import { changesOf, LayoutQueue, type LayoutQueueOptions, type QueuedChange } from "../../node/layout-queue.ts";
import type { Log } from "../../node/ports.ts";
import { SYSTEM_TENANT } from "../../protocol/ids.ts";
import type { Change } from "../../protocol/layout-change.ts";
import { CLOCK_AHEAD_MAX_MS, LAYOUT_CHANGES_WAITING_MAX } from "../../protocol/limits.ts";
import { dave } from "./change-world.ts";
import { Engines } from "./engine-world.ts";

const { node, name, incarnation } = dave;
const add: Change = { op: "add", member: { node, name, incarnation, zone: "", weight: 1 } };
const zone = (to: string): Change => ({ op: "zone", name: "alice", zone: to });

let engines: Engines;
afterEach(() => engines.stop());

/** One node by itself, so that nothing carries the changes out. */
async function alone() {
  engines = await Engines.of([], { alice: { single: true } });
  const alice = engines.at("alice");
  const reader = () => alice.store.stagedReader(SYSTEM_TENANT, alice.engine.layout!);
  const warned: string[] = [];
  const silent = () => undefined;
  const log: Log = { debug: silent, info: silent, error: silent, warn: (_facts, message) => void warned.push(message) };
  const options: LayoutQueueOptions = { reader, run: alice.router.run.bind(alice.router), system: alice.system, log };
  const queue = new LayoutQueue(options);
  const ask = async (change: unknown, key?: string): Promise<QueuedChange> =>
    (await engines.answer(alice.run<QueuedChange>("layout.change", change, key === undefined ? {} : { key }))).value;
  const refusal = async (change: unknown): Promise<ApiError> =>
    ask(change).then(
      (asked) => expect.fail(JSON.stringify(asked)),
      (error) => error,
    );
  const all = () => changesOf(reader());
  return { alice, queue, options, ask, refusal, all, warned };
}

it("a change that is asked for waits, and says who was asked and when", async () => {
  const { queue, ask, all } = await alone();
  const asked = await ask(add);
  expect(asked).toMatchObject({ change: add, outcome: "waiting", reason: "", ended_at: null, node: "alice" });
  expect(Date.parse(asked.asked_at)).toBeGreaterThan(0);
  expect(all()).toEqual([asked]);
  expect(queue.waiting()).toMatchObject([{ id: asked.id, change: add }]);
  expect(queue.change(asked.id)).toEqual(add);
  expect(queue.change("another")).toBeUndefined();
});

it("changes wait in the order of asking", async () => {
  const { ask, queue } = await alone();
  const ids: string[] = [];
  for (const to of ["c", "a", "b"]) {
    ids.push((await ask(zone(to))).id);
    await engines.pass(10);
  }
  expect(queue.waiting().map(({ id }) => id)).toEqual(ids);
});

it("what waits already is not asked for twice: a node that wants to join asks until it is a member", async () => {
  const { ask, all } = await alone();
  const first = await ask(add);
  expect(await ask(add)).toEqual(first);
  expect(await ask(zone("z"))).not.toEqual(first);
  expect(all()).toHaveLength(2);
});

it("a retried request gets the same answer, also when the change has ended meanwhile", async () => {
  const { ask, all, queue } = await alone();
  const asked = await ask(add, "one key");
  queue.finish(asked.id, "done", "");
  await engines.pass(50);
  expect(await ask(add, "one key")).toEqual(asked);
  expect(all()).toHaveLength(1);
});

it("what has ended may be asked for again", async () => {
  const { ask, queue, all } = await alone();
  const first = await ask(add);
  queue.finish(first.id, "refused", "not today");
  await engines.pass(50);
  expect((await ask(add)).id).not.toBe(first.id);
  expect(all().map(({ outcome }) => outcome)).toEqual(["refused", "waiting"]);
});

it("LAYOUT_CHANGES_WAITING_MAX changes wait; one more is refused until one has ended", async () => {
  const { ask, refusal, queue } = await alone();
  for (let at = 0; at < LAYOUT_CHANGES_WAITING_MAX; at++) await ask(zone(`z${at}`));
  expect(await refusal(zone("one-more"))).toMatchObject({ code: "conflict" });
  expect(queue.waiting()).toHaveLength(LAYOUT_CHANGES_WAITING_MAX);
  queue.finish(queue.waiting()[7]!.id, "done", "");
  await engines.pass(50);
  expect((await ask(zone("one-more"))).outcome).toBe("waiting");
}, 60_000);

it("a member that cannot be one is refused at the door", async () => {
  const { refusal, all } = await alone();
  for (const fields of [{ name: "a,b" }, { weight: 0 }, { incarnation: "ours" }, { zone: "é" }])
    expect(await refusal({ op: "add", member: { ...add.member, ...fields } })).toMatchObject({ code: "validation_failed" });
  expect(await refusal({ op: "replace", name: "alice", member: { ...add.member, name: "" } })).toMatchObject({ code: "validation_failed" });
  expect(all()).toEqual([]);
});

it("a revoked node is not asked for, until it is readmitted", async () => {
  const { alice, ask, refusal } = await alone();
  await engines.answer(alice.run("revoke_node", { node, name, secrets: [] }));
  expect(await refusal(add)).toMatchObject({ code: "conflict", message: expect.stringContaining("readmit") });
  expect((await ask(zone("z"))).outcome).toBe("waiting");
  await engines.answer(alice.run("readmit_node", { node }));
  expect((await ask(add)).outcome).toBe("waiting");
});

it("what came of a change is written once, with the reason and the time, and it waits no more", async () => {
  const { ask, queue, all } = await alone();
  const asked = await ask(add);
  queue.finish(asked.id, "nothing to do", "it is so already");
  queue.finish(asked.id, "nothing to do", "it is so already");
  await engines.pass(50);
  expect(queue.waiting()).toEqual([]);
  expect(all()).toEqual([{ ...asked, outcome: "nothing to do", reason: "it is so already", ended_at: expect.any(String) }]);
  queue.finish("nobody's", "done", "");
  await engines.pass(50);
  expect(all()).toHaveLength(1);
});

it("what came of a change is written at a later look when it could not be written at once, and said if not at the next", async () => {
  const { ask, options, all, warned } = await alone();
  const asked = await ask(add);
  let refusals = 2;
  const queue = new LayoutQueue({
    ...options,
    run: (...asked) => (refusals-- > 0 ? Promise.reject(new Error("no quorum")) : options.run(...asked)),
  });
  queue.finish(asked.id, "done", "");
  await engines.pass(50);
  expect(warned).toEqual([]);
  queue.finish(asked.id, "done", "");
  await engines.pass(50);
  expect(warned).toEqual([expect.stringMatching(/could not be written/)]);
  expect(queue.waiting()).toHaveLength(1);
  queue.finish(asked.id, "done", "");
  await engines.pass(50);
  expect(all()).toMatchObject([{ outcome: "done" }]);
});

it("what came of a change is written by another where the clock of the one who leads is far ahead", async () => {
  engines = await Engines.of(["alice", "bob", "carol"], {}, { alice: { clockAheadMs: 2 * CLOCK_AHEAD_MAX_MS } });
  engines.connectAll();
  await engines.pass(2000);
  await engines.answer(engines.at("bob").run("layout.change", zone("z")));
  const { store, engine } = engines.at("bob");
  const outcomes = () => changesOf(store.stagedReader(SYSTEM_TENANT, engine.layout!)).map(({ outcome, node }) => ({ outcome, node }));
  expect(await engines.pass(20_000, () => outcomes()[0]?.outcome === "done")).toBe(true);
  expect(outcomes()).toEqual([{ outcome: "done", node: "bob" }]);
}, 60_000);
