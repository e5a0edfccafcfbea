/** Every bound in one place, with unit and reason. Each has a test that sends one too many (test/unit/limits.test.ts names it). */

// What a client may send.
/** One HTTP body. A turn with long answers is tens of KB; a batch of 1,000 facts a few MB. */
export const HTTP_BODY_MAX_BYTES = 4 * 1024 * 1024;
/** user_message, ai_response, thinking, content: characters of one text. Books belong in several memories. */
export const TEXT_MAX_CHARS = 200_000;
export const ENTITY_MAX_CHARS = 500;
/** JSON text of one metadata object. */
export const METADATA_MAX_BYTES = 64 * 1024;
/** Nesting of metadata: beyond this nobody filters by it, and recursive code could overflow. */
export const METADATA_DEPTH_MAX = 16;
export const BATCH_MEMORIES_MAX = 1000;
export const IDEMPOTENCY_KEY_MAX_CHARS = 255;
export const TENANT_MAX_CHARS = 128;

// What a delta may hold.
/** Body of one delta. Four times the largest text, so that an accepted request always fits. */
export const DELTA_BODY_MAX_BYTES = 4 * 1024 * 1024;
/** Header of one delta. What it saw names every writer a partition ever had: 2,000 of them fit. */
export const DELTA_HEADER_MAX_BYTES = 64 * 1024;
/** Records one delta may touch: 20 concepts, 21 links, a turn and room for deletions of a whole session. */
export const DELTA_ENTRIES_MAX = 10_000;
/** Tombstones one floor names; the next ones wait for the next. */
export const FLOOR_TOMBSTONES_MAX = 2_000;
/** Streams one floor covers: every writer a partition ever had, as in a delta's header. */
export const FLOOR_STREAMS_MAX = 2_000;

// What a peer may send.
/** One frame on 8421: holds the largest delta with its envelope. */
export const FRAME_MAX_BYTES = 8 * 1024 * 1024;
/** Bytes waiting for one peer; beyond it frames are refused and repair catches up later (P8). */
export const PEER_QUEUE_MAX_BYTES = 32 * 1024 * 1024;
/** Deltas asked for or sent in one interval answer. */
export const INTERVAL_DELTAS_MAX = 512;
/** Intervals a node asks for at a time, over all streams: a megabyte each at the most. */
export const PULLS_MAX = 8;
/** Intervals that wait to be read from this node's log for others; one more is dropped and asked for again. */
export const SERVES_MAX = 256;
/** Snapshots of partitions a node holds open for others: LevelDB keeps for each what is overwritten meanwhile. */
export const SNAPSHOTS_SERVED_MAX = 4;
/** Rows of one part of a snapshot; one row may be larger, and goes alone. */
export const SNAPSHOT_PART_MAX_BYTES = 1024 * 1024;
/** Partitions a node copies from others at a time: one part of each is in memory. */
export const COPIES_MAX = 2;
/** Streams one heads message may list. */
export const HEADS_STREAMS_MAX = 20_000;
export const GOSSIP_MESSAGE_MAX_BYTES = 16 * 1024;
export const FEDERATION_MEMBERS_MAX = 256;
export const NODE_NAME_MAX_CHARS = 63;
export const ZONE_MAX_CHARS = 63;
/** A libp2p peer id in base58 has 46 to 52. */
export const NODE_ID_MAX_CHARS = 128;
/** A layout of 256 members with the longest names, zones and ids takes 82 KB; one that changes names them twice. */
export const LAYOUT_MAX_BYTES = 256 * 1024;
/** The id of a change of the layout: 128 bits in hex and room for a prefix. */
export const LAYOUT_CHANGE_ID_MAX_CHARS = 64;
/** One formation message: a layout with its ballot, or a list of 256 names. */
export const FORMATION_MESSAGE_MAX_BYTES = LAYOUT_MAX_BYTES + 1024;
/** What a node keeps while it forms: the layout it accepted and the one that was formed. */
export const FORMATION_STATE_MAX_BYTES = 2 * LAYOUT_MAX_BYTES + 1024;
/** Ballots of formation: one a second for a hundred years. */
export const FORMATION_ROUND_MAX = 2 ** 32 - 1;
/** Different refusals that formation reports to the log; afterwards the log has seen enough. */
export const FORMATION_REFUSALS_MAX = 256;
/** More copies than anybody pays for; a group then has 31 members. */
export const REPLICATION_FACTOR_MAX = 16;
/** Below 2^14, so that placement compares exact products. */
export const MEMBER_WEIGHT_MAX = 10_000;
/** A hundred years: a link that never fades. */
export const DECAY_PERIOD_MAX_MS = 36_525 * 24 * 3600 * 1000;

// What waits in this node.
/** Writes and reads of one node that have not been answered; one more is refused with `overloaded`. */
export const PENDING_REQUESTS_MAX = 10_000;
