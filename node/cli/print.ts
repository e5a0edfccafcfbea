/** What commands write to standard output: JSON for machines, aligned columns for people. */

/** One line, so that `| while read` works; indented where a person looks at it. */
export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, process.stdout.isTTY ? 2 : undefined));
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

/** Columns as wide as their widest cell, two spaces between them, no trailing spaces. */
export function drawTable(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const lines = [head, ...rows];
  const widths = head.map((_, column) => Math.max(...lines.map((line) => (line[column] ?? "").length)));
  return lines
    .map((line) =>
      line
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join("  ")
        .trimEnd(),
    )
    .join("\n");
}

/** "1 concept", "2 concepts" */
export function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? "" : "s"}`;
}
