/** The model that answers when a request names none. */
export const DEFAULT_MODEL = 'edgeshard-tiny'
/** The model that drafts for it and comes along, too. Peers are not told of it, so no prompt means it. */
export const BUNDLED_DRAFT = 'edgeshard-tiny-draft'

/** Tokens of an answer that are planned for, and more at a time, where the client names no limit: nobody knows its length. */
export const EXPECTED_TOKENS = 256
/**
 * An answer for which nobody has the room is placed for so many new tokens, where that is less: it goes on as long as there
 * is memory for it, and is cut then. The last one is what a KV cache has behind the prompt anyway.
 */
export const SHORTENED_TOKENS = [EXPECTED_TOKENS, 1]
/** An answer that has filled its KV caches is placed again for so many times its tokens, or for fewer where these do not fit. */
export const GROWTH_FACTORS = [2, 1.25]
/** Tokens of a prompt that the mesh is planned for where there is none yet: the paper's workload. */
export const DEFAULT_PROMPT_TOKENS = 32
/** Sampling where the client names none: the values chat models are usually published with. */
export const DEFAULT_TEMPERATURE = 0.7
export const DEFAULT_TOP_P = 0.95
/** Ids of tokens that a request may have end its reply, beside the model's own. */
export const MAX_STOP_TOKEN_IDS = 64

/** Share of the device's memory that stages may fill unless `--memory` says otherwise: people work on these devices. */
export const DEFAULT_MEMORY_SHARE = 0.5

/** KV caches are reserved in steps of so many tokens, so that the next, slightly longer prompt finds them again. */
export const CONTEXT_STEP_TOKENS = 256
/** KV caches have room, where it makes nothing slower, for so many times what a request needs: a conversation grows. */
export const CONTEXT_ROOM_FACTOR = 4

/** How long a lease lasts without renewal, and how often sources renew. */
export const LEASE_TERM_MS = 30_000
export const LEASE_RENEW_MS = 10_000
/** A deployment on which no session came to be gives its leases back after so long: these make no room for others. */
export const UNUSED_DEPLOYMENT_MS = 60_000
/** Deployments that a source keeps without a request; the one that was used longest ago goes first. */
export const MAX_IDLE_DEPLOYMENTS = 16
/** One that has lost a stage is kept so long for the answers that lost it: what is left of it need not be loaded again. */
export const LOST_GRACE_MS = 2_000
/** Answers that have lost a stage are back within this time; new requests let them go first. */
export const BEGUN_FIRST_MS = 100

/**
 * Sequences that a deployment for latency has room for where that makes none of them slower: they decode together
 * instead of waiting for each other.
 */
export const LATENCY_SLOTS = 4
/** A CPU that has not timed a model, beside a GPU that is used because it is at least so many times faster, is taken to be as much slower. */
export const UNTIMED_BESIDE_FACTOR = 1.2
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
/** As long one that kept a placement waiting, twice as long each further time, and a day at most. */
export const LATE_AVOID_MS = 10 * 60_000
export const LATE_AVOID_MAX_MS = 24 * 60 * 60_000

/**
 * A device that no answer has measured counts as so many times as fast as the fastest that was, at most: enough for it to
 * be tried, so that one answer shows how fast it is, and too little to be worth a hop that is dear.
 */
export const UNTESTED_SPEEDUP = 4
/**
 * A device is named that takes so many times what it says of itself for a layer, and so much longer: other work on it, or
 * heat, slow it less, and the layers of small models take less than its other work.
 */
export const CONTRADICTION_FACTOR = 10
export const CONTRADICTION_EXCESS_MS = 10

/** One answer of so many that peers helped to compute is checked, unless `--verify` says otherwise. */
export const SPOT_CHECK_EVERY = 50
/** Tokens of an answer that are drawn again, and how far into prompt and answer they may lie: what a check costs. */
export const SPOT_CHECK_TOKENS = 24
export const SPOT_CHECK_MAX_TOKENS = 1024
/**
 * So many of these that differ make an answer wrong, where so many at most differ between two ways of computing here, and
 * where the temperature is not above that: at 2, half of a text's tokens hang on the last bits of its sums.
 */
