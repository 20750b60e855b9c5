/** Rises with every change that an older reader cannot pass over. */
export const LINKS_PROTOCOL = '/edgeshard/links/2'

/** First burst of a measurement: 100 ms on a 1 Mbps link. */
export const LINK_BURST_FIRST_BYTES = 12 * 1024
export const LINK_BURST_GROWTH = 8
/** Lasts 67 ms on a 500 Mbps link; on faster ones a token's frame takes no time that matters. */
export const LINK_BURST_MAX_BYTES = 4 * 1024 * 1024
/** A burst that lasts so long, and two round trips more, can be timed to a few percent. */
export const LINK_BURST_MIN_MS = 40
/** And one that lasts so long, or a round trip, to some ten percent: so roughly a link is measured that a plan waits for. */
export const LINK_BURST_ROUGH_MS = 5
/** Two such bursts within 20 % of each other are believed. */
export const LINK_ROUGH_AGREEMENT = 0.2
/** A burst comes in so many pieces; smaller ones than the least would be timed with their own overhead. */
export const LINK_PIECES = 64
export const MIN_LINK_PIECE_BYTES = 4096
/** Two bursts within 5 % of each other are believed; after LINK_BURSTS_MAX the closest two are. */
export const LINK_AGREEMENT = 0.05
export const LINK_BURSTS_MIN = 3
/** Up to this size two bursts do. */
export const LINK_BURST_SMALL_BYTES = 64 * 1024
/** From this size on, where bursts last fewer round trips, each may open the sender's window further. */
export const LINK_BURST_LARGE_BYTES = 256 * 1024
export const LINK_BURST_ROUND_TRIPS = 8
/** They go on while one is faster by this share than all before it. */
export const LINK_BURST_OPENED = 0.01
/**
 * A link as fast as this over a burst of so many bytes is timed by bursts of that size: larger ones would say more exactly what
 * no plan depends on, and cost an Ethernet of 1 Gbps 50 MB.
 */
export const LINK_FAST_MBPS = 750
export const LINK_FAST_BYTES = 512 * 1024
/** A larger size is timed instead where one of them lasts less than this share of what is enough. */
export const LINK_BURST_SPED_UP = 0.8
export const LINK_BURSTS_MAX = 6
/** The last of them, behind the bursts, is answered by whether the peer was starved meanwhile. */
export const LINK_ECHOES = 8
export const LINK_ROUGH_ECHOES = 3
/** A glance: bursts of no more than a token's hidden states, so many at most, after so many echoes. */
export const GLANCE_BURST_BYTES = 16 * 1024
export const GLANCE_BURSTS = 5
export const GLANCE_ECHOES = 3
/** Bursts of a glance that it takes each way to say anything, of as many in all. */
export const GLANCE_LEAST_BURSTS = 2
/** Two of them within this of each other, relative to their mean, are the link. */
export const GLANCE_AGREEMENT = 0.25
/** One that came in less cannot be timed: the link is as fast as that at least. */
export const GLANCE_MIN_MS = 1
/** Unless it was waited for longer than this: then its pieces were read late, and together. */
export const GLANCE_LATE_MS = 8
/** Two of those that took so long are enough. */
export const GLANCE_SURE_MS = 8
/** Bytes of all bursts of a glance. */
export const MAX_GLANCE_BYTES = GLANCE_BURSTS * GLANCE_BURST_BYTES
/**
 * Others are not held up by a glance for longer: without a byte of the peer, which is one piece of a burst at 0.1 Mbps, and in all,
 * which is four bursts at 0.25 Mbps.
 */
export const GLANCE_TURN = { stallMs: 300, mostMs: 2000 }
/** How long a glance waits for those before it, and for the rest of one of them: then the node is busy. */
export const GLANCE_WAIT_MS = 4000
/** While tokens flow a peer is let glance once in so long, and all of them together once in the other. */
export const GLANCE_PAUSE_MS = 2000
export const GLANCES_PAUSE_MS = 250
/** What an echo costs in each direction: 19 bytes, 30 of yamux and noise, 90 of TCP, IP and Ethernet. */
export const LINK_ECHO_WIRE_BYTES = 139
/** Both directions of the longest measurement: six bursts of the largest size and those on the way there. */
export const MAX_LINK_BYTES_PER_STREAM = 96 * 1024 * 1024
export const MAX_LINK_STREAMS = 2
/** A whole measurement, both directions: 4 s at 0.1 Mbps. After it, either side ends the stream. */
export const LINK_MEASUREMENT_TIMEOUT_MS = 20_000
