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
/**
 * How long a retry gets the answer of its first execution: a week, so a client that was down over a weekend still hears what became of its request. Afterwards the
 * key only says that it was used: it counts once for ever, and nobody can read old answers with old keys.
 */
export const ANSWERS_KEPT_MS = 7 * 24 * 3600 * 1000;
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

/** A delta's clock value: the end of the year 9999, which every Date and every reader of ISO 8601 can still show. */
export const HLC_MS_MAX = 253_402_300_799_999;
/** Deltas numbered in one clock value's millisecond; the next one is of the millisecond after it. */
export const HLC_COUNT_MAX = 2 ** 32 - 1;

// What a peer may send.
/**
 * Values in one message, nested ones counted: a byte of CBOR can become an object of 200 bytes, so 8 MiB of them would take a gigabyte. Twice what the
 * longest list of heads has; a quarter of a megabyte of items is at most 50 MB for a moment.
 */
export const WIRE_ITEMS_MAX = 2 ** 18;
/** One frame on 8421: holds the largest delta with its envelope. */
export const FRAME_MAX_BYTES = 8 * 1024 * 1024;
/** Bytes waiting for one peer; beyond it frames are refused and repair catches up later (P8). */
export const PEER_QUEUE_MAX_BYTES = 32 * 1024 * 1024;
/** Sockets of port 8421 that have not said yet what they speak, or wait for a probe's answer. The oldest makes room: who means it speaks at once. */
export const DOOR_SOCKETS_MAX = 256;
/** Connections that are being admitted, on each port: a handshake takes milliseconds, so a whole federation that comes back at once fits. */
export const PENDING_CONNECTIONS_MAX = 200;
/** Connections of one identity: two when both sides dial at once, and a few of an earlier process that nobody has found dead yet. */
export const CONNECTIONS_A_PEER_MAX = 8;
/** Streams a peer may hold open on one connection: it needs two. */
export const STREAMS_A_CONNECTION_MAX = 32;
/** Bytes that wait in one connection for the socket: answers of the muxer to a peer that asks and does not read. Frames wait in their own queue. */
export const CONNECTION_WRITE_MAX_BYTES = 4 * 1024 * 1024;
/** Pings and answers that wait in front of a peer's queue; a peer that pings without reading gets no more. */
export const FIRST_FRAMES_MAX = 16;
/** One WebSocket message. Four times the largest piece that is sent, and what a proxy in between has to hold. */
export const WEBSOCKET_MESSAGE_MAX_BYTES = 256 * 1024;
/** Nodes whose addresses are kept and that are dialled: four times the largest federation, for those that came and went. */
export const KNOWN_NODES_MAX = 1024;
/** Characters of one address. A DNS name could have 253; with what belongs around it in a multiaddr, 210 are left for name and path. */
export const ADDRESS_MAX_CHARS = 256;
/** Nodes one frame of addresses may name; who knows more sends more frames. */
export const CARDS_A_FRAME_MAX = 32;
/** Addresses of one node that others pass on: as many as a node can be told to advertise. */
export const CARD_ADDRESSES_MAX = 8;
/** One frame of addresses: 32 nodes with 8 addresses of 256 characters each, and their ids. */
export const CARDS_FRAME_MAX_BYTES = 80 * 1024;
/** Deltas asked for or sent in one interval answer. */
export const INTERVAL_DELTAS_MAX = 512;
/** Intervals a node asks for at a time, over all streams. */
export const PULLS_MAX = 8;
/** Of these, asked of one member: two are left for others, whatever it does with its own. */
export const PULLS_A_PEER_MAX = 6;
/** Streams of one member that this node lacks something of and waits for: 257 partitions with 15 writers each. What it tells of more comes with its next report. */
export const PULLS_WAITING_MAX = 4096;
/**
 * Deltas one interval is answered with; who lacks more asks on. Its reader opens, applies and stages them without a pause, some 0.2 ms each, and PULLS_MAX answers may
 * arrive together: with 512 a returning node answered nobody for seconds (P8).
 */
