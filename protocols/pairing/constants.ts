/** Rises with every change that an older reader cannot pass over. */
export const PAIRING_PROTOCOL = '/edgeshard/pairing/1'
/** Per connection: a device types one code at a time. */
export const MAX_PAIRING_STREAMS = 1
/** Digits of a code: what a person reads, says and types without an error. */
export const CODE_DIGITS = 6
/** A message: the longest one holds a ticket. */
export const MAX_PAIRING_MESSAGE_BYTES = 16 * 1024
/** A ticket of 8192 characters, sealed, in base64url. */
export const MAX_SEALED_CHARS = 12_288
