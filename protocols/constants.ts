/** Protocol ids. The number changes with the wire format, so two versions never misread each other. */
export const STAGE_PROTOCOL = '/edgeshard/stage/2'
export const DIRECTORY_PROTOCOL = '/edgeshard/directory/2'
export const LEASE_PROTOCOL = '/edgeshard/lease/3'
export const WEIGHTS_PROTOCOL = '/edgeshard/weights/1'
export const LINKS_PROTOCOL = '/edgeshard/links/1'
export const MEMBERSHIP_PROTOCOL = '/edgeshard/membership/1'

/** A single write becomes one yamux frame that the receiver sees only when complete; 64 KiB is one noise record. */
export const CHUNK_BYTES = 65_504

/** A control message (a NodeRecord of a node with hundreds of models still fits). */
export const MAX_MESSAGE_BYTES = 64 * 1024

/** Unread bytes at which a reader pauses its stream. Below yamux's window (1 MiB), which bounds the rest. */
export const READ_HIGH_WATER_BYTES = 256 * 1024

/** Hidden states of one frame: a prefill chunk of a 16,384 wide model is 32 MiB. */
export const MAX_FRAME_TOKENS = 512
export const MAX_HIDDEN_SIZE = 16_384
/** Sessions of one micro-batch. */
export const MAX_FRAME_ROWS = 256
/** Stages that a frame has passed. */
export const MAX_FRAME_TIMINGS = 256
/** Payload, a session, of every frame that is not hidden states: a token with 20 alternatives, an error's text. */
export const MAX_SMALL_PAYLOAD_BYTES = 2048
export const MAX_TOP_LOGPROBS = 20
export const MAX_ERROR_TEXT_CHARS = 500

/** Payload bytes handed on but not yet consumed, per peer, before its stage stream is paused. */
export const MAX_PENDING_FRAME_BYTES = 64 * 1024 * 1024
/** Frames handed on but not yet consumed, per peer: tiny frames cost objects, not bytes. */
export const MAX_PENDING_FRAMES = 1024
/** Frames for sessions nobody knows, per second: a cancelled answer leaves a few under way, a flood does not pass. */
export const MAX_REFUSED_FRAMES_PER_SECOND = 2000

/** Within a frame something comes at least so often: half of one holds memory. */
export const FRAME_STALL_TIMEOUT_MS = 15_000

/** Bytes that wait for a turn on the stream to one peer; beyond them `send` refuses. */
export const MAX_QUEUED_SEND_BYTES = 128 * 1024 * 1024

/** Per connection: a stream per lease, a few per fetch; two for stages (an old one may linger while it closes). */
export const MAX_LEASE_STREAMS = 64
export const MAX_WEIGHT_STREAMS = 8
export const MAX_STAGE_STREAMS = 4
export const MAX_DIRECTORY_STREAMS = 4
export const MAX_MEMBERSHIP_STREAMS = 4

/** Peers on a ban list. */
export const MAX_BANNED = 256

/** Outstanding requests on one lease stream; above it the peer is not keeping to the protocol. */
export const MAX_LEASE_REQUESTS = 256
/** Peers that a load may name as holders of its weights. */
export const MAX_HOLDERS = 64
/** How long a source may stand in line for memory that others use. */
export const MAX_LEASE_WAIT_MS = 600_000

/** Weights under way on a link of which nothing is known: a token never waits behind a megabyte. */
export const WEIGHT_CREDIT_BYTES = 64 * 1024
/** On slow links less is under way, on long fast ones more. */
export const MIN_WEIGHT_CREDIT_BYTES = 8 * 1024
export const MAX_WEIGHT_CREDIT_BYTES = 4 * 1024 * 1024
/**
 * Weights are sent in pieces of so many to a window, which the receiver sees only when they are complete: larger ones
 * would stand in the window without filling the link. No larger than a noise record, and no smaller than is worth one.
 */
export const WEIGHT_PIECES_PER_WINDOW = 8
export const MAX_WEIGHT_PIECE_BYTES = CHUNK_BYTES
export const MIN_WEIGHT_PIECE_BYTES = 8 * 1024
/** Blobs served to one peer at the same time. */
export const MAX_WEIGHT_SERVES_PER_PEER = 4
/** The largest file a peer may announce: a layer of a 400-billion model in float32 stays below. */
export const MAX_BLOB_BYTES = 64 * 1024 ** 3

