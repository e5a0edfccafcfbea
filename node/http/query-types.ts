/**
 * A query carries texts. Where the schema asks for a number or a truth value, texts that are exactly one are turned into it before they are
 * validated; bodies are never coerced, so `"max_concepts": "many"` and `"content": 5` are refused.
 */
import type { preValidationHookHandler, RouteOptions } from "fastify";

interface QuerySchema {
  readonly properties?: Readonly<Record<string, { readonly type?: string | readonly string[] }>>;
}

/** undefined where nothing needs it, so that such routes have no hook. */
export function queryCoercion(route: RouteOptions): preValidationHookHandler | undefined {
  const properties = (route.schema?.querystring as QuerySchema | undefined)?.properties ?? {};
  const typed = Object.entries(properties).filter(([, schema]) => schema.type === "integer" || schema.type === "boolean");
  if (typed.length === 0) return undefined;
  return (request, _reply, done) => {
    const query = request.query as Record<string, unknown>;
    for (const [name, schema] of typed) {
      const text = query[name];
      if (typeof text !== "string") continue;
      if (schema.type === "integer" && /^-?\d{1,15}$/.test(text)) query[name] = Number(text);
      if (schema.type === "boolean" && (text === "true" || text === "false")) query[name] = text === "true";
    }
    done();
  };
}
