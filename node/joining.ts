/**
 * A node that the layout does not list asks to be added, if its operator said so (FEDERATION_AUTO_JOIN); otherwise it waits for one to confirm. It asks through
 * the same door as an operator, and again until it has an answer: what an operator refused, stopped or took out is not asked for a second time. Who lost its disk
 * does not ask: the members list its new incarnation by themselves. Who does not reach the members does not ask either: what it would keep a part of, those that it
 * does not reach could no longer write.
 */
import { SYSTEM_TENANT } from "../protocol/ids.ts";
import { decodeLayout, type Layout, type MemberFields, votersOf } from "../protocol/layout.ts";
import type { Change } from "../protocol/layout-change.ts";
import type { Engine } from "./engine.ts";
import type { QueuedChange } from "./layout-queue.ts";
import type { Call, Log, Router } from "./ports.ts";

const ASK_MS = 3000;
const ANSWER_MS = 5000;
/** Connections to all members have come about by then, or something is wrong. */
const CONNECTING_MS = 15_000;
/** A member that is away so long is taken for down, which is no reason to keep others out. */
const AWAY_MS = 60_000;

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
  #asks: boolean;
  #stopped = false;
  /** Monotonic ms since when not all members are connected. */
  #apartSince: number | undefined;

  constructor(options: JoiningOptions) {
    this.#o = options;
    this.#asks = options.autoJoin;
  }

  /** It is no member and does what it can to become one. */
  get asks(): boolean {
    return this.#asks;
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
        `the layout has a member ${member.name} that is another node: start this one under another NODE_NAME (and if that member is gone for good: continuum layout replace ${member.name} THE_OTHER_NAME)`,
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
    if (!this.#reachesMembers(layout)) return;
    const { system } = engine;
    const call = { tenant: SYSTEM_TENANT, token: undefined, requestId: "join" };
    try {
      const before = await this.#answerBefore(member, { ...call, level: "one", key: "", deadline: system.monotonic() + ANSWER_MS });
      this.#asks = before === undefined;
      if (before !== undefined) {
        this.#say("warn", `this node forwards and does not ask to be a member: ${before} (continuum layout add ${member.name} makes it one)`);
        return;
      }
      const key = Buffer.from(system.randomBytes(16)).toString("hex");
      const change: Change = { op: "add", member };
      await router.run("layout.change", change, { ...call, level: "quorum", key, deadline: system.monotonic() + ANSWER_MS });
      this.#say("info", "this node has asked to be a member");
    } catch (error) {
      log.debug({ error: (error as Error).message }, "asking to join failed; it is tried again");
    }
  }

  #reachesMembers(layout: Layout): boolean {
    const { links, system } = this.#o.engine;
    const members = votersOf(layout);
    const away = members.filter(({ node }) => links?.peer(node) === undefined).map(({ name }) => name);
    if (away.length === 0) {
      this.#apartSince = undefined;
      return true;
    }
    this.#apartSince ??= system.monotonic();
    const apartMs = system.monotonic() - this.#apartSince;
    const majority = members.length - away.length >= Math.floor(members.length / 2) + 1;
    if (majority && apartMs >= AWAY_MS) return true;
    if (apartMs >= CONNECTING_MS)
      this.#say(
        "warn",
        `this node does not ask to be a member yet, because it is not connected with ${away.join(", ")} of ${members.length} members: ${majority ? `it waits ${AWAY_MS / 1000} s for that` : "a majority is needed"}. Each node needs an address that all others can dial (FEDERATION_ADVERTISE; behind an ingress one of its own)`,
      );
    return false;
  }

  /** Why asking again would undo what an operator did. @throws ApiError */
  async #answerBefore(member: MemberFields, call: Call): Promise<string | undefined> {
    const { engine, router } = this.#o;
    const { changes } = (await router.run<{ changes: readonly QueuedChange[] }>("layout.changes", {}, call)).value;
    const last = changes.findLast(
      ({ change, outcome }) =>
        outcome !== "waiting" &&
        ((change.op === "add" && change.member.node === member.node && change.member.incarnation === member.incarnation) ||
          ((change.op === "remove" || change.op === "replace") && change.name === member.name && outcome === "done")),
    );
    if (last !== undefined && last.change.op !== "add") return `an operator took it out at ${last.asked_at}`;
    if (last !== undefined && last.outcome !== "done") return `its change was ${last.outcome}: ${last.reason}`;
    // Nothing in the queue tells of a recovery.
    const history = await engine.store.layoutHistory();
    const was = history.some(({ bytes }) => decodeLayout(bytes).members.some((other) => other.writer === engine.writer));
    return was ? "it was a member before and is none now" : undefined;
  }

  #say(level: "info" | "warn", line: string): void {
    if (line === this.#said) return;
    this.#said = line;
    this.#o.log[level]({}, line);
  }
}
