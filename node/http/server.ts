/** The memory API on port 8420: routes, who may call them, and how a refusal looks. Knows the memory only through the Router. */
import cors from "@fastify/cors";
import Fastify, { type FastifyInstance, type FastifyReply, type FastifyRequest, type RawRequestDefaultExpression } from "fastify";
import { HTTP_BODY_MAX_BYTES } from "../../protocol/limits.ts";
import type { Config } from "../config.ts";
import { ApiError } from "../errors.ts";
import type { LayoutAdmin } from "../layout-admin.ts";
import type { Metrics } from "../metrics.ts";
import type { Log, Router, System } from "../ports.ts";
import type { SecretAdmin } from "../secret-admin.ts";
import type { Readiness } from "../status.ts";
import { Auth, type Caller, requireAdmin } from "./auth.ts";
import { conceptRoutes } from "./concepts.ts";
import { decisionRoutes } from "./decisions.ts";
import { Door } from "./door.ts";
import { entityRoutes } from "./entities.ts";
import { type FederationActions, federationRoutes, type StatusSource } from "./federation.ts";
import { federationSecretRoutes } from "./federation-secrets.ts";
import { healthRoutes, type NodeChecks } from "./health.ts";
import { keyRoutes } from "./keys.ts";
import { KnownPaths } from "./known-paths.ts";
import { layoutRoutes } from "./layout.ts";
import { learnRoutes } from "./learn.ts";
import { memoryRoutes } from "./memories.ts";
import { batchRoutes } from "./memories-batch.ts";
import { messageRoutes } from "./messages.ts";
import { metricsRoutes } from "./metrics.ts";
import { openapiPages } from "./openapi.ts";
import { apiErrorOf, rawProblem, sendProblem, validationError } from "./problem.ts";
import { queryCoercion } from "./query-types.ts";
import { recallRoutes } from "./recall.ts";
import { sessionRoutes } from "./sessions.ts";
import { statsRoutes } from "./stats.ts";
import { turnRoutes } from "./turn.ts";

/** What listens: `await server.listen({ host, port })`, `await server.close()`. */
export type HttpServer = FastifyInstance;

export interface HttpOptions {
  readonly config: Pick<Config, "requireApiKey" | "apiKeys" | "tenant" | "corsOrigins" | "timeoutMs">;
  readonly log: Log;
  readonly router: Router;
  readonly metrics: Metrics;
  readonly system: System;
  /** Of this program, for /v1/health and the OpenAPI document. */
  readonly version: string;
  readonly status: StatusSource;
  readonly layout: Pick<LayoutAdmin, "queue" | "history" | "preview" | "apply" | "dial">;
  readonly secrets: Pick<SecretAdmin, "view" | "revoke" | "readmit">;
  readonly repair: FederationActions["repair"];
  readonly readiness: () => Readiness | Promise<Readiness>;
  readonly checks: () => NodeChecks | Promise<NodeChecks>;
}

/** Time for a client to send its headers, and its whole request: a slow client holds a socket no longer. */
const HEADERS_TIMEOUT_MS = 10_000;
const REQUEST_TIMEOUT_MS = 60_000;
/** Longer than the usual 60 s of a load balancer, so that it is never we who close first. */
const KEEP_ALIVE_TIMEOUT_MS = 72_000;
/** A name of 500 characters. */
const PARAM_MAX_CHARS = 2000;

