/**
 * From text to the two things that are compared: ids of concepts (folded names) and terms (stems of words).
 * Both forget case and accents. Pure functions; stems are kept in a bounded cache because text repeats its words.
 */
import { stemmer } from "stemmer";

/** Words kept with their stem. English prose of a busy node uses some 50,000 forms; beyond this the cache starts again. */
const STEM_CACHE_MAX = 100_000;
/** A word longer than this is a hash or base64, not a word anybody asks for. */
const WORD_MAX_CHARS = 64;

const PLAIN_ASCII = /^[\x20-\x7e]*$/;
const ASCII = /^[\x00-\x7f]*$/;

/**
 * The id of a concept: NFKC, lower case, Latin, Greek and Cyrillic accents off, possessive off, white space and control characters to single spaces.
 * Marks of other scripts stay: there they are vowels.
 */
export function fold(name: string): string {
  if (PLAIN_ASCII.test(name)) return tidy(name.toLowerCase());
  return tidy(
    withoutAccents(name)
      .toLowerCase()
      .replace(/[’‘ʼ]/g, "'")
      .replace(/[‐‑–—]/g, "-"),
  );
}

function tidy(lower: string): string {
  const spaced = /\s\s|[\x00-\x1f\x7f-\x9f\u2028\u2029]/.test(lower) ? lower.replace(/[\s\x00-\x1f\x7f-\x9f]+/g, " ") : lower;
  const trimmed = spaced.trim();
  return trimmed.endsWith("'s") ? trimmed.slice(0, -2) : trimmed;
}

/** NFKC without U+0300..036F: those are the accents of alphabets that have upper and lower case. Marks of other scripts stay. */
export function withoutAccents(text: string): string {
  return text
    .normalize("NFKD")
    .replace(/[\u0300-\u036f]/g, "")
    .normalize("NFC");
}

