/** An operator of a federation with faults: asks for changes of its layout as often as it takes, and waits for what comes of them. */
import type { LayoutAnswer, LayoutAsk } from "../../node/layout-admin.ts";
import type { QueuedChange } from "../../node/layout-queue.ts";
import { ask, type Problem } from "../e2e/ask.ts";
import { eventually } from "../e2e/federation.ts";
import { type FaultyNode, PATIENCE_MS } from "./proxied-federation.ts";

/** Queued, under one key however often it is asked for and at whichever of the nodes. @throws Error when it cannot be, with the reason */
export async function askForChange(at: readonly FaultyNode[], change: LayoutAsk, key: string, ms = PATIENCE_MS): Promise<QueuedChange> {
  let [attempt, last] = [0, ""];
  return eventually(
    `${change.op} ${change.name ?? ""} is queued`,
    ms,
    async () => {
      const node = at[attempt++ % at.length]!;
      const { status, body } = await ask<LayoutAnswer & Problem>(node.url, "POST", "/v1/federation/layout", {
        headers: { "idempotency-key": key },
        body: change,
        timeoutMs: 5_000,
      });
      last = `${node.name} answered ${status} ${body.code ?? ""} ${body.detail ?? ""}`;
      return status === 200 && body.change !== null ? body.change : undefined;
    },
    () => last,
  );
}

/** The change as its end left it, at the first of the nodes that can tell. @param ms without faults this takes seconds */
export async function outcomeOf(at: readonly FaultyNode[], { id }: QueuedChange, ms = PATIENCE_MS): Promise<QueuedChange> {
  let [attempt, last] = [0, ""];
  return eventually(
    `the change ${id} has ended`,
    ms,
    async () => {
      const node = at[attempt++ % at.length]!;
      const { body } = await ask<{ queue: QueuedChange[] | null; layout: object; moving: object }>(node.url, "GET", "/v1/federation/layout", {
        timeoutMs: 5_000,
      });
      const found = body.queue?.find((change) => change.id === id);
      last = `${node.name}: ${JSON.stringify({ found, moving: body.moving })}`;
      return found === undefined || found.outcome === "waiting" ? undefined : found;
    },
    () => last,
  );
}

/** Of the layout by which this node goes, the owners that serve. */
export async function membersAt(node: FaultyNode): Promise<string[]> {
  return (await node.status()).layout?.members.map(({ name }) => name) ?? [];
}