/** Not listening yet: `await app.listen({ host, port })`; `app.close()` answers what is under way and closes idle connections. */
export async function createHttp(options: HttpOptions): Promise<HttpServer> {
  const { config, log, router, metrics, system } = options;
  const door = new Door(router, system, metrics, config.timeoutMs);
  const auth = new Auth({ door, system, requireApiKey: config.requireApiKey, apiKeys: config.apiKeys, tenant: config.tenant });
  const unmatched = metrics.http.observer("*", "unmatched");
  const app = Fastify({
    logger: false,
    bodyLimit: HTTP_BODY_MAX_BYTES,
    requestTimeout: REQUEST_TIMEOUT_MS,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT_MS,
    forceCloseConnections: "idle",
    // Fastify's own 503 is no problem+json; what comes through while this closes is answered by the router, which knows when it cannot.
    return503OnClosing: false,
    http: { headersTimeout: HEADERS_TIMEOUT_MS },
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: PARAM_MAX_CHARS },
    ajv: { customOptions: { coerceTypes: false, allErrors: true, removeAdditional: false } },
    schemaErrorFormatter: (errors, part) => validationError(errors, part),
    genReqId: requestIds(system),
    clientErrorHandler: (error, socket) => {
      const code = error.code === "HPE_HEADER_OVERFLOW" ? "headers_too_large" : "bad_request";
      if (socket.writable && error.code !== "ECONNRESET")
        socket.end(rawProblem(new ApiError(code, "This is not an HTTP request this node can read.")));
      else socket.destroy();
    },
    // Refused before any hook ran.
    frameworkErrors: (error, request, reply) => {
      reply.header("x-request-id", request.id);
      refuse(log, error, request, reply);
      unmatched(reply.statusCode, reply.elapsedTime);
    },
  });
  app.addHook("onListen", async () => auth.start());
  // Idle connections are closed when it begins to close; one that is answered after that would keep it for as long as its client likes.
  app.addHook("preClose", async () => {
    auth.stop();
    app.server.keepAliveTimeout = 1;
  });
  app.decorateRequest("caller", null as unknown as Caller);
  acceptJson(app);
  const paths = new KnownPaths();
  app.addHook("onRoute", (route) => {
    paths.add(route);
    const observe = metrics.http.observer([route.method].flat().join(","), route.url);
    route.onResponse = [
      ...[route.onResponse ?? []].flat(),
      (_request, reply, done) => {
        observe(reply.statusCode, reply.elapsedTime);
        done();
      },
    ];
    const coercion = queryCoercion(route);
    if (coercion !== undefined) route.preValidation = [...[route.preValidation ?? []].flat(), coercion];
  });
  app.addHook("onRequest", (request, reply, done) => {
    reply.header("x-request-id", request.id);
    done();
  });
  app.setErrorHandler((error, request, reply) => refuse(log, error, request, reply));
  app.setNotFoundHandler((request, reply) => {
    const methods = paths.methodsOf(request.url);
    const refusal =
      methods.length === 0
        ? new ApiError("not_found", "There is no such path; /docs lists them all.")
        : new ApiError("method_not_allowed", `This path knows ${methods.join(", ")}.`);
    if (methods.length > 0) reply.header("allow", methods.join(", "));
    sendProblem(reply, refusal);
    unmatched(refusal.status, reply.elapsedTime);
  });

  if (config.corsOrigins.length > 0) await app.register(cors, corsOptions(config.corsOrigins));
  await openapiPages(app, options.version);
  await app.register(async (open) => {
    access(open, "public");
    healthRoutes(open, options);
    metricsRoutes(open, metrics);
  });
  await app.register(async (tenants) => {
    access(tenants, "tenant");
    identify(tenants, auth);
    for (const routes of [
      learnRoutes,
      recallRoutes,
      turnRoutes,
      memoryRoutes,
      batchRoutes,
      entityRoutes,
      conceptRoutes,
      messageRoutes,
      sessionRoutes,
      decisionRoutes,
      statsRoutes,
    ]) {
      routes(tenants, door);
    }
  });
  await app.register(async (admins) => {
    access(admins, "admin");
    identify(admins, auth);
    admins.addHook("onRequest", (request, _reply, done) => {
      requireAdmin(request);
      done();
    });
    federationRoutes(admins, { status: options.status, dial: (address) => options.layout.dial(address), repair: options.repair });
    layoutRoutes(admins, () => options.status({ fingerprints: false }), options.layout, door);
    federationSecretRoutes(admins, options.secrets, door);
    keyRoutes(admins, door);
  });
  await app.ready();
  return app;
}

/** Who may call the routes of a scope; the OpenAPI document reads it. */
function access(scope: FastifyInstance, who: "public" | "tenant" | "admin"): void {
  scope.addHook("onRoute", (route) => {
    route.config = { ...route.config, access: who };
  });
}

function identify(scope: FastifyInstance, auth: Auth): void {
  scope.addHook("onRequest", (request, reply, done) => {
    const found = auth.identify(request);
    const enter = (caller: Caller): void => {
      request.caller = caller;
      if (caller.unconfirmed) reply.header("x-continuum-key-unconfirmed", "true");
      done();
    };
    if (found instanceof Promise) found.then(enter, done);
    else enter(found);
  });
}

/**
 * JSON only, as it is: nothing is inflated here, so that no body can become more than HTTP_BODY_MAX_BYTES. An empty body with the JSON type (a DELETE of
 * some clients) is no body.
 */
function acceptJson(app: FastifyInstance): void {
  const parse = app.getDefaultJsonParser("error", "error");
  app.removeAllContentTypeParsers();
  app.addContentTypeParser("application/json", { parseAs: "string" }, (request, body, done) => {
    const encoding = request.headers["content-encoding"] ?? "identity";
    if (encoding !== "identity") done(new ApiError("unsupported_media_type", `A body is taken as it is, not with Content-Encoding ${encoding}.`));
    else if (body === "") done(null, undefined);
    else parse(request, body as string, done);
  });
}

function refuse(log: Log, error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const refusal = apiErrorOf(error);
  if (refusal === undefined)
    log.error(
      { requestId: request.id, method: request.method, route: request.routeOptions?.url ?? "", fault: describeFault(error) },
      "request failed",
    );
  sendProblem(reply, refusal ?? new ApiError("internal", `Something went wrong here; the log has it under ${request.id}.`));
}

/** Where it happened. The message of a parser's error quotes what it parsed, which may be somebody's memory: left out. */
function describeFault(error: unknown): object {
  if (!(error instanceof Error)) return { name: typeof error };
  const at = (error.stack ?? "").split("\n").filter((line) => line.trimStart().startsWith("at "));
  return { name: error.name, ...(error instanceof SyntaxError ? {} : { message: error.message }), at: at.slice(0, 12) };
}

/** The client's X-Request-Id where it is one, else one that is unique over starts. */
function requestIds(system: System): (request: RawRequestDefaultExpression) => string {
  const start = Buffer.from(system.randomBytes(6)).toString("base64url");
  let count = 0;
  return (request) => {
    const sent = request.headers["x-request-id"];
    return typeof sent === "string" && /^[\w.:@/+=-]{1,128}$/.test(sent) ? sent : `${start}-${(count++).toString(36)}`;
  };
}

function corsOptions(origins: readonly string[]): object {
  return {
    origin: origins.includes("*") ? "*" : [...origins],
    methods: ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"],
    allowedHeaders: [
      "content-type",
      "authorization",
      "x-api-key",
      "x-tenant-id",
      "x-consistency",
      "x-continuum-frontier",
      "x-request-id",
      "idempotency-key",
    ],
    exposedHeaders: [
      "x-continuum-frontier",
      "x-continuum-consistency",
      "x-continuum-acks",
      "x-continuum-key-unconfirmed",
      "x-request-id",
      "retry-after",
    ],
    maxAge: 600,
  };
}