export const SPOT_CHECK_WRONG_TOKENS = 16
export const SPOT_CHECK_UNSURE_TOKENS = 1
export const SPOT_CHECK_MAX_TEMPERATURE = 1
/**
 * A check begins so long after its answer, tries again so long after it was in the way, gives way to other answers for so
 * long, and is given up in the end.
 */
export const SPOT_CHECK_PAUSE_MS = 15_000
export const SPOT_CHECK_PATIENCE_MS = 60_000
export const SPOT_CHECK_GIVE_UP_MS = 10 * 60_000
/** A device whose answers are wrong is not taken for so long, unless nothing fits without it. */
export const WRONG_AVOID_MS = 24 * 60 * 60_000

/** Stages that one answer may lose before it is given up. */
export const MAX_RECOVERIES = 8
/** How often it is tried again to move what runs on a device that is being drained, where it fits nowhere else. */
export const HANDOVER_RETRY_MS = 2_000

/** Answers are looked at so often for a better place; one that was found better has to be so again so much later. */
export const MOVE_LOOK_MS = 500
export const MOVE_AGAIN_MS = 250
/** Answers are looked at so soon where the directory has changed: a device that joins says what it is in several records. */
export const MOVE_NEWS_MS = 50
/** What is to stand by for a loss is looked for again after so long, where it had no room or went wrong. */
export const STANDBY_RETRY_MS = 2_000
/** Peers say within this time that memory is free which they were given back. */
export const FREED_SAID_MS = 250
/**
 * Rates, round trips and what answers teach are looked at so often at most, and for no more than this share of the time: members may
 * say others without end. Devices that come, go or are drained are looked at at once (`LookBudget`).
 */
export const MOVE_FIGURES_MS = 400
export const MOVE_FIGURES_SHARE = 1 / 3
/** So long after a move, or after one that failed, an answer's devices are changed for nothing but a drain. */
export const MOVE_REST_MS = 10_000
export const MOVE_FAILED_REST_MS = 30_000
/** What is built up beside running answers is given up where it comes no nearer to them for so long. */
export const CUTOVER_PATIENCE_MS = 30_000
/** How long the devices that were left are kept for answers that nobody reads, or whose next devices die at once. */
export const CUTOVER_GRACE_MS = 10_000

/** How long a source waits for memory that others' answers use; several long answers take turns in it. */
export const WAIT_FOR_MEMORY_MS = 120_000

/** Times a source plans again because a peer had less memory free than the directory said. */
export const MAX_REPLANS = 3

/** Speed between two peers whose link was not measured: a home network's Ethernet. */
export const ASSUMED_LINK_MBPS = 1000
/** Bytes of a step's packet beside its hidden states: our header and timings, yamux, noise, TCP and IP. */
export const FRAME_BYTES = 150
/**
 * What a step of its own answers takes a source's processors beside its stage, in what a step takes the stage beside its layers: the way
 * of its tokens to the request, their text, and the client. 1.1 to 1.5 ms of processor time beside 0.15, and hardly more for four
 * tokens than for one (AMD EPYC, first answers). It is done while others compute, so that it counts only where the processors are
 * held to a share. Where it starts; what answers have taught of the stage's turn has it in it.
 */
export const TOKEN_TURNS = 9
/**
 * What the frames of a step, one in and one out, take a device's processors beside its stage, in the same measure: 0.6 to 1 ms of
 * processor time beside 0.15 (AMD EPYC, warm, hidden states of 4 KiB). Other threads than the layers' do it, so that it counts only
 * where all of them are held to a share.
 */
export const FRAME_TURNS = 4

/**
 * What a hop takes beyond half a round trip, whose messages are framed, encrypted and read like its frames; hand-overs between
 * threads count as a stage's turn. Between two processes on loopback it was -0.2 to 0.2; where it starts, see Corrections.
 */
export const HOP_OVERHEAD_MS = 0.1
/** Bytes that return to the source for a token: its id and log-probability. */
export const TOKEN_BYTES = 8

/**
 * A stage may take so many times what its weights need over the slowest measured link to it, as all stages fetch at once,
 * and what reading them twice takes on an SD card; but never less than the floor. A link counts as no slower than the
 * least: a peer that says so may be lying. Where none was measured it counts as a slow one at home.
 */
export const LOAD_DEADLINE_FACTOR = 5
export const LOAD_DEADLINE_FLOOR_MS = 90_000
export const LOAD_LEAST_MBPS = 0.5
export const LOAD_ASSUMED_MBPS = 10
export const LOAD_READ_BYTES_PER_MS = 10_000

