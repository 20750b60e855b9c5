/** Rises with every change that an older reader cannot pass over. */
export const MEMBERSHIP_PROTOCOL = '/edgeshard/membership/3'
/** Per connection: a meeting each way, what is told meanwhile, and a secret each way. */
export const MAX_MEMBERSHIP_STREAMS = 8

/** Devices that may be in a mesh. */
export const MAX_DEVICES = 1024
/** Owners besides the founder. */
export const MAX_OWNERS = 15
/** Devices that one owner bans, or has banned. */
export const MAX_BANNED = 256
/** `admit` statements from the founder to a device. */
export const MAX_CHAIN = 16
/** `admit` statements that are kept though a ban takes away what they say. */
export const MAX_DORMANT = 256
/** `admit` statements that are kept of one device. */
export const MAX_ADMITTERS = 4
/** A ban's counter, or a secret's epoch. */
export const MAX_COUNTER = 2 ** 31

/** A chain, and what lifts bans from devices on it. */
export const MAX_PROOF_STATEMENTS = 64
/** Some 300 bytes each, in a message of 64 KiB. */
export const MAX_PAGE_STATEMENTS = 128
/** Pages of one set: several times what a mesh of all devices has. */
export const MAX_PAGES = 32
