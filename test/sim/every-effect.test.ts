/**
 * A node dies at each of its effects in turn: just before and just after every frame it sends, every write it asks for, every write that completes, every
 * answer it gives. What random search meets now and then, here meets a short story at every point there is.
 */
import { describe, expect, it } from "vitest";
import { ApiError } from "../../node/errors.ts";
import type { Death, SimNode } from "./federation.ts";
import type { Violation } from "./history.ts";
import type { ReadAnswer } from "./operations.ts";
import { Stage } from "./stage.ts";

const DEATHS: readonly Death[] = ["kill", "power", "torn"];
const DOWN_MS = 300;

/** Kills the node at its nth effect from now on, and starts it again. @returns whether there was one, later */
function strike(stage: Stage, node: SimNode, nth: number): () => boolean {
  let left = nth;
  let struck = false;
  stage.federation.onEffect = (at) => {
    if (at !== node || struck || left-- > 0) return;
    struck = true;
    stage.federation.crash(node, DEATHS[nth % DEATHS.length] as Death);
    stage.scheduler.after(DOWN_MS, () => stage.federation.start(node));
  };
  return () => struck;
}

/** As a client that does not give up: the same key, until it is answered. */
async function insist(stage: Stage, node: SimNode, operation: string, args: object): Promise<void> {
  for (let attempt = 0; attempt < 40; attempt++) {
    const answer = node.process === undefined ? undefined : await stage.ask(node, operation, args, { timeoutMs: 1000 });
    if (answer !== undefined && !(answer instanceof ApiError)) return;
    await stage.pass(100);
  }
  throw new Error(`${operation} ${JSON.stringify(args)} was not acknowledged in 40 attempts`);
}

/** A write, its correction elsewhere, counts through the witness, a deletion: each acknowledged at quorum before the next begins. */
async function work(stage: Stage, names: readonly [string, string, string]): Promise<void> {
  const [first, second, witness] = names.map((name) => stage.federation.nodes.find((node) => node.name === name)) as [SimNode, SimNode, SimNode];
  await insist(stage, first, "put", { memory: "m", value: "1" });
  await insist(stage, second, "edit", { memory: "m", value: "2" });
  await insist(stage, witness, "bump", { concepts: ["ada", "babbage"] });
  await insist(stage, first, "put", { memory: "gone", value: "1" });
  await insist(stage, second, "delete", { memory: "gone" });
}

async function whatHolds(stage: Stage): Promise<Violation[]> {
  const wrong: Violation[] = [];
  for (const node of stage.federation.nodes) {
    const read = await stage.ask<ReadAnswer>(
      node,
      "read",
      { memories: ["m", "gone"], concepts: ["ada"] },
      { timeoutMs: 5000, key: `read ${node.name}` },
    );
    const seen = read instanceof ApiError ? read.code : JSON.stringify([read.value.memories, read.value.counts]);
    if (seen !== '[{"m":["2"],"gone":[]},{"ada":1}]') wrong.push({ checker: "every effect", message: `${node.name} sees ${seen}` });
  }
  return [...wrong, ...(await stage.examine())];
}

describe("a node that dies at any of its effects", () => {
  it.each(["a replica that clients write through", "the other replica", "the witness"])(
    "loses nothing that was acknowledged: %s",
    async (who) => {
      const found: string[] = [];
      let points = 0;
      for (let nth = 0; ; nth++) {
        const stage = new Stage();
        stage.start();
        await stage.formed();
        const { replicas, witness } = stage.groupOf("alpha");
        const victim = who === "the witness" ? witness : replicas[who === "the other replica" ? 1 : 0];
        const struck = strike(stage, victim, nth);
        await work(stage, [replicas[0].name, replicas[1].name, witness.name]);
        if (!struck()) break;
        points++;
        await stage.until("everybody counts again", () => stage.federation.counting);
        for (const { checker, message } of await whatHolds(stage)) found.push(`dead at effect ${nth}: (${checker}) ${message}`);
      }
      expect(found).toEqual([]);
      expect(points).toBeGreaterThan(30);
    },
    240_000,
  );

  it.each(["alice", "bob", "carol"])(
    "does not keep a federation from forming: %s",
    async (name) => {
      const found: string[] = [];
      let points = 0;
      for (let nth = 0; ; nth++) {
        const stage = new Stage();
        const struck = strike(stage, stage.federation.nodes.find((node) => node.name === name) as SimNode, nth);
        stage.start();
        await stage.formed();
        if (!struck()) break;
        points++;
        for (const { checker, message } of await stage.examine()) found.push(`dead at effect ${nth}: (${checker}) ${message}`);
      }
      expect(found).toEqual([]);
      expect(points).toBeGreaterThan(15);
    },
    240_000,
  );
});
