/** Rises with every change that an older reader cannot pass over. */
export const DIRECTORY_PROTOCOL = '/edgeshard/directory/4'
/** Without records that others hand on: who speaks it alone is connected to every member. */
export const DIRECTORY_PROTOCOL_3 = '/edgeshard/directory/3'
/** Per connection: one is used, another may take its place while the old one ends. */
export const MAX_DIRECTORY_STREAMS = 4

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
/** A peer that broke the directory protocol gets no control stream for so long. */
export const DIRECTORY_VIOLATION_MS = 10_000
/**
 * Messages per second of one peer. At a busy start an honest one sends 20 records and 20 lists of contacts
 * (RECORD_PAUSE_MS), pings 30 times before a plan and returns as many pings.
 */
export const MAX_DIRECTORY_MESSAGES_PER_SECOND = 150

/** Members whose addresses a peer passes on, so that those that met through one address all know each other. */
export const MAX_CONTACTS = 64
export const MAX_CONTACT_ADDRESSES = 6
/** What a node calls itself, and what others call it. */
export const MAX_NAME_CHARS = 64

/** Limits of a record: entries of its lists, and what its names and numbers may be. */
export const MAX_ENTRIES = { models: 256, leases: 64, profiles: 64, links: 128 }
/** Processors that a record names. */
export const MAX_PROCESSORS = 8
/** Models that a processor has times of, or refuses. */
export const MAX_PROCESSOR_MODELS = 64
export const MAX_MODEL_NAME_CHARS = 120
export const MAX_LINK_MBPS = 1e7
export const MAX_LINK_SPREAD = 100
export const MAX_LINK_AGE_MS = 1e12

/** Signed records: length of a text, peers that a device says it is connected to. */
export const MAX_SIGNED_TEXT_CHARS = 40 * 1024
export const MAX_NEIGHBOURS_SAID = 64
/** Entries of one message about signed records, and bytes of those that are sent in one. */
export const MAX_HAVE_ENTRIES = 512
export const MAX_WANT_ENTRIES = 64
export const MAX_SIGNED_ENTRIES = 64
export const MAX_SIGNED_BYTES = 48 * 1024
/** What is new is told to the neighbours at most once in so long. */
export const HAVE_PAUSE_MS = 20
/** A neighbour that has not sent for so long what it was asked for is taken not to have it. */
export const WANT_TIMEOUT_MS = 10_000
/** How often is looked for what neighbours have and this node does not. */
export const WANT_AGAIN_MS = 2000
/** Devices that a neighbour may say it has records of: more than a mesh has (1024), for those that have left it. */
export const MAX_HAVE_DEVICES = 2048
/** Entries of `have` and `want` that one neighbour may send at once, and a second. Of 128 devices in the making each sends 300. */
export const HAVE_BURST = 4096
export const HAVE_PER_SECOND = 256
