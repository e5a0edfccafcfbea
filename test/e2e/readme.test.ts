/** What the README tells a reader to type, typed, on a real federation; only the ports are others. */
import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { resolve } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { type Federation, startFederation } from "./federation.ts";

const ROOT = resolve(import.meta.dirname, "../..");
const readme = readFileSync(resolve(ROOT, "README.md"), "utf8");
let federation: Federation;
beforeAll(async () => {
  federation = await startFederation();
}, 60_000);
afterAll(() => federation?.stop());

/** A shell block and, where one follows, the JSON it is said to print. */
const examples = [...readme.matchAll(/```sh\n(curl[\s\S]*?)```(?:\n```json\n([\s\S]*?)```)?/g)].map(([, command, output]) => ({
  command: command as string,
  output,
}));

test("each curl of the README answers with the fields it shows", () => {
  expect(examples.length).toBeGreaterThanOrEqual(2);
  for (const { command, output } of examples) {
    const answer = JSON.parse(sh(here(command)));
    expect(answer, command).not.toHaveProperty("code");
    if (output !== undefined) expect(Object.keys(answer)).toEqual(Object.keys(JSON.parse(output)));
  }
});

test("the README's command lines work", () => {
  const commands = [...readme.matchAll(/`(npm run -s continuum -- [^`]*)`/g)].map(([, command]) => command as string);
  expect(commands.length).toBeGreaterThanOrEqual(3);
  for (const command of commands) expect(sh(`${command} --url ${federation.urls[0]}`)).not.toBe("");
});

function here(command: string): string {
  return command.replace(/http:\/\/127\.0\.0\.1:84([234])0/g, (_, digit) => federation.urls[Number(digit) - 2] as string);
}

function sh(command: string): string {
  return execFileSync("bash", ["-c", command], { cwd: ROOT, encoding: "utf8", timeout: 30_000 });
}
