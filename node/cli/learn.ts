import type { Command } from "commander";
import { addClientOptions, type ClientOptions, callApi } from "./client.ts";
import { addLevelOption, type LevelOption, levelQuery, receipt } from "./level.ts";
import { counted, print, printJson } from "./print.ts";

interface LearnOptions extends ClientOptions, LevelOption {
  readonly session?: string;
  readonly idempotencyKey?: string;
}
interface LearnAnswer {
  readonly concepts_extracted: number;
  readonly links_created: number;
  readonly decisions_detected: number;
  readonly turn_id: string;
  readonly concepts: readonly (string | { readonly name: string })[];
}

export function addLearn(program: Command): void {
  const command = program
    .command("learn")
    .description("remember one turn of a conversation")
    .argument("<said>", "what the user said")
    .argument("<answered>", "what the assistant answered")
    .option("--session <id>", "the session the turn belongs to")
    .option("--idempotency-key <key>", "makes a retry count once, on any node");
  addLevelOption(addClientOptions(command)).action(learn);
}

async function learn(said: string, answered: string, options: LearnOptions): Promise<void> {
  const { body, headers } = await callApi<LearnAnswer>(options, {
    method: "POST",
    path: `/v1/learn${levelQuery(options)}`,
    body: { user_message: said, ai_response: answered, ...(options.session === undefined ? {} : { metadata: { session_id: options.session } }) },
    headers: options.idempotencyKey === undefined ? {} : { "idempotency-key": options.idempotencyKey },
  });
  if (options.json) return printJson(body);
  const names = body.concepts.map((concept) => (typeof concept === "string" ? concept : concept.name)).join(", ");
  print(`Learnt ${counted(body.concepts_extracted, "concept")} and ${counted(body.links_created, "link")}${names === "" ? "" : `: ${names}`}`);
  print(`${body.turn_id} · ${receipt(headers)}`);
}