/**
 * What a peer may do in a load without a byte that comes: to start a worker on a busy device takes seconds. On top comes
 * what reading its weights twice takes.
 */
export const LOAD_QUIET_FLOOR_MS = 30_000
/**
 * So long a device waits, before it loads, for what leaves its memory, and on top what reading the weights once takes; then
 * it refuses. Less than its source waits for it, which cannot tell such a device from one that does nothing.
 */
export const LOAD_LEAVING_FLOOR_MS = 20_000
/**
 * While a peer fetches, each such time must bring this share of what the link takes, within these bounds: the bounds that
 * it holds its holders to (protocols/weights/constants.ts), for longer than it waits for one of them that does not.
 */
export const LOAD_WINDOW_MS = 45_000
export const LOAD_LEAST_FETCH_SHARE = 0.01
export const LOAD_LEAST_FETCH_MBPS = 0.01
export const LOAD_LEAST_FETCH_MBPS_MAX = 1
/** So often in a load a peer may have fewer bytes than before: a holder that has sent it a damaged file is asked last. */
export const LOAD_RESTARTS = 3

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

/** By how much a request counts as come sooner than it did, by its priority, where requests wait for their turn on a model. */
export const PRIORITY_HEAD_START_MS = { low: -30_000, normal: 0, high: 30_000 }

/** Requests to one model that may wait for their turn; more are refused at once. */
export const MAX_WAITING_REQUESTS = 64

/**
 * Models that a store has of others, to compute with: as many as a record has profiles, of which one source brings a
 * quarter. Their files fill so much of what the disk has beyond KEPT_FREE_BYTES, those of one source so much of that.
 */
export const MAX_CACHED_MODELS = 64
export const CACHE_DISK_SHARE = 0.8
export const CACHE_SOURCE_SHARE = 0.5
/** What sources place here never fills the disk that the device itself needs. */
export const KEPT_FREE_BYTES = 2 ** 30

/**
 * Weights that a device keeps for the case that it takes the place of one that dies: what they may take of its disk, of which one
 * source has a share, and so many files in all. After so long without a stage of them they make room for another source's.
 */
export const DEFAULT_PREFETCH_BYTES = 4 * 2 ** 30
export const PREFETCH_SOURCE_SHARE = 0.5
export const MAX_PREFETCHED_FILES = 4096
export const PREFETCH_TERM_MS = 24 * 3_600_000
/** They come with that share of what the link takes, while no answer passes through the device. */
export const PREFETCH_LINK_SHARE = 0.1
/** How often a source looks what its peers would need, were one of them to die, and when it asks one that said no again. */
export const SPARE_LOOK_MS = 2_000
export const SPARE_REFUSED_MS = 5 * 60_000
/** What spares have loaded for a deployment they let go of so long after its last answer, until the next one. */
export const SPARE_READY_MS = 10 * 60_000

/** TCP port for peers where none is asked for; the API's is the next one. */
export const DEFAULT_PORT = 7446
/** A node's start disturbs the first timing of its layers; so long after it they are timed once more. */
export const PROFILE_AGAIN_MS = 15_000
/** How often it is looked for layers that have to be timed, and how long work here keeps them waiting at least. */
export const PROFILE_CHECK_MS = 60_000
export const PROFILE_QUIET_MS = 1_000
/** Times of layers are measured anew after so long: systems and coolers change. */
export const PROFILE_TERM_MS = 30 * 24 * 3_600_000
/** How long a plan waits for this device's own times: that much longer is a person's wait than times are worth. */
export const PROFILE_PATIENCE_MS = 1_000
/** Times that answers contradict are measured anew, but not more often than this; what counts as that, as a factor. */
export const PROFILE_DOUBT_MS = 3_600_000
export const PROFILE_DOUBT_FACTOR = 1.5
/** Bytes of weights a millisecond that a device without times is taken to compute with: a laptop's memory. */
export const ASSUMED_READ_BYTES_PER_MS = 10_000_000

/** How often leases are looked through for those that have expired. */
export const LEASE_EXPIRY_CHECK_MS = 1_000

/** The person that prompts waits for the planner: after so long the best plan so far is taken. */
export const PLAN_BUDGET_MS = 200
