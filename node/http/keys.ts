/** /v1/keys and /v1/tenants: who may use the memory. For admins. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import Type, { type Static } from "typebox";
import { SYSTEM_TENANT } from "../../protocol/ids.ts";
import { hashOfKey, newApiKey } from "../api-key.ts";
import { ApiError } from "../errors.ts";
import type { CreateKeyAnswer, CreateKeyArgs, KeyScope } from "../keys.ts";
import { type Door, setLevel } from "./door.ts";
import { fieldError } from "./problem.ts";
import { ConsistencyQuery, IdParams, NullableText, OptionalConsistency, OptionalName, OptionalTime, Tenant } from "./schemas.ts";
import { checkTime } from "./text-rules.ts";

const Scope = ["tenant", "admin"];
const KeyBody = Type.Object({
  tenant_id: Tenant,
  name: OptionalName,
  expires_at: OptionalTime,
  scope: Type.Optional(Type.Unsafe<KeyScope | null>({ type: ["string", "null"], enum: [...Scope, null], default: "tenant" })),
  consistency: OptionalConsistency,
});
const KeyView = Type.Object({
  id: Type.String(),
  tenant_id: Type.String(),
  name: Type.String(),
  scope: Type.String(),
  created_at: Type.String(),
  expires_at: NullableText,
  revoked_at: NullableText,
});
const CreatedAnswer = Type.Object({
  api_key: Type.String(),
  tenant_id: Type.String(),
  message: Type.String(),
  id: Type.String(),
  name: Type.String(),
  scope: Type.String(),
  expires_at: NullableText,
});

export function keyRoutes(app: FastifyInstance, door: Door): void {
  app.post<{ Body: Static<typeof KeyBody> }>(
    "/v1/keys",
    {
      config: { door: "write" },
      schema: {
        operationId: "createKey",
        tags: ["keys"],
        summary: "Create an API key; it is shown once",
        querystring: ConsistencyQuery,
        body: KeyBody,
        response: { 200: CreatedAnswer },
      },
    },
    async (request, reply) => {
      const { tenant_id, name, expires_at, scope } = request.body;
      refuseLimits(request.body);
      const apiKey = newApiKey((length) => door.randomBytes(length));
      const args: CreateKeyArgs = {
        hash: hashOfKey(apiKey),
        tenant_id,
        name: name ?? "",
        scope: scope ?? "tenant",
        expires_at: checkTime(expires_at, ["body", "expires_at"]) ?? null,
      };
      const created = await runSystem<CreateKeyAnswer>(door, request, reply, "create_key", args, door.keyOf(request));
      if (created.hash !== args.hash) {
        throw new ApiError(
          "conflict",
          `This request has already created ${created.id}, and a key is shown only once. Revoke it and create another with a new Idempotency-Key.`,
        );
      }
      return { ...created, api_key: apiKey, message: "Store this key now: it is not shown again." };
    },
  );
  app.get(
    "/v1/keys",
    {
      config: { door: "read" },
      schema: {
        operationId: "listKeys",
        tags: ["keys"],
        summary: "List API keys, newest first",
        querystring: ConsistencyQuery,
        response: { 200: Type.Object({ keys: Type.Array(KeyView), total: Type.Integer() }) },
      },
    },
    (request, reply) => runSystem(door, request, reply, "list_keys", {}, ""),
  );
  app.delete<{ Params: Static<typeof IdParams> }>(
    "/v1/keys/:id",
    {
      config: { door: "write" },
      schema: {
        operationId: "revokeKey",
        tags: ["keys"],
        summary: "Revoke an API key",
        params: IdParams,
        querystring: ConsistencyQuery,
        response: { 200: Type.Object({ id: Type.String(), status: Type.String() }) },
      },
    },
    (request, reply) => runSystem(door, request, reply, "revoke_key", { id: request.params.id }, door.keyOf(request)),
  );
  app.get(
    "/v1/tenants",
    {
      config: { door: "read" },
      schema: {
        operationId: "listTenants",
        tags: ["keys"],
        summary: "List tenants that were given a key",
        querystring: ConsistencyQuery,
        response: {
          200: Type.Object({
            tenants: Type.Array(Type.Object({ id: Type.String(), created_at: Type.String(), keys: Type.Integer() })),
            total: Type.Integer(),
          }),
        },
      },
    },
    (request, reply) => runSystem(door, request, reply, "list_tenants", {}, ""),
  );
}

/** Unknown fields are ignored, but a limit that somebody relies on must not be. */
function refuseLimits(body: object): void {
  for (const name of ["rate_limit", "daily_quota"]) {
    if ((body as Record<string, unknown>)[name] != null) throw fieldError(["body", name], "is not available in this version", "not_available");
  }
}

/** The system's records have a frontier of their own, which is no business of a tenant's client. */
async function runSystem<T>(door: Door, request: FastifyRequest, reply: FastifyReply, operation: string, args: unknown, key: string): Promise<T> {
  const outcome = await door.run<T>(operation, args, { ...door.callOf(request, key), tenant: SYSTEM_TENANT, token: undefined });
  setLevel(reply, outcome);
  return outcome.value;
}