/** Scripts written without spaces: their runs become overlapping pairs of characters, which needs no dictionary. */
const UNSPACED = /[\p{Script=Han}\p{Script=Hiragana}\p{Script=Katakana}\p{Script=Thai}\p{Script=Lao}\p{Script=Khmer}\p{Script=Myanmar}ー]+/u;
const UNSPACED_RUNS = new RegExp(UNSPACED.source, "gu");
const ASCII_WORDS = /[a-z0-9]+(?:'[a-z]+)?/g;
const WORDS = /[\p{L}\p{N}\p{M}]+(?:'\p{L}+)?/gu;

/** Words of a text in order, lower case, accents off; repeated as often as they occur. Not stemmed, stop words included. */
export function words(text: string): string[] {
  const lower = text.toLowerCase();
  if (ASCII.test(lower)) return lower.match(ASCII_WORDS) ?? [];
  const plain = withoutAccents(lower).replace(/[’‘ʼ]/g, "'");
  const found = plain.match(WORDS) ?? [];
  return UNSPACED.test(plain) ? found.flatMap(pairsOfUnspaced) : found;
}

function pairsOfUnspaced(word: string): string[] {
  if (!UNSPACED.test(word)) return [word];
  const pairs: string[] = word.replace(UNSPACED_RUNS, " ").split(" ").filter(Boolean);
  for (const run of word.match(UNSPACED_RUNS) ?? []) {
    const characters = [...run];
    if (characters.length === 1) pairs.push(run);
    for (let i = 0; i + 1 < characters.length; i++) pairs.push(characters[i]! + characters[i + 1]!);
  }
  return pairs;
}

const stems = new Map<string, string>();

/** The stem under which a word is indexed (Porter 1980, irregular forms first); empty for a stop word. @param word lower case, accents off */
export function termOf(word: string): string {
  const known = stems.get(word);
  if (known !== undefined) return known;
  const term = stemOf(word);
  if (stems.size >= STEM_CACHE_MAX) stems.clear();
  stems.set(word, term);
  return term;
}

function stemOf(word: string): string {
  if (STOP_WORDS.has(word) || word.length > WORD_MAX_CHARS) return "";
  const bare = withoutApostrophe(word);
  if (STOP_WORDS.has(bare)) return "";
  return stemmer(IRREGULAR.get(bare) ?? bare);
}

/** "didn't" -> "didn", "alice's" -> "alice", "o'brien" -> "obrien". */
function withoutApostrophe(word: string): string {
  const at = word.indexOf("'");
  if (at < 0) return word;
  return word.length - at <= 3 ? word.slice(0, at) : word.replaceAll("'", "");
}

/** Terms of a text in order, stop words out. */
export function terms(text: string): string[] {
  const found = words(text);
  const out: string[] = [];
  for (const word of found) {
    const term = termOf(word);
    if (term !== "") out.push(term);
  }
  return out;
}

export function isStopWord(word: string): boolean {
  return STOP_WORDS.has(word);
}

/** Sentences, roughly: enough to tell where one starts and to quote one. */
export function sentences(text: string): string[] {
  return text
    .split(/(?<=[.!?…][)"'”’]?)\s+|(?<=[。！？])|\n+/u)
    .map((sentence) => sentence.trim())
    .filter((sentence) => sentence !== "");
}

const STOP_WORDS: ReadonlySet<string> = new Set(
  `a about above after again against all also am an and any are aren as at be because been before being below between both but by can cannot could couldn d did didn do does
doesn doing don done down during each etc ever few for from further get gets got had hadn has hasn have haven having he her here hers herself him himself his how however i if
in into is isn it its itself just ll let m may me might more most mustn my myself no nor not now of off on once one only onto or other our ours ourselves out over own per
please re s same shall shan she should shouldn since so some such t than that the their theirs them themselves then there these they this those though through thus to too
under until up upon us ve very via was wasn we were weren what when where whether which while who whom whose why will with within without won would wouldn yes yet you your
yours yourself yourselves tell`.split(/\s+/),
);

/** Forms that Porter's rules do not bring together, written `base: forms`. */
const IRREGULAR: ReadonlyMap<string, string> = new Map(
  `arise: arose arisen; awake: awoke; bear: bore borne; beat: beaten; become: became; begin: began begun; bend: bent; bind: bound; bite: bit bitten; bleed: bled; blow: blew blown;
break: broke broken; breed: bred; bring: brought; build: built; burn: burnt; buy: bought; catch: caught; choose: chose chosen; cling: clung; come: came; creep: crept; deal: dealt;
dig: dug; draw: drew drawn; dream: dreamt; drink: drank drunk; drive: drove driven; eat: ate eaten; fall: fell fallen; feed: fed; feel: felt; fight: fought; find: found;
flee: fled; fly: flew flown; forbid: forbade forbidden; forget: forgot forgotten; forgive: forgave forgiven; freeze: froze frozen; give: gave given; go: went gone; grow: grew grown;
hang: hung; hear: heard; hide: hid hidden; hold: held; keep: kept; know: knew known; lay: laid; lead: led; learn: learnt; leave: left; lend: lent; lie: lain; light: lit;
lose: lost; make: made; mean: meant; meet: met; pay: paid; ride: rode ridden; ring: rang rung; rise: rose risen; run: ran; say: said; see: saw seen; seek: sought; sell: sold;
send: sent; shake: shook shaken; shine: shone; shoot: shot; show: shown; shrink: shrank shrunk; sing: sang sung; sink: sank sunk; sit: sat; sleep: slept; slide: slid;
speak: spoke spoken; spend: spent; spin: spun; spread: spreading; stand: stood; steal: stole stolen; stick: stuck; strike: struck; swear: swore sworn; sweep: swept; swim: swam swum;
swing: swung; take: took taken; teach: taught; tear: tore torn; think: thought; throw: threw thrown; understand: understood; wake: woke woken; wear: wore worn; weave: wove woven;
weep: wept; win: won; wind: wound; write: wrote written; child: children; man: men; woman: women; person: people; foot: feet; tooth: teeth; goose: geese; mouse: mice; life: lives;
wife: wives; knife: knives; leaf: leaves; half: halves; wolf: wolves; analysis: analyses; crisis: crises; datum: data; medium: media; index: indices indexes; matrix: matrices;
vertex: vertices; good: better best; bad: worse worst; die: died dying death; bear: birth born; marry: marriage`
    .split(";")
    .flatMap((entry) => {
      const [base, forms] = entry.split(":") as [string, string];
      return forms
        .trim()
        .split(/\s+/)
        .map((form): [string, string] => [form, base.trim()]);
    }),
);
