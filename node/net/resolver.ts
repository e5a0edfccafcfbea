import { lookup, resolveSrv } from "node:dns/promises";
import type { Resolver } from "./addresses.ts";

/** The machine's own DNS. */
export const systemResolver: Resolver = {
  async hosts(name) {
    const found = await lookup(name, { all: true }).catch(() => []);
    return found.map((entry) => entry.address);
  },
  async services(name) {
    if (!name.includes(".")) return []; // a bare name has no zone to ask
    return resolveSrv(`_federation._tcp.${name}`).catch(() => []);
  },
};
