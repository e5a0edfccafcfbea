/** /v1/federation/secrets, and shutting nodes out. For admins. */
import type { FastifyInstance } from "fastify";
import Type, { type Static } from "typebox";
import { NODE_ID_MAX_CHARS } from "../../protocol/limits.ts";
import type { SecretAdmin } from "../secret-admin.ts";
import type { Door } from "./door.ts";
import { NullableText, nullable } from "./schemas.ts";

const Text = Type.String();
const Params = Type.Object({ id: Type.String({ minLength: 1, maxLength: NODE_ID_MAX_CHARS, description: "A node's name or id." }) });
const RevokedView = Type.Object({
  node: Text,
  name: Text,
  revoked_at: Text,
  secrets: Type.Array(Text),
  complete: Type.Boolean({ description: "No node known here has a secret that it knew." }),
});
const NodeView = Type.Object({
  id: Text,
  name: Text,
  member: Type.Boolean(),
  connected: Type.Boolean(),
  secret_ids: Type.Array(Text, { description: "Public ids, the one it seals with first." }),
  sealed_under_others: Type.Unsafe<Record<string, number>>({ type: "object", additionalProperties: { type: "integer" } }),
});
const ChangeView = Type.Object({
  id: Text,
  change: Type.Unsafe<object>({ type: "object", additionalProperties: true }),
  outcome: Text,
  reason: Text,
  asked_at: Text,
  ended_at: NullableText,
  node: Text,
});

export function federationSecretRoutes(app: FastifyInstance, admin: Pick<SecretAdmin, "view" | "revoke" | "readmit">, door: Door): void {
  app.get(
    "/v1/federation/secrets",
    {
      config: { door: "read" },
      schema: {
        operationId: "getSecrets",
        tags: ["federation"],
        summary: "Which node knows which secret, by public ids; what is still sealed under another; who was shut out",
        response: {
          200: Type.Object({
            secrets: Type.Array(Type.Object({ id: Text, known_since: NullableText })),
            nodes: Type.Array(NodeView),
            revoked: Type.Array(RevokedView),
          }),
        },
      },
    },
    async () => admin.view(),
  );
  app.get(
    "/v1/federation/revoked",
    {
      config: { door: "read" },
      schema: {
        operationId: "listRevokedNodes",
        tags: ["federation"],
        summary: "Nodes that are shut out",
        response: { 200: Type.Object({ revoked: Type.Array(RevokedView), total: Type.Integer() }) },
      },
    },
    async () => {
      const { revoked } = admin.view();
      return { revoked, total: revoked.length };
    },
  );
  app.delete<{ Params: Static<typeof Params> }>(
    "/v1/federation/peers/:id",
    {
      config: { door: "write" },
      schema: {
        operationId: "revokeNode",
        tags: ["federation"],
        summary: "Shut a node out for good, and take it out of the layout",
        params: Params,
        response: { 200: Type.Object({ revoked: RevokedView, change: nullable(ChangeView), not_removed: NullableText }) },
      },
    },
    async (request) => admin.revoke(request.params.id, { key: door.keyOf(request), requestId: request.id, deadline: door.deadline() }),
  );
  app.delete<{ Params: Static<typeof Params> }>(
    "/v1/federation/revoked/:id",
    {
      config: { door: "write" },
      schema: {
        operationId: "readmitNode",
        tags: ["federation"],
        summary: "Let a node in again that was shut out",
        params: Params,
        response: { 200: Type.Object({ node: Text, name: Text, revoked_at: Text, readmitted_at: NullableText }) },
      },
    },
    async (request) => admin.readmit(request.params.id, { key: door.keyOf(request), requestId: request.id, deadline: door.deadline() }),
  );
}
