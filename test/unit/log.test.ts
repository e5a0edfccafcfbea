import { describe, expect, it } from "vitest";
import { createLog } from "../../node/log.ts";

function written(level: "debug" | "info" | "warn" | "error", say: (log: ReturnType<typeof createLog>) => void): Record<string, unknown>[] {
  const lines: string[] = [];
  say(createLog({ level, pretty: false, destination: { write: (line) => void lines.push(line) } }));
  return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
}

describe("the log", () => {
  it("writes one JSON line with time, level in words, message and facts", () => {
    const [line] = written("info", (log) => log.info({ deltaCount: 3 }, "delta accepted"));
    expect(line).toEqual({
      level: "info",
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/),
      deltaCount: 3,
      message: "delta accepted",
    });
  });

  it("leaves out what is below its level", () => {
    const lines = written("warn", (log) => {
      log.debug({}, "a");
      log.info({}, "b");
      log.warn({}, "c");
      log.error({}, "d");
    });
    expect(lines.map((line) => line.level)).toEqual(["warn", "error"]);
  });
});
