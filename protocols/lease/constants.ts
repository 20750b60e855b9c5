/** Rises with every change that an older reader cannot pass over. */
export const LEASE_PROTOCOL = '/edgeshard/lease/4'

/** Per connection: one for each lease. */
export const MAX_LEASE_STREAMS = 64

/** Conversations that a lease has kept beside its slots, by numbers below it. */
export const MAX_KEPT_PREFIXES = 64

/** Outstanding requests on one lease stream; above it the peer is not keeping to the protocol. */
export const MAX_LEASE_REQUESTS = 256
/** Tokens of one session's frame that a lease is for where its source does not say. */
export const DEFAULT_FRAME_TOKENS = 32
/** Peers that a load may name as holders of its weights. */
export const MAX_HOLDERS = 64
/** How long a source may stand in line for memory that others use. */
export const MAX_LEASE_WAIT_MS = 600_000
/** A manifest of a few hundred kilobytes, over a slow link. */
export const MANIFEST_TIMEOUT_MS = 30_000
/** A load reports progress at least this often, else it is given up; the peer that loads says so often how far it is. */
export const LOAD_SILENCE_TIMEOUT_MS = 60_000
export const LOAD_PROGRESS_MS = 10_000
/** Changes of a load's progress that a source takes note of at once: a hundred steps of fetching, and the loading. */
export const MAX_LOAD_PROGRESS = 1000
