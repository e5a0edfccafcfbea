import { type Command, InvalidArgumentError } from "commander";
import { addClientOptions, type ClientOptions, callApi } from "./client.ts";
import { addLevelOption, type LevelOption, levelQuery, receipt } from "./level.ts";
import { counted, print, printJson } from "./print.ts";

interface RecallOptions extends ClientOptions, LevelOption {
  readonly session?: string;
  readonly maxConcepts?: number;
}
interface RecallAnswer {
  readonly context: string;
  readonly concepts_found: number;
  readonly relationships_found: number;
  readonly query_time_ms: number;
  readonly concepts: readonly { readonly name: string; readonly score: number; readonly why: unknown }[];
  readonly memories: readonly { readonly id: string; readonly text: string; readonly score: number; readonly why?: unknown; readonly node: string }[];
}

export function addRecall(program: Command): void {
  const command = program
    .command("recall")
    .description("what the memory knows about a message, and why it thinks so")
    .argument("<message>", "a question or any text")
    .option("--session <id>", "the session whose turns are context")
    .option("--max-concepts <count>", "1 to 100", wholeNumber);
  addLevelOption(addClientOptions(command)).action(recall);
}

async function recall(message: string, options: RecallOptions): Promise<void> {
  const { body, headers } = await callApi<RecallAnswer>(options, {
    method: "POST",
    path: `/v1/recall${levelQuery(options)}`,
    body: {
      message,
      ...(options.session === undefined ? {} : { session_id: options.session }),
      ...(options.maxConcepts === undefined ? {} : { max_concepts: options.maxConcepts }),
    },
  });
  if (options.json) return printJson(body);
  print(drawRecall(body));
  print(`${counted(body.concepts_found, "concept")}, ${counted(body.relationships_found, "link")} in ${body.query_time_ms} ms · ${receipt(headers)}`);
}

function drawRecall({ memories, concepts }: RecallAnswer): string {
  if (memories.length === 0 && concepts.length === 0) return "Nothing is remembered about this.\n";
  const told = memories.map(({ text, score, why, node }) => `  ${text.replaceAll("\n", "\n  ")}\n    ${reason(score, why)}, learnt on ${node}`);
  const named = concepts.map(({ name, score, why }) => `  ${name}\n    ${reason(score, why)}`);
  const sections = [told.length > 0 ? `Remembered:\n${told.join("\n")}\n` : "", named.length > 0 ? `Concepts:\n${named.join("\n")}\n` : ""];
  return sections.filter((section) => section !== "").join("\n");
}

function reason(score: number, why: unknown): string {
  return `${score.toFixed(2)}${why === undefined ? "" : ` ${whyInWords(why)}`}`;
}

/** Facts by their names, what is empty or false left out: `{named: true, words: ["bees"], links: []}` -> "(named; words: bees)". */
function whyInWords(why: unknown): string {
  if (typeof why !== "object" || why === null) return `(${String(why)})`;
  const parts = Object.entries(why).flatMap(([key, value]) => {
    const name = key.replaceAll("_", " ");
    if (typeof value === "boolean") return value ? [name] : [];
    const items = (Array.isArray(value) ? value : value === null || value === undefined ? [] : [value]).map(itemInWords);
    return items.length === 0 ? [] : [`${name}: ${items.join(", ")}`];
  });
  return parts.length === 0 ? "" : `(${parts.join("; ")})`;
}

/** A link as "bees - honey 0.15"; anything else by its values. */
function itemInWords(item: unknown): string {
  if (typeof item !== "object" || item === null) return String(item);
  const { from, to, strength, ...rest } = item as Record<string, unknown>;
  return from === undefined || to === undefined ? Object.values(item).join(" ") : [`${from} - ${to}`, strength, ...Object.values(rest)].join(" ");
}

function wholeNumber(text: string): number {
  if (!/^\d+$/.test(text)) throw new InvalidArgumentError("It must be a whole number.");
  return Number(text);
}
