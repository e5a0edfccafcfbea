/** What a study is given: how much to do, and where to leave what must be stopped. */
export interface StudyRun {
  /** Undefined: the study's own default. */
  readonly deltas: number | undefined;
  readonly rounds: number | undefined;
  readonly dataDir: string | undefined;
  /** Say where the time went as well. */
  readonly profile: boolean;
  /** Stopped when the study ends, however it ends; the last first. */
  own(stop: () => void | Promise<void>): void;
  /** Progress, for whoever waits. */
  say(text: string): void;
}

export interface Verdict {
  /** Markdown. */
  readonly report: string;
  /** Profiles, never written down. */
  readonly detail?: string;
}

export function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

/** A goal as the table of writes and reads gives it. */
export function goal(text: string, reached: number, met: boolean): string {
  return `- ${text}: ${reached.toFixed(2)}, ${met ? "met" : "**missed**"}`;
}
