/** Tells a path that exists under other methods (405 with Allow) from one that does not exist (404). Only asked when no route matched. */
import type { RouteOptions } from "fastify";

export class KnownPaths {
  readonly #methods = new Map<string, { readonly pattern: RegExp; readonly methods: Set<string> }>();

  add(route: RouteOptions): void {
    const known = this.#methods.get(route.url) ?? { pattern: patternOf(route.url), methods: new Set() };
    for (const method of [route.method].flat()) known.methods.add(method);
    this.#methods.set(route.url, known);
  }

  /** Methods of the path, sorted; empty when there is no such path. */
  methodsOf(url: string): string[] {
    const path = (url.split("?", 1)[0] ?? "").replace(/(?<=.)\/$/, "");
    const methods = [...this.#methods.values()].filter((known) => known.pattern.test(path)).flatMap((known) => [...known.methods]);
    return [...new Set(methods)].sort();
  }
}

/** "/v1/memories/:id" -> /^\/v1\/memories\/[^/]+$/ */
function patternOf(url: string): RegExp {
  const parts = url.split("/").map((part) => (part.startsWith(":") ? "[^/]+" : part === "*" ? ".*" : part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")));
  return new RegExp(`^${parts.join("/")}$`);
}
