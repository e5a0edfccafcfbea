/** The OpenAPI 3.1 document, drawn from the schemas that validate and serialise, and its page. Everything is served from here: no other host. */
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { FastifyInstance, RouteOptions } from "fastify";
import { API_CODES, type ApiCode } from "../errors.ts";
import { PROBLEM_TYPE } from "./problem.ts";

declare module "fastify" {
  interface FastifyContextConfig {
    /** Goes through the door into the memory, and how: decides which codes it can answer. */
    door?: "read" | "write";
    /** Set by the scope a route is registered in. */
    access?: "public" | "tenant" | "admin";
  }
}

const TAGS = [
  { name: "memory", description: "Learn and recall" },
  { name: "memories", description: "Facts" },
  { name: "graph", description: "Concepts and links" },
  { name: "messages", description: "What was said, sessions and decisions" },
  { name: "federation", description: "This node among the others" },
  { name: "keys", description: "API keys and tenants" },
  { name: "node", description: "Probes and metrics" },
];

const PROBLEM_SCHEMA = {
  type: "object",
  description: "RFC 9457. `code` never changes meaning; `detail` is a sentence for a person.",
  required: ["type", "title", "status", "code", "detail"],
  properties: {
    type: { type: "string" },
    title: { type: "string" },
    status: { type: "integer" },
    code: { type: "string", enum: Object.keys(API_CODES) },
    detail: { type: "string" },
    errors: {
      type: "array",
      items: {
        type: "object",
        required: ["loc", "msg", "type"],
        properties: { loc: { type: "array", items: { type: ["string", "integer"] } }, msg: { type: "string" }, type: { type: "string" } },
      },
    },
  },
};

const MEANINGS: Readonly<Record<ApiCode, string>> = {
  bad_json: "the body is not JSON",
  bad_request: "the request makes no sense",
  unauthorized: "no valid API key",
  forbidden: "the key may not do this",
  not_found: "there is no such thing",
  method_not_allowed: "the path has other methods, see Allow",
  conflict: "it contradicts what is there",
  idempotency_key_reused: "the key belongs to another request",
  idempotency_key_expired: "the key was used so long ago (7 days) that its answer is not kept any more; nothing was written",
  payload_too_large: "the body is too large",
  unsupported_media_type: "the body is not application/json",
  validation_failed: "a field is wrong, see errors",
  rate_limited: "too many requests",
  headers_too_large: "the headers are too large",
  internal: "a fault of this node",
  no_quorum: "not enough members reachable; nothing was written",
  in_doubt: "written somewhere, not confirmed; retry with the same Idempotency-Key",
  catching_up: "this node lacks what the request must see",
  clock_skew: "this node's clock is too far ahead to write",
  overloaded: "too many requests under way",
};

const HEADERS_IN = {
  "X-Tenant-ID": "Admin keys only: the tenant to act for.",
  "X-Consistency": "one, quorum or all; `consistency` in body or query wins.",
  "X-Continuum-Frontier": "Of an earlier answer: reads at least what that one wrote or saw.",
  "Idempotency-Key": "A retry with the same key counts once, on any node, however late it is. For 7 days it gets the answer of the first.",
};
const HEADERS_OUT = {
  "X-Continuum-Frontier": "Send it back to read your writes at level one.",
  "X-Continuum-Consistency": "The level that was met.",
  "X-Continuum-Acks": "replicas=2,witnesses=0",
};

interface Operation {
  operationId: string;
  summary: string;
  parameters?: unknown[];
  responses: Record<string, unknown>;
  security?: unknown[];
}

