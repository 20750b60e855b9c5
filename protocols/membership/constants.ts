/** Rises with every change that an older reader cannot pass over. */
export const MEMBERSHIP_PROTOCOL = '/edgeshard/membership/2'
/** Per connection: each carries one change. */
export const MAX_MEMBERSHIP_STREAMS = 4

/** Peers on a ban list. */
export const MAX_BANNED = 256
