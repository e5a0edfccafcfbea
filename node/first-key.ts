/** A node that listens wider than loopback and was given no API key makes one admin key at its first start, and shows it once. */
import { SYSTEM_TENANT } from "../protocol/ids.ts";
import { hashOfKey, newApiKey } from "./api-key.ts";
import type { Config } from "./config.ts";
import { ApiError } from "./errors.ts";
import type { CreateKeyAnswer, KeyFacts } from "./keys.ts";
import type { Call, Log, Router, System } from "./ports.ts";

export interface FirstKeyOptions {
  readonly config: Pick<Config, "requireApiKey" | "apiKeys" | "tenant" | "nodeName" | "federationFirstMembers" | "timeoutMs">;
  readonly router: Router;
  readonly system: System;
  readonly log: Log;
  /** Shows the key to the person who starts the node; never the log. */
  readonly print: (text: string) => void;
}

const RETRY_MS = 1000;
/** Two first starts under one key create one answer: whoever finds another hash in it stays silent. */
const IDEMPOTENCY_KEY = "first-admin-key";

/**
 * Tries until a quorum answers: a federation may form long after this node started. Of the first members only the first named one does it,
 * so that a federation shows one key and not one a node.
 * @returns cancel
 */
export function ensureAdminKey(options: FirstKeyOptions): () => void {
  const { config, system, log } = options;
  const [first] = config.federationFirstMembers;
  if (!config.requireApiKey || config.apiKeys.length > 0 || (first !== undefined && first !== config.nodeName)) return () => {};
  let cancelled = false;
  let cancelTimer = (): void => {};
  const attempt = async (): Promise<void> => {
    try {
      await createIfNone(options);
    } catch (error) {
      if (cancelled) return;
      if (!(error instanceof ApiError) || error.status !== 503) {
        log.error({ code: error instanceof ApiError ? error.code : "internal" }, "could not create the first admin key; set API_KEYS instead");
        return;
      }
      cancelTimer = system.after(RETRY_MS, () => void attempt());
    }
  };
  void attempt();
  return () => {
    cancelled = true;
    cancelTimer();
  };
}

async function createIfNone({ config, router, system, print }: FirstKeyOptions): Promise<void> {
  const call = (key: string): Call => ({
    tenant: SYSTEM_TENANT,
    level: "quorum",
    key,
    token: undefined,
    requestId: IDEMPOTENCY_KEY,
    deadline: system.monotonic() + config.timeoutMs,
  });
  const { keys } = (await router.run<{ keys: readonly KeyFacts[] }>("list_keys", {}, call(""))).value;
  // A revoked one counts too: whoever revoked it does not want another to appear.
  if (keys.some((key) => key.scope === "admin")) return;
  const apiKey = newApiKey((length) => system.randomBytes(length));
  const args = { hash: hashOfKey(apiKey), tenant_id: config.tenant, name: "first admin key", scope: "admin", expires_at: null };
  const created = (await router.run<CreateKeyAnswer>("create_key", args, call(IDEMPOTENCY_KEY))).value;
  if (created.hash === args.hash) print(`Admin API key, shown only this once: ${apiKey}`);
}
