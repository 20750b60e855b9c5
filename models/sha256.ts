/** A SHA-256 as ids and file names have it: 64 lower-case hex digits. */
export const SHA256 = /^[0-9a-f]{64}$/
