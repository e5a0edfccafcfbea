/**
 * One input, one verdict. What must hold for every decoder and every input: it throws nothing but the errors its table names; what it reads is written as
 * it came; it takes a bounded time a byte.
 */
import fc from "fast-check";
import { DECODERS, type Decoder } from "./decoders.ts";
import { inputsFor } from "./inputs.ts";

/** Processor time for one input, ms: room for the largest frame that four bytes can announce. What seems slow is measured again: the collector runs when it likes. */
const TIME_MAX_MS = 25;
const TIME_MAX_MS_A_KB = 1;
const TRIES = 5;

export interface Tally {
  /** Inputs that were read. */
  read: number;
  /** Inputs that were refused, by class and code. */
  readonly refused: Map<string, number>;
}

/** @throws Error saying what does not hold */
export function look(decoder: Decoder, input: Uint8Array, tally: Tally): void {
  const before = Buffer.from(input).toString("latin1");
  const begun = performance.now();
  const outcome = run(decoder, input);
  const allowed = TIME_MAX_MS + (input.length / 1024) * TIME_MAX_MS_A_KB;
  if (performance.now() - begun > allowed) {
    const fastest = Math.min(...Array.from({ length: TRIES }, () => processorMs(() => run(decoder, input))));
    if (fastest > allowed) throw new Error(`takes ${fastest.toFixed(1)} ms for ${input.length} bytes`);
  }
  if (Buffer.from(input).toString("latin1") !== before) throw new Error("changed what it was given");
  if (outcome.error !== undefined) {
    const name = nameOf(outcome.error);
    if (!decoder.mayThrow.includes(name)) throw outcome.error;
    tally.refused.set(name, (tally.refused.get(name) ?? 0) + 1);
    return;
  }
  tally.read++;
  if (outcome.written !== undefined && Buffer.compare(outcome.written, input) !== 0)
    throw new Error(`read, and written as ${Buffer.from(outcome.written).toString("hex").slice(0, 400)}`);
}

function run(decoder: Decoder, input: Uint8Array): { written?: Uint8Array | undefined; error?: unknown } {
  try {
    return { written: decoder.readAndWrite(input) };
  } catch (error) {
    return { error };
  }
}

/** Of this thread: others on a busy machine do not count. */
function processorMs(measured: () => void): number {
  const before = process.threadCpuUsage();
  measured();
  const { user, system } = process.threadCpuUsage(before);
  return (user + system) / 1000;
}

function nameOf(error: unknown): string {
  return error instanceof Error ? `${error.name} ${(error as { code?: string }).code ?? ""}` : "no Error";
}

/** @param seed the same seed is the same inputs. @throws Error of fast-check, with the smallest input that fails and how to replay it */
export function fuzz(decoder: Decoder, count: number, seed: number): Tally {
  const others = DECODERS.flatMap((other) => (other.isCbor ? other.samples : []));
  const tally: Tally = { read: 0, refused: new Map() };
  fc.assert(
    fc.property(inputsFor([...decoder.samples, ...(decoder.refused ?? [])], others, decoder.isCbor), (input) => look(decoder, input, tally)),
    { numRuns: count, seed },
  );
  return tally;
}
