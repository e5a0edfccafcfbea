import type { End, Stage, StageOptions } from "./stage.ts";

/** A fault of the list in the README, as real processes meet it. */
export interface Scenario {
  /** 1 to 12, as in the list. */
  readonly fault: number;
  readonly name: string;
  /** What is played and what must hold, in a sentence or two. */
  readonly says: string;
  /** It measures times: nothing else of ours runs beside it. */
  readonly alone?: true;
  readonly stage: (quick: boolean) => Omit<StageOptions, "seed" | "story">;
  /** Why this machine cannot play it; undefined: it can. */
  readonly missing?: () => string | undefined;
  /** Plays the faults; then the stage is healed and judged. @param quick for CI: the same, shorter */
  readonly play: (stage: Stage, quick: boolean) => Promise<End | undefined>;
}