/** Heartbeat on the control stream, where nothing else was sent for so long. */
export const HEARTBEAT_MS = 1000
/** A heartbeat is echoed within so long or not at all: clocks drift. */
export const MAX_ECHO_HELD_MS = 10_000
/** A node is busy when it starts and the first echo is late: some more heartbeats in the first second. */
export const EARLY_HEARTBEATS_MS = [50, 150, 300, 500, 750]
/** Without a byte for so long a peer is suspect: route around it. */
export const SUSPECT_AFTER_MS = 3000
/** Without a byte for so long a peer is gone. A 64 KiB record takes 0.5 s on 1 Mbps: busy is not dead. */
export const GONE_AFTER_MS = 15_000
/** A change of the own record goes out at once; those within this time after it go out as one. */
export const RECORD_PAUSE_MS = 50
/** A record's number rises by one with every change, and what changes within RECORD_PAUSE_MS goes out as one. */
export const MAX_SEQUENCE_STEP = 10_000
/** For so long no control stream is taken from a peer that broke the directory protocol. */
export const DIRECTORY_VIOLATION_MS = 10_000
/**
 * Messages per second of one peer. At a busy start an honest one sends 20 records and 20 lists of contacts
 * (RECORD_PAUSE_MS), pings 30 times before a plan and answers as many pings.
 */
export const MAX_DIRECTORY_MESSAGES_PER_SECOND = 150

/** Members whose addresses a peer passes on, so that those who met through one address all know each other. */
export const MAX_CONTACTS = 64
export const MAX_CONTACT_ADDRESSES = 6
export const MAX_CONTACT_NAME_CHARS = 64

/** First burst of a measurement: 100 ms on a 1 Mbps link. */
export const LINK_BURST_FIRST_BYTES = 12 * 1024
export const LINK_BURST_GROWTH = 8
/** Lasts 67 ms on a 500 Mbps link; on faster ones a token's frame takes no time that matters. */
export const LINK_BURST_MAX_BYTES = 4 * 1024 * 1024
/** A burst that lasts so long, and two round trips more, can be timed to a few percent. */
export const LINK_BURST_MIN_MS = 40
/** A burst comes in so many pieces; smaller ones than the least would be timed with their own overhead. */
export const LINK_PIECES = 64
export const MIN_LINK_PIECE_BYTES = 4096
/** Two bursts within 5 % of each other are believed; after LINK_BURSTS_MAX the closest two are. */
export const LINK_AGREEMENT = 0.05
export const LINK_BURSTS_MIN = 3
/** Up to this size two bursts do. */
export const LINK_BURST_SMALL_BYTES = 64 * 1024
/** Of bursts from this size on that last fewer round trips, all LINK_BURSTS_MAX are sent. */
export const LINK_BURST_LARGE_BYTES = 256 * 1024
export const LINK_BURST_ROUND_TRIPS = 8
/** Where one of them lasts less than this share of what is enough, a larger size is timed instead. */
export const LINK_BURST_SPED_UP = 0.8
export const LINK_BURSTS_MAX = 6
export const LINK_ECHOES = 8
/** What an echo costs in each direction: 19 bytes, 30 of yamux and noise, 90 of TCP, IP and Ethernet. */
export const LINK_ECHO_WIRE_BYTES = 139
/** Both directions of the longest measurement: six bursts of the largest size and those on the way there. */
export const MAX_LINK_BYTES_PER_STREAM = 96 * 1024 * 1024
export const MAX_LINK_STREAMS = 2
/** A whole measurement, both directions: 4 s at 0.1 Mbps. After it, either side ends the stream. */
export const LINK_MEASUREMENT_TIMEOUT_MS = 20_000

/** Opening a stream: two round trips on a link that carries weights under credits. */
export const OPEN_STREAM_TIMEOUT_MS = 5000
/** A peer that takes no byte for so long has stalled; the stream is given up. */
export const SEND_STALL_TIMEOUT_MS = 15_000
/** Answers that need no work at the other side: reserve, renew, open, close. */
export const REQUEST_TIMEOUT_MS = 10_000
/** A manifest of a few hundred kilobytes, over a slow link. */
export const MANIFEST_TIMEOUT_MS = 30_000
/** A load reports progress at least this often, else it is given up; who loads repeats it so often. */
export const LOAD_SILENCE_TIMEOUT_MS = 60_000
export const LOAD_PROGRESS_MS = 10_000
/** Changes of a load's progress that a source takes note of: a hundred steps of fetching, and the loading. */
export const MAX_LOAD_PROGRESS = 1000
/** Between two pieces of a blob. */
export const WEIGHT_STALL_TIMEOUT_MS = 15_000
/**
 * Of a blob there must come, over each such time that it is waited for, this share of what the link takes: it may be
 * shared with many. No less than on the slowest link in use, shared by ten, and no more than an SD card gives to ten.
 */
export const WEIGHT_PACE_WINDOW_MS = 30_000
export const LEAST_WEIGHT_SHARE = 0.01
export const LEAST_WEIGHT_MBPS = 0.01
export const LEAST_WEIGHT_MBPS_MAX = 1
