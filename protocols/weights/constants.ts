import { CHUNK_BYTES } from '../constants.ts'

/** Rises with every change that an older reader cannot pass over. */
export const WEIGHTS_PROTOCOL = '/edgeshard/weights/2'
/** Per connection: one for each blob that is fetched. */
export const MAX_WEIGHT_STREAMS = 8

/** Weights under way on a link of which nothing is known: a token never waits behind a megabyte. */
export const WEIGHT_CREDIT_BYTES = 64 * 1024
/** Bounds of that: on slow links less is under way, on long fast ones more. */
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
/** Time between two pieces of a blob, at most. */
export const WEIGHT_STALL_TIMEOUT_MS = 15_000
/**
 * A blob must come, over each such time that it is waited for, with this share of what the link takes: it may be
 * shared with many. No less than on the slowest link in use, shared by ten, and no more than an SD card gives to ten.
 */
export const WEIGHT_PACE_WINDOW_MS = 30_000
export const LEAST_WEIGHT_SHARE = 0.01
export const LEAST_WEIGHT_MBPS = 0.01
export const LEAST_WEIGHT_MBPS_MAX = 1
/** Credit comes back as four bytes, big endian: how many more bytes may be under way. */
export const CREDIT_MESSAGE_BYTES = 4
