/**
 * A node that the layout does not list asks to be added, if its operator said so (FEDERATION_AUTO_JOIN); otherwise it waits for one to confirm. It asks through
 * the same door as an operator, and again until it is a member. Who lost its disk does not ask: the members list its new incarnation by themselves.
 */
import { SYSTEM_TENANT } from "../protocol/ids.ts";
import { type MemberFields, votersOf } from "../protocol/layout.ts";
import type { Change } from "../protocol/layout-change.ts";
import type { Engine } from "./engine.ts";
import type { Log, Router } from "./ports.ts";

const ASK_MS = 3000;
const ANSWER_MS = 5000;

export interface JoiningOptions {
  readonly engine: Engine;
  readonly router: Router;
  readonly member: () => MemberFields;
  readonly autoJoin: boolean;
  readonly log: Log;
}

export class Joining {
  readonly #o: JoiningOptions;
  #cancel: () => void = () => undefined;
  #said = "";
  #stopped = false;

  constructor(options: JoiningOptions) {
    this.#o = options;
  }

  start(): void {
    this.#cancel = this.#o.engine.system.after(ASK_MS, () => {
      void this.#ask().finally(() => {
        if (!this.#stopped) this.start();
      });
    });
  }

  stop(): void {
    this.#stopped = true;
    this.#cancel();
  }

  async #ask(): Promise<void> {
    const { engine, router, autoJoin, log } = this.#o;
    const { layout } = engine;
    if (layout === undefined || engine.links === undefined || votersOf(layout).some((member) => member.writer === engine.writer)) return;
    const member = this.#o.member();
    const same = votersOf(layout).find((other) => other.node === member.node || other.name === member.name);
    if (same?.node === member.node) {
      this.#say("info", "this node's disk is a new one: the members list it again by themselves");
      return;
    }
    if (same !== undefined) {
      this.#say(
        "warn",
        `the layout has a member ${member.name} that is another node: choose another NODE_NAME, or continuum layout replace ${member.name}`,
      );
      return;
    }
    if (!autoJoin) {
      this.#say(
        "info",
        `this node is no member: it forwards until an operator adds it (continuum layout add ${member.name}), or FEDERATION_AUTO_JOIN is true`,
      );
      return;
    }
    const change: Change = { op: "add", member };
    const { system } = engine;
    const call = { tenant: SYSTEM_TENANT, level: "quorum" as const, token: undefined, requestId: "join" };
    const key = Buffer.from(system.randomBytes(16)).toString("hex");
    try {
      await router.run("layout.change", change, { ...call, key, deadline: system.monotonic() + ANSWER_MS });
      this.#say("info", "this node has asked to be a member");
    } catch (error) {
      log.debug({ error: (error as Error).message }, "asking to join failed; it is tried again");
    }
  }

  #say(level: "info" | "warn", line: string): void {
    if (line === this.#said) return;
    this.#said = line;
    this.#o.log[level]({}, line);
  }
}
