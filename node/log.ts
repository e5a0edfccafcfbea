/**
 * The one logger: JSON lines for machines, readable lines for a terminal. Memory contents, keys and secrets never reach it: callers pass
 * ids, counts and durations.
 */
import { pino } from "pino";
import pretty from "pino-pretty";
import type { Log } from "./ports.ts";

export interface LogOptions {
  readonly level: "debug" | "info" | "warn" | "error" | "silent";
  /** Readable lines instead of JSON. Default: standard output is a terminal. */
  readonly pretty?: boolean;
  /** Where lines go. Default: standard output. */
  readonly destination?: { write(line: string): void };
}

/** Each line: `{"timestamp": ISO 8601, "level": "info", "message": ..., ...facts}`. */
export function createLog(options: LogOptions): Log {
  const settings = {
    level: options.level,
    base: null,
    messageKey: "message",
    timestamp: () => `,"timestamp":"${new Date().toISOString()}"`,
    formatters: { level: (label: string) => ({ level: label }) },
  };
  const readable = options.pretty ?? process.stdout.isTTY === true;
  if (readable) {
    const stream = pretty({
      colorize: process.stdout.isTTY === true,
      messageKey: "message",
      timestampKey: "timestamp",
      translateTime: "HH:MM:ss.l",
      singleLine: true,
      sync: true,
    });
    return pino(settings, stream);
  }
  return options.destination === undefined ? pino(settings) : pino(settings, options.destination);
}
