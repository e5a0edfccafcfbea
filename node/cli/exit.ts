/** How the command line ends. The table is printed by `continuum --help`; the numbers never change meaning. */
export const EXIT = {
  ok: 0,
  /** The node answered and refused, or a start failed. */
  failed: 1,
  /** The command line or the configuration is wrong. */
  usage: 2,
  /** No node answered, or it cannot at the moment (503): trying again may help. */
  unavailable: 3,
} as const;

/** A failure that is one sentence to a person. `code` is the node's own (API codes) or ours. */
export class CliError extends Error {
  readonly exit: number;
  readonly code: string;
  constructor(sentence: string, exit: number = EXIT.failed, code = "failed") {
    super(sentence);
    this.name = "CliError";
    this.exit = exit;
    this.code = code;
  }
}
