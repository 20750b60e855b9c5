/** What all protocols share. The rest is in each protocol's own folder. */

/** A single write becomes one yamux frame that the receiver sees only when complete; 64 KiB is one noise record. */
export const CHUNK_BYTES = 65_504

/** A control message (a NodeRecord of a node with hundreds of models still fits). */
export const MAX_MESSAGE_BYTES = 64 * 1024

/** Unread bytes at which a reader pauses its stream. Below yamux's window (1 MiB), which bounds the rest. */
export const READ_HIGH_WATER_BYTES = 256 * 1024
/** Length of a text for people that comes from a peer. */
export const MAX_ERROR_TEXT_CHARS = 500
/** Length of a word from a closed set, such as a code: a later version may have others. */
export const MAX_CODE_CHARS = 40

/** Fields that a message may name as critical, and length of such a name. */
export const MAX_CRITICAL_FIELDS = 16
export const MAX_FIELD_NAME_CHARS = 64

/** Opening a stream: two round trips on a link that carries weights under credits. */
export const OPEN_STREAM_TIMEOUT_MS = 5000
/** A peer that takes no byte for so long has stalled; the stream is given up. */
export const SEND_STALL_TIMEOUT_MS = 15_000
/** Replies that need no work at the other side: reserve, renew, open, close. */
export const REQUEST_TIMEOUT_MS = 10_000
