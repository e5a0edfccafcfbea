/** What a frame says, read byte by byte without the product's code: only the tables of numbers of protocol/ are shared knowledge. */
import { decode } from "cborg";

const MESSAGES = [
  "",
  "hello",
  "formation",
  "layout",
  "push",
  "held",
  "want",
  "repair",
  "ask",
  "told",
  "forward",
  "forwarded",
  "digest",
  "refused",
  "introduce",
  "compare",
  "report",
  "vote",
  "ready",
  "snapshot-want",
  "snapshot-part",
  "sealed-under",
  "succeed",
  "lives",
];
const FORMATION = ["", "prepare", "promise", "propose", "yes", "nack", "formed", "ask"];
const VOTE = ["", "prepare", "promise", "propose", "yes", "nack"];

/** A message's name; behind formation and vote the name of what they carry: "formation/propose". */
export function frameKind(frame: Uint8Array): string {
  const at = messageAt(frame);
  const name = MESSAGES[frame[at + 1] as number] ?? `message ${frame[at + 1]}`;
  if (name === "formation") return `formation/${FORMATION[carriedNumber(frame, at)] ?? "?"}`;
  if (name === "vote") return `vote/${VOTE[carriedNumber(frame, at)] ?? "?"}`;
  return name;
}

/** The barrier that an `ask` or a `told` belongs to. */
export function barrierId(frame: Uint8Array): number {
  return uintAt(frame, messageAt(frame) + 2);
}

type Row = readonly unknown[];

/** One line for a person, without who sends it and to whom. @param nameOf the name of a writer's node @returns undefined: nothing worth a line */
export function frameWords(frame: Uint8Array, nameOf: (writer: string) => string): string | undefined {
  const row = (decode(frame) as Row).at(-1) as Row;
  const head = ([partition, writer, seq]: Row): string => `${partition}:${nameOf(writer as string)}/${seq}`;
  const heads = (of: unknown): string => (of as Row[]).map(head).join(" ") || "nothing";
  const kind = frameKind(frame);
  switch (kind) {
    case "hello":
      return `says hello, knowing ${row[7] === 0 ? "no layout" : `layout ${row[7]}`}`;
    case "layout":
      return "tells its layout";
    case "push":
      return `pushes ${(row[1] as Row[]).map(([header]) => deltaName(header as Uint8Array, nameOf)).join(" ")}`;
    case "held":
      return `acks ${heads(row[1])}${row[2] === undefined || (row[2] as Row).length === 0 ? "" : `, has seen ${heads(row[2])}`}`;
    case "want":
      return `wants ${head([row[1], row[2], `${row[3]}-${row[4]}`])}`;
    case "repair": {
      const brought = (row[4] as Row[]).map(([header]) => deltaName(header as Uint8Array, nameOf));
      return `brings ${brought.join(" ") || "nothing"} of ${head([row[1], row[2], row[3]])}`;
    }
    case "ask":
      return `asks what it holds of ${row[2]}, for barrier ${String(row[1]).slice(-4)}`;
    case "told":
      return `tells barrier ${String(row[1]).slice(-4)} that it holds ${heads(row[3])}`;
    case "forward":
    case "forwarded":
      return `${kind === "forward" ? "forwards" : "answers"} request ${String(row[1]).slice(-4)}`;
    case "digest":
      return row[2] === true ? "holds something else, and asks for all heads" : undefined;
    case "refused":
      return `refuses: ${row[1]} ${row[2]}`;
    default:
      return kind.replace("/", ": ");
  }
}

function deltaName(headerBytes: Uint8Array, nameOf: (writer: string) => string): string {
  const [writer, partition, seq] = decode(headerBytes) as [string, number, number];
  return `${partition}:${nameOf(writer)}/${seq}`;
}

/** Where the message begins: it is the last item of the frame's array. */
function messageAt(frame: Uint8Array): number {
  let at = 1;
  for (let item = 1; item < (frame[0] as number) - 0x80; item++) at = behind(frame, at);
  return at;
}

/** The first number inside the byte string behind the message's own. */
function carriedNumber(frame: Uint8Array, at: number): number {
  const bytes = at + 2;
  return frame[bytes + lengthBytes(frame[bytes] as number) + 2] as number;
}

/** Behind a whole number, a string or null: all there is in front of a message. */
function behind(frame: Uint8Array, at: number): number {
  const first = frame[at] as number;
  const isString = first >> 5 === 2 || first >> 5 === 3;
  return at + 1 + lengthBytes(first) + (isString ? uintAt(frame, at) : 0);
}

/** The number that an item begins with: its value, or the length of a string. */
function uintAt(frame: Uint8Array, at: number): number {
  const more = lengthBytes(frame[at] as number);
  let value = more === 0 ? (frame[at] as number) & 31 : 0;
  for (let i = 1; i <= more; i++) value = value * 256 + (frame[at + i] as number);
  return value;
}

/** How many bytes of length follow an item's first byte. */
function lengthBytes(first: number): number {
  const info = first & 31;
  return info < 24 || first === 0xf6 ? 0 : 2 ** (info - 24);
}
