import type { Scenario } from "./scenario.ts";
import { killed } from "./scenarios/01-killed.ts";
import { cut } from "./scenarios/04-cut.ts";
import { doubt } from "./scenarios/09-doubt.ts";
import { grey } from "./scenarios/10-grey.ts";

/** By the number of the fault. */
export const SCENARIOS: readonly Scenario[] = [killed, cut, doubt, grey];