/** Must be registered before the routes. */
export async function openapiPages(app: FastifyInstance, version: string): Promise<void> {
  const routes = new Map<string, RouteOptions>();
  app.addHook("onRoute", (route) => {
    const id = (route.schema as { operationId?: string } | undefined)?.operationId;
    if (id !== undefined && route.method !== "HEAD") routes.set(id, route);
  });
  await app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "CONTINUUM node",
        version,
        description:
          "A federated memory for AI agents. Any node answers for any tenant. Every refusal is application/problem+json with a stable `code`.",
        license: { name: "Apache-2.0", identifier: "Apache-2.0" } as { name: string },
      },
      servers: [{ url: "/", description: "This node" }],
      tags: TAGS,
      components: {
        securitySchemes: {
          apiKey: { type: "apiKey", in: "header", name: "X-API-Key" },
          bearer: { type: "http", scheme: "bearer" },
        },
      },
    },
    transformObject: (document) => {
      const drawn = (document as unknown as { openapiObject: Drawn }).openapiObject;
      complete(drawn, routes);
      return drawn as never;
    },
  });
  await app.register(swaggerUi, {
    routePrefix: "/docs",
    uiConfig: { layout: "BaseLayout", deepLinking: true, persistAuthorization: false, validatorUrl: null },
    staticCSP: true,
    transformStaticCSP: () => CSP,
  });
  app.get(
    "/openapi.json",
    {
      schema: {
        operationId: "getOpenapi",
        tags: ["node"],
        summary: "This document",
        response: { 200: { description: "OpenAPI 3.1", type: "object", additionalProperties: true } },
      },
    },
    (_request, reply) => reply.header("content-type", "application/json; charset=utf-8").serializer(String).send(documentText(app)),
  );
}

/** Nothing from elsewhere, ever. Swagger's page styles itself inline. */
const CSP =
  "default-src 'self'; base-uri 'self'; object-src 'none'; frame-ancestors 'self'; img-src 'self' data:; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'";

const texts = new WeakMap<FastifyInstance, string>();
function documentText(app: FastifyInstance): string {
  const known = texts.get(app) ?? JSON.stringify(app.swagger());
  texts.set(app, known);
  return known;
}

interface Drawn {
  paths: Record<string, Record<string, Operation>>;
  components: { schemas?: Record<string, unknown>; [other: string]: unknown };
}

/** Adds to every operation what all of its kind have: refusals, headers, who may call. */
function complete(document: Drawn, routes: ReadonlyMap<string, RouteOptions>): void {
  document.components.schemas = { ...document.components.schemas, Problem: PROBLEM_SCHEMA };
  for (const operation of Object.values(document.paths).flatMap((methods) => Object.values(methods))) {
    const route = routes.get(operation.operationId);
    if (route === undefined) continue;
    const { door, access = "public" } = route.config ?? {};
    operation.security = access === "public" ? [] : [{ apiKey: [] }, { bearer: [] }, {}];
    operation.responses = { ...operation.responses, ...refusals(codesOf(route)) };
    const headers =
      access === "public" ? [] : door === "write" ? Object.keys(HEADERS_IN) : door === "read" ? Object.keys(HEADERS_IN).slice(0, 3) : [];
    const parameters = headers.map((name) => ({
      name,
      in: "header",
      required: false,
      description: HEADERS_IN[name as keyof typeof HEADERS_IN],
      schema: { type: "string" },
    }));
    if (parameters.length > 0) operation.parameters = [...(operation.parameters ?? []), ...parameters];
    const ok = operation.responses["200"] as { description: string; headers?: unknown };
    if (ok.description === "Default Response") ok.description = operation.summary;
    if (door !== undefined) {
      ok.headers = Object.fromEntries(Object.entries(HEADERS_OUT).map(([name, description]) => [name, { description, schema: { type: "string" } }]));
    }
  }
}

function codesOf(route: RouteOptions): ApiCode[] {
  const { door, access = "public" } = route.config ?? {};
  const schema = route.schema ?? {};
  const codes: ApiCode[] = ["bad_request", "method_not_allowed", "internal"];
  if (access !== "public") codes.push("unauthorized", "forbidden", "validation_failed", "no_quorum", "catching_up", "overloaded");
  if (schema.body !== undefined) codes.push("bad_json", "payload_too_large", "unsupported_media_type");
  if (schema.querystring !== undefined) codes.push("validation_failed");
  if (schema.params !== undefined) codes.push("not_found");
  if (door === "write") codes.push("conflict", "idempotency_key_reused", "in_doubt", "clock_skew");
  return [...new Set(codes)];
}

function refusals(codes: readonly ApiCode[]): Record<string, unknown> {
  const byStatus = Map.groupBy(codes, (code) => API_CODES[code]);
  return Object.fromEntries(
    [...byStatus].map(([status, group]) => [
      String(status),
      {
        description: group.map((code) => `\`${code}\`: ${MEANINGS[code]}`).join("; "),
        content: { [PROBLEM_TYPE]: { schema: { $ref: "#/components/schemas/Problem" } } },
      },
    ]),
  );
}
