/**
 * Who may import whom (HOUSE-STYLE "what each layer never imports", DESIGN 10), checked on the source text: import lines, and the words by
 * which code would reach for time, chance, the environment or the console. Text is enough, because each rule is about a name.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";

export interface Source {
  /** From the top of the project, with forward slashes: "node/http/learn.ts". */
  readonly path: string;
  readonly text: string;
}
export interface Violation {
  readonly path: string;
  readonly rule: string;
  readonly found: string;
}
interface Rule {
  readonly name: string;
  readonly applies: (path: string) => boolean;
  /** Of each import: a path inside the project, or the name of a package or of a part of Node. */
  readonly forbidsImport?: (target: string) => boolean;
  readonly forbidsWord?: RegExp;
}
interface Exception {
  readonly path: string;
  readonly rule: string;
  readonly reason: string;
}

/** A parameter or a method may be called randomBytes: what counts is where it comes from. */
const IMPORTED_CHANCE = String.raw`\bimport\b[^;]*\b(?:randomBytes|randomUUID|randomInt|randomFill\w*|webcrypto)\b[^;]*\bfrom\b|\bcrypto\.(?:random|getRandom)\w+`;
const TIME_AND_CHANCE = new RegExp(
  String.raw`(?<![.\w$])(?:Date\.now|Math\.random|setTimeout|setInterval|performance\.now)\b|(?<![.\w$])new Date\(\s*\)|process\.hrtime|${IMPORTED_CHANCE}`,
);
const PURE = new RegExp(
  String.raw`(?<![.\w$])(?:Date|Math\.random|setTimeout|setInterval|setImmediate|queueMicrotask|performance|process|console|globalThis|fetch|async|await|Promise|require)\b(?!\s*:)|\bimport\s*\(|${IMPORTED_CHANCE}`,
);
const OWN_LAYERS = ["crypto", "protocol", "node", "test", "deploy"];

export const RULES: readonly Rule[] = [
  {
    name: "crypto imports only itself, node:crypto and the noble libraries",
    applies: within("crypto"),
    forbidsImport: (target) => !(target === "node:crypto" || target.startsWith("@noble/") || within("crypto")(target)),
  },
  {
    name: "crypto is synchronous bytes in, bytes out",
    applies: within("crypto"),
    forbidsWord: PURE,
  },
  {
    name: "protocol imports only crypto, itself, cborg and the noble libraries",
    applies: within("protocol"),
    forbidsImport: (target) => !(target === "cborg" || target.startsWith("@noble/") || within("protocol", "crypto")(target)),
  },
  {
    name: "protocol is pure: no clock, chance, timer, process, console or promise",
    applies: within("protocol"),
    forbidsWord: PURE,
  },
  { name: "nothing that ships imports test or deploy", applies: within("crypto", "protocol", "node"), forbidsImport: within("test", "deploy") },
  { name: "crypto and protocol never import node", applies: within("crypto", "protocol"), forbidsImport: within("node") },
  { name: "http never meets store or net", applies: within("node/http"), forbidsImport: within("node/store", "node/net") },
  { name: "store never meets net or http", applies: within("node/store"), forbidsImport: within("node/net", "node/http") },
  {
    name: "net never looks inside a message, and knows neither store nor memory nor http",
    applies: within("node/net"),
    forbidsImport: (target) =>
      within("node/http", "node/store", "node/memory", "protocol/graph")(target) ||
      /^protocol\/(?:replica|message|delta|frame|barrier)\b/.test(target),
  },
  { name: "memory never meets store, net or http", applies: within("node/memory"), forbidsImport: within("node/store", "node/net", "node/http") },
  { name: "LevelDB has one door, store", applies: outside("node", "node/store"), forbidsImport: oneOf("level", "classic-level", "abstract-level") },
  {
    name: "sockets have one door, net",
    applies: outside("node", "node/net"),
    forbidsImport: (target) => /^(?:libp2p|@libp2p\/.*|@multiformats\/.*|node:net|ws|node:tls|node:dgram|node:dns.*)$/.test(target),
  },
  {
    name: "the web framework has one door, http",
    applies: outside("node", "node/http"),
    forbidsImport: (target) => /^(?:fastify|@fastify\/.*)$/.test(target),
  },
  { name: "metrics have one door, metrics.ts", applies: outside("node", "node/metrics.ts"), forbidsImport: oneOf("prom-client") },
  {
    name: "the environment has one door, config.ts",
    applies: outside("node", "node/config.ts", "node/cli"),
    forbidsWord: /(?<![.\w$])process\.env\b/,
  },
  {
    name: "time and chance have one door, system.ts",
    applies: outside("node", "node/system.ts", "node/cli"),
    forbidsWord: TIME_AND_CHANCE,
    forbidsImport: (target) => /^node:timers/.test(target),
  },
];

