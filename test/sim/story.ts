/** What happened in a run, line by line, for a person: a frame sent to several nodes is one line, and what reached a disk is named as clients name it. */
import type { Federation, SimNode } from "./federation.ts";
import { frameWords } from "./raw-frame.ts";
import type { Scheduler } from "./scheduler.ts";
import type { Entries } from "./sim-disk.ts";

export class Story {
  readonly #scheduler: Scheduler;
  readonly #federation: Federation;
  readonly #out: (line: string) => void;
  /** A frame whose line waits for the same words to other nodes in the same moment. */
  #said: { readonly at: number; readonly from: SimNode; readonly words: string; readonly to: string[] } | undefined;

  /** Takes over the lines of the scheduler. */
  constructor(scheduler: Scheduler, federation: Federation, out: (line: string) => void) {
    this.#scheduler = scheduler;
    this.#federation = federation;
    this.#out = out;
    scheduler.story = (line) => this.#line(scheduler.now, line);
  }

  frame(moment: "sent" | "arrived" | "lost", from: SimNode, to: SimNode, frame: Uint8Array): void {
    if (moment === "arrived") return;
    const words = frameWords(frame, (writer) => this.#federation.nameOf(writer));
    if (words === undefined) return;
    if (moment === "lost") {
      this.#line(this.#scheduler.now, `lost: ${from.name} to ${to.name}: ${words}`);
      return;
    }
    const said = this.#said;
    if (said?.at === this.#scheduler.now && said.from === from && said.words === words) {
      said.to.push(to.name);
      return;
    }
    this.end();
    this.#said = { at: this.#scheduler.now, from, words, to: [to.name] };
  }

  disk(moment: "begun" | "complete", node: SimNode, entries: Entries): void {
    if (moment === "begun") return;
    const rows = [...entries].map(([key, value]) => this.#row(key, value !== undefined)).filter((row) => row !== undefined);
    if (rows.length > 0) this.#line(this.#scheduler.now, `${node.name}'s disk has ${rows.join(", ")}`);
  }

  /** Nothing more comes. */
  end(): void {
    const said = this.#said;
    this.#said = undefined;
    if (said !== undefined) this.#line(said.at, `${said.from.name} to ${said.to.join(", ")}: ${said.words}`);
  }

  #line(at: number, text: string): void {
    this.end();
    this.#out(`t=${(at / 1000).toFixed(4)}s  ${text}`);
  }

  #row(key: string, isThere: boolean): string | undefined {
    const [kind, partition, writer, seq] = key.split("/") as [string, string, string, string];
    const name = (): string => `${Number(partition)}:${this.#federation.nameOf(writer)}/${Number.parseInt(seq, 16)}`;
    if (kind === "d") return isThere ? name() : `${name()} no more`;
    if (kind === "s") return isThere ? `${name()} sealed` : `${name()} no more`;
    return NAMED_ROWS.has(key) ? key.slice(1) : undefined;
  }
}

const NAMED_ROWS: ReadonlySet<string> = new Set(["!layout", "!formation", "!vote", "!incarnation", "!counted"]);
