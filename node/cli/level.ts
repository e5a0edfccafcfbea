/** The consistency a command asks for and what it got. */
import { type Command, Option } from "commander";
import { LEVELS, type Level } from "../../protocol/ids.ts";

export interface LevelOption {
  readonly level?: Level;
}

export function addLevelOption(command: Command): Command {
  return command.addOption(
    new Option("--level <level>", "how many members must answer; the federation's own default where not given").choices(LEVELS),
  );
}

/** "" or "?consistency=quorum" */
export function levelQuery({ level }: LevelOption): string {
  return level === undefined ? "" : `?consistency=${level}`;
}

/** "quorum: replicas=2, witnesses=0", from the headers of an answer */
export function receipt(headers: Headers): string {
  const level = headers.get("x-continuum-consistency") ?? "unknown level";
  const acks = headers.get("x-continuum-acks")?.replaceAll(",", ", ");
  return acks === undefined ? level : `${level}: ${acks}`;
}
