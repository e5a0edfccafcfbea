import { describe, expect, it } from "vitest";
import { API_CODES } from "../../node/errors.ts";
import { createApi } from "./http-api.ts";

interface Operation {
  operationId: string;
  summary: string;
  tags: string[];
  parameters?: { name: string; in: string; required?: boolean; schema: object }[];
  requestBody?: { content: Record<string, { schema: object }> };
  responses: Record<string, { description: string; content?: Record<string, { schema: { $ref?: string } }> }>;
}
interface Document {
  openapi: string;
  info: { title: string; version: string };
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, { properties: { code: { enum: string[] } } }>; securitySchemes: object };
}

/** Every path and method of API.md that this version has. */
const PROMISED = `
GET /v1/health
GET /v1/ready
POST /v1/learn
POST /v1/recall
POST /v1/turn
POST /v1/memories
GET /v1/memories
GET /v1/memories/{id}
PUT /v1/memories/{id}
PATCH /v1/memories/{id}
DELETE /v1/memories/{id}
POST /v1/memories/search
POST /v1/memories/batch
GET /v1/stats
GET /v1/entities
GET /v1/concepts/{name}
GET /v1/concepts/{name}/graph
GET /v1/messages
POST /v1/messages/search
GET /v1/decisions
GET /v1/sessions
POST /v1/keys
GET /v1/keys
DELETE /v1/keys/{id}
GET /v1/tenants
GET /v1/federation
GET /v1/federation/peers
POST /v1/federation/peers
DELETE /v1/federation/peers/{id}
GET /v1/federation/secrets
GET /v1/federation/revoked
DELETE /v1/federation/revoked/{id}
GET /v1/federation/layout
POST /v1/federation/layout
POST /v1/federation/drain
POST /v1/federation/repair
GET /v1/federation/stats
GET /metrics
GET /openapi.json`
  .trim()
  .split("\n");

async function load(): Promise<Document> {
  const answer = await (await createApi()).call("GET", "/openapi.json");
  expect(answer.status).toBe(200);
  return answer.json;
}
function operations(document: Document): [name: string, operation: Operation][] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]): [string, Operation] => [`${method.toUpperCase()} ${path}`, operation]),
  );
}

describe("the OpenAPI document", () => {
  it("is 3.1 and has exactly the routes that are served", async () => {
    const document = await load();
    expect(document.openapi).toBe("3.1.0");
    expect(
      operations(document)
        .map(([name]) => name)
        .sort(),
    ).toEqual([...PROMISED].sort());
  });

  it("gives every operation a name of its own, a summary, a described answer and problems for its refusals", async () => {
    const all = operations(await load());
    expect(new Set(all.map(([, operation]) => operation.operationId)).size).toBe(all.length);
    for (const [name, operation] of all) {
      expect([name, operation.summary.length > 0, operation.tags.length]).toEqual([name, true, 1]);
      expect([name, operation.responses["200"]?.content !== undefined]).toEqual([name, true]);
      expect([name, operation.responses["200"]?.description]).not.toEqual([name, "Default Response"]);
      for (const [status, response] of Object.entries(operation.responses)) {
        if (status === "200" || (status === "503" && name === "GET /v1/ready")) continue;
        expect([name, status, response.content?.["application/problem+json"]?.schema.$ref]).toEqual([name, status, "#/components/schemas/Problem"]);
      }
      if (operation.requestBody !== undefined) {
        for (const status of ["400", "413", "415", "422"])
          expect([name, status, operation.responses[status] !== undefined]).toEqual([name, status, true]);
        expect(operation.requestBody.content["application/json"]?.schema).toMatchObject({ type: "object" });
      }
      if (name.startsWith("GET /v1/memories/") || name.startsWith("DELETE")) expect(operation.responses["404"]).toBeDefined();
    }
  });

  it("names every code once and says for writes what in doubt means", async () => {
    const document = await load();
    expect(document.components.schemas.Problem?.properties.code.enum).toEqual(Object.keys(API_CODES));
    for (const [name, operation] of operations(document)) {
      const codes = operation.responses["503"]?.description ?? "";
      if (operation.parameters?.some((parameter) => parameter.name === "Idempotency-Key") === true)
        expect([name, codes.includes("in_doubt")]).toEqual([name, true]);
    }
    expect(document.paths["/v1/learn"]?.post?.parameters?.map(({ name }) => name)).toEqual([
      "consistency",
      "X-Tenant-ID",
      "X-Consistency",
      "X-Continuum-Frontier",
      "Idempotency-Key",
    ]);
  });

  it("declares every parameter of a path and refers to nothing that is missing", async () => {
    const document = await load();
    for (const [name, operation] of operations(document)) {
      const inPath = [...name.matchAll(/\{(\w+)\}/g)].map((match) => match[1]);
      expect(operation.parameters?.filter((parameter) => parameter.in === "path").map((parameter) => parameter.name) ?? []).toEqual(inPath);
      const names = (operation.parameters ?? []).map((parameter) => `${parameter.in} ${parameter.name}`);
      expect(new Set(names).size).toBe(names.length);
    }
    for (const [, reference] of JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)) {
      const found = reference!
        .slice(2)
        .split("/")
        .reduce<unknown>((at, step) => (at as Record<string, unknown> | undefined)?.[step], document);
      expect(found).toBeDefined();
    }
  });

  it("is readable as a page that loads nothing from elsewhere", async () => {
    const api = await createApi();
    const page = await api.call("GET", "/docs/");
    expect(page.status).toBe(200);
    const assets = [...page.text.matchAll(/(?:src|href)="([^"]+)"/g)].map((match) => match[1]!);
    expect(assets.length).toBeGreaterThan(3);
    for (const asset of assets) {
      expect(asset).toMatch(/^\.?\//);
      expect((await api.call("GET", new URL(asset, "http://node/docs/").pathname)).status).toBe(200);
    }
    expect(page.headers["content-security-policy"]).toMatch(/^default-src 'self';/);
    expect(page.headers["content-security-policy"]).not.toMatch(/https:|upgrade-insecure/);
    expect((await api.call("GET", "/docs")).status).toBeLessThan(400);
  });
});
