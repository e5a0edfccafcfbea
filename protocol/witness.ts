/**
 * What a witness may forget, and when its mark may rise without bytes: only up to what *every* full replica of the partition has reported after fsync.
 * Earlier, the sealed bytes here could be the only second copy.
 */
import type { Batch } from "./effects.ts";
import type { Head } from "./frontier.ts";
import type { Partition, WriterId } from "./ids.ts";

/** @param reports one a full replica of each group that counts: its head on this stream, undefined when it has told nothing */
export function witnessMay(partition: Partition, writer: WriterId, mark: Head, forgotten: number, reports: readonly (Head | undefined)[]): Batch[] {
  let least: Head | undefined;
  for (const report of reports) {
    if (report === undefined) return [];
    if (least === undefined || report.seq < least.seq) least = report;
    else if (report.seq === least.seq && least.hash === "") least = report;
  }
  if (least === undefined || least.seq === 0) return [];
  const batches: Batch[] = [];
  const known = least;
  const oneHistory = reports.every((report) => report?.seq !== known.seq || report.hash === "" || report.hash === known.hash);
  if (known.seq > mark.seq && known.hash !== "" && oneHistory) batches.push({ type: "mark", head: { partition, writer, ...known } });
  const seq = Math.min(known.seq, Math.max(mark.seq, batches.length > 0 ? known.seq : 0));
  if (seq > forgotten) batches.push({ type: "forget", partition, writer, seq });
  return batches;
}