export const SERVED_DELTAS_MAX = 128;
/** Likewise, of large deltas; the one that passes it is still sent. */
export const SERVED_MAX_BYTES = 128 * 1024;
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
/** Messages one report, or one comparison, may be told in: a million streams, more than a member shares with another in a lifetime. */
export const REPORT_PARTS_MAX = 64;
/** Secrets that are valid at once, as a peer names them. */
export const SECRET_IDS_MAX = 8;
/** The public id of a secret, in hex. */
export const SECRET_ID_MAX_CHARS = 16;
/** Rows one part of a snapshot may carry: a megabyte of the smallest. */
export const SNAPSHOT_ROWS_MAX = 50_000;
/** A key in the store: a partition, a tenant, the longest names of two linked concepts. */
export const STORED_KEY_MAX_BYTES = 8 * 1024;
/** Sealed bytes a witness keeps for replicas that lack them; full, it refuses before the acknowledgement (P8). */
export const WITNESS_SEALED_MAX_BYTES = 4 * 1024 * 1024 * 1024;
/** How far a writer's clock may be ahead, ms: beyond it a live push is refused, and a node that its peers' clocks show so far ahead writes nothing. */
export const CLOCK_AHEAD_MAX_MS = 60_000;
/** Streams of which one member may say what it holds: a thousand writers in each partition. What it says of more is not kept. */
export const KNOWN_STREAMS_MAX = 257_000;
export const GOSSIP_MESSAGE_MAX_BYTES = 16 * 1024;
/** Nodes that are shut out at a time: their record travels whole with each change, and is asked at every door. */
export const REVOKED_NODES_MAX = 1024;
export const FEDERATION_MEMBERS_MAX = 256;
/** Newcomers of which a voter remembers that they claim a member's place, and of which it knows that they lived beside it: one at a time is what happens. */
export const CLAIMANTS_MAX = 64;
export const NODE_NAME_MAX_CHARS = 63;
export const ZONE_MAX_CHARS = 63;
/** A libp2p peer id in base58 has 46 to 52. */
export const NODE_ID_MAX_CHARS = 128;
/** A layout of 256 members with the longest names, zones and ids takes 82 KB; one that changes names them twice. */
export const LAYOUT_MAX_BYTES = 256 * 1024;
/** The id of a change of the layout: 128 bits in hex and room for a prefix. */
export const LAYOUT_CHANGE_ID_MAX_CHARS = 64;
/** Changes of the layout that wait for their turn; each takes minutes, so a queue longer than this is a mistake in a script. */
export const LAYOUT_CHANGES_WAITING_MAX = 256;
/** One formation message: a layout with its ballot, or a list of 256 names. */
export const FORMATION_MESSAGE_MAX_BYTES = LAYOUT_MAX_BYTES + 1024;
/** What a node keeps while it forms: the layout it accepted and the one that was formed. */
export const FORMATION_STATE_MAX_BYTES = 2 * LAYOUT_MAX_BYTES + 1024;
/** Ballots of formation: one a second for a hundred years. */
export const FORMATION_ROUND_MAX = 2 ** 32 - 1;
/** One consensus message: a layout with two ballots and a hash. */
export const CONSENSUS_MESSAGE_MAX_BYTES = LAYOUT_MAX_BYTES + 1024;
/** What a voter keeps while the next version is decided: the layout it accepted, two ballots and a hash. */
export const CONSENSUS_STATE_MAX_BYTES = LAYOUT_MAX_BYTES + 1024;
/** Ballots about one version: one a second for a hundred years. */
export const CONSENSUS_ROUND_MAX = 2 ** 32 - 1;
/** Different refusals that formation reports to the log; afterwards the log has seen enough. */
export const FORMATION_REFUSALS_MAX = 256;
/** More copies than anybody pays for; a group then has 31 members. */
export const REPLICATION_FACTOR_MAX = 16;
/** Below 2^14, so that placement compares exact products. */
export const MEMBER_WEIGHT_MAX = 10_000;
/** A hundred years: a link that never fades. */
export const DECAY_PERIOD_MAX_MS = 36_525 * 24 * 3600 * 1000;

/** How long another node may let a forwarded request wait here: the longest FEDERATION_TIMEOUT. */
export const FORWARD_TIMEOUT_MAX_MS = 300_000;

// What waits in this node.
/** Writes and reads of one node that have not been answered; one more is refused with `overloaded`. */
export const PENDING_REQUESTS_MAX = 10_000;
