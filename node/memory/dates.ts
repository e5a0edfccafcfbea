/** Months and days that a question names, and how well a moment fits them. All in UTC. */
interface NamedDate {
  /** 0..11. */
  readonly month: number;
  readonly year: number | undefined;
  readonly day: number | undefined;
}

const MONTHS = "january february march april may june july august september october november december".split(" ");
/** "may" and "march" are words too: months only with a capital. */
const MONTH =
  "(January|February|March|April|May|June|July|August|September|October|November|December|january|february|april|june|july|august|september|october|november|december)";
const DAY = String.raw`(\d{1,2})(?:st|nd|rd|th)?(?!\d)`;
const YEAR = String.raw`(?:,?\s+(?:of\s+)?(\d{4})(?!\d))?`;
const DAY_FIRST = new RegExp(String.raw`\b${DAY}\s+(?:of\s+)?${MONTH}\b${YEAR}`, "g");
const MONTH_FIRST = new RegExp(String.raw`\b${MONTH}\b(?:\s+${DAY})?${YEAR}`, "g");
const ISO = /\b(\d{4})-(\d{2})-(\d{2})\b/g;

const DAY_MS = 86_400_000;
const MONTH_AFTER = 0.4;
/** What is said of a day is said on it or in the week after. */
const DAYS_AFTER = 7;

export function datesIn(question: string): NamedDate[] {
  if (!/\d{4}-\d{2}-\d{2}|[A-Za-z]{3}(?:ber|ary|ch|il|ay|ne|ly|st)\b|\bMay\b/.test(question)) return [];
  const found: NamedDate[] = [];
  for (const [, year, month, day] of question.matchAll(ISO)) found.push({ year: Number(year), month: Number(month) - 1, day: Number(day) });
  for (const [, day, month, year] of question.matchAll(DAY_FIRST)) found.push(named(month!, day, year));
  for (const [, month, day, year] of question.replace(DAY_FIRST, " ").matchAll(MONTH_FIRST)) found.push(named(month!, day, year));
  return found;
}

function named(month: string, day: string | undefined, year: string | undefined): NamedDate {
  return {
    month: MONTHS.indexOf(month.toLowerCase()),
    day: day === undefined ? undefined : Number(day),
    year: year === undefined ? undefined : Number(year),
  };
}

/** @returns 0 (no fit) to 2 (the month and the day) */
export function dateFit(dates: readonly NamedDate[], ms: number): number {
  let best = 0;
  for (const date of dates) best = Math.max(best, monthFit(date, ms) + dayFit(date, ms));
  return best;
}

function monthFit({ month, year }: NamedDate, ms: number): number {
  const at = new Date(ms);
  const months = at.getUTCFullYear() * 12 + at.getUTCMonth() - month;
  const since = year === undefined ? ((months % 12) + 12) % 12 : months - year * 12;
  return since === 0 ? 1 : since === 1 ? MONTH_AFTER : 0;
}

function dayFit({ month, year, day }: NamedDate, ms: number): number {
  if (day === undefined) return 0;
  const days = (ms - Date.UTC(year ?? new Date(ms).getUTCFullYear(), month, day)) / DAY_MS;
  return days >= 0 && days < DAYS_AFTER + 1 ? 1 : 0;
}
