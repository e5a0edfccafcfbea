/**
 * What is left of a message once everything that is not prose is set aside: fenced and inline code, URLs, HTML, headings, tables and markdown signs.
 * Only the search for concepts and decisions reads prose; search by words reads the whole text.
 */
const MAY_HOLD_MARKUP = /[`<#*_[|~>=]|:\/\/|www\.|^\s*[-+•]\s|^\s*\d+[.)]\s|\n {4}|\n\t/m;

/** A full stop keeps what stood before and after apart. */
const GAP = " . ";

export function prose(text: string): string {
  if (!MAY_HOLD_MARKUP.test(text)) return text;
  return (
    text
      .replace(/(```|~~~)[\s\S]*?(?:\1|$)/g, GAP)
      .replace(/`[^`\n]*`/g, GAP)
      .replace(/!?\[([^\]\n]*)\]\([^)\n]*\)/g, "$1")
      .replace(/(?:\b[a-z][a-z0-9+.-]*:\/\/|\bwww\.)[^\s)>\]]+/gi, GAP)
      .replace(/<!--[\s\S]*?-->|<\/?[a-zA-Z][^<>\n]*>/g, GAP)
      .replace(/^(?: {4}|\t).*$/gm, GAP)
      // A heading's capitals say nothing about names; neither does a line that is only a table rule.
      .replace(/^\s{0,3}#{1,6}\s.*$|^.+\n\s*(?:={3,}|-{3,})\s*$|^[\s|:-]+$/gm, GAP)
      .replace(/^\s*(?:>+|[-+*•]|\d+[.)])\s+/gm, "\n")
      .replace(/\|/g, GAP)
      .replace(/(\*\*|__|~~)(?=\S)([^\n]*?\S)\1/g, "$2")
      .replace(/(?<![\p{L}\p{N}_*])[*_](?=\S)([^*_\n]+)[*_](?![\p{L}\p{N}_*])/gu, "$1")
  );
}