/** Each with its reason; one that is no longer needed fails the test. */
export const EXCEPTIONS: readonly Exception[] = [
  {
    path: "node/log.ts",
    rule: "time and chance have one door, system.ts",
    reason: "A log line carries the machine's own time, also before a System exists; nothing is decided by it.",
  },
  {
    path: "node/main.ts",
    rule: "time and chance have one door, system.ts",
    reason: "A failed command must end even if a part it opened keeps the process alive; no node is running then.",
  },
  {
    path: "node/cli/federation.ts",
    rule: "sockets have one door, net",
    reason: "npm start tries each port before it starts anything; nothing is ever sent.",
  },
];

export function findViolations(sources: readonly Source[], exceptions: readonly Exception[] = EXCEPTIONS): Violation[] {
  const all = sources.flatMap(violationsOf);
  return all.filter(({ path, rule }) => !exceptions.some((exception) => exception.path === path && exception.rule === rule));
}

function violationsOf(source: Source): Violation[] {
  const code = blankComments(source.text);
  const targets = importsOf(source.path, code);
  const words = blankStrings(code);
  return RULES.filter((rule) => rule.applies(source.path)).flatMap((rule) => {
    const imports = targets.filter((target) => rule.forbidsImport?.(target) === true).map((target) => `imports ${target}`);
    const word = rule.forbidsWord?.exec(words)?.[0];
    return [...imports, ...(word === undefined ? [] : [`uses ${word.trim()}`])].map((found) => ({ path: source.path, rule: rule.name, found }));
  });
}

/** @returns every .ts file below the folders, node_modules and data excepted */
export function readSources(root: string, folders: readonly string[] = OWN_LAYERS): Source[] {
  return folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
      .map((name) => `${folder}/${name.replaceAll("\\", "/")}`)
      .filter((path) => path.endsWith(".ts") && !path.includes("node_modules/"))
      .map((path) => ({ path, text: readFileSync(join(root, path), "utf8") })),
  );
}

/** @param code without comments @returns what `import`, `export ... from` and `import(...)` name; relative ones as paths from the top */
export function importsOf(path: string, code: string): string[] {
  const found = [...code.matchAll(/(?<![.\w$])(?:import|export)\b(?:[^"'`;]*?\bfrom)?\s*\(?\s*["']([^"'\n]+)["']/g)].map((match) => match[1]!);
  return found.map((target) => (target.startsWith(".") ? normalize(join(dirname(path), target)).replaceAll("\\", "/") : target));
}

export function blankComments(text: string): string {
  return scan(text, (kind, part) => (kind === "comment" ? part.replace(/[^\n]/g, " ") : part));
}

export function blankStrings(text: string): string {
  return scan(text, (kind, part) => (kind === "string" ? part.replace(/[^\n]/g, " ") : part));
}

/** Cuts source text into comments, strings (regular expressions too) and code. The inside of `${}` is code again. */
function scan(text: string, turn: (kind: "comment" | "string" | "code", part: string) => string): string {
  const token =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`|(?<=(?:^|[=(,:[!&|?{};\n>]|return)\s*)\/(?![/*])(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n[])+\/[a-z]*/g;
  let out = "";
  let at = 0;
  for (let match = token.exec(text); match !== null; match = token.exec(text)) {
    out += turn("code", text.slice(at, match.index));
    if (match[0] === "`") {
      const end = endOfTemplate(text, match.index + 1);
      out += template(text.slice(match.index, end), turn);
      at = end;
    } else {
      out += turn(/^\/[/*]/.test(match[0]) ? "comment" : "string", match[0]);
      at = match.index + match[0].length;
    }
    token.lastIndex = at;
  }
  return out + turn("code", text.slice(at));
}

function template(literal: string, turn: (kind: "comment" | "string" | "code", part: string) => string): string {
  let out = "";
  let at = 0;
  for (let open = literal.indexOf("${"); open !== -1; open = literal.indexOf("${", at)) {
    const close = endOfBraces(literal, open + 2);
    out += turn("string", literal.slice(at, open + 2)) + scan(literal.slice(open + 2, close), turn);
    at = close;
  }
  return out + turn("string", literal.slice(at));
}

/** @returns just after the closing backtick */
function endOfTemplate(text: string, start: number): number {
  for (let at = start; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === "`") return at + 1;
    else if (text.startsWith("${", at)) at = endOfBraces(text, at + 2);
  }
  return text.length;
}

/** @returns where the brace that closes lies */
function endOfBraces(text: string, start: number): number {
  let depth = 1;
  for (let at = start; at < text.length; at++) {
    const char = text[at];
    if (char === "{") depth++;
    else if (char === "}" && --depth === 0) return at;
    else if (char === "`") at = endOfTemplate(text, at + 1) - 1;
    else if (char === '"' || char === "'") {
      for (at++; at < text.length && text[at] !== char; at++) if (text[at] === "\\") at++;
    }
  }
  return text.length;
}

function within(...folders: string[]): (path: string) => boolean {
  return (path) => folders.some((folder) => path === folder || path.startsWith(`${folder}/`));
}

/** In `folder`, but not in its parts that are the door. */
function outside(folder: string, ...doors: string[]): (path: string) => boolean {
  return (path) => within(folder)(path) && !within(...doors)(path);
}

function oneOf(...names: string[]): (target: string) => boolean {
  return (target) => names.some((name) => target === name || target.startsWith(`${name}/`));
}
