/** What an assistant commits to, as sentences: "I will ...", "I decided to ...", "We chose ...", "My plan is ...". */
import { prose } from "./prose.ts";
import { sentences } from "./text.ts";

/** A longer sentence is cut; more commitments than this in one answer are a list of steps, and the first ones carry it. */
const DECISION_MAX_CHARS = 300;
const DECISIONS_MAX = 10;

const WE = String.raw`\b(?:i|we)`;
const ADVERB = String.raw`(?:\s+(?:now|then|also|therefore|thus|just|first|next|instead|finally|definitely|already|ultimately|always|both|all|jointly|have|had))*`;
const COMMITMENTS: readonly RegExp[] = [
  new RegExp(String.raw`${WE}(?:\s+will|\s+shall|['’]ll)${ADVERB}\s+(?<verb>[a-z]+)`, "i"),
  new RegExp(
    String.raw`${WE}(?:['’]ve)?${ADVERB}\s+(?:decided|chose|chosen|opted|settled|agreed|committed|resolved|picked|selected|concluded)\b`,
    "i",
  ),
  new RegExp(
    String.raw`${WE}(?:['’]m|['’]re|\s+am|\s+are|\s+was|\s+were)${ADVERB}\s+(?:going\s+to\s+(?<verb>[a-z]+)|going\s+with\b|planning\s+(?:to|on)\b|committed\s+to\b)`,
    "i",
  ),
  new RegExp(
    String.raw`^(?:(?:so|then|therefore|thus|for\s+now|instead|finally),?\s+)?(?:i|we)${ADVERB}\s+(?:plan|intend|propose|choose|commit|went\s+with|go\s+with)(?:\s+(?:to|on|for|that)\b|\s+(?:the|a|an|our)\b|\s+\p{Lu})`,
    "iu",
  ),
  /\b(?:my|our|the)\s+(?:final\s+|next\s+|current\s+)?(?:plan|decision|choice|intention|conclusion)\s+(?:is|was|will be)\b/i,
  /^(?:decision|decided|resolution)\s*:\s*\S/i,
  /\b(?:it\s+(?:is|was)|it['’]s)\s+(?:decided|agreed|settled)\b/i,
];

/** Courtesies, hedges and observations that only look like a commitment. */
const NO_COMMITMENT = new Set("be say admit note not never need see know assume guess bet miss love hope like wish wonder".split(" "));
const CONDITIONAL = /^(?:if|when|whenever|should|unless|whether)\b|\b(?:if|whether|before|after|once|until|unless)\s+(?:i|we)\b/i;

/** @returns sentences in order, without repetition */
export function decisionsIn(text: string): string[] {
  const found = new Set<string>();
  for (const sentence of sentences(prose(text))) {
    if (found.size >= DECISIONS_MAX) break;
    const plain = sentence.replace(/\s+/g, " ").trim();
    if (isCommitment(plain)) found.add(plain.length > DECISION_MAX_CHARS ? `${plain.slice(0, DECISION_MAX_CHARS - 1)}…` : plain);
  }
  return [...found];
}

function isCommitment(sentence: string): boolean {
  if (/[?？]["'”’)]*$/.test(sentence) || CONDITIONAL.test(sentence)) return false;
  return COMMITMENTS.some((pattern) => {
    const match = pattern.exec(sentence);
    return match !== null && !NO_COMMITMENT.has(match.groups?.verb?.toLowerCase() ?? "");
  });
}
