/**
 * `npm run bench:recall`: how many of the passages that answer a question come back. Learns passages through the API (one POST /v1/memories each, the
 * title as entity), asks every question at `quorum` with 20 memories, and prints recall@5/10/20 beside the published figures of BM25.
 * Exit 1 when the whole selection falls below those.
 */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { ask } from "../e2e/ask.ts";
import { startFederation } from "../e2e/federation.ts";

const USAGE = `npm run bench:recall -- [--data FOLDER] [--url http://127.0.0.1:8420] [--key cm_...] [--titles entity|text]
FOLDER holds passages.jsonl {id, title, text} and questions.jsonl {question, supporting: [ids]}; without it an excerpt of five questions is used.
--url asks a running node (in a tenant of its own, so its caller must be an admin); without it a federation of three is started and stopped.
--titles text stores every title only as the beginning of its text.`;

interface Passage {
  readonly id: number;
  readonly title: string;
  readonly text: string;
}
interface Question {
  readonly question: string;
  readonly supporting: readonly number[];
}
type Recall = readonly [at5: number, at10: number, at20: number];

const CUTS = [5, 10, 20] as const;
/** Recall in percent on the whole selection (1,890 passages, 100 questions): plain BM25, and BM25 with stems and stop words. */
const PUBLISHED: readonly (readonly [name: string, recall: Recall])[] = [
  ["BM25", [48.8, 59.0, 68.9]],
  ["BM25, stems", [49.4, 57.6, 71.5]],
];
/** The lower of the two at each cut. */
const FLOOR: Recall = [48.8, 57.6, 68.9];
/** Fewer questions than this are a demonstration, not a measurement: nothing is compared. */
const QUESTIONS_MIN = 50;
const CLIENTS = 16;
const EXCERPT = resolve(import.meta.dirname, "data/musique");
/** One entity for all, where titles are to be text only. */
const COMMON_ENTITY = "Wikipedia";

interface Target {
  readonly urls: readonly string[];
  readonly headers: Readonly<Record<string, string>>;
}

async function main(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      data: { type: "string", default: EXCERPT },
      url: { type: "string" },
      key: { type: "string" },
      titles: { type: "string", default: "entity" },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) {
    console.log(USAGE);
    return 0;
  }
  if (values.titles !== "entity" && values.titles !== "text") throw new Error(`--titles is entity or text, not ${values.titles}`);
  const passages = readLines<Passage>(join(values.data, "passages.jsonl"));
  const questions = readLines<Question>(join(values.data, "questions.jsonl"));
  const own = values.url === undefined ? await startFederation({ nodes: 3 }) : undefined;
  try {
    const headers = { "x-tenant-id": `bench-recall-${randomUUID()}`, ...(values.key !== undefined && { "x-api-key": values.key }) };
    return await measure({ urls: own?.urls ?? [values.url as string], headers }, passages, questions, values.titles === "entity");
  } finally {
    await own?.stop();
  }
}

async function measure(target: Target, passages: readonly Passage[], questions: readonly Question[], titleIsEntity: boolean): Promise<number> {
  const passageOf = new Map<string, number>();
  const learning = performance.now();
  await inParallel(passages, async (passage, n) => {
    const body = titleIsEntity
      ? { entity: passage.title, content: passage.text }
      : { entity: COMMON_ENTITY, content: `${passage.title}: ${passage.text}` };
    const { id } = await request<{ id: string }>(target, n, "/v1/memories", { ...body, consistency: "quorum" });
    passageOf.set(id, passage.id);
  });
  const learntMs = performance.now() - learning;
  const found: Recall[] = [];
  const asking = performance.now();
  for (const [n, { question, supporting }] of questions.entries()) {
    const { memories } = await request<{ memories: { id: string }[] }>(target, n, "/v1/recall", {
      message: question,
      max_memories: 20,
      consistency: "quorum",
    });
    found.push(
      recallOf(
        memories.map(({ id }) => passageOf.get(id)),
        supporting,
      ),
    );
  }
  const askedMs = performance.now() - asking;
  console.log(
    `${passages.length} passages learnt at quorum in ${(learntMs / 1000).toFixed(1)} s (${Math.round((passages.length * 1000) / learntMs)}/s, ${CLIENTS} clients)`,
  );
  console.log(`${questions.length} questions asked at quorum, ${(askedMs / questions.length).toFixed(1)} ms each, one after the other\n`);
  return report(found);
}

/** @returns exit code */
function report(found: readonly Recall[]): number {
  const half = Math.ceil(found.length / 2);
  const all = mean(found);
  const rows: (readonly [string, Recall])[] = [
    ["all", all],
    [`first ${half}`, mean(found.slice(0, half))],
    [`other ${found.length - half}`, mean(found.slice(half))],
    ...(found.length < QUESTIONS_MIN ? [] : PUBLISHED),
  ];
  console.log(["recall in percent", "@5", "@10", "@20"].map(cell).join(""));
  for (const [name, recall] of rows) console.log([name, ...recall.map((value) => value.toFixed(1))].map(cell).join(""));
  if (found.length < QUESTIONS_MIN) {
    console.log(`\n${found.length} questions show that it works, not how well: BM25 is published for the whole selection (--data).`);
    return 0;
  }
  const missed = CUTS.filter((_, i) => all[i]! < FLOOR[i]!);
  if (missed.length > 0) console.error(`\nbelow BM25 at ${missed.join(", ")}`);
  return missed.length > 0 ? 1 : 0;
}

function cell(text: string, column: number): string {
  return column === 0 ? text.padEnd(20) : text.padStart(7);
}

function recallOf(answered: readonly (number | undefined)[], supporting: readonly number[]): Recall {
  return CUTS.map((cut) => {
    const top = new Set(answered.slice(0, cut));
    return (100 * supporting.filter((id) => top.has(id)).length) / supporting.length;
  }) as unknown as Recall;
}

function mean(all: readonly Recall[]): Recall {
  return CUTS.map((_, i) => all.reduce((sum, recall) => sum + recall[i]!, 0) / Math.max(1, all.length)) as unknown as Recall;
}

/** @throws Error what the node said, when it is not 200 */
async function request<T>({ urls, headers }: Target, n: number, path: string, body: object): Promise<T> {
  const answer = await ask<T>(urls[n % urls.length]!, "POST", path, { body, headers, timeoutMs: 60_000 });
  if (answer.status !== 200) throw new Error(`${path} answered ${answer.status}: ${JSON.stringify(answer.body)}`);
  return answer.body;
}

async function inParallel<T>(items: readonly T[], work: (item: T, n: number) => Promise<void>): Promise<void> {
  const rest = items.entries();
  await Promise.all(
    Array.from({ length: CLIENTS }, async () => {
      for (const [n, item] of rest) await work(item, n);
    }),
  );
}

function readLines<T>(file: string): T[] {
  return readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as T);
}

try {
  process.exitCode = await main(process.argv.slice(2));
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  process.exitCode = 1;
}
