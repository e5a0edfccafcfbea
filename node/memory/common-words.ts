/** Words that begin sentences in capitals without being names. Besides these, stop words and whatever the same text also writes in lower case. */
export const COMMON_STARTERS: ReadonlySet<string> = new Set(
  `according actually add additionally afterwards agreed almost along already alright although always among another answer anyone anything apparently approximately around ask assume
avoid back basically become begin besides best better beyond bring build call change check choose clearly click close come compare complete consider continue convert copy create
currently debug define delete deploy despite determine developers different disable done double draw dear each earlier easily edit eight either else enable ensure enter especially essentially
eventually every everybody everyone everything evidently exactly example excellent except execute export extract fair fetch figure finally find fine first five fix follow following
formerly fortunately four free frequently from full fun furthermore general generally generate get give given go good got great guess half happy hence hello help here hey hi
historically hmm hold hopefully however import important imagine in indeed initially input insert inside install instead interesting invalid issue keep key know last lastly late
later learn least less let lets like likely list listen load local long look lots lower made main mainly make many maybe me mean meanwhile memory merge might mine moreover most
mostly move much must name near nearly need neither never nevertheless new next nice nine no nobody none nonetheless note nothing notice notably now number obviously occasionally
often ok okay old once one only open option order original originally ostensibly others otherwise outside overall part particularly people perfect perhaps pick place plan play please
possibly possible practically presumably previous previously print probably problem proceed process provide pull push put question quick quickly quite rather read ready real really recall recently
refer regarding regardless related remember remove rename replace report reportedly require reset restart result results return review right roughly run save say search second see seems
select send sensible set seven several should show similar similarly simple simply since six small some somebody someone something sometimes somewhat soon sorry sort specifically
start still stop strictly such sudden suddenly sum summary suppose sure surely switch take tell ten test thank thanks therefore thereafter thing things think third three throughout thus till
time today together tomorrow tonight too top toward towards traditionally try turn two type typically ultimately unfortunately unlike unless unlikely until update upgrade use used user users using usually
value various verify very view wait want warning watch way we welcome well whatever whenever wherever whereas whoever whole why wonderful work works worse would wow write wrong yeah yep
yes yesterday yet you bug error fact idea reason step steps tip goal task data file files code both few half many other same such usually assistant human system monday tuesday wednesday thursday friday saturday
sunday january february march april may june july august september october november december spring summer autumn winter once born located founded written published released based`.split(
    /\s+/,
  ),
);

/** Days and months: a date, not a name, wherever they stand alone. */
export const CALENDAR: ReadonlySet<string> = new Set(
  "monday tuesday wednesday thursday friday saturday sunday january february march april may june july august september october november december".split(
    " ",
  ),
);
