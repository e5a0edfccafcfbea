/**
 * What is left of a message once everything that is not prose is set aside: fenced and inline code, URLs, HTML, headings, tables and markdown signs.
 * Only the search for concepts and decisions reads prose; search by words reads the whole text.
 */
const MAY_HOLD_MARKUP = /[`<#*_[|~>=]|:\/\/|www\.|^[ \t]*[-+•]\s|^[ \t]*\d+[.)]\s|\n {4}|\n\t/m;

/** A full stop keeps what stood before and after apart. */
const GAP = " . ";

/** Longer texts are books: what they are about shows in the beginning. The words of the whole text are still indexed. */
const PROSE_MAX_CHARS = 20_000;

/** Of the first PROSE_MAX_CHARS. Every pattern is bounded or cannot overlap itself: hostile text costs time in proportion to its length. */
export function prose(text: string): string {
  const start = text.length > PROSE_MAX_CHARS ? text.slice(0, PROSE_MAX_CHARS) : text;
  if (!MAY_HOLD_MARKUP.test(start)) return start;
  return (
    start
      .replace(/(```|~~~)[\s\S]*?(?:\1|$)/g, GAP)
      .replace(/`[^`\n]*`/g, GAP)
      .replace(/!?\[([^[\]\n]{0,200})\]\([^()\n]{0,500}\)/g, "$1")
      .replace(/(?:\b[a-z][a-z0-9+.-]*:\/\/|\bwww\.)[^\s)>\]]+/gi, GAP)
      .replace(/<!--[^<]*-->|<\/?[a-zA-Z][^<>\n]*>/g, GAP)
      .replace(/^(?: {4}|\t).*$/gm, GAP)
      // A heading's capitals say nothing about names; neither does a line that is only a table rule.
      .replace(/^[ \t]{0,3}#{1,6}\s.*$|^.+\n[ \t]*(?:={3,}|-{3,})[ \t]*$|^[ \t|:-]+$/gm, GAP)
      .replace(/^[ \t]*(?:>+|[-+*•]|\d+[.)])[ \t]+/gm, "\n")
      .replace(/\|/g, GAP)
      .replace(/(\*\*|__|~~)(?=\S)([^\n]*?\S)\1/g, "$2")
      .replace(/(?<![\p{L}\p{N}_*])[*_](?=\S)([^*_\n]+)[*_](?![\p{L}\p{N}_*])/gu, "$1")
  );
}
