import { describe, expect, it } from "vitest";
import { SCENARIOS } from "./scenarios.ts";
import { Stage } from "./stage.ts";

describe("the simulator plays", () => {
  for (const scenario of SCENARIOS) {
    it(scenario.name, async () => {
      expect(await scenario.play(new Stage(undefined, scenario.nodeCount))).toEqual([]);
    });
  }
});
