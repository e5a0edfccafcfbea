import type { Scenario } from "./scenario.ts";
import { killed } from "./scenarios/01-killed.ts";
import { diskLost } from "./scenarios/02-disk-lost.ts";
import { oldCopy } from "./scenarios/03-old-copy.ts";
import { cut } from "./scenarios/04-cut.ts";
import { layoutChange } from "./scenarios/05-layout-change.ts";
import { views } from "./scenarios/06-views.ts";
import { clocks } from "./scenarios/07-clocks.ts";
import { forgotten } from "./scenarios/08-forgotten.ts";
import { doubt } from "./scenarios/09-doubt.ts";
import { grey } from "./scenarios/10-grey.ts";
import { corrupt } from "./scenarios/11-corrupt.ts";
import { secrets } from "./scenarios/12-secrets.ts";
import { upgrade } from "./scenarios/12-upgrade.ts";

/** By the number of the fault; of one fault there may be two. */
export const SCENARIOS: readonly Scenario[] = [
  killed,
  diskLost,
  oldCopy,
  cut,
  layoutChange,
  views,
  clocks,
  forgotten,
  doubt,
  grey,
  corrupt,
  secrets,
  upgrade,
];
