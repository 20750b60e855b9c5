/** The model that answers when a request names none. */
export const DEFAULT_MODEL = 'edgeshard-tiny'

/** Tokens of an answer where the client names no limit. */
export const DEFAULT_MAX_TOKENS = 256
/** Tokens of a prompt that the mesh is planned for where there is none yet: the paper's workload. */
export const DEFAULT_PROMPT_TOKENS = 32
/** Sampling where the client names none: the values chat models are usually published with. */
export const DEFAULT_TEMPERATURE = 0.7
export const DEFAULT_TOP_P = 0.95

/** Share of the device's memory that stages may fill unless `--memory` says otherwise: people work on these devices. */
export const DEFAULT_MEMORY_SHARE = 0.5

/** KV caches are reserved in steps of so many tokens, so that the next, slightly longer prompt finds them again. */
export const CONTEXT_STEP_TOKENS = 256
/** KV caches have room, where it makes nothing slower, for so many times what a request needs: a conversation grows. */
export const CONTEXT_ROOM_FACTOR = 4

/** How long a lease lasts without renewal, and how often sources renew. */
export const LEASE_TERM_MS = 30_000
export const LEASE_RENEW_MS = 10_000
/** A deployment that was not used for so long gives its leases back. */
export const DEPLOYMENT_IDLE_MS = 60_000
/** One that has lost a stage is kept so long for the answers that lost it: what is left of it need not be loaded again. */
export const LOST_GRACE_MS = 2_000
/** Answers that have lost a stage are back within this time; new requests let them go first. */
export const BEGUN_FIRST_MS = 100

/**
 * Sequences that a deployment for latency has room for where that makes none of them slower: they decode together
 * instead of waiting for each other.
 */
export const LATENCY_SLOTS = 4
/** A deployment with that much room may predict so many times the time of one without. */
export const LATENCY_SLOTS_FACTOR = 1.02
/** Sequences at once for throughput; beyond, a step's share of the weights hardly gets any smaller. */
export const MAX_BATCH = 32

/** A peer that does not confirm the end of a session within this time is left to find out by itself. */
export const CLOSE_TIMEOUT_MS = 2_000

/** A deployment is compared with what is possible now before a request, but not more often than this. */
export const RECONSIDER_MS = 5_000

/** A peer that was left because it had turned slow is not taken again for so long, unless nothing fits without it. */
export const SLOW_AVOID_MS = 60_000

/** Stages that one answer may lose before it is given up. */
export const MAX_RECOVERIES = 8

/** How long a source waits for memory that others' answers use; several long answers take turns in it. */
export const WAIT_FOR_MEMORY_MS = 120_000

/** Times a source plans again because a peer had less memory free than the directory said. */
export const MAX_REPLANS = 3

/** Speed between two peers whose link was not measured: a home network's Ethernet. */
export const ASSUMED_LINK_MBPS = 1000
/** Bytes of a step's packet beside its hidden states: our header and timings, yamux, noise, TCP and IP. */
export const FRAME_BYTES = 150
/** Framing, encryption and two thread hand-overs per hop, measured on loopback; where it starts, see Corrections. */
export const HOP_OVERHEAD_MS = 0.4
/** Bytes that return to the source for a token: its id and log-probability. */
export const TOKEN_BYTES = 8

/**
 * A stage may take so many times what its weights need over the best link to it, as all stages fetch at once, and what
 * reading them twice takes on an SD card; but never less than the floor. A link counts as no slower than the least: a
 * peer that says so may be lying.
 */
export const LOAD_DEADLINE_FACTOR = 5
export const LOAD_DEADLINE_FLOOR_MS = 120_000
export const LOAD_LEAST_MBPS = 0.5
export const LOAD_READ_BYTES_PER_MS = 10_000

/**
 * Other peers may take so many times what is predicted for a part of a prompt or a decode step, but never less than the
 * floor; every part that is through renews the deadline.
 */
export const STEP_DEADLINE_FACTOR = 20
export const STEP_DEADLINE_FLOOR_MS = 15_000
/** The same where nothing can be predicted, as no device has timed the model: the slowest one that is of any use. */
export const UNPREDICTED_DEADLINE_MS = 120_000
/**
 * One step on this node's own stage, a chunk of a prompt or a token: it is waited for as long as it takes, as nobody else
 * would do it sooner. After so long the runtime hangs, even where weights come from a slow disk's swap.
 */
export const OWN_STEP_DEADLINE_MS = 600_000

/** How long a prompted node waits for peers when a model does not fit on it alone. */
export const WAIT_FOR_PEERS_MS = 5_000

/** Requests to one model that may wait for their turn; more are refused at once. */
export const MAX_WAITING_REQUESTS = 64

/** Models in a store, beyond which none are taken from peers; a record has room for 64 profiles. */
export const MAX_MODELS_WITH_PEERS = 64

/** TCP port for peers where none is asked for; the API's is the next one. */
export const DEFAULT_PORT = 7446
/** A node's start disturbs the first timing of its layers; so long after it they are timed once more. */
export const PROFILE_AGAIN_MS = 15_000

/** How often leases are looked through for those that have expired. */
export const LEASE_EXPIRY_CHECK_MS = 1_000

/** The person that prompts waits for the planner: after so long the best plan so far is taken. */
export const PLAN_BUDGET_MS = 200
