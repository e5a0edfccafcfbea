/** One text of the configuration -> one value, or a sentence about what is wrong with it. The value itself is never quoted for a secret. */
import type { Setting } from "./config-table.ts";

export type Parsed = { readonly value: unknown } | { readonly fault: string };

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/** @param label what the person wrote, e.g. "CONTINUUM_API_PORT": the sentence begins with it */
export function parseSetting(setting: Setting, label: string, text: string): Parsed {
  switch (setting.kind) {
    case "boolean":
      if (text === "true" || text === "false") return { value: text === "true" };
      return { fault: `${label} must be true or false, not ${quote(setting, text)}.` };
    case "integer":
    case "number":
      return parseNumber(setting, label, text);
    case "duration":
      return parseDuration(setting, label, text);
    case "choice":
      if (setting.choices?.includes(text) === true) return { value: text };
      return { fault: `${label} must be one of ${setting.choices?.join(", ")}, not ${quote(setting, text)}.` };
    case "text": {
      const fault = textFault(setting, label, text);
      return fault === undefined ? { value: text } : { fault };
    }
    case "list":
      return parseList(setting, label, text);
  }
}

function parseNumber(setting: Setting, label: string, text: string): Parsed {
  const whole = setting.kind === "integer";
  const value = Number(text);
  if (!(whole ? /^\d{1,15}$/ : /^\d{1,15}(?:\.\d{1,15})?$/).test(text)) {
    return { fault: `${label} must be a ${whole ? "whole number" : "number"}, not ${quote(setting, text)}.` };
  }
  return inBounds(setting, value) ? { value } : { fault: `${label} must be between ${setting.min} and ${setting.max}, not ${text}.` };
}

/** "500ms", "5s", "2m", "1h", "30d"; a bare number is seconds, as CONTINUUM meant it. @returns milliseconds */
function parseDuration(setting: Setting, label: string, text: string): Parsed {
  const match = /^(\d{1,12}(?:\.\d{1,6})?)\s*(ms|s|m|h|d)?$/.exec(text);
  if (match === null) return { fault: `${label} must be a duration such as 500ms, 5s, 2m, 1h or 30d, not ${quote(setting, text)}.` };
  const value = Number(match[1]) * (UNIT_MS[match[2] ?? "s"] ?? 1000);
  if (inBounds(setting, value)) return { value };
  return { fault: `${label} must be between ${setting.min} ms and ${setting.max} ms, and ${text} is ${value} ms.` };
}

function parseList(setting: Setting, label: string, text: string): Parsed {
  const items = text
    .split(",")
    .map((item) => item.trim())
    .filter((item) => item !== "");
  if (setting.itemsMax !== undefined && items.length > setting.itemsMax) {
    return { fault: `${label} lists ${items.length} items; at most ${setting.itemsMax} are possible.` };
  }
  const twice = items.findIndex((item, index) => items.indexOf(item) !== index);
  if (twice >= 0) return { fault: `${label} lists ${setting.secret === true ? "one secret" : quote(setting, items[twice] ?? "")} twice.` };
  for (const [index, item] of items.entries()) {
    const fault = textFault(setting, items.length > 1 ? `Item ${index + 1} of ${label}` : label, item);
    if (fault !== undefined) return { fault };
  }
  return { value: Object.freeze(items) };
}

function textFault(setting: Setting, label: string, text: string): string | undefined {
  if (setting.charsMin !== undefined && text.length < setting.charsMin) {
    return `${label} has ${text.length} characters and needs at least ${setting.charsMin}; a good one is made by: openssl rand -base64 32`;
  }
  if (setting.charsMax !== undefined && text.length > setting.charsMax) {
    return `${label} has ${text.length} characters and may have at most ${setting.charsMax}.`;
  }
  if (setting.pattern !== undefined && !setting.pattern.test(text)) return `${label} must be ${setting.shape}, not ${quote(setting, text)}.`;
  if (/[\u0000-\u001f\u007f]/.test(text)) return `${label} holds a control character.`;
  return undefined;
}

function inBounds(setting: Setting, value: number): boolean {
  return value >= (setting.min ?? Number.NEGATIVE_INFINITY) && value <= (setting.max ?? Number.POSITIVE_INFINITY);
}

function quote(setting: Setting, text: string): string {
  if (setting.secret === true) return "what it holds";
  return `"${text.length > 60 ? `${text.slice(0, 57)}...` : text}"`;
}

/** The known name a person most likely meant: least edit distance, the first of equals. */
export function nearestName(name: string, known: readonly string[]): string {
  let best = known[0] ?? "";
  let least = Number.POSITIVE_INFINITY;
  for (const candidate of known) {
    const distance = editDistance(name, candidate);
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

/** Levenshtein 1965, one row at a time. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const swap = (row[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(swap, (row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1));
    }
    row = next;
  }
  return row[b.length] ?? 0;
}
